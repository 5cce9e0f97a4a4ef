# SPDX-License-Identifier: Apache-2.0
"""What fetch makes of a program: tile commands for the units, in order (docs/program.md, Expansion into tile commands).

The mirror of kernels/fetch.hpp without its addresses: what the cycle model needs to know of a command, that is how much
it moves or computes, and which tokens it pops before and pushes after. Tokens are counted, all of one kind alike:

    weights_ready, weights_free         expand -> array, array -> weights, one for each tile in the weight buffer
    parameters_ready, parameters_free   load -> vector and back, two slots
    data                                vector -> array, one for each row block of a result

A NORM after a GEMM to the residual runs row block by row block between that GEMM's last tiles, so that the array goes
on meanwhile. The three GEMMs of an ATTENTION run with it: heads of one column tile beside the projections of the next.
After an EXIT all runs over the row blocks that live.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from .directory import Directory, Tile, segments
from .instructions import (
    BEAT_BYTES,
    FIELD_POSITION,
    FIELD_TYPE,
    FIELD_WORD,
    FULL_SPAN,
    INSTRUCTION_BYTES,
    LANES,
    MAX_ROW_BLOCKS,
    NO_TRACE,
    RECORD_WORDS,
    SPAN_BYTES,
    TO_EXIT,
    TO_IO,
    TO_RESIDUAL,
    Attention,
    Embed,
    End,
    Exit,
    Gather,
    Gemm,
    Instruction,
    Keep,
    Loop,
    Norm,
    Refill,
    Rows,
    Table,
)
from .tile_commands import (
    ArrayCommand,
    ExpandCommand,
    Expansion,
    Load,
    LoadCommand,
    Source,
    StoreCommand,
    Vector,
    VectorCommand,
    WeightsCommand,
)
from .weight_buffer import WeightBuffer

SLOTS = 2
KEY_GROUPS = 2  # row blocks of keys in a tile of scores
# Rows of an embedding table that a row block reads, and bursts they come in, where nothing better is known: words all
# differ, positions follow each other, types are one.
GATHERS = {FIELD_WORD: (LANES, LANES), FIELD_POSITION: (LANES, 1), FIELD_TYPE: (1, 1)}


def expand(
    program: tuple[Instruction, ...],
    row_blocks: int,
    columns: int,
    directories: Mapping[int, Directory] | None = None,
    gathers: Mapping[tuple[int, int], tuple[int, int]] | None = None,
    verdicts: Sequence[int] | None = None,
    spans: Mapping[int, Sequence[int]] | None = None,
    queue: Sequence[int] | None = None,
) -> Expansion:
    """The tile commands of `program` for a pass of 1 .. 4 row blocks on an array of C = `columns` columns.

    `directories`: of the compressed matrices, by the image offset that GEMM and KEEP name. `gathers`: rows and bursts
    of each (field, row block), see `gathers_of`. `verdicts`: the row blocks, a bit each, in which each EXIT leaves a
    sentence, 0 ends the program; without them nobody leaves before the last ramp. `spans`: of each head, by the image
    offset that a banded ATTENTION names. `queue`: row blocks of each entry that a REFILL takes from; the commands then
    name instructions by their place in `executed`. Raises ValueError for a compressed matrix without directory, a
    banded attention without spans, an EXIT without verdict, and more entries than a REFILL says.
    """
    expander = _Expander(row_blocks, columns, directories or {}, gathers or {}, verdicts, spans or {}, queue or ())
    expander.run(program)
    expander.end()
    e = expander
    streams = (tuple(s) for s in (e.load, e.weights, e.expansions, e.array, e.vector, e.store))
    fetched = (expander.index + 1) * INSTRUCTION_BYTES if program else 0
    fetched += sum(e.directory_tiles.values()) * BEAT_BYTES
    return Expansion(
        *streams,
        fetched_bytes=fetched,
        directory_tiles=e.directory_tiles,
        exits=tuple(e.exits),
        ended=not e.live and not e.begun,
        executed=tuple(e.executed) if e.begun else (),
    )


def gathers_of(fields: Sequence[Sequence[int]]) -> dict[tuple[int, int], tuple[int, int]]:
    """Rows and bursts of each (field, row block): `fields` are the table rows [word, position, type][row] of a pass.

    Rows of neighbours that are the same are read once, those that follow each other in one burst.
    """
    found = {}
    for number, table_rows in enumerate(fields):
        for rb in range(len(table_rows) // LANES):
            lanes = [int(row) for row in table_rows[rb * LANES : (rb + 1) * LANES]]
            rows, bursts, at = 0, 0, 0
            while at < LANES:
                step = int(at + 1 < LANES and lanes[at + 1] == lanes[at] + 1)
                end = at + 1
                while end < LANES and lanes[end] == lanes[at] + step * (end - at):
                    end += 1
                rows, bursts, at = rows + (end - at if step else 1), bursts + 1, end
            found[number, rb] = rows, bursts
    return found


@dataclass(frozen=True)
class _Loads:
    """What a column tile's commands name: what is stored of it, None if not compressed, its first word in the weight
    buffer, None if it is zeros, and the parameter slot."""

    tile: Tile | None
    word: int | None
    slot: int


@dataclass
class _Expander:
    """The streams as they grow, and what fetch remembers."""

    blocks: int
    columns: int
    directories: Mapping[int, Directory]
    gathers: Mapping[tuple[int, int], tuple[int, int]]
    verdicts: Sequence[int] | None
    spans: Mapping[int, Sequence[int]]
    queue: Sequence[int]
    index: int = 0  # of the instruction, among those that were executed
    executed: list[Instruction] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of these in the program
    begun: bool = False  # a queue's first sentence is there
    head: int = 0  # the next of the queue
    over: bool = False  # its end has been read
    steps: int = 0  # LOOPs
    old: tuple[int, ...] = ()  # row blocks that lived when the last sentences came
    section_end: int | None = None  # in the program: where these join the others
    depth: dict[int, int] = field(default_factory=dict)  # EXITs that a row block's sentences have passed, if counted
    owed: int = 0  # tokens that the array's next command takes before it begins
    live: tuple[int, ...] = ()  # row blocks in which a sentence is left
    exits: list[int] = field(default_factory=list)
    norm_index: int = -1  # a NORM that has been expanded within the GEMM before it
    held: list[tuple[int, Gemm]] = field(default_factory=list)  # GEMMs of the attention to come, with their index
    buffer: WeightBuffer = field(default_factory=WeightBuffer)
    vector_loads: int = 0
    pushed: int = 0  # tokens of data, by the commands so far
    popped: int = 0
    items: int = 0  # of an attention whose scores have been sent
    scored: list[tuple[int, int]] = field(default_factory=list)  # those without context, and tokens up to their scores
    directory_tiles: dict[int, int] = field(default_factory=dict)
    load: list[LoadCommand] = field(default_factory=list)
    weights: list[WeightsCommand] = field(default_factory=list)
    expansions: list[ExpandCommand] = field(default_factory=list)
    array: list[ArrayCommand] = field(default_factory=list)
    vector: list[VectorCommand] = field(default_factory=list)
    store: list[StoreCommand] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.live = tuple(range(self.blocks))

    def run(self, program: Sequence[Instruction]) -> None:
        """Expand what is executed, in that order."""
        at = 0
        while at < len(program):
            instruction = program[at]
            self.index = len(self.executed)
            self.executed.append(instruction)
            self.places.append(at)
            if isinstance(instruction, End):
                break
            if self.norm_index != self.index:
                if at == self.section_end:
                    self._join()
                following = program[at + 1] if at + 1 < len(program) else None
                self.instruction(instruction, following)
            at += 1
            match instruction:
                case Refill():
                    at += self._refill(instruction, at)
                case Loop():
                    self.steps += 1
                    at = instruction.target if self.steps < instruction.steps else len(program)
            refilled = isinstance(instruction, Loop) or (isinstance(instruction, Exit) and instruction.counted)
            if not self.live and not refilled:
                break

    def rows(self, i: Instruction) -> tuple[int, ...]:
        """The row blocks that `i` runs over: the live ones, or the result block."""
        of_all = i.blocks(MAX_ROW_BLOCKS) == MAX_ROW_BLOCKS
        return self.live if of_all else (0,)

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
                self._norm(i, Vector.NORM)
            case Gather():
                self._norm(i, Vector.GATHER)
            case Keep():
                self._keep(i)
            case Gemm(grouped=True):
                self.held.append((self.index, i))
            case Gemm(destination=destination) if destination == TO_RESIDUAL and isinstance(following, Norm):
                self._gemm(i, following)
            case Gemm():
                self._gemm(i)
            case Attention():
                self._attention(i)
            case Exit():
                self._exit(i)

    def _refill(self, i: Refill, behind: int) -> int:
        """Sentences of the queue to the first row blocks that are free side by side; the instructions to pass over,
        those for the new ones if there are none. behind: index in the program of the next instruction."""
        if i.entries < len(self.queue):
            raise ValueError(f"instruction {self.index}: a queue of {i.entries} entries, {len(self.queue)} are given")
        old, fresh, looked = self.live if self.begun else (), [], 0
        while self.head < len(self.queue):
            count, taken = self.queue[self.head], {*old, *fresh}
            free = (rb for rb in range(MAX_ROW_BLOCKS - count + 1) if taken.isdisjoint(range(rb, rb + count)))
            first, looked = next(free, None), looked + 1
            if first is None:
                break
            place = {"row_block": first, "first": not self.begun}
            self._copied(Vector.COPY_ROWS, Load.ROWS, 2 + count * LANES, **place)
            fresh += range(first, first + count)
            self.head, self.begun = self.head + 1, True
        if self.head == len(self.queue) < i.entries and not self.over:
            looked, self.over = looked + 1, True  # the entry that ends it
        self.directory_tiles[self.index] = looked
        self.depth |= dict.fromkeys(fresh, 0)
        self.old, self.live = old, tuple(sorted(fresh)) or old
        self.section_end = behind + i.section if fresh else None
        return 0 if fresh else i.section

    def _join(self) -> None:
        """The new row blocks join the others; their tokens are the next product's."""
        self.live = tuple(sorted({*self.old, *self.live}))
        self.owed, self.section_end = self.pushed - self.popped, None

    def end(self) -> None:
        """END: load and weights take back the credits that are out, store answers fetch."""
        self.load.append(LoadCommand(self.index, Load.DRAIN, 0, pop_parameters_free=min(self.vector_loads, SLOTS)))
        self.weights.append(WeightsCommand(self.index, Source.DRAIN, pop_weights_free=len(self.buffer.live)))
        self.store.append(StoreCommand(self.index, end=True))

    def _tiles(self, i: Gemm | Keep) -> list[Tile | None]:
        """What is stored of each column tile; None where the matrix is not compressed."""
        width = self.columns // 2 if isinstance(i, Gemm) and i.w8 else self.columns
        count = -(-i.n // width)
        if isinstance(i, Gemm) and not i.compressed:
            return [None] * count
        if i.weights not in self.directories:
            raise ValueError(
                f"instruction {self.index}: compressed weights at {i.weights}, whose directory is not given"
            )
        self.directory_tiles[self.index] = count
        return list(self.directories[i.weights])

    def _weights(self, i: Gemm, tile: Tile | None, before: int) -> int | None:
        """Bring one tile of weights; its first word, None for a tile of zeros."""
        if tile is not None and tile.zero:
            return None
        steps = i.k if tile is None else tile.steps(i.k)
        word, freed = self.buffer.place(steps)
        self.weights.append(
            WeightsCommand(
                self.index,
                Source.RESIDENT if i.resident else Source.MEMORY,
                steps if tile is None else tile.beats,
                steps,
                i.stored + before if i.resident else 0,
                self.columns // 32,
                1 if tile is None else segments(steps),
                compressed=tile is not None,
                pop_weights_free=freed,
                place=self.places[self.index],
            )
        )
        self.expansions.append(ExpandCommand(self.index, steps, word))
        return word

    def _keep(self, i: Keep) -> None:
        ports, word = self.columns // 32, i.resident
        for tile in self._tiles(i):
            if not tile.zero:
                self.weights.append(WeightsCommand(self.index, Source.KEEP, tile.beats, resident=word, ports=ports))
                word += tile.beats

    def _parameters(self, kind: Load, beats: int, rows: int = 1, bursts: int = 1) -> int:
        """Load something for the vector unit; its slot."""
        slot = self.vector_loads % SLOTS
        free = int(self.vector_loads >= SLOTS)
        self.load.append(LoadCommand(self.index, kind, beats, slot, rows, bursts, free))
        self.vector_loads += 1
        return slot

    def _vector(self, kind: Vector, words: int, trace: int = NO_TRACE, wide: bool = False, **rest) -> None:
        """One vector command, and the store of what it produces if that is traced."""
        tee = trace != NO_TRACE
        self.pushed += rest.get("push_data", 0)
        self.vector.append(VectorCommand(self.index, kind, words, tee=tee, **rest))
        if tee:
            stored = rest["width"] if kind is Vector.NORM else words  # channels, not entries
            self.store.append(StoreCommand(self.index, stored, wide))

    def _copied(self, kind: Vector, load: Load, beats: int, **rest) -> None:
        slot = self._parameters(load, beats)
        self._vector(kind, 2 * beats, slot=slot, pop_parameters=True, push_parameters_free=True, **rest)

    def _embed(self, i: Embed) -> None:
        for rb in self.live:
            gather = self.gathers.get((i.field, rb), GATHERS[i.field])
            slot = self._parameters(Load.EMBEDDING, i.row_bytes // BEAT_BYTES, *gather)
            fields = {"slot": slot, "row_block": rb, "width": i.row_bytes // BEAT_BYTES, "first": i.first}
            fields |= {"adaptive": i.adaptive, "pop_parameters": True, "push_parameters_free": True}
            self._vector(Vector.EMBED, i.width, i.trace, True, **fields)

    def _norm(self, i: Norm | Gather, kind: Vector) -> None:
        slot = self._parameters(Load.PARAMETERS, -(-i.entries // 2))
        for n in range(len(self.rows(i))):
            self._norm_block(i, kind, slot, n)

    def _norm_block(self, i: Norm | Gather, kind: Vector, slot: int, n: int) -> None:
        """The n-th of its row blocks."""
        rows = self.rows(i)
        self._vector(
            kind,
            i.entries,
            i.trace,
            kind is Vector.NORM,
            slot=slot,
            row_block=rows[n],
            width=i.width,
            plain=isinstance(i, Norm) and i.plain,
            pop_parameters=n == 0,
            push_parameters_free=n == len(rows) - 1,
            push_data=int(i.signal),
        )

    def _gemm(self, i: Gemm, norm: Norm | None = None) -> None:
        """A linear layer; `norm` follows its residual, row block by row block behind the last tile's."""
        tiles = self._tiles(i)
        for ct in range(len(tiles)):
            last = ct == len(tiles) - 1
            loads = self._tile_loads(i, ct, tiles)
            norm_slot = 0
            if last and norm is not None:
                with self._at(self.index + 1):
                    norm_slot = self._parameters(Load.PARAMETERS, -(-norm.entries // 2))
                    self.norm_index = self.index
            for n in range(len(self.rows(i))):
                self._tile(i, ct, n, loads, push=int(last and i.signal))
                if last and norm is not None:
                    with self._at(self.index + 1):
                        self._norm_block(norm, Vector.NORM, norm_slot, n)

    @contextmanager
    def _at(self, index: int) -> Iterator[None]:
        """Commands belong to instruction `index` meanwhile."""
        before, self.index = self.index, index
        yield
        self.index = before

    def _tile_loads(self, i: Gemm, ct: int, tiles: Sequence[Tile | None]) -> _Loads:
        """Weights and parameters of column tile `ct`."""
        width = self.columns // 2 if i.w8 else self.columns
        words = min(width, i.n - ct * width)
        before = sum(tile.beats for tile in tiles[:ct] if tile is not None)
        word = self._weights(i, tiles[ct], before)
        return _Loads(tiles[ct], word, self._parameters(Load.PARAMETERS, -(-words // 2)))

    def _product(self, i: Gemm, ct: int, n: int, word: int | None, tile: Tile | None) -> int:
        """The array's part of column tile `ct` in the n-th of its row blocks; the words that are drained."""
        width = self.columns // 2 if i.w8 else self.columns
        words = min(width, i.n - ct * width)
        zero = word is None
        bound = 0 if tile is None else tile.bound
        self._array(
            1 if zero else i.k if tile is None else tile.steps(i.k),
            words,
            w8=i.w8,
            operand_unsigned=i.operand_unsigned,
            weights=word or 0,
            pop_weights_ready=n == 0 and not zero,
            push_weights_free=n == len(self.rows(i)) - 1 and not zero,
            pop_data=i.wait if ct == 0 else 0,
            zero=zero,
            bound=bound,
        )
        return words

    def _tile(self, i: Gemm, ct: int, n: int, loads: _Loads, push: int) -> None:
        """Column tile `ct` in the n-th of its row blocks."""
        words, rows = self._product(i, ct, n, loads.word, loads.tile), self.rows(i)
        trace = i.dst if i.destination == TO_IO else i.trace
        self._vector(
            Vector.LINEAR,
            words,
            trace,
            i.destination in (TO_IO, TO_RESIDUAL),
            slot=loads.slot,
            row_block=rows[n],
            destination=i.destination,
            first=ct == 0,
            branch=i.branch,
            pop_parameters=n == 0,
            push_parameters_free=n == len(rows) - 1,
            push_data=push,
        )

    def _exit(self, i: Exit) -> None:
        """An off-ramp, its logits tile by tile and then the record; then who is left."""
        product = i.product()
        tiles = self._tiles(product)
        for ct in range(len(tiles)):
            loads = self._tile_loads(product, ct, tiles)
            words, last = self._product(product, ct, 0, loads.word, loads.tile), ct == len(tiles) - 1
            credits = {"slot": loads.slot, "pop_parameters": True, "push_parameters_free": True}
            self._vector(
                Vector.LINEAR, words, i.logits, True, destination=TO_EXIT, first=ct == 0, last_tile=last, **credits
            )
            if last:
                self.store.append(StoreCommand(self.index, RECORD_WORDS, True))
        self.exits.append(self.index)
        if i.counted:
            self.depth = {rb: self.depth[rb] + 1 for rb in self.live}
        if self.verdicts is None:
            stay = [rb for rb in self.live if not (self.depth[rb] >= i.layer if i.counted else i.last)]
            left = sum(1 << rb for rb in stay)
        elif len(self.exits) > len(self.verdicts):
            raise ValueError(f"instruction {self.index}: no verdict is given for this EXIT")
        else:
            left = self.verdicts[len(self.exits) - 1]
        self.live = tuple(rb for rb in self.live if left >> rb & 1)

    def _array(self, k: int, words: int, **rest) -> None:
        if self.owed:
            rest["pop_data"] = rest.get("pop_data", 0) + self.owed
            self.owed = 0
        self.array.append(ArrayCommand(self.index, k, words, **rest))
        self.popped += rest.get("pop_data", 0)

    def _attention(self, i: Attention) -> None:
        """The heads of a column tile beside the projections of the next, or all of them where no GEMM is held.

        Items are (head, row block), head outer. Of the items of a group, as many have run after step s of its S tiles
        as s + 1 is of S, two at a time.
        """
        gemms, self.held = self.held, []
        beats = i.heads * -(-(1 + i.head_width) // 2)
        if i.banded:
            self.directory_tiles[self.index] = SPAN_BYTES // BEAT_BYTES
        slot = self._parameters(Load.PARAMETERS, beats)
        self._vector(Vector.COPY_HEADS, 2 * beats, slot=slot, pop_parameters=True, push_parameters_free=True)
        directories = []
        for index, gemm in gemms:
            with self._at(index):
                directories.append(self._tiles(gemm))
        heads = self.columns // i.head_width if gemms else i.heads
        groups = -(-i.heads // heads)
        self.items, self.scored = 0, []
        for group in range(groups + 1):
            steps = 3 * len(self.live) if gemms and group < groups else 0
            until = min(heads * group, i.heads) * len(self.live)
            count = until - self.items
            # keys and values of the group, by the tokens up to here
            ready = self.pushed if gemms else self.popped + i.wait * len(self.live)
            for step in range(steps):
                at, n = divmod(step, len(self.live))
                index, gemm = gemms[at]
                with self._at(index):
                    if n == 0:
                        loads = self._tile_loads(gemm, group, directories[at])
                    # the scores of the group wait for all of it
                    self._tile(gemm, group, n, loads, push=int(step == steps - 1))
                due = until - count + count * (step + 1) // steps
                if due - self.items >= 2 or step == steps - 1:
                    self._hidden_items(i, due, ready)
            while self.items < until:
                self._item(i, ready)
        while self.scored:
            self._context(i, last=len(self.scored) == 1)

    def _hidden_items(self, i: Attention, until: int, ready: int) -> None:
        """Items beside projections: contexts go first, since their K steps are more than the scores', so that the array
        waits less for the drain of the tile before; and two by two, so that it does so less often."""
        while self.items < until:
            while self.scored:
                self._context(i)
            for _ in range(min(2, until - self.items)):
                self._scores(i, ready)

    def _item(self, i: Attention, ready: int) -> None:
        """An item with nothing beside it: scores of one run ahead of the context of the one before, so that the array
        has work while the vector unit is at the softmax."""
        while len(self.scored) >= 2:
            self._context(i)
        self._scores(i, ready)
        if len(self.scored) >= 2:
            self._context(i)

    def _keys(self, i: Attention, item: int) -> tuple[int, int, int, int]:
        """Of an item (head, live row block): its row block, its span, and the row blocks of keys that come near enough
        (Q23), from the first to before the end; none lies beyond the last live one."""
        head, n = divmod(item, len(self.live))
        rb, span = self.live[n], FULL_SPAN
        if i.banded:
            if i.spans not in self.spans:
                raise ValueError(f"instruction {self.index}: no spans are given for image offset {i.spans}")
            span = self.spans[i.spans][head]
        first = max(rb * LANES - (span - 1), 0) // LANES
        end = min((rb * LANES + LANES - 1 + span - 1) // LANES, self.live[-1]) + 1
        return rb, span, first, end

    def _scores(self, i: Attention, ready: int) -> None:
        """Scores of the next item, which need the first `ready` tokens."""
        rb, span, first, end = self._keys(i, self.items)
        aligned = first // KEY_GROUPS * KEY_GROUPS  # row blocks share words of the key memory two by two
        for at in range(aligned, end, KEY_GROUPS):
            words = min(KEY_GROUPS, end - at) * LANES
            pop = max(ready - self.popped, 0)
            self._array(i.head_width, words, w8=True, keys_values=True, pop_data=pop)
        self._vector(
            Vector.SCORES,
            (end - aligned) * LANES,
            i.trace_p,
            row_block=rb,
            normalized=i.normalized,
            span=span,
            key_block=aligned,
            push_data=1,
        )
        self.scored.append((self.items, self.pushed))
        self.items += 1

    def _context(self, i: Attention, last: bool = False) -> None:
        """Context of the oldest item that has its scores."""
        item, scored = self.scored.pop(0)
        rb, _, first, end = self._keys(i, item)
        self._array(
            (end - first) * LANES,
            i.head_width,
            w8=True,
            operand_unsigned=True,
            keys_values=True,
            # the token of this item's scores and all before it, whatever was taken already
            pop_data=max(scored - self.popped, 0),
        )
        self._vector(
            Vector.CONTEXT,
            i.head_width,
            i.trace_context,
            row_block=rb,
            # all at the end: a token in between would stand for numerators that are not there yet
            push_data=len(self.live) if last and i.signal else 0,
        )
