# SPDX-License-Identifier: Apache-2.0
"""golden.py unit by unit against scalar loops of Python integers, worked examples, mpmath and float."""

import ast
import inspect
from math import ceil, isqrt

import mpmath
import numpy as np
import pytest
from zynqbert.quant import golden

mpmath.mp.dps = 60


# ---- scalar oracles, in Python's unbounded integers ----


def rs(x: int, s: int) -> int:
    return (x + 2 ** (s - 1)) // 2**s


def clamp(x: int, lo: int, hi: int) -> int:
    return lo if x < lo else hi if x > hi else x


def clamp16(x: int) -> int:
    return clamp(x, -32767, 32767)


def rq(acc: int, b: int, m: int, s: int, lo: int, hi: int) -> int:
    return clamp(rs((acc + b) * m, s), lo, hi)


def inverse_root(big: int) -> tuple[int, int]:
    p = big.bit_length() - 1
    h = (p - 14) // 2
    v = big * 2 ** (-2 * h) if h < 0 else big // 2 ** (2 * h)
    i = v >> 9
    half_up = mpmath.floor(2**23 / mpmath.sqrt((i + mpmath.mpf(1) / 2) * 512) + mpmath.mpf(1) / 2)
    r0 = min(65535, int(half_up))
    a = (v * r0 + 2**15) // 2**16
    d = 3 * 2**30 - a * r0
    return min(65535, (r0 * d + 2**30) // 2**31), h


def reciprocal(total: int) -> tuple[int, int]:
    if total == 0:
        return 0, 0
    p = total.bit_length() - 1
    return min(65535, (2 ** (p + 17) // total + 1) // 2), p


def factors(rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mantissas, one in ten of them 0, and shifts."""
    return rng.integers(128, 256, n) * (rng.random(n) > 0.1), rng.integers(1, 32, n)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


# ---- Q1, Q2 ----


def test_round_shift_examples():
    assert golden.round_shift_ref([5, -5, -1, 1, 3, -3], 1).tolist() == [3, -2, 0, 1, 2, -1]
    assert golden.round_shift_ref([6, -6, 5, 7, -7], 2).tolist() == [2, -1, 1, 2, -2]
    assert golden.round_shift_ref([2**61, -(2**61)], 31).tolist() == [2**30, -(2**30)]


def test_round_shift_against_scalar(rng):
    x, s = rng.integers(-(2**61), 2**61, 500) >> rng.integers(0, 60, 500), rng.integers(1, 32, 500)
    expected = [rs(int(a), int(b)) for a, b in zip(x, s, strict=True)]
    np.testing.assert_array_equal(golden.round_shift_ref(x, s), expected)


@pytest.mark.parametrize("s", [0, -1, 32])
def test_round_shift_refuses(s):
    with pytest.raises(ValueError, match="shift"):
        golden.round_shift_ref([1], s)


def test_requantize_examples():
    # (1 + 2)·128 / 2^8 = 1.5 and −1.5: ties go up
    assert golden.requantize_ref([1, -5], 2, 128, 8, -127, 127).tolist() == [2, -1]
    # saturation on both sides, and a dead channel
    acc = np.array([[1000, -1000, 1000]])
    assert golden.requantize_ref(acc, 0, [255, 255, 0], [1, 1, 1], -127, 127).tolist() == [[127, -127, 0]]
    # the ends of the accumulator
    top = [2**26 - 1, -(2**26)]
    assert golden.requantize_ref(top, 0, 255, 31, -32767, 32767).tolist() == [8, -8]
    assert golden.requantize_ref(top, 0, 255, 1, -32767, 32767).tolist() == [32767, -32767]


def test_requantize_against_scalar(rng):
    acc, b = rng.integers(-(2**25), 2**25, (20, 40)), rng.integers(-(2**24), 2**24, 40)
    m, s = factors(rng, 40)
    for lo, hi in [(-127, 127), (0, 255), (-128, 127), (-32767, 32767)]:
        expected = [[rq(*map(int, (acc[t, n], b[n], m[n], s[n])), lo, hi) for n in range(40)] for t in range(20)]
        np.testing.assert_array_equal(golden.requantize_ref(acc, b, m, s, lo, hi), expected)


@pytest.mark.parametrize("acc, b, m", [(0, 0, 127), (0, 0, 256), (2**25, 2**25, 128), (-(2**26), -1, 128)])
def test_requantize_refuses(acc, b, m):
    with pytest.raises(ValueError):
        golden.requantize_ref([acc], b, m, 8, -127, 127)


# ---- Q3, Q4, Q5 ----


def test_linear_against_scalar(rng):
    w, a = rng.integers(-127, 128, (7, 33)), rng.integers(-127, 256, (5, 33))
    expected = [[sum(int(w[n, k]) * int(a[t, k]) for k in range(33)) for n in range(7)] for t in range(5)]
    np.testing.assert_array_equal(golden.linear_ref(w.astype(np.int8), a), expected)
    assert golden.linear_ref(np.zeros((3, 0), np.int8), np.zeros((2, 0), np.int8)).tolist() == [[0] * 3] * 2


def test_packed_examples():
    # n0 = −3, n1 = 2, a = 5: P = 10·2^23 − 15 borrows from the high field, and P[22] gives it back
    assert golden.packed_w4_ref([[-3], [2]], [[5]]).tolist() == [[-15, 10]]
    # −1 = 16·(−1) + 15
    assert golden.packed_w8_ref([[-1]], [[100]]).tolist() == [[-100]]
    assert golden.packed_w8_ref([[-128], [127]], [[255]]).tolist() == [[-128 * 255, 127 * 255]]


@pytest.mark.parametrize("n", [1, 2, 7, 8])
@pytest.mark.parametrize("lo, hi", [(-127, 127), (0, 255)])
def test_packed_is_the_plain_product(rng, n, lo, hi):
    a = rng.integers(lo, hi + 1, (9, 65))
    w = rng.integers(-7, 8, (n, 65))
    np.testing.assert_array_equal(golden.packed_w4_ref(w, a), golden.linear_ref(w, a))
    w = rng.integers(-127, 128, (n, 65))
    np.testing.assert_array_equal(golden.packed_w8_ref(w, a), golden.linear_ref(w, a))


# (mode, largest operand, K at the documented bound)
BOUNDS = [("w4", 127, 4681), ("w4", 127, 4718), ("w4", 255, 2349), ("w8", 127, 2201), ("w8", 255, 1096)]


@pytest.mark.parametrize("mode, amax, k", BOUNDS)
def test_packed_at_the_bounds(mode, amax, k):
    packed = golden.packed_w4_ref if mode == "w4" else golden.packed_w8_ref
    # every pair of extreme columns: all the same sign, and for w8 the low nibble 15 with any high one
    values = [7, -7, 1, 0, -1] if mode == "w4" else [127, -1, 15, -113, 0]
    w = np.array([v for n0 in values for n1 in values for v in (n0, n1)])[:, None] * np.ones(k, np.int64)
    a = np.array([amax, -amax if amax == 127 else 0, 1])[:, None] * np.ones(k, np.int64)
    np.testing.assert_array_equal(packed(w, a), golden.linear_ref(w, a))


@pytest.mark.parametrize("mode, amax, k", [("w4", 127, 4719), ("w4", 255, 2350), ("w8", 127, 2202), ("w8", 255, 1097)])
def test_packed_wraps_beyond_the_bounds(mode, amax, k):
    packed, top = (golden.packed_w4_ref, 7) if mode == "w4" else (golden.packed_w8_ref, 15)
    w, a = np.full((2, k), top), np.full((1, k), amax)
    assert (packed(w, a) != golden.linear_ref(w, a)).any()


def test_packed_refuses():
    with pytest.raises(ValueError, match="int4"):
        golden.packed_w4_ref([[-8]], [[1]])
    with pytest.raises(ValueError, match="9-bit"):
        golden.packed_w4_ref([[7]], [[256]])


# ---- Q6 ----


def test_embed_example():
    # 127·255/2 = 16192.5 up to 16193; twice 32386; three times 48579, clamped
    row = (np.array([[127, -127]]), np.array([255]), np.array([1]))
    assert golden.embed_ref(row, row, row).tolist() == [[32767, -32767]]
    none = (np.zeros((1, 2), np.int8), np.array([0]), np.array([1]))
    assert golden.embed_ref(row, none, none).tolist() == [[16193, -16192]]
    # two terms stay below 32767, so the clamp between them never acts
    minus = (-row[0], row[1], row[2])
    assert golden.embed_ref(row, row, minus).tolist() == [[32386 - 16192, -32384 + 16193]]


def test_embed_against_scalar(rng):
    terms = [(rng.integers(-127, 128, (40, 11)), *factors(rng, 40)) for _ in range(3)]
    for _, _, s in terms:
        s[:] = s % 3 + 1
    expected = []
    for t in range(40):
        row = []
        for c in range(11):
            word, position, type_ = (rs(int(q[t, c]) * int(m[t]), int(s[t])) for q, m, s in terms)
            row.append(clamp16(clamp16(word + position) + type_))
        expected.append(row)
    np.testing.assert_array_equal(golden.embed_ref(*terms), expected)


# ---- tables ----


def test_root_table():
    table = golden.root_table_ref()
    assert len(table) == 128 and table[:32] == [0] * 32
    for i in range(32, 128):
        exact = 2**23 / mpmath.sqrt((mpmath.mpf(i) + mpmath.mpf(1) / 2) * 512)
        assert abs(exact - mpmath.floor(exact) - mpmath.mpf(1) / 2) > 1e-9 or exact == mpmath.floor(exact)
        assert table[i] == min(65535, int(mpmath.nint(exact)))


def test_exp_table():
    table = golden.exp_table_ref()
    assert len(table) == 256 and table[0] == 255 and table[254:] == [1, 0]
    for d in range(255):
        exact = 255 * mpmath.exp(-d * mpmath.log(510) / 255)
        assert abs(exact - mpmath.floor(exact) - mpmath.mpf(1) / 2) > 1e-9  # no ties: only d = 255 is one
        assert table[d] == int(mpmath.nint(exact))


# ---- Q8 ----


def root_sweep() -> list[int]:
    rng = np.random.default_rng(8)
    values = {1, 2, 3, 2**52 - 1, 1024**2 * 32767**2 - 1}
    for k in range(1, 52):
        values |= {2**k - 1, 2**k, 2**k + 1}
        values |= {int(x) for x in rng.integers(2**k, 2 ** (k + 1), 40)}
    return sorted(v for v in values if v < 2**52)


def test_inverse_root_against_scalar():
    values = root_sweep()
    r, h = golden.inverse_root_ref(values)
    assert list(zip(r.tolist(), h.tolist(), strict=True)) == [inverse_root(v) for v in values]


def test_inverse_root_examples():
    r, h = golden.inverse_root_ref([1, 4, 2**14, 2**16, 2**50])
    assert h.tolist() == [-7, -6, 0, 1, 18]
    assert len(set(r.tolist())) == 1  # an even power of two is v = 2^14 with another h


def test_inverse_root_error():
    """Relative error within 2^−13, over every v at h = 0 and the sweep; r stays within 2^15 .. 2^16 − 1.

    Table 2^−7 (half a step of 512 at 2^14, halved by the root) leaves 1.5·2^−14 after the Newton step, low; the bits
    that v drops at most 2^−15, high; the roundings of a and r 2^−16 each.
    """
    values = [*range(2**14, 2**16), *root_sweep()]
    r, h = golden.inverse_root_ref(values)
    assert r.min() >= 2**15 and r.max() <= 2**16 - 1
    assert h.min() >= -7 and h.max() <= 18
    for v, r_, h_ in zip(values, r.tolist(), h.tolist(), strict=True):
        # (r·2^−(23 + h))²·V within (1 ± 2^−13)², in integers
        square, one = r_ * r_ * v * 2**26, 2 ** (46 + 2 * h_)
        assert one * (2**13 - 1) ** 2 <= square <= one * (2**13 + 1) ** 2, v


@pytest.mark.parametrize("v", [0, -1, 2**52])
def test_inverse_root_refuses(v):
    with pytest.raises(ValueError):
        golden.inverse_root_ref([v])


# ---- Q7 ----


def layer_norm(x, gamma, gamma_shift, beta, beta_shift) -> list[int]:
    x, n = [int(v) for v in x], len(x)
    total, squares = sum(x), sum(v * v for v in x)
    variance = n * squares - total * total
    y = []
    for c in range(n):
        z = 0
        if variance:
            r, h = inverse_root(variance)
            z = rs((n * x[c] - total) * r, 12 + h)
        y.append(clamp16(rs(z * int(gamma[c]), int(gamma_shift[c])) + int(beta[c]) * 2 ** int(beta_shift[c])))
    return y


def norm_parameters(rng, n: int) -> tuple[np.ndarray, ...]:
    return rng.integers(-127, 128, n), rng.integers(1, 9, n), rng.integers(-127, 128, n), rng.integers(0, 9, n)


@pytest.mark.parametrize("n", [1, 2, 3, 96, 385])
def test_layer_norm_against_scalar(rng, n):
    x = rng.integers(-32767, 32768, (6, n)) >> rng.integers(0, 16, (6, 1))
    x[4] = 1234  # zero variance
    x[5] = 0
    x[5, -1] = 1  # the smallest variance there is
    parameters = norm_parameters(rng, n)
    y = golden.layer_norm_ref(x, *parameters)
    np.testing.assert_array_equal(y, [layer_norm(row, *parameters) for row in x])


def test_layer_norm_examples():
    one = [np.full(2, v) for v in (64, 6, 0, 0)]  # γ = 1, β = 0
    # (x − μ)/σ = ±1 is ±2048 but for the root's error: V = 4·(3)² = 36
    assert abs(golden.layer_norm_ref([[5, -1]], *one) - [[2048, -2048]]).max() <= 1
    # V = 0: y = β·2^tβ
    assert golden.layer_norm_ref([[7, 7]], [127, 127], [1, 1], [-127, 3], [8, 0]).tolist() == [[-32512, 3]]
    # y saturates: z·127/2 + 32512
    assert golden.layer_norm_ref([[1, -1]], [127, 127], [1, 1], [127, -127], [8, 8]).tolist() == [[32767, -32767]]


@pytest.mark.parametrize("pattern", ["half", "one", "one low"])
def test_layer_norm_extremes(pattern):
    """N = 1024: the largest V (half and half) and the largest z (one channel against all others)."""
    x = np.full((1, 1024), -32767)
    x[0, : {"half": 512}.get(pattern, 1)] = 32767
    x = -x if pattern == "one low" else x
    parameters = [np.full(1024, v) for v in (127, 3, -127, 0)]
    np.testing.assert_array_equal(golden.layer_norm_ref(x, *parameters), [layer_norm(x[0], *parameters)])


def test_layer_norm_refuses(rng):
    parameters = norm_parameters(rng, 4)
    with pytest.raises(ValueError):
        golden.layer_norm_ref([[-32768, 0, 0, 0]], *parameters)
    with pytest.raises(ValueError):
        golden.layer_norm_ref(np.zeros((1, 1025), np.int64), *norm_parameters(rng, 1025))


@pytest.mark.parametrize("scale", [3, 100, 3000])
def test_layer_norm_against_float(rng, scale):
    """Within ceil(|γ|·2^−sγ·(½ + |z|·2^−13) + ½) steps of y: z's rounding and the root's error, then y's rounding.

    That is at most 4 steps while |γ|·2^−sγ < 2 and |z| is below 5σ.
    """
    n = 384
    x = np.clip(np.rint(rng.normal(scale / 3, scale, (50, n))), -32767, 32767).astype(np.int64)
    gamma, beta, beta_shift = rng.integers(-127, 128, n), rng.integers(-127, 128, n), rng.integers(0, 5, n)
    gamma_shift = np.full(n, 6)
    z = 2**11 * (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    expected = z * gamma / 2.0**gamma_shift + beta * 2.0**beta_shift
    error = np.abs(golden.layer_norm_ref(x, gamma, gamma_shift, beta, beta_shift) - expected)
    assert (error <= np.ceil(np.abs(gamma) / 2.0**gamma_shift * (0.5 + np.abs(z) / 2**13) + 0.5)).all()
    assert error.max() <= 4


# ---- Q9 ----


def test_entries_examples():
    # m·2^−s = 1/2: 127·4 = 508 → 254 in two full entries; ties up
    y = [[508, -508, 5, -5]]
    assert golden.entries_ref(y, [2, 3, 1, 2], 128, 8).tolist() == [[127, 127, -127, -127, 0, 3, -2, 0]]
    # what the last entry cannot hold is lost
    assert golden.entries_ref([[32767, -32767]], [1, 4], 255, 1).tolist() == [[127, -127, -127, -127, -127]]


def test_entries_against_scalar(rng):
    y, e = rng.integers(-32767, 32768, (8, 30)), rng.integers(1, 5, 30)
    for m, s in [(128, 1), (255, 13), (200, 15), (131, 31), (0, 5)]:
        expected = []
        for t in range(8):
            row = []
            for c in range(30):
                q = rs(int(y[t, c]) * m, s)
                for _ in range(e[c]):
                    a = clamp(q, -127, 127)
                    row.append(a)
                    q -= a
            expected.append(row)
        np.testing.assert_array_equal(golden.entries_ref(y, e, m, s), expected)


def test_entries_add_up(rng):
    """The sum over a channel's entries is q clamped to ±127·e."""
    y, e = rng.integers(-32767, 32768, (8, 30)), rng.integers(1, 5, 30)
    a = golden.entries_ref(y, e, 200, 14)
    q = golden.round_shift_ref(y * 200, 14)
    np.testing.assert_array_equal(np.add.reduceat(a, np.cumsum(e) - e, axis=1), np.clip(q, -127 * e, 127 * e))


# ---- Q10 to Q13, Q20 ----


def test_linear_outputs_against_scalar(rng):
    acc, b, (m, s) = rng.integers(-(2**25), 2**25, (10, 60)), rng.integers(-(2**20), 2**20, 60), factors(rng, 60)
    y, table = rng.integers(-32767, 32768, (10, 60)), rng.integers(0, 256, 256)
    signed_table, flags = rng.integers(-127, 128, 256), rng.integers(0, 2, 60)

    def each(f):
        return [[f(*map(int, (acc[t, n], b[n], m[n], s[n])), t, n) for n in range(60)] for t in range(10)]

    assert_equal = np.testing.assert_array_equal
    int8, int16 = (-127, 127), (-32767, 32767)
    assert_equal(golden.int8_ref(acc, b, m, s), each(lambda *q: rq(*q[:4], *int8)))
    assert_equal(golden.logits_ref(acc, b, m, s), each(lambda *q: rq(*q[:4], *int16)))
    assert_equal(golden.mapping_ref(acc, b, m, s), each(lambda *q: rq(*q[:4], *int16)))
    assert_equal(golden.mapping_ref(acc, b, m, s), golden.residual_ref(acc, b, m, s, y, 0, 1))
    for unsigned, of_table, direct in [(True, table, (0, 255)), (False, signed_table, int8)]:

        def activation(*q, of_table=of_table, direct=direct):
            return int(of_table[rq(*q[:4], -128, 127) + 128]) if flags[q[5]] else rq(*q[:4], *direct)

        assert_equal(golden.activation_ref(acc, b, m, s, of_table, flags, unsigned), each(activation))
    assert_equal(
        golden.pooler_ref(acc, b, m, s, signed_table), each(lambda *q: int(signed_table[rq(*q[:4], -128, 127) + 128]))
    )
    for m_r, s_r in [(128, 7), (255, 1), (205, 8)]:

        def residual(*q, m_r=m_r, s_r=s_r):
            return clamp16(rq(*q[:4], *int16) + clamp16(rs(int(y[q[4], q[5]]) * m_r, s_r)))

        assert_equal(golden.residual_ref(acc, b, m, s, y, m_r, s_r), each(residual))


def test_activation_examples():
    table = np.arange(256)
    acc = np.array([[-1000, 1000, -1000, 1000, 3]])
    b, m, s, flags = [0] * 5, [128] * 5, [7] * 5, [1, 1, 0, 0, 1]
    assert golden.activation_ref(acc, b, m, s, table, flags, unsigned=True).tolist() == [[0, 255, 0, 255, 131]]
    signed = golden.activation_ref(acc, b, m, s, table - 128, flags, unsigned=False)
    assert signed.tolist() == [[-128, 127, -127, 127, 3]]


def test_residual_clamps_each_term_first():
    # 40000 is clamped before 32767·(−1) is added
    assert golden.residual_ref([[40000]], 0, 128, 7, [[-32767]], 128, 7).tolist() == [[0]]
    assert golden.residual_ref([[-40000]], 0, 128, 7, [[32767]], 255, 1).tolist() == [[0]]
    assert golden.residual_ref([[32767]], 0, 128, 7, [[1]], 128, 7).tolist() == [[32767]]


# ---- Q14 to Q18 ----


def test_scores_against_scalar(rng):
    q, k = rng.integers(-127, 128, (5, 32)), rng.integers(-127, 128, (7, 32))
    q[0], k[0], k[1] = 127, 127, -127
    for m, s in [(200, 13), (255, 1), (128, 31)]:
        expected = [[rq(sum(map(int, a * b)), 0, m, s, -32767, 32767) for b in k] for a in q]
        np.testing.assert_array_equal(golden.scores_ref(q, k, m, s), expected)


def softmax(x, begin, end, table, normalized):
    numerators, total = [0] * len(x), 0
    if begin < end:
        top = max(int(v) for v in x[begin:end])
        for j in range(begin, end):
            numerators[j] = int(table[min(255, top - int(x[j]))])
        total = sum(numerators)
    r, p = reciprocal(total)
    if normalized:
        numerators = [rs(e * r * 255, p + 16) for e in numerators]
        r, p = (32897, 7) if total else (0, 0)
    return numerators, r, p


@pytest.mark.parametrize("normalized", [False, True])
def test_softmax_against_scalar(rng, normalized):
    table = golden.exp_table_ref()
    x = rng.integers(-600, 601, (60, 128)) >> rng.integers(0, 9, (60, 1))
    begin = rng.integers(0, 128, 60)
    end = begin + rng.integers(0, 129 - begin)
    begin[0], end[0] = 0, 0  # empty ranges at both ends
    begin[1], end[1] = 128, 128
    begin[2], end[2], x[2] = 0, 128, 32767  # all saturated: the largest Σ
    begin[3], end[3], x[3] = 0, 128, -32767
    x[4, ::2], x[4, 1::2] = 32767, -32767
    begin[5], end[5] = 127, 128  # one key
    e, r, p = golden.softmax_ref(x, begin, end, table, normalized)
    expected = [softmax(x[i], int(begin[i]), int(end[i]), table, normalized) for i in range(60)]
    assert [(e[i].tolist(), int(r[i]), int(p[i])) for i in range(60)] == expected
    assert e.min() >= 0 and e.max() <= 255


def test_softmax_examples():
    table = golden.exp_table_ref()
    x = np.zeros((2, 128), np.int64)
    e, r, p = golden.softmax_ref(x, [0, 3], [128, 3], table)
    assert e[0].tolist() == [255] * 128 and (r[0], p[0]) == (32897, 14)  # Σ = 32640 = 2^7·255
    assert e[1].tolist() == [0] * 128 and (r[1], p[1]) == (0, 0)
    # a key outside the range may be larger than all within
    e, _, _ = golden.softmax_ref([[9000, 5, 5]], [1], [3], table)
    assert e.tolist() == [[0, 255, 255]]
    # normalized: two equal keys get 255/2 each, up; an empty row keeps r = 0
    e, r, p = golden.softmax_ref([[9000, 5, 5], [1, 2, 3]], [1, 2], [3, 2], table, normalized=True)
    assert e.tolist() == [[0, 128, 128], [0, 0, 0]] and r.tolist() == [32897, 0] and p.tolist() == [7, 0]
    e, _, _ = golden.softmax_ref([[7]], [0], [1], table, normalized=True)
    assert e.tolist() == [[255]]


def test_softmax_against_float(rng):
    """e within ½ of 255·exp, so its share within n·½/255 + 2^−16 of the float softmax for n keys."""
    table, step = golden.exp_table_ref(), np.log(510) / 255
    x = np.rint(rng.normal(0, 150, (100, 40))).astype(np.int64)
    e, r, p = golden.softmax_ref(x, [0] * 100, [40] * 100, table)
    exact = np.exp((x - x.max(axis=1, keepdims=True)) * step)
    assert np.abs(e - 255 * exact).max() <= 0.5 + 1e-9
    share = e * r[:, None] / 2.0 ** (p[:, None] + 16)
    assert np.abs(share - exact / exact.sum(axis=1, keepdims=True)).max() <= 40 * 0.5 / 255 + 2**-16
    normalized, _, _ = golden.softmax_ref(x, [0] * 100, [40] * 100, table, normalized=True)
    assert np.abs(normalized / 255 - share).max() <= 0.5 / 255 + 2**-22


def test_reciprocal_every_sum():
    """Every Σ: as the scalar oracle, r in 2^15 .. 2^16 − 1, relative error at most 2^−16."""
    r, p = golden.reciprocal_ref(np.arange(32641))
    for total in range(32641):
        assert (r[total], p[total]) == reciprocal(total)
        if total:
            assert 2**15 <= r[total] <= 2**16 - 1
            assert abs(int(r[total]) * total - 2 ** (int(p[total]) + 16)) <= 2 ** int(p[total])
    assert (r[0], p[0]) == (0, 0) and (r[1], p[1]) == (65535, 0) and (r[255], p[255]) == (32897, 7)


@pytest.mark.parametrize("total", [-1, 32641])
def test_reciprocal_refuses(total):
    with pytest.raises(ValueError):
        golden.reciprocal_ref([total])


@pytest.mark.parametrize("normalized", [False, True])
def test_context_against_scalar_and_float(rng, normalized):
    """Against float within 1 step at m·2^−s = 1/256 (context in steps of V) and, normalized, n·½/255·127 more."""
    x = rng.integers(-400, 401, (20, 40))
    begin, end = np.array([0] * 19 + [7]), np.array([*range(1, 20), 7])
    v = rng.integers(-127, 128, (40, 32))
    v[:, 0], v[:, 1] = 127, -127
    m, s = factors(rng, 32)
    m[:3], s[:3] = 128, 15
    s = np.maximum(s, 12)
    e, r, p = golden.softmax_ref(x, begin, end, golden.exp_table_ref(), normalized)
    context = golden.context_ref(e, v, r, p, m, s)
    expected = []
    for i in range(20):
        row = []
        for c in range(32):
            u = rs(sum(int(e[i, j]) * int(v[j, c]) for j in range(40)) * int(r[i]), int(p[i]) + 8)
            row.append(rq(u, 0, int(m[c]), int(s[c]), -127, 127))
        expected.append(row)
    np.testing.assert_array_equal(context, expected)
    assert not context[19].any()  # no key
    plain, _, _ = golden.softmax_ref(x, begin, end, golden.exp_table_ref())
    average = (plain @ v)[:19] / plain.sum(axis=1, keepdims=True)[:19]
    bound = 1 + (ceil(20 * 0.5 / 255 * 127) if normalized else 0)
    unit = golden.context_ref(e, v, r, p, np.full(32, 128), np.full(32, 15))
    assert np.abs(unit[:19] - average).max() <= bound


# ---- the whole file ----


def test_golden_has_no_floats():
    """No float literal, no true division, no math function but isqrt; and floats are refused on input."""
    assert golden.isqrt is isqrt
    for node in ast.walk(ast.parse(inspect.getsource(golden))):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float))
        assert not (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
        assert not (
            isinstance(node, ast.ImportFrom) and node.module == "math" and [a.name for a in node.names] != ["isqrt"]
        )
    with pytest.raises(TypeError):
        golden.round_shift_ref(np.array([1.0]), 1)
    with pytest.raises(TypeError):
        golden.linear_ref(np.ones((2, 2), np.float32), np.ones((2, 2), np.int8))
