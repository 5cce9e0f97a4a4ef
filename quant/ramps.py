# SPDX-License-Identifier: Apache-2.0
"""A classifier after every layer but the last: what off-ramps (offramps.py) compute and how their answers are judged.

Ramp i reads the [CLS] row y of layer i's output: logits = W·y + b, or with a pooler W·tanh(P·y + p) + b.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import linear

from .distillation import distillation_loss
from .finetune import score
from .training import Parameters


class Ramps:
    """The ramps' `parameters`: "{i}.weight" [labels, hidden], "{i}.bias" [labels], with a pooler "{i}.pooler.weight"
    [hidden, hidden], "{i}.pooler.bias" [hidden]; a shared one is the same tensor under each name."""

    def __init__(self, parameters: Parameters, pooler: bool):
        self.parameters, self.pooler = parameters, pooler

    @classmethod
    def new(
        cls,
        layers: int,
        hidden: int,
        labels: int,
        *,
        pooler: bool = False,
        shared: bool = False,
        device: torch.device | str = "cpu",
    ) -> "Ramps":
        """Ramps of a model of so many layers that favour no label; poolers drawn by torch's seed."""
        made: list[Parameters] = []
        for i in range(layers - 1):
            made.append(made[0] if shared and i else _new_ramp(hidden, labels, pooler, device))
        return cls({f"{i}.{name}": tensor for i, own in enumerate(made) for name, tensor in own.items()}, pooler)

    @property
    def trained(self) -> Parameters:
        """Each tensor once, under its first name."""
        names: dict[int, str] = {}
        for name, tensor in self.parameters.items():
            names.setdefault(id(tensor), name)
        return {name: self.parameters[name] for name in names.values()}

    def logits(self, i: int, first: torch.Tensor) -> torch.Tensor:
        """Ramp i: [CLS] rows [sentences, hidden] → [sentences, labels]."""
        if self.pooler:
            pooler = (self.parameters[f"{i}.pooler.{part}"] for part in ("weight", "bias"))
            first = torch.tanh(linear(first, *pooler))
        return linear(first, self.parameters[f"{i}.weight"], self.parameters[f"{i}.bias"])

    def all_logits(self, first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """[CLS] rows [sentences, layers, hidden] and the last layer's logits → [sentences, layers, labels]."""
        ramps = [self.logits(i, first[:, i]) for i in range(first.shape[1] - 1)]
        return torch.stack([*ramps, last], dim=1)

    def loss(
        self,
        first: Sequence[torch.Tensor],
        target: torch.Tensor,
        wanted: torch.Tensor,
        distillation: float,
        temperature: float,
    ) -> torch.Tensor:
        """Sum over the ramps of their loss (distillation.distillation_loss) on labels and `wanted` logits; first:
        [CLS] rows [sentences, hidden] of each layer."""
        own = [self.logits(i, rows) for i, rows in enumerate(first[:-1])]
        return torch.stack([distillation_loss(x, target, wanted, distillation, temperature) for x in own]).sum()


def _new_ramp(hidden: int, labels: int, pooler: bool, device: torch.device | str) -> Parameters:
    made = {"weight": torch.zeros(labels, hidden), "bias": torch.zeros(labels)}
    if pooler:
        made |= {"pooler.weight": torch.randn(hidden, hidden) / hidden**0.5, "pooler.bias": torch.zeros(hidden)}
    return {name: tensor.to(device).requires_grad_() for name, tensor in made.items()}


def layer_accuracy(logits: torch.Tensor, labels: Sequence[int]) -> list[float]:
    """Share of right answers after each layer: logits [sentences, layers, labels]."""
    return [score(logits[:, i], labels)["accuracy"] for i in range(logits.shape[1])]


def on_dev(ramps: Ramps, first: torch.Tensor, last: torch.Tensor, labels: Sequence[int]) -> dict:
    """Figures of the last layer's answers, and the accuracy of all `layers`; arguments as of Ramps.all_logits."""
    with torch.no_grad():
        layers = layer_accuracy(ramps.all_logits(first, last), labels)
    found = score(last, labels)
    mean = round(sum(layers) / len(layers), 6)
    return {"dev_loss": found["loss"], "dev_accuracy": found["accuracy"], "mean_accuracy": mean, "layers": layers}
