# SPDX-License-Identifier: Apache-2.0
"""Gated cell-steps by hand and step by step; that the RTL has as many is tested in test_mac_array_rtl.py."""

import itertools

import numpy as np
import pytest
from zynqbert.fpga.gating import zero_choices, zero_products


def step_by_step(weights, activations, w8, columns, rows):
    """Every cell of every tile and block, one step at a time, columns and rows that are not there included."""
    per_pair = 1 if w8 else 2
    width = columns // 2 * per_pair
    products = gated = 0
    for first, top in itertools.product(range(0, len(weights), width), range(0, len(activations), rows)):
        for pair, row, k in itertools.product(range(columns // 2), range(rows), range(weights.shape[1])):
            own = weights[first : first + width][per_pair * pair : per_pair * pair + per_pair, k]
            a = activations[top : top + rows][row : row + 1, k]
            products += 1
            gated += k > 0 and (not own.any() or not a.any())
    return products, gated


@pytest.mark.parametrize("w8", [False, True])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 3), (5, 3), (8, 6), (9, 7), (11, 4)])
def test_it_is_what_the_cells_would_count(w8, n, m):
    rng = np.random.default_rng(n)
    weights = rng.integers(-7, 8, (n, 13)) * (rng.random((n, 13)) < 0.4)
    activations = rng.integers(-127, 256, (m, 13)) * (rng.random((m, 13)) < 0.6)
    assert zero_products(weights, activations, w8, 8, 3) == step_by_step(weights, activations, w8, 8, 3)


@pytest.mark.parametrize("w8", [False, True])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 3), (8, 7)])
def test_where_pairs_choose_it_is_that_of_what_each_takes(w8, n, m):
    """A pair at a time, as an array of one pair: the activations that it takes, one behind the other."""
    rng = np.random.default_rng(n)
    n = -(-n // 2) if w8 else n
    weights = rng.integers(-7, 8, (n, 10)) * (rng.random((n, 10)) < 0.4)
    activations = rng.integers(-127, 256, (m, 20)) * (rng.random((m, 20)) < 0.6)
    taken = rng.integers(0, 20, (4, 10))
    per_pair, found = (1 if w8 else 2), np.zeros(2, dtype=int)
    for pair in range(4):
        own = np.zeros((per_pair, 10), dtype=int)
        own[: len(weights[per_pair * pair :][:per_pair])] = weights[per_pair * pair :][:per_pair]
        found += step_by_step(own, activations[:, taken[pair]], w8, 2, 3)
    assert zero_choices(weights, taken, activations, w8, 8, 3) == tuple(found)


def test_by_hand():
    """Two cells, three steps: the first is never gated, in the second only the pair's other weight counts."""
    weights = np.array([[0, 1, 0], [0, 0, 0], [0, 0, 2], [0, 0, 0]])
    activations = np.array([[0, 9, 9]])
    assert zero_products(weights, activations, False, 4, 1) == (6, 2)
    assert zero_products(weights, activations, True, 4, 1) == (12, 6)  # two tiles of two columns


def test_of_nothing_but_zeros_the_first_steps_remain():
    zeros = np.zeros((256, 100), dtype=np.int64)
    assert zero_products(zeros, zeros[:64], False, 128) == (2 * 2 * 64 * 32 * 100, 2 * 2 * 64 * 32 * 99)


def test_a_large_product_does_not_overflow():
    ones = np.ones((4096, 4608), dtype=np.int8)
    products, gated = zero_products(ones, ones[:128], False, 128)
    assert (products, gated) == (32 * 4 * 64 * 32 * 4608, 0)


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match="weights have 4 entries a channel, activations 5 a row"):
        zero_products(np.ones((2, 4)), np.ones((2, 5)), False, 128)
