# SPDX-License-Identifier: Apache-2.0
"""Sentences and pairs to token rows: truncation, several a pass, and the header byte by byte."""

import struct

import numpy as np
import pytest
from random_artifact import make_random_artifact
from zynqbert.host.packing import Sentence, SentenceEncoder, TooLong, pack_pass


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact")) / "tokenizer.json"


def encoder(tokenizer, max_tokens=8, vocab=50, types=2):
    return SentenceEncoder(tokenizer, max_tokens, vocab, types)


def sentence(*ids, types=None):
    return Sentence(np.array(ids), np.array(types or [0] * len(ids)), False)


class TestEncoder:
    def test_special_tokens_are_added(self, tokenizer):
        found = encoder(tokenizer).encode("w5 w4 nothing")
        assert found.ids.tolist() == [2, 5, 4, 1, 3]  # [CLS] w5 w4 [UNK] [SEP]
        assert found.types.tolist() == [0] * 5
        assert not found.truncated

    def test_an_empty_sentence_has_its_special_tokens(self, tokenizer):
        assert encoder(tokenizer).encode("").ids.tolist() == [2, 3]

    def test_as_long_as_the_model_takes(self, tokenizer):
        found = encoder(tokenizer).encode("w4 w5 w6 w7 w8 w9", strict=True)
        assert len(found.ids) == 8 and not found.truncated

    def test_longer_is_cut_and_marked_and_keeps_its_end(self, tokenizer):
        found = encoder(tokenizer).encode("w4 w5 w6 w7 w8 w9 w10")
        assert found.ids.tolist() == [2, 4, 5, 6, 7, 8, 9, 3]
        assert found.truncated

    def test_cutting_one_leaves_the_next_alone(self, tokenizer):
        e = encoder(tokenizer)
        e.encode("w4 " * 20)
        with pytest.raises(TooLong, match="sentence of 22 tokens, the model takes 8"):
            e.encode("w4 " * 20, strict=True)
        assert not e.encode("w4").truncated

    def test_a_pair_takes_the_tokenizers_pair_template(self, tokenizer):
        found = encoder(tokenizer).encode(("w5 w4", "w6"))
        assert found.ids.tolist() == [2, 5, 4, 3, 6, 3]  # [CLS] w5 w4 [SEP] w6 [SEP]
        assert found.types.tolist() == [0, 0, 0, 0, 1, 1]

    @pytest.mark.parametrize(
        ("pair", "ids", "types"),
        [
            (("w4 w5 w6 w7 w8 w9", "w10"), [2, 4, 5, 6, 7, 3, 10, 3], [0, 0, 0, 0, 0, 0, 1, 1]),
            (("w4", "w5 w6 w7 w8 w9 w10"), [2, 4, 3, 5, 6, 7, 8, 3], [0, 0, 0, 1, 1, 1, 1, 1]),
            (("w4 w5 w6 w7 w8", "w9 w10 w11 w12 w13"), [2, 4, 5, 3, 9, 10, 11, 3], [0, 0, 0, 0, 1, 1, 1, 1]),
        ],
        ids=["first", "second", "both"],
    )
    def test_the_longer_text_of_a_pair_is_cut(self, tokenizer, pair, ids, types):
        e = encoder(tokenizer)
        found = e.encode(pair)
        assert (found.ids.tolist(), found.types.tolist(), found.truncated) == (ids, types, True)
        with pytest.raises(TooLong, match="the model takes 8: 'w4"):
            e.encode(pair, strict=True)

    def test_too_short_a_model_for_the_special_tokens(self, tokenizer):
        e = encoder(tokenizer, max_tokens=2)
        assert e.encode("w4 w5").ids.tolist() == [2, 3]
        with pytest.raises(TooLong, match="the special tokens alone are more than the 2"):
            e.encode(("w4", "w5"))

    @pytest.mark.parametrize("given", [("a",), ("a", "b", "c"), ("a", 1), ["a", "b"], None], ids=str)
    def test_neither_a_text_nor_a_pair(self, tokenizer, given):
        with pytest.raises(ValueError, match="a text, or a tuple of two, is needed"):
            encoder(tokenizer).encode(given)

    def test_spans_name_characters_and_leave_out_special_tokens(self, tokenizer):
        text, pair = " w5  wörter", "w6 w7"
        found = encoder(tokenizer).encode((text, pair)).spans
        assert found == ((1, 1, 3, False), (2, 5, 11, False), (4, 0, 2, True), (5, 3, 5, True))
        assert text[5:11] == "wörter"

    def test_what_is_cut_has_no_span(self, tokenizer):
        assert [span.row for span in encoder(tokenizer).encode("w4 " * 20).spans] == [1, 2, 3, 4, 5, 6]

    def test_a_token_without_an_embedding(self, tokenizer):
        e = encoder(tokenizer, vocab=20)
        e.encode("w19")
        with pytest.raises(ValueError, match="no embedding of: 'w20'"):
            e.encode("w20")

    def test_not_a_tokenizer(self, tmp_path):
        (tmp_path / "tokenizer.json").write_text("{}")
        with pytest.raises(ValueError, match="not a tokenizer"):
            encoder(tmp_path / "tokenizer.json")


class TestPass:
    def test_one_sentence_takes_the_row_blocks_it_needs(self):
        for tokens, blocks in ((1, 1), (32, 1), (33, 2), (128, 4)):
            rows = pack_pass([sentence(*range(tokens))])
            assert rows.row_blocks == blocks
            assert rows.results == (0,)
            assert rows.end[:tokens].tolist() == [tokens] * tokens

    def test_padding_sees_nothing(self):
        rows = pack_pass([sentence(7, 8, 9)])
        for column in (rows.word, rows.position, rows.type, rows.begin, rows.end):
            assert not column[3:].any()

    def test_several_sentences_see_themselves_alone(self):
        rows = pack_pass([sentence(7, 8), sentence(9, 10, 11, types=[0, 1, 1])])
        assert rows.word[:5].tolist() == [7, 8, 9, 10, 11]
        assert rows.position[:5].tolist() == [0, 1, 0, 1, 2]
        assert rows.type[:5].tolist() == [0, 0, 0, 1, 1]
        assert rows.begin[:5].tolist() == [0, 0, 2, 2, 2]
        assert rows.end[:5].tolist() == [2, 2, 5, 5, 5]
        assert rows.results == (0, 2)

    def test_header_byte_by_byte(self):
        header = pack_pass([sentence(70_000, 8), sentence(9, types=[1])]).header()
        assert header.size == 16 * (2 + 32)
        assert header[:32].tolist() == [0, 2, *[0xFF] * 30]
        rows = [struct.unpack_from("<IHHHHI", header.tobytes(), 32 + 16 * i) for i in range(32)]
        assert rows[:3] == [(70_000, 0, 0, 0, 2, 0), (8, 1, 0, 0, 2, 0), (9, 0, 1, 2, 3, 0)]
        assert set(rows[3:]) == {(0,) * 6}

    def test_more_row_blocks_than_needed(self):
        assert pack_pass([sentence(1)], row_blocks=3).header().size == 16 * (2 + 96)

    @pytest.mark.parametrize(
        ("sentences", "message"),
        [
            ([], "0 sentences"),
            ([sentence(1)] * 33, "33 sentences"),
            ([sentence(*range(65))] * 2, "130 tokens in a pass of 5 row blocks"),
        ],
        ids=["none", "too-many", "too-long"],
    )
    def test_refused(self, sentences, message):
        with pytest.raises(ValueError, match=message):
            pack_pass(sentences)
