# SPDX-License-Identifier: Apache-2.0
"""A thread that reads a board's rails again and again, and the mean power between two moments (docs/bench.md).

A reading is dropped, and counted, where the file cannot be read or holds no number, where the watts are below OFFSET_W
or above LIMIT_W, and where it stands alone: more than SPIKE times both its neighbours, or less than both over SPIKE,
and by more than SPIKE_W. A rail whose file is gone, or LOST_AFTER readings of which failed in a row, is lost: it is not
read again, and power that it is part of is unknown from then on.
"""

import errno
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .rails import Rail, Rails

logger = logging.getLogger(__name__)

# The INA226 has a new value every 9 ms (iio, 4 averages) or 35 ms (ina2xx, 16), as the kernel sets it up: reading
# faster repeats values, which does no harm. Reading a board's rails over I2C takes longer than this by itself.
INTERVAL_S = 2e-3

# After a change of load the sensors' averages need this long to be all of the new one.
SETTLE_S = 0.1

LIMIT_W = 60.0  # no supply of either board gives a rail as much
OFFSET_W = -0.05  # an input offset of 10 µV over 2 mΩ at 3.3 V is 17 mW: a rail without load may read that below zero
SPIKE = 3.0
SPIKE_W = 1.0
LOST_AFTER = 10


@dataclass(frozen=True)
class Mark:
    """How far a rail was at some moment: watts of its last good reading (None: none yet), seconds and joules from the
    first to that one."""

    watts: float | None
    seconds: float
    joules: float
    samples: int
    dropped: int
    lost_at: float | None


@dataclass(frozen=True)
class MeanPower:
    """Mean watts between two moments; None where a rail of the group was lost, or the group has none to read.

    `groups` are those the board has ("pl", "ps"), `rails` are by part. `samples`, `dropped`: readings of all rails.
    `lost`: when a rail was lost, by part, in seconds since the sampler was made.
    """

    groups: Mapping[str, float | None]
    rails: Mapping[str, float | None]
    samples: int
    dropped: int
    lost: Mapping[str, float]

    @property
    def total_w(self) -> float | None:
        """All groups; None where one is unknown."""
        return None if None in self.groups.values() else math.fsum(self.groups.values())


@dataclass
class _Track:
    """One rail's readings. The latest is held back until the next one says whether it stands alone."""

    rail: Rail
    keep: bool
    last: tuple[float, float] | None = None
    held: tuple[float, float] | None = None
    seconds: float = 0.0
    joules: float = 0.0
    samples: int = 0
    dropped: int = 0
    failures: int = 0
    lost_at: float | None = None
    series: list[tuple[float, float]] = field(default_factory=list)

    def take(self, time: float, watts: float) -> None:
        """A reading that could be true."""
        self.failures = 0
        if self.held is not None:
            if self.last is not None and stands_alone(self.last[1], self.held[1], watts):
                self.dropped += 1
            else:
                self._accept(*self.held)
        self.held = time, watts

    def fail(self, time: float, gone: bool) -> None:
        """A reading that cannot be true, or none."""
        self.dropped += 1
        self.failures += 1
        if gone or self.failures == LOST_AFTER:
            self.lost_at = time
            logger.warning("power sensor %s %s is lost", self.rail.name, self.rail.net)

    def flush(self) -> None:
        """Nothing comes after the reading held back."""
        if self.held is not None:
            self._accept(*self.held)
            self.held = None

    def mark(self) -> Mark:
        """How far the rail is."""
        watts = None if self.last is None else self.last[1]
        return Mark(watts, self.seconds, self.joules, self.samples, self.dropped, self.lost_at)

    def _accept(self, time: float, watts: float) -> None:
        if self.last is not None:
            self.seconds += time - self.last[0]
            self.joules += (time - self.last[0]) * (watts + self.last[1]) / 2
        self.last = time, watts
        self.samples += 1
        if self.keep:
            self.series.append(self.last)


def stands_alone(before: float, watts: float, after: float) -> bool:
    """Whether a reading is no load but a glitch: far above both its neighbours, or far below both."""
    high, low = max(before, after), min(before, after)
    above = watts > SPIKE * high and watts - high > SPIKE_W
    below = SPIKE * watts < low and low - watts > SPIKE_W
    return above or below


class Sampler:
    """Reads `rails` every INTERVAL_S from `start` to `stop`, or once a `sweep`. With `keep` all readings are kept."""

    def __init__(self, rails: Rails, *, keep: bool = False, clock: Callable[[], float] = time.perf_counter):
        self.rails, self.clock = rails, clock
        self.began = clock()
        self._tracks = [_Track(rail, keep) for group in rails.groups.values() for rail in group]
        self._swept = threading.Condition()  # also guards the tracks
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Sampler":
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to read, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="power sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was read stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._swept:
            for track in self._tracks:
                track.flush()

    def _run(self) -> None:
        while not self._stop.is_set():
            start = self.clock()
            self.sweep()
            self._stop.wait(max(0.0, INTERVAL_S - (self.clock() - start)))

    def sweep(self) -> None:
        """Read every rail that is not lost, once."""
        for track in self._tracks:
            if track.lost_at is None:
                self._read(track)
        with self._swept:
            self._swept.notify_all()

    def _read(self, track: _Track) -> None:
        """One reading, at the time when it was there."""
        gone, watts = False, math.nan
        try:
            watts = track.rail.watts()
        except ValueError:
            pass
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO)
        now = self.now()
        with self._swept:
            if OFFSET_W <= watts <= LIMIT_W:
                track.take(now, watts)
            else:
                track.fail(now, gone)

    def now(self) -> float:
        """Seconds since the sampler was made."""
        return self.clock() - self.began

    def mark(self) -> dict[str, Mark]:
        """This moment, by part: what `mean` reckons from and to."""
        with self._swept:
            return {track.rail.name: track.mark() for track in self._tracks}

    def after(self, begin: Mapping[str, Mark], timeout_s: float) -> dict[str, Mark]:
        """The first moment at which every rail that is not lost has been read since `begin`; or that of the time-out.

        Needs the thread.
        """
        with self._swept:
            self._swept.wait_for(lambda: all(_advanced(begin, track) for track in self._tracks), timeout_s)
        return self.mark()

    def mean(self, begin: Mapping[str, Mark], end: Mapping[str, Mark]) -> MeanPower:
        """Mean power from one moment to another, each reading weighted by its time (trapezoids).

        Where nothing was read in between, the last reading before.
        """
        rails = {part: _mean(begin[part], mark) for part, mark in end.items()}
        groups = {name: _sum([rails[rail.name] for rail in group]) for name, group in self.rails.groups.items()}
        samples = sum(mark.samples - begin[part].samples for part, mark in end.items())
        dropped = sum(mark.dropped - begin[part].dropped for part, mark in end.items())
        lost = {part: mark.lost_at for part, mark in end.items() if mark.lost_at is not None}
        return MeanPower(groups, rails, samples, dropped, lost)

    def series(self) -> dict[str, list[tuple[float, float]]]:
        """Every good reading by part, seconds since the sampler was made and watts; empty lists without `keep`."""
        with self._swept:
            return {track.rail.name: list(track.series) for track in self._tracks}


def _advanced(begin: Mapping[str, Mark], track: _Track) -> bool:
    """Whether a good reading came after the mark, or none will."""
    return track.lost_at is not None or track.samples > begin[track.rail.name].samples


def _mean(begin: Mark, end: Mark) -> float | None:
    """One rail's mean watts; None if it was lost, or never read."""
    if end.lost_at is not None:
        return None
    if end.seconds == begin.seconds:
        return end.watts
    return (end.joules - begin.joules) / (end.seconds - begin.seconds)


def _sum(watts: list[float | None]) -> float | None:
    """Their sum; None where one is unknown, or there is none."""
    return None if not watts or None in watts else math.fsum(watts)
