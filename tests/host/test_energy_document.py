# SPDX-License-Identifier: Apache-2.0
"""docs/energy.md: not stale, and what it says follows from its numbers."""

import pytest
from documents import ROOT, document_of
from zynqbert.fpga.constants import VALUES


@pytest.fixture(scope="module")
def document():
    """benchmarks/energy.py, which is no part of the package."""
    yield from document_of("energy")


def test_document_is_not_stale(document):
    text = (ROOT / "docs" / "energy.md").read_text(encoding="utf-8")
    assert text == document.render(), "run: python benchmarks/energy.py"


def test_the_ways_of_a_sentence_are_in_order(document):
    """Leaving early saves, the engine's output no less than racing, voltage more: and all of them fill the period."""
    every, race, wizard, hypothetical = document.ways("bert-base", "zcu102", 1.0)
    assert every.joules > race.joules > wizard.joules > hypothetical.joules
    assert every.logic > race.logic > wizard.logic > hypothetical.logic
    assert "HYPOTHETICAL" in hypothetical.name
    period = document.passes("bert-base", "zcu102").course(1, document.leaving_at(12, 1), 300, 300).seconds
    for way in (every, race, wizard):
        moved = way.joules - way.logic - VALUES["ps_w"] * period
        assert 0 < moved < 0.1 * way.joules, "what is left is DDR traffic"


def test_at_the_nominal_voltage_nothing_is_scaled(document):
    modelled = document.passes("minilm-l6", "zcu102")
    course = modelled.course(1, document.leaving_at(4, 1), 300, 200)
    first = dict(document.energy(modelled.board, modelled.until(1, 1, 300)).parts)
    scaled = document.scaled(modelled, course, first, course.seconds, document.TOP_V)
    assert sum(scaled.values()) == pytest.approx(modelled.energy(course).joules)
    lower = document.scaled(modelled, course, first, course.seconds, document.LEAST_V)
    assert {name for name in scaled if lower[name] == scaled[name]} == {"ps", "ddr"}
    assert all(lower[name] >= first.get(name, 0.0) for name in lower)
