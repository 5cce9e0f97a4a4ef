# SPDX-License-Identifier: Apache-2.0
"""One linear layer: from the operand it will really read and the output it should give to integers, scales and bias."""

from dataclasses import dataclass

import numpy as np
import torch

from . import gptq
from .checkpoint import Linear
from .packing import LIMIT
from .scales import FACTOR_MAX, FACTOR_MIN, snap_factor

_CLIPS = {4: (1.0, 0.9, 0.8, 0.7, 0.6, 0.5), 8: (1.0, 0.95)}
_BIAS_BITS = 24  # a bias stays below 2^24 accumulator steps, which leaves room within the 27 bits


@dataclass(frozen=True)
class Operand:
    """Integers a [rows, K] float32, real value of one step [K], channel of each entry [K], and weighted statistics."""

    a: torch.Tensor
    step: torch.Tensor
    source: torch.Tensor
    amax: int
    share: torch.Tensor  # [rows], of each row in the statistics; 1 in all
    mean: torch.Tensor  # [K]
    covariance: torch.Tensor  # [K, K] float64


def make_operand(a: torch.Tensor, step: np.ndarray, source: np.ndarray, amax: int, share: torch.Tensor) -> Operand:
    """The operand with its statistics."""
    mean = share @ a
    root = (a - mean) * share.sqrt()[:, None]
    covariance = (root.T @ root).double()
    return Operand(a, torch.from_numpy(step), torch.from_numpy(source), amax, share, mean.double(), covariance)


@dataclass(frozen=True)
class Fitted:
    """q [N, K] int8; real value of one accumulator step [N]; real bias [N]."""

    q: np.ndarray
    unit: np.ndarray
    bias: np.ndarray

    def bias_steps(self, origin: np.ndarray | float = 0.0) -> np.ndarray:
        """The bias in accumulator steps, int64 [N], for outputs counted from `origin`."""
        return np.floor((self.bias - origin) / self.unit + 0.5).astype(np.int64)


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
) -> Fitted:
    """Integer weights, scales and bias for outputs near `target` [rows, N], which one step of out_scale [N] divides.

    With `follow` the real weights are first refitted to the operand at hand, pulled to the given ones by a ridge of
    `ridge` times the mean variance; the bias makes the mean output right. Scales are such that unit/out_scale is an
    exact factor of Q2, so that no error is left to it, and that a bias counted from ±`origin` fits.
    """
    g = operand.covariance
    lift = max(ridge * float(g.diagonal().mean()), 1e-6)
    start = linear.weight.double()[:, operand.source] * operand.step
    mean = operand.share @ target
    w = start
    if follow:
        c = ((target - mean) * operand.share[:, None]).T @ (operand.a - operand.mean.float())
        w = gptq.regress(g, c.double(), start, lift)
    expected_bias = (mean.abs().double() + (start @ operand.mean).abs()).numpy() + abs(origin)
    least = np.maximum(FACTOR_MIN, expected_bias * 2.0**-_BIAS_BITS / out_scale)

    def snap(scale: np.ndarray) -> np.ndarray:
        return snap_factor(np.clip(scale / out_scale, least, FACTOR_MAX)) * out_scale

    eye = torch.eye(len(g), dtype=g.dtype)
    q, unit = gptq.quantize_rows(w, g + lift * eye, LIMIT[bits], snap, _CLIPS[bits], sweeps)
    bias = mean.double().numpy() - unit * (q.double() @ operand.mean).numpy()
    return Fitted(q.numpy().astype(np.int8), unit, bias)
