# SPDX-License-Identifier: Apache-2.0
"""A deeper encoder out of a fine-tuned one: layers on top that begin as almost nothing, trained to follow it.

Layer L + i of the new model is a copy of layer i of the L there are, whose two residual branches (attention's `o`, the
feed-forward part's `ffn2`) are scaled by a small `share`. After each branch stands a layer norm, LN(x + branch), which
would undo x's own mean and deviation: its γ and β are therefore fitted by least squares, channel by channel, so that it
gives x back on the rows of some train texts. What comes out of the last layer is then nearly what the first L made.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch.nn.functional import layer_norm
from transformers import BertConfig, BertForSequenceClassification

from .batch import Batch, make_batch
from .checkpoint import Norm
from .distillation import Teacher, distillation_loss, feature_loss
from .finetune import score
from .float_model import normalise
from .float_stage import Run, Stage, run_epochs
from .sentences import Sentences
from .spans import whole_spans
from .student import Student, embed, forward, load_unshared, projected, read, widened

FIT_SENTENCES = 256  # train texts that the norms are fitted on


@dataclass(frozen=True)
class Deepen:
    """`layers` of the new model; `share` of the copies' residual branches; `distillation` the share of the loss that
    follows the shallow model's logits, softened by `temperature`; `features` the weight of its last layer's rows."""

    layers: int = 12
    share: float = 0.1
    epochs: int = 1
    batch: int = 32
    learning_rate: float = 5e-5
    distillation: float = 0.9
    temperature: float = 2.0
    features: float = 0.0


def deepened(shallow: Student, layers: int, share: float, batch: Batch) -> Student:
    """The untrained deeper model, its norms fitted on the rows of `batch`.

    Raises ValueError unless `layers` is above what there is and at most twice as much.
    """
    there = len(shallow.weights.layers)
    if not there < layers <= 2 * there:
        raise ValueError(f"deepen.layers {layers} is not within {there + 1}..{2 * there} for a model of {there} layers")
    config = BertConfig.from_dict({**shallow.model.config.to_dict(), "num_hidden_layers": layers})
    model = BertForSequenceClassification(config).to(shallow.model.device)
    state, encoder = dict(shallow.model.state_dict()), "bert.encoder.layer."
    for name, tensor in shallow.model.state_dict().items():
        if name.startswith(encoder) and (i := int(name[len(encoder) :].split(".")[0])) < layers - there:
            state[name.replace(f"{encoder}{i}.", f"{encoder}{there + i}.", 1)] = tensor
    model.load_state_dict(state)
    deep = Student(model)
    with torch.no_grad():
        _calm(deep, there, share, batch)
    return deep


def _calm(deep: Student, there: int, share: float, batch: Batch) -> None:
    weights, eps = deep.weights, deep.weights.architecture.eps
    whole = whole_spans(len(weights.layers), weights.architecture.heads, batch.ids.device)
    y = embed(weights, batch)
    for i, layer in enumerate(weights.layers):
        if i >= there:
            for linear in (layer.o, layer.ffn2):
                linear.weight *= share
                linear.bias *= share
            wanted = y
        x = projected(weights, i, y, batch, whole.attend) + y
        if i >= there:
            fit_norm(layer.attention_norm, x, wanted, eps)
        y = normalise(layer.attention_norm, x, eps)
        x = widened(weights, i, y) + y
        if i >= there:
            fit_norm(layer.ffn_norm, x, wanted, eps)
        y = normalise(layer.ffn_norm, x, eps)


def fit_norm(norm: Norm, x: torch.Tensor, wanted: torch.Tensor, eps: float) -> None:
    """Set γ and β so that γ·(x − mean)/deviation + β is nearest to `wanted`; both [rows, channels]."""
    unit = layer_norm(x, x.shape[-1:], eps=eps)
    off, mean = unit - unit.mean(dim=0), wanted.mean(dim=0)
    gamma = (off * (wanted - mean)).sum(dim=0) / off.square().sum(dim=0)  # [channels]
    norm.gamma.copy_(gamma)
    norm.beta.copy_(mean - gamma * unit.mean(dim=0))


class _Deepening(Stage):
    """All of the student on labels and teacher."""

    def __init__(self, student: Student, teacher: Teacher, sentences: Sentences, settings: Deepen):
        super().__init__(student.parameters)
        self.student, self.teacher, self.sentences, self.settings = student, teacher, sentences, settings
        sizes = student.weights.architecture
        self.attend = whole_spans(sizes.layers, sizes.heads, student.model.device).attend

    def loss(self, rows: list[int]) -> torch.Tensor:
        batch, target = self.sentences.batch("train", rows)
        out = forward(self.student.weights, batch, self.attend)
        wanted, last = self.teacher(batch)
        s = self.settings
        loss = distillation_loss(out.logits, target, wanted, s.distillation, s.temperature)
        return loss + s.features * feature_loss(out.rows, last) if s.features else loss

    def measure(self) -> dict:
        found = score(
            read(self.student.weights, self.sentences.tokens["dev"], self.attend)[0], self.sentences.labels["dev"]
        )
        return {"dev_loss": found["loss"], "dev_accuracy": found["accuracy"]}


def deepen(
    source: Path,
    sentences: Sentences,
    out: Path,
    settings: Deepen,
    *,
    seed: int = 0,
    resume: bool = False,
    precision: str = "float32",
    console: Console | None = None,
) -> dict:
    """Make the deeper model of the fine-tuned folder `source`; the log, which is also `out/deepen.json`.

    Keeps the epoch best on dev. Raises ValueError for layers that cannot be, and where `out` holds a run already or one
    begun with other settings.
    """
    kept = {**asdict(settings), "seed": seed, "precision": precision, **sentences.settings}
    run = Run(out, "deepen", kept, resume, precision)
    if (log := run.log()) is not None:
        return log
    shallow = load_unshared(source, sentences.device)
    texts = sentences.tokens["train"][:FIT_SENTENCES]
    student = deepened(shallow, settings.layers, settings.share, make_batch(texts, sentences.device))
    stage = _Deepening(student, Teacher(shallow.weights, sentences.device), sentences, settings)
    begun = stage.measure()
    log = run_epochs(stage, run, sentences.lengths, epochs=settings.epochs, batch=settings.batch,
                     rate=settings.learning_rate, seed=seed, console=console or Console(stderr=True))  # fmt: skip
    student.save(out, source)
    return run.finish({**log, "untrained": begun, "best": log["epochs"][log["best_epoch"] - 1]})
