# SPDX-License-Identifier: Apache-2.0
"""What an engine has loaded: the tasks of a backbone, or a model by itself as the one task that has no name.

Each task has programs of its own, and of the memory image the area at its end; all in front of that is the backbone's.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..fpga import dvfs
from ..fpga import instructions as isa
from ..fpga.boards import Board
from ..quant.artifact import Artifact, ArtifactError, load_artifact
from ..quant.artifact_files import read_json
from ..quant.artifact_manifest import MANIFEST
from ..quant.task_artifact import load_backbone, load_task, task_names
from ..quant.task_manifest import BACKBONE_FORMAT, TASKS
from .answers import sentence_answer, token_answers
from .compiler import ModelShape, Plan, plan
from .early_exit import NATS, Ways, operating_point
from .layouts import Record
from .memory_image import memory_image
from .packing import Sentence, SentenceEncoder


@dataclass(frozen=True)
class Switch:
    """A change of tasks: `bytes` went to the device's memory for `task`, by so many `writes`, each flushed, in
    `seconds` of the host's clock. What it costs a board: fpga.switching.switching."""

    task: str
    bytes: int
    writes: int
    seconds: float


@dataclass
class Way:
    """A program of a task: its plan, its buffer, and the modelled passes through it."""

    plan: Plan
    passes: dvfs.Passes
    program: Any = None

    @staticmethod
    def of(compiled: Plan) -> "Way":
        """The way of a plan whose program has no buffer yet."""
        return Way(compiled, dvfs.Passes(compiled))


class LoadedTask:
    """One task: its ways, its encoder, what its logits mean.

    `free` runs where there is no latency target, `timed` with early exit where there is one (early_exit.Ways); `way` is
    the one in use. `area`: uint8, what of the image is the task's own, as the device has it while the task is in use;
    None for a model by itself.
    """

    def __init__(self, name: str | None, model: Artifact, free: Plan, timed: Plan | None):
        self.name = name
        self.free = self.way = Way.of(free)
        self.timed = None if timed is None else Way.of(timed)
        self.task: dict = model.manifest["task"]
        self.labels: list[str] = list(self.task["labels"])
        self.logit_scale = float(model.manifest["scales"]["logits"])
        shape = free.shape
        max_tokens = min(isa.MAX_ROWS, shape.positions, self.task["max_length"])
        self.encoder = SentenceEncoder(model.tokenizer_path, max_tokens, shape.vocab, shape.types)
        self.area: np.ndarray | None = None
        self._tables: dict[tuple, bytes] = {}

    @property
    def plan(self) -> Plan:
        """The compiled model, of the way in use."""
        return self.way.plan

    def ways(self) -> Iterator[Way]:
        """One, or with early exit two."""
        yield self.free
        if self.timed is not None:
            yield self.timed

    def pieces(self) -> Iterator[tuple[int, np.ndarray]]:
        """What a change to this task writes: image offset, bytes (uint8). Nothing for a model by itself."""
        own = self.plan.task
        for piece in () if own is None else own.pieces:
            at = piece.offset - own.offset
            yield piece.offset, self.area[at : at + piece.bytes]

    def choose(self, way: Way) -> None:
        """The passes to come are of `way`, whose exit table the device has now."""
        self.way = way
        if self.area is not None:
            at, table = exit_table(way.plan)
            at -= way.plan.task.offset
            self.area[at : at + table.size] = table

    def clock_table(self, row_blocks: int, target_s: float, steps: tuple[tuple[int, float], ...]) -> bytes:
        """The table of a pass with a latency target, `steps` of the clock as dvfs.ladder gives them."""
        key = row_blocks, target_s, steps
        if key not in self._tables:
            self._tables[key] = dvfs.clock_table(self.timed.passes, row_blocks, steps, target_s)
        return self._tables[key]

    def sentence(self, logits: np.ndarray) -> dict:
        """The fields of a Result that int logits [labels] give."""
        return sentence_answer(logits, self.logit_scale, self.labels, self.task["scores"])

    def answer(
        self, io: np.ndarray, lane: int, sentence: Sentence, texts: tuple[str, str | None], row_blocks: int
    ) -> dict:
        """The fields of a Result that a pass without early exit left in `io` of the sentence of lane `lane`; of the
        only one where tokens are labelled."""
        if self.task["kind"] == "token":
            logits, form = self.plan.io.token_logits(io, row_blocks), self.task["scores"]
            return token_answers(logits, self.logit_scale, self.labels, form, sentence.spans, texts)
        return self.sentence(self.plan.io.logits(io, lane))

    def left(self, io: np.ndarray, record: Record, lane: int) -> dict:
        """The fields of a Result that a pass with early exit left in `io` of the sentence of lane `lane`."""
        layer = int(record.layer[lane])
        where = {
            "exit_layer": layer,
            "exit_entropy": float(record.entropy[lane] * NATS),
            "first_entropy": float(record.first_entropy[lane] * NATS),
            "foretold_layer": int(record.foretold[lane]) or None,
        }
        return where | self.sentence(self.plan.io.ramp_logits(io, layer, lane))


@dataclass
class TaskSet:
    """Tasks by name, in order, and the one to begin with. image: uint8, the backbone and behind it the area of `first`,
    with room for the largest."""

    tasks: Mapping[str | None, LoadedTask]
    first: LoadedTask
    image: np.ndarray


def exit_table(of: Plan) -> tuple[int, np.ndarray]:
    """With early exit: image offset and bytes (uint8) of a plan's exit table, all in which its ways' images differ."""
    return of.regions["exits.table"].offset, np.array(of.exits.table, np.uint8)


def is_backbone(folder: str | Path) -> bool:
    """Whether the manifest in `folder` says that it is a backbone's; what cannot be read is none."""
    try:
        manifest, _ = read_json(Path(folder) / MANIFEST)
    except (ArtifactError, OSError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == BACKBONE_FORMAT


def load_models(folder: str | Path, task: str | None = None) -> tuple[dict[str | None, Artifact], str | None]:
    """The models of an artifact's or a backbone's folder by task, and which to begin with: `task`, or the first.

    An artifact's name is None. Raises ArtifactError; ValueError for a task that there is none of.
    """
    if not is_backbone(folder):
        if task is not None:
            fault = f"task {task!r}: {folder} is no backbone with tasks"
            raise ValueError(f"{fault}; remedy: name no task, or give a backbone's folder")
        return {None: load_artifact(folder)}, None
    backbone = load_backbone(folder)
    names = task_names(backbone)
    first = known_task(folder, names, task) if task is not None or not names else names[0]
    return {name: load_task(backbone, backbone.folder / TASKS / name) for name in names}, first


def load_model(folder: str | Path, task: str | None) -> Artifact:
    """The model in an artifact's folder, or with a `task` that of it in a backbone's. Raises ArtifactError."""
    if task is None:
        return load_artifact(folder)
    backbone = load_backbone(folder)
    return load_task(backbone, backbone.folder / TASKS / task)


def known_task(folder: str | Path, names: list[str], task: str | None) -> str:
    """`task`, if it is one of the `names` that backbone `folder` has; ValueError if not, or if there are none."""
    if not names:
        raise ValueError(f"{folder}: the backbone has no task yet; remedy: zynqbert tasks add {folder} TASK_FOLDER")
    if task not in names:
        raise ValueError(f"task {task!r} is none of the tasks of {folder}; it has: {', '.join(names)}")
    return task


def load_tasks(
    folder: str | Path,
    board: Board,
    task: str | None = None,
    *,
    trace: bool = False,
    early_exit: str | None = None,
    compiled: Callable[[Artifact], Plan] | None = None,
) -> TaskSet:
    """Load, check and compile what is in `folder`, an artifact or a backbone with its tasks, for `board`.

    task: to begin with, the first if None. trace, early_exit: as `engine.open`; or how each is `compiled`. Raises as
    load_models; CompileError, PackError; ValueError for an operating point that there is none of. Where there are
    tasks, the message names it.
    """
    models, first = load_models(folder, task)
    return task_set(models, first, board, trace=trace, early_exit=early_exit, compiled=compiled)


def task_set(
    models: Mapping[str | None, Artifact],
    first: str | None,
    board: Board,
    *,
    trace: bool = False,
    early_exit: str | None = None,
    compiled: Callable[[Artifact], Plan] | None = None,
) -> TaskSet:
    """The same of models that are there already; of a model by itself: {None: model}, None."""
    tasks, image = {}, np.zeros(0, np.uint8)
    for name, model in models.items():
        with _named(name):
            plans = _plans(model, board, trace, early_exit) if compiled is None else (compiled(model), None)
            loaded = LoadedTask(name, model, *plans)
            packed = memory_image(loaded.plan, model)
        if name is not None:
            loaded.area = packed[loaded.plan.task.offset :].copy()
        tasks[name] = loaded
        if name == first:
            image = packed
    largest = max(loaded.plan.image_bytes for loaded in tasks.values())
    return TaskSet(tasks, tasks[first], np.concatenate([image, np.zeros(largest - image.size, np.uint8)]))


def _plans(model: Artifact, board: Board, trace: bool, early_exit: str | None) -> tuple[Plan, Plan | None]:
    """The plans of the free and of the timed way."""
    shape = ModelShape.of_manifest(model.manifest)
    if early_exit is None:
        return plan(shape, board, artifact=model, trace=trace), None
    ways = Ways.of_point(operating_point(model.manifest, early_exit))
    free, timed = (plan(shape, board, artifact=model, trace=trace, exits=way) for way in (ways.free, ways.timed))
    return free, timed


@contextmanager
def _named(task: str | None) -> Iterator[None]:
    """What is wrong with a task says whose it is."""
    try:
        yield
    except ValueError as error:
        if task is not None:
            error.args = (f"task {task}: {error}",)
        raise
