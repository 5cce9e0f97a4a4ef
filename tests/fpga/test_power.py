# SPDX-License-Identifier: Apache-2.0
"""The power model: what calibrates it, how far it is off where it was not fitted, and how it moves."""

import math
from dataclasses import replace

import pytest
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.constants import (
    BLOCK_CLOCK,
    CONSTANTS,
    DSP_NETS,
    PIECES,
    VALUES,
    energies,
    over_families,
    picojoules,
)
from zynqbert.fpga.cycles import simulate
from zynqbert.fpga.power import (
    activity_of,
    as_reported,
    by_unit,
    calibrate,
    calibrating,
    error_range,
    factor,
    leave_one_out,
    power,
    published_activity,
    published_watts,
    registers_by_unit,
    variants,
    watts,
)
from zynqbert.fpga.published import PUBLISHED, REPORTS, STATIC_DIFFERENCE, kcells
from zynqbert.fpga.reference import encoder_program
from zynqbert.fpga.resources import Blocks, resources

ROWS = {row.name: row for row in PUBLISHED}


@pytest.fixture(scope="module", params=list(BOARDS))
def board(request):
    return BOARDS[request.param]


@pytest.fixture(scope="module")
def timing(board):
    return simulate(encoder_program(layers=2, hidden=768, heads=12, ffn=3072), 4, board, 250)


class TestRows:
    def test_are_the_papers(self):
        found = {
            name: (row.watts, row.clock_mhz, row.dsp, row.lut, row.ff, row.bram36)
            for name, row in ROWS.items()
            if row.calibrates
        }
        assert found == {
            "FQ-BERT ZCU102 (8,16)": (9.8, 214, 1751, 123157, 124433, 838 / 2),
            "FQ-BERT ZCU111 (16,16)": (13.2, 214, 3287, 189724, 201469, 679 / 2),
            "CoQMoE ZCU102": (9.83, 300, 1754, 156100, 198200, 383),
            "UbiMoE ZCU102": (11.5, 300, 1850, 123400, 142600, 458),
        }
        assert not any("zynqbert" in row.name.lower() for row in PUBLISHED)

    def test_those_of_reports_sum_as_their_reports(self):
        """Components, static power and the PS's make the row's total, but for the report's rounding."""
        for report, name in zip(
            REPORTS[:3], ("HGTXR par8 ZCU104", "HGTXR AQ2 search ZCU104", "HGTXR AQ2 track ZCU104"), strict=True
        ):
            row = ROWS[name]
            assert (row.dsp, row.lut, row.ff, row.bram36, row.uram, row.part, row.clock_mhz) == (
                *(report.dsp, report.lut, report.ff, report.bram36, report.uram, report.part, report.clock_mhz),
            )
            components = (report.clocks_w, report.fabric_w, report.dsp_w, report.bram36_w, report.uram_w)
            assert sum(components) + report.static_w + 2.671 + 0.102 == pytest.approx(row.watts, abs=0.01)

    def test_derived_utilization_of_fq_bert(self):
        products = 12 * 128 * (4 * 768 * 768 + 2 * 768 * 3072) + 2 * 12 * 2 * 128 * 128 * 768
        for row, multipliers, ms in zip(calibrating()[:2], (1536, 3072), (43.89, 23.79), strict=True):
            assert row.utilization == pytest.approx(products / multipliers / 214e6 / (ms * 1e-3), abs=0.001)
        mean = sum(row.utilization for row in calibrating()[:2]) / 2
        assert VALUES["row_utilization"] == pytest.approx(mean, abs=0.001)
        assert all(row.utilization is None for row in PUBLISHED if row.family != "FQ-BERT")

    def test_every_row_says_where_it_is_from(self):
        for row in PUBLISHED:
            assert row.source.startswith(("[P]", "[D]")), row.name
            assert row.scope in ("chip", "pl") and row.told in ("vendor report", "unstated"), row.name
            assert not (row.calibrates and not row.complete), row.name
        assert sum(row.complete for row in PUBLISHED) >= 4


class TestConstants:
    def test_each_has_a_range_and_a_source(self):
        for c in CONSTANTS:
            assert c.low < c.value <= c.high or c.low <= c.value < c.high, c.name
            assert c.source.startswith(("[P]", "[D]", "[U]")), c.name

    def test_energy_is_watts_over_clock_and_count(self):
        """By hand, HGTXR AQ2 search at 300 MHz and 0.85 V; ArchBetter is taken from 0.90 V to 0.85 V."""
        search, archbetter = REPORTS[1], REPORTS[3]
        found = {name: picojoules(name)[search] for name in PIECES}
        assert found["dsp_pj"] == pytest.approx(0.998 / 300e6 / 1257 * 1e12)
        assert found["lut_pj"] == pytest.approx(1.703 / 300e6 / (77494 + DSP_NETS * 1257) * 1e12)
        assert found["ff_pj"] == pytest.approx(0.531 / 300e6 / (78687 + BLOCK_CLOCK * (1257 + 191.5 + 92)) * 1e12)
        assert found["bram36_pj"] == pytest.approx(0.2 / 300e6 / 191.5 * 1e12)
        assert picojoules("dsp_pj")[archbetter] == pytest.approx(0.13 / 225e6 / 512 * 1e12 * (0.85 / 0.9) ** 2)

    def test_a_family_counts_once(self):
        a, b, c = (
            replace(REPORTS[0], name=name, family=family) for name, family in (("a", "x"), ("b", "x"), ("c", "y"))
        )
        assert over_families({a: 2.0, b: 6.0, c: 9.0}) == pytest.approx(math.sqrt(4.0 * 9.0))

    def test_static_power(self):
        shares = [
            (0.614 + 0.625 + 0.620) / 3 / (230.4 * 2.1875) * 1e3,
            0.476 / (216.96 * 2.1875) * 1e3,
            2.335 / (870.016 * 2.1875) * 1e3,
            0.479 / (425.28 * 2.1875) * 1e3,
            STATIC_DIFFERENCE * 1e3,
        ]
        assert VALUES["static_mw_per_kcell"] == pytest.approx(math.prod(shares) ** 0.2)
        assert pytest.approx(600, abs=0.5) == kcells(BOARDS["zcu102"].part)

    def test_the_two_weights_make_one_family_agree(self):
        """par8 has 15 LUTs a DSP, AQ2 search 62: with the weights they cost alike, without not."""
        for name, plain in (("lut_pj", lambda r: r.lut), ("ff_pj", lambda r: r.ff)):
            field = PIECES[name][0]
            few, many = REPORTS[0], REPORTS[1]
            assert picojoules(name)[few] == pytest.approx(picojoules(name)[many], rel=0.02)
            assert getattr(few, field) / plain(few) > 1.3 * getattr(many, field) / plain(many)


class TestFit:
    def test_finds_the_factor_it_is_shown(self):
        rows = [replace(row, watts=published_watts(row, VALUES, 2.5)) for row in PUBLISHED]
        assert calibrate(rows, VALUES) == pytest.approx(2.5)

    def test_leaving_out_is_recomputed_here(self):
        for left in leave_one_out():
            others = [row for row in PUBLISHED if row.calibrates and row.name != left.row.name]
            reports = [report for report in REPORTS if report.family != left.row.family]
            values = VALUES | energies(reports)
            f = calibrate(others, values)
            assert left.predicted_w == pytest.approx(
                sum(watts(published_activity(left.row, values), values, f).values())
            )
            assert left.error == pytest.approx(left.predicted_w / left.row.watts - 1)
        assert len(leave_one_out()) == len(PUBLISHED)

    def test_leaving_out_leaves_out(self):
        """A row that is wrong by half moves the others' predictions, not its own."""
        wrong = ROWS["CoQMoE ZCU102"]
        rest = [row for row in calibrating() if row is not wrong]
        own = next(left for left in leave_one_out() if left.row is wrong)
        assert published_watts(wrong, VALUES, calibrate(rest, VALUES)) == pytest.approx(own.predicted_w)
        assert calibrate([*rest, replace(wrong, watts=1.5 * wrong.watts)], VALUES) > 1.05 * factor()
        assert calibrate(rest, VALUES) != pytest.approx(factor(), rel=1e-3)

    def test_errors_on_rows_left_out(self):
        """What the model is worth: stated in docs/power.md, and no better than here."""
        assert all(abs(left.error) < 0.45 for left in leave_one_out() if left.row.complete)
        least, most = error_range()
        assert least < 0 < most
        assert {left.row.family for left in leave_one_out() if left.row.complete} == {"FQ-BERT", "USTC MoE", "HGTXR"}

    def test_scope(self):
        """The programmable logic alone has no PS and no DDR; a factor fitted on such rows is greater."""
        row = ROWS["FQ-BERT ZCU102 (8,16)"]
        chip = watts(published_activity(row, VALUES), VALUES, 1.0)
        pl = watts(published_activity(replace(row, scope="pl"), VALUES), VALUES, 1.0)
        assert sum(chip.values()) - sum(pl.values()) == pytest.approx(VALUES["ps_w"] + 0.97 * 0.060)
        assert pl["ps"] == pl["ddr"] == 0
        assert {name: pl[name] for name in pl if name not in ("ps", "ddr")} == {
            name: chip[name] for name in chip if name not in ("ps", "ddr")
        }
        rows = calibrating()
        assert calibrate([replace(row, scope="pl") for row in rows], VALUES) > factor()
        assert watts(published_activity(ROWS["ArchBetter XCKU5P"], VALUES), VALUES, 1.0)["ps"] == 0

    def test_rows_wait_as_ours_do(self):
        """A row's units and ours have the same idle shares: what never waits takes what the constants say."""
        row = replace(ROWS["CoQMoE ZCU102"], utilization=0.5)
        half = watts(published_activity(row, VALUES), VALUES, 1.0)
        whole = watts(published_activity(replace(row, utilization=1.0), VALUES), VALUES, 1.0)
        for part, idle in (("dsp", "dsp_idle"), ("lut", "lut_idle"), ("bram36", "memory_idle")):
            assert half[part] == pytest.approx(whole[part] * (1 + VALUES[idle]) / 2), part
        assert half["clocks"] == whole["clocks"]
        told = watts(published_activity(ROWS["CoQMoE ZCU102"], VALUES | {"row_utilization": 0.5}), VALUES, 1.0)
        assert told == half

    def test_wide_products_take_more(self):
        row = ROWS["CoQMoE ZCU102"]
        narrow = watts(published_activity(row, VALUES), VALUES, 1.0)
        wide = watts(published_activity(replace(row, wide=True), VALUES), VALUES, 1.0)
        assert wide["dsp"] == pytest.approx(VALUES["dsp_wide"] * narrow["dsp"])
        assert wide["lut"] == narrow["lut"]


class TestOurs:
    def test_parts_sum_and_the_range_holds_the_figure(self, board, timing):
        p = power(resources(board), timing)
        assert p.power_w == pytest.approx(sum(p.parts.values()))
        assert p.pl_w + p.ps_w == pytest.approx(p.power_w)
        assert p.low_w < p.power_w < p.high_w
        assert p.modelled

    def test_the_range_is_no_less_than_the_errors(self, board, timing):
        p = power(resources(board), timing)
        least, most = error_range()
        assert p.low_w <= p.power_w / (1 + most) and p.high_w >= p.power_w / (1 + least)
        for values, f in variants():
            assert (
                p.low_w - 1e-9
                <= sum(watts(activity_of(resources(board), timing), values, f).values())
                <= p.high_w + 1e-9
            )
        assert len(variants()) == len(calibrating()) + 1 + 2 * len(CONSTANTS)

    def test_as_reported_nothing_waits(self, board, timing):
        used = resources(board)
        f = calibrate([replace(row, utilization=1.0) for row in calibrating()], VALUES)
        assert f < factor()
        always = replace(timing, busy=dict.fromkeys(timing.busy, timing.cycles), accesses={})
        by_hand = sum(watts(activity_of(used, always), VALUES, f).values())
        assert as_reported(used, timing) == pytest.approx(by_hand)

    def test_faster_and_busier_take_more(self, board, timing):
        used = resources(board)
        here = power(used, timing)
        assert power(used, replace(timing, clock_mhz=300)).pl_w > here.pl_w
        idle = power(used, replace(timing, busy=dict.fromkeys(timing.busy, 0)))
        rest = VALUES["dsp_idle"]
        share = {unit: busy / timing.cycles for unit, busy in timing.busy.items()}
        working = sum(
            count * (rest + (1 - rest) * share[unit])
            for count, unit in ((used.array_dsp, "array"), (used.dsp - used.array_dsp, "vector"))
        )
        assert idle.parts["dsp"] == pytest.approx(here.parts["dsp"] * rest * used.dsp / working)
        assert idle.pl_w < here.pl_w
        assert power(used, replace(timing, ddr_bytes_read=2 * timing.ddr_bytes_read)).ps_w > here.ps_w

    def test_dynamic_power_scales_with_the_clock(self, board, timing):
        used = resources(board)
        slow, fast = (power(used, replace(timing, clock_mhz=clock)) for clock in (150, 300))
        for part in ("dsp", "lut", "bram36", "clocks", "ddr"):
            assert fast.parts[part] == pytest.approx(2 * slow.parts[part]), part
        assert fast.parts["static"] == slow.parts["static"]

    def test_more_of_anything_takes_more(self, board, timing):
        used = resources(board)
        here = power(used, timing).power_w
        for change in (
            {"dsp": used.dsp + 100},
            {"ff": used.ff + 1000},
            {"lut_by_unit": used.lut_by_unit | {"vector": used.lut_by_unit["vector"] + 1000}},
            {"blocks": (*used.blocks, Blocks("bram36", "array", 10, "", 1))},
        ):
            assert power(replace(used, **change), timing).power_w > here, change

    def test_a_row_of_blocks_works_in_an_access_and_none_where_nothing_is_read(self, board, timing):
        """Blocks of `idle` energy, and of a whole one in the cycles in which they are accessed."""
        used = resources(board)

        def bram36(accesses, rows):
            one = replace(used, blocks=(Blocks("bram36", "array", 90, "weights", rows),))
            return power(one, replace(timing, accesses={"weights": accesses})).parts["bram36"]

        idle = VALUES["memory_idle"]
        none, all_of_them = bram36(0, 1), bram36(timing.cycles, 1)
        assert none == pytest.approx(idle * all_of_them)
        assert bram36(timing.cycles, 9) == pytest.approx((idle + (1 - idle) / 9) * all_of_them)
        assert bram36(timing.cycles // 2, 1) == pytest.approx((none + all_of_them) / 2, rel=1e-4)

    def test_an_unknown_unit_works_always(self, board, timing):
        used = resources(board)
        more = replace(used, lut_by_unit=used.lut_by_unit | {"unheard of": 1000})
        difference = power(more, timing).parts["lut"] - power(used, timing).parts["lut"]
        assert difference == pytest.approx(factor() * VALUES["lut_pj"] * 1000 * timing.clock_mhz * 1e-6)

    def test_by_unit_sums_to_the_whole(self, board, timing):
        used = resources(board)
        found = by_unit(used, timing)
        assert sum(found.values()) == pytest.approx(power(used, timing).power_w)
        assert {"array DSPs", "array fabric", "array memories", "vector fabric", "clocks", "ps"} <= set(found)

    def test_a_stopped_clock_saves_what_its_unit_takes_while_it_waits(self, board, timing):
        used = resources(board)
        waiting = replace(timing, busy=timing.busy | {"vector": 0})
        free, stopped = power(used, waiting), power(used, waiting, gated={"vector"})
        registers = registers_by_unit(used)["vector"]
        blocks = used.dsp - used.array_dsp + used.bram36_by_unit["vector"]
        saved = factor() * VALUES["ff_pj"] * (registers + BLOCK_CLOCK * blocks) * timing.clock_mhz * 1e-6
        assert free.parts["clocks"] - stopped.parts["clocks"] == pytest.approx(saved)
        assert stopped.parts["lut"] < free.parts["lut"] and stopped.parts["dsp"] < free.parts["dsp"]
        busy = replace(timing, busy=timing.busy | {"vector": timing.cycles})
        assert power(used, busy, gated={"vector"}).power_w == pytest.approx(power(used, busy).power_w)
        assert sum(registers_by_unit(used).values()) == pytest.approx(used.ff)
