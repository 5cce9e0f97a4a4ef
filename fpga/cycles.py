# SPDX-License-Identifier: Apache-2.0
"""Cycle model: how long a program takes on a board. Every figure is modelled (docs/assumptions.md), none measured.

The units run the very tile commands that fetch would send them (expansion.py), each in order, and meet through counted
tokens and the accumulator stream, as in docs/program.md. A unit, and fetch, is a generator that yields while what it
waits for has not been produced; times travel with the tokens, so the order in which the generators run does not matter.

A loop of n trips takes depth + II·(n − 1) cycles. Its trips are counted under the kernels' own loop names
(kernels/loops.hpp); a test holds them against what the simulated kernels count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from .assumptions import DEPTHS, assumed
from .boards import Board
from .cycle_account import Timeline
from .cycle_array import ArrayTimes
from .cycle_streams import Accumulators, CycleModelDeadlock, Tokens, Waiting
from .directory import Directory
from .expansion import expand
from .instructions import (
    BEAT_BYTES,
    INSTRUCTION_BYTES,
    LANES,
    MASK_CHANNELS,
    RECORD_WORDS,
    TO_ACTIVATION,
    TO_EXIT,
    TO_KEYS,
    TO_VALUES,
    Attention,
    Gather,
    Gemm,
    Instruction,
    Norm,
    Refill,
)
from .tile_commands import (
    ArrayCommand,
    Expansion,
    Load,
    LoadCommand,
    Source,
    StoreCommand,
    Vector,
    VectorCommand,
    WeightsCommand,
)

UNITS = ("load", "weights", "array", "vector", "store")
MEMORIES = ("weights", "activations", "keys and values", "accumulators", "resident")
TABLE_BEATS = 16
AWAITED = {Norm: "a layer norm", Gather: "the result rows"}
OPERANDS = (Vector.SCORES, Vector.CONTEXT, Vector.NORM, Vector.GATHER)  # what they make the array reads


@dataclass(frozen=True)
class Model:
    """The assumptions that the cycle model runs on, in cycles unless their name says otherwise (assumptions.py).

    `array_interval` is the array's cycles a K step: 1, but for an array of fewer multipliers than 32·C (reference.py).
    `ii` is of every loop, `vector_ii` of the vector unit's where they take more. `serial`: no command begins while one
    of another unit runs, as if nothing overlapped; fetch alone runs ahead (sensitivity.py).
    """

    depths: dict[str, int] = field(default_factory=lambda: {name: depth for name, (depth, _) in DEPTHS.items()})
    ii: int = int(assumed("ii"))
    command_overhead: int = int(assumed("command_overhead"))
    loop_overhead: int = int(assumed("loop_overhead"))
    array_overhead: int = int(assumed("array_overhead"))
    array_start: int = int(assumed("array_start"))
    array_shortest: int = int(assumed("array_shortest"))
    array_depth: int = int(assumed("array_depth"))
    array_interval: float = 1.0
    drain_overlap: bool = bool(assumed("drain_overlap"))
    accumulator_tiles: int = int(assumed("accumulator_tiles"))
    token_latency: int = int(assumed("token_latency"))
    fetch_command_cycles: int = int(assumed("fetch_command_cycles"))
    ddr_bytes_per_second: float = assumed("ddr_peak_gb_s") * 1e9 * assumed("ddr_efficiency")
    port_bytes: int = int(assumed("port_bytes"))
    axi_read_latency_ns: float = assumed("axi_read_latency_ns")
    axi_write_latency_ns: float = assumed("axi_write_latency_ns")
    gather_overlap: bool = bool(assumed("gather_overlap"))
    start_done_cycles: int = int(assumed("start_done_cycles"))
    vector_ii: int = int(assumed("ii"))
    serial: bool = False

    @property
    def vector_interval(self) -> int:
        """Cycles a trip of the vector unit's loops."""
        return max(self.ii, self.vector_ii)


@dataclass(frozen=True)
class Share:
    """What one kind of instruction costs: its part of the pass, and how long each unit worked for it (cycles)."""

    cycles: int
    busy: dict[str, int]

    @property
    def bound(self) -> str:
        """The unit that worked longest for it."""
        return max(UNITS, key=lambda unit: self.busy.get(unit, 0))


@dataclass(frozen=True)
class Mark:
    """What a pass has counted until fetch has a verdict: the cycle, and of all up to that EXIT the same as Timing."""

    cycles: int
    busy: dict[str, int]
    accesses: dict[str, int]
    ddr_bytes: int


@dataclass(frozen=True)
class Timing:
    """What a pass costs, modelled.

    `busy`: cycles each unit works. `stall`: cycles it waits, by "unit.reason". `trips`: by loop name. `shares`: by kind
    of instruction; their cycles sum to `cycles`. `macs`: asked for by the program, rows padded to 32;
    `array_macs_executed`: what the array's multipliers did meanwhile, idle columns and the halves of w8 included.
    `accesses`: words read and written, by memory. `data_waits`: stall "array.data", by what is waited for. `verdicts`:
    the cycle at which fetch has the verdict of each EXIT, in order; `marks`: what is counted until then.
    """

    cycles: int
    clock_mhz: float
    busy: dict[str, int]
    stall: dict[str, int]
    trips: dict[str, int]
    shares: dict[str, Share]
    ddr_bytes_read: int
    ddr_bytes_written: int
    macs: int
    array_macs_executed: int
    accesses: dict[str, int]
    data_waits: dict[str, int]
    verdicts: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()

    @property
    def seconds(self) -> float:
        """Time of the pass in seconds."""
        return self.cycles / (self.clock_mhz * 1e6)


def simulate(
    program: Sequence[Instruction],
    row_blocks: int,
    board: Board,
    clock_mhz: float,
    model: Model | None = None,
    directories: Mapping[int, Directory] | None = None,
    gathers: Mapping[tuple[int, int], tuple[int, int]] | None = None,
    verdicts: Sequence[int] | None = None,
    spans: Mapping[int, Sequence[int]] | None = None,
    timeline: Timeline | None = None,
    queue: Sequence[int] | None = None,
) -> Timing:
    """Time of one pass of `row_blocks` (1 .. 4) row blocks through `program` on `board` at `clock_mhz`.

    `directories`, `gathers`, `verdicts`, `spans` and `queue` as in expansion.expand. `timeline`: an empty one, which is
    filled with what each unit did and when. Raises CycleModelDeadlock where the program's tokens do not balance,
    ValueError where a tile is wider than the array.
    """
    expansion = expand(tuple(program), row_blocks, board.columns, directories, gathers, verdicts, spans, queue)
    program = expansion.executed or program
    for c in expansion.array:
        columns = board.columns // 2 if c.w8 else board.columns
        if c.words > columns:
            raise ValueError(f"instruction {c.instruction}: a tile of {c.words} columns on an array of {columns}")
    return _Pass(tuple(program), expansion, board, clock_mhz, model or Model(), timeline or Timeline()).run()


class _Pass:
    """One pass: the units' processes and what they count."""

    def __init__(
        self,
        program: Sequence[Instruction],
        expansion: Expansion,
        board: Board,
        clock: float,
        model: Model,
        timeline: Timeline,
    ):
        self.program, self.expansion, self.board, self.clock, self.model = program, expansion, board, clock, model
        self.timeline = timeline
        self.weights_ready, self.weights_free = Tokens(), Tokens()
        self.parameters_ready, self.parameters_free = Tokens(), Tokens()
        self.data, self.stored = Tokens(), Tokens()
        self.verdicts = Tokens()
        self.answered: list[int] = []  # when fetch has each verdict
        self.accumulators = Accumulators(model.accumulator_tiles * board.columns)
        self.teed: list[tuple[int, int]] = []  # first and last cycle of each command that also feeds store
        self.issued: dict[
            int | None, int
        ] = {}  # when fetch begins to send an instruction's commands, None: those of END
        self.trips: Counter[str] = Counter()
        self.stall: Counter[str] = Counter()
        self.busy = [Counter() for _ in range(max(len(program), 1))]  # by instruction
        self.finish = [0] * max(len(program), 1)
        self.last = dict.fromkeys(UNITS, 0)
        self.data_waits: Counter[str] = Counter()
        self.steps = 0
        self.turn = 0  # the end of the last command of any unit

    def run(self) -> Timing:
        units = {
            "fetch": self._fetch(),
            "load": self._load(),
            "weights": self._weights(),
            "array": self._array(),
            "vector": self._vector(),
            "store": self._store(),
        }
        while units:
            before = self.steps, len(self.accumulators.read_words)
            for name in list(units):
                if next(units[name], "done") == "done":
                    del units[name]
                    self.steps += 1
            if (self.steps, len(self.accumulators.read_words)) == before:
                stuck = ", ".join(units)
                raise CycleModelDeadlock(f"no command of {stuck} can start: the program's tokens do not balance")
        return self._timing()

    # Time

    def _cycles(self, seconds: float) -> int:
        return math.ceil(seconds * self.clock * 1e6 - 1e-9)

    def _loop(self, name: str, trips: int) -> int:
        """Cycles of a loop; counts its trips."""
        self.trips[name] += trips
        ii = self.model.ii if name == "load_neighbours" else self.model.vector_interval
        return self.model.depths[name] + ii * (trips - 1) if trips else 0

    def _fetch(self) -> Waiting:
        """Fetch reads an instruction, sends its commands, reads the next; those of a GEMM once it has read the one
        after it, those of an attention's GEMMs with the attention's. After an EXIT it waits for the verdict."""
        e = self.expansion
        sent = [Counter(c.instruction for c in stream) for stream in (e.load, e.weights, e.array, e.vector, e.store)]
        latency = self._cycles(self.model.axi_read_latency_ns * 1e-9)
        now, waiting, index = self.model.start_done_cycles, [], 0
        count = max(len(self.program), 1)
        over = False
        while index < count and not over:
            now += latency + INSTRUCTION_BYTES // BEAT_BYTES
            held = index + 1 < count and isinstance(self.program[index], Gemm)
            waiting.append(index)
            if not (held and self.program[index].grouped):
                for sending in waiting[: len(waiting) - held]:
                    if sending in e.directory_tiles:
                        reads = e.directory_tiles[sending]  # beats of a directory follow each other, entries do not
                        now += reads * (latency + 1) if self._refills(sending) else latency + reads
                    self._issue(sending, now)
                    now += self.model.fetch_command_cycles * max(counts[sending] for counts in sent)
                waiting = waiting[len(waiting) - held :]
            if index in e.exits:
                now = max(now, (yield from self.verdicts.take(1)))
                self.answered.append(now)
                over = index == e.exits[-1] and e.ended
            index += 1
        self._issue(None, now if over else self.issued[count - 1])
        return now

    def _refills(self, index: int) -> bool:
        return isinstance(self.program[index], Refill)

    def _issue(self, index: int | None, now: int) -> None:
        self.issued[index] = now
        self.steps += 1

    def _sent(self, c: LoadCommand | WeightsCommand | ArrayCommand | VectorCommand | StoreCommand) -> Waiting:
        """The cycle from which a command is there."""
        last = getattr(c, "end", False) or getattr(c, "kind", None) is Load.DRAIN
        index = None if last or getattr(c, "source", None) is Source.DRAIN else c.instruction
        while index not in self.issued:
            yield
        return self.issued[index]

    def _wait(self, reason: str, now: int, ready: int) -> int:
        """The later of two cycles; what lies between counts as a stall."""
        if ready > now:
            self.stall[reason] += ready - now
            self.timeline.waited(reason, now, ready)
        return max(now, ready)

    def _turn(self, unit: str, now: int, overhead: int) -> int:
        """With `serial`, the cycle from which a command may begin after the last one of any unit."""
        return self._wait(f"{unit}.turn", now, self.turn + overhead) if self.model.serial else now

    def _awaited(self, index: int) -> str:
        """What makes the data that the array takes for instruction `index`."""
        if index == self.expansion.array[0].instruction:
            return "embedding"
        if isinstance(self.program[index], Attention):
            return "softmax"
        before = (self.program[n] for n in range(index - 1, -1, -1))
        giver = next((i for i in before if i.signal), None)
        return "the last heads" if isinstance(giver, Attention) else AWAITED.get(type(giver), "the product before")

    def _done(self, unit: str, instruction: int, busy: int, end: int) -> None:
        self.steps += 1
        self.busy[instruction][unit] += busy
        self.last[unit] = end
        self.turn = max(self.turn, end)
        if unit not in ("load", "weights"):  # they run ahead; what they delay shows in the units that wait for them
            self.finish[instruction] = max(self.finish[instruction], end)

    # Units

    def _load(self) -> Waiting:
        now = 0
        for c in self.expansion.load:
            now = max(now, (yield from self._sent(c))) + self.model.command_overhead
            now = self._wait("load.slot", now, (yield from self.parameters_free.take(c.pop_parameters_free)))
            now = self._turn("load", now, self.model.command_overhead)
            cycles = self._load_cycles(c)
            now += cycles
            self._done("load", c.instruction, cycles, now)
            if c.kind is not Load.DRAIN:
                self.parameters_ready.put(now + self.model.token_latency)
        return now

    def _burst(self, beats: int, ports: int) -> int:
        """Cycles of `beats` beats on each of `ports` ports: the ports bind, one beat a cycle each, or the DDR."""
        return max(
            math.ceil(beats * BEAT_BYTES / self.model.port_bytes) * self.model.ii,
            self._cycles(ports * beats * BEAT_BYTES / self.model.ddr_bytes_per_second),
        )

    def _load_cycles(self, c: LoadCommand) -> int:
        if c.kind is Load.DRAIN:
            return 0
        name = f"load_{c.kind.value}"
        self.trips[name] += c.rows * c.beats
        latency = self._cycles(self.model.axi_read_latency_ns * 1e-9)
        finding = self._loop("load_neighbours", LANES) if c.kind is Load.EMBEDDING else 0
        waits = 1 if self.model.gather_overlap else c.bursts
        between = (c.bursts - (not finding)) * self.model.loop_overhead
        return finding + between + waits * latency + self._burst(c.rows * c.beats, 1) + self.model.depths[name] - 1

    def _weights(self) -> Waiting:
        """Weights and, right behind it, expand: they hold each other back, so that they are timed as one."""
        now = 0
        for c in self.expansion.weights:
            now = max(now, (yield from self._sent(c))) + self.model.command_overhead
            now = self._wait("weights.slot", now, (yield from self.weights_free.take(c.pop_weights_free)))
            now = self._turn("weights", now, self.model.command_overhead)
            cycles = self._weights_cycles(c)
            now += cycles
            self._done("weights", c.instruction, cycles, now)
            if c.source in (Source.MEMORY, Source.RESIDENT):
                self.weights_ready.put(now + self.model.token_latency)
        return now

    def _weights_cycles(self, c: WeightsCommand) -> int:
        if c.source is Source.DRAIN:
            return 0
        self.trips["load_weights"] += c.beats
        self.trips["expand_words"] += c.k
        latency = self._cycles(self.model.axi_read_latency_ns * 1e-9) if c.source is not Source.RESIDENT else 0
        burst = c.beats * self.model.ii if c.source is Source.RESIDENT else self._burst(c.beats, c.ports)
        between = (c.pieces - 1) * (self.model.depths["expand_words"] + self.model.loop_overhead)
        expanding = self.model.depths["expand_words"] + c.k * self.model.ii + between if c.k else 0
        return latency + self.model.depths["load_weights"] - 1 + max(burst, expanding)

    def _array(self) -> Waiting:
        m = self.model
        times = ArrayTimes(m.array_depth, m.array_shortest, m.array_overhead, m.drain_overlap)
        for c in self.expansion.array:
            # Whatever a tile waits for, array_start cycles go by from its coming to the first operand.
            now = max(times.free, (yield from self._sent(c)) + m.array_start)
            weights = yield from self.weights_ready.take(int(c.pop_weights_ready))
            now = self._wait("array.weights", now, weights + m.array_start)
            came = self._wait("array.data", now, (yield from self.data.take(c.pop_data)) + m.array_start)
            self.data_waits[self._awaited(c.instruction)] += came - now
            now = came
            now = self._wait("array.credit", now, (yield from self.accumulators.room(c.words)) + m.array_start)
            now = self._turn("array", now, m.array_start)
            steps = math.ceil(c.k * m.array_interval * m.ii)
            now = self._wait("array.drain", now, times.drain_free(steps))
            first = times.begin(now, steps, c.words)
            self.timeline.worked("array", c.instruction, now, now + steps)
            self.timeline.waited("array.drain", now + steps, times.free)
            if c.push_weights_free:
                self.weights_free.put(now + steps + m.token_latency)
            self.trips["array_mac"] += c.k
            self.trips["array_drain"] += c.words
            self.accumulators.send(first, c.words)
            self._done("array", c.instruction, steps, times.drained)
        return times.drained

    def _vector(self) -> Waiting:
        m, now = self.model, 0
        stores = iter(self.expansion.store)
        for c in self.expansion.vector:
            now = max(now, (yield from self._sent(c))) + m.command_overhead
            ready = yield from self.parameters_ready.take(int(c.pop_parameters))
            now = self._wait("vector.parameters", now, ready)
            store = next(stores) if c.tee else None
            if store is not None and self.teed:  # one traced command at a time
                now = self._wait("vector.store", now, (yield from self.stored.take(1)))
            if m.serial:
                yield from self.accumulators.sent_for(c.accumulators)
                now = self._turn("vector", now, m.command_overhead)
            begin = start = now
            waited = 0
            if c.destination == TO_EXIT:
                start, now, waited = yield from self._vector_exit(c, store, stores, now)
            elif c.accumulators:
                now, waited = yield from self._vector_accumulators(c, store, now)
            else:
                now = self._vector_alone(c, store, now)
            self.stall["vector.accumulators"] += waited
            if store is not None:
                self.teed.append((start, now))
            if c.push_parameters_free:
                self.parameters_free.put(now + m.token_latency)
            for _ in range(c.push_data):
                self.data.put(now + m.token_latency)
            self._done("vector", c.instruction, now - start - waited, now)
            self.timeline.worked("vector", c.instruction, begin, now)
        return now

    def _vector_exit(
        self, c: VectorCommand, store: StoreCommand, stores: Iterator[StoreCommand], now: int
    ) -> Generator[None, None, tuple[int, int, int]]:
        """Logits of an off-ramp, lane by lane, and after the last ones entropies, verdict and record.

        The cycle from which its (last) words go to store, its end, and the cycles it waited.
        """
        m, start = self.model, now
        last, waited = yield from self.accumulators.receive(now, c.words, max(LANES * m.vector_interval, _beats(store)))
        self.trips["exit_logits"] += c.words * LANES
        now = last + (LANES - 1) * m.vector_interval + m.depths["exit_logits"]
        if not c.last_tile:
            return start, now, waited
        self.teed.append((start, now))
        self._done("vector", c.instruction, now - start - waited, now)
        record = next(stores)
        now += m.loop_overhead + self._loop("exit_entropy", LANES)
        self.verdicts.put(now + m.token_latency)
        written = yield from self.stored.take(1)
        begin = self._wait("vector.store", now + m.loop_overhead, written)
        return begin, begin + self._loop("exit_record", RECORD_WORDS) + _slower(record, RECORD_WORDS), 0

    def _vector_accumulators(
        self, c: VectorCommand, store: StoreCommand | None, now: int
    ) -> Generator[None, None, tuple[int, int]]:
        """A command that reads the array's words; its end, and the cycles it waited for them."""
        scores = c.kind is Vector.SCORES
        interval = max(self.model.vector_interval, 1 if scores else _beats(store))
        last, waited = yield from self.accumulators.receive(now, c.words, interval)
        if scores:
            self.trips["vector_scores"] += c.words
            return self._softmax(c, store, last + self.model.depths["vector_scores"]), waited
        name = "vector_linear"
        extra = 0
        if c.kind is Vector.CONTEXT:
            name = "vector_context"
        elif c.corner_turn:
            name, extra = "vector_turn", LANES
        self.trips[name] += c.words + extra
        return last + extra * self.model.vector_interval + self.model.depths[name], waited

    def _softmax(self, c: VectorCommand, store: StoreCommand | None, now: int) -> int:
        """The loops after the scores have been read; their end."""
        loops = [("vector_softmax", c.words), ("vector_reciprocal", LANES)]
        if c.normalized:
            loops.append(("vector_normalize", c.words))
        traced = "vector_normalize" if c.normalized else "vector_softmax"
        for name, trips in loops:
            now += self.model.loop_overhead + self._loop(name, trips)
            if name == traced:
                now += _slower(store, trips)
        return now

    def _vector_alone(self, c: VectorCommand, store: StoreCommand | None, now: int) -> int:
        """A command that needs nothing from the array; its end."""
        if c.kind is Vector.NORM:
            now += self._loop("norm_statistics", LANES) + self.model.loop_overhead
        name, trips = {
            Vector.COPY_ROWS: ("vector_copy", c.words),
            Vector.COPY_TABLE: ("vector_copy", 2 * TABLE_BEATS),
            Vector.COPY_HEADS: ("vector_copy", c.words),
            Vector.EMBED: ("vector_embed", c.words),
            Vector.NORM: ("norm_apply", c.words),
            Vector.GATHER: ("gather", c.words),
        }[c.kind]
        if c.adaptive:  # the loop runs for each beat of the mask
            now += (-(-c.words // MASK_CHANNELS) - 1) * (self.model.depths[name] - 1 + self.model.loop_overhead)
        return now + self._loop(name, trips) + _slower(store, trips)

    def _store(self) -> Waiting:
        now = 0
        for index, c in enumerate(self.expansion.store):
            now = max(now, (yield from self._sent(c))) + self.model.command_overhead
            if c.end:
                begin, now = now, now + self._cycles(self.model.axi_write_latency_ns * 1e-9)
                self._done("store", c.instruction, 0, now)
                self.timeline.worked("store", c.instruction, begin, now)
                continue
            while len(self.teed) <= index:
                yield
            first, last = self.teed[index]
            now = self._wait("store.words", now, first)
            now = self._turn("store", now, self.model.command_overhead)
            beats = _beats(c) * c.words
            self.trips["store_words"] += beats
            end = max(now + beats * self.model.ii, last + _beats(c)) + self.model.depths["store_words"]
            self._done("store", c.instruction, beats * self.model.ii, end)
            self.timeline.worked("store", c.instruction, now, end)
            self.stored.put(end)
            now = end
        return now

    # Result

    def _timing(self) -> Timing:
        cycles = max(self.last.values()) + self.model.start_done_cycles
        self.finish[-1] = max(self.finish[-1], cycles)
        spans: Counter[str] = Counter()
        work: dict[str, Counter[str]] = {}
        reached = 0
        for index, end in enumerate(self.finish):
            kind = _kind(self.program[index]) if self.program else "end"
            spans[kind] += max(end - reached, 0)
            reached = max(reached, end)
            work.setdefault(kind, Counter()).update(self.busy[index])
        steps = sum(c.k for c in self.expansion.array)
        self.accesses, self.moved = self._count()
        self.timeline.cycles, self.timeline.busy = cycles, self.busy
        self.timeline.waits["vector.accumulators"] = self.accumulators.waits
        return Timing(
            cycles=cycles,
            clock_mhz=self.clock,
            busy={unit: sum(counts[unit] for counts in self.busy) for unit in UNITS},
            stall=dict(self.stall),
            trips={name: self.trips[name] for name in loop_names()},
            shares={kind: Share(spans[kind], dict(work[kind])) for kind in work},
            ddr_bytes_read=sum(c.bytes for c in (*self.expansion.load, *self.expansion.weights))
            + self.expansion.fetched_bytes,
            ddr_bytes_written=sum(c.bytes for c in self.expansion.store),
            macs=sum(c.macs for c in self.expansion.array),
            array_macs_executed=steps * self.board.peak_macs_per_cycle,
            accesses=dict(self.accesses[-1]),
            data_waits={name: cycles for name, cycles in self.data_waits.items() if cycles},
            verdicts=tuple(self.answered),
            marks=tuple(self._mark(at, cycle) for at, cycle in zip(self.expansion.exits, self.answered, strict=True)),
        )

    def _mark(self, exit_index: int, cycle: int) -> Mark:
        before = self.busy[: exit_index + 1]
        moved = (exit_index + 1) * INSTRUCTION_BYTES
        moved += sum(n * BEAT_BYTES for at, n in self.expansion.directory_tiles.items() if at <= exit_index)
        return Mark(
            cycles=cycle,
            busy={unit: sum(counts[unit] for counts in before) for unit in UNITS},
            accesses=dict(self.accesses[exit_index]),
            ddr_bytes=moved + self.moved[exit_index],
        )

    def _count(self) -> tuple[list[dict[str, int]], list[int]]:
        """Up to and with each instruction: words read and written of the memories that more than one unit, or not
        always the same, works with; bytes that load, weights and store move."""
        e = self.expansion
        own = [dict.fromkeys(MEMORIES, 0) for _ in self.busy]
        moved = [0] * len(own)
        for c in e.array:
            own[c.instruction]["keys and values" if c.keys_values else "weights"] += c.k
            own[c.instruction]["activations"] += c.activations
            own[c.instruction]["accumulators"] += 2 * c.words
        for c in e.expand:
            own[c.instruction]["weights"] += c.k
        for c in e.vector:
            if c.destination in (TO_KEYS, TO_VALUES):
                own[c.instruction]["keys and values"] += c.words
            if c.destination == TO_ACTIVATION or c.kind in OPERANDS:
                own[c.instruction]["activations"] += c.words
        for c in e.weights:
            own[c.instruction]["resident"] += c.beats if c.source in (Source.KEEP, Source.RESIDENT) else 0
        for c in (*e.load, *e.weights, *e.store):
            moved[c.instruction] += c.bytes
        for at in range(1, len(own)):
            own[at] = {name: own[at - 1][name] + own[at][name] for name in MEMORIES}
        return own, list(accumulate(moved))


def loop_names() -> tuple[str, ...]:
    """The loops that are counted, as in kernels/loops.hpp."""
    names = list(DEPTHS)
    at = names.index("vector_copy")
    return (*names[:at], "array_mac", "array_drain", *names[at:])


def _kind(instruction: Instruction) -> str:
    """Name of an instruction's kind in reports: w8 products, that is head and mapping, apart from the rest."""
    name = type(instruction).__name__.lower()
    return f"{name} w8" if isinstance(instruction, Gemm) and instruction.w8 else name


def _beats(store: StoreCommand | None) -> int:
    """Beats of one stored word; 1 where nothing is stored."""
    if store is None:
        return 1
    return LANES * (2 if store.wide else 1) // BEAT_BYTES


def _slower(store: StoreCommand | None, trips: int) -> int:
    """Cycles that a loop of `trips` takes more because its words go to store."""
    return max(_beats(store) * store.words - trips, 0) if store is not None else 0
