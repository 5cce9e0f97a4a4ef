# SPDX-License-Identifier: Apache-2.0
"""The hypothetical supply: its ends, the line between, and what follows it."""

import doctest

import pytest
from zynqbert.fpga import voltage
from zynqbert.fpga.voltage import LEAST_V, TOP_V, at_volts, volts


def test_examples():
    failed, tried = doctest.testmod(voltage)
    assert failed == 0 and tried


@pytest.mark.parametrize("top", [250.0, 300.0])
def test_the_line_ends_at_half_of_the_top_clock(top):
    assert volts(top, top) == TOP_V and volts(top / 2, top) == volts(top / 3, top) == LEAST_V
    assert volts(0.75 * top, top) == pytest.approx((TOP_V + LEAST_V) / 2)


def test_the_logic_follows_and_nothing_else():
    parts = {"static": 1.0, "ps": 2.0, "ddr": 3.0, "array DSPs working": 4.0}
    found = at_volts(parts, LEAST_V)
    assert found["ps"] == 2.0 and found["ddr"] == 3.0
    assert found["static"] == pytest.approx(0.625) and found["array DSPs working"] == pytest.approx(4 * 0.625**2)
    assert at_volts(parts, TOP_V) == parts
