# SPDX-License-Identifier: Apache-2.0
"""Tile commands, as fetch sends them to the units: the mirror of kernels/commands.hpp without addresses."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from .instructions import BEAT_BYTES, BLOCK, LANES, TO_VALUES, Instruction


class Load(Enum):
    """What a load command brings."""

    PARAMETERS = "parameters"
    TABLE = "table"
    ROWS = "rows"
    EMBEDDING = "embedding"
    DRAIN = "drain"  # END: takes back the credits still out


class Source(Enum):
    """Where a weights command takes its beats from, and what becomes of them."""

    MEMORY = "memory"  # to expand
    KEEP = "keep"  # memory, to the resident memory
    RESIDENT = "resident"  # the resident memory, to expand
    DRAIN = "drain"  # END: takes back the credits still out, tells fetch of faults


class Vector(Enum):
    """What a vector command does."""

    COPY_ROWS = "copy_rows"
    COPY_TABLE = "copy_table"
    COPY_HEADS = "copy_heads"
    EMBED = "embed"
    LINEAR = "linear"
    SCORES = "scores"
    CONTEXT = "context"
    NORM = "norm"
    GATHER = "gather"


@dataclass(frozen=True)
class LoadCommand:
    """`rows` times `beats` beats in `bursts` bursts, into `slot`; `instruction` indexes the program."""

    instruction: int
    kind: Load
    beats: int
    slot: int = 0
    rows: int = 1
    bursts: int = 1
    pop_parameters_free: int = 0

    @property
    def bytes(self) -> int:
        """Bytes read from memory."""
        return self.rows * self.beats * BEAT_BYTES


@dataclass(frozen=True)
class WeightsCommand:
    """`beats` beats on each of `ports` ports, which expand to a tile of `k` steps in `pieces` segments.

    `resident`: first word of the resident memory, where that is written or read.
    """

    instruction: int
    source: Source
    beats: int = 0
    k: int = 0
    resident: int = 0
    ports: int = 1
    pieces: int = 1
    compressed: bool = False
    pop_weights_free: int = 0
    place: int | None = None  # of the instruction in the program, where a queue has it executed more than once

    @property
    def bytes(self) -> int:
        """Bytes read from memory."""
        return self.ports * self.beats * BEAT_BYTES if self.source in (Source.MEMORY, Source.KEEP) else 0

    @property
    def blamed(self) -> int:
        """The instruction that the command names for faults; none does at END."""
        named = self.instruction if self.place is None else self.place
        return 0 if self.source is Source.DRAIN else named


@dataclass(frozen=True)
class ExpandCommand:
    """A tile of `k` steps to the weight buffer, from `word` on."""

    instruction: int
    k: int
    word: int


@dataclass(frozen=True)
class ArrayCommand:
    """One tile: k steps, then `words` columns of 32 rows drained."""

    instruction: int
    k: int
    words: int
    w8: bool = False
    operand_unsigned: bool = False
    keys_values: bool = False  # second operand from the key/value memory
    weights: int = 0  # first word of the weight buffer
    pop_weights_ready: bool = False
    push_weights_free: bool = False
    pop_data: int = 0
    zero: bool = False  # a tile without weights
    bound: int = 0  # steps a block of activations, of which groups of channels choose; 0: a step a word

    @property
    def macs(self) -> int:
        """Multiply-accumulates of 32 rows that this tile asked for."""
        return LANES * self.k * self.words

    @property
    def activations(self) -> int:
        """Words of the activation memory that it reads: of each block all of them, once."""
        return -(-self.k // self.bound) * BLOCK if self.bound else self.k


@dataclass(frozen=True)
class VectorCommand:
    """One command of the vector unit on one row block.

    `words`: beats' halves for copies, channels for EMBED, columns for LINEAR, keys for SCORES, channels of a head for
    CONTEXT, entries for NORM and GATHER.
    """

    instruction: int
    kind: Vector
    words: int
    slot: int = 0
    row_block: int = 0
    width: int = 0  # NORM, GATHER: channels; EMBED: beats of a row
    destination: int | None = None  # LINEAR
    first: bool = False  # EMBED: replaces the residual; LINEAR to residual: clears the sums
    normalized: bool = False
    plain: bool = False  # NORM: y = x
    adaptive: bool = False  # EMBED: a loop for each beat of the mask
    tee: bool = False  # every word produced also goes to store
    pop_parameters: bool = False
    push_parameters_free: bool = False
    push_data: int = 0
    span: int = 0  # SCORES
    key_block: int = 0  # SCORES: row block of the first key
    last_tile: bool = False  # LINEAR to an exit: entropies, verdict and record follow
    branch: bool = False  # LINEAR to residual: the product alone also to the activation memory

    @property
    def accumulators(self) -> int:
        """Accumulator words taken from the array."""
        return self.words if self.kind in (Vector.LINEAR, Vector.SCORES, Vector.CONTEXT) else 0

    @property
    def corner_turn(self) -> bool:
        """Whether the words become values of attention, token by token."""
        return self.destination == TO_VALUES


@dataclass(frozen=True)
class StoreCommand:
    """`words` words of 32 lanes to memory, int16 if `wide`, else int8; `end` answers fetch."""

    instruction: int
    words: int = 0
    wide: bool = False
    end: bool = False

    @property
    def bytes(self) -> int:
        """Bytes written to memory."""
        return self.words * LANES * (2 if self.wide else 1)


@dataclass(frozen=True)
class Expansion:
    """A program as command streams, each in the order its unit runs them."""

    load: tuple[LoadCommand, ...]
    weights: tuple[WeightsCommand, ...]
    expand: tuple[ExpandCommand, ...]
    array: tuple[ArrayCommand, ...]
    vector: tuple[VectorCommand, ...]
    store: tuple[StoreCommand, ...]
    fetched_bytes: int  # of the program itself, of directories and of spans
    directory_tiles: Mapping[int, int]  # by instruction: beats that fetch reads for it, of directories and of spans
    exits: tuple[int, ...] = ()  # instructions whose verdicts fetch waits for, in order
    ended: bool = False  # by the last of them, with instructions left
    executed: tuple[Instruction, ...] = ()  # of a program with a queue: its instructions as they came
