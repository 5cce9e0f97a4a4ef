# SPDX-License-Identifier: Apache-2.0
"""Which weights of a float model that is trained are held at zero.

Of each encoder matrix [N, K] stay its ⌊density·N·K⌋ weights of the largest score. The score is "magnitude", |w| (Han et
al., arXiv 1506.02626), or "movement", S (Sanh et al., arXiv 2005.07683): learnt through w' = w·M(S), M the mask, taken
as if it were S itself: dL/dS = w·dL/dw', so that S gathers −w·dL/dw' and the weights that move away from zero stay.
Weights of a head that is gone (rows of q, k, v, columns of o) stay in no case: a matrix has fewer than its density
allows where those that serve a head are fewer.
"""

import dataclasses
from typing import Any

import numpy as np
import torch

from .checkpoint import Layer, Linear, ModelWeights
from .pruning import allowed, keep_largest
from .student import MATRICES
from .training import Parameters

METHODS = ("magnitude", "movement")


class _MaskedWeight(torch.autograd.Function):
    """w·mask [N, K]; w gets the gradient where the mask is, the scores get w times it everywhere."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        weight, mask = ctx.saved_tensors
        return grad * mask, grad * weight, None


class Masks:
    """The masks of a student's matrices, which begin with every weight. `scores` are parameters (movement alone)."""

    def __init__(self, matrices: Parameters, method: str):
        """matrices: [N, K] by name, "layers.0.q" (student.Student.matrices)."""
        self.matrices = matrices
        self.masks = {name: torch.ones_like(w, dtype=torch.bool) for name, w in matrices.items()}
        self.scores: Parameters = {}
        if method == "movement":
            self.scores = {f"scores.{n}": torch.zeros_like(w).requires_grad_() for n, w in matrices.items()}

    def choose(self, density: float, gone: torch.Tensor) -> None:
        """New masks of `density`; gone: bool [layers, heads]. By magnitude, what is pruned becomes 0 for good."""
        for name, weight in self.matrices.items():
            score = self.scores[f"scores.{name}"] if self.scores else weight.abs()
            self.masks[name] = largest(score.detach(), density, serving(name, weight, gone))
        self.hold()

    @torch.no_grad()
    def hold(self) -> None:
        """By magnitude: pruned weights are 0 again after a step moved them."""
        if not self.scores:
            self.bake()

    @torch.no_grad()
    def bake(self) -> None:
        """The matrices themselves with their pruned weights at 0."""
        for name, weight in self.matrices.items():
            weight *= self.masks[name]

    def applied(self, weights: ModelWeights, learnt: bool) -> ModelWeights:
        """The model as it runs, by movement with masked matrices; `learnt` says whether its scores get gradients."""
        if not self.scores:
            return weights

        def masked(name: str, linear: Linear) -> Linear:
            scores, mask = self.scores[f"scores.{name}"], self.masks[name]
            weight = _MaskedWeight.apply(linear.weight, scores, mask) if learnt else linear.weight * mask
            return Linear(weight, linear.bias)

        def of_layer(i: int, layer: Layer) -> Layer:
            return dataclasses.replace(layer, **{p: masked(f"layers.{i}.{p}", getattr(layer, p)) for p in MATRICES})

        return dataclasses.replace(weights, layers=[of_layer(i, layer) for i, layer in enumerate(weights.layers)])

    def densities(self) -> dict[str, float]:
        """Share of each matrix's weights that stay."""
        return {name: round(float(mask.double().mean()), 6) for name, mask in self.masks.items()}

    def density(self) -> float:
        """Share of all of their weights that stay."""
        kept, every = (sum(int(f(mask)) for mask in self.masks.values()) for f in (torch.sum, torch.numel))
        return round(kept / every, 6)


def largest(score: torch.Tensor, density: float, serves: torch.Tensor) -> torch.Tensor:
    """Mask bool [N, K]: True for ⌊density·N·K⌋ of the largest scores among those that serve (bool [N, K])."""
    if int(serves.sum()) <= allowed(density, score.numel()):
        return serves
    ranked = score.masked_fill(~serves, -torch.inf).cpu().numpy()
    return torch.from_numpy(keep_largest(ranked.astype(np.float32), density)).to(score.device)


def serving(name: str, weight: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
    """Bool, of the weight's shape [N, K]: whether it takes part in a head that is left; gone: bool [layers, heads]."""
    _, layer, part = name.split(".")
    serves = torch.ones_like(weight, dtype=torch.bool)
    if part in ("q", "k", "v", "o"):
        left = ~gone[int(layer)].to(weight.device)  # [heads]
        channels = left.repeat_interleave(weight.shape[part == "o"] // len(left))
        serves &= channels if part == "o" else channels[:, None]
    return serves
