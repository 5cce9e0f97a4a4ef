# SPDX-License-Identifier: Apache-2.0
"""docs/packing.md's table is the committed report's."""

import json

from documents import ROOT, batching_row

FULL = "a sentence of 128 tokens, all layers"


def test_rows_are_the_reports():
    report = json.loads((ROOT / "artifacts" / "edgebert.batching.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "packing.md").read_text(encoding="utf-8").splitlines()
    assert report["sentences"] == 2272 and report["board"] == "zcu102"
    full = report["rows"][FULL]["fps_per_watt"]["value"]
    for name, row in report["rows"].items():
        assert batching_row(name, row) in page, name
        assert row["ratio"]["value"] == row["fps_per_watt"]["value"] / full
    assert list(report["rows"].values())[-1]["ratio"]["value"] > 6, "the page says so"
