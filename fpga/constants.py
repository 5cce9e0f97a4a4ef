# SPDX-License-Identifier: Apache-2.0
"""Constants of the power model, each with a range and where it comes from.

Tags: [P] published, [D] derived from published figures, [U] an engineer's estimate that no source at hand confirms.

The dynamic energies are computed here from the vendor's reports of published.py by one rule for all of them: joules a
cycle and piece at 0.85 V, the mean over a family's reports, the geometric mean over families; the range is from the
least to the greatest of the reports. Their level is then fitted on published accelerators (power.py), so that only
their ratios are taken from here.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .published import NOMINAL_V, REPORTS, STATIC_DIFFERENCE, Report, kcells


@dataclass(frozen=True)
class Constant:
    """A constant of the power model: `value` in `unit`, believed to lie in `low` .. `high`."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str


# A DSP or memory loads the clock as so many registers, and a DSP has nets in the fabric as so many LUTs. Both make the
# reports of one family, of 15 and of 62 LUTs a DSP, agree [D].
BLOCK_CLOCK, DSP_NETS = 12.0, 8.5

PIECES: dict[str, tuple[str, Callable[[Report], float], str]] = {
    "dsp_pj": ("dsp_w", lambda r: r.dsp, "pJ per cycle"),
    "lut_pj": ("fabric_w", lambda r: r.lut + DSP_NETS * r.dsp, "pJ per cycle"),
    "ff_pj": ("clocks_w", lambda r: r.ff + BLOCK_CLOCK * (r.dsp + r.bram36 + r.uram), "pJ per cycle"),
    "bram36_pj": ("bram36_w", lambda r: r.bram36, "pJ per cycle"),
    "uram_pj": ("uram_w", lambda r: r.uram, "pJ per cycle"),
}


def picojoules(name: str, reports: Iterable[Report] = REPORTS) -> dict[Report, float]:
    """pJ a cycle and piece at 0.85 V in each of the reports that tell of `name`, a key of PIECES."""
    field, count, _ = PIECES[name]
    return {
        r: watts / (r.clock_mhz * 1e6 * count(r)) * (NOMINAL_V / r.vccint) ** 2 * 1e12
        for r in reports
        if (watts := getattr(r, field)) is not None
    }


def over_families(found: dict[Report, float], *others: float) -> float:
    """The geometric mean over families (and `others`), of the means over each family's reports."""
    families: dict[str, list[float]] = {}
    for report, value in found.items():
        families.setdefault(report.family, []).append(value)
    means = [sum(values) / len(values) for values in families.values()] + list(others)
    return math.exp(sum(math.log(mean) for mean in means) / len(means))


def static_mw_per_kcell(reports: Iterable[Report] = REPORTS) -> dict[Report, float]:
    """Static power of the programmable logic in each report, mW per thousand system logic cells."""
    return {r: r.static_w * 1e3 / kcells(r.part) for r in reports if r.static_w is not None}


def energies(reports: Sequence[Report] = REPORTS) -> dict[str, float]:
    """The constants that `reports` tell, by name."""
    found = {name: over_families(picojoules(name, reports)) for name in PIECES}
    static = over_families(static_mw_per_kcell(reports), STATIC_DIFFERENCE * 1e3)
    return found | {"static_mw_per_kcell": static}


def _from_reports() -> tuple[Constant, ...]:
    values = energies()
    what = {
        "dsp_pj": "a DSP48E2 with operands of at most 18 by 12 bits",
        "lut_pj": f"a LUT, the nets and what else is in its CLB; a DSP's nets count as {DSP_NETS:g} LUTs",
        "ff_pj": f"a register's share of the clock tree; a DSP or memory counts as {BLOCK_CLOCK:g} registers",
        "bram36_pj": "a BRAM36 at the enable and toggle rates that the tool assumes",
        "uram_pj": "a URAM, likewise",
    }
    rows = []
    for name, (_, _, unit) in PIECES.items():
        found = picojoules(name)
        names = ", ".join(dict.fromkeys(r.family for r in found))
        rows.append(
            Constant(
                name,
                values[name],
                min(found.values()),
                max(found.values()),
                unit,
                f"[D] {what[name]}: {len(found)} reports ({names})",
            )
        )
    static = [*static_mw_per_kcell().values(), STATIC_DIFFERENCE * 1e3]
    rows.append(
        Constant(
            "static_mw_per_kcell",
            values["static_mw_per_kcell"],
            min(static),
            max(static),
            "mW per thousand system logic cells",
            f"[D] {len(static) - 1} reports, and XCZU19EG less XCZU2EG (Xilinx wiki)",
        )
    )
    return tuple(rows)


CONSTANTS: tuple[Constant, ...] = (
    *_from_reports(),
    Constant(
        "ps_w", 2.77, 0.77, 3.3, "W",
        "[P] PS8 2.67 W and its static power 0.10 W with ZCU104's preset, four A53 and 64-bit DDR4 (HGTXR); low: an "
        "RFSoC 4x2's report, 0.67 W and 0.10; high [U]. Board: sum of the PS rails.",
    ),
    Constant(
        "ddr_pj_per_byte", 60, 30, 120, "pJ/byte",
        "[U] 7.5 pJ a bit in controller and PHY on the PS rails, above what ps_w has; the DRAM chips' own rail is not "
        "counted.",
    ),
    Constant(
        "dsp_wide", 1.25, 1.0, 1.43, "",
        "[P] a DSP of 27 by 18 bits against one of 12 by 12: UG440, DSP sheet. Ours, packed, counts this; int8 and "
        "8 by 4 count 1.",
    ),
    Constant(
        "dsp_idle", 0.205, 0.1, 0.35, "",
        "[D] a DSP whose operands stand still, as a share of one at the tool's default activity: 0.157 of 0.767 W with "
        "every net at zero toggle (Nero7991/llm.vhdl, build 18). Range [U].",
    ),
    Constant(
        "lut_idle", 0.15, 0.0, 0.3, "",
        "[U] fabric of a unit that waits. 0.002 where every net stands still (the same report), but a unit's inputs "
        "come from others that work.",
    ),
    Constant(
        "memory_idle", 0.1, 0.0, 0.46, "",
        "[U] a memory that is not read: read_ce and write_ce of rtl/memory.v are low then. High [D]: enables held high "
        "(0.312 of 0.679 W, the same report).",
    ),
    Constant(
        "row_utilization", 0.764, 0.5, 1.0, "",
        "[D] share of the cycles in which the units of a published design work, where its source does not tell: the "
        "mean of FQ-BERT's two. High: a tool's default activity, which knows no cycle of rest. Low [U].",
    ),
)  # fmt: skip

VALUES = {c.name: c.value for c in CONSTANTS}
