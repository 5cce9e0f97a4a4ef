# SPDX-License-Identifier: Apache-2.0
"""Train a task on a frozen backbone: its adapters, norms and classifier alone (adapters.py)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from .adapters import Adapting, new_task, with_task
from .checkpoint import ModelWeights
from .finetune import score
from .float_stage import Run, Stage, run_epochs
from .sentences import Sentences
from .spans import whole_spans
from .student import Attend, Student, encoder, forward, read
from .tokens import Tokens
from .training import save_tensors

FILE = "task.safetensors"


@dataclass(frozen=True)
class TaskTraining(Adapting):
    """`learning_rate` is the peak; `dropout` and `noise` (sentences.py) are of what the task reads."""

    epochs: int = 4
    batch: int = 32
    learning_rate: float = 1e-3
    dropout: float = 0.1
    noise: float = 0.0


class _Adapting(Stage):
    """The task's own tensors on the labels."""

    def __init__(self, backbone: Student, sentences: Sentences, settings: TaskTraining, seed: int):
        for parameter in backbone.parameters.values():
            parameter.requires_grad_(False)
        self.task = new_task(backbone.weights, len(sentences.names), settings, seed)
        super().__init__(self.task)
        self.weights = with_task(backbone.weights, self.task, settings)
        self.sentences, self.settings = sentences, settings
        a = backbone.weights.architecture
        self.attend = whole_spans(a.layers, a.heads, sentences.device).attend

    def loss(self, rows: list[int]) -> torch.Tensor:
        batch, target = self.sentences.batch("train", rows, self.settings.noise)
        logits = forward(self.weights, batch, self.attend, self.settings.dropout).logits
        return cross_entropy(logits, target)

    def measure(self) -> dict:
        logits, _ = read(self.weights, self.sentences.tokens["dev"], self.attend)
        found = score(logits, self.sentences.labels["dev"])
        return {"dev_loss": found["loss"], "dev_accuracy": found["accuracy"]}


def train_task(
    backbone: str | Path,
    sentences: Sentences,
    out: Path,
    settings: TaskTraining,
    *,
    seed: int = 0,
    resume: bool = False,
    precision: str = "float32",
    console: Console | None = None,
) -> dict:
    """Train a task on the encoder `backbone` (a folder or a hub name); the log, which is also `out/task.json`.

    `out/task.safetensors` holds the task's own tensors (adapters.new_task). Keeps the epoch best on dev. Raises
    ValueError where `out` holds a run already or one begun with other settings, UnsupportedModel, OSError.
    """
    kept = {**asdict(settings), "backbone": str(backbone), "seed": seed, "precision": precision, **sentences.settings}
    run = Run(out, "task", kept, resume, precision)
    if (log := run.log()) is not None:
        return log
    stage = _Adapting(encoder(str(backbone), sentences.device), sentences, settings, seed)
    log = run_epochs(stage, run, sentences.lengths, epochs=settings.epochs, batch=settings.batch,
                     rate=settings.learning_rate, seed=seed, console=console or Console(stderr=True))  # fmt: skip
    save_tensors(out / FILE, {name: tensor.detach().cpu() for name, tensor in stage.task.items()})
    sizes = {"parameters": sum(tensor.numel() for tensor in stage.task.values())}
    return run.finish({**log, **sizes, "best": log["epochs"][log["best_epoch"] - 1]})


@dataclass(frozen=True)
class Trained:
    """A task on its backbone: `weights` answer for it, with `attend`."""

    weights: ModelWeights
    attend: Attend

    def logits(self, texts: Sequence[Tokens]) -> torch.Tensor:
        """[texts, labels], in order, on the CPU."""
        return read(self.weights, texts, self.attend)[0]


def load_task(backbone: str | Path, folder: Path) -> Trained:
    """The task in `folder` on the encoder that it was trained on. Raises OSError, UnsupportedModel."""
    settings = json.loads((folder / "task.json").read_text(encoding="utf-8"))["settings"]
    student = encoder(str(backbone))
    adapting = Adapting(**{name: settings[name] for name in ("width", "activation", "shared")})
    a = student.weights.architecture
    weights = with_task(student.weights, load_file(folder / FILE), adapting)
    return Trained(weights, whole_spans(a.layers, a.heads).attend)
