# SPDX-License-Identifier: Apache-2.0
"""Roofs by hand, and passes that lie below them."""

from dataclasses import replace

import pytest
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.cycles import Model
from zynqbert.fpga.rivals import RIVALS
from zynqbert.fpga.roofline import point, rival_rows, roof, roof_json
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ModelShape


def test_roof_by_hand():
    found = roof(BOARDS["zcu102"], 250)
    assert found.peak_gops == 2 * 32 * 128 * 0.25
    assert found.ddr_gb_s == pytest.approx(17.07 * 0.8)
    assert found.attainable(10) == pytest.approx(136.56)
    assert found.attainable(found.ridge) == pytest.approx(found.peak_gops)
    assert found.attainable(1e6) == found.peak_gops
    assert roof_json(found)["ridge"] == pytest.approx(2048 / 13.656)


def test_ports_bind_where_they_are_slower_than_the_ddr():
    slow = roof(BOARDS["zcu102"], 100)
    assert slow.ddr_gb_s == pytest.approx(4 * 16 * 0.1)
    assert roof(BOARDS["zcu111"], 250, replace(Model(), port_bytes=8)).ddr_gb_s == pytest.approx(6 * 8 * 0.25)


@pytest.mark.parametrize("name", ["bert-base", "minilm-l6", "albert-base"])
@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_no_pass_is_above_its_roof(name, board):
    shape = ModelShape.named(name)
    compiled = plan(shape, board)
    points = []
    for tokens in (32, 128):
        timing = compiled.simulate(-(-tokens // 32), 250)
        found = point(timing, board, shape.dense_macs(tokens), tokens)
        moved = timing.ddr_bytes_read + timing.ddr_bytes_written
        assert found.gops / found.intensity == pytest.approx(moved / timing.seconds / 1e9)
        assert found.gops <= found.attainable <= roof(board, 250).peak_gops
        points.append(found)
    assert points[1].intensity > 3 * points[0].intensity


def test_rows_say_how_each_figure_came_about():
    rows = {row["name"]: row for row in rival_rows()}
    assert list(rows) == [rival.name for rival in RIVALS]
    fq_bert = rows["FQ-BERT ZCU111 (16,16)"]
    assert fq_bert["tags"]["ms"] == "read" and fq_bert["tags"]["gops"] == "derived"
    assert fq_bert["intensity"] == pytest.approx(22.347e3 / 42.467, rel=1e-3)
    assert rows["COBRA"]["intensity"] is None and "ms" not in rows["COBRA"]["tags"]
