# SPDX-License-Identifier: Apache-2.0
"""Continuous batching: `with continuous.open(board=..., artifact=...) as engine: for r in engine.stream(texts)`.

For a model whose layers are all the same (host/tied.py): sentences at different depths share every product, and one
that leaves gives its rows to the next of the queue at once (docs/program.md, Continuous batching).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from ..fpga import instructions as isa
from ..fpga.boards import Board, board_named
from ..fpga.cycles import Timing
from ..fpga.dvfs import Course
from ..fpga.energy import work_of
from .compiler import Plan, plan
from .early_exit import NATS, operating_point
from .engine import TIMEOUT_S
from .errors import EngineTimeout
from .loaded_engine import LoadedEngine
from .meter import Reading
from .model_shape import ModelShape
from .overlap import AHEAD, Overlap
from .packed import Waiting, passes
from .packer import Packer
from .packing import text_and_pair
from .pynq_quietly import PynqBuffer
from .recovery import recover
from .result import Result
from .sentence_queue import Entry, Followed, follow, queue_bytes, rows_of
from .target import Target, choose
from .task_set import load_tasks
from .tied import queue_plan

ENTRIES = 64  # a queue: what its last sentences wait for others that do not come is spread over so many
WINDOW = 32  # sentences that wait for those that share their row blocks


def open(  # the counterpart of engine.open
    *,
    board: str | Board,
    artifact: str | Path,
    device: str | Target = "auto",
    clock_mhz: float | None = None,
    bitstream: str | None = None,
    timeout_s: float = TIMEOUT_S,
    early_exit: str | None = None,
    task: str | None = None,
    entries: int = ENTRIES,
) -> "ContinuousEngine":
    """As `engine.open`, for a tied model alone; `entries`: of a queue, at most.

    Raises CompileError for a model whose layers differ, with the tensor; otherwise as `engine.open`.
    """
    board = board_named(board) if isinstance(board, str) else board
    if entries < 1:
        raise ValueError(f"queues of {entries} entries: 1 or more are needed")

    def compiled(model) -> Plan:
        threshold = None if early_exit is None else operating_point(model.manifest, early_exit)["threshold"]
        queue = queue_plan(model, entries, threshold)
        shape = ModelShape.of_manifest(model.manifest).one_layer()
        return plan(shape, board, artifact=model, queue=queue)

    tasks = load_tasks(artifact, board, task, compiled=compiled)
    target = device if isinstance(device, Target) else choose(board, device, bitstream=bitstream)
    if clock_mhz is None:
        clock_mhz = min(board.clock_mhz, target.max_clock_mhz) if early_exit is None else target.max_clock_mhz
    return ContinuousEngine(target, tasks, clock_mhz, timeout_s)


@dataclass
class QueueJob:
    """A queue on its way: its texts by number, its entries, the buffer it has, and what its run left."""

    texts: dict[int, Waiting]
    entries: list[Entry]
    io: PynqBuffer
    clock_mhz: float = 0.0
    reading: Reading | None = None
    timing: Timing | None = None
    followed: Followed | None = None
    error: str | None = None
    known: dict[str, Any] = field(default_factory=dict)


class ContinuousEngine(LoadedEngine):
    """A tied model on a loaded overlay. Not thread-safe: one queue at a time."""

    def stream(
        self, texts: Iterable[str | tuple[str, str]], *, window: int = WINDOW, strict: bool = False
    ) -> Iterator[Result]:
        """Answer texts, or pairs of texts, in their order. A queue begins when all its texts are there; while it runs,
        the next is made and the one before answered. `window` sentences wait for those that share their row blocks.

        latency_ms: from the step at which a sentence comes to the one at which it leaves; power_w: of its queue, whose
        energy is shared evenly. Faults as `Engine.packed`.
        """
        return self._overlapped(texts, Packer(window, isa.MAX_ROWS), strict)

    def _overlapped(self, texts: Iterable, packer: Packer, strict: bool) -> Iterator[Result]:
        self._check_free()
        while len(self._ios) < AHEAD:
            self._another_io()
        turns = cycle(self._ios)
        encode = partial(self.encoder.encode, strict=strict)
        overlap = self._packed = Overlap("zynqbert-engine")
        found: dict[int, Result] = {}
        told = 0
        try:
            jobs = (self._job(taken, next(turns)) for taken in queues(texts, packer, encode, self.plan.queue.entries))
            for job in overlap.run(jobs, self._run_job):
                found.update(self._results(job))
                while told in found:
                    yield found.pop(told)
                    told += 1
        finally:
            overlap.close()
            self._packed = None

    def _job(self, taken: list[list[Waiting]], io: PynqBuffer) -> QueueJob:
        entries = [Entry(tuple(w.sentence for w in of), tuple(w.number for w in of)) for of in taken]
        data = queue_bytes(entries, self.plan.queue)
        region = io[: data.size]
        region[:] = data
        region.flush()
        return QueueJob({w.number: w for of in taken for w in of}, entries, io)

    def _run_job(self, job: QueueJob) -> None:
        self.passes += 1
        job.known = {"task": self.task_name, "clock_mhz": self.clock_mhz}

        def run() -> None:
            if self._written is not self._task:
                self._write_task()
            self.keep_weights()
            self._run(self._program, self.plan.instructions, isa.MAX_ROW_BLOCKS, job.io)
            job.io[self.plan.queue.results :].invalidate()

        def course() -> Course:
            job.followed = follow(job.entries, self.plan.queue, np.asarray(job.io))
            known = {"verdicts": job.followed.course.verdicts, "queue": job.followed.course.queue}
            job.timing = self.plan.simulate(isa.MAX_ROW_BLOCKS, self.clock_mhz, **known)
            return Course(self.clock_mhz, self.clock_mhz, job.timing.seconds, work_of(job.timing))

        try:
            self.keep_weights()
            job.reading = self.meter.measure(run, isa.MAX_ROW_BLOCKS, self.clock_mhz, course)
            self.busy_ms += job.reading.latency_ms
        except EngineTimeout as hang:
            recover(self.driver, hang)
            job.error = str(hang)

    def _results(self, job: QueueJob) -> Iterator[tuple[int, Result]]:
        """What a queue that ran says of its sentences, by their numbers."""
        followed = job.followed
        if job.error is None and followed is None:  # measured: nothing has asked which way it went
            followed = follow(job.entries, self.plan.queue, np.asarray(job.io))
        for number, waiting in job.texts.items():
            text, pair = text_and_pair(waiting.given)
            known = {"text": text, "pair": pair, "truncated": waiting.sentence.truncated} | job.known
            if job.error is not None:
                yield number, Result(**known, error=job.error)
                continue
            left, reading = followed.answers[number], job.reading
            spent = None if reading.power_w is None else reading.power_w * reading.latency_ms / len(job.texts)
            cost = {"latency_ms": self._latency_ms(job, followed, number), "energy_mj": spent}
            cost |= {"power_w": reading.power_w, "source": reading.source}
            where = {"layers": self.layers, "exit_layer": left.layer, "exit_entropy": left.entropy * NATS}
            where |= {"first_clock_mhz": job.known["clock_mhz"]}
            yield number, Result(**known, **cost, **where, **self._task.sentence(left.logits))

    @property
    def layers(self) -> int:
        """How often a sentence passes the layer, at the most."""
        return self.plan.exit_layers[0]

    def _latency_ms(self, job: QueueJob, followed: Followed, number: int) -> float:
        """From the step at which it comes to its answer; of a measured queue its share of the steps."""
        course = followed.course
        first, last = course.steps[number]
        if job.timing is None:
            return job.reading.latency_ms * (last - first + 1) / len(course.verdicts)
        begin = job.timing.verdicts[first - 1] if first else 0
        return (job.timing.verdicts[last] - begin) / (job.timing.clock_mhz * 1e3)


def queues(texts: Iterable, packer: Packer, encode, most: int) -> Iterator[list[list[Waiting]]]:
    """Texts by queue and entry, of the row blocks of the one that waits longest: at most `most` entries a queue; what
    reading a text raises, after all those before it."""
    entries: list[list[Waiting]] = []
    fault: Exception | None = None
    source = entries_of(texts, packer, encode)
    while fault is None:
        try:
            entries.append(next(source))
        except StopIteration:
            break
        except Exception as error:
            fault = error
        if len(entries) == most:
            yield entries
            entries = []
    if entries:
        yield entries
    if fault is not None:
        raise fault


def entries_of(texts: Iterable, packer: Packer, encode) -> Iterator[list[Waiting]]:
    """Texts by entry: the row blocks of the one that waits longest, filled with others."""
    return passes(texts, packer, encode, rows_of, _whole)


def _whole(rows: int) -> int:
    """Rows of so many whole row blocks."""
    return -(-rows // isa.LANES) * isa.LANES
