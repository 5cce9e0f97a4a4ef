# SPDX-License-Identifier: Apache-2.0
"""Modelled costs of the early-exit bench: sums of the energy model by hand, packing, and what is hypothetical."""

import doctest
import json
from statistics import fmean
from types import SimpleNamespace

import pytest
from early_exit import labelled
from random_artifact import make_random_artifact
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.dvfs import MARGIN, Passes
from zynqbert.fpga.energy import energy, standing, work_of
from zynqbert.fpga.voltage import TOP_V, at_volts, volts
from zynqbert.host.bench import edgebert, edgebert_zeros
from zynqbert.host.bench import edgebert_costs as costs
from zynqbert.host.bench.edgebert_models import Model
from zynqbert.host.bench.edgebert_table import Ran
from zynqbert.host.bench.edgebert_trace import Trace
from zynqbert.host.compiler import ModelShape, plan
from zynqbert.host.early_exit import Ways
from zynqbert.host.errors import HostError
from zynqbert.host.zero_steps import gated_steps
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.golden_model import GoldenModel

BOARD = BOARDS["zcu102"]
DEPTH = 3
POINT = {"threshold": 800, "foretold": {"threshold": 500, "table": [1] * 60 + [2] * 60 + [3] * 136}}
TOKENS = (5, 40, 33, 8, 90)
ASKED = costs.Asked(TOKENS, (1, 3, 2, 2, 1), (2, 3, 0, 2, 1))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = make_random_artifact(
        tmp_path_factory.mktemp("artifact") / "model", layers=DEPTH, exits=True, points={"1": POINT}, seed=2
    )
    return load_artifact(folder)


def passes_of(artifact, exits=None):
    shape = ModelShape.of_manifest(artifact.manifest)
    return Passes(plan(shape, BOARD, artifact=artifact, exits=exits))


@pytest.fixture(scope="module")
def full(artifact):
    return passes_of(artifact)


@pytest.fixture(scope="module")
def leaving(artifact):
    return passes_of(artifact, Ways.of_point(POINT).timed)


def mj(passes, blocks, verdicts, mhz):
    """Straight from cycle and energy model."""
    more = {} if verdicts is None else {"verdicts": verdicts}
    return 1e3 * energy(BOARD, work_of(passes.plan.simulate(blocks, mhz, **more))).joules


def test_examples():
    assert doctest.testmod(costs).failed == 0 and doctest.testmod(costs).attempted >= 3


def test_all_layers_at_the_top_clock(full):
    found = costs.at_one_clock(full, ASKED.blocks, None)
    assert ASKED.blocks == [1, 2, 2, 1, 3]
    assert found.mj == pytest.approx([mj(full, blocks, None, 300.0) for blocks in ASKED.blocks])
    assert found.ms == pytest.approx([1e3 * full.plan.simulate(blocks, 300.0).seconds for blocks in ASKED.blocks])
    assert set(found.clocks_mhz) == {300.0} and found.met is None


def test_sentences_stop_where_they_leave(leaving):
    found = costs.at_one_clock(leaving, ASKED.blocks, ASKED.layers)
    verdicts = [(0,), (3, 3, 0), (3, 0), (1, 0), (0,)]
    assert found.mj == pytest.approx(
        [mj(leaving, blocks, of, 300.0) for blocks, of in zip(ASKED.blocks, verdicts, strict=True)]
    )
    assert set(found.parts_mj) >= {"ps", "static", "ddr", "clocks"}


def test_a_wide_target_is_met_by_all_and_slows(leaving):
    wide = costs.to_target(leaving, ASKED, 1e3)
    blind = costs.at_one_clock(leaving, ASKED.blocks, ASKED.layers)
    assert all(wide.met) and wide.ms[0] == blind.ms[0]  # left at layer 1: nothing after it to slow
    assert all(slow >= fast for slow, fast in zip(wide.ms, blind.ms, strict=True))


def test_a_target_that_cannot_be_met_is_missed_by_all(leaving):
    found = costs.to_target(leaving, ASKED, 1e-4)
    assert not any(found.met) and set(found.clocks_mhz) == {300.0}


def test_the_period_adds_what_goes_on_while_the_clock_stands(full):
    found = costs.at_one_clock(full, ASKED.blocks, None)
    longest = max(found.ms)
    idle = [1e3 * energy(BOARD, standing((longest - ms) * 1e-3)).joules for ms in found.ms]
    assert costs.over_period(BOARD, found, longest) == pytest.approx(fmean(found.mj) + fmean(idle))
    assert costs.over_period(BOARD, found, 0.0) == pytest.approx(fmean(found.mj))


def test_ways_of_a_target(leaving):
    target = 1.5 * max(costs.at_one_clock(leaving, [3], [DEPTH]).ms)
    found = costs.ways(leaving, ASKED, target)
    blind = costs.at_one_clock(leaving, ASKED.blocks, ASKED.layers)
    assert found["race"].mj == pytest.approx(costs.over_period(BOARD, blind, target))
    assert found["ungated"].mj > found["race"].mj
    foreseen = costs.ways(leaving, costs.Asked(TOKENS, ASKED.layers, ASKED.layers), target)
    assert foreseen["best"].mj <= min(foreseen["race"].mj, foreseen["slow"].mj) * (1 + MARGIN)
    assert {way.missed for way in found.values()} == {0}
    tight = costs.ways(leaving, ASKED, 1e-4)
    assert {way.missed for way in tight.values()} == {len(TOKENS)}
    assert tight["race"].mj == pytest.approx(fmean(blind.mj))


class TestVoltage:
    def test_at_the_top_clock_nothing_changes(self, leaving):
        found = costs.with_voltage(leaving, ASKED, 1e-4)
        blind = costs.at_one_clock(leaving, ASKED.blocks, ASKED.layers)
        assert found.mj == pytest.approx(fmean(blind.mj)) and found.missed == len(TOKENS)

    def test_what_switches_falls_with_its_square(self, full):
        found = full.energy(full.course(1, None, 300.0, 300.0))
        assert at_volts(found.parts, TOP_V) == pytest.approx(dict(found.parts))
        half = at_volts(found.parts, TOP_V / 2)
        kept = found.parts["ps"] + found.parts["ddr"]
        moving = found.joules - kept - found.parts["static"]
        assert sum(half.values()) == pytest.approx(kept + found.parts["static"] / 2 + moving / 4)

    def test_only_what_follows_the_first_layer_is_scaled(self, leaving):
        """One sentence, slowed as far as it goes, by hand."""
        one = costs.Asked((8,), (3,), (3,))
        found = costs.with_voltage(leaving, one, 1e3)
        by_hand = []
        for mhz in (200.0, 150.0, 100.0):
            course = leaving.course(1, (1, 1, 0), 300.0, mhz)
            first = leaving.until(1, 1, 300.0)
            rest = energy(BOARD, course.work - first)
            lowered = at_volts(rest.parts, volts(mhz, costs.TOP_MHZ))
            by_hand.append(1e3 * (energy(BOARD, first).joules + sum(lowered.values())))
        by_hand.append(mj(leaving, 1, (1, 1, 0), 300.0))
        assert found.mj == pytest.approx(min(by_hand))


class TestPacking:
    def test_one_to_a_pass_where_no_two_fit(self, full):
        long = costs.Asked((80, 100, 128), (3, 3, 3), (0, 0, 0))
        found = costs.packed(full, long, leaving=False)
        assert found["passes"] == 3
        assert found["mj"] == pytest.approx(fmean(costs.at_one_clock(full, long.blocks, None).mj))

    def test_a_pass_is_shared(self, full, leaving):
        steps = []
        found = costs.packed(full, ASKED, False, lambda: steps.append(1))
        # 5 + 40 + 33 + 8 rows in a pass of three blocks, 90 in another
        assert found["passes"] == len(steps) == 2 and found["sentences_a_pass"] == 2.5
        assert found["mj"] == pytest.approx(2 * mj(full, 3, None, 300.0) / 5)
        # blocks: 0 has sentences leaving at 1, 3; 1 at 3, 2; 2 at 2, 2
        early = costs.packed(leaving, ASKED, True)
        assert early["mj"] == pytest.approx((mj(leaving, 3, (7, 3, 0), 300.0) + mj(leaving, 3, (0,), 300.0)) / 5)
        assert early["mj"] < found["mj"] or early["ms"] < found["ms"]

    def test_at_most_32_sentences_and_128_rows(self):
        found = costs.first_fit([2] * 70)
        assert [len(group) for group in found] == [32, 32, 6]
        assert sorted(n for group in found for n in group) == list(range(70))
        assert [len(group) for group in costs.first_fit([128, 1, 127])] == [1, 2]


class TestZeros:
    TEXTS = ("w4 w5 w6", "w7 w8 " * 20)

    def test_counted_over_sentences_and_kept(self, artifact, full, tmp_path, monkeypatch):
        """Each sentence in a pass of its own, and kept."""
        model = Model.load("--artifact", labelled(artifact.tokenizer_path.parent))
        share = edgebert_zeros.zero_share(tmp_path, model, full.plan, self.TEXTS)
        steps = gated = 0
        golden = GoldenModel(model.folder)
        for text in self.TEXTS:
            ids, trace = model.encoder().encode(text).ids, {}
            golden.forward_sentence(ids, length=32 * costs.row_blocks(len(ids)), trace=trace)
            of_pass = gated_steps(full.plan, artifact, trace)
            steps, gated = steps + of_pass[0], gated + of_pass[1]
        assert share == gated / steps and 0.14 < share < 1  # a seventh of the weights is 0
        (path,) = tmp_path.iterdir()
        assert json.loads(path.read_text()) == {"gated": gated, "steps": steps, "sentences": 2}
        monkeypatch.setattr(edgebert_zeros, "gated_steps", None)  # not counted twice
        assert edgebert_zeros.zero_share(tmp_path, model, full.plan, self.TEXTS) == share
        path.write_text("[]")
        with pytest.raises(ValueError, match="not a count of zeros; remedy"):
            edgebert_zeros.zero_share(tmp_path, model, full.plan, self.TEXTS)

    def test_what_gating_saves(self, full, leaving):
        """As the energy model has it of passes that are gated from the outset."""
        gated = Passes(full.plan, 0.3)
        saved = costs.at_one_clock(full, ASKED.blocks, None).mj, costs.at_one_clock(gated, ASKED.blocks, None).mj
        top = [300.0] * len(TOKENS)
        assert edgebert_zeros.saved_mj(full, ASKED.blocks, None, top, 0.3) == pytest.approx(
            fmean(saved[0]) - fmean(saved[1])
        )
        slow = costs.to_target(leaving, ASKED, 1e3)
        other = costs.to_target(Passes(leaving.plan, 0.3), ASKED, 1e3)
        assert slow.clocks_mhz == other.clocks_mhz
        saving = edgebert_zeros.saved_mj(leaving, ASKED.blocks, ASKED.layers, slow.clocks_mhz, 0.3)
        assert saving == pytest.approx(fmean(slow.mj) - fmean(other.mj)) and saving > 0


def traced(clocks):
    """The sentences as a trace, clocked so after the first layer."""
    found = Trace()
    for layer, foretold, mhz in zip(ASKED.layers, ASKED.foretold, clocks, strict=True):
        found.add(0, layer, foretold, 0.1, mhz)
    return found


class TestOfABoard:
    """Parts of the run that need no engine."""

    @pytest.fixture
    def given(self, tmp_path):
        return SimpleNamespace(
            asked=lambda trace: ASKED,
            tokens=TOKENS,
            texts=["w4"] * len(TOKENS),
            out=tmp_path,
            dense=None,
            recipe=None,
            progress=lambda what, total: lambda: None,
        )

    def test_the_engines_clocks_are_the_models(self, given, leaving):
        expected = costs.to_target(leaving, ASKED, 1e3)
        run = edgebert.to_target(given, "c", "name", "recipe", leaving, traced(expected.clocks_mhz), 1e3)
        assert run.costs == expected and run.key == "c@1000"
        # of a sentence that left at layer 1 nothing was clocked after it
        clocks = [111.0 if layer == 1 else mhz for layer, mhz in zip(ASKED.layers, expected.clocks_mhz, strict=True)]
        edgebert.to_target(given, "c", "name", "recipe", leaving, traced(clocks), 1e3)
        for n in (1, 2, 3):
            clocks = [*expected.clocks_mhz[:n], 111.0, *expected.clocks_mhz[n + 1 :]]
            with pytest.raises(HostError, match=f"the engine clocked sentence {n} with 111 MHz"):
                edgebert.to_target(given, "c", "name", "recipe", leaving, traced(clocks), 1e3)

    def test_asides(self, given, full, leaving, monkeypatch):
        monkeypatch.setattr(edgebert_zeros, "zero_share", lambda folder, model, plan, texts: 0.25)
        blind = costs.at_one_clock(leaving, ASKED.blocks, ASKED.layers)
        whole = costs.at_one_clock(full, ASKED.blocks, None)
        trace = traced([300.0] * len(TOKENS))
        runs = [Ran("a", "dense", "dense", trace, whole), Ran("b", "blind", "recipe", trace, blind)]
        dense, recipe = edgebert.Modelled(full, None, None), edgebert.Modelled(full, leaving, leaving)
        found = {
            aside["name"]: aside
            for aside in edgebert.asides(given, dense, recipe, ASKED.blocks, trace, runs, 0.5, BOARD)
        }
        energies = {name: [row["energy"]["value"] for row in aside["rows"]] for name, aside in found.items()}
        assert energies["trimming"][0] == pytest.approx(mj(full, 4, None, 300.0))
        assert energies["trimming"][1] == energies["packing"][0] == pytest.approx(fmean(whole.mj))
        assert energies["trimming"][3] == pytest.approx(fmean(blind.mj))
        assert energies["packing"][1] == pytest.approx(costs.packed(full, ASKED, False)["mj"])
        assert energies["packing"][3] == pytest.approx(costs.packed(leaving, ASKED, True)["mj"])
        assert energies["whole period"] == [pytest.approx(costs.over_period(BOARD, run.costs, 0.5)) for run in runs]
        assert energies["zero products"][1] < energies["zero products"][0]
        kinds = {name: aside["kind"] for name, aside in found.items()}
        assert kinds.pop("voltage scaling") == "hypothetical, modelled" and set(kinds.values()) == {"modelled"}
        assert "Hypothetical" in found["voltage scaling"]["told"]
