# SPDX-License-Identifier: Apache-2.0
"""Reading Hugging Face checkpoints: refusals by field, and a float model equal to transformers'."""

import json

import pytest
import torch
from tiny_bert import CONFIG, tokenizer_json
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, BertModel
from zynqbert.quant import float_model
from zynqbert.quant.batch import make_batch, split_batches
from zynqbert.quant.checkpoint import UnsupportedModel, check_config, check_labels, load_checkpoint
from zynqbert.quant.vocabulary import drop_unused_words


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small random classifier whose norms and biases are random too."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**CONFIG)).eval()
    for name, parameter in model.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):
            parameter.data += 0.3 * torch.randn_like(parameter)
        else:
            parameter.data *= 4
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    (path / "tokenizer.json").write_text(tokenizer_json())
    return path, model


def edited(path, tmp_path, **changes):
    """A copy of the folder with fields of config.json changed."""
    for file in path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    return tmp_path


def test_the_float_model_equals_transformers(source):
    path, model = source
    checkpoint = load_checkpoint(path)
    random = torch.Generator().manual_seed(1)
    sentences = [torch.randint(0, 13, (n,), generator=random).tolist() for n in (1, 5, 128, 5, 17)]
    taps = {}
    logits = float_model.forward(checkpoint.weights, make_batch(sentences), taps.__setitem__)
    start = 0
    for i, sentence in enumerate(sentences):
        with torch.inference_mode():
            truth = model(torch.tensor([sentence]), output_hidden_states=True)
        torch.testing.assert_close(logits[i], truth.logits[0], rtol=0, atol=1e-4)
        rows = slice(start, start + len(sentence))
        for layer, name in enumerate(("embeddings.norm.y", "layers.0.ffn_norm.y", "layers.1.ffn_norm.y")):
            torch.testing.assert_close(taps[name][rows], truth.hidden_states[layer][0], rtol=0, atol=1e-4)
        start += len(sentence)


def test_what_is_read(source):
    checkpoint = load_checkpoint(source[0])
    a = checkpoint.weights.architecture
    assert (a.layers, a.hidden, a.heads, a.head_width, a.ffn, a.vocab) == (2, 64, 2, 32, 70, 13)
    assert a.positions == 128 == len(checkpoint.weights.position)
    assert checkpoint.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json)
    assert tokenizer.truncation is None and tokenizer.padding is None
    assert tokenizer.encode("A gem. " * 10).ids == [4, *[6, 7, 8] * 10, 5]
    names = [name for name, _ in checkpoint.weights.linears()]
    assert names[:2] == ["layers.0.q", "layers.0.k"] and names[-2:] == ["pooler", "classifier"] and len(names) == 14


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "roberta"),
        ("model_type", None),
        ("hidden_act", "relu"),
        ("hidden_act", "gelu_new"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("hidden_size", 1056),
        ("hidden_size", "64"),
        ("num_attention_heads", 4),
        ("num_attention_heads", 33),
        ("num_attention_heads", 0),
        ("intermediate_size", 4501),
        ("intermediate_size", True),
        ("num_hidden_layers", 0),
        ("vocab_size", 0),
        ("layer_norm_eps", 1e-3),
        ("layer_norm_eps", None),
        ("problem_type", "regression"),
        ("problem_type", "multi_label_classification"),
        ("id2label", {"0": "score"}),
        ("id2label", {str(i): str(i) for i in range(1025)}),
    ],
)
def test_a_field_that_does_not_fit_is_named(source, tmp_path, field, value):
    with pytest.raises(UnsupportedModel) as caught:
        load_checkpoint(edited(source[0], tmp_path, **{field: value}))
    assert caught.value.field == field
    assert str(caught.value).startswith(field) and len(str(caught.value).split(": ", 1)[1]) > 20


def test_limits_are_allowed():
    assert check_config({"model_type": "bert", "hidden_size": 1024, "num_attention_heads": 32,
                         "intermediate_size": 4500}).head_width == 32  # fmt: skip
    assert check_config({"model_type": "bert", "hidden_size": 1024, "num_attention_heads": 16}).head_width == 64
    assert len(check_labels({"id2label": {str(i): str(i) for i in range(1024)}})) == 1024
    assert check_labels({"id2label": {"1": "b", "0": "a"}}) == ["a", "b"]


def test_a_missing_tokenizer_is_named(source, tmp_path):
    path = edited(source[0], tmp_path)
    (path / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json.*save the fast tokenizer"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["{}", "no json"])
def test_a_broken_tokenizer_is_named(source, tmp_path, text):
    path = edited(source[0], tmp_path)
    (path / "tokenizer.json").write_text(text)
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json"):
        load_checkpoint(path)


def test_a_tokenizer_of_another_model_is_named(source, tmp_path):
    path = edited(source[0], tmp_path)
    tokenizer = json.loads(tokenizer_json())
    tokenizer["model"]["vocab"]["more"] = 13
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UnsupportedModel, match=r"14 tokens.*the model embeds 13"):
        load_checkpoint(path)


def test_an_encoder_without_a_head_is_refused(source, tmp_path):
    BertModel(BertConfig(**CONFIG)).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    with pytest.raises(UnsupportedModel, match=r"classifier\.bias.*fine-tune"):
        load_checkpoint(tmp_path)


def test_code_in_a_checkpoint_never_runs(source, tmp_path):
    mark = tmp_path / "ran"
    path = edited(
        source[0], tmp_path, auto_map={"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"}
    )
    (path / "evil.py").write_text(
        f"open({str(mark)!r}, 'w')\nfrom transformers import BertConfig as C, BertModel as M\n"
    )
    load_checkpoint(path)
    assert not mark.exists()


def test_a_pickle_that_runs_code_is_refused(source, tmp_path):
    import pickle

    path = edited(source[0], tmp_path)
    (path / "model.safetensors").unlink()

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    with open(path / "pytorch_model.bin", "wb") as file:
        pickle.dump({"x": Evil()}, file)
    with pytest.raises(Exception, match=r".+"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_unused_words_go_and_the_answers_stay(source):
    before = load_checkpoint(source[0])
    after = drop_unused_words(before)
    assert after.weights.architecture.vocab == len(after.weights.word) == before.weights.architecture.vocab - 3
    old, new = (Tokenizer.from_str(c.tokenizer_json) for c in (before, after))
    assert "[unused1]" not in new.get_vocab()
    for text in ("A gem.", "gems [unused1] a . [unused2]", "[CLS] [MASK] unknown", ""):
        a, b = old.encode(text), new.encode(text)
        assert a.tokens == b.tokens and max(b.ids) < len(after.weights.word)
        logits = [float_model.forward(c.weights, make_batch([e.ids])) for c, e in ((before, a), (after, b))]
        torch.testing.assert_close(*logits, rtol=0, atol=0)


def test_a_tokenizer_of_another_kind_keeps_its_words(source):
    import dataclasses

    checkpoint = load_checkpoint(source[0])
    tokenizer = json.loads(checkpoint.tokenizer_json)
    tokenizer["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    other = dataclasses.replace(checkpoint, tokenizer_json=json.dumps(tokenizer))
    assert drop_unused_words(other) is other


def test_batches_hold_whole_sentences_in_order():
    sentences = [[1] * n for n in (5, 9, 3, 20, 1)]
    batches = list(split_batches(sentences, rows=12))
    assert [b.lengths.tolist() for b in batches] == [[5], [9, 3], [20], [1]]
    batch = batches[1]
    assert batch.first.tolist() == [0, 9] and batch.position.tolist() == [*range(9), *range(3)]
    assert sorted(torch.cat([g.flatten() for g in batch.groups()]).tolist()) == list(range(12))
