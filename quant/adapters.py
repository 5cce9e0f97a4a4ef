# SPDX-License-Identifier: Apache-2.0
"""Bottleneck adapters over a frozen backbone: what a task has of its own (Houlsby et al., arXiv 1902.00751;
adapter-ALBERT, arXiv 2303.16100).

Behind each of a layer's two branches stands an adapter, h + up·act(down·h + d) + u, before the residual is added. With
them a task has layer norms and a classifier. All places that share a layer's matrices share its norms, and with
`shared` the adapters too. Everything else is the backbone's, one for all tasks.
"""

from dataclasses import dataclass, replace

import torch

from .checkpoint import Adapter, Layer, Linear, ModelWeights, Norm
from .float_model import ACTIVATIONS
from .training import Parameters

PLACES = ("attention_adapter", "ffn_adapter")
NORMS = ("attention_norm", "ffn_norm")
_SMALL = 1e-2  # standard deviation of new matrices: an adapter begins as nearly nothing


@dataclass(frozen=True)
class Adapting:
    """`width` of the bottleneck, its `activation`, and whether all layers that share matrices share adapters too."""

    width: int = 32
    activation: str = "relu"
    shared: bool = True


def owners(weights: ModelWeights, shared: bool) -> list[int]:
    """For each place the first one that has the same adapters: places of one matrix if `shared`, else itself."""
    places = weights.architecture.weights
    return list(places) if shared else list(range(len(places)))


def new_task(weights: ModelWeights, labels: int, settings: Adapting, seed: int) -> Parameters:
    """A task that changes next to nothing yet: "layers.0.ffn_adapter.down.weight" and so on, "layers.0.ffn_norm.gamma"
    of each layer that has matrices, "classifier.weight" [labels, hidden]. Norms begin as the backbone's.

    Raises ValueError for an activation that is none of ACTIVATIONS.
    """
    if settings.activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"adapters.activation {settings.activation!r} is none of {known}")
    random = torch.Generator().manual_seed(seed)
    hidden, device = weights.architecture.hidden, weights.word.device
    made: Parameters = {}

    def drawn(*shape: int) -> torch.Tensor:
        return _SMALL * torch.randn(*shape, generator=random).clamp(-2, 2)

    for i in sorted(set(owners(weights, settings.shared))):
        for place in PLACES:
            # `up` alone is small, so that it learns from a bottleneck that says something from the first step on
            made[f"layers.{i}.{place}.down.weight"] = drawn(settings.width, hidden) / (_SMALL * hidden**0.5)
            made[f"layers.{i}.{place}.down.bias"] = torch.zeros(settings.width)
            made[f"layers.{i}.{place}.up.weight"] = drawn(hidden, settings.width)
            made[f"layers.{i}.{place}.up.bias"] = torch.zeros(hidden)
    for i in sorted(set(weights.architecture.weights)):
        for name in NORMS:
            norm: Norm = getattr(weights.layers[i], name)
            made |= {f"layers.{i}.{name}.gamma": norm.gamma, f"layers.{i}.{name}.beta": norm.beta}
    made |= {"classifier.weight": drawn(labels, hidden), "classifier.bias": torch.zeros(labels)}
    return {name: tensor.detach().clone().to(device).requires_grad_() for name, tensor in made.items()}


def with_task(weights: ModelWeights, task: Parameters, settings: Adapting) -> ModelWeights:
    """The backbone with a task's adapters, norms and classifier in place; the tensors are the task's own."""
    of = owners(weights, settings.shared)

    def linear(name: str) -> Linear:
        return Linear(task[f"{name}.weight"], task[f"{name}.bias"])

    layers: list[Layer] = []
    for i, layer in enumerate(weights.layers):
        first = weights.architecture.weights[i]
        norms = {n: Norm(task[f"layers.{first}.{n}.gamma"], task[f"layers.{first}.{n}.beta"]) for n in NORMS}
        at = f"layers.{of[i]}"
        adapters = {
            place: Adapter(linear(f"{at}.{place}.down"), linear(f"{at}.{place}.up"), settings.activation)
            for place in PLACES
        }
        layers.append(replace(layer, **norms, **adapters))
    return replace(weights, layers=layers, classifier=linear("classifier"), ramps=[])
