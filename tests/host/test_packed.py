# SPDX-License-Identifier: Apache-2.0
"""A stream whose sentences share passes: each answer as if it were alone, in order, the host beside the engine."""

import threading
from itertools import pairwise

import numpy as np
import pytest
from random_artifact import make_random_artifact
from zynqbert import host
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import packed as module
from zynqbert.host import recovery
from zynqbert.host.packing import TooLong
from zynqbert.host.target import emulated
from zynqbert.quant.golden_model import GoldenModel

LENGTHS = np.random.default_rng(5).integers(1, 50, 30).tolist()
TEXTS = [" ".join(f"w{4 + (11 * n + i) % 40}" for i in range(count)) for n, count in enumerate(LENGTHS)]
POINTS = {"1": {"threshold": 1300, "foretold": {"threshold": 1500, "table": [2] * 128 + [4] * 128}, "loss_points": 1}}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact"), layers=2, labels=3, seed=4)


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    folder = tmp_path_factory.mktemp("early")
    return make_random_artifact(folder, layers=5, seed=11, exits=True, points=POINTS)


@pytest.fixture
def engine(artifact):
    with host.open(board="zcu102", artifact=artifact, device="emulated") as engine:
        yield engine


def counted(engine, monkeypatch):
    """How many sentences each pass has, as they run."""
    passes, run = [], engine._run_job
    monkeypatch.setattr(engine, "_run_job", lambda job: passes.append(len(job.sentences)) or run(job))
    return passes


@pytest.mark.parametrize("board", BOARDS)
def test_each_is_the_goldens_and_in_its_place(artifact, board, monkeypatch):
    golden = GoldenModel(artifact)
    with host.open(board=board, artifact=artifact, device="emulated") as engine:
        passes = counted(engine, monkeypatch)
        results = list(engine.packed(TEXTS, window=8))
        rows = sum(len(engine.encoder.encode(text).ids) for text in TEXTS)
    assert [r.text for r in results] == TEXTS and sum(passes) == len(TEXTS)
    assert len(passes) <= -(-rows // 128) + 1 < len(TEXTS) / 3
    for result in results:
        ids = engine.encoder.encode(result.text).ids
        alone = golden.forward_sentence(ids, length=-(-len(ids) // 32) * 32)
        assert list(result.logits) == alone.tolist(), result.text


@pytest.mark.parametrize("target", [None, 100.0])
def test_each_leaves_as_if_it_were_alone(early, target):
    with host.open(board="zcu102", artifact=early, device="emulated", early_exit="1", retune=False) as engine:
        alone = list(engine.stream(TEXTS, latency_target_ms=target))
        results = list(engine.packed(TEXTS, latency_target_ms=target))
        again = list(engine.stream(TEXTS[:3], latency_target_ms=target))
    assert len({r.exit_layer for r in alone}) > 2
    for result, one in zip(results, alone, strict=True):
        for name in ("text", "logits", "label", "exit_layer", "exit_entropy", "first_entropy", "foretold_layer"):
            assert getattr(result, name) == getattr(one, name), name
    assert sum(r.energy_mj for r in results) < sum(r.energy_mj for r in alone)
    assert [r.logits for r in again] == [r.logits for r in alone[:3]]


def test_pairs_and_what_a_pass_costs(engine, monkeypatch):
    passes = counted(engine, monkeypatch)
    first, second = engine.packed([("w4 w5", "w6"), "w7"])
    assert passes == [2] and (first.text, first.pair, second.pair) == ("w4 w5", "w6", None)
    timing = engine.plan.simulate(1, engine.clock_mhz)
    assert first.latency_ms == second.latency_ms == pytest.approx(timing.seconds * 1e3)
    assert first.energy_mj == pytest.approx(first.power_w * first.latency_ms / 2)


def test_no_more_is_read_than_a_window_and_the_passes_under_way(engine):
    """The packer holds `window`, two passes are on their way, one is being answered."""
    read = []

    def texts():
        for n in range(10**6):
            read.append(n)
            yield "w4 " * 40  # three a pass

    results = engine.packed(texts(), window=6)
    for taken in range(1, 40):
        next(results)
        assert len(read) <= taken + 6 + 3 * 3
    results.close()
    assert next(engine.stream(["w4"])).error is None


def test_the_host_works_while_the_engine_runs(engine, monkeypatch):
    """Making a pass, and answering one, both happen while another one runs: it could not end otherwise."""
    made, answered = threading.Semaphore(0), threading.Semaphore(0)
    run, results, lay = engine._run_job, engine._results, engine._lay
    ran = []

    def run_job(job):
        ran.append(job)
        if len(ran) < 4:
            assert made.acquire(timeout=10), "the next pass is made while this one runs"
        if 1 < len(ran) < 5:
            assert answered.acquire(timeout=10), "the pass before is answered while this one runs"
        run(job)

    monkeypatch.setattr(engine, "_run_job", run_job)
    monkeypatch.setattr(engine, "_results", lambda job: (results(job), answered.release())[0])
    laid = []
    monkeypatch.setattr(engine, "_lay", lambda *a: (lay(*a), laid.append(a[1]), len(laid) > 1 and made.release()))
    found = list(engine.packed(["w4 " * 100 + f"w{5 + n}" for n in range(6)], window=1))
    assert len(found) == len(ran) == 6 and not any(r.error for r in found)
    assert all(a is not b for a, b in pairwise(laid)), "passes take turns with the buffers"


class TestFaults:
    def test_what_encoding_raises_comes_after_all_before_it(self, engine):
        texts, got = [*TEXTS[:7], "w4 " * 500, "w5"], []
        with pytest.raises(TooLong, match="sentence of 502 tokens"):
            for result in engine.packed(texts, strict=True):
                got.append(result.text)
        assert got == TEXTS[:7]
        assert next(engine.stream(["w4"])).error is None

    def test_so_does_what_the_texts_raise(self, engine):
        def texts():
            yield from TEXTS[:3]
            raise OSError("the file is gone")

        got = []
        with pytest.raises(OSError, match="gone"):
            for result in engine.packed(texts()):
                got.append(result.text)
        assert got == TEXTS[:3]

    @pytest.mark.parametrize("hung", [0, 1])
    def test_a_hang_costs_the_sentences_of_its_pass(self, artifact, monkeypatch, hung):
        monkeypatch.setattr(recovery, "PROBE_S", 0.02)
        target = emulated(BOARDS["zcu102"])
        texts = ["w4 " * 50 + f"w{5 + n % 30}" for n in range(6)]  # two a pass
        with host.open(board="zcu102", artifact=artifact, device=target, timeout_s=0.05) as engine:
            alone = [r.logits for r in engine.stream(texts)]
            passes, run = [], engine._run_job

            def run_job(job):
                target.device.faults.hangs = int(len(passes) == hung)
                passes.append(job)
                run(job)

            monkeypatch.setattr(engine, "_run_job", run_job)
            results = list(engine.packed(texts))
        of = range(2 * hung, 2 * hung + 2)
        assert [r.error is not None for r in results] == [n in of for n in range(6)]
        assert [r.logits for n, r in enumerate(results) if n not in of] == [
            a for n, a in enumerate(alone) if n not in of
        ]

    def test_what_a_pass_raises_ends_the_stream(self, engine, monkeypatch):
        run, ran = engine._run_job, []

        def run_job(job):
            ran.append(job)
            if len(ran) == 2:
                raise RuntimeError("the second pass")
            run(job)

        monkeypatch.setattr(engine, "_run_job", run_job)
        got = []
        with pytest.raises(RuntimeError, match="the second pass"):
            for result in engine.packed(["w4 " * 100] * 5, window=1):
                got.append(result)
        assert len(got) == 1 and len(ran) == 2
        monkeypatch.undo()
        assert next(engine.stream(["w4"])).error is None

    def test_the_engine_does_nothing_else_meanwhile(self, engine):
        results = engine.packed(TEXTS)
        next(results)
        busy = "a packed stream is under way; remedy: take all of its results"
        for other in (lambda: next(engine.stream(["w4"])), lambda: engine.together(["w4"])):
            with pytest.raises(ValueError, match=busy):
                other()
        with pytest.raises(ValueError, match=busy):
            next(engine.packed(["w4"]))
        assert len(list(results)) == len(TEXTS) - 1
        assert next(engine.stream(["w4"])).error is None

    def test_closing_the_engine_ends_it(self, artifact):
        target = emulated(BOARDS["zcu102"])
        with host.open(board="zcu102", artifact=artifact, device=target) as engine:
            results = engine.packed(TEXTS, window=1)  # referred to: it is under way when the engine closes
            next(results)
        assert not target.device.memory.blocks and target.device.engine.idle
        names = {thread.name for thread in threading.enumerate()}
        assert not any(name.startswith("zynqbert-engine") for name in names)
        with pytest.raises(ValueError, match="the engine is closed"):
            next(engine.packed(["w4"]))

    def test_a_model_that_labels_tokens(self, tmp_path):
        folder = make_random_artifact(tmp_path / "a", kind="token")
        with (
            host.open(board="zcu102", artifact=folder, device="emulated") as engine,
            pytest.raises(ValueError, match="packed: a model that labels tokens takes one text a pass"),
        ):
            engine.packed(["w4"])


def test_passes_read_no_further_than_they_need():
    packer, read = module.Packer(2), []

    class OfThree:
        ids = np.zeros(100)

    def texts():
        for n in range(9):
            read.append(n)
            yield n

    passes = module.passes(texts(), packer, lambda given: OfThree)
    assert [w.number for w in next(passes)] == [0] and read == [0, 1]
    assert [w.number for w in next(passes)] == [1] and read == [0, 1, 2]
