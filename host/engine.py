# SPDX-License-Identifier: Apache-2.0
"""The engine with a model in it: `with open(board=..., artifact=...) as engine: for result in engine.stream(texts)`."""

import logging
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..fpga import instructions as isa
from ..fpga.boards import Board, board_named
from ..fpga.registers import WEIGHTS_FAULTS
from ..quant.artifact import Artifact, load_artifact
from . import driver as drivers
from .answers import sentence_answer, token_answers
from .buffers import Buffers
from .checks import check_identity, check_plan
from .clocks import ClockChange, ClockTree
from .compiler import ModelShape, Plan, plan
from .errors import CorruptWeights, EngineError, EngineMismatch, EngineTimeout, ResetTimeout
from .memory_image import memory_image
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
) -> "Engine":
    """Load the overlay and the model of folder `artifact` on `board` ("zcu102", "zcu111"); close it after use.

    device: "auto", "board", "emulated", or a Target. clock_mhz: the engine's clock, else the board's plan, or the
    bitstream's limit where that is lower. trace: keep every buffer of a pass for `Engine.traces`. timeout_s: when a
    pass counts as hung. Raises ArtifactError, CompileError, PackError, TargetError, ManifestError, ClockError,
    EngineMismatch.
    """
    board = board_named(board) if isinstance(board, str) else board
    model = load_artifact(artifact)
    compiled = plan(ModelShape.of_manifest(model.manifest), board, artifact=model, trace=trace)
    target = device if isinstance(device, Target) else choose(board, device, bitstream=bitstream)
    if clock_mhz is None:
        clock_mhz = min(board.clock_mhz, target.max_clock_mhz)
    return Engine(target, compiled, model, clock_mhz, timeout_s)


class Engine:
    """A loaded model on a loaded overlay. Not thread-safe: one pass at a time, as on the board."""

    def __init__(self, target: Target, compiled: Plan, model: Artifact, clock_mhz: float, timeout_s: float):
        self.plan, self.timeout_s, self.target = compiled, timeout_s, target
        manifest = model.manifest
        self.task: dict = manifest["task"]
        self.labels: list[str] = list(self.task["labels"])
        self._logit_scale = float(manifest["scales"]["logits"])
        shape = compiled.shape
        max_tokens = min(isa.MAX_ROWS, shape.positions, self.task["max_length"])
        self.encoder = SentenceEncoder(model.tokenizer_path, max_tokens, shape.vocab, shape.types)
        self.meter = target.meter(compiled)
        self._buffers = Buffers(target.device)
        self._program = self._keeping = self._image = self._io = None
        self._kept_after = -1  # resets before the resident weights came on chip
        self.driver: drivers.EngineDriver | None = None  # once it is known to be our engine
        try:
            self._load(target, model, clock_mhz)
        except BaseException:
            self.close()
            raise

    def _load(self, target: Target, model: Artifact, clock_mhz: float) -> None:
        start = time.perf_counter()
        manifest, path = target.manifest, target.manifest_path
        logger.info("%s, bitstream %s", target.name, target.bitstream)
        if manifest is not None:
            check_plan(self.plan, manifest, f"the engine of {path}")
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
        check_plan(self.plan, identity, "this bitstream's engine")
        self.driver = driver
        self.clocks = ClockTree(driver, self._block(drivers.ClockWizardDriver), target.max_clock_mhz)
        self.set_clock(clock_mhz)
        self._program = self._buffers.filled(np.frombuffer(self.plan.program, np.uint8))
        self._image = self._buffers.filled(memory_image(self.plan, model))
        self._io = self._buffers.allocate(self.plan.io.bytes)
        if len(self.plan.keeping) > 1:
            self._keeping = self._buffers.filled(np.frombuffer(self.plan.keeping_program, np.uint8))
        sizes = (buffer.nbytes for buffer in (self._program, self._image, self._io))
        logger.info("bytes of program %d, image %d, io %d; loaded in %.2f s", *sizes, time.perf_counter() - start)

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
            self._program = self._keeping = self._image = self._io = None

    # The clock

    def set_clock(self, mhz: float) -> ClockChange:
        """Change the engine's clock to `mhz`, or the nearest below: `clock_mhz` is what it became, `asked_mhz` this.

        Raises ClockError above the bitstream's limit, or where the clock does not follow.
        """
        self.clock = self.clocks.set_mhz(mhz)
        self.asked_mhz = mhz
        logger.info("engine clock: %s", self.clock)
        if self.clock_mhz != mhz:
            logger.warning("engine clock: %g MHz asked, %g MHz is the nearest below", mhz, self.clock_mhz)
        return self.clock

    @property
    def clock_mhz(self) -> float:
        """The engine's clock."""
        return self.clock.mhz

    # Use

    def stream(self, texts: Iterable[str | tuple[str, str]], *, strict: bool = False) -> Iterator[Result]:
        """Answer texts, or pairs of texts, one by one, in order, as they come.

        What is over the model's length is truncated and marked, or raises TooLong if `strict`. A text whose pass hangs
        has a result with `error`, and the engine is reset for the next; raises EngineStuck or ResetTimeout where that
        does not help, EngineError where the engine refuses the program, as it would for every text.
        """
        for given in texts:
            yield self._answer(given, self.encoder.encode(given, strict=strict))

    def _answer(self, given: str | tuple[str, str], sentence: Sentence) -> Result:
        rows = pack_pass([sentence])
        text, pair = text_and_pair(given)
        known = {"text": text, "pair": pair, "clock_mhz": self.clock_mhz, "truncated": sentence.truncated}
        try:
            self.keep_weights()  # once, and not on the meter
            reading = self.meter.measure(lambda: self.run_pass(rows), rows.row_blocks, self.clock_mhz)
        except EngineTimeout as hang:
            recover(self.driver, hang)
            return Result(**known, error=str(hang))
        return Result(
            **known,
            latency_ms=reading.latency_ms,
            energy_mj=None if reading.power_w is None else reading.power_w * reading.latency_ms,
            power_w=reading.power_w,
            source=reading.source,
            **self._fields((text, pair), sentence, rows.row_blocks),
        )

    def _fields(self, texts: tuple[str, str | None], sentence: Sentence, row_blocks: int) -> dict:
        """What the last pass says."""
        io, form = np.asarray(self._io), self.task["scores"]
        if self.task["kind"] == "token":
            logits = self.plan.io.token_logits(io, row_blocks)
            return token_answers(logits, self._logit_scale, self.labels, form, sentence.spans, texts)
        return sentence_answer(self.plan.io.logits(io, lane=0), self._logit_scale, self.labels, form)

    def run_pass(self, rows: Pass) -> None:
        """Run one pass; its results (and traces) are in the io buffer then. Raises EngineError, EngineTimeout."""
        if self._io is None:
            raise ValueError("the engine is closed")
        logger.debug("a pass of %d row blocks, %d sentences", rows.row_blocks, len(rows.results))
        header = rows.header()
        at = self.plan.io.header
        region = self._io[at : at + header.size]
        region[:] = header
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
