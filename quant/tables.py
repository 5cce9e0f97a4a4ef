# SPDX-License-Identifier: Apache-2.0
"""The 256-entry tables of Q11 and Q15, made in double precision; no entry lies near enough to a tie to matter."""

import math
from dataclasses import dataclass

import numpy as np

from .scales import round_half_up

SCORE_STEP = math.log(510) / 255
GELU_MIN = 0.17  # gelu(x) > −0.17; the tanh form is below it by 0.00004, far less than a step
CONTEXT_STEP = 2.0**-8  # of u in Q17


@dataclass(frozen=True)
class GeluEntries:
    """The output channels of ffn1 (Q11), each [Σ e]: input channel, table or direct, input that codes 0, its step."""

    source: np.ndarray
    is_table: np.ndarray
    origin: np.ndarray
    step: np.ndarray


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

    def entries(self, e: np.ndarray) -> GeluEntries:
        """For e[c] ≥ 1 entries of each channel: its table, then the direct ones."""
        source = np.repeat(np.arange(len(e)), e)
        entry = np.arange(len(source)) - (np.cumsum(e) - e)[source]
        is_table = entry == 0
        origin = np.where(is_table, self.zero, self.x_hi + (entry - 1) * 255 * self.scale)
        return GeluEntries(source, is_table, origin, np.where(is_table, self.step, self.scale))


def exp_table() -> np.ndarray:
    """(Q15) uint8 [256]: round(255·exp(−d·ln(510)/255)), the last 0."""
    table = round_half_up(255 * np.exp(-np.arange(256) * SCORE_STEP))
    table[255] = 0
    return table.astype(np.uint8)


def gelu(x: np.ndarray, form: str = "gelu") -> np.ndarray:
    """x·Φ(x) in double precision, or with `form` "gelu_new" its approximation by tanh."""
    x = np.asarray(x, np.float64)
    if form == "gelu_new":
        return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * 0.5 * np.array([math.erfc(-v / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape)


def gelu_table(coding: GeluCoding, form: str = "gelu") -> np.ndarray:
    """(Q11) uint8 [256] of codes, entry i + 128 for index i; `form` as `gelu` takes it."""
    x = coding.zero + np.arange(-128, 128) * coding.step
    return np.clip(round_half_up(gelu(x, form) / coding.scale) + coding.zp, 0, 255).astype(np.uint8)


def tanh_table(step: float) -> np.ndarray:
    """(Q11) int8 [256], ±127 for ±1: entry i + 128 for an input of i·step."""
    return round_half_up(127 * np.tanh(np.arange(-128, 128) * step)).astype(np.int8)
