# SPDX-License-Identifier: Apache-2.0
"""An ALBERT-shaped encoder out of a BERT: one layer at every place, embeddings factorized, trained to follow it.

For users that have no ALBERT checkpoint (docs/tasks.md). Every place of the new encoder follows the teacher's
layer at the same place, row by row, on texts of which no label is read; so what comes out serves any task. It begins as
near to the teacher as its shape allows: the word table's best factors of the narrow width (its singular
vectors), the mapping fitted (ridge regression) to what the teacher's first layer reads, and one of the teacher's
layers as the one that is shared.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from transformers import AlbertConfig, AlbertForSequenceClassification

from .batch import Batch, make_batch, split_batches
from .checkpoint import ModelWeights
from .configuration import UnsupportedModel
from .distillation import feature_loss, variance
from .finetune import base_model
from .float_model import embedding_sum, normalise
from .float_stage import Rank, Run, Stage, run_epochs
from .sentences import Sentences
from .spans import whole_spans
from .student import PARTS, Student, embed, encoder, forward

_RIDGE = 1e-4
FIT_SENTENCES = 512  # train texts that the mapping is fitted on


@dataclass(frozen=True)
class Backbone:
    """`base` is the BERT encoder to follow (as FineTuning's), `embedding` the width of the new tables, `layer` (1 is
    the first) the one of its layers that the shared one begins as. `noise` (sentences.py) is of what both read. [CLS]
    rows count `first` times as much as all rows together: there is one a text, and every task reads it."""

    base: str = "minilm-l6"
    embedding: int = 128
    layer: int = 3
    epochs: int = 3
    batch: int = 32
    learning_rate: float = 5e-4
    noise: float = 0.1
    first: float = 1.0


def albert_shaped(teacher: Student, embedding: int, layer: int, batch: Batch) -> Student:
    """The untrained encoder of the teacher's depth; its mapping is fitted on the rows of `batch`.

    Its classifier is new, and says nothing yet. Raises ValueError for a layer or a width that cannot be.
    """
    a, old = teacher.weights.architecture, teacher.model.config
    if not 1 <= layer <= a.layers:
        raise ValueError(f"backbone.layer {layer} is not within 1..{a.layers}, the layers of the base")
    if not 8 <= embedding <= a.hidden:
        raise ValueError(f"backbone.embedding {embedding} is not within 8..{a.hidden}, the width of the base")
    config = AlbertConfig(
        vocab_size=a.vocab,
        embedding_size=embedding,
        hidden_size=a.hidden,
        num_hidden_layers=a.layers,
        num_attention_heads=a.heads,
        intermediate_size=a.ffn,
        hidden_act=old.hidden_act,
        max_position_embeddings=old.max_position_embeddings,
        type_vocab_size=a.types,
        layer_norm_eps=a.eps,
        num_labels=old.num_labels,
        pad_token_id=old.pad_token_id,
    )
    made = Student(AlbertForSequenceClassification(config).to(teacher.model.device))
    with torch.no_grad():
        _begin(made.weights, teacher.weights, layer - 1, batch)
        made.weights.pooler.weight.copy_(teacher.weights.pooler.weight)
        made.weights.pooler.bias.copy_(teacher.weights.pooler.bias)
    return made


def _begin(new: ModelWeights, old: ModelWeights, layer: int, batch: Batch) -> None:
    width, words = new.architecture.embedding, old.word.double()  # double: the same to the bit at every start
    basis = torch.linalg.eigh(words.T @ words).eigenvectors[:, -width:].float()  # [hidden, embedding]
    new.word.copy_(old.word @ basis)
    new.type.copy_(old.type @ basis)
    positions = new.position.shape[0]
    new.position.copy_(old.position[:positions] @ basis)
    for name in PARTS:
        own, given = getattr(new.layers[0], name), getattr(old.layers[layer], name)
        for part in vars(own):
            getattr(own, part).copy_(getattr(given, part))
    x = normalise(new.embedding_norm, embedding_sum(new, batch), new.architecture.eps)
    wanted = embed(old, batch)
    read = torch.cat([x, torch.ones(len(x), 1, device=x.device)], dim=1).double()
    ridge = _RIDGE * len(read) * torch.eye(width + 1, device=x.device)  # a norm's channels add up to nothing
    solved = torch.linalg.solve(read.T @ read + ridge, read.T @ wanted.double())
    new.mapping.weight.copy_(solved[:-1].T)
    new.mapping.bias.copy_(solved[-1])


class _Following(Stage):
    """All of the student on the rows of every layer."""

    def __init__(self, student: Student, teacher: Student, sentences: Sentences, settings: Backbone):
        super().__init__({n: p for n, p in student.parameters.items() if not n.startswith(("pooler", "classifier"))})
        self.student, self.teacher, self.sentences, self.settings = student, teacher, sentences, settings
        a = student.weights.architecture
        self.attend = whole_spans(a.layers, a.heads, sentences.device).attend

    def _losses(self, batch: Batch) -> torch.Tensor:
        """Each layer's error, of all rows and of the [CLS] ones, both as shares of the variance of all, [2, layers]."""
        with torch.no_grad():
            wanted = forward(self.teacher.weights, batch, self.attend).layers
        found = forward(self.student.weights, batch, self.attend).layers
        first = batch.first
        rows = [feature_loss(own, of) for own, of in zip(found, wanted, strict=True)]
        firsts = [(own - of)[first].square().mean() / variance(of) for own, of in zip(found, wanted, strict=True)]
        return torch.stack([torch.stack(rows), torch.stack(firsts)])

    def loss(self, rows: list[int]) -> torch.Tensor:
        batch, _ = self.sentences.batch("train", rows, self.settings.noise)
        every, first = self._losses(batch).mean(dim=1)
        return every + self.settings.first * first

    @torch.no_grad()
    def measure(self) -> dict:
        total, sentences = 0.0, sorted(self.sentences.tokens["dev"], key=lambda s: len(s.ids))
        for batch in split_batches(sentences, device=self.sentences.device):
            total = total + self._losses(batch) * len(batch.ids)
        every, first = (total / sum(len(s.ids) for s in sentences)).tolist()
        found = {"dev_loss": sum(every) / len(every), "first_loss": sum(first) / len(first)}
        return found | {"layers": [round(x, 6) for x in every], "first": [round(x, 6) for x in first]}

    def rank(self, entry: dict) -> Rank:
        return (-entry["dev_loss"] - self.settings.first * entry["first_loss"],)


def make_backbone(
    sentences: Sentences,
    out: Path,
    settings: Backbone,
    *,
    seed: int = 0,
    resume: bool = False,
    precision: str = "float32",
    console: Console | None = None,
) -> dict:
    """Train an ALBERT-shaped encoder; the log, which is also `out/backbone.json`.

    `out` is a Hugging Face folder of a classifier whose head is untrained: the base that tasks are trained on. The
    losses are errors as shares of the teacher's variance, mean over the layers. Keeps the epoch best on dev. Raises
    ValueError for sizes that cannot be, and where `out` holds a run already or one begun with other settings.
    """
    kept = {**asdict(settings), "seed": seed, "precision": precision, **sentences.settings}
    run = Run(out, "backbone", kept, resume, precision)
    if (log := run.log()) is not None:
        return log
    base = base_model(settings.base)
    torch.manual_seed(seed)
    teacher = encoder(base, sentences.device)
    if teacher.weights.architecture.family != "bert":
        raise UnsupportedModel("model_type", "albert", "the base is to be a BERT; an ALBERT is a backbone as it is")
    texts = make_batch(sentences.tokens["train"][:FIT_SENTENCES], sentences.device)
    student = albert_shaped(teacher, settings.embedding, settings.layer, texts)
    stage = _Following(student, teacher, sentences, settings)
    begun = stage.measure()
    log = run_epochs(stage, run, sentences.lengths, epochs=settings.epochs, batch=settings.batch,
                     rate=settings.learning_rate, seed=seed, console=console or Console(stderr=True))  # fmt: skip
    student.save(out, base)
    return run.finish({**log, "untrained": begun, "best": log["epochs"][log["best_epoch"] - 1]})
