# SPDX-License-Identifier: Apache-2.0
"""The report of `zynqbert bench edgebert` as tables of Markdown, to be shown in a notebook or pasted into a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from .charts import four_digits
from .edgebert_report import (
    accuracy_text,
    headline_rows,
    met_text,
    points_of,
    ratio_lines,
    subtitle_of,
    theta_text,
    title_of,
    way_of,
)

_COUNTED = ("accuracy (95 %), measured", "average layer, measured")


def page(report: Mapping[str, Any]) -> str:
    """Rows and ratios of each board, operating points, steps of the recipe."""
    parts = [f"# {title_of(report)}", f"{subtitle_of(report)}."]
    for board in report["boards"]:
        parts += [f"## {board.upper()}, a sentence", rows(report, board)]
    parts += ["## Operating points, by entropy alone, top clock", points(report)]
    if report["steps"]:
        parts += ["## Steps of the recipe, top clock", steps(report)]
    return "\n\n".join(parts) + "\n"


def rows(report: Mapping[str, Any], board: str) -> str:
    """Rows (a) to (d) of a board, those with a target at the headline's, and the ratios of their energies."""
    found = report["boards"][board]
    lines = [
        (
            f"({row['row']}) {row['name']}",
            *_counted(row),
            points_of(row["lost"]),
            four_digits(row["energy"]["value"]),
            four_digits(row["latency_mean"]["value"]),
            met_text(row),
        )
        for row in headline_rows(found)
    ]
    head = ("row", *_COUNTED, "points lost (95 %), measured", "mJ, modelled", "ms, modelled", "target, modelled")
    shown = [ratio for ratio in found["ratios"] if ratio["target_ms"] in (None, found["headline_target_ms"])]
    ratios = "\n".join(f"- {' '.join(line.split())}" for line in ratio_lines({**found, "ratios": shown}))
    return f"{_table(head, lines)}\n\n{ratios}"


def points(report: Mapping[str, Any]) -> str:
    """Threshold, accuracy, average layer and cost of each operating point, and of all layers."""
    lines = [
        (point["point"] or "all layers", theta_text(point) or "–", *_counted(point), *_costs(point))
        for point in report["operating_points"]
    ]
    return _table(("point", "θ", *_COUNTED, *_cost_heads(report)), lines)


def steps(report: Mapping[str, Any]) -> str:
    """The ablation: what the artifact of each step is, answers and costs, in each way that it can run."""
    lines = []
    for step in report["steps"]:
        told = step["model"]
        span = "" if told["mean_span"] is None else f", mean span {told['mean_span']:.1f}"
        size = f"{told['bytes'] / 1e6:.2f}", f"{told['density']:.1%}", f"{told['heads']} of {told['heads_of']}{span}"
        lines.append((f"{told['artifact']}, {told['word_format']} words", way_of(step), *size, *_counted(step)))
        lines[-1] += _costs(step)
    head = ("step", "way", "MB, counted", "encoder's weights not 0, counted", "heads, counted")
    return _table((*head, *_COUNTED, *_cost_heads(report)), lines)


def _counted(of: Mapping[str, Any]) -> tuple[str, str]:
    return accuracy_text(of["accuracy"]), f"{of['exit_layer']['value']:.2f}"


def _cost_heads(report: Mapping[str, Any]) -> list[str]:
    return [f"{board.upper()}: mJ, ms, cycles, modelled" for board in report["settings"]["boards"]]


def _costs(of: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("energy", "latency_mean", "cycles_mean")
    return tuple(", ".join(four_digits(found[name]["value"]) for name in names) for found in of["boards"].values())


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (head, *lines)]
    first, *others = ["| " + " | ".join(line) + " |" for line in cells]
    return "\n".join([first, "|---|" + "---:|" * (len(head) - 1), *others])
