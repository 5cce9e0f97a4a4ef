# SPDX-License-Identifier: Apache-2.0
"""The golden model's units: docs/quantization.md, equation by equation, on int64 arrays; no float anywhere.

One function a unit, named `<op>_ref`. Arrays may come in any integer dtype and are widened to int64 first.
The bounds given in the docstrings keep every intermediate value below 2^63; a value outside its range is a ValueError.
"""

from functools import cache
from math import isqrt

import numpy as np

INT8 = (-127, 127)
UINT8 = (0, 255)
INDEX = (-128, 127)
INT16 = (-32767, 32767)


def _int(x) -> np.ndarray:
    """Widen integers to int64; floats are refused."""
    x = np.asarray(x)
    if x.dtype.kind not in "iu":
        raise TypeError(f"integers expected, not {x.dtype}")
    return x.astype(np.int64)


def _within(name: str, x: np.ndarray, lo: int, hi: int) -> None:
    if x.size and (x.min() < lo or x.max() > hi):
        raise ValueError(f"{name}: {x.min()} .. {x.max()} is not within {lo} .. {hi}")


def clamp16_ref(x) -> np.ndarray:
    """Saturate to int16, −32767 .. 32767. Any shape."""
    return np.clip(_int(x), *INT16)


def round_shift_ref(x, s) -> np.ndarray:
    """(Q1) rs(x, s) = (x + 2^(s−1)) >> s, ties upward. |x| < 2^62, s in 1 .. 31, shapes broadcast.

    >>> round_shift_ref([5, -5, -1], 1).tolist()
    [3, -2, 0]
    """
    x, s = _int(x), _int(s)
    _within("shift", s, 1, 31)
    return (x + (np.int64(1) << (s - 1))) >> s


def requantize_ref(acc, b, m, s, lo: int, hi: int) -> np.ndarray:
    """(Q2) rq[lo,hi](acc; b, m, s) = clamp(rs((acc + b)·m, s), lo, hi).

    acc [..., N]; b, m, s [N] or scalars; acc + b 27 bits signed, m 0 or 128 .. 255, s 1 .. 31.
    """
    acc, b, m = _int(acc), _int(b), _int(m)
    if np.any((m != 0) & ((m < 128) | (m > 255))):
        raise ValueError("mantissa: neither 0 nor in 128 .. 255")
    _within("accumulator plus bias", acc + b, -(2**26), 2**26 - 1)
    return np.clip(round_shift_ref((acc + b) * m, s), lo, hi)


def linear_ref(w, a) -> np.ndarray:
    """(Q3) acc[t, n] = Σ_k w[n, k]·a[t, k]. w [N, K], a [rows, K] → acc [rows, N], exact."""
    return _int(a) @ _int(w).T


def _wrap(x: np.ndarray, bits: int) -> np.ndarray:
    """The low `bits` of x as a signed number."""
    half = np.int64(1) << (bits - 1)
    return ((x + half) & (2 * half - 1)) - half


def _packed(n1: np.ndarray, n0: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 48-bit P of Q4, one step of k at a time. n1, n0 [J, K], a [rows, K] → lo, hi [rows, J]."""
    operand = n1 * 2**23 + n0  # [J, K]
    _within("27-bit operand", operand, -(2**26), 2**26 - 1)
    _within("9-bit operand", a, -256, 255)
    p = np.zeros((a.shape[0], n0.shape[0]), np.int64)  # [rows, J]
    for k in range(a.shape[1]):
        p = _wrap(p + a[:, k, None] * operand[None, :, k], 48)
    return _wrap(p, 23), (p >> 23) + ((p >> 22) & 1)


def packed_w4_ref(w, a) -> np.ndarray:
    """(Q4) Two int4 columns a multiplier. w [N, K] in −7 .. 7, a [rows, K] int8 or uint8 → acc [rows, N].

    Equals Q3 while amax·Σ_k |w[2j, k]| < 2^22; beyond it wraps as the multiplier does. An absent last column is 0.
    """
    w, a = _int(w), _int(a)
    _within("int4", w, -7, 7)
    n = w.shape[0]
    w = np.concatenate([w, np.zeros((n % 2, w.shape[1]), np.int64)])
    lo, hi = _packed(w[1::2], w[0::2], a)
    return np.stack([lo, hi], axis=-1).reshape(a.shape[0], -1)[:, :n]


def packed_w8_ref(w, a) -> np.ndarray:
    """(Q5) One int8 column a multiplier, w = 16·n1 + n0. w [N, K], a [rows, K] int8 or uint8 → acc [rows, N].

    Equals Q3 while amax·Σ_k n0 < 2^22.
    """
    w, a = _int(w), _int(a)
    _within("int8", w, -128, 127)
    lo, hi = _packed(w >> 4, w & 15, a)
    return 16 * hi + lo


def embed_ref(word, position, type_) -> np.ndarray:
    """(Q6) The embedding sum. Each argument is (q [rows, N], m [rows], s [rows]) → x [rows, N] int16.

    q is int8; four-bit rows come expanded (16·nibble), those of Q24 decoded.
    """

    def term(q, m, s):
        return round_shift_ref(_int(q) * _int(m)[:, None], _int(s)[:, None])

    x = clamp16_ref(term(*word))
    x = clamp16_ref(x + term(*position))
    return clamp16_ref(x + term(*type_))


def root_table_ref() -> list[int]:
    """(Q8) 128 entries: min(65535, round(2^23/√((i + ½)·2^9))) for i in 32 .. 127, else 0.

    (i + ½)·2^9 = (2i + 1)·2^8, so the value is 2^19/√(2i + 1); floor of its double is isqrt(2^40 // (2i + 1)).
    """
    return [0] * 32 + [min(65535, (isqrt(2**40 // (2 * i + 1)) + 1) >> 1) for i in range(32, 128)]


def exp_table_ref() -> list[int]:
    """(Q15) 256 entries: round(255·exp(−d·ln(510)/255)), the last 0.

    The largest k with k − ½ ≤ 255·510^(−d/255), that is with (2k − 1)^255·510^d ≤ 510^255.
    """
    top, table = 510**255, []
    k = 255
    for d in range(255):
        while (2 * k - 1) ** 255 * 510**d > top:
            k -= 1
        table.append(k)
    return [*table, 0]


def _floor_log2(x: np.ndarray) -> np.ndarray:
    """floor(log2 x) of x in 1 .. 2^62 − 1, by comparison; 0 gives 0."""
    return sum((x >= (np.int64(1) << k)).astype(np.int64) for k in range(1, 62))


_ROOT_TABLE = np.array(root_table_ref(), np.int64)


def inverse_root_ref(v) -> tuple[np.ndarray, np.ndarray]:
    """(Q8) (r, h) with 1/√V ≈ r·2^−(23 + h). V in 1 .. 2^52 − 1, any shape → r in 2^15 .. 2^16 − 1, h in −7 .. 18."""
    big = _int(v)
    _within("V", big, 1, 2**52 - 1)
    p = _floor_log2(big)
    h = (p - 14) >> 1
    v = np.where(h < 0, big << np.maximum(-2 * h, 0), big >> np.maximum(2 * h, 0))
    r0 = _ROOT_TABLE[v >> 9]
    a = (v * r0 + 2**15) >> 16
    d = 3 * 2**30 - a * r0
    return np.minimum(65535, (r0 * d + 2**30) >> 31), h


def layer_norm_ref(x, gamma, gamma_shift, beta, beta_shift) -> np.ndarray:
    """(Q7) x [rows, N] int16, N ≤ 1024; γ, sγ, β, tβ [N] → y [rows, N] int16."""
    x, gamma, beta, beta_shift = _int(x), _int(gamma), _int(beta), _int(beta_shift)
    n = x.shape[1]
    if n > 1024:
        raise ValueError(f"layer norm of {n} channels, at most 1024")
    _within("x", x, *INT16)
    _within("beta shift", beta_shift, 0, 8)
    sum_ = x.sum(axis=1, keepdims=True)  # [rows, 1], as below
    squares = (x * x).sum(axis=1, keepdims=True)
    d = n * x - sum_  # [rows, N]
    v = n * squares - sum_ * sum_
    r, h = inverse_root_ref(np.maximum(v, 1))
    z = np.where(v == 0, 0, round_shift_ref(d * r, 12 + h))
    return clamp16_ref(round_shift_ref(z * gamma, gamma_shift) + (beta << beta_shift))


def entries_ref(y, e, m, s) -> np.ndarray:
    """(Q9) y [rows, N] int16, e [N] ≥ 1, scalars m, s → operand [rows, Σ e] int8, a channel's entries side by side."""
    y, e = _int(y), _int(e)
    if e.min() < 1:
        raise ValueError("a channel without an entry")
    q = round_shift_ref(y * _int(m), s)
    out = np.zeros((y.shape[0], e.sum()), np.int64)
    first = np.cumsum(e) - e  # [N] where each channel's entries begin
    for j in range(e.max()):
        has = e > j
        a = np.clip(q, *INT8)
        out[:, (first + j)[has]] = a[:, has]
        q = q - a
    return out


def int8_ref(acc, b, m, s) -> np.ndarray:
    """(Q10) rq[−127,127]: acc [rows, N] → int8 [rows, N]."""
    return requantize_ref(acc, b, m, s, *INT8)


def activation_ref(acc, b, m, s, table, use_table, unsigned: bool) -> np.ndarray:
    """(Q11) acc [rows, N]; table [256]; use_table [N] of 0 and 1 → uint8 (unsigned) or int8 [rows, N].

    `unsigned` says what the output is, for the direct channels: uint8, or int8.
    """
    index = requantize_ref(acc, b, m, s, *INDEX)
    direct = requantize_ref(acc, b, m, s, *(UINT8 if unsigned else INT8))
    return np.where(_int(use_table) != 0, _int(table)[index + 128], direct)


def residual_ref(acc, b, m, s, y, m_r, s_r) -> np.ndarray:
    """(Q12) The product acc [rows, N] and the residual y [rows, N] int16, scalars m_r and s_r → x [rows, N] int16."""
    product = requantize_ref(acc, b, m, s, *INT16)
    return clamp16_ref(product + clamp16_ref(round_shift_ref(_int(y) * _int(m_r), s_r)))


def branch_ref(acc, b, m, s) -> np.ndarray:
    """(Q25) h = rq[−32767,32767] of a branch's product acc [rows, N] → int16 [rows, N]."""
    return requantize_ref(acc, b, m, s, *INT16)


def branch_operand_ref(h, m, s) -> np.ndarray:
    """(Q25) The adapter's operand of a branch h [rows, N] int16; m, s [N] → int8 [rows, N]."""
    h = _int(h)
    _within("h", h, *INT16)
    return np.clip(round_shift_ref(h * _int(m), s), *INT8)


def mapping_ref(acc, b, m, s) -> np.ndarray:
    """(Q20) rq[−32767,32767]: acc [rows, hidden] of the embeddings' operand → y [rows, hidden] int16."""
    return requantize_ref(acc, b, m, s, *INT16)


def logits_ref(acc, b, m, s) -> np.ndarray:
    """(Q13) rq[−32767,32767]: acc [rows, labels] → int16 [rows, labels]."""
    return requantize_ref(acc, b, m, s, *INT16)


def scores_ref(q, k, m, s) -> np.ndarray:
    """(Q14) One head: q [rows, d], k [keys, d] int8, scalars m and s → int16 [rows, keys]."""
    return requantize_ref(linear_ref(k, q), 0, m, s, *INT16)


def reciprocal_ref(total) -> tuple[np.ndarray, np.ndarray]:
    """(Q16) (r, p) with 1/Σ ≈ r·2^−(p + 16). Σ in 0 .. 32640, any shape; Σ = 0 gives (0, 0)."""
    total = _int(total)
    _within("Σ", total, 0, 32640)
    p = _floor_log2(total)
    r = np.minimum(65535, ((np.int64(1) << (p + 17)) // np.maximum(total, 1) + 1) >> 1)
    return np.where(total == 0, 0, r), p


def softmax_ref(
    x, begin, end, exp_table, normalized: bool = False, span: int = 128
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Q15, Q16, Q18, Q23) x [rows, keys] int16; begin, end [rows]; table [256] → e [rows, keys] uint8, r, p [rows].

    Row i sees the keys j of begin_i .. end_i − 1 with |i − j| < span, perhaps none. r and p are those Q17 takes.
    """
    x, begin, end = _int(x), _int(begin)[:, None], _int(end)[:, None]
    _within("x", x, *INT16)
    keys = np.arange(x.shape[1])[None, :]
    near = np.abs(np.arange(x.shape[0])[:, None] - keys) < span
    seen = (keys >= begin) & (keys < end) & near  # [rows, keys]
    top = np.where(seen, x, -32768).max(axis=1, keepdims=True)  # [rows, 1], of no use where nothing is seen
    distance = np.where(seen, np.minimum(255, top - x), 0)
    e = np.where(seen, _int(exp_table)[distance], 0)
    total = e.sum(axis=1)
    r, p = reciprocal_ref(total)
    if normalized:
        e = round_shift_ref(e * r[:, None] * 255, p[:, None] + 16)
        r, p = np.where(total > 0, 32897, 0), np.where(total > 0, 7, 0)
    return e, r, p


def context_ref(e, v, r, p, m, s) -> np.ndarray:
    """(Q17) One head: e [rows, keys] uint8, v [keys, d] int8, r, p [rows], m, s [d] → context [rows, d] int8."""
    acc = _int(e) @ _int(v)
    u = round_shift_ref(acc * _int(r)[:, None], _int(p)[:, None] + 8)
    return requantize_ref(u, 0, m, s, *INT8)


def pooler_ref(acc, b, m, s, table) -> np.ndarray:
    """(Q11, Q19) Every channel through the tanh table: acc [results, N], table int8 [256] → int8 [results, N]."""
    return activation_ref(acc, b, m, s, table, np.ones(np.shape(acc)[1], np.int64), unsigned=False)


@cache
def power_table_ref() -> tuple[int, ...]:
    """(Q21) 1,024 entries: round(2^(15 + f/1024)).

    The largest k with k − ½ ≤ 2^(15 + f/1024), that is with (2k − 1)^1024 ≤ 2^(16·1024 + f).
    """
    table, k = [], 2**15
    for f in range(1024):
        while (2 * k + 1) ** 1024 <= 1 << (16 * 1024 + f):
            k += 1
        table.append(k)
    return tuple(table)


@cache
def log_table_ref() -> tuple[int, ...]:
    """(Q21) 1,024 entries: round(2^12·log2(1 + (i + ½)/1024)).

    The largest k with 2^((2k − 1)/2^13) ≤ (2i + 2049)/2048, that is with 2^(2k − 1)·2^(11·2^13) ≤ (2i + 2049)^(2^13).
    """
    table, k = [], 0
    for i in range(1024):
        power = (2 * i + 2049) ** 2**13
        while 1 << (2 * k + 1 + 11 * 2**13) <= power:
            k += 1
        table.append(k)
    return tuple(table)


def entropy_ref(x, m: int, s: int) -> np.ndarray:
    """(Q21) Entropy of the softmax of each row, in steps of 2^−12 nats. x [rows, labels] int16 → [rows], 0 .. 32767.

    m·2^−s (m in 32768 .. 65535, s in 1 .. 31) brings a logit's step to 2^−10 of a factor of two.
    """
    x = _int(x)
    _within("x", x, *INT16)
    y = round_shift_ref(x * m, s)
    powers, logs = np.array(power_table_ref(), np.int64), np.array(log_table_ref(), np.int64)
    rows = x.shape[0]
    top, total, distances = np.full(rows, -(2**30)), np.zeros(rows, np.int64), np.zeros(rows, np.int64)  # P, S, T
    for label in range(x.shape[1]):
        whole, part = y[:, label] >> 10, y[:, label] & 1023
        rise = np.clip(whole + 1 - top, 0, 40)
        distances = (distances + (rise << 10) * total) >> rise
        total = total >> rise
        top = np.maximum(top, whole + 1)
        term = (powers[part] << 12) >> np.minimum(top - 1 - whole, 40)
        total = total + term
        distances = distances + np.minimum((top << 10) - y[:, label], 2**16 - 1) * term
    p = _floor_log2(total)  # 27 .. 38: the largest logit's term is 2^27 or more
    log = ((p - 28) << 12) + logs[(total >> (p - 10)) & 1023]
    mean = ((distances >> (p - 16)) << 2) // (total >> (p - 16))
    return np.clip(round_shift_ref(np.maximum(log + mean, 0) * 45426, 16), 0, 32767)


def leaves_ref(entropy, layer: int, threshold: int, predicted, last: bool) -> np.ndarray:
    """(Q22) Which sentences leave at the off-ramp of `layer` (1 is the first): entropy, predicted [n] → bool [n].

    threshold 0 lets none leave by its entropy; predicted 0 says that no layer is foretold.
    """
    entropy, predicted = _int(entropy), _int(predicted)
    foretold = (predicted > 0) & (layer >= predicted)
    return (entropy < threshold) | foretold | np.full(entropy.shape, last)


def predicted_ref(entropy, table, shift: int) -> np.ndarray:
    """(Q22) The layer that the exit table foretells: entropy [n], table [256] uint8, shift 0 .. 15 → [n]."""
    return _int(table)[np.minimum(_int(entropy) >> shift, 255)]


def adaptiv_ref(code) -> np.ndarray:
    """(Q24) AdaptivFloat<8,3> codes uint8, any shape → ±(16 + m)·2^e in −3968 .. 3968, 0 for the codes 0 and 128."""
    code = _int(code)
    _within("code", code, 0, 255)
    exponent, mantissa = (code >> 4) & 7, code & 15
    size = np.where((exponent == 0) & (mantissa == 0), 0, (16 + mantissa) << exponent)
    return np.where(code >= 128, -size, size)
