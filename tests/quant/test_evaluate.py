# SPDX-License-Identifier: Apache-2.0
"""Accuracies: the integer model's logits sentence by sentence, and the interval of a difference."""

import numpy as np
import pytest
import torch
from random_artifact import make_random_artifact
from tiny_bert import random_classifier
from zynqbert.quant import evaluate, float_model
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.batch import make_batch
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.evaluate import (
    float_logits,
    paired_accuracy,
    paired_bootstrap,
    quantized_logits,
    ramp_entropies,
    ramp_logits,
)
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


@pytest.mark.parametrize("rows", [1, 40, 2048])
def test_logits_and_entropies_of_every_ramp(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(evaluate, "_ROWS", rows)
    path = make_random_artifact(
        tmp_path, labels=3, layers=3, exits=True, layer_heads=[1, 3, 2], spans=[[3], [128, 1, 9], [128, 128]]
    )
    artifact, model, some, told = load_artifact(path), GoldenModel(path), sentences(), []
    logits = ramp_logits(artifact.manifest, artifact.tensors, some, told.append)
    entropies = ramp_entropies(artifact.manifest, logits)
    assert logits.dtype == entropies.dtype == np.int64 and logits.shape == (10, 3, 3) and sum(told) == sum(LENGTHS)
    for i, (ids, types) in enumerate(some):
        for layer in (1, 2, 3):  # all sentences are foretold to leave there
            point = {"threshold": 0, "foretold": [layer] * 256}
            found = model.forward_sentence(ids, types, exits=point)
            assert found.logits[0].tolist() == logits[i, layer - 1].tolist()
            assert found.entropy[0] == entropies[i, layer - 1] and found.first[0] == entropies[i, 0]
    last = quantized_logits(artifact.manifest, artifact.tensors, some).numpy()
    np.testing.assert_array_equal(last, logits[:, -1] * artifact.manifest["scales"]["logits"])


def test_a_model_without_ramps_has_no_logits_of_them(folder):
    artifact = load_artifact(folder)
    with pytest.raises(ValueError, match="has no off-ramps"):
        ramp_logits(artifact.manifest, artifact.tensors, sentences())


def test_float_logits_are_in_order(tmp_path):
    weights = load_checkpoint(random_classifier(tmp_path) and tmp_path).weights
    some = sentences()
    expected = torch.cat([float_model.forward(weights, make_batch([s])) for s in some])
    torch.testing.assert_close(float_logits(weights, some), expected, rtol=0, atol=1e-5)


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
