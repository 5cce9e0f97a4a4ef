# SPDX-License-Identifier: Apache-2.0
"""MAC array and drain against the golden product (Q3 to Q5)."""

import numpy as np
import pytest
from sparse import in_blocks
from units import Units
from zynqbert.quant import golden
from zynqbert.quant.compressed import choose

BUILDS = ["csim", "checked", "native"]


@pytest.fixture(scope="module", params=[(b, c) for b in BUILDS for c in (128, 192)], ids=lambda p: f"{p[0]}-{p[1]}")
def units(request):
    return Units(*request.param)


def operand(rng, k, unsigned):
    return rng.integers(0, 256, (32, k)) if unsigned else rng.integers(-127, 128, (32, k))


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("k", [1, 2, 33, 129])
@pytest.mark.parametrize("n", [1, 2, 31, 65, 128])
def test_w4(units, k, n, unsigned):
    rng = np.random.default_rng(k * 1000 + n)
    a, w = operand(rng, k, unsigned), rng.integers(-7, 8, (n, k))
    np.testing.assert_array_equal(units.array(a, w, w8=False, unsigned=unsigned), golden.linear_ref(w, a))


@pytest.mark.parametrize("keys_values", [False, True])
@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (32, 64), (65, 33), (128, 64)])
def test_w8(units, k, n, unsigned, keys_values):
    rng = np.random.default_rng(k * 1000 + n)
    a, w = operand(rng, k, unsigned), rng.integers(-128, 128, (n, k))
    got = units.array(a, w, w8=True, unsigned=unsigned, keys_values=keys_values)
    np.testing.assert_array_equal(got, golden.linear_ref(w, a))


@pytest.mark.parametrize("sign", [1, -1])
def test_low_field_at_its_bound_borrows_from_the_high_one(units, sign):
    """Σ |n0·a| just below 2^22 beside a high field of the other sign: the correction of Q4 decides."""
    k = 4608 if units.sim.build == "native" else 600
    a = np.full((32, k), 127)
    a[1] = -127
    w = np.empty((4, k), dtype=np.int64)
    w[0], w[1], w[2], w[3] = 7 * sign, -7 * sign, -7 * sign, 0
    np.testing.assert_array_equal(units.array(a, w, w8=False), golden.linear_ref(w, a))


def test_w8_extremes(units):
    """Every byte value as weight against the extremes of a."""
    w = np.arange(-128, 128).reshape(4, 64).repeat(4, axis=1)
    a = np.tile(np.array([255, 0, 128, 1]), (32, 64))
    np.testing.assert_array_equal(units.array(a, w, w8=True, unsigned=True), golden.linear_ref(w, a))


def test_a_tile_starts_from_zero(units):
    rng = np.random.default_rng(1)
    a, w = operand(rng, 8, False), rng.integers(-7, 8, (8, 8))
    units.array(a, w, w8=False)
    np.testing.assert_array_equal(units.array(a, w, w8=False), golden.linear_ref(w, a))


@pytest.mark.parametrize("word", [1, 5000, 9216 - 40])
def test_weights_lie_anywhere_in_the_buffer(units, word):
    rng = np.random.default_rng(2)
    a, w = operand(rng, 40, False), rng.integers(-7, 8, (units.columns, 40))
    units.array(a, np.zeros_like(w), w8=False)
    np.testing.assert_array_equal(units.array(a, w, w8=False, word=word), golden.linear_ref(w, a))


@pytest.mark.parametrize("unsigned", [False, True])
def test_a_tile_without_weights_is_zeros(units, unsigned):
    """Whatever lies in the memories, in one step."""
    rng = np.random.default_rng(3)
    a, w = operand(rng, 1, unsigned), rng.integers(1, 8, (units.columns, 1))
    assert units.array(a, w, w8=False, unsigned=unsigned).any()
    units.sim.trips()
    assert not units.array(a, w, w8=False, unsigned=unsigned, zero=True).any()
    assert units.sim.trips()["array_mac"] == 1


def signed(nibbles: np.ndarray) -> np.ndarray:
    return (nibbles.astype(np.int64) ^ 8) - 8


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("bound", [1, 2, 3])
@pytest.mark.parametrize("k", [4, 7, 64, 130])
def test_blocks_with_a_bound(units, k, bound, unsigned):
    """Each four channels choose their entries of every block; the product is that of all K, in fewer steps."""
    rng = np.random.default_rng(10 * k + bound)
    a = operand(rng, k, unsigned)
    nibbles = in_blocks(rng, units.columns, k, bound)
    steps, choices = choose(nibbles, bound)
    units.put_operand(np.full((32, 4), 0x55), 40 + k)  # behind the last entry: never chosen
    units.sim.trips()
    got = units.array(a, signed(steps), w8=False, unsigned=unsigned, word=3, operand=40, bound=bound, choices=choices)
    np.testing.assert_array_equal(got, golden.linear_ref(signed(nibbles), a))
    assert units.sim.trips()["array_mac"] == -(-k // 4) * bound


@pytest.mark.parametrize("bound", [1, 2, 3])
def test_any_choices_are_taken_as_named(units, bound):
    """An entry twice, none, in any order; what choices say where there is no bound counts for nothing."""
    rng = np.random.default_rng(bound)
    steps = 8 * bound
    a, w = operand(rng, 32, True), rng.integers(-7, 8, (units.columns, steps))
    choices = rng.integers(0, 4, (units.columns // 4, steps))
    entry = 4 * (np.arange(steps) // bound) + choices.repeat(4, axis=0)
    wanted = np.stack([a[:, entry[n]] @ w[n] for n in range(units.columns)], axis=1)
    got = units.array(a, w, w8=False, unsigned=True, bound=bound, choices=choices)
    np.testing.assert_array_equal(got, wanted)
    plain = units.array(a[:, :steps], w, w8=False, unsigned=True, choices=choices)
    np.testing.assert_array_equal(plain, golden.linear_ref(w, a[:, :steps]))


def test_a_long_tile_with_a_bound(units):
    """More steps than any cache of the emulator's cells holds at a time, blocks across its seams."""
    rng = np.random.default_rng(5)
    k, bound = (4608, 3) if units.sim.build == "native" else (400, 3)
    a, nibbles = operand(rng, k, False), in_blocks(rng, units.columns, k, bound)
    steps, choices = choose(nibbles, bound)
    got = units.array(a, signed(steps), w8=False, bound=bound, choices=choices)
    np.testing.assert_array_equal(got, golden.linear_ref(signed(nibbles), a))
