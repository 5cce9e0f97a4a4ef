# SPDX-License-Identifier: Apache-2.0
"""A recipe with a [tied] table: every layer's answer is trained, the artifact is one that a queue can run."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tiny_bert import random_classifier
from zynqbert.host.model_shape import ModelShape
from zynqbert.host.tied import check_tied
from zynqbert.quant import every_layer
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.batch import make_batch
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.evaluate import ramp_logits
from zynqbert.quant.every_layer import answers
from zynqbert.quant.float_model import every_ramp
from zynqbert.quant.recipe import RecipeError, load_recipe
from zynqbert.quant.spans import whole_spans
from zynqbert.quant.student import load_student, read
from zynqbert.quant.tied import with_tied_ramps
from zynqbert.quant.tokens import encode
from zynqbert.quant.train import train

SPLITS = {"train": 48, "dev": 24, "test": 30}
RECIPE = """
name = "tiny"
checkpoint = "{folder}/albert"
[data]
labels = ["no", "yes"]
train = "train.tsv"
dev = "dev.tsv"
test = "test.tsv"
max_length = 16
[finetune]
base = "{folder}/bert"
epochs = 1
batch = 8
[tied]
epochs = 24
batch = 8
learning_rate = 3e-3
dropout = 0.0
distillation = 0.1
losses = [1, 5]
[quantize]
word_bits = 8
"""


def texts_of(split):
    """Whether a text has "gem" in it is what its label says."""
    random = np.random.default_rng(len(split))
    for n in range(SPLITS[split]):
        words = random.choice(["a", "."], random.integers(2, 9)).tolist()
        yield n % 2, " ".join([*words, "gem"] if n % 2 else words)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(folder, recipe, report)."""
    folder = tmp_path_factory.mktemp("tied")
    random_classifier(folder / "bert", num_labels=2)
    random_classifier(folder / "albert", family="albert", num_hidden_layers=3, num_labels=2)
    for split in SPLITS:
        rows = (f"{('no', 'yes')[label]}\t{text}\n" for label, text in texts_of(split))
        (folder / f"{split}.tsv").write_text("".join(rows))
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder))
    recipe = load_recipe(folder / "recipe.toml")
    return folder, recipe, train(recipe, folder, folder / "out")


def test_the_artifact_is_tied_and_has_points(ran):
    folder, _, report = ran
    artifact = load_artifact(folder / "out/artifact")
    check_tied(ModelShape.of_manifest(artifact.manifest), artifact.tensors)
    points = artifact.manifest["exits"]["points"]
    assert list(points) == ["1", "5"] and all(point["foretold"] is None for point in points.values())
    texts = [text for _, text in texts_of("test")]
    tokens = encode(artifact.tokenizer_path.read_text(), texts, 16)
    right = ramp_logits(artifact.manifest, artifact.tensors, tokens).argmax(axis=2) == np.arange(30)[:, None] % 2
    assert report["test"]["layers"] == right.mean(axis=0).tolist()
    assert artifact.manifest["metrics"]["test_accuracy"] == right[:, -1].mean()
    for point in points.values():
        assert point["test"]["full_depth_accuracy"] == right[:, -1].mean() and point["test"]["sentences"] == 30
    assert json.loads((folder / "out/train.json").read_text())["folder"] == "artifact"


def test_every_layers_answer_was_trained(ran):
    folder, _, report = ran
    log = json.loads((folder / "out/float/every-layer.json").read_text())
    first, best = log["epochs"][0], log["best"]
    assert best["mean_accuracy"] == max(entry["mean_accuracy"] for entry in log["epochs"])
    assert len(best["layers"]) == 3 and best["mean_accuracy"] >= first["mean_accuracy"]
    assert min(best["layers"]) > 0.8, "the word is there in every layer's rows"
    assert report["stages"]["float"]["layers"] == best["layers"]


def test_what_is_trained_is_what_leaves(ran):
    """The head on each layer's [CLS] rows is the off-ramp that the quantizer takes."""
    folder, _, _ = ran
    student = load_student(folder / "out/float")
    checkpoint = load_checkpoint(folder / "out/float")
    tokens = encode(checkpoint.tokenizer_json, ["a gem .", "gems a", ". . gem"], 16)
    a = student.weights.architecture
    _, first = read(student.weights, tokens, whole_spans(a.layers, a.heads).attend)
    with torch.no_grad():
        found = answers(student.weights, first)
    expected = every_ramp(with_tied_ramps(checkpoint.weights), make_batch(tokens))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_finished_run_stays(ran, monkeypatch):
    folder, recipe, report = ran
    monkeypatch.setattr(every_layer, "run_epochs", None)
    before = (folder / "out/artifact/manifest.json").read_bytes()
    again = train(recipe, folder, folder / "out", resume=True)
    assert again["test"] == json.loads(json.dumps(report["test"]))
    assert (folder / "out/artifact/manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    "change, fault",
    [
        (("checkpoint", "#checkpoint"), "checkpoint: missing; remedy: name the ALBERT"),
        (("[quantize]", "[prune]\ndensity = 0.5\n[quantize]"), "prune: stands beside"),
        (("[quantize]", "[offramps]\n[quantize]"), "offramps: stands beside"),
        (("losses = [1, 5]", "losses = []"), "tied.losses"),
        (("epochs = 24", "epochs = 0"), "tied.epochs"),
    ],
)
def test_recipes_that_are_none(ran, tmp_path, change, fault):
    text = RECIPE.format(folder=ran[0]).replace(*change)
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(RecipeError, match=fault):
        load_recipe(tmp_path / "recipe.toml")


def test_a_teacher_of_another_vocabulary(ran, tmp_path):
    folder, recipe, _ = ran
    for split in SPLITS:
        (tmp_path / f"{split}.tsv").write_text((folder / f"{split}.tsv").read_text())
    random_classifier(tmp_path / "albert", family="albert", num_hidden_layers=3, num_labels=2)
    for name in ("tokenizer.json", "vocab.txt"):
        path = tmp_path / "albert" / name
        if path.is_file():
            path.write_text(path.read_text().replace('"gem": 7', '"gem": 8').replace('".": 8', '".": 7'))
    other = dataclasses.replace(recipe, checkpoint=str(tmp_path / "albert"))
    with pytest.raises(
        ValueError, match=r"its tokens are not those of .*; remedy: finetune\.base of the same vocabulary"
    ):
        train(other, tmp_path, tmp_path / "out")
