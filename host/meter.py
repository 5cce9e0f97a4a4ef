# SPDX-License-Identifier: Apache-2.0
"""What a pass costs: from the models on an emulated board, from the clock and the rails on a real one."""

import logging
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..fpga.dvfs import Course
from ..fpga.energy import Energy, energy
from ..fpga.power import power
from ..fpga.resources import resources
from .compiler import Plan
from .rails import Rails, find_rails
from .sampler import SETTLE_S, Mark, Sampler

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """Latency in ms, mean power in W, and where they come from: "measured" or "modelled".

    power_w is None where the sensors are missing, or one of them was lost. `energy`: by part, of a modelled course.
    """

    latency_ms: float
    power_w: float | None
    source: str
    energy: Energy | None = None


class Meter(Protocol):
    """Runs a pass and says what it cost."""

    def measure(
        self,
        run: Callable[[], None],
        row_blocks: int,
        clock_mhz: float,
        course: Callable[[], Course] | None = None,
    ) -> Reading:
        """Call `run`, one pass of `row_blocks` at `clock_mhz`; `course` says after it which way the pass went, where it
        may end early or change its clock."""

    def use(self, plan: Plan) -> None:
        """The passes to come are of another task's plan."""

    def close(self) -> None:
        """No pass follows."""


class ModelledMeter:
    """The cycle and power models' figures; `run` takes as long as it takes."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._readings: dict[tuple[int, int, float], Reading] = {}  # plan, row blocks, clock

    def measure(
        self,
        run: Callable[[], None],
        row_blocks: int,
        clock_mhz: float,
        course: Callable[[], Course] | None = None,
    ) -> Reading:
        """Call `run`; the models' reading for it."""
        run()
        if course is not None:
            return self._of_course(course())
        key = id(self.plan), row_blocks, clock_mhz
        if key not in self._readings:
            timing = self.plan.simulate(row_blocks, clock_mhz)
            watts = power(resources(self.plan.board), timing).power_w
            self._readings[key] = Reading(timing.seconds * 1e3, watts, "modelled")
        return self._readings[key]

    def _of_course(self, course: Course) -> Reading:
        spent = energy(self.plan.board, course.work)
        return Reading(course.seconds * 1e3, spent.joules / course.seconds, "modelled", spent)

    def use(self, plan: Plan) -> None:
        """The figures to come are those of `plan`, which lives as long as this."""
        self.plan = plan

    def close(self) -> None:
        """Nothing runs beside a pass."""


class BoardMeter:
    """Wall-clock time, and the mean power of the rails of PL and PS, read by a thread from the first pass to `close`.

    The sensors average over tens of milliseconds, a pass may take one. So a pass of SETTLE_S or longer has its own
    mean, a shorter one that of its stream so far: of the passes before it at the same clock, with no pause of SETTLE_S
    or longer between them, and what lies between. A stream's first sentences show some of the power from before it.
    """

    def __init__(self, board: str, rails: Rails | None = None, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        try:
            self.rails = rails or find_rails(board)
        except OSError as error:  # costs the figure, not the run
            logger.warning("%s", error)
            self.rails = None
        self._sampler: Sampler | None = None
        self._stream: Mapping[str, Mark] = {}
        self._stream_mhz = self._ended = 0.0

    def measure(
        self,
        run: Callable[[], None],
        row_blocks: int,
        clock_mhz: float,
        course: Callable[[], Course] | None = None,
    ) -> Reading:
        """Call `run`; what was measured. Waits for the first reading after a stream's begin, SETTLE_S at most."""
        begin = self._begin(clock_mhz)
        start = self.clock()
        run()
        self._ended = self.clock()
        seconds = self._ended - start
        if self._sampler is None:
            return Reading(seconds * 1e3, None, "measured")
        reckoned = begin if seconds >= SETTLE_S else self._stream
        end = self._sampler.after(reckoned, SETTLE_S)
        return Reading(seconds * 1e3, self._sampler.mean(reckoned, end).total_w, "measured")

    def use(self, plan: Plan) -> None:
        """What is measured does not ask whose pass it is; a stream goes on."""

    def _begin(self, clock_mhz: float) -> Mapping[str, Mark]:
        """The moment before a pass; a stream begins with it where none goes on."""
        if self.rails is None:
            return {}
        goes_on = self._sampler is not None and self.clock() - self._ended < SETTLE_S
        if self._sampler is None:
            self._sampler = Sampler(self.rails)
            self._sampler.start()
            # A meter that nobody closed must not leave its thread behind.
            weakref.finalize(self, self._sampler.stop)
        begin = self._sampler.mark()
        if not goes_on or clock_mhz != self._stream_mhz:
            self._stream, self._stream_mhz = begin, clock_mhz
        return begin

    def close(self) -> None:
        """End the thread; a pass after that starts it again."""
        if self._sampler is not None:
            self._sampler.stop()
            self._sampler = None
