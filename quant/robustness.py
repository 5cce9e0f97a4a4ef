# SPDX-License-Identifier: Apache-2.0
"""How much of its accuracy a model keeps when it is pruned, coarser, or read from a memory that errs (adapter-ALBERT,
arXiv 2303.16100): for every task of one backbone, density, bits of the weights, and rate of errors.

docs/robustness.md says what is measured and how the plots are read; bit_errors.py what an error is.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .ablation import Advance, progress_bar, read_report
from .bit_errors import BACKBONE, BOTH, EMBEDDINGS, Errors, model_with_errors, overhead, stored
from .evaluate import quantized_logits, wilson
from .robustness_plot import draw
from .tokens import Tokens
from .training import check_settings, versions, write_json

DENSITIES = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2)
WEIGHT_BITS = (4, 6, 8)
RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
SEEDS = 3
# What errs, in cells of how many bits, with how many protected: every kind of cell bare and with the two most
# significant bits protected, the sign alone where a cell has one bit, and either part of the memory by itself.
SERIES = (
    (BOTH, 1, 0),
    (BOTH, 1, 1),
    (BOTH, 1, 2),
    (BOTH, 2, 0),
    (BOTH, 2, 2),
    (BOTH, 3, 0),
    (BOTH, 3, 2),
    (BACKBONE, 1, 0),
    (EMBEDDINGS, 1, 0),
)

# (manifest, tensors) of a task's quantized model, by the task's name, density and bits of the weights
Model = Callable[[str, float, int], tuple[Mapping, Mapping[str, np.ndarray]]]


@dataclass(frozen=True)
class StudiedTask:
    """A task: its sentences, their labels int [sentences], and a digest of its model's `weights`, by which a study that
    goes on knows that it is the same."""

    name: str
    sentences: Sequence[Tokens]
    labels: np.ndarray
    weights: str = ""


@dataclass(frozen=True)
class Studied:
    """What a study is of: tasks, the `model` of each, and the densities (at 4 bits) and bits (at density 1) that it can
    be made at. Density 1 at 4 bits is always measured."""

    name: str
    tasks: Sequence[StudiedTask]
    model: Model
    densities: Sequence[float] = (1.0,)
    bits: Sequence[int] = (4,)


@dataclass(frozen=True)
class _Point:
    """One accuracy to measure: the keys under which a task's points have it, and what to do with which model."""

    keys: tuple[str, ...]
    density: float = 1.0
    bits: int = 4
    errors: Errors | None = None
    where: str = BOTH

    @property
    def title(self) -> str:
        """For the progress bar."""
        return "error rate {2}, seed {3}".format(*self.keys) if self.errors else " ".join(self.keys)


def study(
    studied: Studied,
    out: Path,
    *,
    sentences: int | None = None,
    seeds: int = SEEDS,
    rates: Sequence[float] = RATES,
    resume: bool = False,
    progress: Advance | None = None,
) -> dict:
    """Measure every point on the first `sentences` (all if None) of each task, errors with seeds 0 .. `seeds` − 1.

    `out` gets `robustness.json` after every point and the plots `robustness-….svg`; with `resume` points that are there
    stay, more seeds, rates, densities and bits come on top. `progress(step, done, total)` replaces the bar on stderr.
    Raises ValueError naming what does not fit, and what `model` raises; OSError.
    """
    path = Path(out) / "robustness.json"
    if not resume and path.exists():
        raise ValueError(f"{path}: holds a run already; remedy: --resume, or another folder")
    for name, value in (("sentences", sentences), ("seeds", seeds)):
        if value is not None and value < 1:
            raise ValueError(f"{name} = {value}: nothing to measure; remedy: 1 or more")
    tasks = [_cut(task, sentences) for task in studied.tasks]
    points = list(_points(studied, seeds, rates))
    settings = _settings(studied.name, tasks)
    report = {"settings": settings, "versions": versions(), "points": {task.name: {} for task in tasks}}
    if path.exists():
        begun = read_report(path, ("settings", "points"), "a robustness study")
        check_settings(path, begun["settings"], settings)
        report = begun
    path.parent.mkdir(parents=True, exist_ok=True)
    todo = {task.name: [p for p in points if _entry(report["points"][task.name], p.keys) is None] for task in tasks}
    if any(todo.values()):
        with progress_bar(progress, "robustness") as advance:
            _measure(studied.model, tasks, todo, report, path, advance)
    draw(report, path.parent)
    return report


def _cut(task: StudiedTask, sentences: int | None) -> StudiedTask:
    """The task with its first `sentences`."""
    if not len(task.labels) or len(task.labels) != len(task.sentences):
        fault = f"{len(task.sentences)} sentences, {len(task.labels)} labels"
        raise ValueError(f"task {task.name}: {fault}; remedy: as many of both, one at least")
    return StudiedTask(task.name, task.sentences[:sentences], np.asarray(task.labels)[:sentences], task.weights)


def _settings(name: str, tasks: Sequence[StudiedTask]) -> dict:
    """By which a continued study is known to be the same."""
    settings: dict = {"model": name, "tasks": [task.name for task in tasks]}
    for task in tasks:
        texts = repr([(list(s.ids), list(s.types)) for s in task.sentences]) + repr(task.labels.tolist())
        settings[f"sentences.{task.name}"] = len(task.labels)
        settings[f"texts.{task.name}"] = hashlib.sha256(texts.encode()).hexdigest()[:16]
        settings[f"weights.{task.name}"] = task.weights
    return settings


def series_name(where: str, cell_bits: int, protected: int) -> str:
    """The key of a series in the report.

    >>> series_name("both", 2, 0)
    'both, 2 bits a cell, 0 protected'
    """
    return f"{where}, {cell_bits} bit{'s' if cell_bits > 1 else ''} a cell, {protected} protected"


def _points(studied: Studied, seeds: int, rates: Sequence[float]) -> Iterator[_Point]:
    """All of a task, those of one model together, that of density 1 at 4 bits first."""
    yield _Point(("clean",))
    for seed in range(seeds):
        for where, cell_bits, protected in SERIES:
            for rate in rates:
                keys = ("errors", series_name(where, cell_bits, protected), f"{rate:g}", str(seed))
                yield _Point(keys, errors=Errors(rate, cell_bits, protected, seed), where=where)
    for density in studied.densities:
        if density != 1:
            yield _Point(("density", f"{density:g}"), density=density)
    for bits in studied.bits:
        if bits != 4:
            yield _Point(("bits", str(bits)), bits=bits)


def _entry(points: Mapping, keys: tuple[str, ...]) -> dict | None:
    """What is kept of a point; None if nothing."""
    for key in keys:
        points = points.get(key)
        if points is None:
            return None
    return points


def _measure(
    model: Model, tasks: Sequence[StudiedTask], todo: Mapping, report: dict, path: Path, advance: Advance
) -> None:
    """Fill the report with the points to do, written after each."""
    title, done, total = "", 0.0, 100 * sum(map(len, todo.values()))

    def show(share: float) -> None:
        """Progress by a share of a point."""
        nonlocal done
        done += 100 * share
        advance(title, round(done), total)

    for task in tasks:
        made = None
        for point in todo[task.name]:
            begun, title = time.monotonic(), f"{task.name}: {point.title}"
            show(0)
            if made is None or made[0] != (point.density, point.bits):
                made = None  # a model at a time in memory
                made = (point.density, point.bits), model(task.name, point.density, point.bits)
            entry = _answer(task, *made[1], point, show)
            entry["seconds"] = round(time.monotonic() - begun, 2)
            kept = report["points"][task.name]
            for key in point.keys[:-1]:
                kept = kept.setdefault(key, {})
            kept[point.keys[-1]] = entry
            write_json(path, report)


def _answer(task: StudiedTask, manifest: Mapping, tensors: Mapping, point: _Point, show) -> dict:
    """What the report keeps of a point. `show` gets shares of it."""
    entry = {}
    if point.errors is not None:
        words = stored(manifest, tensors, point.where)
        entry["overhead"] = overhead(words, tensors, point.errors)
        tensors, entry["errors"] = model_with_errors(tensors, words, point.errors)
    token = 1 / sum(len(s.ids) for s in task.sentences)
    logits = quantized_logits(manifest, tensors, task.sentences, lambda rows: show(token * rows))
    right = int((logits.numpy().argmax(axis=1) == task.labels).sum())
    return {**entry, "right": right, "accuracy": right / len(task.labels), "interval": wilson(right, len(task.labels))}
