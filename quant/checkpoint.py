# SPDX-License-Identifier: Apache-2.0
"""Read a Hugging Face BERT or ALBERT classifier into plain float tensors, or refuse it by the field that does not fit.

Code from a model's repository never runs, and weights are read from safetensors or by torch's `weights_only` loader.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    BertForSequenceClassification,
    BertForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from .configuration import Architecture, Task, UnsupportedModel, albert_places, check_config, check_task

_MODELS = {
    ("bert", "sequence"): BertForSequenceClassification,
    ("bert", "token"): BertForTokenClassification,
    ("albert", "sequence"): AlbertForSequenceClassification,
    ("albert", "token"): AlbertForTokenClassification,
}
_MATRICES = ("q", "k", "v", "o", "ffn1", "ffn2")
_POOLER = {"bert": "bert.pooler.dense", "albert": "albert.pooler"}
_LAYER = {  # where transformers keeps a layer's parts
    "bert": {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "o": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "ffn1": "intermediate.dense",
        "ffn2": "output.dense",
        "ffn_norm": "output.LayerNorm",
    },
    "albert": {
        "q": "attention.query",
        "k": "attention.key",
        "v": "attention.value",
        "o": "attention.dense",
        "attention_norm": "attention.LayerNorm",
        "ffn1": "ffn",
        "ffn2": "ffn_output",
        "ffn_norm": "full_layer_layer_norm",
    },
}


@dataclass
class Linear:
    """y = x·weightᵀ + bias; weight [N, K], bias [N], float32."""

    weight: torch.Tensor
    bias: torch.Tensor


@dataclass
class Norm:
    """gamma, beta [channels], float32."""

    gamma: torch.Tensor
    beta: torch.Tensor


@dataclass
class Layer:
    """One encoder layer."""

    q: Linear
    k: Linear
    v: Linear
    o: Linear
    attention_norm: Norm
    ffn1: Linear
    ffn2: Linear
    ffn_norm: Norm


@dataclass
class Ramp:
    """The off-ramp behind a layer, on its [CLS] rows."""

    pooler: Linear | None
    classifier: Linear


@dataclass
class ModelWeights:
    """All float tensors: word [vocab, embedding], position [positions, embedding], type [types, embedding], the rest.

    `mapping` (albert) leads from the embedding's width to the hidden one. `layers` has one for every place; where
    layers share their tensors, the same object stands in each. `pooler` is None where every token has an answer.
    `ramps` are the off-ramps behind all layers but the last, or none.
    """

    architecture: Architecture
    word: torch.Tensor
    position: torch.Tensor
    type: torch.Tensor
    embedding_norm: Norm
    mapping: Linear | None
    layers: list[Layer]
    pooler: Linear | None
    classifier: Linear
    ramps: list[Ramp] = field(default_factory=list)

    def linears(self) -> Iterator[tuple[str, Linear]]:
        """Every linear layer once, by its name in the artifact; shared ones by their first place."""
        if self.mapping is not None:
            yield "mapping", self.mapping
        for i, layer in enumerate(self.layers):
            if self.architecture.weights[i] == i:
                for name in _MATRICES:
                    yield f"layers.{i}.{name}", getattr(layer, name)
        if self.pooler is not None:
            yield "pooler", self.pooler
        yield "classifier", self.classifier
        for i, ramp in enumerate(self.ramps):
            if ramp.pooler is not None:
                yield f"exits.{i}.pooler", ramp.pooler
            yield f"exits.{i}", ramp.classifier


@dataclass(frozen=True)
class Checkpoint:
    """A float model, what it answers, and its fast tokenizer (JSON text that neither cuts nor pads)."""

    weights: ModelWeights
    task: Task
    tokenizer_json: str


def load_checkpoint(source: str | Path) -> Checkpoint:
    """Load a BERT or ALBERT classifier of sequences or tokens from a folder or a hub name.

    Raises UnsupportedModel by field or tensor, OSError where files are missing or the hub cannot be reached.
    """
    local = Path(source).is_dir()
    settings, _ = PretrainedConfig.get_config_dict(str(source), local_files_only=local)
    architecture = check_config(settings)
    task = check_task(settings)
    tokenizer_json = _tokenizer(source, local, architecture.vocab)
    model = _load(_MODELS[architecture.family, task.kind], str(source), local)
    return Checkpoint(weights_of(model, architecture), task, tokenizer_json)


def _load(kind: type[PreTrainedModel], source: str, local: bool) -> PreTrainedModel:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what does not fit is reported below, by name
    try:
        model, info = kind.from_pretrained(
            source,
            trust_remote_code=False,
            local_files_only=local,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
    if missing := sorted(info["missing_keys"]):
        remedy = f"fine-tune a classifier first ({kind.__name__}, save_pretrained)"
        raise UnsupportedModel(missing[0], None, f"the checkpoint lacks it; {remedy}")
    if wrong := sorted(info["mismatched_keys"]):
        shape = list(model.state_dict()[wrong[0]].shape)
        remedy = f"config.json asks for {shape}; restore the config.json that was saved with the weights"
        raise UnsupportedModel(wrong[0], "another shape", remedy)
    return model


def weights_of(model: PreTrainedModel, architecture: Architecture) -> ModelWeights:
    """The float tensors of one of transformers' models of these families and kinds."""
    state = {name: tensor.detach().float() for name, tensor in model.state_dict().items()}
    family, config = architecture.family, model.config

    def linear(name: str) -> Linear:
        return Linear(state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str) -> Norm:
        return Norm(state[f"{name}.weight"], state[f"{name}.bias"])

    def layer(at: str) -> Layer:
        parts = _LAYER[family].items()
        return Layer(**{part: (linear if part in _MATRICES else norm)(f"{at}.{name}") for part, name in parts})

    if family == "albert":
        places = albert_places(config.num_hidden_layers, config.num_hidden_groups, config.inner_group_num)
        at = [f"albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}" for group, inner in places]
    else:
        at = [f"bert.encoder.layer.{i}" for i in range(architecture.layers)]
    layers: list[Layer] = []
    for i, owner in enumerate(architecture.weights):
        layers.append(layer(at[i]) if owner == i else layers[owner])
    pooler = _POOLER[family]
    return ModelWeights(
        architecture=architecture,
        word=state[f"{family}.embeddings.word_embeddings.weight"],
        position=state[f"{family}.embeddings.position_embeddings.weight"][: architecture.positions],
        type=state[f"{family}.embeddings.token_type_embeddings.weight"],
        embedding_norm=norm(f"{family}.embeddings.LayerNorm"),
        mapping=linear("albert.encoder.embedding_hidden_mapping_in") if family == "albert" else None,
        layers=layers,
        pooler=linear(pooler) if f"{pooler}.weight" in state else None,
        classifier=linear("classifier"),
    )


def _tokenizer(source: str | Path, local: bool, vocab: int) -> str:
    remedy = "save the fast tokenizer too (AutoTokenizer.from_pretrained(…).save_pretrained(folder))"
    path = cached_file(
        str(source), "tokenizer.json", local_files_only=local, _raise_exceptions_for_missing_entries=False
    )
    if path is None:
        raise UnsupportedModel("tokenizer.json", None, remedy)
    text = Path(path).read_text(encoding="utf-8")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the Rust library raises plain Exception
        raise UnsupportedModel("tokenizer.json", str(error), remedy) from error
    if (words := max(tokenizer.get_vocab().values(), default=-1) + 1) > vocab:
        raise UnsupportedModel("tokenizer.json", f"{words} tokens", f"the model embeds {vocab}; use its own tokenizer")
    settings = {**json.loads(text), "truncation": None, "padding": None}
    return json.dumps(settings, ensure_ascii=False, separators=(",", ":"))
