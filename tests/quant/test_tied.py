# SPDX-License-Identifier: Apache-2.0
"""One set of integers for all layers: tensors alike, run by the golden model, near the float model at every depth."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_bert import random_classifier
from zynqbert.quant import float_model
from zynqbert.quant.artifact import load_artifact, save_artifact
from zynqbert.quant.batch import make_batch
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.checkpoint import Ramp, load_checkpoint
from zynqbert.quant.compare import compare
from zynqbert.quant.fake_quant import FakeQuantModel
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.options import Options
from zynqbert.quant.pipeline import quantize_checkpoint
from zynqbert.quant.quantize import quantize, steps
from zynqbert.quant.tied import joint, with_tied_ramps
from zynqbert.quant.tokens import Tokens

LAYERS = 4


def sentences(n, seed=0):
    random = np.random.default_rng(seed)
    return [Tokens(random.integers(0, 200, k).tolist(), [0] * k) for k in random.integers(3, 25, n)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    random_classifier(path, family="albert", num_hidden_layers=LAYERS)
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def quantized(checkpoint):
    """(weights, quantized, steps told)."""
    weights = with_tied_ramps(checkpoint.weights)
    told = []
    options = Options(tied=True, norm_entries=5, gelu_entries=7)
    made = quantize(
        weights, calibrate(weights, sentences(64)), task=checkpoint.task, max_length=64, options=options,
        on_step=told.append,
    )  # fmt: skip
    return weights, made, told


def first_like(name):
    part = name.split(".")
    if part[0] == "layers":
        return ".".join(["layers", "0", *part[2:]])
    return ".".join(part[2:] if part[2] == "pooler" else ["classifier", *part[2:]]) if part[0] == "exits" else name


def test_every_layer_and_every_ramp_has_the_same_integers(quantized):
    _, made, _ = quantized
    places = {name.split(".")[1] for name in made.tensors if name.startswith("layers.")}
    assert places == {str(i) for i in range(LAYERS)}
    for name, tensor in made.tensors.items():
        np.testing.assert_array_equal(tensor, made.tensors[first_like(name)], err_msg=name)
    matrices = [name for name in made.tensors if name.startswith("layers.") and name.endswith(".ffn1.weight")]
    assert matrices == ["layers.0.ffn1.weight"]
    stream = made.tensors["mapping.entries"], made.tensors["mapping.operand"]
    for part, tensor in zip(("entries", "operand"), stream, strict=True):
        np.testing.assert_array_equal(tensor, made.tensors[f"layers.0.ffn_norm.{part}"])
    scales = made.manifest["scales"]["activations"]
    assert scales["mapping.x"] == scales["layers.3.ffn_norm.y"]
    assert {len(made.manifest["entries"][name]) for name in ("attention_norm", "ffn", "ffn_norm")} == {LAYERS}


def test_the_steps_are_those_foretold(quantized):
    weights, _, told = quantized
    assert len(told) == steps(weights, tied=True)


def test_it_is_an_artifact_that_the_golden_model_runs(quantized, checkpoint, tmp_path):
    _, made, _ = quantized
    path = save_artifact(tmp_path / "a", {**made.manifest, "metrics": {}}, made.tensors, checkpoint.tokenizer_json)
    golden, artifact = GoldenModel(path), load_artifact(path)
    fake = FakeQuantModel(artifact.manifest, artifact.tensors)
    some = sentences(6, seed=1)
    every = fake.every_ramp(make_batch(some))  # [sentences, layers, labels]
    for n, sentence in enumerate(some):
        for threshold, layer in ((32767, 1), (0, LAYERS)):
            exits = {"threshold": threshold, "foretold": None}
            found = golden.forward_sentence(sentence.ids, sentence.types, exits=exits)
            assert found.layer[0] == layer
            np.testing.assert_array_equal(found.logits[0], every[n, layer - 1].numpy().astype(int))


def test_it_is_near_the_float_model_at_every_depth(quantized):
    """As near as layers of their own are, but for a factor: the ranges of the places are not the same."""
    weights, made, _ = quantized
    further = sentences(64, seed=2)
    own = quantize(
        weights, calibrate(weights, sentences(64)), task=dataclasses.replace(load_task(made)), max_length=64,
        options=Options(norm_entries=5, gelu_entries=7),
    )  # fmt: skip
    tied, apart = (compare(weights, model, further)["errors"] for model in (made, own))
    for i in range(LAYERS):
        for tap in ("attention_norm.y", "ffn_norm.y", "ffn1"):
            name = f"layers.{i}.{tap}"
            assert tied[name] < 2.5 * apart[name] + 0.02, name
    assert tied["exits.0.logits"] < 2.5 * apart["exits.0.logits"] + 0.02


def load_task(made):
    from zynqbert.quant.checkpoint import Task

    task = made.manifest["task"]
    return Task(task["kind"], task["scores"], task["labels"])


def test_peaks_are_the_widest_of_all_places(checkpoint):
    weights = with_tied_ramps(checkpoint.weights)
    calibration = calibrate(weights, sentences(20))
    found = joint(weights, calibration)
    for i in range(LAYERS):
        one = torch.stack([calibration.peaks[f"layers.{j}.ffn1.z"] for j in range(LAYERS)]).amax(dim=0)
        assert torch.equal(found.peaks[f"layers.{i}.ffn1.z"], one)
    stream = [calibration.peaks["mapping.x"], *(calibration.peaks[f"layers.{j}.ffn_norm.y"] for j in range(LAYERS))]
    assert torch.equal(found.peaks["layers.2.ffn_norm.y"], torch.stack(stream).amax(dim=0))
    assert torch.equal(found.peaks["mapping.x"], found.peaks["layers.0.ffn_norm.y"])


def test_the_ramps_are_the_head(checkpoint):
    weights = with_tied_ramps(checkpoint.weights)
    batch, taps = make_batch(sentences(3)), {}
    y = []
    float_model.forward(weights, batch, lambda name, value: taps.__setitem__(name, value))
    for i in range(LAYERS - 1):
        y.append(float_model.head(weights, taps[f"layers.{i}.ffn_norm.y"][batch.first]))
        assert torch.equal(y[-1], taps[f"exits.{i}.logits"])


class TestRefused:
    def test_layers_of_their_own(self, tmp_path):
        random_classifier(tmp_path / "bert")
        weights = load_checkpoint(tmp_path / "bert").weights
        with pytest.raises(ValueError, match="tied: 2 layers that do not all share their matrices; remedy: "):
            with_tied_ramps(weights)

    def test_other_ramps(self, checkpoint):
        w = checkpoint.weights
        other = Ramp(w.pooler, dataclasses.replace(w.classifier, bias=w.classifier.bias + 1))
        with pytest.raises(ValueError, match="tied: off-ramps that are not the model's head"):
            with_tied_ramps(dataclasses.replace(w, ramps=[other] * (LAYERS - 1)))

    def test_spans_that_differ(self, checkpoint):
        a = dataclasses.replace(checkpoint.weights.architecture, spans=((32, 32), (1, 128), (32, 32), (32, 32)))
        with pytest.raises(ValueError, match="tied: spans differ"):
            with_tied_ramps(dataclasses.replace(checkpoint.weights, architecture=a))

    def test_the_pipeline_says_so(self, tmp_path):
        random_classifier(tmp_path / "bert")
        with pytest.raises(ValueError, match="remedy: an ALBERT of one group"):
            quantize_checkpoint(
                tmp_path / "bert", ["a gem ."] * 4, tmp_path / "out", tied=True, progress=lambda *s: None
            )
        assert not (tmp_path / "out").exists()


def test_from_a_folder(tmp_path):
    random_classifier(tmp_path / "albert", family="albert")
    texts = ["a gem .", "gems", ". . a", "a a gem . gems", ". gem"] * 30
    told = []
    quantize_checkpoint(tmp_path / "albert", texts, tmp_path / "a", tied=True, progress=lambda *step: told.append(step))
    artifact = load_artifact(tmp_path / "a")
    assert artifact.manifest["exits"]["pooler"] is True and told[-1][1] == told[-1][2]
    assert [step[1] for step in told] == sorted(step[1] for step in told)
