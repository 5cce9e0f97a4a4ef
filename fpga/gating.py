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
    used = _pairs_used(weights, w8)
    steps = tiles * blocks * pairs * rows
    multiply = used.sum(axis=0, dtype=np.int64) * (activations != 0).sum(axis=0, dtype=np.int64)  # [K]
    enabled = steps + int(multiply[1:].sum())
    return steps * k, steps * k - enabled


def zero_choices(
    weights: np.ndarray, taken: np.ndarray, activations: np.ndarray, w8: bool, columns: int, rows: int = LANES
) -> tuple[int, int]:
    """The same of one column tile whose pairs choose: in step s pair p of `columns` / 2 multiplies entry taken[p, s].

    weights [N, S] are the steps', N at most a tile; activations [M, K].

    >>> w, a = np.array([[1, 2], [0, 0], [0, 3], [0, 0]]), np.array([[5, 0, 0, 7]])
    >>> zero_choices(w, np.array([[0, 3], [0, 1]]), a, False, columns=4, rows=1)
    (4, 1)
    """
    used = _pairs_used(weights, w8)
    steps = -(-len(activations) // rows) * rows * (columns // 2)
    filled = (activations != 0).sum(axis=0, dtype=np.int64)  # [K]
    enabled = steps + int((used * filled[taken[: len(used)]])[:, 1:].sum())
    return steps * weights.shape[1], steps * weights.shape[1] - enabled


def _pairs_used(weights: np.ndarray, w8: bool) -> np.ndarray:
    """Weights [N, K] → whether a pair has one that is not 0, [pairs, K]; a w4 tile has a whole number of pairs."""
    used = weights != 0
    if w8:
        return used
    used = np.concatenate([used, np.zeros((len(used) % 2, used.shape[1]), dtype=bool)])
    return used[0::2] | used[1::2]
