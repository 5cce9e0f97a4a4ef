# SPDX-License-Identifier: Apache-2.0
"""First power model. Every figure is modelled and carries a range; none is measured.

    P = PS + DDR traffic + static(part) + f · clock · Σ energy a cycle of DSPs, LUTs, registers, BRAMs and URAMs

The energies and their sources are in constants.py; a unit that waits counts `idle` of what it takes at work. The one
factor f is fitted on the watts that FQ-BERT published for its two boards, never on a figure of ours. The range comes
from fitting on each published row alone, and on each constant at either end of its own range.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .constants import CONSTANTS, PUBLISHED, VALUES, PublishedPower, kcells
from .cycles import Timing
from .resources import Resources


@dataclass(frozen=True)
class Power:
    """Modelled watts: programmable logic, processing system, the range of their sum. `parts` sums to pl_w + ps_w."""

    pl_w: float
    ps_w: float
    low_w: float
    high_w: float
    parts: Mapping[str, float]
    modelled: bool = True

    @property
    def power_w(self) -> float:
        """PL and PS together, watts."""
        return self.pl_w + self.ps_w


@dataclass(frozen=True)
class Activity:
    """What the model needs to know of a design at work: working counts and energies follow from it.

    dsp, lut, bram36, uram: (count, share of cycles at work) pairs; ff: registers, clocked always.
    """

    part: str
    clock_mhz: float
    dsp: Sequence[tuple[float, float]]
    lut: Sequence[tuple[float, float]]
    bram36: Sequence[tuple[float, float]]
    uram: Sequence[tuple[float, float]]
    ff: float
    ddr_gb_s: float


def power(resources: Resources, timing: Timing) -> Power:
    """Modelled power of the engine on its board while it runs passes like `timing` back to back."""
    activity = activity_of(resources, timing)
    parts = watts(activity, VALUES, calibrate(calibrating(), VALUES))
    ps_w = parts["ps"] + parts["ddr"]
    sums = [sum(watts(activity, values, factor).values()) for values, factor in variants()]
    pl_w = sum(parts.values()) - ps_w
    return Power(pl_w, ps_w, min(*sums, pl_w + ps_w), max(*sums, pl_w + ps_w), parts)


def activity_of(resources: Resources, timing: Timing) -> Activity:
    """What `timing` keeps busy of `resources`."""
    share = {unit: busy / timing.cycles for unit, busy in timing.busy.items()} | {"fetch": 1.0}
    vector_dsp = resources.dsp - resources.array_dsp
    return Activity(
        part=resources.board.part,
        clock_mhz=timing.clock_mhz,
        dsp=[(resources.array_dsp, share["array"]), (vector_dsp, share["vector"])],
        lut=[(count, share[unit]) for unit, count in resources.lut_by_unit.items()],
        bram36=[(count, share[unit]) for unit, count in resources.bram36_by_unit.items()],
        uram=[(count, share[unit]) for unit, count in resources.uram_by_unit.items()],
        ff=resources.ff,
        ddr_gb_s=(timing.ddr_bytes_read + timing.ddr_bytes_written) / timing.seconds / 1e9,
    )


def published_activity(row: PublishedPower, values: Mapping[str, float]) -> Activity:
    """A published row as an activity; its narrow multipliers count as `dsp_narrow` of a DSP."""
    return Activity(
        part=row.part,
        clock_mhz=row.clock_mhz,
        dsp=[(row.dsp * values["dsp_narrow"], row.utilization)],
        lut=[(row.lut, row.utilization)],
        bram36=[(row.bram36, row.utilization)],
        uram=[],
        ff=row.ff,
        ddr_gb_s=row.ddr_gb_s,
    )


def watts(activity: Activity, values: Mapping[str, float], factor: float) -> dict[str, float]:
    """Watts by part: ps, ddr, static, dsp, lut, bram36, uram and clocks (registers), the last five times `factor`."""
    idle = values["idle"]
    hertz = activity.clock_mhz * 1e6

    def dynamic(name: str, counts: Sequence[tuple[float, float]]) -> float:
        working = sum(count * (idle + (1 - idle) * share) for count, share in counts)
        return factor * working * values[name] * 1e-12 * hertz

    return {
        "ps": values["ps_w"],
        "ddr": activity.ddr_gb_s * values["ddr_pj_per_byte"] * 1e-3,
        "static": values["static_mw_per_kcell"] * kcells(activity.part) * 1e-3,
        "dsp": dynamic("dsp_pj", activity.dsp),
        "lut": dynamic("lut_pj", activity.lut),
        "bram36": dynamic("bram36_pj", activity.bram36),
        "uram": dynamic("uram_pj", activity.uram),
        "clocks": dynamic("ff_pj", [(activity.ff, 1.0)]),
    }


def calibrating() -> list[PublishedPower]:
    """The rows whose every figure is published."""
    return [row for row in PUBLISHED if row.calibrates]


def calibrate(rows: Sequence[PublishedPower], values: Mapping[str, float]) -> float:
    """The factor on dynamic energies that fits the rows' watts best: least squares of the relative error."""
    dynamic, missing = [], []
    for row in rows:
        fixed = sum(watts(published_activity(row, values), values, 0).values())
        whole = sum(watts(published_activity(row, values), values, 1).values())
        dynamic.append((whole - fixed) / row.watts)
        missing.append((row.watts - fixed) / row.watts)
    return sum(d * m for d, m in zip(dynamic, missing, strict=True)) / sum(d * d for d in dynamic)


def variants() -> list[tuple[dict[str, float], float]]:
    """Constants and factors that are as well believed: one row alone, or one constant at an end of its range."""
    found = [(dict(VALUES), calibrate([row], VALUES)) for row in PUBLISHED]
    for constant in CONSTANTS:
        for value in (constant.low, constant.high):
            values = VALUES | {constant.name: value}
            found.append((values, calibrate(calibrating(), values)))
    return found


def leave_one_out() -> dict[str, float]:
    """Relative error of the model on each published row, fitted on the calibrating rows without it."""
    errors = {}
    for row in PUBLISHED:
        factor = calibrate([other for other in calibrating() if other is not row], VALUES)
        errors[row.name] = sum(watts(published_activity(row, VALUES), VALUES, factor).values()) / row.watts - 1
    return errors
