# SPDX-License-Identifier: Apache-2.0
"""The engine with a model in it: `with open(board=..., artifact=...) as engine: for result in engine.stream(texts)`."""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..fpga import instructions as isa
from ..fpga.boards import Board, board_named
from ..quant.artifact import Artifact, load_artifact
from . import driver
from .compiler import ModelShape, Plan, plan
from .errors import EngineMismatch
from .memory_image import memory_image
from .packing import Pass, Sentence, SentenceEncoder, pack_pass, text_and_pair
from .pynq_quietly import Overlay, allocate
from .result import Result, TokenLabel, scores_of
from .target import Target, choose

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

    device: "auto", "board", "emulated", or a Target. clock_mhz: the engine's clock, else the board's plan. trace: keep
    every buffer of a pass for `Engine.traces`. Raises ArtifactError, CompileError, PackError, TargetError, ClockError,
    EngineError, EngineMismatch.
    """
    board = board_named(board) if isinstance(board, str) else board
    model = load_artifact(artifact)
    compiled = plan(ModelShape.of_manifest(model.manifest), board, artifact=model, trace=trace)
    target = device if isinstance(device, Target) else choose(board, device, bitstream=bitstream)
    return Engine(target, compiled, model, board.clock_mhz if clock_mhz is None else clock_mhz, timeout_s)


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
        self._buffers: list = []
        try:
            self._load(target, model, clock_mhz)
        except BaseException:
            self.close()
            raise

    def _load(self, target: Target, model: Artifact, clock_mhz: float) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pynq's search for plug-ins warns of its own imports
            self.overlay = Overlay(target.bitstream, device=target.device)
        self.driver = self._block(driver.EngineDriver)
        self.clock_wizard = self._block(driver.ClockWizardDriver)
        columns = self.driver.identify()
        if columns != self.plan.board.columns:
            raise EngineMismatch(
                f"the overlay's engine has {columns} columns, the {self.plan.board.name}'s {self.plan.board.columns}"
            )
        self.clock_mhz = self.clock_wizard.set_mhz(clock_mhz, self.driver)
        self._program = self._filled(np.frombuffer(self.plan.program, np.uint8))
        self._image = self._filled(memory_image(self.plan, model))
        self._io = self._allocate(self.plan.io.bytes)

    def _block(self, kind):
        """The overlay's one block that driver class `kind` is bound to."""
        names = [name for name, ip in self.overlay.ip_dict.items() if ip["type"] in kind.bindto]
        if len(names) != 1:
            raise EngineMismatch(f"the overlay has {len(names)} blocks of type {kind.bindto[0]}, one is needed")
        return getattr(self.overlay, names[0])

    def _allocate(self, nbytes: int):
        buffer = allocate(nbytes, np.uint8, target=self.target.device, cacheable=True)
        self._buffers.append(buffer)
        return buffer

    def _filled(self, data: np.ndarray):
        buffer = self._allocate(data.size)
        buffer[:] = data
        buffer.flush()
        return buffer

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Free the buffers; the engine cannot be used after."""
        while self._buffers:
            self._buffers.pop().freebuffer()
        self._program = self._image = self._io = None

    # Use

    def stream(self, texts: Iterable[str | tuple[str, str]], *, strict: bool = False) -> Iterator[Result]:
        """Answer texts, or pairs of texts, one by one, in order, as they come.

        What is over the model's length is truncated and marked, or raises TooLong if `strict`.
        """
        for given in texts:
            yield self._answer(given, self.encoder.encode(given, strict=strict))

    def _answer(self, given: str | tuple[str, str], sentence: Sentence) -> Result:
        rows = pack_pass([sentence])
        reading = self.meter.measure(lambda: self.run_pass(rows), rows.row_blocks, self.clock_mhz)
        text, pair = text_and_pair(given)
        if self.task["kind"] == "token":
            answer = self._token_answers(text, pair, sentence, rows.row_blocks)
        else:
            answer = self._sentence_answer()
        return Result(
            text=text,
            pair=pair,
            latency_ms=reading.latency_ms,
            energy_mj=reading.power_w * reading.latency_ms,
            power_w=reading.power_w,
            clock_mhz=self.clock_mhz,
            truncated=sentence.truncated,
            source=reading.source,
            **answer,
        )

    def _sentence_answer(self) -> dict:
        """What the last pass says: the fields of a Result that depend on the model's kind."""
        logits = self.plan.io.logits(np.asarray(self._io), lane=0)
        scores = scores_of(logits * self._logit_scale, self.task["scores"]).tolist()
        answer = {"scores": dict(zip(self.labels, scores, strict=True)), "logits": tuple(logits.tolist())}
        if self.task["scores"] == "none":
            return answer | {"value": scores[0] if len(scores) == 1 else None}
        best = int(np.argmax(logits))
        return answer | {"label": self.labels[best], "confidence": scores[best]}

    def _token_answers(self, text: str, pair: str | None, sentence: Sentence, row_blocks: int) -> dict:
        """The same of a model that labels tokens."""
        at = [span.row for span in sentence.spans]
        logits = self.plan.io.token_logits(np.asarray(self._io), row_blocks)[at]  # [tokens, labels]
        scores = scores_of(logits * self._logit_scale, self.task["scores"])
        tokens = []
        for span, best, row in zip(sentence.spans, np.argmax(logits, axis=1), scores, strict=True):
            part = (pair if span.in_pair else text)[span.start : span.end]
            tokens.append(TokenLabel(part, span.start, span.end, self.labels[best], float(row[best]), span.in_pair))
        return {"tokens": tuple(tokens), "logits": tuple(map(tuple, logits.tolist()))}

    def run_pass(self, rows: Pass) -> None:
        """Run one pass; its results (and traces) are in the io buffer then. Raises EngineError, EngineTimeout."""
        if self._io is None:
            raise ValueError("the engine is closed")
        header = rows.header()
        at = self.plan.io.header
        region = self._io[at : at + header.size]
        region[:] = header
        region.flush()
        addresses = (int(buffer.physical_address) for buffer in (self._program, self._image, self._io))
        self.driver.run(*addresses, len(self.plan.instructions), rows.row_blocks, timeout_s=self.timeout_s)
        self._io[self.plan.io.results :].invalidate()

    def traces(self, rows: Pass) -> dict[str, np.ndarray]:
        """Run `rows` and return every traced buffer by name, in the golden's shapes (needs `open(trace=True)`)."""
        self.run_pass(rows)
        io = np.asarray(self._io)
        traced = {name: trace.read(io, rows.row_blocks).copy() for name, trace in self.plan.io.traces.items()}
        lanes = len(rows.results)
        return {name: data[:lanes] if self.plan.io.traces[name].result_block else data for name, data in traced.items()}
