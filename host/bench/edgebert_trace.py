# SPDX-License-Identifier: Apache-2.0
"""What the engine itself decided, sentence by sentence, kept in files so that a run that was cut goes on.

A trace belongs to its settings: the model's digest, the texts', how sentences leave, the board and the target. Other
settings have another file, so nothing stale is read.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...fpga.whole_file import write_whole

EVERY = 50  # sentences between two writings of the file


@dataclass
class Trace:
    """By sentence, in order: index of its label, layer at which it left (1 is the first), layer foretold (0: none),
    entropy where it left in nats (None where all layers ran), clock of what came after the first off-ramp in MHz.

    All of it counted from what the engine's registers and records say; nothing is modelled.
    """

    labels: list[int] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    foretold: list[int] = field(default_factory=list)
    entropies: list[float | None] = field(default_factory=list)
    clocks_mhz: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, label: int, layer: int, foretold: int, entropy: float | None, clock_mhz: float) -> None:
        """One more sentence."""
        self.labels.append(label)
        self.layers.append(layer)
        self.foretold.append(foretold)
        self.entropies.append(entropy)
        self.clocks_mhz.append(clock_mhz)

    def right(self, labels: Sequence[int]) -> list[bool]:
        """Which sentences are answered as `labels` say."""
        return [found == label for found, label in zip(self.labels, labels, strict=True)]


def digest(value: Any) -> str:
    """16 hex digits of anything that is JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def kept(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    count: int,
    run: Callable[[int, Trace], None],
    step: Callable[[], None] = lambda: None,
) -> Trace:
    """The trace of `count` sentences with these settings: from its file in `folder`, what is missing by `run`.

    `run(first, trace)` adds the sentences from number `first` on, and calls `trace.add` alone; the file is written
    every EVERY sentences, and when `run` ends or fails. `step` is called for each sentence, there or run. Raises
    ValueError for a file that is none of ours.
    """
    path = folder / f"{name}-{digest(settings)}.json"
    trace = read(path, settings, count) if path.exists() else Trace()
    for _ in range(len(trace)):
        step()
    if len(trace) == count:
        return trace
    folder.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        write_whole(path, json.dumps({"settings": dict(settings), "trace": asdict(trace)}))

    try:
        run(len(trace), _Keeping(trace, write, step))
    finally:
        write()
    if len(trace) != count:
        raise ValueError(f"{path}: {len(trace)} of {count} sentences were answered")
    return trace


class _Keeping(Trace):
    """A trace that is written as it grows."""

    def __init__(self, trace: Trace, write: Callable[[], None], step: Callable[[], None]):
        self.__dict__.update(trace.__dict__)  # the same lists
        self._write, self._step = write, step

    def add(self, *sentence) -> None:
        super().add(*sentence)
        self._step()
        if len(self) % EVERY == 0:
            self._write()


def read(path: Path, settings: Mapping[str, Any], count: int) -> Trace:
    """The trace in a file. Raises ValueError, with the remedy, where it is none of at most `count` sentences."""
    remedy = "remedy: remove the file, and its sentences run again"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        trace = Trace(**found["trace"])
        lengths = {len(values) for values in asdict(trace).values()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a trace ({type(error).__name__}: {error}); {remedy}") from error
    if found.get("settings") != dict(settings) or len(lengths) != 1 or len(trace) > count:
        raise ValueError(f"{path}: a trace of other settings or length; {remedy}")
    return trace
