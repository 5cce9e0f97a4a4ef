# SPDX-License-Identifier: Apache-2.0
"""A benchmark on an emulated board: the texts run on the emulator, the time and power are those of the models."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...fpga import power as power_model
from ...fpga.constants import VALUES
from ...fpga.dvfs import Course
from ...fpga.resources import resources
from ..compiler import Plan
from ..engine import Engine
from ..meter import Meter, Reading
from ..packing import Pass
from .run import MODELLED, WARM_UP, Run, Texts, Watts, answered, figure


class _Timed:
    """A meter that also says how long the last pass took here, emulator and all."""

    def __init__(self, meter: Meter):
        self.meter, self.seconds = meter, 0.0

    def measure(
        self,
        run: Callable[[], None],
        row_blocks: int,
        clock_mhz: float,
        course: Callable[[], Course] | None = None,
    ) -> Reading:
        """As the meter does."""
        start = time.perf_counter()
        reading = self.meter.measure(run, row_blocks, clock_mhz, course)
        self.seconds = time.perf_counter() - start
        return reading

    def use(self, plan: Plan) -> None:
        """As the meter does."""
        self.meter.use(plan)

    def close(self) -> None:
        """As the meter does."""
        self.meter.close()


def model(engine: Engine, texts: Texts, passes: Sequence[Pass], step: Callable[[], None]) -> Run:
    """The models' figures for the texts, each of which runs once on the emulated engine."""
    board, clock = engine.plan.board, engine.clock_mhz
    engine.meter = timed = _Timed(engine.meter)
    for text in texts[:WARM_UP]:
        answered(engine, text)
    kernel, whole = [], []
    for text in texts:
        start = time.perf_counter()
        result = answered(engine, text)
        python_ms = (time.perf_counter() - start - timed.seconds) * 1e3
        kernel.append(result.latency_ms)
        whole.append(result.latency_ms + python_ms)
        step()
    by_blocks = {blocks: modelled_power(engine.plan, blocks, clock) for blocks in {rows.row_blocks for rows in passes}}
    powers = [by_blocks[rows.row_blocks] for rows in passes]
    shares = np.array(kernel) / sum(kernel)

    def mean(of: Callable[[power_model.Power], float]) -> float:
        return float(sum(share * of(power) for share, power in zip(shares, powers, strict=True)))

    return Run(
        MODELLED,
        [kernel],
        sum(kernel) / 1e3,
        [whole],
        sum(whole) / 1e3,
        [power.power_w * ms for power, ms in zip(powers, kernel, strict=True)],
        Watts({"pl": mean(lambda power: power.pl_w), "ps": mean(lambda power: power.ps_w)}),
        idle_power(engine.plan, clock),
        power_model={
            "parts": {
                part: figure(mean(lambda power, part=part: power.parts[part]), "W", MODELLED)
                for part in powers[0].parts
            },
            "low": figure(mean(lambda power: power.low_w), "W", MODELLED),
            "high": figure(mean(lambda power: power.high_w), "W", MODELLED),
        },
        notes=(
            f"the {board.name} is emulated: time, power and energy are modelled, none of them is the emulator's",
            "end to end: the modelled time of the engine, and beside it what tokenizer, packing and Python took on "
            "this machine, which is not the board's processor",
            "modelled idle: clocked, but without work or memory traffic",
        ),
    )


def modelled_power(plan: Plan, row_blocks: int, clock_mhz: float) -> power_model.Power:
    """Power while passes of `row_blocks` follow one another."""
    return power_model.power(resources(plan.board), plan.simulate(row_blocks, clock_mhz))


def idle_power(plan: Plan, clock_mhz: float) -> Watts:
    """Power of the engine clocked, but without work and traffic."""
    timing = plan.simulate(1, clock_mhz)
    activity = power_model.activity_of(resources(plan.board), timing)
    resting = {
        name: [(count, 0.0) for count, _ in getattr(activity, name)] for name in ("dsp", "lut", "bram36", "uram")
    }
    factor = power_model.calibrate(power_model.calibrating(), VALUES)
    parts = power_model.watts(replace(activity, ddr_gb_s=0.0, **resting), VALUES, factor)
    ps = parts["ps"] + parts["ddr"]
    return Watts({"pl": sum(parts.values()) - ps, "ps": ps})
