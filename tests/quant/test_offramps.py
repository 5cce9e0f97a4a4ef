# SPDX-License-Identifier: Apache-2.0
"""Off-ramps: what they read and how they are kept, trained beside the backbone or with it."""

import dataclasses
import json

import pytest
import torch
from gems import cut_after, quiet, sentences
from safetensors.torch import load_file
from tiny_bert import random_classifier
from zynqbert.quant import float_stage
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.finetune import collate
from zynqbert.quant.float_model import every_ramp
from zynqbert.quant.offramps import FIELD, FILE, OffRamps, load_ramps, offramp_logits, train_offramps
from zynqbert.quant.ramps import layer_accuracy
from zynqbert.quant.spans import SPANS, HardSpans
from zynqbert.quant.student import load_student, read, read_config

LAYERS, SPANNED = 3, [[128, 0], [2, 3], [0, 1]]
SETTINGS = OffRamps(batch=8, backbone_rate=1e-3, learning_rate=0.02)
FROZEN = dataclasses.replace(SETTINGS, train="frozen")


@pytest.fixture(scope="module")
def slim(tmp_path_factory):
    """A model with zeros among its weights and heads that are gone."""
    folder = tmp_path_factory.mktemp("slim")
    model = random_classifier(folder, num_labels=2, num_hidden_layers=LAYERS)
    for i, parameter in enumerate(p for n, p in model.named_parameters() if "layer." in n and p.ndim == 2):
        parameter.data[torch.rand(parameter.shape, generator=torch.Generator().manual_seed(i)) < 0.5] = 0
    setattr(model.config, SPANS, SPANNED)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    random_classifier(folder, num_labels=2, num_hidden_layers=LAYERS)
    return folder


@pytest.fixture(scope="module")
def run(slim, dense):
    def follow(out, settings=SETTINGS, **options) -> dict:
        return train_offramps(slim, dense, sentences(), out, settings, console=quiet(), **options)

    return follow


@pytest.fixture(scope="module", params=["frozen", "jointly"])
def finished(request, run, tmp_path_factory):
    """Settings, folder and log of a whole run."""
    settings, out = dataclasses.replace(SETTINGS, train=request.param), tmp_path_factory.mktemp("ramps") / "out"
    return settings, out, run(out, settings)


def test_a_frozen_backbone_is_untouched(slim, run, tmp_path):
    run(tmp_path, FROZEN)
    one, two = (load_file(folder / "model.safetensors") for folder in (slim, tmp_path))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_jointly_zeros_and_spans_stay(slim, run, tmp_path):
    run(tmp_path)
    before, after = load_student(slim), load_student(tmp_path)
    for name, weight in before.matrices.items():
        assert torch.equal(weight == 0, after.matrices[name] == 0), name
        assert not torch.equal(weight, after.matrices[name])
    assert not torch.equal(before.parameters["word"], after.parameters["word"])


def test_the_folder(finished):
    settings, out, log = finished
    config = read_config(out)
    assert config[FIELD] == {"pooler": False, "shared": False, "trained": settings.train} and config[SPANS] == SPANNED
    shapes = {name: tuple(t.shape) for name, t in load_file(out / FILE).items()}
    assert shapes == {f"{i}.{part}": shape for i in range(2) for part, shape in (("weight", (2, 64)), ("bias", (2,)))}
    assert log == json.loads((out / "offramps.json").read_text()) and not (out / "checkpoint").exists()


def test_the_figures_are_those_of_the_folder(finished):
    _, out, log = finished
    texts = sentences()
    logits = offramp_logits(out, texts.tokens["dev"])
    assert logits.shape == (24, LAYERS, 2)
    last, first = read(load_student(out).weights, texts.tokens["dev"], HardSpans(SPANNED).attend)
    assert torch.equal(logits[:, -1], last)
    ramps = load_file(out / FILE)
    for i in range(2):
        torch.testing.assert_close(logits[:, i], first[:, i] @ ramps[f"{i}.weight"].T + ramps[f"{i}.bias"])
    layers = layer_accuracy(logits, texts.labels["dev"])
    assert layers == log["best"]["layers"] and layers[-1] == log["best"]["dev_accuracy"]
    assert log["best"]["mean_accuracy"] == pytest.approx(sum(layers) / 3, abs=1e-6)
    right = (logits.argmax(-1) == torch.tensor(texts.labels["dev"])[:, None]).double().mean(dim=0)
    assert layers == right.tolist()


def test_they_learn(run, tmp_path):
    steady = dict(distillation=0.1, noise=0.0, dropout=0.0)
    log = run(tmp_path / "jointly", dataclasses.replace(SETTINGS, epochs=24, **steady))
    assert log["best"]["mean_accuracy"] > 0.8
    frozen = run(tmp_path / "frozen", dataclasses.replace(FROZEN, epochs=12, distillation=1.0))
    assert frozen["epochs"][-1]["train_loss"] < 0.6 * frozen["epochs"][0]["train_loss"]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("train", ["frozen", "jointly"])
def test_poolers_and_shared_ramps(run, tmp_path, shared, train):
    settings = dataclasses.replace(SETTINGS, pooler=True, shared=shared, train=train, epochs=1)
    run(tmp_path, settings)
    ramps = load_file(tmp_path / FILE)
    assert {name for name in ramps if name.startswith("1.")} == {f"1.{part}" for part in (
        "weight", "bias", "pooler.weight", "pooler.bias")}  # fmt: skip
    for part in ("weight", "bias", "pooler.weight", "pooler.bias"):
        assert torch.equal(ramps[f"0.{part}"], ramps[f"1.{part}"]) == shared, part
    assert ramps["0.weight"].abs().sum() > 0
    texts = sentences().tokens["dev"]
    _, first = read(load_student(tmp_path).weights, texts, HardSpans(SPANNED).attend)
    pooled = torch.tanh(first[:, 1] @ ramps["1.pooler.weight"].T + ramps["1.pooler.bias"])
    wanted = pooled @ ramps["1.weight"].T + ramps["1.bias"]
    torch.testing.assert_close(offramp_logits(tmp_path, texts)[:, 1], wanted, rtol=0, atol=1e-5)
    assert read_config(tmp_path)[FIELD] == {"pooler": True, "shared": shared, "trained": train}


@pytest.mark.parametrize("steps", [3, 8, 12])  # of 8 an epoch
def test_a_run_that_was_cut_goes_on_to_the_same_weights(run, finished, tmp_path, monkeypatch, steps):
    settings, whole, log = finished
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, float_stage, steps)
        run(tmp_path, settings)
    parts = run(tmp_path, settings, resume=True)
    for file in (FILE, "model.safetensors"):
        one, two = (load_file(folder / file) for folder in (whole, tmp_path))
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert parts["best"]["layers"] == log["best"]["layers"]


@pytest.mark.parametrize("field, value", [("pooler", True), ("shared", True), ("train", "frozen"), ("batch", 9)])
def test_other_settings_are_refused_by_name(run, tmp_path, monkeypatch, field, value):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, float_stage, 9)
        run(tmp_path)
    with pytest.raises(ValueError, match=f"begun with other settings of {field}: "):
        run(tmp_path, dataclasses.replace(SETTINGS, **{field: value}), resume=True)


def test_a_folder_without_ramps(dense):
    with pytest.raises(ValueError, match="has no off-ramps"):
        load_ramps(dense)


def test_rows_that_ramps_read_are_cls_rows(dense, tmp_path):
    """Of a model whose heads see everything: transformers' own hidden states."""
    texts = sentences()
    train_offramps(dense, dense, texts, tmp_path, dataclasses.replace(FROZEN, epochs=1), console=quiet())
    student, ramps = load_student(tmp_path), load_file(tmp_path / FILE)
    with torch.no_grad():
        hidden = student.model.eval()(**collate(texts.tokens["dev"]), output_hidden_states=True).hidden_states
    wanted = hidden[1][:, 0] @ ramps["0.weight"].T + ramps["0.bias"]
    torch.testing.assert_close(offramp_logits(tmp_path, texts.tokens["dev"])[:, 0], wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("settings", [SETTINGS, FROZEN], ids=["jointly", "frozen"])
def test_of_layers_that_share_their_weights(tmp_path, settings):
    """An ALBERT's places have ramps of their own; its one layer stays one."""
    source = tmp_path / "albert"
    random_classifier(source, family="albert", num_labels=2, num_hidden_layers=LAYERS)
    texts = sentences()
    settings = dataclasses.replace(settings, epochs=1)
    train_offramps(source, source, texts, tmp_path / "out", settings, console=quiet())
    weights = load_checkpoint(tmp_path / "out").weights
    assert weights.architecture.weights == (0,) * LAYERS and len(weights.ramps) == LAYERS - 1
    batch, _ = texts.batch("dev", range(24))
    found = offramp_logits(tmp_path / "out", texts.tokens["dev"])
    torch.testing.assert_close(found, every_ramp(weights, batch).clone(), rtol=0, atol=1e-3)
    before, after = (load_file(at / "model.safetensors") for at in (source, tmp_path / "out"))
    changed = any(not torch.equal(before[name], after[name]) for name in before)
    assert changed == (settings.train == "jointly")
