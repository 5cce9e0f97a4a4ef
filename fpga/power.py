# SPDX-License-Identifier: Apache-2.0
"""Power model. Every figure is modelled and carries a range; none is measured.

    P = PS + DDR traffic + static(part) + f · clock · Σ energy a cycle of DSPs, fabric, memories and clock tree

The energies are those of vendors' reports (constants.py). The one factor f is fitted on the watts of published
accelerators (published.py), never on a figure of ours: least squares of the relative error. A unit that waits takes the
idle share of each kind, its registers' clocks excepted: nothing is gated unless `gated` says so.

The range holds what the model would say if it were off by as much as on any complete published row that it was not
fitted on, with each constant at either end of its own range, with the rows' watts read as those of the programmable
logic alone, and if no unit ever waited, theirs or ours.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from .constants import BLOCK_CLOCK, CONSTANTS, DSP_NETS, VALUES, energies
from .cycles import Timing
from .published import PUBLISHED, REPORTS, PublishedPower, kcells
from .resources import Resources, logic, products


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

    dsp, lut, bram36, uram: (count, share of cycles at work) pairs; ff: registers, clocked always. `wide`: DSPs of more
    than 18 by 12 bits. `scope`: "chip", or "pl" for the programmable logic alone.
    """

    part: str
    clock_mhz: float
    dsp: Sequence[tuple[float, float]]
    lut: Sequence[tuple[float, float]]
    bram36: Sequence[tuple[float, float]]
    uram: Sequence[tuple[float, float]]
    ff: float
    ddr_gb_s: float
    wide: bool = True
    scope: str = "chip"


@dataclass(frozen=True)
class LeftOut:
    """A published row as the model predicts it without knowing it: watts, and the relative error."""

    row: PublishedPower
    predicted_w: float

    @property
    def error(self) -> float:
        """Predicted over published watts, less one."""
        return self.predicted_w / self.row.watts - 1


def power(resources: Resources, timing: Timing, gated: Collection[str] = ()) -> Power:
    """Modelled power of the engine on its board while it runs passes like `timing` back to back."""
    activity = activity_of(resources, timing, gated=gated)
    parts = watts(activity, VALUES, factor())
    total = sum(parts.values())
    ps_w = parts["ps"] + parts["ddr"]
    sums = [total, *(sum(watts(activity, values, f).values()) for values, f in variants())]
    sums.append(as_reported(resources, timing))
    least, most = error_range()
    return Power(
        total - ps_w,
        ps_w,
        min(*sums, total / (1 + most)),
        max(*sums, total / (1 + least)),
        parts,
    )


def as_reported(resources: Resources, timing: Timing) -> float:
    """Watts if neither the published designs nor ours ever waited: what a tool's report would say, which has no idea of
    busy shares, if the published rows are such reports."""
    f = calibrate([replace(row, utilization=1.0) for row in calibrating()], VALUES)
    return sum(watts(activity_of(resources, replace(timing, busy={}, accesses={})), VALUES, f).values())


def activity_of(
    resources: Resources, timing: Timing, units: Collection[str] | None = None, gated: Collection[str] = ()
) -> Activity:
    """What `timing` keeps busy of `resources`, or of its `units` alone.

    A unit that the timing does not know works always. One of `gated` has its clock stopped while it waits.
    """
    cycles = max(timing.cycles, 1)

    def pairs(counts: Iterable[tuple[str, float]]) -> list[tuple[float, float]]:
        found = []
        for unit, count in counts:
            share = min(timing.busy[unit] / cycles, 1.0) if unit in timing.busy else 1.0
            if units is None or unit in units:
                found.append((count * share, 1.0) if unit in gated else (count, share))
        return found

    def blocks(kind: str) -> list[tuple[float, float]]:
        """Blocks of memories: those whose accesses are counted work in these alone, a row of them at a time."""
        found = []
        for b in resources.blocks:
            if b.kind == kind and b.accesses in timing.accesses and (units is None or b.unit in units):
                found.append((b.count, min(timing.accesses[b.accesses] / cycles, b.most) / b.rows))
            elif b.kind == kind:
                found += pairs([(b.unit, b.count)])
        return found

    registers = pairs(registers_by_unit(resources).items())
    ff = sum(count for count, _ in registers)
    dsps = (("array", resources.array_dsp), ("vector", resources.dsp - resources.array_dsp))
    return Activity(
        part=resources.board.part,
        clock_mhz=timing.clock_mhz,
        dsp=pairs(dsps),
        lut=pairs(resources.lut_by_unit.items()),
        bram36=blocks("bram36"),
        uram=blocks("uram"),
        ff=ff,
        ddr_gb_s=(timing.ddr_bytes_read + timing.ddr_bytes_written) / timing.seconds / 1e9,
    )


def registers_by_unit(resources: Resources) -> dict[str, float]:
    """The registers of `resources` by unit, in the proportions of the resource model's tables."""
    counts: dict[str, float] = {}
    for part in logic(resources.board):
        counts[part.unit] = counts.get(part.unit, 0) + part.ff
    for p in products():
        if p.in_fabric:
            counts[p.unit] = counts.get(p.unit, 0) + 2 * (p.a_bits + p.b_bits) * p.copies
    scale = resources.ff / sum(counts.values())
    return {unit: count * scale for unit, count in counts.items()}


def published_activity(row: PublishedPower, values: Mapping[str, float]) -> Activity:
    """A published row as an activity: its units work in `utilization` of the cycles, as ours do in their busy share."""
    u = values["row_utilization"] if row.utilization is None else row.utilization
    return Activity(
        part=row.part,
        clock_mhz=row.clock_mhz,
        dsp=[(row.dsp, u)],
        lut=[(row.lut, u)],
        bram36=[(row.bram36, u)],
        uram=[(row.uram, u)],
        ff=row.ff,
        ddr_gb_s=row.ddr_gb_s,
        wide=row.wide,
        scope=row.scope,
    )


def watts(activity: Activity, values: Mapping[str, float], factor: float) -> dict[str, float]:
    """Watts by part: ps, ddr, static, dsp, lut (fabric), bram36, uram and clocks, the last five times `factor`."""
    scale = factor * activity.clock_mhz * 1e6 * 1e-12

    def working(counts: Sequence[tuple[float, float]], idle: float) -> float:
        return sum(count * (idle + (1 - idle) * share) for count, share in counts)

    chip = activity.scope == "chip"
    blocks = sum(count for kind in (activity.dsp, activity.bram36, activity.uram) for count, _ in kind)
    width = values["dsp_wide"] if activity.wide else 1.0
    fabric = working(activity.lut, values["lut_idle"]) + DSP_NETS * working(activity.dsp, values["lut_idle"])
    return {
        "ps": values["ps_w"] if chip else 0.0,
        "ddr": activity.ddr_gb_s * values["ddr_pj_per_byte"] * 1e-3 if chip else 0.0,
        "static": values["static_mw_per_kcell"] * kcells(activity.part) * 1e-3,
        "dsp": scale * values["dsp_pj"] * width * working(activity.dsp, values["dsp_idle"]),
        "lut": scale * values["lut_pj"] * fabric,
        "bram36": scale * values["bram36_pj"] * working(activity.bram36, values["memory_idle"]),
        "uram": scale * values["uram_pj"] * working(activity.uram, values["memory_idle"]),
        "clocks": scale * values["ff_pj"] * (activity.ff + BLOCK_CLOCK * blocks),
    }


def published_watts(row: PublishedPower, values: Mapping[str, float], factor: float) -> float:
    """What the model says of a published row, in watts of the row's own scope."""
    return sum(watts(published_activity(row, values), values, factor).values())


def calibrating() -> list[PublishedPower]:
    """The rows that fit the factor."""
    return [row for row in PUBLISHED if row.calibrates]


def calibrate(rows: Sequence[PublishedPower], values: Mapping[str, float]) -> float:
    """The factor on dynamic energies that fits the rows' watts best: least squares of the relative error."""
    dynamic, missing = [], []
    for row in rows:
        fixed = published_watts(row, values, 0)
        dynamic.append((published_watts(row, values, 1) - fixed) / row.watts)
        missing.append((row.watts - fixed) / row.watts)
    return sum(d * m for d, m in zip(dynamic, missing, strict=True)) / sum(d * d for d in dynamic)


@cache
def factor() -> float:
    """The factor of the model as it stands."""
    return calibrate(calibrating(), VALUES)


@cache
def variants() -> tuple[tuple[dict[str, float], float], ...]:
    """Constants and factors that are nearly as well believed, the factor fitted anew for each.

    One calibrating row alone; the rows' watts of the programmable logic alone; one constant at an end of its range.
    """
    rows = calibrating()
    found = [(dict(VALUES), calibrate([row], VALUES)) for row in rows]
    found.append((dict(VALUES), calibrate([replace(row, scope="pl") for row in rows], VALUES)))
    for constant in CONSTANTS:
        for value in (constant.low, constant.high):
            values = VALUES | {constant.name: value}
            found.append((values, calibrate(rows, values)))
    return tuple(found)


@cache
def leave_one_out() -> tuple[LeftOut, ...]:
    """Each published row, predicted by a model that has not seen it.

    The factor is fitted on the calibrating rows but this; where the row is of a family with reports, the energies come
    from the reports of the other families.
    """
    found = []
    for row in PUBLISHED:
        reports = [r for r in REPORTS if r.family != row.family]
        values = VALUES | energies(reports) if len(reports) < len(REPORTS) else VALUES
        f = calibrate([other for other in calibrating() if other is not row], values)
        found.append(LeftOut(row, published_watts(row, values, f)))
    return tuple(found)


def error_range() -> tuple[float, float]:
    """The least and the greatest relative error on the complete rows; 0 lies within."""
    errors = [left.error for left in leave_one_out() if left.row.complete]
    return min(0.0, *errors), max(0.0, *errors)


def by_unit(resources: Resources, timing: Timing, gated: Collection[str] = ()) -> dict[str, float]:
    """Watts by what takes them, for a reader: each unit's DSPs, fabric and memories, then clocks, static, PS, DDR."""
    whole = watts(activity_of(resources, timing, gated=gated), VALUES, factor())
    found: dict[str, float] = {}
    for unit in resources.lut_by_unit:
        own = watts(activity_of(resources, timing, {unit}, gated), VALUES, factor())
        found |= {f"{unit} DSPs": own["dsp"], f"{unit} fabric": own["lut"]}
        found[f"{unit} memories"] = own["bram36"] + own["uram"]
    found = {name: value for name, value in found.items() if value}
    return found | {name: whole[name] for name in ("clocks", "static", "ps", "ddr")}
