# SPDX-License-Identifier: Apache-2.0
"""The walk through a backbone for many tasks at once: each task's sentences through its own adapters and norms.

What the backbone keeps (matrices, factors, biases, entries, tables) is fitted to the rows of all tasks. What a task
keeps is rounded from its float tensors (task_tensors.py) when the walk first comes by, on grids that all layers of one
matrix have in common, so that one set of tensors serves them all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from . import fake_quant, float_model
from .adapters import NORMS, PLACES, Adapting, owners
from .batch import Batch, make_batch
from .calibrate import Calibration, calibrate, clip_scale
from .checkpoint import Linear, ModelWeights, Norm, Task
from .codes import Code
from .options import Options
from .scales import FACTOR_MAX, FACTOR_MIN, decode_factor, encode_factor
from .shared import groups
from .task_tensors import TANH_STEP, Narrow, TaskTensors
from .tokens import Tokens
from .walk import Readers, Walk, encode_norm, int16_grid

BRANCHES = {"o": "attention_adapter", "ffn2": "ffn_adapter"}
_SAMPLES = 4000  # rows of one place and task that clips and codings are searched on


@dataclass(frozen=True)
class FloatTask:
    """A task over a backbone before it is quantized: `weights` are the backbone's with the task's in place
    (adapters.with_task), `sentences` what it is calibrated on."""

    name: str
    weights: ModelWeights
    task: Task
    sentences: Sequence[Tokens]


@dataclass
class Part:
    """A task in the walk: its rows of the batch, [CLS] rows among all [CLS] rows, and what has been made for it."""

    task: FloatTask
    batch: Batch
    rows: slice
    first: slice
    calibration: Calibration
    narrow_inputs: dict[str, torch.Tensor]  # "layers.0.ffn_adapter" -> z of all its places [rows, width]
    made: TaskTensors = field(default_factory=TaskTensors)
    narrow: dict[str, Narrow] = field(default_factory=dict)


class TaskWalk(Walk):
    """A walk whose `t`, `codes` and `entries` are the backbone's; `parts` have the tasks'."""

    def __init__(
        self,
        backbone: ModelWeights,
        tasks: Sequence[FloatTask],
        adapting: Adapting,
        options: Options,
        on_step: Callable[[str], None],
    ):
        """options: as `Options.checked` gives them. All tasks have adapters of the form `adapting`."""
        found = groups(backbone)
        if found and list(found.values()) != [list(range(backbone.architecture.layers))]:
            shared = ", ".join(str(layers) for layers in found.values())
            fault = f"layers share their matrices as {shared}, and with tasks the norms before and behind them"
            raise ValueError(f"backbone: {fault}; remedy: one group of all layers, or none that share")
        self.owners = owners(backbone, adapting.shared)
        calibrations = [calibrate(task.weights, task.sentences) for task in tasks]
        joint = joint_calibration(backbone, calibrations)
        super().__init__(backbone, joint, options, on_step)
        self.parts: list[Part] = []
        branches: dict[str, list[torch.Tensor]] = {}
        row = sentence = 0
        for task, calibration in zip(tasks, calibrations, strict=True):
            batch = make_batch(task.sentences)
            taps = samples(task, batch, self.owners)
            narrow_inputs: dict[str, torch.Tensor] = {}
            for at in {f"layers.{owner}.{place}" for owner in self.owners for place in PLACES}:
                narrow_inputs[at] = torch.cat(taps[f"{at}.z"])
                branches.setdefault(at, []).extend(taps[f"{at}.h"])
            rows, first = slice(row, row + len(batch.ids)), slice(sentence, sentence + len(batch.lengths))
            self.parts.append(Part(task, batch, rows, first, calibration, narrow_inputs))
            row, sentence = rows.stop, first.stop
        self.branch_steps = {at: _steps(torch.cat(some)) for at, some in branches.items()}

    def readers(self, i: int) -> Readers:
        """As of any walk; but layers that share a norm's words have its entries in common, the last one's for the
        pooler as well."""
        found = super().readers(i)
        layers = self.weights.architecture.layers
        shared = self.shared_by(layers - 1) if i == layers else None
        return found if shared is None else Readers(found.linears, shared.stream)

    # the float model, task by task ----------------------------------------------------------------------------------

    def float_forward(self, tap: float_model.Tap) -> None:
        """All tasks' rows through their float models; a tap is called once a task."""
        for part in self.parts:
            float_model.forward(part.task.weights, part.batch, tap)

    def float_layer(self, i: int, y: torch.Tensor, tap: float_model.Tap) -> torch.Tensor:
        """The same through layer i; a tap is called once, with the rows of all tasks."""
        found: dict[str, list[torch.Tensor]] = {}
        after = []
        for part in self.parts:
            keep = lambda name, value: found.setdefault(name, []).append(value)  # noqa: E731
            after.append(float_model.encoder_layer(part.task.weights, i, y[part.rows], part.batch, keep))
        for name, values in found.items():
            if not name.endswith((".z", ".down")) or "adapter" not in name:
                tap(name, torch.cat(values))
        return torch.cat(after)

    # what a task has of its own -------------------------------------------------------------------------------------

    def scaled(self, name: str, norm: Norm, z: torch.Tensor, y_float: torch.Tensor) -> torch.Tensor:
        """(Q7) y of the integer z [rows, channels]: of a layer's norm by each task's own γ and β."""
        if not name.startswith("layers."):
            return super().scaled(name, norm, z, y_float)
        _, i, kind = name.split(".")
        owner = f"layers.{self.weights.architecture.weights[int(i)]}.{kind}"
        self._same(owner, name)
        y = []
        for part in self.parts:
            if f"{owner}.gamma" not in part.made.tensors:
                part.made.tensors |= norm_tensors(owner, part.task.weights, self.grid[owner])
            words = (part.made.tensors[f"{owner}.{of}"] for of in ("gamma", "gamma_shift", "beta", "beta_shift"))
            y.append(self.units.scale_shift(z[part.rows], *words))
        return torch.cat(y)

    def add(self, name: str, product: tuple, y: torch.Tensor, m, s) -> torch.Tensor:
        """(Q12, Q25) x of a branch's product and the residual y, by way of each task's adapter."""
        x = super().add(name, product, y, m, s)
        _, i, branch = name.split(".")
        place = BRANCHES[branch]
        owner = self.owners[int(i)]
        at = f"layers.{owner}.{place}"
        self.grid[f"{name}.x"] = grid = float(self.codes[f"{name}.x"].scale)
        self._same(f"layers.{owner}.{branch}.x", f"{name}.x")
        m, s, step = operand_factor(self.branch_steps[at], grid)
        self.put_factor(f"{name}.adapter_", m, s)
        h = fake_quant.branch_operand(self.units.onto_int16(*product), m, s)
        for part in self.parts:
            made, rows = part.made, part.rows
            if f"{at}.table" not in made.tensors:
                adapter = getattr(part.task.weights.layers[owner], place)
                part.narrow[at] = made.put_adapter(at, adapter, step, part.narrow_inputs.pop(at), grid)
            narrow = fake_quant.look_up(*self._product(part, f"{at}.down", h[rows]), made.tensors[f"{at}.table"])
            up = self.units.onto_int16(*self._product(part, f"{at}.up", narrow))
            x[rows] = fake_quant.clamp16(x[rows] + up)
            made.codes[f"layers.{i}.{place}.down"] = Code(np.float64(part.narrow[at].scale))
        self.codes[f"layers.{i}.{place}.x"] = Code(np.float64(grid))
        return x

    def _product(self, part: Part, name: str, a: torch.Tensor) -> tuple:
        """acc, b, m, s of a task's linear layer."""
        weight, b, m, s = (part.made.tensors[f"{name}.{of}"] for of in ("weight", "bias", "m", "s"))
        return fake_quant.linear(torch.from_numpy(weight).float(), a, 127), b, m, s

    def _same(self, owner: str, name: str) -> None:
        """One set of a task's tensors is for one grid."""
        if self.grid[owner] != self.grid[name]:
            grids = f"{self.grid[name]:g}, {owner} with the same tensors has {self.grid[owner]:g}"
            raise ValueError(f"{name}: a grid of {grids}")

    def head(self, before: str, y_float: torch.Tensor, y: torch.Tensor, operand) -> None:
        """(Q19) The backbone's pooler, and each task's classifier and off-ramps."""
        first = self.batch.first
        self.tanh(y_float[first])
        self.grid["logits"] = 1.0  # of the backbone's own classifier, whose answer nobody reads
        self.pooler("", before, y_float[first], y[first])
        grids = {name: float(code.scale) for name, code in self.codes.items() if name.endswith("ffn_norm.y")}
        for part in self.parts:
            put_classifiers(part.made, part.task.weights, part.calibration, self.t, grids)


def norm_tensors(owner: str, weights: ModelWeights, grid: float) -> dict[str, np.ndarray]:
    """(Q7) A task's γ and β of the norm `owner` ("layers.0.ffn_norm") for outputs in steps of `grid`."""
    _, i, kind = owner.split(".")
    norm: Norm = getattr(weights.layers[int(i)], kind)
    gamma, beta = (x.detach().double().numpy() for x in (norm.gamma, norm.beta))
    return {f"{owner}.{of}": value for of, value in encode_norm(fake_quant.ENGINE, gamma, beta, grid).items()}


def operand_factor(step: np.ndarray, grid: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Q25) m, s [hidden] for an operand in steps near `step` of a branch in steps of `grid`, and the real steps."""
    m, s = encode_factor(np.clip(grid / step, FACTOR_MIN, FACTOR_MAX))
    return m, s, grid / decode_factor(m, s)


def put_classifiers(
    made: TaskTensors, weights: ModelWeights, calibration: Calibration, t: Mapping, grids: Mapping[str, float]
) -> None:
    """(Q13, Q19) A task's classifier and off-ramps, all on one grid of logits; t are the backbone's tensors, grids
    those of its "layers.i.ffn_norm.y"."""
    logits = 2 * int16_grid(max(calibration.peak(name) for name in calibration.peaks if name.endswith("logits")))
    hidden = weights.architecture.hidden
    made.put_linear("classifier", weights.classifier, np.full(hidden, TANH_STEP), logits)
    made.codes["logits"] = Code(np.float64(logits))
    for i, ramp in enumerate(weights.ramps):
        norm = f"layers.{i}.ffn_norm"
        source = np.repeat(np.arange(hidden), t[f"{norm}.entries"])
        m, s = (int(x) for x in t[f"{norm}.operand"])
        step = np.full(len(source), grids[f"{norm}.y"] / (m * 2.0**-s))
        spread = Linear(ramp.classifier.weight[:, torch.from_numpy(source)], ramp.classifier.bias)
        made.put_linear(f"exits.{i}", spread, step, logits)
        made.codes[f"exits.{i}.logits"] = Code(np.float64(logits))


def rounded_task(task: FloatTask, manifest: Mapping, t: Mapping[str, np.ndarray]) -> TaskTensors:
    """A task's tensors over a backbone that is quantized already, whose manifest and tensors these are: the very ones
    that the walk makes of it among the backbone's first tasks."""
    made, grids = TaskTensors(), manifest["scales"]["activations"]
    adapter_owners, weights = manifest["adapters"]["owners"], task.weights
    batch = make_batch(task.sentences)
    taps = samples(task, batch, adapter_owners)
    for owner in sorted(set(adapter_owners)):
        for branch, place in BRANCHES.items():
            at, name = f"layers.{owner}.{place}", f"layers.{owner}.{branch}"
            grid = grids[f"{name}.x"]
            step = grid / decode_factor(t[f"{name}.adapter_m"], t[f"{name}.adapter_s"])
            narrow = made.put_adapter(at, getattr(weights.layers[owner], place), step, torch.cat(taps[f"{at}.z"]), grid)
            for i in (i for i, of in enumerate(adapter_owners) if of == owner):
                made.codes[f"layers.{i}.{place}.down"] = Code(np.float64(narrow.scale))
    for owner in sorted(set(weights.architecture.weights)):
        for norm in NORMS:
            made.tensors |= norm_tensors(f"layers.{owner}.{norm}", weights, grids[f"layers.{owner}.{norm}.y"])
    put_classifiers(made, weights, calibrate(weights, task.sentences), t, grids)
    return made


def samples(task: FloatTask, batch: Batch, adapter_owners: Sequence[int]) -> dict[str, list[torch.Tensor]]:
    """Some rows of what every adapter takes in, by the place that owns it: h [rows, hidden], z [rows, width]."""
    stride = max(1, len(batch.ids) // _SAMPLES)
    found: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        part = name.split(".")
        if part[0] == "layers" and part[2] in PLACES and part[3] in ("h", "z"):
            part[1] = str(adapter_owners[int(part[1])])
            found.setdefault(".".join(part), []).append(value[::stride].clone())

    float_model.forward(task.weights, batch, keep)
    return found


def joint_calibration(backbone: ModelWeights, calibrations: Sequence[Calibration]) -> Calibration:
    """The sentences and peaks of all tasks; one peak for each residual stream of all layers that share their matrices,
    which is its widest, with what comes before an adapter and what after it on one grid."""
    names = set.intersection(*(set(c.peaks) for c in calibrations))
    names = {name for name in names if not name.endswith((".z", ".down", "logits"))}  # which are each task's own
    peaks = {name: torch.stack([c.peaks[name] for c in calibrations]).amax(dim=0) for name in names}
    for i in range(backbone.architecture.layers):
        for branch, place in BRANCHES.items():
            before = f"layers.{i}.{branch}.x"
            peaks[before] = torch.maximum(peaks[before], peaks[f"layers.{i}.{place}.x"])
    for layers in groups(backbone).values():
        streams = [[f"layers.{i}.{branch}.x" for i in layers] for branch in BRANCHES]
        streams += [[f"layers.{i}.{norm}.y" for i in layers] for norm in NORMS]
        if layers[0] == 0 and backbone.mapping is not None:
            streams[-1].append("mapping.x")
        for stream in streams:
            peaks |= dict.fromkeys(stream, torch.stack([peaks[name] for name in stream]).amax(dim=0))
    return Calibration([sentence for c in calibrations for sentence in c.sentences], peaks)


def _steps(h: torch.Tensor) -> np.ndarray:
    """Steps [hidden] of a branch h [rows, hidden] as int8; that of a channel which hardly moves is not much finer."""
    peak = h.abs().amax(dim=0)
    peak = torch.maximum(peak, peak.median() * 2.0**-6).clamp(min=1e-9)
    return clip_scale(h, peak).double().numpy()
