# SPDX-License-Identifier: Apache-2.0
"""What it costs the processing system to bring bytes to the engine's memory: those of a task, or a whole model. Every
figure is modelled and carries a range.

    time = bytes / copy_gb_s + writes · write_us
    energy = (PS + static) · time + DDR · copy_traffic · bytes

The engine's clock stands meanwhile. Reloading a model is counted from an image that the host has packed and keeps in
its own memory, and with it the KEEP program, which brings the resident matrices on chip; reading files, packing and
loading the overlay come on top, so that a switch is held against the least that a reload can take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from .assumptions import assumed, assumed_range
from .boards import Board
from .constants import CONSTANTS, VALUES
from .cycles import Timing
from .energy import energy, work_of
from .power import Activity, power, watts
from .resources import resources

NOTHING_TO_KEEP = 64  # bytes of a KEEP program of END alone: the host does not run it


class Plan(Protocol):
    """What is needed of a compiled model (host.compiler.Plan)."""

    board: Board
    image_bytes: int
    program: bytes
    keeping_program: bytes

    def simulate_keeping(self, clock_mhz: float) -> Timing:
        """Modelled time of bringing the resident matrices on chip."""


@dataclass(frozen=True)
class SwitchCost:
    """Modelled seconds and joules of bringing `bytes` to DDR by so many `writes`, and the range of each."""

    bytes: int
    writes: int
    seconds: float
    joules: float
    seconds_range: tuple[float, float]
    joules_range: tuple[float, float]
    modelled: bool = True

    def __add__(self, other: SwitchCost) -> SwitchCost:
        """One after the other."""
        return SwitchCost(
            self.bytes + other.bytes,
            self.writes + other.writes,
            self.seconds + other.seconds,
            self.joules + other.joules,
            _sum(self.seconds_range, other.seconds_range),
            _sum(self.joules_range, other.joules_range),
        )

    def to_json(self) -> dict[str, object]:
        """Bytes, writes, ms and mJ, and the ranges of these."""
        return {
            "bytes": self.bytes,
            "writes": self.writes,
            "ms": self.seconds * 1e3,
            "ms_range": [s * 1e3 for s in self.seconds_range],
            "mj": self.joules * 1e3,
            "mj_range": [j * 1e3 for j in self.joules_range],
            "modelled": self.modelled,
        }


def switching(board: Board, moved_bytes: int, writes: int = 1) -> SwitchCost:
    """Cost of bringing `moved_bytes` bytes to DDR by so many `writes`, each flushed. ValueError for a negative one."""
    if moved_bytes < 0 or writes < 0:
        raise ValueError(f"{moved_bytes} bytes by {writes} writes: a number of each, at least 0, is needed")
    (slow, fast), (quick, late) = assumed_range("copy_gb_s"), assumed_range("write_us")
    few, many = assumed_range("copy_traffic")
    low = {c.name: c.low for c in CONSTANTS}
    high = {c.name: c.high for c in CONSTANTS}
    least = moved_bytes / (fast * 1e9) + writes * quick * 1e-6
    most = moved_bytes / (slow * 1e9) + writes * late * 1e-6
    seconds = moved_bytes / (assumed("copy_gb_s") * 1e9) + writes * assumed("write_us") * 1e-6
    return SwitchCost(
        moved_bytes,
        writes,
        seconds,
        _joules(board, seconds, moved_bytes * assumed("copy_traffic"), VALUES),
        (least, most),
        (_joules(board, least, moved_bytes * few, low), _joules(board, most, moved_bytes * many, high)),
    )


def reloading(plan: Plan, clock_mhz: float) -> SwitchCost:
    """Cost of a whole model in the place of another: its image and programs, and what is resident brought on chip at
    `clock_mhz`."""
    resident = len(plan.keeping_program) > NOTHING_TO_KEEP
    size = plan.image_bytes + len(plan.program) + resident * len(plan.keeping_program)
    found = switching(plan.board, size, 2 + resident)
    return found + keeping(plan.board, plan.simulate_keeping(clock_mhz)) if resident else found


def keeping(board: Board, timing: Timing) -> SwitchCost:
    """Cost of the KEEP program of `timing`; the cycle model's time has no range of its own."""
    range_w = power(resources(board), timing)
    return SwitchCost(
        0,
        0,
        timing.seconds,
        energy(board, work_of(timing)).joules,
        (timing.seconds, timing.seconds),
        (range_w.low_w * timing.seconds, range_w.high_w * timing.seconds),
    )


def _joules(board: Board, seconds: float, ddr_bytes: float, values: Mapping[str, float]) -> float:
    """Energy of a processing system at work while the engine's clock stands, with the constants `values`."""
    if not seconds:
        return 0.0
    parts = watts(Activity(board.part, 0, [], [], [], [], 0, ddr_bytes / seconds / 1e9), values, 0)
    return (parts["ps"] + parts["static"] + parts["ddr"]) * seconds


def _sum(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return a[0] + b[0], a[1] + b[1]
