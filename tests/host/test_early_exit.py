# SPDX-License-Identifier: Apache-2.0
"""Sentences that leave early: the golden's answers one by one, latency targets, clocks, and what is told of them."""

import csv
import io
import json
import math

import numpy as np
import pytest
from random_artifact import make_random_artifact
from zynqbert import host
from zynqbert.fpga import registers
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.dvfs import Passes, ladder, leaving_at
from zynqbert.fpga.energy import PARTS, energy, work_of
from zynqbert.host import cli
from zynqbert.host.compiler import plan
from zynqbert.host.driver import EngineDriver
from zynqbert.host.early_exit import ANOTHER_LOAD, BATCH, Load, Ways, operating_point, target_seconds, verdicts_of
from zynqbert.host.errors import EngineError
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.host.layouts import Record
from zynqbert.host.model_shape import ModelShape
from zynqbert.host.packing import Sentence, pack_pass
from zynqbert.host.result import EXIT_FIELDS
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.golden_model import GoldenModel

LAYERS = 5
THRESHOLD = 1300  # of 2839, ln 2: of the sentences below some leave at most ramps
TABLE = [2] * 100 + [3] * 60 + [4] * 30 + [0] * 66
POINTS = {
    "1": {"threshold": THRESHOLD, "foretold": {"threshold": 1500, "table": TABLE}, "loss_points": 1},
    "none foretold": {"threshold": THRESHOLD, "foretold": None},
}
TEXTS = [" ".join(f"w{4 + (7 * n + i) % 40}" for i in range(3 + 5 * n % 40)) for n in range(12)]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("early")
    return make_random_artifact(folder, layers=LAYERS, seed=11, exits=True, points=POINTS)


@pytest.fixture(scope="module")
def golden(artifact):
    return GoldenModel(artifact)


@pytest.fixture
def engine(artifact):
    with host.open(board="zcu102", artifact=artifact, device="emulated", early_exit="1") as engine:
        yield engine


def expected(golden, engine, text, exits):
    ids = engine.encoder.encode(text).ids
    return golden.forward_sentence(ids, length=-(-len(ids) // 32) * 32, exits=exits)


class TestAnswers:
    @pytest.mark.parametrize("target", [None, 0.05, 100.0])
    def test_each_is_the_goldens(self, engine, golden, target):
        """By entropy alone without a target, by the layer foretold with one, whatever the clock."""
        point = POINTS["1"] if target is not None else POINTS["1"] | {"foretold": None}
        layers = set()
        for result in engine.stream(TEXTS, latency_target_ms=target):
            answer = expected(golden, engine, result.text, point)
            assert list(result.logits) == answer.logits[0].tolist()
            assert result.exit_layer == answer.layer[0] and result.layers == LAYERS
            assert result.exit_entropy == answer.entropy[0] / 4096
            assert (result.foretold_layer or 0) == answer.foretold[0]
            if target is not None:
                assert result.first_entropy == answer.first[0] / 4096
            layers.add(result.exit_layer)
        assert len(layers) > 2, "the sentences do not tell one layer from another"

    def test_targets_come_and_go(self, engine, golden):
        """Two programs in one engine, whose image differs by the exit table."""
        for target in (None, 5.0, None, 0.01, 5.0):
            way = POINTS["1"] if target is not None else POINTS["1"] | {"foretold": None}
            for result in engine.stream(TEXTS[:4], latency_target_ms=target):
                answer = expected(golden, engine, result.text, way)
                assert (list(result.logits), result.exit_layer) == (answer.logits[0].tolist(), answer.layer[0])
                assert (result.foretold_layer or 0) == answer.foretold[0]
                assert result.target_ms == target and (result.target_met is None) == (target is None)

    def test_several_in_a_pass_leave_one_by_one(self, engine, golden):
        texts = TEXTS[:3]
        rows = pack_pass([engine.encoder.encode(text) for text in texts])
        for target in (None, 100.0):
            point = POINTS["1"] if target is not None else POINTS["1"] | {"foretold": None}
            columns = (rows.word, rows.position, rows.type, rows.begin, rows.end)
            answers = golden.forward(*columns, rows.results, exits=point)
            found = engine.together(texts, latency_target_ms=target)
            assert [r.exit_layer for r in found] == answers.layer.tolist()
            assert [list(r.logits) for r in found] == answers.logits.tolist()
            assert len({r.latency_ms for r in found}) == 1
            course = engine._course(rows, engine._ios[0])
            assert sum(r.energy_mj for r in found) == pytest.approx(energy(BOARDS["zcu102"], course.work).joules * 1e3)

    def test_the_images_differ_by_the_exit_table_alone(self, engine):
        free, timed = engine._task.free.plan, engine._timed.plan
        assert free.regions == timed.regions and free.io.clock_table is None is not timed.io.clock_table


class TestCosts:
    def test_what_the_model_says_of_the_layer_and_the_clocks(self, engine):
        for target in (None, 0.5):
            for result in engine.stream(TEXTS, latency_target_ms=target):
                passes = Passes(engine.plan)
                blocks = -(-len(engine.encoder.encode(result.text).ids) // 32)
                way = leaving_at(result.exit_layer, blocks)
                course = passes.course(blocks, way, result.first_clock_mhz, result.clock_mhz)
                assert result.latency_ms == pytest.approx(course.seconds * 1e3)
                spent = passes.energy(course)
                assert result.energy_mj == pytest.approx(spent.joules * 1e3)
                assert sum(result.energy_parts_mj.values()) == pytest.approx(result.energy_mj)
                assert set(result.energy_parts_mj) == set(PARTS)
                assert result.source == "modelled"
                if target is not None:
                    assert result.target_met is (result.latency_ms <= target)
                    assert (result.waiting_mj > 0) is (result.latency_ms < target)

    def test_the_clock_is_the_one_chosen_for_the_layer_foretold(self, engine):
        device, steps = engine.target.device, None
        seen = set()
        for target in (0.1, 0.2, 0.3, 0.5, 1.0, 5.0):
            for result in engine.stream(TEXTS, latency_target_ms=target):
                steps = ladder(engine.clocks.available(), engine.clock.output)
                blocks = -(-len(engine.encoder.encode(result.text).ids) // 32)
                passes = engine._timed.passes
                told = result.foretold_layer or LAYERS
                if result.exit_layer > 1:
                    chosen = passes.choose(blocks, leaving_at(told, blocks), steps, target * 1e-3)
                    assert result.clock_mhz == dict(steps)[chosen.output]
                    ended = device.engine.values[registers.engine("CLOCK_ENDED").offset]
                    assert ended == registers.CLOCK_CHOSEN | chosen.output
                else:
                    assert result.clock_mhz == result.first_clock_mhz
                seen.add(result.clock_mhz)
        assert engine.clock_mhz == steps[0][1] == 300

    def test_a_target_without_a_foretold_layer_assumes_the_whole_depth(self, artifact, golden):
        with host.open(board="zcu102", artifact=artifact, device="emulated", early_exit="none foretold") as engine:
            steps = ladder(engine.clocks.available(), engine.clock.output)
            for result in engine.stream(TEXTS, latency_target_ms=0.4):
                answer = expected(golden, engine, result.text, POINTS["none foretold"])
                assert (result.exit_layer, result.foretold_layer) == (answer.layer[0], None)
                if result.exit_layer > 1:
                    blocks = -(-len(engine.encoder.encode(result.text).ids) // 32)
                    choice = engine._timed.passes.choose(blocks, leaving_at(LAYERS, blocks), steps, 0.4e-3)
                    assert result.clock_mhz == dict(steps)[choice.output]

    def test_met_and_missed(self, engine):
        assert all(r.target_met for r in engine.stream(TEXTS, latency_target_ms=1000))
        assert not any(r.target_met for r in engine.stream(TEXTS, latency_target_ms=1e-3))


class TestTraffic:
    @pytest.fixture
    def written(self, monkeypatch):
        """Every register that the engine's driver reads or writes, by name."""
        names = {r.offset: r.name for r in registers.ENGINE}
        found = []
        for kind in ("read", "write"):
            plain = getattr(EngineDriver, kind)

            def noted(self, offset, *value, kind=kind, plain=plain):
                found.append((kind, names.get(offset, names.get(offset - 4)), *value))
                return plain(self, offset, *value)

            monkeypatch.setattr(EngineDriver, kind, noted)
        return found

    def test_a_pass_with_early_exit_touches_the_same_registers(self, artifact, written):
        """The clock table goes through the io buffer; the engine changes its clock by itself."""

        def of_a_pass(**kwargs):
            target = kwargs.pop("target", None)
            with host.open(board="zcu102", artifact=artifact, device="emulated", **kwargs) as engine:
                list(engine.stream(TEXTS[:1], latency_target_ms=target))  # weights to the chip, tables
                written.clear()
                list(engine.stream(TEXTS[:1], latency_target_ms=target))
                return [(kind, name) for kind, name, *_ in written]

        plain = of_a_pass()
        assert plain[0] == ("write", "PROGRAM") and ("read", "STATUS") in plain
        assert of_a_pass(early_exit="1") == plain
        # With a target the clock is started before the pass and stopped after it: CLOCK, idle, CLOCK, CLOCK_STATUS.
        change = [("read", "CLOCK"), ("read", "AP_CTRL"), ("write", "CLOCK"), *[("read", "CLOCK_STATUS")] * 3]
        assert of_a_pass(early_exit="1", target=5.0) == [*change, *plain, *change]

    def test_the_table_is_flushed_before_the_pass(self, engine):
        list(engine.stream(TEXTS[:1], latency_target_ms=0.3))
        layout = engine._timed.plan.io
        table = engine.target.device.device_bytes(engine._ios[0])[layout.clock_table :][:256]
        blocks = -(-len(engine.encoder.encode(TEXTS[0]).ids) // 32)
        assert table.tobytes() == engine._task.clock_table(blocks, 0.3e-3, engine._clocks())


class TestStanding:
    """Within a stream with a latency target the engine's clock stands wherever no pass runs."""

    @pytest.fixture
    def device(self, engine):
        return engine.target.device

    @pytest.fixture
    def ran(self, device, monkeypatch):
        """The engine's clock in each run of a program."""
        found, plain = [], device.engine.run
        monkeypatch.setattr(device.engine, "run", lambda *given: (found.append(device.engine_mhz), plain(*given))[1])
        return found

    def test_between_passes_alone(self, engine, device, ran):
        for result in engine.stream(TEXTS[:3], latency_target_ms=5.0):
            assert result.logits and device.engine_mhz == 0
        assert ran and set(ran) == {300}
        assert engine.together(TEXTS[:2], latency_target_ms=5.0) and device.engine_mhz == 0

    def test_not_without_a_target(self, engine, device):
        assert all(device.engine_mhz == 300 for _ in engine.stream(TEXTS[:2]))
        list(engine.stream(TEXTS[:1], latency_target_ms=5.0))
        assert device.engine_mhz == 0
        assert [device.engine_mhz for _ in engine.stream(TEXTS[:2])] == [300, 300], "the next pass started it for good"

    def test_a_stream_that_is_left_and_what_may_follow(self, artifact, engine, device, ran):
        rows = pack_pass([engine.encoder.encode(TEXTS[0])])
        for after in (lambda: next(engine.stream(TEXTS)), lambda: engine.run_pass(rows), lambda: engine.set_clock(200)):
            for _ in engine.stream(TEXTS, latency_target_ms=5.0):
                break
            assert device.engine_mhz == 0
            after()
            assert device.engine_mhz == engine.clock_mhz
        assert 0 not in ran
        list(engine.stream(TEXTS[:1], latency_target_ms=5.0))
        with host.open(board="zcu102", artifact=artifact, device=engine.target) as again:
            assert device.engine_mhz == again.clock_mhz

    def test_a_hang(self, engine, device):
        plain = list(engine.stream(TEXTS[:3], latency_target_ms=5.0))
        engine.timeout_s, device.faults.hangs = 0.05, 1
        stream = engine.stream(TEXTS[:3], latency_target_ms=5.0)
        assert "not done after" in next(stream).error and device.engine_mhz == 0
        assert list(stream) == plain[1:] and device.engine_mhz == 0

    @pytest.mark.parametrize("error", [KeyboardInterrupt, EngineError(1, 0)])
    def test_a_pass_or_a_stop_that_is_interrupted(self, engine, device, error, monkeypatch):
        plain = list(engine.stream(TEXTS[:2], latency_target_ms=5.0))

        def stopping(driver):
            driver._put("CLOCK", registers.CLOCK_STOP)
            raise error

        def broken(*_, **__):
            raise error

        for name, fault in (("stop_clock", stopping), ("run", broken)):
            with monkeypatch.context() as patch, pytest.raises(type(error) if isinstance(error, Exception) else error):
                patch.setattr(EngineDriver, name, fault)
                list(engine.stream(TEXTS[:1], latency_target_ms=5.0))
            assert list(engine.stream(TEXTS[:2], latency_target_ms=5.0)) == plain


class TestClock:
    def test_a_target_that_the_boards_plan_misses_is_met(self, artifact):
        """With early exit the clock is the bitstream's fastest, 300 MHz, where the plan is 250."""

        def ran(target, **clock):
            with host.open(board="zcu102", artifact=artifact, device="emulated", early_exit="1", **clock) as engine:
                return next(engine.stream(TEXTS[:1], latency_target_ms=target))

        slow, fast = (ran(1e-3, clock_mhz=mhz).latency_ms for mhz in (250, 300))
        target = (slow + fast) / 2
        assert ran(target, clock_mhz=250).target_met is False
        found = ran(target)
        assert found.target_met is True and found.latency_ms == fast
        assert found.first_clock_mhz == found.clock_mhz == 300 > BOARDS["zcu102"].clock_mhz == 250


class TestRetune:
    """The wizard's outputs change between batches, never within one."""

    @pytest.fixture
    def asked(self, engine, monkeypatch):
        """Calls for better outputs, which are found each time."""
        found = []

        def better(passes, mix, target_s, present, current=0, gated=True):
            found.append((dict(mix), target_s))
            return (300.0, 180.0, 120.0, 90.0)

        monkeypatch.setattr("zynqbert.fpga.dvfs.best_outputs", better)
        monkeypatch.setattr("zynqbert.host.early_exit.BATCH", 4)
        monkeypatch.setattr("zynqbert.host.early_exit.ANOTHER_LOAD", 1)
        return found

    def test_only_where_target_or_mix_change_and_never_within_a_batch(self, engine, asked):
        """Batches of 4 passes, in one stream or in several; results keep their order."""
        outputs, mixes = [], []
        stream = engine.stream(TEXTS, latency_target_ms=0.4)
        for number, (text, result) in enumerate(zip(TEXTS, stream, strict=True)):
            assert result.text == text and result.first_clock_mhz == 300
            outputs.append(engine.clocks.available()[1])
            if number % 4 == 3:
                mixes.append(dict(engine._load._batch))
                assert sum(mixes[-1].values()) == 4
        assert outputs == [200] * 4 + [180] * 8, "the first batch at the wizard's own"
        assert mixes[0] != mixes[1] and asked == [(mixes[0], 0.4e-3), (mixes[1], 0.4e-3)]
        for _ in range(9):  # the last batch, then one of one kind, which stays
            list(engine.stream(TEXTS[:1], latency_target_ms=0.4))
        assert [mix for mix, _ in asked[2:]] == [mixes[2], {(1, 4): 4}], "the same target, the same mix"
        list(engine.stream(TEXTS[:1] * 5, latency_target_ms=0.6))
        assert len(asked) == 5 and asked[4][1] == pytest.approx(0.6e-3)
        list(engine.stream(TEXTS))
        assert len(asked) == 5, "without a target there is nothing to tune for"

    def test_several_in_a_pass_are_one_of_the_mix(self, engine, asked):
        for _ in range(5):
            assert not asked
            engine.together(TEXTS[:3], latency_target_ms=0.4)
        ((mix, target_s),) = asked
        assert list(mix.values()) == [4] and target_s == pytest.approx(0.4e-3)

    def test_answers_do_not_change(self, engine, golden, asked):
        for result in engine.stream(TEXTS, latency_target_ms=0.4):
            answer = expected(golden, engine, result.text, POINTS["1"])
            assert (list(result.logits), result.exit_layer) == (answer.logits[0].tolist(), answer.layer[0])
        assert asked

    def test_another_clock_is_looked_at_anew(self, engine, asked):
        list(engine.stream(TEXTS[:1] * 9, latency_target_ms=0.4))
        assert len(asked) == 1
        engine.set_clock(200)
        list(engine.stream(TEXTS[:1] * 4, latency_target_ms=0.4))
        assert len(asked) == 2

    def test_may_be_declined(self, artifact, asked):
        with host.open(board="zcu102", artifact=artifact, device="emulated", early_exit="1", retune=False) as engine:
            list(engine.stream(TEXTS, latency_target_ms=0.4))
            assert not asked and engine.clocks.available() == registers.WIZARD_OUTPUTS_MHZ

    def test_where_it_pays_and_where_not(self, tmp_path):
        """A model that is streamed from DDR, in batches of 64: at 0.28 ms 200 MHz is just too slow, at 1 ms it will do.
        Nothing in place of the models here."""
        points = {"all": {"threshold": 0, "foretold": None}}
        shape = {"layers": 3, "hidden": 384, "heads": 12, "ffn": 1536}
        folder = make_random_artifact(tmp_path / "wide", **shape, seed=11, exits=True, points=points)
        text = TEXTS[0]
        with host.open(board="zcu102", artifact=folder, device="emulated", early_exit="all") as engine:
            list(engine.stream([text] * 65, latency_target_ms=1.0))
            assert engine.clocks.available() == registers.WIZARD_OUTPUTS_MHZ
            *before, after = engine.stream([text] * 65, latency_target_ms=0.285)
            assert {r.clock_mhz for r in before} == {300} and engine.clocks.available()[0] == 300
            assert 200 < after.clock_mhz < 280 and after.target_met and after.logits == before[0].logits
            spent = [r.energy_mj + r.waiting_mj for r in (before[0], after)]
            assert spent[1] < spent[0] * 0.99

    def test_the_table_follows_the_outputs(self, engine, asked):
        before = engine._task.clock_table(1, 0.4e-3, engine._clocks())
        change = engine.tune(0.4, {(1, 3): 10})
        assert change.kind == "retune" and change.output == 0
        assert engine.clock_mhz == 300 and engine.clocks.available()[0] == 300
        assert [mhz for _, mhz in engine._clocks()] == sorted(engine.clocks.available(), reverse=True)
        engine.set_clock(100)
        assert engine._clocks()[0][1] == 100 and before is not None

    def test_none_that_pays(self, engine, monkeypatch):
        monkeypatch.setattr("zynqbert.fpga.dvfs.best_outputs", lambda *_, **__: None)
        outputs = engine.clocks.available()
        assert engine.tune(0.4, {(1, 3): 10}) is None and engine.clocks.available() == outputs


class TestLoad:
    ROWS = pack_pass([Sentence(np.ones(40, np.int64), np.zeros(40, np.int64), False)] * 3)  # 4 row blocks

    def saw(self, load, count, layers=(3, 3, 3), foretold=(3, 4, 2), target_s=1e-3):
        lane = np.zeros((2, 32), np.int64)
        lane[:, :3] = layers, foretold
        for _ in range(count):
            load.saw(Record(lane[0], lane[0], lane[1], lane[0], lane[0]), self.ROWS, LAYERS, target_s)

    @pytest.mark.parametrize(
        "layers, foretold, kind",
        [
            ((3, 3, 3), (3, 4, 2), 4),
            ((3, 1, 3), (3, 4, 2), 3),  # who has left at the first ramp has no say
            ((3, 3, 3), (3, 0, 2), LAYERS),
            ((1, 1, 1), (3, 4, 2), 1),
        ],
    )
    def test_a_pass_is_of_the_layer_that_chose_its_clock(self, layers, foretold, kind):
        load = Load()
        self.saw(load, BATCH - 1, layers, foretold)
        assert load.another(1e-3) is None
        self.saw(load, 1, layers, foretold)
        assert load.another(1e-3) == {(4, kind): BATCH}

    def test_what_is_chance_is_no_other_load(self):
        load = Load()
        for others, changed in (
            (0, True),
            (ANOTHER_LOAD - 1, False),
            (ANOTHER_LOAD, True),
            (2 * ANOTHER_LOAD - 1, False),
        ):
            self.saw(load, BATCH - others)
            self.saw(load, others, (1, 1, 1))
            assert (load.another(1e-3) is not None) is changed
        load.forget()
        self.saw(load, BATCH)
        assert load.another(1e-3) == {(4, 4): BATCH}

    def test_an_old_load_fades(self):
        load = Load()
        for layers, kind in (((3, 3, 3), 4), ((1, 1, 1), 1)):
            self.saw(load, BATCH, layers)
            assert load.another(1e-3) == {(4, kind): BATCH}

    def test_another_target_begins_a_batch(self):
        load = Load()
        self.saw(load, BATCH)
        assert load.another(2e-3) is None
        self.saw(load, BATCH - 1, target_s=2e-3)
        assert load.another(2e-3) is None
        self.saw(load, 1, target_s=2e-3)
        assert load.another(2e-3) == {(4, 4): BATCH}


class TestParts:
    def test_verdicts_by_hand(self):
        """Rows 0..39, 40..49 and 50..99: blocks 0 and 1, 1, and 1 to 3."""
        rows = pack_pass([Sentence(np.ones(n, np.int64), np.zeros(n, np.int64), False) for n in (40, 10, 50)])

        def verdicts(*layers):
            lane = np.zeros(32, np.int64)
            lane[:3] = layers
            return verdicts_of(Record(lane, lane, lane, lane, lane), rows, LAYERS)

        assert verdicts(1, 1, 1) == (0,)
        assert verdicts(2, 1, 3) == (0b1111, 0b1110, 0)
        assert verdicts(1, 3, 2) == (0b1110, 0b0010, 0)
        assert verdicts(5, 1, 1) == (0b0011,) * 4 + (0,)

    @pytest.mark.parametrize("target", [0, -1, float("nan"), math.inf, "10"])
    def test_targets_that_are_none(self, target, engine):
        with pytest.raises(ValueError, match="a number of milliseconds above 0 is needed"):
            target_seconds(target)
        with pytest.raises(ValueError, match="a number of milliseconds above 0 is needed"):
            next(engine.stream(TEXTS, latency_target_ms=target))
        assert next(engine.stream(TEXTS)).exit_layer

    def test_operating_points(self):
        manifest = {"exits": {"points": POINTS}}
        assert operating_point(manifest, "1") is POINTS["1"]
        with pytest.raises(ValueError, match=r"early exit '2' is no operating point .* it has: 1, none foretold"):
            operating_point(manifest, "2")
        with pytest.raises(ValueError, match=r"the artifact has no off-ramps .*remedy: "):
            operating_point({"exits": None}, "1")

    def test_ways(self):
        ways = Ways.of_point(POINTS["1"])
        assert (ways.free.threshold, ways.free.clock, set(ways.free.table)) == (THRESHOLD, False, {0})
        assert (ways.timed.threshold, ways.timed.clock, list(ways.timed.table)) == (1500, True, TABLE)
        whole = Ways.of_point(POINTS["none foretold"]).timed
        assert (whole.threshold, whole.clock, set(whole.table)) == (THRESHOLD, True, {0})

    def test_without_early_exit(self, artifact):
        with host.open(board="zcu102", artifact=artifact, device="emulated") as engine:
            with pytest.raises(ValueError, match="a latency target needs early exit; remedy: "):
                next(engine.stream(TEXTS, latency_target_ms=10))
            (result,) = engine.stream(TEXTS[:1])
            assert result.exit_layer is result.layers is result.target_met is None
            assert not set(result.as_dict()) & set(EXIT_FIELDS)


class TestCommandLine:
    @pytest.fixture
    def call(self, capsys, artifact):
        def run(*arguments, folder=artifact):
            code = cli.call(["run", *TEXTS[:4], "--device", "emulated", "--artifact", str(folder), *arguments])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        return run

    def test_text(self, call):
        code, out, err = call("--early-exit", "1", "--latency-target", "10")
        assert (code, err) == (0, "")
        for line in out.splitlines():
            assert f" of {LAYERS}" in line and "[modelled, " in line and " mJ modelled" in line
            assert "target 10 ms met" in line

    def test_jsonl_and_csv_agree(self, call):
        options = ("--early-exit", "1", "--latency-target", "10")
        _, out, _ = call(*options, "--format", "jsonl")
        lines = [json.loads(line) for line in out.splitlines()]
        _, out, _ = call(*options, "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(out)))
        for line, row in zip(lines, rows, strict=True):
            assert line["source"] == row["source"] == "modelled"
            for name in ("exit_layer", "layers", "target_met", "first_clock_mhz", "clock_mhz"):
                assert row[name] == str(line[name])
            for part in PARTS:
                assert float(row[f"energy_mj:{part}:modelled"]) == line["energy_parts_mj"][part]
            assert sum(line["energy_parts_mj"].values()) == pytest.approx(line["energy_mj"])

    def test_plain_output_has_nothing_of_it(self, call):
        _, out, _ = call("--format", "csv")
        assert not set(next(csv.reader(io.StringIO(out)))) & set(EXIT_FIELDS)
        _, out, _ = call("--format", "jsonl")
        assert not set(json.loads(out.splitlines()[0])) & set(EXIT_FIELDS)

    def test_a_missed_target(self, call):
        options = ("--early-exit", "1", "--latency-target", "0.001")
        code, out, err = call(*options)
        assert code == 0 and out.count("MISSED") == 4
        assert err == "zynqbert: latency target of 0.001 ms missed by 4 of 4 sentences, latency modelled\n"
        assert call(*options, "--strict")[0] == 1
        assert call("--early-exit", "1", "--latency-target", "10", "--strict")[0] == 0

    @pytest.mark.parametrize("target", ["0", "-1", "nan", "inf"])
    def test_bad_targets(self, call, target):
        code, out, err = call("--early-exit", "1", f"--latency-target={target}")
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert f"--latency-target {target}: a number of milliseconds above 0 is needed; remedy: " in err

    def test_bad_points(self, call, tmp_path):
        code, out, err = call("--early-exit", "7")
        assert (code, out) == (2, "") and err.count("\n") == 1 and "it has: 1, none foretold" in err
        code, out, err = call("--latency-target", "7")
        assert (code, out) == (2, "") and "--latency-target goes with --early-exit; remedy: add --early-exit" in err
        plain = make_random_artifact(tmp_path / "plain")
        code, out, err = call("--early-exit", "1", folder=plain)
        assert (code, out) == (2, "") and "the artifact has no off-ramps" in err


class TestEstimate:
    def rows(self, capsys, folder, *options):
        code = cli.call(["estimate", "--artifact", str(folder), "--seq", "40", *options])
        captured = capsys.readouterr()
        assert (code, captured.err) == (0, "")
        return captured.out

    def test_each_layer_at_each_clock(self, capsys, artifact):
        found = json.loads(self.rows(capsys, artifact, "--json"))
        rows = found["extra"]["exits"]
        assert found["modelled"] is True
        clocks = [250.0, 200, 150, 100]
        assert [(r["layer"], r["rest_mhz"]) for r in rows] == [
            (layer, mhz) for layer in range(1, LAYERS + 1) for mhz in (clocks if layer > 1 else clocks[:1])
        ]
        model = load_artifact(artifact)
        compiled = plan(ModelShape.of_manifest(model.manifest), BOARDS["zcu102"], artifact=model, exits=ExitPlan(0))
        for row in rows:
            course = Passes(compiled).course(2, leaving_at(row["layer"], 2), 250.0, row["rest_mhz"])
            assert row["latency_ms"] == pytest.approx(course.seconds * 1e3)
            assert row["cycles"] == pytest.approx(course.work["cycles"], abs=1)
            assert row["energy_mj"] == pytest.approx(energy(BOARDS["zcu102"], course.work).joules * 1e3)

    def test_text_says_modelled(self, capsys, artifact):
        out = self.rows(capsys, artifact)
        assert "A sentence that leaves early, its first layer at 250 MHz, the rest at each clock; modelled:" in out
        assert out.count("  layer ") == 1 + 4 * (LAYERS - 1)

    def test_none_without_off_ramps(self, capsys, tmp_path):
        folder = make_random_artifact(tmp_path / "plain")
        assert "exits" not in json.loads(self.rows(capsys, folder, "--json"))["extra"]
        assert "leaves early" not in self.rows(capsys, folder)


class TestMarks:
    """Leaving behind a layer is the beginning of the pass through all layers, counter by counter."""

    @pytest.mark.parametrize("blocks", [1, 3])
    def test_the_pass_that_leaves_is_the_beginning_of_the_whole(self, artifact, blocks):
        model = load_artifact(artifact)
        compiled = plan(ModelShape.of_manifest(model.manifest), BOARDS["zcu102"], artifact=model, exits=ExitPlan(0))
        passes = Passes(compiled)
        for mhz in (300, 100):
            for layer in range(1, LAYERS + 1):
                way = leaving_at(layer, blocks)
                alone = compiled.simulate(blocks, mhz, verdicts=way)
                assert dict(passes.work(blocks, mhz, way).counts) == pytest.approx(dict(work_of(alone).counts))
                assert passes.timing(blocks, mhz).verdicts[layer - 1] == alone.verdicts[-1]

    def test_fewer_row_blocks_take_less(self, artifact):
        model = load_artifact(artifact)
        compiled = plan(ModelShape.of_manifest(model.manifest), BOARDS["zcu102"], artifact=model, exits=ExitPlan(0))
        passes = Passes(compiled)
        every, some = (passes.course(3, way, 300, 200) for way in ((7, 7, 7, 0), (7, 4, 4, 0)))
        one = passes.course(3, (7, 0), 300, 200)
        assert one.seconds < some.seconds < every.seconds
        assert one.work["array busy"] < some.work["array busy"] < every.work["array busy"]
