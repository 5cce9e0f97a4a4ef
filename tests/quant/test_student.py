# SPDX-License-Identifier: Apache-2.0
"""The float model that is trained answers as transformers' own does, shares its tensors, and comes back from disk."""

import pytest
import torch
from gems import examples, sentences
from safetensors.torch import load_file
from tiny_bert import random_classifier, random_model
from transformers import AutoModelForSequenceClassification
from zynqbert.quant import float_model
from zynqbert.quant import student as student_module
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.configuration import UnsupportedModel
from zynqbert.quant.finetune import collate, predict
from zynqbert.quant.spans import whole_spans
from zynqbert.quant.student import Student, forward, load_student, load_unshared, read, read_config
from zynqbert.quant.tokens import encode


@pytest.fixture
def folder(tmp_path):
    random_classifier(tmp_path / "model", num_labels=2, num_hidden_layers=3)
    return tmp_path / "model"


def test_it_answers_as_the_float_model(folder):
    texts, student = sentences(), load_student(folder)
    attend = whole_spans(3, 2).attend
    batch, target = texts.batch("train", [4, 9, 2, 7])
    out = forward(student.weights, batch, attend)
    taps = {}
    wanted = float_model.forward(load_checkpoint(folder).weights, batch, taps.__setitem__)
    near = dict(rtol=0, atol=1e-3)  # of rows up to 20
    torch.testing.assert_close(out.logits, wanted, **near)
    torch.testing.assert_close(out.rows, taps["layers.2.ffn_norm.y"], **near)
    for i, first in enumerate(out.first):
        torch.testing.assert_close(first, taps[f"layers.{i}.ffn_norm.y"][batch.first], **near)
    assert target.tolist() == [0, 1, 0, 1]


def test_dropout_is_of_rows_and_branches_and_the_pooled_row(folder):
    texts, student = sentences(), load_student(folder)
    attend, (batch, _) = whole_spans(3, 2).attend, texts.batch("train", [4, 9])
    seen = []
    real = student_module.dropout

    def watched(x, share):
        seen.append((tuple(x.shape), share))
        return real(x, share)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student_module, "dropout", watched)
        plain = forward(student.weights, batch, attend)
        assert seen == []
        torch.manual_seed(0)
        one = forward(student.weights, batch, attend, 0.25)
    rows = (int(batch.lengths.sum()), 64)
    assert seen == [(rows, 0.25)] * 7 + [((2, 64), 0.25)]
    torch.manual_seed(0)
    assert torch.equal(forward(student.weights, batch, attend, 0.25).logits, one.logits)
    assert not torch.equal(one.rows, plain.rows) and not torch.equal(one.logits, plain.logits)


def test_texts_are_read_in_their_order(folder):
    texts, student = sentences().tokens["dev"], load_student(folder)
    logits, first = read(student.weights, texts, whole_spans(3, 2).attend, rows=40)
    torch.testing.assert_close(logits, predict(student.model, texts), rtol=0, atol=1e-5)
    with torch.no_grad():
        hidden = student.model(**collate(texts), output_hidden_states=True).hidden_states
    torch.testing.assert_close(first, torch.stack(hidden[1:], dim=1)[:, :, 0], rtol=0, atol=1e-4)
    assert first.shape == (24, 3, 64) and not logits.requires_grad


def test_a_step_changes_the_model_itself(folder, tmp_path):
    texts, student = sentences(), load_student(folder)
    before = {name: tensor.clone() for name, tensor in student.model.state_dict().items()}
    batch, _ = texts.batch("train", range(30))
    forward(student.weights, batch, whole_spans(3, 2).attend).logits.square().sum().backward()
    without = [name for name, p in student.parameters.items() if p.grad is None]
    assert not without and len(student.parameters) == 3 + 2 + 3 * 16 + 4
    with torch.no_grad():
        for parameter in student.parameters.values():
            parameter += 0.5
    student.save(tmp_path / "out", folder, zynqbert_word=[3])
    saved = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in before.items():
        moved = tensor.clone()
        moved += 0.5
        if "position_embeddings" in name:
            moved[128:] = tensor[128:]  # more than the engine has rows
        assert torch.equal(saved[name], moved), name
    assert read_config(tmp_path / "out")["zynqbert_word"] == [3]
    texts = [e.texts for e in examples(9, seed=3)]
    one, two = (encode(load_checkpoint(at).tokenizer_json, texts, 6) for at in (folder, tmp_path / "out"))
    assert one == two
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config.zynqbert_word == [3]


def test_its_matrices(folder):
    student = load_student(folder)
    assert {name.rpartition(".")[2] for name in student.matrices} == {"q", "k", "v", "o", "ffn1", "ffn2"}
    assert len(student.matrices) == 18 and student.matrices["layers.2.ffn1"] is student.weights.layers[2].ffn1.weight


def test_an_answer_for_every_token_is_refused_by_name():
    model = random_model(kind="token")
    model.config.architectures = [type(model).__name__]
    with pytest.raises(UnsupportedModel) as caught:
        Student(model)
    assert caught.value.field == "architectures"


def test_layers_that_are_shared_are_one_and_refused_where_each_needs_its_own(tmp_path):
    random_classifier(tmp_path, family="albert", num_labels=2, num_hidden_layers=3)
    student, batch = load_student(tmp_path), sentences().batch("train", [4, 9, 2])[0]
    out = forward(student.weights, batch, whole_spans(3, 2).attend)
    wanted = float_model.forward(load_checkpoint(tmp_path).weights, batch)
    torch.testing.assert_close(out.logits, wanted, rtol=0, atol=1e-3)
    out.logits.square().sum().backward()
    assert all(p.grad is not None for p in student.parameters.values())
    assert len(student.parameters) == 3 + 2 + 2 + 16 + 4 and len(student.matrices) == 6
    with pytest.raises(UnsupportedModel) as caught:
        load_unshared(tmp_path)
    assert caught.value.field == "model_type"
