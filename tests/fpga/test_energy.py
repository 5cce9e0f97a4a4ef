# SPDX-License-Identifier: Apache-2.0
"""Energy by part: power.py's watts times the time, linear, split by what takes it; zero operands gated."""

from dataclasses import replace

import numpy as np
import pytest
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.constants import VALUES
from zynqbert.fpga.cycles import UNITS
from zynqbert.fpga.energy import CELLS, CYCLES, SHARED, Work, costs, energy, standing, waiting, work_of
from zynqbert.fpga.power import by_unit, factor, power
from zynqbert.fpga.resources import resources
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ModelShape


@pytest.fixture(scope="module", params=list(BOARDS))
def board(request):
    return BOARDS[request.param]


@pytest.fixture(scope="module")
def timings(board):
    """Passes by (row blocks, MHz): DDR binds the short one at 300 MHz."""
    compiled = plan(ModelShape.named("minilm-l6"), board)
    return {(blocks, mhz): compiled.simulate(blocks, mhz) for blocks in (1, 4) for mhz in (300, 100)}


def test_the_sum_is_power_times_time(board, timings):
    for timing in timings.values():
        found, expected = energy(board, work_of(timing)), power(resources(board), timing)
        assert found.joules == pytest.approx(expected.power_w * timing.seconds, rel=1e-12)
        assert sum(found.summed().values()) == pytest.approx(found.joules, rel=1e-12)
        assert found.modelled and found.saved == found.zero_share == 0


def test_each_part_is_the_models(board, timings):
    """Static, PS, DDR, clocks, and what a unit's DSPs, fabric and memories take, working and idle together."""
    timing = timings[4, 300]
    found = energy(board, work_of(timing)).parts
    for name, watts in by_unit(resources(board), timing).items():
        parts = [name] if name in SHARED else [f"{name} working", f"{name} idle"]
        assert sum(found.get(part, 0.0) for part in parts) == pytest.approx(watts * timing.seconds, rel=1e-12)


def test_the_idle_share_is_the_constants(board):
    """A busy cycle takes the whole of a DSP, an idle one its idle share; nothing that is not counted costs anything."""
    of = costs(board)
    still, working = of["array DSPs idle"][CYCLES], of[CELLS]["array busy"]
    assert still / (still + working) == pytest.approx(VALUES["dsp_idle"])
    cell = factor() * VALUES["dsp_pj"] * VALUES["dsp_wide"] * 1e-12
    assert still + working == pytest.approx(resources(board).array_dsp * cell)
    assert energy(board, Work()).joules == 0


def test_monotonic(board, timings):
    """More of anything takes more, and all that it takes is told."""
    work = work_of(timings[1, 100])
    counters = {counter for part in costs(board).values() for counter in part} - {"zero steps"}
    assert {f"{unit} busy" for unit in UNITS} < counters
    for counter in counters:
        more = work + Work({counter: 10.0})
        assert energy(board, more).joules > energy(board, work).joules, counter


def test_parts_add_up(board, timings):
    """A pass, its beginning and what is left after that, a pause: the energy is linear, part by part."""
    whole = work_of(timings[4, 300], zero_share=0.25)
    begin = work_of(replace(timings[1, 300], cycles=50_000))
    rest, pause = whole - begin, standing(1e-3)
    together = energy(board, begin + pause + rest)
    for name in together.parts:
        summed = sum(energy(board, part).parts[name] for part in (begin, pause, rest))
        assert together.parts[name] == pytest.approx(summed, rel=1e-9, abs=1e-15), name
    assert together.joules == pytest.approx(energy(board, whole).joules + energy(board, pause).joules)


def test_standing_still_switches_nothing(board):
    found = energy(board, standing(2.0)).parts
    assert {name for name, joules in found.items() if joules} == {"static", "ps"}
    assert found["ps"] == pytest.approx(2 * VALUES["ps_w"])
    awake = energy(board, waiting(2.0, 100)).parts
    assert awake["clocks"] > 0 == awake[CELLS] and awake["array DSPs idle"] > 0


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_gated_zeros_save_the_working_part_of_the_array_dsps_alone(board, timings, share):
    timing = timings[4, 300]
    plain, gated = energy(board, work_of(timing)), energy(board, work_of(timing, share))
    differ = {name for name in plain.parts if plain.parts[name] != gated.parts[name]}
    assert differ == ({CELLS} if share else set())
    assert gated.parts[CELLS] == pytest.approx((1 - share) * plain.parts[CELLS])
    assert gated.saved == pytest.approx(plain.joules - gated.joules)
    assert gated.zero_share == pytest.approx(share)
    # with all products 0 the DSPs take what waiting ones take
    assert gated.parts["array DSPs idle"] == plain.parts["array DSPs idle"] > 0


@pytest.mark.parametrize("share", [-0.1, 1.01, np.nan])
def test_a_share_that_is_none(timings, share):
    with pytest.raises(ValueError, match="share of zero products is"):
        work_of(timings[1, 100], share)
