# SPDX-License-Identifier: Apache-2.0
"""A deeper model out of a shallow one: nearly the same before it is trained, and trained to follow it."""

import dataclasses
import json

import pytest
import torch
from gems import cut_after, quiet, sentences
from safetensors.torch import load_file
from tiny_bert import CONFIG, save_tokenizer
from transformers import BertConfig, BertForSequenceClassification
from zynqbert.quant import float_stage
from zynqbert.quant.batch import make_batch
from zynqbert.quant.checkpoint import Norm, load_checkpoint
from zynqbert.quant.deepen import Deepen, deepen, deepened, fit_norm
from zynqbert.quant.finetune import score
from zynqbert.quant.float_model import normalise
from zynqbert.quant.spans import whole_spans
from zynqbert.quant.student import load_student, read

SETTINGS = Deepen(layers=5, epochs=2, batch=8, learning_rate=1e-3)


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    """Of weights that its answers depend on the text with."""
    folder = tmp_path_factory.mktemp("shallow")
    torch.manual_seed(0)
    sizes = {**CONFIG, "vocab_size": 200, "num_labels": 2, "num_hidden_layers": 3, "initializer_range": 0.12}
    BertForSequenceClassification(BertConfig(**sizes)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def logits_of(student, texts) -> torch.Tensor:
    sizes = student.weights.architecture
    return read(student.weights, texts, whole_spans(sizes.layers, sizes.heads).attend)[0]


def run(shallow, out, settings=SETTINGS, **options) -> dict:
    return deepen(shallow, sentences(), out, settings, console=quiet(), **options)


@pytest.mark.parametrize("layers", [4, 6])
def test_untrained_it_answers_nearly_as_the_shallow_one(shallow, layers):
    texts, student = sentences().tokens, load_student(shallow)
    deep = deepened(student, layers, 0.02, make_batch(texts["train"]))
    one, two = logits_of(student, texts["dev"]), logits_of(deep, texts["dev"])
    spread = one.std(dim=0).mean()
    assert (one - two).abs().mean() < 0.15 * spread
    assert deep.model.config.num_hidden_layers == len(deep.weights.layers) == layers
    plain = deepened(student, layers, 1.0, make_batch(texts["train"]))  # as they are, the copies make something else
    assert (one - logits_of(plain, texts["dev"])).abs().mean() > 0.5 * spread


def test_the_layers_below_and_the_copies(shallow):
    student = load_student(shallow)
    deep = deepened(student, 5, 0.1, make_batch(sentences().tokens["train"]))
    for name, tensor in student.parameters.items():
        assert torch.equal(deep.parameters[name], tensor), name
    for i in (0, 1):
        for part in ("q", "k", "v", "ffn1"):
            assert torch.equal(deep.matrices[f"layers.{3 + i}.{part}"], student.matrices[f"layers.{i}.{part}"])
        for part in ("o", "ffn2"):
            assert torch.equal(deep.matrices[f"layers.{3 + i}.{part}"], student.matrices[f"layers.{i}.{part}"] * 0.1)


def test_a_norm_is_fitted_to_give_back_what_it_can():
    torch.manual_seed(0)
    norm, unit = Norm(torch.zeros(6), torch.zeros(6)), torch.randn(200, 6)
    unit = normalise(Norm(torch.ones(6), torch.zeros(6)), unit, 0)
    wanted = unit * torch.tensor([3.0, 1, -2, 0.5, 1, 1]) + torch.arange(6.0)
    fit_norm(norm, 7 * unit + 2, wanted, 0)
    torch.testing.assert_close(normalise(norm, 7 * unit + 2, 0), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("layers", [3, 7])
def test_layers_that_cannot_be_are_refused(shallow, tmp_path, layers):
    with pytest.raises(ValueError, match=rf"deepen\.layers {layers} is not within 4\.\.6 for a model of 3 layers"):
        run(shallow, tmp_path / "out", Deepen(layers=layers))


def test_it_is_trained_to_follow_the_shallow_one(shallow, tmp_path):
    texts = sentences()
    settings = dataclasses.replace(SETTINGS, epochs=3, share=0.3, distillation=1, features=0.1)
    log = run(shallow, tmp_path, settings)
    assert log["epochs"][-1]["train_loss"] < 0.7 * log["epochs"][0]["train_loss"]
    assert log == json.loads((tmp_path / "deepen.json").read_text())
    assert load_checkpoint(tmp_path).weights.architecture.layers == 5
    found = score(logits_of(load_student(tmp_path), texts.tokens["dev"]), texts.labels["dev"])
    assert found == {"accuracy": log["best"]["dev_accuracy"], "loss": pytest.approx(log["best"]["dev_loss"])}
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("steps", [3, 8, 11])  # of 8 an epoch
def test_a_run_that_was_cut_goes_on_to_the_same_weights(shallow, tmp_path, monkeypatch, steps):
    whole = run(shallow, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, float_stage, steps)
        run(shallow, tmp_path / "parts")
    parts = run(shallow, tmp_path / "parts", resume=True)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    for log in (whole, parts):
        del log["wall_seconds"], log["best"]["seconds"]
        for entry in log["epochs"]:
            entry.pop("seconds", None)
    assert parts == whole


def test_other_settings_and_a_begun_run_are_refused(shallow, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, float_stage, 10)
        run(shallow, tmp_path)
    with pytest.raises(ValueError, match=r"begun with other settings of share: \[0\.1\], not \[0\.2\]"):
        run(shallow, tmp_path, dataclasses.replace(SETTINGS, share=0.2), resume=True)
    with pytest.raises(ValueError, match=r"begun with other settings of seed: \[0\], not \[1\]"):
        run(shallow, tmp_path, seed=1, resume=True)
    with pytest.raises(ValueError, match=r"holds a run already; remedy: --resume"):
        run(shallow, tmp_path)
