# SPDX-License-Identifier: Apache-2.0
"""Instructions of the engine: 64-byte encoding and checks of each (docs/program.md).

An instruction is a frozen dataclass; `WORDS` and `FLAGS` say where its fields lie.
"""

import struct
from dataclasses import dataclass
from typing import ClassVar

INSTRUCTION_BYTES = 64
BEAT_BYTES = 16
LANES = 32
NO_TRACE = 0xFFFFFFFF
PROGRAM_VERSION = 4

# On-chip limits, the same as in kernels/config.hpp (a test compares them).
MAX_ROW_BLOCKS = 4
MAX_ROWS = MAX_ROW_BLOCKS * LANES
MAX_WIDTH = 1024
EMBEDDING_BEATS = MAX_WIDTH // BEAT_BYTES + 1  # that a row of an embedding may have
MASK_CHANNELS = 128  # of an adaptive row, in a beat of its mask
MAX_ENTRIES = 4608
MAX_NORM_ENTRIES = 1280
MAX_HEADS = 32
MAX_LABELS = 1024
ACTIVATION_WORDS = 24576
HEAD_WIDTHS = (32, 64)
FULL_SPAN = MAX_ROWS  # of a head that sees every key of a row's range
SPAN_BYTES = MAX_HEADS  # of an attention's spans in the memory image
MAX_LAYERS = 63  # that an off-ramp can name
RECORD_WORDS = 5  # that it leaves behind its logits
CLOCK_TABLE_BYTES = 256  # that the host writes to the io buffer
WEIGHT_WORDS = 2 * MAX_ENTRIES  # of the weight buffer, a word a K step
WEIGHT_TILES = 8  # tiles in it at a time
BLOCK, GROUP = 4, 4  # consecutive entries of K of which a group of channels chooses, and channels that choose alike

# Of a queue (kernels/fetch.hpp).
QUEUE_BEATS = 3  # of an entry before its rows: its row blocks, and its lanes
BLOCK_LANES = LANES // MAX_ROW_BLOCKS  # of a row block, where a queue fills them
MAX_QUEUED, MAX_STEPS, MAX_SECTION, MAX_STRIDE = 1 << 16, 1 << 20, 64, 1 << 17

TABLE_EXP, TABLE_ACTIVATION, TABLE_POOLER, TABLE_EXIT, TABLE_CLOCK = range(5)
FIELD_WORD, FIELD_POSITION, FIELD_TYPE = range(3)
TO_ACTIVATION, TO_RESIDUAL, TO_KEYS, TO_VALUES, TO_IO, TO_EXIT = range(6)


class ProgramError(ValueError):
    """An instruction that the engine would refuse, or bytes that are none; `field` names the culprit."""

    def __init__(self, field: str, message: str):
        self.field = field
        super().__init__(f"{field}: {message}")


def _within(field: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ProgramError(field, f"{value} is outside {low} .. {high}")


def _aligned(field: str, value: int) -> None:
    if value % BEAT_BYTES:
        raise ProgramError(field, f"{value} is no multiple of {BEAT_BYTES}")


def _region(field: str, base: int, stride: int, blocks: int, words: int) -> None:
    """`blocks` pieces of `words` words each, `stride` apart, lie within the activation memory."""
    if base + stride * (blocks - 1) + words > ACTIVATION_WORDS:
        end = base + stride * (blocks - 1) + words
        raise ProgramError(field, f"ends at word {end} of the activation memory's {ACTIVATION_WORDS}")


@dataclass(frozen=True)
class Instruction:
    """What all instructions share: tokens to wait for before, and whether one is signalled after."""

    wait: int = 0
    signal: bool = False

    OPCODE: ClassVar[int]
    WORDS: ClassVar[dict[str, int]] = {}  # field -> 32-bit word
    FLAGS: ClassVar[dict[str, int]] = {}  # field -> bit of word 0
    ALIGNED: ClassVar[tuple[str, ...]] = ()

    def blocks(self, row_blocks: int) -> int:
        """Row blocks this instruction runs over in a pass of `row_blocks`: for each, `signal` is a token."""
        return row_blocks

    def encode(self) -> bytes:
        """The 64 bytes of this instruction. Raises ProgramError where a field does not fit its word."""
        words = [0] * 16
        _within(f"{type(self).__name__}.wait", self.wait, 0, 255)
        words[0] = self.OPCODE | self.wait << 8 | int(self.signal) << 16
        for name, bit in self.FLAGS.items():
            words[0] |= int(getattr(self, name)) << bit
        for name, index in self.WORDS.items():
            value = getattr(self, name)
            _within(f"{type(self).__name__}.{name}", value, 0, 0xFFFFFFFF)
            words[index] = value
        return struct.pack("<16I", *words)

    def check(self, row_blocks: int = MAX_ROW_BLOCKS) -> None:
        """Raise ProgramError, naming the field, if the engine would refuse this in a pass of `row_blocks`."""
        for name in self.ALIGNED:
            _aligned(f"{type(self).__name__}.{name}", getattr(self, name))
        for name in self.WORDS:
            if name.startswith("trace") and getattr(self, name) != NO_TRACE:
                _aligned(f"{type(self).__name__}.{name}", getattr(self, name))
        self._check(row_blocks)

    def _check(self, row_blocks: int) -> None:
        pass


@dataclass(frozen=True)
class End(Instruction):
    """The program is over."""

    OPCODE: ClassVar[int] = 0


@dataclass(frozen=True)
class Rows(Instruction):
    """Take the row block header from the io buffer."""

    io: int = 0

    OPCODE: ClassVar[int] = 1
    WORDS: ClassVar[dict[str, int]] = {"io": 1}
    ALIGNED: ClassVar[tuple[str, ...]] = ("io",)


@dataclass(frozen=True)
class Table(Instruction):
    """Load a table of 256 bytes, from the memory image or, with `from_io`, from that offset of the io buffer."""

    image: int = 0
    table: int = 0
    from_io: bool = False

    OPCODE: ClassVar[int] = 2
    WORDS: ClassVar[dict[str, int]] = {"image": 1, "table": 2}
    FLAGS: ClassVar[dict[str, int]] = {"from_io": 17}
    ALIGNED: ClassVar[tuple[str, ...]] = ("image",)

    def _check(self, row_blocks: int) -> None:
        _within("Table.table", self.table, 0, TABLE_CLOCK)


def embedding_row_bytes(width: int, four_bit: bool) -> int:
    """Bytes of one embedding row of `width` channels: its values padded to a beat, then the beat of m and s."""
    per_beat = BEAT_BYTES * (2 if four_bit else 1)
    return (-(-width // per_beat) + 1) * BEAT_BYTES


def adaptive_row_bytes(width: int, codes: int) -> int:
    """Bytes of one adaptive row (Q24): its mask, at most `codes` codes padded to a beat, then the beat of m and s."""
    return (-(-width // MASK_CHANNELS) + -(-codes // BEAT_BYTES) + 1) * BEAT_BYTES


@dataclass(frozen=True)
class Embed(Instruction):
    """Add one embedding table's rows to the residual (Q6); `first` replaces it."""

    image: int = 0
    row_bytes: int = 0
    width: int = 0
    field: int = 0
    trace: int = NO_TRACE
    first: bool = False
    four_bit: bool = False
    adaptive: bool = False

    OPCODE: ClassVar[int] = 3
    WORDS: ClassVar[dict[str, int]] = {"image": 1, "row_bytes": 2, "width": 3, "field": 4, "trace": 5}
    FLAGS: ClassVar[dict[str, int]] = {"first": 17, "four_bit": 19, "adaptive": 20}
    ALIGNED: ClassVar[tuple[str, ...]] = ("image", "row_bytes")

    def _check(self, row_blocks: int) -> None:
        _within("Embed.width", self.width, 1, MAX_WIDTH)
        _within("Embed.field", self.field, 0, FIELD_TYPE)
        if self.four_bit and self.width % 32:
            raise ProgramError("Embed.width", f"{self.width} is no multiple of 32, which 4-bit rows need")
        if self.adaptive:
            if self.four_bit:
                raise ProgramError("Embed.four_bit", "adaptive rows have codes of 8 bits")
            _within("Embed.row_bytes", self.row_bytes, adaptive_row_bytes(self.width, 0), EMBEDDING_BEATS * BEAT_BYTES)
            return
        expected = embedding_row_bytes(self.width, self.four_bit)
        if self.row_bytes != expected:
            raise ProgramError("Embed.row_bytes", f"{self.row_bytes} where width {self.width} takes {expected}")


@dataclass(frozen=True)
class Norm(Instruction):
    """Layer norm of the residual, in place (Q7), and its entries to the activation memory (Q9).

    `plain` leaves the residual as it is (Q20): entries alone.
    """

    image: int = 0
    width: int = 0
    entries: int = 0
    dst: int = 0
    dst_stride: int = 0
    m: int = 128
    s: int = 1
    trace: int = NO_TRACE
    plain: bool = False

    OPCODE: ClassVar[int] = 4
    WORDS: ClassVar[dict[str, int]] = {
        "image": 1, "width": 2, "entries": 3, "dst": 4, "dst_stride": 5, "m": 6, "s": 7, "trace": 8,
    }  # fmt: skip
    FLAGS: ClassVar[dict[str, int]] = {"plain": 17}
    ALIGNED: ClassVar[tuple[str, ...]] = ("image",)

    def _check(self, row_blocks: int) -> None:
        name = type(self).__name__
        _within(f"{name}.width", self.width, 1, MAX_WIDTH)
        _within(f"{name}.entries", self.entries, self.width, MAX_NORM_ENTRIES)
        _within(f"{name}.m", self.m, 0, 255)
        _within(f"{name}.s", self.s, 1, 31)
        _region(f"{name}.dst", self.dst, self.dst_stride, row_blocks, self.entries)


@dataclass(frozen=True)
class Gemm(Instruction):
    """One linear layer: product on the array, then what `destination` asks of the vector unit (Q10 to Q13)."""

    weights: int = 0
    parameters: int = 0
    k: int = 0
    n: int = 0
    src: int = 0
    src_stride: int = 0
    destination: int = TO_ACTIVATION
    dst: int = 0
    dst_stride: int = 0
    residual_m: int = 0
    residual_s: int = 0
    table: int = 0
    trace: int = NO_TRACE
    head_width: int = 0
    w8: bool = False
    operand_unsigned: bool = False
    result_block: bool = False
    output_unsigned: bool = False
    compressed: bool = False
    resident: bool = False
    grouped: bool = False
    branch: bool = False  # to the residual: the product alone also to `dst`, an adapter's operand (Q25)
    chosen: bool = False  # compressed: tiles may have a density bound, and groups of channels choose their activations
    stored: int = 0  # compressed: beats a port of its streams; resident: their first word in the resident memory

    OPCODE: ClassVar[int] = 5
    WORDS: ClassVar[dict[str, int]] = {
        "weights": 1, "parameters": 2, "k": 3, "n": 4, "src": 5, "src_stride": 6, "destination": 7, "dst": 8,
        "dst_stride": 9, "residual_m": 10, "residual_s": 11, "table": 12, "trace": 13, "head_width": 14,
        "stored": 15,
    }  # fmt: skip
    FLAGS: ClassVar[dict[str, int]] = {
        "w8": 17, "operand_unsigned": 18, "result_block": 19, "output_unsigned": 20, "compressed": 21, "resident": 22,
        "grouped": 23, "branch": 24, "chosen": 25,
    }  # fmt: skip
    ALIGNED: ClassVar[tuple[str, ...]] = ("weights", "parameters")

    def blocks(self, row_blocks: int) -> int:
        """All of them, or the result block alone."""
        return 1 if self.result_block else row_blocks

    def _check(self, row_blocks: int) -> None:
        blocks = self.blocks(row_blocks)
        widest = {TO_ACTIVATION: MAX_ENTRIES, TO_IO: MAX_LABELS}.get(self.destination, MAX_WIDTH)
        _within("Gemm.destination", self.destination, 0, TO_IO)
        for name, other in (("compressed", "w8"), ("grouped", "w8")):
            if getattr(self, name) and getattr(self, other):
                raise ProgramError(f"Gemm.{name}", f"does not go with {other}")
        if self.resident and not self.compressed:
            raise ProgramError("Gemm.resident", "is for compressed weights")
        if self.chosen:
            if not self.compressed:
                raise ProgramError("Gemm.chosen", "is for compressed weights")
            for name in ("src", "src_stride"):
                if getattr(self, name) % BLOCK:
                    raise ProgramError(
                        f"Gemm.{name}", f"{getattr(self, name)} is no multiple of {BLOCK}, as blocks need"
                    )
        _within("Gemm.k", self.k, 1, MAX_ENTRIES)
        _within("Gemm.n", self.n, 1, widest)
        _within("Gemm.table", self.table, 0, TABLE_POOLER)
        _region("Gemm.src", self.src, self.src_stride, blocks, self.k)
        if self.branch and self.destination != TO_RESIDUAL:
            raise ProgramError("Gemm.branch", "is for products to the residual")
        if self.destination == TO_ACTIVATION or self.branch:
            _region("Gemm.dst", self.dst, self.dst_stride, blocks, self.n)
        if self.destination == TO_IO:
            _aligned("Gemm.dst", self.dst)
        if self.destination == TO_RESIDUAL:
            _within("Gemm.residual_m", self.residual_m, 0, 255)
            _within("Gemm.residual_s", self.residual_s, 1, 31)
        if self.destination == TO_VALUES:
            if self.head_width not in HEAD_WIDTHS:
                raise ProgramError("Gemm.head_width", f"{self.head_width} is neither 32 nor 64")
            if self.n % self.head_width or self.n // self.head_width > MAX_HEADS:
                raise ProgramError("Gemm.n", f"{self.n} is not 1 .. {MAX_HEADS} heads of width {self.head_width}")


@dataclass(frozen=True)
class Attention(Instruction):
    """All heads: scores, softmax, context (Q14 to Q18). `banded`: each has a span, at `spans` of the image (Q23)."""

    parameters: int = 0
    heads: int = 0
    head_width: int = 0
    q: int = 0
    q_stride: int = 0
    p: int = 0
    context: int = 0
    context_stride: int = 0
    trace_context: int = NO_TRACE
    trace_p: int = NO_TRACE
    spans: int = 0
    normalized: bool = False
    banded: bool = False

    OPCODE: ClassVar[int] = 6
    WORDS: ClassVar[dict[str, int]] = {
        "parameters": 1, "heads": 2, "head_width": 3, "q": 4, "q_stride": 5, "p": 6, "context": 7,
        "context_stride": 8, "trace_context": 9, "trace_p": 10, "spans": 11,
    }  # fmt: skip
    FLAGS: ClassVar[dict[str, int]] = {"normalized": 17, "banded": 18}
    ALIGNED: ClassVar[tuple[str, ...]] = ("parameters", "spans")

    def _check(self, row_blocks: int) -> None:
        if self.head_width not in HEAD_WIDTHS:
            raise ProgramError("Attention.head_width", f"{self.head_width} is neither 32 nor 64")
        _within("Attention.heads", self.heads, 1, min(MAX_HEADS, MAX_WIDTH // self.head_width))
        width = self.heads * self.head_width
        _region("Attention.q", self.q, self.q_stride, row_blocks, width)
        _region("Attention.p", self.p, MAX_ROWS, 2, MAX_ROWS)
        _region("Attention.context", self.context, self.context_stride, row_blocks, width)


@dataclass(frozen=True)
class Gather(Instruction):
    """The rows named in the row block header, as entries, become the lanes of the result block (Q19)."""

    image: int = 0
    width: int = 0
    entries: int = 0
    dst: int = 0
    m: int = 128
    s: int = 1
    trace: int = NO_TRACE

    OPCODE: ClassVar[int] = 7
    WORDS: ClassVar[dict[str, int]] = {"image": 1, "width": 2, "entries": 3, "dst": 4, "m": 6, "s": 7, "trace": 8}
    ALIGNED: ClassVar[tuple[str, ...]] = ("image",)

    def blocks(self, row_blocks: int) -> int:
        """The result block alone."""
        return 1

    def _check(self, row_blocks: int) -> None:
        _within("Gather.width", self.width, 1, MAX_WIDTH)
        _within("Gather.entries", self.entries, self.width, MAX_NORM_ENTRIES)
        _within("Gather.m", self.m, 0, 255)
        _within("Gather.s", self.s, 1, 31)
        _region("Gather.dst", self.dst, 0, 1, self.entries)


@dataclass(frozen=True)
class Keep(Instruction):
    """Bring a compressed matrix into the resident memory, from word `resident` on, where it stays between runs."""

    weights: int = 0
    n: int = 0
    stored: int = 0  # beats a port of its streams
    resident: int = 0

    OPCODE: ClassVar[int] = 8
    WORDS: ClassVar[dict[str, int]] = {"weights": 1, "n": 4, "resident": 7, "stored": 15}
    ALIGNED: ClassVar[tuple[str, ...]] = ("weights",)

    def _check(self, row_blocks: int) -> None:
        _within("Keep.n", self.n, 1, MAX_ENTRIES)


@dataclass(frozen=True)
class Exit(Instruction):
    """Off-ramp behind `layer` (Q21, Q22): a w8 product of the result block, its logits, entropies and who leaves.

    `predict` reads the exit table, `clock` with it the clock table; `last`: all leave. After it the program goes on for
    the row blocks in which a sentence is left, if there are any. `counted`: the layer is each sentence's own, one more
    at every EXIT, and all leave at `layer`; logits and record lie `stride` bytes further with every LOOP, and the
    program goes on in any case.
    """

    weights: int = 0
    parameters: int = 0
    k: int = 0
    n: int = 0
    src: int = 0
    logits: int = 0
    record: int = 0
    entropy_m: int = 32768
    entropy_s: int = 1
    layer: int = 1
    threshold: int = 0
    row_shift: int = 0
    stride: int = 0
    predict: bool = False
    clock: bool = False
    last: bool = False
    counted: bool = False

    OPCODE: ClassVar[int] = 9
    WORDS: ClassVar[dict[str, int]] = {
        "weights": 1, "parameters": 2, "k": 3, "n": 4, "src": 5, "logits": 6, "record": 7, "entropy_m": 8,
        "entropy_s": 9, "layer": 10, "threshold": 11, "row_shift": 12,
        "stride": 13,
    }  # fmt: skip
    FLAGS: ClassVar[dict[str, int]] = {"predict": 17, "clock": 18, "last": 19, "counted": 20}
    ALIGNED: ClassVar[tuple[str, ...]] = ("weights", "parameters", "logits", "record", "stride")

    def blocks(self, row_blocks: int) -> int:
        """The result block alone."""
        return 1

    def product(self) -> Gemm:
        """The GEMM that its product is, as the array sees it."""
        same = {name: getattr(self, name) for name in ("wait", "weights", "parameters", "k", "n", "src")}
        return Gemm(**same, destination=TO_IO, dst=self.logits, w8=True, result_block=True)

    def _check(self, row_blocks: int) -> None:
        if self.signal:
            raise ProgramError("Exit.signal", "nothing waits for an off-ramp but fetch itself")
        if self.clock and not self.predict:
            raise ProgramError("Exit.clock", "goes with predict: the clock is chosen by the layer foretold")
        _within("Exit.k", self.k, 1, MAX_ENTRIES)
        _within("Exit.n", self.n, 1, MAX_LABELS)
        _region("Exit.src", self.src, 0, 1, self.k)
        _within("Exit.entropy_m", self.entropy_m, 32768, 65535)
        _within("Exit.entropy_s", self.entropy_s, 1, 31)
        _within("Exit.layer", self.layer, 1, MAX_LAYERS)
        _within("Exit.threshold", self.threshold, 0, 32767)
        _within("Exit.row_shift", self.row_shift, 0, 15)
        _within("Exit.stride", self.stride, 0, MAX_STRIDE if self.counted else 0)
        if self.counted and (self.predict or self.last):
            raise ProgramError("Exit.counted", "goes with neither predict nor last: lanes are at layers of their own")


@dataclass(frozen=True)
class Refill(Instruction):
    """Sentences of the queue at `io`, of at most `entries` entries `stride` bytes apart, take the row blocks that are
    free; the `section` instructions behind run over these alone. The program is over where nobody is left and nobody
    comes.
    """

    io: int = 0
    entries: int = 1
    stride: int = 0
    section: int = 1

    OPCODE: ClassVar[int] = 10
    WORDS: ClassVar[dict[str, int]] = {"io": 1, "entries": 2, "stride": 3, "section": 4}
    ALIGNED: ClassVar[tuple[str, ...]] = ("io", "stride")

    def blocks(self, row_blocks: int) -> int:
        """None: nothing is signalled."""
        return 0

    def _check(self, row_blocks: int) -> None:
        _within("Refill.entries", self.entries, 1, MAX_QUEUED)
        _within("Refill.section", self.section, 1, MAX_SECTION)
        if row_blocks != MAX_ROW_BLOCKS:
            raise ProgramError("Refill", f"a pass of {row_blocks} row blocks, a queue fills {MAX_ROW_BLOCKS}")


@dataclass(frozen=True)
class Loop(Instruction):
    """Go on at instruction `target`, before this one; END the `steps`-th time."""

    target: int = 0
    steps: int = 1

    OPCODE: ClassVar[int] = 11
    WORDS: ClassVar[dict[str, int]] = {"target": 1, "steps": 2}

    def blocks(self, row_blocks: int) -> int:
        """None: nothing is signalled."""
        return 0

    def _check(self, row_blocks: int) -> None:
        _within("Loop.steps", self.steps, 1, MAX_STEPS)


INSTRUCTIONS: tuple[type[Instruction], ...] = (
    *(End, Rows, Table, Embed, Norm, Gemm, Attention, Gather, Keep, Exit),
    *(Refill, Loop),
)
