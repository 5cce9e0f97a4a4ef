# SPDX-License-Identifier: Apache-2.0
"""What the engine does with programs it should refuse: a status and the instruction at fault, never a wild access."""

import struct

import numpy as np
import pytest
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.simulator import Simulator

PROGRAM, IMAGE, IO = 0x1000, 0x10_0000, 0x20_0000


@pytest.fixture(scope="module")
def simulator():
    return Simulator("native", 128)


def run(simulator, program: bytes, *, row_blocks=1, image=65536, io=65536, instructions=None):
    data = np.frombuffer(program, dtype=np.uint8).copy()
    memory = [(PROGRAM, data), (IMAGE, np.zeros(image, dtype=np.uint8)), (IO, np.zeros(io, dtype=np.uint8))]
    count = len(program) // 64 if instructions is None else instructions
    return simulator.run(memory, PROGRAM, IMAGE, IO, count, row_blocks)


def encode(*instructions) -> bytes:
    return b"".join(i.encode() for i in instructions)


GEMM = isa.Gemm(weights=0, parameters=4096, k=16, n=8, src=0, src_stride=16, dst=100, dst_stride=8)


def test_an_empty_program_ends_well(simulator):
    assert run(simulator, encode(isa.End())).name == "ok"


def test_a_gemm_that_nothing_follows_is_run(simulator):
    """Fetch holds a GEMM back until it has seen the next instruction; here there is none."""
    gemm = isa.Gemm(parameters=4096, k=16, n=8, destination=isa.TO_IO)
    program = np.frombuffer(encode(gemm), dtype=np.uint8).copy()
    image, io = np.zeros(65536, dtype=np.uint8), np.full(65536, 255, dtype=np.uint8)
    image[4096 : 4096 + 64].view(np.uint64)[:] = 1 << 40  # bias 0, m = 0, s = 1
    memory = [(PROGRAM, program), (IMAGE, image), (IO, io)]
    assert simulator.run(memory, PROGRAM, IMAGE, IO, 1, 1).name == "ok"
    assert not io[: 8 * 64].any() and io[8 * 64 :].all()  # eight words of zeros


def test_unknown_opcode_names_its_instruction(simulator):
    status = run(simulator, encode(isa.Rows(io=0)) + struct.pack("<16I", 99, *[0] * 15) + encode(isa.End()))
    assert (status.name, status.detail) == ("bad opcode", 1)


@pytest.mark.parametrize("row_blocks", [0, 5, 2**31])
def test_row_blocks_out_of_range(simulator, row_blocks):
    assert run(simulator, encode(isa.End()), row_blocks=row_blocks).name == "bad field"


@pytest.mark.parametrize(
    "bad",
    [
        {"k": 0}, {"k": 4609}, {"n": 0}, {"n": 4609}, {"src": isa.ACTIVATION_WORDS}, {"src": 24570}, {"dst": 24570},
        {"weights": 8}, {"parameters": 4}, {"destination": 5}, {"table": 3}, {"trace": 24},
        {"destination": isa.TO_RESIDUAL, "residual_s": 0}, {"destination": isa.TO_RESIDUAL, "n": 1025, "residual_s": 1},
        {"destination": isa.TO_VALUES, "head_width": 48}, {"destination": isa.TO_VALUES, "head_width": 32, "n": 33},
    ],
    ids=str,
)  # fmt: skip
def test_gemm_field_out_of_range(simulator, bad):
    status = run(simulator, encode(isa.Gemm(**{**GEMM.__dict__, **bad}), isa.End()))
    assert (status.name, status.detail) == ("bad field", 0)


@pytest.mark.parametrize(
    "bad",
    [
        isa.Norm(width=0, entries=4), isa.Norm(width=8, entries=7), isa.Norm(width=1025, entries=1025),
        isa.Norm(width=8, entries=1281), isa.Norm(width=8, entries=8, s=0), isa.Norm(width=8, entries=8, m=256),
        isa.Norm(width=8, entries=8, dst=24570), isa.Table(table=3), isa.Table(image=8), isa.Rows(io=4),
        isa.Embed(row_bytes=16, width=16), isa.Embed(row_bytes=32, width=16, field=3),
        isa.Gather(width=8, entries=1300),
        isa.Attention(heads=1, head_width=48), isa.Attention(heads=33, head_width=32),
        isa.Attention(heads=17, head_width=64),
        isa.Attention(heads=1, head_width=64, q=24570), isa.Attention(heads=1, head_width=32, p=24400),
    ],
    ids=repr,
)  # fmt: skip
def test_field_out_of_range(simulator, bad):
    status = run(simulator, encode(isa.Rows(io=0), bad, isa.End()))
    assert (status.name, status.detail) == ("bad field", 1)
    with pytest.raises(isa.ProgramError):
        bad.check(1)


def test_memory_that_is_not_there_is_a_bus_error(simulator):
    status = run(simulator, encode(isa.Table(image=1 << 19), isa.End()))
    assert (status.name, status.detail) == ("bus error", IMAGE + (1 << 19))


def test_a_program_longer_than_its_buffer_is_a_bus_error(simulator):
    assert run(simulator, encode(isa.Rows(io=0)), instructions=9000).name == "bus error"


def test_a_token_that_never_comes_is_a_deadlock(simulator):
    waiting = isa.Gemm(**{**GEMM.__dict__, "wait": 1})
    assert run(simulator, encode(waiting, isa.End())).name == "deadlock"


def test_a_token_nobody_takes_is_told(simulator):
    loose = isa.Gemm(**{**GEMM.__dict__, "signal": True})
    assert run(simulator, encode(loose, isa.End())).name == "deadlock"


def test_the_engine_runs_again_after_a_fault(simulator):
    run(simulator, encode(isa.Gemm(**{**GEMM.__dict__, "wait": 1}), isa.End()))
    assert run(simulator, encode(GEMM, isa.End())).name == "ok"


def test_random_words_never_leave_the_memories():
    """Programs of noise, biased to small values so that some instructions are valid, end with some status."""
    rng = np.random.default_rng(0)
    simulator = Simulator("checked", 128)
    seen = set()
    for _ in range(400):
        words = rng.integers(0, 2**32, (6, 16), dtype=np.uint64) >> rng.integers(0, 33, (6, 16), dtype=np.uint64)
        words[:, 1:] &= ~np.uint64(15) * (rng.random((6, 15)) < 0.5).astype(np.uint64) | np.uint64(0x7FF)
        words[:, 0] = rng.integers(1, 9, 6) | (rng.integers(0, 16, 6) << 17)
        status = run(simulator, words.astype("<u4").tobytes(), row_blocks=int(rng.integers(1, 5)))
        seen.add(status.name)
    assert "bad field" in seen
    assert seen <= {"ok", "bad field", "bad opcode", "bus error", "deadlock", "internal fault"}
