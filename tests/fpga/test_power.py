# SPDX-License-Identifier: Apache-2.0
"""The power model: what calibrates it, how far it is off where it was not fitted, and how it moves."""

from dataclasses import replace

import pytest
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.constants import CONSTANTS, PUBLISHED, VALUES, kcells
from zynqbert.fpga.cycles import simulate
from zynqbert.fpga.power import (
    calibrate,
    calibrating,
    leave_one_out,
    power,
    published_activity,
    variants,
    watts,
)
from zynqbert.fpga.reference import encoder_program
from zynqbert.fpga.resources import resources


@pytest.fixture(scope="module", params=list(BOARDS))
def board(request):
    return BOARDS[request.param]


@pytest.fixture(scope="module")
def timing(board):
    return simulate(encoder_program(layers=2, hidden=768, heads=12, ffn=3072), 4, board, 250)


def test_published_rows_are_the_papers():
    rows = {row.name: row for row in PUBLISHED}
    fq = rows["FQ-BERT ZCU102 (8,16)"]
    assert (fq.watts, fq.dsp, fq.lut, fq.ff, fq.bram36) == (9.8, 1751, 123157, 124433, 838 / 2)
    fq = rows["FQ-BERT ZCU111 (16,16)"]
    assert (fq.watts, fq.dsp, fq.lut, fq.ff, fq.bram36) == (13.2, 3287, 189724, 201469, 679 / 2)
    assert [row.name for row in calibrating()] == ["FQ-BERT ZCU102 (8,16)", "FQ-BERT ZCU111 (16,16)"]
    assert not any("zynqbert" in row.name.lower() for row in PUBLISHED)


def test_derived_utilization_of_fq_bert():
    products = 12 * 128 * (4 * 768 * 768 + 2 * 768 * 3072) + 2 * 12 * 2 * 128 * 128 * 768
    for row, multipliers, ms in zip(calibrating(), (1536, 3072), (43.89, 23.79), strict=True):
        assert row.utilization == pytest.approx(products / multipliers / 214e6 / (ms * 1e-3), abs=0.001)


def test_calibration_finds_the_factor_it_is_shown():
    rows = []
    for row in PUBLISHED:
        activity = published_activity(row, VALUES)
        rows.append(replace(row, watts=sum(watts(activity, VALUES, 2.5).values())))
    assert calibrate(rows, VALUES) == pytest.approx(2.5)


def test_rows_left_out_are_met():
    """FQ-BERT's two boards predict each other; the rows with guessed fabric stay within a third."""
    errors = leave_one_out()
    for row in PUBLISHED:
        assert abs(errors[row.name]) < (0.05 if row.calibrates else 0.34), (row.name, errors[row.name])


def test_leaving_out_really_leaves_out():
    small, large = calibrating()
    factor = calibrate([large], VALUES)
    alone = sum(watts(published_activity(small, VALUES), VALUES, factor).values()) / small.watts - 1
    assert leave_one_out()[small.name] == pytest.approx(alone)
    assert factor != pytest.approx(calibrate([small, large], VALUES), rel=1e-3)


def test_every_constant_has_a_range_and_a_source():
    for c in CONSTANTS:
        assert c.low < c.value <= c.high or c.low <= c.value < c.high, c.name
        assert c.source.startswith(("[P]", "[D]", "[U]")), c.name


def test_static_power_follows_the_published_difference():
    # 850 mW over 1,143 - 103 thousand cells.
    assert VALUES["static_mw_per_kcell"] == pytest.approx(850 / (1143 - 103), rel=0.001)
    assert kcells(BOARDS["zcu102"].part) == 600


def test_parts_sum_and_the_range_holds_the_figure(board, timing):
    p = power(resources(board), timing)
    assert p.power_w == pytest.approx(sum(p.parts.values()))
    assert p.pl_w + p.ps_w == pytest.approx(p.power_w)
    assert p.low_w < p.power_w < p.high_w
    assert p.high_w < 1.5 * p.low_w
    assert p.modelled
    assert len(variants()) == len(PUBLISHED) + 2 * len(CONSTANTS)


def test_faster_and_busier_take_more(board, timing):
    used = resources(board)
    here = power(used, timing)
    assert power(used, replace(timing, clock_mhz=300)).pl_w > here.pl_w
    idle = power(used, replace(timing, busy=dict.fromkeys(timing.busy, 0)))
    assert idle.parts["dsp"] == pytest.approx(
        here.parts["dsp"]
        * VALUES["idle"]
        * used.dsp
        / sum(
            count * (VALUES["idle"] + (1 - VALUES["idle"]) * timing.busy[unit] / timing.cycles)
            for count, unit in ((used.array_dsp, "array"), (used.dsp - used.array_dsp, "vector"))
        )
    )
    assert idle.pl_w < here.pl_w
    assert power(used, replace(timing, ddr_bytes_read=2 * timing.ddr_bytes_read)).ps_w > here.ps_w


def test_dynamic_power_scales_with_the_clock(board, timing):
    used = resources(board)
    slow, fast = (power(used, replace(timing, clock_mhz=clock)) for clock in (150, 300))
    for part in ("dsp", "lut", "bram36", "clocks", "ddr"):
        assert fast.parts[part] == pytest.approx(2 * slow.parts[part]), part
    assert fast.parts["static"] == slow.parts["static"]
