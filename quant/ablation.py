# SPDX-License-Identifier: Apache-2.0
"""What each part of full quantization costs: FQ-BERT's ablation (arXiv 2103.02800) and a sweep over the weights' bits.

docs/ablation.md says what each row switches. Every row is a quantization of its own, and runs on the same sentences.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from . import float_model
from .batch import split_batches
from .calibrate import Calibration, calibrate
from .checkpoint import Checkpoint, load_checkpoint
from .datasets import DATA_SETS, DataSet
from .evaluate import paired_accuracy, quantized_logits
from .options import WEIGHT_BITS, Options
from .pipeline import SENTENCES
from .quantize import quantize, steps
from .tokens import Tokens, encode
from .training import check_settings, versions, write_json
from .units import RealNorms, RealRest, RealScales, RealSoftmax, in_reals
from .vocabulary import drop_unused_words

# The parts in the paper's order: each row quantizes one more, the first weights and activations alone.
_PARTS = (RealScales, RealSoftmax, RealNorms, RealRest)
_ADDED = ("+ weights and activations", "+ scale factors", "+ softmax", "+ layer norm", "+ the rest")
_ENGINE = _ADDED[-1]
# Accuracy on SST-2 of its BERT-base in percent, each row trained; FQ-BERT has no row for the rest.
PAPER = dict(zip(("float", *_ADDED), (92.32, 91.63, 91.28, 91.86, 91.51), strict=False))

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Run:
    """One row to measure: where the report has it, and what makes it."""

    group: str
    name: str
    options: Options

    @property
    def title(self) -> str:
        return self.name if self.group == "rows" else f"{self.name}-bit weights"


@dataclass(frozen=True)
class Given:
    """What all rows of a study have in common: the model, sentences to calibrate and to answer, and their labels."""

    checkpoint: Checkpoint
    calibration: list[Tokens]
    sentences: list[Tokens]
    labels: np.ndarray


def ablation(
    source: str | Path,
    data: str | DataSet,
    out: Path,
    *,
    split: str = "test",
    sentences: int | None = None,
    max_length: int = 128,
    word_bits: int = 4,
    resume: bool = False,
    progress: Advance | None = None,
) -> dict:
    """Measure `source` (Hugging Face folder or hub name) in float and in every row; the report.

    `data` names a data set, or has the `name`, `labels` and `load` of one; its train split calibrates, the first
    `sentences` (all if None) of `split` are answered. `out` gets `ablation.json` after every row and `ablation.svg`;
    with `resume` rows that are there stay. `progress(step, done, total)` replaces the bar on stderr.
    Raises ValueError naming what does not fit, UnsupportedModel, DataUnavailable, OSError.
    """
    path = Path(out) / "ablation.json"
    if not resume and path.exists():
        raise ValueError(f"{path}: holds a run already; remedy: --resume, or another folder")
    begun = read_report(path, ("settings", "rows", "weight_bits"), "an ablation") if path.exists() else None
    given, settings = prepare(source, data, split, sentences, max_length, word_bits)
    report = {"settings": settings, "paper": PAPER, "versions": versions(), "rows": {}, "weight_bits": {}}
    if begun is not None:
        check_settings(path, begun["settings"], settings)
        report = begun
    path.parent.mkdir(parents=True, exist_ok=True)
    todo = [run for run in _runs(word_bits) if run.name not in report[run.group]]
    if todo:
        with progress_bar(progress, "ablation") as advance:
            _measure(given, todo, report, path, advance)
    draw(report, path.with_suffix(".svg"))
    return report


def _runs(word_bits: int) -> list[_Run]:
    rows = [
        _Run("rows", name, Options(word_bits=word_bits, units=in_reals(*_PARTS[i:]))) for i, name in enumerate(_ADDED)
    ]
    others = [bits for bits in WEIGHT_BITS if bits != Options.weight_bits]  # that one is the last row
    sweep = [_Run("weight_bits", str(bits), Options(word_bits=word_bits, weight_bits=bits)) for bits in others]
    return rows + sweep


def prepare(
    source: str | Path, data: str | DataSet, split: str, sentences: int | None, max_length: int, word_bits: int
) -> tuple[Given, dict]:
    """The common part, and the settings by which a continued run is known to be the same."""
    if isinstance(data, str):
        if data not in DATA_SETS:
            raise ValueError(f"data {data!r} is none of {', '.join(DATA_SETS)}")
        data = DATA_SETS[data]
    if sentences is not None and sentences < 1:
        raise ValueError(f"sentences = {sentences}: nothing to measure; remedy: 1 or more, or none for all")
    checkpoint = drop_unused_words(load_checkpoint(source))
    weights, task = checkpoint.weights, checkpoint.task
    Options(word_bits=word_bits).checked(weights.architecture.hidden)
    if (task.kind, task.scores) != ("sequence", "softmax"):
        raise ValueError(
            f"{source}: task {task.kind}, {task.scores}: an accuracy needs one label a text; "
            "remedy: a …ForSequenceClassification of a single label"
        )
    if list(task.labels) != list(data.labels):
        raise ValueError(f"{source}: its labels are {task.labels}, the data's {list(data.labels)}")
    if not 3 <= max_length <= weights.architecture.positions:
        raise ValueError(f"max_length {max_length} is not within 3..{weights.architecture.positions}")
    train, examples = data.load("train")[:SENTENCES], data.load(split)[:sentences]
    if not train or not examples:
        raise ValueError(f"data {data.name}: {'train' if not train else split} is empty; remedy: another split or set")
    text = checkpoint.tokenizer_json
    tokens = [encode(text, [e.texts for e in some], max_length) for some in (train, examples)]
    labels = np.array([e.label for e in examples])
    settings = {
        "model": Path(source).name,
        "weights": _digest(*(t.numpy() for t in _tensors(weights))),
        "data": data.name,
        "split": split,
        "sentences": len(examples),
        "texts": _digest(np.frombuffer(repr(tokens).encode(), np.uint8), labels),
        "max_length": max_length,
        "word_bits": word_bits,
    }
    return Given(checkpoint, *tokens, labels), settings


def _measure(given: Given, todo: list[_Run], report: dict, path: Path, advance: Advance) -> None:
    """Fill the report with the rows to do, written after each."""
    title, done = "float", 0.0

    def show(share: float) -> None:
        """Progress by a share of a row."""
        nonlocal done
        done += share
        advance(title, round(100 * done), 100 * len(todo))

    show(0)
    weights = given.checkpoint.weights
    logits = torch.cat([float_model.forward(weights, b) for b in split_batches(given.sentences)]).double()
    in_float = logits.numpy().argmax(axis=1) == given.labels
    right = int(in_float.sum())
    report["rows"].setdefault("float", {"right": right, "sentences": len(in_float), "accuracy": right / len(in_float)})
    title = "calibration"
    show(0)
    calibration = calibrate(weights, given.calibration)
    for run in todo:
        title, begun = run.title, time.monotonic()
        found = _answer(given, calibration, run.options, show)
        entry = paired_accuracy(in_float, found.numpy().argmax(axis=1) == given.labels)
        entry["logit_error"] = float((found - logits).abs().mean())
        entry["seconds"] = round(time.monotonic() - begun, 1)
        report[run.group][run.name] = entry
        if run.name == _ENGINE:
            report["weight_bits"][str(run.options.weight_bits)] = entry
        report["weight_bits"] = dict(sorted(report["weight_bits"].items()))
        write_json(path, report)


def _answer(given: Given, calibration: Calibration, options: Options, show: Callable[[float], None]) -> torch.Tensor:
    """Quantize and answer: logits float64 [sentences, labels] in the float model's unit. `show` gets shares of both."""
    weights, task = given.checkpoint.weights, given.checkpoint.task
    step = 0.5 / steps(weights)  # about half of the time goes to either
    token = 0.5 / sum(len(s.ids) for s in given.sentences)
    quantized = quantize(
        weights,
        calibration,
        task=task,
        max_length=weights.architecture.positions,
        options=options,
        on_step=lambda name: show(step),
    )
    return quantized_logits(
        quantized.manifest, quantized.tensors, given.sentences, lambda rows: show(token * rows), options.units
    )


def _tensors(weights) -> Iterator[torch.Tensor]:
    """Every tensor of a model's weights; those that layers share, once a layer."""
    if isinstance(weights, torch.Tensor):
        yield weights
    elif isinstance(weights, list):
        for part in weights:
            yield from _tensors(part)
    elif hasattr(weights, "__dict__"):
        for part in vars(weights).values():
            yield from _tensors(part)


def _digest(*arrays: np.ndarray) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()[:16]


def read_report(path: Path, fields: tuple[str, ...], what: str) -> dict:
    """A study's report of a run that was cut. Raises ValueError where it is none."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); remedy: remove it, and all rows are measured again") from error
    for field in fields:
        if not isinstance(report, dict) or not isinstance(report.get(field), dict):
            raise ValueError(f"{path}: {field} is missing: not {what}'s report; remedy: another folder")
    return report


@contextmanager
def progress_bar(progress: Advance | None, study: str) -> Iterator[Advance]:
    """`progress`, or a bar on stderr."""
    if progress is not None:
        yield progress
        return
    columns = (TextColumn("{task.description:25}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(study, total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)


# what the report looks like ------------------------------------------------------------------------------------------


def table(report: dict) -> Table:
    """The report for people, 80 columns wide: a row of the ablation each, then the bits of the weights."""
    settings, paper = report["settings"], report["paper"]
    shown = Table(
        title=f"{settings['model']}, {settings['sentences']:,} texts of {settings['data']} ({settings['split']})",
        caption="points (paired bootstrap) and mean |logit error| against float; FQ-BERT: BERT-base, SST-2, trained",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("quantized")
    for name in ("accuracy", "points, 95 %", "|error|", "FQ-BERT"):
        shown.add_column(name, justify="right")
    for name, row in report["rows"].items():
        shown.add_row(name, *_cells(row), f"{paper[name]:.2f} %" if name in paper else "–")
    shown.add_section()
    for bits, row in report["weight_bits"].items():
        shown.add_row(f"all, {bits}-bit weights", *_cells(row), "")
    return shown


def _cells(row: dict) -> tuple[str, str, str]:
    if "difference_points" not in row:
        return f"{100 * row['accuracy']:.2f} %", "", ""
    low, high = row["difference_interval_points"]
    difference = f"{row['difference_points']:+.2f} ({low:+.2f} to {high:+.2f})"
    return f"{100 * row['quantized_accuracy']:.2f} %", difference, f"{row['logit_error']:.3f}"


def draw(report: dict, path: Path) -> None:
    """The report as an SVG of two panels, the same bytes for the same report (and matplotlib)."""
    rows = {name: row for name, row in report["rows"].items() if name != "float"}
    paper = {name: value - report["paper"]["float"] for name, value in report["paper"].items() if name in rows}
    bits = {f"{bits} bits": row for bits, row in report["weight_bits"].items()}
    with matplotlib.rc_context({"svg.hashsalt": "zynqbert", "font.size": 9}):
        figure = Figure(figsize=(10, 3.9), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _panel(left, rows, paper, "each row quantizes one part more")
        _panel(right, bits, {}, "encoder weights, all else quantized")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        partial = path.with_name(path.name + ".partial")
        figure.savefig(partial, format="svg", metadata={"Date": None})
    partial.replace(path)


def _panel(axes: Axes, rows: dict, paper: dict, title: str) -> None:
    """Accuracy against float in points: ours full circles with intervals, the paper's hollow diamonds."""
    names = list(rows)
    place = np.arange(len(names))
    points = np.array([row["difference_points"] for row in rows.values()])
    low, high = np.array([row["difference_interval_points"] for row in rows.values()]).T
    # of very few texts a percentile can lie beyond the measured difference
    lengths = np.maximum([points - low, high - points], 0)
    axes.errorbar(points, place, xerr=lengths, fmt="o", color="black", capsize=3, label="this model, 95 % interval")
    at = [names.index(name) - 0.25 for name in paper]
    if paper:
        axes.plot(list(paper.values()), at, "D", mfc="white", mec="tab:blue", label="FQ-BERT on SST-2, trained")
    axes.axvline(0, color="gray", linewidth=0.8)
    axes.set_yticks(place, [f"{name}\n|logit error| {rows[name]['logit_error']:.3f}" for name in names])
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.set_xlabel("accuracy against float, points")
    axes.set_title(title)
    axes.grid(axis="x", linewidth=0.4)
