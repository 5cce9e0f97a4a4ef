# SPDX-License-Identifier: Apache-2.0
"""docs/power.md: not stale, its shapes and toggles as they should be, its drawing complete."""

from xml.etree import ElementTree

import numpy as np
import pytest
from documents import ROOT, document_of
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.published import PUBLISHED


@pytest.fixture(scope="module")
def document():
    """benchmarks/power.py, which is no part of the package."""
    yield from document_of("power")


def test_document_is_not_stale(document):
    text = (ROOT / "docs" / "power.md").read_text(encoding="utf-8")
    assert text == document.render(), "run: python benchmarks/power.py"
    assert (ROOT / "docs" / "power.svg").read_text(encoding="utf-8") == document.drawing()


@pytest.mark.parametrize("name", list(BOARDS))
def test_shapes(document, name):
    """What does not fit is named, not timed; a faster clock and more columns serve more sentences a joule."""
    found = list(document.shapes(BOARDS[name]))
    points = {(p.columns, p.clock_mhz): p for p in found if isinstance(p, document.Point)}
    refused = [line for line in found if isinstance(line, str)]
    columns = {c for c, _ in points}
    assert BOARDS[name].columns == max(columns)
    assert any("256 columns: dsp: " in line and "over the budget" in line for line in refused)
    for c in columns:
        by_clock = [points[c, clock].fps_per_w for clock in document.CLOCKS]
        assert by_clock == sorted(by_clock)
    for p in points.values():
        assert p.fps_per_w == pytest.approx(1e3 / p.ms / p.watts)
        assert p.fps_per_w < p.gated_fps_per_w < 1.2 * p.fps_per_w


def test_toggles_by_hand(document):
    """n0 from 1 to -1 sets bits 1 to 22 and takes 1 off n1's field: 22 + 4 bits of its sign; with 8 added, 9 to 7."""
    weights = np.array([[1, -1], [0, 0]])
    assert document.toggles(weights) == 22 + 4
    assert document.toggles(weights, 8) == 3  # 1001 to 0111
    assert document.toggles(np.array([[3, 3, 3], [1, 1, 2]])) == 1  # 0, then 0001 to 0010


def test_drawing_has_every_row(document):
    tree = ElementTree.fromstring(document.drawing())
    texts = [t.text for t in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {row.name for row in PUBLISHED} <= set(texts)
    assert sum(1 for _ in tree.iter("{http://www.w3.org/2000/svg}circle")) == 2 * len(PUBLISHED)
