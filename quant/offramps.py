# SPDX-License-Identifier: Apache-2.0
"""Off-ramps: a classifier after every layer (ramps.py), so that an easy sentence is answered by the first ones.

They are trained with the backbone "frozen", on [CLS] rows that are computed once, or "jointly" with it: then the early
layers learn to answer, pruned weights stay 0 and spans stay as they are. The last layer has the model's own pooler and
classifier.

`offramps.safetensors` lies beside the checkpoint: `{i}.weight` [labels, hidden] and `{i}.bias` [labels] for i = 0 ..
layers − 2 (a shared one repeated), with a pooler also `{i}.pooler.weight` [hidden, hidden] and `{i}.pooler.bias`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file

from .checkpoint import ModelWeights
from .distillation import Teacher, distillation_loss
from .float_stage import Rank, Run, Stage, run_epochs
from .ramps import SCALING_SENTENCES, Ramps, on_dev
from .sentences import Sentences
from .spans import SPANS, HardSpans, whole_spans
from .student import Attend, Student, forward, load_student, read, read_config
from .tokens import Tokens
from .training import save_tensors

FILE = "offramps.safetensors"
TRAINED = ("frozen", "jointly")
FIELD = "zynqbert_offramps"  # in config.json: {"pooler", "shared", "trained"}


@dataclass(frozen=True)
class OffRamps:
    """`train` is "frozen" or "jointly". `learning_rate` is the ramps' peak, `backbone_rate` that of everything else
    where it is trained too, with `dropout` and `noise` (sentences.py). `distillation` is the share of a ramp's loss
    that follows the last layer's logits, and of the last layer's that follows those of the model before it was made
    slim, softened by `temperature`."""

    pooler: bool = False
    shared: bool = False
    train: str = "jointly"
    epochs: int = 2
    batch: int = 32
    learning_rate: float = 1e-3
    backbone_rate: float = 5e-5
    dropout: float = 0.1
    noise: float = 0.1
    distillation: float = 0.9
    temperature: float = 2.0


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


class _Ramping(Stage):
    """What both ways share: of epochs whose last layers are as good the one with the best layers before is kept."""

    def rank(self, entry: dict) -> Rank:
        return entry["dev_accuracy"], entry["mean_accuracy"], -entry["dev_loss"]


class FrozenRamps(_Ramping):
    """The ramps alone, on [CLS] rows that are computed once."""

    def __init__(self, weights: ModelWeights, attend: Attend, ramps: Ramps, sentences: Sentences, settings: OffRamps):
        super().__init__(ramps.trained, dict.fromkeys(ramps.trained, settings.learning_rate))
        self.ramps, self.sentences, self.settings = ramps, sentences, settings
        self.known = {
            split: [x.to(sentences.device) for x in read(weights, sentences.tokens[split], attend)]
            for split in ("train", "dev")
        }  # logits [sentences, labels], [CLS] rows [sentences, layers, hidden]

    def loss(self, rows: list[int]) -> torch.Tensor:
        last, first = (x[rows] for x in self.known["train"])
        target, s = self.sentences.target("train", rows), self.settings
        return self.ramps.loss(first.unbind(dim=1), target, last, s.distillation, s.temperature)

    def measure(self) -> dict:
        last, first = self.known["dev"]
        return on_dev(self.ramps, first, last, self.sentences.labels["dev"])


class _Jointly(_Ramping):
    """The ramps and the backbone, whose zeros stay zero."""

    def __init__(self, student: Student, attend: Attend, ramps: Ramps, sentences: Sentences, settings: OffRamps,
                 teacher: Teacher):  # fmt: skip
        own = {f"ramps.{name}": tensor for name, tensor in ramps.trained.items()}
        super().__init__({**student.parameters, **own}, dict.fromkeys(own, settings.learning_rate))
        self.student, self.attend, self.ramps, self.teacher = student, attend, ramps, teacher
        self.sentences, self.settings = sentences, settings
        self.kept = {name: weight.detach() != 0 for name, weight in student.matrices.items()}

    def loss(self, rows: list[int]) -> torch.Tensor:
        s = self.settings
        batch, target = self.sentences.batch("train", rows, s.noise)
        out = forward(self.student.weights, batch, self.attend, s.dropout)
        wanted, _ = self.teacher(batch)
        own = distillation_loss(out.logits, target, wanted, s.distillation, s.temperature)
        return own + self.ramps.loss(out.first, target, out.logits.detach(), s.distillation, s.temperature)

    @torch.no_grad()
    def hold(self) -> None:
        for name, weight in self.student.matrices.items():
            weight *= self.kept[name]

    def measure(self) -> dict:
        last, first = read(self.student.weights, self.sentences.tokens["dev"], self.attend)
        device = self.sentences.device
        return on_dev(self.ramps, first.to(device), last.to(device), self.sentences.labels["dev"])


def train_offramps(
    source: Path,
    dense: Path,
    sentences: Sentences,
    out: Path,
    settings: OffRamps,
    *,
    seed: int = 0,
    resume: bool = False,
    precision: str = "float32",
    console: Console | None = None,
) -> dict:
    """Give the slim folder `source` off-ramps; the log, which is also `out/offramps.json`.

    `out` is a Hugging Face folder with FILE, `dense` the folder of the model before it was made slim. Keeps the epoch
    best on dev, by its last layer and then by the mean of all. Raises ValueError where `out` holds a run already or one
    begun with other settings, UnsupportedModel.
    """
    kept = {**asdict(settings), "seed": seed, "precision": precision, **sentences.settings}
    run = Run(out, "offramps", kept, resume, precision)
    if (log := run.log()) is not None:
        return log
    device = sentences.device
    student = load_student(source, device)
    spans = spans_of(source, student)
    torch.manual_seed(seed)  # poolers
    kind = {"pooler": settings.pooler, "shared": settings.shared}
    _, first = read(student.weights, sentences.tokens["train"][:SCALING_SENTENCES], spans.attend)
    ramps = Ramps.new(first.to(device), len(sentences.names), **kind)
    if settings.train == "frozen":
        stage: _Ramping = FrozenRamps(student.weights, spans.attend, ramps, sentences, settings)
    else:
        teacher = Teacher(load_student(dense, device).weights, device)
        stage = _Jointly(student, spans.attend, ramps, sentences, settings, teacher)
    log = run_epochs(stage, run, sentences.lengths, epochs=settings.epochs, batch=settings.batch,
                     rate=settings.backbone_rate, seed=seed, console=console or Console(stderr=True))  # fmt: skip
    student.save(out, source, **{FIELD: {**kind, "trained": settings.train}, SPANS: spans.spans})
    save_tensors(out / FILE, {name: tensor.cpu() for name, tensor in ramps.folded().parameters.items()})
    return run.finish({**log, "best": log["epochs"][log["best_epoch"] - 1]})
