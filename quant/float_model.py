# SPDX-License-Identifier: Apache-2.0
"""The float model, layer by layer, on flat token rows: what calibration watches and the integers are compared with.

Taps carry the names of the golden model's trace; each is the real value that the integers of that name stand for.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import gelu, layer_norm, linear, relu, silu

from .band import unseen
from .batch import Batch
from .checkpoint import Adapter, Layer, Linear, ModelWeights, Norm

Tap = Callable[[str, torch.Tensor], None]


def no_tap(name: str, value: torch.Tensor) -> None:
    """The tap that drops everything."""


def apply(layer: Linear, x: torch.Tensor) -> torch.Tensor:
    """x [rows, K] → [rows, N]."""
    return linear(x, layer.weight, layer.bias)


def normalise(norm: Norm, x: torch.Tensor, eps: float) -> torch.Tensor:
    """Layer norm of x [rows, channels]."""
    return layer_norm(x, x.shape[-1:], norm.gamma, norm.beta, eps)


def embedding_sum(weights: ModelWeights, batch: Batch) -> torch.Tensor:
    """Word, position and type embeddings added, [rows, embedding]."""
    return weights.word[batch.ids] + weights.position[batch.position] + weights.type[batch.type]


def activate(x: torch.Tensor, activation: str) -> torch.Tensor:
    """GELU: the exact one ("gelu"), or its tanh form ("gelu_new")."""
    return gelu(x, approximate="tanh" if activation == "gelu_new" else "none")


ACTIVATIONS = {
    "relu": relu,
    "silu": silu,
    "tanh": torch.tanh,
    "gelu": gelu,
    "gelu_new": lambda x: gelu(x, approximate="tanh"),
}  # of adapters, which a table holds


def adapt(adapter: Adapter | None, h: torch.Tensor, tap: Tap = no_tap, at: str = "") -> torch.Tensor:
    """What a branch's output h [rows, hidden] becomes."""
    if adapter is None:
        return h
    tap(f"{at}.h", h)
    z = apply(adapter.down, h)
    tap(f"{at}.z", z)
    narrow = ACTIVATIONS[adapter.activation](z)
    tap(f"{at}.down", narrow)
    return h + apply(adapter.up, narrow)


def _add(adapter: Adapter | None, h: torch.Tensor, y: torch.Tensor, tap: Tap, branch: str, at: str) -> torch.Tensor:
    """The residual y and what a branch gives, by way of its adapter."""
    tap(f"{branch}.x", h + y)
    x = adapt(adapter, h, tap, at) + y
    if adapter is not None:
        tap(f"{at}.x", x)
    return x


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    batch: Batch,
    head_width: int,
    spans: Sequence[int] | None = None,
) -> torch.Tensor:
    """q, k, v [rows, heads · head width] → context, of the same shape; a row sees its own sentence.

    spans [heads]: and of that no more than |i − j| < span (Q23).
    """
    context = torch.empty_like(v)
    for rows in batch.groups():  # [sentences, length]
        shape = (*rows.shape, -1, head_width)
        qs, ks, vs = (x[rows].view(shape).transpose(1, 2) for x in (q, k, v))  # [sentences, heads, length, d]
        scores = qs @ ks.mT / math.sqrt(head_width)
        if spans is not None:
            scores = scores.masked_fill(unseen(rows.shape[1], spans, q.device), -math.inf)
        weights = torch.softmax(scores, dim=-1)
        context[rows] = (weights @ vs).transpose(1, 2).flatten(2)
    return context


def encoder_layer(weights: ModelWeights, i: int, y: torch.Tensor, batch: Batch, tap: Tap = no_tap) -> torch.Tensor:
    """Layer i: y [rows, hidden], what comes before it → the output of its last norm."""
    layer: Layer = weights.layers[i]
    eps = weights.architecture.eps
    at = f"layers.{i}"
    q, k, v = (apply(getattr(layer, name), y) for name in "qkv")
    tap(f"{at}.q", q), tap(f"{at}.k", k), tap(f"{at}.v", v)
    a = weights.architecture
    context = attention(q, k, v, batch, a.head_width, a.spans and a.spans[i])
    tap(f"{at}.context", context)
    x = _add(layer.attention_adapter, apply(layer.o, context), y, tap, f"{at}.o", f"{at}.attention_adapter")
    y = normalise(layer.attention_norm, x, eps)
    tap(f"{at}.attention_norm.y", y)
    z = apply(layer.ffn1, y)
    tap(f"{at}.ffn1.z", z)
    a = activate(z, weights.architecture.activation)
    tap(f"{at}.ffn1", a)
    x = _add(layer.ffn_adapter, apply(layer.ffn2, a), y, tap, f"{at}.ffn2", f"{at}.ffn_adapter")
    y = normalise(layer.ffn_norm, x, eps)
    tap(f"{at}.ffn_norm.y", y)
    return y


def head(weights: ModelWeights, y: torch.Tensor, tap: Tap = no_tap) -> torch.Tensor:
    """y [rows, hidden] → logits [rows, labels]; the rows are the [CLS] ones, or all where every token has an answer."""
    return _classify(weights.pooler, weights.classifier, y, tap, "")


def off_ramp(weights: ModelWeights, i: int, y: torch.Tensor, tap: Tap = no_tap) -> torch.Tensor:
    """The off-ramp behind layer i: the [CLS] rows y [sentences, hidden] → logits [sentences, labels]."""
    ramp = weights.ramps[i]
    return _classify(ramp.pooler, ramp.classifier, y, tap, f"exits.{i}.")


def _classify(pooler: Linear | None, classifier: Linear, y: torch.Tensor, tap: Tap, at: str) -> torch.Tensor:
    if pooler is not None or at:
        tap(f"{at}gathered", y)
    if pooler is not None:
        z = apply(pooler, y)
        tap(f"{at}pooler.z", z)
        y = torch.tanh(z)
        tap(f"{at}pooler", y)
    logits = apply(classifier, y)
    tap(f"{at}logits", logits)
    return logits


@torch.inference_mode()
def forward(weights: ModelWeights, batch: Batch, tap: Tap = no_tap) -> torch.Tensor:
    """The whole model → logits [sentences, labels], or [rows, labels] where every token has an answer.

    The off-ramps, where there are any, are for the tap alone.
    """
    return _forward(weights, batch, tap)[-1]


@torch.inference_mode()
def every_ramp(weights: ModelWeights, batch: Batch) -> torch.Tensor:
    """Logits [sentences, layers, labels] of all off-ramps, the model's own answer last."""
    return torch.stack(_forward(weights, batch, no_tap), dim=1)


def _forward(weights: ModelWeights, batch: Batch, tap: Tap) -> list[torch.Tensor]:
    x = embedding_sum(weights, batch)
    tap("embeddings.sum", x)
    y = normalise(weights.embedding_norm, x, weights.architecture.eps)
    tap("embeddings.norm.y", y)
    if weights.mapping is not None:
        y = apply(weights.mapping, y)
        tap("mapping.x", y)
    logits = []
    for i in range(weights.architecture.layers):
        y = encoder_layer(weights, i, y, batch, tap)
        if i < len(weights.ramps):
            logits.append(off_ramp(weights, i, y[batch.first], tap))
    return [*logits, head(weights, y if weights.pooler is None else y[batch.first], tap)]
