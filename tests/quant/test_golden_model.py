# SPDX-License-Identifier: Apache-2.0
"""The golden model on random artifacts: packing, padding, refusals; and that those artifacts are worth testing with."""

import hashlib
import json
import time

import numpy as np
import pytest
from random_artifact import MATRICES, make_random_artifact, pack_nibbles
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from zynqbert.quant import golden
from zynqbert.quant.golden_model import GoldenModel, unpack_nibbles

CONFIGURATIONS = {
    "two layers": dict(layers=2, labels=2, extra_entries=3),
    "wide heads": dict(hidden=128, heads=2, head_width=64, labels=5, word_bits=4, extra_entries=0, seed=1),
    "normalized": dict(layers=2, labels=3, softmax="normalized", word_bits=4, extra_entries=8, seed=2),
    "albert": dict(family="albert", layers=3, embedding=41, word_bits=4, labels=1, scores="none", seed=3),
    "albert tokens": dict(family="albert", layers=4, weights=[0, 1, 0, 1], labels=5, kind="token", seed=4),
    "early": dict(
        layers=4,
        labels=3,
        layer_heads=[3, 1, 2, 3],
        exits=True,
        word_bits=4,
        seed=11,
        spans=[[128, 1, 6], [9], [2, 128], [128, 128, 3]],
    ),
    "early, albert": dict(
        family="albert",
        layers=3,
        labels=6,
        exits=True,
        exit_pooler=True,
        softmax="normalized",
        seed=12,
        layer_heads=[2] * 3,
        spans=[[5, 128]] * 3,
    ),
    "tokens": dict(labels=9, kind="token", scores="sigmoid", extra_entries=5, seed=5),
}


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def folder(request, tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact"), **CONFIGURATIONS[request.param])


@pytest.fixture(scope="module")
def model(folder):
    return GoldenModel(folder)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """The first configuration, for tests that copy and damage it."""
    return make_random_artifact(tmp_path_factory.mktemp("artifact"), **CONFIGURATIONS["two layers"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """An ALBERT with two sets of matrices and an answer a token."""
    return make_random_artifact(tmp_path_factory.mktemp("artifact"), **CONFIGURATIONS["albert tokens"])


def sentences(*lengths: int) -> list[tuple[list[int], list[int]]]:
    """(ids, types) of random sentences that begin with [CLS]."""
    rng = np.random.default_rng(7)
    return [([2, *rng.integers(0, 50, n - 1).tolist()], rng.integers(0, 2, n).tolist()) for n in lengths]


def packed(batch, rows: int) -> list[np.ndarray]:
    """The arguments of forward for sentences side by side, padded to `rows`."""
    columns, at, cls = [], 0, []
    for ids, types in batch:
        n = len(ids)
        cls.append(at)
        columns += [(ids[i], i, types[i], at, at + n) for i in range(n)]
        at += n
    columns += [(0, 0, 0, 0, 0)] * (rows - at)
    return [*(np.array(column) for column in zip(*columns, strict=True)), np.array(cls)]


def answers(model, batch, logits) -> list[np.ndarray]:
    """The logits of each sentence, packed side by side in this order: [1, labels], or [tokens, labels]."""
    ends = np.cumsum([len(ids) for ids, _ in batch])
    return np.split(logits[: ends[-1]], ends[:-1]) if model.per_token else np.split(logits, len(batch))


def assert_same(found, expected) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_packing_equals_one_by_one(model):
    batch = sentences(17, 1, 40, 33, 2)
    together = answers(model, batch, model.forward(*packed(batch, 96)))
    assert_same(together, [np.atleast_2d(model.forward_sentence(ids, types)) for ids, types in batch])
    every = np.concatenate(together).tolist()
    assert len({tuple(x) for x in every}) == len(every)  # the logits do depend on the sentence, and on the token


def test_order_of_sentences_and_results(model):
    batch = sentences(5, 30, 12)
    *columns, cls = packed(batch, 64)
    logits = model.forward(*columns, cls)
    turned = model.forward(*columns, cls[::-1])  # of no use to tokens, which are all answered in their own order
    np.testing.assert_array_equal(turned, logits if model.per_token else logits[::-1])
    turned = model.forward(*packed(batch[::-1], 64))
    assert_same(answers(model, batch[::-1], turned), answers(model, batch, logits)[::-1])


@pytest.mark.parametrize("rows", [32, 64, 96, 128])
def test_padding_to_row_blocks(model, rows):
    [(ids, types)] = sentences(21)
    alone, wide = {}, {}
    logits = model.forward_sentence(ids, types, trace=alone)
    np.testing.assert_array_equal(model.forward_sentence(ids, types, rows, trace=wide), logits)
    for name in alone:
        of_sentence = wide[name][:, :21] if name.endswith("numerators") else wide[name][:21]
        if name.endswith("numerators"):
            assert not of_sentence[:, :, 21:].any()
            of_sentence = of_sentence[:, :, :21]
        np.testing.assert_array_equal(of_sentence, alone[name], name)


def test_padding_rows_do_not_matter(model):
    batch = sentences(9, 20)
    columns = packed(batch, 64)
    clean = answers(model, batch, model.forward(*columns))
    rng = np.random.default_rng(3)
    for column, top in zip(columns[:3], (50, 128, 2), strict=True):
        column[29:] = rng.integers(0, top, 35)
    assert_same(answers(model, batch, model.forward(*columns)), clean)


def test_segments_matter(model):
    [(ids, types)] = sentences(20)
    assert (model.forward_sentence(ids, types) != model.forward_sentence(ids)).any()


def test_a_padding_row_has_no_context(model):
    trace = {}
    model.forward_sentence(*sentences(3)[0], length=32, trace=trace)
    assert not trace["layers.0.context"][3:].any() and not trace["layers.0.numerators"][:, 3:].any()


def test_trace_names_shapes_and_ranges(folder, model):
    trace = {}
    logits = model.forward(*packed(sentences(30, 34), 64), trace)
    manifest = json.loads((folder / "manifest.json").read_text())
    architecture, entries = manifest["architecture"], manifest["entries"]
    hidden, embedding = architecture["hidden"], architecture["embedding"]
    int16, int8 = (-32767, 32767), (-127, 127)
    expected = {
        "embeddings.sum": ((64, embedding), int16),
        "embeddings.norm.y": ((64, embedding), int16),
        "embeddings.norm.operand": ((64, entries["embedding_norm"][0]), int8),
    }
    if architecture["family"] == "albert":
        expected |= {"mapping.x": ((64, hidden), int16), "mapping.operand": ((64, entries["mapping"][0]), int8)}
    for i in range(architecture["layers"]):
        layer, heads = f"layers.{i}", architecture["layer_heads"][i]
        expected |= {f"{layer}.{name}": ((64, heads * architecture["head_width"]), int8) for name in "qkv"}
        expected |= {
            f"{layer}.numerators": ((heads, 64, 64), (0, 255)),
            f"{layer}.context": ((64, heads * architecture["head_width"]), int8),
            f"{layer}.o.x": ((64, hidden), int16),
            f"{layer}.attention_norm.y": ((64, hidden), int16),
            f"{layer}.attention_norm.operand": ((64, entries["attention_norm"][i]), int8),
            f"{layer}.ffn1": ((64, entries["ffn"][i]), (0, 255)),
            f"{layer}.ffn2.x": ((64, hidden), int16),
            f"{layer}.ffn_norm.y": ((64, hidden), int16),
            f"{layer}.ffn_norm.operand": ((64, entries["ffn_norm"][i]), int8),
        }
    if manifest["task"]["kind"] == "sequence":
        expected |= {"gathered": ((2, entries["ffn_norm"][-1]), int8), "pooler": ((2, hidden), int8)}
    expected["logits"] = ((64 if model.per_token else 2, len(manifest["task"]["labels"])), int16)
    assert list(trace) == list(expected)
    for name, (shape, (lo, hi)) in expected.items():
        assert trace[name].shape == shape and trace[name].dtype == np.int64, name
        assert lo <= trace[name].min() and trace[name].max() <= hi, name
    assert trace["logits"] is logits


def test_activations_are_alive(model):
    """On sentences that did not calibrate it: int8 buffers spread over their range, few values saturated or 0."""
    trace = {}
    model.forward(*packed(sentences(30, 34, 50), 128), trace)
    for name, value in trace.items():
        value = value[:, :114] if name.endswith("numerators") else value[:114]
        if name.endswith((".q", ".k", ".v", ".context", ".operand", "gathered")):
            assert 25 < value.std() < 60, name
            assert (np.abs(value) == 127).mean() < 0.08 and (value == 0).mean() < 0.15, name
        elif name.endswith((".y", ".x", "embeddings.sum")):
            assert 1000 < value.std() < 6000 and (np.abs(value) == 32767).mean() < 0.01, name
        elif name.endswith("ffn1"):
            assert 60 < value.std() < 110 and (value == 255).mean() < 0.1, name
            assert value.max() >= 235, name
        elif name.endswith("numerators"):
            assert len(np.unique(value)) > 50, name
        elif name == "pooler":
            assert 60 < value.std() < 100 and (np.abs(value) > 125).mean() < 0.1
        elif model.per_token:
            assert name == "logits" and 1500 < value.std() < 6000


# ---- ALBERT, and an answer a token: against the equations, worked out here ----


def rounded(product: np.ndarray, s: np.ndarray, limit: int) -> np.ndarray:
    """clamp(rs(product, s)) to ±limit, in numbers of any size."""
    s = np.asarray(s).astype(object)
    return np.clip((product + 2 ** (s - 1)) // 2**s, -limit, limit)


def product(tensors, name: str, operand: np.ndarray) -> np.ndarray:
    """(Q12) rq[−32767,32767] of a linear layer with int8 weights [N, K]; operand [rows, K] → [rows, N]."""
    w, b, m, s = (tensors[f"{name}.{part}"].astype(object) for part in ("weight", "bias", "m", "s"))
    return rounded((operand.astype(object) @ w.T + b) * m, s, 32767)


def test_mapping_to_the_hidden_width(shared):
    tensors, trace = load_file(shared / "model.safetensors"), {}
    model = GoldenModel(shared)
    model.forward(*packed(sentences(30, 20), 64), trace)
    y = product(tensors, "mapping", trace["embeddings.norm.operand"])
    np.testing.assert_array_equal(trace["mapping.x"], y)
    assert not trace["mapping.x"][:, 1].any()  # the dead channel
    # a channel's entries add up to its value; only the last of them is not ±127 where it needs more than one
    e = tensors["mapping.entries"].astype(int)
    m, s = tensors["mapping.operand"].tolist()
    first = np.cumsum(e) - e
    q = rounded(y * m, s, 10**9)
    operand = trace["mapping.operand"]
    np.testing.assert_array_equal(np.add.reduceat(operand, first, axis=1), np.clip(q, -127 * e, 127 * e))
    np.testing.assert_array_equal(operand[:, first], np.clip(q, -127, 127))
    # and y is the residual that o of layer 0 meets
    m_r, s_r = tensors["layers.0.o.residual"].tolist()
    w = unpack_nibbles(tensors["layers.0.o.weight"], model.hidden)
    o = product({**tensors, "layers.0.o.weight": w}, "layers.0.o", trace["layers.0.context"])
    np.testing.assert_array_equal(trace["layers.0.o.x"], np.clip(o + rounded(y * m_r, s_r, 32767), -32767, 32767))


def test_every_token_has_its_answer(shared):
    """The classifier on each row's entries, padding rows too; one sentence gets the rows of its tokens."""
    tensors, trace = load_file(shared / "model.safetensors"), {}
    model, [(ids, types)] = GoldenModel(shared), sentences(21)
    alone = model.forward_sentence(ids, types, 32, trace)
    expected = product(tensors, "classifier", trace["layers.3.ffn_norm.operand"])
    assert expected.shape == (32, 5)
    np.testing.assert_array_equal(trace["logits"], expected)
    np.testing.assert_array_equal(alone, expected[:21])


def test_shared_matrices_are_as_good_as_copies(shared, tmp_path):
    tensors = load_file(shared / "model.safetensors")
    manifest = json.loads((shared / "manifest.json").read_text())
    assert manifest["architecture"]["weights"] == [0, 1, 0, 1]
    for i, owner in enumerate(manifest["architecture"]["weights"]):
        for name in MATRICES:
            assert (f"layers.{i}.{name}.weight" in tensors) == (owner == i)
            tensors[f"layers.{i}.{name}.weight"] = tensors[f"layers.{owner}.{name}.weight"]
    manifest["architecture"]["weights"] = [0, 1, 2, 3]
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    once, copied = {}, {}
    for folder, trace in ((shared, once), (tmp_path, copied)):
        GoldenModel(folder).forward(*packed(sentences(30, 34), 64), trace)
    assert once.keys() == copied.keys()
    for name in once:
        np.testing.assert_array_equal(once[name], copied[name], name)
    # the places do differ, or sharing would show nothing
    assert (once["layers.0.q"] != once["layers.2.q"]).any() and (once["layers.0.q"] != once["layers.1.q"]).any()


def test_a_layer_reads_the_matrices_it_names(shared, tmp_path):
    """With other weights named, the layers before are as they were, and this one is not."""
    manifest = json.loads((shared / "manifest.json").read_text())
    manifest["architecture"]["weights"] = [0, 1, 1, 1]
    (tmp_path / "model.safetensors").write_bytes((shared / "model.safetensors").read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    traces = {}, {}
    for folder, trace in zip((shared, tmp_path), traces, strict=True):
        GoldenModel(folder).forward(*packed(sentences(30), 32), trace)
    np.testing.assert_array_equal(traces[0]["layers.1.ffn_norm.operand"], traces[1]["layers.1.ffn_norm.operand"])
    assert (traces[0]["layers.2.q"] != traces[1]["layers.2.q"]).any()


# ---- spans, vanished heads, leaving early ----

EARLY = ["early", "early, albert"]


@pytest.fixture(scope="module", params=EARLY)
def early(request, tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("early"), **CONFIGURATIONS[request.param])


def test_each_head_sees_as_far_as_its_span(early):
    model, trace = GoldenModel(early), {}
    model.forward(*packed(sentences(20, 30), 64), trace)
    distance = np.abs(np.subtract.outer(np.arange(64), np.arange(64)))
    for i, of_layer in enumerate(json.loads((early / "manifest.json").read_text())["spans"]):
        for span, e in zip(of_layer, trace[f"layers.{i}.numerators"], strict=True):
            assert not e[distance >= span].any()
            assert (e[:50].max(axis=1) == 255).all() if model.normalized is False else e[:50].any(axis=1).all()
            if span < 20:
                assert e[distance == span - 1].any()


def test_spans_of_128_are_none(early, tmp_path):
    """The same artifact with all spans 128 is the one of 2.0 without them."""
    manifest = json.loads((early / "manifest.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((early / "model.safetensors").read_bytes())
    logits = []
    for spans in ([[128] * heads for heads in manifest["architecture"]["layer_heads"]], None):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "spans": spans}))
        logits.append(GoldenModel(tmp_path).forward(*packed(sentences(50), 64)))
    np.testing.assert_array_equal(*logits)
    assert (GoldenModel(early).forward(*packed(sentences(50), 64)) != logits[0]).any()


def test_a_head_that_vanished_leaves_the_others_alone(artifact, tmp_path):
    """Layer 0 without the rows of its head 1: q, k, v and context of heads 0 and 2 are as they were."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["architecture"]["layer_heads"] = [2, 3]
    tensors = load_file(artifact / "model.safetensors")
    kept = np.r_[0:32, 64:96]
    for name in "qkv":
        for part in ("weight", "bias", "m", "s"):
            tensors[f"layers.0.{name}.{part}"] = tensors[f"layers.0.{name}.{part}"][kept]
    for part in "ms":
        tensors[f"layers.0.attention.score_{part}"] = tensors[f"layers.0.attention.score_{part}"][[0, 2]]
        tensors[f"layers.0.attention.context_{part}"] = tensors[f"layers.0.attention.context_{part}"][kept]
    o = unpack_nibbles(tensors["layers.0.o.weight"], 96)
    tensors["layers.0.o.weight"] = np.ascontiguousarray(pack_nibbles(o[:, kept].astype(int)))
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    whole, fewer = {}, {}
    for folder, trace in ((artifact, whole), (tmp_path, fewer)):
        GoldenModel(folder).forward(*packed(sentences(30, 20), 64), trace)
    for name in ("q", "k", "v", "context"):
        np.testing.assert_array_equal(fewer[f"layers.0.{name}"], whole[f"layers.0.{name}"][:, kept])
    o = {**tensors, "layers.0.o.weight": o[:, kept]}
    m_r, s_r = tensors["layers.0.o.residual"].tolist()
    y = rounded(whole["embeddings.norm.y"].astype(object) * m_r, s_r, 32767)
    x = np.clip(product(o, "layers.0.o", fewer["layers.0.context"]) + y, -32767, 32767)
    np.testing.assert_array_equal(fewer["layers.0.o.x"], x)


def leaving(every: np.ndarray, entropy: np.ndarray, threshold: int, table, shift: int) -> list[dict]:
    """Q22 told again, sentence by sentence: logits and entropies of all ramps [sentences, layers(, labels)]."""
    found = []
    for logits, of_sentence in zip(every.tolist(), entropy.tolist(), strict=True):
        foretold = table[min(255, of_sentence[0] >> shift)] if table else 0
        for layer, h in enumerate(of_sentence, 1):
            if h < threshold or 0 < foretold <= layer or layer == len(of_sentence):
                first = of_sentence[0] if table else 0
                found.append(dict(logits=logits[layer - 1], layer=layer, entropy=h, foretold=foretold, first=first))
                break
    return found


TABLES = {
    "none": None,
    "some": [2 if i % 3 else 0 for i in range(256)],
    "first": [1] * 256,
    "rising": [1 + i // 100 for i in range(256)],
}


@pytest.mark.parametrize("table", TABLES)
def test_sentences_leave_where_the_equations_say(early, table):
    model, table = GoldenModel(early), TABLES[table]
    batch = sentences(40, 3, 17, 2, 9, 30)
    columns, stayed = packed(batch, 128), {}
    last = model.forward(*columns)
    never = model.forward(*columns, trace=stayed, exits={"threshold": 0, "foretold": None})
    np.testing.assert_array_equal(never.logits, last)
    assert (never.layer == model.layers).all() and (never.clock, never.first.any()) == (-1, False)
    names = [*(f"exits.{i}.logits" for i in range(model.layers - 1)), "logits"]
    every = np.stack([stayed[name] for name in names], axis=1)
    m, s = model.exits["entropy"]
    entropy = np.stack([golden.entropy_ref(stayed[name], m, s) for name in names], axis=1)
    tried = sorted(entropy.ravel())  # each entropy is a threshold that just keeps its sentence in
    for threshold in (0, *tried[:: len(tried) // 4], 32767):
        trace = {}
        point = {"threshold": int(threshold), "foretold": table, "clock": [3, 0, 1, 2, 2] + [0] * 251}
        found = model.forward(*columns, trace=trace, exits=point)
        expected = leaving(every, entropy, threshold, table, model.exits["row_shift"])
        for name in ("logits", "layer", "entropy", "foretold", "first"):
            assert getattr(found, name).tolist() == [of[name] for of in expected], name
        staying = [of["foretold"] for of in expected if of["layer"] > 1]
        assert found.clock == (min(point["clock"][i] for i in staying) if table and staying else -1)
        # the layers that were run, and the row blocks that are live in them
        deepest = max(of["layer"] for of in expected)
        assert [f"layers.{i}.q" in trace for i in range(model.layers)] == [i < deepest for i in range(model.layers)]
        assert trace["layers.0.live"].all()
        for i in range(1, deepest):
            rows = np.zeros(128, bool)
            for (ids, _), at, of in zip(batch, columns[-1], expected, strict=True):
                rows[at : at + len(ids)] = of["layer"] > i
            assert trace[f"layers.{i}.live"].tolist() == rows.reshape(4, 32).any(axis=1).tolist()
    assert len({of["layer"] for of in expected}) == 1


def test_an_operating_point_of_an_artifact(early):
    """Its threshold alone, or with what it foretells the threshold of that."""
    model, columns = GoldenModel(early), packed(sentences(9, 20), 64)
    foretold = {"threshold": 0, "table": [2] * 256, "loss_points": 1.0}
    found = model.forward(*columns, exits={"threshold": 32767, "foretold": foretold, "layers": [1, 1]})
    assert found.layer.tolist() == [2, 2] and found.foretold.tolist() == [2, 2] and found.first.all()
    found = model.forward(*columns, exits={"threshold": 32767, "foretold": None})
    assert found.layer.tolist() == [1, 1] and not found.foretold.any()


def test_one_sentence_leaves_as_it_does_beside_others(early):
    model, batch = GoldenModel(early), sentences(9, 40, 14)
    point = {"threshold": 3000, "foretold": TABLES["rising"]}
    together = model.forward(*packed(batch, 64), exits=point)
    for i, (ids, types) in enumerate(batch):
        alone = model.forward_sentence(ids, types, exits=point)
        for name in ("logits", "layer", "entropy", "foretold", "first"):
            assert getattr(alone, name).tolist() == getattr(together, name)[i : i + 1].tolist()


def test_leaving_a_model_without_ramps_is_refused(artifact):
    with pytest.raises(ValueError, match="has no off-ramps"):
        GoldenModel(artifact).forward_sentence([2, 5], exits={"threshold": 1, "foretold": None})


def linears(model, trace):
    """(name, weights, operand, largest operand, bias) of every linear layer."""
    t, before = model.tensors, "embeddings.norm.operand"
    if model.mapped:
        yield "mapping", t["mapping.weight"], trace[before], 127, t["mapping.bias"]
        before = "mapping.operand"
    for i in range(model.layers):
        layer = f"layers.{i}"
        operands = dict.fromkeys((f"{layer}.q", f"{layer}.k", f"{layer}.v"), before)
        operands[f"{layer}.o"] = f"{layer}.context"
        operands[f"{layer}.ffn1"] = f"{layer}.attention_norm.operand"
        operands[f"{layer}.ffn2"] = f"{layer}.ffn1"
        for name, operand in operands.items():
            amax = 255 if name.endswith("ffn2") else 127
            yield name, t[f"{name}.weight"], trace[operand], amax, t[f"{name}.bias"]
        before = f"{layer}.ffn_norm.operand"
    head = [("classifier", before)] if model.per_token else [("pooler", "gathered"), ("classifier", "pooler")]
    for name, operand in head:
        yield name, t[f"{name}.weight"], trace[operand], 127, t[f"{name}.bias"]


def test_packed_array_computes_the_model(model):
    """The packing check holds for every linear layer, and the packed products of Q4 and Q5 are the plain ones."""
    trace = {}
    model.forward(*packed(sentences(32), 32), trace)
    for name, w, operand, amax, bias in linears(model, trace):
        w = w.astype(np.int64)
        assert (amax * np.abs(w).sum(axis=1) + np.abs(bias.astype(np.int64)) < 2**26).all(), name
        int4 = name.startswith("layers")
        n0 = np.abs(w[0::2]) if int4 else w & 15
        assert (amax * n0.sum(axis=1) < 2**22).all(), name
        product = (golden.packed_w4_ref if int4 else golden.packed_w8_ref)(w, operand)
        np.testing.assert_array_equal(product, golden.linear_ref(w, operand), name)
    d = model.head_width
    for i in range(model.layers):
        q, k, v = (trace[f"layers.{i}.{name}"][:, :d] for name in "qkv")
        e = trace[f"layers.{i}.numerators"][0]
        np.testing.assert_array_equal(golden.packed_w8_ref(k, q), golden.linear_ref(k, q))
        np.testing.assert_array_equal(golden.packed_w8_ref(v.T, e), e @ v)


def test_forward_refuses(model):
    [(ids, types)] = sentences(4)
    with pytest.raises(ValueError):
        model.forward_sentence(ids, types, 129)
    with pytest.raises(ValueError):
        model.forward_sentence(ids, types, 3)
    with pytest.raises(IndexError):
        model.forward_sentence([2, 50])
    with pytest.raises(IndexError):
        model.forward_sentence([2, -1])
    *columns, cls = packed(sentences(4), 4)
    columns[4][0] = 5  # a key beyond the pass
    with pytest.raises(ValueError):
        model.forward(*columns, cls)


# ---- the artifact ----


def test_nibbles():
    w = np.array([[1, -1, 7], [-7, 0, 3]])
    assert pack_nibbles(w).tolist() == [[0xF1, 0x07], [0x09, 0x03]]
    assert unpack_nibbles(np.array([[0xF1, 0x07], [0x09, 0x03]], np.uint8), 3).tolist() == w.tolist()
    every = np.array([[v] for v in range(-7, 8)])
    assert unpack_nibbles(pack_nibbles(every), 1).tolist() == every.tolist()


@pytest.mark.parametrize("name", ["q", "k", "v", "o", "ffn1", "ffn2"])
@pytest.mark.parametrize("byte", [0x08, 0x80])
def test_corrupt_nibble_is_refused(artifact, tmp_path, name, byte):
    tensors = load_file(artifact / "model.safetensors")
    tensors[f"layers.1.{name}.weight"][5, 7] = byte
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "manifest.json").write_bytes((artifact / "manifest.json").read_bytes())
    with pytest.raises(ValueError, match="0x8"):
        GoldenModel(tmp_path)


def test_padding_nibble_and_width_are_refused(artifact, tmp_path):
    (tmp_path / "manifest.json").write_bytes((artifact / "manifest.json").read_bytes())
    tensors = load_file(artifact / "model.safetensors")
    assert tensors["layers.0.q.weight"].shape == (96, 50)  # 99 entries
    tensors["layers.0.q.weight"][0, 49] |= 0x10
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="not 0"):
        GoldenModel(tmp_path)
    tensors["layers.0.q.weight"] = tensors["layers.0.q.weight"][:, :49].copy()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="nibbles"):
        GoldenModel(tmp_path)


@pytest.mark.parametrize("change", [{"format": "other"}, {"version": "1.0"}, {"version": "2.3"}])
def test_unknown_format_is_refused(artifact, tmp_path, change):
    manifest = json.loads((artifact / "manifest.json").read_text()) | change
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError):
        GoldenModel(tmp_path)


@pytest.mark.parametrize(("part", "field"), [("architecture", "family"), ("task", "kind")])
def test_unknown_model_is_refused(artifact, tmp_path, part, field):
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest[part][field] = "other"
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"{field} 'other'"):
        GoldenModel(tmp_path)


def test_artifact_describes_itself(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"]
    tensors = load_file(folder / "model.safetensors")
    assert set(tensors) == set(manifest["tensors"])
    for name, entry in manifest["tensors"].items():
        assert entry["dtype"] == str(tensors[name].dtype) and entry["shape"] == list(tensors[name].shape)
        assert entry["sha256"] == hashlib.sha256(tensors[name].tobytes()).hexdigest()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("w9 w10 other").ids == [2, 9, 10, 1, 3]
    assert tokenizer.encode("w9", "w5").type_ids == [0, 0, 0, 1, 1]


def test_artifact_is_reproducible(tmp_path):
    a, b, c = (make_random_artifact(tmp_path / name, seed=seed) for name, seed in [("a", 4), ("b", 4), ("c", 5)])
    files = ["manifest.json", "model.safetensors", "tokenizer.json"]
    assert all((a / name).read_bytes() == (b / name).read_bytes() for name in files)
    assert (a / files[1]).read_bytes() != (c / files[1]).read_bytes()


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_artifact_may_be_sparse(tmp_path, family):
    """Exactly as many weights as asked for, of each matrix; everything that is drawn before them as if dense."""
    shape = dict(layers=2, seed=4, family=family)
    dense, same, half = (load_file(make_random_artifact(tmp_path / str(d), density=d, **shape) / "model.safetensors")
                         for d in (1.0, 0.9, 0.5))  # fmt: skip
    for name, packed in half.items():
        if not (name.startswith("layers.") and name.endswith(".weight")):
            continue
        whole, some = (
            (t[..., None] >> np.array([0, 4], np.uint8) & 15).reshape(len(t), -1) for t in (dense[name], packed)
        )
        assert ((some == whole) | (some == 0)).all() and ((same[name] == dense[name]).all())
        n, k = whole.shape[0], whole.shape[1] - (whole[:, -1] == 0).all()  # the nibble that pads an odd row is 0
        assert np.count_nonzero(some) == int(0.5 * n * k), name
    np.testing.assert_array_equal(half["embeddings.word.q"], dense["embeddings.word.q"])
    with pytest.raises(ValueError, match="density"):
        make_random_artifact(tmp_path / "none", density=0)


def test_artifact_has_the_awkward_cases(artifact):
    """Split channels, direct channels among table ones, odd K, dead channels, rows of zeros."""
    tensors = load_file(artifact / "model.safetensors")
    assert tensors["embeddings.norm.entries"].max() >= 2
    table = tensors["layers.0.ffn1.table"]
    assert (0 < (table == 0).sum() < len(table) and table[-1] == 1) or table[0] == 1
    assert tensors["layers.0.q.m"][1] == 0 and tensors["embeddings.word.m"][-1] == 0
    assert tensors["embeddings.norm.entries"].sum() % 2 == 1


def test_places_that_share_matrices_differ_in_the_rest(shared):
    """Equal entries, as the one matrix asks for; biases, factors, tables, norms and scales of their own."""
    tensors = load_file(shared / "model.safetensors")
    same = [
        ("mapping.entries", "layers.1.ffn_norm.entries"),
        ("layers.0.ffn_norm.entries", "layers.2.ffn_norm.entries"),
    ]
    same += [
        (f"layers.{i}.{n}", f"layers.{i + 2}.{n}") for i in (0, 1) for n in ("attention_norm.entries", "ffn1.table")
    ]
    for a, b in same:
        np.testing.assert_array_equal(tensors[a], tensors[b], a)
    for name in (*(f"{n}.bias" for n in MATRICES), *(f"{n}.m" for n in MATRICES), "ffn_norm.gamma", "ffn_norm.beta"):
        assert (tensors[f"layers.0.{name}"] != tensors[f"layers.2.{name}"]).any(), name
    assert (tensors["mapping.entries"] != tensors["layers.0.ffn_norm.entries"]).any()


def test_minilm_takes_seconds(tmp_path):
    """A sentence of 32 tokens through 6 layers of 384 and 1536 in at most 3 s."""
    shape = dict(layers=6, hidden=384, heads=12, ffn=1536, extra_entries=20)
    model = GoldenModel(make_random_artifact(tmp_path, **shape))
    [(ids, types)] = sentences(32)
    start = time.process_time()
    model.forward_sentence(ids, types)
    assert time.process_time() - start < 3
