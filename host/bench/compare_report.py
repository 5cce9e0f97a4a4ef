# SPDX-License-Identifier: Apache-2.0
"""The report of `zynqbert bench compare` for people: the same three tables as text and as Markdown.

Every heading says whether its figures are measured, modelled or published.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .charts import four_digits

WIDTH = 140  # of the text
NONE = "–"


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn: cells of text, the first column to the left, the rest to the right; `head` with its
    lines."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def grids(report: Mapping[str, Any]) -> list[Grid]:
    """The tables: measured here, modelled boards, published figures."""
    return [_measured(report), _modelled(report), _published(report)]


def text(report: Mapping[str, Any]) -> str:
    """The report as text."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, color_system=None)
    console.print(subtitle(report), highlight=False, markup=False)
    for grid in grids(report):
        table = Table(box=box.SIMPLE_HEAD, title=grid.title, title_justify="left", padding=(0, 1, 0, 0))
        for place, name in enumerate(grid.head):
            table.add_column(name, justify="right" if place else "left", no_wrap=True)
        for row in grid.rows:
            table.add_row(*map(Text, row))
        console.print(table)
        for note in grid.notes:
            console.print(note, highlight=False, markup=False)
    console.print(*(f"note: {note}" for note in report["notes"]), sep="\n", highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().split("\n"))


def markdown(report: Mapping[str, Any]) -> str:
    """The tables in Markdown, for a page."""
    parts = [f"{subtitle(report)}."]
    for grid in grids(report):
        head = [name.replace("\n", " ") for name in grid.head]
        lines = [head, ["---", *["---:"] * (len(grid.head) - 1)], *grid.rows]
        drawn = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        parts += [f"**{grid.title}**", drawn, *("\n".join(f"- {note}" for note in of) for of in [grid.notes] if of)]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in report["notes"])]) + "\n"


def subtitle(report: Mapping[str, Any]) -> str:
    """What ran on what, in a line."""
    given, here = report["settings"], report["machine"]
    instructions = f" with {', '.join(here['instructions'])}" if here["instructions"] else ""
    tokens = four_digits(report["tokens"]["mean"]["value"])
    return (
        f"{given['artifact']} and {given['float']}: {given['sentences']} sentences of {given['texts_from']}, {tokens} "
        f"tokens on average; timed {given['rounds']} times {given['timed_sentences']} of them with {given['threads']} "
        f"{'thread' if given['threads'] == 1 else 'threads'} on a {here['cores']}-core {here['architecture']} machine"
        f"{instructions}"
    )


def _measured(report: Mapping[str, Any]) -> Grid:
    head = ("on this machine, measured", "accuracy\n(95 %)", "points against float\n(95 %)", "answers\nas float")
    head = (*head, "median\nms", "90 % within\nms", "sentences/s", "MB")
    rows = []
    for row in report["measured"]:
        speed = [four_digits(row[name]["value"]) for name in ("latency_p50", "latency_p90", "per_second")]
        name = row["name"] if row["exit_layer"] is None else f"{row['name']}, layer {row['exit_layer']['value']:.2f}"
        agreed = f"{row['agreement']['value']:.2%}"
        size = f"{row['bytes']['value'] / 1e6:.1f}"
        rows.append([name, _accuracy(row["accuracy"]), _points(row["difference"]), agreed, *speed, size])
    return Grid("Accuracy and speed on this machine, measured; the emulator's speed is not a board's", head, rows)


def _modelled(report: Mapping[str, Any]) -> Grid:
    head = ("board, modelled", "accuracy,\nmeasured", "median\nms", "90 % within\nms", "sentences/s", "W")
    head = (*head, "fps/W (range)")
    accuracy = {row["key"]: row["accuracy"]["share"] for row in report["measured"]}
    rows = []
    for row in report["modelled"]:
        name = f"{row['board'].upper()}, {row['clock_mhz']:g} MHz, "
        name += "all layers" if row["point"] is None else f"leaving early at {row['point']}"
        cells = (four_digits(row[n]["value"]) for n in ("latency_p50", "latency_p90", "per_second", "power"))
        rows.append([name, f"{accuracy[row['answers']]:.2%}", *cells, _per_watt(row)])
    return Grid("The same sentences on a board, one to a pass: time and power modelled", head, rows)


def _published(report: Mapping[str, Any]) -> Grid:
    head = (
        "published",
        "platform, precision",
        "model",
        "tokens",
        "ms",
        "fps/W",
        "ours, modelled:\nms",
        "fps/W (range)",
    )
    rows, notes = [], []
    for number, row in enumerate(report["published"], 1):
        theirs = [_told(row["published"][name]) for name in ("latency", "fps_per_watt")]
        if "fps_per_watt_high" in row["published"]:
            theirs[1] += f" to {four_digits(row['published']['fps_per_watt_high']['value'])}"
        tokens = NONE if row["tokens"] is None else str(row["tokens"])
        shared = [f"{row['name']} [{number}]", f"{row['platform']}, {row['precision']}", row["model"], tokens, *theirs]
        rows += [[*shared, *cells] for cells in _ours(row)]
        beside = f"; nothing of ours beside it: {row['why']}" if "why" in row else ""
        notes.append(f"[{number}] {row['source']}{beside}")
    title = "Published figures, and ours at the same model and length, modelled; * follows from published figures"
    return Grid(title, head, rows, notes)


def _ours(row: Mapping[str, Any]) -> Iterator[list[str]]:
    for found in row["ours"]:
        where = f"{found['board'].upper()}: {four_digits(found['latency']['value'])}"
        yield [where, _per_watt(found)]
    if not row["ours"]:
        yield [NONE, NONE]


def _accuracy(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['share']:.2%} ({low:.1%} to {high:.1%})"


def _points(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NONE
    low, high = found["interval"]
    return f"{found['points']:+.2f} ({low:+.2f} to {high:+.2f})"


def _per_watt(row: Mapping[str, Any]) -> str:
    """Sentences a second and watt, and the model's range where it is known."""
    shown = four_digits(row["fps_per_watt"]["value"])
    if "fps_per_watt_low" not in row:
        return shown
    low, high = (four_digits(row[f"fps_per_watt_{bound}"]["value"]) for bound in ("low", "high"))
    return f"{shown} ({low} to {high})"


def _told(found: Mapping[str, Any]) -> str:
    """A published figure; * where it is derived."""
    return NONE if found["value"] is None else four_digits(found["value"]) + "*" * found.get("derived", False)
