# SPDX-License-Identifier: Apache-2.0
"""A float model that is trained: the tensors of a Hugging Face folder as parameters, and the forward pass over them.

The pass is that of float_model.py on flat token rows, with gradients, and with attention to be chosen: `attend(i, q, k,
v, batch)` makes the context of layer i, all [rows, hidden] (spans.py). Dropout, where it is asked for, is
that of BERT but for attention's weights: of the embeddings, of both residual branches and of the pooled row.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.functional import dropout
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from .batch import Batch, split_batches
from .checkpoint import Linear, ModelWeights, Norm, weights_of
from .configuration import UnsupportedModel, check_config, check_task
from .finetune import new_model
from .float_model import activate, adapt, apply, embedding_sum, normalise
from .tokens import Tokens
from .training import Parameters

MATRICES = ("q", "k", "v", "o", "ffn1", "ffn2")
PARTS = ("q", "k", "v", "o", "attention_norm", "ffn1", "ffn2", "ffn_norm")  # of a layer, but for adapters
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor, Batch], torch.Tensor]


class Outputs(NamedTuple):
    """`logits` [sentences, labels]; of each layer all rows [rows, hidden] and the [CLS] rows [sentences, hidden]."""

    logits: torch.Tensor
    layers: list[torch.Tensor]
    first: list[torch.Tensor]

    @property
    def rows(self) -> torch.Tensor:
        """The last layer's."""
        return self.layers[-1]


class Student:
    """A classifier of sequences. `weights` and `parameters` are the tensors of `model`: a step changes all."""

    def __init__(self, model: PreTrainedModel):
        """Raises UnsupportedModel for another family or kind."""
        settings = model.config.to_dict()
        architecture = check_config(settings)
        if check_task(settings).kind != "sequence":
            raise UnsupportedModel("architectures", settings["architectures"], "an answer for the whole text is needed")
        self.model = model
        self.weights = weights_of(model, architecture)
        self.parameters: Parameters = {name: tensor.requires_grad_() for name, tensor in _tensors(self.weights)}

    @property
    def matrices(self) -> Parameters:
        """The encoder's matrices [N, K] by name, "layers.0.q"; shared ones by their first place."""
        owners = [i for i, owner in enumerate(self.weights.architecture.weights) if owner == i]
        names = [f"layers.{i}.{part}" for i in owners for part in MATRICES]
        return {name: self.parameters[f"{name}.weight"] for name in names}

    def save(self, out: Path, tokenizer: str | Path, **fields: object) -> None:
        """The Hugging Face folder `out`, with `fields` in its config.json and the tokenizer of another folder."""
        for name, value in fields.items():
            setattr(self.model.config, name, value)
        self.model.save_pretrained(out)
        AutoTokenizer.from_pretrained(tokenizer).save_pretrained(out)


def load_student(folder: str | Path, device: torch.device | str = "cpu") -> Student:
    """The student that a Hugging Face folder holds. Raises UnsupportedModel, OSError."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False, dtype=torch.float32)
    return Student(model.to(device))


def load_unshared(folder: str | Path, device: torch.device | str = "cpu") -> Student:
    """The student, each of whose layers is made into one of its own. Raises UnsupportedModel, OSError."""
    student = load_student(folder, device)
    a = student.weights.architecture
    if a.family != "bert":
        raise UnsupportedModel("model_type", a.family, "layers that are shared cannot be told apart here")
    return student


def encoder(base: str, device: torch.device | str = "cpu") -> Student:
    """A pretrained encoder, whatever head it has or lacks: only its rows are read."""
    model = new_model(base, ("0", "1"))
    model.config.architectures = [type(model).__name__]
    return Student(model.to(device))


def read_config(folder: str | Path) -> dict:
    """The config.json of a folder."""
    return json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))


def _tensors(weights: ModelWeights):
    yield from (("word", weights.word), ("position", weights.position), ("type", weights.type))
    parts: list[tuple[str, Linear | Norm | None]] = [("embedding_norm", weights.embedding_norm)]
    if weights.mapping is not None:
        parts.append(("mapping", weights.mapping))
    for i, layer in enumerate(weights.layers):
        if weights.architecture.weights[i] != i:
            continue
        parts += [(f"layers.{i}.{name}", getattr(layer, name)) for name in PARTS]
    for at, part in [*parts, ("pooler", weights.pooler), ("classifier", weights.classifier)]:
        for name in ("weight", "bias") if isinstance(part, Linear) else ("gamma", "beta"):
            yield f"{at}.{name}", getattr(part, name)


def embed(weights: ModelWeights, batch: Batch) -> torch.Tensor:
    """What the first layer reads, [rows, hidden]."""
    y = normalise(weights.embedding_norm, embedding_sum(weights, batch), weights.architecture.eps)
    return y if weights.mapping is None else apply(weights.mapping, y)


def projected(weights: ModelWeights, i: int, y: torch.Tensor, batch: Batch, attend: Attend) -> torch.Tensor:
    """What layer i's attention adds to y [rows, hidden]."""
    layer = weights.layers[i]
    q, k, v = (apply(getattr(layer, name), y) for name in "qkv")
    return adapt(layer.attention_adapter, apply(layer.o, attend(i, q, k, v, batch)))


def widened(weights: ModelWeights, i: int, y: torch.Tensor) -> torch.Tensor:
    """What layer i's feed-forward part adds to y [rows, hidden]."""
    layer = weights.layers[i]
    return adapt(layer.ffn_adapter, apply(layer.ffn2, activate(apply(layer.ffn1, y), weights.architecture.activation)))


def forward(weights: ModelWeights, batch: Batch, attend: Attend, share: float = 0.0) -> Outputs:
    """The whole model on a batch, with dropout of a `share`."""

    def drop(x: torch.Tensor) -> torch.Tensor:
        return dropout(x, share) if share else x

    eps, layers, y = weights.architecture.eps, [], drop(embed(weights, batch))
    for i, layer in enumerate(weights.layers):
        y = normalise(layer.attention_norm, drop(projected(weights, i, y, batch, attend)) + y, eps)
        y = normalise(layer.ffn_norm, drop(widened(weights, i, y)) + y, eps)
        layers.append(y)
    first = [of[batch.first] for of in layers]
    pooled = torch.tanh(apply(weights.pooler, first[-1]))
    return Outputs(apply(weights.classifier, drop(pooled)), layers, first)


@torch.no_grad()
def read(
    weights: ModelWeights, sentences: Sequence[Tokens], attend: Attend, rows: int = 2048
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [sentences, labels] and [CLS] rows [sentences, layers, hidden], in order, on the CPU."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i].ids))  # few lengths a batch
    logits, first = [], []
    for batch in split_batches([sentences[i] for i in order], rows, weights.word.device):
        out = forward(weights, batch, attend)
        logits.append(out.logits.cpu())
        first.append(torch.stack(out.first, dim=1).cpu())
    place = torch.tensor(order).argsort()
    return torch.cat(logits)[place], torch.cat(first)[place]
