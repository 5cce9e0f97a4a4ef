# SPDX-License-Identifier: Apache-2.0
"""The committed model: complete, small enough, recorded, and the same in golden and kernels on whole sentences."""

import json
from pathlib import Path

import pytest
from pass_runner import PassRunner, compare, sentence_rows
from tokenizers import Tokenizer
from zynqbert.fpga.boards import BOARDS
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.datasets import own_sentences

FOLDER = Path(__file__).resolve().parents[2] / "artifacts" / "movie-reviews"
LIMIT_BYTES = {4: 12_500_000, 8: 18_000_000}


@pytest.fixture(scope="module")
def artifact():
    return load_artifact(FOLDER)


def test_size(artifact):
    total = sum(path.stat().st_size for path in FOLDER.iterdir())
    assert total <= LIMIT_BYTES[artifact.manifest["architecture"]["word_bits"]]


def test_encoder_is_7_9_times_smaller_than_float(artifact):
    a = artifact.manifest["architecture"]
    in_float = 4 * a["layers"] * (4 * a["hidden"] ** 2 + 2 * a["hidden"] * a["ffn"])
    weights = (f"layers.{i}.{name}.weight" for i in range(a["layers"]) for name in ("q", "k", "v", "o", "ffn1", "ffn2"))
    assert in_float / sum(artifact.tensors[name].nbytes for name in weights) >= 7.9


def test_accuracy_is_recorded_on_enough_sentences():
    report = json.loads((FOLDER.parent / "movie-reviews.accuracy.json").read_text())
    low, high = report["difference_interval_points"]
    assert report["split"] == "test" and report["sentences"] >= 2000
    assert low <= report["difference_points"] <= high
    assert report["quantized_accuracy"] == report["quantized_right"] / report["sentences"]


@pytest.mark.parametrize("name", ["movie-reviews", "policy-pairs"])
def test_nothing_is_lost_from_float_to_integers(name):
    """As recorded by the training: at most one point of accuracy, on 2,000 or more examples."""
    report = json.loads((FOLDER.parent / f"{name}.train.json").read_text())
    found, epochs = report["test"]["trained"], report["training"]["epochs"]
    assert report["recipe"]["data"]["set"] == name and found["sentences"] >= 2000
    assert 100 * (found["float_right"] - found["quantized_right"]) / found["sentences"] <= 1.0
    assert (
        found["difference_interval_points"][0] <= found["difference_points"] <= found["difference_interval_points"][1]
    )
    assert len(epochs) == report["recipe"]["train"]["epochs"]


@pytest.mark.parametrize("board", BOARDS)
def test_whole_sentences_equal_golden(board):
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    runner = PassRunner(FOLDER, "native", board)
    for example in own_sentences()[:6]:
        compare(FOLDER, runner, sentence_rows(tokenizer.encode(example.text).ids), [0])
