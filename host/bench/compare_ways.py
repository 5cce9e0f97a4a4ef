# SPDX-License-Identifier: Apache-2.0
"""Ways to answer the same sentences on one machine, and their times, taken so that a disturbance hits all alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...quant.datasets import Example
from ..engine import Engine
from ..errors import HostError
from ..packing import pack_pass

BLOCK = 20  # sentences that one way answers before the next one's turn


@dataclass(frozen=True)
class Way:
    """`run(i)` takes sentence i from token ids to logits, which is what is timed. `answers`: the label's index of every
    sentence. `bytes`: of its model on disk. `layers`: at which each sentence left, None where all layers run."""

    key: str
    name: str
    run: Callable[[int], object]
    answers: Sequence[int]
    bytes: int
    layers: Sequence[int] | None = None


def answers_of(logits: Callable[[int], object], count: int, step: Callable[[], None]) -> list[int]:
    """The index of the largest of `logits(i)`, [1, labels], for each of `count` sentences."""
    found = []
    for i in range(count):
        found.append(int(logits(i).argmax()))
        step()
    return found


def engine_answers(
    engine: Engine, examples: Sequence[Example], step: Callable[[], None]
) -> tuple[list[int], list[int] | None]:
    """The engine's answers, and with early exit the layers at which the sentences left.

    Raises HostError where a text is not answered.
    """
    answers, layers = [], []
    for result in engine.stream(example.texts for example in examples):
        if result.error is not None:
            raise HostError(f"{result.error}; the comparison ends here, at the text {result.text[:40]!r}")
        answers.append(engine.labels.index(result.label))
        layers.append(result.exit_layer)
        step()
    return answers, None if None in layers else layers


def engine_run(engine: Engine, examples: Sequence[Example]) -> Callable[[int], object]:
    """What runs one sentence a pass; tokens and rows are made beforehand."""
    passes = [pack_pass([engine.encoder.encode(example.texts)]) for example in examples]
    return lambda i: engine.run_pass(passes[i])


def timed(
    ways: Sequence[Way],
    sentences: int,
    rounds: int,
    step: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[list[float]]]:
    """By key of each way, round and sentence: the ms that it took. `step` is called after each.

    The ways take turns of BLOCK sentences, each time another one first. The first sentence of a turn runs once more
    before, untimed: caches and threads are still those of the way before.
    """
    found: dict[str, list[list[float]]] = {way.key: [[] for _ in range(rounds)] for way in ways}
    turn = 0
    for of_round in range(rounds):
        for begin in range(0, sentences, BLOCK):
            for place in range(len(ways)):
                way = ways[(turn + place) % len(ways)]
                way.run(begin)
                for i in range(begin, min(begin + BLOCK, sentences)):
                    start = clock()
                    way.run(i)
                    found[way.key][of_round].append((clock() - start) * 1e3)
                    step()
            turn += 1
    return found
