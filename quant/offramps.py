# SPDX-License-Identifier: Apache-2.0
"""Off-ramps: a classifier after every layer, so that an easy sentence is answered by the first layers alone.

Off-ramp i reads the [CLS] row of layer i's output: logits = W·y + b, or with a pooler W·tanh(P·y + p) + b. The last
layer has the model's own pooler and classifier. They are trained with the backbone "frozen", on rows that are computed
once, or "jointly" with it: then the early layers learn to answer, pruned weights stay 0 and spans stay as they are.

`offramps.safetensors` lies beside the checkpoint: `{i}.weight` [labels, hidden] and `{i}.bias` [labels] for i = 0 ..
layers − 2 (a shared one repeated), with a pooler also `{i}.pooler.weight` [hidden, hidden] and `{i}.pooler.bias`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch.nn.functional import linear

from .distillation import distillation_loss
from .finetune import score
from .float_stage import Rank, Run, Stage, run_epochs
from .sentences import Sentences
from .slim import SPANS
from .spans import HardSpans, whole_spans
from .student import Attend, Student, forward, load_student, read, read_config
from .tokens import Tokens
from .training import Parameters, save_tensors

FILE = "offramps.safetensors"
TRAINED = ("frozen", "jointly")
FIELD = "zynqbert_offramps"  # in config.json: {"pooler", "shared", "trained"}


@dataclass(frozen=True)
class OffRamps:
    """`train` is "frozen" or "jointly". `learning_rate` is the ramps' peak, `backbone_rate` that of everything else
    where it is trained too. `distillation` is the share of a ramp's loss that follows the last layer's logits, and of
    the last layer's that follows those of the model before it was made slim, softened by `temperature`."""

    pooler: bool = False
    shared: bool = False
    train: str = "jointly"
    epochs: int = 2
    batch: int = 32
    learning_rate: float = 1e-3
    backbone_rate: float = 5e-5
    distillation: float = 0.9
    temperature: float = 2.0


class Ramps:
    """The off-ramps' `parameters`, by the names of the file; a shared one is the same tensor under each."""

    def __init__(self, tensors: Parameters, pooler: bool):
        self.parameters, self.pooler = tensors, pooler

    @classmethod
    def new(cls, layers: int, hidden: int, labels: int, pooler: bool, shared: bool, device: str = "cpu") -> "Ramps":
        """Ramps of a model of so many layers that favour no label; poolers drawn by torch's seed."""
        made: Parameters = {}
        for i in range(layers - 1):
            first = {name[2:]: tensor for name, tensor in made.items() if name.startswith("0.")}
            own = first if shared and i else _new_ramp(hidden, labels, pooler, device)
            made |= {f"{i}.{name}": tensor for name, tensor in own.items()}
        return cls(made, pooler)

    @property
    def trained(self) -> Parameters:
        """Each tensor once, under its first name."""
        seen: dict[int, str] = {}
        for name, tensor in self.parameters.items():
            seen.setdefault(id(tensor), name)
        return {name: self.parameters[name] for name in seen.values()}

    def logits(self, i: int, first: torch.Tensor) -> torch.Tensor:
        """Off-ramp i: [CLS] rows [sentences, hidden] → [sentences, labels]."""
        if self.pooler:
            first = torch.tanh(
                linear(first, self.parameters[f"{i}.pooler.weight"], self.parameters[f"{i}.pooler.bias"])
            )
        return linear(first, self.parameters[f"{i}.weight"], self.parameters[f"{i}.bias"])

    def all_logits(self, first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """[CLS] rows [sentences, layers, hidden] and the last layer's logits → [sentences, layers, labels]."""
        ramps = [self.logits(i, first[:, i]) for i in range(first.shape[1] - 1)]
        return torch.stack([*ramps, last], dim=1)


def _new_ramp(hidden: int, labels: int, pooler: bool, device: str) -> Parameters:
    made = {"weight": torch.zeros(labels, hidden), "bias": torch.zeros(labels)}
    if pooler:
        made |= {"pooler.weight": torch.randn(hidden, hidden) / hidden**0.5, "pooler.bias": torch.zeros(hidden)}
    return {name: tensor.to(device).requires_grad_() for name, tensor in made.items()}


def load_ramps(folder: str | Path, device: torch.device | str = "cpu") -> Ramps:
    """The off-ramps beside a checkpoint. Raises OSError, ValueError where there are none."""
    pooler = read_config(folder).get(FIELD, {}).get("pooler")
    if pooler is None:
        raise ValueError(f"{folder}: has no off-ramps; remedy: train some ([offramps] of a recipe)")
    return Ramps({name: t.to(device) for name, t in load_file(Path(folder) / FILE).items()}, pooler)


def spans_of(folder: str | Path, student: Student) -> HardSpans:
    """The spans that a folder's config.json states, or everything for every head."""
    spans, sizes = read_config(folder).get(SPANS), student.weights.architecture
    device = student.model.device
    return whole_spans(sizes.layers, sizes.heads, device) if spans is None else HardSpans(spans, device)


def offramp_logits(folder: str | Path, sentences: Sequence[Tokens]) -> torch.Tensor:
    """Float logits [sentences, layers, labels] of every off-ramp of a folder, the model's own answer last."""
    student, ramps = load_student(folder), load_ramps(folder)
    with torch.no_grad():
        last, first = read(student.weights, sentences, spans_of(folder, student).attend)
        return ramps.all_logits(first, last)


def layer_accuracy(logits: torch.Tensor, labels: Sequence[int]) -> list[float]:
    """Share of right answers after each layer: logits [sentences, layers, labels]."""
    return [score(logits[:, i], labels)["accuracy"] for i in range(logits.shape[1])]


class _Ramping(Stage):
    """What both ways share: figures on dev."""

    ramps: Ramps
    sentences: Sentences

    def on_dev(self, first: torch.Tensor, last: torch.Tensor) -> dict:
        """An epoch's entry: the last layer's figures, and those of all."""
        with torch.no_grad():
            logits, labels = self.ramps.all_logits(first, last), self.sentences.labels["dev"]
        found, layers = score(last, labels), layer_accuracy(logits, labels)
        mean = round(sum(layers) / len(layers), 6)
        return {"dev_loss": found["loss"], "dev_accuracy": found["accuracy"], "mean_accuracy": mean, "layers": layers}

    def rank(self, entry: dict) -> Rank:
        return entry["mean_accuracy"], -entry["dev_loss"]


class _Frozen(_Ramping):
    """The ramps alone, on [CLS] rows that are computed once."""

    def __init__(self, student: Student, attend: Attend, ramps: Ramps, sentences: Sentences, settings: OffRamps):
        super().__init__(ramps.trained, dict.fromkeys(ramps.trained, settings.learning_rate))
        self.ramps, self.sentences, self.settings = ramps, sentences, settings
        self.known = {s: read(student.weights, sentences.tokens[s], attend) for s in ("train", "dev")}

    def loss(self, rows: list[int]) -> torch.Tensor:
        last, first = (x[rows].to(self.sentences.device) for x in self.known["train"])
        target = torch.tensor([self.sentences.labels["train"][i] for i in rows], device=self.sentences.device)
        return ramp_loss(self.ramps, list(first.unbind(dim=1)), last, target, self.settings)

    def measure(self) -> dict:
        last, first = (x.to(self.sentences.device) for x in self.known["dev"])
        return self.on_dev(first, last)


class _Jointly(_Ramping):
    """The ramps and the backbone, whose zeros stay zero."""

    def __init__(self, student: Student, attend: Attend, ramps: Ramps, sentences: Sentences, settings: OffRamps,
                 wanted: torch.Tensor):  # fmt: skip
        """wanted: the unpruned model's logits of the train texts [sentences, labels]."""
        own = {f"ramps.{name}": tensor for name, tensor in ramps.trained.items()}
        super().__init__({**student.parameters, **own}, dict.fromkeys(own, settings.learning_rate))
        self.student, self.attend, self.ramps, self.wanted = student, attend, ramps, wanted
        self.sentences, self.settings = sentences, settings
        self.kept = {name: weight.detach() != 0 for name, weight in student.matrices.items()}

    def loss(self, rows: list[int]) -> torch.Tensor:
        batch, target = self.sentences.batch("train", rows)
        out = forward(self.student.weights, batch, self.attend)
        s = self.settings
        wanted = self.wanted[rows].to(self.sentences.device)
        own = distillation_loss(out.logits, target, wanted, s.distillation, s.temperature)
        return own + ramp_loss(self.ramps, out.first, out.logits.detach(), target, s)

    @torch.no_grad()
    def hold(self) -> None:
        for name, weight in self.student.matrices.items():
            weight *= self.kept[name]

    def measure(self) -> dict:
        last, first = read(self.student.weights, self.sentences.tokens["dev"], self.attend)
        return self.on_dev(first.to(self.sentences.device), last.to(self.sentences.device))


def ramp_loss(
    ramps: Ramps, first: list[torch.Tensor], last: torch.Tensor, target: torch.Tensor, settings: OffRamps
) -> torch.Tensor:
    """Sum over the off-ramps of their loss; first: [CLS] rows [sentences, hidden] of each layer."""
    losses = [
        distillation_loss(ramps.logits(i, rows), target, last, settings.distillation, settings.temperature)
        for i, rows in enumerate(first[:-1])
    ]
    return torch.stack(losses).sum()


def train_offramps(
    source: Path,
    dense: Path,
    sentences: Sentences,
    out: Path,
    settings: OffRamps,
    *,
    seed: int = 0,
    resume: bool = False,
    console: Console | None = None,
) -> dict:
    """Give the slim folder `source` off-ramps; the log, which is also `out/offramps.json`.

    `out` is a Hugging Face folder with FILE, `dense` the folder of the model before it was made slim. Keeps the epoch
    with the best mean accuracy of all layers on dev. Raises ValueError where `out` holds a run already or one begun
    with other settings, UnsupportedModel.
    """
    run = Run(out, "offramps", {**asdict(settings), "seed": seed, **sentences.settings}, resume)
    if (log := run.log()) is not None:
        return log
    device = sentences.device
    student = load_student(source, device)
    spans, sizes = spans_of(source, student), student.weights.architecture
    labels = len(student.weights.classifier.bias)
    torch.manual_seed(seed)  # poolers
    ramps = Ramps.new(sizes.layers, sizes.hidden, labels, settings.pooler, settings.shared, device)
    if settings.train == "frozen":
        stage: _Ramping = _Frozen(student, spans.attend, ramps, sentences, settings)
    else:
        teacher = load_student(dense, device)
        wanted, _ = read(teacher.weights, sentences.tokens["train"], spans_of(dense, teacher).attend)
        stage = _Jointly(student, spans.attend, ramps, sentences, settings, wanted)
    log = run_epochs(stage, run, sentences.lengths, epochs=settings.epochs, batch=settings.batch,
                     rate=settings.backbone_rate, seed=seed, console=console or Console(stderr=True))  # fmt: skip
    kind = {"pooler": settings.pooler, "shared": settings.shared, "trained": settings.train}
    student.save(out, source, **{FIELD: kind, SPANS: spans.spans})
    save_tensors(out / FILE, {name: t.detach().cpu().clone() for name, t in ramps.parameters.items()})
    return run.finish({**log, "best": log["epochs"][log["best_epoch"] - 1]})
