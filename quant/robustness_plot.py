# SPDX-License-Identifier: Apache-2.0
"""The robustness study's report as tables and as SVGs (docs/robustness.md)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Group
from rich.table import Table

_COLORS = {1: "black", 2: "tab:blue", 3: "tab:orange"}  # by the bits of a cell
_PARTS = {"both": "black", "backbone": "tab:green", "embeddings": "tab:purple"}
_DASHES = {0: "-", 1: ":", 2: "--"}  # by the bits protected
_SHAPE = dict(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def axis(points: Mapping, name: str) -> dict[float, Mapping]:
    """A task's points along "density" or "bits", that of density 1 at 4 bits among them; nothing if there is no other.

    >>> axis({"clean": {"right": 3}, "bits": {"8": {"right": 2}}}, "bits")
    {4.0: {'right': 3}, 8.0: {'right': 2}}
    """
    found = {float(key): entry for key, entry in points.get(name, {}).items()}
    if found and "clean" in points:
        found[{"density": 1.0, "bits": 4.0}[name]] = points["clean"]
    return dict(sorted(found.items()))


def spread(seeds: Mapping) -> tuple[float, float, float]:
    """Mean, least and largest accuracy over the seeds of one rate, in percent."""
    found = [100 * entry["accuracy"] for entry in seeds.values()]
    return sum(found) / len(found), min(found), max(found)


def _series(points: Mapping) -> Iterator[tuple[str, int, int, dict[float, Mapping]]]:
    """What errs, bits of a cell, bits protected, and by rate the seeds."""
    for name, rates in points.get("errors", {}).items():
        where, cell, protected = name.split(", ")
        yield where, int(cell[0]), int(protected[0]), dict(sorted((float(r), seeds) for r, seeds in rates.items()))


# tables --------------------------------------------------------------------------------------------------------------


def table(report: Mapping) -> Group:
    """The report for people, 80 columns wide: tasks by density and bits, then each task's errors."""
    settings, points = report["settings"], report["points"]
    counts = ", ".join(f"{settings[f'sentences.{name}']:,} texts of {name}" for name in settings["tasks"])
    shown = Table(title=f"{settings['model']}: {counts}", caption="accuracy, 95 % (Wilson)", **_SHAPE)
    shown.add_column("weights")
    for name in points:
        shown.add_column(name, justify="right")
    shown.add_row("density 1, 4 bits", *(_accuracy(of.get("clean")) for of in points.values()))
    for name, title in (("density", "density {:g}, 4 bits"), ("bits", "density 1, {:g} bits")):
        every = {of: axis(task, name) for of, task in points.items()}
        for key in sorted({key for of in every.values() for key in of} - {{"density": 1.0, "bits": 4.0}[name]}):
            shown.add_row(title.format(key), *(_accuracy(of.get(key)) for of in every.values()))
    return Group(shown, *(_errors(name, of) for name, of in points.items() if "errors" in of))


def _accuracy(entry: Mapping | None) -> str:
    if entry is None:
        return ""
    low, high = entry["interval"]
    return f"{100 * entry['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _errors(name: str, points: Mapping) -> Table:
    rows = list(_series(points))
    rates = sorted({rate for *_, of in rows for rate in of})
    clean = f"{100 * points['clean']['accuracy']:.1f} % without; " if "clean" in points else ""
    caption = f"accuracy, {clean}mean/least of the seeds; +cells by three copies of the protected bits"
    shown = Table(title=f"\n{name}: errors per cell at rate", caption=caption, **{**_SHAPE, "padding": 0})
    shown.add_column("errs in")
    for head in ("bits", "kept", "+cells", *(f"{rate:.0e}" for rate in rates)):
        shown.add_column(head, justify="right")
    for where, cell, protected, of in rows:
        extra = next(iter(next(iter(of.values())).values()))["overhead"]
        cells = ("/".join(map(_percent, spread(of[rate])[:2])) if rate in of else "" for rate in rates)
        shown.add_row(where, str(cell), str(protected), f"{100 * extra:.0f} %", *cells)
    return shown


def _percent(value: float) -> str:
    """In four characters at most."""
    return f"{value:.1f}".replace("100.0", "100")


# plots ---------------------------------------------------------------------------------------------------------------


def draw(report: Mapping, folder: Path) -> list[Path]:
    """`robustness-density.svg`, `-bits.svg`, `-errors.svg`, those that have points; a panel a task, the same bytes for
    the same report (and matplotlib). Returns their paths."""
    tasks, drawn = report["points"], []
    with matplotlib.rc_context({"svg.hashsalt": "zynqbert", "font.size": 9}):
        for name, label in (("density", "share of weights that may be other than 0"), ("bits", "bits of a weight")):
            if not any(axis(points, name) for points in tasks.values()):
                continue
            figure, panels = _figure(tasks, 1)
            for axes, points in zip(panels[0], tasks.values(), strict=True):
                _line(axes, axis(points, name), label)
            drawn.append(_save(figure, folder / f"robustness-{name}.svg"))
        if any("errors" in points for points in tasks.values()):
            figure, panels = _figure(tasks, 2)
            for column, points in enumerate(tasks.values()):
                _rates(
                    panels[0][column], points, {("both", cell): color for cell, color in _COLORS.items()}, cells=True
                )
                _rates(panels[1][column], points, {(part, 1): color for part, color in _PARTS.items()}, cells=False)
            drawn.append(_save(figure, folder / "robustness-errors.svg"))
    return drawn


def _figure(tasks: Mapping, rows: int) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(1 + 3.6 * max(len(tasks), 1), 0.5 + 3.1 * rows), layout="constrained")
    panels = figure.subplots(rows, len(tasks), squeeze=False, sharey="col")
    for axes, name in zip(panels[0], tasks, strict=True):
        axes.set_title(name)
    for row in panels:
        row[0].set_ylabel("accuracy, %")
        for axes in row:
            axes.grid(linewidth=0.4)
    return figure, panels


def _line(axes: Axes, points: Mapping[float, Mapping], label: str) -> None:
    """Accuracy with its interval at each density or number of bits."""
    axes.set_xlabel(label)
    if not points:
        return
    right = np.array([100 * entry["accuracy"] for entry in points.values()])
    low, high = 100 * np.array([entry["interval"] for entry in points.values()]).T
    axes.errorbar(list(points), right, yerr=[right - low, high - right], fmt="o-", color="black", capsize=3)
    axes.set_xticks(list(points))


def _rates(axes: Axes, points: Mapping, colors: Mapping[tuple[str, int], str], *, cells: bool) -> None:
    """Mean over the seeds, bars from the least to the largest; of the second row only what has no protection."""
    axes.set_xscale("log")
    axes.set_xlabel("probability that a cell errs")
    for where, cell, protected, of in _series(points):
        if (where, cell) not in colors or (protected and not cells):
            continue
        mean, low, high = np.array([spread(seeds) for seeds in of.values()]).T
        kept = f", {protected} protected" if protected else ""
        label = f"{cell} bit{'s' if cell > 1 else ''} a cell{kept}" if cells else f"{where}, 1 bit a cell"
        # a mean of equal accuracies may lie a rounding beside them
        bars = np.maximum([mean - low, high - mean], 0)
        style = dict(color=colors[where, cell], linestyle=_DASHES.get(protected, "-."), marker=".", capsize=2)
        axes.errorbar(list(of), mean, yerr=bars, linewidth=1, label=label, **style)
    if "clean" in points:
        axes.axhline(100 * points["clean"]["accuracy"], color="gray", linewidth=0.8)
    axes.legend(frameon=False, fontsize=7, loc="lower left")


def _save(figure: Figure, path: Path) -> Path:
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="svg", metadata={"Date": None})
    partial.replace(path)
    return path
