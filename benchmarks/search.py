# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/search.md: what `zynqbert search` found among the committed models.

    python benchmarks/search.py

Run again when `make search` has changed artifacts/movie-reviews.search.json; a test holds the document against it.
"""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from zynqbert.fpga.whole_file import write_whole
from zynqbert.host.search_front import counts_text, is_default
from zynqbert.host.search_rows import Row, rows_of
from zynqbert.host.search_text import accuracy_text

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "artifacts" / "movie-reviews.search.json"
PAGE = ROOT / "docs" / "search.md"
HEADING = "## The committed models\n"  # what follows it in the page is written here
LOSS_POINTS = 1.0
HEAD = (
    "model",
    "leaves",
    "columns",
    "MHz",
    "sentences a pass",
    "dev, %",
    "test, %",
    "mean layer",
    "p99 ms",
    "W",
    "fps/W",
)


@cache
def report() -> dict[str, Any]:
    """The committed search."""
    return json.loads(REPORT.read_text(encoding="utf-8"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """A table in Markdown; the first `left` columns are text, the others numbers."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    return [f"| {' | '.join(row)} |" for row in (head, marks, *rows)] + [""]


def cells(row: Row) -> list[str]:
    """A candidate as a row of a table."""
    of = report()["models"][row["model"]]["exits"][row["exit"]]
    tested = report()["test"].get(row["model"], {}).get(row["exit"])
    return [
        *(row["model"], row["exit"], str(row["columns"]), f"{row['clock_mhz']:g}"),
        f"{report()['settings']['sentences'] / row['passes']:.1f}",
        *(accuracy_text(of), "" if tested is None else accuracy_text(tested), f"{row['mean_layer']:.2f}"),
        *(f"{row['p99_ms']:.3f}", f"{row['power_w']:.1f}", f"{row['fps_per_w']:,.0f}"),
    ]


def default(board: str, model: str) -> Row:
    """How `zynqbert run` runs a model if nothing else is asked for."""
    return next(row for row in rows_of(report(), board) if row["model"] == model and is_default(row))


def models() -> list[str]:
    """What the models are."""
    rows = [
        [
            *(name, str(of["layers"]), str(of["hidden"]), f"{of['heads']} of {of['heads_of']}"),
            "all" if of["mean_span"] is None else f"{of['mean_span']:.1f}",
            *(f"{100 * of['density']:.0f} %", f"{of['weight_bytes'] / 1e6:.2f}", f"{of['mean_tokens']:.1f}"),
            accuracy_text(of["exits"]["all layers"]),
        ]
        for name, of in report()["models"].items()
    ]
    head = ("model", "layers", "hidden", "heads", "mean span", "not 0", "MB", "tokens", "dev %")
    return table(head, rows, 1)


def fronts() -> list[str]:
    """The front of each board, and what is not on it."""
    lines = []
    for board in report()["settings"]["boards"]:
        shown = [cells(row) for row in report()["fronts"][board]]
        defaults = [[f"*{row[0]}*", f"*{row[1]}, by default*", *row[2:]] for row in map(cells, starred(board))]
        lines += [f"**{board}**: {counts_text(report()['counts'][board])}.", "", *table(HEAD, shown + defaults, 2)]
    return lines


def starred(board: str) -> list[Row]:
    """The defaults of the models."""
    return [default(board, name) for name in report()["models"]]


def gains() -> list[str]:
    """Beside each model as it runs by default the front's most frugal candidate that is no less accurate on dev."""
    lines = []
    for board in report()["settings"]["boards"]:
        for row in starred(board):
            found = next(other for other in report()["fronts"][board] if other["accuracy"] >= row["accuracy"])
            how = f"{found['model']}, {found['exit']}, {found['mode']}, {found['clock_mhz']:g} MHz"
            tests = [report()["test"].get(of["model"], {}).get(of["exit"]) for of in (found, row)]
            times, p99 = row["energy_mj"] / found["energy_mj"], f"{found['p99_ms']:.3f} ms for {row['p99_ms']:.3f}"
            said = f"- {board}, {row['model']}: {how}: {times:.1f} times less energy, p99 {p99}"
            if all(tests):
                said += ", {:.1f} % of the test split for {:.1f}".format(*(100 * of["accuracy"] for of in tests))
            lines.append(f"{said}.")
    return [*lines, ""]


def choices() -> list[str]:
    """The least energy by what is held fixed: clock, mode, array, kind of way to leave."""
    models = report()["models"]
    kinds = {(name, exit_name): way["kind"] for name, of in models.items() for exit_name, way in of["exits"].items()}
    held: dict[str, Callable[[Row], str]] = {
        "clock": lambda row: f"{row['clock_mhz']:g} MHz",
        "mode": lambda row: row["mode"],
        "columns": lambda row: str(row["columns"]),
        "leaves": lambda row: kinds[row["model"], row["exit"]],
    }
    least = models["movie-reviews"]["exits"]["all layers"]["accuracy"] - LOSS_POINTS / 100
    lines = []
    for board in report()["settings"]["boards"]:
        fine = [row for row in rows_of(report(), board) if row["meets"] and row["accuracy"] >= least]
        for name, value_of in held.items():
            for value in sorted({value_of(row) for row in fine}):
                best = min((row for row in fine if value_of(row) == value), key=lambda row: row["energy_mj"])
                array = f"{best['columns']} columns, {best['clock_mhz']:g} MHz"
                how = f"{best['model']}, {best['exit']}, {best['mode']}, {array}"
                figures = f"{100 * best['accuracy']:.1f}", f"{best['p99_ms']:.3f}", f"{best['energy_mj']:.3f}"
                lines.append([board, name, value, how, *figures])
    return table(("board", "held", "at", "least energy with", "dev, %", "p99 ms", "mJ"), lines, 4)


def cost() -> str:
    """What looking the space through took."""
    boards = report()["settings"]["boards"]
    candidates = sum(of["candidates"] for of in report()["counts"].values())
    modelled = sum(1 for board in boards for _ in rows_of(report(), board))
    simulated = sum(report()["simulated"].values())
    return f"Of {candidates:,} candidates {modelled:,} were modelled, by {simulated:,} simulated passes"


def render(page: str) -> str:
    """The page with the tables of the committed search in the place of those it has."""
    head, heading, _ = page.partition(HEADING)
    if not heading:
        raise ValueError(f"{PAGE}: has no line {HEADING.strip()!r} any more; remedy: write it where the tables go")
    settings = report()["settings"]
    lines = [
        f"`make search`: p99 within {settings['latency_ms']:g} ms, {settings['sentences']:,} dev sentences of the",
        "movie reviews; what is on a front, and each model through all layers, also on the test split. Accuracy",
        "(measured) ± the farther side of its 95 % interval (Wilson); p99 ms, W and fps/W are modelled; in italics how",
        "`zynqbert run` runs a model by default. Every candidate is a line of",
        "[artifacts/movie-reviews.search.json](../artifacts/movie-reviews.search.json).",
        "",
        *models(),
        *fronts(),
        "![accuracy against energy a sentence](../artifacts/movie-reviews.search.svg)",
        "",
        "Grey are the other candidates, crosses those too slow, stars the defaults.",
        "",
        "The most frugal candidate of the front that is no less accurate on dev than a model by default:",
        "",
        *gains(),
        f"What a choice is worth: the least energy of what loses at most {LOSS_POINTS:g} point on dev against MiniLM",
        "with all layers, one choice held at a time.",
        "",
        *choices(),
        f"{cost()}.",
    ]
    return head + heading + "\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_whole(PAGE, render(PAGE.read_text(encoding="utf-8")))
