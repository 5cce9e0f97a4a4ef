# SPDX-License-Identifier: Apache-2.0
"""Commands that measure speed and energy: `zynqbert bench emulator`, `… board`, `… edgebert`."""

import json
import sys
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from ...fpga.whole_file import write_whole
from ..inputs import InputError, read_texts
from ..model_shape import ARCHITECTURES, ModelShape
from ..options import (
    DEFAULT_ARTIFACT,
    EARLY_EXIT_ARTIFACT,
    ArtifactOption,
    BoardName,
    BoardOption,
    ClockOption,
    DeviceName,
    DeviceOption,
    FileOption,
    OfflineOption,
    PairsOption,
    check_out,
)
from ..task_choice import by_itself


class ReportForm(str, Enum):
    """How a report is written."""

    text = "text"
    json = "json"


def emulator(
    artifact: Annotated[
        Path | None, typer.Option("--artifact", help="Folder of the quantized model; the movie reviews' if not given.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help=f"Random weights of these sizes instead: {', '.join(ARCHITECTURES)}.")
    ] = None,
    board: BoardOption = BoardName.zcu102,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of the sentence.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Passes to time.")] = 10,
    threads: Annotated[
        int | None, typer.Option(help="Threads that share the array's work; $ZYNQBERT_THREADS if not given, else 1.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the native emulator on this machine.

    Example: zynqbert bench emulator --model bert-base --tokens 128
    """
    from ...fpga.boards import board_named
    from .emulator import bench_emulator

    if model is not None and artifact is not None:
        raise InputError("give either --model or --artifact")
    timed = ModelShape.named(model) if model is not None else by_itself(artifact or DEFAULT_ARTIFACT)
    figures = bench_emulator(timed, board_named(board.value), tokens=tokens, repeats=repeats, threads=threads)
    if as_json:
        print(json.dumps(figures.as_dict(), indent=2))
    else:
        print(
            f"{figures.board} {figures.build}, {f'random {figures.model}, ' if figures.model else ''}"
            f"{figures.tokens} tokens, {figures.threads} {'thread' if figures.threads == 1 else 'threads'}: "
            f"{figures.pass_ms:.1f} ms a pass (median of {figures.repeats}, best {figures.best_ms:.1f}, "
            f"{figures.cpu_ms:.1f} of processor time), {figures.gmac_per_s:.1f} GMAC/s, start-up "
            f"{figures.load_s:.1f} s; {figures.source}"
        )


def board(
    artifact: ArtifactOption = DEFAULT_ARTIFACT,
    board: BoardOption = BoardName.zcu102,
    device: DeviceOption = DeviceName.auto,
    clock_mhz: ClockOption = None,
    file: FileOption = None,
    pairs: PairsOption = False,
    sentences: Annotated[int, typer.Option(min=1, help="Sentences to run, at most.")] = 200,
    seconds: Annotated[float, typer.Option(min=0.1, help="On a board: how long each measurement lasts.")] = 5.0,
    form: Annotated[ReportForm, typer.Option("--format", help="How the report is written.")] = ReportForm.text,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page for a browser to this file.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the report to this file.")] = None,
    offline: OfflineOption = False,
) -> None:
    """Speed, power and energy of a model on a board: measured there, modelled on an emulated one.

    Sentences are those of the file, else of the movie reviews' test split.

    Example: zynqbert bench board --board zcu111 --device emulated --html bench.html
    """
    from ..output import progress
    from . import report as reports
    from .board import bench_board

    check_out(html, "--html")
    check_out(out)
    texts, texts_from = sample(file, pairs, sentences, offline)
    # An emulated board runs each sentence once; how often a real one does in its time is not known before.
    total = len(texts) if device is DeviceName.emulated else None
    with progress("sentences", total) as step:
        report = bench_board(
            by_itself(artifact),
            texts,
            board=board.value,
            device=device.value,
            clock_mhz=clock_mhz,
            seconds=seconds,
            texts_from=texts_from,
            step=step,
        )
    written = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    written = written if form is ReportForm.json else reports.text(report)
    if html is not None:
        write_whole(html, reports.page(report))
    if out is not None:
        write_whole(out, written + "\n")
    else:
        print(written)


class Boards(str, Enum):
    """One board or both."""

    zcu102 = "zcu102"
    zcu111 = "zcu111"
    both = "both"


def edgebert(
    dense: Annotated[Path, typer.Option("--dense", help="Folder of the dense model that the recipe began with.")],
    artifact: Annotated[
        Path, typer.Option("--artifact", help="Folder of the recipe's result, with off-ramps.")
    ] = EARLY_EXIT_ARTIFACT,
    out: Annotated[Path, typer.Option("--out", help="Folder for report, drawings and runs; goes on there.")] = Path(
        "build/edgebert/bench"
    ),
    board: Annotated[Boards, typer.Option("--board", help="Board to model, or both.")] = Boards.both,
    targets: Annotated[
        str | None,
        typer.Option(help="Latency targets in ms, parted by commas; from the models' latencies if not given."),
    ] = None,
    point: Annotated[str | None, typer.Option(help="Operating point of the artifact; 1, or its first.")] = None,
    steps: Annotated[
        list[Path] | None, typer.Option("--steps", help="An artifact after a step of the recipe; may be given again.")
    ] = None,
    curve: Annotated[
        Path | None, typer.Option("--curve", help="exits.json of the training: accuracy over thresholds, on dev.")
    ] = None,
    sentences: Annotated[int | None, typer.Option(min=1, help="Sentences of the test split, at most.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    offline: OfflineOption = False,
) -> None:
    """What early exit, latency targets and slimming save, beside a dense model that runs all layers.

    Every sentence runs through the emulated engine in each way; time and energy are modelled.

    Example: zynqbert bench edgebert --artifact ./recipe --dense ./dense --targets 0.5,1,2 --sentences 200
    """
    from ..output import progress_of_many
    from . import edgebert_markdown, edgebert_report
    from .edgebert import bench_edgebert
    from .edgebert_charts import standalone

    targets_ms = None if targets is None else times(targets)
    examples, named = labelled(sentences, offline)
    with progress_of_many() as started:
        report = bench_edgebert(
            artifact,
            dense,
            examples,
            out,
            boards=["zcu102", "zcu111"] if board is Boards.both else [board.value],
            point=point,
            targets_ms=targets_ms,
            steps=steps or (),
            curve=curve,
            texts_from=named,
            progress=started,
        )
    for name, (_, drawing, _) in edgebert_report.drawings(report).items():
        write_whole(out / name, standalone(drawing))
    written = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(out / "edgebert.json", written + "\n")
    write_whole(out / "edgebert.html", edgebert_report.page(report))
    write_whole(out / "edgebert.md", edgebert_markdown.page(report))
    print(written if as_json else edgebert_report.text(report))


def times(given: str) -> list[float]:
    """The numbers of a list parted by commas."""
    try:
        return [float(part) for part in given.split(",")]
    except ValueError as error:
        raise InputError(f"--targets {given}: not numbers parted by commas; remedy: 0.5,1,2") from error


def labelled(sentences: int | None, offline: bool) -> tuple[list, str]:
    """The first labelled sentences of the movie reviews' test split, or of our own few, and where they are from."""
    from ..demo import load_examples

    examples, reason = load_examples(offline)
    if reason is not None:
        print(f"zynqbert: {reason}", file=sys.stderr)
    return examples[:sentences], "the movie reviews' test split" if reason is None else "zynqbert's own"


def sample(file: str | None, pairs: bool, sentences: int, offline: bool) -> tuple[list, str]:
    """The first texts of the file, or of the movie reviews' test split, and where they are from."""
    if file is None:
        if pairs:
            raise InputError("--pairs is about the lines of a file: give it with --file F")
        examples, named = labelled(sentences, offline)
        return [example.text for example in examples], named
    texts = list(islice(read_texts(file, pairs), sentences))
    if not texts:
        raise InputError(f"{file}: no sentence; remedy: write one a line")
    return texts, "stdin" if file == "-" else file
