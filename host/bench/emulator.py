# SPDX-License-Identifier: Apache-2.0
"""How fast the emulator is: measured wall-clock time of whole passes on this machine, nothing modelled."""

import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...fpga.boards import Board
from ...fpga.program import expand
from ...quant.artifact import load_artifact
from ..engine import Engine
from ..model_shape import ModelShape
from ..packing import Sentence, pack_pass
from ..target import emulated
from ..task_set import task_set
from .random_model import random_model

TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class Bench:
    """`load_s`: artifact, compiling and image; `pass_ms`: median of `repeats`; `gmac_per_s`: the array's MACs in it.

    `cpu_ms`: processor time of a pass, all threads together, the average of `repeats`. `model`: an architecture of
    random weights, or None for an artifact.
    """

    board: str
    build: str
    model: str | None
    threads: int
    tokens: int
    repeats: int
    load_s: float
    pass_ms: float
    best_ms: float
    cpu_ms: float
    gmac_per_s: float
    source: str = "measured on this machine"

    def as_dict(self) -> dict:
        """The fields by name, for JSON."""
        return asdict(self)


def bench_emulator(
    model: Path | ModelShape,
    board: Board,
    *,
    tokens: int = 32,
    repeats: int = 10,
    build: str = "native",
    threads: int | None = None,
) -> Bench:
    """Time passes of one sentence of `tokens` tokens through driver and kernels.

    model: an artifact's folder, or sizes that random weights fill. threads: as `Simulator` has them. Raises ValueError
    for a sentence that is too long, or a number of threads that is none.
    """
    start = time.perf_counter()
    target = emulated(board, build=build, threads=threads)
    with tempfile.TemporaryDirectory(prefix="zynqbert-") as folder:
        artifact = random_model(model, Path(folder)) if isinstance(model, ModelShape) else load_artifact(model)
        engine = Engine(target, task_set({None: artifact}, None, board), board.clock_mhz, TIMEOUT_S)
    with engine:
        load = time.perf_counter() - start
        shape = engine.plan.shape
        if not 1 <= tokens <= shape.positions:
            raise ValueError(f"{tokens} tokens, the model takes 1 to {shape.positions}")
        ids = np.random.default_rng(0).integers(0, shape.vocab, tokens)
        rows = pack_pass([Sentence(ids, np.zeros(tokens, np.int64), False)])
        engine.run_pass(rows)
        times = []
        processor = time.process_time()
        for _ in range(repeats):
            start = time.perf_counter()
            engine.run_pass(rows)
            times.append(time.perf_counter() - start)
        processor = (time.process_time() - processor) / repeats
        tiles = expand(engine.plan.instructions, rows.row_blocks, board.columns, engine.plan.directories).array
        macs = sum(c.macs for c in tiles)
    median = statistics.median(times)
    return Bench(
        board=board.name,
        build=build,
        model=model.name if isinstance(model, ModelShape) else None,
        threads=target.device.simulator.threads,
        tokens=tokens,
        repeats=repeats,
        load_s=load,
        pass_ms=median * 1e3,
        best_ms=min(times) * 1e3,
        cpu_ms=processor * 1e3,
        gmac_per_s=macs / median / 1e9,
    )
