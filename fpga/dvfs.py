# SPDX-License-Identifier: Apache-2.0
"""Frequency scaling sentence by sentence (after EdgeBERT): layer 1 at the top clock, the rest as slowly as a latency
target allows, or as fast as it goes and the clock stopped after. All of it modelled.

The time at a clock is that of the cycle model at that clock: where weights on their way from DDR bind, fewer cycles
pass at a slower clock. The paper's f = N / (T - t) takes the cycles N for given; from N at the top clock it asks for
more than is needed there (`paper_mhz`, `least_mhz`).

Voltage is fixed, so that a cycle of work costs the same at every clock. Over the same period T, static power and the
processing system included, the two ways of a sentence differ by the cycles in which units wait:

    race: the top clock to the end, then the clock stands until T
    slow: a slower one of the wizard's outputs that meets T, then the clock stands until T

Slow is taken where it saves more than MARGIN of the period's energy, and then no slower than that needs: what the model
cannot tell apart had better be done sooner, since the next sentence may wait.

A plan is anything with a `board`, its `exit_layers` and `simulate(row_blocks, clock_mhz, verdicts=)` as
host.compiler.Plan has them. The row blocks in which a sentence is left are a bit each; `verdicts` are those after each
off-ramp, 0 the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .boards import Board
from .clock_settings import SPEED_GRADE_2, find_settings
from .clocking import pause_joules, retune_seconds, select_seconds
from .cycles import Timing
from .energy import Energy, Work, energy, standing, waiting, work_of, work_until
from .registers import WIZARD_OUTPUTS_MHZ

TABLE = 256  # entries of the clock table
OUTPUTS = len(WIZARD_OUTPUTS_MHZ)
SEARCH_MHZ = 0.5  # how near least_mhz comes
SLOWEST_MHZ = 10.0  # that a retune asks for; the wizard reaches 6.25
MARGIN = 0.01  # of a period's energy, far within what the model's constants are known to
HEAVIEST = 6  # kinds of passes of a mix that ask for outputs of their own

Verdicts = tuple[int, ...]


class Plan(Protocol):
    """What is needed of a compiled model."""

    board: Board
    exit_layers: Sequence[int]

    def simulate(self, row_blocks: int, clock_mhz: float, *, verdicts: Sequence[int] | None = None) -> Timing:
        """Modelled time of a pass; Timing.marks: what it counts until fetch has each verdict."""


@dataclass(frozen=True)
class Course:
    """One way through a pass, modelled: `first_mhz` until the first verdict, `rest_mhz` after it (the same where the
    clock does not change), `seconds` to its end, and what it counts."""

    first_mhz: float
    rest_mhz: float
    seconds: float
    work: Work


@dataclass(frozen=True)
class Choice:
    """The way chosen for a pass: the wizard's `output` that clocks the rest, "race" or "slow", and whether the target
    is met. `period`: energy until the target's period is over, until the end of the pass where there is no target or
    it is missed; modelled."""

    course: Course
    output: int
    strategy: str
    target_s: float | None
    target_met: bool | None
    period: Energy


def leaving_at(layer: int, row_blocks: int) -> Verdicts:
    """Verdicts of a pass all of whose row blocks live until the off-ramp of `layer`, and none after it."""
    return ((1 << row_blocks) - 1,) * (layer - 1) + (0,)


def ladder(outputs: Sequence[float], current: int) -> tuple[tuple[int, float], ...]:
    """Outputs (number, MHz) that the engine may choose for the rest: output `current`, which clocks the first layer,
    then higher-numbered ones that are slower, and slower than those before them: the lowest number is the fastest."""
    found = [(current, outputs[current])]
    for number in range(current + 1, len(outputs)):
        if outputs[number] < found[-1][1]:
            found.append((number, outputs[number]))
    return tuple(found)


def paper_mhz(cycles: float, target_s: float, elapsed_s: float) -> float:
    """The paper's clock for `cycles` of remaining work: N / (T - t) in MHz; infinite where no time is left."""
    left = target_s - elapsed_s
    return cycles / left * 1e-6 if left > 0 else math.inf


class Passes:
    """Modelled passes of one plan, each simulated once; `zero_share` of the array's cell-steps are gated."""

    def __init__(self, plan: Plan, zero_share: float = 0.0):
        self.plan, self.zero_share = plan, zero_share
        self.board = plan.board
        self._timings: dict[tuple[int, Verdicts | None, float], Timing] = {}
        self._courses: dict[tuple[int, Verdicts | None, float, float], Course] = {}

    def timing(self, row_blocks: int, mhz: float, verdicts: Verdicts | None = None) -> Timing:
        """A pass at one clock; without `verdicts` no sentence leaves before the last layer."""
        key = row_blocks, verdicts, mhz
        if key not in self._timings:
            self._timings[key] = self.plan.simulate(row_blocks, mhz, verdicts=verdicts)
        return self._timings[key]

    def until(self, layer: int, row_blocks: int, mhz: float) -> Work:
        """What counts until fetch has the verdict of the off-ramp behind `layer`, every row block alive till then."""
        return work_until(self.timing(row_blocks, mhz).marks[layer - 1], mhz, self.zero_share)

    def work(self, row_blocks: int, mhz: float, verdicts: Verdicts | None = None) -> Work:
        """What a pass at one clock counts. While all row blocks live it is the beginning of the one through all layers;
        from the last verdict to the end it takes the same cycles wherever that is."""
        if verdicts is None or verdicts != leaving_at(len(verdicts), row_blocks):
            return work_of(self.timing(row_blocks, mhz, verdicts), self.zero_share)
        whole = self.timing(row_blocks, mhz)
        end = whole.cycles - whole.marks[-1].cycles
        return self.until(len(verdicts), row_blocks, mhz) + waiting(end / (mhz * 1e6), mhz)

    def course(self, row_blocks: int, verdicts: Verdicts | None, first_mhz: float, rest_mhz: float) -> Course:
        """The pass with its first layer at one clock and the rest at another, the change between them counted.

        A pass that ends with the first verdict, or has no off-ramp, runs at the first clock.
        """
        if verdicts is None or len(verdicts) < 2:
            rest_mhz = first_mhz
        key = row_blocks, verdicts, first_mhz, rest_mhz
        if key not in self._courses:
            work = self.work(row_blocks, rest_mhz, verdicts)
            if rest_mhz != first_mhz:
                rest = work - self.until(1, row_blocks, rest_mhz)
                work = self.until(1, row_blocks, first_mhz) + standing(select_seconds()) + rest
            self._courses[key] = Course(first_mhz, rest_mhz, work["seconds"], work)
        return self._courses[key]

    def energy(self, course: Course, until_s: float | None = None, gated: bool = True) -> Energy:
        """Energy of a course; to `until_s` where it ends before that, its clock stopped meanwhile or, not `gated`,
        running at what it began with."""
        work = course.work
        left = 0.0 if until_s is None else until_s - course.seconds
        if left > 0:
            work = work + (standing(left) if gated else waiting(left, course.first_mhz))
        return energy(self.board, work)

    def choose(
        self,
        row_blocks: int,
        verdicts: Verdicts,
        outputs: Sequence[tuple[int, float]],
        target_s: float | None,
        gated: bool = True,
    ) -> Choice:
        """The better way of a pass by the energy of the period `target_s`; `outputs` as `ladder` gives them.

        Of the outputs that meet the target the fastest whose energy is within MARGIN of the least. Without a target,
        and where even the top clock misses it: the top clock to the end.
        """
        top_mhz = outputs[0][1]
        courses = [(number, self.course(row_blocks, verdicts, top_mhz, mhz)) for number, mhz in outputs]
        meeting = [found for found in courses if target_s is not None and found[1].seconds <= target_s]
        if not meeting or meeting[0] is not courses[0]:
            output, race = courses[0]
            return Choice(race, output, "race", target_s, None if target_s is None else False, self.energy(race))
        ways = [
            Choice(course, output, "slow" if n else "race", target_s, True, self.energy(course, target_s, gated))
            for n, (output, course) in enumerate(meeting)
        ]
        least = min(way.period.joules for way in ways)
        return next(way for way in ways if way.period.joules <= least * (1 + MARGIN))

    def least_mhz(self, row_blocks: int, verdicts: Verdicts, first_mhz: float, target_s: float) -> float:
        """The slowest clock of the rest that meets the target, to SEARCH_MHZ from above; infinite if none up to
        `first_mhz` does."""
        meets = lambda mhz: self.course(row_blocks, verdicts, first_mhz, mhz).seconds <= target_s  # noqa: E731
        if not meets(first_mhz):
            return math.inf
        low, high = 0.0, first_mhz
        while high - low > SEARCH_MHZ:
            middle = (low + high) / 2
            low, high = (low, middle) if meets(middle) else (middle, high)
        return high

    def frugal_mhz(
        self, row_blocks: int, verdicts: Verdicts, first_mhz: float, target_s: float, gated: bool = True
    ) -> float:
        """The clock of the rest that `choose` would take if every one up to `first_mhz` were offered, to SEARCH_MHZ
        from below: the fastest whose energy of the period is within MARGIN of the least."""
        joules = lambda mhz: self.energy(self.course(row_blocks, verdicts, first_mhz, mhz), target_s, gated).joules  # noqa: E731
        low, high = self.least_mhz(row_blocks, verdicts, first_mhz, target_s), first_mhz
        if low >= high:
            return high
        most = joules(low) * (1 + MARGIN)  # a slower clock never takes more
        if joules(high) <= most:
            return high
        while high - low > SEARCH_MHZ:
            middle = (low + high) / 2
            low, high = (middle, high) if joules(middle) <= most else (low, middle)
        return low

    def balance_mhz(self, row_blocks: int, layer: int, top_mhz: float) -> float:
        """For a pass that ends with `layer` the clock at which array and weights from DDR take equally long: below
        it no cycle is lost to DDR, above it time hardly falls. The top clock where DDR never binds.

        Cycles at a clock too slow for DDR to bind, over the time at the top clock.
        """
        slow = self.until(layer, row_blocks, min(WIZARD_OUTPUTS_MHZ))
        return min(slow["cycles"] / self.until(layer, row_blocks, top_mhz)["seconds"] * 1e-6, top_mhz)


def clock_table(passes: Passes, row_blocks: int, outputs: Sequence[tuple[int, float]], target_s: float | None) -> bytes:
    """The engine's clock table: for each layer foretold the wizard's output that clocks the rest.

    No layer foretold (0), and what is beyond the last, as the whole depth. Without a target the output that runs.
    """
    top = outputs[0][0]
    if target_s is None or len(outputs) == 1:
        return bytes([top]) * TABLE
    layers = len(passes.plan.exit_layers)
    ways = (leaving_at(layer, row_blocks) for layer in range(1, layers + 1))
    found = [passes.choose(row_blocks, way, outputs, target_s).output for way in ways]
    return bytes([found[-1], *found, *[found[-1]] * (TABLE - 1 - layers)])


def best_outputs(
    passes: Passes,
    mix: Mapping[tuple[int, int], float],
    target_s: float,
    present: Sequence[float],
    current: int = 0,
    gated: bool = True,
) -> tuple[float, ...] | None:
    """What the wizard had better give for a batch: four outputs in MHz, the first the clock that runs now (output
    `current` of `present`); None where that saves no more than MARGIN of the batch's energy over its periods, or no
    more than a retune costs.

    `mix`: how many passes are awaited by row blocks and layer foretold. Asked for are the clocks that the heaviest of
    the mix would take if they were offered every one; taken, one by one, are those that save most, as the wizard can
    give them.
    """
    top = present[current]
    heaviest = sorted(mix, key=lambda key: -mix[key])[:HEAVIEST]
    wanted = {passes.frugal_mhz(n, leaving_at(layer, n), top, target_s, gated) for n, layer in heaviest}
    candidates = [mhz for mhz in wanted if SLOWEST_MHZ <= mhz < top]

    def total(outputs: Sequence[float], first: int = 0) -> float:
        steps = ladder(outputs, first)
        ways = ((blocks, leaving_at(layer, blocks), weight) for (blocks, layer), weight in mix.items())
        return sum(w * passes.choose(n, way, steps, target_s, gated).period.joules for n, way, w in ways)

    chosen: list[float] = []
    best = given = total(present, current)
    outputs = None
    for _ in range(OUTPUTS - 1):
        tried = {mhz: _given([*chosen, mhz], top) for mhz in candidates if mhz not in chosen}
        found = min(tried, key=lambda mhz: total(tried[mhz]), default=None)
        if found is None or total(tried[found]) >= best:
            break
        chosen.append(found)
        best, outputs = total(tried[found]), tried[found]
    needed = max(MARGIN * given, pause_joules(passes.board, retune_seconds()))
    return outputs if given - best > needed else None


def _given(wanted: Sequence[float], top: float) -> tuple[float, ...]:
    """What the wizard gives for output 0 at `top` and the others at `wanted` MHz or little more: it divides one
    oscillator by whole numbers, and a clock below what meets a target is of no use."""
    low, high = SPEED_GRADE_2.vco
    oscillators = [top * divide for divide in range(math.ceil(low / top), math.floor(high / top) + 1)]
    above = [[min(top, vco / math.floor(vco / mhz + 1e-9)) for mhz in wanted] for vco in oscillators]
    nearest = min(above, key=lambda given: sum(f / mhz for f, mhz in zip(given, wanted, strict=True)))
    asked = sorted(nearest, reverse=True)
    return find_settings([top, *asked, *[asked[-1]] * (OUTPUTS - 1 - len(asked))]).mhz()


@dataclass(frozen=True)
class SentenceCost:
    """Modelled cost of one sentence in a pass of its own.

    `ms`, `mj`: to the end of the pass. `parts_mj`: of `mj`, by kind (Energy.summed).
    """

    row_blocks: int
    layer: int
    foretold: int
    ms: float
    mj: float
    parts_mj: Mapping[str, float]
    first_mhz: float
    rest_mhz: float
    output: int
    target_ms: float | None
    target_met: bool | None
    modelled: bool = field(default=True)


def sentence_costs(
    plan: Plan,
    row_blocks: Iterable[int],
    exit_layers: Iterable[int],
    target_ms: float | None = None,
    *,
    foretold: Iterable[int] | None = None,
    outputs: Sequence[float] = WIZARD_OUTPUTS_MHZ,
    current: int = 0,
    passes: Passes | None = None,
) -> list[SentenceCost]:
    """Modelled cost of each sentence, alone in a pass of `row_blocks` row blocks, that leaves at the layer of
    `exit_layers` (both one a sentence, 1 the first layer). The plan has off-ramps.

    `foretold`: the layer that the first ramp foretold for each, by which the engine chooses the clock; as if the layer
    of leaving had been foretold if not given, 0 for none. `outputs`: what the wizard gives, `current` clocks the first
    layer. Equal sentences are calculated once; `passes` carries that over from call to call.
    """
    passes = passes or Passes(plan)
    steps = ladder(outputs, current)
    target_s = None if target_ms is None else target_ms * 1e-3
    exit_layers = list(exit_layers)
    foretold = list(exit_layers) if foretold is None else list(foretold)
    layers = len(plan.exit_layers)
    tables: dict[int, bytes] = {}
    known: dict[tuple[int, int, int], SentenceCost] = {}
    found = []
    for key in zip(row_blocks, exit_layers, foretold, strict=True):
        if key not in known:
            blocks, layer, told = key
            if not 1 <= layer <= layers:
                raise ValueError(f"exit layer {layer} is none of 1 .. {layers}")
            if blocks not in tables:
                tables[blocks] = clock_table(passes, blocks, steps, target_s)
            output = tables[blocks][told]
            course = passes.course(blocks, leaving_at(layer, blocks), steps[0][1], outputs[output])
            known[key] = _cost(passes, course, output, key, target_s)
        found.append(known[key])
    return found


def _cost(
    passes: Passes, course: Course, output: int, key: tuple[int, int, int], target_s: float | None
) -> SentenceCost:
    own = passes.energy(course)
    return SentenceCost(
        *key,
        ms=course.seconds * 1e3,
        mj=own.joules * 1e3,
        parts_mj={kind: joules * 1e3 for kind, joules in own.summed().items()},
        first_mhz=course.first_mhz,
        rest_mhz=course.rest_mhz,
        output=output,
        target_ms=None if target_s is None else target_s * 1e3,
        target_met=None if target_s is None else course.seconds <= target_s,
    )
