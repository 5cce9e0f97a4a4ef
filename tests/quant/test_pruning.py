# SPDX-License-Identifier: Apache-2.0
"""Masks of a wanted density, held at zero by quantizer and training, and made up for by the weights that stay."""

import copy
import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from random_artifact import make_random_artifact
from tiny_bert import random_classifier
from zynqbert.quant import float_model, gptq, shared
from zynqbert.quant.artifact import load_artifact, save_artifact
from zynqbert.quant.batch import make_batch
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.checkpoint import Linear, load_checkpoint, with_spans
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.linears import Pruning, fit, fit_shared, make_operand
from zynqbert.quant.options import Options
from zynqbert.quant.pipeline import quantize_checkpoint
from zynqbert.quant.pruning import (
    allowed,
    check_density,
    compressed_bytes,
    densities,
    density_report,
    encoder_matrices,
    keep_largest,
    stage_density,
)
from zynqbert.quant.quantize import quantize
from zynqbert.quant.tokens import Tokens
from zynqbert.quant.trainable import TrainableModel

MATRICES = ("q", "k", "v", "o", "ffn1", "ffn2")


# the mask ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [1.0, 0.75, 0.5, 0.29, 1 / 3, 0.001, 1e-9])
@pytest.mark.parametrize("shape", [(7, 13), (1, 100), (64, 390), (1, 1)])
def test_a_mask_keeps_exactly_the_largest(density, shape):
    score = np.random.default_rng(0).random(shape)
    mask = keep_largest(score, density)
    count = int(mask.sum())
    assert mask.dtype == bool and mask.shape == shape
    assert count <= Fraction(repr(density)) * score.size < count + 1
    if 0 < count < score.size:
        assert score[mask].min() > score[~mask].max()


def test_a_density_is_the_decimal_that_was_written():
    assert int(0.29 * 100) == 28  # what a float product would keep
    assert allowed(0.29, 100) == 29 and keep_largest(np.ones((10, 10)), 0.29).sum() == 29
    assert [allowed(d, 10) for d in (0.1, 0.3, 0.7, 0.99, 1.0, 1)] == [1, 3, 7, 9, 10, 10]


def test_of_equal_weights_the_first_stay():
    score = np.array([[1.0, 2.0, 1.0], [1.0, 0.5, 1.0]])
    np.testing.assert_array_equal(keep_largest(score, 0.5), [[True, True, True], [False, False, False]])
    np.testing.assert_array_equal(keep_largest(np.zeros((2, 4)), 0.5), [[True] * 4, [False] * 4])
    wide = np.random.default_rng(1).integers(0, 3, (50, 60)).astype(float)
    mask = keep_largest(wide, 0.4)
    tied = np.flatnonzero(wide == wide[mask].min())
    kept = mask.ravel()[tied]
    assert 0 < kept.sum() < len(kept) and kept[: kept.sum()].all()


def test_a_row_that_is_stored_several_times_counts_as_often():
    score, times = np.random.default_rng(2).random((20, 30)), np.ones(20, int)
    times[[3, 8]] = 4, 2
    for density in (0.2, 0.5, 0.77):
        mask = keep_largest(score, density, times)
        stored = np.repeat(mask, times, axis=0)
        assert stored.sum() == allowed(density, stored.size)
        dropped, lowest = score[~mask & (times == 1)[:, None]], score[mask].min()
        assert np.sum(dropped > np.sort(score[mask])[4]) == 0 and lowest > 0  # but for the last places, by score
    assert not keep_largest(np.ones((1, 3)), 0.4, np.array([4])).sum() * 4 > 0.4 * 12


@pytest.mark.parametrize("density", [0, -0.5, 1.01, float("nan"), float("inf"), "0.5", None, True])
def test_a_density_that_is_none(density):
    with pytest.raises(ValueError, match="is not above 0 and at most 1"):
        check_density(density)
    with pytest.raises(ValueError, match=r"density .* is not above 0 and at most 1"):
        Options(density=density).checked(64)


def test_a_score_that_is_none():
    with pytest.raises(ValueError, match="prune_by 'size' is none of magnitude, contribution"):
        Options(prune_by="size").checked(64)


# the fit -------------------------------------------------------------------------------------------------------------


def operand(rows: int = 600, k: int = 40, seed: int = 0):
    """Correlated integers of unequal spread."""
    random = np.random.default_rng(seed)
    x = random.normal(0, 30, (rows, 12)) @ random.normal(0, 1, (12, k)) / 4 + random.normal(0, 3, (rows, k))
    a = torch.from_numpy(np.clip(np.rint(x * np.linspace(0.2, 1.5, k)), -127, 127)).float()
    return make_operand(a, np.full(k, 0.05), np.arange(k), 127, torch.full((rows,), 1 / rows))


def random_linear(n: int = 24, k: int = 40) -> Linear:
    return Linear(torch.from_numpy(np.random.default_rng(5).normal(0, 0.1, (n, k))).float(), torch.zeros(n))


HOW = dict(bits=4, ridge=0.01, follow=True, sweeps=2)


def lost(of, target, q, unit, bias) -> float:
    real = (of.a.double() @ torch.from_numpy(q.astype(float)).T) * torch.from_numpy(unit) + torch.from_numpy(bias)
    return float((real - target).square().mean())


@pytest.mark.parametrize("by", ["magnitude", "contribution"])
@pytest.mark.parametrize("density", [0.7, 0.5, 0.2])
def test_what_is_pruned_is_zero_and_made_up_for(density, by):
    """With the same mask: far less error than zeros in the dense fit, and less than without the columns after it."""
    of, linear = operand(), random_linear()
    target, out = of.a @ linear.weight.T * 0.05 + 3, np.full(24, 0.1)
    got = fit(linear, of, target, out, prune=Pruning(density, by), **HOW)
    score = linear.weight.numpy().astype(float)
    if by == "contribution":
        score = score * np.sqrt(np.diag(np.cov(of.a.numpy().astype(float).T, bias=True)))
    mask = keep_largest(np.abs(score), density)
    assert not got.q[~mask].any() and np.count_nonzero(got.q) > 0.9 * mask.sum() and np.abs(got.q).max() <= 7

    dense = fit(linear, of, target, out, **HOW)
    cut = dense.q * mask
    bias = target.mean(dim=0).double().numpy() - dense.unit * (torch.from_numpy(cut).double() @ of.mean).numpy()
    error = lost(of, target, got.q, got.unit, got.bias)
    assert lost(of, target, dense.q, dense.unit, dense.bias) < error < 0.6 * lost(of, target, cut, dense.unit, bias)


def test_columns_make_up_for_what_was_pruned_before_them():
    """The compensation alone, without refitting: against each weight rounded or dropped by itself."""
    of, w = operand(), random_linear().weight * 0.05
    g = of.covariance + 0.01 * torch.eye(40, dtype=torch.float64)
    kept = torch.from_numpy(keep_largest(w.abs().numpy(), 0.5)).float()
    scale = w.abs().amax(dim=1) / 7
    alone = torch.floor(w / scale[:, None] + 0.5) * kept
    q = gptq.compensate(w, scale, g, 7, kept)
    assert not q[kept == 0].any()
    g32 = g.float()
    first, none = gptq.error(w, q, scale, g32).sum(), gptq.error(w, alone, scale, g32).sum()
    assert first < 0.5 * none
    better = gptq.refine(w, q, scale, g, 7, 2, kept)
    assert not better[kept == 0].any() and gptq.error(w, better, scale, g32).sum() < first


def test_a_mask_of_all_is_no_mask():
    of, w = operand(), random_linear().weight * 0.05
    g = of.covariance + 0.01 * torch.eye(40, dtype=torch.float64)
    (q, scale), (masked, other) = (
        gptq.quantize_rows(w, g, 7, lambda s: s, kept=kept) for kept in (None, torch.ones(24, 40, dtype=torch.bool))
    )
    assert torch.equal(q, masked) and (scale == other).all()


def test_one_mask_for_every_use_of_a_shared_matrix():
    linear = random_linear()
    uses = [(of.a * 0.05, of) for of in (operand(seed=0), operand(seed=1))]
    how = dict(ridge=0.01, follow=True, sweeps=2)
    got = fit_shared(linear, uses, prune=Pruning(0.4, "magnitude"), **how)
    mask = keep_largest(linear.weight.abs().numpy(), 0.4)
    assert not got.q[~mask].any() and np.count_nonzero(got.q) > 0.9 * mask.sum()
    weighted = fit_shared(linear, uses, prune=Pruning(0.4, "contribution"), **how)
    spread = np.sqrt(sum(np.diag(o.covariance) * o.step.numpy() ** 2 for _, o in uses))
    mask_of = keep_largest(np.abs(linear.weight.numpy().astype(float)) * spread, 0.4)
    assert not weighted.q[~mask_of].any() and (mask_of != mask).any()
    dense = fit_shared(linear, uses, **how)
    assert (np.count_nonzero(dense.q[~mask])) > 100  # it was the mask


def test_shared_rows_count_as_often_as_they_are_stored(tmp_path, monkeypatch):
    """Those of ffn1, once for each entry of their channel."""
    random_classifier(tmp_path, family="albert")
    weights, asked = load_checkpoint(tmp_path).weights, {}

    def record(linear, uses, *, prune, **how):
        asked[next(n for n in MATRICES if getattr(weights.layers[0], n) is linear)] = prune
        return fit_shared(linear, uses, prune=prune, **how)

    monkeypatch.setattr(shared, "fit_shared", record)
    batch, options = make_batch(sentences(32)), Options(density=0.3, gelu_entries=6).checked(64)
    run = lambda tap: float_model.forward(weights, batch, tap)  # noqa: E731
    [common] = shared.share(weights, len(batch.ids), options, run).values()
    assert common.ffn.max() > 1 and (asked.pop("ffn1").times == common.ffn).all()
    assert len(asked) == 5 and all(p == Pruning(0.3) for p in asked.values())


# whole models --------------------------------------------------------------------------------------------------------


def sentences(n: int, seed: int = 0) -> list[Tokens]:
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 25, n)
    return [Tokens(random.integers(0, 200, k).tolist(), [0] * (k - k // 3) + [1] * (k // 3)) for k in lengths]


@pytest.fixture(scope="module", params=["bert", "albert"])
def model(request, tmp_path_factory):
    """(checkpoint, calibration)."""
    path = tmp_path_factory.mktemp("model")
    random_classifier(path, family=request.param)
    checkpoint = load_checkpoint(path)
    return checkpoint, calibrate(checkpoint.weights, sentences(48))


def made(model, **options):
    checkpoint, calibration = model
    options = Options(word_bits=4, norm_entries=4, gelu_entries=6, **options)
    return quantize(checkpoint.weights, calibration, task=checkpoint.task, max_length=64, options=options)


@pytest.fixture(scope="module")
def dense(model):
    return made(model)


@pytest.mark.parametrize("density, by", [(0.7, "contribution"), (0.5, "magnitude"), (0.06, "magnitude")])
def test_no_matrix_is_denser_than_asked_for(model, dense, density, by, tmp_path):
    """Counted on the nibbles; rows of ffn1 that are stored twice included. Few of those kept round to zero."""
    checkpoint, _ = model
    quantized = made(model, density=density, prune_by=by)
    path = save_artifact(tmp_path / "a", quantized.manifest, quantized.tensors, checkpoint.tokenizer_json)
    a = load_artifact(path)
    found = densities(encoder_matrices(a.manifest, a.tensors))
    assert set(found) == {n.removesuffix(".weight") for n in a.tensors if n[:7] == "layers." and n.endswith(".weight")}
    for name, share in found.items():
        packed = a.tensors[f"{name}.weight"]
        nibbles = np.count_nonzero(packed & 15) + np.count_nonzero(packed >> 4)
        k = encoder_matrices(a.manifest, a.tensors)[name].shape[1]
        assert 0.9 * density < nibbles / (len(packed) * k) == share <= density, name
    for name in ("pooler", "classifier", "mapping"):  # int8, not pruned
        if f"{name}.weight" in a.tensors:
            assert np.count_nonzero(a.tensors[f"{name}.weight"]) > 0.9 * a.tensors[f"{name}.weight"].size
    assert np.abs(GoldenModel(path).forward_sentence(*sentences(1)[0])).max() > 0
    if model[0].weights.mapping is not None:
        assert set(found) == {f"layers.0.{name}" for name in MATRICES}


def test_zeros_of_a_pruned_float_model_stay(model):
    """Nothing else is pruned and no zero comes back, though the density asked for leaves room for some."""
    checkpoint, calibration = model
    w, rng = copy.deepcopy(checkpoint.weights), np.random.default_rng(0)
    for name, linear in w.linears():
        if name.startswith("layers."):
            linear.weight[torch.from_numpy(rng.random(linear.weight.shape) < 0.6)] = 0
    pruned = dataclasses.replace(checkpoint, weights=w)
    quantized = made((pruned, calibration), density=0.5)
    for name, q in encoder_matrices(quantized.manifest, quantized.tensors).items():
        _, i, kind = name.split(".")
        zero = (getattr(w.layers[int(i)], kind).weight == 0).numpy()
        if kind in ("ffn1", "ffn2"):  # further entries come right behind the first
            table = quantized.tensors[f"layers.{i}.ffn1.table"]
            source = np.cumsum(table) - 1
            zero = zero[source] if kind == "ffn1" else zero[:, source]
        if kind != "ffn2":
            norm = "attention_norm" if kind == "ffn1" else ("ffn_norm" if int(i) else None)
            before = f"layers.{i if kind == 'ffn1' else int(i) - 1}.{norm}"
            if norm is None:
                before = "embeddings.norm" if w.mapping is None else "mapping"
            if kind != "o":
                zero = np.repeat(zero, quantized.tensors[f"{before}.entries"], axis=1)
        assert zero.shape == q.shape and not q[zero].any(), name
        assert np.count_nonzero(q) > 0.8 * (~zero).sum(), name


def test_a_layer_that_lost_heads_keeps_the_weights_of_the_others(model):
    """Half of its q, k, v and o as they were with all heads, which is all of what is left of them."""
    checkpoint, _ = model
    weights = with_spans(checkpoint.weights, [[0, 128]] * 2)
    fewer = dataclasses.replace(checkpoint, weights=weights)
    quantized = made((fewer, calibrate(weights, sentences(48))), density=0.5)
    found = densities(encoder_matrices(quantized.manifest, quantized.tensors))
    for name, share in found.items():
        low, high = (0.85, 1) if name.rpartition(".")[2] in ("q", "k", "v", "o") else (0.4, 0.5)
        assert low < share <= high, name
    trained = TrainableModel(quantized.manifest, quantized.tensors)
    trained.prune(0.5)
    for name, tensor in trained.tensors().items():
        np.testing.assert_array_equal(tensor, quantized.tensors[name], err_msg=name)


def test_a_density_of_1_changes_nothing(model, dense):
    same = made(model, density=1, prune_by="magnitude")
    assert same.manifest == dense.manifest and set(same.tensors) == set(dense.tensors)
    for name, tensor in dense.tensors.items():
        assert tensor.tobytes() == same.tensors[name].tobytes(), name


def test_the_manifest_tells_the_densities(tmp_path):
    random_classifier(tmp_path / "model")
    texts = ["a gem .", "gems", ". . a", "a a gem . gems", ". gem"] * 4
    quiet = dict(word_bits=4, progress=lambda *step: None)
    report = quantize_checkpoint(tmp_path / "model", texts, tmp_path / "half", density=0.5, **quiet)
    a = load_artifact(tmp_path / "half")
    told = a.manifest["metrics"]["density"]
    assert report["density"] == told == density_report(encoder_matrices(a.manifest, a.tensors), 0.5)
    assert told["wanted"] == 0.5 and set(told["matrices"]) == {f"layers.{i}.{n}" for i in (0, 1) for n in MATRICES}
    assert min(told["matrices"].values()) <= told["achieved"] <= max(told["matrices"].values()) <= 0.5
    assert a.manifest["version"] == "2.2"
    report = quantize_checkpoint(tmp_path / "model", texts, tmp_path / "dense", **quiet)
    assert "density" not in report and "density" not in load_artifact(tmp_path / "dense").manifest["metrics"]
    with pytest.raises(ValueError, match=r"density 1\.5 is not above 0"):
        quantize_checkpoint(tmp_path / "model", texts, tmp_path / "none", density=1.5, **quiet)
    assert not (tmp_path / "none").exists()


# sizes ---------------------------------------------------------------------------------------------------------------


def test_bytes_of_masks_and_non_zeros():
    tile = np.zeros((1, 32), np.int8)
    assert compressed_bytes({"a": tile}) == 4
    for n, size in ((1, 5), (2, 5), (24, 16), (25, 16), (32, 16)):  # raw above 75 %
        some = tile.copy()
        some[0, :n] = -3
        assert compressed_bytes({"a": some}) == size, n
    assert compressed_bytes({"a": tile, "b": np.ones((3, 33), np.int8)}) == 4 + int(np.ceil(3 * (16 + 4.5)))
    w = np.random.default_rng(0).random((96, 384))
    for density in (0.6, 0.4, 0.2):
        q = keep_largest(w, density).astype(np.int8)
        assert compressed_bytes({"a": q}) == pytest.approx((0.25 + density) * q.size / 2, rel=0.01)


# training ------------------------------------------------------------------------------------------------------------

ARTIFACTS = {
    "bert": dict(layers=2, word_bits=4, seed=1),
    "albert": dict(family="albert", layers=3, embedding=41, labels=3, seed=2),
}


@pytest.fixture(params=ARTIFACTS)
def drawn(request, tmp_path):
    """A random artifact of half density, and one of all that was drawn."""
    return [
        load_artifact(make_random_artifact(tmp_path / str(d), density=d, **ARTIFACTS[request.param]))
        for d in (0.5, 1.0)
    ]


def few(*lengths: int) -> list[Tokens]:
    rng = np.random.default_rng(7)
    return [Tokens([2, *rng.integers(0, 50, n - 1).tolist()], rng.integers(0, 2, n).tolist()) for n in lengths]


def step_at_random(model: TrainableModel, optimizer, batch, steps: int) -> None:
    random = torch.Generator().manual_seed(3)
    for _ in range(steps):
        logits = model.forward(batch)
        loss = (logits * torch.randn(logits.shape, generator=random)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_pruned_to_what_it_has_it_is_the_given_model(drawn):
    half, _ = drawn
    model = TrainableModel(half.manifest, half.tensors)
    model.prune(0.5)
    for name, tensor in encoder_matrices(half.manifest, model.tensors()).items():
        np.testing.assert_array_equal(tensor, encoder_matrices(half.manifest, half.tensors)[name], err_msg=name)
    assert model.moved() == 0


def test_trained_weights_stay_within_the_mask_and_equal_the_golden(drawn, tmp_path):
    half, _ = drawn
    model, some = TrainableModel(half.manifest, half.tensors), few(5, 17, 1, 33)
    model.prune(0.5)
    masks = {name: mask.clone() for name, mask in model.masks.items()}
    optimizer = torch.optim.AdamW(list(model.parameters.values()), lr=0.05, weight_decay=0.0)
    step_at_random(model, optimizer, make_batch(some), 3)
    tensors, taps = model.tensors(), {}
    assert model.moved() > 0.05
    for name, q in encoder_matrices(half.manifest, tensors).items():
        assert not q[masks[name].numpy() == 0].any() and np.count_nonzero(q) <= allowed(0.5, q.size), name
        assert np.count_nonzero(q) > 0.4 * q.size
    rest = {k: v for k, v in half.manifest.items() if k not in ("format", "version", "tensors", "files")}
    path = save_artifact(tmp_path / "trained", rest, tensors, half.tokenizer_path.read_text())
    logits = model.forward(make_batch(some), lambda name, value: taps.update({name: value.detach().numpy()}))
    golden, start = GoldenModel(path), 0
    for i, (ids, types) in enumerate(some):
        trace = {}
        np.testing.assert_array_equal(golden.forward_sentence(ids, types, trace=trace), logits[i].detach().numpy())
        for name, value in taps.items():
            rows = slice(i, i + 1) if len(value) == len(some) else slice(start, start + len(ids))
            np.testing.assert_array_equal(trace[name], value[rows], err_msg=name)
        start += len(ids)


def test_falling_densities_prune_the_smallest_of_what_is_left(drawn):
    """After momentum that would move them: what is held at 0 once stays, and the masks follow from the parameters."""
    _, whole = drawn
    model, batch = TrainableModel(whole.manifest, whole.tensors), make_batch(few(9, 4))
    optimizer = torch.optim.AdamW(list(model.parameters.values()), lr=0.05, weight_decay=0.0)
    step_at_random(model, optimizer, batch, 2)
    before = {}
    for density in (0.8, 0.5, 0.2):
        sizes = {n: (model.parameters[f"{n}.weight"] / model.parameters[f"{n}.clip"].exp()[:, None]).abs().detach()
                 for n in encoder_matrices(whole.manifest, whole.tensors)}  # fmt: skip
        model.prune(density)
        for name, mask in model.masks.items():
            assert mask.sum() == allowed(density, mask.numel())
            assert sizes[name][mask == 1].min() >= sizes[name][mask == 0].max()
            if before:
                assert (mask <= before[name]).all(), name
        before = {name: mask.clone() for name, mask in model.masks.items()}
        step_at_random(model, optimizer, batch, 2)
        assert any(model.parameters[f"{n}.weight"][m == 0].abs().max() > 0 for n, m in before.items())  # momentum
        model.hold()
        for name, mask in before.items():
            assert not model.parameters[f"{name}.weight"][mask == 0].any()
        model.prune(density)
        assert all(torch.equal(mask, before[name]) for name, mask in model.masks.items())


def test_only_the_encoder_s_matrices_are_pruned(drawn):
    _, whole = drawn
    model = TrainableModel(whole.manifest, whole.tensors)
    model.prune(0.3)
    assert set(model.masks) == set(encoder_matrices(whole.manifest, whole.tensors))
    assert all(n.startswith("layers.") for n in model.masks)


def test_stages_of_density():
    steps = [stage_density(i, 100, 0.5, 0.4) for i in range(100)]
    assert steps[0] == 1 and steps[39] > 0.5 and set(steps[40:]) == {0.5}
    assert steps == sorted(steps, reverse=True) and len(set(steps[:40])) == 10
    assert steps[20] == pytest.approx(0.5 + 0.5 * 0.5**3)
    assert {stage_density(i, 5, 0.3, 0.0) for i in range(5)} == {0.3}
    for n in (1, 2, 3):
        assert stage_density(n - 1, n, 0.3, 0.9) == 0.3
