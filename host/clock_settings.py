# SPDX-License-Identifier: Apache-2.0
"""Dividers of an UltraScale+ MMCM (speed grade -2): which settings give a frequency, within the part's limits."""

from dataclasses import dataclass
from fractions import Fraction

VCO_MHZ = (800, 1600)
PHASE_DETECTOR_MIN_MHZ = 10
OUTPUT_MAX_MHZ = 775
MULTIPLY = (2, 128)
DIVIDE = (2, 128)
PRESCALE = (1, 106)
STEPS = 8  # multiply and divide come in eighths


@dataclass(frozen=True)
class ClockSettings:
    """f_out = f_in * multiply / (prescale * divide); multiply and divide in eighths."""

    prescale: int
    multiply_eighths: int
    divide_eighths: int

    def mhz(self, input_mhz: float) -> float:
        """The output frequency."""
        return input_mhz * self.multiply_eighths / (self.prescale * self.divide_eighths)

    def config0(self) -> int:
        """Register CONFIG0: DIVCLK, MULT and its fraction x 1000."""
        whole, eighths = divmod(self.multiply_eighths, STEPS)
        return self.prescale | whole << 8 | eighths * 125 << 16

    def config2(self) -> int:
        """Register CONFIG2: CLKOUT0 divide and its fraction x 1000."""
        whole, eighths = divmod(self.divide_eighths, STEPS)
        return whole | eighths * 125 << 8


def find_settings(mhz: float, input_mhz: float = 100.0) -> ClockSettings:
    """The settings that come nearest to `mhz` from below: a clock faster than asked for might not meet timing.

    Among equals whole factors win (less jitter), then the smaller prescale, then the faster VCO.
    Raises ValueError for a frequency out of reach.
    """
    if not VCO_MHZ[0] / DIVIDE[1] <= mhz <= OUTPUT_MAX_MHZ:
        raise ValueError(f"clock of {mhz:g} MHz is outside {VCO_MHZ[0] / DIVIDE[1]:g} .. {OUTPUT_MAX_MHZ} MHz")
    target, source = Fraction(mhz).limit_denominator(10**6), Fraction(input_mhz).limit_denominator(10**6)
    best = None
    for prescale in range(PRESCALE[0], PRESCALE[1] + 1):
        compared = source / prescale
        if compared < PHASE_DETECTOR_MIN_MHZ:
            break
        low = max(MULTIPLY[0] * STEPS, -(-VCO_MHZ[0] * STEPS // compared))
        high = min(MULTIPLY[1] * STEPS, VCO_MHZ[1] * STEPS // compared)
        for multiply in range(int(low), int(high) + 1):
            vco = compared * multiply / STEPS
            divide = max(DIVIDE[0] * STEPS, int(-(-vco * STEPS // target)))
            if divide > DIVIDE[1] * STEPS:
                continue
            error = target - vco * STEPS / divide
            fractional = (multiply % STEPS != 0) + (divide % STEPS != 0)
            rank = (error, fractional, prescale, -vco)
            if best is None or rank < best[0]:
                best = rank, ClockSettings(prescale, multiply, divide)
    if best is None:
        raise ValueError(f"no setting of the clocking wizard gives {mhz:g} MHz from {input_mhz:g} MHz")
    return best[1]
