# SPDX-License-Identifier: Apache-2.0
"""Factors of the clocking wizard's MMCM: which give four frequencies from one VCO, within the part's limits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .registers import CLOCK_INPUT_MHZ, WIZARD_OUTPUTS_MHZ

STEPS = 8  # multiply, and the divide of output 0, come in eighths
_FRACTION = 1000 // STEPS  # registers hold a fraction x 1000
OUTPUT_WORDS = tuple(f"CLKOUT{n}" for n in range(len(WIZARD_OUTPUTS_MHZ)))
SETTINGS_WORDS = ("CONFIG0", *OUTPUT_WORDS)


@dataclass(frozen=True)
class Limits:
    """What an MMCM allows: (lowest, highest) in MHz, and of factors. A divide is 1, or 2 and more: nothing between."""

    source: tuple[int, int]
    vco: tuple[int, int]
    phase_detector: tuple[int, int]
    output_max: int
    multiply: tuple[int, int]
    prescale: tuple[int, int]
    divide: tuple[int, int]


# UltraScale+ at speed grade -2: frequencies of DS925 and DS926, factors of UG572, table 3-4. The phase detector's
# highest is the slowest grade's; from 100 MHz nothing comes near it.
SPEED_GRADE_2 = Limits(
    source=(10, 933),
    vco=(800, 1600),
    phase_detector=(10, 450),
    output_max=775,
    multiply=(2, 128),
    prescale=(1, 106),
    divide=(1, 128),
)


@dataclass(frozen=True)
class ClockSettings:
    """Output n has f_in * multiply / (prescale * divide n), both in eighths; only output 0's divide has a fraction."""

    prescale: int
    multiply_eighths: int
    divide_eighths: tuple[int, ...]

    def mhz(self, input_mhz: float = CLOCK_INPUT_MHZ) -> tuple[float, ...]:
        """Frequency of each output."""
        vco_eighths = Fraction(input_mhz) * self.multiply_eighths / self.prescale
        return tuple(float(vco_eighths / divide) for divide in self.divide_eighths)

    def words(self) -> dict[str, int]:
        """The wizard's registers by name."""
        whole, eighths = divmod(self.multiply_eighths, STEPS)
        words = {"CONFIG0": self.prescale | whole << 8 | eighths * _FRACTION << 16}
        for name, divide in zip(OUTPUT_WORDS, self.divide_eighths, strict=True):
            whole, eighths = divmod(divide, STEPS)
            words[name] = whole | eighths * _FRACTION << 8
        return words

    @classmethod
    def of_words(cls, words: Mapping[str, int]) -> "ClockSettings":
        """What registers say. Raises ValueError where a factor is 0 or a fraction is not in eighths."""
        config = words["CONFIG0"]
        multiply = _eighths("CONFIG0", config >> 8 & 255, config >> 16 & 1023)
        divides = [_eighths(OUTPUT_WORDS[0], words[OUTPUT_WORDS[0]] & 255, words[OUTPUT_WORDS[0]] >> 8 & 1023)]
        divides += [_eighths(name, words[name] & 255, 0) for name in OUTPUT_WORDS[1:]]
        return cls(_eighths("CONFIG0", config & 255, 0) // STEPS, multiply, tuple(divides))


def _eighths(name: str, whole: int, thousandths: int) -> int:
    eighths, rest = divmod(thousandths, _FRACTION)
    if whole == 0 or rest or eighths >= STEPS:
        raise ValueError(f"{name} holds a factor of {whole} + {thousandths}/1000, which is none")
    return whole * STEPS + eighths


def find_settings(
    mhz: Sequence[float], input_mhz: float = CLOCK_INPUT_MHZ, limits: Limits = SPEED_GRADE_2
) -> ClockSettings:
    """The settings that bring each of four outputs nearest to its `mhz` from below: a clock faster than asked for might
    not meet timing.

    Output 0 decides; among equals whole factors and then the smaller prescale (less jitter), then the sum of the
    others' relative errors, then the faster VCO. Raises ValueError for frequencies out of reach.
    """
    if len(mhz) != len(OUTPUT_WORDS):
        raise ValueError(f"{len(mhz)} clocks are asked for, the clocking wizard has {len(OUTPUT_WORDS)} outputs")
    if not limits.source[0] <= input_mhz <= limits.source[1]:
        raise ValueError(f"input of {input_mhz:g} MHz is outside {limits.source[0]} .. {limits.source[1]} MHz")
    slowest = limits.vco[0] / limits.divide[1]
    for wanted in mhz:
        if not slowest <= wanted <= limits.output_max:
            raise ValueError(f"clock of {wanted:g} MHz is outside {slowest:g} .. {limits.output_max} MHz")
    tops = [_top(wanted) for wanted in mhz]
    ties = _nearest(tops[0], min(tops), Fraction(input_mhz), limits)
    ranked = []
    for divide, (fractional, prescale, multiply) in ties.items():
        vco = Fraction(input_mhz) * multiply / (STEPS * prescale)
        others = [math.ceil(vco / top) for top in tops[1:]]
        error = sum(1 - vco / (n * Fraction(f)) for n, f in zip(others, mhz[1:], strict=True))
        settings = ClockSettings(prescale, multiply, (divide, *(n * STEPS for n in others)))
        ranked.append(((fractional + (divide % STEPS != 0), prescale, error, -vco), settings))
    if not ranked:
        asked = ", ".join(f"{wanted:g}" for wanted in mhz)
        raise ValueError(f"no setting of the clocking wizard gives {asked} MHz from {input_mhz:g} MHz")
    return min(ranked, key=lambda candidate: candidate[0])[1]


def _top(mhz: float) -> Fraction:
    """The highest frequency that is `mhz` when rounded to a float: what a caller was told, it can ask for again."""
    return (Fraction(mhz) + Fraction(math.nextafter(mhz, math.inf))) / 2


def _nearest(top: Fraction, lowest: Fraction, source: Fraction, limits: Limits) -> dict[int, tuple[bool, int, int]]:
    """Every way to the highest frequency of output 0 that is no higher than `top`, while an output at `lowest` is in
    reach: by its divide in eighths, which fixes the VCO, the best (multiply is fractional, prescale, multiply).
    """
    best, ties = (0, 1), {}  # the ratio f_out / f_in
    vco_high = min(limits.vco[1], limits.divide[1] * lowest)
    for prescale in range(limits.prescale[0], limits.prescale[1] + 1):
        compared = source / prescale
        if not limits.phase_detector[0] <= compared <= limits.phase_detector[1]:
            continue
        low = max(limits.multiply[0] * STEPS, math.ceil(limits.vco[0] * STEPS / compared))
        high = min(limits.multiply[1] * STEPS, math.floor(vco_high * STEPS / compared))
        step = compared / top
        for multiply in range(low, high + 1):
            divide = -(-step.numerator * multiply // step.denominator)
            if divide < 2 * STEPS:
                divide = limits.divide[0] * STEPS if divide <= limits.divide[0] * STEPS else 2 * STEPS
            ratio = (multiply, prescale * divide)
            gain = ratio[0] * best[1] - best[0] * ratio[1]
            if gain > 0:
                best, ties = ratio, {}
            if gain >= 0:
                found = (multiply % STEPS != 0, prescale, multiply)
                ties[divide] = min(found, ties.get(divide, found))
    return ties
