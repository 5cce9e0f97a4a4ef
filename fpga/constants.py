# SPDX-License-Identifier: Apache-2.0
"""Constants of the power model, each with a range and where it comes from, and the published rows that calibrate it.

Tags: [P] published, [D] derived from published figures, [U] an engineer's estimate that no source at hand confirms. Of
the dynamic energies only the ratios are taken from here: one factor, fitted on published accelerators, scales them all
(power.py).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """A constant of the power model: `value` in `unit`, believed to lie in `low` .. `high`."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    source: str


CONSTANTS: tuple[Constant, ...] = (
    Constant(
        "static_mw_per_kcell", 0.817, 0.5, 1.4, "mW per thousand system logic cells",
        "[D] XCZU19EG (1,143 k) draws 850 mW more than XCZU2EG (103 k): Xilinx wiki, Power Optimization Guide for Zynq "
        "UltraScale+ MPSoC. Cell counts: DS891.",
    ),
    Constant(
        "ps_w", 2.4, 1.8, 3.0, "W",
        "[U] four A53 at 1.2 GHz with Linux, DDR4 controller and PHY; what vendor reports commonly give for the PS. "
        "Board: sum of the PS rails.",
    ),
    Constant(
        "ddr_pj_per_byte", 60, 30, 120, "pJ/byte",
        "[U] 7.5 pJ a bit in controller and PHY on the PS rails; the DRAM chips' own rail is not counted.",
    ),
    Constant(
        "dsp_pj", 4.0, 2.7, 6.0, "pJ per working cycle",
        "[U] one DSP48E2 with 27-bit operands and its nets, 0.85 V.",
    ),
    Constant(
        "dsp_narrow", 0.8, 0.7, 1.0, "",
        "[P] a DSP of 12 by 12 bits against 27 by 18: UG440, DSP sheet. Ours counts 1, FQ-BERT's 8 by 4 this.",
    ),
    Constant(
        "lut_pj", 0.08, 0.053, 0.12, "pJ per cycle",
        "[U] one LUT and its routing at a toggle rate of 12.5 %, the default of UG440.",
    ),
    Constant(
        "ff_pj", 0.02, 0.013, 0.03, "pJ per cycle",
        "[U] one register and its share of the clock tree.",
    ),
    Constant(
        "bram36_pj", 12.0, 8.0, 18.0, "pJ per working cycle",
        "[U] one BRAM36 read and written.",
    ),
    Constant(
        "uram_pj", 24.0, 16.0, 36.0, "pJ per working cycle",
        "[U] one URAM: eight times the bits of a BRAM36, 72 of them at a time.",
    ),
    Constant(
        "idle", 0.3, 0.1, 0.5, "",
        "[U] what a unit that waits still switches, as a share of what it switches at work; nothing is clock-gated.",
    ),
)  # fmt: skip

VALUES = {c.name: c.value for c in CONSTANTS}

# Thousands of system logic cells [P: DS891, DS889].
KCELLS = {"xczu9eg": 600, "xczu28dr": 930}


def kcells(part: str) -> int:
    """Thousands of system logic cells of a part; KeyError if it is not known."""
    return KCELLS[part.split("-")[0]]


@dataclass(frozen=True)
class PublishedPower:
    """A published accelerator whose watts calibrate or check the model.

    `utilization`: share of the cycles in which a DSP works. `calibrates`: every figure but the utilization is read in
    the paper; the others' fabric is guessed and they only widen the range.
    """

    name: str
    part: str
    watts: float
    clock_mhz: float
    dsp: float
    lut: float
    ff: float
    bram36: float
    utilization: float
    ddr_gb_s: float
    calibrates: bool
    source: str


# FQ-BERT's LUTs, registers and BRAM36 a DSP on ZCU102, for rows that do not publish theirs [U].
_LUT_PER_DSP, _FF_PER_DSP, _BRAM_PER_DSP = 123157 / 1751, 124433 / 1751, 419 / 1751


def _guessed(name: str, watts: float, clock_mhz: float, dsp: float, ddr_gb_s: float, source: str) -> PublishedPower:
    fabric = (dsp * _LUT_PER_DSP, dsp * _FF_PER_DSP, dsp * _BRAM_PER_DSP)
    return PublishedPower(name, "xczu9eg", watts, clock_mhz, dsp, *fabric, 1.0, ddr_gb_s, False, source)


PUBLISHED: tuple[PublishedPower, ...] = (
    PublishedPower(
        "FQ-BERT ZCU102 (8,16)", "xczu9eg", 9.8, 214, 1751, 123157, 124433, 419, 0.795, 0.97, True,
        "[P] arXiv 2103.02800; utilization and traffic [D]: 11.47 G products, 42.5 MB of weights, 1536 multipliers, "
        "43.89 ms",
    ),
    PublishedPower(
        "FQ-BERT ZCU111 (16,16)", "xczu28dr", 13.2, 214, 3287, 189724, 201469, 339.5, 0.733, 1.79, True,
        "[P] arXiv 2103.02800, URAM not counted; utilization and traffic [D]: 3072 multipliers, 23.79 ms",
    ),
    _guessed(
        "EfficientViT ZCU102", 780.2 / 105.1, 200, 780.2 / 2 / 0.2 / 2, 1.0,
        "[D] arXiv 2403.20230: 780.2 GOPS at 105.1 GOPS/W; two int8 products a DSP; fabric and traffic [U]",
    ),
    _guessed(
        "HeatViT ZCU102, DeiT-S", 1e3 / 9.15 / 10.2, 300, 4.6e9 / 9.15e-3 / 300e6, 1.0,
        "[D] arXiv 2211.08110: 9.15 ms, 10.2 fps/W; dense 4.6 G products, one a DSP; fabric and traffic [U]",
    ),
)  # fmt: skip
