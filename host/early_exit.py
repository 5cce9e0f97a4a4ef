# SPDX-License-Identifier: Apache-2.0
"""Sentences that leave early (docs/program.md, Leaving early): operating points, the two ways to run one, and who left
where after a pass.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..fpga import instructions as isa
from .exit_plan import TABLE_ROWS, ExitPlan
from .layouts import Record
from .packing import Pass

NATS = 2.0**-12  # a step of an entropy (Q21)
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
        if point["foretold"] is None:
            return Ways(free, ExitPlan(point["threshold"], _NOTHING_FORETOLD, clock=True))
        return Ways(free, ExitPlan.of_point(point, foretold=True, clock=True))


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
