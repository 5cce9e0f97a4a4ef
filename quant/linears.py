# SPDX-License-Identifier: Apache-2.0
"""One linear layer: from the operand it will really read and the output it should give to integers, scales and bias."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from . import fake_quant, gptq
from .checkpoint import Linear
from .pruning import SHAPE, keep
from .scales import FACTOR_MAX, FACTOR_MIN, snap_factor

# The largest weight of a row that is tried, in shares of its peak: the fewer bits, the more are clipped.
_CLIPS = {
    2: (0.6, 0.5, 0.4, 0.33, 0.27, 0.22),
    4: (1.0, 0.9, 0.8, 0.7, 0.6, 0.5),
    6: (1.0, 0.95, 0.9, 0.8),
    8: (1.0, 0.95),
}
_MIN_LIFT = 1e-6  # of the ridge
_BIAS_BITS = 24  # a bias stays below 2^24 accumulator steps, which leaves room within the 27 bits


Snap = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pruning:
    """Density of a matrix, score by which its weights are kept (pruning.py), how often each row is stored, and the
    pattern of what is kept."""

    density: float
    by: str = "contribution"
    times: np.ndarray | None = None
    pattern: str = "free"
    shape: tuple[int, int] = SHAPE  # of a block


@dataclass(frozen=True)
class Operand:
    """Integers a [rows, K] float32, real value of one step [K], channel of each entry [K], and weighted statistics."""

    a: torch.Tensor
    step: torch.Tensor
    source: torch.Tensor
    amax: int
    share: torch.Tensor  # [rows], of each row in the statistics; 1 in all

    @cached_property
    def mean(self) -> torch.Tensor:
        """[K] float64."""
        return (self.share @ self.a).double()

    @cached_property
    def covariance(self) -> torch.Tensor:
        """[K, K] float64."""
        return _covariance(self)

    @cached_property
    def variance(self) -> float:
        """Mean over the entries, without the whole covariance."""
        return float((self.share @ (self.a - self.mean.float()).square()).double().mean())


def _covariance(operand: Operand) -> torch.Tensor:
    root = (operand.a - operand.mean.float()) * operand.share.sqrt()[:, None]
    return (root.T @ root).double()


def make_operand(a: torch.Tensor, step: np.ndarray, source: np.ndarray, amax: int, share: torch.Tensor) -> Operand:
    """The operand of numpy's steps and sources."""
    return Operand(a, torch.from_numpy(step), torch.from_numpy(source), amax, share)


@dataclass(frozen=True)
class Fitted:
    """q [N, K] int8; real value of one accumulator step [N]; real bias [N]."""

    q: np.ndarray
    unit: np.ndarray
    bias: np.ndarray

    def bias_steps(self, origin: np.ndarray | float = 0.0) -> np.ndarray:
        """The bias in accumulator steps, int64 [N], for outputs counted from `origin`."""
        return np.floor((self.bias - origin) / self.unit + 0.5).astype(np.int64)


@dataclass(frozen=True)
class Matrix:
    """The weights of a linear layer that has several uses: q [N, K] int8; real value of a weight's step [N]."""

    q: np.ndarray
    step: np.ndarray


def fit(
    linear: Linear,
    operand: Operand,
    target: torch.Tensor,
    out_scale: np.ndarray,
    *,
    bits: int,
    ridge: float,
    follow: bool,
    sweeps: int,
    origin: float = 0.0,
    snap: Snap = snap_factor,
    prune: Pruning | None = None,
) -> Fitted:
    """Integer weights, scales and bias for outputs near `target` [rows, N], which one step of out_scale [N] divides.

    With `follow` the real weights are first refitted to the operand at hand, pulled to the given ones by a ridge of
    `ridge` times the mean variance; the bias makes the mean output right. Scales are such that unit/out_scale is an
    exact factor of Q2 (one that `snap` leaves as it is), so that no error is left to it, and that a bias counted from
    ±`origin` fits. With `prune` all but the weights it keeps are 0.
    """
    g = operand.covariance
    lift = max(ridge * float(g.diagonal().mean()), _MIN_LIFT)
    start = linear.weight.double()[:, operand.source] * operand.step
    mean = operand.share @ target
    w = start
    if follow:
        c = ((target - mean) * operand.share[:, None]).T @ (operand.a - operand.mean.float())
        w = gptq.regress(g, c.double(), start, lift)
    nearest = _nearest(mean, start @ operand.mean, out_scale, origin, snap)
    eye = torch.eye(len(g), dtype=g.dtype)
    kept = _kept(linear.weight[:, operand.source], g, operand.step, prune)
    q, unit = gptq.quantize_rows(w, g + lift * eye, _limit(bits), nearest, _CLIPS[bits], sweeps, kept)
    bias = mean.double().numpy() - unit * (q.double() @ operand.mean).numpy()
    return Fitted(q.numpy().astype(np.int8), unit, bias)


def fit_shared(
    linear: Linear,
    uses: Sequence[tuple[torch.Tensor, Operand]],
    *,
    ridge: float,
    follow: bool,
    sweeps: int,
    bits: int = 4,
    prune: Pruning | None = None,
) -> Matrix:
    """Integer weights for all `uses` of a matrix at once: what each multiplies in float [rows, N], and as an operand.

    Each use weighs the same, in real units and about its own mean; one mask for all of them; the rest as in `fit`.
    """
    g = sum(_covariance(o) * o.step[:, None] * o.step for _, o in uses) / len(uses)  # none kept: they are large
    lift = max(ridge * float(g.diagonal().mean()), _MIN_LIFT * float(min(o.step.min() ** 2 for _, o in uses)))
    source = uses[0][1].source
    w = start = linear.weight.double()[:, source]
    if follow:
        c = sum(
            (((x - o.share @ x) * o.share[:, None]).T @ (o.a - o.mean.float())).double() * o.step for x, o in uses
        ) / len(uses)  # [channels, K], of the float operand and the integer one
        w = gptq.regress(g, linear.weight.double() @ c, start, lift)
    eye = torch.eye(len(g), dtype=g.dtype)
    kept = _kept(linear.weight[:, source], g, torch.ones(len(source)), prune)
    q, step = gptq.quantize_rows(w, g + lift * eye, _limit(bits), lambda scale: scale, _CLIPS[bits], sweeps, kept)
    return Matrix(q.numpy().astype(np.int8), step)


def refit(
    given: Matrix,
    operand: Operand,
    target: torch.Tensor,
    out_scale: np.ndarray,
    *,
    ridge: float,
    follow: bool,
    origin: float = 0.0,
    snap: Snap = snap_factor,
) -> Fitted:
    """The weights of a shared matrix with scale and bias for one of its uses; the rest as in `fit`.

    With `follow` one scale a channel is fitted to the outputs, pulled by the ridge to what the matrix gives.
    """
    q = torch.from_numpy(given.q).float()
    acc = fake_quant.linear(q, operand.a, operand.amax)
    centre = operand.share @ acc
    mean = operand.share @ target
    nominal = given.step * float(operand.step.mean())
    unit = nominal
    if follow:
        lift = max(ridge * operand.variance, _MIN_LIFT) * q.square().sum(dim=1)
        acc = acc - centre
        shared = operand.share[:, None] * acc
        joint, own = ((shared * x).sum(dim=0).double().numpy() for x in (target - mean, acc))
        lift = lift.double().numpy()
        fitted = (joint + lift * nominal) / np.maximum(own + lift, _MIN_LIFT)
        unit = np.where(fitted > 0, fitted, nominal)
    unit = _nearest(mean, torch.from_numpy(nominal) * centre, out_scale, origin, snap)(unit)
    bias = mean.double().numpy() - unit * (q.double() @ operand.mean).numpy()
    return Fitted(given.q, unit, bias)


def _kept(w: torch.Tensor, g: torch.Tensor, step: torch.Tensor, prune: Pruning | None) -> torch.Tensor | None:
    """The mask bool [N, K] for float weights w [N, K]; g [K, K] is the covariance of operands in steps of step [K].

    What is 0 in float, pruned before, stays 0.
    """
    if prune is None:
        return None
    score = w.double().abs()
    if prune.by == "contribution":
        score = score * (g.diagonal().sqrt() * step)
    mask = keep(score.numpy(), prune.density, prune.pattern, prune.times, prune.shape)
    return torch.from_numpy(mask) & (w != 0)


def _limit(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def _nearest(mean: torch.Tensor, product: torch.Tensor, out_scale: np.ndarray, origin: float, snap: Snap) -> Snap:
    """To the nearest scales [N] that are exact factors; `mean` outputs [N], of which `product` without the bias."""
    expected_bias = (mean.abs().double() + product.abs()).numpy() + abs(origin)
    least = np.maximum(FACTOR_MIN, expected_bias * 2.0**-_BIAS_BITS / out_scale)
    most = FACTOR_MAX * 254 / 255  # the one below: the product, divided again, may come out a little larger
    return lambda scale: snap(np.clip(scale / out_scale, least, most)) * out_scale
