# SPDX-License-Identifier: Apache-2.0
"""Every operation of the vector unit against its golden function, at awkward sizes and extremes."""

import ctypes

import numpy as np
import pytest
from units import ABUF, IO, KEYS, LANES, RESIDUAL, VALUES, Units, linear_words, norm_words
from zynqbert.quant import golden

BUILDS = ["csim", "checked", "native"]
SHIFTS = [1, 2, 7, 15, 20, 31]


@pytest.fixture(scope="module", params=BUILDS)
def units(request):
    return Units(request.param)


def factors(rng, n):
    """Biases, mantissas (some dead) and shifts of n channels."""
    b = rng.integers(-(2**20), 2**20, n)
    m = rng.integers(128, 256, n)
    m[rng.random(n) < 0.1] = 0
    return b, m, rng.choice(SHIFTS, n)


def accumulators(rng, n):
    acc = rng.integers(-(2**22), 2**22, (LANES, n))
    acc[:, 0] = np.resize([2**25, -(2**25), 0, 1, -1], LANES)
    return acc


def signed(raw):
    return np.where(raw > 127, raw - 256, raw)


@pytest.mark.parametrize("n", [1, 33, 128])
@pytest.mark.parametrize("seed", range(3))
def test_int8(units, n, seed):
    rng = np.random.default_rng(seed)
    acc, (b, m, s) = accumulators(rng, n), factors(rng, n)
    units.put_parameters(linear_words(b, m, s))
    units.vector("linear", acc, words=n, destination=ABUF, address=40)
    np.testing.assert_array_equal(signed(units.get_activation(40, n)), golden.int8_ref(acc, b, m, s))


def test_int8_ties_and_saturation(units):
    """rs(5, 1) = 3, rs(−5, 1) = −2; the range ends at ±127."""
    acc = np.zeros((LANES, 1), dtype=np.int64)
    acc[:7, 0] = [5, -5, 3, -3, 2, -2, 1]
    units.put_parameters(linear_words([0], [128], [8]))
    units.vector("linear", acc, words=1, destination=ABUF)
    assert signed(units.get_activation(0, 1))[:7, 0].tolist() == [3, -2, 2, -1, 1, -1, 1]
    acc[:4, 0] = [255, 254, -255, -256]
    units.vector("linear", acc, words=1, destination=ABUF)
    assert signed(units.get_activation(0, 1))[:4, 0].tolist() == [127, 127, -127, -127]


@pytest.mark.parametrize("unsigned", [False, True])
def test_activation(units, unsigned):
    rng = np.random.default_rng(5)
    n = 65
    table = rng.integers(0, 256, 256) if unsigned else rng.integers(-127, 128, 256)
    units.load_table(1, table)
    acc, (b, m, s) = accumulators(rng, n), factors(rng, n)
    s = np.maximum(s, 12)
    use = rng.integers(0, 2, n)
    units.put_parameters(linear_words(b, m, s, use))
    units.vector("linear", acc, words=n, destination=ABUF, table=1, unsigned_output=unsigned)
    raw = units.get_activation(0, n)
    expected = golden.activation_ref(acc, b, m, s, table, use, unsigned=unsigned)
    np.testing.assert_array_equal(raw if unsigned else signed(raw), expected)


def test_keys_go_to_the_group_of_their_row_block(units):
    rng = np.random.default_rng(6)
    acc, (b, m, s) = accumulators(rng, 64), factors(rng, 64)
    units.put_parameters(linear_words(b, m, s))
    for rb in range(4):
        units.vector("linear", np.roll(acc, rb, axis=0), words=64, destination=KEYS, row_block=rb, channel=96)
    for rb in range(4):
        address = (rb // 2) * 1024 + 96
        got = np.stack([units._get("zq_get_key_value", rb % 2, address + i) for i in range(64)], axis=1)
        np.testing.assert_array_equal(signed(got), golden.int8_ref(np.roll(acc, rb, axis=0), b, m, s))


@pytest.mark.parametrize("head_width", [32, 64])
def test_values_take_the_corner_turn(units, head_width):
    rng = np.random.default_rng(7)
    n, first, rb = 128, 64, 2
    acc, (b, m, s) = accumulators(rng, n), factors(rng, n)
    units.put_parameters(linear_words(b, m, s))
    units.vector("linear", acc, words=n, destination=VALUES, row_block=rb, channel=first, head_width=head_width)
    expected = golden.int8_ref(acc, b, m, s)
    for c in range(first, first + n, 32):
        group, head = (c % head_width) // 32, c // head_width
        address = 2048 + head * 128 + rb * 32
        got = np.stack([units._get("zq_get_key_value", group, address + t) for t in range(LANES)])
        np.testing.assert_array_equal(signed(got), expected[:, c - first : c - first + 32])


@pytest.mark.parametrize("n", [1, 33])
def test_residual(units, n):
    rng = np.random.default_rng(8)
    acc, (b, m, s) = accumulators(rng, n), factors(rng, n)
    y = rng.integers(-32767, 32768, (LANES, n))
    y[0], y[1] = 32767, -32767
    for m_r, s_r in [(128, 7), (255, 1), (200, 9), (0, 1)]:
        units.put_residual(y, rb=1)
        units.put_parameters(linear_words(b, m, s))
        teed = units.vector("linear", acc, words=n, destination=RESIDUAL, row_block=1, m=m_r, s=s_r, first_tile=1)
        expected = golden.residual_ref(acc, b, m, s, y, m_r, s_r)
        np.testing.assert_array_equal(units.get_residual(n, rb=1), expected)
        np.testing.assert_array_equal(teed, expected)


@pytest.mark.parametrize("n", [1, 33])
def test_branch(units, n):
    """The product goes to the residual, and by itself as int8 to the activation memory (Q25)."""
    rng = np.random.default_rng(10)
    acc, (b, m, s) = accumulators(rng, n), factors(rng, n)
    s = np.maximum(s, 7)
    branch = rng.integers(128, 256, n), rng.choice([1, 8, 12, 16, 31], n)
    branch[0][rng.random(n) < 0.2] = 0
    y = rng.integers(-32767, 32768, (LANES, n))
    units.put_residual(y, rb=2)
    units.put_parameters(linear_words(b, m, s, branch=branch))
    command = {"words": n, "destination": RESIDUAL, "row_block": 2, "m": 200, "s": 9, "first_tile": 1, "address": 77}
    teed = units.vector("linear", acc, branch=1, **command)
    h = golden.branch_operand_ref(golden.branch_ref(acc, b, m, s), *branch)
    expected = golden.residual_ref(acc, b, m, s, y, 200, 9)
    np.testing.assert_array_equal(signed(units.get_activation(77, n)), h)
    np.testing.assert_array_equal(units.get_residual(n, rb=2), expected)
    np.testing.assert_array_equal(teed, expected)
    assert len(np.unique(h)) > 10 or n == 1
    units.put_residual(y, rb=2)
    units.vector("linear", -acc, **command)  # without the flag the activation memory stays
    np.testing.assert_array_equal(signed(units.get_activation(77, n)), h)


def test_branch_ties_and_saturation(units):
    """rs(5, 1) = 3, rs(−5, 1) = −2; the range ends at ±127, and is reached from what the product's ended at."""
    acc = np.zeros((LANES, 1), dtype=np.int64)
    acc[:9, 0] = [5, -5, 3, -3, 255, -255, 256, 40000, -40000]
    units.put_residual(np.zeros((LANES, 1)), rb=0)
    units.put_parameters(linear_words([0], [128], [7], branch=([128], [8])))
    units.vector("linear", acc, words=1, destination=RESIDUAL, first_tile=1, s=1, branch=1)
    found = signed(units.get_activation(0, 1))[:9, 0].tolist()
    assert found == [3, -2, 2, -1, 127, -127, 127, 127, -127]


def test_logits(units):
    rng = np.random.default_rng(9)
    acc, (b, m, s) = accumulators(rng, 5), factors(rng, 5)
    units.put_parameters(linear_words(b, m, s))
    np.testing.assert_array_equal(units.vector("linear", acc, words=5, destination=IO), golden.logits_ref(acc, b, m, s))


def norm_case(rng, n, extra):
    gamma = rng.integers(-127, 128, n)
    entries = np.ones(n, dtype=np.int64)
    entries[rng.permutation(n)[:extra]] += rng.integers(1, 4, extra)
    return gamma, rng.integers(1, 14, n), rng.integers(-127, 128, n), rng.integers(0, 9, n), entries


def write_rows(units, x, rb=0):
    """x into the residual memory with its sums, as a product's drain leaves it: acc·128 >> 7 and no residual."""
    n = x.shape[1]
    units.put_residual(np.zeros_like(x), rb)
    for first in range(0, n, 128):
        part = x[:, first : first + 128]
        k = part.shape[1]
        units.put_parameters(linear_words(np.zeros(k), np.full(k, 128), np.full(k, 7)))
        units.vector(
            "linear", part, words=k, destination=RESIDUAL, row_block=rb, channel=first, first_tile=first == 0, s=1
        )


@pytest.mark.parametrize("n", [1, 2, 96, 129])
@pytest.mark.parametrize("scale", [1, 40, 3000, 32767])
def test_layer_norm(units, n, scale):
    rng = np.random.default_rng(n + scale)
    x = np.clip(np.rint(rng.normal(0, scale, (LANES, n))), -32767, 32767).astype(np.int64)
    x[0] = 77  # zero variance
    x[1] = np.where(np.arange(n) % 2 == 0, 32767, -32767)
    x[2] = 0
    x[2, n // 2] = 32767  # the largest z there is
    gamma, gamma_shift, beta, beta_shift, entries = norm_case(rng, n, n // 8)
    write_rows(units, x, rb=3)
    units.put_parameters(norm_words(gamma, gamma_shift, beta, beta_shift, entries))
    m, s = 200, 13
    teed = units.vector("norm", words=entries.sum(), width=n, row_block=3, address=500, m=m, s=s)
    y = golden.layer_norm_ref(x, gamma, gamma_shift, beta, beta_shift)
    np.testing.assert_array_equal(teed, y)
    np.testing.assert_array_equal(units.get_residual(n, rb=3), y)
    got = signed(units.get_activation(500, int(entries.sum())))
    np.testing.assert_array_equal(got, golden.entries_ref(y, entries, m, s))


def test_layer_norm_at_full_width(units):
    rng = np.random.default_rng(0)
    n = 1024
    x = rng.integers(-32767, 32768, (LANES, n))
    gamma, gamma_shift, beta, beta_shift, entries = norm_case(rng, n, 40)
    write_rows(units, x)
    units.put_parameters(norm_words(gamma, gamma_shift, beta, beta_shift, entries))
    teed = units.vector("norm", words=entries.sum(), width=n, m=255, s=9)
    np.testing.assert_array_equal(teed, golden.layer_norm_ref(x, gamma, gamma_shift, beta, beta_shift))


@pytest.mark.parametrize(("m", "s"), [(255, 1), (200, 9), (128, 31), (0, 1)])
@pytest.mark.parametrize("n", [1, 96, 129])
def test_plain_norm(units, n, m, s):
    """(Q20) y = x whatever the parameters say, and its entries; the residual stays."""
    rng = np.random.default_rng(n + m)
    x = rng.integers(-32767, 32768, (LANES, n))
    x[0], x[1], x[2] = 32767, -32767, 0
    x[3] = rng.integers(-3, 4, n)
    gamma, gamma_shift, beta, beta_shift, entries = norm_case(rng, n, 1 + n // 8)
    write_rows(units, x, rb=2)
    for words in (norm_words(gamma, gamma_shift, beta, beta_shift, entries), norm_words(*np.zeros((4, n)), entries)):
        units.put_parameters(words)
        teed = units.vector("norm", words=entries.sum(), width=n, row_block=2, address=600, m=m, s=s, plain=1)
        np.testing.assert_array_equal(teed, x)
        np.testing.assert_array_equal(units.get_residual(n, rb=2), x)
        got = signed(units.get_activation(600, int(entries.sum())))
        np.testing.assert_array_equal(got, golden.entries_ref(x, entries, m, s))


def test_inverse_root(units):
    rng = np.random.default_rng(3)
    v = {1, 2, 3, 2**50 - 1}
    for p in range(1, 50):
        v |= {2**p - 1, 2**p, 2**p + 1}
    v |= set(rng.integers(1, 2**50, 500).tolist())
    r, h = ctypes.c_int64(), ctypes.c_int64()
    got = []
    for x in sorted(v):
        units.lib.zq_inverse_root(ctypes.c_uint64(x), ctypes.byref(r), ctypes.byref(h))
        got.append((r.value, h.value))
    expected = golden.inverse_root_ref(np.array(sorted(v)))
    np.testing.assert_array_equal(np.array(got).T, np.stack(expected))


def test_gather(units):
    rng = np.random.default_rng(4)
    n = 70
    _, _, _, _, entries = norm_case(rng, n, 9)
    y = rng.integers(-32767, 32768, (4, LANES, n))
    for rb in range(4):
        units.put_residual(y[rb], rb)
    rows = [0, 127, 64, 33, 5]
    units.load_rows(np.zeros(128), np.zeros(128), rows)
    zeros = np.zeros(n)
    units.put_parameters(norm_words(zeros, zeros, zeros, zeros, entries))
    units.vector("gather", words=entries.sum(), width=n, address=9, m=150, s=14)
    got = signed(units.get_activation(9, int(entries.sum())))
    np.testing.assert_array_equal(got[: len(rows)], golden.entries_ref(y.reshape(128, n)[rows], entries, 150, 14))
    assert not got[len(rows) :].any()


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_softmax_and_context(units, blocks, normalized):
    rng = np.random.default_rng(10 + blocks)
    keys, rb, width = 32 * blocks, blocks - 1, 64
    begin = rng.integers(0, keys, 32 * blocks)
    end = np.minimum(begin + rng.integers(0, keys + 1, 32 * blocks), keys)
    begin[rb * 32 : rb * 32 + 4], end[rb * 32 : rb * 32 + 4] = [0, 0, keys - 1, 5], [keys, 1, keys, 5]
    exp_table = np.array(golden.exp_table_ref())
    units.load_table(0, exp_table)
    units.load_rows(begin, end)
    acc = rng.integers(-60000, 60000, (LANES, keys))
    acc[0] = 1000  # all equal: the largest sum
    m, s = 190, 15
    m_c, s_c = rng.integers(128, 256, width), rng.integers(14, 17, width)
    mine = np.concatenate([linear_words([0], [m], [s]), linear_words(np.zeros(width), m_c, s_c), [0]])
    others = np.concatenate([linear_words([0], [255], [s - 1]), linear_words(np.zeros(width), m_c // 2, s_c), [0]])
    units.put_parameters(np.concatenate([others, mine]).astype(np.uint64))
    head = 66  # the factors of another head come first
    units.vector("heads", words=2 * head)
    at = {"channel": head, "item_slot": 1}
    units.vector("scores", acc, words=keys, row_block=rb, address=100, normalized=normalized, **at)
    x = golden.requantize_ref(acc, 0, m, s, *golden.INT16)
    mine = slice(rb * 32, rb * 32 + 32)
    e, r, p = golden.softmax_ref(x, begin[mine], end[mine], exp_table, normalized)
    np.testing.assert_array_equal(units.get_activation(100, keys), e)

    v = rng.integers(-127, 128, (keys, width))
    v[:, 0], v[:, 1] = 127, -127
    units.vector("context", golden.linear_ref(v.T, e), words=width, address=300, **at)
    np.testing.assert_array_equal(signed(units.get_activation(300, width)), golden.context_ref(e, v, r, p, m_c, s_c))


def test_lanes_do_not_mix(units):
    """Changing one row changes that row alone."""
    rng = np.random.default_rng(12)
    x = rng.integers(-3000, 3000, (LANES, 40))
    gamma, gamma_shift, beta, beta_shift, entries = norm_case(rng, 40, 3)
    results = []
    for change in (0, 1):
        x[17] += change * 100 * rng.integers(1, 5, 40)
        write_rows(units, x)
        units.put_parameters(norm_words(gamma, gamma_shift, beta, beta_shift, entries))
        results.append(units.vector("norm", words=entries.sum(), width=40, m=128, s=8))
    same = (results[0] == results[1]).all(axis=1)
    assert not same[17]
    assert same[np.arange(LANES) != 17].all()
