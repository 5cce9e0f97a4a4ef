# SPDX-License-Identifier: Apache-2.0
"""What of a config.json the engine runs, what it refuses and by which name."""

import pytest
import torch
from transformers import AlbertConfig, BertConfig
from transformers.activations import ACT2FN
from zynqbert.quant.configuration import Task, UnsupportedModel, check_config, check_task
from zynqbert.quant.float_model import activate

BERT = {"model_type": "bert"}
ALBERT_BASE = {
    "model_type": "albert",
    "embedding_size": 128,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
SEQUENCE = {"architectures": ["AlbertForSequenceClassification"]}
TOKEN = {"architectures": ["BertForTokenClassification"]}


@pytest.mark.parametrize(
    ("base", "field", "value"),
    [
        ({}, "model_type", "roberta"),
        ({}, "model_type", None),
        ({}, "model_type", ["bert"]),
        (BERT, "hidden_act", "relu"),
        (BERT, "hidden_act", ["gelu"]),
        (BERT, "hidden_act", "gelu_10"),
        (ALBERT_BASE, "hidden_act", "quick_gelu"),
        (BERT, "position_embedding_type", "relative_key"),
        (ALBERT_BASE, "position_embedding_type", "relative_key_query"),
        (BERT, "is_decoder", True),
        (BERT, "add_cross_attention", True),
        (BERT, "pruned_heads", {"0": [1]}),
        (BERT, "hidden_size", 1056),
        (BERT, "hidden_size", "64"),
        (BERT, "hidden_size", None),
        (ALBERT_BASE, "hidden_size", 2048),
        (BERT, "num_attention_heads", 4),
        (BERT, "num_attention_heads", 33),
        (BERT, "num_attention_heads", 0),
        (BERT, "intermediate_size", 4501),
        (BERT, "intermediate_size", True),
        (BERT, "num_hidden_layers", 0),
        (BERT, "num_hidden_layers", 257),
        (BERT, "vocab_size", 0),
        (BERT, "max_position_embeddings", 0),
        (BERT, "type_vocab_size", 0),
        (BERT, "layer_norm_eps", 1e-3),
        (BERT, "layer_norm_eps", None),
        (ALBERT_BASE, "embedding_size", 1025),
        (ALBERT_BASE, "embedding_size", 7),
        (ALBERT_BASE, "num_hidden_groups", 13),
        (ALBERT_BASE, "num_hidden_groups", 0),
        (ALBERT_BASE, "inner_group_num", 0),
        (ALBERT_BASE, "inner_group_num", 22),  # 12 · 22 layers are more than 256
    ],
)
def test_a_field_that_does_not_fit_is_named(base, field, value):
    check_config(base or BERT)
    with pytest.raises(UnsupportedModel) as caught:
        check_config({**base, field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} = {value!r} is not supported: ")
    assert len(str(caught.value).split(": ")[-1]) > 20


def test_a_default_that_does_not_fit_is_shown():
    with pytest.raises(UnsupportedModel, match="hidden_size = 4096 is not supported"):
        check_config({"model_type": "albert"})


@pytest.mark.parametrize("config", [BertConfig(), AlbertConfig(**ALBERT_BASE)])
def test_a_field_that_is_not_there_has_the_default_of_transformers(config):
    stated = config.to_dict()
    sizes = {key: stated[key] for key in ALBERT_BASE if config.model_type == "albert"}
    assert check_config({"model_type": config.model_type, **sizes}) == check_config(stated)


def test_limits_are_allowed():
    widest = {"hidden_size": 1024, "intermediate_size": 4500}
    assert check_config({**BERT, **widest, "num_attention_heads": 32}).head_width == 32
    assert check_config({**BERT, **widest, "num_attention_heads": 16}).head_width == 64
    assert [check_config({**ALBERT_BASE, "embedding_size": n}).embedding for n in (8, 1024)] == [8, 1024]
    assert check_config({**ALBERT_BASE, "inner_group_num": 21}).layers == 252


def test_bert_has_matrices_of_its_own_in_every_layer():
    a = check_config(BERT)
    assert (a.family, a.layers, a.hidden, a.embedding, a.activation) == ("bert", 12, 768, 768, "gelu")
    assert a.weights == tuple(range(12)) and a.positions == 128


@pytest.mark.parametrize(
    ("layers", "groups", "inner", "weights"),
    [
        (12, 1, 1, (0,) * 12),
        (4, 2, 1, (0, 0, 2, 2)),
        (5, 2, 1, (0, 0, 0, 3, 3)),
        (3, 3, 1, (0, 1, 2)),
        (2, 1, 2, (0, 1, 0, 1)),
        (4, 2, 2, (0, 1, 0, 1, 4, 5, 4, 5)),
    ],
)
def test_albert_layers_point_to_the_first_place_of_their_matrices(layers, groups, inner, weights):
    counts = {"num_hidden_layers": layers, "num_hidden_groups": groups, "inner_group_num": inner}
    a = check_config({**ALBERT_BASE, **counts})
    assert (a.family, a.embedding, a.activation) == ("albert", 128, "gelu_new")
    assert a.layers == layers * inner and a.weights == weights


@pytest.mark.parametrize("name", sorted(name for name in ACT2FN if "gelu" in name))
@pytest.mark.parametrize("base", [BERT, ALBERT_BASE])
def test_every_name_of_gelu_is_known_or_refused(name, base):
    x = torch.linspace(-12, 12, 2001)
    if name in ("gelu_10", "quick_gelu"):  # another function
        with pytest.raises(UnsupportedModel):
            check_config({**base, "hidden_act": name})
    else:
        activation = check_config({**base, "hidden_act": name}).activation
        torch.testing.assert_close(
            activate(x, activation), ACT2FN[name](x), rtol=0, atol=2e-6
        )  # the two differ by 5e-4


@pytest.mark.parametrize(
    ("settings", "kind", "scores"),
    [
        ({}, "sequence", "softmax"),
        ({"architectures": None}, "sequence", "softmax"),
        ({"architectures": []}, "sequence", "softmax"),
        (SEQUENCE, "sequence", "softmax"),
        ({**SEQUENCE, "problem_type": "single_label_classification"}, "sequence", "softmax"),
        ({**SEQUENCE, "problem_type": "multi_label_classification"}, "sequence", "sigmoid"),
        ({**SEQUENCE, "problem_type": "regression"}, "sequence", "none"),
        ({**SEQUENCE, "num_labels": 1}, "sequence", "sigmoid"),
        ({**SEQUENCE, "num_labels": 1, "problem_type": "regression"}, "sequence", "none"),
        (TOKEN, "token", "softmax"),
        ({**TOKEN, "num_labels": 1}, "token", "softmax"),
        ({**TOKEN, "problem_type": "multi_label_classification"}, "token", "softmax"),
    ],
)
def test_kind_and_scores(settings, kind, scores):
    task = check_task(settings)
    assert (task.kind, task.scores) == (kind, scores)


def test_labels_are_ordered_by_index():
    assert check_task({"id2label": {"10": "k", **{str(i): chr(97 + i) for i in range(10)}}}).labels == list(
        "abcdefghijk"
    )
    assert check_task({"num_labels": 3}) == Task("sequence", "softmax", ["LABEL_0", "LABEL_1", "LABEL_2"])
    assert check_task({"id2label": {0: "only"}}).labels == ["only"]
    assert len(check_task({"id2label": {str(i): str(i) for i in range(1024)}}).labels) == 1024


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architectures", ["BertForMaskedLM"]),
        ("architectures", ["BertModel"]),
        ("architectures", ["AlbertForQuestionAnswering", "AlbertForSequenceClassification"]),
        ("architectures", [None]),
        ("problem_type", "ranking"),
        ("id2label", {}),
        ("id2label", ["bad", "good"]),
        ("id2label", {str(i): str(i) for i in range(1025)}),
        ("id2label", {"1": "bad", "2": "good"}),
        ("id2label", {"x": "bad", "y": "good"}),
        ("id2label", {"0": "same", "1": "same"}),
        ("id2label", {"0": "", "1": "good"}),
        ("num_labels", 0),
        ("num_labels", 1025),
        ("num_labels", "2"),
        ("num_labels", True),
    ],
)
def test_a_task_that_does_not_fit_is_named(field, value):
    with pytest.raises(UnsupportedModel) as caught:
        check_task({**SEQUENCE, field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field} = ") and len(str(caught.value)) < 250


def test_a_model_without_a_classifier_is_told_what_to_do():
    with pytest.raises(UnsupportedModel, match=r"\['BertModel'\].*fine-tune one first and save it"):
        check_task({"architectures": ["BertModel"]})
