# SPDX-License-Identifier: Apache-2.0
"""Which sentences share a pass: the first always, and of the others those that fill it best."""

import itertools

import numpy as np
import pytest
from zynqbert.host.packer import Packer


def filled(window, rows, counts, most=32):
    packer = Packer(window, rows, most)
    for number, count in enumerate(counts):
        packer.add((number, count), count)
    return packer.take(), packer


def best(rows, counts):
    """Rows that the first fills with any set of the others, at the most."""
    others = counts[1:]
    sets = itertools.chain.from_iterable(itertools.combinations(others, n) for n in range(len(others) + 1))
    return max(total for total in (counts[0] + sum(s) for s in sets) if total <= rows)


@pytest.mark.parametrize("seed", range(12))
def test_no_set_with_the_first_fills_more(seed):
    random = np.random.default_rng(seed)
    counts = random.integers(1, 40, random.integers(1, 12)).tolist()
    taken, packer = filled(16, 64, counts)
    assert taken[0] == (0, counts[0]) and taken == sorted(taken)
    assert sum(count for _, count in taken) == best(64, counts)
    assert len(taken) + len(packer) == len(counts)


def test_of_sets_that_fill_the_same_it_is_one_of_the_first():
    taken, packer = filled(8, 10, [4, 3, 3, 3, 3])
    assert [number for number, _ in taken] == [0, 1, 2]
    assert [number for number, _ in packer.take()] == [3, 4]
    assert packer.take() == [] and len(packer) == 0


def test_all_are_taken_once_and_nobody_waits_for_ever():
    random = np.random.default_rng(1)
    packer, out, passes = Packer(8, 128), [], 0
    for number in range(300):
        packer.add(number, 128 if number == 5 else int(random.integers(2, 60)))
        while packer.full:
            first = min(n for n, _ in packer._waiting)
            taken = packer.take()
            assert taken[0] == first
            out += taken
            passes += 1
    while taken := packer.take():
        out += taken
    assert sorted(out) == list(range(300))


def test_at_most_so_many_answers():
    taken, packer = filled(40, 128, [2] * 40)
    assert len(taken) == 32 and len(packer) == 8


def test_what_does_not_fit_is_refused():
    packer = Packer(2, 128)
    for rows in (0, 129):
        with pytest.raises(ValueError, match=f"a sentence of {rows} rows, 1 to 128 fit"):
            packer.add("x", rows)
    packer.add("a", 1)
    assert not packer.full
    packer.add("b", 128)
    assert packer.full
    with pytest.raises(ValueError, match="2 sentences wait already"):
        packer.add("c", 1)
    with pytest.raises(ValueError, match="a window of 0 sentences"):
        Packer(0)
