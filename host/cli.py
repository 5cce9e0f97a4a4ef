# SPDX-License-Identifier: Apache-2.0
"""The command line.

Exit 0: fine, 1: a mismatch, or sentences that failed or (--strict) missed a latency target, 2: bad input (one line on
stderr), 3: a defect of ours.

With ZYNQBERT_DEBUG set every error shows its traceback.
"""

import json
import math
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from . import log, search_command, study_commands, task_commands, workstation
from .bench import batching_command, compare_command
from .bench import commands as bench_commands
from .build import build
from .fleet_command import SchedulerOption, WorkersOption, check_way, opened, tell
from .inputs import InputError, mixed_of, texts_of
from .options import (
    DEFAULT_ARTIFACT,
    ArtifactOption,
    BoardName,
    BoardOption,
    ClockOption,
    DeviceName,
    DeviceOption,
    FileOption,
    OfflineOption,
    PairsOption,
    Pattern,
    PlanClockOption,
    TaskOption,
    check_clock,
    check_pattern,
)
from .task_choice import by_itself, chosen, mixed_tasks

app = typer.Typer(name="zynqbert", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
bench = typer.Typer(help="Measure speed and energy: of a board, of early exit, of the emulator.", rich_markup_mode=None)
app.add_typer(bench, name="bench")
app.add_typer(task_commands.app, name="tasks")


class FormatName(str, Enum):
    """How results are written."""

    text = "text"
    jsonl = "jsonl"
    csv = "csv"


TextsArgument = Annotated[list[str] | None, typer.Argument(metavar="[SENTENCE]...", help="Sentences.")]


@app.callback()
def zynqbert(
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say what is done; -vv: each pass.")] = 0,
) -> None:
    """Fully quantized BERT classifiers on ZCU102 and ZCU111 boards, emulated bit by bit where there is none."""
    log.setup(verbose)


@app.command()
def demo(
    artifact: ArtifactOption = DEFAULT_ARTIFACT,
    board: BoardOption = BoardName.zcu102,
    device: DeviceOption = DeviceName.auto,
    sentences: Annotated[int, typer.Option(min=1, help="Sentences of the test split to measure accuracy on.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the sample.")] = 0,
    offline: OfflineOption = False,
) -> None:
    """Classify real movie reviews on the (emulated) board and measure accuracy.

    Example: zynqbert demo --board zcu111
    """
    from .demo import demo as run_demo

    run_demo(
        by_itself(artifact), board=board.value, device=device.value, sentences=sentences, seed=seed, offline=offline
    )


app.command()(workstation.quantize)
app.command()(workstation.train)
app.command()(workstation.ablation)
app.command()(workstation.sparsity)
app.command()(study_commands.robustness)
app.command()(search_command.search)
app.command()(build)
bench.command()(bench_commands.emulator)
bench.command()(bench_commands.board)
bench.command()(bench_commands.edgebert)
bench.command()(compare_command.compare)
bench.command()(batching_command.batching)


@app.command()
def run(
    texts: TextsArgument = None,
    file: FileOption = None,
    artifact: ArtifactOption = DEFAULT_ARTIFACT,
    board: BoardOption = BoardName.zcu102,
    device: DeviceOption = DeviceName.auto,
    clock_mhz: ClockOption = None,
    form: Annotated[FormatName, typer.Option("--format", help="How results are written.")] = FormatName.text,
    pairs: PairsOption = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a text that is too long; exit 1 if a latency target is missed.")
    ] = False,
    early_exit: Annotated[
        str | None,
        typer.Option("--early-exit", help="Leave early, at this operating point of the artifact: points of loss."),
    ] = None,
    latency_target: Annotated[
        float | None, typer.Option("--latency-target", help="Milliseconds a sentence may take, with --early-exit.")
    ] = None,
    task: TaskOption = None,
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="Each argument or line names its task: TASK, tab, text; a pair is two texts."),
    ] = False,
    packed: Annotated[
        bool, typer.Option("--packed", help="Several sentences share a pass: more a second, each a little later.")
    ] = False,
    continuous: Annotated[
        bool,
        typer.Option("--continuous", help="Of a tied model: who leaves early makes room for the next at once."),
    ] = False,
    window: Annotated[
        int | None,
        typer.Option(
            "--window",
            min=1,
            help="Lines that wait for each other: with --mixed to run task by task (64), with --packed to fill a pass "
            "and with --continuous row blocks (32).",
        ),
    ] = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
) -> None:
    """Classify sentences, pairs or tokens, given as arguments or in a file.

    The model decides what is answered: a label and every label's score, a regression's value, or each token's label.

    Example: zynqbert run "A gem." "Two hours I want back." --format jsonl

    Pairs: zynqbert run --artifact ./my-pairs-artifact --pairs --file pairs.tsv --format csv

    Tokens: zynqbert run --artifact ./my-tagger-artifact "Ada Lovelace lived in London."

    Early exit, each sentence within 10 ms by slowing the clock: zynqbert run --artifact ./my-early-exit-artifact
    --early-exit 1 --latency-target 10 "A gem."

    One of a backbone's tasks: zynqbert run --artifact artifacts/tasks --task movie-reviews "A gem."

    Any of them, each line naming its own: zynqbert run --artifact artifacts/tasks --mixed --file lines.tsv

    Several sentences a pass: zynqbert run --packed --file lines.txt --format jsonl

    From a queue: zynqbert run --continuous --artifact ./my-tied-artifact --early-exit 1 --file lines.txt

    More than one board: zynqbert run --workers 2 --file lines.txt, or --scheduler tcp://lab:8786 (docs/fleet.md)
    """
    from .output import progress, write_results

    check_way({"--packed": packed, "--continuous": continuous, "--mixed": mixed}, latency_target)
    if window is not None and not (packed or continuous or mixed):
        fault = (
            "--window is of lines that wait for each other; remedy: --packed, --continuous or --mixed, or leave it out"
        )
        raise InputError(fault)
    check_clock(clock_mhz, board.value)
    if mixed:
        tasks = mixed_tasks(artifact, task, pairs)
        given = mixed_of(texts, file, tasks)
    else:
        given = texts_of(texts, file, pairs)
        tasks = [chosen(artifact, task)]
    if latency_target is not None:
        if early_exit is None:
            raise InputError("--latency-target goes with --early-exit; remedy: add --early-exit 1, an operating point")
        if not 0 < latency_target < math.inf:
            fault = f"--latency-target {latency_target:g}: a number of milliseconds above 0 is needed"
            raise InputError(f"{fault}; remedy: --latency-target 10")
    targets: Counter = Counter()
    answered = 0

    def one_more() -> None:
        nonlocal answered
        answered += 1
        step()

    where = {"board": board.value, "artifact": artifact, "device": device.value, "clock_mhz": clock_mhz}
    with (
        opened(workers, scheduler, continuous=continuous, early_exit=early_exit, task=tasks[0], **where) as engine,
        progress("sentences", beside_output=True) as step,
    ):
        how = {"strict": strict, "latency_target_ms": latency_target}
        waiting = {} if window is None else {"window": window}
        if mixed or packed:
            results = (engine.mixed if mixed else engine.packed)(given, **waiting, **how)
        elif continuous:
            results = engine.stream(given, strict=strict, **waiting)
        else:
            results = engine.stream(given, **how)
        of = {name: engine.task_of(name) for name in tasks}
        shown = noted(counted(results, targets), one_more)
        failed = write_results(shown, form.value, of, early_exit=early_exit is not None)
    if mixed:
        switches = f"{engine.switches} switch{'' if engine.switches == 1 else 'es'} of task"
        moved = f"{switches}, {engine.switched_bytes} bytes moved"
        print(f"zynqbert: {answered} sentences, {moved}", file=sys.stderr)
    if packed or continuous:
        unit = ("pass", "passes") if packed else ("queue", "queues")
        print(f"zynqbert: {answered} sentences in {engine.passes} {unit[engine.passes != 1]}", file=sys.stderr)
    tell(engine)
    missed = {source: count for (met, source), count in targets.items() if not met}
    for source, count in missed.items():
        said = f"missed by {count} of {targets.total()} sentences, latency {source}"
        print(f"zynqbert: latency target of {latency_target:g} ms {said}", file=sys.stderr)
    if failed:
        print(f"zynqbert: sentences failed: {failed}", file=sys.stderr)
    if failed or (strict and missed):
        raise typer.Exit(1)


@app.command()
def estimate(
    model: Annotated[
        str | None, typer.Option(help="bert-base, bert-large, minilm-l6, albert-base or albert-minilm.")
    ] = None,
    artifact: Annotated[Path | None, typer.Option("--artifact", help="A quantized model instead.")] = None,
    task: TaskOption = None,
    board: BoardOption = BoardName.zcu102,
    seq: Annotated[int, typer.Option(help="Tokens of the sentence.")] = 128,
    clock_mhz: PlanClockOption = None,
    density: Annotated[
        float | None, typer.Option(help="Share of the int4 weights that is not 0, for --model; all if not given.")
    ] = None,
    pattern: Annotated[
        Pattern, typer.Option(help="Where the zeros of --density are; in blocks they spare the array steps.")
    ] = Pattern.free,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw where the cycles go, and a roofline beside published designs: .svg or .png."),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Also the headline with each assumption broken in the cycle model.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Model latency, power, resources and memory of a model on a board.

    Example: zynqbert estimate --model bert-base --board zcu111 --seq 128 --json

    Pruned to half: zynqbert estimate --model albert-base --board zcu111 --density 0.5

    Of every four entries two: zynqbert estimate --model bert-base --density 0.5 --pattern blocks

    What it rests on, and a picture: zynqbert estimate --model bert-base --sensitivity --plot roofline.svg
    """
    from ..fpga.boards import board_named
    from .compiler import ModelShape
    from .estimate import estimate as model_estimate
    from .estimate import reference
    from .output import print_estimate
    from .roofline import add_roofline, add_sensitivity
    from .roofline_plot import check_plot, draw
    from .roofline_text import part_lines, sensitivity_lines

    if (model is None) == (artifact is None):
        raise InputError("give either --model or --artifact")
    check_clock(clock_mhz, board.value)
    if task is not None and artifact is None:
        raise InputError("--task is of a backbone; remedy: name its folder with --artifact")
    if density is not None and (artifact is not None or not 0 < density <= 1):
        raise InputError("--density is above 0, at most 1, and goes with --model: an artifact has a density of its own")
    if pattern is not Pattern.free and density is None:
        raise InputError("--pattern says where the zeros of --density are, which is not given")
    if plot is not None:
        check_plot(plot)
    quantized = None
    if artifact is not None:
        from .task_set import load_model

        quantized = load_model(artifact, chosen(artifact, task))
        shape = ModelShape.of_manifest(quantized.manifest, str(artifact))
    else:
        shape = ModelShape.named(model)
    share = 1.0 if density is None else density
    check_pattern(pattern, share)
    how = {"artifact": quantized, "density": share, "pattern": pattern.value}
    figures = model_estimate(shape, board_named(board.value), seq, clock_mhz, **how)
    if plot is not None:
        add_roofline(figures, shape, **how)
        draw(figures, plot)
    if sensitivity:
        add_sensitivity(figures, shape, **how)
    if as_json:
        print(json.dumps(figures | {"fq_bert": reference()}, indent=2))
        return
    print_estimate(figures, reference())
    if plot is not None:
        print("", *part_lines(figures["extra"]["parts"]), f"{plot}: these cycles and the roofline", sep="\n")
    if sensitivity:
        print("", *sensitivity_lines(figures["extra"]["sensitivity"]), sep="\n")


@app.command()
def verify(
    texts: TextsArgument = None,
    file: FileOption = None,
    artifact: ArtifactOption = DEFAULT_ARTIFACT,
    board: BoardOption = BoardName.zcu102,
    pairs: PairsOption = False,
    task: TaskOption = None,
    csim: Annotated[bool, typer.Option("--csim/--no-csim", help="Also under ap_int, some seconds a sentence.")] = True,
) -> None:
    """Compare every buffer of a pass, under ap_int and native, with the golden model; exit 1 at a difference.

    Example: zynqbert verify "A gem." --artifact ./my-classifier-int4
    """
    from ..fpga.boards import board_named
    from ..quant.datasets import own_sentences
    from .output import progress
    from .verify import summary
    from .verify import verify as compare

    if texts or file or pairs:
        given = list(texts_of(texts, file, pairs))
    else:
        given = [example.text for example in own_sentences()[:4]]
    builds = ("csim", "native") if csim else ("native",)
    equal = True
    with progress("sentences", len(given) * len(builds), beside_output=True) as step:
        for verdict in compare(artifact, board_named(board.value), given, builds, chosen(artifact, task)):
            equal &= summary([verdict], print)
            step()
    if not equal:
        raise typer.Exit(1)


@app.command()
def info(
    board: Annotated[BoardName | None, typer.Option("--board", help="Whose overlay and sensors; this board's.")] = None,
    device: Annotated[
        DeviceName, typer.Option("--device", help="board or emulated: load the overlay and read the engine's ID too.")
    ] = DeviceName.auto,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a bug report needs to say of this machine. Nothing is sent anywhere.

    Example: zynqbert info --device board
    """
    from .info import collect, text

    report = collect(board.value if board else None, device.value)
    print(json.dumps(report, indent=2) if as_json else text(report))


def noted(results: Iterable, step) -> Iterator:
    """The results, each a step of progress; the first truncated one is told on stderr."""
    warned = False
    for result in results:
        if result.truncated and not warned:
            warned = True
            print("zynqbert: a sentence is over the model's length: truncated, and marked so", file=sys.stderr)
        yield result
        step()


def counted(results: Iterable, targets: Counter) -> Iterator:
    """The results; how many met their latency target or did not, by where the latency is from, in `targets`."""
    for result in results:
        if result.target_met is not None:
            targets[result.target_met, result.source] += 1
        yield result


def known_errors() -> tuple[type[Exception], ...]:
    """What the user can do something about: one line, exit 2. Everything else is a defect of ours."""
    from ..fpga.simulator import SimulatorUnavailable
    from ..quant.datasets import DataUnavailable
    from .errors import HostError

    return ValueError, OSError, HostError, SimulatorUnavailable, DataUnavailable


def call(arguments: list[str]) -> int:
    """Run the command line `arguments`; the exit code."""
    try:
        return int(app(arguments or ["--help"], prog_name="zynqbert", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        return 130
    except (BrokenPipeError, SystemExit) as error:
        # click ends the program with 1 where nobody reads on (`| head`), which is no fault.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        sys.stdout = None  # keep Python from complaining when it flushes at exit
        return 0
    except Exception as error:
        # typer brings its own copy of click, so that its usage errors are known by their method alone
        if hasattr(error, "format_message"):
            return complain(error.format_message())
        if isinstance(error, known_errors()) and not os.environ.get("ZYNQBERT_DEBUG"):
            return complain(str(error) or type(error).__name__)
        traceback.print_exc()
        return 3


def complain(message: str) -> int:
    """One line on stderr; exit code 2."""
    print(f"zynqbert: {' '.join(message.split())}", file=sys.stderr)
    return 2


def main() -> None:
    """Entry point."""
    sys.exit(call(sys.argv[1:]))


if __name__ == "__main__":
    main()
