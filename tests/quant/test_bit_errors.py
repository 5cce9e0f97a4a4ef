# SPDX-License-Identifier: Apache-2.0
"""Errors in stored words: each cell moves as the model says, what is protected or not stored stays."""

import doctest
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from random_artifact import make_random_artifact
from zynqbert.quant import bit_errors
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.bit_errors import (
    ADAPTIVFLOAT,
    INT8,
    NIBBLES,
    SECDED,
    TRIPLE,
    Errors,
    Words,
    cells,
    overhead,
    stored,
)
from zynqbert.quant.bit_errors import model_with_errors as spoil
from zynqbert.quant.packing import unpack_nibbles

FORMS = (NIBBLES, INT8, ADAPTIVFLOAT)
CLAMPED = {NIBBLES: (8, 9), INT8: (128, 129), ADAPTIVFLOAT: (128, 0)}


def make(form: str, rows: int, width: int, seed: int = 0) -> tuple[np.ndarray, Words]:
    """Random words of the format, none of them one that it refuses."""
    random = np.random.default_rng(seed)
    if form == INT8:
        return random.integers(-127, 128, (rows, width)).astype(np.int8), Words(form, width)
    if form == ADAPTIVFLOAT:
        codes = random.integers(1, 256, (rows, width)).astype(np.uint8)
        return np.where((codes == 128) | (random.random(codes.shape) < 0.3), 0, codes).astype(np.uint8), Words(
            form, width
        )
    return pack(random.integers(-7, 8, (rows, width)) & 15), Words(form, width)


def pack(nibbles: np.ndarray) -> np.ndarray:
    padded = np.pad(nibbles, ((0, 0), (0, nibbles.shape[1] % 2))).astype(np.uint8)
    return padded[:, 0::2] | padded[:, 1::2] << 4


def unpack(tensor: np.ndarray, words: Words) -> np.ndarray:
    """Words as int64 in 0 .. 2^bits − 1, padding nibbles among them."""
    raw = tensor.view(np.uint8)
    if words.form == NIBBLES:
        raw = np.stack([raw & 15, raw >> 4], axis=2).reshape(len(raw), -1)
    return raw.astype(np.int64)


def erring(tensor, words, errors, name="a"):
    return bit_errors.with_errors(name, tensor, words, errors)


def test_doctests():
    assert doctest.testmod(bit_errors).failed == 0


@pytest.mark.parametrize("form", FORMS)
def test_rate_0_changes_nothing(form):
    tensor, words = make(form, 7, 33)
    before = tensor.copy()
    tensor.flags.writeable = False
    out, count = erring(tensor, words, Errors(0))
    assert count == 0
    np.testing.assert_array_equal(out, before)
    erring(tensor, words, Errors(0.5))
    np.testing.assert_array_equal(tensor, before)


@pytest.mark.parametrize("protected", [0, 1, 2, 4])
@pytest.mark.parametrize("form", FORMS)
def test_rate_1_flips_every_bit_that_is_not_protected(form, protected):
    tensor, words = make(form, 9, 33)
    out, count = erring(tensor, words, Errors(1, protected=protected))
    before = unpack(tensor, words)
    kept = before != 0 if form == ADAPTIVFLOAT else np.arange(before.shape[1]) < 33 + 0 * before
    wanted = np.where(kept, before ^ ((1 << (words.bits - protected)) - 1), before)
    refused, instead = CLAMPED[form]
    np.testing.assert_array_equal(unpack(out, words), np.where(wanted == refused, instead, wanted))
    assert count == kept.sum() * (words.bits - protected)
    assert out.dtype == tensor.dtype and out.shape == tensor.shape


@pytest.mark.parametrize("protected", [0, 1, 2])
@pytest.mark.parametrize("cell_bits", [1, 2, 3])
@pytest.mark.parametrize("form", FORMS)
def test_a_cell_moves_by_one_level(form, cell_bits, protected):
    tensor, words = make(form, 101, 75)
    out, count = erring(tensor, words, Errors(0.3, cell_bits, protected))
    before, after = unpack(tensor, words), unpack(out, words)
    seen = after != CLAMPED[form][1]  # of the others who knows what it was before it was clamped
    moved, number = 0, 0
    for low, bits in cells(words.bits, cell_bits, protected):
        level = (before >> low & (1 << bits) - 1)[seen]
        step = (after >> low & (1 << bits) - 1)[seen] - level
        assert set(np.unique(step)) <= {-1, 0, 1}
        moved += np.count_nonzero(step)
        number += int((before != 0).sum()) if form == ADAPTIVFLOAT else 101 * 75
    assert moved <= count < moved + 0.5 * (number - moved)
    assert abs(count - 0.3 * number) < 5 * np.sqrt(0.21 * number)
    top = words.bits - protected
    np.testing.assert_array_equal((after >> top)[seen], (before >> top)[seen])


def test_between_the_ends_a_coin_decides():
    tensor = np.full((40, 50), 0b00_10_01_01, np.int8)
    out, _ = erring(tensor, Words(INT8, 50), Errors(1, 2))
    found = unpack(out, Words(INT8, 50))
    assert set(np.unique(found >> 6)) == {1}
    for low, level in ((4, 2), (2, 1), (0, 1)):
        step = (found >> low & 3) - level
        assert set(np.unique(step)) == {-1, 1} and abs(step.mean()) < 4 / np.sqrt(2000)


@pytest.mark.parametrize("cell_bits", [2, 3])
def test_the_ends_have_one_way(cell_bits):
    words = Words(INT8, 50)
    lowest, _ = erring(np.zeros((4, 50), np.int8), words, Errors(1, cell_bits))
    highest, _ = erring(np.full((4, 50), -1, np.int8), words, Errors(1, cell_bits))
    up = sum(1 << low for low, _ in cells(8, cell_bits))
    assert set(np.unique(lowest.view(np.uint8))) == {up} and set(np.unique(highest.view(np.uint8))) == {255 - up}


@pytest.mark.parametrize("rate", [1e-4, 1e-2])
def test_as_many_as_the_rate_says(rate):
    tensor, words = make(NIBBLES, 1000, 251)
    found = [erring(tensor, words, Errors(rate, seed=seed)) for seed in range(8)]
    number = 8 * 4 * 1000 * 251
    assert abs(sum(count for _, count in found) - rate * number) < 5 * np.sqrt(rate * number)
    places = np.concatenate([np.nonzero(unpack(out, words) != unpack(tensor, words))[1] for out, _ in found])
    quarters = np.bincount(places * 4 // 252, minlength=4)
    assert (abs(quarters - len(places) / 4) < 5 * np.sqrt(len(places) / 4) + 1).all()


def test_seed_and_name_decide():
    tensor, words = make(INT8, 60, 40)
    out, _ = erring(tensor, words, Errors(0.01, 2, seed=3))
    np.testing.assert_array_equal(out, erring(tensor, words, Errors(0.01, 2, seed=3))[0])
    for other in (erring(tensor, words, Errors(0.01, 2, seed=4)), erring(tensor, words, Errors(0.01, 2, seed=3), "b")):
        assert (other[0] != out).any()
    # another tensor of that size errs at the same places
    third, _ = make(INT8, 60, 40, seed=1)
    changed = (erring(t, words, Errors(0.01))[0] != t for t in (tensor, third))
    assert (next(changed) != next(changed)).sum() <= 1  # but for what is clamped


@pytest.mark.parametrize("cell_bits", [1, 2, 3])
def test_no_word_that_the_format_has_not(cell_bits):
    for form in FORMS:
        tensor, words = make(form, 200, 101)
        out, _ = erring(tensor, words, Errors(0.4, cell_bits))
        assert (unpack(out, words) != CLAMPED[form][0]).all()
        if form == NIBBLES:
            unpack_nibbles(out, 101)  # which also refuses a filled padding nibble


def test_time_and_space_go_by_the_errors():
    tensor, words = np.zeros((4096, 1250), np.uint8), Words(NIBBLES, 2500)  # 41 Mbit
    tracemalloc.start()
    _, count = erring(tensor, words, Errors(1e-7))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count < 30 and peak < 1.1 * tensor.nbytes  # the copy


def test_overhead():
    tensors = {"a": np.zeros((3, 5), np.uint8), "b": np.zeros((3, 10), np.int8)}
    words = {"a": Words(NIBBLES, 10), "b": Words(INT8, 10)}
    assert overhead(words, tensors, Errors(0)) == 0
    assert overhead(words, tensors, Errors(0, protected=1)) == pytest.approx((6 + 10) / 12 - 1)
    assert overhead(words, tensors, Errors(0, protected=2), SECDED) == pytest.approx(0.5 / 12)
    assert overhead(words, tensors, Errors(0, 3, 2)) == pytest.approx((6 + 1 + 6 + 2) / 5 - 1)


@pytest.mark.parametrize(
    "wrong", [dict(rate=-0.1), dict(rate=1.1), dict(rate=0, cell_bits=4), dict(rate=0, protected=-1)]
)
def test_what_cannot_be(wrong):
    with pytest.raises(ValueError, match=f"{list(wrong)[-1]} {list(wrong.values())[-1]}"):
        Errors(**wrong)


@pytest.fixture(scope="module")
def albert(tmp_path_factory):
    """Two layers of one matrix, off-ramps with poolers, word rows of an odd width."""
    path = tmp_path_factory.mktemp("albert")
    sizes = dict(family="albert", layers=3, embedding=41, weights=[0, 0, 2])
    return load_artifact(make_random_artifact(path, exits=True, exit_pooler=True, word_bits=4, **sizes))


def test_what_is_stored(albert):
    layers = {f"layers.{i}.{name}.weight" for i in (0, 2) for name in ("q", "k", "v", "o", "ffn1", "ffn2")}
    backbone = layers | {"mapping.weight", "pooler.weight"}
    tables = {f"embeddings.{field}.q" for field in ("word", "position", "type")}
    for where, names in (("backbone", backbone), ("embeddings", tables), ("both", backbone | tables)):
        assert set(stored(albert.manifest, albert.tensors, where)) == names
    words = stored(albert.manifest, albert.tensors)
    assert {words[name].form for name in layers} == {NIBBLES}
    assert words["mapping.weight"].form == words["embeddings.type.q"].form == words["pooler.weight"].form == INT8
    assert words["embeddings.word.q"] == Words(NIBBLES, 41)
    with pytest.raises(ValueError, match="where 'norms' is none of backbone, embeddings, both"):
        stored(albert.manifest, albert.tensors, "norms")


def test_adapters_are_not_stored(albert):
    added = {
        f"layers.0.{place}.{part}.weight": np.ones((8, 8), np.uint8)
        for place in ("attention_adapter", "ffn_adapter")
        for part in ("down", "up")
    }
    tensors = {**albert.tensors, **added}
    words = stored(albert.manifest, tensors)
    out, _ = spoil(tensors, words, Errors(1))
    same = {name for name in tensors if np.array_equal(out[name], tensors[name])}
    assert same == set(tensors) - set(words) and set(added) | {"exits.0.pooler.weight", "classifier.weight"} <= same


def test_adapters_by_the_name_of_their_place(albert, monkeypatch):
    """A list of places that has adapters, as an artifact with them has."""
    place = next(bit_errors.linears(albert.manifest))
    names = ("layers.0.attention_adapter.down", "layers.0.ffn_adapter.up", "layers.0.ffn2")
    places = [place._replace(name=name, matrix=name) for name in names]
    monkeypatch.setattr(bit_errors, "linears", lambda manifest: iter(places))
    assert list(stored(albert.manifest, albert.tensors, "backbone")) == ["layers.0.ffn2.weight"]


def test_other_bits_and_words(tmp_path):
    adaptive = load_artifact(make_random_artifact(tmp_path / "a", word_density=0.4))
    assert stored(adaptive.manifest, adaptive.tensors)["embeddings.word.q"] == Words(ADAPTIVFLOAT, 96)
    plain = load_artifact(make_random_artifact(tmp_path / "b", word_bits=8))
    k = plain.manifest["entries"]["embedding_norm"][0]
    tensors = {**plain.tensors, "layers.0.q.weight": unpack_nibbles(plain.tensors["layers.0.q.weight"], k)}
    words = stored(plain.manifest, tensors)
    assert words["embeddings.word.q"] == Words(INT8, 96) and words["layers.0.q.weight"] == Words(INT8, k)


def test_the_page_says_what_protection_takes():
    text = (Path(__file__).parents[2] / "docs" / "robustness.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (int[48]), (\d), (\d) \| \+(\d+) % \| \+(\d+) % \|$", text, re.M)
    assert len(rows) == 8
    for form, cell_bits, protected, *shares in rows:
        words = {"a": Words(NIBBLES if form == "int4" else INT8, 8)}
        for copies, share in zip((TRIPLE, SECDED), shares, strict=True):
            errors = Errors(0, int(cell_bits), int(protected))
            assert share == f"{100 * overhead(words, {'a': np.zeros((1, 8), np.int8)}, errors, copies):.0f}"
