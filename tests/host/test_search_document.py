# SPDX-License-Identifier: Apache-2.0
"""docs/search.md: its tables are those of the committed search, and that is of the models as they are."""

from xml.etree import ElementTree

import pytest
from documents import ROOT, document_of
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.search import longest, programs_of
from zynqbert.host.search_front import counts_of, front_of
from zynqbert.host.search_models import load_models
from zynqbert.host.search_rows import rows_of
from zynqbert.host.search_space import ALL, shape_of
from zynqbert.quant.exit_answers import digest


@pytest.fixture(scope="module")
def document():
    """benchmarks/search.py, which is no part of the package."""
    yield from document_of("search")


@pytest.fixture(scope="module")
def models():
    return load_models([ROOT / "artifacts" / name for name in ("movie-reviews", "edgebert")], None)


def test_document_is_not_stale(document):
    text = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert text == document.render(text), "run: python benchmarks/search.py"


def test_the_committed_search_is_of_the_committed_models(document, models):
    settings = document.report()["settings"]
    assert settings["models"] == {name: digest(artifact)[:16] for name, artifact in models.items()}
    assert settings["boards"] == list(BOARDS) and settings["sentences"] == 1000
    assert longest(models["edgebert"]) == 128


def test_fronts_and_counts_follow_from_its_rows(document):
    report = document.report()
    for board in BOARDS:
        assert report["fronts"][board] == front_of(rows_of(report, board))
        assert report["counts"][board] == counts_of(report, board)
        shapes = {str(n): shape_of(BOARDS[board], n, report["settings"]["budget"]) for n in (64, 128, 192, 256)}
        assert report["shapes"][board] == shapes


@pytest.mark.parametrize("board, columns", [("zcu102", 128), ("zcu111", 192)])
def test_its_figures_are_the_models_of_today(document, models, board, columns):
    """Of MiniLM through all layers, a sentence a pass: the slowest has as many row blocks as the longest has."""
    programs = programs_of(models["movie-reviews"], "movie-reviews", board, columns)
    times = {1e3 * programs.full.timing(blocks, 250.0).seconds for blocks in (1, 2, 3, 4)}
    rows = [row for row in rows_of(document.report(), board) if row["model"] == "movie-reviews"]
    (row,) = (
        row
        for row in rows
        if (row["exit"], row["mode"], row["clock_mhz"], row["columns"]) == (ALL, "one", 250, columns)
    )
    for figure in ("p99_ms", "worst_ms"):
        assert any(row[figure] == pytest.approx(ms, rel=1e-5) for ms in times), "run: make search"


def test_what_the_readme_and_the_picture_say(document):
    tree = ElementTree.parse(ROOT / "artifacts" / "movie-reviews.search.svg")
    texts = {"".join(of.itertext()).strip() for of in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {*BOARDS, "front: edgebert", "movie-reviews by default"} <= texts
