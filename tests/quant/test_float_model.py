# SPDX-License-Identifier: Apache-2.0
"""The float model, tap by tap and in its logits, against transformers' own models on random weights."""

import pytest
import torch
from tiny_bert import random_model
from zynqbert.quant import float_model
from zynqbert.quant.batch import make_batch
from zynqbert.quant.checkpoint import weights_of, with_spans
from zynqbert.quant.configuration import check_config
from zynqbert.quant.tokens import Tokens

# Largest difference allowed, of values up to about 6: two orders of float32 sums differ by 1e-5 at most, the two forms
# of GELU or a forgotten segment by more than 1e-4.
ATOL = 2e-5
BASE = dict(
    vocab_size=1000,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    max_position_embeddings=512,
)
ALBERT_BASE = {**BASE, "embedding_size": 128}


def random_pairs(vocab: int) -> list[Tokens]:
    """Pairs of several lengths, one as long as a pass, two of one length, and a single token."""
    random = torch.Generator().manual_seed(1)
    return [
        Tokens(torch.randint(0, vocab, (n,), generator=random).tolist(), [0] * (n - n // 3) + [1] * (n // 3))
        for n in (7, 128, 40, 1, 40)
    ]


def model_of(**options) -> torch.nn.Module:
    """A random model in which every part matters: no value so large that another drowns beside it."""
    model = random_model(**options)
    for name, parameter in model.named_parameters():
        if name.lower().endswith(("layernorm.weight", "layer_norm.weight")):
            parameter.data = 1 + 0.2 * torch.randn_like(parameter)
        elif "embeddings" in name and parameter.ndim == 2:
            parameter.data = torch.randn_like(parameter)
        elif parameter.ndim == 2:
            parameter.data = torch.randn_like(parameter) / parameter.shape[1] ** 0.5
    return model


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(dict(family="bert", **BASE), id="BERT-base"),
        pytest.param(dict(family="albert", **ALBERT_BASE), id="ALBERT-base"),
        pytest.param(dict(family="bert", hidden_act="gelu_new"), id="bert, gelu_new"),
        pytest.param(dict(family="bert", type_vocab_size=3, num_labels=1), id="bert, one label"),
        pytest.param(dict(family="albert", hidden_act="gelu"), id="albert, gelu"),
        pytest.param(dict(family="albert", embedding_size=96), id="albert, embeddings wider than hidden"),
        pytest.param(dict(family="albert", num_hidden_layers=5, num_hidden_groups=2), id="albert, two groups"),
        pytest.param(dict(family="albert", num_hidden_layers=4, inner_group_num=2), id="albert, two inner layers"),
        pytest.param(
            dict(family="albert", num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2), id="albert, both"
        ),
        pytest.param(dict(family="bert", kind="token", num_labels=5), id="bert, tokens"),
        pytest.param(dict(family="albert", kind="token", num_labels=5), id="albert, tokens"),
    ],
)
def test_it_equals_transformers(options):
    model = model_of(**options)
    weights = weights_of(model, check_config(model.config.to_dict()))
    sentences = random_pairs(model.config.vocab_size)
    taps = {}
    logits = float_model.forward(weights, make_batch(sentences), taps.__setitem__)
    rows = sum(len(s.ids) for s in sentences)
    token = options.get("kind") == "token"
    assert logits.shape == (rows if token else len(sentences), model.config.num_labels)
    torch.testing.assert_close(taps["logits"], logits, rtol=0, atol=0)
    inner = options.get("inner_group_num", 1)
    names = ["mapping.x" if options["family"] == "albert" else "embeddings.norm.y"]
    names += [f"layers.{i}.ffn_norm.y" for i in range(inner - 1, weights.architecture.layers, inner)]
    assert len(names) == 1 + model.config.num_hidden_layers
    start = 0
    for i, (ids, types) in enumerate(sentences):
        at = slice(start, start + len(ids))
        start += len(ids)
        with torch.inference_mode():
            truth = model(torch.tensor([ids]), token_type_ids=torch.tensor([types]), output_hidden_states=True)
        for name, state in zip(names, truth.hidden_states, strict=True):
            torch.testing.assert_close(taps[name][at], state[0], rtol=0, atol=ATOL)
        torch.testing.assert_close(logits[at] if token else logits[i : i + 1], truth.logits.view(-1, logits.shape[1]),
                                   rtol=0, atol=ATOL)  # fmt: skip


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_tolerance_tells_segments_and_the_forms_of_gelu_apart(family):
    model = model_of(family=family)
    pairs = random_pairs(200)
    segments = [s._replace(types=[0] * len(s.ids)) for s in pairs]
    last = []
    for activation, sentences in (("gelu", pairs), ("gelu_new", pairs), ("gelu", segments)):
        weights = weights_of(model, check_config({**model.config.to_dict(), "hidden_act": activation}))
        taps = {}
        float_model.forward(weights, make_batch(sentences), taps.__setitem__)
        last.append(taps["layers.1.ffn_norm.y"])
    assert all((last[0] - other).abs().max() > 5 * ATOL for other in last[1:])


def test_taps_of_the_heads():
    """A sequence's head shows its steps; a token's has none before the logits."""
    names = {}
    for kind in ("sequence", "token"):
        model = random_model(family="albert", kind=kind, num_hidden_layers=1)
        weights = weights_of(model, check_config(model.config.to_dict()))
        taps = {}
        float_model.forward(weights, make_batch(random_pairs(200)), taps.__setitem__)
        names[kind] = [name for name in taps if not name.startswith("layers.")]
        assert taps["mapping.x"].shape == (216, 64) and taps["embeddings.norm.y"].shape == (216, 48)
    assert names["token"] == ["embeddings.sum", "embeddings.norm.y", "mapping.x", "logits"]
    assert names["sequence"] == [*names["token"][:3], "gathered", "pooler.z", "pooler", "logits"]


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_a_head_of_span_0_is_one_whose_context_is_0(family):
    """The columns of its o at 0, in transformers' own model."""
    model = model_of(family=family, num_hidden_layers=2)
    weights = weights_of(model, check_config(model.config.to_dict()))
    fewer = with_spans(weights, [[0, 128]] * 2)
    assert fewer.architecture.layer_heads == (1, 1) and fewer.layers[1].o.weight.shape == (64, 32)
    for name, parameter in model.named_parameters():
        if name.endswith(("attention.output.dense.weight", "attention.dense.weight")):
            parameter.data[:, :32] = 0
    sentences = random_pairs(200)
    found = float_model.forward(fewer, make_batch(sentences))
    expected = [
        model(torch.tensor([s.ids]), token_type_ids=torch.tensor([s.types])).logits[0].detach() for s in sentences
    ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=ATOL)


def test_a_head_sees_no_further_than_its_span():
    """Against softmax over the keys of the band alone, row by row."""
    random = torch.Generator().manual_seed(0)
    sentences = [Tokens([1] * n, [0] * n) for n in (9, 1, 4, 9)]
    batch, spans = make_batch(sentences), [1, 3, 128]
    q, k, v = (torch.randn(23, 96, generator=random) for _ in range(3))
    context = float_model.attention(q, k, v, batch, 32, spans)
    for first, length in zip(batch.first.tolist(), batch.lengths.tolist(), strict=True):
        for i in range(first, first + length):
            for head, span in enumerate(spans):
                of = slice(32 * head, 32 * head + 32)
                seen = slice(max(first, i - span + 1), min(first + length, i + span))
                weights = torch.softmax(k[seen, of] @ q[i, of] / 32**0.5, dim=0)
                torch.testing.assert_close(context[i, of], weights @ v[seen, of])
    torch.testing.assert_close(
        float_model.attention(q, k, v, batch, 32, [128] * 3), float_model.attention(q, k, v, batch, 32)
    )
