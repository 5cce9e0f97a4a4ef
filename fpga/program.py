# SPDX-License-Identifier: Apache-2.0
"""Whole programs: encode, decode, check, and expand into tile commands (docs/program.md)."""

import struct
from dataclasses import fields

from .expansion import expand
from .instructions import (
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    MAX_ROW_BLOCKS,
    MAX_ROWS,
    TO_ACTIVATION,
    TO_KEYS,
    TO_RESIDUAL,
    TO_VALUES,
    Attention,
    End,
    Exit,
    Gemm,
    Instruction,
    Loop,
    Norm,
    ProgramError,
    Refill,
)
from .tile_commands import Expansion

__all__ = ["Expansion", "ProgramError", "check", "decode", "decode_instruction", "encode", "expand"]


def encode(program: tuple[Instruction, ...]) -> bytes:
    """The program's bytes, 64 an instruction."""
    return b"".join(instruction.encode() for instruction in program)


def decode_instruction(data: bytes) -> Instruction:
    """The instruction in 64 bytes; ProgramError for an unknown opcode, or a bit set that no field owns."""
    if len(data) != INSTRUCTION_BYTES:
        raise ProgramError("instruction", f"{len(data)} bytes, expected {INSTRUCTION_BYTES}")
    words = struct.unpack("<16I", data)
    opcode = words[0] & 255
    if opcode >= len(INSTRUCTIONS):
        raise ProgramError("opcode", f"{opcode} is unknown, the last is {len(INSTRUCTIONS) - 1}")
    kind = INSTRUCTIONS[opcode]
    values = {name: words[index] for name, index in kind.WORDS.items()}
    values |= {name: bool(words[0] >> bit & 1) for name, bit in kind.FLAGS.items()}
    values |= {"wait": words[0] >> 8 & 255, "signal": bool(words[0] >> 16 & 1)}
    instruction = kind(**{field.name: values[field.name] for field in fields(kind)})
    if instruction.encode() != data:
        raise ProgramError(kind.__name__, "a word or flag that no field owns is not zero")
    return instruction


def decode(data: bytes) -> tuple[Instruction, ...]:
    """The program in `data`; ProgramError if it is not whole instructions."""
    if len(data) % INSTRUCTION_BYTES:
        raise ProgramError("program", f"{len(data)} bytes are no whole number of instructions")
    return tuple(decode_instruction(data[at : at + INSTRUCTION_BYTES]) for at in range(0, len(data), INSTRUCTION_BYTES))


def check(program: tuple[Instruction, ...], row_blocks: int = MAX_ROW_BLOCKS) -> None:
    """Check every instruction; that tokens balance in a pass of `row_blocks`: each wait is met by the signals before
    it, none is left over; that a NORM behind its residual overwrites nothing that is still to be read; and that grouped
    GEMMs are the queries, keys and values of the ATTENTION behind them, whose context lies apart from what they read;
    and that no token is out at an EXIT, after which there may be fewer row blocks, nor at a LOOP, which leads to a
    REFILL. The tokens of a REFILL's section are the next product's.

    Raises ProgramError.
    """
    tokens, section_end = 0, None
    held: list[Gemm] = []
    for index, instruction in enumerate(program):
        instruction.check(row_blocks)
        if index == section_end:
            tokens, section_end = 0, None
        if isinstance(instruction, Refill | Loop | Exit) and section_end is not None:
            raise ProgramError(f"instruction {index}", "stands in the section of a REFILL")
        if isinstance(instruction, Refill):
            section_end = index + 1 + instruction.section
        if isinstance(instruction, Loop):
            _check_loop(program, instruction, index, tokens)
        if isinstance(instruction, Gemm) and instruction.grouped:
            held.append(instruction)
        elif isinstance(instruction, Attention):
            _check_group(held, instruction, index, row_blocks)
            held = []
        elif held:
            raise ProgramError(f"instruction {index}", "stands between grouped GEMMs and their ATTENTION")
        blocks = instruction.blocks(row_blocks)
        if instruction.wait * blocks > tokens:
            wanted = instruction.wait * blocks
            raise ProgramError(f"instruction {index}", f"waits for {wanted} tokens where {tokens} are sent")
        tokens += (int(instruction.signal) - instruction.wait) * blocks
        if isinstance(instruction, Exit) and tokens:
            raise ProgramError(f"instruction {index}", f"{tokens} tokens are out where row blocks may end")
        if index and isinstance(instruction, Norm) and _is_residual(program[index - 1]):
            _check_behind(program[index - 1], instruction, index, row_blocks)
    if tokens:
        raise ProgramError("program", f"{tokens} tokens are sent that no instruction waits for")
    if not program or not isinstance(program[-1], End):
        raise ProgramError("program", "does not end with END")


def _check_loop(program: tuple[Instruction, ...], loop: Loop, index: int, tokens: int) -> None:
    """It leads to a REFILL before it, with no token out."""
    if loop.target >= index or not isinstance(program[loop.target], Refill):
        raise ProgramError("Loop.target", f"{loop.target} is no REFILL before instruction {index}")
    if tokens:
        raise ProgramError(f"instruction {index}", f"{tokens} tokens are out where other sentences come")


def _check_group(held: list[Gemm], attention: Attention, index: int, row_blocks: int) -> None:
    """None, or queries, keys and values; the context of one head is written while others are still projected."""
    where = f"instruction {index}"
    if not held:
        return
    width = attention.heads * attention.head_width
    for gemm, destination in zip(held, (TO_ACTIVATION, TO_KEYS, TO_VALUES), strict=False):
        if gemm.destination != destination or gemm.n != width or gemm.signal or gemm.result_block:
            raise ProgramError(where, f"a grouped GEMM before it is no projection to {width} channels of its heads")
    if len(held) != 3 or held[2].head_width != attention.head_width:
        raise ProgramError(where, f"{len(held)} grouped GEMMs before it are not its queries, keys and values")
    context = attention.context, attention.context + attention.context_stride * (row_blocks - 1) + width
    reads = [(g.src, g.src + g.src_stride * (row_blocks - 1) + g.k) for g in held]
    reads += [(attention.q, attention.q + attention.q_stride * (row_blocks - 1) + width)]
    reads += [(attention.p, attention.p + 2 * MAX_ROWS)]
    if any(begin < context[1] and context[0] < end for begin, end in reads):
        raise ProgramError(where, "the context is written where projections and scores still read")


def _is_residual(instruction: Instruction) -> bool:
    return isinstance(instruction, Gemm) and instruction.destination == TO_RESIDUAL


def _check_behind(gemm: Gemm, norm: Norm, index: int, row_blocks: int) -> None:
    """The NORM writes a row block while the GEMM before it still reads the next ones: they lie apart, or alike."""
    reads = gemm.src, gemm.src + gemm.src_stride * (row_blocks - 1) + gemm.k
    writes = norm.dst, norm.dst + norm.dst_stride * (row_blocks - 1) + norm.entries
    apart = reads[1] <= writes[0] or writes[1] <= reads[0]
    alike = (gemm.src, gemm.src_stride) == (norm.dst, norm.dst_stride) and max(gemm.k, norm.entries) <= norm.dst_stride
    if row_blocks > 1 and not apart and not alike:
        raise ProgramError(f"instruction {index}", "the norm writes where the product before it still reads")
