# SPDX-License-Identifier: Apache-2.0
"""A stream cut into chunks that workers answer, told in the stream's order, and read no further than there is room."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .fleet_errors import DeadlySentence, Killed, NoWorkers
from .fleet_worker import Answered

AHEAD = 2  # chunks at a worker: one runs, one waits
READ = 4  # chunks a worker that may be read and not told yet: a slow one in front must not stop the others
POLL_S = 1.0  # how often the workers are counted while one waits
SHOWN = 60  # characters of a sentence in a message


@dataclass
class Chunk:
    """Items of a stream, the first with this number from 1, and what will be their answers once it is sent.

    alone: it is sent when nothing else is out, so that a death is its own.
    """

    first: int
    items: Sequence
    alone: bool = False
    future: Any = None


class Pool(Protocol):
    """Who answers."""

    remedy: str  # where nobody does any longer

    def count(self) -> int:
        """The workers there are."""

    def submit(self, chunk: Chunk) -> Any:
        """Have it answered: a future with `add_done_callback`."""

    def done(self, future: Any) -> bool:
        """Whether `result` has something to say."""

    def result(self, future: Any) -> Answered | None:
        """The answers; None where they were lost with their worker and come again. Raises Killed, FleetError."""

    def cancel(self, futures: Sequence) -> None:
        """Nobody waits for them."""


class Reader:
    """Reads items in a thread of its own, never more than `most` ahead of those that were `taken`.

    All is under the condition `changed`, which is told of every change. error: what ended the items, if not their end.
    """

    def __init__(self, items: Iterable, most: int, changed: threading.Condition):
        self.waiting: deque = deque()
        self.most, self.ended, self.error = most, False, None
        self._changed, self._held, self._stopped = changed, 0, False
        # A daemon: nothing can end a read from a terminal that nobody types at.
        threading.Thread(target=self._read, args=(items,), name="zynqbert fleet reader", daemon=True).start()

    def _read(self, items: Iterable) -> None:
        error = None
        try:
            for item in items:
                with self._changed:
                    self.waiting.append(item)
                    self._held += 1
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._held < self.most or self._stopped)
                    if self._stopped:
                        return
        except BaseException as found:  # of the caller's own generator: it is told where the answers are read
            error = found
        finally:
            with self._changed:
                self.ended, self.error = True, error
                self._changed.notify_all()

    def taken(self) -> None:
        """One item less is on its way."""
        with self._changed:
            self._held -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Read no further; an item that is being waited for is lost."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class Stream:
    """The chunks of `items`, as the pool answers them: `least` to `size` items each, fewer where the items end.

    answered: how many items are.
    """

    def __init__(self, pool: Pool, items: Iterable, size: int, patience_s: float, least: int = 1):
        self.pool, self.size, self.least, self.patience_s = pool, size, least, patience_s
        self.answered = 0
        self._changed = threading.Condition()
        self._workers = max(pool.count(), 1)
        self._looked, self._gone_since = time.monotonic(), None
        self._out: deque[Chunk] = deque()
        self._next = 1
        self._reader = Reader(items, self._most(), self._changed)

    def _most(self) -> int:
        return READ * self._workers * self.size

    def chunks(self) -> Iterator[Answered]:
        """What became of each chunk, in order. Call `taken` for each result of it that is passed on.

        What ended the items is raised behind the answers to those before. Raises NoWorkers when there has been no
        worker for patience_s; DeadlySentence; as `Pool.result`. Closing it cancels what is out.
        """
        try:
            while True:
                self._send()
                if not self._out and self._reader.ended and not self._reader.waiting:
                    break
                if self._out and self._is_done(self._out[0]):
                    if (answered := self._take()) is not None:
                        yield answered
                else:
                    self._wait()
            if self._reader.error is not None:
                raise self._reader.error
        finally:
            self._reader.stop()
            self.pool.cancel([chunk.future for chunk in self._out if chunk.future is not None])

    def taken(self) -> None:
        """A result was passed on: there is room for another item."""
        self.answered += 1
        self._reader.taken()

    def _is_done(self, chunk: Chunk) -> bool:
        return chunk.future is not None and self.pool.done(chunk.future)

    # Sending

    def _send(self) -> None:
        """Hand out all that may go now."""
        while (chunk := self._to_send()) is not None:
            chunk.future = self.pool.submit(chunk)
            chunk.future.add_done_callback(self._notify)

    def _to_send(self) -> Chunk | None:
        """The chunk that goes next, in its place in line."""
        if self._out and self._out[0].alone:
            return self._out[0] if self._alone_may_go() else None
        with self._changed:
            size = self._ready()
            items = [self._reader.waiting.popleft() for _ in range(size)]
        if not items:
            return None
        self._out.append(Chunk(self._next, items))
        self._next += size
        return self._out[-1]

    def _alone_may_go(self) -> bool:
        """Whether in front is a sentence that may be deadly, not sent yet, and nothing else runs."""
        head = self._out[0] if self._out else None
        if head is None or not head.alone or head.future is not None:
            return False
        return all(chunk.future is None or self._is_done(chunk) for chunk in self._out)

    def _ready(self) -> int:
        """How many of the items that wait make the next chunk now; 0 where it is better, or needed, to wait.

        An idle worker gets its share of what there is: a source that trickles is answered `least` by `least` items.
        """
        waiting = len(self._reader.waiting)
        if self._out and self._out[0].alone:
            return 0
        busy = sum(not self._is_done(chunk) for chunk in self._out)
        idle = self._workers - busy
        if idle > 0:
            share = min(self.size, max(self.least, -(-waiting // idle)))
            return min(share, waiting) if waiting >= share or self._reader.ended else 0
        full = waiting >= self.size or self._reader.ended
        return min(self.size, waiting) if full and busy < AHEAD * self._workers else 0

    # Waiting

    def _notify(self, _future: Any = None) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait(self) -> None:
        """Until the chunk in front is done, another can go or the items end; at times look who is there."""

        def something() -> bool:
            over = self._reader.ended and not self._reader.waiting and not self._out
            told = bool(self._out) and self._is_done(self._out[0])
            return over or told or self._alone_may_go() or self._ready() > 0

        with self._changed:
            self._changed.wait_for(something, min(POLL_S, self.patience_s))
        if time.monotonic() - self._looked >= min(POLL_S, self.patience_s):
            self._look()

    def _look(self) -> None:
        """Count the workers; NoWorkers if there have been none for too long while something is out."""
        count, self._looked = self.pool.count(), time.monotonic()
        if count:
            self._workers, self._gone_since = count, None
            with self._changed:
                self._reader.most = self._most()
                self._changed.notify_all()
        elif self._gone_since is None:
            self._gone_since = self._looked
        elif self._out and self._looked - self._gone_since >= self.patience_s:
            item = str(self._out[0].items[0])[:SHOWN]
            fault = f"no worker is left, for {self.patience_s:g} s: {self.answered} sentences are answered, "
            raise NoWorkers(
                f"{fault}the next is number {self._out[0].first}, {item!r}", self.pool.remedy, self.answered
            )

    def _take(self) -> Answered | None:
        """The answers of the chunk in front, or None where it has to run again."""
        chunk = self._out[0]
        try:
            answered = self.pool.result(chunk.future)
        except Killed as killed:
            if chunk.alone:
                raise DeadlySentence(chunk.first, chunk.items[0], killed.deaths, self.answered) from None
            self._out.popleft()
            alone = [Chunk(number, [item], alone=True) for number, item in enumerate(chunk.items, chunk.first)]
            self._out.extendleft(reversed(alone))
            return None
        if answered is None:
            self._look()
        else:
            self._out.popleft()
        return answered
