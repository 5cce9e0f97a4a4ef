# SPDX-License-Identifier: Apache-2.0
"""Matrices that several layers share: fitted once to every use, with entries in common, everything else of its own."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_bert import random_classifier
from zynqbert.quant.artifact import load_artifact, save_artifact
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.checkpoint import Linear, load_checkpoint
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.linears import Matrix, fit_shared, make_operand, refit
from zynqbert.quant.options import Options
from zynqbert.quant.quantize import quantize, steps
from zynqbert.quant.scales import snap_factor
from zynqbert.quant.shared import groups, share
from zynqbert.quant.tokens import Tokens


def sentences(n: int) -> list[Tokens]:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 30, n)
    return [Tokens(random.integers(0, 200, k).tolist(), [0] * (k - k // 3) + [1] * (k // 3)) for k in lengths]


def checkpoint_of(path, **model):
    random_classifier(path, family="albert", **model)
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def in_pairs(tmp_path_factory):
    """(checkpoint, quantized): layers 0 and 1 share one set of matrices, 2 and 3 another."""
    checkpoint = checkpoint_of(tmp_path_factory.mktemp("model"), num_hidden_layers=4, num_hidden_groups=2)
    calibration = calibrate(checkpoint.weights, sentences(64))
    options = Options(norm_entries=5, gelu_entries=6)
    seen = []
    quantized = quantize(
        checkpoint.weights, calibration, task=checkpoint.task, max_length=64, options=options, on_step=seen.append
    )
    assert len(seen) == len(set(seen)) == steps(checkpoint.weights)
    return checkpoint, quantized


def test_entries_are_common_to_the_layers_that_share(in_pairs):
    checkpoint, quantized = in_pairs
    assert groups(checkpoint.weights) == {0: [0, 1], 2: [2, 3]}
    t = quantized.tensors
    stream = ["mapping", *(f"layers.{i}.ffn_norm" for i in range(4))]
    for i, j in ((0, 1), (2, 3)):
        for one, other in (
            (f"{stream[i]}.entries", f"{stream[j]}.entries"),
            (f"layers.{i}.attention_norm.entries", f"layers.{j}.attention_norm.entries"),
            (f"layers.{i}.ffn1.table", f"layers.{j}.ffn1.table"),
        ):
            np.testing.assert_array_equal(t[one], t[other], err_msg=one)
            assert t[one].max() > t[one].min(), "without extra entries this says nothing"
    # layers that share nothing need not agree, and here do not
    assert (t["layers.0.attention_norm.entries"] != t["layers.2.attention_norm.entries"]).any() or (
        t["layers.0.ffn1.table"] != t["layers.2.ffn1.table"]
    ).any()


def test_a_matrix_is_stored_once_and_fitted_in_each_place(in_pairs):
    _, quantized = in_pairs
    t = quantized.tensors
    assert quantized.manifest["architecture"]["weights"] == [0, 0, 2, 2]
    for kind in ("q", "k", "v", "o", "ffn1", "ffn2"):
        assert [f"layers.{i}.{kind}.weight" in t for i in range(4)] == [True, False, True, False]
        assert (t[f"layers.0.{kind}.bias"] != t[f"layers.1.{kind}.bias"]).any()
    assert (t["layers.0.ffn_norm.gamma"] != t["layers.1.ffn_norm.gamma"]).any()


def test_layers_with_matrices_of_their_own_share_nothing(tmp_path):
    checkpoint = checkpoint_of(tmp_path, num_hidden_layers=2, num_hidden_groups=2)
    assert groups(checkpoint.weights) == {}
    assert share(checkpoint.weights, 2, Options().checked(64), lambda tap: pytest.fail("nothing is to be run")) == {}
    calibration = calibrate(checkpoint.weights, sentences(16))
    quantized = quantize(checkpoint.weights, calibration, task=checkpoint.task, max_length=64)
    assert all(f"layers.{i}.q.weight" in quantized.tensors for i in range(2))


def test_degenerate_shared_weights_still_make_an_artifact(tmp_path):
    """A zero matrix, tiny weights beside large biases, and one sentence to calibrate on."""
    checkpoint = checkpoint_of(tmp_path / "model")
    weights = checkpoint.weights
    layer = weights.layers[0]
    layer = dataclasses.replace(
        layer,
        q=Linear(torch.zeros_like(layer.q.weight), layer.q.bias),
        ffn1=Linear(layer.ffn1.weight * 0, layer.ffn1.bias * 50),
        ffn2=Linear(layer.ffn2.weight * 1e-9, layer.ffn2.bias),
    )
    weights = dataclasses.replace(weights, layers=[layer] * 2)
    sentence = Tokens([4, 5, 6], [0, 0, 1])
    quantized = quantize(weights, calibrate(weights, [sentence]), task=checkpoint.task, max_length=64)
    path = save_artifact(tmp_path / "a", quantized.manifest, quantized.tensors, checkpoint.tokenizer_json)
    assert load_artifact(path).manifest["architecture"]["weights"] == [0, 0]
    assert np.abs(GoldenModel(path).forward_sentence(*sentence)).max() > 0


# the two fits --------------------------------------------------------------------------------------------------------


def operand(seed: int, step: float):
    """Correlated integers [600, 40] and their float originals."""
    random = np.random.default_rng(seed)
    x = random.normal(0, 1, (600, 12)) @ random.normal(0, 1, (12, 40)) + random.normal(0, 0.4, (600, 40))
    a = torch.from_numpy(np.clip(np.rint(x / step), -127, 127)).float()
    share_ = torch.full((600,), 1 / 600)
    return torch.from_numpy(x).float(), make_operand(a, np.full(40, step), np.arange(40), 127, share_)


def test_one_matrix_fits_every_use():
    """Operands of different correlations and steps: less error in each of them than the nearest integers leave."""
    weight = torch.from_numpy(np.random.default_rng(9).normal(0, 0.1, (24, 40))).float()
    uses = [operand(0, 0.1), operand(1, 0.04)]
    step = weight.abs().amax(dim=1).numpy().astype(np.float64) / 7
    nearest = Matrix(np.rint(weight.numpy() / step[:, None]).astype(np.int8), step)
    fitted = fit_shared(Linear(weight, torch.zeros(24)), uses, ridge=0.01, follow=True, sweeps=2)
    alone = fit_shared(Linear(weight, torch.zeros(24)), uses[:1], ridge=0.01, follow=True, sweeps=2)
    assert np.abs(fitted.q).max() == 7 and (fitted.step > 0).all()
    out = np.full(24, 0.1)

    def lost(matrix, x, of) -> float:
        target = x @ weight.T + 3
        got = refit(matrix, of, target, out, ridge=0.01, follow=True)
        np.testing.assert_array_equal(got.q, matrix.q)
        np.testing.assert_array_equal(snap_factor(got.unit / out) * out, got.unit)
        real = (of.a.double() @ torch.from_numpy(got.q).double().T) * torch.from_numpy(got.unit)
        real = real + torch.from_numpy(got.bias)
        np.testing.assert_allclose(real.mean(dim=0), target.mean(dim=0), atol=1e-4)
        return float((real - target).square().mean())

    for x, of in uses:
        assert lost(fitted, x, of) < 0.6 * lost(nearest, x, of)
    # made for the first use alone, it is better there and worse in the other
    assert lost(alone, *uses[0]) < lost(fitted, *uses[0]) and lost(alone, *uses[1]) > lost(fitted, *uses[1])


def test_the_scale_follows_its_place():
    """Weights of half the size that the place needs get twice the scale, but for one row to go by."""
    x, of = operand(0, 0.1)
    q = np.random.default_rng(3).integers(-7, 8, (5, 40)).astype(np.int8)
    target = x @ torch.from_numpy(q).float().T * 0.02
    out, step = np.full(5, 0.01), np.full(5, 0.01)
    follow = refit(Matrix(q, step), of, target, out, ridge=1e-4, follow=True)
    np.testing.assert_allclose(follow.unit, 0.02 * 0.1, rtol=0.02)
    stay = refit(Matrix(q, step), of, target, out, ridge=1e-4, follow=False)
    np.testing.assert_allclose(stay.unit, 0.01 * 0.1, rtol=0.004)
    one = make_operand(of.a[:1], of.step.numpy(), of.source.numpy(), 127, torch.ones(1))
    few = refit(Matrix(q, step), one, target[:1], out, ridge=1e-4, follow=True)
    np.testing.assert_allclose(few.unit, 0.01 * 0.1, rtol=0.004)
