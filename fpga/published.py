# SPDX-License-Identifier: Apache-2.0
"""Published watts of designs on 16 nm UltraScale+ parts: reports by component, and accelerators by their total.

A report gives watts for clocks, fabric (CLB logic and signals), DSPs and memories beside their counts: the ratios of
the power model's energies come from there (constants.py). A row gives one figure in watts beside clock and counts: the
model's level is fitted on rows, and its error shown on them (power.py).

Tags: [P] read in the source, [D] derived from figures read there, [U] not told by any source at hand.
"""

from dataclasses import dataclass

CELLS_A_LUT = 2.1875  # system logic cells: DS891 gives 600 k for the 274,080 LUTs of an XCZU9EG
NOMINAL_V = 0.85


@dataclass(frozen=True)
class Report:
    """A vendor's power report of a routed design, watts by component; None where it does not tell, or where what it
    tells is of other clocks than `clock_mhz`. `vccint`: volts."""

    name: str
    family: str  # designs of one hand count together once
    part: str
    clock_mhz: float
    dsp: int
    lut: int
    ff: int
    bram36: float
    uram: int
    clocks_w: float | None
    fabric_w: float | None
    dsp_w: float | None
    bram36_w: float | None
    uram_w: float | None
    static_w: float | None  # programmable logic alone
    source: str
    vccint: float = NOMINAL_V


_HGTXR = "[P] HGTXR, a vision transformer of 4-bit weights and 8-bit activations on ZCU104, public on GitHub: "

REPORTS: tuple[Report, ...] = (
    Report(
        "HGTXR par8", "HGTXR", "xczu7ev", 300, 1627, 24_159, 26_753, 238, 32,
        0.272, 0.291 + 0.443, 1.295, 0.267, 0.083, 0.614,
        _HGTXR + "answers of the learned-ROM candidate, routed, vectorless",
    ),
    Report(
        "HGTXR AQ2 search", "HGTXR", "xczu7ev", 300, 1257, 77_494, 78_687, 191.5, 92,
        0.531, 0.727 + 0.976, 0.998, 0.200, 0.200, 0.625,
        _HGTXR + "AQ2 Requested Search/Track Metrics, 2026-07-01, routed, vectorless",
    ),
    Report(
        "HGTXR AQ2 track", "HGTXR", "xczu7ev", 300, 1270, 80_565, 83_427, 185.5, 64,
        0.542, 0.840 + 0.835, 0.847, 0.191, 0.128, 0.620,
        _HGTXR + "AQ2 Requested Search/Track Metrics, 2026-07-01, routed, vectorless",
    ),
    Report(
        "ArchBetter", "ArchBetter", "xcku5p", 225, 512, 31_659, 63_357, 91.5, 11,
        0.258, 0.158 + 0.274, 0.130, 0.099, 0.069, 0.476,
        "[P] hadibadri/4T2R-SENSITIVE-Accelerator: systolic arrays on an XCKU5P-3, routed, 6 % of nets with simulated "
        "activity",
        vccint=0.90,
    ),
    Report(
        "csre on Alveo U50", "csre", "xcu50", 180, 4, 475_034 + 8_613 + 4_421, 665_852, 412.5, 0,
        2.464, 1.894 + 3.132, None, 1.532, None, 2.335,
        "[P] cyansemi/csre-demo-v1: regular expressions, Vitis report; transceivers and HBM left out here",
    ),
    Report(
        "FSA on Alveo U280", "FSA", "xcu280", 70, 320, 381_056, 72_510, 81.5, 0,
        None, 2.145 + 1.879, 0.061, None, None, None,
        "[P] U280 baseline of FSA 16x16, public on GitHub: 60 levels of logic between registers; clocks, memories and "
        "static power are mostly those of PCIe and HBM",
    ),
    Report(
        "RFSoC 4x2", "RFSoC 4x2", "xczu48dr", 97, 0, 8_837, 16_525, 4, 2,
        None, None, None, None, None, 0.479,
        "[P] a beginner's design on an XCZU48DR, public on GitHub; too small for its dynamic power to tell anything",
    ),
)  # fmt: skip

# Watts of static power between two parts, over thousands of cells between them.
STATIC_DIFFERENCE = 0.850 / (1143 - 103)
STATIC_DIFFERENCE_SOURCE = (
    "[D] XCZU19EG (1,143 k) draws 850 mW more than XCZU2EG (103 k): Xilinx wiki, Power Optimization Guide for Zynq "
    "UltraScale+ MPSoC. Cell counts: DS891"
)


# LUTs of a part [P: DS891, DS889, DS922, and the reports themselves].
PART_LUTS = {
    "xczu7ev": 230_400,
    "xczu9eg": 274_080,
    "xczu28dr": 425_280,
    "xczu48dr": 425_280,
    "xcku5p": 216_960,
    "xcu50": 870_016,
    "xcu280": 1_303_680,
}


def kcells(part: str) -> float:
    """Thousands of system logic cells of a part, its package and grade after a dash; KeyError if it is not known."""
    return PART_LUTS[part.split("-")[0]] * CELLS_A_LUT / 1e3


@dataclass(frozen=True)
class PublishedPower:
    """A published accelerator's watts, clock and counts.

    `scope`: what the watts hold, "chip" (programmable logic and processing system) or "pl"; `told`: how they came
    about, "vendor report", or "unstated" where the scope is an assumption too. `utilization`: share of the cycles in
    which its units work, its multipliers' where that can be derived; None where the source does not tell. `wide`:
    operands beyond 18 by 12 bits. `calibrates`: fits the factor. `complete`: every count is read in the source, the
    part is of ZCU102's or ZCU111's class; only these make the printed range.
    """

    name: str
    family: str
    part: str
    watts: float
    scope: str
    told: str
    clock_mhz: float
    dsp: float
    lut: float
    ff: float
    bram36: float
    uram: float
    utilization: float | None
    wide: bool
    ddr_gb_s: float
    calibrates: bool
    complete: bool
    source: str


# FQ-BERT's LUTs, registers and BRAM36 a DSP on ZCU102, for rows that do not publish theirs [U].
_LUT_A_DSP, _FF_A_DSP, _BRAM_A_DSP = 123157 / 1751, 124433 / 1751, 419 / 1751


def _row(
    name: str, family: str, part: str, watts: float, clock_mhz: float, counts: tuple[float, ...], source: str, *,
    told: str = "unstated", scope: str = "chip", utilization: float | None = None, wide: bool = False,
    ddr_gb_s: float = 1.0, calibrates: bool = False, complete: bool = True,
) -> PublishedPower:  # fmt: skip
    return PublishedPower(
        name, family, part, watts, scope, told, clock_mhz, *counts, utilization, wide, ddr_gb_s,
        calibrates, complete, source,
    )  # fmt: skip


def _guessed(name: str, watts: float, clock_mhz: float, dsp: float, source: str) -> PublishedPower:
    counts = (dsp, dsp * _LUT_A_DSP, dsp * _FF_A_DSP, dsp * _BRAM_A_DSP, 0)
    return _row(name, name, "xczu9eg", watts, clock_mhz, counts, source, complete=False)


PUBLISHED: tuple[PublishedPower, ...] = (
    _row(
        "FQ-BERT ZCU102 (8,16)", "FQ-BERT", "xczu9eg", 9.8, 214, (1751, 123157, 124433, 419, 0),
        "[P] arXiv 2103.02800, tables III and IV; utilization and traffic [D]: 11.47 G products, 42.5 MB of weights, "
        "1536 multipliers, 43.89 ms",
        utilization=0.795, ddr_gb_s=0.97, calibrates=True,
    ),
    _row(
        "FQ-BERT ZCU111 (16,16)", "FQ-BERT", "xczu28dr", 13.2, 214, (3287, 189724, 201469, 339.5, 0),
        "[P] the same, URAM not counted; utilization and traffic [D]: 3072 multipliers, 23.79 ms",
        utilization=0.733, ddr_gb_s=1.79, calibrates=True,
    ),
    _row(
        "CoQMoE ZCU102", "USTC MoE", "xczu9eg", 9.83, 300, (1754, 156_100, 198_200, 383, 0),
        "[P] arXiv 2506.08496 (read in an extract): table 2, beside the counts; clock: table 3; int8; BRAMs "
        "taken for BRAM36 [U]",
        calibrates=True,
    ),
    _row(
        "UbiMoE ZCU102", "USTC MoE", "xczu9eg", 11.50, 300, (1850, 123_400, 142_600, 458, 0),
        "[P] arXiv 2502.05602 (read in an extract): its tables of resources and of M3ViT; 16 by 32 bits; BRAMs "
        "taken for BRAM36 [U]",
        wide=True, calibrates=True,
    ),
    _row(
        "HGTXR par8 ZCU104", "HGTXR", "xczu7ev", 6.037, 300, (1627, 24_159, 26_753, 238, 32),
        REPORTS[0].source, told="vendor report",
    ),
    _row(
        "HGTXR par8 dispatch ZCU104", "HGTXR", "xczu7ev", 7.109, 300, (1630, 44_894, 44_799, 238, 48),
        _HGTXR + "answers of the full-block dispatcher candidate, routed, vectorless", told="vendor report",
    ),
    _row(
        "HGTXR AQ2 search ZCU104", "HGTXR", "xczu7ev", 7.032, 300, (1257, 77_494, 78_687, 191.5, 92),
        REPORTS[1].source, told="vendor report",
    ),
    _row(
        "HGTXR AQ2 track ZCU104", "HGTXR", "xczu7ev", 6.777, 300, (1270, 80_565, 83_427, 185.5, 64),
        REPORTS[2].source, told="vendor report",
    ),
    _row(
        "ArchBetter XCKU5P", "ArchBetter", "xcku5p", 1.556, 225, (512, 31_659, 63_357, 91.5, 11),
        REPORTS[3].source, told="vendor report", scope="pl", ddr_gb_s=0.0, complete=False,
    ),
    _guessed(
        "EfficientViT ZCU102", 780.2 / 105.1, 200, 780.2 / 2 / 0.2 / 2,
        "[D] arXiv 2403.20230: 780.2 GOPS at 105.1 GOPS/W; two int8 products a DSP; fabric and traffic [U]",
    ),
    _guessed(
        "HeatViT ZCU102, DeiT-S", 10.697, 300, 4.6e9 / 9.15e-3 / 300e6,
        "[P] 10.697 W: arXiv 2502.05602, table III (read in an extract); 9.15 ms [P]: arXiv 2211.08110; DSPs [D]: "
        "dense 4.6 G products, one a DSP; fabric and traffic [U]",
    ),
)  # fmt: skip
