# SPDX-License-Identifier: Apache-2.0
"""Where the cycles of a pass go: each to one instruction and to what bound it, from what the cycle model saw.

The array is what a pass is built around, so that a cycle in which it multiplies is its own. In another one it waits,
and what it waits for decides: weights, its own drain, or the vector unit; then what that does, or waits for in turn.
Of what one tile waits for, what came last bound it: weights that came before the data did not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .instructions import Instruction
from .program_parts import Part, parts_of

# What can bind a cycle, most specific first; all but the first are cycles in which the array stands still.
CAUSES = {
    "array": "the array multiplies",
    "weights": "weights on their way from DDR or the resident memory",
    "vector": "the vector unit works",
    "drain": "sums on their way out of the array",
    "load": "parameters and embedding rows on their way from DDR",
    "store": "results on their way to DDR",
    "hand-over": "commands, tokens, start and end",
}


@dataclass
class Timeline:
    """What cycles.simulate notes of a pass where it is asked to: nothing of it changes a cycle.

    `work`: by unit (begin, end, instruction), `waits`: by "unit.reason" (begin, end), in order and disjoint; an
    "vector.accumulators" lies within work of the vector unit. `busy`: cycles of each unit by instruction.
    """

    work: defaultdict[str, list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))
    waits: defaultdict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    busy: Sequence[Mapping[str, int]] = ()
    cycles: int = 0

    def worked(self, unit: str, instruction: int, begin: int, end: int) -> None:
        """`unit` runs a command of `instruction` in cycles `begin` to before `end`."""
        if end > begin:
            self.work[unit].append((begin, end, instruction))

    def waited(self, reason: str, begin: int, end: int) -> None:
        """A unit waits, as its `reason` "unit.what" says, in cycles `begin` to before `end`."""
        if end > begin:
            self.waits[reason].append((begin, end))

    def account(self) -> Counter[tuple[int, str]]:
        """Cycles by instruction and cause (CAUSES): they add up to the pass's."""
        segments = [*self.work.values(), *self.waits.values()]
        edges = sorted({0, self.cycles, *(edge for of in segments for s in of for edge in s[:2] if edge < self.cycles)})
        bound = _Bound(self)
        found: Counter[tuple[int, str]] = Counter()
        for begin, end in pairwise(edges):
            found[bound.at(begin)] += end - begin
        return found


class _Course:
    """Disjoint segments (begin, end, …) in order, looked at in times that never go back."""

    def __init__(self, segments: Sequence[tuple[int, ...]]):
        self.segments, self.index = segments, 0

    def next(self, time: int) -> tuple[int, ...] | None:
        """The segment that holds `time`, or the first one after it."""
        while self.index < len(self.segments) and self.segments[self.index][1] <= time:
            self.index += 1
        return self.segments[self.index] if self.index < len(self.segments) else None

    def at(self, time: int) -> tuple[int, ...] | None:
        """The segment that holds `time`."""
        found = self.next(time)
        return found if found is not None and found[0] <= time else None


class _Bound:
    """What bound a cycle, asked for from the first to the last."""

    def __init__(self, timeline: Timeline):
        self.array, self.vector, self.store = (_Course(timeline.work[unit]) for unit in ("array", "vector", "store"))
        self.waits = {reason: _Course(segments) for reason, segments in timeline.waits.items()}
        later = {begin for reason in ("array.data", "array.credit") for begin, _ in timeline.waits.get(reason, ())}
        self.waits["array.weights"] = _Course([s for s in timeline.waits.get("array.weights", ()) if s[1] not in later])
        self.last = max(len(timeline.busy) - 1, 0)  # END

    def at(self, time: int) -> tuple[int, str]:
        """The instruction and the cause of cycle `time`."""
        multiplies = self.array.at(time)
        if multiplies is not None:
            return multiplies[2], "array"
        for reason, cause in (("array.weights", "weights"), ("array.drain", "drain")):
            if self._waits(reason, time):
                return self._coming(time, self.array), cause
        works = self.vector.at(time)
        if self._waits("vector.store", time):
            return self._coming(time, self.vector), "store"
        if works is not None:
            return works[2], "drain" if self._waits("vector.accumulators", time) else "vector"
        if self._waits("vector.parameters", time):
            return self._coming(time, self.vector), "load"
        stores = self.store.at(time)
        if stores is not None:
            return stores[2], "store"
        return self._coming(time, self.array, self.vector), "hand-over"

    def _waits(self, reason: str, time: int) -> bool:
        return reason in self.waits and self.waits[reason].at(time) is not None

    def _coming(self, time: int, *units: _Course) -> int:
        """The instruction of the command that runs or comes first on one of `units`; END's if none does."""
        coming = [found for found in (unit.next(time) for unit in units) if found is not None]
        return min(coming)[2] if coming else self.last


@dataclass(frozen=True)
class PartCycles:
    """What one part of a model costs: `bound`, its cycles of the pass by cause, and `busy`, cycles that each unit works
    for it, at whatever time."""

    part: Part
    bound: Mapping[str, int]
    busy: Mapping[str, int]

    @property
    def cycles(self) -> int:
        """Its cycles of the pass; those of all parts add up to it."""
        return sum(self.bound.values())


def by_part(program: Sequence[Instruction], timeline: Timeline) -> list[PartCycles]:
    """What each part of the model costs that `program` runs, in the program's order.

    `timeline`: of a pass through `program`. Raises ValueError where that is no encoder (program_parts.py).
    """
    parts = parts_of(program)
    bound: dict[Part, Counter[str]] = {part: Counter() for part in dict.fromkeys(parts)}
    busy: dict[Part, Counter[str]] = {part: Counter() for part in bound}
    for (instruction, cause), cycles in timeline.account().items():
        bound[parts[instruction]][cause] += cycles
    for part, counts in zip(parts, timeline.busy, strict=True):
        busy[part].update(counts)
    return [
        PartCycles(part, {cause: bound[part][cause] for cause in CAUSES if bound[part][cause]}, dict(busy[part]))
        for part in bound
    ]
