# SPDX-License-Identifier: Apache-2.0
"""The batched integer model is the golden model, in every buffer, whatever the family and the head."""

import numpy as np
import pytest
import torch
from random_artifact import make_random_artifact
from zynqbert.quant import fake_quant
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.batch import make_batch
from zynqbert.quant.fake_quant import FakeQuantModel
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.tokens import Tokens

MODELS = {
    "bert": dict(layers=2),
    "bert, 4-bit words, normalized": dict(word_bits=4, softmax="normalized", hidden=128, heads=2, head_width=64),
    "bert, AdaptivFloat words": dict(word_density=0.4, hidden=64, heads=2),
    "bert, shared in pairs": dict(layers=4, weights=[0, 0, 2, 2], seed=1),
    "bert, a label a token": dict(layers=2, kind="token", labels=5),
    "early": dict(
        layers=4, labels=3, layer_heads=[3, 1, 2, 3], spans=[[128, 1, 6], [9], [2, 128], [128, 128, 3]], exits=True
    ),
    "early, poolers, shared": dict(
        layers=4,
        family="albert",
        weights=[0, 0, 2, 2],
        layer_heads=[2, 2, 3, 3],
        labels=5,
        exits=True,
        exit_pooler=True,
        softmax="normalized",
        spans=[[4, 128], [128, 1], [2, 30, 12], [1, 1, 1]],
    ),
    "albert": dict(layers=3, family="albert", labels=1, scores="none"),
    "albert, odd width, a label a token": dict(
        layers=3, family="albert", embedding=41, word_bits=4, kind="token", labels=4, seed=2
    ),
    "albert, shared with a gap": dict(layers=3, family="albert", weights=[0, 1, 0], embedding=130, seed=3),
}


def pairs(lengths: list[int], vocab: int) -> list[Tokens]:
    """Random words; the second half of each sentence is of the second segment."""
    random = np.random.default_rng(5)
    return [Tokens(random.integers(0, vocab, n).tolist(), [0] * (n // 2) + [1] * (n - n // 2)) for n in lengths]


def of_every_ramp(trace: dict[str, np.ndarray], layers: int) -> np.ndarray:
    """[layers, labels] of one sentence's trace."""
    return np.stack([*(trace[f"exits.{i}.logits"][0] for i in range(layers - 1)), trace["logits"][0]])


@pytest.mark.parametrize("model", [name for name in MODELS if "early" in name])
def test_every_ramp_is_the_golden_one(model, tmp_path):
    path = make_random_artifact(tmp_path / "a", **MODELS[model])
    artifact, golden = load_artifact(path), GoldenModel(path)
    some, taps, start = pairs([1, 7, 40, 12, 7], 50), {}, 0
    model = FakeQuantModel(artifact.manifest, artifact.tensors)
    logits = model.every_ramp(make_batch(some), taps.__setitem__)
    assert logits.shape == (5, 4, len(artifact.manifest["task"]["labels"]))
    assert torch.equal(model.forward(make_batch(some)), logits[:, -1])
    for i, (ids, types) in enumerate(some):
        trace = {}
        golden.forward_sentence(ids, types, trace=trace, exits={"threshold": 0, "foretold": None})
        np.testing.assert_array_equal(of_every_ramp(trace, 4), logits[i].numpy())
        assert {n for n in trace if "exits" in n} == {n for n in taps if "exits" in n}
        for name, value in taps.items():
            rows = slice(i, i + 1) if len(value) == len(some) else slice(start, start + len(ids))
            np.testing.assert_array_equal(trace[name], value[rows].numpy(), err_msg=name)
        start += len(ids)


@pytest.mark.parametrize("model", MODELS)
def test_every_buffer_is_the_golden_one(model, tmp_path):
    path = make_random_artifact(tmp_path / "a", **MODELS[model])
    artifact, golden = load_artifact(path), GoldenModel(path)
    sentences = pairs([1, 7, 40, 12, 7], 50)
    taps: dict[str, torch.Tensor] = {}
    logits = FakeQuantModel(artifact.manifest, artifact.tensors).forward(make_batch(sentences), taps.__setitem__)
    assert taps["logits"] is logits and logits.abs().max() > 1000
    start = 0
    for i, sentence in enumerate(sentences):
        trace: dict[str, np.ndarray] = {}
        golden.forward_sentence(sentence.ids, sentence.types, trace=trace)
        # operands and numerators have no tap: what reads them would differ
        assert set(trace) - set(taps) == {n for n in trace if n.endswith((".operand", ".numerators"))}
        for name, value in taps.items():
            rows = slice(i, i + 1) if len(value) == len(sentences) else slice(start, start + len(sentence.ids))
            np.testing.assert_array_equal(trace[name], value[rows].numpy(), err_msg=name)
        start += len(sentence.ids)


def test_the_segment_counts(tmp_path):
    path = make_random_artifact(tmp_path / "a")
    artifact = load_artifact(path)
    model = FakeQuantModel(artifact.manifest, artifact.tensors)
    first, second = (model.forward(make_batch([Tokens([4, 5, 6], [t] * 3)])) for t in (0, 1))
    assert (first != second).any()


def test_a_product_too_large_for_float32_stays_exact():
    random = torch.Generator().manual_seed(0)
    w = torch.randint(-127, 128, (3, 4000), generator=random).float()
    a = torch.randint(0, 256, (5, 4000), generator=random).float()
    w[0], a[0] = 127, 255
    acc = fake_quant.linear(w, a, 255)
    np.testing.assert_array_equal(acc.numpy(), a.numpy().astype(np.int64) @ w.numpy().astype(np.int64).T)


def test_units_take_their_parameters_to_where_the_data_is():
    """What is not yet on the first argument's device goes there; the meta device has shapes and no values."""
    meta = torch.device("meta")
    x = torch.zeros(3, 4, dtype=torch.float64, device=meta)
    b, m, s = np.zeros(4, np.int64), np.full(4, 128), np.full(4, 7)
    outputs = [
        fake_quant.requantize(x, b, m, s, *fake_quant.INT8),
        fake_quant.residual(x, b, m, s, x, 128, 7),
        fake_quant.scale_shift(x, m, s, b, b),
        fake_quant.normalised(x),
        *fake_quant.reciprocal(x),
    ]
    assert all(y.device == meta and y.shape == (3, 4) for y in outputs)
