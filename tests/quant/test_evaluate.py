# SPDX-License-Identifier: Apache-2.0
"""Accuracies: the integer model's logits sentence by sentence, and the interval of a difference."""

import numpy as np
import pytest
from random_artifact import make_random_artifact
from zynqbert.quant import evaluate
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.evaluate import paired_accuracy, paired_bootstrap, quantized_logits
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.tokens import Tokens

LENGTHS = (9, 2, 40, 5, 9, 1, 21, 33, 5, 30)


def sentences() -> list[Tokens]:
    rng = np.random.default_rng(0)
    return [Tokens([2, *rng.integers(0, 50, n - 1).tolist()], rng.integers(0, 2, n).tolist()) for n in LENGTHS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact"), labels=3, layers=2, word_bits=4)


@pytest.mark.parametrize("rows", [1, 40, 2048])  # a batch a sentence, some batches, one
def test_logits_are_those_of_the_golden_model(folder, rows, monkeypatch):
    monkeypatch.setattr(evaluate, "_ROWS", rows)
    artifact, golden, some, told = load_artifact(folder), GoldenModel(folder), sentences(), []
    logits = quantized_logits(artifact.manifest, artifact.tensors, some, told.append).numpy()
    expected = np.array([golden.forward_sentence(ids, types) for ids, types in some])
    np.testing.assert_array_equal(logits, expected * artifact.manifest["scales"]["logits"])
    assert sum(told) == sum(LENGTHS) and len(told) == {1: len(LENGTHS) - 1, 40: 3, 2048: 1}[rows]


def test_interval_of_a_certain_difference():
    wrong, right = np.zeros(20, bool), np.ones(20, bool)
    assert paired_bootstrap(wrong, right) == (1, 1)
    assert paired_bootstrap(right, wrong) == (-1, -1)
    assert paired_bootstrap(right, right) == (0, 0)


def test_interval_of_a_binomial_difference():
    """10 of 50 sentences gained: the resampled gain is binomial, with 2.5 % below 5 and above 16 of 50."""
    a, b = np.zeros(50, bool), np.arange(50) % 5 == 0
    assert paired_bootstrap(a, b) == pytest.approx((5 / 50, 16 / 50))
    assert paired_bootstrap(b, a) == pytest.approx((-16 / 50, -5 / 50))
    # what both get right or both get wrong is no difference: only the pairs count, not the accuracies
    both = np.concatenate([a, np.ones(50, bool)]), np.concatenate([b, np.ones(50, bool)])
    low, high = paired_bootstrap(*both)
    assert (low, high) == pytest.approx((4.5 / 100, 16.5 / 100), abs=0.006)


def test_interval_of_gains_and_losses():
    """15 gained and 15 lost of 400: standard error √30/400 = 1.37 %, interval ±1.96 of them within a step of 1/400."""
    a, b = np.zeros(400, bool), np.zeros(400, bool)
    a[:15], b[15:30] = True, True
    low, high = paired_bootstrap(a, b)
    assert (low, high) == pytest.approx((-0.0268, 0.0268), abs=1 / 400)
    assert paired_bootstrap(a, b) == (low, high)  # the seed is fixed


def test_paired_accuracy():
    in_float, quantized = np.zeros(50, bool), np.zeros(50, bool)
    in_float[:30], quantized[5:40] = True, True  # 5 lost, 10 gained
    found = paired_accuracy(in_float, quantized)
    low, high = paired_bootstrap(in_float, quantized)
    assert found == {
        "sentences": 50,
        "float_right": 30,
        "quantized_right": 35,
        "float_accuracy": 0.6,
        "quantized_accuracy": 0.7,
        "difference_points": pytest.approx(10),
        "difference_interval_points": [100 * low, 100 * high],
        "interval": "95 %, paired bootstrap, 10000 resamples, seed 0",
        "disagreements": 15,
    }
    assert low < 0.1 < high
