# SPDX-License-Identifier: Apache-2.0
"""Frequency scaling by sentence: times and energies by hand on a plan of few numbers, choices, tables, retunes."""

import math

import pytest
from zynqbert.fpga import dvfs
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.clocking import select_seconds
from zynqbert.fpga.cycles import UNITS, Mark, Timing
from zynqbert.fpga.dvfs import Passes, clock_table, ladder, leaving_at, paper_mhz, sentence_costs
from zynqbert.fpga.energy import energy, standing, waiting
from zynqbert.fpga.registers import WIZARD_OUTPUTS_MHZ

BOARD = BOARDS["zcu102"]
LAYERS = 12
STEPS = ladder(WIZARD_OUTPUTS_MHZ, 0)
TAIL = 100  # cycles from the last verdict to the end


class SmallPlan:
    """Each layer takes the array `work` cycles and its weights `ddr_s` seconds, whichever is longer."""

    def __init__(self, work=100_000, ddr_s=0.0):
        self.board, self.exit_layers = BOARD, tuple(range(1, LAYERS + 1))
        self.work, self.ddr_s, self.simulated = work, ddr_s, []

    def simulate(self, row_blocks, clock_mhz, *, verdicts=None):
        self.simulated.append((row_blocks, clock_mhz, verdicts))
        layers = LAYERS if verdicts is None else len(verdicts)
        work = self.work * row_blocks
        layer = max(work, math.ceil(self.ddr_s * clock_mhz * 1e6))
        marks = tuple(
            Mark(layer * n, dict.fromkeys(UNITS, 0) | {"array": n * work}, {}, 1000 * n) for n in range(1, layers + 1)
        )
        last = marks[-1]
        counts = (last.busy, {}, {}, {}, last.ddr_bytes, 0, 0, 0, {}, {})
        return Timing(last.cycles + TAIL, clock_mhz, *counts, tuple(m.cycles for m in marks), marks)


BOUND_BY_ARRAY = dict(work=100_000, ddr_s=0.0)
BOUND_BY_DDR = dict(work=100_000, ddr_s=5e-4)  # array and DDR are even at 200 MHz


class TestLadder:
    def test_the_lowest_number_is_the_fastest(self):
        assert ladder((300, 200, 150, 100), 0) == ((0, 300), (1, 200), (2, 150), (3, 100))
        assert ladder((300, 200, 150, 100), 2) == ((2, 150), (3, 100))
        assert ladder((123, 200, 150, 100), 0) == ((0, 123), (3, 100))
        assert ladder((300, 100, 150, 100), 0) == ((0, 300), (1, 100))


class TestCourse:
    def test_first_layer_change_and_rest_by_hand(self):
        passes = Passes(SmallPlan(**BOUND_BY_ARRAY))
        course = passes.course(1, leaving_at(4, 1), 300, 100)
        assert course.seconds == pytest.approx(1e5 / 300e6 + select_seconds() + (3e5 + TAIL) / 100e6)
        assert course.work["cycles"] == pytest.approx(4e5 + TAIL)
        assert course.work["array busy"] == 4e5 and course.work["DDR bytes"] == 4000

    def test_no_change_where_nothing_is_left(self):
        passes = Passes(SmallPlan())
        for verdicts in (leaving_at(1, 2), None):
            course = passes.course(2, verdicts, 300, 100)
            assert course.first_mhz == course.rest_mhz == 300
            assert course.seconds == pytest.approx(passes.timing(2, 300, verdicts).cycles / 300e6)
        assert passes.course(1, leaving_at(3, 1), 200, 200).seconds == pytest.approx((3e5 + TAIL) / 200e6)

    def test_row_blocks_die_as_the_verdicts_say(self):
        plan = SmallPlan()
        Passes(plan).course(3, (0b101, 0b100, 0), 300, 150)
        assert {verdicts for _, _, verdicts in plan.simulated} == {(0b101, 0b100, 0), None}

    def test_each_pass_is_simulated_once(self):
        plan = SmallPlan()
        passes = Passes(plan)
        for _ in range(3):
            passes.choose(1, leaving_at(5, 1), STEPS, 10e-3)
        assert len(plan.simulated) == len(set(plan.simulated)) == len(STEPS)

    def test_gated_zeros_are_those_of_the_part(self):
        plain, gated = (Passes(SmallPlan(), share).course(1, leaving_at(4, 1), 300, 100) for share in (0.0, 0.4))
        assert gated.work.zero_share == pytest.approx(0.4) and plain.work.zero_share == 0
        assert energy(BOARD, gated.work).joules < energy(BOARD, plain.work).joules


class TestPaper:
    """f = N / (T - t) from the cycles at the top clock, beside what the cycle model needs."""

    def need(self, plan, target_s):
        passes, way = Passes(plan), leaving_at(8, 1)
        first = passes.until(1, 1, 300)
        left = passes.course(1, way, 300, 300).work["cycles"] - first["cycles"]
        return paper_mhz(left, target_s, first["seconds"] + select_seconds()), passes.least_mhz(1, way, 300, target_s)

    def test_alike_where_the_array_binds(self):
        paper, model = self.need(SmallPlan(**BOUND_BY_ARRAY), 6e-3)
        assert model == pytest.approx(paper, abs=dvfs.SEARCH_MHZ) and 100 < paper < 200

    def test_the_paper_asks_for_more_where_ddr_binds(self):
        """7 layers of 150,000 cycles at 300 MHz are of 100,000 at 200 and below."""
        paper, model = self.need(SmallPlan(**BOUND_BY_DDR), 6e-3)
        assert model == pytest.approx(paper / 1.5, rel=0.01)

    def test_none_where_no_time_is_left(self):
        assert paper_mhz(1000, 1e-3, 1e-3) == math.inf
        assert Passes(SmallPlan()).least_mhz(1, leaving_at(8, 1), 300, 1e-4) == math.inf


class TestChoice:
    def choose(self, plan, layer, target_ms, **kwargs):
        return Passes(plan).choose(1, leaving_at(layer, 1), STEPS, target_ms * 1e-3, **kwargs)

    def test_slow_where_ddr_binds(self):
        """At 300 MHz a third of the cycles of the rest are lost to DDR, at 200 none: slower than that saves nothing."""
        for target in (4.5, 6, 9):
            found = self.choose(SmallPlan(**BOUND_BY_DDR), 8, target)
            assert (found.strategy, found.output, found.course.rest_mhz, found.target_met) == ("slow", 1, 200, True)
        assert self.choose(SmallPlan(ddr_s=7.5e-4), 8, 7).output == 2  # even at 133 MHz: 100 misses the target
        assert self.choose(SmallPlan(ddr_s=7.5e-4), 8, 8).output == 3

    def test_race_where_nothing_is_gained(self):
        """The same cycles at every clock, which stops after them."""
        found = self.choose(SmallPlan(**BOUND_BY_ARRAY), 8, 9)
        assert (found.strategy, found.output, found.target_met) == ("race", 0, True)

    def test_slow_where_the_clock_cannot_be_stopped(self):
        """It would run on at the top clock until the period is over."""
        assert self.choose(SmallPlan(**BOUND_BY_ARRAY), 8, 9, gated=False).strategy == "slow"

    def test_the_choice_is_the_least_energy_of_the_same_period(self):
        """Or the fastest within the margin of it."""
        for plan in (SmallPlan(**BOUND_BY_ARRAY), SmallPlan(**BOUND_BY_DDR)):
            passes = Passes(plan)
            for gated in (True, False):
                for target in (4.5e-3, 6e-3, 12e-3):
                    found = passes.choose(1, leaving_at(8, 1), STEPS, target, gated)
                    every = []
                    for _, mhz in STEPS:
                        course = passes.course(1, leaving_at(8, 1), 300, mhz)
                        left = target - course.seconds
                        if left >= 0:
                            pause = standing(left) if gated else waiting(left, 300)
                            every.append((mhz, energy(BOARD, course.work + pause).joules))
                    near = [mhz for mhz, joules in every if joules <= min(j for _, j in every) * (1 + dvfs.MARGIN)]
                    assert found.course.rest_mhz == near[0]
                    assert found.period.joules == pytest.approx(dict(every)[near[0]])
                    assert found.period.parts["ps"] == pytest.approx(2.77 * target)

    def test_a_target_out_of_reach(self):
        found = self.choose(SmallPlan(), 12, 1)
        assert (found.output, found.course.rest_mhz, found.target_met) == (0, 300, False)

    def test_no_target(self):
        found = Passes(SmallPlan(**BOUND_BY_DDR)).choose(1, leaving_at(8, 1), STEPS, None)
        assert (found.output, found.target_met) == (0, None)
        assert found.period.joules == energy(BOARD, found.course.work).joules

    def test_a_target_that_is_met_to_the_point(self):
        passes = Passes(SmallPlan(**BOUND_BY_DDR))
        exact = passes.course(1, leaving_at(8, 1), 300, 200).seconds
        assert passes.choose(1, leaving_at(8, 1), STEPS, exact).output == 1
        assert passes.choose(1, leaving_at(8, 1), STEPS, math.nextafter(exact, 0)).output == 0


class TestClockTable:
    def test_each_layer_by_its_own_time(self):
        passes = Passes(SmallPlan(**BOUND_BY_DDR))
        table = clock_table(passes, 1, STEPS, 6e-3)
        assert len(table) == 256
        for layer in range(2, LAYERS + 1):
            course = passes.course(1, leaving_at(layer, 1), 300, WIZARD_OUTPUTS_MHZ[table[layer]])
            assert course.seconds <= 6e-3 or table[layer] == 0
        assert set(table[2 : LAYERS + 1]) == {0, 1}

    def test_none_foretold_is_the_whole_depth(self):
        table = clock_table(Passes(SmallPlan(**BOUND_BY_DDR)), 1, STEPS, 8e-3)
        assert set(table[LAYERS + 1 :]) == {table[LAYERS]} == {table[0]} == {1}

    def test_without_a_target_the_clock_stays(self):
        passes = Passes(SmallPlan(**BOUND_BY_DDR))
        assert set(clock_table(passes, 1, ladder(WIZARD_OUTPUTS_MHZ, 1), None)) == {1}
        assert set(clock_table(passes, 1, ladder((123, 200, 150, 150), 0), 1.0)) == {0}

    def test_more_rows_take_a_faster_clock(self):
        passes = Passes(SmallPlan(**BOUND_BY_DDR))
        short, long = (clock_table(passes, blocks, STEPS, 9e-3) for blocks in (1, 2))
        assert all(b <= a for a, b in zip(short[2:], long[2:], strict=True)) and short != long


class TestBestOutputs:
    def total(self, passes, mix, target_s, outputs):
        steps = ladder(outputs, 0)
        return sum(n * passes.choose(b, leaving_at(at, b), steps, target_s).period.joules for (b, at), n in mix.items())

    def test_the_fastest_within_the_margin_where_no_output_is_near(self):
        """Array and DDR are even at 200 MHz, the target leaves no time for anything slower: 200 is just missed."""
        passes = Passes(SmallPlan(**BOUND_BY_DDR))
        mix = {(1, 8): 500.0, (1, 4): 500.0}
        present = (300, 190, 95, 95)
        target = passes.course(1, leaving_at(8, 1), 300, 199).seconds
        found = dvfs.best_outputs(passes, mix, target, present)
        assert found[0] == 300 and found == tuple(sorted(found, reverse=True))
        assert self.total(passes, mix, target, found) < self.total(passes, mix, target, present)
        assert passes.choose(1, leaving_at(8, 1), ladder(found, 0), target).course.rest_mhz == pytest.approx(214, abs=1)
        assert passes.balance_mhz(1, 8, 300) == pytest.approx(200, abs=0.5)

    def test_none_is_slower_than_the_margin_needs(self):
        """With time to spare the least energy is at the slowest clock; one near the balance clock comes within 1 %."""
        passes, way = Passes(SmallPlan(**BOUND_BY_DDR)), leaving_at(8, 1)
        frugal = passes.frugal_mhz(1, way, 300, 20e-3)
        joules = [passes.energy(passes.course(1, way, 300, mhz), 20e-3).joules for mhz in (50, frugal, frugal + 1)]
        assert joules[1] <= joules[0] * 1.01 < joules[2]
        found = dvfs.best_outputs(passes, {(1, 8): 1e3}, 20e-3, (300, 300, 300, 300))
        assert found is not None and min(found) >= frugal > 190

    def test_the_frugal_clock_is_the_top_where_nothing_is_gained(self):
        assert Passes(SmallPlan(**BOUND_BY_ARRAY)).frugal_mhz(1, leaving_at(8, 1), 300, 9e-3) == 300
        assert Passes(SmallPlan(**BOUND_BY_DDR)).frugal_mhz(1, leaving_at(8, 1), 300, 1e-4) == 300

    def test_none_within_the_margin_however_many_are_awaited(self):
        """What the wizard can give for 209 MHz saves more than a retune costs, but not 1 % of the energy."""
        passes, mix, target = Passes(SmallPlan(**BOUND_BY_DDR)), {(1, 8): 1e6}, 8e-3
        for present, margin in (((300, 220, 220, 220), True), ((300, 230, 230, 230), False)):
            found = self.total(passes, mix, target, (300, 214.2, 214.2, 214.2))
            saved = 1 - found / self.total(passes, mix, target, present)
            assert saved > 0.004 and (saved < 0.01) is margin
            assert (dvfs.best_outputs(passes, mix, target, present) is None) is margin

    def test_none_where_nothing_is_gained(self):
        passes = Passes(SmallPlan(**BOUND_BY_ARRAY))
        assert dvfs.best_outputs(passes, {(1, 8): 1e6}, 9e-3, WIZARD_OUTPUTS_MHZ) is None
        assert dvfs.best_outputs(passes, {(1, 12): 1e6}, 1e-3, WIZARD_OUTPUTS_MHZ) is None

    def test_none_where_the_batch_is_too_small_for_a_retune(self):
        passes = Passes(SmallPlan(**BOUND_BY_DDR))
        target = passes.course(1, leaving_at(8, 1), 300, 199).seconds
        assert dvfs.best_outputs(passes, {(1, 8): 0.01}, target, (300, 190, 95, 95)) is None


class TestSentenceCosts:
    def test_each_by_the_choice_for_what_was_foretold(self):
        plan = SmallPlan(**BOUND_BY_DDR)
        passes = Passes(plan)
        table = clock_table(passes, 1, STEPS, 6e-3)
        (early, late, unknown) = sentence_costs(plan, [1, 1, 1], [3, 8, 8], 6.0, foretold=[8, 8, 0], passes=passes)
        assert [c.output for c in (early, late, unknown)] == [table[8], table[8], table[0]]
        course = passes.course(1, leaving_at(3, 1), 300, WIZARD_OUTPUTS_MHZ[table[8]])
        assert early.ms == pytest.approx(course.seconds * 1e3) and early.target_met
        assert early.mj == pytest.approx(energy(BOARD, course.work).joules * 1e3) == sum(early.parts_mj.values())
        assert unknown.target_met is (unknown.ms <= 6)

    def test_without_a_target(self):
        (found,) = sentence_costs(SmallPlan(), [2], [5], current=1)
        assert (found.first_mhz, found.rest_mhz, found.output) == (200, 200, 1)
        assert found.target_met is found.target_ms is None and found.modelled

    def test_thousands_take_no_more_than_their_kinds(self):
        plan = SmallPlan(**BOUND_BY_DDR)
        layers = [1 + n % LAYERS for n in range(5000)]
        found = sentence_costs(plan, [1 + n % 4 for n in range(5000)], layers, 10.0)
        assert len(found) == 5000 and len(plan.simulated) <= 4 * 4 * (LAYERS + 1)

    def test_a_layer_there_is_none_of(self):
        with pytest.raises(ValueError, match=r"exit layer 13 is none of 1 \.\. 12"):
            sentence_costs(SmallPlan(), [1], [13])
        with pytest.raises(ValueError, match="exit layer 0 is none of"):
            sentence_costs(SmallPlan(), [1], [0])
