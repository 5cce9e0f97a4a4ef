# SPDX-License-Identifier: Apache-2.0
"""The demonstration: sentences of the real test split through the board (emulated where there is none)."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..quant import datasets
from . import engine as engines
from .output import progress

SHOWN = 8
PIPED_WIDTH = 110
OTHER_COLUMNS = 66  # characters of the table beside the sentence
BUDGET_S = 40.0  # of the accuracy sample; the whole stays under a minute


@dataclass(frozen=True)
class Accuracy:
    """`right` of `total` answered sentences; `failed` more have no answer."""

    right: int
    total: int
    failed: int = 0

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        n, share = self.total, self.right / self.total
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        return middle - half, middle + half


def demo(
    artifact: Path,
    *,
    board: str = "zcu102",
    device: str = "auto",
    sentences: int = 500,
    seed: int = 0,
    offline: bool = False,
    console: Console | None = None,
) -> Accuracy | None:
    """Show several sentences in a table, then the accuracy over a sample of `sentences`; None where not measured."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPED_WIDTH)
    examples, reason = load_examples(offline)
    chosen = random.Random(seed).sample(examples, min(max(sentences, SHOWN), len(examples)))
    with engines.open(board=board, artifact=artifact, device=device) as engine:
        if sorted(engine.labels) != sorted(datasets.LABELS):
            raise ValueError(f"task.labels is {engine.labels}, the demo's sentences are {', '.join(datasets.LABELS)}")
        console.print(f"{engine.target.name}, {engine.clock_mhz:g} MHz, {artifact}", highlight=False)
        show(engine, chosen[:SHOWN], console)
        if reason is not None:
            console.print(f"accuracy not measured: {reason}", highlight=False, markup=False, soft_wrap=True)
            return None
        accuracy = measure(engine, chosen)
    console.print(summary(accuracy, seed), highlight=False, soft_wrap=True)
    return accuracy


def summary(accuracy: Accuracy, seed: int) -> str:
    """The accuracy in a line, and how many sentences have no answer."""
    if not accuracy.total:
        return f"accuracy not measured: all {accuracy.failed} sentences failed"
    failed = f"; {accuracy.failed} more failed" if accuracy.failed else ""
    low, high = accuracy.interval()
    return (
        f"accuracy {accuracy.right / accuracy.total:.1%} ({accuracy.right} of {accuracy.total} sentences of the test "
        f"split, seed {seed}; 95 % interval {low:.1%} to {high:.1%}){failed}"
    )


def load_examples(offline: bool) -> tuple[list[datasets.Example], str | None]:
    """Sentences of the test split; or our own, and why."""
    try:
        return datasets.movie_reviews("test", offline=offline), None
    except datasets.DataUnavailable as error:
        return datasets.own_sentences(), f"these are our own sentences, not the test split: {error}"


def show(engine: engines.Engine, examples: Sequence[datasets.Example], console: Console) -> None:
    """A table of results, a row a sentence."""
    results = list(engine.stream(example.text for example in examples))
    source = next((result.source for result in results if result.source), "")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("sentence", no_wrap=True, overflow="ellipsis", max_width=max(12, console.width - OTHER_COLUMNS))
    table.add_column("label")
    for name in ("confidence", f"{source}\nms", f"{source}\nW", f"{source}\nfps/W"):
        table.add_column(name, justify="right")
    table.add_column("correct?")
    for result, example in zip(results, examples, strict=True):
        if result.error is not None:
            table.add_row(Text(result.text), "failed", *[""] * 5)
            continue
        table.add_row(
            Text(result.text),
            Text(result.label),
            f"{result.confidence:.3f}",
            f"{result.latency_ms:.3f}",
            "" if result.power_w is None else f"{result.power_w:.2f}",
            "" if result.fps_per_w is None else f"{result.fps_per_w:.1f}",
            "yes" if result.label == datasets.LABELS[example.label] else "no",
        )
    console.print(table)
    for result in results:
        if result.error is not None:
            console.print(f"failed: {result.error}", highlight=False, markup=False, soft_wrap=True)


def measure(engine: engines.Engine, examples: Sequence[datasets.Example], budget_s: float = BUDGET_S) -> Accuracy:
    """Accuracy over `examples`, or over as many of them as the budget lets through."""
    deadline = time.monotonic() + budget_s
    right = total = failed = 0
    with progress("test sentences", len(examples)) as step:
        for result, example in zip(engine.stream(e.text for e in examples), examples, strict=True):
            right += result.label == datasets.LABELS[example.label]
            total += result.error is None
            failed += result.error is not None
            step()
            if time.monotonic() > deadline:
                break
    return Accuracy(right, total, failed)
