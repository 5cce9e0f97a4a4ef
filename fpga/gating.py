# SPDX-License-Identifier: Apache-2.0
"""Cell-steps of the MAC array that zeros among its operands spare (docs/mac-array.md), as rtl/mac_cell.sv enables them.

A cell-step is one step of one cell, a row and column pair. It is gated where the pair's weights are all zero or the
activation is, but for a tile's first step, which loads P. Columns and rows that a tile has not are zero.
"""

import numpy as np

from .instructions import LANES


def zero_products(
    weights: np.ndarray, activations: np.ndarray, w8: bool, columns: int, rows: int = LANES
) -> tuple[int, int]:
    """Cell-steps of weights [N, K] times activations [M, K] on an array of `rows` by `columns` (C), and the gated ones.

    weights: int4 values (w4, two channels of a tile a cell) or int8 ones (w8, one a cell), as stored; activations: int8
    or uint8 values as the array takes them. N is cut into tiles of C columns (w8: C / 2), M into blocks of `rows`.
    Raises ValueError where the two have not the same K.

    >>> zero_products(np.array([[1, 0, 0, 2], [0, 0, 3, 0]]), np.array([[5, 5, 0, 5]]), False, columns=2, rows=1)
    (4, 2)
    """
    weights, activations = np.asarray(weights), np.asarray(activations)
    (n, k), (m, k_operand) = weights.shape, activations.shape
    if k != k_operand:
        raise ValueError(f"weights have {k} entries a channel, activations {k_operand} a row: must be the same")
    pairs = columns // 2
    tiles, blocks = -(-n // (pairs if w8 else columns)), -(-m // rows)
    used = weights != 0  # [N, K]
    if not w8:
        used = np.concatenate([used, np.zeros((n % 2, k), dtype=bool)])
        used = used[0::2] | used[1::2]  # [ceil(N / 2), K]: a tile has a whole number of pairs
    steps = tiles * blocks * pairs * rows
    multiply = used.sum(axis=0, dtype=np.int64) * (activations != 0).sum(axis=0, dtype=np.int64)  # [K]
    enabled = steps + int(multiply[1:].sum())
    return steps * k, steps * k - enabled
