# SPDX-License-Identifier: Apache-2.0
"""The engine with a model in it: `with open(board=..., artifact=...) as engine: for result in engine.stream(texts)`."""

import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..fpga import dvfs
from ..fpga import instructions as isa
from ..fpga.boards import Board, board_named
from ..fpga.energy import energy, standing
from ..fpga.registers import WEIGHTS_FAULTS
from . import driver as drivers
from .buffers import Buffers
from .checks import check_identity, check_plan
from .clocks import ClockChange, ClockTree
from .compiler import Plan
from .early_exit import Load, target_seconds, verdicts_of
from .errors import CorruptWeights, EngineError, EngineTimeout, ResetTimeout
from .layouts import Record
from .meter import Reading
from .packing import Pass, Sentence, SentenceEncoder, pack_pass, text_and_pair
from .pynq_quietly import Overlay
from .recovery import recover, settle
from .result import Result
from .target import Target, choose
from .task_queue import WINDOW, answered
from .task_set import LoadedTask, Switch, TaskSet, Way, exit_table, load_tasks

logger = logging.getLogger(__name__)

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


class Engine:
    """A loaded model on a loaded overlay. Not thread-safe: one pass at a time, as on the board."""

    def __init__(self, target: Target, tasks: TaskSet, clock_mhz: float, timeout_s: float, retune: bool = True):
        self.timeout_s, self.target, self.retune = timeout_s, target, retune
        self._tasks, self._task = tasks.tasks, tasks.first
        self._written: LoadedTask | None = None  # whose area lies in the image
        self.switches = self.switched_bytes = 0
        self._load = Load()
        self._steps: tuple[tuple[int, float], ...] | None = None  # of the clock, as dvfs.ladder gives them
        self.meter = target.meter(self.plan)
        self._buffers = Buffers(target.device)
        self._keeping = self._image = self._io = None
        self._kept_after = -1  # resets before the resident weights came on chip
        self.driver: drivers.EngineDriver | None = None  # once it is known to be our engine
        try:
            self._bring_up(target, tasks.image, clock_mhz)
        except BaseException:
            self.close()
            raise

    def _bring_up(self, target: Target, image: np.ndarray, clock_mhz: float) -> None:
        start = time.perf_counter()
        manifest, path = target.manifest, target.manifest_path
        logger.info("%s, bitstream %s", target.name, target.bitstream)
        if manifest is not None:
            for way in self._ways():
                check_plan(way.plan, manifest, f"the engine of {path}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pynq's search for plug-ins warns of its own imports
            self.overlay = Overlay(target.bitstream, device=target.device)
        driver = drivers.block_of(self.overlay, drivers.EngineDriver)
        identity = driver.identify()
        logger.info(
            "engine: program version %d, %d columns, %d lanes, capabilities %s",
            *(identity.program_version, identity.columns, identity.lanes),
            " ".join(sorted(identity.capabilities)) or "none",
        )
        if manifest is not None:
            check_identity(identity, manifest, path)
        for way in self._ways():
            check_plan(way.plan, identity, "this bitstream's engine")
        self.driver = driver
        self.clocks = ClockTree(driver, drivers.block_of(self.overlay, drivers.ClockWizardDriver), target.max_clock_mhz)
        self.set_clock(clock_mhz)
        for way in self._ways():
            way.program = self._buffers.filled(np.frombuffer(way.plan.program, np.uint8))
        self._image = self._buffers.filled(image)
        self._written = self._task
        self._io = self._buffers.allocate(max(way.plan.io.bytes for way in self._ways()))
        if len(self.plan.keeping) > 1:
            self._keeping = self._buffers.filled(np.frombuffer(self.plan.keeping_program, np.uint8))
        if self.tasks:
            logger.info("tasks: %s", ", ".join(self.tasks))
        sizes = (buffer.nbytes for buffer in (self._program, self._image, self._io))
        logger.info("bytes of program %d, image %d, io %d; loaded in %.2f s", *sizes, time.perf_counter() - start)

    def _ways(self) -> Iterator[Way]:
        """Of all tasks: their programs lie in the device's memory from the start."""
        for task in self._tasks.values():
            yield from task.ways()

    # The task in use

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of a backbone's tasks; none for a model by itself."""
        return tuple(name for name in self._tasks if name is not None)

    @property
    def task_name(self) -> str | None:
        """Of the task in use."""
        return self._task.name

    def task_of(self, name: str | None) -> dict:
        """The manifest's `task` of the task `name`. Raises ValueError for one that there is none of."""
        return self._loaded(name).task

    @property
    def task(self) -> dict:
        """The manifest's `task` of the task in use."""
        return self._task.task

    @property
    def labels(self) -> list[str]:
        """Of the task in use."""
        return self._task.labels

    @property
    def encoder(self) -> SentenceEncoder:
        """Of the task in use."""
        return self._task.encoder

    @property
    def plan(self) -> Plan:
        """The compiled model of the task in use; with early exit that of its last pass, without a latency target or
        with one."""
        return self._task.plan

    @property
    def _timed(self) -> Way | None:
        return self._task.timed

    @property
    def _program(self):
        """The buffer of the program that runs now."""
        return self._task.way.program

    def use(self, name: str) -> Switch | None:
        """Answer as the task `name` from now on; what that moved to the device, None if it is in use already.

        Only what is the task's own is written: programs and backbone lie in memory, resident weights stay on chip.
        `switches` and `switched_bytes` count on. The engine must be idle. Raises ValueError for a task that there is
        none of.
        """
        task = self._loaded(name)
        if self._image is None:
            raise ValueError("the engine is closed")
        if task is self._task:
            return None
        start = time.perf_counter()
        self._task = task
        self.meter.use(task.plan)
        moved = self._write_task()
        self.switches += 1
        switch = Switch(name, moved, len(task.plan.task.pieces), time.perf_counter() - start)
        logger.debug("task %s: %d bytes moved", name, moved)
        return switch

    def _loaded(self, name: str | None) -> LoadedTask:
        if name not in self._tasks:
            there = ", ".join(self.tasks) or "none, it is a model by itself"
            raise ValueError(f"task {name!r} is none of those there are: {there}")
        return self._tasks[name]

    def _write_task(self) -> int:
        """Bring the area of the task in use to the device; the bytes moved. An interrupted one is made up for before
        the next pass."""
        moved, self._written = 0, None
        for at, data in self._task.pieces():
            self._write(at, data)
            moved += data.size
        self._written = self._task
        self.switched_bytes += moved
        return moved

    def _write(self, at: int, data: np.ndarray) -> None:
        """Write uint8 `data` to the image at `at`, for the device to read."""
        region = self._image[at : at + data.size]
        region[:] = data
        region.flush()

    def _use(self, way: Way) -> None:
        """Run the passes of the task to come as `way`; the memory images differ by the exit table alone."""
        if way is not self._task.way:
            self._write(*exit_table(way.plan))
            self._task.choose(way)

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Leave the engine idle and free the buffers; it cannot be used after.

        Raises ResetTimeout if not even a reset ends a pass; what it may still write to is not freed then.
        """
        driver, self.driver = self.driver, None
        try:
            if driver is not None:
                settle(driver)
        except ResetTimeout:
            self._buffers.keep()
            raise
        finally:
            self.meter.close()
            self._buffers.free()
            self._keeping = self._image = self._io = None

    # The clock

    def set_clock(self, mhz: float) -> ClockChange:
        """Change the engine's clock to `mhz`, or the nearest below: `clock_mhz` is what it became, `asked_mhz` this.

        Raises ClockError above the bitstream's limit, or where the clock does not follow.
        """
        self.clock = self.clocks.set_mhz(mhz)
        self.asked_mhz, self._steps = mhz, None
        self._load.forget()
        logger.info("engine clock: %s", self.clock)
        if self.clock_mhz != mhz:
            logger.warning("engine clock: %g MHz asked, %g MHz is the nearest below", mhz, self.clock_mhz)
        return self.clock

    @property
    def clock_mhz(self) -> float:
        """The engine's clock."""
        return self.clock.mhz

    def tune(self, latency_target_ms: float, mix: Mapping[tuple[int, int], float]) -> ClockChange | None:
        """Retune the wizard's outputs for a batch with this target, if that saves more than it costs (modelled), and
        say what changed. The clock of the first layer stays.

        mix: how many passes are awaited by row blocks and layer foretold. The engine must be idle. `stream` and
        `together` do it by the batch before. Raises ValueError without early exit, ClockError as `set_clock`.
        """
        target_s = self._target(latency_target_ms)
        outputs = dvfs.best_outputs(self._timed.passes, mix, target_s, self.clocks.available(), self.clock.output)
        if outputs is None:
            return None
        self.clock, self._steps = self.clocks.set_outputs(outputs), None
        logger.info("clocks for a target of %g ms: %s", latency_target_ms, self.clock)
        return self.clock

    def _clocks(self) -> tuple[tuple[int, float], ...]:
        """The wizard's outputs that the engine may choose, as dvfs.ladder gives them."""
        if self._steps is None:
            self._steps = dvfs.ladder(self.clocks.available(), self.clock.output)
        return self._steps

    # Use

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

    def _target(self, latency_target_ms: float) -> float:
        target_s = target_seconds(latency_target_ms)
        if self._timed is None:
            raise ValueError("a latency target needs early exit; remedy: name an operating point for it (early exit)")
        return target_s

    def _answers(
        self, given: Sequence[str | tuple[str, str]], sentences: Sequence[Sentence], target_s: float | None
    ) -> list[Result]:
        """One pass of all of them."""
        rows = pack_pass(sentences)
        if target_s is not None and self.retune and (mix := self._load.another(target_s)) is not None:
            self.tune(target_s * 1e3, mix)
        pairs = [text_and_pair(one) for one in given]
        early: dict[str, Any] = {}
        table = course = None
        if self._timed is not None:
            self._use(self._task.free if target_s is None else self._timed)
            table = None if target_s is None else self._task.clock_table(rows.row_blocks, target_s, self._clocks())
            early = {"layers": len(self.plan.shape.layers), "first_clock_mhz": self.clock_mhz}
            early |= {} if target_s is None else {"target_ms": target_s * 1e3}
            course = lambda: self._course(rows)  # noqa: E731
        early |= {"task": self.task_name, "clock_mhz": self.clock_mhz}
        known = [
            {"text": text, "pair": pair, "truncated": sentence.truncated} | early
            for (text, pair), sentence in zip(pairs, sentences, strict=True)
        ]
        try:
            self.keep_weights()  # once, and not on the meter
            run = lambda: self.run_pass(rows, table)  # noqa: E731
            reading = self.meter.measure(run, rows.row_blocks, self.clock_mhz, course)
        except EngineTimeout as hang:
            recover(self.driver, hang)
            reading, error = None, str(hang)
        if target_s is not None:
            self.clocks.stop()
        if reading is None:
            return [Result(**one, error=error) for one in known]
        spent = None if reading.power_w is None else reading.power_w * reading.latency_ms / len(sentences)
        cost = {"latency_ms": reading.latency_ms, "energy_mj": spent}
        cost |= {"power_w": reading.power_w, "source": reading.source}
        if course is not None:
            said = self._leaving(rows, reading, target_s)
            if target_s is not None:
                self._load.saw(self._record(), rows, len(self.plan.shape.layers), target_s)
        else:
            io, each = np.asarray(self._io), enumerate(zip(sentences, pairs, strict=True))
            said = [self._task.answer(io, lane, *of, rows.row_blocks) for lane, of in each]
        return [Result(**(one | cost | fields)) for one, fields in zip(known, said, strict=True)]

    def _course(self, rows: Pass) -> dvfs.Course:
        """Which way the last pass went."""
        record = self._record()
        verdicts = verdicts_of(record, rows, len(self.plan.shape.layers))
        rest_mhz = self._rest_mhz(record)
        return self._task.way.passes.course(rows.row_blocks, verdicts, self.clock_mhz, rest_mhz)

    def _record(self) -> Record:
        return self.plan.io.record(np.asarray(self._io))

    def _rest_mhz(self, record: Record) -> float:
        output = int(record.output[0])
        return self.clock_mhz if output < 0 else dict(self._clocks())[output]

    def _leaving(self, rows: Pass, reading: Reading, target_s: float | None) -> list[dict]:
        """What the last pass says of each sentence that left early."""
        io, record, share = np.asarray(self._io), self._record(), 1e3 / len(rows.results)
        cost: dict[str, Any] = {"clock_mhz": self._rest_mhz(record)}
        if target_s is not None:
            cost["target_met"] = reading.latency_ms <= target_s * 1e3
        if reading.energy is not None:
            cost["energy_parts_mj"] = {kind: joules * share for kind, joules in reading.energy.summed().items()}
            left = max(target_s - reading.latency_ms * 1e-3, 0.0) if target_s is not None else 0.0
            cost["waiting_mj"] = energy(self.plan.board, standing(left)).joules * share
        lanes = range(len(rows.results))
        return [self._task.left(io, record, lane) | cost for lane in lanes]

    def run_pass(self, rows: Pass, clock_table: bytes | None = None) -> None:
        """Run one pass; its results (and traces) are in the io buffer then. Raises EngineError, EngineTimeout.

        clock_table: where the program chooses its clock; without one it stays as it is.
        """
        if self._io is None:
            raise ValueError("the engine is closed")
        logger.debug("a pass of %d row blocks, %d sentences", rows.row_blocks, len(rows.results))
        header = rows.header()
        at = self.plan.io.header
        region = self._io[at : at + header.size]
        region[:] = header
        region.flush()
        if self.plan.io.clock_table is not None:
            table = clock_table or bytes([self.clock.output]) * isa.CLOCK_TABLE_BYTES
            region = self._io[self.plan.io.clock_table :][: len(table)]
            region[:] = np.frombuffer(table, np.uint8)
            region.flush()
        if self._written is not self._task:
            self._write_task()
        self.keep_weights()
        self._run(self._program, self.plan.instructions, rows.row_blocks)
        self._io[self.plan.io.results :].invalidate()

    def keep_weights(self) -> None:
        """Bring the weights that are to stay on chip there: before the first pass, and after a reset. Raises as
        `run_pass`."""
        if self._keeping is not None and self._kept_after != self.driver.resets:
            logger.debug("%d matrices to the resident memory", len(self.plan.keeping) - 1)
            self._run(self._keeping, self.plan.keeping, 1)
            self._kept_after = self.driver.resets

    def _run(self, program, instructions: tuple[isa.Instruction, ...], row_blocks: int) -> None:
        self.clocks.start()
        addresses = (int(buffer.physical_address) for buffer in (program, self._image, self._io))
        try:
            self.driver.run(*addresses, len(instructions), row_blocks, timeout_s=self.timeout_s)
        except EngineError as error:
            if error.status in WEIGHTS_FAULTS:
                raise CorruptWeights(error, self.plan.tensor_of(instructions, error.detail)) from error
            raise

    def traces(self, rows: Pass) -> dict[str, np.ndarray]:
        """Run `rows` and return every traced buffer by name, in the golden's shapes (needs `open(trace=True)`)."""
        self.run_pass(rows)
        io = np.asarray(self._io)
        traced = {name: trace.read(io, rows.row_blocks).copy() for name, trace in self.plan.io.traces.items()}
        lanes = len(rows.results)
        return {name: data[:lanes] if self.plan.io.traces[name].result_block else data for name, data in traced.items()}
