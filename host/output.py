# SPDX-License-Identifier: Apache-2.0
"""Results as text, JSON lines or CSV, one at a time; progress on stderr where someone watches."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .result import Result


def write_results(results: Iterable[Result], form: str, out=None) -> None:
    """Write `results` to `out` (stdout) as they come, as "text", "jsonl" or "csv"."""
    out = out or sys.stdout
    if form == "jsonl":
        for result in results:
            print(json.dumps(result.as_dict(), ensure_ascii=False), file=out, flush=True)
    elif form == "csv":
        names = [field.name for field in fields(Result)]
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        for result in results:
            row = result.as_dict() | {"logits": " ".join(map(str, result.logits))}
            writer.writerow([row[name] for name in names])
    else:
        for result in results:
            print(text_line(result), file=out, flush=True)


def text_line(result: Result) -> str:
    """One result in one line, what is modelled marked so."""
    cut = "  (truncated)" if result.truncated else ""
    return (
        f"{result.label}  {result.confidence:.3f}  {result.latency_ms:.3f} ms  {result.power_w:.2f} W  "
        f"{result.fps_per_w:.1f} fps/W  [{result.source}, {result.clock_mhz:g} MHz]{cut}  {result.text}"
    )


# What the user chose or the array's shape gives; every other figure of an estimate is modelled.
GIVEN = ("model", "board", "sequence", "clock_mhz", "peak_macs_per_cycle")


def print_estimate(figures: dict[str, Any], reference: list[dict[str, Any]]) -> None:
    """An estimate for people: its figures, what binds, and the same model beside FQ-BERT's published latencies."""
    extra = figures["extra"]
    for name, value in figures.items():
        if name not in ("extra", "modelled"):
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            print(f"{name:20} {shown:16}" + ("" if name in GIVEN else "modelled"))
    for name in ("power_range_w", "fps_per_w_range"):
        low, high = extra[name]
        print(f"{name:20} {f'{low:.3g} .. {high:.3g}':16}modelled")
    print(f"{'padding_waste':20} {extra['padding_waste']:<16.1%}modelled: padding, split channels, 8-bit halves")
    print(f"{'ddr_mb_read':20} {extra['ddr_bytes_read'] / 1e6:<16.1f}modelled")
    for line in figures["extra"]["over_budget"]:
        print(f"{'over budget':20} {line}")
    print("\nThe same cycle model at FQ-BERT's multipliers and clock, nothing fitted (BERT-base encoder, 128 tokens):")
    for row in reference:
        print(
            f"  {row['board']}, {row['multipliers']} multipliers at {row['clock_mhz']:g} MHz: modelled "
            f"{row['modelled_ms']:.1f} ms, published {row['published_ms']:.2f} ms"
        )
    print(f"  {reference[0]['difference']}")


@contextmanager
def progress(what: str, total: int | None = None, *, beside_output: bool = False) -> Iterator:
    """A progress bar on stderr, shown only on a terminal; yields a function to call once a step.

    With `beside_output` lines go to stdout meanwhile: where that is a terminal too, they are progress enough.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    shown = console.is_terminal and not (beside_output and sys.stdout.isatty())
    # rich would send what is printed meanwhile to the bar's console, that is to stderr
    with Progress(*columns, console=console, disable=not shown, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
