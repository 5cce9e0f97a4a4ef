# SPDX-License-Identifier: Apache-2.0
"""Read a Hugging Face BERT or ALBERT classifier into plain float tensors, or refuse it by the field that does not fit.

Code from a model's repository never runs, and weights are read from safetensors or by torch's `weights_only` loader.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
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

from .configuration import (
    OFFRAMPS,
    OFFRAMPS_FILE,
    POSITIONS,
    SPANS,
    Architecture,
    Task,
    UnsupportedModel,
    albert_places,
    check_config,
    check_offramps,
    check_spans,
    check_task,
)

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
class Adapter:
    """h + up·act(down·h + d) + u of a branch's output h (Houlsby et al., arXiv 1902.00751): down [width, hidden], up
    [hidden, width]; `activation` is one of ACTIVATIONS (float_model.py)."""

    down: Linear
    up: Linear
    activation: str


@dataclass
class Layer:
    """One encoder layer; with adapters what its two branches add passes through them before the residual."""

    q: Linear
    k: Linear
    v: Linear
    o: Linear
    attention_norm: Norm
    ffn1: Linear
    ffn2: Linear
    ffn_norm: Norm
    attention_adapter: Adapter | None = None
    ffn_adapter: Adapter | None = None


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

    Its heads reach as far as `zynqbert_spans` of config.json says, and with `zynqbert_offramps` it has those of
    offramps.safetensors (docs/training.md).
    Raises UnsupportedModel by field or tensor, OSError where files are missing or the hub cannot be reached.
    """
    local = Path(source).is_dir()
    settings = settings_of(source)
    architecture = check_config(settings)
    task = check_task(settings)
    tokenizer_json = read_tokenizer(source, architecture.vocab)
    model = _load(_MODELS[architecture.family, task.kind], str(source), local)
    weights = weights_of(model, architecture)
    if settings.get(SPANS) is not None:
        weights = with_spans(weights, settings[SPANS])
    if settings.get(OFFRAMPS) is not None:
        weights = replace(weights, ramps=_ramps(source, local, settings[OFFRAMPS], weights, task))
    return Checkpoint(weights, task, tokenizer_json)


def settings_of(source: str | Path) -> dict[str, Any]:
    """config.json of a folder (empty where it has none) or a hub name. Raises OSError where there is neither."""
    return PretrainedConfig.get_config_dict(str(source), local_files_only=Path(source).is_dir())[0]


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


def with_spans(weights: ModelWeights, spans: Any) -> ModelWeights:
    """The model with the spans that config.json states for each head of each layer, without the heads of span 0.

    Raises UnsupportedModel where these are no such spans.
    """
    a = weights.architecture
    check_spans(spans, a)
    layers: list[Layer] = []
    for i, owner in enumerate(a.weights):
        layers.append(_with_heads(weights.layers[i], spans[i], a.head_width) if owner == i else layers[owner])
    left = tuple(tuple(span for span in of_layer if span) for of_layer in spans)
    everything = all(span == POSITIONS for of_layer in left for span in of_layer)
    sizes = dict(layer_heads=tuple(map(len, left)), spans=None if everything else left)
    return replace(weights, architecture=replace(a, **sizes), layers=layers)


def _with_heads(layer: Layer, spans: list[int], width: int) -> Layer:
    """A layer without the heads of span 0: without their rows of q, k, v and columns of o."""
    if all(spans):
        return layer
    kept = (torch.tensor(spans) > 0).repeat_interleave(width)
    qkv = {name: Linear(of.weight[kept], of.bias[kept]) for name in "qkv" for of in [getattr(layer, name)]}
    return replace(layer, **qkv, o=Linear(layer.o.weight[:, kept], layer.o.bias))


def _ramps(source: str | Path, local: bool, stated: Any, weights: ModelWeights, task: Task) -> list[Ramp]:
    """The off-ramps of FILE, as config.json announces them."""
    a = weights.architecture
    pooler = check_offramps(stated, a, task)
    path = cached_file(str(source), OFFRAMPS_FILE, local_files_only=local, _raise_exceptions_for_missing_entries=False)
    if path is None:
        raise UnsupportedModel(OFFRAMPS_FILE, None, f"config.json has {OFFRAMPS}; restore the file beside it")
    try:
        found = load_file(path)
    except SafetensorError as error:
        raise UnsupportedModel(OFFRAMPS_FILE, str(error), "the file is cut or no safetensors; restore it") from error
    shapes = {"weight": (len(task.labels), a.hidden), "bias": (len(task.labels),)}
    if pooler:
        shapes |= {"pooler.weight": (a.hidden, a.hidden), "pooler.bias": (a.hidden,)}
    expected = {f"{i}.{name}": shape for i in range(a.layers - 1) for name, shape in shapes.items()}
    for name in sorted(expected.keys() | found.keys()):
        shape = tuple(found[name].shape) if name in found else None
        if shape != expected.get(name):
            wanted = f"{list(expected[name])} is needed" if name in expected else "no such tensor is needed"
            raise UnsupportedModel(f"{OFFRAMPS_FILE}: {name}", shape, f"{wanted}; train the off-ramps again")

    def part(name: str) -> Linear:
        return Linear(found[f"{name}weight"].float(), found[f"{name}bias"].float())

    return [Ramp(part(f"{i}.pooler.") if pooler else None, part(f"{i}.")) for i in range(a.layers - 1)]


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


def read_tokenizer(source: str | Path, vocab: int) -> str:
    """The fast tokenizer of a folder or hub name as JSON text that neither cuts nor pads. Raises UnsupportedModel where
    there is none, or one of more words than `vocab`."""
    local = Path(source).is_dir()
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
