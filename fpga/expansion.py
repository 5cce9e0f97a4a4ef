# SPDX-License-Identifier: Apache-2.0
"""What fetch makes of a program: tile commands for the units, in order (docs/program.md, Expansion into tile commands).

The mirror of kernels/fetch.hpp without its addresses: what the cycle model needs to know of a command, that is how much
it moves or computes, and which tokens it pops before and pushes after. Tokens are counted, all of one kind alike:

    weights_ready, weights_free         load -> array and back, two slots
    parameters_ready, parameters_free   load -> vector and back, two slots
    data                                vector -> array, one for each row block of a result

A NORM after a GEMM to the residual runs row block by row block between that GEMM's last tiles, so that the array goes
on meanwhile.
"""

from dataclasses import dataclass, field
from enum import Enum

from .instructions import (
    BEAT_BYTES,
    INSTRUCTION_BYTES,
    LANES,
    NO_TRACE,
    TO_IO,
    TO_RESIDUAL,
    TO_VALUES,
    Attention,
    Embed,
    End,
    Gather,
    Gemm,
    Instruction,
    Norm,
    Rows,
    Table,
)

SLOTS = 2


class Load(Enum):
    """What a load command brings."""

    WEIGHTS = "weights"
    PARAMETERS = "parameters"
    TABLE = "table"
    ROWS = "rows"
    EMBEDDING = "embedding"
    DRAIN = "drain"  # END: takes back the credits still out


class Vector(Enum):
    """What a vector command does."""

    COPY_ROWS = "copy_rows"
    COPY_TABLE = "copy_table"
    EMBED = "embed"
    LINEAR = "linear"
    SCORES = "scores"
    CONTEXT = "context"
    NORM = "norm"
    GATHER = "gather"


@dataclass(frozen=True)
class LoadCommand:
    """`rows` bursts of `beats` beats on each of `ports` ports, into `slot`; `instruction` indexes the program."""

    instruction: int
    kind: Load
    beats: int
    slot: int = 0
    ports: int = 1
    rows: int = 1
    pop_weights_free: int = 0
    pop_parameters_free: int = 0

    @property
    def bytes(self) -> int:
        """Bytes read from memory."""
        return self.rows * self.ports * self.beats * BEAT_BYTES


@dataclass(frozen=True)
class ArrayCommand:
    """One tile: k steps, then `words` columns of 32 rows drained."""

    instruction: int
    k: int
    words: int
    w8: bool = False
    operand_unsigned: bool = False
    keys_values: bool = False  # second operand from the key/value memory
    slot: int = 0
    pop_weights_ready: bool = False
    push_weights_free: bool = False
    pop_data: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of 32 rows that this tile asked for."""
        return LANES * self.k * self.words


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
    width: int = 0  # NORM, GATHER: channels
    destination: int | None = None  # LINEAR
    first: bool = False  # EMBED: replaces the residual; LINEAR to residual: clears the sums
    normalized: bool = False
    plain: bool = False  # NORM: y = x
    tee: bool = False  # every word produced also goes to store
    pop_parameters: bool = False
    push_parameters_free: bool = False
    push_data: int = 0

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
    """A program as four command streams, each in the order its unit runs them."""

    load: tuple[LoadCommand, ...]
    array: tuple[ArrayCommand, ...]
    vector: tuple[VectorCommand, ...]
    store: tuple[StoreCommand, ...]
    fetched_bytes: int  # of the program itself


def expand(program: tuple[Instruction, ...], row_blocks: int, columns: int) -> Expansion:
    """The tile commands of `program` for a pass of 1 .. 4 row blocks on an array of C = `columns` columns."""
    expander = _Expander(row_blocks, columns)
    for index, instruction in enumerate(program):
        expander.index = index
        if isinstance(instruction, End):
            break
        if expander.norm_index != index:
            following = program[index + 1] if index + 1 < len(program) else None
            expander.instruction(instruction, following)
    expander.end()
    streams = (tuple(s) for s in (expander.load, expander.array, expander.vector, expander.store))
    return Expansion(*streams, fetched_bytes=(expander.index + 1) * INSTRUCTION_BYTES if program else 0)


@dataclass
class _Expander:
    """The four streams as they grow, and how many loads went to each pair of slots."""

    blocks: int
    columns: int
    index: int = 0
    norm_index: int = -1  # a NORM that has been expanded within the GEMM before it
    weight_loads: int = 0
    vector_loads: int = 0
    load: list[LoadCommand] = field(default_factory=list)
    array: list[ArrayCommand] = field(default_factory=list)
    vector: list[VectorCommand] = field(default_factory=list)
    store: list[StoreCommand] = field(default_factory=list)

    def instruction(self, i: Instruction, following: Instruction | None) -> None:
        match i:
            case Rows():
                beats = 2 + self.blocks * LANES
                self._copied(Vector.COPY_ROWS, Load.ROWS, beats)
            case Table():
                self._copied(Vector.COPY_TABLE, Load.TABLE, 16)
            case Embed():
                self._embed(i)
            case Norm():
                self._norm(i, Vector.NORM, self.blocks)
            case Gather():
                self._norm(i, Vector.GATHER, 1)
            case Gemm(destination=destination) if destination == TO_RESIDUAL and isinstance(following, Norm):
                self._gemm(i, following)
            case Gemm():
                self._gemm(i)
            case Attention():
                self._attention(i)

    def end(self) -> None:
        """END: load takes back the credits that are out, store answers fetch."""
        self.load.append(
            LoadCommand(
                self.index,
                Load.DRAIN,
                0,
                pop_weights_free=min(self.weight_loads, SLOTS),
                pop_parameters_free=min(self.vector_loads, SLOTS),
            )
        )
        self.store.append(StoreCommand(self.index, end=True))

    def _weights(self, k: int) -> int:
        """Load one tile of weights; its slot."""
        slot = self.weight_loads % SLOTS
        free = int(self.weight_loads >= SLOTS)
        ports = self.columns // 32
        self.load.append(LoadCommand(self.index, Load.WEIGHTS, k, slot, ports, pop_weights_free=free))
        self.weight_loads += 1
        return slot

    def _parameters(self, kind: Load, beats: int, rows: int = 1) -> int:
        """Load something for the vector unit; its slot."""
        slot = self.vector_loads % SLOTS
        free = int(self.vector_loads >= SLOTS)
        self.load.append(LoadCommand(self.index, kind, beats, slot, rows=rows, pop_parameters_free=free))
        self.vector_loads += 1
        return slot

    def _vector(self, kind: Vector, words: int, trace: int = NO_TRACE, wide: bool = False, **rest) -> None:
        """One vector command, and the store of what it produces if that is traced."""
        tee = trace != NO_TRACE
        self.vector.append(VectorCommand(self.index, kind, words, tee=tee, **rest))
        if tee:
            stored = rest["width"] if kind is Vector.NORM else words  # channels, not entries
            self.store.append(StoreCommand(self.index, stored, wide))

    def _copied(self, kind: Vector, load: Load, beats: int) -> None:
        slot = self._parameters(load, beats)
        self._vector(kind, 2 * beats, slot=slot, pop_parameters=True, push_parameters_free=True)

    def _embed(self, i: Embed) -> None:
        for rb in range(self.blocks):
            slot = self._parameters(Load.EMBEDDING, i.row_bytes // BEAT_BYTES, rows=LANES)
            credits = {"slot": slot, "pop_parameters": True, "push_parameters_free": True}
            self._vector(Vector.EMBED, i.width, i.trace, True, row_block=rb, first=i.first, **credits)

    def _norm(self, i: Norm | Gather, kind: Vector, blocks: int) -> None:
        slot = self._parameters(Load.PARAMETERS, -(-i.entries // 2))
        for rb in range(blocks):
            self._norm_block(i, kind, slot, rb, blocks)

    def _norm_block(self, i: Norm | Gather, kind: Vector, slot: int, rb: int, blocks: int) -> None:
        self._vector(
            kind,
            i.entries,
            i.trace,
            kind is Vector.NORM,
            slot=slot,
            row_block=rb,
            width=i.width,
            plain=isinstance(i, Norm) and i.plain,
            pop_parameters=rb == 0,
            push_parameters_free=rb == blocks - 1,
            push_data=int(i.signal),
        )

    def _gemm(self, i: Gemm, norm: Norm | None = None) -> None:
        """A linear layer; `norm` follows its residual, row block by row block behind the last tile's."""
        blocks = i.blocks(self.blocks)
        tile = self.columns // 2 if i.w8 else self.columns
        trace = i.dst if i.destination == TO_IO else i.trace
        wide = i.destination in (TO_IO, TO_RESIDUAL)
        norm_slot = 0
        for first in range(0, i.n, tile):
            words = min(tile, i.n - first)
            final = first + tile >= i.n
            weight_slot = self._weights(i.k)
            slot = self._parameters(Load.PARAMETERS, -(-words // 2))
            if final and norm is not None:
                self.index += 1
                norm_slot = self._parameters(Load.PARAMETERS, -(-norm.entries // 2))
                self.norm_index = self.index
                self.index -= 1
            for rb in range(blocks):
                last = rb == blocks - 1
                self.array.append(
                    ArrayCommand(
                        self.index,
                        i.k,
                        words,
                        w8=i.w8,
                        operand_unsigned=i.operand_unsigned,
                        slot=weight_slot,
                        pop_weights_ready=rb == 0,
                        push_weights_free=last,
                        pop_data=i.wait if first == 0 else 0,
                    )
                )
                self._vector(
                    Vector.LINEAR,
                    words,
                    trace,
                    wide,
                    slot=slot,
                    row_block=rb,
                    destination=i.destination,
                    first=first == 0,
                    pop_parameters=rb == 0,
                    push_parameters_free=last,
                    push_data=int(final and i.signal),
                )
                if final and norm is not None:
                    self.index += 1
                    self._norm_block(norm, Vector.NORM, norm_slot, rb, blocks)
                    self.index -= 1

    def _attention(self, i: Attention) -> None:
        """Items are (head, row block), head outer; the scores of one run ahead of the context of the one before."""
        items = [(head, rb) for head in range(i.heads) for rb in range(self.blocks)]
        slots: dict[int, int] = {}
        for n in range(len(items) + 1):
            if n < len(items):
                head, rb = items[n]
                if rb == 0:
                    slots[head] = self._parameters(Load.PARAMETERS, -(-(1 + i.head_width) // 2))
                self._scores(i, rb, slots[head], i.wait * self.blocks if n == 0 else 0)
            if n > 0:
                head, rb = items[n - 1]
                self._context(i, rb, slots[head], n == len(items))

    def _scores(self, i: Attention, rb: int, slot: int, wait: int) -> None:
        groups = self.columns // 64
        for first in range(0, self.blocks, groups):
            words = min(groups, self.blocks - first) * LANES
            self.array.append(
                ArrayCommand(
                    self.index, i.head_width, words, w8=True, keys_values=True, pop_data=wait if first == 0 else 0
                )
            )
        keys = self.blocks * LANES
        self._vector(
            Vector.SCORES,
            keys,
            i.trace_p,
            slot=slot,
            row_block=rb,
            normalized=i.normalized,
            pop_parameters=rb == 0,
            push_data=1,
        )

    def _context(self, i: Attention, rb: int, slot: int, last: bool) -> None:
        self.array.append(
            ArrayCommand(
                self.index,
                self.blocks * LANES,
                i.head_width,
                w8=True,
                operand_unsigned=True,
                keys_values=True,
                pop_data=1,
            )
        )
        self._vector(
            Vector.CONTEXT,
            i.head_width,
            i.trace_context,
            slot=slot,
            row_block=rb,
            push_parameters_free=rb == self.blocks - 1,
            # all at the end: a token in between would stand for numerators that are not there yet
            push_data=self.blocks if last and i.signal else 0,
        )
