# SPDX-License-Identifier: Apache-2.0
"""The report of `zynqbert search` as tables for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table

from ..quant.evaluate import wilson
from .search_front import counts_text, nearest

_SHAPE = dict(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))


def table(report: Mapping[str, Any]) -> Group:
    """The models, and of each board its front and what is not on it, 80 columns wide (90 with the test split)."""
    boards = report["settings"]["boards"]
    return Group(_models(report), *(part for board in boards for part in _board(report, board)))


def _models(report: Mapping[str, Any]) -> Table:
    settings = report["settings"]
    title = f"{settings['sentences']:,} texts of {settings['data']}, dev split: all layers"
    shown = Table(title=title, caption="span: mean of the heads left; MB of encoder weights; accuracy in %", **_SHAPE)
    shown.add_column("model")
    for name in ("layers", "hidden", "heads", "span", "not 0", "MB", "tokens", "accuracy"):
        shown.add_column(name, justify="right", no_wrap=True)
    for name, of in report["models"].items():
        shown.add_row(
            *(name, str(of["layers"]), str(of["hidden"]), f"{of['heads']} of {of['heads_of']}"),
            "all" if of["mean_span"] is None else f"{of['mean_span']:.1f}",
            *(f"{100 * of['density']:.0f} %", f"{of['weight_bytes'] / 1e6:.2f}", f"{of['mean_tokens']:.1f}"),
            accuracy_text(of["exits"]["all layers"]),
        )
    return shown


def _board(report: Mapping[str, Any], board: str) -> Iterator[Table | str]:
    settings, tested = report["settings"], report.get("test", {})
    if not report["fronts"][board]:
        yield f"\n{nearest(report, [board])}"
        return
    bound = f"{'slowest' if settings['latency_of'] == 'worst_ms' else 'p99'} within {settings['latency_ms']:g} ms"
    shown = Table(
        title=f"\n{board}, {bound}: Pareto front of accuracy and energy",
        caption="/pass: sentences; p99 ms, fps/W modelled; accuracy in % measured, 95 % (Wilson)",
        **_SHAPE,
    )
    shown.add_column("model")
    shown.add_column("leaves")
    for name in ("array", "MHz", "/pass", "dev", *(["test"] if tested else []), "layer", "p99 ms", "fps/W"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in report["fronts"][board]:
        of = report["models"][row["model"]]["exits"][row["exit"]]
        test = [accuracy_text(tested[row["model"]][row["exit"]])] if tested else []
        shown.add_row(
            *(row["model"], row["exit"], str(row["columns"]), f"{row['clock_mhz']:g}"),
            f"{settings['sentences'] / row['passes']:.1f}",
            *(accuracy_text(of), *test, f"{row['mean_layer']:.2f}", f"{row['p99_ms']:.3f}"),
            f"{row['fps_per_w']:,.0f}",
        )
    yield shown
    yield f"{board}: {counts_text(report['counts'][board])}"


def accuracy_text(of: Mapping[str, Any]) -> str:
    """An accuracy in percent, and how far its interval reaches to the farther side.

    >>> accuracy_text({"right": 40, "sentences": 50})
    '80.0 ± 13.0'
    """
    share = of["right"] / of["sentences"]
    low, high = wilson(of["right"], of["sentences"])
    return f"{100 * share:.1f} ± {100 * max(share - low, high - share):.1f}"
