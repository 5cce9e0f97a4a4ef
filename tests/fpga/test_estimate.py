# SPDX-License-Identifier: Apache-2.0
"""An estimate's fields are those agreed, and agree with each other."""

import json
from dataclasses import replace

import pytest
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.cycles import Model, simulate
from zynqbert.fpga.estimate import bound, estimate, fq_bert_rows
from zynqbert.fpga.reference import encoder_program

FIELDS = (
    *("cycles", "clock_mhz", "latency_ms", "mac_utilization", "peak_macs_per_cycle"),
    *("power_pl_w", "power_ps_w", "power_w", "fps", "fps_per_w"),
    *("dsp", "bram36", "uram", "lut", "modelled", "extra"),
)


@pytest.fixture(scope="module", params=list(BOARDS))
def made(request):
    board = BOARDS[request.param]
    dense = 2 * (128 * (4 * 768 * 768 + 2 * 768 * 3072) + 2 * 128 * 128 * 768)
    program = encoder_program(layers=2, hidden=768, heads=12, ffn=3072)
    return estimate(simulate(program, 4, board, 250), board, dense).to_json(), dense, board


def test_fields(made):
    values = json.loads(json.dumps(made[0]))
    assert tuple(values) == FIELDS
    assert values["modelled"] is True


def test_figures_agree_with_each_other(made):
    e, dense, board = made
    assert e["latency_ms"] == pytest.approx(e["cycles"] / 250e3)
    assert e["mac_utilization"] == pytest.approx(dense / e["cycles"] / (32 * board.columns))
    assert e["power_w"] == pytest.approx(e["power_pl_w"] + e["power_ps_w"])
    assert e["fps"] == pytest.approx(1e3 / e["latency_ms"])
    assert e["fps_per_w"] == pytest.approx(e["fps"] / e["power_w"])


def test_ranges_hold_the_figures(made):
    e = made[0]
    assert e["extra"]["power_range_w"][0] < e["power_w"] < e["extra"]["power_range_w"][1]
    assert e["extra"]["fps_per_w_range"][0] < e["fps_per_w"] < e["extra"]["fps_per_w_range"][1]
    assert sum(kind["share"] for kind in e["extra"]["instructions"].values()) == pytest.approx(1)
    assert e["extra"]["instructions"]["gemm"]["bound"] == "array"


def test_energy_by_unit_is_power_times_latency(made):
    e = made[0]
    assert sum(e["extra"]["energy_mj"].values()) == pytest.approx(e["power_w"] * e["latency_ms"])


def test_the_power_models_errors_are_with_the_figure(made):
    rows = json.loads(json.dumps(made[0]["extra"]["power_rows"]))
    assert sum(row["complete"] for row in rows) >= 4
    for row in rows:
        assert row["error"] == pytest.approx(row["modelled_w"] / row["published_w"] - 1), row["name"]
    low, high = made[0]["extra"]["power_range_w"]
    errors = [row["error"] for row in rows if row["complete"]]
    assert low * (1 + max(errors)) <= made[0]["power_w"] * (1 + 1e-9)
    assert high * (1 + min(errors)) >= made[0]["power_w"] * (1 - 1e-9)


def test_padding_waste_shows_a_width_beyond_the_tile():
    board = BOARDS["zcu102"]

    def waste(hidden):
        dense = 128 * (4 * hidden * hidden + 2 * hidden * 4 * hidden) + 2 * 128 * 128 * hidden
        program = encoder_program(layers=1, hidden=hidden, heads=hidden // 32, ffn=4 * hidden)
        return estimate(simulate(program, 4, board, 250), board, dense).extra["padding_waste"]

    assert waste(128) < waste(160)


def test_what_is_spared_is_no_padding():
    board = BOARDS["zcu102"]
    timing = simulate(encoder_program(layers=1, hidden=128, heads=4, ffn=512), 4, board, 250)
    executed = timing.array_macs_executed
    found = estimate(timing, board, executed, 2 * executed).extra
    assert (found["padding_waste"], found["work_spared"]) == (0.5, 0.5)
    assert estimate(timing, board, executed).extra["work_spared"] == 0


def test_what_the_array_does_not_hide_and_its_work_are_the_pass(made):
    e = made[0]
    assert sum(e["extra"]["array_waits"].values()) + e["extra"]["busy"]["array"] == pytest.approx(1)
    assert e["extra"]["array_waits"]["for weights"] == e["extra"]["stall_cycles"]["array.weights"] / e["cycles"]


def test_what_binds_is_named():
    board = BOARDS["zcu102"]
    program = encoder_program(layers=1, hidden=768, heads=12, ffn=3072)
    assert bound(simulate(program, 4, board, 250)).startswith("the array (9")
    slow = replace(Model(), ddr_bytes_per_second=3e9)
    assert bound(simulate(program, 1, board, 250, slow)).startswith("weights on their way from DDR (")


def test_fq_bert_rows_are_json():
    rows = json.loads(json.dumps(fq_bert_rows()))
    assert {row["board"] for row in rows} == {"zcu102", "zcu111"}
    assert all(row["ratio"] == pytest.approx(row["published_ms"] / row["modelled_ms"]) for row in rows)
