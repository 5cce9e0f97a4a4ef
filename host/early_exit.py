# SPDX-License-Identifier: Apache-2.0
"""Sentences that leave early (docs/program.md, Leaving early): operating points, the two ways to run one, who left
where after a pass, and which load that makes.
"""

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..fpga import instructions as isa
from .exit_plan import TABLE_ROWS, ExitPlan
from .layouts import Record
from .packing import Pass

NATS = 2.0**-12  # a step of an entropy (Q21)
# Passes between two looks for better clocks: their mix is known to some percent, and the least saving that a retune is
# made for (dvfs.MARGIN) is over so many several times what it costs.
BATCH = 64
ANOTHER_LOAD = BATCH // 4  # passes of other kinds than at the last look; fewer are chance
_NOTHING_FORETOLD = (0,) * TABLE_ROWS


def operating_point(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The artifact's operating point `name`; ValueError names those there are."""
    exits = manifest.get("exits")
    if exits is None:
        raise ValueError(
            f"early exit {name!r}: the artifact has no off-ramps (manifest.json: exits); "
            "remedy: leave early exit out, or train a model with them"
        )
    points = exits["points"]
    if name not in points:
        there = ", ".join(points) or "none"
        raise ValueError(f"early exit {name!r} is no operating point of the artifact (exits.points); it has: {there}")
    return points[name]


@dataclass(frozen=True)
class Ways:
    """How the programs of one operating point leave: `free`, by entropy alone and with the clock as it is; `timed`, by
    the layer foretold, which chooses the clock, or by entropy alone where the point foretells none: the whole depth is
    assumed then. Their memory images differ by the exit table alone.
    """

    free: ExitPlan
    timed: ExitPlan

    @staticmethod
    def of_point(point: Mapping[str, Any]) -> "Ways":
        """The ways of an operating point (docs/artifact.md)."""
        free = ExitPlan(point["threshold"], _NOTHING_FORETOLD)
        way = point["foretold"]
        if way is None:
            return Ways(free, ExitPlan(point["threshold"], _NOTHING_FORETOLD, clock=True))
        return Ways(free, ExitPlan(way["threshold"], tuple(way["table"]), clock=True))


def target_seconds(latency_target_ms: float) -> float:
    """A latency target in seconds; ValueError unless it is a number of milliseconds above 0."""
    if not (isinstance(latency_target_ms, int | float) and 0 < latency_target_ms < math.inf):
        raise ValueError(f"latency target of {latency_target_ms} ms: a number of milliseconds above 0 is needed")
    return latency_target_ms * 1e-3


def verdicts_of(record: Record, rows: Pass, layers: int) -> tuple[int, ...]:
    """The row blocks, a bit each, in which a sentence was left after each off-ramp of `layers`, up to the 0 that ended
    the pass."""
    lanes = np.array(rows.results)
    first = rows.begin[lanes] // isa.LANES
    end = -(-rows.end[lanes] // isa.LANES)
    blocks = [(1 << int(b)) - (1 << int(a)) for a, b in zip(first, end, strict=True)]
    return verdicts_after(blocks, record.layer[: len(blocks)].tolist(), layers)


def verdicts_after(blocks: Sequence[int], layers: Sequence[int], depth: int) -> tuple[int, ...]:
    """The row blocks in which a sentence is left after each of `depth` off-ramps, up to the 0 that ends the pass;
    blocks: those of each sentence, a bit each, layers: at which each leaves.

    >>> verdicts_after([0b01, 0b11, 0b10], [1, 3, 2], 12)
    (3, 3, 0)
    """
    found: list[int] = []
    for ramp in range(1, depth + 1):
        found.append(functools.reduce(int.__or__, (b for b, n in zip(blocks, layers, strict=True) if n > ramp), 0))
        if not found[-1]:
            break
    return tuple(found)


class Load:
    """The passes with a latency target: when a batch of them is over, and of what kinds it was."""

    def __init__(self) -> None:
        self._target_s: float | None = None
        self._batch: Counter[tuple[int, int]] = Counter()
        self._looked: tuple[float, Counter[tuple[int, int]]] | None = None

    def saw(self, record: Record, rows: Pass, layers: int, target_s: float) -> None:
        """Count a pass by its row blocks and the layer foretold that chose its clock; 1 where every sentence had left,
        `layers` where none was foretold. Another target begins a batch."""
        if target_s != self._target_s:
            self._target_s = target_s
            self._batch.clear()
        lanes = range(len(rows.results))
        left = [int(record.foretold[lane]) or layers for lane in lanes if record.layer[lane] > 1]
        self._batch[rows.row_blocks, max(left, default=1)] += 1

    def another(self, target_s: float) -> Counter[tuple[int, int]] | None:
        """The mix of the batch that is over, if it or its target is another than when this last gave one."""
        if target_s != self._target_s or self._batch.total() < BATCH:
            return None
        mix, self._batch = self._batch, Counter()
        if self._looked is not None:
            looked_s, looked = self._looked
            if target_s == looked_s and (mix - looked).total() < ANOTHER_LOAD:
                return None
        self._looked = target_s, mix
        return mix

    def forget(self) -> None:
        """The next batch counts as another load: the clocks are others."""
        self._looked = None
