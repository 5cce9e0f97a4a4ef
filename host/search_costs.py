# SPDX-License-Identifier: Apache-2.0
"""What sentences cost on an array that leave a model in some way, one or several a pass. Everything here is modelled.

Fetch waits for the verdict of each off-ramp (docs/program.md, Leaving early), so that what a layer counts depends on
the row blocks that are left in it, and on nothing before: a pass is the sum of its layers. A few passes are simulated,
one for each set of row blocks that may be left, and thousands follow from them, to the cycle.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..fpga.dvfs import Passes, Plan, Verdicts, clock_table, ladder, leaving_at
from ..fpga.energy import Work, waiting, work_until
from .bench.edgebert_costs import pass_verdicts
from .packer import Packer
from .search_space import ALL, FORETOLD, PACKED, Exit, Left, outputs_at


class LayeredPasses(Passes):
    """Passes of a plan with off-ramps whose layers are known one by one; of any plan, passes through all layers."""

    def __init__(self, plan: Plan):
        super().__init__(plan)
        self._layers: dict[tuple[int, int, int, float], Work] = {}

    @property
    def simulated(self) -> int:
        """Passes that the cycle model ran."""
        return len(self._timings)

    def work(self, row_blocks: int, mhz: float, verdicts: Verdicts | None = None) -> Work:
        """As Passes.work, a pass in which row blocks leave one after the other as the sum of its layers."""
        if verdicts is None or verdicts == leaving_at(len(verdicts), row_blocks):
            return super().work(row_blocks, mhz, verdicts)
        found = self.until(1, row_blocks, mhz)
        for layer, left in enumerate(verdicts[:-1], 2):
            found = found + self._layer(layer, left, row_blocks, mhz)
        whole = self.timing(row_blocks, mhz)
        return found + waiting((whole.cycles - whole.marks[-1].cycles) / (mhz * 1e6), mhz)

    def _layer(self, layer: int, left: int, row_blocks: int, mhz: float) -> Work:
        """What the layer counts, 2 or more, where the row blocks `left` (a bit each) are."""
        key = layer, left, row_blocks, mhz
        if key not in self._layers:
            timing = self.timing(row_blocks, mhz)
            if left != (1 << row_blocks) - 1:
                timing = self.timing(row_blocks, mhz, (left,) * (len(self.plan.exit_layers) - 1) + (0,))
            until, before = (work_until(timing.marks[n], mhz, self.zero_share) for n in (layer - 1, layer - 2))
            self._layers[key] = until - before
        return self._layers[key]


@dataclass(frozen=True)
class Costs:
    """Of all sentences: `ms` of each, to the end of its pass; number, `seconds` and `joules` of the passes."""

    ms: Sequence[float]
    passes: int
    seconds: float
    joules: float


@dataclass(frozen=True)
class Programs:
    """A model on an array: its passes through all layers; if it has off-ramps, also by entropy and by the layer
    foretold."""

    full: LayeredPasses
    free: LayeredPasses | None = None
    timed: LayeredPasses | None = None

    @property
    def simulated(self) -> int:
        """Passes that the cycle model ran."""
        return sum(of.simulated for of in (self.full, self.free, self.timed) if of is not None)

    def costs(self, way: Exit, left: Left, tokens: Sequence[int], mode: str, mhz: float, target_ms: float) -> Costs:
        """Sentences of so many `tokens`, one a pass or as the engine packs them, from a bitstream for `mhz`.

        A way with a layer foretold runs with the latency target, for which the engine slows the rest of a pass down.
        """
        groups = list(shared_passes(tokens)) if mode == PACKED else [[n] for n in range(len(tokens))]
        passes = self.full if way.kind == ALL else self.timed if way.kind == FORETOLD else self.free
        rest = Clocks(passes, mhz, target_ms) if way.kind == FORETOLD else None
        layers = left.layers.tolist()
        ms = [0.0] * len(tokens)
        ran: Counter = Counter()
        for group in groups:
            blocks, verdicts = pass_verdicts([tokens[n] for n in group], [layers[n] for n in group])
            told = [] if rest is None else [int(left.foretold[n]) for n in group if layers[n] > 1]
            key = blocks, None if way.kind == ALL else verdicts, mhz, rest.of(blocks, told) if told else mhz
            ran[key] += 1
            course = passes.course(*key)
            for n in group:
                ms[n] = 1e3 * course.seconds
        courses = [(count, passes.course(*key)) for key, count in ran.items()]
        seconds = sum(count * course.seconds for count, course in courses)
        return Costs(ms, len(groups), seconds, sum(n * passes.energy(course).joules for n, course in courses))


class Clocks:
    """The clock that the engine gives the rest of a pass: the fastest of those that its table has for the layers
    foretold (docs/program.md)."""

    def __init__(self, passes: Passes, mhz: float, target_ms: float):
        self.passes, self.outputs, self.target_s = passes, outputs_at(mhz), target_ms * 1e-3
        self._tables: dict[int, bytes] = {}

    def of(self, row_blocks: int, told: Sequence[int]) -> float:
        """MHz, of the layers `told` to those that the first ramp kept."""
        if row_blocks not in self._tables:
            steps = ladder(self.outputs, 0)
            self._tables[row_blocks] = clock_table(self.passes, row_blocks, steps, self.target_s)
        return self.outputs[min(self._tables[row_blocks][layer] for layer in told)]


def shared_passes(tokens: Sequence[int]) -> Iterator[list[int]]:
    """Which sentences, by number, share a pass in a packed stream (host/packed.py)."""
    packer: Packer[int] = Packer()
    for number, rows in enumerate(tokens):
        packer.add(number, rows)
        if packer.full:
            yield packer.take()
    while len(packer):
        yield packer.take()
