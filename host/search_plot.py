# SPDX-License-Identifier: Apache-2.0
"""The picture of `zynqbert search`: accuracy against energy a sentence, a panel a board."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..fpga.whole_file import write_whole
from .search_front import is_default
from .search_rows import Row, rows_of

PICTURE = "search.svg"
GREY, PALE = "#6b7280", "#c9ced6"
COLOURS = ("#1f5fa8", "#b35900", "#1c7c54", "#8a6bb8")  # of models, in their order


def draw(report: Mapping[str, Any], path: Path) -> None:
    """All candidates that were modelled in grey, the front joined, each model as it runs by default as a star; the same
    bytes for the same report (and matplotlib). Raises OSError."""
    import matplotlib
    from matplotlib.figure import Figure

    boards = report["settings"]["boards"]
    fonts = {"font.size": 9, "font.sans-serif": ["DejaVu Sans", "Arial"]}
    with matplotlib.rc_context({"svg.hashsalt": "zynqbert", "svg.fonttype": "none"} | fonts):
        figure = Figure(figsize=(1 + 5.2 * len(boards), 4.4), layout="constrained")
        for axes, board in zip(figure.subplots(1, len(boards), squeeze=False)[0], boards, strict=True):
            _panel(axes, report, board)
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    write_whole(path, written.getvalue())


def _panel(axes, report: Mapping[str, Any], board: str) -> None:
    settings = report["settings"]
    rows = list(rows_of(report, board))
    slow = f"not within {settings['latency_ms']:g} ms"
    _dots(axes, [row for row in rows if not row["meets"]], color=PALE, marker="x", label=slow)
    _dots(axes, [row for row in rows if row["meets"]], color=GREY, marker=".", label="candidate")
    front = report["fronts"][board]
    if front:
        axes.plot(*_places(front), color="black", linewidth=0.9, zorder=3)
    for colour, model in zip(COLOURS * len(report["models"]), report["models"], strict=False):
        own = [row for row in front if row["model"] == model]
        _dots(axes, own, color=colour, marker="o", label=f"front: {model}", zorder=4)
        default = [row for row in rows if row["model"] == model and is_default(row)]
        _dots(axes, default, color=colour, marker="*", s=90, label=f"{model} by default", zorder=5)
    axes.set_xscale("log")
    axes.set_xlabel("energy a sentence, mJ (modelled)")
    axes.set_ylabel(f"accuracy, % of {settings['sentences']:,} dev texts (measured)")
    axes.set_title(board)
    axes.grid(linewidth=0.4, which="both")
    if rows:
        axes.legend(frameon=False, fontsize=7, loc="lower right")


def _places(rows: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [row["energy_mj"] for row in rows], [100 * row["accuracy"] for row in rows]


def _dots(axes, rows: Sequence[Row], *, s: float = 14, **how) -> None:
    if rows:
        axes.scatter(*_places(rows), s=s, linewidths=0.7, **how)
