# SPDX-License-Identifier: Apache-2.0
"""The engine with a model in it: `with open(board=..., artifact=...) as engine: for result in engine.stream(texts)`."""

import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..fpga import dvfs
from ..fpga import instructions as isa
from ..fpga.boards import Board, board_named
from ..fpga.energy import energy, standing
from ..fpga.registers import WEIGHTS_FAULTS
from ..quant.artifact import Artifact, load_artifact
from . import driver as drivers
from .answers import sentence_answer, token_answers
from .buffers import Buffers
from .checks import check_identity, check_plan
from .clocks import ClockChange, ClockTree
from .compiler import ModelShape, Plan, plan
from .early_exit import NATS, Load, Ways, operating_point, target_seconds, verdicts_of
from .errors import CorruptWeights, EngineError, EngineMismatch, EngineTimeout, ResetTimeout
from .layouts import Record
from .memory_image import memory_image
from .meter import Reading
from .packing import Pass, Sentence, SentenceEncoder, pack_pass, text_and_pair
from .pynq_quietly import Overlay
from .recovery import recover, settle
from .result import Result
from .target import Target, choose

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
) -> "Engine":
    """Load the overlay and the model of folder `artifact` on `board` ("zcu102", "zcu111"); close it after use.

    device: "auto", "board", "emulated", or a Target. clock_mhz: the engine's clock, else the board's plan, or the
    bitstream's limit where that is lower; with early exit the bitstream's limit, since a target is met by slowing down.
    trace: keep every buffer of a pass for `Engine.traces`. timeout_s: when a pass counts as hung. early_exit: the
    artifact's operating point at which sentences leave early ("1": for a loss of one point), every layer for each if
    not given.

    Raises ArtifactError, CompileError, PackError, TargetError, ManifestError, ClockError, EngineMismatch; ValueError
    for an operating point that there is none of.
    """
    board = board_named(board) if isinstance(board, str) else board
    model = load_artifact(artifact)
    shape = ModelShape.of_manifest(model.manifest)
    timed = None
    if early_exit is None:
        compiled = plan(shape, board, artifact=model, trace=trace)
    else:
        ways = Ways.of_point(operating_point(model.manifest, early_exit))
        compiled = plan(shape, board, artifact=model, trace=trace, exits=ways.free)
        timed = plan(shape, board, artifact=model, trace=trace, exits=ways.timed)
    target = device if isinstance(device, Target) else choose(board, device, bitstream=bitstream)
    if clock_mhz is None:
        clock_mhz = min(board.clock_mhz, target.max_clock_mhz) if early_exit is None else target.max_clock_mhz
    return Engine(target, compiled, model, clock_mhz, timeout_s, timed, retune=retune)


@dataclass
class _Way:
    """A program of the model: its plan, its buffer, and the modelled passes through it."""

    plan: Plan
    passes: dvfs.Passes
    program: Any = None


class Engine:
    """A loaded model on a loaded overlay. Not thread-safe: one pass at a time, as on the board."""

    def __init__(
        self,
        target: Target,
        compiled: Plan,
        model: Artifact,
        clock_mhz: float,
        timeout_s: float,
        timed: Plan | None = None,
        retune: bool = True,
    ):
        """`timed`: with early exit, the program that runs where there is a latency target (early_exit.Ways)."""
        self.timeout_s, self.target, self.retune = timeout_s, target, retune
        self._free = self._way = _Way(compiled, dvfs.Passes(compiled))
        self._timed = None if timed is None else _Way(timed, dvfs.Passes(timed))
        self._load = Load()
        self._steps: tuple[tuple[int, float], ...] | None = None  # of the clock, as dvfs.ladder gives them
        self._tables: dict[tuple, bytes] = {}
        manifest = model.manifest
        self.task: dict = manifest["task"]
        self.labels: list[str] = list(self.task["labels"])
        self._logit_scale = float(manifest["scales"]["logits"])
        shape = compiled.shape
        max_tokens = min(isa.MAX_ROWS, shape.positions, self.task["max_length"])
        self.encoder = SentenceEncoder(model.tokenizer_path, max_tokens, shape.vocab, shape.types)
        self.meter = target.meter(compiled)
        self._buffers = Buffers(target.device)
        self._keeping = self._image = self._io = None
        self._kept_after = -1  # resets before the resident weights came on chip
        self.driver: drivers.EngineDriver | None = None  # once it is known to be our engine
        try:
            self._bring_up(target, model, clock_mhz)
        except BaseException:
            self.close()
            raise

    def _bring_up(self, target: Target, model: Artifact, clock_mhz: float) -> None:
        start = time.perf_counter()
        manifest, path = target.manifest, target.manifest_path
        logger.info("%s, bitstream %s", target.name, target.bitstream)
        if manifest is not None:
            for way in self._ways():
                check_plan(way.plan, manifest, f"the engine of {path}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pynq's search for plug-ins warns of its own imports
            self.overlay = Overlay(target.bitstream, device=target.device)
        driver = self._block(drivers.EngineDriver)
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
        self.clocks = ClockTree(driver, self._block(drivers.ClockWizardDriver), target.max_clock_mhz)
        self.set_clock(clock_mhz)
        for way in self._ways():
            way.program = self._buffers.filled(np.frombuffer(way.plan.program, np.uint8))
        self._image = self._buffers.filled(memory_image(self.plan, model))
        self._io = self._buffers.allocate(max(way.plan.io.bytes for way in self._ways()))
        if len(self.plan.keeping) > 1:
            self._keeping = self._buffers.filled(np.frombuffer(self.plan.keeping_program, np.uint8))
        sizes = (buffer.nbytes for buffer in (self._program, self._image, self._io))
        logger.info("bytes of program %d, image %d, io %d; loaded in %.2f s", *sizes, time.perf_counter() - start)

    def _ways(self) -> Iterator[_Way]:
        yield self._free
        if self._timed is not None:
            yield self._timed

    @property
    def plan(self) -> Plan:
        """The compiled model; with early exit that of the last pass, without a latency target or with one."""
        return self._way.plan

    @property
    def _program(self):
        """The buffer of the program that runs now."""
        return self._way.program

    def _use(self, way: _Way) -> None:
        """Run the passes to come as `way`; the memory images differ by the exit table alone."""
        if way is not self._way:
            table = np.array(way.plan.exits.table, np.uint8)
            at = way.plan.regions["exits.table"].offset
            region = self._image[at : at + table.size]
            region[:] = table
            region.flush()
            self._way = way

    def _block(self, kind):
        """The overlay's one block that driver class `kind` is bound to."""
        names = [name for name, ip in self.overlay.ip_dict.items() if ip["type"] in kind.bindto]
        if len(names) != 1:
            raise EngineMismatch(f"the overlay has {len(names)} blocks of type {kind.bindto[0]}, one is needed")
        return getattr(self.overlay, names[0])

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

    def _clock_table(self, row_blocks: int, target_s: float) -> bytes:
        key = row_blocks, target_s, self._clocks()
        if key not in self._tables:
            self._tables[key] = dvfs.clock_table(self._timed.passes, row_blocks, self._clocks(), target_s)
        return self._tables[key]

    # Use

    def stream(
        self,
        texts: Iterable[str | tuple[str, str]],
        *,
        strict: bool = False,
        latency_target_ms: float | None = None,
    ) -> Iterator[Result]:
        """Answer texts, or pairs of texts, one by one, in order, as they come.

        What is over the model's length is truncated and marked, or raises TooLong if `strict`. A text whose pass hangs
        has a result with `error`, and the engine is reset for the next; raises EngineStuck or ResetTimeout where that
        does not help, EngineError where the engine refuses the program, as it would for every text.

        latency_target_ms: with early exit, each sentence runs at the clocks that meet it with the least energy, and the
        engine's clock stands from its answer to the next pass. After every early_exit.BATCH passes the wizard is
        retuned, where their load or target is another and this pays. Raises ValueError for a target that is no number
        above 0, or without early exit; ClockError as `set_clock`.
        """
        target_s = None if latency_target_ms is None else self._target(latency_target_ms)
        for given in texts:
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
            self._use(self._free if target_s is None else self._timed)
            table = None if target_s is None else self._clock_table(rows.row_blocks, target_s)
            early = {"layers": len(self.plan.shape.layers), "first_clock_mhz": self.clock_mhz}
            early |= {} if target_s is None else {"target_ms": target_s * 1e3}
            course = lambda: self._course(rows)  # noqa: E731
        known = [
            {"text": text, "pair": pair, "clock_mhz": self.clock_mhz, "truncated": sentence.truncated} | early
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
            said = [self._fields(pairs[0], sentences[0], rows.row_blocks)]
        return [Result(**(one | cost | fields)) for one, fields in zip(known, said, strict=True)]

    def _course(self, rows: Pass) -> dvfs.Course:
        """Which way the last pass went."""
        record = self._record()
        verdicts = verdicts_of(record, rows, len(self.plan.shape.layers))
        rest_mhz = self._rest_mhz(record)
        return self._way.passes.course(rows.row_blocks, verdicts, self.clock_mhz, rest_mhz)

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
        found = []
        for lane in range(len(rows.results)):
            layer, foretold = int(record.layer[lane]), int(record.foretold[lane])
            logits = self.plan.io.ramp_logits(io, layer, lane)
            where = {
                "exit_layer": layer,
                "exit_entropy": float(record.entropy[lane] * NATS),
                "first_entropy": float(record.first_entropy[lane] * NATS),
                "foretold_layer": foretold or None,
            }
            answer = sentence_answer(logits, self._logit_scale, self.labels, self.task["scores"])
            found.append(where | cost | answer)
        return found

    def _fields(self, texts: tuple[str, str | None], sentence: Sentence, row_blocks: int) -> dict:
        """What the last pass says."""
        io, form = np.asarray(self._io), self.task["scores"]
        if self.task["kind"] == "token":
            logits = self.plan.io.token_logits(io, row_blocks)
            return token_answers(logits, self._logit_scale, self.labels, form, sentence.spans, texts)
        return sentence_answer(self.plan.io.logits(io, lane=0), self._logit_scale, self.labels, form)

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
