# SPDX-License-Identifier: Apache-2.0
"""`zynqbert search`: every design within reach, after HAT (arXiv 2005.14187) on both sides, model and array.

Accuracies are measured, on the dev split from the integers; latency, power, energy and area are modelled. The space is
small enough to be looked through whole: docs/search.md says what is searched, what is not, and what it takes.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any

from ..fpga import instructions as isa
from ..fpga.boards import board_named
from ..quant.ablation import Advance, progress_bar, read_report
from ..quant.artifact import Artifact
from ..quant.datasets import DataSet, Example
from ..quant.exit_answers import digest
from ..quant.search_answers import Answers, answers, texts_digest
from ..quant.stage_table import sizes
from ..quant.training import check_settings, versions
from .bench.run import percentile
from .compiler import ModelShape, plan
from .exit_plan import TABLE_ROWS, ExitPlan
from .inputs import InputError
from .search_costs import LayeredPasses, Programs
from .search_front import counts_of, front_of, nearest, too_large
from .search_rows import REPORT, Row, check_rows, row_of, rows_of, write_report
from .search_space import ALL, Exit, Left, exits_of, leave, outputs_at, shape_of, shaped

P99 = 99
_ANSWERS = 10  # what a model's answers count as on the progress bar, in arrays to be looked at


@dataclass(frozen=True)
class Bounds:
    """What a design must keep: `latency_ms` for all sentences but one in a hundred, or with `worst` for all; `budget`:
    by resource the share of the part that it may take."""

    latency_ms: float
    budget: Mapping[str, float]
    worst: bool = False

    @property
    def figure(self) -> str:
        """The field of a candidate that the latency is held against."""
        return "worst_ms" if self.worst else "p99_ms"


@dataclass(frozen=True)
class Space:
    """What is looked through: boards and models by name, columns of the array, clocks in MHz, modes."""

    boards: Sequence[str]
    models: Mapping[str, Artifact]
    columns: Sequence[int]
    clocks: Sequence[float]
    modes: Sequence[str]


def search(
    space: Space,
    data: DataSet,
    bounds: Bounds,
    out: Path,
    *,
    sentences: int | None = None,
    test: bool = False,
    resume: bool = False,
    progress: Advance | None = None,
) -> dict[str, Any]:
    """Every candidate of `space` on the first `sentences` (all if None) of the dev split of `data`; the report.

    `out` gets `search.json`, written after each model on each array, and with `resume` goes on from there; one that has
    found nothing gives way to another. `test`: what is on a front, and each model through all layers, also answers the
    test split, which nothing else reads. `progress(step, done, total)` replaces the bar on stderr. Raises ValueError
    naming what does not fit, DataUnavailable, CompileError, OSError.
    """
    path = Path(out) / REPORT
    if not 0 < bounds.latency_ms < math.inf:
        raise InputError(f"--latency-ms {bounds.latency_ms:g}: a time above 0 is needed; remedy: --latency-ms 2")
    for mhz in space.clocks:
        outputs_at(mhz)
    examples = data.load("dev")[:sentences]
    if not examples:
        raise InputError(f"data {data.name}: its dev split is empty, or --sentences is 0; remedy: 1 or more")
    settings = settings_of(space, data, bounds, examples)
    report = _begun(path, settings, resume)
    for board in space.boards:
        report["shapes"][board] = {str(n): shape_of(board_named(board), n, bounds.budget) for n in space.columns}
    if all(shape["over"] for shapes in report["shapes"].values() for shape in shapes.values()):
        raise InputError(f"no array can be built: {too_large(report, space.boards)}")
    _make_folder(path.parent)
    with progress_bar(progress, "search") as advance:
        study = _Study(space, data, bounds, path, report, advance)
        study.run(examples)
        report["counts"] = {board: counts_of(report, board) for board in space.boards}
        fronts = report["fronts"] = {board: front_of(rows_of(report, board)) for board in space.boards}
        if test and any(fronts.values()):
            report["test"] = study.test(fronts, examples)
    write_report(path, report)
    if not any(fronts.values()):
        raise InputError(f"{path}: {nearest(report, space.boards)}")
    return report


def _begun(path: Path, settings: dict[str, Any], resume: bool) -> dict[str, Any]:
    """The report to go on with: that of `path`, or one that nothing is in yet."""
    made_by = versions() | {"zynqbert": metadata.version("zynqbert")}
    fresh = {"settings": settings, "versions": made_by, "models": {}, "shapes": {}, "rows": {}}
    if not path.exists():
        return fresh
    begun = read_report(path, ("settings", "versions", "models", "shapes", "rows"), "a search")
    if begun["settings"] != settings and _found_nothing(begun):
        return fresh
    if not resume:
        raise InputError(f"{path}: holds a search already; remedy: --resume, or another folder")
    check_settings(path, begun["settings"], settings)
    check_settings(path, *({"zynqbert": of["versions"].get("zynqbert")} for of in (begun, fresh)))
    check_rows(path, begun)
    return begun


def _found_nothing(report: Mapping[str, Any]) -> bool:
    """Whether it is of a search that came to its end, and to no candidate."""
    fronts = report.get("fronts")
    return isinstance(fronts, dict) and not any(fronts.values())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: {error.strerror}; remedy: another folder") from None


def settings_of(space: Space, data: DataSet, bounds: Bounds, examples: Sequence[Example]) -> dict[str, Any]:
    """By which a search that goes on is known to be the same."""
    return {
        "models": {name: digest(artifact)[:16] for name, artifact in space.models.items()},
        "exits": {name: _points(artifact) for name, artifact in space.models.items()},
        "data": data.name,
        "sentences": len(examples),
        "texts": texts_digest(examples),
        "boards": list(space.boards),
        "columns": list(space.columns),
        "clocks_mhz": list(space.clocks),
        "modes": list(space.modes),
        "latency_ms": bounds.latency_ms,
        "latency_of": bounds.figure,
        "budget": dict(bounds.budget),
    }


def _points(artifact: Artifact) -> dict[str, list] | None:
    """The operating points: of each the thresholds by entropy alone and with a layer foretold."""
    exits = artifact.manifest["exits"]
    if exits is None:
        return None
    told = {name: point["foretold"] for name, point in exits["points"].items()}
    return {
        name: [point["threshold"], told[name] and [told[name]["threshold"], sum(told[name]["table"])]]
        for name, point in exits["points"].items()
    }


class _Study:
    """A search under way: models are asked and arrays modelled where the report does not know them yet."""

    def __init__(
        self, space: Space, data: DataSet, bounds: Bounds, path: Path, report: dict[str, Any], advance: Advance
    ):
        self.space, self.data, self.bounds, self.path, self.report = space, data, bounds, path, report
        self.advance, self.title, self.done, self.total = advance, "", 0.0, 0

    def run(self, examples: Sequence[Example]) -> None:
        """All that is missing, the report written after each model on each array."""
        known = self.report["models"]
        todo = {name: self._missing(name) for name in self.space.models}
        todo = {name: missing for name, missing in todo.items() if missing or name not in known}
        self.total = sum(_ANSWERS + len(missing) for missing in todo.values())
        for name, missing in todo.items():
            artifact = self.space.models[name]
            answered = self._answers(name, "dev", examples)
            ways = _ways(artifact, answered)
            known[name] = told(artifact, answered, ways)
            for board, columns in missing:
                self.title = f"{name} on {board}, {columns} columns"
                self._step(0)
                arrays = self.report["rows"].setdefault(board, {}).setdefault(name, {})
                arrays[str(columns)] = self._rows(name, board, columns, answered, ways)
                write_report(self.path, self.report)
                self._step(1)

    def test(self, fronts: Mapping[str, Sequence[Row]], dev: Sequence[Example]) -> dict[str, dict[str, dict]]:
        """What is on the fronts answers the test split, and beside it each model through all layers: by model and way
        to leave."""
        examples = self.data.load("test")
        chosen = {name: {ALL} for name in self.space.models}
        for row in (row for front in fronts.values() for row in front):
            chosen[row["model"]].add(row["exit"])
        self.done, self.total = 0.0, 2 * _ANSWERS * len(chosen)
        found = {}
        for name, names in chosen.items():
            artifact = self.space.models[name]
            ways = [way for way, _ in _ways(artifact, self._answers(name, "dev", dev)) if way.name in names]
            answered = self._answers(name, "test", examples)
            found[name] = {way.name: accuracy_of(leave(way, answered.ramps, artifact.manifest)) for way in ways}
        return found

    def _missing(self, name: str) -> list[tuple[str, int]]:
        """Boards and columns to look at: of the arrays that can be built within the budget those not in the report."""
        shapes, rows = self.report["shapes"], self.report["rows"]
        return [
            (board, int(columns))
            for board in self.space.boards
            for columns, shape in shapes[board].items()
            if not shape["over"] and columns not in rows.get(board, {}).get(name, {})
        ]

    def _step(self, share: float) -> None:
        """Progress by an array, or a share of one."""
        self.done += share
        self.advance(self.title, round(100 * self.done), 100 * self.total)

    def _answers(self, name: str, split: str, examples: Sequence[Example]) -> Answers:
        artifact = self.space.models[name]
        self.title = f"{name} answers the {split} split"
        self._step(0)
        kept = self.path.parent / "answers" / f"{name.replace('/', '-')}-{split}.safetensors"
        return answers(artifact, examples, longest(artifact), kept, lambda share: self._step(_ANSWERS * share))

    def _rows(
        self, name: str, board: str, columns: int, answered: Answers, ways: Sequence[tuple[Exit, Left]]
    ) -> list[list]:
        """Every candidate of a model on an array."""
        programs = programs_of(self.space.models[name], name, board, columns)
        found = []
        for mhz in self.space.clocks:
            for mode in self.space.modes:
                for way, left in ways:
                    costs = programs.costs(way, left, answered.tokens, mode, mhz, self.bounds.latency_ms)
                    found.append(row_of(way.name, mode, mhz, costs, percentile(costs.ms, P99)))
        simulated = self.report.setdefault("simulated", {})
        simulated[f"{name} on {board}, {columns} columns"] = programs.simulated
        return found


def _ways(artifact: Artifact, answered: Answers) -> list[tuple[Exit, Left]]:
    """The ways to leave a model, and where its sentences leave by each."""
    manifest, ramps = artifact.manifest, answered.ramps
    return [(way, leave(way, ramps, manifest)) for way in exits_of(ramps, manifest)]


def longest(artifact: Artifact) -> int:
    """Tokens of a text that the engine takes."""
    manifest = artifact.manifest
    return min(isa.MAX_ROWS, manifest["architecture"]["positions"], manifest["task"]["max_length"])


def programs_of(artifact: Artifact, name: str, board: str, columns: int) -> Programs:
    """The model's programs as the engine compiles them for an array of so many columns."""
    shape = ModelShape.of_manifest(artifact.manifest, name)
    compiled = functools.partial(plan, shape, shaped(board_named(board), columns), artifact=artifact)
    if shape.exits is None:
        return Programs(LayeredPasses(compiled()))
    nothing = (0,) * TABLE_ROWS
    exits = ExitPlan(0, nothing), ExitPlan(0, nothing, clock=True)  # what a threshold or a table holds costs nothing
    return Programs(LayeredPasses(compiled()), *(LayeredPasses(compiled(exits=of)) for of in exits))


def told(artifact: Artifact, answered: Answers, ways: Sequence[tuple[Exit, Left]]) -> dict[str, Any]:
    """What the report says of a model: what it holds, counted, and its ways to leave, measured."""
    architecture = artifact.manifest["architecture"]
    held = sizes(artifact)
    return {
        **{key: architecture[key] for key in ("family", "layers", "hidden", "ffn")},
        **{key: held[key] for key in ("heads", "heads_of", "mean_span", "density", "weight_bytes")},
        "off_ramps": artifact.manifest["exits"] is not None,
        "mean_tokens": fmean(answered.tokens),
        "exits": {
            way.name: {"kind": way.kind, "layer": way.layer, "threshold": way.threshold, **accuracy_of(left)}
            for way, left in ways
        },
    }


def accuracy_of(left: Left) -> dict[str, Any]:
    """Measured: sentences, those answered rightly, and the mean layer at which they leave."""
    return {
        "sentences": len(left.right),
        "right": int(left.right.sum()),
        "accuracy": float(left.right.mean()),
        "mean_layer": float(left.layers.mean()),
    }
