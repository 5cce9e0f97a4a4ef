# SPDX-License-Identifier: Apache-2.0
"""A model loaded on an overlay: its buffers, the task in use, the clock, and one pass at a time."""

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..fpga import dvfs
from ..fpga import instructions as isa
from ..fpga.registers import WEIGHTS_FAULTS
from . import driver as drivers
from .buffers import Buffers
from .checks import check_identity, check_plan
from .clocks import ClockChange, ClockTree
from .compiler import Plan
from .early_exit import Load, target_seconds
from .errors import CorruptWeights, EngineError, ResetTimeout
from .overlap import Overlap
from .packing import Pass, SentenceEncoder
from .pynq_quietly import Overlay, PynqBuffer
from .recovery import settle
from .target import Target
from .task_set import LoadedTask, Switch, TaskSet, Way, exit_table

logger = logging.getLogger(__name__)


class LoadedEngine:
    """A loaded model on a loaded overlay. Not thread-safe: one pass at a time, as on the board."""

    def __init__(self, target: Target, tasks: TaskSet, clock_mhz: float, timeout_s: float, retune: bool = True):
        self.timeout_s, self.target, self.retune = timeout_s, target, retune
        self._tasks, self._task = tasks.tasks, tasks.first
        self._written: LoadedTask | None = None  # whose area lies in the image
        self.switches = self.switched_bytes = 0
        self.passes = 0  # that answered sentences
        self.busy_ms = 0.0  # what those that ended took, measured or modelled
        self._load = Load()
        self._steps: tuple[tuple[int, float], ...] | None = None  # of the clock, as dvfs.ladder gives them
        self.meter = target.meter(self.plan)
        self._buffers = Buffers(target.device)
        self._keeping = self._image = None
        self._ios: list = []  # a pass has one of its own; where passes overlap they take turns
        self._packed: Overlap | None = None  # under way
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
        self._another_io()
        if len(self.plan.keeping) > 1:
            self._keeping = self._buffers.filled(np.frombuffer(self.plan.keeping_program, np.uint8))
        if self.tasks:
            logger.info("tasks: %s", ", ".join(self.tasks))
        sizes = (buffer.nbytes for buffer in (self._program, self._image, self._ios[0]))
        logger.info("bytes of program %d, image %d, io %d; loaded in %.2f s", *sizes, time.perf_counter() - start)

    def _another_io(self) -> None:
        self._ios.append(self._buffers.allocate(max(way.plan.io_bytes for way in self._ways())))

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
        self._check_free()
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

    def __enter__(self) -> "LoadedEngine":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Leave the engine idle and free the buffers; it cannot be used after.

        Raises ResetTimeout if not even a reset ends a pass; what it may still write to is not freed then.
        """
        driver, self.driver = self.driver, None
        try:
            if self._packed is not None:
                self._packed.close()
            if driver is not None:
                settle(driver)
        except ResetTimeout:
            self._buffers.keep()
            raise
        finally:
            self.meter.close()
            self._buffers.free()
            self._keeping = self._image = None
            self._ios = []

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

    def _target(self, latency_target_ms: float) -> float:
        target_s = target_seconds(latency_target_ms)
        if self._timed is None:
            raise ValueError("a latency target needs early exit; remedy: name an operating point for it (early exit)")
        return target_s

    # Passes

    def _check_free(self) -> None:
        if not self._ios:
            raise ValueError("the engine is closed")
        if self._packed is not None:
            raise ValueError("a packed stream is under way; remedy: take all of its results, or close it, first")

    def run_pass(self, rows: Pass, clock_table: bytes | None = None) -> None:
        """Run one pass; its results (and traces) are in the io buffer then. Raises EngineError, EngineTimeout.

        clock_table: where the program chooses its clock; without one it stays as it is.
        """
        self._check_free()
        self._pass(rows, self._ios[0], clock_table)

    def _lay(self, rows: Pass, io: PynqBuffer) -> None:
        """Write the rows to `io`, for the device to read."""
        header = rows.header()
        region = io[self.plan.io.header :][: header.size]
        region[:] = header
        region.flush()

    def _pass(self, rows: Pass, io: PynqBuffer, clock_table: bytes | None, laid: bool = False) -> None:
        """Run the pass of these rows, which are `laid` in `io` already or are now."""
        logger.debug("a pass of %d row blocks, %d sentences", rows.row_blocks, len(rows.results))
        if not laid:
            self._lay(rows, io)
        if self.plan.io.clock_table is not None:
            table = clock_table or bytes([self.clock.output]) * isa.CLOCK_TABLE_BYTES
            region = io[self.plan.io.clock_table :][: len(table)]
            region[:] = np.frombuffer(table, np.uint8)
            region.flush()
        if self._written is not self._task:
            self._write_task()
        self.keep_weights()
        self._run(self._program, self.plan.instructions, rows.row_blocks, io)
        io[self.plan.io.results :].invalidate()

    def keep_weights(self) -> None:
        """Bring the weights that are to stay on chip there: before the first pass, and after a reset. Raises as
        `run_pass`."""
        if self._keeping is not None and self._kept_after != self.driver.resets:
            logger.debug("%d matrices to the resident memory", len(self.plan.keeping) - 1)
            self._run(self._keeping, self.plan.keeping, 1, self._ios[0])
            self._kept_after = self.driver.resets

    def _run(
        self, program: PynqBuffer, instructions: Sequence[isa.Instruction], row_blocks: int, io: PynqBuffer
    ) -> None:
        self.clocks.start()
        addresses = (int(buffer.physical_address) for buffer in (program, self._image, io))
        try:
            self.driver.run(*addresses, len(instructions), row_blocks, timeout_s=self.timeout_s)
        except EngineError as error:
            if error.status in WEIGHTS_FAULTS:
                raise CorruptWeights(error, self.plan.tensor_of(instructions, error.detail)) from error
            raise

    def traces(self, rows: Pass) -> dict[str, np.ndarray]:
        """Run `rows` and return every traced buffer by name, in the golden's shapes (needs `open(trace=True)`)."""
        self.run_pass(rows)
        io = np.asarray(self._ios[0])
        traced = {name: trace.read(io, rows.row_blocks).copy() for name, trace in self.plan.io.traces.items()}
        lanes = len(rows.results)
        return {name: data[:lanes] if self.plan.io.traces[name].result_block else data for name, data in traced.items()}
