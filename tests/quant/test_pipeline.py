# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint's folder and texts to an artifact's folder."""

import numpy as np
import pytest
from tiny_bert import WORDS, random_classifier
from zynqbert.quant.artifact import ArtifactError, load_artifact
from zynqbert.quant.checkpoint import UnsupportedModel
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.pipeline import quantize_checkpoint
from zynqbert.quant.tokens import encode


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("source")
    random_classifier(path, vocab_size=len(WORDS) + 2)
    return path


def test_the_pipeline(folder, tmp_path):
    seen = []
    texts = ["A gem.", "gems a gem . a", "a a a ."] * 10
    report = quantize_checkpoint(folder, texts, tmp_path / "out", word_bits=4, progress=lambda *x: seen.append(x))
    artifact = load_artifact(tmp_path / "out")
    assert artifact.manifest["architecture"]["word_bits"] == 4
    assert artifact.manifest["architecture"]["vocab"] == len(WORDS) + 2 - 3  # without [unusedN]
    assert report["dropped_words"] == 3 and report["calibration_sentences"] == 30
    assert artifact.manifest["metrics"]["source"] == folder.name
    assert sum(report["bytes"].values()) == sum(f.stat().st_size for f in (tmp_path / "out").iterdir())
    assert 6.5 < report["encoder"]["ratio"] <= 8
    totals = {total for _, _, total in seen}
    assert len(totals) == 1 and [done for _, done, _ in seen] == list(range(totals.pop() + 1))


def test_the_pipeline_compares_on_further_sentences(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("zynqbert.quant.pipeline.SENTENCES", 20)
    report = quantize_checkpoint(folder, ["A gem.", "gems a"] * 16, tmp_path / "out", softmax="normalized")
    assert report["calibration_sentences"] == 20 and report["compared_sentences"] == 12
    assert set(report["errors"]) == set(load_artifact(tmp_path / "out").manifest["scales"]["activations"])
    assert load_artifact(tmp_path / "out").manifest["softmax"] == "normalized"


def test_adaptivfloat_words(folder, tmp_path):
    options = dict(word_format="adaptivfloat", word_density=0.4)
    quantize_checkpoint(folder, ["A gem.", "gems a"] * 16, tmp_path / "out", **options)
    artifact = load_artifact(tmp_path / "out")
    assert artifact.manifest["architecture"]["word_format"] == "adaptivfloat"
    codes = artifact.tensors["embeddings.word.q"]
    assert np.count_nonzero(codes, axis=1).tolist() == [0] + [25] * 9  # ⌊0.4·64⌋; the padding word is all zeros
    assert not any(name in artifact.tensors for name in ("embeddings.word.m", "embeddings.word.s"))


def test_a_pipeline_that_fails_leaves_nothing(folder, tmp_path):
    with pytest.raises(UnsupportedModel):
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "config.json").write_text('{"model_type": "gpt2"}')
        quantize_checkpoint(tmp_path / "bad", ["a"], tmp_path / "out")
    with pytest.raises(ValueError, match="neither 4 nor 8"):
        quantize_checkpoint(folder, ["a"], tmp_path / "out", word_bits=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds other things"):
        quantize_checkpoint(folder, ["a gem", "a"], tmp_path / "mine")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "mine"]


@pytest.mark.parametrize(
    "model",
    [
        dict(family="albert", problem_type="regression", num_labels=1, num_hidden_layers=3),
        dict(kind="token"),
        dict(problem_type="multi_label_classification"),
    ],
    ids=["albert, regression", "tokens", "several labels"],
)
def test_pairs_and_other_heads(model, tmp_path, monkeypatch):
    monkeypatch.setattr("zynqbert.quant.pipeline.SENTENCES", 40)
    random_classifier(tmp_path / "model", **model)
    texts = [("A gem.", "gems a"), ("a . a", "a gem gem"), ("gem . . gems", "A"), "A gem . gem"] * 16
    report = quantize_checkpoint(tmp_path / "model", texts, tmp_path / "out")
    artifact = load_artifact(tmp_path / "out")
    task = artifact.manifest["task"]
    scores = "softmax" if "kind" in model else "none" if "family" in model else "sigmoid"
    assert (task["kind"], task["scores"]) == (model.get("kind", "sequence"), scores)
    told = {"none": {"mean_absolute_error"}, "sigmoid": {"agreement"}, "softmax": {"agreement", "divergence"}}[scores]
    assert told == {"mean_absolute_error", "agreement", "divergence"} & set(report)
    assert report.get("agreement", 1) > 0.9 and report.get("mean_absolute_error", 0) < 0.4
    # float32 bytes of one layer against nibbles, however many layers use it
    assert 6.5 < report["encoder"]["ratio"] <= 8
    tokens = encode(artifact.tokenizer_path.read_text(encoding="utf-8"), [texts[0]], 128)[0]
    assert 1 in tokens.types
    shape = GoldenModel(tmp_path / "out").forward_sentence(tokens.ids, tokens.types).shape
    labels = len(task["labels"])
    assert shape == ((len(tokens.ids), labels) if task["kind"] == "token" else (labels,))
