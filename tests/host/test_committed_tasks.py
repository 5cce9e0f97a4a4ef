# SPDX-License-Identifier: Apache-2.0
"""The committed backbone and its tasks: recorded, resident on both boards, switched by kilobytes, equal to golden."""

import json
from pathlib import Path

import numpy as np
import pytest
import zynqbert.host
from tokenizers import Tokenizer
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ModelShape
from zynqbert.host.options import DEFAULT_TASKS
from zynqbert.quant.datasets import DATA_SETS, own_sentences
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.task_artifact import load_backbone, load_task, task_names

ROOT = Path(__file__).parents[2]
TEXTS = {
    "movie-reviews": [example.text for example in own_sentences()[:3]],
    "policy-pairs": [("Do you sell my data?", "We never sell what you tell us."), ("Who reads it?", "See section 4.")],
    "tweets": ["best day ever!!", "the bus is at 8 tomorrow", "my phone died again, so annoying"],
}


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(DEFAULT_TASKS)


def logged(name):
    return json.loads(DEFAULT_TASKS.with_name(f"tasks.{name}.json").read_text(encoding="utf-8"))


def test_what_is_recorded_is_of_this_model(backbone):
    assert task_names(backbone) == sorted(TEXTS) and backbone.manifest["adapters"]["width"] == 32
    assert set(backbone.manifest["adapters"]["owners"]) == {0}  # one set for all layers
    for name in TEXTS:
        manifest = load_task(backbone, DEFAULT_TASKS / "tasks" / name).manifest
        assert manifest["task"]["labels"] == logged(name)["settings"]["labels"] == list(DATA_SETS[name].labels)
        assert manifest["metrics"]["data"] == name and manifest["metrics"]["test_sentences"] >= 2000
        for point in manifest["exits"]["points"].values():
            assert point["test"]["full_depth_accuracy"] == manifest["metrics"]["test_accuracy"]
    assert logged("backbone")["best"]["dev_loss"] < 0.5 * logged("backbone")["untrained"]["dev_loss"]


def test_the_report_is_of_this_model(backbone):
    """tasks.json: each way's accuracy, the integers' as the manifests have them, and docs/tasks.md's row of each."""
    report = json.loads(DEFAULT_TASKS.with_name("tasks.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    rows = {cells[0]: cells[1:] for cells in map(cells_of, page.splitlines()) if cells and cells[0] in TEXTS}
    assert report["backbone"]["best"] == logged("backbone")["best"] and set(report["tasks"]) == set(TEXTS) == set(rows)
    for name, of in report["tasks"].items():
        manifest = load_task(backbone, DEFAULT_TASKS / "tasks" / name).manifest
        assert of["sparse"]["test_accuracy"] == manifest["metrics"]["test_accuracy"]
        assert of["points"] == manifest["exits"]["points"] and of["labels"] == manifest["task"]["labels"]
        for way in ("base", "full"):
            low, high = of[way]["interval_points"]
            lost = 100 * (of[way]["test_accuracy"] - of["adapters"]["test_accuracy"])
            assert of[way]["adapters_lose_points"] == pytest.approx(lost) and low <= lost <= high
        early = of["points"]["1"]["test"]
        low, high = of["full"]["interval_points"]
        ways = (of[way]["test_accuracy"] for way in ("base", "full", "adapters"))
        integers = (of["quantized"]["test_accuracy"], of["sparse"]["test_accuracy"], early["accuracy"])
        assert rows[name] == [
            f"{of['test_sentences']:,}", *(f"{100 * share:.1f} %" for share in ways),
            f"{of['full']['adapters_lose_points']:+.1f} ({low:+.1f} to {high:+.1f})",
            *(f"{100 * share:.1f} %" for share in integers), f"{early['mean_layer']:.2f}",
        ]  # fmt: skip


def cells_of(line: str) -> list[str]:
    """Of a table's row; none of another line."""
    return [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("|") else []


def test_the_robustness_study_is_of_these_tasks_and_on_its_page():
    report = json.loads(DEFAULT_TASKS.with_name("tasks.robustness.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    rows = [cells for cells in map(cells_of, page.splitlines()) if cells]
    tasks, points = report["settings"]["tasks"], report["points"]
    assert sorted(tasks) == sorted(TEXTS) == sorted(points)
    share = lambda entry: f"{100 * entry['accuracy']:.1f} %"  # noqa: E731
    assert ["density 1, 4 bits", *(share(points[name]["clean"]) for name in tasks)] in rows
    for density in points[tasks[0]]["density"]:
        assert [f"density {density}, 4 bits", *(share(points[name]["density"][density]) for name in tasks)] in rows
    for bits in points[tasks[0]]["bits"]:
        assert [f"density 1, {bits} bits", *(share(points[name]["bits"][bits]) for name in tasks)] in rows
    for name in tasks:
        for series, rates in points[name]["errors"].items():
            found = [[100 * entry["accuracy"] for entry in seeds.values()] for seeds in rates.values()]
            cells = [f"{sum(each) / len(each):.1f} / {min(each):.1f}" for each in found]
            assert [series, name, *cells] in rows, (name, series)
    for drawing in ("density", "bits", "errors"):
        assert DEFAULT_TASKS.with_name(f"tasks.robustness-{drawing}.svg").is_file()


def test_size():
    assert sum(path.stat().st_size for path in DEFAULT_TASKS.rglob("*") if path.is_file()) < 6_500_000


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("task", TEXTS)
def test_all_matrices_stay_on_chip_and_a_task_is_less_than_two_percent(backbone, board, task):
    model = load_task(backbone, DEFAULT_TASKS / "tasks" / task)
    compiled = plan(ModelShape.of_manifest(model.manifest), BOARDS[board], artifact=model)
    assert len(compiled.matrices) == 6 and all(matrix.resident is not None for matrix in compiled.matrices.values())
    assert compiled.task.moved < 0.02 * compiled.image_bytes


@pytest.mark.parametrize("board", BOARDS)
def test_a_mixed_stream_equals_golden(board):
    items = [(task, texts[n]) for n in range(3) for task, texts in TEXTS.items() if n < len(texts)]
    with zynqbert.host.open(board=board, artifact=DEFAULT_TASKS, device="emulated") as engine:
        results = list(engine.mixed(items))
        assert engine.switches == 2 and [r.task for r in results] == [task for task, _ in items]
    tokenizer = Tokenizer.from_file(str(DEFAULT_TASKS / "tokenizer.json"))
    golden = {task: GoldenModel(DEFAULT_TASKS, DEFAULT_TASKS / "tasks" / task) for task in TEXTS}
    for (task, given), result in zip(items, results, strict=True):
        encoded = tokenizer.encode(*([given] if isinstance(given, str) else given))
        expected = golden[task].forward_sentence(encoded.ids, encoded.type_ids)
        np.testing.assert_array_equal(result.logits, expected)
