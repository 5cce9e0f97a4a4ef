# SPDX-License-Identifier: Apache-2.0
"""The 256-entry tables of Q11 and Q15, made in double precision; no entry lies near enough to a tie to matter."""

import math
from dataclasses import dataclass

import numpy as np

from .scales import round_half_up

SCORE_STEP = math.log(510) / 255
GELU_MIN = 0.17  # gelu(x) > −0.17
CONTEXT_STEP = 2.0**-8  # of u in Q17


@dataclass(frozen=True)
class GeluCoding:
    """Input x = x_hi − (127 − i)·step; output code·scale − zp·scale, where code 255 is x_hi (Q11)."""

    step: float
    scale: float

    @property
    def zp(self) -> int:
        return round(GELU_MIN / self.scale)

    @property
    def x_hi(self) -> float:
        """Where the table ends and direct entries begin."""
        return (255 - self.zp) * self.scale

    @property
    def zero(self) -> float:
        """The x of i = 0."""
        return self.x_hi - 127 * self.step


def exp_table() -> np.ndarray:
    """(Q15) uint8 [256]: round(255·exp(−d·ln(510)/255)), the last 0."""
    table = round_half_up(255 * np.exp(-np.arange(256) * SCORE_STEP))
    table[255] = 0
    return table.astype(np.uint8)


def gelu(x: np.ndarray) -> np.ndarray:
    """x·Φ(x) in double precision."""
    x = np.asarray(x, np.float64)
    return x * 0.5 * np.array([math.erfc(-v / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape)


def gelu_table(coding: GeluCoding) -> np.ndarray:
    """(Q11) uint8 [256] of codes, entry i + 128 for index i."""
    x = coding.zero + np.arange(-128, 128) * coding.step
    return np.clip(round_half_up(gelu(x) / coding.scale) + coding.zp, 0, 255).astype(np.uint8)


def tanh_table(step: float) -> np.ndarray:
    """(Q11) int8 [256], ±127 for ±1: entry i + 128 for an input of i·step."""
    return round_half_up(127 * np.tanh(np.arange(-128, 128) * step)).astype(np.int8)
