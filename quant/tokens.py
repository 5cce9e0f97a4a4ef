# SPDX-License-Identifier: Apache-2.0
"""Texts, single or in pairs, to token ids and segments."""

from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Tokenizer


class Tokens(NamedTuple):
    """One sentence or pair as the model reads it: ids with the special ones, and the segment of each."""

    ids: list[int]
    types: list[int]


Texts = str | tuple[str, str]


def encode(tokenizer_json: str, texts: Sequence[Texts], max_length: int) -> list[Tokens]:
    """Tokens of each text or pair of texts, cut to max_length."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return [Tokens(e.ids, e.type_ids) for e in tokenizer.encode_batch(list(texts))]
