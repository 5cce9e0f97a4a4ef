# SPDX-License-Identifier: Apache-2.0
"""How fast the emulator is: measured wall-clock time of whole passes on this machine, nothing modelled."""

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...fpga.boards import Board
from ...fpga.program import expand
from .. import engine as engines
from ..packing import Sentence, pack_pass
from ..target import emulated


@dataclass(frozen=True)
class Bench:
    """`load_s`: artifact, compiling and image; `pass_ms`: median of `repeats`; `gmac_per_s`: the array's MACs in it."""

    board: str
    build: str
    tokens: int
    repeats: int
    load_s: float
    pass_ms: float
    best_ms: float
    gmac_per_s: float

    def as_dict(self) -> dict:
        """The fields by name, for JSON."""
        return asdict(self)


def bench_emulator(
    artifact: Path, board: Board, *, tokens: int = 32, repeats: int = 10, build: str = "native"
) -> Bench:
    """Time passes of one sentence of `tokens` tokens through driver and kernels. Raises ValueError for its length."""
    start = time.perf_counter()
    target = emulated(board, build=build)
    with engines.open(board=board, artifact=artifact, device=target, timeout_s=3600) as engine:
        load = time.perf_counter() - start
        shape = engine.plan.shape
        if not 1 <= tokens <= shape.positions:
            raise ValueError(f"{tokens} tokens, the model takes 1 to {shape.positions}")
        ids = np.random.default_rng(0).integers(0, shape.vocab, tokens)
        rows = pack_pass([Sentence(ids, np.zeros(tokens, np.int64), False)])
        engine.run_pass(rows)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            engine.run_pass(rows)
            times.append(time.perf_counter() - start)
        macs = sum(
            c.macs
            for c in expand(engine.plan.instructions, rows.row_blocks, board.columns, engine.plan.directories).array
        )
    median = statistics.median(times)
    return Bench(board.name, build, tokens, repeats, load, median * 1e3, min(times) * 1e3, macs / median / 1e9)
