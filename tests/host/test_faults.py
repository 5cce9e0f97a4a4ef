# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on the way: hangs, Ctrl-C, memory that does not suffice, sensors that say nothing. No sentence is
lost silently, and the board is left idle, its clock running, its memory free.
"""

import csv
import io
import json
import os
import signal
import subprocess
import sys

import pytest
from random_artifact import make_random_artifact
from zynqbert import host
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import buffers, demo, recovery
from zynqbert.host.errors import EngineStuck, EngineTimeout, ResetTimeout, TargetError
from zynqbert.host.meter import Reading
from zynqbert.host.output import text_lines, write_results
from zynqbert.host.packing import pack_pass
from zynqbert.host.result import Result, TokenLabel
from zynqbert.host.target import emulated
from zynqbert.quant.datasets import Example

ZCU102 = BOARDS["zcu102"]
TEXTS = ["w4 w5 w6", " ".join(f"w{4 + i % 40}" for i in range(50)), "w9 unknown w8"]
HUNG = r"engine: not done after 0\.02 s \(AP_CTRL = "


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact"), layers=2, labels=3, seed=4)


@pytest.fixture(scope="module")
def answers(artifact):
    """The logits of TEXTS, by an engine without a fault."""
    with opened(artifact, emulated(ZCU102)) as engine:
        return [result.logits for result in engine.stream(TEXTS)]


@pytest.fixture
def target():
    return emulated(ZCU102)


@pytest.fixture
def device(target):
    return target.device


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch):
    monkeypatch.setattr(recovery, "SETTLE_S", 0.02)
    monkeypatch.setattr(recovery, "PROBE_S", 0.02)


def opened(artifact, target, **kwargs):
    return host.open(board="zcu102", artifact=artifact, device=target, **({"timeout_s": 0.02} | kwargs))


def left_in_order(device) -> bool:
    """No buffer is held, no program runs, the engine's clock runs."""
    return not device.memory.blocks and device.engine.idle and device.engine_mhz > 0


class TestHang:
    @pytest.mark.parametrize("hung", range(len(TEXTS)))
    def test_the_sentence_is_reported_and_the_others_are_right(self, artifact, answers, target, device, hung):
        results = []
        with opened(artifact, target) as engine:
            stream = engine.stream(TEXTS)
            for n in range(len(TEXTS)):
                device.faults.hangs = int(n == hung)
                results.append(next(stream))
        assert [result.text for result in results] == TEXTS
        assert [result.error is not None for result in results] == [n == hung for n in range(len(TEXTS))]
        assert [result.logits for result in results] == [() if n == hung else answers[n] for n in range(len(TEXTS))]
        assert left_in_order(device)

    @pytest.mark.parametrize("kind", [{"kind": "token"}, {"family": "albert"}, {"softmax": "normalized"}], ids=str)
    def test_a_pass_needs_nothing_from_before_the_reset(self, tmp_path, target, device, kind):
        folder = make_random_artifact(tmp_path / "artifact", seed=2, **kind)
        with opened(folder, emulated(ZCU102)) as engine:
            expected = [result.logits for result in engine.stream(TEXTS)]
        with opened(folder, target) as engine:
            for text, logits in zip(TEXTS, expected, strict=True):
                device.faults.hangs = 1
                failed, answered = engine.stream([text, text])
                assert failed.error and answered.logits == logits

    def test_what_is_known_is_said(self, artifact, target, device):
        device.faults.hangs = 0
        with opened(artifact, target, clock_mhz=200) as engine:
            device.faults.hangs = 1
            (result,) = engine.stream([("w4 " * 80, "w5")])
        assert (result.pair, result.truncated, result.clock_mhz) == ("w5", True, 200)
        known = {"text", "pair", "truncated", "clock_mhz", "error"}
        assert {value or None for name, value in vars(result).items() if name not in known} == {None}
        assert result.error.startswith("engine: not done after 0.02 s (AP_CTRL = ") and "\n" not in result.error
        assert result.fps_per_w is None

    @pytest.mark.parametrize("hangs", [2, -1])
    def test_a_reset_that_does_not_help(self, artifact, target, device, hangs):
        with opened(artifact, target) as engine:
            device.faults.hangs = hangs
            with pytest.raises(EngineStuck, match=HUNG + ".*nor does an empty program end after a reset; remedy: open"):
                list(engine.stream(TEXTS))
        assert left_in_order(device)

    def test_a_pass_of_ones_own(self, artifact, target, device):
        """Not streamed, the time-out is the caller's; the engine is left in order all the same."""
        with opened(artifact, target) as engine:
            device.faults.hangs = 1
            with pytest.raises(EngineTimeout, match=HUNG):
                engine.run_pass(pack_pass([engine.encoder.encode("w4")]))
            assert not device.engine.idle
        assert left_in_order(device)

    def test_an_engine_that_nothing_stops_keeps_its_memory(self, artifact, target, device, monkeypatch):
        """What it may still write to is not given back, not even when nobody refers to it."""
        engine = opened(artifact, target)
        device.faults.hangs = 1

        def reset():
            raise ResetTimeout(1, "RESET = 1")

        monkeypatch.setattr(engine.driver, "reset", reset)
        with pytest.raises(ResetTimeout, match="RESET = 1"), engine:
            next(engine.stream(TEXTS))
        del engine
        assert len(device.memory.blocks) == 4
        monkeypatch.setattr(buffers, "_KEPT", [])


class TestInterrupt:
    """Ctrl-C, which Python raises as KeyboardInterrupt wherever it is."""

    def test_while_a_pass_runs(self, artifact, target, device, monkeypatch):
        engine = opened(artifact, target)

        def wait(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(engine.driver, "wait", wait)
        with pytest.raises(KeyboardInterrupt), engine:
            next(engine.stream(TEXTS))
        assert left_in_order(device)

    def test_while_a_pass_hangs(self, artifact, target, device, monkeypatch):
        engine = opened(artifact, target)
        device.faults.hangs = -1

        def wait(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(engine.driver, "wait", wait)
        with pytest.raises(KeyboardInterrupt), engine:
            next(engine.stream(TEXTS))
        assert left_in_order(device)

    def test_a_second_one_while_the_first_is_seen_to(self, artifact, target, device, monkeypatch):
        engine = opened(artifact, target)
        device.faults.hangs = -1

        def interrupted(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(engine.driver, "wait", interrupted)
        monkeypatch.setattr(recovery.time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt), engine:
            next(engine.stream(TEXTS))
        assert left_in_order(device)

    def test_a_running_pass_may_end(self, artifact, target, device, monkeypatch):
        """It is not reset: AP_CTRL is read until it is idle."""
        engine = opened(artifact, target)
        seen = iter((False, False, True))
        resets = []
        monkeypatch.setattr(type(engine.driver), "idle", property(lambda _: next(seen, True)))
        monkeypatch.setattr(engine.driver, "reset", lambda: resets.append(1))
        monkeypatch.setattr(recovery, "SETTLE_S", 10)
        engine.close()
        assert not resets and next(seen, None) is None and not device.memory.blocks

    def test_at_every_access_to_a_register(self, artifact):
        """Open, answer, change the clock by select and by retuning, answer: interrupted at every read and write."""

        def session(target):
            with opened(artifact, target) as engine:
                next(engine.stream(TEXTS))
                engine.set_clock(200)
                engine.set_clock(123)
                next(engine.stream(TEXTS))

        accesses = 0
        while interrupted(session, accesses):
            accesses += 1
        assert accesses > 60

    @pytest.mark.parametrize("hangs", [0, -1], ids=["waiting for a sentence", "in a pass that hangs"])
    def test_a_signal_to_the_command(self, artifact, hangs):
        """A real SIGINT: exit code 130, a word about a reset alone, and the emulated board left in order."""
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(artifact), str(hangs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        process.stdin.write("w4 w5\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == "w4 w5"
        if hangs:
            process.stdin.write("w6\n")
            process.stdin.flush()
            assert process.stdout.readline() == "hangs\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (130, "in order: True\n")
        said = err.splitlines()
        assert len(said) == abs(hangs) and all(
            "the engine still runs at the end, and is reset" in line for line in said
        )


# `zynqbert run --file -` on an emulated device that hangs after the first answer if told so.
COMMAND = """
import sys
from zynqbert.host import cli, driver, recovery, target

artifact, hangs = sys.argv[1], int(sys.argv[2])
recovery.SETTLE_S = 0.02
made = []
emulated = target.emulated


def remembered(board, **kwargs):
    made.append(emulated(board, **kwargs))
    device = made[0].device
    run = device.engine.run

    programs = []

    def answered(*arguments):
        answer = run(*arguments)
        programs.append(arguments[3])
        if len(programs) > 1:  # the first one brings weights on chip
            device.faults.hangs = hangs
        return answer

    device.engine.run = answered
    return made[0]


start = driver.EngineDriver.start


def started(self, *arguments):
    start(self, *arguments)
    if not self.idle:
        print("hangs")


target.emulated = remembered
driver.EngineDriver.start = started
code = cli.call(["run", "--file", "-", "--format", "jsonl", "--device", "emulated", "--artifact", artifact])
device = made[0].device
print("in order:", not device.memory.blocks and device.engine.idle and device.engine_mhz > 0)
sys.exit(code)
"""


def interrupted(session, access: int) -> bool:
    """Whether `session` got as far as that access to a register, which is a Ctrl-C; nothing may be left of it then."""
    target = emulated(ZCU102)
    device = target.device
    true_access, count = {}, iter(range(access + 1))

    def hook(name):
        true_access[name] = getattr(device, name)

        def access_or_interrupt(*arguments):
            if next(count, None) == access:
                raise KeyboardInterrupt
            return true_access[name](*arguments)

        setattr(device, name, access_or_interrupt)

    hook("read_registers")
    hook("write_registers")
    try:
        session(target)
    except KeyboardInterrupt:
        assert left_in_order(device), f"interrupted at access {access}"
        return True
    return False


class TestMemory:
    """Contiguous memory that does not suffice, as pynq reports it."""

    @pytest.mark.parametrize("error", [RuntimeError("BO allocation failed: -12"), MemoryError("no memory")])
    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_is_refused_with_figures_and_remedy(self, artifact, target, device, monkeypatch, tmp_path, which, error):
        (tmp_path / "meminfo").write_text("MemTotal: 3950000 kB\nCmaTotal:  65536 kB\nCmaFree:   512 kB\n")
        monkeypatch.setattr(buffers, "MEMINFO", tmp_path / "meminfo")
        asked = []
        allocate = device.allocate

        def failing(shape, dtype, **kwargs):
            asked.append(shape)
            if len(asked) > which:
                raise error
            return allocate(shape, dtype, **kwargs)

        monkeypatch.setattr(device, "allocate", failing)
        with pytest.raises(TargetError) as caught:
            opened(artifact, target)
        assert str(caught.value) == (
            f"contiguous memory: no {asked[-1]} bytes (CmaTotal 65536 kB, CmaFree 512 kB: {error}); remedy: end what "
            'else holds buffers, or give the kernel more by cma= (docs/troubleshooting.md, "contiguous memory")'
        )
        assert left_in_order(device)

    def test_a_kernel_that_shows_none(self, artifact, target, device, monkeypatch, tmp_path):
        def failing(*_, **__):
            raise RuntimeError("BO allocation failed")

        monkeypatch.setattr(device, "allocate", failing)
        for meminfo in (tmp_path / "none", tmp_path / "meminfo"):
            (tmp_path / "meminfo").write_text("MemTotal: 3950000 kB\n")
            monkeypatch.setattr(buffers, "MEMINFO", meminfo)
            with pytest.raises(TargetError, match=r"no \d+ bytes \(BO allocation failed\); remedy"):
                opened(artifact, target)


FAILED = Result(text="w4", pair="w5", clock_mhz=200.0, truncated=False, error="engine: not done after 10 s (…)")
UNMEASURED = Result(
    text="w6", label="b", confidence=0.75, scores={"a": 0.25, "b": 0.75}, latency_ms=2.0, clock_mhz=200.0,
    truncated=True, source="measured", logits=(1, 2),
)  # fmt: skip
TASK = {"kind": "sequence", "scores": "softmax", "labels": ["a", "b"]}


class TestOutput:
    def written(self, form, results, **task):
        out = io.StringIO()
        failed = write_results(results, form, {None: TASK | task}, out)
        return failed, out.getvalue()

    def test_text(self):
        assert self.written("text", [FAILED, UNMEASURED, FAILED]) == (
            2,
            "error: engine: not done after 10 s (…)  w4  |  w5\n"
            "b  0.750  2.000 ms  power not measured  [measured, 200 MHz]  (truncated)  w6\n"
            "error: engine: not done after 10 s (…)  w4  |  w5\n",
        )

    def test_json_lines(self):
        failed, lines = self.written("jsonl", [FAILED, UNMEASURED])
        first, second = map(json.loads, lines.splitlines())
        assert failed == 1
        assert (first["error"], first["label"], first["latency_ms"], first["logits"]) == (FAILED.error, None, None, [])
        assert (second["error"], second["power_w"], second["energy_mj"], second["label"]) == (None, None, None, "b")

    def test_csv_of_sentences(self):
        failed, table = self.written("csv", [FAILED, UNMEASURED])
        first, second = csv.DictReader(io.StringIO(table))
        assert failed == 1
        known = {"text": "w4", "pair": "w5", "clock_mhz": "200.0", "truncated": "False", "error": FAILED.error}
        assert first == {name: known.get(name, "") for name in second}
        assert (second["error"], second["power_w"], second["energy_mj"]) == ("", "", "")
        assert (second["score:a"], second["score:b"], second["latency_ms"]) == ("0.25", "0.75", "2.0")

    def test_csv_of_tokens(self):
        tokens = (TokenLabel("w6", 0, 2, "a", 0.5, False),)
        tagged = Result(text="w6 w7", tokens=tokens, clock_mhz=200.0, truncated=False, logits=((1,),))
        failed, table = self.written("csv", [tagged, FAILED, tagged], kind="token")
        rows = [row.split(",") for row in table.splitlines()]
        assert failed == 1
        assert rows == [
            ["sentence", "token", "start", "end", "label", "confidence", "in_pair", "error"],
            ["1", "w6", "0", "2", "a", "0.5", "False", ""],
            ["2", "", "", "", "", "", "", FAILED.error],
            ["3", "w6", "0", "2", "a", "0.5", "False", ""],
        ]

    def test_all_is_well(self):
        assert self.written("jsonl", [UNMEASURED])[0] == 0

    def test_no_power_is_no_division_by_zero(self):
        no_power = Result(text="", latency_ms=1.0, power_w=0.0, energy_mj=0.0, clock_mhz=1.0, truncated=False)
        assert no_power.fps_per_w == float("inf")
        assert "0.00 W  inf fps/W" in next(text_lines(no_power, "softmax"))


def test_sensors_that_say_nothing(artifact, target, answers):
    """The answer stands, without power or energy."""

    class Blind:
        def measure(self, run, row_blocks, clock_mhz, course=None):
            run()
            return Reading(1.5, None, "measured")

        def close(self):
            pass

    with opened(artifact, target) as engine:
        engine.meter = Blind()
        results = list(engine.stream(TEXTS))
    assert [result.logits for result in results] == answers
    assert {(r.latency_ms, r.power_w, r.energy_mj, r.fps_per_w, r.error) for r in results} == {(1.5, *[None] * 4)}


class TestDemo:
    EXAMPLES = tuple(Example(f"w{4 + i} w{5 + i}", i % 2) for i in range(10))

    def test_failed_sentences_are_shown(self, artifact, target, device):
        console = demo.Console(file=io.StringIO(), width=120)
        with opened(artifact, target) as engine:
            device.faults.hangs = 1
            demo.show(engine, self.EXAMPLES, console)
        shown = console.file.getvalue()
        assert shown.count("w4 w5") == 1 and shown.count("failed") == 2
        assert "failed: engine: not done after 0.02 s" in shown and "modelled" in shown

    def test_accuracy(self, monkeypatch):
        results = [FAILED, UNMEASURED, UNMEASURED]
        monkeypatch.setattr(demo.datasets, "LABELS", ("a", "b"))

        class Engine:
            def stream(self, texts):
                yield from (result for result, _ in zip(results, texts, strict=True))

        found = demo.measure(Engine(), [Example("w", 1), Example("w", 1), Example("w", 0)])
        assert found == demo.Accuracy(right=1, total=2, failed=1)
        line = demo.summary(found, seed=3)
        assert line.startswith("accuracy 50.0% (1 of 2 sentences of the test split, seed 3; 95 % interval ")
        assert line.endswith("%); 1 more failed")
        assert demo.summary(demo.Accuracy(0, 0, 5), 0) == "accuracy not measured: all 5 sentences failed"
