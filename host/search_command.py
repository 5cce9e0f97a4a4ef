# SPDX-License-Identifier: Apache-2.0
"""`zynqbert search`: what the command line says of it."""

from pathlib import Path
from typing import Annotated

import typer

from .bench.commands import Boards
from .inputs import InputError
from .options import DEFAULT_ARTIFACT, EARLY_EXIT_ARTIFACT, TaskOption
from .workstation import ResumeOption, needing_packages

WIDTH = 100  # of the tables in a file; a terminal has its own
DEFAULT_DATA = "movie-reviews"  # of the committed models


def search(
    latency_ms: Annotated[float, typer.Option("--latency-ms", help="Bound on the latency of a sentence (modelled).")],
    artifact: Annotated[
        list[Path] | None,
        typer.Option("--artifact", help="Folder of a model to search with; repeatable. The committed two if none."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set whose dev split measures accuracy: movie-reviews, …; the models' own.")
    ] = None,
    board: Annotated[Boards, typer.Option("--board", help="Board, or both.")] = Boards.zcu102,
    columns: Annotated[
        str, typer.Option(help="Widths of the MAC array, parted by commas: multiples of 64; 128 to 192 can be built.")
    ] = "64,128,192,256",
    clocks: Annotated[str, typer.Option(help="Clocks in MHz that the engine is built for.")] = "100,150,200,250,300",
    modes: Annotated[str, typer.Option(help="one: a sentence a pass; packed: several.")] = "one,packed",
    budget: Annotated[
        str | None, typer.Option(help="Shares of the part, as dsp=0.9,bram36=0.8,lut=0.8, the design's.")
    ] = None,
    worst: Annotated[bool, typer.Option("--worst", help="Bound the slowest sentence, not the 99th of 100.")] = False,
    task: TaskOption = None,
    sentences: Annotated[int | None, typer.Option(min=1, help="Of the dev split; all if not given.")] = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="At the end measure what was found on the test split, and the models whole."),
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder of the search.")] = Path("build/search"),
    resume: ResumeOption = False,
) -> None:
    """Which array, clock, mode and exit of which model is most accurate for its energy, within a latency and a budget.

    Accuracy is measured on the dev split; latency, power and area are modelled (docs/search.md).

    Example: zynqbert search --latency-ms 2 --board both

    Own models: zynqbert search --latency-ms 5 --artifact ./small --artifact ./large --data movie-reviews --resume
    """
    with needing_packages("search"):
        from ..quant.search_answers import data_set
        from .search import Bounds, Space
        from .search import search as study
        from .search_plot import PICTURE, draw
        from .search_rows import REPORT
        from .search_text import table
    from rich.console import Console

    from .search_models import load_models
    from .search_space import MODES, budget_of, columns_of

    if artifact is None and data is None:
        data = DEFAULT_DATA
    of_modes = parts("--modes", modes, str, "one,packed")
    if unknown := [mode for mode in of_modes if mode not in MODES]:
        raise InputError(f"--modes {unknown[0]}: none of {', '.join(MODES)}; remedy: --modes one,packed")
    models = load_models(artifact or (DEFAULT_ARTIFACT, EARLY_EXIT_ARTIFACT), task)
    space = Space(
        ["zcu102", "zcu111"] if board is Boards.both else [board.value],
        models,
        columns_of(parts("--columns", columns, int, "128,192")),
        sorted(parts("--clocks", clocks, float, "200,250,300")),
        of_modes,
    )
    bounds = Bounds(latency_ms, budget_of(budget), worst)
    how = dict(sentences=sentences, test=test, resume=resume)
    report = study(space, data_set(models, data), bounds, out, **how)
    draw(report, out / PICTURE)
    console = Console()
    Console(width=None if console.is_terminal else WIDTH).print(table(report))
    print(f"{out / REPORT}, {out / PICTURE}")


def parts(option: str, given: str, of: type, example: str) -> list:
    """The values of a list parted by commas, each once, in order. Raises InputError."""
    try:
        found = [of(part.strip()) for part in given.split(",")]
    except ValueError:
        raise InputError(f"{option} {given}: not a list parted by commas; remedy: {option} {example}") from None
    if len(set(found)) != len(found):
        raise InputError(f"{option} {given}: a value twice; remedy: give each once")
    return found
