# SPDX-License-Identifier: Apache-2.0
"""What fetch makes of a program is what the cycle model times: command for command, tokens and slots included."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from units import pointer
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.expansion import Load, Source, Vector, expand
from zynqbert.fpga.instructions import TO_RESIDUAL
from zynqbert.fpga.simulator import Simulator
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ModelShape

FIELDS = 12
PROGRAM = 0x1000
LOADS, SOURCES, VECTORS = list(Load), list(Source), list(Vector)
KIND = {0: "kind", 1: "source", 4: "kind"}
UNITS = ["load", "weights", "expand", "array", "vector", "store"]
COMPARED = (
    ("beats", "slot", "pop_parameters_free"),
    ("beats", "k", "resident", "compressed", "pop_weights_free", "blamed"),
    ("k", "word"),
    (
        "k",
        "words",
        "w8",
        "operand_unsigned",
        "keys_values",
        "weights",
        "pop_weights_ready",
        "push_weights_free",
        "pop_data",
        "zero",
    ),
    (
        "words",
        "slot",
        "row_block",
        "width",
        "first",
        "normalized",
        "tee",
        "pop_parameters",
        "push_parameters_free",
        "push_data",
        "plain",
    ),
    ("words", "wide", "end"),
)


def fetched(plan, row_blocks: int, unit: int) -> list[tuple[int, ...]]:
    """Commands of one unit as the kernel's fetch sends them."""
    lib = Simulator("native", plan.board.columns).lib
    program = np.frombuffer(plan.program, dtype=np.uint8).copy()
    region = np.array([PROGRAM, program.nbytes, program.ctypes.data], dtype=np.uint64)
    out = np.zeros((20000, FIELDS), dtype=np.int64)
    n = lib.zq_fetch(
        pointer(region), 1, ctypes.c_uint64(PROGRAM), ctypes.c_uint64(0), len(plan.instructions), row_blocks, unit,
        pointer(out), len(out),
    )  # fmt: skip
    assert n <= len(out)
    return [tuple(row) for row in out[:n].tolist()]


def expected(plan, row_blocks: int, unit: int) -> list[tuple[int, ...]]:
    """The same from the cycle model's expansion."""
    e = expand(plan.instructions, row_blocks, plan.board.columns)
    streams = (e.load, e.weights, e.expand, e.array, e.vector, e.store)
    kinds = {0: LOADS, 1: SOURCES, 4: VECTORS}.get(unit)
    rows = [
        ([kinds.index(getattr(c, KIND[unit]))] if kinds else []) + [getattr(c, name) for name in COMPARED[unit]]
        for c in streams[unit]
    ]
    return [tuple(int(x) for x in row) + (0,) * (FIELDS - len(row)) for row in rows]


@pytest.mark.parametrize("unit", range(len(UNITS)), ids=UNITS)
@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("row_blocks", [1, 3, 4])
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("kind", ["sequence", "token"])
@pytest.mark.parametrize("model", ["minilm-l6", "albert-base"])
def test_commands_of_fetch_are_the_expansion(model, kind, board, row_blocks, trace, unit):
    compiled = plan(replace(ModelShape.named(model), kind=kind, labels=9), BOARDS[board], trace=trace)
    np.testing.assert_array_equal(fetched(compiled, row_blocks, unit), expected(compiled, row_blocks, unit))


def test_there_is_something_to_compare():
    compiled = plan(ModelShape.named("albert-base"), BOARDS["zcu102"])
    assert any(getattr(i, "destination", None) == TO_RESIDUAL for i in compiled.instructions)
    assert all(len(expected(compiled, 2, unit)) > 1 for unit in range(5))
    assert [row[-1] for row in expected(compiled, 2, 4)].count(1) == 2  # the plain norm, a command a row block
