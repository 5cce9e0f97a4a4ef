# SPDX-License-Identifier: Apache-2.0
"""docs/packing.md's table is the committed report's."""

import json

from documents import ROOT


def test_rows_are_the_reports():
    report = json.loads((ROOT / "artifacts" / "edgebert.batching.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "packing.md").read_text(encoding="utf-8").splitlines()
    assert report["sentences"] == 2272 and report["board"] == "zcu102"
    for name, row in report["rows"].items():
        value = {field: of["value"] for field, of in row.items()}
        cells = (
            f"{value['passes']:,}", f"{value['sentences_per_second']:,.0f}", f"{value['power']:.1f}",
            f"{value['fps_per_watt']:.1f}", f"{value['energy_per_sentence']:.2f}", f"{value['ratio']:.1f}",
        )  # fmt: skip
        assert f"| {name} | {' | '.join(cells)} |" in page, name
        assert value["ratio"] == value["fps_per_watt"] / report["rows"]["a sentence of 128 tokens, all layers"][
            "fps_per_watt"
        ]["value"]  # fmt: skip
    assert list(report["rows"].values())[-1]["ratio"]["value"] > 6, "the page says so"
