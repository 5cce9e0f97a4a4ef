# SPDX-License-Identifier: Apache-2.0
"""docs/continuous.md: its tables are the committed reports', and the committed model is what they are of."""

import json

import pytest
from documents import ROOT, batching_row
from zynqbert import host
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import continuous
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.datasets import own_sentences

FOLDER = ROOT / "artifacts" / "continuous"
PAGE = (ROOT / "docs" / "continuous.md").read_text(encoding="utf-8").splitlines()
FULL = "a sentence of 128 tokens, all layers"


def read(name: str) -> dict:
    return json.loads((ROOT / "artifacts" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("point", ["1", "2"])
def test_rows_are_the_reports(point):
    report = read(f"continuous.batching-{point}.json")
    assert (report["sentences"], report["board"], report["point"]) == (2272, "zcu102", point)
    full = report["rows"][FULL]["fps_per_watt"]["value"]
    for name, row in report["rows"].items():
        assert batching_row(f"{name}, point {point}" if "early" in name else name, row) in PAGE, name
        assert row["ratio"]["value"] == row["fps_per_watt"]["value"] / full
    queued = report["rows"]["continuously batched, early exit"]["ratio"]["value"]
    assert queued > 6 and queued == max(row["ratio"]["value"] for row in report["rows"].values())
    line = next(line for line in PAGE if line.startswith(f"| {point} |"))
    right = report["accuracy"]
    assert line == (
        f"| {point} | {report['exit_layer']['value']:.2f} | {100 * right['early exit']['value']:.1f} % "
        f"| {100 * right['all layers']['value']:.1f} % |"
    )


def test_accuracy_behind_each_layer():
    log = read("continuous.train.json")
    cells = (f"{100 * share:.1f}" for share in log["test"]["layers"])
    assert f"| integers, test, % | {' | '.join(cells)} |" in PAGE
    assert log["test"]["layers"][-1] == read("continuous.batching-1.json")["accuracy"]["all layers"]["value"]
    assert f"float {100 * log['test']['float']['quantized_accuracy']:.1f} %" in "\n".join(PAGE)


def test_the_committed_model_is_the_recipes():
    artifact, log = load_artifact(FOLDER), read("continuous.train.json")
    assert {name: of["threshold"] for name, of in artifact.manifest["exits"]["points"].items()} == {
        name: of["threshold"] for name, of in log["exits"]["points"].items()
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 6_500_000


@pytest.mark.parametrize("board", BOARDS)
def test_its_queue_answers_as_one_by_one(board):
    texts = [example.text for example in own_sentences()]
    with host.open(board=board, artifact=FOLDER, device="emulated", early_exit="1") as engine:
        alone = [(r.logits, r.exit_layer) for r in engine.stream(texts)]
    with continuous.open(board=board, artifact=FOLDER, device="emulated", early_exit="1") as engine:
        assert [(r.logits, r.exit_layer) for r in engine.stream(texts)] == alone
    assert len({layer for _, layer in alone}) > 2
