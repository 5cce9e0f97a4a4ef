# SPDX-License-Identifier: Apache-2.0
"""Real factors as integers: mantissa and shift (Q2), layer norm parameters (Q7), embedding rows (Q6). numpy only."""

import math

import numpy as np

FACTOR_MIN, FACTOR_MAX = 128 * 2.0**-31, 255 * 2.0**-1
Z_STEP = 2.0**-11  # of Q7


def round_half_up(x: np.ndarray) -> np.ndarray:
    """Nearest integer, ties upward, as float64."""
    return np.floor(np.asarray(x, np.float64) + 0.5)


def encode_factor(f) -> tuple[np.ndarray, np.ndarray]:
    """(Q2) f ≥ 0, any shape → m (int64, 128 .. 255, or 0 for a dead channel) and s (1 .. 31) with f ≈ m·2^−s.

    Raises ValueError above 127.5.

    >>> [int(x) for x in encode_factor(1.0)], [int(x) for x in encode_factor(255.9 / 256)]
    ([128, 7], [128, 7])
    """
    f = np.asarray(f, np.float64)
    if not (np.isfinite(f).all() and (f >= 0).all() and (f <= FACTOR_MAX).all()):
        raise ValueError(f"factor {f.max()} is not within 0 .. {FACTOR_MAX}")
    dead = f < FACTOR_MIN
    exponent = np.frexp(np.where(dead, 1.0, f))[1]  # f in [2^(exponent − 1), 2^exponent)
    s = 8 - exponent
    m = round_half_up(np.where(dead, 1.0, f) * np.exp2(s))
    s = np.where(m == 256, s - 1, s)
    m = np.where(m == 256, 128, m)
    return np.where(dead, 0, m).astype(np.int64), np.where(dead, 1, s).astype(np.int64)


def decode_factor(m, s) -> np.ndarray:
    """m·2^−s as float64."""
    return np.asarray(m, np.float64) * np.exp2(-np.asarray(s, np.float64))


def snap_factor(f) -> np.ndarray:
    """The encodable factor nearest to f."""
    return decode_factor(*encode_factor(f))


def encode_entropy(step: float) -> tuple[int, int]:
    """(Q21) (m_e, s_e) for logits whose step is `step`: it is so many times 2^−10 of a factor of two.

    Raises ValueError where the step is too coarse or too fine for s_e in 1 .. 31.

    >>> encode_entropy(math.log(2) / 1024), encode_entropy(0.001)
    ((32768, 15), (48409, 15))
    """
    f = step * 1024 / math.log(2)
    s = 16 - math.frexp(f)[1]
    m = math.floor(f * 2.0**s + 0.5)
    m, s = (m // 2, s - 1) if m == 2**16 else (m, s)
    if not 1 <= s <= 31:
        raise ValueError(f"logits: a step of {step} has no entropy factor with a shift of 1 .. 31")
    return m, s


def entropy_shift(labels: int) -> int:
    """(Q22) The least row_shift with which the 256 rows of an exit table reach the largest entropy, ln(labels)."""
    return max(0, math.floor(math.log(labels) * 2**12).bit_length() - 8)


def encode_gamma(gamma, grid: float) -> tuple[np.ndarray, np.ndarray]:
    """(Q7) γ [N] for an output in steps of `grid` → int8 mantissa (|64| .. |127|, less near 0) and shift 1 .. 31.

    Raises ValueError where γ needs a shift below 1 (the grid is too fine).
    """
    f = np.asarray(gamma, np.float64) * Z_STEP / grid
    exponent = np.frexp(np.where(f == 0, 1.0, f))[1]
    s = np.minimum(7 - exponent, 31)
    s = np.where(np.abs(round_half_up(np.abs(f) * np.exp2(s))) > 127, s - 1, s)
    if (s < 1).any():
        raise ValueError(f"gamma: channel {int(np.argmin(s))} is too large for an output grid of {grid}")
    q = np.sign(f) * round_half_up(np.abs(f) * np.exp2(s))
    return q.astype(np.int64), s.astype(np.int64)


def encode_beta(beta, grid: float) -> tuple[np.ndarray, np.ndarray]:
    """(Q7) β [N] in steps of `grid` → int8 (−127 .. 127) and left shift 0 .. 8. Raises ValueError beyond 127·2^8."""
    f = np.asarray(beta, np.float64) / grid
    t = np.zeros(f.shape, np.int64)
    for _ in range(8):
        t = np.where(np.abs(round_half_up(f * np.exp2(-t))) > 127, t + 1, t)
    q = round_half_up(f * np.exp2(-t))
    if (np.abs(q) > 127).any():
        raise ValueError(f"beta: channel {int(np.argmax(np.abs(q)))} is too large for an output grid of {grid}")
    return q.astype(np.int64), t


def encode_rows(
    rows: np.ndarray, grid: float, bits: int, importance: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Q6) Float rows [n, width] → q int8 [n, width] (−127 .. 127, or −7 .. 7 at 4 bits), m [n], s [n].

    Each row's clip is the one of least squared error, each channel's error weighted by `importance` [width]. At 4 bits
    a step of q is worth 16 steps of Q6, which the factor accounts for.
    """
    top, unit, clips = {8: (127, 1, (1.0, 0.97, 0.94, 0.9)), 4: (7, 16, np.linspace(1.0, 0.5, 16))}[bits]
    weight = np.ones(rows.shape[1]) if importance is None else importance
    q = np.zeros(rows.shape, np.int8)
    m, s = np.zeros(len(rows), np.int64), np.ones(len(rows), np.int64)
    for start in range(0, len(rows), 4096):
        part = slice(start, start + 4096)
        x = rows[part].astype(np.float32)
        best = np.full(len(x), np.inf)
        peak = np.abs(x).max(axis=1).astype(np.float64)
        for clip in clips:
            cm, cs = encode_factor(peak * clip / top / unit / grid)
            scale = (decode_factor(cm, cs) * unit * grid).astype(np.float32)[:, None]
            cq = np.clip(np.floor(np.divide(x, scale, out=np.zeros_like(x), where=scale > 0) + 0.5), -top, top)
            error = ((cq * scale - x) ** 2) @ weight
            better = error < best
            q[part][better], m[part][better], s[part][better] = cq[better], cm[better], cs[better]
            best = np.where(better, error, best)
        q[part][m[part] == 0] = 0
    return q, m, s
