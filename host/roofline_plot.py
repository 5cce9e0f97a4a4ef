# SPDX-License-Identifier: Apache-2.0
"""`zynqbert estimate --plot`: where the cycles go, the roofline, and published designs beside ours, in one picture."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..fpga.cycle_account import CAUSES
from ..fpga.cycles import UNITS
from ..fpga.whole_file import write_whole
from .inputs import InputError
from .options import check_out
from .roofline_text import DERIVED, DESIGN_HEAD, NOT_KNOWN, design_rows, model_name, over_layers

FORMATS = (".svg", ".png")
COLOURS = {
    "array": "#4c7fc0",
    "weights": "#d9732b",
    "vector": "#54a47d",
    "drain": "#a9d6bd",
    "load": "#d8b74a",
    "store": "#8a6bb8",
    "hand-over": "#9aa1ab",
}
MARKS = {"load": "<", "weights": "s", "array": "|", "vector": "o", "store": ">"}  # how long each unit works
GREY, OURS, THEIRS, BINARY = "#6b7280", "#1f5fa8", "#b35900", "#8a6bb8"
NAMED_FROM = 0.045  # share of the axis from which a part has room for its name
APART = 0.062  # decades between two names of the roofline
TOP, LINE = 0.97, 0.062  # of the table of designs, shares of its height
NOTES = (
    f"{DERIVED} derived from published figures; {NOT_KNOWN} not published. Published rows are of their own boards,",
    "models and precisions: operations are those of the dense model, in binary designs of one bit. Ours is modelled.",
)


def check_plot(path: Path) -> None:
    """Raise InputError, which names the remedy, if the picture could not be written to `path`."""
    if path.suffix not in FORMATS:
        raise InputError(f"--plot {path}: a name that ends in .svg or .png is needed; remedy: --plot {path.stem}.svg")
    check_out(path, "--plot")


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Draw an estimate that has `parts` and `roofline` in `extra`; the same bytes for the same figures (and matplotlib)
    as SVG. Raises OSError."""
    import matplotlib
    from matplotlib.figure import Figure

    extra = figures["extra"]
    fonts = {"font.size": 8, "font.sans-serif": ["DejaVu Sans", "Arial"]}
    with matplotlib.rc_context({"svg.hashsalt": "zynqbert", "svg.fonttype": "none"} | fonts):
        figure = Figure(figsize=(14, 9.5))
        what = f"{model_name(figures)} on {figures['board'].upper()}, {figures['sequence']} tokens"
        when = f"{figures['clock_mhz']:g} MHz: {figures['latency_ms']:.2f} ms, modelled"
        figure.suptitle(f"{what} at {when}", fontsize=11, y=0.985, parse_math=False)
        _causes(figure, extra["parts"])
        _layers(figure.add_axes((0.075, 0.54, 0.41, 0.34)), extra["parts"])
        _parts(figure.add_axes((0.57, 0.54, 0.41, 0.34)), over_layers(extra["parts"]))
        _roofline(figure.add_axes((0.075, 0.06, 0.41, 0.38)), extra["roofline"], extra["work_spared"])
        _designs(figure.add_axes((0.51, 0.06, 0.47, 0.38)), figures)
        written, form = io.BytesIO(), path.suffix[1:]
        figure.savefig(written, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    write_whole(path, written.getvalue())


def _causes(figure, parts: Sequence[Mapping[str, Any]]) -> None:
    """The legend of all bars: each cause with its share of the pass."""
    from matplotlib.patches import Patch

    totals = {cause: sum(part["bound"].get(cause, 0) for part in parts) for cause in CAUSES}
    whole = sum(totals.values())
    shown = [cause for cause in CAUSES if totals[cause]]
    handles = [Patch(color=COLOURS[cause], label=f"{totals[cause] / whole:.2%}  {CAUSES[cause]}") for cause in shown]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.965), ncols=4, frameon=False)


def _layers(axes, parts: Sequence[Mapping[str, Any]]) -> None:
    """A bar a layer, in it its parts one behind the other, each by what bound its cycles."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        rows.setdefault(part["part"] if part["layer"] is None else f"layer {part['layer']}", []).append(part)
    longest = max(sum(part["cycles"] for part in row) for row in rows.values()) / 1e3
    named: set[str] = set()
    for y, row in enumerate(rows.values()):
        at = 0.0
        for part in row:
            width = part["cycles"] / 1e3
            _bar(axes, y, at, part["bound"])
            if width > NAMED_FROM * longest and part["layer"] is not None:
                axes.plot([at + width] * 2, [y - 0.4, y + 0.4], color="white", linewidth=1)
                if part["part"] not in named:
                    named.add(part["part"])
                    axes.text(at + width / 2, y, part["part"], ha="center", va="center", color="white", fontsize=7)
            at += width
    _rows(axes, rows, longest * 1.02)
    axes.set_title("cycles of the parts of each layer, by what bound them")


def _parts(axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """A bar a part, all layers together, and a mark for each unit at the cycles that it works for it."""
    longest = max(max(row["cycles"], *row["busy"].values(), 0) for row in rows) / 1e3
    for y, row in enumerate(rows):
        _bar(axes, y, 0.0, row["bound"])
        axes.text(row["cycles"] / 1e3 + 0.01 * longest, y, f"{row['share']:.1%}", va="center", fontsize=7, color=GREY)
    for unit in UNITS:
        points = [(row["busy"][unit] / 1e3, y + 0.25) for y, row in enumerate(rows) if row["busy"].get(unit)]
        style = dict(s=60, color="black") if MARKS[unit] == "|" else dict(s=28, facecolors="none", edgecolors="black")
        if points:
            axes.scatter(*zip(*points, strict=True), marker=MARKS[unit], label=unit, zorder=3, linewidths=0.8, **style)
    _rows(axes, [row["part"] for row in rows], longest * 1.08)
    axes.set_title("all layers together; marks: how long each unit works for a part")
    axes.legend(fontsize=7, loc="lower right", framealpha=0.9)


def _bar(axes, y: float, at: float, bound: Mapping[str, int]) -> None:
    """Cycles by cause, one behind the other from `at` on, in thousands."""
    for cause in CAUSES:
        if bound.get(cause):
            axes.barh(y, bound[cause] / 1e3, left=at, height=0.8, color=COLOURS[cause], linewidth=0)
            at += bound[cause] / 1e3


def _rows(axes, names: Iterable[str], longest: float) -> None:
    names = list(names)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, longest)
    axes.set_xlabel("thousand cycles, modelled")
    axes.grid(axis="x", linewidth=0.3)
    axes.set_axisbelow(True)


def _roofline(axes, found: Mapping[str, Any], spared: float) -> None:
    """Operations a second against operations a byte: the board's roof, ours, of which a share is `spared` and counts as
    done, and published designs."""
    roof, points = found["roof"], found["points"]
    published = [row for row in found["published"] if row["gops"] is not None]
    placed = [row for row in published if row["intensity"] is not None]
    lines = [row for row in published if row["intensity"] is None]
    x = [of["intensity"] for of in (*points, *placed)] + [roof["ridge"]]
    y = [of["gops"] for of in (*points, *published)] + [roof["peak_gops"]]
    left, right, bottom, top = min(x) / 2, max(x) * 20, min(y) / 1.8, max(y) * 1.8  # names have room at the right
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top))
    corners = [(left, left * roof["ddr_gb_s"]), (roof["ridge"], roof["peak_gops"]), (right, roof["peak_gops"])]
    said = f"roof: {roof['peak_gops']:.0f} GOPS, {roof['ddr_gb_s']:.1f} GB/s from DDR"
    axes.plot(*zip(*corners, strict=True), color="black", label=said)
    ours = "ours, modelled" + (f"; {spared:.0%} of the work is spared, not done" if spared > 0 else "")
    for rows, marker, colour, label in (
        (points, "o", OURS, ours),
        (placed, "s", THEIRS, "published, traffic derived"),
    ):
        places = [of["intensity"] for of in rows], [of["gops"] for of in rows]
        axes.scatter(*places, marker=marker, color=colour, zorder=3, label=label)
    for point in points:
        place = dict(xytext=(5, -9), textcoords="offset points", fontsize=7, color=OURS)
        axes.annotate(f"{point['tokens']} tokens", (point["intensity"], point["gops"]), **place)
    for row in lines:
        axes.axhline(row["gops"], color=_colour(row), linewidth=0.8, linestyle="--", zorder=1)
    axes.plot([], [], color=THEIRS, linewidth=0.8, linestyle="--", label="published, traffic is not: GOPS alone")
    _names(axes, [*lines, *placed], right)
    axes.set_xlabel("operations a byte of DDR traffic")
    axes.set_ylabel("10⁹ operations of the dense model a second (GOPS)")
    axes.set_title("roofline; each published design has a roof of its own, not drawn")
    axes.grid(linewidth=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=7, loc="lower left")


def _names(axes, rows: Sequence[Mapping[str, Any]], right: float) -> None:
    """Names of designs at their points or at the right edge, as near to their GOPS as they can be without lying over
    each other."""
    places: list[float] = []
    ordered = sorted(rows, key=lambda row: row["gops"])
    for row in ordered:
        wanted = math.log10(row["gops"]) + APART / 2
        places.append(max(wanted, places[-1] + APART) if places else wanted)
    for row, place in zip(ordered, places, strict=True):
        given = "" if row["sequence"] is None else f", {row['sequence']} tokens"
        said = f"{row['name']} ({row['precision']}{given})"
        x, side = (right / 1.05, "right") if row["intensity"] is None else (1.2 * row["intensity"], "left")
        paper = dict(facecolor="white", edgecolor="none", pad=0.6)
        axes.text(x, 10**place, said, ha=side, va="center", fontsize=6.5, color=_colour(row), bbox=paper)


def _colour(row: Mapping[str, Any]) -> str:
    return BINARY if row["precision"] == "binary" else THEIRS


def _designs(axes, figures: Mapping[str, Any]) -> None:
    """The designs as a table: text alone, in columns."""
    axes.axis("off")
    rows = [DESIGN_HEAD, *design_rows(figures)]
    widths = [max(len(row[column]) for row in rows) + 1.5 for column in range(len(DESIGN_HEAD))]
    for number, row in enumerate(rows):
        at = 0.0
        for cell, width in zip(row, widths, strict=True):
            style = dict(weight="bold" if number < 2 else "normal", fontsize=6.5, transform=axes.transAxes)
            axes.text(at / sum(widths), TOP - LINE * number, cell, parse_math=False, **style)
            at += width
    for number, note in enumerate(NOTES, len(rows)):
        axes.text(0, TOP - LINE * (number + 0.5), note, fontsize=6.5, color=GREY, transform=axes.transAxes)
