# SPDX-License-Identifier: Apache-2.0
"""The trainable model runs the artifact that it writes: untrained the given one, trained its own, to the integer."""

import numpy as np
import pytest
import torch
from random_artifact import make_random_artifact
from tiny_bert import random_classifier
from zynqbert.quant import straight_through as ste
from zynqbert.quant.artifact import load_artifact, save_artifact
from zynqbert.quant.batch import make_batch
from zynqbert.quant.fake_quant import FakeQuantModel
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.packing import unpack_nibbles
from zynqbert.quant.pipeline import quantize_checkpoint
from zynqbert.quant.tables import GELU_MIN
from zynqbert.quant.tokens import Tokens
from zynqbert.quant.trainable import TrainableModel

CONFIGURATIONS = {
    "bert": dict(layers=2, word_bits=8),
    "bert, normalized": dict(hidden=128, heads=2, head_width=64, labels=5, word_bits=4, softmax="normalized", seed=1),
    "bert, AdaptivFloat words": dict(hidden=64, heads=2, word_density=0.5, seed=4),
    "albert": dict(family="albert", layers=3, embedding=41, word_bits=4, labels=3, seed=2),
    "early": dict(
        layers=3, labels=3, layer_heads=[3, 1, 2], spans=[[128, 1, 6], [9], [2, 128]], exits=True, seed=4, word_bits=4
    ),
    "early, albert": dict(
        family="albert",
        layers=2,
        labels=2,
        layer_heads=[2, 2],
        spans=[[128, 3], [1, 20]],
        exits=True,
        exit_pooler=True,
        seed=5,
    ),
    "albert, two groups": dict(family="albert", layers=4, weights=[0, 1, 0, 1], softmax="normalized", seed=3),
}
LENGTHS = (5, 17, 1, 33, 5)
GELU_STEP = (1.5 + 0.17) / 255  # of the random artifacts' codes
FILLED_IN = ("format", "version", "tensors", "files")


def sentences(*lengths: int) -> list[Tokens]:
    rng = np.random.default_rng(7)
    return [Tokens([2, *rng.integers(0, 50, n - 1).tolist()], rng.integers(0, 2, n).tolist()) for n in lengths]


def as_the_quantizer_writes(tensors: dict) -> dict:
    """γ with the largest mantissa, β with the smallest shift: the same values, in the only form the quantizer uses."""
    out = dict(tensors)
    for name in (n.removesuffix(".gamma") for n in tensors if n.endswith(".gamma")):
        gamma, gamma_shift, beta, beta_shift = (
            tensors[f"{name}.{part}"].astype(np.int64) for part in ("gamma", "gamma_shift", "beta", "beta_shift")
        )
        while (small := (np.abs(gamma) < 64) & (gamma_shift < 31)).any():
            gamma, gamma_shift = np.where(small, 2 * gamma, gamma), gamma_shift + small
        while (wide := (np.abs(2 * beta) <= 127) & (beta_shift > 0)).any():
            beta, beta_shift = np.where(wide, 2 * beta, beta), beta_shift - wide
        out[f"{name}.gamma"], out[f"{name}.beta"] = gamma.astype(np.int8), beta.astype(np.int8)
        out[f"{name}.gamma_shift"], out[f"{name}.beta_shift"] = (
            gamma_shift.astype(np.uint8),
            beta_shift.astype(np.uint8),
        )
    return out


def save(path, manifest: dict, tensors: dict, like):
    """An artifact with the manifest of another, and with the tokenizer of `like`."""
    rest = {name: value for name, value in manifest.items() if name not in FILLED_IN}
    return save_artifact(path, rest, tensors, (like / "tokenizer.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def folder(request, tmp_path_factory):
    """A random artifact that knows the step of its GELU codes, as a calibrated one does."""
    drawn = make_random_artifact(tmp_path_factory.mktemp("drawn"), **CONFIGURATIONS[request.param])
    a = load_artifact(drawn)
    steps = {f"layers.{i}.ffn1": GELU_STEP for i in range(a.manifest["architecture"]["layers"])}
    manifest = {**a.manifest, "scales": {**a.manifest["scales"], "activations": steps}}
    return save(tmp_path_factory.mktemp("artifact"), manifest, as_the_quantizer_writes(a.tensors), drawn)


@pytest.fixture
def artifact(folder):
    return load_artifact(folder)


def run(model, batch) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits and taps of a trainable or a fake-quantized model; those of every ramp, if it has any."""
    taps = {}
    every = isinstance(model, FakeQuantModel) and model.ramps
    logits = (model.every_ramp if every else model.forward)(
        batch, lambda name, value: taps.update({name: value.detach().double().numpy()})
    )
    return logits.detach().double().numpy(), taps


def assert_golden(folder, some: list[Tokens], logits: np.ndarray, taps: dict[str, np.ndarray]) -> None:
    """The golden model of the artifact gives these logits and taps, sentence by sentence."""
    golden, start = GoldenModel(folder), 0
    exits = {"threshold": 0, "foretold": None} if golden.exits else None
    for i, (ids, types) in enumerate(some):
        trace = {}
        golden.forward_sentence(ids, types, trace=trace, exits=exits)
        names = [f"exits.{j}.logits" for j in range(golden.layers - 1)] if exits else []
        found = np.stack([trace[name][0] for name in (*names, "logits")])
        np.testing.assert_array_equal(found if exits else found[0], logits[i])
        assert set(names) <= set(taps)
        for name, value in taps.items():
            rows = slice(i, i + 1) if len(value) == len(some) else slice(start, start + len(ids))
            np.testing.assert_array_equal(trace[name], value[rows], err_msg=name)
        start += len(ids)


def step_at_random(model: TrainableModel, batch, steps: int, rate: float) -> None:
    """AdamW on random weighted sums of the logits: large steps to nowhere."""
    random = torch.Generator().manual_seed(3)
    optimizer = torch.optim.AdamW(list(model.parameters.values()), lr=rate, weight_decay=0.0)
    for _ in range(steps):
        logits = model.forward(batch)
        loss = (logits * torch.randn(logits.shape, generator=random)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_untrained_it_is_the_given_model(folder, artifact):
    some = sentences(*LENGTHS)
    batch = make_batch(some)
    logits, taps = run(TrainableModel(artifact.manifest, artifact.tensors), batch)
    expected, other = run(FakeQuantModel(artifact.manifest, artifact.tensors), batch)
    np.testing.assert_array_equal(logits, expected)
    assert list(taps) == list(other)
    for name, value in taps.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    assert_golden(folder, some, logits, taps)


def test_untrained_it_gives_the_given_tensors_back(artifact):
    out = TrainableModel(artifact.manifest, artifact.tensors).tensors()
    assert set(out) == set(artifact.tensors)
    for name, tensor in artifact.tensors.items():
        assert out[name].dtype == tensor.dtype, name
        assert out[name].tobytes() == tensor.tobytes(), name


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_a_calibrated_model_comes_back_byte_for_byte(family, tmp_path):
    """As the quantizer itself writes it, with the zero point of its GELU codes."""
    random_classifier(tmp_path / "model", family=family)
    texts = ["a gem .", "gems", ". . a", "a a gem . gems", ("a gem", "gems ."), ". gem"] * 4
    quantize_checkpoint(tmp_path / "model", texts, tmp_path / "out", word_bits=4, progress=lambda *step: None)
    a = load_artifact(tmp_path / "out")
    model = TrainableModel(a.manifest, a.tensors)
    for name, tensor in model.tensors().items():
        assert tensor.tobytes() == a.tensors[name].tobytes(), name
    zero = round(GELU_MIN / a.manifest["scales"]["activations"]["layers.1.ffn1"])
    assert model.centres["layers.1.ffn2"].max() == zero > 0


def test_other_mantissas_and_shifts_of_the_same_norm_run_alike(tmp_path):
    folder = make_random_artifact(tmp_path / "drawn", extra_entries=0)
    a, some = load_artifact(folder), sentences(9, 4)
    model = TrainableModel(a.manifest, a.tensors)
    out = model.tensors()
    assert (out["embeddings.norm.gamma"] != a.tensors["embeddings.norm.gamma"]).any()
    for name, tensor in as_the_quantizer_writes(a.tensors).items():
        np.testing.assert_array_equal(out[name], tensor, err_msg=name)
    assert_golden(folder, some, *run(model, make_batch(some)))


def test_trained_it_is_the_artifact_it_writes(folder, artifact, tmp_path):
    some = sentences(*LENGTHS)
    batch = make_batch(some)
    model = TrainableModel(artifact.manifest, artifact.tensors)
    assert model.moved() == 0
    step_at_random(model, batch, steps=6, rate=0.02)
    assert model.moved() > 0.1
    logits, taps = run(model, batch)
    tensors = model.tensors()
    assert_golden(save(tmp_path / "trained", artifact.manifest, tensors, folder), some, logits, taps)

    # every kind of integer took part
    shares: dict[str, list[float]] = {}
    for name, tensor in tensors.items():
        kind = "operand" if name.endswith(".operand") else name.rpartition(".")[2]
        shares.setdefault(kind, []).append(float((tensor != artifact.tensors[name]).mean()))
    changed = {kind: np.mean(x) for kind, x in shares.items()}
    assert all(changed[kind] > 0.1 for kind in ("weight", "bias", "m", "gamma", "beta", "operand")), changed
    assert np.abs(logits - run(FakeQuantModel(artifact.manifest, artifact.tensors), batch)[0]).max() > 100


def test_weights_start_all_over_their_steps_and_round_to_the_given_ones(artifact):
    one, same, other = (TrainableModel(artifact.manifest, artifact.tensors, seed=seed) for seed in (1, 1, 2))
    for name, weight in one.parameters.items():
        if name.endswith(".weight"):
            steps = weight.detach().double() * (7 if name.startswith("layers.") else 127)
            within = steps - torch.floor(steps + 0.5)
            if within.numel() < 500:  # a classifier of few labels
                continue
            assert within.min() < -0.45 and within.max() > 0.45 and within.mean().abs() < 0.05
            assert torch.equal(weight, same.parameters[name]) and not torch.equal(weight, other.parameters[name])
    for name, tensor in one.tensors().items():
        np.testing.assert_array_equal(tensor, other.tensors()[name], err_msg=name)


def test_what_is_not_trained_stays(artifact):
    model = TrainableModel(artifact.manifest, artifact.tensors)
    step_at_random(model, make_batch(sentences(*LENGTHS)), steps=3, rate=0.02)
    kept = [n for n in artifact.tensors if n.startswith("embeddings.") and not n.startswith("embeddings.norm.")]
    kept += [n for n in artifact.tensors if n.endswith((".entries", ".table", ".gelu", ".tanh", ".exp", ".residual"))]
    kept += [n for n in artifact.tensors if ".attention." in n]
    assert len(kept) > 20
    tensors = model.tensors()
    for name in kept:
        np.testing.assert_array_equal(tensors[name], artifact.tensors[name], err_msg=name)


def test_dead_channels_stay_dead(artifact):
    model = TrainableModel(artifact.manifest, artifact.tensors)
    step_at_random(model, make_batch(sentences(*LENGTHS)), steps=6, rate=0.02)
    tensors, dead = model.tensors(), 0
    for name in (n.removesuffix(".m") for n in tensors if n.endswith(".m") and not n.startswith("embeddings.")):
        was = artifact.tensors[f"{name}.m"] == 0
        np.testing.assert_array_equal(tensors[f"{name}.m"] == 0, was, err_msg=name)
        np.testing.assert_array_equal(tensors[f"{name}.bias"][was], artifact.tensors[f"{name}.bias"][was], err_msg=name)
        assert (tensors[f"{name}.s"][was] == 1).all()
        dead += int(was.sum())
    assert dead >= 5 * artifact.manifest["architecture"]["layers"]


@pytest.mark.parametrize("folder", ["albert, two groups"], indirect=True)
def test_shared_matrices_stay_one(artifact):
    model = TrainableModel(artifact.manifest, artifact.tensors)
    owned = {f"layers.{i}.{name}.weight" for i in (0, 1) for name in ("q", "k", "v", "o", "ffn1", "ffn2")}
    weights = {n for n in model.parameters if n.startswith("layers.") and n.endswith(".weight")}
    assert weights == owned
    # both uses move it: without the one or the other place the gradient is another
    batch = make_batch(sentences(*LENGTHS))
    model.forward(batch).sum().backward()
    both = model.parameters["layers.0.q.weight"].grad.clone()
    for place in ("layers.0.q", "layers.2.q"):
        alone = TrainableModel(artifact.manifest, artifact.tensors)
        alone.factors[place] = torch.zeros_like(alone.factors[place])  # this place is dead
        alone.forward(batch).sum().backward()
        assert not torch.equal(both, alone.parameters["layers.0.q.weight"].grad)


def test_clips_leave_the_value_alone(artifact):
    """A clip a little wider goes into the factor: what was a weight of 4 steps remains one of about 4."""
    some = sentences(30, 12)
    before = run(FakeQuantModel(artifact.manifest, artifact.tensors), make_batch(some))[1]
    model = TrainableModel(artifact.manifest, artifact.tensors)
    with torch.no_grad():
        for name, parameter in model.parameters.items():
            if "clip" in name:
                parameter += 0.25
    taps = run(model, make_batch(some))[1]
    for name in ("layers.0.q", "layers.0.v", "layers.0.ffn2.x"):
        spread = before[name].std()
        assert 0 < np.abs(taps[name] - before[name]).mean() < 0.35 * spread, name
        assert abs((taps[name] * before[name]).mean() / (before[name] ** 2).mean() - 1) < 0.1, name
    name = "layers.0.q.weight"
    old, new = (unpack_nibbles(t[name], 2 * t[name].shape[1]) for t in (artifact.tensors, model.tensors()))
    assert np.abs(new).sum() < 0.9 * np.abs(old).sum()


@pytest.mark.parametrize("folder", ["bert"], indirect=True)
@pytest.mark.parametrize("sign", [-1, 1])
def test_values_run_away_and_still_run(folder, artifact, tmp_path, sign):
    """Factors, biases and β stop at what the format holds."""
    model, some = TrainableModel(artifact.manifest, artifact.tensors), sentences(6, 3)
    with torch.no_grad():
        for name, parameter in model.parameters.items():
            parameter += sign * (50 if "clip" in name else 1e9 if name.endswith((".bias", ".beta")) else 0)
    tensors = model.tensors()
    assert set(np.abs(tensors["layers.0.q.bias"]).tolist()) >= {2**25}
    assert (tensors["layers.0.ffn_norm.beta"] == sign * 127).all() and (
        tensors["layers.0.ffn_norm.beta_shift"] == 8
    ).all()
    assert_golden(save(tmp_path / "far", artifact.manifest, tensors, folder), some, *run(model, make_batch(some)))


def test_sums_that_leave_the_array_are_refused(tmp_path):
    a = load_artifact(make_random_artifact(tmp_path, hidden=32, heads=1, ffn=2400))
    model = TrainableModel(a.manifest, a.tensors)
    with torch.no_grad():
        model.parameters["layers.0.ffn2.weight"][4] = 1.0
    with pytest.raises(ValueError, match=r"layers\.0\.ffn2\.weight, channel 4: low partial sum"):
        model.tensors()


def test_the_zero_point_of_gelu_goes_with_the_weights(artifact):
    """(Q11) Other weights of ffn2, and its bias carries their zero point: −zp·Σ w over the table channels."""
    model, name = TrainableModel(artifact.manifest, artifact.tensors), "layers.0.ffn2"
    with torch.no_grad():
        model.parameters[f"{name}.weight"] *= 0.5
    tensors, k = model.tensors(), artifact.manifest["entries"]["ffn"][0]
    moved = np.subtract(*(unpack_nibbles(t[f"{name}.weight"], k).astype(int) for t in (tensors, artifact.tensors)))
    carried = -round(0.17 / GELU_STEP) * moved @ artifact.tensors["layers.0.ffn1.table"]
    carried[artifact.tensors[f"{name}.m"] == 0] = 0
    found = tensors[f"{name}.bias"].astype(int) - artifact.tensors[f"{name}.bias"]
    assert np.abs(found - carried).max() <= 1 and np.abs(carried).max() > 500


def nearest(x: torch.Tensor) -> torch.Tensor:
    """Rounded, ties upward, with the gradient of x."""
    return x + (torch.floor(x + 0.5) - x).detach()


def real_product(given: dict, name: str, bits: int, a, theta, clip, bias, before=0.0) -> torch.Tensor:
    """f·(w·a + b) in float64 with f = m·2^−s·e^(clip + before), w = θ·limit/e^clip and b = bias/f − w·zero rounded.

    a [rows, K]; θ, clip and bias as the model's parameters, before the clip of the operand; dead channels give 0.
    """
    limit, kind = {4: 7, 8: 127}[bits], name.rpartition(".")[2]
    w = nearest(theta * limit / clip.exp()[:, None])
    assert (w.abs() > limit).any() or kind == "classifier"
    w = torch.where(w.abs() <= limit, w, w.detach().clamp(-limit, limit))
    m, s = (torch.from_numpy(given[f"{name}.{part}"].astype(float)) for part in "ms")
    f = (m * torch.exp2(-s) * (clip + before).exp()).clamp(min=1e-9)
    zero = (
        round(0.17 / GELU_STEP) * given["layers.0.ffn1.table"].astype(float) if kind == "ffn2" else np.zeros(len(w.T))
    )
    unit = {"q": 32, "ffn1": 32, "ffn2": 2000, "mapping": 2000, "classifier": 5000}[kind]  # of the bias
    b = nearest(unit * bias / f - w @ torch.from_numpy(zero))
    return torch.where(m > 0, f * (a.double() @ w.T + b), 0.0)


@pytest.mark.parametrize("folder", ["bert", "albert"], indirect=True)
def test_gradients_of_a_product(artifact):
    """By weights, their clips, biases and the operand's clip, against those of the real formula."""
    model = TrainableModel(artifact.manifest, artifact.tensors)
    step_at_random(model, make_batch(sentences(*LENGTHS)), steps=3, rate=0.02)  # so that latent values are no integers
    first = "mapping" if "mapping" in model.places else "embeddings.norm"
    befores = {"mapping": "embeddings.norm", "layers.0.q": first, "layers.0.ffn1": "layers.0.attention_norm"}
    random = torch.Generator().manual_seed(0)
    for name in ("mapping", "layers.0.q", "layers.0.ffn1", "layers.0.ffn2", "classifier"):
        if name not in model.places:
            continue
        place, before = model.places[name], befores.get(name)
        a = torch.randint(0 if place.amax == 255 else -127, place.amax + 1, (30, place.k), generator=random).float()
        latent = [model.parameters[f"{name}.{part}"] for part in ("weight", "clip", "bias")]
        latent += [p for n, p in model.parameters.items() if before and n.startswith(f"{before}.") and p.ndim == 0]
        assert len(latent) == 3 + (before is not None)
        codes = ste.requantize(*model.linear(name, a, before), -(2**30), 2**30)
        g = torch.randn(codes.shape, generator=random)
        found = torch.autograd.grad(codes, latent, g)
        leaves = [p.detach().double().requires_grad_() for p in latent]
        real = real_product(artifact.tensors, name, place.bits, a, *leaves)
        assert (real - codes).abs().max() < 0.01 * real.abs().max()
        for one, other in zip(found, torch.autograd.grad(real, leaves, g.double()), strict=True):
            assert other.abs().max() > 0
            np.testing.assert_allclose(one.double(), other, rtol=2e-5, atol=2e-5 * float(other.abs().max()))


@pytest.mark.parametrize("folder", ["bert, normalized", "albert, two groups"], indirect=True)
def test_gradients_lead_downhill(artifact):
    """Labels drawn at random are learnt by heart."""
    some = sentences(*range(4, 20))
    batch, labels = make_batch(some), len(artifact.manifest["task"]["labels"])
    target = torch.tensor(np.random.default_rng(1).integers(0, labels, len(some)))
    model = TrainableModel(artifact.manifest, artifact.tensors)
    optimizer = torch.optim.AdamW(list(model.parameters.values()), lr=2e-3, weight_decay=0.0)
    losses = []
    for _ in range(20):
        logits = model.forward(batch) * artifact.manifest["scales"]["logits"]
        loss = torch.nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_given_tensors_are_copied(artifact):
    tensors = {name: tensor.copy() for name, tensor in artifact.tensors.items()}
    model = TrainableModel(artifact.manifest, tensors)
    step_at_random(model, make_batch(sentences(7)), steps=2, rate=0.02)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, artifact.tensors[name], err_msg=name)


def test_a_kind_that_is_not_trained_here(tmp_path):
    a = load_artifact(make_random_artifact(tmp_path, kind="token"))
    with pytest.raises(ValueError, match=r"task\.kind is 'token'"):
        TrainableModel(a.manifest, a.tensors)
