# SPDX-License-Identifier: Apache-2.0
"""Depths of the streams between `weights` and `expand`: enough for any segment, sound or corrupt, in lockstep hardware.

Modelled here in steps: `weights` takes one beat of every port, and stands still where any port's stream is full;
`expand` makes one word of all ports, and stands still where any port lacks a mask or values. Processes that only read
and write streams deadlock in every schedule or in none, so that one schedule shows it; with expand as early as it can
be, the fill is what the streams need at least.
"""

import re

import numpy as np
import pytest
from zynqbert.fpga.simulator import ROOT

CONFIG = (ROOT / "kernels" / "config.hpp").read_text()
STEPS = int(re.search(r"kSegmentSteps = (\d+);", CONFIG)[1])
MASK_DEPTH = STEPS // int(re.search(r"kMaskDepth = kSegmentSteps / (\d+);", CONFIG)[1])
VALUE_DEPTH = int(re.search(r"kValueDepth = (\d+);", CONFIG)[1])


class Deadlock(AssertionError):
    """Both units stand still."""


def beats_of(ones: np.ndarray, beats: int | None) -> list[list[tuple[int, str]]]:
    """Writes of `weights` for one masked segment, a list a step: (port, mask or value); ones [ports, steps].

    `beats`: what its header says, where that is not what it needs; zeros for what is missing follow, port by port.
    """
    ports, steps = ones.shape
    groups = np.add.reduceat(ones, range(0, steps, 4), axis=1)
    sent, debt, writes = [0] * ports, [0] * ports, []
    while any(sent[p] < groups.shape[1] or debt[p] > 0 for p in range(ports)):
        if beats is not None and len(writes) == beats:
            break
        step = []
        for p in range(ports):
            if debt[p] > 0:
                step.append((p, "value"))
                debt[p] -= 32
            elif sent[p] < groups.shape[1]:
                step.append((p, "mask"))
                debt[p] += int(groups[p, sent[p]])
                sent[p] += 1
        writes.append(step)
    for p in range(ports):
        for n in range(sent[p], groups.shape[1]):
            ones[p, 4 * n : 4 * n + 4] = 0  # masks of zeros
        writes += [[(p, "mask")]] * (groups.shape[1] - sent[p])
        writes += [[(p, "value")]] * max(-(-debt[p] // 32), 0)
    return writes


def run(segments, mask_depth=MASK_DEPTH, value_depth=VALUE_DEPTH, beats=()) -> tuple[int, int]:
    """Most masks and most values that any port's stream holds. Raises Deadlock."""
    segments = [s.copy() for s in segments]
    beats = dict(beats)
    writes = [step for n, ones in enumerate(segments) for step in beats_of(ones, beats.get(n))]
    ports = len(segments[0])
    words = [(i, ones[:, i]) for ones in segments for i in range(ones.shape[1])]
    depth = {"mask": mask_depth, "value": value_depth}
    fill = {"mask": [0] * ports, "value": [0] * ports}
    most = {"mask": 0, "value": 0}
    left, sent, made = [0] * ports, 0, 0
    while made < len(words):
        moved = False
        if sent < len(writes) and all(fill[kind][p] < depth[kind] for p, kind in writes[sent]):
            for p, kind in writes[sent]:
                fill[kind][p] += 1
                most[kind] = max(most[kind], fill[kind][p])
            sent, moved = sent + 1, True
        at, ones = words[made]
        kept = [0] * ports if at == 0 else left  # a segment begins with nothing in its window
        lacking = [kept[p] < ones[p] for p in range(ports)]
        needs_mask = at % 4 == 0
        if all(not (lacking[p] and fill["value"][p] == 0) for p in range(ports)) and not (
            needs_mask and min(fill["mask"]) == 0
        ):
            for p in range(ports):
                fill["mask"][p] -= needs_mask
                fill["value"][p] -= lacking[p]
                left[p] = kept[p] + 32 * lacking[p] - int(ones[p])
            made, moved = made + 1, True
        if not moved:
            raise Deadlock(f"{sent} of {len(writes)} beats, {made} of {len(words)} words")
    assert sent == len(writes) and not any(fill["mask"]) and not any(fill["value"])
    return most["mask"], most["value"]


def split(groups: int, ports: int = 4) -> np.ndarray:
    """The first `groups` mask beats dense on the even ports, the others on the odd ones."""
    ones = np.zeros((ports, STEPS), dtype=int)
    ones[0::2, : 4 * groups] = 32
    ones[1::2, 4 * groups :] = 32
    return ones


def random_segment(rng, ports: int) -> np.ndarray:
    """Stretches of steps, on each port empty, dense, or something between."""
    steps = STEPS if rng.random() < 0.8 else int(rng.integers(1, STEPS))
    ones = np.zeros((ports, steps), dtype=int)
    for p in range(ports):
        at = 0
        while at < steps:
            size = int(rng.integers(1, 200))
            high = int(rng.choice([0, 1, 20, 32, 32]))
            ones[p, at : at + size] = rng.integers(high if rng.random() < 0.7 else 0, high + 1)
            at += size
    return ones


def test_the_worst_split():
    """No port is ahead of another by more than 114 beats of values, wherever dense and empty halves meet."""
    fills = [run([split(groups)]) for groups in range(65)]
    assert max(values for _, values in fills) in range(100, 116)
    assert max(masks for masks, _ in fills) <= MASK_DEPTH


def test_shallower_streams_deadlock():
    with pytest.raises(Deadlock):
        run([split(36)], value_depth=90)
    with pytest.raises(Deadlock):
        run([split(64)], mask_depth=30)


@pytest.mark.parametrize("ports", [2, 4, 6])
@pytest.mark.parametrize("seed", range(15))
def test_any_segments(ports, seed):
    rng = np.random.default_rng(seed)
    masks, values = run([random_segment(rng, ports) for _ in range(4)])
    assert masks <= MASK_DEPTH and values <= VALUE_DEPTH


@pytest.mark.parametrize("seed", range(20))
def test_segments_cut_short(seed):
    """A corrupt header's beats may end anywhere; what is missing comes port by port."""
    rng = np.random.default_rng(100 + seed)
    last = split(int(rng.integers(65))) if seed % 2 else random_segment(rng, 4)
    cut = int(rng.integers(-(-last.shape[1] // 4), 5 * -(-last.shape[1] // 4) + 1))
    run([random_segment(rng, 4), split(36), last], beats=[(2, cut)])


def test_segments_behind_each_other():
    """The next segment's beats wait behind those of a segment that is not yet through."""
    run([split(36), split(28), split(64), split(0), split(36)])
