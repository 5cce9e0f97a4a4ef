# SPDX-License-Identifier: Apache-2.0
"""The committed backbone and its tasks: recorded, resident on both boards, switched by kilobytes, equal to golden."""

import json

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
