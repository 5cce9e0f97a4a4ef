# SPDX-License-Identifier: Apache-2.0
"""Reading Hugging Face checkpoints of every family and kind; refusals by name; scores as transformers' pipelines."""

import dataclasses
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_bert import make_slim, random_classifier, tokenizer_json
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import pipeline
from zynqbert.quant import float_model
from zynqbert.quant.batch import make_batch, split_batches
from zynqbert.quant.checkpoint import UnsupportedModel, load_checkpoint
from zynqbert.quant.tokens import Tokens, encode
from zynqbert.quant.vocabulary import drop_unused_words

TEXTS = ["A gem.", "gems gem a a a.", ("a gem", "gems. A?"), ("", "a")]
VOCAB = 13


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    random_classifier(path, vocab_size=VOCAB)
    return path


@pytest.fixture(scope="module")
def albert(tmp_path_factory):
    path = tmp_path_factory.mktemp("albert")
    random_classifier(path, family="albert", vocab_size=VOCAB, num_hidden_layers=3, num_hidden_groups=2)
    return path


def edited(path, tmp_path, **changes):
    """A copy of the folder with fields of config.json changed, or left out where the change is None."""
    for file in path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = {**json.loads((path / "config.json").read_text()), **changes}
    config = {key: value for key, value in config.items() if key not in changes or value is not None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_what_is_read(source):
    checkpoint = load_checkpoint(source)
    a = checkpoint.weights.architecture
    assert (a.family, a.layers, a.hidden, a.heads, a.head_width, a.ffn) == ("bert", 2, 64, 2, 32, 70)
    assert a.vocab == VOCAB == len(checkpoint.weights.word)
    assert a.positions == 128 == len(checkpoint.weights.position)
    assert (checkpoint.task.kind, checkpoint.task.scores) == ("sequence", "softmax")
    assert checkpoint.task.labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json)
    assert tokenizer.truncation is None and tokenizer.padding is None
    assert tokenizer.encode("A gem. " * 10).ids == [4, *[6, 7, 8] * 10, 5]
    names = [name for name, _ in checkpoint.weights.linears()]
    assert names[:2] == ["layers.0.q", "layers.0.k"] and names[-2:] == ["pooler", "classifier"] and len(names) == 14


def test_shared_layers_are_one_object_and_named_once(albert):
    weights = load_checkpoint(albert).weights
    assert weights.architecture.weights == (0, 0, 2)
    assert weights.layers[0] is weights.layers[1] is not weights.layers[2]
    names = [name for name, _ in weights.linears()]
    assert names[0] == "mapping" and names[-2:] == ["pooler", "classifier"]
    assert {name.rpartition(".")[0] for name in names[1:-2]} == {"layers.0", "layers.2"} and len(names) == 15
    assert weights.mapping.weight.shape == (64, 48) and weights.word.shape == (VOCAB, 48)
    assert weights.embedding_norm.gamma.shape == (48,) and weights.position.shape == (128, 48)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_a_token_classifier_has_no_pooler(family, tmp_path):
    random_classifier(tmp_path, family=family, kind="token")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.task.kind == "token" and checkpoint.weights.pooler is None
    assert [name for name, _ in checkpoint.weights.linears()][-2:] == [
        "layers.1.ffn2" if family == "bert" else "layers.0.ffn2",
        "classifier",
    ]


def scores_of(checkpoint, text):
    """Float scores [answers, labels] by the checkpoint's own task."""
    (sentence,) = encode(checkpoint.tokenizer_json, [text], 128)
    logits = float_model.forward(checkpoint.weights, make_batch([sentence]))
    apply = {"softmax": lambda x: x.softmax(-1), "sigmoid": torch.sigmoid, "none": lambda x: x}
    return apply[checkpoint.task.scores](logits)


@pytest.mark.parametrize("family", ["bert", "albert"])
@pytest.mark.parametrize(
    ("problem", "count"),
    [
        (None, 1),
        (None, 2),
        ("single_label_classification", 3),
        ("single_label_classification", 1),
        ("multi_label_classification", 3),
        ("regression", 1),
        ("regression", 3),
    ],
)
def test_scores_are_those_of_the_text_classification_pipeline(tmp_path, family, problem, count):
    names = {i: f"name {i}" for i in range(count)}
    random_classifier(tmp_path, family=family, problem_type=problem, num_labels=count, id2label=names)
    checkpoint = load_checkpoint(tmp_path)
    classify = pipeline("text-classification", model=str(tmp_path), device="cpu")
    for text in TEXTS:
        given = text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
        found = {answer["label"]: answer["score"] for answer in classify(given, top_k=None)}
        mine = dict(zip(checkpoint.task.labels, scores_of(checkpoint, text)[0].tolist(), strict=True))
        assert mine == pytest.approx(found, abs=1e-5)  # float32, in two orders


@pytest.mark.parametrize("family", ["bert", "albert"])
@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_scores_are_those_of_the_token_classification_pipeline(tmp_path, family, problem):
    random_classifier(tmp_path, family=family, kind="token", problem_type=problem)
    checkpoint = load_checkpoint(tmp_path)
    classify = pipeline(
        "token-classification", model=str(tmp_path), device="cpu", aggregation_strategy="none", ignore_labels=[]
    )
    for text in ("A gem.", "gems gem a a a. gem"):
        found = classify(text)
        scores = scores_of(checkpoint, text)[1:-1]  # without [CLS] and [SEP]
        assert [answer["index"] for answer in found] == list(range(1, len(scores) + 1))
        assert [answer["entity"] for answer in found] == [checkpoint.task.labels[i] for i in scores.argmax(-1)]
        assert [answer["score"] for answer in found] == pytest.approx(scores.amax(-1).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "roberta"),
        ("model_type", None),
        ("architectures", ["BertForMaskedLM"]),
        ("hidden_act", "relu"),
        ("problem_type", "ranking"),
        ("id2label", {"0": "same", "1": "same", "2": "other"}),
        ("num_attention_heads", 4),
    ],
)
def test_a_field_that_does_not_fit_is_named(source, tmp_path, field, value):
    with pytest.raises(UnsupportedModel) as caught:
        load_checkpoint(edited(source, tmp_path, **{field: value}))
    assert caught.value.field == field


def test_without_architectures_a_sequence_classifier_is_assumed(source, tmp_path):
    checkpoint = load_checkpoint(edited(source, tmp_path, architectures=None))
    assert checkpoint.task.kind == "sequence"
    torch.testing.assert_close(scores_of(checkpoint, "a gem"), scores_of(load_checkpoint(source), "a gem"))


@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        ({"embedding_size": 40}, "albert.embeddings.LayerNorm.bias"),
        ({"intermediate_size": 80}, "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.bias"),
        ({"id2label": {"0": "bad", "1": "good"}}, "classifier.bias"),
    ],
)
def test_a_tensor_of_another_shape_is_named(albert, tmp_path, change, tensor):
    with pytest.raises(UnsupportedModel, match=r"another shape.*config\.json asks for") as caught:
        load_checkpoint(edited(albert, tmp_path, **change))
    assert caught.value.field == tensor


def test_a_missing_layer_is_named(albert, tmp_path):
    with pytest.raises(UnsupportedModel, match="the checkpoint lacks it") as caught:
        load_checkpoint(edited(albert, tmp_path, inner_group_num=2))
    assert caught.value.field.startswith("albert.encoder.albert_layer_groups.0.albert_layers.1.")


def test_half_precision_becomes_float32(source, tmp_path):
    path = edited(source, tmp_path)
    halves = {name: tensor.half() for name, tensor in load_file(path / "model.safetensors").items()}
    save_file(halves, path / "model.safetensors", metadata={"format": "pt"})
    weights = load_checkpoint(path).weights
    assert weights.word.dtype == weights.layers[1].ffn2.weight.dtype == weights.pooler.bias.dtype == torch.float32
    torch.testing.assert_close(weights.word, halves["bert.embeddings.word_embeddings.weight"].float(), rtol=0, atol=0)


def test_a_missing_tokenizer_is_named(source, tmp_path):
    path = edited(source, tmp_path)
    (path / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json.*save the fast tokenizer"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["{}", "no json"])
def test_a_broken_tokenizer_is_named(source, tmp_path, text):
    path = edited(source, tmp_path)
    (path / "tokenizer.json").write_text(text)
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json"):
        load_checkpoint(path)


def test_a_tokenizer_of_another_model_is_named(source, tmp_path):
    path = edited(source, tmp_path)
    tokenizer = json.loads(tokenizer_json())
    tokenizer["model"]["vocab"]["more"] = 13
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UnsupportedModel, match=r"14 tokens.*the model embeds 13"):
        load_checkpoint(path)


def test_an_encoder_without_a_head_is_refused(tmp_path):
    encoder = random_classifier(tmp_path).bert
    encoder.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"architectures = \['BertModel'\].*fine-tune"):
        load_checkpoint(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"classifier\.bias.*fine-tune"):
        load_checkpoint(edited(tmp_path, tmp_path, architectures=None))


def test_heads_of_span_0_are_gone(source, tmp_path):
    """Their rows of q, k, v and columns of o; the others' spans stay with them."""
    whole = load_checkpoint(source).weights
    path = edited(source, tmp_path)
    make_slim(path, spans=[[0, 5], [128, 1]])
    weights = load_checkpoint(path).weights
    a = weights.architecture
    assert (a.heads, a.layer_heads, a.spans) == (2, (1, 2), ((5,), (128, 1)))
    for name in "qkv":
        kept, full = getattr(weights.layers[0], name), getattr(whole.layers[0], name)
        torch.testing.assert_close(kept.weight, full.weight[32:], rtol=0, atol=0)
        torch.testing.assert_close(kept.bias, full.bias[32:], rtol=0, atol=0)
        assert getattr(weights.layers[1], name).weight.shape == (64, 64)
    torch.testing.assert_close(weights.layers[0].o.weight, whole.layers[0].o.weight[:, 32:], rtol=0, atol=0)
    torch.testing.assert_close(weights.layers[0].o.bias, whole.layers[0].o.bias, rtol=0, atol=0)
    assert weights.layers[0].ffn1.weight.shape == (70, 64)


def test_spans_that_reach_everything_are_none(source, tmp_path):
    path = edited(source, tmp_path)
    make_slim(path, spans=[[128, 0], [128, 128]])
    a = load_checkpoint(path).weights.architecture
    assert a.layer_heads == (1, 2) and a.spans is None


def test_layers_that_share_lose_the_same_heads(albert, tmp_path):
    path = edited(albert, tmp_path)
    make_slim(path, spans=[[7, 0], [7, 0], [1, 2]])
    weights = load_checkpoint(path).weights
    assert weights.layers[0] is weights.layers[1] and weights.layers[0].q.weight.shape == (32, 64)
    assert weights.architecture.spans == ((7,), (7,), (1, 2))
    make_slim(path, spans=[[7, 0], [8, 0], [1, 2]])
    with pytest.raises(UnsupportedModel, match=r"zynqbert_spans\[1\] = .*layer 0 shares its weights"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("spans", "field"),
    [
        ("all", "zynqbert_spans"),
        ([[1, 1]], "zynqbert_spans"),
        ([[1, 1], [1]], "zynqbert_spans[1]"),
        ([[1, 1], 5], "zynqbert_spans[1]"),
        ([[1, 129], [1, 1]], "zynqbert_spans[0]"),
        ([[1, -1], [1, 1]], "zynqbert_spans[0]"),
        ([[1, True], [1, 1]], "zynqbert_spans[0]"),
        ([[1, 2.0], [1, 1]], "zynqbert_spans[0]"),
        ([[1, 1], [0, 0]], "zynqbert_spans[1]"),
    ],
)
def test_spans_that_do_not_fit_are_named(source, tmp_path, spans, field):
    with pytest.raises(UnsupportedModel, match=r"is not supported: .* slim again") as caught:
        load_checkpoint(edited(source, tmp_path, zynqbert_spans=spans))
    assert caught.value.field == field


@pytest.mark.parametrize("pooler", [False, True])
def test_off_ramps_beside_a_checkpoint(source, tmp_path, pooler):
    path = edited(source, tmp_path)
    make_slim(path, pooler=pooler)
    weights, file = load_checkpoint(path).weights, load_file(path / "offramps.safetensors")
    [ramp] = weights.ramps
    assert torch.equal(ramp.classifier.weight, file["0.weight"]) and torch.equal(ramp.classifier.bias, file["0.bias"])
    assert (ramp.pooler is not None) == pooler and (not pooler or torch.equal(ramp.pooler.bias, file["0.pooler.bias"]))
    names = ["pooler", "classifier", *(["exits.0.pooler"] if pooler else []), "exits.0"]
    assert [name for name, _ in weights.linears()][12:] == names
    sentences = [Tokens([4, 6, 7, 5], [0] * 4), Tokens([4, 5], [0] * 2)]
    taps = {}
    logits = float_model.forward(weights, make_batch(sentences), taps.__setitem__)
    row = taps["layers.0.ffn_norm.y"][[0, 4]]
    if pooler:
        row = torch.tanh(row @ file["0.pooler.weight"].T + file["0.pooler.bias"])
    torch.testing.assert_close(taps["exits.0.logits"], row @ file["0.weight"].T + file["0.bias"])
    every = float_model.every_ramp(weights, make_batch(sentences))
    torch.testing.assert_close(every, torch.stack([taps["exits.0.logits"], logits], dim=1), rtol=0, atol=0)


def test_a_checkpoint_without_the_field_has_no_ramps(source):
    assert load_checkpoint(source).weights.ramps == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (dict(zynqbert_offramps=[]), "zynqbert_offramps"),
        (dict(zynqbert_offramps={"shared": False}), "zynqbert_offramps"),
        (dict(problem_type="regression"), "zynqbert_offramps"),
        (dict(zynqbert_offramps={"pooler": True}), "offramps.safetensors: 0.pooler.bias"),
        (dict(num_hidden_layers=1), "num_hidden_layers"),
    ],
)
def test_off_ramps_that_do_not_fit_are_named(source, tmp_path, change, field):
    (tmp_path / "slim").mkdir()
    (tmp_path / "other").mkdir()
    path = edited(source, tmp_path / "slim")
    make_slim(path, pooler=False)
    with pytest.raises(UnsupportedModel) as caught:
        load_checkpoint(edited(path, tmp_path / "other", **change))
    assert caught.value.field == field


def test_a_file_of_off_ramps_that_is_missing_cut_or_another_models(source, tmp_path):
    path = edited(source, tmp_path)
    make_slim(path, pooler=False)
    file = path / "offramps.safetensors"
    tensors, data = load_file(file), file.read_bytes()
    file.write_bytes(data[:20])
    with pytest.raises(UnsupportedModel, match=r"offramps\.safetensors = .*restore it"):
        load_checkpoint(path)
    file.unlink()
    with pytest.raises(UnsupportedModel, match=r"offramps\.safetensors = None.*restore the file"):
        load_checkpoint(path)
    for edit, field in (
        ({"1.bias": tensors["0.bias"].clone()}, "1.bias"),
        ({"0.weight": tensors["0.weight"][:2].clone()}, "0.weight"),
    ):
        save_file({**tensors, **edit}, file)
        with pytest.raises(UnsupportedModel, match="train the off-ramps again") as caught:
            load_checkpoint(path)
        assert caught.value.field == f"offramps.safetensors: {field}"


def test_code_in_a_checkpoint_never_runs(source, tmp_path):
    mark = tmp_path / "ran"
    path = edited(source, tmp_path, auto_map={"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"})
    (path / "evil.py").write_text(
        f"open({str(mark)!r}, 'w')\nfrom transformers import BertConfig as C, BertModel as M\n"
    )
    load_checkpoint(path)
    assert not mark.exists()


def test_a_pickle_that_runs_code_is_refused(source, tmp_path):
    path = edited(source, tmp_path)
    (path / "model.safetensors").unlink()

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    with open(path / "pytorch_model.bin", "wb") as file:
        pickle.dump({"x": Evil()}, file)
    with pytest.raises(Exception, match=r".+"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("family", ["bert", "albert"])
@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_unused_words_go_and_the_answers_stay(tmp_path, family, kind):
    random_classifier(tmp_path, family=family, kind=kind, vocab_size=VOCAB)
    before = load_checkpoint(tmp_path)
    after = drop_unused_words(before)
    assert after.weights.architecture.vocab == len(after.weights.word) == VOCAB - 3 and after.task == before.task
    old, new = (Tokenizer.from_str(c.tokenizer_json) for c in (before, after))
    assert "[unused1]" not in new.get_vocab()
    for text in (("A gem.",), ("gems [unused1] a . [unused2]",), ("[CLS] [MASK] unknown",), ("",), ("a gem", "gems .")):
        a, b = old.encode(*text), new.encode(*text)
        assert a.tokens == b.tokens and a.type_ids == b.type_ids and max(b.ids) < len(after.weights.word)
        sides = ((before, a), (after, b))
        logits = [float_model.forward(c.weights, make_batch([Tokens(e.ids, e.type_ids)])) for c, e in sides]
        torch.testing.assert_close(*logits, rtol=0, atol=0)


def test_a_tokenizer_of_another_kind_keeps_its_words(source):
    checkpoint = load_checkpoint(source)
    tokenizer = json.loads(checkpoint.tokenizer_json)
    tokenizer["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    other = dataclasses.replace(checkpoint, tokenizer_json=json.dumps(tokenizer))
    assert drop_unused_words(other) is other


def test_an_albert_with_the_tokenizer_of_its_own_kind(tmp_path):
    """ALBERT's is a Unigram model on SentencePiece's marks, its special tokens are numbered otherwise than BERT's."""
    random_classifier(tmp_path, family="albert", vocab_size=VOCAB)
    vocab = [(word, -float(i)) for i, word in enumerate(["<pad>", "<unk>", "[CLS]", "[SEP]", "▁a", "▁gem", "s", "."])]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    checkpoint = load_checkpoint(tmp_path)
    assert drop_unused_words(checkpoint) is checkpoint
    (pair,) = encode(checkpoint.tokenizer_json, [("a gems.", "gem")], 128)
    assert pair == Tokens([2, 4, 5, 6, 7, 3, 5, 3], [0, 0, 0, 0, 0, 0, 1, 1])
    assert float_model.forward(checkpoint.weights, make_batch([pair])).isfinite().all()


def test_texts_and_pairs_become_tokens():
    pair, text, cut = encode(tokenizer_json(), [("a gem", "gems."), "gems", ("a a a a a", "gem")], 7)
    assert pair == Tokens([4, 6, 7, 5, 7, 9, 5], [0, 0, 0, 0, 1, 1, 1])  # "." is cut, the longer text first
    assert text == Tokens([4, 7, 9, 5], [0, 0, 0, 0])
    assert cut == Tokens([4, 6, 6, 6, 5, 7, 5], [0, 0, 0, 0, 0, 1, 1])


def test_batches_hold_whole_sentences_in_order():
    sentences = [Tokens([1] * n, [0] * (n - 1) + [1]) for n in (5, 9, 3, 20, 1)]
    batches = list(split_batches(sentences, rows=12))
    assert [b.lengths.tolist() for b in batches] == [[5], [9, 3], [20], [1]]
    batch = batches[1]
    assert batch.first.tolist() == [0, 9] and batch.position.tolist() == [*range(9), *range(3)]
    assert batch.type.tolist() == [*[0] * 8, 1, 0, 0, 1]
    assert sorted(torch.cat([g.flatten() for g in batch.groups()]).tolist()) == list(range(12))
