# SPDX-License-Identifier: Apache-2.0
"""What a model would cost on a board, from its shape alone: the compiler's program through the models of fpga/."""

from typing import Any

from ..fpga import estimate as models
from ..fpga import instructions as isa
from ..fpga.boards import Board
from .compiler import ModelShape, plan


def estimate(shape: ModelShape, board: Board, sequence: int, clock_mhz: float | None = None) -> dict[str, Any]:
    """One sentence of `sequence` tokens, everything modelled: the fields of fpga.estimate.Estimate beside `model`,
    `board` and `sequence`.

    Raises ValueError for a length or clock out of range, CompileError for a model beyond the engine.
    """
    longest = min(isa.MAX_ROWS, shape.positions)
    if not 1 <= sequence <= longest:
        raise ValueError(f"sequence of {sequence} tokens, 1 to {longest} fit")
    clock_mhz = board.clock_mhz if clock_mhz is None else clock_mhz
    if not clock_mhz > 0:
        raise ValueError(f"clock of {clock_mhz:g} MHz is not positive")
    compiled = plan(shape, board)
    row_blocks = -(-sequence // isa.LANES)
    found = models.estimate(compiled.instructions, row_blocks, board, clock_mhz, shape.dense_macs(sequence))
    return {"model": shape.name, "board": board.name, "sequence": sequence, **found.to_json()}


def reference() -> list[dict[str, Any]]:
    """What the same cycle model says at FQ-BERT's multiplier counts and clock, beside its published latencies."""
    return models.fq_bert_rows()
