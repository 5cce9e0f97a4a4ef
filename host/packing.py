# SPDX-License-Identifier: Apache-2.0
"""Sentences to the token rows of a pass, as the io buffer holds them (docs/program.md, io buffer)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from ..fpga import instructions as isa

NO_ROW = 0xFF
HEADER_BEATS = 2


class TooLong(ValueError):
    """A text or pair has more tokens than the model takes; the message says how many."""


def text_and_pair(texts: str | tuple[str, str]) -> tuple[str, str | None]:
    """The text and the one it is paired with, if any. Raises ValueError for anything but a text or two."""
    if isinstance(texts, str):
        return texts, None
    if not (isinstance(texts, tuple) and len(texts) == 2 and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"a text, or a tuple of two, is needed, not {str(texts)[:40]!r}")
    return texts


class Span(NamedTuple):
    """Characters `start` to `end` of the text (of the second one if `in_pair`) that the token of row `row` is from."""

    row: int
    start: int
    end: int
    in_pair: bool


@dataclass(frozen=True)
class Sentence:
    """Token ids and types of a text or pair, int64 [tokens], [CLS] first; `truncated` if tokens were dropped.

    `spans` are the tokens but for the special ones, in order.
    """

    ids: np.ndarray
    types: np.ndarray
    truncated: bool
    spans: tuple[Span, ...] = ()


class SentenceEncoder:
    """A tokenizer.json, cut to the tokens a model takes; ids and types are held to the model's tables."""

    def __init__(self, path: str | Path, max_tokens: int, vocab: int, types: int):
        """Read the tokenizer at `path` for a model of `vocab` words. Raises ValueError if it is none."""
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise ValueError(f"{path}: not a tokenizer ({error})") from error
        self.max_tokens, self.vocab, self.types = max_tokens, vocab, types
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def encode(self, texts: str | tuple[str, str], *, strict: bool = False) -> Sentence:
        """Tokens of a text, or of a pair by the tokenizer's own template, with the special ones.

        Beyond `max_tokens` tokens are cut off the end of the longer text, special ones kept; or TooLong if `strict`.
        """
        text, pair = text_and_pair(texts)
        encoding = self.tokenizer.encode(text, pair)
        count = len(encoding.ids)
        truncated = count > self.max_tokens
        if truncated and strict:
            raise TooLong(f"sentence of {count} tokens, the model takes {self.max_tokens}: {text[:40]!r}...")
        if truncated:
            self.tokenizer.enable_truncation(self.max_tokens)
            encoding = self.tokenizer.encode(text, pair)
            self.tokenizer.no_truncation()
            # The library cuts nothing where the special tokens alone are too many.
            if len(encoding.ids) > self.max_tokens:
                raise TooLong(f"the special tokens alone are more than the {self.max_tokens} that the model takes")
        ids, types = np.array(encoding.ids, np.int64), np.array(encoding.type_ids, np.int64)
        if not len(ids) or ids.max() >= self.vocab or types.max() >= self.types:
            raise ValueError(f"the tokenizer gives tokens that the model has no embedding of: {text[:40]!r}")
        tokens = zip(encoding.offsets, encoding.sequence_ids, encoding.special_tokens_mask, strict=True)
        spans = (Span(row, *at, of == 1) for row, (at, of, special) in enumerate(tokens) if not special)
        return Sentence(ids, types, truncated, tuple(spans))


@dataclass(frozen=True)
class Pass:
    """The rows of a pass, each int64 [row_blocks * 32]: padding rows have 0 everywhere and see nothing.

    `results` are the rows whose final state becomes lanes 0, 1, ... of the result block.
    """

    word: np.ndarray
    position: np.ndarray
    type: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    results: tuple[int, ...]

    @property
    def row_blocks(self) -> int:
        """Row blocks of the pass."""
        return len(self.word) // isa.LANES

    def header(self) -> np.ndarray:
        """The row block header: uint8 [(2 + row_blocks * 32) * 16]."""
        header = np.zeros((HEADER_BEATS + len(self.word), isa.BEAT_BYTES), np.uint8)
        lanes = header[:HEADER_BEATS].reshape(-1)
        lanes[:] = NO_ROW
        lanes[: len(self.results)] = self.results
        rows = header[HEADER_BEATS:]
        rows[:, 0:4] = self.word.astype("<u4").reshape(-1, 1).view(np.uint8)
        for first, column in ((4, self.position), (6, self.type), (8, self.begin), (10, self.end)):
            rows[:, first : first + 2] = column.astype("<u2").reshape(-1, 1).view(np.uint8)
        return header.reshape(-1)


def pack_pass(sentences: Sequence[Sentence], row_blocks: int | None = None) -> Pass:
    """Lay sentences one after the other into a pass of `row_blocks` (as few as they need if None).

    Each sees its own rows only. Raises ValueError for none, more than 32, or more rows than a pass has.
    """
    rows = sum(len(sentence.ids) for sentence in sentences)
    needed = -(-rows // isa.LANES)
    row_blocks = needed if row_blocks is None else row_blocks
    if not sentences or len(sentences) > isa.LANES:
        raise ValueError(f"{len(sentences)} sentences in a pass, 1 to {isa.LANES} fit")
    if not needed <= row_blocks <= isa.MAX_ROW_BLOCKS:
        raise ValueError(f"{rows} tokens in a pass of {row_blocks} row blocks, at most {isa.MAX_ROWS} tokens fit")
    columns = np.zeros((5, row_blocks * isa.LANES), np.int64)
    results, at = [], 0
    for sentence in sentences:
        count = len(sentence.ids)
        here = slice(at, at + count)
        columns[0, here] = sentence.ids
        columns[1, here] = np.arange(count)
        columns[2, here] = sentence.types
        columns[3, here] = at
        columns[4, here] = at + count
        results.append(at)
        at += count
    return Pass(*columns, tuple(results))
