# SPDX-License-Identifier: Apache-2.0
"""AdaptivFloat<8,3> (Q24) for the stored word embeddings: sign, three bits of exponent, four of mantissa, and one
exponent bias for the whole table, such that its largest value has the largest exponent (Tambe et al., DAC 2020).

A code is ±2^(e + bias)·(1 + m/16); there are no denormals, and the code that would be +2^bias is 0. In steps of
2^(bias − 4) these are the integers ±(16 + m)·2^e. Pruned rows keep as many of their largest values each, so that all
rows of a table are as long. numpy only.
"""

import math
from typing import NamedTuple

import numpy as np

from .pruning import allowed
from .scales import FACTOR_MAX, FACTOR_MIN, decode_factor, encode_factor

TOP_EXPONENT, MANTISSA_BITS = 7, 4
_CODES = np.arange(128)
SIZES = np.where(_CODES == 0, 0, (16 + _CODES % 16) << (_CODES // 16))  # of the codes 0 .. 127, rising
_BETWEEN = (SIZES[1:] + SIZES[:-1]) / 2
_VALUES = np.concatenate([SIZES, -SIZES]).astype(np.int16)
_ROWS = 4096  # at a time


class WordTable(NamedTuple):
    """A table of codes uint8 [n, width] and what a step of their values is worth."""

    codes: np.ndarray
    step: float

    @property
    def peak(self) -> float:
        """The largest |value|."""
        return self.step * float(SIZES[self.codes & 127].max())


def exponent_bias(peak: float) -> int:
    """The bias of a table whose largest |value| is `peak`: 2^(7 + bias) ≤ peak < 2^(8 + bias); of zeros 0.

    >>> exponent_bias(1.0), exponent_bias(0.99), exponent_bias(3.0)
    (-7, -8, -6)
    """
    if not math.isfinite(peak) or peak < 0:
        raise ValueError(f"the largest value of a table is {peak}, no number to quantize")
    return math.frexp(peak)[1] - 1 - TOP_EXPONENT if peak else 0


def encode(x: np.ndarray, bias: int) -> np.ndarray:
    """(Q24) Real numbers of any shape → the codes uint8 of the nearest values, beyond the largest that one.

    Ties go to the larger size, that between 0 and ±17 included.

    >>> encode(np.array([0.0, 8.4, 8.5, -17, 31.5, 63, 1e9]) * 2.0**-4, 0).tolist()
    [0, 0, 1, 129, 16, 32, 127]
    """
    steps = np.abs(np.asarray(x, np.float64)) * 2.0 ** (MANTISSA_BITS - bias)
    if not np.isfinite(steps).all():
        raise ValueError("AdaptivFloat: a value is not finite")
    size = np.searchsorted(_BETWEEN, steps, side="right").astype(np.uint8)
    return np.where((np.asarray(x) < 0) & (size > 0), size + np.uint8(128), size).astype(np.uint8)


def values(codes: np.ndarray) -> np.ndarray:
    """(Q24) Codes uint8 of any shape → values int16 in steps of 2^(bias − 4); 0 for 0 and 128."""
    return _VALUES[codes]


def canonical(codes: np.ndarray) -> np.ndarray:
    """Codes with one form of zero: 128 becomes 0."""
    return np.where(codes == 128, 0, codes).astype(np.uint8)


def keep_largest_of_rows(rows: np.ndarray, density: float) -> np.ndarray:
    """Mask bool [n, width]: the ⌊density·width⌋ largest |values| of each row, of equal ones those that come first."""
    kept = allowed(density, rows.shape[1])
    mask = np.zeros(rows.shape, bool)
    order = np.argsort(-np.abs(rows), axis=1, kind="stable")[:, :kept]
    np.put_along_axis(mask, order, True, axis=1)
    return mask


def encode_table(rows: np.ndarray, density: float = 1.0) -> WordTable:
    """Float rows [n, width], pruned to `density` row by row. Raises ValueError for a value that is not finite."""
    bias = exponent_bias(float(np.abs(rows).max()))
    codes = np.zeros(rows.shape, np.uint8)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        mask = keep_largest_of_rows(part, density)
        codes[start : start + _ROWS] = encode(np.where(mask, part, 0), bias)
    return WordTable(codes, 2.0 ** (bias - MANTISSA_BITS))


def fitting_grid(step: float, least: float) -> float:
    """The finest grid of the embedding sum, `least` or coarser, on which the factor of the table is exact (Q2)."""
    f = step / least
    if f < FACTOR_MIN:  # a table of (nearly) nothing beside the others: a dead factor
        return least
    m, s = (int(part) for part in encode_factor(min(f, FACTOR_MAX)))
    if m * 2.0**-s > f:
        m, s = (m - 1, s) if m > 128 else (255, s + 1)
    return max(least, step / float(decode_factor(m, s)))


def factor(step: float, grid: float) -> np.ndarray:
    """(Q2) (m, s) int32 [2] of a table on the grid of the embedding sum."""
    return np.array(encode_factor(step / grid), np.int32)
