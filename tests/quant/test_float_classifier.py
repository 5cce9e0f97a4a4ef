# SPDX-License-Identifier: Apache-2.0
"""A float model that is compared with an artifact is the one it was made of, as far as can be seen; others are refused
by what differs."""

import json

import pytest
import torch
from tiny_bert import make_slim, random_classifier
from transformers import AutoModelForSequenceClassification
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.configuration import UnsupportedModel
from zynqbert.quant.float_classifier import FloatClassifier, OtherModel, torch_threads
from zynqbert.quant.pipeline import quantize_checkpoint

TEXTS = [f"{'gem ' * n}a . gems" for n in range(1, 9)]


def quantized(folder, **changes):
    random_classifier(folder / "float", **changes)
    quantize_checkpoint(folder / "float", TEXTS, folder / "artifact", progress=lambda *_: None)
    return load_artifact(folder / "artifact")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return quantized(tmp_path_factory.mktemp("bert"))


def test_its_own_model_is_accepted(artifact, tmp_path):
    """Though the artifact lacks the words that no text names."""
    random_classifier(tmp_path / "float")
    model = FloatClassifier.load(tmp_path / "float")
    model.check(artifact)
    assert model.checkpoint.weights.architecture.vocab > artifact.manifest["architecture"]["vocab"]


def test_albert_is_accepted(tmp_path):
    made = quantized(tmp_path, family="albert")
    FloatClassifier.load(tmp_path / "float").check(made)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"family": "albert"}, "family is albert, the artifact's is bert"),
        ({"num_hidden_layers": 1}, "layers is 1, the artifact's is 2"),
        ({"intermediate_size": 80}, "ffn is 80, the artifact's is 70"),
        ({"hidden_act": "gelu_new"}, "activation is gelu_new, the artifact's is gelu"),
        ({"num_labels": 2}, "labels is LABEL_0, LABEL_1, the artifact's is LABEL_0, LABEL_1, LABEL_2"),
        ({"id2label": {0: "c", 1: "b", 2: "a"}}, "labels is c, b, a, the artifact's is LABEL_0, LABEL_1, LABEL_2"),
    ],
    ids=["family", "layers", "ffn", "activation", "labels", "names"],
)
def test_another_model_is_refused_by_what_differs(artifact, tmp_path, changes, told):
    random_classifier(tmp_path / "float", **changes)
    with pytest.raises(OtherModel, match=f"^{told}$"):
        FloatClassifier.load(tmp_path / "float").check(artifact)


def test_another_tokenizer_is_refused(artifact, tmp_path):
    random_classifier(tmp_path / "float")
    path = tmp_path / "float" / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(settings))
    with pytest.raises(OtherModel, match="tokenizer is not the artifact's"):
        FloatClassifier.load(tmp_path / "float").check(artifact)


@pytest.mark.parametrize("spans", [[[128, 0], [128, 128]], [[5, 128], [128, 128]]], ids=["a head gone", "a short span"])
def test_a_slim_model_is_refused(tmp_path, spans):
    """transformers does not know of spans, and would answer otherwise."""
    random_classifier(tmp_path)
    make_slim(tmp_path, spans)
    with pytest.raises(UnsupportedModel, match=r"zynqbert_spans .* give the model from before it was made slim"):
        FloatClassifier.load(tmp_path)


def test_off_ramps_change_nothing(tmp_path):
    """The last layer's answer is the model's; their file is none of the model's bytes."""
    plain = random_classifier(tmp_path)
    make_slim(tmp_path, [[128, 128], [128, 128]], pooler=True)
    model = FloatClassifier.load(tmp_path)
    (inputs,) = model.inputs(["a gem ."], 128)
    with torch.inference_mode():
        assert torch.equal(model.logits(inputs), plain(**inputs).logits)
    assert model.bytes == (tmp_path / "model.safetensors").stat().st_size
    assert (tmp_path / "offramps.safetensors").is_file()


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "token"},
        {"problem_type": "regression", "num_labels": 1},
        {"problem_type": "multi_label_classification"},
    ],
    ids=["token", "regression", "several labels"],
)
def test_other_tasks_are_refused(tmp_path, changes):
    random_classifier(tmp_path, **changes)
    with pytest.raises(UnsupportedModel, match=r"the task = .*one label a text"):
        FloatClassifier.load(tmp_path)


def test_texts_are_cut_and_logits_are_transformers_own(tmp_path):
    random_classifier(tmp_path)
    model = FloatClassifier.load(tmp_path)
    inputs = model.inputs(["gem " * 40, ("a gem", "gems .")], 16)
    assert inputs[0]["input_ids"].shape == (1, 16) and inputs[1]["token_type_ids"].tolist() == [[0] * 4 + [1] * 4]
    own = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        expected = own(**inputs[0]).logits
    assert torch.equal(model.logits(inputs[0]), expected)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
