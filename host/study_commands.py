# SPDX-License-Identifier: Apache-2.0
"""Commands that study models which are there. They need PyTorch, which a board has not."""

from pathlib import Path
from typing import Annotated

import typer

from .workstation import ResumeOption, needing_packages


def robustness(
    folder: Annotated[Path, typer.Argument(help="Run of zynqbert train recipes/tasks.toml, or an artifact.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")] = Path("build/robustness"),
    data: Annotated[
        str | None, typer.Option(help="Data set of an artifact that does not name its own: movie-reviews, …")
    ] = None,
    sentences: Annotated[int, typer.Option(min=1, help="Of each test split; a point takes time by them.")] = 500,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of errors at each rate.")] = 3,
    resume: ResumeOption = False,
) -> None:
    """What accuracy is left of pruned and coarser weights, and of a memory that errs, with and without protection.

    Example: zynqbert robustness build/tasks --resume

    One artifact: zynqbert robustness artifacts/movie-reviews --data movie-reviews --sentences 200
    """
    with needing_packages("robustness"):
        from ..quant.robustness import study
        from ..quant.robustness_plot import table
        from ..quant.task_models import studied_tasks
    from rich.console import Console

    report = study(studied_tasks(folder, data), out, sentences=sentences, seeds=seeds, resume=resume)
    Console().print(table(report))
    print(", ".join(str(path) for path in [out / "robustness.json", *sorted(out.glob("robustness-*.svg"))]))
