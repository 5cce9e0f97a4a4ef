# SPDX-License-Identifier: Apache-2.0
"""An ALBERT trained so that its one head answers behind every layer: what a tied model leaves by (tied.py).

The loss is that of the last layer's answer and, `early` times, the mean of those behind the layers before, each on the
labels and on what a teacher answers (distillation.py).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from . import float_model
from .checkpoint import ModelWeights
from .distillation import Teacher, distillation_loss
from .finetune import new_model, score
from .float_stage import Rank, Run, Stage, run_epochs
from .ramps import layer_accuracy
from .sentences import Sentences
from .spans import whole_spans
from .student import Attend, Student, forward, read


@dataclass(frozen=True)
class Tied:
    """Training of every layer's answers: `early` is how much those before the last count, `distillation` the share of
    each that follows the teacher, softened by `temperature`; `noise` as in sentences.py. `losses`: points that the
    operating points may lose."""

    epochs: int = 4
    batch: int = 32
    learning_rate: float = 5e-5
    dropout: float = 0.1
    noise: float = 0.0
    early: float = 1.0
    distillation: float = 0.5
    temperature: float = 2.0
    losses: tuple[float, ...] = (0.5, 1.0, 2.0)


def answers(weights: ModelWeights, first: torch.Tensor) -> torch.Tensor:
    """The head on [CLS] rows [sentences, layers, hidden] → logits [sentences, layers, labels]."""
    return float_model.head(weights, first)


class EveryLayer(Stage):
    """All of the model; of epochs the one whose layers answer best in the mean is kept."""

    def __init__(self, student: Student, attend: Attend, teacher: Teacher, sentences: Sentences, settings: Tied):
        super().__init__(student.parameters)
        self.student, self.attend, self.teacher = student, attend, teacher
        self.sentences, self.settings = sentences, settings

    def loss(self, rows: list[int]) -> torch.Tensor:
        s = self.settings
        batch, target = self.sentences.batch("train", rows, s.noise)
        out = forward(self.student.weights, batch, self.attend, s.dropout)
        wanted, _ = self.teacher(batch)
        early = answers(self.student.weights, torch.stack(out.first[:-1], dim=1)).unbind(dim=1)
        parts = [distillation_loss(x, target, wanted, s.distillation, s.temperature) for x in (out.logits, *early)]
        return parts[0] + s.early * torch.stack(parts[1:]).mean()

    @torch.no_grad()
    def measure(self) -> dict:
        _, first = read(self.student.weights, self.sentences.tokens["dev"], self.attend)
        labels = self.sentences.labels["dev"]
        logits = answers(self.student.weights, first.to(self.sentences.device)).cpu()
        layers, found = layer_accuracy(logits, labels), score(logits[:, -1], labels)
        mean = round(sum(layers) / len(layers), 6)
        return {"dev_loss": found["loss"], "dev_accuracy": found["accuracy"], "mean_accuracy": mean, "layers": layers}

    def rank(self, entry: dict) -> Rank:
        return entry["mean_accuracy"], entry["dev_accuracy"], -entry["dev_loss"]


def train_every_layer(
    source: str | Path,
    teacher: ModelWeights,
    sentences: Sentences,
    out: Path,
    settings: Tied,
    *,
    seed: int = 0,
    resume: bool = False,
    precision: str = "float32",
    console: Console | None = None,
) -> dict:
    """Train the classifier `source` (Hugging Face folder or hub name); the log, which is also `out/every-layer.json`.

    `out` is a Hugging Face folder. Raises ValueError where it holds a run already or one begun with other settings,
    UnsupportedModel, OSError.
    """
    trained = {name: value for name, value in asdict(settings).items() if name != "losses"}
    kept = {**trained, "source": str(source), "seed": seed, "precision": precision, **sentences.settings}
    run = Run(out, "every-layer", kept, resume, precision)
    if (log := run.log()) is not None:
        return log
    torch.manual_seed(seed)  # a new head, dropout and noise
    model = new_model(str(source), sentences.names)
    model.config.architectures = [type(model).__name__]
    student = Student(model.to(sentences.device))
    a = student.weights.architecture
    attend = whole_spans(a.layers, a.heads, sentences.device).attend
    stage = EveryLayer(student, attend, Teacher(teacher, sentences.device), sentences, settings)
    log = run_epochs(stage, run, sentences.lengths, epochs=settings.epochs, batch=settings.batch,
                     rate=settings.learning_rate, seed=seed, console=console or Console(stderr=True))  # fmt: skip
    student.save(out, source)
    return run.finish({**log, "best": log["epochs"][log["best_epoch"] - 1]})
