# SPDX-License-Identifier: Apache-2.0
"""Resource model: DSPs, memories, LUTs and registers of the engine on a board, counted from its shape. Modelled.

Three tables: multipliers (one row a product of docs/quantization.md, with the operand widths of the kernels), memories
(depth and width of docs/program.md) and logic (the array's RTL as yosys counts it, of the others a constant a part with
its reason). A synthesis report replaces them.
"""

import math
from dataclasses import dataclass

from .array_area import array_area
from .assumptions import assumed
from .boards import Board
from .instructions import (
    ACTIVATION_WORDS,
    BLOCK,
    EMBEDDING_BEATS,
    GROUP,
    LANES,
    MAX_HEADS,
    MAX_NORM_ENTRIES,
    MAX_ROW_BLOCKS,
    MAX_ROWS,
    MAX_WIDTH,
    WEIGHT_WORDS,
)

# Widths that one BRAM36, and each of its halves by itself, offers at each depth (UG573), and a URAM's only shape.
BRAM36_SHAPES = ((512, 72), (1024, 36), (2048, 18), (4096, 9), (8192, 4), (16384, 2), (32768, 1))
BRAM18_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
URAM_WORDS, URAM_BITS = 4096, 72
PORT_BITS = 128
DSP_A_BITS, DSP_B_BITS = 27, 18  # signed multiplier of a DSP48E2 (UG579)
SLOTS = 2
KEY_VALUE_WORDS = 2 * MAX_WIDTH + 32 * MAX_ROWS  # keys, then values of 32 heads
ACCUMULATOR_BITS = 27

BUDGET = {"dsp": 0.90, "bram36": 0.80, "lut": 0.80}  # share of the part (design)


@dataclass(frozen=True)
class Product:
    """A multiplier of `a_bits` by `b_bits`, `copies` of it; `source` is the equation. A 16-bit unsigned r counts 17."""

    unit: str
    source: str
    a_bits: int
    b_bits: int
    copies: int = LANES
    bound: bool = False  # to DSPs, by bind_op

    @property
    def in_fabric(self) -> bool:
        """Whether it is built in LUTs: one operand of at most 8 bits, or operands of at most 18 by 11 bits."""
        low, high = sorted((self.a_bits, self.b_bits))
        return (
            not self.bound and bool(assumed("mantissa_products_in_luts")) and (low <= 8 or (low <= 11 and high <= 18))
        )

    @property
    def dsp(self) -> int:
        """DSP48E2s of all copies if built in DSPs: operands cut into pieces of 27 and 18 signed bits."""
        high, low = max(self.a_bits, self.b_bits), min(self.a_bits, self.b_bits)
        pieces = math.ceil((high - 1) / (DSP_A_BITS - 1)) * math.ceil((low - 1) / (DSP_B_BITS - 1))
        return self.copies * pieces

    @property
    def lut(self) -> int:
        """LUTs of all copies if built in fabric: two partial products a carry chain, then a tree of adders.

        8 by 8 bits come to 69, 16 by 16 to 269.
        """
        low, high = sorted((self.a_bits, self.b_bits))
        chains = math.ceil(low / 2)
        return self.copies * (chains * (high + 1) + (chains - 1) * (high + 3))


@dataclass(frozen=True)
class Memory:
    """`copies` memories of `words` words of `bits` bits, one read and one write port.

    `reader` paces its accesses; where `accesses` names them (cycles.Timing.accesses) they are counted. `row_enabled`:
    only the blocks that hold the word work in an access, one row of those that make up its depth (rtl/memory.v).
    """

    name: str
    words: int
    bits: int
    reader: str
    copies: int = 1
    deep: bool = False  # goes to URAM where the part has it
    accesses: str = ""
    row_enabled: bool = False
    interleaved: bool = False  # an access is to one of the copies

    @property
    def _shape(self) -> tuple[int, int]:
        """BRAM36 in depth and in width, in the best of the shapes."""
        shapes = ((math.ceil(self.words / d), math.ceil(self.bits / w)) for d, w in BRAM36_SHAPES)
        return min(shapes, key=lambda shape: shape[0] * shape[1])

    @property
    def bram36(self) -> int:
        """BRAM36 of all copies: of one shape where a row of them works at a time, else columns of one and a last one of
        another, in halves."""
        if self.row_enabled:
            return self.copies * math.prod(self._shape)
        halves = []
        for depth, width in BRAM18_SHAPES:
            whole, rest = divmod(self.bits, width)
            last = min(math.ceil(self.words / d) * math.ceil(rest / w) for d, w in BRAM18_SHAPES)
            halves.append(math.ceil(self.words / depth) * whole + last)
        return math.ceil(self.copies * min(halves) / 2)

    @property
    def rows(self) -> int:
        """Of so many blocks in depth, of all copies where they are interleaved, one works in an access."""
        rows = self._shape[0] if self.row_enabled and assumed("rows_enabled") else 1
        return rows * (self.copies if self.interleaved else 1)

    @property
    def uram(self) -> int:
        """URAMs of all copies."""
        return self.copies * math.ceil(self.words / URAM_WORDS) * math.ceil(self.bits / URAM_BITS)


@dataclass(frozen=True)
class Logic:
    """LUTs and registers of a part of the engine, and why so many."""

    unit: str
    name: str
    lut: float
    ff: float
    why: str


@dataclass(frozen=True)
class Blocks:
    """BRAM36 or URAMs (`kind`) of a memory, for power.py: who paces them, the accesses' name, rows in depth."""

    kind: str
    unit: str
    count: int
    accesses: str
    rows: int
    most: int = 1  # accesses a cycle


@dataclass(frozen=True)
class Resources:
    """What the engine takes of a part, modelled; memories and LUTs also by the unit that paces them."""

    board: Board
    dsp: int
    array_dsp: int
    bram36: int
    uram: int
    lut: int
    ff: int
    bram36_by_unit: dict[str, int]
    uram_by_unit: dict[str, int]
    lut_by_unit: dict[str, int]
    blocks: tuple[Blocks, ...]

    @property
    def shares(self) -> dict[str, float]:
        """Share of the part that is used."""
        shares = {name: getattr(self, name) / getattr(self.board, name) for name in ("dsp", "bram36", "lut", "ff")}
        return shares | ({"uram": self.uram / self.board.uram} if self.board.uram else {})

    def over_budget(self) -> list[str]:
        """One line for each resource beyond its budget; empty if the engine fits."""
        shares = self.shares
        return [
            f"{name}: {shares[name]:.1%} of {self.board.part} is over the budget of {limit:.0%}"
            for name, limit in BUDGET.items()
            if shares[name] > limit
        ]


def products() -> tuple[Product, ...]:
    """The vector unit's multipliers; all loops share the requantizer (`one_requantizer`)."""
    return (
        Product("vector", "Q6 q·m", 13, 8),
        Product("vector", "Q7 x² beside the embedding", 16, 16),
        Product("vector", "Q2, one requantizer for every loop", 27, 8, bound=True),
        Product("vector", "Q12 y·m_r", 16, 8),
        Product("vector", "Q25 h·m", 16, 8),
        Product("vector", "Q7 x² beside the residual", 16, 16),
        Product("vector", "Q18 e·r", 8, 17),
        Product("vector", "Q17 acc·r", 27, 17),
        Product("vector", "Q7 N·x", 11, 16, bound=True),
        Product("vector", "Q7 D·r", 27, 17),
        Product("vector", "Q7 z·γ", 18, 8),
        Product("vector", "Q9 y·m", 16, 8),
        Product("vector", "Q19 y·m", 16, 8),
        Product("vector", "Q7 N·Q", 41, 11, 1),
        Product("vector", "Q7 S²", 27, 27, 1),
        Product("vector", "Q8 v·r0", 17, 17, 1),
        Product("vector", "Q8 a·r0", 18, 17, 1),
        Product("vector", "Q8 r0·d", 35, 17, 1),
        Product("vector", "Q21 x·m", 17, 16, 1),
        Product("vector", "Q21 rise·S", 39, 17, 1),
        Product("vector", "Q21 distance·t", 28, 17, 1),
        Product("vector", "Q21 to nats", 19, 17, 1),
        Product("load", "row address", 32, 18, 1),
        Product("fetch", "tile addresses", 32, 18, 2),
    )


def weight_bits(board: Board) -> int:
    """Of a word of the weight buffer: 4 a column, and two of choice for every GROUP columns."""
    return board.columns * 4 + board.columns // GROUP * 2


def memories(board: Board) -> tuple[Memory, ...]:
    """The memories of docs/program.md, as the tops partition them."""
    columns = board.columns
    # URAM first where the part has it; what goes beyond its whole multiples of 4,096 words is block RAM
    deep = board.resident_words // URAM_WORDS * URAM_WORDS if board.uram else 0
    return (
        Memory("weights", WEIGHT_WORDS, weight_bits(board), "array", accesses="weights", row_enabled=True),
        Memory(
            "activations, four banks",
            ACTIVATION_WORDS // BLOCK,
            LANES * 8,
            "array",
            copies=BLOCK,
            accesses="activations",
            row_enabled=True,
            interleaved=True,
        ),
        Memory(
            "keys and values",
            KEY_VALUE_WORDS,
            LANES * 8,
            "array",
            copies=board.groups,
            accesses="keys and values",
            row_enabled=True,
        ),
        Memory("residual, one bank a row block", MAX_WIDTH, LANES * 16, "vector", copies=MAX_ROW_BLOCKS),
        # A dual-ported copy of the three tables serves two lanes, and takes half a BRAM36.
        Memory("tables, a copy two lanes", 3 * 256, 2 * 8, "vector", copies=LANES // 2),
        Memory("head factors", MAX_HEADS * (MAX_WIDTH // MAX_HEADS + 2), 16, "vector"),
        Memory("parameters, even and odd", SLOTS * MAX_NORM_ENTRIES // 2, 64, "vector", copies=2),
        Memory("embedding rows, a bank a lane", SLOTS * EMBEDDING_BEATS, 128, "load", copies=LANES),
        Memory(
            "accumulator stream",
            int(assumed("accumulator_tiles")) * columns,
            LANES * ACCUMULATOR_BITS,
            "array",
            accesses="accumulators",
        ),
        Memory("resident weights, deep", deep, PORT_BITS * board.ports, "weights", deep=True, accesses="resident"),
        Memory(
            "resident weights", board.resident_words - deep, PORT_BITS * board.ports, "weights", accesses="resident"
        ),
        Memory("AXI read data", 512, PORT_BITS, "weights", copies=board.ports),
    )


def logic(board: Board) -> tuple[Logic, ...]:
    """LUTs and registers: the array's as yosys counts its RTL, else a constant a part. Multipliers in fabric come on
    top (products)."""
    shifted = 17 + 36 + 25 + 25 + 34 + 44 + 36 + 44 + 26 + 25 + 8 + 25  # bits of variable shifts a lane, Q2 to Q25
    return (
        *(Logic("array", a.name, a.lut, a.ff, a.scales) for a in array_area(LANES, board.columns)),
        Logic("vector", "variable shifts", 2.5 * shifted * LANES, shifted * LANES, "five 2:1 levels, two a LUT"),
        Logic("vector", "rounding, clamps, sums", 900 * LANES, 1900 * LANES, "12 of 40 LUTs, sums of 136 bits"),
        Logic("vector", "softmax", 192 * LANES, 320 * LANES, "tests of range and span, maximum, distance and choice"),
        Logic("vector", "gather of result rows", 34 * 16 * LANES, 16 * LANES, "128:1 of 16 bits a lane"),
        Logic("vector", "corner turn", 9 * 16 * LANES + 1000, 16 * LANES * LANES, "two planes of 1 KB, read 32:1"),
        Logic("vector", "division, inverse root", 3500, 5000, "36 stages of a 32-bit divider; one Newton step"),
        Logic("vector", "embedding bytes", 40 * LANES, 136 * LANES, "16:1 of 8 bits a lane"),
        Logic("vector", "adaptive rows", 90 * LANES, 200 * LANES,
              "a lane: bit of its mask 128:1 35, place in its row 20, shift and sign of a code 35"),
        Logic("vector", "scores", 1700, 0, "128 words of 512 bits in LUT RAM"),
        Logic("vector", "sums of an exit", 800, 3900,
              "shifts of 39 to 56 bits by six levels, adders of 230 bits; a lane's 115 bits in LUT RAM"),
        Logic("vector", "entropy of an exit", 1700, 3700, "a divider of 33 by 17 bits, shifts of 39 and 54 bits"),
        Logic("vector", "tables of an exit", 604, 44,
              "1,024 words of 16 and 12 bits, 17 LUTs a bit of a word; two of 256 bytes in LUT RAM"),
        Logic("vector", "lanes of an exit", 2300, 54 * LANES,
              "50 bits a lane, read 32:1, 8 cleared by a refill; key ranges 128:1; record of 16 bits a lane 5:1"),
        Logic("load", "load, an AXI master", 3900, 5400, "rows of a pass and read data in LUT RAM, runs, addresses"),
        Logic("weights", "AXI masters", 900 * board.ports, 1400 * board.ports, "an adapter of 128 bits, bursts"),
        Logic("weights", "weights", 480 * board.ports + 600, 500 * board.ports + 900,
              "count of 128 bits 130, masking 130, state 220 a port"),
        Logic("weights", "streams to expand", 700 * board.ports, 350 * board.ports, "64 and 128 beats in LUT RAM"),
        Logic("expand", "expand", 1800 * board.ports + 300, 1530 * board.ports + 300,
              "a port: ranks 250, 32 choices of 64 nibbles in two steps 1,400, 16 bits of a beat of 128 32, window"),
        Logic("store", "store", 2300, 2500,
              "an AXI master, 128 beats of write data and 32 words of stream in LUT RAM, 512 bits to beats"),
        Logic("fetch", "fetch, registers, streams", 6600, 7500,
              "an instruction of 512 bits, live row blocks, five streams, AXI-Lite, choice of the clock"),
        Logic("fetch", "queue of sentences", 600, 300,
              "head, steps and section of 17 to 32 bits, row blocks side by side, the address of an entry"),
        Logic("fetch", "block design", 4000, 6000, "AXI-Lite interconnect, clocking wizard, resets"),
    )  # fmt: skip


def resources(board: Board) -> Resources:
    """What the engine takes on `board`, modelled."""
    array = LANES * board.columns // 2
    fabric = [p for p in products() if p.in_fabric]
    dsp = array + sum(p.dsp for p in products() if not p.in_fabric)
    bram: dict[str, int] = {}
    uram: dict[str, int] = {}
    blocks = []
    for m in memories(board):
        target, count = (uram, m.uram) if m.deep and board.uram else (bram, m.bram36)
        target[m.reader] = target.get(m.reader, 0) + count
        most = m.copies if m.interleaved else 1
        blocks.append(Blocks("uram" if target is uram else "bram36", m.reader, count, m.accesses, m.rows, most))
    luts: dict[str, float] = {}
    for part in logic(board):
        luts[part.unit] = luts.get(part.unit, 0) + part.lut
    for p in fabric:
        luts[p.unit] = luts.get(p.unit, 0) + p.lut
    ff = sum(part.ff for part in logic(board)) + sum(2 * (p.a_bits + p.b_bits) * p.copies for p in fabric)
    return Resources(
        board=board,
        dsp=dsp,
        array_dsp=array,
        bram36=sum(bram.values()),
        uram=sum(uram.values()),
        lut=round(sum(luts.values())),
        ff=round(ff),
        bram36_by_unit=bram,
        uram_by_unit=uram,
        lut_by_unit={unit: round(count) for unit, count in luts.items()},
        blocks=tuple(blocks),
    )
