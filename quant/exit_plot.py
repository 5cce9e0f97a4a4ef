# SPDX-License-Identifier: Apache-2.0
"""The trade-off of leaving early as an SVG: accuracy against the mean exit layer, and who leaves where."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw(report: Mapping, path: Path, cost: str | None = None) -> None:
    """Two panels of `exits.json`, the same bytes for the same report (and matplotlib).

    `cost` names a modelled cost that thresholds.with_costs has given to curve and points, in place of the layer.
    """
    with matplotlib.rc_context({"svg.hashsalt": "zynqbert", "font.size": 9}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _trade_off(left, report, cost)
        _leaving(right, report)
        partial = path.with_name(path.name + ".partial")
        figure.savefig(partial, format="svg", metadata={"Date": None})
    partial.replace(path)


def _trade_off(axes: Axes, report: Mapping, cost: str | None) -> None:
    """Thresholds as a line, the permitted losses' points on it, foretelling beside it, each ramp by itself below."""
    place, rows = cost or "mean_layer", report["curve"]
    axes.plot([r[place] for r in rows], [100 * r["accuracy"] for r in rows], color="black", linewidth=1,
              label="thresholds of entropy")  # fmt: skip
    if cost is None:
        ramps = report["ramps"]
        axes.plot([r["layer"] for r in ramps], [100 * r["accuracy"] for r in ramps], ":", color="gray", marker=".",
                  label="all leave at one layer")  # fmt: skip
    full = 100 * report["full_depth_accuracy"]
    for name, point in report["points"].items():
        axes.axhline(full - point["loss_points"], color="gray", linewidth=0.4)
        _point(axes, point, place, "o", "tab:blue", f"≤ {name} points lost: θ = {point['nats']:.3f} nats", name)
        told = point.get("foretold")
        if told and place in told:
            _point(axes, told, place, "D", "tab:orange", "the same with the layer foretold", name)
    axes.axhline(full, color="gray", linewidth=0.8)
    axes.set_xlabel("mean exit layer" if cost is None else f"{cost.replace('_', ' ')} a sentence")
    axes.set_ylabel("accuracy, %")
    axes.set_title(f"{report['sentences']:,} dev sentences; bars: 95 % of the difference to full depth")
    handles, labels = axes.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))  # each once
    axes.legend(known.values(), known.keys(), frameon=False, loc="lower right")
    axes.grid(linewidth=0.3)


def _point(axes: Axes, point: Mapping, place: str, marker: str, color: str, label: str, name: str) -> None:
    low, high = (point["full_depth_accuracy"] * 100 + d for d in point["difference_interval_points"])
    y = 100 * point["accuracy"]
    axes.errorbar(point[place], y, yerr=[[max(0, y - low)], [max(0, high - y)]], fmt=marker, color=color, capsize=3,
                  markersize=5, label=label)  # fmt: skip
    axes.annotate(name, (point[place], y), textcoords="offset points", xytext=(5, 5))


def _leaving(axes: Axes, report: Mapping) -> None:
    """Share of sentences that have left behind each layer, for each permitted loss."""
    for i, (name, point) in enumerate(report["points"].items()):
        ways = (
            (point, "-", f"≤ {name} points lost"),
            (point.get("foretold"), "--", "the same with the layer foretold"),
        )
        for of, style, label in ways:
            if of:
                share = 100 * np.cumsum(of["layers"]) / of["sentences"]
                axes.step(np.arange(1, len(share) + 1), share, style, where="post", color=f"C{i}",
                          label=label if style == "-" or not i else None)  # fmt: skip
    axes.set_ylim(0, 102)
    axes.set_xlabel("layer")
    axes.set_ylabel("have left, %")
    axes.set_title("where they leave")
    axes.legend(frameon=False, loc="lower right")
    axes.grid(linewidth=0.3)
