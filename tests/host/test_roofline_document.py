# SPDX-License-Identifier: Apache-2.0
"""docs/roofline.md and its picture: not stale, and what the text says of the tables is so."""

from xml.etree import ElementTree

import pytest
from documents import ROOT, document_of
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.rivals import RIVALS
from zynqbert.fpga.sensitivity import MAIN, TOGETHER


@pytest.fixture(scope="module")
def document():
    """benchmarks/roofline.py, which is no part of the package."""
    yield from document_of("roofline")


def test_document_is_not_stale(document):
    text = (ROOT / "docs" / "roofline.md").read_text(encoding="utf-8")
    assert text == document.render(), "run: python benchmarks/roofline.py"


def test_the_picture_is_of_the_documents_pass(document):
    """Its bytes are matplotlib's, so that what it says is compared."""
    tree = ElementTree.parse(ROOT / "docs" / "roofline.svg")
    texts = {"".join(of.itertext()).strip() for of in tree.iter("{http://www.w3.org/2000/svg}text")}
    figures = document.figures("zcu102")
    assert f"bert-base on ZCU102, 128 tokens at 250 MHz: {figures['latency_ms']:.2f} ms, modelled" in texts
    assert {cell for row in document.design_rows(figures) for cell in row} <= texts
    assert {rival.name for rival in RIVALS} <= texts


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("tokens", [32, 128])
def test_what_is_said_of_the_breaks(document, board, tokens):
    rows = document.broken(board, tokens)
    product = 1.0
    for row in MAIN:
        product *= rows["200 MHz" if row.slow_clock else row.name].latency_ms_ratio
    assert rows[TOGETHER.name].latency_ms_ratio < product
    assert (rows["200 MHz"].fps_per_w_ratio < 1) == (tokens == 128)
    serial = rows["no overlap: one unit at a time"]
    assert serial.power_w < rows["as assumed"].power_w and serial.fps_per_w_ratio < 1


@pytest.mark.parametrize("board", BOARDS)
def test_what_is_said_of_lengths(document, board):
    """16 tokens take as long as 32; norms are hidden at 128 tokens; weights bind at 32 only."""
    points = {p["tokens"]: p for p in document.figures(board)["extra"]["roofline"]["points"]}
    assert points[16]["gops"] == pytest.approx(points[32]["gops"] / 2, rel=0.01)
    parts = {row["part"]: row for row in document.over_layers(document.figures(board)["extra"]["parts"])}
    assert parts["attention norm"]["cycles"] == 0 < parts["attention norm"]["busy"]["vector"]
    assert document.broken(board, 128)["DDR at 8 GB/s"].latency_ms_ratio < 1.01
    assert document.broken(board, 32)["DDR at 8 GB/s"].latency_ms_ratio > 1.5


def test_what_the_readme_says(document):
    rows = document.broken("zcu102", 128)
    names = [*("200 MHz" if row.slow_clock else row.name for row in MAIN), TOGETHER.name]
    ratios = [rows[name].latency_ms_ratio for name in names]
    said = "cost a factor of {:.1f}, {:.1f}, {:.1f} and {:.1f} in latency on ZCU102, all four {:.1f} (modelled)"
    assert said.format(*ratios) in (ROOT / "README.md").read_text(encoding="utf-8")
