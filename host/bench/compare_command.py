# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench compare`. It needs PyTorch and ONNX Runtime, which a board has not."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ...fpga.whole_file import write_whole
from ..options import DEFAULT_ARTIFACT, ArtifactOption, OfflineOption, check_out
from ..task_choice import by_itself
from ..workstation import needing_packages
from .commands import Boards, ReportForm


def compare(
    source: Annotated[
        str, typer.Option("--float", help="The float model that the artifact was made of: a folder or a hub name.")
    ],
    artifact: ArtifactOption = DEFAULT_ARTIFACT,
    data: Annotated[
        str | None, typer.Option(help="Data set: movie-reviews, policy-pairs or tweets; the artifact's if not given.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="Labelled texts of your own instead: lines label<tab>text.")
    ] = None,
    sentences: Annotated[
        int | None, typer.Option(min=1, help="Sentences for accuracy, at most; all if not given.")
    ] = None,
    timed: Annotated[int, typer.Option(min=1, help="Of them those that are timed, at most.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="How often they are timed.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each way; as many as there are processors if not given.")
    ] = None,
    board: Annotated[Boards, typer.Option("--board", help="Board to model, or both.")] = Boards.both,
    clock_mhz: Annotated[
        float | None, typer.Option("--clock-mhz", help="Of the modelled engine; the board's plan if not given.")
    ] = None,
    point: Annotated[
        str | None, typer.Option(help="Operating point of an artifact that leaves early; 1, or its first.")
    ] = None,
    form: Annotated[ReportForm, typer.Option("--format", help="How the report is written.")] = ReportForm.text,
    out: Annotated[Path | None, typer.Option("--out", help="Write the report to this file.")] = None,
    offline: OfflineOption = False,
) -> None:
    """A model's integers beside PyTorch float32 and ONNX Runtime int8, on the same sentences and this machine.

    Accuracy and speed are measured here; what the boards would do is modelled, and stands beside published figures.

    Example: zynqbert bench compare --float ./my-classifier --artifact ./my-artifact --table labelled.tsv
    """
    from ...quant.artifact import load_artifact
    from ..output import progress_of_many
    from . import compare_report
    from .compare import bench_compare
    from .labelled import labelled_texts

    check_out(out)
    examples, named = labelled_texts(load_artifact(by_itself(artifact)).manifest, data, table, offline)
    with needing_packages("bench compare"), progress_of_many() as started:
        report = bench_compare(
            artifact,
            source,
            examples[:sentences],
            boards=["zcu102", "zcu111"] if board is Boards.both else [board.value],
            clock_mhz=clock_mhz,
            point=point,
            threads=threads,
            timed_sentences=timed,
            rounds=rounds,
            texts_from=named,
            progress=started,
        )
    written = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    written = written if form is ReportForm.json else compare_report.text(report)
    if out is not None:
        write_whole(out, written + "\n")
    else:
        print(written)
