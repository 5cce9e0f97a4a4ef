# SPDX-License-Identifier: Apache-2.0
"""A slim model from a dense one: exact zeros, spans in its config, figures of what was saved, and runs that resume."""

import dataclasses
import doctest
import json
import sys

import pytest
import torch
from gems import cut_after, quiet, sentences
from safetensors.torch import load_file
from tiny_bert import random_classifier
from zynqbert.quant import float_stage
from zynqbert.quant.configuration import POSITIONS
from zynqbert.quant.finetune import score
from zynqbert.quant.masks import METHODS, serving
from zynqbert.quant.slim import Slim, ramp_at, slim, span_report
from zynqbert.quant.spans import SPANS, HardSpans, SoftSpans
from zynqbert.quant.student import load_student, read, read_config

slim_module = sys.modules[Slim.__module__]
SETTINGS = Slim(batch=8, heads_off=0.5, span_rate=1.0, span_ramp=4.0, learning_rate=1e-3)


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dense")
    random_classifier(folder, num_labels=2, hidden_size=128, num_attention_heads=4)
    return folder


def run(dense, out, settings=SETTINGS, **options) -> dict:
    return slim(dense, sentences(), out, settings, console=quiet(), **options)


@pytest.fixture(scope="module", params=METHODS)
def finished(request, dense, tmp_path_factory):
    """Settings, folder and log of a whole run."""
    settings = dataclasses.replace(SETTINGS, method=request.param)
    out = tmp_path_factory.mktemp("slim") / "out"
    return settings, out, run(dense, out, settings)


def test_pruned_weights_are_0_in_the_file(finished):
    _, out, log = finished
    spans = read_config(out)[SPANS]
    gone = torch.tensor(spans) == 0
    assert spans == log["spans"] and gone.sum() == 4 and not gone.all(dim=1).any()
    student = load_student(out)
    for name, weight in student.matrices.items():
        serves, there = serving(name, weight, gone), weight != 0
        assert not (there & ~serves).any()
        assert int(there.sum()) == min(weight.numel() // 2, int(serves.sum())), name
        assert log["matrices"][name] == round(float(there.double().mean()), 6)
    kept = sum(int((w != 0).sum()) for w in student.matrices.values())
    assert log["best"]["density"] == round(kept / sum(w.numel() for w in student.matrices.values()), 6)


def test_the_figures_are_those_of_the_folder(finished):
    _, out, log = finished
    assert log == json.loads((out / "slim.json").read_text()) and not (out / "checkpoint").exists()
    texts = sentences()
    logits, _ = read(load_student(out).weights, texts.tokens["dev"], HardSpans(log["spans"]).attend)
    found = score(logits, texts.labels["dev"])
    assert found["accuracy"] == log["best"]["dev_accuracy"] and found["loss"] == log["best"]["dev_loss"]
    assert [entry["settled"] for entry in log["epochs"]] == [False, False, True] and log["best_epoch"] == 3
    assert log["epochs"][2]["dev_loss"] == log["best"]["dev_loss"]
    assert log["best"]["heads_off"] == 0.5 and log["dense"]["dev_loss"] != log["best"]["dev_loss"]


def test_nothing_but_numbers_differs(dense, finished):
    _, out, _ = finished
    one, two = (load_file(folder / "model.safetensors") for folder in (dense, out))
    assert {name: t.shape for name, t in one.items()} == {name: t.shape for name, t in two.items()}
    config = read_config(out)
    assert config.pop(SPANS) and config == read_config(dense) | {"dtype": config["dtype"]}


@pytest.mark.parametrize("steps", [4, 8, 13, 16, 20])  # of 8 an epoch: learning, between, learning, settled, settled
def test_a_run_that_was_cut_goes_on_to_the_same_weights(dense, finished, tmp_path, monkeypatch, steps):
    settings, whole, log = finished
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, float_stage, steps)
        run(dense, tmp_path, settings)
    assert (tmp_path / "checkpoint" / "last.safetensors").is_file() == (steps >= 8)
    parts = run(dense, tmp_path, settings, resume=True)
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert parts["spans"] == log["spans"] and parts["best"] == log["best"]


def test_the_density_falls_and_spans_shorten(finished):
    _, _, log = finished
    first, second, last = log["epochs"]
    assert 1 > first["density"] > second["density"] >= last["density"]
    assert first["heads_off"] <= second["heads_off"] == last["heads_off"]


def test_without_penalty_and_pruning_nothing_is_lost(dense, tmp_path):
    still = dict(dropout=0.0, noise=0.0, span_rate=1e-9, learning_rate=1e-9)
    settings = dataclasses.replace(SETTINGS, density=1.0, span_penalty=0.0, heads_off=0.0, **still)
    log = run(dense, tmp_path, settings)
    assert log["spans"] == [[POSITIONS] * 4] * 2 and log["best"]["density"] == 1
    assert log["epochs"][-1]["dev_loss"] == pytest.approx(log["dense"]["dev_loss"], abs=1e-4)


def test_it_follows_the_dense_model(dense, tmp_path):
    steady = dict(answers=0.0, dropout=0.0, noise=0.0, distillation=1.0, span_rate=1e-9, span_penalty=0.0)
    settings = dataclasses.replace(SETTINGS, epochs=4, settle=3, **steady)
    trained = run(dense, tmp_path / "trained", settings)
    pruned = run(dense, tmp_path / "pruned", dataclasses.replace(settings, learning_rate=1e-9))
    assert trained["epochs"][-1]["train_loss"] < 0.5 * pruned["epochs"][-1]["train_loss"]


@pytest.mark.parametrize("field, value", [("density", 0.4), ("method", "movement"), ("span_penalty", 2.0)])
def test_other_settings_are_refused_by_name(dense, tmp_path, monkeypatch, field, value):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, float_stage, 9)
        run(dense, tmp_path)
    with pytest.raises(ValueError, match=f"begun with other settings of {field}: "):
        run(dense, tmp_path, dataclasses.replace(SETTINGS, **{field: value}), resume=True)


def test_spans_harden_while_they_are_learnt(dense, tmp_path, monkeypatch):
    """The last learning step has R = 1, the first those of the settings."""
    seen = []
    attend = SoftSpans.attend
    monkeypatch.setattr(SoftSpans, "attend", lambda self, *args: seen.append(self.ramp) or attend(self, *args))
    run(dense, tmp_path, dataclasses.replace(SETTINGS, epochs=3, settle=1))
    assert seen[0] == 4.0 and seen[-1] == 1.0 and sorted(seen, reverse=True) == seen
    assert 1 < seen[len(seen) * 3 // 4] < 4
    assert ramp_at(5, 8, 0.5) == 0.5  # already narrower


def test_products_in_bfloat16(dense, finished, tmp_path, monkeypatch):
    """Another training, of parameters in float32, which is not to be continued as the first."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, float_stage, 9)
        run(dense, tmp_path, precision="bfloat16")
    with pytest.raises(ValueError, match="begun with other settings of precision: "):
        run(dense, tmp_path, resume=True)
    log = run(dense, tmp_path, resume=True, precision="bfloat16")
    exact = run(dense, tmp_path / "exact")
    assert log["settings"]["precision"] == "bfloat16" and exact["settings"]["precision"] == "float32"
    losses = [[entry["train_loss"] for entry in of["epochs"]] for of in (log, exact)]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)
    saved = load_file(tmp_path / "model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in saved.values())


def test_examples():
    assert doctest.testmod(slim_module).failed == 0


def test_what_is_said_of_spans():
    assert span_report([[0, 4, 0], [128, 0, 0]]) == {"heads_off": 0.6667, "mean_span": 66.0}
