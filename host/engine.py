# SPDX-License-Identifier: Apache-2.0
"""The engine with a model in it: `with open(board=..., artifact=...) as engine: for result in engine.stream(texts)`."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from ..fpga import dvfs
from ..fpga.boards import Board, board_named
from ..fpga.energy import energy, standing
from .early_exit import verdicts_of
from .errors import EngineTimeout
from .job import Job
from .layouts import Record
from .loaded_engine import LoadedEngine
from .overlap import AHEAD, Overlap
from .packed import Waiting, packed
from .packer import WINDOW as PACK_WINDOW
from .packer import Packer
from .packing import Pass, Sentence, pack_pass, text_and_pair
from .pynq_quietly import PynqBuffer
from .recovery import recover
from .result import Result
from .target import Target, choose
from .task_queue import WINDOW, answered
from .task_set import load_tasks

TIMEOUT_S = 10.0


def open(  # the counterpart of the builtin, as the package's users see it
    *,
    board: str | Board,
    artifact: str | Path,
    device: str | Target = "auto",
    clock_mhz: float | None = None,
    bitstream: str | None = None,
    trace: bool = False,
    timeout_s: float = TIMEOUT_S,
    early_exit: str | None = None,
    retune: bool = True,
    task: str | None = None,
) -> "Engine":
    """Load the overlay and the model of folder `artifact` on `board` ("zcu102", "zcu111"); close it after use.

    artifact: a model by itself, or a backbone, whose tasks are all loaded; `task` is the one to begin with, the first
    if not given. `Engine.use` changes it.
    device: "auto", "board", "emulated", or a Target. clock_mhz: the engine's clock, else the board's plan, or the
    bitstream's limit where that is lower; with early exit the bitstream's limit, since a target is met by slowing down.
    trace: keep every buffer of a pass for `Engine.traces`. timeout_s: when a pass counts as hung. early_exit: the
    artifact's operating point at which sentences leave early ("1": for a loss of one point), every layer for each if
    not given.

    Raises ArtifactError, CompileError, PackError, TargetError, ManifestError, ClockError, EngineMismatch; ValueError
    for a task, or an operating point (of one of the tasks), that there is none of.
    """
    board = board_named(board) if isinstance(board, str) else board
    tasks = load_tasks(artifact, board, task, trace=trace, early_exit=early_exit)
    target = device if isinstance(device, Target) else choose(board, device, bitstream=bitstream)
    if clock_mhz is None:
        clock_mhz = min(board.clock_mhz, target.max_clock_mhz) if early_exit is None else target.max_clock_mhz
    return Engine(target, tasks, clock_mhz, timeout_s, retune=retune)


class Engine(LoadedEngine):
    """A loaded model on a loaded overlay. Not thread-safe: one pass at a time, as on the board."""

    def stream(
        self,
        texts: Iterable[str | tuple[str, str]],
        *,
        strict: bool = False,
        latency_target_ms: float | None = None,
        task: str | None = None,
    ) -> Iterator[Result]:
        """Answer texts, or pairs of texts, one by one, in order, as they come, as `task` or else the one in use.

        What is over the model's length is truncated and marked, or raises TooLong if `strict`. A text whose pass hangs
        has a result with `error`, and the engine is reset for the next; raises EngineStuck or ResetTimeout where that
        does not help, EngineError where the engine refuses the program, as it would for every text.

        latency_target_ms: with early exit, each sentence runs at the clocks that meet it with the least energy, and the
        engine's clock stands from its answer to the next pass. After every early_exit.BATCH passes the wizard is
        retuned, where their load or target is another and this pays. Raises ValueError for a target that is no number
        above 0, or without early exit; as `use`; ClockError as `set_clock`.
        """
        target_s = None if latency_target_ms is None else self._target(latency_target_ms)
        for given in texts:
            if task is not None:
                self.use(task)
            sentence = self.encoder.encode(given, strict=strict)
            yield self._answers([given], [sentence], target_s)[0]

    def together(
        self,
        texts: Sequence[str | tuple[str, str]],
        *,
        strict: bool = False,
        latency_target_ms: float | None = None,
    ) -> list[Result]:
        """Answer up to 32 texts in one pass, each leaving on its own; their rows must fit (packing.pack_pass).

        latency_ms and power_w are the pass's, energy is shared evenly. Otherwise as `stream`; ValueError for a model
        that labels tokens.
        """
        if self.task["kind"] == "token":
            raise ValueError("together: a model that labels tokens takes one text a pass")
        target_s = None if latency_target_ms is None else self._target(latency_target_ms)
        return self._answers(list(texts), [self.encoder.encode(text, strict=strict) for text in texts], target_s)

    def packed(
        self,
        texts: Iterable[str | tuple[str, str]],
        *,
        window: int = PACK_WINDOW,
        strict: bool = False,
        latency_target_ms: float | None = None,
    ) -> Iterator[Result]:
        """Answer texts as `stream`, in their order, but several a pass, and the host's work beside the engine's.

        A pass takes the text that waits longest and of the `window` next ones those that fill its rows best
        (packer.py); it begins when all of them are there. While one runs, the next is made and what came before is
        answered; no more is read than that. latency_ms and power_w are the pass's, energy is shared evenly. Until its
        last result is taken, or the iterator closed, the engine does nothing else. Raises as `stream`; ValueError for a
        model that labels tokens, and while another packed stream is under way.
        """
        if self.task["kind"] == "token":
            raise ValueError("packed: a model that labels tokens takes one text a pass")
        target_s = None if latency_target_ms is None else self._target(latency_target_ms)
        return self._overlapped(texts, Packer(window), strict, target_s)

    def _overlapped(self, texts: Iterable, packer: Packer, strict: bool, target_s: float | None) -> Iterator[Result]:
        self._check_free()
        while len(self._ios) < AHEAD:
            self._another_io()
        turns = cycle(self._ios)

        def make(taken: list[Waiting]) -> Job:
            sentences, given = [w.sentence for w in taken], [text_and_pair(w.given) for w in taken]
            job = Job(given, sentences, pack_pass(sentences), target_s, next(turns), laid=True)
            self._lay(job.rows, job.io)
            return job

        encode = partial(self.encoder.encode, strict=strict)
        if self._timed is not None:  # before the first rows are laid: the io buffer is this way's
            self._use(self._task.free if target_s is None else self._timed)
        self._packed = Overlap("zynqbert-engine")
        try:
            yield from packed(texts, packer, encode, make, self._run_job, self._results, self._packed)
        finally:
            self._packed.close()
            self._packed = None

    def mixed(
        self,
        items: Iterable[tuple[str, str | tuple[str, str]]],
        *,
        window: int = WINDOW,
        strict: bool = False,
        latency_target_ms: float | None = None,
    ) -> Iterator[Result]:
        """Answer items (task, text) or (task, pair); the results come in the items' order.

        The items of a `window` run task by task, the one in use first: at most as many switches as it has other tasks.
        A window begins when all its items are there; each is checked before the first runs. Raises ValueError for an
        item that is none, or whose task there is none of, by its number from 1; otherwise as `stream`.
        """
        target_s = None if latency_target_ms is None else self._target(latency_target_ms)

        def prepare(task: str, given: str | tuple[str, str]) -> Sentence:
            return self._loaded(task).encoder.encode(given, strict=strict)

        def answer(task: str, given: str | tuple[str, str], sentence: Sentence) -> Result:
            self.use(task)
            return self._answers([given], [sentence], target_s)[0]

        return answered(items, window, self.tasks, lambda: self.task_name, prepare, answer)

    def _answers(
        self, given: Sequence[str | tuple[str, str]], sentences: Sequence[Sentence], target_s: float | None
    ) -> list[Result]:
        """One pass of all of them."""
        self._check_free()
        job = Job([text_and_pair(one) for one in given], sentences, pack_pass(sentences), target_s, self._ios[0])
        self._run_job(job)
        return self._results(job)

    def _run_job(self, job: Job) -> None:
        """Run the pass, and keep what the engine's state says of it; a hang is in `error`, the engine reset."""
        rows, target_s = job.rows, job.target_s
        self.passes += 1
        if target_s is not None and self.retune and (mix := self._load.another(target_s)) is not None:
            self.tune(target_s * 1e3, mix)
        table = course = None
        if self._timed is not None:
            self._use(self._task.free if target_s is None else self._timed)
            table = None if target_s is None else self._task.clock_table(rows.row_blocks, target_s, self._clocks())
            job.known = {"layers": len(self.plan.shape.layers), "first_clock_mhz": self.clock_mhz}
            job.known |= {} if target_s is None else {"target_ms": target_s * 1e3}
            course = lambda: self._course(rows, job.io)  # noqa: E731
        job.known |= {"task": self.task_name, "clock_mhz": self.clock_mhz}
        try:
            self.keep_weights()  # once, and not on the meter
            run = lambda: self._pass(rows, job.io, table, job.laid)  # noqa: E731
            job.reading = self.meter.measure(run, rows.row_blocks, self.clock_mhz, course)
            self.busy_ms += job.reading.latency_ms
        except EngineTimeout as hang:
            recover(self.driver, hang)
            job.error = str(hang)
        if target_s is not None:
            self.clocks.stop()
        if job.error is None and course is not None:
            job.record = self._record(job.io)
            job.rest_mhz = self._rest_mhz(job.record)
            if target_s is not None:
                self._load.saw(job.record, rows, len(self.plan.shape.layers), target_s)

    def _results(self, job: Job) -> list[Result]:
        """What a pass that ran says of its sentences; the engine may run another one."""
        known = [
            {"text": text, "pair": pair, "truncated": sentence.truncated} | job.known
            for (text, pair), sentence in zip(job.texts, job.sentences, strict=True)
        ]
        if job.error is not None:
            return [Result(**one, error=job.error) for one in known]
        reading = job.reading
        spent = None if reading.power_w is None else reading.power_w * reading.latency_ms / len(job.sentences)
        cost = {"latency_ms": reading.latency_ms, "energy_mj": spent}
        cost |= {"power_w": reading.power_w, "source": reading.source}
        if job.record is not None:
            said = self._leaving(job)
        else:
            io, each = np.asarray(job.io), enumerate(zip(job.sentences, job.texts, strict=True))
            said = [self._task.answer(io, lane, *of, job.rows.row_blocks) for lane, of in each]
        return [Result(**(one | cost | fields)) for one, fields in zip(known, said, strict=True)]

    def _course(self, rows: Pass, io: PynqBuffer) -> dvfs.Course:
        """Which way the last pass went."""
        record = self._record(io)
        verdicts = verdicts_of(record, rows, len(self.plan.shape.layers))
        rest_mhz = self._rest_mhz(record)
        return self._task.way.passes.course(rows.row_blocks, verdicts, self.clock_mhz, rest_mhz)

    def _record(self, io: PynqBuffer) -> Record:
        return self.plan.io.record(np.asarray(io))

    def _rest_mhz(self, record: Record) -> float:
        output = int(record.output[0])
        return self.clock_mhz if output < 0 else dict(self._clocks())[output]

    def _leaving(self, job: Job) -> list[dict]:
        """What a pass says of each sentence that left early."""
        io, reading, target_s = np.asarray(job.io), job.reading, job.target_s
        share = 1e3 / len(job.sentences)
        cost: dict[str, Any] = {"clock_mhz": job.rest_mhz}
        if target_s is not None:
            cost["target_met"] = reading.latency_ms <= target_s * 1e3
        if reading.energy is not None:
            cost["energy_parts_mj"] = {kind: joules * share for kind, joules in reading.energy.summed().items()}
            left = max(target_s - reading.latency_ms * 1e-3, 0.0) if target_s is not None else 0.0
            cost["waiting_mj"] = energy(self.plan.board, standing(left)).joules * share
        lanes = range(len(job.sentences))
        return [self._task.left(io, job.record, lane) | cost for lane in lanes]
