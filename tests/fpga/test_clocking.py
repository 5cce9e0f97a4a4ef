# SPDX-License-Identifier: Apache-2.0
"""What a change of clock costs, by hand; and what the assumptions say of it is so."""

import re

import pytest
from zynqbert.fpga import clocking
from zynqbert.fpga.assumptions import ASSUMPTIONS
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.constants import VALUES
from zynqbert.fpga.estimate import estimate
from zynqbert.fpga.power import power
from zynqbert.fpga.resources import resources
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ModelShape


@pytest.fixture(scope="module", params=BOARDS)
def bert_base(request):
    """Board, and timing of a pass of 128 tokens at 250 MHz."""
    board = BOARDS[request.param]
    return board, plan(ModelShape.named("bert-base"), board).simulate(4, 250)


def test_select_is_132_cycles_of_100_mhz():
    assert clocking.select_seconds() == 132 / 100e6


def test_retune_is_two_changes_and_what_is_assumed():
    assert clocking.retune_seconds() == pytest.approx(250e-6 + 2 * 132 / 100e6, rel=1e-12)


@pytest.mark.parametrize(("board", "kcells"), [("zcu102", 600), ("zcu111", 930)])
def test_a_pause_takes_static_and_ps_power(board, kcells):
    static_w = VALUES["static_mw_per_kcell"] * 1e-3 * kcells
    assert clocking.pause_joules(BOARDS[board], 2.0) == pytest.approx(2 * (VALUES["ps_w"] + static_w), rel=1e-3)


def test_an_estimate_names_both_changes():
    board = BOARDS["zcu102"]
    timing = plan(ModelShape.named("minilm-l6"), board).simulate(1, 250)
    found = estimate(timing, board, 1).extra["clock_changes"]
    assert found == clocking.change_costs(board)
    assert found["select"] == {
        "us": pytest.approx(1.32),
        "mj": pytest.approx(1e3 * clocking.pause_joules(board, 1.32e-6)),
    }
    assert found["retune"]["us"] == pytest.approx(252.64)


def test_a_pause_is_what_the_power_model_has_without_anything_that_switches(bert_base):
    board, timing = bert_base
    parts = power(resources(board), timing).parts
    assert clocking.pause_joules(board, 1.0) == parts["ps"] + parts["static"] < sum(parts.values()) / 2


def test_the_effects_that_the_assumptions_name(bert_base):
    """Share of a BERT-base pass, in percent, rounded as the table has it."""
    board, timing = bert_base
    effects = {a.name: a.effect for a in ASSUMPTIONS}
    (cycles,) = re.findall(r"10 cycles more, .* BERT-base ([\d.]+) %", effects["select_crossing"])
    assert float(cycles) == round(100 * 10 / 100e6 / timing.seconds, 3)
    doubled = dict(re.findall(r"(\d) % more on (ZCU1\d\d)", effects["retune_us"]))
    found = {name: share for share, name in doubled.items()}
    assert int(found[board.name.upper()]) == round(100 * 250e-6 / timing.seconds)
