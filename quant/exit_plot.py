# SPDX-License-Identifier: Apache-2.0
"""The trade-off of leaving early as an SVG: accuracy against the mean exit layer, and who leaves where."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def draw(report: Mapping, path: Path) -> None:
    """Two panels of `exits.json`, the same bytes for the same report (and matplotlib)."""
    with matplotlib.rc_context({"svg.hashsalt": "zynqbert", "font.size": 9}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _trade_off(left, report)
        _leaving(right, report)
        partial = path.with_name(path.name + ".partial")
        figure.savefig(partial, format="svg", metadata={"Date": None})
    partial.replace(path)


def _trade_off(axes: Axes, report: Mapping) -> None:
    """Thresholds as a line, the permitted losses' points on it, foretelling beside it, each ramp by itself below."""
    rows, ramps = report["curve"], report["ramps"]
    axes.plot([r["mean_layer"] for r in rows], [100 * r["accuracy"] for r in rows], color="black", linewidth=1,
              label="thresholds of entropy")  # fmt: skip
    axes.plot([r["layer"] for r in ramps], [100 * r["accuracy"] for r in ramps], ":", color="gray", marker=".",
              label="all leave at one layer")  # fmt: skip
    full = 100 * report["full_depth_accuracy"]
    for name, point in report["points"].items():
        axes.axhline(full - point["loss_points"], color="gray", linewidth=0.4)
        _point(axes, point, "o", "tab:blue", f"≤ {name} points lost: θ = {point['nats']:.3f} nats", name)
        told = point.get("foretold")
        if told:
            _point(axes, told, "D", "tab:orange", "the same with the layer foretold", name)
    axes.axhline(full, color="gray", linewidth=0.8)
    axes.set_xlabel("mean exit layer")
    axes.set_ylabel("accuracy, %")
    axes.set_title(f"{report['sentences']:,} dev sentences; bars: 95 % of the difference to full depth")
    handles, labels = axes.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))  # each once
    axes.legend(known.values(), known.keys(), frameon=False, loc="lower right")
    axes.grid(linewidth=0.3)


def _point(axes: Axes, point: Mapping, marker: str, color: str, label: str, name: str) -> None:
    low, high = (point["full_depth_accuracy"] * 100 + d for d in point["difference_interval_points"])
    x, y = point["mean_layer"], 100 * point["accuracy"]
    axes.errorbar(x, y, yerr=[[max(0, y - low)], [max(0, high - y)]], fmt=marker, color=color, capsize=3,
                  markersize=5, label=label)  # fmt: skip
    axes.annotate(name, (x, y), textcoords="offset points", xytext=(5, 5))


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
