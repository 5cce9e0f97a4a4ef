# SPDX-License-Identifier: Apache-2.0
"""docs/compare.md is the committed report's, which keeps to the schema; its modelled figures are the models' of now."""

import json

import jsonschema
import pytest
from documents import ROOT, document_of
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.bench.compare_modelled import published_rows

MADE = ROOT / "artifacts" / "movie-reviews.compare.json"
pytestmark = pytest.mark.skipif(not MADE.is_file(), reason=f"{MADE.name} is not measured yet: make compare")


@pytest.fixture(scope="module")
def document():
    """benchmarks/compare.py, which is no part of the package."""
    yield from document_of("compare")


@pytest.fixture(scope="module")
def report(document):
    return json.loads(document.REPORT.read_text(encoding="utf-8"))


def test_page_is_the_reports(document, report):
    page = document.PAGE.read_text(encoding="utf-8")
    assert page == document.render(report, page), "run: python benchmarks/compare.py"


def test_report_keeps_to_its_schema(report):
    schema = json.loads((ROOT / "docs" / "compare.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(report)


def test_what_stands_beside_published_figures_is_not_stale(report):
    now = json.loads(json.dumps(list(published_rows(list(BOARDS.values())))))
    assert report["published"] == now, "run: python benchmarks/compare.py"


def test_report_is_of_the_committed_model_and_all_its_sentences(report):
    committed = json.loads((ROOT / "artifacts" / "movie-reviews.accuracy.json").read_text(encoding="utf-8"))
    found = {row["key"]: row["accuracy"] for row in report["measured"]}
    assert found["emulator"]["sentences"] == committed["sentences"]
    assert found["emulator"]["right"] == committed["quantized_right"]
