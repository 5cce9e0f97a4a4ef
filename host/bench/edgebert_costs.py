# SPDX-License-Identifier: Apache-2.0
"""What sentences cost, given the layers at which the engine let them leave: everything here is modelled.

One power model (fpga/energy.py) for every row: dense or pruned, all layers or some, one clock or two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ...fpga import instructions as isa
from ...fpga.boards import Board
from ...fpga.dvfs import Passes, ladder, leaving_at, sentence_costs
from ...fpga.energy import Energy, Work, energy, standing
from ...fpga.registers import WIZARD_OUTPUTS_MHZ
from ...fpga.voltage import at_volts, volts
from ..early_exit import verdicts_after
from .edgebert_table import Costs

TOP_MHZ = WIZARD_OUTPUTS_MHZ[0]
FULL_BLOCKS = isa.MAX_ROW_BLOCKS  # 128 rows


@dataclass(frozen=True)
class Asked:
    """Sentences of a model as one row asks it: tokens of each, layer at which it left, layer foretold (0: none)."""

    tokens: Sequence[int]
    layers: Sequence[int]
    foretold: Sequence[int]

    @property
    def blocks(self) -> list[int]:
        """Row blocks of each, alone in its pass."""
        return [row_blocks(tokens) for tokens in self.tokens]


def row_blocks(tokens: int) -> int:
    """Row blocks of 32 rows that `tokens` take.

    >>> row_blocks(1), row_blocks(32), row_blocks(33)
    (1, 1, 2)
    """
    return -(-tokens // isa.LANES)


def costs_of(energies: Sequence[Energy], ms: Sequence[float], clocks: Sequence[float], met=None) -> Costs:
    """Costs from energies of sentences, mJ by part as Energy.summed names them."""
    parts = [found.summed() for found in energies]
    return Costs(ms, {name: [1e3 * of[name] for of in parts] for name in parts[0]}, clocks, met)


def at_one_clock(passes: Passes, blocks: Sequence[int], layers: Sequence[int] | None, mhz: float = TOP_MHZ) -> Costs:
    """Every sentence to the layer at which it leaves, or through all of a plan without off-ramps (layers None)."""
    verdicts = (
        [None] * len(blocks) if layers is None else [leaving_at(*pair) for pair in zip(layers, blocks, strict=True)]
    )
    courses = [passes.course(*given, mhz, mhz) for given in zip(blocks, verdicts, strict=True)]
    return costs_of([passes.energy(c) for c in courses], [1e3 * c.seconds for c in courses], [mhz] * len(courses))


def to_target(passes: Passes, asked: Asked, target_ms: float) -> Costs:
    """Every sentence with the clock that the engine's table gives it for a latency target; energy until its answer."""
    found = sentence_costs(passes.plan, asked.blocks, asked.layers, target_ms, foretold=asked.foretold, passes=passes)
    parts = {name: [cost.parts_mj[name] for cost in found] for name in found[0].parts_mj}
    clocks = [cost.rest_mhz for cost in found]
    return Costs([cost.ms for cost in found], parts, clocks, [cost.target_met for cost in found])


def over_period(board: Board, found: Costs, target_ms: float) -> float:
    """Mean mJ a sentence until the target's period is over, the engine's clock stopped from the answer on; until the
    answer where that comes later."""
    idle = (standing(max(target_ms - ms, 0.0) * 1e-3) for ms in found.ms)
    return fmean(mj + 1e3 * energy(board, left).joules for mj, left in zip(found.mj, idle, strict=True))


def awaited(passes: Passes, foretold: int) -> int:
    """The layer that the clock is chosen for: the last one where none is foretold, or one beyond it."""
    depth = len(passes.plan.exit_layers)
    return foretold if 1 <= foretold <= depth else depth


@dataclass(frozen=True)
class Ways:
    """Mean energy a sentence in mJ over the whole period of the target, and sentences that missed it."""

    mj: float
    missed: int


def ways(passes: Passes, asked: Asked, target_ms: float) -> dict[str, Ways]:
    """Racing, then the clock stopped, against the slowest output that meets the target, against the engine's choice;
    and racing with the clock left running.

    All over the same period: the target, or until the answer where that comes later. The slowest output is chosen by
    the layer foretold, as the engine would; the layer of leaving is what it was.
    """
    target_s, steps = target_ms * 1e-3, ladder(WIZARD_OUTPUTS_MHZ, 0)
    given = list(zip(asked.blocks, asked.layers, asked.foretold, strict=True))

    def slowest(blocks: int, told: int) -> float:
        fitting = (
            mhz for _, mhz in steps if passes.course(blocks, leaving_at(told, blocks), TOP_MHZ, mhz).seconds <= target_s
        )
        return min(fitting, default=TOP_MHZ)

    def mean(rest: Callable[[int, int], float], gated: bool = True) -> Ways:
        courses = {
            key: passes.course(key[0], leaving_at(key[1], key[0]), TOP_MHZ, rest(key[0], awaited(passes, key[2])))
            for key in set(given)
        }
        joules = {key: passes.energy(course, target_s, gated).joules for key, course in courses.items()}
        missed = sum(courses[key].seconds > target_s for key in given)
        return Ways(fmean(1e3 * joules[key] for key in given), missed)

    chosen = to_target(passes, asked, target_ms)
    rests = dict(zip(given, chosen.clocks_mhz, strict=True))
    courses = {key: passes.course(key[0], leaving_at(key[1], key[0]), TOP_MHZ, mhz) for key, mhz in rests.items()}
    best = fmean(1e3 * passes.energy(courses[key], target_s).joules for key in given)
    return {
        "race": mean(lambda blocks, told: TOP_MHZ),
        "slow": mean(slowest),
        "best": Ways(best, sum(courses[key].seconds > target_s for key in given)),
        "ungated": mean(lambda blocks, told: TOP_MHZ, gated=False),
    }


def with_voltage(passes: Passes, asked: Asked, target_ms: float) -> Ways:
    """Hypothetical: what energy until the answer would be if the supply followed the clock, the first layer at the top.

    Of the outputs that meet the target for the layer foretold the one of least energy; the top one where none does.
    """
    target_s = target_ms * 1e-3

    def joules(blocks: int, layer: int, mhz: float) -> float:
        course = passes.course(blocks, leaving_at(layer, blocks), TOP_MHZ, mhz)
        if course.rest_mhz == TOP_MHZ:
            return passes.energy(course).joules
        first = passes.until(1, blocks, TOP_MHZ)
        begun, rest = energy(passes.board, first), energy(passes.board, course.work - first)
        return begun.joules + sum(at_volts(rest.parts, volts(mhz, TOP_MHZ)).values())

    def course_s(blocks: int, layer: int, mhz: float) -> float:
        return passes.course(blocks, leaving_at(layer, blocks), TOP_MHZ, mhz).seconds

    outputs = [mhz for _, mhz in ladder(WIZARD_OUTPUTS_MHZ, 0)]
    known: dict[tuple[int, int, int], tuple[float, bool]] = {}
    given = list(zip(asked.blocks, asked.layers, asked.foretold, strict=True))
    for blocks, layer, foretold in set(given):
        told = awaited(passes, foretold)
        fitting = [mhz for mhz in outputs if course_s(blocks, told, mhz) <= target_s] or [TOP_MHZ]
        mhz = min(fitting, key=lambda mhz: joules(blocks, told, mhz))
        known[blocks, layer, foretold] = joules(blocks, layer, mhz), course_s(blocks, layer, mhz) > target_s
    return Ways(fmean(1e3 * known[key][0] for key in given), sum(known[key][1] for key in given))


# Several sentences in a pass ------------------------------------------------------------------------------------------


def first_fit(tokens: Sequence[int]) -> list[list[int]]:
    """Sentences by pass, in order: each goes to the first pass that has room for its rows and one more sentence.

    >>> first_fit([100, 60, 20, 70, 8])
    [[0, 2, 4], [1], [3]]
    """
    passes: list[list[int]] = []
    rows: list[int] = []
    for sentence, count in enumerate(tokens):
        fits = (n for n, used in enumerate(rows) if used + count <= isa.MAX_ROWS and len(passes[n]) < isa.LANES)
        n = next(fits, None)
        if n is None:
            passes.append([sentence])
            rows.append(count)
        else:
            passes[n].append(sentence)
            rows[n] += count
    return passes


def pass_verdicts(tokens: Sequence[int], layers: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Row blocks of a pass of these sentences, one behind the other, and the verdict after each off-ramp: a bit for
    each row block in which a sentence is left (docs/program.md, Leaving early); 0 is the last.

    >>> pass_verdicts([30, 10, 20], [1, 3, 2])  # rows 0 .. 29, 30 .. 39, 40 .. 59
    (2, (3, 3, 0))
    """
    masks, at = [], 0
    for count in tokens:
        masks.append(sum(1 << block for block in range(at // isa.LANES, (at + count - 1) // isa.LANES + 1)))
        at += count
    return row_blocks(at), verdicts_after(masks, layers, max(layers))


def packed(passes: Passes, asked: Asked, leaving: bool, step: Callable[[], None] = lambda: None) -> Mapping[str, float]:
    """Passes of several sentences at the top clock, early exit or all layers: their number, mean mJ and ms a sentence
    (its share of the pass) and sentences a pass. `step` is called after each pass."""
    groups = first_fit(asked.tokens)
    work = Work()
    for group in groups:
        blocks, verdicts = pass_verdicts([asked.tokens[i] for i in group], [asked.layers[i] for i in group])
        course = passes.course(blocks, verdicts if leaving else None, TOP_MHZ, TOP_MHZ)
        work = work + course.work
        step()
    count = len(asked.tokens)
    return {
        "passes": len(groups),
        "sentences_a_pass": count / len(groups),
        "mj": 1e3 * energy(passes.board, work).joules / count,
        "ms": 1e3 * work["seconds"] / count,
    }
