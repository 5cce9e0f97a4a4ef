# SPDX-License-Identifier: Apache-2.0
"""docs/more-per-dsp.md: its tables are those of the committed studies, and the model's figures those of today."""

import json

import pytest
from documents import ROOT, document_of
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.power import power
from zynqbert.fpga.resources import resources
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ModelShape

PAGE = (ROOT / "docs" / "more-per-dsp.md").read_text(encoding="utf-8")
STUDY = json.loads((ROOT / "docs" / "more-per-dsp.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def shapes():
    yield from document_of("block_shapes")


def test_what_blocks_cost_in_accuracy(shapes):
    report = json.loads((ROOT / "artifacts" / "movie-reviews.blocks.json").read_text(encoding="utf-8"))
    assert list(report["rows"]) == list(shapes.ROWS)
    assert shapes.table(report) in PAGE, "run: python benchmarks/block_shapes.py --table"


def test_the_trained_model():
    log = json.loads((ROOT / "artifacts" / "movie-reviews-blocks.train.json").read_text(encoding="utf-8"))
    trained, before = log["test"]["trained"], log["test"]["calibrated"]
    low, high = trained["difference_interval_points"]
    said = (
        f"{100 * trained['quantized_accuracy']:.1f} % of the test split, {trained['difference_points']:+.2f} points "
        f"against float ({low:+.2f} to {high:+.2f}), from {before['difference_points']:+.2f} before"
    )
    assert said.replace("-", "−") in PAGE
    assert log["density"]["block_bound"] == 2
    assert f"{100 * log['density']['achieved']:.1f} % are left" in PAGE


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_study_is_of_the_models_of_today(board):
    used = resources(board)
    dense, blocks = (
        next(r for r in STUDY["rows"] if (r["way"], r["board"], r["weights"]) == ("as built", board.name, weights))
        for weights in ("all", "2 of 4")
    )
    for row, pruned in ((dense, {}), (blocks, {"density": 0.5, "pattern": "blocks"})):
        assert {key: row[key] for key in ("lut", "ff", "dsp", "bram36")} == {
            key: getattr(used, key) for key in ("lut", "ff", "dsp", "bram36")
        }
        timing = plan(ModelShape.named("bert-base"), board, resident=False, **pruned).simulate(4, 250)
        found = {"ms": 1e3 * timing.seconds, "watts": power(used, timing).power_w}
        assert {key: row["s128"][key] for key in found} == pytest.approx(found)
        assert row["over"] == []
    assert blocks["s128"]["fps_per_w"] > 1.6 * dense["s128"]["fps_per_w"]


def test_a_narrow_model_gains_less():
    shape, board = ModelShape.named("minilm-l6"), BOARDS["zcu102"]
    ways = ({}, {"density": 0.5, "pattern": "blocks"})
    dense, blocks = (plan(shape, board, **way).simulate(4, 250) for way in ways)
    assert f"the vector unit does, {dense.seconds / blocks.seconds:.1f} times for two of four" in PAGE
    assert max(blocks.busy, key=blocks.busy.get) == "vector"


@pytest.mark.parametrize("row", STUDY["rows"], ids=lambda row: f"{row['way']}, {row['weights']}, {row['board']}")
def test_its_rows_are_the_pages(row):
    line = next(
        line
        for line in PAGE.splitlines()
        if line.startswith(f"| {row['way']} | {row['weights']} | {row['board'].upper()}")
    )
    for tokens in (128, 32):
        found = row[f"s{tokens}"]
        assert f"{found['ms']:.2f}, {found['watts']:.1f}, {found['fps_per_w']:.1f}" in line
    for key in ("lut", "ff", "bram36", "dsp"):
        text = f"{row[key]:,} ({row['shares'][key]:.0%})"
        assert (f"**{text}**" if key in row["over"] else text) in line
