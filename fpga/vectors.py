# SPDX-License-Identifier: Apache-2.0
"""Files of test vectors for the testbench (testbench/): the memory before one pass, and what it must be after it.

All integers are 32 bits, little-endian: "ZQV1", format, columns, program version, row blocks, instructions, the byte
addresses of program, memory image and io buffer, fill, initial segments, expected segments, verdicts; then the verdicts
of the EXITs (row blocks left [3:0], an output is chosen [4], which [6:5]), and the segments in this order, each its
address, its bytes, and as many bytes. Before the pass the memory holds the byte `fill` wherever no initial segment says
otherwise; after it, what it held before wherever no expected segment says otherwise.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .instructions import BEAT_BYTES, INSTRUCTION_BYTES, MAX_ROW_BLOCKS
from .whole_file import write_whole

MAGIC = b"ZQV1"
FORMAT = 2
MEMORY_BYTES = 16384 * BEAT_BYTES  # kTestbenchBeats of testbench/size.hpp
_WORDS = struct.Struct("<12I")
_SEGMENT = struct.Struct("<2I")


@dataclass(frozen=True)
class Segment:
    """Bytes of the testbench's memory from `address` on."""

    address: int
    data: bytes


@dataclass(frozen=True)
class Verdict:
    """What the vector unit answers to an EXIT: `live` row blocks, a bit each; the clock `output`, None: no choice."""

    live: int
    output: int | None = None

    @property
    def word(self) -> int:
        """As the file has it."""
        return self.live | (0 if self.output is None else 1 << 4 | self.output << 5)

    @staticmethod
    def of_word(word: int) -> Verdict:
        """Of a word of the file. Raises ValueError for one of more bits."""
        if word >= 1 << 7:
            raise ValueError(f"{word} has more than 7 bits")
        return Verdict(word & 15, word >> 5 if word >> 4 & 1 else None)


@dataclass(frozen=True)
class Vectors:
    """One pass on an engine of `columns` columns. Raises ValueError, naming the field, for what no testbench takes."""

    columns: int
    program_version: int
    row_blocks: int
    instructions: int
    program: int  # byte addresses
    image: int
    io: int
    fill: int
    initial: tuple[Segment, ...]
    expected: tuple[Segment, ...]
    verdicts: tuple[Verdict, ...] = ()

    def __post_init__(self) -> None:
        for field in ("columns", "program_version", "instructions"):
            _check(field, 1 <= getattr(self, field) < 1 << 32, f"{getattr(self, field)} is no positive 32-bit number")
        _check("row_blocks", 1 <= self.row_blocks <= MAX_ROW_BLOCKS, f"{self.row_blocks} is not 1 to {MAX_ROW_BLOCKS}")
        for field in ("program", "image", "io"):
            address = getattr(self, field)
            within = address % BEAT_BYTES == 0 and 0 <= address < MEMORY_BYTES
            _check(field, within, f"{address} is no multiple of {BEAT_BYTES} below {MEMORY_BYTES}")
        end = self.program + self.instructions * INSTRUCTION_BYTES
        _check("instructions", end <= MEMORY_BYTES, f"they end at {end}, the memory at {MEMORY_BYTES}")
        _check("fill", 0 <= self.fill <= 255, f"{self.fill} is no byte")
        _check("expected", len(self.expected) > 0, "no segment, so that nothing would be tested")
        for field in ("initial", "expected"):
            for n, segment in enumerate(getattr(self, field)):
                end = segment.address + len(segment.data)
                _check(f"{field}[{n}]", len(segment.data) > 0, "is empty")
                _check(f"{field}[{n}]", segment.address >= 0 and end <= MEMORY_BYTES, f"ends at {end}, not in memory")

    def before(self) -> np.ndarray:
        """The memory before the pass: uint8 [MEMORY_BYTES]."""
        return _laid(np.full(MEMORY_BYTES, self.fill, np.uint8), self.initial)

    def after(self) -> np.ndarray:
        """The memory after it: uint8 [MEMORY_BYTES]."""
        return _laid(self.before(), self.expected)


def _check(field: str, holds: bool, fault: str) -> None:
    if not holds:
        raise ValueError(f"{field}: {fault}")


def _laid(memory: np.ndarray, segments: tuple[Segment, ...]) -> np.ndarray:
    for segment in segments:
        memory[segment.address : segment.address + len(segment.data)] = np.frombuffer(segment.data, np.uint8)
    return memory


def encode(vectors: Vectors) -> bytes:
    """The file's bytes."""
    v = vectors
    head = (v.columns, v.program_version, v.row_blocks, v.instructions, v.program, v.image, v.io, v.fill)
    parts = [MAGIC, _WORDS.pack(FORMAT, *head, len(v.initial), len(v.expected), len(v.verdicts))]
    parts += [struct.pack("<I", verdict.word) for verdict in v.verdicts]
    for segment in (*v.initial, *v.expected):
        parts += [_SEGMENT.pack(segment.address, len(segment.data)), segment.data]
    return b"".join(parts)


def decode(data: bytes) -> Vectors:
    """The vectors in a file's bytes. Raises ValueError naming the field at fault."""
    _check("magic", data[: len(MAGIC)] == MAGIC, "not a file of test vectors")
    at = len(MAGIC)
    _check("header", len(data) >= at + _WORDS.size, f"the file ends after {len(data)} bytes")
    version, *head, initial, expected, count = _WORDS.unpack_from(data, at)
    _check("format", version == FORMAT, f"{version}, this reader takes {FORMAT}")
    at += _WORDS.size
    _check("verdicts", len(data) >= at + 4 * count, "the file ends before the last of them")
    verdicts = []
    for n, word in enumerate(struct.unpack_from(f"<{count}I", data, at)):
        _check(f"verdicts[{n}]", word < 1 << 7, f"{word} has more than 7 bits")
        verdicts.append(Verdict.of_word(word))
    at += 4 * count
    segments = []
    for n in range(initial + expected):
        name = f"initial[{n}]" if n < initial else f"expected[{n - initial}]"
        _check(name, len(data) >= at + _SEGMENT.size, "the file ends before it")
        address, size = _SEGMENT.unpack_from(data, at)
        at += _SEGMENT.size
        _check(name, len(data) >= at + size, "the file ends within it")
        segments.append(Segment(address, data[at : at + size]))
        at += size
    _check("end", at == len(data), "the file goes on after its last segment")
    return Vectors(*head, tuple(segments[:initial]), tuple(segments[initial:]), tuple(verdicts))


def write(vectors: Vectors, path: str | Path) -> None:
    """Write a file, whole or not at all. Raises OSError."""
    write_whole(Path(path), encode(vectors))


def read(path: str | Path) -> Vectors:
    """Read a file. Raises OSError, or ValueError naming the file and the field."""
    try:
        return decode(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
