# SPDX-License-Identifier: Apache-2.0
"""What a switch of tasks and a reload cost, by hand; and what the assumptions say of it is so."""

import json
import re
from dataclasses import replace

import pytest
from zynqbert.fpga.assumptions import ASSUMPTIONS, assumed, assumed_range
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.clocking import pause_joules
from zynqbert.fpga.constants import CONSTANTS, VALUES
from zynqbert.fpga.energy import energy, work_of
from zynqbert.fpga.power import power
from zynqbert.fpga.resources import resources
from zynqbert.fpga.switching import SwitchCost, reloading, switching
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import Adapters, ModelShape

MEGABYTE = 1_000_000
EFFECTS = {a.name: a.effect for a in ASSUMPTIONS}


@pytest.fixture(scope="module", params=BOARDS)
def board(request):
    return BOARDS[request.param]


def albert(board, density=0.5, **options):
    shape = replace(ModelShape.named("albert-base"), adapters=Adapters(32, (0,) * 12), word_format="adaptivfloat")
    return plan(shape, board, density=density, **options)


def test_time_by_hand():
    found = switching(BOARDS["zcu102"], 7 * MEGABYTE, 2)
    assert found.seconds == pytest.approx(10e-3 + 60e-6)
    assert found.seconds_range == (pytest.approx(7e6 / 1.5e9 + 20e-6), pytest.approx(7e6 / 0.25e9 + 200e-6))
    assert (found.bytes, found.writes, found.modelled) == (7 * MEGABYTE, 2, True)


@pytest.mark.parametrize(("name", "kcells"), [("zcu102", 600), ("zcu111", 930)])
def test_energy_by_hand(name, kcells):
    """PS and static power while it lasts, and two bytes in DDR for each one."""
    found = switching(BOARDS[name], MEGABYTE, 0)
    standing_w = VALUES["ps_w"] + VALUES["static_mw_per_kcell"] * 1e-3 * kcells
    assert found.joules == pytest.approx(standing_w / 700 + 2e6 * 60e-12, rel=1e-3)
    (static,) = (c for c in CONSTANTS if c.name == "static_mw_per_kcell")
    low, high = found.joules_range
    assert low == pytest.approx((0.77 + static.low * 1e-3 * kcells) / 1500 + 1e6 * 30e-12, rel=1e-3)
    assert high == pytest.approx((3.3 + static.high * 1e-3 * kcells) / 250 + 3e6 * 120e-12, rel=1e-3)


def test_the_engines_clock_stands(board):
    """Nothing of the programmable logic but its static power: as in a change of clock."""
    found = switching(board, 0, 1)
    assert found.seconds == pytest.approx(30e-6)
    assert found.joules == pytest.approx(pause_joules(board, found.seconds))


def test_nothing_costs_nothing(board):
    assert switching(board, 0, 0) == SwitchCost(0, 0, 0, 0, (0, 0), (0, 0))


def test_a_figure_lies_in_its_range(board):
    for of in (switching(board, 1), switching(board, MEGABYTE, 9), reloading(albert(board), 250)):
        assert of.seconds_range[0] < of.seconds < of.seconds_range[1]
        assert of.joules_range[0] < of.joules < of.joules_range[1]


def test_writes_add_up(board):
    parts, whole = switching(board, 300, 2) + switching(board, 700, 3), switching(board, 1000, 5)
    assert (parts.bytes, parts.writes) == (1000, 5)
    for name in ("seconds", "joules", "seconds_range", "joules_range"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name)), name


@pytest.mark.parametrize(("moved", "writes"), [(-1, 1), (1, -1)])
def test_negative_is_refused(moved, writes):
    with pytest.raises(ValueError, match="a number of each, at least 0"):
        switching(BOARDS["zcu102"], moved, writes)


def test_a_reload_is_image_programs_and_keeping(board):
    compiled = albert(board)
    kept = compiled.simulate_keeping(200)
    size = compiled.image_bytes + len(compiled.program) + len(compiled.keeping_program)
    written, whole = switching(board, size, 3), reloading(compiled, 200)
    assert (whole.bytes, whole.writes) == (size, 3)
    assert whole.seconds == pytest.approx(written.seconds + kept.seconds) and kept.seconds > 0
    assert whole.joules == pytest.approx(written.joules + energy(board, work_of(kept)).joules)
    watts = power(resources(board), kept)
    for end, of_keeping in enumerate((watts.low_w, watts.high_w)):
        assert whole.seconds_range[end] == pytest.approx(written.seconds_range[end] + kept.seconds)
        assert whole.joules_range[end] == pytest.approx(written.joules_range[end] + of_keeping * kept.seconds)


def test_without_resident_matrices_the_keep_program_is_no_part(board):
    compiled = albert(board, resident=False)
    size = compiled.image_bytes + len(compiled.program)
    assert reloading(compiled, 250) == switching(board, size, 2)


def test_a_switch_is_far_below_a_reload(board):
    """ALBERT-base at half density with adapters of width 32: a twentieth of the time and energy, or less."""
    compiled = albert(board)
    switch, reload = switching(board, compiled.task.moved, len(compiled.task.pieces)), reloading(compiled, 250)
    assert switch.seconds < reload.seconds / 20 and switch.joules < reload.joules / 20


def test_json_has_units_ranges_and_the_word(board):
    found = json.loads(json.dumps(switching(board, MEGABYTE, 1).to_json()))
    assert found["ms"] == pytest.approx(1e3 / 700 + 0.03) and found["modelled"] is True
    assert found["ms_range"][0] < found["ms"] < found["ms_range"][1]
    assert found["mj_range"][0] < found["mj"] < found["mj_range"][1]


def test_ranges_hold_their_values_and_are_printed():
    for a in ASSUMPTIONS:
        if a.low is not None:
            assert a.low < a.value < a.high and assumed_range(a.name) == (a.low, a.high)
    assert {a.name for a in ASSUMPTIONS if a.low is not None} == {"copy_gb_s", "write_us", "copy_traffic"}
    with pytest.raises(ValueError, match="clock_mhz has no range"):
        assumed_range("clock_mhz")


def test_the_effects_that_the_assumptions_name():
    board = BOARDS["zcu102"]
    task = albert(board).task
    switch = switching(board, task.moved, len(task.pieces))
    (more,) = re.findall(r"Doubled, .* takes (\d+) % more", EFFECTS["write_us"])
    assert int(more) == round(100 * len(task.pieces) * assumed("write_us") * 1e-6 / switch.seconds)
    ((mj, percent),) = re.findall(r"1 more takes ([\d.]+) mJ a megabyte, ([\d.]+) %", EFFECTS["copy_traffic"])
    assert float(mj) == pytest.approx(MEGABYTE * VALUES["ddr_pj_per_byte"] * 1e-9)
    large = switching(board, 1000 * MEGABYTE)
    assert float(percent) == round(100 * 1000 * MEGABYTE * VALUES["ddr_pj_per_byte"] * 1e-12 / large.joules, 1)
