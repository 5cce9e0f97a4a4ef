# SPDX-License-Identifier: Apache-2.0
"""A stream whose sentences share passes: who is in which, host and engine side by side, results in order."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .job import Job
from .overlap import Overlap
from .packer import Packer
from .packing import Sentence
from .result import Result


class Waiting(NamedTuple):
    """A text, or pair of them, its number in the stream, and its tokens."""

    number: int
    given: Any
    sentence: Sentence


def packed(
    texts: Iterable[Any],
    packer: Packer[Waiting],
    encode: Callable[[Any], Sentence],
    make: Callable[[list[Waiting]], Job],
    run: Callable[[Job], None],
    answer: Callable[[Job], list[Result]],
    overlap: Overlap,
) -> Iterator[Result]:
    """The results of `texts`, in their order. `run` works in the thread of `overlap`, all else in the caller's.

    A pass is made, and one before it answered, while another runs; buffers that two passes take turns with are enough.
    What `encode` or `texts` raise comes after the results of all texts before.
    """
    found: dict[int, Result] = {}
    told = 0
    jobs = ((taken, make(taken)) for taken in passes(texts, packer, encode))
    for taken, job in overlap.run(jobs, lambda made: run(made[1])):
        found.update(zip((waiting.number for waiting in taken), answer(job), strict=True))
        while told in found:
            yield found.pop(told)
            told += 1


def tokens_of(sentence: Sentence) -> int:
    """The rows that it takes of a pass."""
    return len(sentence.ids)


def passes(
    texts: Iterable[Any],
    packer: Packer[Waiting],
    encode: Callable[[Any], Sentence],
    rows: Callable[[Sentence], int] = tokens_of,
    room: Callable[[int], int] | None = None,
) -> Iterator[list[Waiting]]:
    """Which texts go together; what reading one raises, after all those before it.

    `rows` of a sentence; `room`: what those that go together may take, by the rows of the first (a pass's if None).
    """
    fault: Exception | None = None
    source = enumerate(texts)

    def take() -> list[Waiting]:
        return packer.take(None if room is None else room(packer.first_rows))

    while fault is None:
        try:
            number, given = next(source)
            waiting = Waiting(number, given, encode(given))
        except StopIteration:
            break
        except Exception as error:
            fault = error
        else:
            packer.add(waiting, rows(waiting.sentence))
            if packer.full:
                yield take()
    while len(packer):
        yield take()
    if fault is not None:
        raise fault
