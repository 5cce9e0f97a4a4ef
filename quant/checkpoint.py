# SPDX-License-Identifier: Apache-2.0
"""Read a Hugging Face BERT classifier into plain float tensors, or refuse it by the field that does not fit.

Code from a model's repository never runs, and weights are read from safetensors or by torch's `weights_only` loader.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

POSITIONS = 128  # rows of a pass
MAX_HIDDEN, MAX_HEADS, MAX_FFN, MAX_LABELS = 1024, 32, 4500, 1024
MAX_EPS = 1e-5  # the integer layer norm has none


class UnsupportedModel(ValueError):
    """A model the engine cannot run; the message names the field and the remedy."""

    def __init__(self, field: str, found: object, remedy: str):
        self.field = field
        super().__init__(f"{field} = {found!r} is not supported: {remedy}")


@dataclass(frozen=True)
class Architecture:
    """The sizes of a BERT; `ffn` is the intermediate width, `positions` those kept."""

    layers: int
    hidden: int
    heads: int
    head_width: int
    ffn: int
    vocab: int
    positions: int
    types: int
    eps: float


@dataclass
class Linear:
    """y = x·weightᵀ + bias; weight [N, K], bias [N], float32."""

    weight: torch.Tensor
    bias: torch.Tensor


@dataclass
class Norm:
    """gamma, beta [hidden], float32."""

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
class BertWeights:
    """All float tensors: word [vocab, hidden], position [positions, hidden], type [types, hidden], and the rest."""

    architecture: Architecture
    word: torch.Tensor
    position: torch.Tensor
    type: torch.Tensor
    embedding_norm: Norm
    layers: list[Layer]
    pooler: Linear
    classifier: Linear

    def linears(self) -> Iterator[tuple[str, Linear]]:
        """Every linear layer by its name in the artifact."""
        for i, layer in enumerate(self.layers):
            for name in ("q", "k", "v", "o", "ffn1", "ffn2"):
                yield f"layers.{i}.{name}", getattr(layer, name)
        yield "pooler", self.pooler
        yield "classifier", self.classifier


@dataclass(frozen=True)
class Checkpoint:
    """A float model with its label names and its fast tokenizer (JSON text that neither cuts nor pads)."""

    weights: BertWeights
    labels: list[str]
    tokenizer_json: str


def load_checkpoint(source: str | Path) -> Checkpoint:
    """Load a BERT sequence classifier from a folder or a hub name.

    Raises UnsupportedModel by field, OSError where files are missing or the hub cannot be reached.
    """
    local = Path(source).is_dir()
    options = {"trust_remote_code": False, "local_files_only": local}
    settings, _ = BertConfig.get_config_dict(str(source), local_files_only=local)
    architecture = check_config(settings)
    labels = check_labels(settings)
    tokenizer_json = _tokenizer(source, local, architecture.vocab)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # missing tensors are reported below, by name
    try:
        model, info = BertForSequenceClassification.from_pretrained(
            str(source), **options, output_loading_info=True, dtype=torch.float32
        )
    finally:
        transformers_logging.set_verbosity(verbosity)
    if missing := sorted(info["missing_keys"]):
        remedy = "fine-tune a sequence classifier first (BertForSequenceClassification, save_pretrained)"
        raise UnsupportedModel(missing[0], None, f"the checkpoint lacks it; {remedy}")
    return Checkpoint(weights_of(model, architecture), labels, tokenizer_json)


def check_config(settings: dict) -> Architecture:
    """The architecture that a config.json states, or UnsupportedModel naming its first field that does not fit."""

    def refuse(field: str, remedy: str) -> None:
        raise UnsupportedModel(field, settings.get(field), remedy)

    def size(field: str, default: int | None, low: int, high: int) -> int:
        value = settings.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            refuse(field, f"needs an integer from {low} to {high}; choose a smaller or another model")
        return value

    if settings.get("model_type") != "bert":
        refuse("model_type", "only BERT checkpoints (BERT, MiniLM, TinyBERT, …) run; choose one with model_type bert")
    if settings.get("hidden_act", "gelu") != "gelu":
        refuse("hidden_act", "the engine has GELU tables; choose a model with hidden_act gelu")
    if settings.get("position_embedding_type", "absolute") != "absolute":
        refuse("position_embedding_type", "positions are added to the words; choose a model with absolute ones")
    for field in ("is_decoder", "add_cross_attention"):
        if settings.get(field, False):
            refuse(field, "an encoder is needed; set it to false if the model was trained as one")
    hidden = size("hidden_size", 768, 32, MAX_HIDDEN)
    heads = size("num_attention_heads", 12, 1, MAX_HEADS)
    if hidden not in (32 * heads, 64 * heads):
        refuse("num_attention_heads", f"{hidden} channels need heads of 32 or 64 channels; choose another model")
    eps = settings.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float | int) or not 0 <= eps <= MAX_EPS:
        refuse("layer_norm_eps", f"the integer layer norm has none; choose a model with at most {MAX_EPS}")
    return Architecture(
        layers=size("num_hidden_layers", 12, 1, 256),
        hidden=hidden,
        heads=heads,
        head_width=hidden // heads,
        ffn=size("intermediate_size", 3072, 1, MAX_FFN),
        vocab=size("vocab_size", 30522, 1, 2**24),
        positions=min(POSITIONS, size("max_position_embeddings", 512, 1, 2**24)),
        types=size("type_vocab_size", 2, 1, 2**16 - 1),
        eps=float(eps),
    )


def check_labels(settings: dict) -> list[str]:
    """Label names by index; refuses anything but single-label classification."""
    if settings.get("problem_type") not in (None, "single_label_classification"):
        remedy = "only single-label classification runs; train the head with cross-entropy"
        raise UnsupportedModel("problem_type", settings["problem_type"], remedy)
    names = settings.get("id2label") or {i: f"LABEL_{i}" for i in range(settings.get("num_labels", 2))}
    labels = [str(names[key]) for key in sorted(names, key=int)]
    if not 2 <= len(labels) <= MAX_LABELS:
        raise UnsupportedModel("id2label", f"{len(labels)} labels", f"a classifier has 2 to {MAX_LABELS}")
    return labels


def weights_of(model: BertForSequenceClassification, architecture: Architecture) -> BertWeights:
    """The float tensors of a transformers model."""
    state = {name: tensor.detach().float() for name, tensor in model.state_dict().items()}

    def linear(name: str) -> Linear:
        return Linear(state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str) -> Norm:
        return Norm(state[f"{name}.weight"], state[f"{name}.bias"])

    def layer(i: int) -> Layer:
        at = f"bert.encoder.layer.{i}"
        return Layer(
            q=linear(f"{at}.attention.self.query"),
            k=linear(f"{at}.attention.self.key"),
            v=linear(f"{at}.attention.self.value"),
            o=linear(f"{at}.attention.output.dense"),
            attention_norm=norm(f"{at}.attention.output.LayerNorm"),
            ffn1=linear(f"{at}.intermediate.dense"),
            ffn2=linear(f"{at}.output.dense"),
            ffn_norm=norm(f"{at}.output.LayerNorm"),
        )

    return BertWeights(
        architecture=architecture,
        word=state["bert.embeddings.word_embeddings.weight"],
        position=state["bert.embeddings.position_embeddings.weight"][: architecture.positions],
        type=state["bert.embeddings.token_type_embeddings.weight"],
        embedding_norm=norm("bert.embeddings.LayerNorm"),
        layers=[layer(i) for i in range(architecture.layers)],
        pooler=linear("bert.pooler.dense"),
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
