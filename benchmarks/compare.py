# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/compare.md, from artifacts/movie-reviews.compare.json, which `make compare` measures.

    python benchmarks/compare.py

Run again where the models of cycles, resources or power have changed: modelled figures are made anew here, measured
ones stay those of the run. A test holds the page against the report, and the report against the models.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.whole_file import write_whole
from zynqbert.host.bench import compare_report
from zynqbert.host.bench.compare_modelled import board_figures, published_rows
from zynqbert.host.bench.labelled import labelled_texts
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.tokens import encode

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "artifacts" / "movie-reviews.compare.json"
PAGE = ROOT / "docs" / "compare.md"

HEADING = "## The committed model\n"  # what follows it in the page is written here


def refreshed(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with its modelled figures as the models have them now."""
    given = report["settings"]
    if given["point"] is not None:
        raise ValueError(f"{REPORT}: of an artifact that leaves early, whose layers it does not hold; run make compare")
    artifact = load_artifact(ROOT / given["artifact"])
    examples, _ = labelled_texts(artifact.manifest, None, None, False)
    tokenizer, longest = artifact.tokenizer_path.read_text(encoding="utf-8"), artifact.manifest["task"]["max_length"]
    texts = [example.texts for example in examples[: given["sentences"]]]
    tokens = [len(of.ids) for of in encode(tokenizer, texts, longest)]
    kept = ("board", "clock_mhz", "point", "answers")
    modelled = [
        {name: row[name] for name in kept} | board_figures(artifact, BOARDS[row["board"]], row["clock_mhz"], tokens)
        for row in report["modelled"]
    ]
    return {**report, "modelled": modelled, "published": list(published_rows(list(BOARDS.values())))}


def render(report: Mapping[str, Any], page: str) -> str:
    """The page with the report's tables in the place of those it has."""
    head, heading, _ = page.partition(HEADING)
    if not heading:
        raise ValueError(f"{PAGE}: has no line {HEADING.strip()!r} any more; remedy: write it where the tables go")
    versions = report["versions"]
    shown = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "onnx", "onnxruntime", "python"))
    return f"{head}{heading}\n{compare_report.markdown(report)}\nVersions: {shown}.\n"


def main() -> int:
    report = refreshed(json.loads(REPORT.read_text(encoding="utf-8")))
    write_whole(REPORT, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(PAGE, render(report, PAGE.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
