# SPDX-License-Identifier: Apache-2.0
"""What fetch makes of a program is what the cycle model times: command for command, tokens and slots included."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest
from units import pointer
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.directory import Tile, encode_directory
from zynqbert.fpga.expansion import expand
from zynqbert.fpga.instructions import TO_RESIDUAL
from zynqbert.fpga.program import encode
from zynqbert.fpga.simulator import Simulator
from zynqbert.fpga.tile_commands import Load, Source, Vector
from zynqbert.host.compiler import plan
from zynqbert.host.exit_plan import QueuePlan
from zynqbert.host.model_shape import Adapters, ModelShape

FIELDS = 20
PROGRAM = 0x1000
IMAGE = 0x800_0000
IO = 0x8000_0000
ENTRY_BYTES = 64
LOADS, SOURCES = list(Load), list(Source)
VECTORS = [
    Vector.COPY_ROWS, Vector.COPY_TABLE, Vector.EMBED, Vector.LINEAR, Vector.SCORES, Vector.CONTEXT, Vector.NORM,
    Vector.GATHER, Vector.COPY_HEADS,
]  # fmt: skip
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
        "bound",
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
        "adaptive",
        "plain",
        "destination",
        "span",
        "key_block",
        "last_tile",
        "branch",
    ),
    ("words", "wide", "end"),
)


def commands(
    program, directories, board, row_blocks: int, unit: int, verdicts=(), spans=None, queue=()
) -> list[tuple[int, ...]]:
    """Commands of one unit as the kernel's fetch sends them; directories and spans lie where they do in the image, a
    queue's entries at the beginning of the io buffer."""
    lib = Simulator("native", board.columns).lib
    code = np.frombuffer(encode(program), dtype=np.uint8).copy()
    ends = [at + 16 * len(d) for at, d in directories.items()] + [at + 32 for at in spans or {}]
    image = np.zeros(max(ends, default=16), dtype=np.uint8)
    for at, of_heads in (spans or {}).items():
        image[at : at + len(of_heads)] = of_heads
    for at, directory in directories.items():
        image[at : at + 16 * len(directory)] = np.frombuffer(encode_directory(directory), dtype=np.uint8)
    io = np.zeros((len(queue) + 1, ENTRY_BYTES), dtype=np.uint8)
    io[: len(queue), 0] = queue
    parts = ((PROGRAM, code), (IMAGE, image), (IO, io))
    regions = np.array([[at, data.nbytes, data.ctypes.data] for at, data in parts], dtype=np.uint64)
    out = np.zeros((20000, FIELDS), dtype=np.int64)
    live = np.array([*verdicts, *[0] * 8], dtype=np.int64)
    where = map(ctypes.c_uint64, (PROGRAM, IMAGE, IO))
    sizes = len(program), row_blocks
    n = lib.zq_fetch(pointer(regions), 3, *where, *sizes, pointer(live), unit, pointer(out), len(out))
    assert n <= len(out)
    return [tuple(row) for row in out[:n].tolist()]


def fetched(plan, row_blocks: int, unit: int) -> list[tuple[int, ...]]:
    """Those of a compiled model."""
    return commands(plan.instructions, plan.directories, plan.board, row_blocks, unit)


def expected(plan, row_blocks: int, unit: int) -> list[tuple[int, ...]]:
    """The same from the cycle model's expansion."""
    return expansion(plan.instructions, plan.directories, plan.board, row_blocks, unit)


def expansion(
    program, directories, board, row_blocks: int, unit: int, verdicts=(), spans=None, queue=()
) -> list[tuple[int, ...]]:
    """Commands of one unit as the cycle model has them."""
    e = expand(program, row_blocks, board.columns, directories, None, verdicts, spans, queue)
    streams = (e.load, e.weights, e.expand, e.array, e.vector, e.store)
    kinds = {0: LOADS, 1: SOURCES, 4: VECTORS}.get(unit)
    rows = [
        ([kinds.index(getattr(c, KIND[unit]))] if kinds else []) + [getattr(c, name) or 0 for name in COMPARED[unit]]
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


@pytest.mark.parametrize("unit", range(len(UNITS)), ids=UNITS)
@pytest.mark.parametrize("board", BOARDS)
def test_adaptive_words_too(board, unit):
    compiled = plan(replace(ModelShape.named("minilm-l6"), word_format="adaptivfloat"), BOARDS[board], trace=True)
    np.testing.assert_array_equal(fetched(compiled, 2, unit), expected(compiled, 2, unit))


@pytest.mark.parametrize("unit", range(len(UNITS)), ids=UNITS)
@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("width", [32, 100])
def test_adapters_too(width, board, trace, unit):
    shape = replace(ModelShape.named("albert-base"), adapters=Adapters(width, (0,) * 12))
    compiled = plan(shape, BOARDS[board], trace=trace)
    np.testing.assert_array_equal(fetched(compiled, 3, unit), expected(compiled, 3, unit))


def test_there_is_something_to_compare():
    compiled = plan(ModelShape.named("albert-base"), BOARDS["zcu102"])
    assert any(getattr(i, "destination", None) == TO_RESIDUAL for i in compiled.instructions)
    assert all(len(expected(compiled, 2, unit)) > 1 for unit in range(5))
    plain = 1 + COMPARED[4].index("plain")  # behind the kind
    assert [row[plain] for row in expected(compiled, 2, 4)].count(1) == 2  # the plain norm, a command a row block


@pytest.mark.parametrize("unit", range(len(UNITS)), ids=UNITS)
@pytest.mark.parametrize("row_blocks", [1, 4])
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("density", [0.2, 0.5])
@pytest.mark.parametrize("resident", [False, True])
def test_compressed_models_too(resident, density, board, row_blocks, unit):
    compiled = plan(ModelShape.named("albert-base"), BOARDS[board], density=density, resident=resident)
    assert any(getattr(i, "compressed", False) for i in compiled.instructions)
    np.testing.assert_array_equal(fetched(compiled, row_blocks, unit), expected(compiled, row_blocks, unit))


@pytest.mark.parametrize("unit", range(len(UNITS)), ids=UNITS)
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("seed", range(12))
def test_random_directories(seed, board, unit):
    """Matrices with tiles of zeros and of any bound here and there, in memory and kept, heads beside projections among
    them."""
    rng, columns = np.random.default_rng(seed), BOARDS[board].columns
    program, directories, kept, at = [], {}, 0, 0

    def placed(n):
        """A matrix's directory, kept on chip or not; the fields of its GEMM."""
        nonlocal kept, at
        beats = rng.integers(1, 300, -(-n // columns)) * (rng.random(-(-n // columns)) < 0.6)
        bounds = rng.integers(0, 4, len(beats)) * (beats > 0)
        directories[at] = tuple(Tile(int(b), int(bound)) for b, bound in zip(beats, bounds, strict=True))
        stored, resident, weights = int(beats.sum()), bool(rng.integers(2)), at
        at += 16 * (len(beats) + 1)
        if resident:
            program.append(isa.Keep(weights=weights, n=n, stored=stored, resident=kept))
            kept += stored
        return {"weights": weights, "n": n, "compressed": True, "chosen": True, "resident": resident} | {
            "stored": kept - stored if resident else stored
        }

    heads = int(rng.integers(1, 16))
    n, k = 64 * heads, int(rng.integers(1, 1200))
    qkv = [placed(n) for _ in range(3)]
    gemms = [placed(int(rng.integers(1, 900))) for _ in range(4)]
    for destination, fields in zip((isa.TO_ACTIVATION, isa.TO_KEYS, isa.TO_VALUES), qkv, strict=True):
        program.append(isa.Gemm(k=k, destination=destination, head_width=64, grouped=True, **fields))
    program.append(isa.Attention(heads=heads, head_width=64, signal=True))
    for fields in gemms:
        k = int(rng.integers(1, 4609))
        program.append(isa.Gemm(k=k, src_stride=4, destination=isa.TO_RESIDUAL, residual_s=1, wait=1, **fields))
        program.append(isa.Norm(width=8, entries=8, signal=True))
    program.append(isa.End())
    where = tuple(program), directories, BOARDS[board], int(rng.integers(1, 5)), unit
    got = commands(*where)
    assert len(got) > 1 or unit == 5
    np.testing.assert_array_equal(got, expansion(*where))


@pytest.mark.parametrize("unit", range(len(UNITS)), ids=UNITS)
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("seed", range(16))
def test_row_blocks_that_end_and_spans(seed, board, unit):
    """Attentions of random spans between off-ramps that leave any of the row blocks that live, to the end or not."""
    rng = np.random.default_rng(seed)
    row_blocks = int(rng.integers(1, 5))
    live, program, spans, verdicts = (1 << row_blocks) - 1, [], {}, []
    for layer in range(1, 5):
        heads, at, held = int(rng.integers(1, 16)), 4096 * layer, bool(rng.integers(2))
        n, k = 64 * heads, int(rng.integers(1, 300))
        if rng.random() < 0.7:
            spans[at] = tuple(int(z) for z in rng.choice([1, 2, 31, 32, 33, 34, 64, 65, 127, 128], heads))
        if held:
            for destination in (isa.TO_ACTIVATION, isa.TO_KEYS, isa.TO_VALUES):
                program.append(isa.Gemm(k=k, n=n, src_stride=k, destination=destination, head_width=64, grouped=True))
        program.append(isa.Attention(heads=heads, head_width=64, spans=at, banded=at in spans, signal=True))
        program.append(isa.Gemm(k=n, n=70, src_stride=n, destination=isa.TO_RESIDUAL, residual_s=1, wait=1))
        program.append(isa.Norm(width=8, entries=8, trace=int(rng.choice([0, isa.NO_TRACE]))))
        program.append(isa.Gather(width=8, entries=8, signal=True))
        program.append(isa.Exit(k=8, n=int(rng.choice([1, 64, 65, 96, 97, 200])), layer=layer, wait=1))
        if live:
            live &= int(rng.integers(16)) | (int(rng.integers(1, 16)) if layer < 3 else 0)
            verdicts.append(live)
    program.append(isa.End())
    where = tuple(program), {}, BOARDS[board], row_blocks, unit, verdicts, spans
    got = commands(*where)
    assert len(got) > 1
    np.testing.assert_array_equal(got, expansion(*where))


@pytest.mark.parametrize("unit", range(len(UNITS)), ids=UNITS)
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("seed", range(10))
def test_queues(seed, board, unit):
    """Entries of any row blocks, of which any leave at every step, to the end of the queue or of its steps."""
    rng = np.random.default_rng(seed)
    shape = replace(ModelShape.named("albert-minilm"), adapters=Adapters(32, (0,) * 6) if seed % 2 else None)
    most = int(rng.integers(1, 9))
    queue = rng.integers(1, 5, rng.integers(1, most + 1)).tolist()
    given = QueuePlan(most, 6, 1000, bool(seed % 3), (32768, 1), 0)
    compiled = plan(shape.one_layer(), BOARDS[board], queue=given)
    program = [replace(i, stride=ENTRY_BYTES) if isinstance(i, isa.Refill) else i for i in compiled.instructions]
    steps = int(rng.integers(1, 12)) if seed % 4 == 0 else 2000
    program = tuple(replace(i, steps=steps) if isinstance(i, isa.Loop) else i for i in program)
    # who stays is drawn as it comes; nobody stays at a last step
    verdicts = [int(v) for v in rng.integers(0, 16, 60)] + [0] * 40
    where = program, compiled.directories, BOARDS[board], 4, unit, verdicts, None, queue
    got = commands(*where)
    assert len(got) > 1
    np.testing.assert_array_equal(got, expansion(*where))
