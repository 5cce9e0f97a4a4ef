# SPDX-License-Identifier: Apache-2.0
"""Sentences as entries of an engine's queue, and what the engine made of them (docs/program.md, Continuous batching).

An entry is one or more sentences that lie in the same row blocks. The engine takes entries in their order, each to the
first row blocks that are free; it says nothing of which went where, so `follow` takes the same steps again.
"""

import functools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..fpga import instructions as isa
from .layouts import QueueLayout
from .packing import NO_ROW, Sentence

LEAST_ROWS = isa.LANES // isa.BLOCK_LANES  # that a sentence takes: so many begin in a row block as have a lane there


def rows_of(sentence: Sentence) -> int:
    """That it takes in an entry."""
    return max(len(sentence.ids), LEAST_ROWS)


@dataclass(frozen=True)
class Entry:
    """Sentences one after the other, from the first row of a row block on; `numbers` are theirs among the texts."""

    sentences: tuple[Sentence, ...]
    numbers: tuple[int, ...]

    def __post_init__(self) -> None:
        rows = sum(map(rows_of, self.sentences))
        if not self.sentences or not 1 <= rows <= isa.MAX_ROWS:
            raise ValueError(f"an entry of {len(self.sentences)} sentences and {rows} rows, 1 to {isa.MAX_ROWS} fit")

    @property
    def row_blocks(self) -> int:
        """That it takes."""
        return -(-sum(map(rows_of, self.sentences)) // isa.LANES)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First row and the one behind the last of each sentence, counted from the entry's first."""
        begins = np.cumsum([0, *map(rows_of, self.sentences)]).tolist()
        return [(begin, begin + len(sentence.ids)) for begin, sentence in zip(begins, self.sentences, strict=False)]

    @property
    def lanes(self) -> list[int]:
        """Of each sentence, counted from the first lane of the entry's first row block: one of the row block that it
        begins in, which is not free before it has left."""
        begins = [begin // isa.LANES for begin, _ in self.spans]
        return [block * isa.BLOCK_LANES + begins[:n].count(block) for n, block in enumerate(begins)]

    def blocks(self, sentence: int, first: int) -> int:
        """Row blocks of its n-th sentence, a bit each, where the entry lies from row block `first` on."""
        begin, end = self.spans[sentence]
        return sum(1 << first + block for block in range(begin // isa.LANES, (end - 1) // isa.LANES + 1))

    def data(self) -> np.ndarray:
        """Its beats, uint8 [(3 + 32 * row_blocks) * 16]."""
        out = np.zeros((isa.QUEUE_BEATS + self.row_blocks * isa.LANES, isa.BEAT_BYTES), np.uint8)
        out[0, 0] = self.row_blocks
        lanes = out[1 : isa.QUEUE_BEATS].reshape(-1)
        lanes[:] = NO_ROW
        lanes[self.lanes] = [begin for begin, _ in self.spans]
        rows = out[isa.QUEUE_BEATS :]
        for sentence, (begin, end) in zip(self.sentences, self.spans, strict=True):
            here, count = rows[begin:end], end - begin
            here[:, 0:4] = sentence.ids.astype("<u4").reshape(-1, 1).view(np.uint8)
            columns = (np.arange(count), sentence.types, np.full(count, begin), np.full(count, end))
            for at, column in zip((4, 6, 8, 10), columns, strict=True):
                here[:, at : at + 2] = column.astype("<u2").reshape(-1, 1).view(np.uint8)
        return out.reshape(-1)


def queue_bytes(entries: Sequence[Entry], layout: QueueLayout) -> np.ndarray:
    """The queue, uint8: entries as the layout places them, and the one that ends it. ValueError for too many."""
    if not 1 <= len(entries) <= layout.entries:
        raise ValueError(f"{len(entries)} entries, a queue has 1 to {layout.entries}")
    out = np.zeros((len(entries) + 1, layout.entry_bytes), np.uint8)
    for row, entry in zip(out, entries, strict=False):
        data = entry.data()
        row[: len(data)] = data
    return out.reshape(-1)


@dataclass(frozen=True)
class Left:
    """A sentence's answer: logits int16 [labels], the layer behind which it left (1 is the first), entropy there."""

    logits: np.ndarray
    layer: int
    entropy: int


@dataclass(frozen=True)
class Course:
    """Steps (from 0) at which each sentence came and left, by its number; for the cycle model the row blocks that lived
    after each step, and those of each entry."""

    steps: dict[int, tuple[int, int]]
    verdicts: tuple[int, ...]
    queue: tuple[int, ...]


@dataclass(frozen=True)
class Followed:
    """Answers by the sentences' numbers, and the course that they took."""

    answers: dict[int, Left]
    course: Course


def follow(entries: Sequence[Entry], layout: QueueLayout, io: np.ndarray) -> Followed:
    """What a run over these entries left in `io` (uint8), step by step."""
    answers: dict[int, Left] = {}

    def leaving(step: int, staying: Sequence[tuple[int, int]]) -> list[int]:
        if step >= layout.steps:
            raise RuntimeError("the queue's results do not end")
        logits, record = layout.step(io, step)
        gone = [(lane, number) for lane, number in staying if record.layer[lane]]
        for lane, number in gone:
            answers[number] = Left(logits[lane].copy(), int(record.layer[lane]), int(record.entropy[lane]))
        return [number for _, number in gone]

    return Followed(answers, course_of(entries, leaving))


def course_of(entries: Sequence[Entry], leaving: Callable[[int, Sequence[tuple[int, int]]], list[int]]) -> Course:
    """The steps that the engine takes. `leaving(step, staying)`: which of the sentences (lane, number) that are in the
    pass leave at that step."""
    waiting = deque(entries)
    staying: dict[int, tuple[int, int]] = {}  # by number: lane, and row blocks, a bit each
    came: dict[int, int] = {}
    left: dict[int, int] = {}
    verdicts: list[int] = []
    live = 0
    while waiting or live:
        while waiting and (first := first_free(live, waiting[0].row_blocks)) is not None:
            entry = waiting.popleft()
            live |= ((1 << entry.row_blocks) - 1) << first
            for n, (lane, number) in enumerate(zip(entry.lanes, entry.numbers, strict=True)):
                staying[number] = first * isa.BLOCK_LANES + lane, entry.blocks(n, first)
                came[number] = len(verdicts)
        for number in leaving(len(verdicts), [(lane, number) for number, (lane, _) in staying.items()]):
            del staying[number]
            left[number] = len(verdicts)
        live = functools.reduce(int.__or__, (blocks for _, blocks in staying.values()), 0)
        verdicts.append(live)
    steps = {number: (came[number], left[number]) for number in came}
    return Course(steps, tuple(verdicts), tuple(entry.row_blocks for entry in entries))


def first_free(live: int, count: int) -> int | None:
    """The first of `count` row blocks side by side that are not in `live` (a bit each); None if there are none.

    >>> first_free(0b0101, 1), first_free(0b0001, 2), first_free(0b0101, 2)
    (1, 1, None)
    """
    wanted = (1 << count) - 1
    return next((rb for rb in range(isa.MAX_ROW_BLOCKS - count + 1) if not live & wanted << rb), None)
