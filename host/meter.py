# SPDX-License-Identifier: Apache-2.0
"""What a pass costs: from the models on an emulated board, from the clock and the rails on a real one."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..fpga.cycles import simulate
from ..fpga.power import power
from ..fpga.resources import resources
from .compiler import Plan
from .rails import Rail, find_rails

SAMPLE_S = 2e-3


@dataclass(frozen=True)
class Reading:
    """Latency in ms, mean power in W, and where they come from: "measured" or "modelled"."""

    latency_ms: float
    power_w: float
    source: str


class Meter(Protocol):
    """Runs a pass and says what it cost."""

    def measure(self, run: Callable[[], None], row_blocks: int, clock_mhz: float) -> Reading:
        """Call `run`, one pass of `row_blocks` at `clock_mhz`."""


class ModelledMeter:
    """The cycle and power models' figures; `run` takes as long as it takes."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._readings: dict[tuple[int, float], Reading] = {}

    def measure(self, run: Callable[[], None], row_blocks: int, clock_mhz: float) -> Reading:
        """Call `run`; the models' reading for it."""
        run()
        key = row_blocks, clock_mhz
        if key not in self._readings:
            timing = simulate(self.plan.instructions, row_blocks, self.plan.board, clock_mhz)
            watts = power(resources(self.plan.board), timing).power_w
            self._readings[key] = Reading(timing.seconds * 1e3, watts, "modelled")
        return self._readings[key]


class BoardMeter:
    """Wall-clock time, and the mean of the rails' power (PL and PS) sampled meanwhile."""

    def __init__(self, board: str, rails: list[Rail] | None = None):
        self.rails = rails if rails is not None else [rail for group in find_rails(board) for rail in group]

    def measure(self, run: Callable[[], None], row_blocks: int, clock_mhz: float) -> Reading:
        """Call `run`; what was measured. At least one sample is taken."""
        samples: list[float] = []
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(samples, stop), daemon=True)
        sampler.start()
        start = time.perf_counter()
        try:
            run()
        finally:
            seconds = time.perf_counter() - start
            stop.set()
            sampler.join()
        return Reading(seconds * 1e3, sum(samples) / len(samples), "measured")

    def _sample(self, samples: list[float], stop: threading.Event) -> None:
        while True:
            samples.append(sum(rail.watts() for rail in self.rails))
            if stop.wait(SAMPLE_S):
                return
