# SPDX-License-Identifier: Apache-2.0
"""Which weights of an int4 matrix stay, which are held at zero, and what that saves.

A matrix of density d keeps its ⌊d·N·K⌋ weights of the largest score; every matrix has the same d. The score is
"magnitude", |w| of the float weight (Han et al., arXiv 1506.02626), or "contribution", |w| times the standard deviation
of what it multiplies on the calibration rows (after Wanda, Sun et al., arXiv 2306.11695). What is pruned is made up for
by the columns that GPTQ rounds after it (SparseGPT, Frantar and Alistarh, arXiv 2301.00774): gptq.py holds the mask.

In the pattern "blocks" density has a bound in every place (VDBB, Liu et al., arXiv 2009.02381): of `BLOCK` consecutive
entries of K the `GROUP` channels that choose alike keep the same d·BLOCK, so that the array, which chooses its
activations, spends d of the steps. numpy only.
"""

import math
from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from .artifact_tensors import linears
from .compressed import BLOCK, GROUP, tile_bound
from .packing import unpack_nibbles

PRUNE_BY = ("magnitude", "contribution")
PATTERNS = ("free", "blocks")
SHAPE = (BLOCK, GROUP)  # of a block; others are for comparison (benchmarks/block_shapes.py)
TILE = 32  # weights of a row that one bitmask covers
_RAW_ABOVE = 24  # non-zeros of a tile above which it is stored as it is: 75 %


def check_density(density: float, name: str = "density") -> None:
    """ValueError, with the option's `name`, unless 0 < density ≤ 1."""
    if isinstance(density, bool) or not isinstance(density, int | float) or not 0 < density <= 1:
        raise ValueError(f"{name} {density!r} is not above 0 and at most 1")


def check_pattern(pattern: str, density: float, block: int = BLOCK) -> None:
    """ValueError unless `pattern` is one of PATTERNS that weights of this density can have."""
    if pattern not in PATTERNS:
        raise ValueError(f"pattern {pattern!r} is none of {', '.join(PATTERNS)}")
    if pattern == "blocks" and density * block != int(density * block):
        steps = ", ".join(f"{i / block:g}" for i in range(1, block + 1))
        raise ValueError(f"density {density:g} is none that blocks of {block} can have: {steps}")


def allowed(density: float, size: int) -> int:
    """⌊density·size⌋ of the decimal as it is written: of 0.29 and 100 it is 29.

    >>> allowed(0.29, 100), allowed(0.5, 3), int(0.29 * 100)
    (29, 1, 28)
    """
    return int(Decimal(repr(density)) * size)


def matrix_density(density: float, heads: int, left: int, kind: str, pattern: str = "free") -> float:
    """Density of a matrix of this kind in a layer that has `left` of its `heads`; in steps of 10^−12, upward.

    It may keep as many weights as with all its heads: the heads that vanished took zeros with them, not what is left.
    Of blocks it stays what it is.

    >>> matrix_density(0.5, 12, 8, "q"), matrix_density(0.5, 12, 5, "o"), matrix_density(0.5, 12, 8, "ffn1")
    (0.75, 1.0, 0.5)
    >>> allowed(matrix_density(0.5, 12, 11, "q"), 11 * 32 * 384) == allowed(0.5, 12 * 32 * 384)
    True
    """
    if kind not in ("q", "k", "v", "o") or left == heads or pattern == "blocks":
        return density
    return min(1.0, float(math.ceil(Decimal(repr(density)) * heads * 10**12 / left)) / 10**12)


def keep_largest(score: np.ndarray, density: float, times: np.ndarray | None = None) -> np.ndarray:
    """Mask bool [N, K]: True for the weights of the largest `score` [N, K], of equal ones those that come first.

    Row i is stored `times[i]` times (1 if not given) and counts as often: at most ⌊density·Σ times·K⌋ weights are kept,
    exactly so many unless only rows that are stored several times are left to fill the last places.
    """
    n, k = score.shape
    cost = np.repeat(np.ones(n, np.int64) if times is None else np.asarray(times, np.int64), k)  # [N·K]
    budget = allowed(density, int(cost.sum()))
    order = np.argsort(-score.ravel(), kind="stable")
    spent = np.cumsum(cost[order])
    first = int(np.searchsorted(spent, budget, side="right"))  # so many fit as they come
    left = budget - (int(spent[first - 1]) if first else 0)
    rest = order[first:]
    mask = np.zeros(n * k, bool)
    mask[order[:first]] = True
    mask[rest[cost[rest] == 1][:left]] = True
    return mask.reshape(n, k)


def keep_blocks(
    score: np.ndarray, density: float, times: np.ndarray | None = None, shape: tuple[int, int] = SHAPE
) -> np.ndarray:
    """Mask bool [N, K] of the pattern "blocks" for the `score` [N, K] ≥ 0; shape: entries, and rows that choose alike.

    In each block of BLOCK entries (the last of a row may have fewer) a group of GROUP stored rows keeps the same
    ⌈density·BLOCK⌉ entries, those with the largest sum of squares over the group, of equal ones the first. Row i is
    stored `times[i]` times, one after the other (1 if not given); where its copies lie in two groups it keeps what both
    keep.

    >>> keep_blocks(np.array([[3, 0, 2, 0, 1.0], [0, 0, 0, 1, 0]]), 0.5).astype(int)
    array([[1, 0, 1, 0, 1],
           [1, 0, 1, 0, 1]])
    """
    n, k = score.shape
    block, group = shape
    bound = math.ceil(Decimal(repr(density)) * block)
    stored = np.repeat(np.arange(n), np.ones(n, np.int64) if times is None else np.asarray(times, np.int64))
    square = np.pad(score[stored].astype(np.float64) ** 2, ((0, -len(stored) % group), (0, -k % block)))
    sums = square.reshape(-1, group, square.shape[1] // block, block).sum(axis=1)  # [groups, blocks, block]
    order = np.argsort(-sums, axis=2, kind="stable")
    chosen = np.zeros(sums.shape, bool)
    np.put_along_axis(chosen, order[:, :, :bound], True, axis=2)
    of_row = chosen.reshape(len(chosen), -1)[np.arange(len(stored)) // group, :k]  # [stored rows, K]
    mask = np.ones((n, k), bool)
    np.logical_and.at(mask, stored, of_row)
    return mask


def keep(
    score: np.ndarray,
    density: float,
    pattern: str,
    times: np.ndarray | None = None,
    shape: tuple[int, int] = SHAPE,
) -> np.ndarray:
    """Mask bool [N, K] of the `pattern`: `keep_largest` or `keep_blocks`."""
    if pattern == "free":
        return keep_largest(score, density, times)
    return keep_blocks(score, density, times, shape)


def stage_density(step: int, steps: int, density: float, ramp: float, stages: int = 10) -> float:
    """Density at `step` of 0..steps−1: from 1 to `density` in `stages` over the first `ramp` part, then `density`.

    d + (1 − d)·(1 − t)³: steep while there is much to prune (Zhu and Gupta, arXiv 1710.01878).
    """
    length = min(round(ramp * steps), steps - 1)  # the last step has the density asked for
    if step >= length:
        return density
    t = (stages * step // length) / stages
    return round(density + (1 - density) * (1 - t) ** 3, 6)


# what a model has ----------------------------------------------------------------------------------------------------


def encoder_matrices(manifest: Mapping, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name → integers int8 [N, K] of every int4 matrix, shared ones once."""
    places = [place for place in linears(manifest) if place.bits == 4 and place.name == place.matrix]
    return {place.name: unpack_nibbles(tensors[f"{place.name}.weight"], place.k) for place in places}


def densities(matrices: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Share of each matrix's weights that are not zero."""
    return {name: np.count_nonzero(q) / q.size for name, q in matrices.items()}


def block_bound(q: np.ndarray) -> int:
    """The most entries of a block in which a group of rows of q [N, K] is other than 0: 0 to BLOCK.

    >>> block_bound(np.array([[1, 0, 0, 0, 5], [0, 0, 2, 0, 0]]))
    2
    """
    return tile_bound(np.pad(q, ((0, -q.shape[0] % GROUP), (0, 0))))


def density_report(matrices: Mapping[str, np.ndarray], wanted: float) -> dict:
    """`density` of a manifest's metrics: what was wanted, what the integers have in all and by matrix, and the bound of
    all their blocks (of 4: no pattern)."""
    every, kept = sum(q.size for q in matrices.values()), sum(np.count_nonzero(q) for q in matrices.values())
    return {
        "wanted": wanted,
        "achieved": round(kept / every, 6),
        "block_bound": max(map(block_bound, matrices.values()), default=0),
        "matrices": {name: round(found, 6) for name, found in densities(matrices).items()},
    }


def compressed_bytes(matrices: Mapping[str, np.ndarray]) -> int:
    """Bytes of the matrices where each tile of 32 weights of a row is a mask of 4 bytes and half a byte a non-zero.

    A tile with more than 75 % of non-zeros is stored raw, 16 bytes; a row's last tile is padded with zeros. Headers and
    alignment are not counted.
    """
    total = 0.0
    for q in matrices.values():
        padded = np.pad(q != 0, ((0, 0), (0, -q.shape[1] % TILE)))
        kept = padded.reshape(-1, TILE).sum(axis=1)
        total += float(np.where(kept > _RAW_ABOVE, TILE / 2, TILE / 8 + kept / 2).sum())
    return int(np.ceil(total))
