# SPDX-License-Identifier: Apache-2.0
"""What joins the units in the cycle model: counted tokens and the accumulator stream, each with its times.

A wait is a generator that yields until what it waits for has been produced; it returns the cycle from which that is
there.
"""

from bisect import bisect_left
from collections.abc import Generator

Waiting = Generator[None, None, int]


class CycleModelDeadlock(RuntimeError):
    """The units wait for each other: the program's tokens do not balance."""


class Tokens:
    """Counted tokens of one kind, each with the cycle from which it can be taken."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.taken = 0

    def put(self, time: int) -> None:
        """One more token, there from cycle `time` on."""
        self.times.append(time)

    def take(self, count: int) -> Waiting:
        """Take `count` tokens; the cycle at which the last of them is there (0 if none is asked for)."""
        while len(self.times) < self.taken + count:
            yield
        self.taken += count
        return self.times[self.taken - 1] if count else 0


class Accumulators:
    """The stream from array to vector unit: when words come, and when they have been read."""

    def __init__(self, depth: int):
        self.depth = depth
        self.sent: list[tuple[int, int]] = []  # first word's cycle, words
        self.sent_words = 0
        self.read_words: list[int] = []  # words read so far, a segment each
        self.read_last: list[tuple[int, int]] = []  # cycle of the segment's last read, cycles a word
        self.waits: list[tuple[int, int]] = []  # in which the reader waited: begin, end

    def send(self, first: int, words: int) -> None:
        """A tile's `words` words, the first in cycle `first`, then one a cycle."""
        self.sent.append((first, words))
        self.sent_words += words

    def room(self, words: int) -> Waiting:
        """The cycle from which `words` more words fit. Slots are taken back in order, at the pace of the reads."""
        needed = self.sent_words + words - self.depth
        if needed <= 0:
            return 0
        while not self.read_words or self.read_words[-1] < needed:
            yield
        at = bisect_left(self.read_words, needed)
        last, interval = self.read_last[at]
        return last - interval * (self.read_words[at] - needed) + 1

    def sent_for(self, words: int) -> Waiting:
        """Until the next `words` words to read have been sent."""
        while self.sent_words - (self.read_words[-1] if self.read_words else 0) < words:
            yield
        return 0

    def receive(self, start: int, words: int, interval: int) -> Generator[None, None, tuple[int, int]]:
        """Read `words` words from `start` on, at best one in `interval` cycles; the last read and cycles waited."""
        waited, free, got = 0, start, 0
        while got < words:
            at = len(self.read_words)
            while len(self.sent) <= at:
                yield
            sent, count = self.sent[at]
            begin = max(free, sent + 1)
            last = max(begin + interval * (count - 1), sent + count)
            waited += begin - free + last - begin - interval * (count - 1)
            if begin > free:
                self.waits.append((free, begin))
            free, got = last + interval, got + count
            self.read_words.append((self.read_words[-1] if self.read_words else 0) + count)
            self.read_last.append((last, interval))
        if got != words:
            raise CycleModelDeadlock(f"a vector command takes {words} accumulator words where tiles end at {got}")
        return free - interval, waited
