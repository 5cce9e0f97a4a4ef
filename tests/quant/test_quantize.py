# SPDX-License-Identifier: Apache-2.0
"""From a float classifier to an artifact: small random models, the golden model against the float one tap by tap."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from tiny_bert import make_slim, random_classifier
from zynqbert.quant import float_model
from zynqbert.quant.artifact import load_artifact, save_artifact
from zynqbert.quant.batch import make_batch
from zynqbert.quant.calibrate import calibrate, clip_scale, score_scales, split_channels, split_gelu, tanh_step
from zynqbert.quant.checkpoint import Linear, load_checkpoint
from zynqbert.quant.compare import compare, compare_answers
from zynqbert.quant.evaluate import ramp_entropies, ramp_logits
from zynqbert.quant.fake_quant import FakeQuantModel
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.linears import fit, make_operand
from zynqbert.quant.quantize import Options, quantize, steps
from zynqbert.quant.scales import encode_factor, snap_factor
from zynqbert.quant.tables import SCORE_STEP, gelu, gelu_table
from zynqbert.quant.tokens import Tokens

LENGTHS = [5, 9, 17, 3, 30, 12, 25, 8]

# Bounds on ‖integer − float‖/‖float − mean‖, generous by about a half: 4-bit weights leave some 10 % a layer in a
# random model, whose operands are independent of each other; 8-bit steps leave 1 %.
BOUNDS = {
    "embeddings.sum": 0.02, "embeddings.norm.y": 0.02, "mapping.x": 0.03, "q": 0.2, "k": 0.2, "v": 0.2,
    "context": 0.25, "o.x": 0.2, "attention_norm.y": 0.2, "ffn1": 0.3, "ffn2.x": 0.25, "ffn_norm.y": 0.25,
    "pooler": 0.25, "logits": 0.25,
}  # fmt: skip
OPTIONS = Options(norm_entries=4, gelu_entries=6)
# Model, options, and what the bounds are raised by: for 4-bit words, for a pooler near saturation, for
# matrices that fit several layers behind a stream that no outlier channels dominate.
MADE = {
    "8 bit": ({}, OPTIONS, 0.0),
    "AdaptivFloat words": ({}, dataclasses.replace(OPTIONS, word_format="adaptivfloat"), 0.02),
    "4 bit, normalized": ({}, dataclasses.replace(OPTIONS, word_bits=4, softmax="normalized"), 0.15),
    "regression": (dict(problem_type="regression", num_labels=1, hidden_act="gelu_new"), OPTIONS, 0.2),
    "tokens": (dict(kind="token"), OPTIONS, 0.1),
    "albert": (dict(family="albert", hidden_act="gelu_new"), OPTIONS, 0.15),
    "early": (dict(num_hidden_layers=3, slim=dict(spans=[[3, 128], [128, 9], [0, 128]], pooler=False)), OPTIONS, 0.2),
    "early, albert": (
        dict(family="albert", num_hidden_layers=3, slim=dict(spans=[[7, 0]] * 3, pooler=True)),
        OPTIONS,
        0.25,
    ),
    "albert, tokens": (dict(family="albert", kind="token", num_hidden_layers=3), OPTIONS, 0.25),
}


def random_sentences(n: int, seed: int) -> list[Tokens]:
    """Every other one is a pair."""
    random = torch.Generator().manual_seed(seed)
    sentences = []
    for i in range(n):
        length = LENGTHS[i % len(LENGTHS)]
        second = (length // 2) * (i % 2)
        types = [0] * (length - second) + [1] * second
        sentences.append(Tokens(torch.randint(0, 200, (length,), generator=random).tolist(), types))
    return sentences


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    random_classifier(path)
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def calibration(checkpoint):
    return calibrate(checkpoint.weights, random_sentences(96, seed=1))


@pytest.fixture(scope="module", params=MADE)
def made(request, tmp_path_factory):
    """(checkpoint, quantized, folder, what the bounds are raised by)."""
    model, options, more = MADE[request.param]
    source = tmp_path_factory.mktemp("model")
    random_classifier(source, **{name: value for name, value in model.items() if name != "slim"})
    if "slim" in model:
        make_slim(source, **model["slim"])
    checkpoint = load_checkpoint(source)
    calibration = calibrate(checkpoint.weights, random_sentences(96, seed=1))
    quantized = quantize(checkpoint.weights, calibration, task=checkpoint.task, max_length=128, options=options)
    path = tmp_path_factory.mktemp("out") / "artifact"
    save_artifact(path, quantized.manifest, quantized.tensors, checkpoint.tokenizer_json)
    return checkpoint, quantized, path, more


def test_the_batch_model_is_the_golden_model(made):
    _, _, path, _ = made
    artifact = load_artifact(path)
    sentences = random_sentences(9, seed=5)
    taps, golden, start = {}, GoldenModel(path), 0
    model, exits = FakeQuantModel(artifact.manifest, artifact.tensors), None
    run = model.forward
    if artifact.manifest["exits"]:
        run, exits = model.every_ramp, {"threshold": 0, "foretold": None}
    run(make_batch(sentences), taps.__setitem__)
    assert any("exits" in name for name in taps) == (exits is not None)
    for i, sentence in enumerate(sentences):
        trace = {}
        golden.forward_sentence(sentence.ids, sentence.types, trace=trace, exits=exits)
        for name, value in taps.items():
            rows = slice(i, i + 1) if len(value) == len(sentences) else slice(start, start + len(sentence.ids))
            np.testing.assert_array_equal(trace[name], value[rows].numpy(), err_msg=name)
        start += len(sentence.ids)


def test_every_buffer_is_near_the_float_model(made):
    checkpoint, quantized, _, more = made
    errors = compare(checkpoint.weights, quantized, random_sentences(40, seed=2))["errors"]
    taps = {}
    float_model.forward(checkpoint.weights, make_batch(random_sentences(1, seed=2)), taps.__setitem__)
    assert set(errors) == {n for n in taps if not n.endswith(("gathered", "pooler.z", "ffn1.z"))}
    for name, error in errors.items():
        bound = BOUNDS[name] if name in BOUNDS else BOUNDS[name.split(".", 2)[2]]
        assert error < bound + more, (name, error)


def test_the_decoded_logits_are_near_the_float_ones(made):
    """Sentence by sentence through the golden model: within 0.2 of their spread on average, 0.35 for the worst."""
    checkpoint, quantized, path, more = made
    golden, scale = GoldenModel(path), quantized.manifest["scales"]["logits"]
    truth, found = [], []
    for sentence in random_sentences(24, seed=3):
        truth.append(float_model.forward(checkpoint.weights, make_batch([sentence])).numpy())
        logits = golden.forward_sentence(sentence.ids, sentence.types)
        found.append(np.atleast_2d(logits) * scale)
        assert found[-1].shape == truth[-1].shape
    truth, found = np.concatenate(truth), np.concatenate(found)
    assert np.abs(found - truth).mean() < (0.2 + min(more, 0.15)) * (truth - truth.mean(axis=0)).std()


def test_the_tensors_keep_the_format(made):
    checkpoint, quantized, path, _ = made
    a, t, m = load_artifact(path), quantized.tensors, quantized.manifest  # loading checks every value
    for name, tensor in t.items():
        np.testing.assert_array_equal(a.tensors[name], tensor)
    assert {n.removesuffix(".weight") for n in t if n.endswith(".weight")} == {
        n for n, _ in checkpoint.weights.linears()
    }
    assert {n for n in t if n.endswith(".gelu")} == {f"layers.{i}.gelu" for i in range(m["architecture"]["layers"])}
    width, entries = m["architecture"]["embedding"], m["entries"]
    assert all(width < k <= width + 4 for k in entries["embedding_norm"])
    assert all(64 < k <= 68 for k in [*entries["attention_norm"], *entries["mapping"]])
    assert all(70 <= n <= 76 for n in entries["ffn"])
    # the outlier channels are the ones split
    assert set(np.flatnonzero(t["layers.0.attention_norm.entries"] > 1)) <= {3, 40}


def test_every_ramp_has_the_grid_of_the_logits(made):
    """And the entropy's factor is that grid's: the golden entropies are near those of the float logits."""
    checkpoint, quantized, _, _ = made
    exits, step = quantized.manifest["exits"], quantized.manifest["scales"]["logits"]
    if not checkpoint.weights.ramps:
        assert exits is None
        return
    m, s = exits["entropy"]
    assert m * 2.0**-s == pytest.approx(step * 1024 / np.log(2), rel=2.0**-16) and exits["points"] == {}
    assert np.log(3) * 2**12 / 2 ** exits["row_shift"] < 256 <= np.log(3) * 2**12 / 2 ** (exits["row_shift"] - 1)
    some = random_sentences(24, seed=3)
    logits = ramp_logits(quantized.manifest, quantized.tensors, some)
    truth = float_model.every_ramp(checkpoint.weights, make_batch(some)).double()
    assert np.abs(logits).max() > 5000 and np.abs(logits).max() < 32767
    for i in range(3):
        error = np.abs(logits[:, i] * step - truth[:, i].numpy()).mean()
        assert error < 0.35 * float((truth[:, i] - truth[:, i].mean(dim=0)).std()), i
    chances = torch.softmax(torch.from_numpy(logits * step), dim=-1)
    entropy = -(chances * chances.log()).sum(dim=-1).numpy()
    assert np.abs(ramp_entropies(quantized.manifest, logits) / 2**12 - entropy).max() < 2**-9


def test_quantizing_twice_gives_the_same(checkpoint, calibration):
    one, two = (quantize(checkpoint.weights, calibration, task=checkpoint.task, max_length=64) for _ in range(2))
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor, two.tensors[name], err_msg=name)


def test_without_extra_entries(checkpoint, calibration):
    options = Options(norm_entries=0, gelu_entries=0)
    names = []
    quantized = quantize(
        checkpoint.weights, calibration, task=checkpoint.task, max_length=300, options=options, on_step=names.append
    )
    assert quantized.manifest["entries"] == {
        "embedding_norm": [64], "mapping": [], "attention_norm": [64, 64], "ffn_norm": [64, 64], "ffn": [70, 70]
    }  # fmt: skip
    assert quantized.manifest["task"]["max_length"] == 128
    assert len(names) == steps(checkpoint.weights) == len(set(names))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(softmax="sparse"), "softmax 'sparse' is"),
        (Options(word_bits=2), "word_bits 2 is"),
        (Options(word_format="float"), "word_format 'float' is"),
        (Options(word_format="adaptivfloat", word_bits=4), "word_bits 4: AdaptivFloat codes have 8"),
        (Options(word_format="adaptivfloat", word_density=0.0), "word_density 0.0 is not above 0 and at most 1"),
        (Options(word_density=0.5), "word_density 0.5 is below 1, which only adaptivfloat rows can be"),
    ],
)
def test_an_option_that_is_none(checkpoint, calibration, options, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        quantize(checkpoint.weights, calibration, task=checkpoint.task, max_length=8, options=options)


def test_calibration_needs_text(checkpoint):
    with pytest.raises(ValueError, match="at least one sentence"):
        calibrate(checkpoint.weights, [])


def test_calibration_sees_the_segments(checkpoint):
    first, second = (calibrate(checkpoint.weights, [Tokens([4, 7], [t, t])]).peaks["embeddings.sum"] for t in (0, 1))
    weights, ids = checkpoint.weights, torch.tensor([4, 7])
    for t, peak in ((0, first), (1, second)):
        expected = (weights.word[ids] + weights.position[:2] + weights.type[t]).abs().amax(dim=0)
        torch.testing.assert_close(peak, expected)


def test_degenerate_weights_still_make_an_artifact(checkpoint, tmp_path):
    """Zero rows, zero matrices, a constant norm and one sentence to calibrate on."""
    weights = dataclasses.replace(checkpoint.weights, layers=list(checkpoint.weights.layers))
    layer = weights.layers[0]
    weights.layers[0] = dataclasses.replace(
        layer,
        q=Linear(torch.zeros_like(layer.q.weight), layer.q.bias),
        v=Linear(torch.zeros_like(layer.v.weight), torch.zeros_like(layer.v.bias)),
        ffn1=Linear(layer.ffn1.weight * 0, layer.ffn1.bias * 50),
        ffn2=Linear(layer.ffn2.weight * 1e-6, layer.ffn2.bias),
    )
    weights.word[5] = 0
    calibration = calibrate(weights, [Tokens([4, 5, 6], [0] * 3)])
    quantized = quantize(weights, calibration, task=checkpoint.task, max_length=64)
    path = save_artifact(tmp_path / "a", quantized.manifest, quantized.tensors, checkpoint.tokenizer_json)
    assert GoldenModel(path).forward_sentence([4, 5, 6]).shape == (3,)


def test_a_weight_that_cannot_be_represented_is_named(checkpoint, calibration):
    weights = dataclasses.replace(checkpoint.weights, layers=list(checkpoint.weights.layers))
    layer = weights.layers[1]
    weight = layer.attention_norm.gamma.clone()
    weight[7] = 1e9
    weights.layers[1] = dataclasses.replace(
        layer, attention_norm=dataclasses.replace(layer.attention_norm, gamma=weight)
    )
    with pytest.raises(ValueError, match=r"gamma: channel 7|gamma.*7"):
        quantize(weights, calibration, task=checkpoint.task, max_length=64, options=Options(follow=False))


def test_answers_are_compared_as_they_are_read():
    truth = torch.tensor([[2.0, -1.0], [0.5, 1.0], [-3.0, 4.0], [1.0, 0.0]]).double()
    found = truth + torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -2.0], [0.0, 0.5]])
    softmax = compare_answers("softmax", truth, found)
    assert softmax["agreement"] == 0.75
    p, q = torch.softmax(truth, dim=1), torch.softmax(found, dim=1)
    assert softmax["divergence"] == pytest.approx(float((p * (p / q).log()).sum(dim=1).mean()))
    assert compare_answers("sigmoid", truth, found) == {"agreement": 7 / 8}
    spread = truth.numpy().std(axis=0)
    expected = np.mean([1 / 4 / spread[0], 2.5 / 4 / spread[1]])
    assert compare_answers("none", truth, found) == {"mean_absolute_error": pytest.approx(expected)}


# the searches --------------------------------------------------------------------------------------------------------


def test_fitting_beats_rounding_each_weight():
    """On correlated operands the compensated integers are nearer in the output than the nearest ones."""
    random = np.random.default_rng(0)
    a = np.rint(random.normal(0, 30, (600, 12)) @ random.normal(0, 1, (12, 40)) / 4 + random.normal(0, 3, (600, 40)))
    a = torch.from_numpy(np.clip(a, -127, 127)).float()
    linear = Linear(torch.from_numpy(random.normal(0, 0.1, (24, 40))).float(), torch.zeros(24))
    share = torch.full((600,), 1 / 600)
    operand = make_operand(a, np.full(40, 0.05), np.arange(40), 127, share)
    target = a @ linear.weight.T * 0.05 + 3
    out = np.full(24, 0.1)
    got = fit(linear, operand, target, out, bits=4, ridge=0.01, follow=True, sweeps=2)
    assert np.abs(got.q).max() <= 7
    np.testing.assert_array_equal(snap_factor(got.unit / out) * out, got.unit)

    def lost(q, unit, bias) -> float:
        real = (a.double() @ torch.from_numpy(q.astype(float)).T) * torch.from_numpy(unit) + torch.from_numpy(bias)
        return float((real - target).square().mean())

    step = np.abs(linear.weight.numpy()).max(axis=1) / 7
    plain = np.rint(linear.weight.numpy() / step[:, None])
    unit = step * 0.05
    bias = (
        target.mean(dim=0).double() - torch.from_numpy(unit) * (torch.from_numpy(plain).double() @ operand.mean)
    ).numpy()
    assert lost(got.q, got.unit, got.bias) < 0.2 * lost(plain, unit, bias)
    real = (a.double() @ torch.from_numpy(got.q.astype(float)).T) * torch.from_numpy(got.unit)
    np.testing.assert_allclose((real + torch.from_numpy(got.bias)).mean(dim=0), target.mean(dim=0), atol=1e-4)


def test_outliers_are_split():
    y = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    y[:, 7] *= 12
    y[:, 9] = 20 + y[:, 9]
    importance = torch.ones(64)
    plain, e = split_channels(y, importance, 0)
    assert (e == 1).all()
    scale, e = split_channels(y, importance, 16)
    assert e[7] >= 4 and e[9] >= 4 and e.sum() <= 64 + 16 and scale < plain / 3
    importance[9] = 0  # nobody reads it
    _, e = split_channels(y, importance, 16)
    assert e[9] == 1 and e[7] > 1


def test_gelu_overflow_is_split():
    z = torch.randn(3000, 20, generator=torch.Generator().manual_seed(0)) - 0.5
    z[:, 4] = z[:, 4] * 2 + 9
    importance = torch.ones(20)
    plain, e = split_gelu(z, importance, 0)
    assert (e == 1).all() and plain.x_hi > 8
    coding, e = split_gelu(z, importance, 8)
    assert e[4] >= 4 and e.sum() <= 20 + 8 and coding.scale < plain.scale / 2

    def lost(coding, e) -> float:
        total = 0.0
        for c in range(20):
            x = z[:, c].double().numpy()
            i = np.clip(np.floor((x - coding.zero) / coding.step + 0.5), -128, 127).astype(int)
            out = gelu_table(coding)[i + 128] * coding.scale - coding.zp * coding.scale
            for j in range(1, e[c]):
                rest = (x - coding.x_hi - (j - 1) * 255 * coding.scale) / coding.scale
                out = out + np.clip(np.floor(rest + 0.5), 0, 255) * coding.scale
            total += ((out - gelu(x)) ** 2).mean()
        return total

    assert lost(coding, e) < 0.3 * lost(plain, np.ones(20, int))


def test_scores_have_one_exact_factor_a_head():
    random = torch.Generator().manual_seed(0)
    q = torch.randn(500, 128, generator=random) * torch.linspace(0.1, 8, 128)
    k = torch.randn(500, 128, generator=random) * torch.linspace(5, 0.3, 128)
    sq, sk = score_scales(q, k, 64)
    product = (sq * sk).reshape(2, 64)
    np.testing.assert_allclose(product, product[:, :1].repeat(64, axis=1), rtol=1e-12)
    factor = product[:, 0] / 8 / SCORE_STEP
    np.testing.assert_allclose(snap_factor(factor), factor, rtol=1e-12)
    error = [torch.clamp(torch.round(x / s), -127, 127) * s - x for x, s in ((q, sq), (k, sk))]
    scores = (q[:, :64] @ k[:, :64].T, (q + error[0])[:, :64].float() @ (k + error[1])[:, :64].float().T)
    assert (scores[1] - scores[0]).square().mean() < 0.02**2 * scores[0].square().mean()


def test_weights_far_above_their_output_have_a_factor():
    torch.manual_seed(0)
    a = torch.randint(-127, 128, (40, 6)).float()
    operand = make_operand(a, np.full(6, 0.02), np.arange(6), 127, torch.full((40,), 1 / 40))
    large = Linear(torch.randn(3, 6) * 1e4, torch.zeros(3))
    fitted = fit(
        large, operand, a @ large.weight.T * 0.02, np.full(3, 0.001), bits=8, ridge=0.1, follow=False, sweeps=1
    )
    assert (encode_factor(fitted.unit / 0.001)[0] >= 128).all()


def test_a_head_of_hardly_any_scores_has_a_factor():
    torch.manual_seed(0)
    q, k = torch.randn(50, 64), torch.randn(50, 64)
    q[:, 32:] *= 1e-6
    k[:, 32:] = 0
    scale = np.prod(score_scales(q, k, 32), axis=0)[::32]
    assert np.isfinite(scale).all() and (encode_factor(scale / math.sqrt(32) / SCORE_STEP)[0] >= 128).all()


def test_clip_and_tanh_searches():
    x = torch.randn(20000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.0])
    scale = clip_scale(x, x.abs().amax(dim=0), levels=7, clips=np.linspace(1, 0.3, 15).tolist())
    assert 2.0 < 7 * scale[0] < 3.2  # the known optimum of 4 bits on a normal, 2.6 to 2.7
    assert scale[1] / scale[0] == pytest.approx(5, rel=0.1) and scale[2] > 0
    assert 0.5 < 127 * tanh_step(0.2 * x[:, 0]) < 1.6
    assert 2.0 < 127 * tanh_step(3 * x[:, 0]) < 5.0
