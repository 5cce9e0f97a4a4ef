# SPDX-License-Identifier: Apache-2.0
"""Broken assumptions: each in the cycle model, none by scaling; serial passes by hand; what rests on what."""

from dataclasses import replace

import pytest
from bare_model import BARE
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.assumptions import ASSUMPTIONS
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.cycles import Model, simulate
from zynqbert.fpga.estimate import estimate
from zynqbert.fpga.sensitivity import BREAKS, HEADLINE, MAIN, TOGETHER, sensitivity
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ModelShape

SHAPE = ModelShape.named("minilm-l6")


@pytest.fixture(scope="module", params=list(BOARDS))
def made(request):
    board = BOARDS[request.param]
    compiled = plan(SHAPE, board)
    asked = []

    def run(mhz, model):
        asked.append((mhz, model))
        return compiled.simulate(4, mhz, model)

    rows = list(sensitivity(run, board, 250, SHAPE.dense_macs(128)))
    return {row.name: row for row in rows}, asked, compiled


def test_the_headline_is_the_estimate(made):
    rows, asked, compiled = made
    first = next(iter(rows.values()))
    figures = estimate(compiled.simulate(4, 250), compiled.board, SHAPE.dense_macs(128))
    assert first.name == HEADLINE and asked[0] == (250, Model())
    for name in ("cycles", "latency_ms", "mac_utilization", "power_w", "fps_per_w"):
        assert getattr(first, name) == getattr(figures, name), name
    assert {first.latency_ms_ratio, first.mac_utilization_ratio, first.fps_per_w_ratio} == {1}


def test_every_row_is_a_pass_simulated_with_that_broken(made):
    rows, asked, compiled = made
    assert len(rows) == len(asked) == 1 + len(BREAKS)
    for (mhz, model), row in zip(asked, rows.values(), strict=True):
        assert row.cycles == compiled.simulate(4, mhz, model).cycles and row.clock_mhz == mhz
        assert row.latency_ms == pytest.approx(row.cycles / mhz / 1e3)
        assert row.latency_ms_ratio == pytest.approx(row.latency_ms / rows[HEADLINE].latency_ms)
    broken = {row: model for row, (_, model) in zip(rows, asked, strict=True)}
    assert broken["every loop at II = 2"] == replace(Model(), ii=2)
    assert broken["DDR at 8 GB/s"] == replace(Model(), ddr_bytes_per_second=8e9)
    assert broken["no overlap: one unit at a time"] == replace(Model(), serial=True)
    assert broken["200 MHz"] == Model() and asked[list(rows).index("200 MHz")][0] == 200
    together = list(rows).index(TOGETHER.name)
    assert asked[together] == (200, replace(Model(), ii=2, ddr_bytes_per_second=8e9, serial=True))


def test_what_breaks_costs(made):
    """Each of the four costs, all of them together more than any; and no break of time makes a pass faster."""
    rows, _, _ = made
    asked = [rows["200 MHz" if row.slow_clock else row.name] for row in MAIN]
    assert all(row.latency_ms_ratio > 1 for row in asked if row.name != "DDR at 8 GB/s")
    assert all(row.latency_ms_ratio >= 1 for row in rows.values())
    assert rows[TOGETHER.name].latency_ms > max(row.latency_ms for row in asked)
    assert 1.8 < rows["every loop at II = 2"].latency_ms_ratio <= 2
    assert 1 < rows["vector unit's loops at II = 2"].latency_ms_ratio < rows["every loop at II = 2"].latency_ms_ratio
    low, high = (rows[f"power at the {end} end of its range"] for end in ("low", "high"))
    assert low.fps_per_w_ratio > 1 > high.fps_per_w_ratio
    assert low.cycles == high.cycles == rows[HEADLINE].cycles


def test_no_overlap_takes_at_least_what_all_units_work(made):
    rows, _, compiled = made
    serial = compiled.simulate(4, 250, replace(Model(), serial=True))
    assert serial.cycles == rows["no overlap: one unit at a time"].cycles
    assert sum(serial.busy.values()) < serial.cycles < 1.5 * sum(serial.busy.values())
    # the same work, one after the other
    assert serial.busy == compiled.simulate(4, 250).busy
    # a tile's words leave the array, and only then the vector unit reads them
    assert serial.stall["vector.accumulators"] == 0 < compiled.simulate(4, 250).stall["vector.accumulators"]
    drained = sum(serial.trips[name] for name in ("array_drain", "array_mac"))
    assert serial.cycles > drained + serial.busy["vector"] + serial.busy["weights"] + serial.busy["load"]


def test_one_product_in_series_by_hand():
    """64 beats of parameters, 301 cycles of weights and their expansion, 300 steps, 128 words out, 128 read."""
    program = isa.Gemm(k=300, n=128, src_stride=300, dst_stride=128, dst=12288), isa.End()
    overlapped = simulate(program, 1, BOARDS["zcu102"], 250, BARE)
    timing = simulate(program, 1, BOARDS["zcu102"], 250, replace(BARE, serial=True))
    assert timing.cycles == 2 * 4 + 64 + 301 + 300 + 128 + 128
    assert overlapped.cycles < timing.cycles


def test_a_clock_that_is_slow_already_gets_slower():
    compiled = plan(SHAPE, BOARDS["zcu102"])
    rows = list(sensitivity(lambda *how: compiled.simulate(1, *how), compiled.board, 150, SHAPE.dense_macs(32)))
    assert [row.clock_mhz for row in rows if row.clock_mhz != 150] == [120, 120]
    assert "120 MHz" in [row.name for row in rows]


def test_short_passes_rest_on_the_ddr():
    compiled = plan(ModelShape.named("bert-base"), BOARDS["zcu111"])
    macs = compiled.shape.dense_macs(32)
    rows = {r.name: r for r in sensitivity(lambda *how: compiled.simulate(1, *how), compiled.board, 250, macs)}
    assert rows["DDR at 8 GB/s"].latency_ms_ratio > 1.5


def test_the_names_of_assumptions_are_the_registrys():
    known = {a.name for a in ASSUMPTIONS}
    assert all(name in known for row in BREAKS for name in row.assumptions)
    assert len({row.name for row in BREAKS}) == len(BREAKS)
