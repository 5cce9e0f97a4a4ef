# SPDX-License-Identifier: Apache-2.0
"""Errors of a dense read-mostly memory (multi-level ReRAM and the like) in the stored words of a model. numpy only.

The model is that of nvmFI, the fault injector of NVMExplorer (Pentecost et al., HPCA 2022; github.com/lpentecost/
NVMExplorer, nvmFI/fi_utils.py and data_transforms), by authors of MaxNVM and EdgeBERT: a cell of b bits holds b
consecutive bits of one word, the most significant first, as one of 2^b levels in plain binary order (no Gray code), and
an error moves it to a neighbouring level, one up or one down; the lowest level errs upwards alone, the highest
downwards. Bits that fill no whole cell lie in a smaller one: a word of 8 bits in cells of 3 is 3 + 3 + 2, of 4 bits
3 + 1. nvmFI takes each level's rates from the overlap of measured distributions; here one `rate` is the probability
that a cell errs, whatever its level and size, and the way is a fair coin where there are two. With one bit a cell (SLC)
every bit flips with probability `rate`. Errors of cells are independent.

The first `protected` bits of each word never err. They are kept apart, one a cell, in three copies or under a code that
corrects; `overhead` says how many cells more that takes. That they never err is an ideal: two of three copies are wrong
with probability 3·rate² − 2·rate³, and SECDED over 72 bits fails at two errors of them.

What comes out is what a loader would read: it clamps words that the format has not, int4 0x8 (−8) to −7, int8 −128 to
−127, and the second zero of AdaptivFloat, code 128, to 0.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .artifact_tensors import linears

NIBBLES, INT8, ADAPTIVFLOAT = "nibbles", "int8", "adaptivfloat"
CELL_BITS = (1, 2, 3)
BACKBONE, EMBEDDINGS, BOTH = "backbone", "embeddings", "both"
TRIPLE, SECDED = 3.0, 72 / 64  # cells that keep one protected bit: copies by majority, or Hamming (72, 64)

_MATRIX = re.compile(r"layers\.\d+\.(q|k|v|o|ffn1|ffn2)|mapping|pooler")
_FIELDS = ("word", "position", "type")
_FORBIDDEN = {NIBBLES: (0x8, 0x9), INT8: (0x80, 0x81), ADAPTIVFLOAT: (0x80, 0x00)}  # and what the loader makes of it


class Words(NamedTuple):
    """How the words of a stored tensor [rows, …] lie in it, `width` of them a row: int4 `NIBBLES` two a byte (uint8, an
    odd row's last nibble pads), `INT8`, or codes of `ADAPTIVFLOAT` (uint8). Of these only what is not 0 is stored,
    behind a mask (Q24) that does not err."""

    form: str
    width: int

    @property
    def bits(self) -> int:
        """Of a word."""
        return 4 if self.form == NIBBLES else 8


@dataclass(frozen=True)
class Errors:
    """`rate` is the probability that a cell errs, `cell_bits` what it holds, `protected` the bits of each word, from
    the most significant on, that never err; `seed` decides where they are. Raises ValueError for what cannot be."""

    rate: float
    cell_bits: int = 1
    protected: int = 0
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate {self.rate:g} is not within 0 .. 1")
        if self.cell_bits not in CELL_BITS:
            raise ValueError(f"cell_bits {self.cell_bits} is none of {', '.join(map(str, CELL_BITS))}")
        if self.protected < 0 or self.seed < 0:
            raise ValueError(f"protected {self.protected} or seed {self.seed} is below 0")


def cells(bits: int, cell_bits: int, protected: int = 0) -> list[tuple[int, int]]:
    """The cells of a word of `bits`, from the most significant on: the place of each cell's lowest bit, and its bits.

    >>> cells(8, 3), cells(4, 3), cells(4, 2, protected=1), cells(4, 1, protected=4)
    ([(5, 3), (2, 3), (0, 2)], [(1, 3), (0, 1)], [(1, 2), (0, 1)], [])
    """
    ends = [*range(bits - protected, 0, -cell_bits), 0]
    return [(low, high - low) for high, low in pairwise(ends)]


def overhead(words: Mapping[str, Words], tensors: Mapping[str, np.ndarray], errors: Errors, copies=TRIPLE) -> float:
    """Share of cells that protection adds, the protected bits in `copies` single-bit cells each.

    >>> tensors = {"a": np.zeros((2, 3), np.uint8)}
    >>> overhead({"a": Words(NIBBLES, 5)}, tensors, Errors(0, cell_bits=2, protected=2))
    2.5
    """
    plain = kept = 0.0
    for name, of in words.items():
        number = _population(tensors[name], of)[0]
        plain += number * len(cells(of.bits, errors.cell_bits))
        apart = min(errors.protected, of.bits) * copies
        kept += number * (apart + len(cells(of.bits, errors.cell_bits, errors.protected)))
    return kept / plain - 1


def with_errors(name: str, tensor: np.ndarray, words: Words, errors: Errors) -> tuple[np.ndarray, int]:
    """A copy of the stored `tensor` with errors, and how many cells err.

    The same (seed, name) gives the same errors in a tensor of the same size: tasks that share a backbone meet the same
    ones. The nibble that pads a row is not stored.
    """
    groups = cells(words.bits, errors.cell_bits, errors.protected)
    number, stored = _population(tensor, words)
    random = np.random.default_rng([errors.seed, *hashlib.sha256(name.encode()).digest()[:8]])
    count = int(random.binomial(number * len(groups), errors.rate))
    out = np.array(tensor)
    if not count:
        return out, 0
    # choice without replacement takes time by the errors, not by the cells, where they are few
    hit = random.choice(number * len(groups), count, replace=False, shuffle=False)
    way = 2 * random.integers(0, 2, count) - 1
    word, cell = np.divmod(hit, len(groups))
    word, place = np.unique(word, return_inverse=True)
    at = np.divmod(word if stored is None else stored[word], words.width)
    value = _read(out, words, *at)
    for i, (low, bits) in enumerate(groups):
        of = cell == i  # of each word once, so that the sums below do not meet
        top = (1 << bits) - 1
        level = value[place[of]] >> low & top
        step = np.where(level == 0, 1, np.where(level == top, -1, way[of]))
        value[place[of]] += step << low  # within the cell: nothing is carried
    refused, instead = _FORBIDDEN[words.form]
    value[value == refused] = instead
    _write(out, words, *at, value)
    return out, count


def _population(tensor: np.ndarray, words: Words) -> tuple[int, np.ndarray | None]:
    """How many words are stored, and which, counted row by row; None for all."""
    if words.form == ADAPTIVFLOAT:
        stored = np.flatnonzero(tensor)
        return len(stored), stored
    return math.prod(tensor.shape[:-1]) * words.width, None


def _read(tensor: np.ndarray, words: Words, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Words at (row, column) as int64 in 0 .. 2^bits − 1."""
    raw = tensor.view(np.uint8)
    if words.form == NIBBLES:
        return (raw[row, column // 2] >> 4 * (column % 2) & 15).astype(np.int64)
    return raw[row, column].astype(np.int64)


def _write(tensor: np.ndarray, words: Words, row: np.ndarray, column: np.ndarray, value: np.ndarray) -> None:
    raw = tensor.view(np.uint8)
    if words.form != NIBBLES:
        raw[row, column] = value
        return
    for half in (0, 1):  # one after the other: both nibbles of a byte may have erred
        of = column % 2 == half
        byte = row[of], column[of] // 2
        raw[byte] = raw[byte] & (240 >> 4 * half) | value[of] << 4 * half


# of a model ----------------------------------------------------------------------------------------------------------


def stored(manifest: Mapping, tensors: Mapping[str, np.ndarray], where: str = BOTH) -> dict[str, Words]:
    """The tensors of a model in the dense memory, by name: of the `BACKBONE` the matrices of layers, mapping and
    pooler; of the `EMBEDDINGS` the q of words, positions and types; or `BOTH`.

    All else (adapters, off-ramps, classifier, norms, biases, factors, tables) is in the small writable memory and never
    errs. Raises ValueError for another `where`.
    """
    if where not in (BACKBONE, EMBEDDINGS, BOTH):
        raise ValueError(f"where {where!r} is none of {BACKBONE}, {EMBEDDINGS}, {BOTH}")
    found: dict[str, Words] = {}
    if where != EMBEDDINGS:
        for place in linears(manifest):
            name = f"{place.matrix}.weight"
            if _MATRIX.fullmatch(place.matrix):
                found[name] = Words(NIBBLES if tensors[name].dtype == np.uint8 else INT8, place.k)
    if where != BACKBONE:
        a = manifest["architecture"]
        for field in _FIELDS:
            name = f"embeddings.{field}.q"
            packed = NIBBLES if field != "word" or a["word_format"] == "integer" else ADAPTIVFLOAT
            found[name] = Words(packed if tensors[name].dtype == np.uint8 else INT8, a["embedding"])
    return found


def model_with_errors(
    tensors: Mapping[str, np.ndarray], words: Mapping[str, Words], errors: Errors
) -> tuple[dict[str, np.ndarray], int]:
    """A model's tensors with errors in those that `words` tells (`stored`), the others as they are; and how many cells
    err."""
    out, count = dict(tensors), 0
    for name, of in words.items():
        out[name], found = with_errors(name, tensors[name], of, errors)
        count += found
    return out, count
