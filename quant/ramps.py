# SPDX-License-Identifier: Apache-2.0
"""A classifier after every layer but the last: what off-ramps (offramps.py) compute and how their answers are judged.

Ramp i reads the [CLS] row y of layer i's output: logits = W·y + b, or with a pooler W·tanh(P·y + p) + b.

While it is trained it reads (y − μ)/σ instead, mean and deviation of each channel over some train texts: early in the
encoder [CLS] rows hardly differ from text to text beside what they have in common, and no classifier finds what does
in a few hundred steps. Afterwards both are folded into W and b, or P and p.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import linear

from .distillation import distillation_loss
from .finetune import score
from .training import Parameters

SCALING_SENTENCES = 512  # train texts that μ and σ are of
# Every channel is taken to vary by this share of the rows' root mean square at least: int8 operands lose what varies by
# less, and a classifier that lives on it answers in float alone.
_LEAST = 1 / 16


class Ramps:
    """The ramps' `parameters`: "{i}.weight" [labels, hidden], "{i}.bias" [labels], with a pooler "{i}.pooler.weight"
    [hidden, hidden], "{i}.pooler.bias" [hidden]; a shared one is the same tensor under each name. `scaling` is μ and σ,
    each [layers − 1, hidden], where they are not folded in."""

    def __init__(self, parameters: Parameters, pooler: bool, scaling: tuple[torch.Tensor, torch.Tensor] | None = None):
        self.parameters, self.pooler, self.scaling = parameters, pooler, scaling

    @classmethod
    def new(cls, first: torch.Tensor, labels: int, *, pooler: bool = False, shared: bool = False) -> "Ramps":
        """Ramps to be trained that favour no label; poolers drawn by torch's seed.

        first: [CLS] rows of some train texts [sentences, layers, hidden]; a shared ramp has one μ and σ for all layers.
        """
        seen = first[:, :-1]
        over = (0, 1) if shared else (0,)
        mean, deviation = (f(dim=over, keepdim=True)[0].expand(seen.shape[1:]) for f in (seen.mean, seen.std))
        size = seen.square().mean(dim=(0, 1, 2) if shared else (0, 2), keepdim=True)[0].sqrt()
        deviation = torch.maximum(deviation, _LEAST * size).clamp(min=1e-6)
        made: list[Parameters] = []
        for i in range(seen.shape[1]):
            made.append(made[0] if shared and i else _new_ramp(seen.shape[2], labels, pooler, first.device))
        parameters = {f"{i}.{name}": tensor for i, own in enumerate(made) for name, tensor in own.items()}
        return cls(parameters, pooler, (mean, deviation))

    @property
    def trained(self) -> Parameters:
        """Each tensor once, under its first name."""
        names: dict[int, str] = {}
        for name, tensor in self.parameters.items():
            names.setdefault(id(tensor), name)
        return {name: self.parameters[name] for name in names.values()}

    def logits(self, i: int, first: torch.Tensor) -> torch.Tensor:
        """Ramp i: [CLS] rows [sentences, hidden] → [sentences, labels]."""
        if self.scaling is not None:
            mean, deviation = self.scaling
            first = (first - mean[i]) / deviation[i]
        if self.pooler:
            pooler = (self.parameters[f"{i}.pooler.{part}"] for part in ("weight", "bias"))
            first = torch.tanh(linear(first, *pooler))
        return linear(first, self.parameters[f"{i}.weight"], self.parameters[f"{i}.bias"])

    def folded(self) -> "Ramps":
        """The same ramps for rows as they are: W/σ and b − W·μ/σ, or so of the poolers."""
        found = {name: tensor.detach().clone() for name, tensor in self.parameters.items()}
        if self.scaling is not None:
            for i, (mean, deviation) in enumerate(zip(*self.scaling, strict=True)):
                at = f"{i}.pooler." if self.pooler else f"{i}."
                found[f"{at}weight"] /= deviation
                found[f"{at}bias"] -= found[f"{at}weight"] @ mean
        return Ramps(found, self.pooler)

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
