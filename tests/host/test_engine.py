# SPDX-License-Identifier: Apache-2.0
"""The engine as a user has it: answers equal the golden model's, choices of device, and what is left behind."""

import json
import logging
import math

import numpy as np
import pytest
from hwmon import FakeSysfs
from random_artifact import make_random_artifact
from zynqbert import host
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import driver
from zynqbert.host.errors import ClockError, EngineMismatch
from zynqbert.host.meter import BoardMeter
from zynqbert.host.packing import TooLong
from zynqbert.host.rails import find_rails
from zynqbert.host.result import scores_of
from zynqbert.host.target import Target, emulated
from zynqbert.quant.golden_model import GoldenModel

TEXTS = ["w4 w5 w6", "", " ".join(f"w{4 + i % 40}" for i in range(50)), "w9 unknown w8"]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact"), layers=2, labels=3, seed=4)


def open_emulated(artifact, board="zcu102", **kwargs):
    return host.open(board=board, artifact=artifact, device="emulated", **kwargs)


@pytest.mark.parametrize("board", BOARDS)
class TestAnswers:
    def test_logits_are_the_goldens(self, artifact, board):
        golden = GoldenModel(artifact)
        with open_emulated(artifact, board) as engine:
            for result in engine.stream(TEXTS):
                ids = engine.encoder.encode(result.text).ids
                expected = golden.forward_sentence(ids, length=-(-len(ids) // 32) * 32)
                assert list(result.logits) == expected.tolist()

    def test_confidence_is_the_softmax_of_the_scaled_logits(self, artifact, board):
        scale = json.loads((artifact / "manifest.json").read_text())["scales"]["logits"]
        with open_emulated(artifact, board) as engine:
            for result in engine.stream(TEXTS):
                e = np.exp(np.array(result.logits) * scale)
                assert result.confidence == pytest.approx(e.max() / e.sum())
                assert result.label == f"label{int(np.argmax(result.logits))}"

    def test_figures_are_the_models_and_say_so(self, artifact, board):
        with open_emulated(artifact, board, clock_mhz=200) as engine:
            short, long = engine.stream([TEXTS[0], TEXTS[2]])
            for result, blocks in ((short, 1), (long, 2)):
                timing = engine.plan.simulate(blocks, 200)
                assert result.latency_ms == pytest.approx(timing.seconds * 1e3)
                assert result.energy_mj == pytest.approx(result.power_w * result.latency_ms)
                assert result.fps_per_w == pytest.approx(1e3 / result.latency_ms / result.power_w)
                assert (result.source, result.clock_mhz) == ("modelled", 200)
        assert short.latency_ms < long.latency_ms


class TestPairs:
    def test_logits_are_the_goldens_with_both_segments(self, artifact):
        golden = GoldenModel(artifact)
        with open_emulated(artifact) as engine:
            for given in (("w4 w5", "w6 w7 w8"), ("", "w9"), (" ".join(["w4"] * 30), " ".join(["w5"] * 25))):
                (result,) = engine.stream([given])
                sentence = engine.encoder.encode(given)
                assert set(sentence.types) == {0, 1}
                length = -(-len(sentence.ids) // 32) * 32
                assert list(result.logits) == golden.forward_sentence(sentence.ids, sentence.types, length).tolist()
                assert (result.text, result.pair) == given

    def test_a_model_takes_either(self, artifact):
        with open_emulated(artifact) as engine:
            alone, paired, again = engine.stream(["w4 w5", ("w4 w5", "w6"), "w4 w5"])
        assert (alone.pair, paired.pair) == (None, "w6")
        assert alone.logits == again.logits != paired.logits

    def test_the_longer_text_is_cut_and_marked_or_refused(self, artifact):
        pair = ("w4", "w5 " * 70)
        with open_emulated(artifact) as engine:
            cut, whole = engine.stream([pair, ("w4", "w5 " * 60)])  # 64 tokens with the special ones
            assert cut.truncated and not whole.truncated and cut.logits == whole.logits
            with pytest.raises(TooLong, match="74 tokens, the model takes 64"):
                next(engine.stream([pair], strict=True))


class TestScores:
    """What a model's logits become, by the manifest's task.scores."""

    @pytest.fixture
    def answers(self, tmp_path):
        """Results of the texts, and x = logits * scale of each."""

        def found(**kinds):
            folder = make_random_artifact(tmp_path / "artifact", seed=6, **kinds)
            scale = json.loads((folder / "manifest.json").read_text())["scales"]["logits"]
            with open_emulated(folder) as engine:
                results = list(engine.stream(TEXTS))
            return [(result, [logit * scale for logit in result.logits]) for result in results]

        return found

    @pytest.mark.parametrize("labels", [1, 4])
    def test_sigmoid_of_each(self, answers, labels):
        for result, x in answers(scores="sigmoid", labels=labels):
            expected = {f"label{i}": 1 / (1 + math.exp(-v)) for i, v in enumerate(x)}
            assert result.scores == pytest.approx(expected)
            assert result.label == max(expected, key=expected.get)
            assert result.confidence == result.scores[result.label]
            assert result.value is None

    def test_softmax(self, answers):
        for result, x in answers(scores="softmax", labels=3):
            total = sum(map(math.exp, x))
            assert result.scores == pytest.approx({f"label{i}": math.exp(v) / total for i, v in enumerate(x)})
            assert result.confidence == result.scores[result.label] and result.value is None

    def test_a_regression_gives_its_value(self, answers):
        for result, (x,) in answers(scores="none", labels=1):
            assert result.value == pytest.approx(x) and result.scores == {"label0": result.value}
            assert result.label is None and result.confidence is None

    def test_a_regression_of_several_gives_them_by_name(self, answers):
        for result, x in answers(scores="none", labels=2):
            assert result.scores == pytest.approx({"label0": x[0], "label1": x[1]})
            assert result.label is result.confidence is result.value is None

    def test_far_logits_do_not_overflow(self):
        x = np.array([-5e4, 5e4])
        with np.errstate(all="raise", under="ignore"):
            assert scores_of(x, "sigmoid").tolist() == scores_of(x, "softmax").tolist() == [0, 1]


@pytest.mark.parametrize("family", ["bert", "albert"])
class TestTokens:
    @pytest.fixture
    def artifact(self, tmp_path, family):
        return make_random_artifact(tmp_path / "artifact", layers=2, labels=5, seed=8, kind="token", family=family)

    @pytest.mark.parametrize("board", BOARDS)
    def test_labels_are_the_goldens(self, artifact, board):
        golden = GoldenModel(artifact)
        scale = golden.manifest["scales"]["logits"]
        with open_emulated(artifact, board) as engine:
            for given in (*TEXTS, ("w4 w5", "w6")):
                (result,) = engine.stream([given])
                sentence = engine.encoder.encode(given)
                rows = golden.forward_sentence(sentence.ids, sentence.types, -(-len(sentence.ids) // 32) * 32)
                words = [i for i, token in enumerate(sentence.ids) if token not in (2, 3)]  # [CLS], [SEP]
                assert len(words) == len(result.tokens)
                assert np.array_equal(np.reshape(result.logits, (-1, 5)), rows[words])
                for token, logits in zip(result.tokens, rows[words], strict=True):
                    e = np.exp((logits - logits.max()) * scale)
                    assert token.label == f"label{logits.argmax()}"
                    assert token.confidence == pytest.approx(1 / e.sum())
                assert result.label is result.confidence is result.value is None and result.scores == {}

    def test_places_are_those_in_the_text(self, artifact):
        with open_emulated(artifact) as engine:
            (result,) = engine.stream([(" w5  wörter", "w6")])
        assert [(t.text, t.start, t.end, t.in_pair) for t in result.tokens] == [
            ("w5", 1, 3, False),
            ("wörter", 5, 11, False),
            ("w6", 0, 2, True),
        ]

    def test_what_is_cut_has_no_label(self, artifact):
        with open_emulated(artifact) as engine:
            cut, none = engine.stream(["w4 " * 80, ""])
        assert cut.truncated and len(cut.tokens) == 62
        assert none.tokens == none.logits == ()


class TestStream:
    def test_one_by_one_as_they_come(self, artifact):
        taken = []

        def texts():
            for text in TEXTS:
                taken.append(text)
                yield text

        with open_emulated(artifact) as engine:
            results = engine.stream(texts())
            assert next(results).text == TEXTS[0] and taken == TEXTS[:1]
            assert [result.text for result in results] == TEXTS[1:]

    def test_too_long_is_cut_and_marked_or_refused(self, artifact):
        long = "w4 " * 63  # 65 tokens where the task takes 64
        with open_emulated(artifact) as engine:
            cut, whole = engine.stream([long, "w4 " * 62])
            assert cut.truncated and not whole.truncated
            assert cut.logits == whole.logits
            with pytest.raises(TooLong, match="65 tokens, the model takes 64"):
                next(engine.stream([long], strict=True))
            assert next(engine.stream(["w4"])).text == "w4"

    def test_a_wide_pass_leaves_nothing_for_the_next(self, artifact):
        with open_emulated(artifact) as engine:
            first, _, again = engine.stream([TEXTS[0], TEXTS[2], TEXTS[0]])
            assert first.logits == again.logits


class TestClosing:
    def test_buffers_are_freed(self, artifact):
        with open_emulated(artifact) as engine:
            memory = engine.target.device.memory
            assert len(memory.blocks) == 4
        assert not memory.blocks
        with pytest.raises(ValueError, match="the engine is closed"):
            next(engine.stream(TEXTS))
        engine.close()

    def test_a_failed_open_leaves_no_buffer(self, artifact):
        target = emulated(BOARDS["zcu102"])
        with pytest.raises(ValueError, match="clock of 1 MHz"):
            host.open(board="zcu102", artifact=artifact, device=target, clock_mhz=1)
        assert not target.device.memory.blocks

    def test_another_boards_bitstream(self, artifact):
        with pytest.raises(EngineMismatch, match="engine has 192 columns, the zcu102's 128"):
            host.open(board="zcu102", artifact=artifact, device=emulated(BOARDS["zcu111"]))

    def test_a_tokenizer_of_another_model(self, artifact, tmp_path):
        with open_emulated(artifact) as engine:
            engine.encoder.vocab = 5
            with pytest.raises(ValueError, match="no embedding of"):
                next(engine.stream(["w30"]))


class TestClock:
    def test_what_was_asked_and_what_it_became(self, artifact, caplog):
        with open_emulated(artifact) as engine:
            device = engine.target.device
            assert engine.clock_mhz == engine.asked_mhz == device.engine_mhz == 250
            assert engine.set_clock(150).mhz == engine.clock_mhz == device.engine_mhz == 150
            assert not caplog.records
            change = engine.set_clock(123.456)
            assert engine.clock == change and engine.asked_mhz == 123.456
            assert 122 < change.mhz == engine.clock_mhz == device.engine_mhz < 123.456
            (record,) = caplog.records
            assert record.getMessage() == f"engine clock: 123.456 MHz asked, {change.mhz:g} MHz is the nearest below"
            (result,) = engine.stream(TEXTS[:1])
            assert result.clock_mhz == change.mhz

    def test_answers_are_the_same_at_every_clock(self, artifact):
        with open_emulated(artifact) as engine:
            found = []
            for mhz in (100, 250, 299, 300):
                engine.set_clock(mhz)
                found.append(list(engine.stream(TEXTS)))
        assert len({tuple(result.logits for result in results) for results in found}) == 1
        times = [results[0].latency_ms for results in found]
        assert times == sorted(times, reverse=True) and len(set(times)) == len(times)

    @pytest.mark.parametrize("mhz", [300.5, 900, float("nan")])
    def test_above_the_limit(self, artifact, mhz):
        with pytest.raises(ClockError, match="MHz is above 300 MHz"):
            open_emulated(artifact, clock_mhz=mhz)
        with open_emulated(artifact) as engine:
            with pytest.raises(ClockError, match="MHz is above 300 MHz"):
                engine.set_clock(mhz)
            assert engine.clock_mhz == engine.asked_mhz == engine.target.device.engine_mhz == 250

    def test_a_clock_that_does_not_follow(self, artifact, monkeypatch):
        """Told once, with the clock that runs; nothing is left of the attempt to open."""
        target = emulated(BOARDS["zcu102"])
        target.device.faults.locks_lost = 1
        monkeypatch.setattr(driver, "LOCK_TIMEOUT_S", 0.2)
        with pytest.raises(ClockError, match=r"no lock after loading.*at 300 MHz, as before"):
            host.open(board="zcu102", artifact=artifact, device=target)
        assert not target.device.memory.blocks and target.device.engine_mhz == 300
        target.device.faults.locks_lost = 2
        with pytest.raises(ClockError, match=r"no lock after loading.*remedy: load the overlay again"):
            host.open(board="zcu102", artifact=artifact, device=target)
        assert not target.device.memory.blocks


class TestLogging:
    def test_what_is_told(self, artifact, caplog):
        with caplog.at_level(logging.INFO, "zynqbert"), open_emulated(artifact, clock_mhz=200) as engine:
            sizes = [buffer.nbytes for buffer in (engine._program, engine._image, engine._ios[0])]
            list(engine.stream(TEXTS))
        assert {record.levelno for record in caplog.records} == {logging.INFO}
        said = [record.getMessage() for record in caplog.records if record.name.startswith("zynqbert.host")]
        assert said[0] == f"emulated zcu102, bitstream {engine.target.bitstream}"
        capabilities = "adaptive_rows branches chosen clock_select exit four_bit_rows"
        assert said[1].startswith(f"engine: program version 4, 128 columns, 32 lanes, capabilities {capabilities} ")
        assert said[2].startswith("engine clock: ") and "mhz=200" in said[2]
        assert said[3].startswith("bytes of program {}, image {}, io {}; loaded in ".format(*sizes))
        assert len(said) == 4

    def test_each_pass_is_for_debugging(self, artifact, caplog):
        with caplog.at_level(logging.DEBUG, "zynqbert"), open_emulated(artifact) as engine:
            list(engine.stream(TEXTS[1:3]))
        assert [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG] == [
            "12 matrices to the resident memory",
            "a pass of 1 row blocks, 1 sentences",
            "a pass of 2 row blocks, 1 sentences",
        ]

    def test_nothing_is_printed(self, artifact, capfd):
        with open_emulated(artifact) as engine:
            list(engine.stream(TEXTS))
        assert capfd.readouterr() == ("", "")


def test_results_of_a_board_say_measured(artifact, tmp_path):
    """A board's meter on a copy of sysfs; the engine above it does not change."""
    sysfs = FakeSysfs(tmp_path)
    for part, milliohm, amperes in (("u79", 2, 3.5), ("u76", 5, 1.5)):
        sysfs.add(part, milliohm)
        sysfs.set(part, 1.0, amperes)
    rails = find_rails("zcu102", sysfs.class_hwmon)
    there = emulated(BOARDS["zcu102"])
    target = Target(there.device, there.bitstream, lambda plan: BoardMeter("zcu102", rails), "zcu102")
    with host.open(board="zcu102", artifact=artifact, device=target) as engine:
        (result,) = engine.stream(TEXTS[:1])
        meter = engine.meter
    assert result.source == "measured" and result.latency_ms > 0
    assert result.power_w == pytest.approx(5.0)
    assert result.energy_mj == pytest.approx(5.0 * result.latency_ms)
    assert meter._sampler is None, "the meter's thread ends with the engine"
