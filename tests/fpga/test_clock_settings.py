# SPDX-License-Identifier: Apache-2.0
"""Factors of the clocking wizard: within the data sheet's limits, as the registers hold them, the best there are."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zynqbert.fpga.clock_settings import ClockSettings, find_settings
from zynqbert.fpga.registers import WIZARD_OUTPUTS_MHZ

quick = settings(derandomize=True, database=None, deadline=None, max_examples=80)
clocks = st.one_of(
    st.floats(6.25, 775),
    st.integers(7, 775).map(float),
    st.builds(lambda m, d: 100 * m / d, st.integers(16, 1024), st.integers(16, 1024)).filter(
        lambda f: 6.25 <= f <= 775
    ),
)
four = st.tuples(clocks, clocks, clocks, clocks)


def decode(words):
    """(VCO, outputs) in MHz of register words by PG065, asserting every limit of DS925, DS926 (-2) and UG572."""
    assert set(words) == {"CONFIG0", "CLKOUT0", "CLKOUT1", "CLKOUT2", "CLKOUT3"}
    config = words["CONFIG0"]
    prescale, whole, thousandths = config & 0xFF, config >> 8 & 0xFF, config >> 16
    assert 1 <= prescale <= 106
    assert thousandths % 125 == 0 and thousandths < 1000
    multiply = whole + Fraction(thousandths, 1000)
    assert 2 <= multiply <= 128
    assert 10 <= Fraction(100, prescale) <= 500
    vco = 100 * multiply / prescale
    assert 800 <= vco <= 1600
    outputs = []
    for n in range(4):
        word = words[f"CLKOUT{n}"]
        divide, fraction = word & 0xFF, word >> 8
        assert fraction % 125 == 0 and fraction < 1000
        if n:
            assert fraction == 0, "only output 0 divides by fractions"
        divide += Fraction(fraction, 1000)
        assert divide == 1 or 2 <= divide <= 128
        assert vco / divide <= 775
        outputs.append(vco / divide)
    return vco, outputs


class TestLimits:
    @quick
    @given(four)
    def test_registers_keep_every_limit_and_give_what_is_said(self, mhz):
        found = find_settings(mhz)
        vco, outputs = decode(found.words())
        assert found.mhz() == tuple(map(float, outputs))
        assert ClockSettings.of_words(found.words()) == found
        for wanted, output in zip(mhz[1:], outputs[1:], strict=True):
            divide = vco / output
            assert divide == 1 or vco / (divide - 1) > wanted, "a nearer one was there"

    @quick
    @given(four)
    def test_never_faster_than_asked(self, mhz):
        assert all(found <= wanted for found, wanted in zip(find_settings(mhz).mhz(), mhz, strict=True))

    @quick
    @given(four)
    def test_what_was_given_is_given_again(self, mhz):
        found = find_settings(mhz).mhz()
        assert find_settings(found).mhz() == found


def every_setting():
    """VCO and frequency of output 0, and (prescale, multiply, divide) in eighths, of all there are from 100 MHz."""
    grids = []
    divides = np.array([8, *range(16, 1025)])
    for prescale in range(1, 11):
        multiply = np.arange(16, 1025)
        vco = 100 * multiply / (8 * prescale)
        multiply = multiply[(vco >= 800) & (vco <= 1600)]
        m, d = (grid.ravel() for grid in np.meshgrid(multiply, divides))
        grids.append(np.stack([np.full_like(m, prescale), m, d]))
    prescale, multiply, divide = np.concatenate(grids, axis=1)
    # One rounding each, of whole numbers: equal to the exact fraction as a float.
    return 100 * multiply / (8 * prescale), 100 * multiply / (prescale * divide), prescale, multiply, divide


@pytest.fixture(scope="module")
def settings_there_are():
    return every_setting()


class TestBest:
    def test_output_0_is_the_best_there_is(self, settings_there_are):
        vco, output, *_ = settings_there_are
        random = np.random.default_rng(1)
        points = [*random.uniform(6.25, 775, 30), *random.integers(7, 776, 15), 6.25, 775, 100, 250, 1000 / 7]
        for wanted in map(float, points):
            others = tuple(map(float, random.uniform(6.25, 300, 3)))
            reach = (output <= wanted) & (vco <= 128 * min(others))
            assert find_settings((wanted, *others)).mhz()[0] == output[reach].max(), (wanted, others)

    @pytest.mark.parametrize(
        "mhz",
        [
            (300, 200, 150, 100),
            (250, 200, 150, 100),
            (187.5, 200, 150, 100),
            (100, 200, 150, 100),
            (333, 200, 150, 100),
            (31, 29, 23, 19),
        ],
    )
    def test_then_whole_factors_prescale_the_others_and_vco_decide(self, settings_there_are, mhz):
        vco, output, *factors = settings_there_are
        reach = (output <= mhz[0]) & (vco <= 128 * min(mhz))
        best = output[reach].max()
        ranked = []
        for prescale, multiply, divide in zip(*(f[reach & (output == best)].tolist() for f in factors), strict=True):
            exact = Fraction(100 * multiply, 8 * prescale)
            others = [math.ceil(exact / wanted) for wanted in mhz[1:]]
            error = sum(1 - exact / n / Fraction(wanted) for n, wanted in zip(others, mhz[1:], strict=True))
            fractions = (multiply % 8 > 0) + (divide % 8 > 0)
            ranked.append((fractions, prescale, error, -exact, multiply, divide, *(8 * n for n in others)))
        _, prescale, _, _, multiply, *divides = min(ranked)
        assert find_settings(mhz) == ClockSettings(prescale, multiply, tuple(divides))


class TestWords:
    def test_the_bitstreams_own(self):
        """VCO 1200 MHz: multiply 12, divides 4, 6, 8, 12."""
        found = find_settings(WIZARD_OUTPUTS_MHZ)
        assert found.words() == {"CONFIG0": 0xC01, "CLKOUT0": 4, "CLKOUT1": 6, "CLKOUT2": 8, "CLKOUT3": 12}
        assert found.mhz() == (300, 200, 150, 100)

    def test_the_vendors_example(self):
        """100 MHz in, 0xA01 and 5 give 200 MHz."""
        example = ClockSettings(1, 80, (40, 80, 80, 80))
        assert (example.words()["CONFIG0"], example.words()["CLKOUT0"], example.mhz()[0]) == (0xA01, 5, 200)

    def test_fractions_are_in_thousandths(self):
        words = ClockSettings(1, 83, (41, 80, 80, 80)).words()
        assert (words["CONFIG0"], words["CLKOUT0"]) == (375 << 16 | 10 << 8 | 1, 125 << 8 | 5)

    @pytest.mark.parametrize(
        ("name", "word"),
        [("CONFIG0", 0), ("CONFIG0", 12 << 8), ("CONFIG0", 126 << 16 | 12 << 8 | 1), ("CLKOUT0", 0), ("CLKOUT3", 0)],
    )
    def test_words_that_are_no_settings(self, name, word):
        with pytest.raises(ValueError, match=f"{name} holds a factor of"):
            ClockSettings.of_words(find_settings(WIZARD_OUTPUTS_MHZ).words() | {name: word})


class TestOutOfReach:
    @pytest.mark.parametrize("mhz", [0, -1, 6, 776, math.nan, math.inf])
    @pytest.mark.parametrize("output", [0, 3])
    def test_frequencies(self, mhz, output):
        wanted = [300, 200, 150, 100]
        wanted[output] = mhz
        with pytest.raises(ValueError, match=rf"clock of {mhz:g} MHz is outside 6.25 \.\. 775 MHz"):
            find_settings(wanted)

    @pytest.mark.parametrize("count", [0, 1, 5])
    def test_other_numbers_of_outputs(self, count):
        with pytest.raises(ValueError, match=f"{count} clocks are asked for, the clocking wizard has 4"):
            find_settings([100] * count)

    @pytest.mark.parametrize("source", [9.9, 934])
    def test_inputs(self, source):
        with pytest.raises(ValueError, match=rf"input of {source:g} MHz is outside 10 \.\. 933 MHz"):
            find_settings((300, 200, 150, 100), source)

    def test_a_vco_that_the_input_cannot_make(self):
        """6.25 MHz needs a VCO of just 800 MHz."""
        with pytest.raises(ValueError, match=r"no setting .* gives 6\.25, 200, 150, 100 MHz from 933 MHz"):
            find_settings((6.25, 200, 150, 100), 933)
