# SPDX-License-Identifier: Apache-2.0
"""The command `zynqbert bench batching`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ...fpga.whole_file import write_whole
from ..options import EARLY_EXIT_ARTIFACT, BoardName, BoardOption, PlanClockOption, TaskOption, check_out

COLUMNS = {
    "passes": ("passes", "{:,.0f}"),
    "sentences_per_second": ("sentences/s", "{:,.0f}"),
    "power": ("W", "{:.1f}"),
    "fps_per_watt": ("fps/W", "{:.1f}"),
    "energy_per_sentence": ("mJ", "{:.2f}"),
    "latency": ("latency, ms", "{:.2f}"),
    "ratio": ("times", "{:.1f}"),
}


def batching(
    artifact: Annotated[Path, typer.Option("--artifact", help="Folder of the quantized model.")] = EARLY_EXIT_ARTIFACT,
    board: BoardOption = BoardName.zcu102,
    early_exit: Annotated[
        str | None, typer.Option("--early-exit", help="Operating point; the artifact's first if not given.")
    ] = None,
    task: TaskOption = None,
    data: Annotated[
        str | None,
        typer.Option(help="Data set: movie-reviews, policy-pairs or tweets; the artifact's own if not given."),
    ] = None,
    sentences: Annotated[int | None, typer.Option(min=1, help="Of its test split; all if not given.")] = None,
    clock_mhz: PlanClockOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON to write, too.")] = None,
) -> None:
    """What sharing passes and leaving early bring: sentences one by one, several a pass, and from a queue.

    Example: zynqbert bench batching --artifact artifacts/edgebert --data movie-reviews --early-exit 1
    """
    from ..output import progress_of_many
    from .batching import bench_batching

    check_out(out)
    with progress_of_many() as started:
        report = bench_batching(
            artifact, board=board.value, point=early_exit, task=task, data=data, count=sentences, clock_mhz=clock_mhz,
            progress=started,
        )  # fmt: skip
    Console().print(table(report))
    if out is not None:
        write_whole(out, json.dumps(report, indent=1) + "\n")
        print(f"{out}: these figures")


def table(report: dict) -> Table:
    """The report for people."""
    leaving = (
        f", point {report['point']}: they leave behind layer {report['exit_layer']['value']:.1f} of"
        if (report["point"] is not None)
        else ","
    )
    title = f"{report['artifact']} on {report['board']}, {report['clock_mhz']:g} MHz: {report['sentences']:,} sentences"
    title += f" of {report['tokens']['value']:.1f} tokens{leaving} {report['layers']} layers"
    right = (f"{100 * share['value']:.1f} % {way}" for way, share in report["accuracy"].items())
    title += f"; right: {', '.join(right)}" if report["accuracy"] else ""
    shown = Table(
        title=title, caption="passes (steps of a queue), layers and answers counted, all else modelled; "
        "latency in the engine, waiting for others not counted", box=box.SIMPLE_HEAD,
    )  # fmt: skip
    shown.add_column("way")
    for name, _ in COLUMNS.values():
        shown.add_column(name, justify="right")
    for name, found in report["rows"].items():
        shown.add_row(name, *(form.format(found[key]["value"]) for key, (_, form) in COLUMNS.items()))
    return shown
