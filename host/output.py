# SPDX-License-Identifier: Apache-2.0
"""Results as text, JSON lines or CSV, one at a time; progress on stderr where someone watches."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..fpga.energy import PARTS
from .result import EXIT_FIELDS, TASK_FIELDS, Result

# What one row of CSV holds: a sentence, then each label's score; or a token, of the sentence with this number from 1.
# Where a backbone has tasks, that comes first.
SENTENCE_COLUMNS = tuple(
    f.name for f in fields(Result) if f.name not in ("scores", "tokens", *EXIT_FIELDS, *TASK_FIELDS)
)
# With early exit these follow, and each part of the energy: where it is modelled what the heading says.
EXIT_COLUMNS = tuple(name for name in EXIT_FIELDS if name != "energy_parts_mj")
TOKEN_COLUMNS = ("sentence", "token", "start", "end", "label", "confidence", "in_pair", "error")

# From which score on a label of several that may hold at once is shown.
SHOWN_SCORE = 0.5


def write_results(
    results: Iterable[Result], form: str, tasks: Mapping[str | None, Mapping], out=None, *, early_exit: bool = False
) -> int:
    """Write results to `out` (stdout) as they come; how many have an error.

    tasks: the manifest's `task` of each that results may name, {None: …} for a model by itself. form: "text", "jsonl"
    or "csv". early_exit: whether it is on, for the columns of CSV.
    """
    out = out or sys.stdout
    write = _csv_writer(tasks, out, early_exit) if form == "csv" else _line_writer(form, tasks, out)
    failed = 0
    for number, result in enumerate(results, 1):
        write(number, result)
        failed += result.error is not None
    return failed


def _line_writer(form: str, tasks: Mapping[str | None, Mapping], out) -> Callable[[int, Result], None]:
    def write(number: int, result: Result) -> None:
        if form == "jsonl":
            print(json.dumps(result.as_dict(), ensure_ascii=False), file=out, flush=True)
        else:
            print("\n".join(text_lines(result, tasks[result.task]["scores"])), file=out, flush=True)

    return write


def _csv_writer(tasks: Mapping[str | None, Mapping], out, early_exit: bool) -> Callable[[int, Result], None]:
    """A failed text has one row, with its error alone beside what is known of it. Tasks share the columns of labels
    that are called alike."""
    writer = csv.writer(out, lineterminator="\n")
    labels = list(dict.fromkeys(label for task in tasks.values() for label in task["labels"]))
    columns = (() if None in tasks else TASK_FIELDS) + SENTENCE_COLUMNS + (EXIT_COLUMNS if early_exit else ())
    parts = PARTS if early_exit else ()

    def write_sentence(number: int, result: Result) -> None:
        row = result.as_dict() | {"logits": " ".join(map(str, result.logits))}
        energies = result.energy_parts_mj or {}
        scores = (result.scores.get(label) for label in labels)
        writer.writerow([*(row[name] for name in columns), *(energies.get(part) for part in parts), *scores])

    def write_tokens(number: int, result: Result) -> None:
        writer.writerows((number, *astuple(token), None) for token in result.tokens)
        if result.error is not None:
            writer.writerow((number, *[None] * (len(TOKEN_COLUMNS) - 2), result.error))

    if any(task["kind"] == "token" for task in tasks.values()):  # a model by itself
        writer.writerow(TOKEN_COLUMNS)
        return write_tokens
    heads = (*(f"energy_mj:{part}:modelled" for part in parts), *(f"score:{label}" for label in labels))
    writer.writerow([*columns, *heads])
    return write_sentence


def text_lines(result: Result, form: str) -> Iterator[str]:
    """One result in a line, what is modelled marked so, and below it a line for each token that has a label.

    Where there is no answer the line says why; where a backbone has tasks, it begins with the task.

    form: how the scores came about, "softmax", "sigmoid" or "none".
    """
    given = ("(truncated)  " if result.truncated else "") + result.text
    given += "" if result.pair is None else f"  |  {result.pair}"
    whose = "" if result.task is None else f"{result.task}  "
    if result.error is not None:
        yield f"{whose}error: {result.error}  {given}"
        return
    answer = f"{text_answer(result, form)}  " if result.scores else ""
    power = "power not measured"
    if result.power_w is not None:
        power = f"{result.power_w:.2f} W  {result.fps_per_w:.1f} fps/W"
    left = "" if result.layers is None else f"{exit_text(result)}  "
    figures = f"{result.latency_ms:.3f} ms  {power}  [{result.source}, {result.clock_mhz:g} MHz]"
    yield f"{whose}{answer}{figures}  {left}{given}"
    width = max((len(token.label) for token in result.tokens), default=0)
    for token in result.tokens:
        place = f"{token.start}..{token.end}" + (" of the second" if token.in_pair else "")
        yield f"    {token.label:{width}}  {token.confidence:.3f}  {token.text}  [{place}]"


def exit_text(result: Result) -> str:
    """Where a sentence left, what was foretold, the clock of its first layer, its energy, and the target."""
    said = [f"layer {result.exit_layer} of {result.layers}"]
    if result.foretold_layer is not None:
        said.append(f"{result.foretold_layer} foretold")
    said.append(f"entropy {result.exit_entropy:.3f}")
    if result.first_clock_mhz != result.clock_mhz:
        said.append(f"first layer at {result.first_clock_mhz:g} MHz")
    if result.energy_mj is not None:
        said.append(f"{result.energy_mj:.3g} mJ {result.source}")
    if result.target_met is not None:
        said.append(f"target {result.target_ms:g} ms {'met' if result.target_met else 'MISSED'}")
    return f"({', '.join(said)})"


def text_answer(result: Result, form: str) -> str:
    """A sentence's answer: its label, every value of a regression, or the labels of several that hold at once."""
    if form == "none":
        return "  ".join(f"{label} = {value:.4g}" for label, value in result.scores.items())
    holding = {label: score for label, score in result.scores.items() if form == "sigmoid" and score >= SHOWN_SCORE}
    return "  ".join(f"{label}  {score:.3f}" for label, score in (holding or {result.label: result.confidence}).items())


def quantize_summary(report: dict[str, Any]) -> str:
    """A quantization's report (quant/pipeline.py) in a line: sizes, and how far its answers are from the float model's.

    Answers are the labels of sentences or tokens, for several at once whether each holds; of a regression the values.
    """
    parts = [
        f"{sum(report['bytes'].values()) / 1e6:.1f} MB",
        f"encoder weights {report['encoder']['ratio']:.2f} times smaller than in float",
    ]
    if "density" in report:
        parts.append(f"{report['density']['achieved']:.1%} of them not zero")
    texts = f"{report.get('compared_sentences')} further texts"
    if "agreement" in report:
        parts.append(f"{report['agreement']:.1%} of the answers to {texts} as in float")
    if "mean_absolute_error" in report:
        parts.append(f"values of {texts} off float by {report['mean_absolute_error']:.3f} of their spread")
    return ", ".join(parts)


def print_training(report: dict[str, Any], out: Path) -> None:
    """A training's report (quant/train.py): accuracy on the test split in float, calibrated and trained."""
    table = Table(box=box.SIMPLE_HEAD, title=f"test split, {report['test']['trained']['sentences']} examples, measured")
    table.add_column("model")
    for name in ("right", "accuracy", "against float", "95 % interval"):
        table.add_column(name, justify="right")
    in_float = report["test"]["trained"]
    table.add_row("float", str(in_float["float_right"]), f"{in_float['float_accuracy']:.2%}", "", "")
    for name, found in report["test"].items():
        low, high = found["difference_interval_points"]
        points = f"{found['difference_points']:+.2f} points"
        right, share = str(found["quantized_right"]), f"{found['quantized_accuracy']:.2%}"
        table.add_row(f"quantized, {name}", right, share, points, f"{low:+.2f} to {high:+.2f}")
    Console().print(table)
    print(f"{out / 'artifact'}: the trained model; {out / 'train.json'}: settings, losses and these figures")


def print_stages(report: dict[str, Any], out: Path) -> None:
    """What the stages of a training in float (quant/edgebert.py) came to on dev, and what the steps after them did."""
    table = Table(box=box.SIMPLE_HEAD, title="stages in float, dev split, measured")
    table.add_column("stage")
    columns = {"dev_accuracy": "accuracy", "density": "density", "heads_off": "heads off", "mean_span": "mean span"}
    for title in columns.values():
        table.add_column(title, justify="right")
    for stage, found in report["stages"].items():
        shown = [f"{found[k]:{'.1f' if k == 'mean_span' else '.1%'}}" if k in found else "" for k in columns]
        table.add_row(stage, *shown)
    Console().print(table)
    for stage, found in report["stages"].items():
        if "layers" in found:
            print(f"{stage}, accuracy after each layer: " + " ".join(f"{share:.1%}" for share in found["layers"]))
    for split, rows in report.get("steps", {}).items():
        from ..quant.stage_table import table as steps  # of the workstation, which alone trains

        Console().print(steps(rows, split))
    print(f"{out / report['folder']}: the model; {out / 'train.json'}: settings and these figures")


def print_tasks(report: dict[str, Any], out: Path) -> None:
    """What the ways of training came to for each task (quant/multi_task.py)."""
    from ..quant.multi_task import table  # of the workstation, which alone trains

    Console().print(table(report))
    print(f"{out}: the models; {out / 'tasks.json'}: settings and these figures")


# What the user chose or the array's shape gives; every other figure of an estimate is modelled.
GIVEN = ("model", "board", "sequence", "density", "pattern", "clock_mhz", "peak_macs_per_cycle")


def print_estimate(figures: dict[str, Any], reference: list[dict[str, Any]]) -> None:
    """An estimate for people: its figures, what binds, and the same model beside FQ-BERT's published latencies."""
    extra = figures["extra"]
    for name, value in figures.items():
        if name not in ("extra", "modelled"):
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            print(f"{name:20} {shown:16}" + ("" if name in GIVEN else "modelled"))
    for name in ("power_range_w", "fps_per_w_range"):
        low, high = extra[name]
        print(f"{name:20} {f'{low:.3g} .. {high:.3g}':16}modelled")
    print(f"{'padding_waste':20} {extra['padding_waste']:<16.1%}modelled: padding, split channels, 8-bit halves")
    if extra["work_spared"] > 0:
        said = "modelled: by blocks of zeros and by spans; mac_utilization counts it as done"
        print(f"{'work_spared':20} {extra['work_spared']:<16.1%}{said}")
    print(f"{'ddr_mb_read':20} {extra['ddr_bytes_read'] / 1e6:<16.1f}modelled")
    for kind, cost in extra["clock_changes"].items():
        name, us, mj = f"clock_{kind}", f"{cost['us']:.4g}", f"{cost['mj']:.3g}"
        print(f"{name + '_us':20} {us:16}modelled\n{name + '_mj':20} {mj:16}modelled")
    for line in figures["extra"]["over_budget"]:
        print(f"{'over budget':20} {line}")
    total = sum(extra["energy_mj"].values())
    print(f"\nEnergy a pass, modelled: {total:.1f} mJ")
    for name, mj in sorted(extra["energy_mj"].items(), key=lambda item: -item[1]):
        print(f"  {name:18} {mj:8.2f} mJ {mj / total:6.1%}")
    _print_lengths(extra)
    if "exits" in extra:
        _print_exits(extra["exits"], figures["clock_mhz"])
    _print_memory(extra["memory"])
    print("\nThe power model on published accelerators that it was not fitted on (docs/power.md):")
    for row in extra["power_rows"]:
        note = "" if row["complete"] else "  (not in the range)"
        print(
            f"  {row['name']:28} published {row['published_w']:5.2f} W, modelled {row['modelled_w']:5.2f} W, "
            f"{row['error']:+.0%}{note}"
        )
    print("\nThe same cycle model at FQ-BERT's multipliers and clock, nothing fitted (BERT-base encoder, 128 tokens):")
    for row in reference:
        print(
            f"  {row['board']}, {row['multipliers']} multipliers at {row['clock_mhz']:g} MHz: modelled "
            f"{row['modelled_ms']:.1f} ms, published {row['published_ms']:.2f} ms"
        )
    print(f"  {reference[0]['difference']}")


def _print_lengths(extra: Mapping[str, Any]) -> None:
    print("\nAt other clocks, modelled:")
    for row in extra["clocks"]:
        low, high = row["fps_per_w_range"]
        print(
            f"  {row['clock_mhz']:g} MHz  {row['latency_ms']:8.3f} ms  {row['power_w']:6.2f} W  "
            f"{row['fps_per_w']:6.2f} fps/W ({low:.1f} to {high:.1f})"
        )
    counted = "; of the array: what is spared counts as done" if extra["work_spared"] > 0 else ""
    print(f"\nSentences of other lengths, modelled, and what binds them{counted}:")
    for row in extra["lengths"]:
        print(
            f"  {row['tokens']:4} tokens  {row['latency_ms']:8.3f} ms  {row['mac_utilization']:6.1%} of the array  "
            f"{row['fps_per_w']:6.2f} fps/W  {row['ddr_bytes_read'] / 1e6:6.2f} MB  {row['bound']}"
        )
    print("\nWhat the array does not hide, shares of the pass, modelled:")
    for name, share in extra["array_waits"].items():
        print(f"  {name:36} {share:6.2%}")


def _print_exits(rows: Iterable[Mapping[str, Any]], first_mhz: float) -> None:
    print(f"\nA sentence that leaves early, its first layer at {first_mhz:g} MHz, the rest at each clock; modelled:")
    for row in rows:
        rest = f"{row['rest_mhz']:4g} MHz" if row["layer"] > 1 else " " * 8
        print(
            f"  layer {row['layer']:2}  {rest}  {row['cycles']:9} cycles  {row['latency_ms']:8.3f} ms  "
            f"{row['energy_mj']:8.3f} mJ"
        )


def _print_memory(memory: Mapping[str, Any]) -> None:
    """Matrices that lie alike, behind each other, in a line."""
    used, capacity, size = (memory[name] for name in ("resident_words", "resident_capacity", "word_bytes"))
    print(f"\nWeights on chip: {used} of {capacity} words of {size} bytes ({used * size / 1e6:.2f} MB)")
    for line in placement_lines(memory["matrices"]):
        print(f"  {line}")
    print(
        f"  word embeddings: {memory['word_table_bytes'] / 1e6:.2f} MB in DDR, {memory['word_row_bytes']} bytes a word"
    )
    now, before = memory["bytes_read_a_sentence"], memory["bytes_read_a_sentence_streamed"]
    once, ms = memory["bytes_read_once"], memory["load_ms"]
    print(f"  read a sentence: {now / 1e6:.2f} MB, {before / 1e6:.2f} MB with nothing on chip (modelled)")
    if ms:
        print(f"  read once, when the model is loaded: {once / 1e6:.2f} MB in {ms:.2f} ms (modelled)")


def placement_lines(matrices: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each run of matrices that lie alike; why they are not on chip is said of the smallest."""
    runs: list[list[Mapping[str, Any]]] = []
    for matrix in matrices:
        if runs and all(runs[-1][0][key] == matrix[key] for key in ("place", "compressed", "uses")):
            runs[-1].append(matrix)
        else:
            runs.append([matrix])
    for run in runs:
        names = run[0]["name"] if len(run) == 1 else f"{run[0]['name']} .. {run[-1]['name']}"
        form = "compressed" if run[0]["compressed"] else "as they are"
        stored, uses = sum(m["bytes"] for m in run) / 1e6, run[0]["uses"]
        smallest = min(run, key=lambda matrix: matrix["words"])
        why = f": {smallest['name']} {smallest['why']}" if smallest["why"] else ""
        place = "on chip" if run[0]["place"] == "resident" else "in DDR"
        yield f"{names:30} {stored:7.3f} MB {form}, {place}, used by {uses} layer{'s' * (uses > 1)}{why}"


def progress_columns() -> tuple:
    """What a bar of ours shows: a spinner, what is done, the bar, how much of how much, the time."""
    return SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()


@contextmanager
def progress(what: str, total: int | None = None, *, beside_output: bool = False) -> Iterator:
    """A progress bar on stderr, shown only on a terminal; yields a function to call once a step.

    With `beside_output` lines go to stdout meanwhile: where that is a terminal too, they are progress enough.
    """
    console = Console(stderr=True)
    shown = console.is_terminal and not (beside_output and sys.stdout.isatty())
    # rich would send what is printed meanwhile to the bar's console, that is to stderr
    with Progress(
        *progress_columns(), console=console, disable=not shown, transient=True, redirect_stdout=False
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def progress_of_many() -> Iterator[Callable[[str, int], Callable[[], None]]]:
    """Bars on stderr, one below the other, shown only on a terminal; yields what begins one.

    `begin(what, total)` gives the function to call once a step.
    """
    console = Console(stderr=True)
    with Progress(*progress_columns(), console=console, disable=not console.is_terminal, redirect_stdout=False) as bars:

        def begin(what: str, total: int) -> Callable[[], None]:
            task = bars.add_task(what, total=total)
            return lambda: bars.advance(task)

        yield begin
