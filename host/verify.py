# SPDX-License-Identifier: Apache-2.0
"""Golden = native = csim, buffer by buffer: the golden model against the whole path, from driver to kernels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..fpga.boards import Board
from ..quant.task_manifest import TASKS
from . import engine as engines
from .packing import Pass, pack_pass
from .target import emulated


@dataclass(frozen=True)
class Difference:
    """The first element of a buffer that differs: its index, the golden's value and the one found."""

    buffer: str
    index: tuple[int, ...]
    expected: int
    found: int
    differing: int
    elements: int

    def __str__(self) -> str:
        at = ", ".join(map(str, self.index))
        return (
            f"{self.buffer}[{at}] is {self.found}, the golden has {self.expected} "
            f"({self.differing} of {self.elements} differ)"
        )


@dataclass(frozen=True)
class Verdict:
    """One text or pair in one build: the buffers that were compared, and the first difference in program order if any.

    `text` shows a pair as "one | other".
    """

    build: str
    text: str
    buffers: int
    difference: Difference | None


def verify(
    artifact: Path,
    board: Board,
    texts: Sequence[str | tuple[str, str]],
    builds: Sequence[str] = ("native",),
    task: str | None = None,
) -> Iterator[Verdict]:
    """Compare every traced buffer of each text or pair in each build with the golden model's; task: of a backbone."""
    from ..quant.golden_model import GoldenModel

    golden = GoldenModel(artifact, None if task is None else artifact / TASKS / task)
    for build in builds:
        with engines.open(
            board=board, artifact=artifact, device=emulated(board, build=build), trace=True, timeout_s=3600, task=task
        ) as engine:
            for given in texts:
                rows = pack_pass([engine.encoder.encode(given)])
                expected = golden_traces(golden, rows)
                found = engine.traces(rows)
                shown = given if isinstance(given, str) else " | ".join(given)
                yield Verdict(build, shown, len(found), first_difference(expected, found))


def golden_traces(golden, rows: Pass) -> dict[str, np.ndarray]:
    """Every buffer of the golden model for a pass, by name."""
    trace: dict[str, np.ndarray] = {}
    columns = (rows.word, rows.position, rows.type, rows.begin, rows.end)
    golden.forward(*columns, list(rows.results), trace=trace)
    return trace


def first_difference(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> Difference | None:
    """The first difference, in the order of `found` (program order); None if every buffer is equal.

    Raises KeyError for a buffer that the golden model does not name.
    """
    for name, data in found.items():
        want = np.asarray(expected[name])
        if want.shape != data.shape:
            return Difference(name, want.shape, want.size, data.size, data.size, data.size)
        unequal = np.argwhere(want != data)
        if len(unequal):
            index = tuple(int(i) for i in unequal[0])
            return Difference(name, index, int(want[index]), int(data[index]), len(unequal), data.size)
    return None


def summary(verdicts: Sequence[Verdict], print_line: Callable[[str], None]) -> bool:
    """Print one line a verdict; whether all are equal."""
    for verdict in verdicts:
        text = verdict.text if len(verdict.text) <= 60 else verdict.text[:57] + "..."
        state = f"{verdict.buffers} buffers equal" if verdict.difference is None else f"DIFFERS: {verdict.difference}"
        print_line(f"golden = {verdict.build}: {state}  | {text}")
    return all(verdict.difference is None for verdict in verdicts)
