# SPDX-License-Identifier: Apache-2.0
"""What a Hugging Face config.json says of a classifier, as far as the engine runs it. Standard library only."""

from dataclasses import dataclass
from typing import Any

POSITIONS = 128  # rows of a pass
MAX_LAYERS, MIN_EMBEDDING, MAX_HIDDEN, MAX_HEADS, MAX_FFN, MAX_LABELS = 256, 8, 1024, 32, 4500, 1024
MAX_EPS = 1e-5  # the integer layer norm has none
MAX_EXIT_LAYERS = 63  # of a program that leaves early
SPANS, OFFRAMPS = "zynqbert_spans", "zynqbert_offramps"  # in config.json
OFFRAMPS_FILE = "offramps.safetensors"  # beside it

# What transformers takes for a field that is not there.
_BOTH = {
    "num_hidden_layers": 12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
}
_DEFAULTS = {
    "bert": {
        **_BOTH,
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
    },
    "albert": {
        **_BOTH,
        "vocab_size": 30000,
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        "hidden_act": "gelu_new",
    },
}
# Other names of one formula, in transformers.
_ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu"} | dict.fromkeys(
    ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"), "gelu_new"
)
_KINDS = {"ForSequenceClassification": "sequence", "ForTokenClassification": "token"}
_PROBLEMS = (None, "regression", "single_label_classification", "multi_label_classification")


class UnsupportedModel(ValueError):
    """A model the engine cannot run; the message names the field and the remedy."""

    def __init__(self, field: str, found: object, remedy: str):
        self.field = field
        super().__init__(f"{field} = {found!r} is not supported: {remedy}")


@dataclass(frozen=True)
class Architecture:
    """The sizes of a model as the engine runs it, shared layers counted at every place they stand.

    `family` is "bert" or "albert", `embedding` the width of the embeddings (= hidden for bert), `ffn` the intermediate
    width, `positions` those kept, `eps` that of the layer norms, `activation` "gelu" or "gelu_new" (its tanh form).
    `weights[i]` is the layer, i or an earlier one, whose matrices layer i uses. `layer_heads[i]` are the heads that
    layer i has left, `spans[i]` how far each of them sees (Q23); None: all of them everything.
    """

    family: str
    layers: int
    hidden: int
    embedding: int
    heads: int
    head_width: int
    ffn: int
    vocab: int
    positions: int
    types: int
    eps: float
    activation: str
    weights: tuple[int, ...]
    layer_heads: tuple[int, ...]
    spans: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class Task:
    """What the classifier answers.

    `kind` is "sequence" (one answer from the pooled [CLS]) or "token" (one a token); `scores` says how logits become
    scores: "softmax", "sigmoid" of each, or "none" (the value itself, a regression). `labels` are names by index.
    """

    kind: str
    scores: str
    labels: list[str]


def check_config(settings: dict) -> Architecture:
    """The architecture that a config.json states, or UnsupportedModel naming its first field that does not fit."""
    family = settings.get("model_type")
    if family not in tuple(_DEFAULTS):
        remedy = "BERT (MiniLM, TinyBERT, …) and ALBERT run; choose a model with model_type bert or albert"
        raise UnsupportedModel("model_type", family, remedy)
    settings = {**_DEFAULTS[family], **settings}

    def refuse(field: str, remedy: str) -> None:
        raise UnsupportedModel(field, settings.get(field), remedy)

    def size(field: str, low: int, high: int) -> int:
        value = settings[field]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            refuse(field, f"needs an integer from {low} to {high}; choose a smaller or another model")
        return value

    if settings["hidden_act"] not in tuple(_ACTIVATIONS):
        refuse("hidden_act", "the engine's tables hold GELU; choose a model with hidden_act gelu or gelu_new")
    if settings["position_embedding_type"] != "absolute":
        refuse("position_embedding_type", "positions are added to the words; choose a model with absolute ones")
    for field in ("is_decoder", "add_cross_attention"):
        if settings.get(field):
            refuse(field, "an encoder is needed; set it to false if the model was trained as one")
    if settings.get("pruned_heads"):
        refuse("pruned_heads", "every layer needs all its heads; choose the model before its heads were pruned")
    hidden = size("hidden_size", 32, MAX_HIDDEN)
    heads = size("num_attention_heads", 1, MAX_HEADS)
    if hidden not in (32 * heads, 64 * heads):
        refuse("num_attention_heads", f"{hidden} channels need heads of 32 or 64 channels; choose another model")
    eps = settings["layer_norm_eps"]
    if not isinstance(eps, float | int) or not 0 <= eps <= MAX_EPS:
        refuse("layer_norm_eps", f"the integer layer norm has none; choose a model with at most {MAX_EPS}")
    layers = size("num_hidden_layers", 1, MAX_LAYERS)
    weights = list(range(layers))
    if family == "albert":
        inner = size("inner_group_num", 1, MAX_LAYERS // layers)
        places = albert_places(layers, size("num_hidden_groups", 1, layers), inner)
        weights = [places.index(place) for place in places]
    return Architecture(
        family=family,
        layers=len(weights),
        hidden=hidden,
        embedding=size("embedding_size", MIN_EMBEDDING, MAX_HIDDEN) if family == "albert" else hidden,
        heads=heads,
        head_width=hidden // heads,
        ffn=size("intermediate_size", 1, MAX_FFN),
        vocab=size("vocab_size", 1, 2**24),
        positions=min(POSITIONS, size("max_position_embeddings", 1, 2**24)),
        types=size("type_vocab_size", 1, 2**16 - 1),
        eps=float(eps),
        activation=_ACTIVATIONS[settings["hidden_act"]],
        weights=tuple(weights),
        layer_heads=(heads,) * len(weights),
    )


def albert_places(layers: int, groups: int, inner: int) -> list[tuple[int, int]]:
    """(group, inner layer) that stands at each of the layers·inner places; in transformers' own arithmetic."""
    return [(int(i / (layers / groups)), j) for i in range(layers) for j in range(inner)]


def check_spans(spans: Any, architecture: Architecture) -> None:
    """That these are the spans of every head of every layer: 0 for one that is not there, else 1 to 128 tokens.

    Raises UnsupportedModel by the layer that does not fit.
    """
    layers, heads = architecture.layers, architecture.heads
    if not isinstance(spans, list) or len(spans) != layers:
        found = f"{len(spans)} layers" if isinstance(spans, list) else spans
        raise UnsupportedModel(SPANS, found, f"the spans of {layers} layers are needed; make the model slim again")
    for i, of_layer in enumerate(spans):
        field = f"{SPANS}[{i}]"
        if not isinstance(of_layer, list) or len(of_layer) != heads:
            raise UnsupportedModel(field, of_layer, f"a list of {heads} heads' spans is needed; make it slim again")
        if any(isinstance(x, bool) or not isinstance(x, int) or not 0 <= x <= POSITIONS for x in of_layer):
            raise UnsupportedModel(field, of_layer, f"spans are integers from 0 to {POSITIONS}; make it slim again")
        if not any(of_layer):
            raise UnsupportedModel(field, of_layer, "a layer needs a head that is left; make it slim again")
        if of_layer != spans[owner := architecture.weights[i]]:
            raise UnsupportedModel(field, of_layer, f"layer {owner} shares its weights, so give it the same spans")


def check_offramps(stated: Any, architecture: Architecture, task: Task) -> bool:
    """Whether the off-ramps that config.json announces have poolers; UnsupportedModel where there can be none."""
    if not isinstance(stated, dict) or not isinstance(stated.get("pooler"), bool):
        raise UnsupportedModel(OFFRAMPS, stated, 'an object with "pooler" true or false is needed; train them again')
    if not 2 <= architecture.layers <= MAX_EXIT_LAYERS:
        remedy = f"leaving early needs 2 to {MAX_EXIT_LAYERS} layers; take {OFFRAMPS} out of config.json"
        raise UnsupportedModel("num_hidden_layers", architecture.layers, remedy)
    if task.kind != "sequence" or task.scores != "softmax" or len(task.labels) < 2:
        found = f"{len(task.labels)} labels, kind {task.kind}, scores {task.scores}"
        raise UnsupportedModel(OFFRAMPS, found, "entropy is that of a sequence's softmax over 2 labels or more")
    return stated["pooler"]


def check_task(settings: dict) -> Task:
    """What a config.json says the model answers, or UnsupportedModel naming the field that does not fit.

    The scores are those that transformers' text-classification and token-classification pipelines choose.
    """
    named = settings.get("architectures") or ["ForSequenceClassification"]
    kind = next((kind for end, kind in _KINDS.items() if str(named[0]).endswith(end)), None)
    if kind is None:
        remedy = f"a classifier is needed ({' or '.join(_KINDS)}); fine-tune one first and save it by save_pretrained"
        raise UnsupportedModel("architectures", named, remedy)
    problem = settings.get("problem_type")
    if problem not in _PROBLEMS:
        raise UnsupportedModel("problem_type", problem, f"none of {', '.join(map(str, _PROBLEMS))}; train for one")
    labels = _labels(settings)
    scores = "softmax"
    if kind == "sequence" and problem == "regression":
        scores = "none"
    elif kind == "sequence" and (problem == "multi_label_classification" or len(labels) == 1):
        scores = "sigmoid"
    return Task(kind, scores, labels)


def _labels(settings: dict) -> list[str]:
    names = settings.get("id2label")
    if names is None:
        count = settings.get("num_labels", 2)
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_LABELS:
            raise UnsupportedModel("num_labels", count, f"needs an integer from 1 to {MAX_LABELS}; use fewer labels")
        return [f"LABEL_{i}" for i in range(count)]
    if not isinstance(names, dict) or not 1 <= len(names) <= MAX_LABELS:
        found = f"{len(names)} labels" if isinstance(names, dict) else names
        raise UnsupportedModel("id2label", found, f"a classifier has 1 to {MAX_LABELS} labels, as index: name")
    named = {str(index): str(name) for index, name in names.items()}
    labels = [named.get(str(i), "") for i in range(len(named))]
    if "" in labels or len(set(labels)) != len(labels):
        found = f"{len(named)} labels"
        raise UnsupportedModel("id2label", found, f"every index from 0 to {len(named) - 1} needs a name of its own")
    return labels
