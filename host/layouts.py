# SPDX-License-Identifier: Apache-2.0
"""Where a compiled model's data lie: memory image, io buffer, activation memory (docs/program.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..fpga import instructions as isa

RECORD_BYTES = isa.RECORD_WORDS * isa.LANES * 2


def longest_row(codes: np.ndarray) -> int:
    """Most codes that a row of AdaptivFloat words [n, width] stores: those that are not 0."""
    return int(np.count_nonzero(codes, axis=1).max())


@dataclass(frozen=True)
class Region:
    """`bytes` bytes of the memory image from `offset`."""

    offset: int
    bytes: int


def is_task_region(name: str) -> bool:
    """Whether region `name` of a model with adapters is the task's own: adapters, norms of layers, classifier,
    off-ramps; the rest is the backbone's."""
    part = name.split(".")
    if part[0] == "layers":
        return part[2] in ("attention_adapter", "ffn_adapter", "attention_norm", "ffn_norm")
    return part[0] in ("classifier", "exits")


def joined(pieces: Sequence[Region]) -> tuple[Region, ...]:
    """Pieces in the order of their offsets, those that touch as one.

    >>> joined([Region(0, 16), Region(16, 32), Region(64, 16)])
    (Region(offset=0, bytes=48), Region(offset=64, bytes=16))
    """
    found: list[Region] = []
    for piece in pieces:
        if found and found[-1].offset + found[-1].bytes == piece.offset:
            piece = Region(found[-1].offset, found.pop().bytes + piece.bytes)
        found.append(piece)
    return tuple(found)


@dataclass(frozen=True)
class TaskArea:
    """The last `bytes` bytes of an image from `offset`: what a task on a backbone has of its own.

    `pieces`: what of it can be other than 0, which is all that a change of tasks writes, each in one go.
    """

    offset: int
    bytes: int
    pieces: tuple[Region, ...]

    @property
    def moved(self) -> int:
        """Bytes that a change to this task writes."""
        return sum(piece.bytes for piece in self.pieces)


@dataclass(frozen=True)
class Trace:
    """Where an instruction leaves a copy of what it produced, and how to read it.

    Shape of the golden's buffer: [rows, channels]; [heads, rows, keys] for numerators; [results, channels] where
    `result_block`. `dtype` is int8, uint8 or int16.
    """

    name: str
    offset: int
    dtype: str
    channels: int
    result_block: bool = False
    heads: int = 0  # numerators only

    def bytes(self, row_blocks: int = isa.MAX_ROW_BLOCKS) -> int:
        """Bytes taken in the io buffer by a pass of `row_blocks` row blocks."""
        words = self.channels * (1 if self.result_block else row_blocks)
        if self.heads:
            words = self.heads * row_blocks * row_blocks * isa.LANES
        return words * isa.LANES * np.dtype(self.dtype).itemsize

    def read(self, io: np.ndarray, row_blocks: int) -> np.ndarray:
        """The buffer out of `io` (uint8) after a pass of `row_blocks`, padded rows included, in the golden's shape."""
        data = np.ascontiguousarray(io[self.offset : self.offset + self.bytes(row_blocks)]).view(self.dtype)
        if self.heads:
            by_key = data.reshape(self.heads, row_blocks, row_blocks * isa.LANES, isa.LANES)
            return by_key.transpose(0, 1, 3, 2).reshape(self.heads, row_blocks * isa.LANES, -1)
        by_channel = data.reshape(-1, self.channels, isa.LANES)
        return by_channel.transpose(0, 2, 1).reshape(-1, self.channels)


@dataclass(frozen=True)
class Record:
    """What the off-ramps of a pass leave of each lane, int64 [32]; 0 where there is no sentence, but for `output`.

    `layer` at which it left, from 1; `entropy` there and `first_entropy` at the ramp that foretold (steps of 2^-12
    nats, Q21); `foretold` layer, 0: none; `output` of the clocking wizard chosen there, -1: none.
    """

    layer: np.ndarray
    entropy: np.ndarray
    foretold: np.ndarray
    first_entropy: np.ndarray
    output: np.ndarray


@dataclass(frozen=True)
class IoLayout:
    """The io buffer: row block header, results (int16 [label][32 lanes], for kind token once a row block), traces.

    With off-ramps `record_offset` says where the record lies and `ramps` where the logits of the ramp of a layer (1 is
    the first); `clock_table`: where the host writes 256 bytes before a pass, the output of the clocking wizard for each
    layer foretold, None where no clock is chosen.
    """

    header: int
    results: int
    bytes: int
    labels: int
    traces: Mapping[str, Trace]
    record_offset: int | None = None
    ramps: Mapping[int, Trace] = field(default_factory=dict)
    clock_table: int | None = None

    def logits(self, io: np.ndarray, lane: int) -> np.ndarray:
        """Kind sequence: int16 [labels] of result lane `lane` out of `io` (uint8)."""
        return self.token_logits(io, 1)[lane]

    def ramp_logits(self, io: np.ndarray, layer: int, lane: int) -> np.ndarray:
        """With off-ramps: int16 [labels] that the ramp of `layer` (1 is the first) gave result lane `lane`."""
        return self.ramps[layer].read(io, 1)[lane].copy()

    def record(self, io: np.ndarray) -> Record:
        """With off-ramps: who left where, out of `io` (uint8) after a pass. ValueError without."""
        if self.record_offset is None:
            raise ValueError("the program has no off-ramps, so there is no record")
        words = io[self.record_offset : self.record_offset + RECORD_BYTES].view(np.int16).reshape(-1, isa.LANES)
        return Record(*words.astype(np.int64))

    def token_logits(self, io: np.ndarray, row_blocks: int) -> np.ndarray:
        """Kind token: int16 [rows, labels] out of `io` (uint8) after a pass of `row_blocks`, padded rows included."""
        return Trace("logits", self.results, "int16", self.labels).read(io, row_blocks).copy()


@dataclass(frozen=True)
class QueueLayout:
    """The io buffer of a program with a queue: `entries` entries `entry_bytes` apart from the beginning on, and one
    that ends it; behind them a step's results each, `stride` bytes apart: int16 [label][32 lanes], then the record.
    """

    entries: int
    entry_bytes: int
    results: int
    stride: int
    steps: int
    labels: int

    @property
    def bytes(self) -> int:
        """Of all of it."""
        return self.results + self.steps * self.stride

    def step(self, io: np.ndarray, number: int) -> tuple[np.ndarray, Record]:
        """Logits int16 [32 lanes, labels] and the record that step `number` (from 0) left in `io` (uint8)."""
        at = self.results + number * self.stride
        logits = Trace("logits", at, "int16", self.labels, result_block=True).read(io, 1)
        words = io[at + self.stride - RECORD_BYTES : at + self.stride].view(np.int16).reshape(-1, isa.LANES)
        return logits, Record(*words.astype(np.int64))

    @staticmethod
    def of(entries: int, depth: int, labels: int) -> "QueueLayout":
        """Room for so many entries through `depth` layers, one after the other if it must be."""
        entry = (isa.QUEUE_BEATS + isa.MAX_ROWS) * isa.BEAT_BYTES
        stride = labels * isa.LANES * 2 + RECORD_BYTES
        return QueueLayout(entries, entry, (entries + 1) * entry, stride, entries * depth, labels)


@dataclass(frozen=True)
class ActivationMap:
    """Words of the activation memory: base of each region, and words a row block of the first two and the last.

    x holds a norm's entries; q, p (two slots of 128 words) and context live until the product after attention alone, so
    that ffn may lie over all three. The gathered rows reuse x, the pooled ones q; an off-ramp must leave x, so that its
    gathered rows lie in q, and its pooled ones in `ramp`.
    """

    x: int
    x_stride: int
    q: int
    q_stride: int
    p: int
    context: int
    ffn: int
    ffn_stride: int
    ramp: int
