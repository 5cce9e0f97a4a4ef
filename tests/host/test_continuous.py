# SPDX-License-Identifier: Apache-2.0
"""Continuous batching as a user has it: each answer as if the sentence were alone, in order, whatever goes wrong."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from tied_artifact import make_tied_artifact
from zynqbert import host
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import continuous, recovery
from zynqbert.host.compiler import CompileError
from zynqbert.host.driver import EngineDriver
from zynqbert.host.errors import EngineMismatch
from zynqbert.host.packing import TooLong
from zynqbert.host.target import emulated

LENGTHS = np.random.default_rng(5).integers(0, 62, 40).tolist()
TEXTS = [" ".join(f"w{4 + (11 * n + i) % 40}" for i in range(count)) for n, count in enumerate(LENGTHS)]
POINTS = {"1": {"threshold": 1900, "foretold": None, "loss_points": 1}}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_tied_artifact(tmp_path_factory.mktemp("tied"), layers=4, embedding=64, points=POINTS, seed=3)


def opened(artifact, board="zcu102", device="emulated", **how):
    return continuous.open(board=board, artifact=artifact, device=device, early_exit="1", entries=6, **how)


@pytest.mark.parametrize("board", BOARDS)
def test_each_is_as_alone_and_in_its_place(artifact, board):
    with host.open(board=board, artifact=artifact, device="emulated", early_exit="1") as engine:
        alone = list(engine.stream(TEXTS))
    assert len({r.exit_layer for r in alone}) > 2
    with opened(artifact, board) as engine:
        results = list(engine.stream(TEXTS))
        assert engine.passes > 3 and engine.layers == 4
    assert [r.text for r in results] == TEXTS
    for result, one in zip(results, alone, strict=True):
        for name in ("logits", "label", "exit_layer", "exit_entropy", "layers", "truncated"):
            assert getattr(result, name) == getattr(one, name), name
    assert sum(r.energy_mj for r in results) < sum(r.energy_mj for r in alone)


def test_without_a_point_all_run_through_all_layers(artifact):
    with continuous.open(board="zcu102", artifact=artifact, device="emulated") as engine:
        results = list(engine.stream(TEXTS[:9]))
    assert {r.exit_layer for r in results} == {4}
    with host.open(board="zcu102", artifact=artifact, device="emulated") as engine:
        assert [r.logits for r in engine.stream(TEXTS[:9])] == [r.logits for r in results]


@pytest.mark.parametrize("how", [{}, {"early_exit": "1"}])
def test_the_clock_is_that_of_one_by_one(artifact, how):
    where = {"board": "zcu102", "artifact": artifact, "device": "emulated", **how}
    with host.open(**where) as one, continuous.open(**where) as queued:
        assert queued.clock_mhz == one.clock_mhz == (300 if how else 250)


def test_a_queue_of_nothing(artifact):
    with pytest.raises(ValueError, match="queues of 0 entries: 1 or more are needed"):
        continuous.open(board="zcu102", artifact=artifact, device="emulated", entries=0)


def test_latency_is_from_coming_to_leaving(artifact):
    with opened(artifact) as engine:
        results = list(engine.stream(TEXTS[:12]))
        by_layer = {r.exit_layer: r.latency_ms for r in results}
        assert by_layer[1] < by_layer[max(by_layer)]
        queue = results[0].power_w, sum(r.energy_mj for r in results)
        assert all(r.source == "modelled" and r.latency_ms > 0 for r in results) and min(queue) > 0


def test_no_more_is_read_than_the_queues_under_way(artifact):
    read = []

    def texts():
        for n in range(10**6):
            read.append(n)
            yield "w4 " * 40

    with opened(artifact) as engine:
        results = engine.stream(texts(), window=4)
        for taken in range(1, 30):
            next(results)
            assert len(read) <= taken + 4 + 3 * 6
        results.close()
        assert next(engine.stream(["w4"])).error is None


class TestFaults:
    def test_what_encoding_raises_comes_after_all_before_it(self, artifact):
        got = []
        with opened(artifact) as engine, pytest.raises(TooLong, match="sentence of 502 tokens"):
            for result in engine.stream([*TEXTS[:9], "w4 " * 500, "w5"], strict=True):
                got.append(result.text)
        assert got == TEXTS[:9]

    def test_a_hang_costs_the_sentences_of_its_queue(self, artifact, monkeypatch):
        monkeypatch.setattr(recovery, "PROBE_S", 0.02)
        target = emulated(BOARDS["zcu102"])
        with opened(artifact, device=target, timeout_s=0.05) as engine:
            whole = [r.logits for r in engine.stream(TEXTS)]
            ran, run = [], engine._run_job

            def run_job(job):
                target.device.faults.hangs = int(len(ran) == 1)
                ran.append(job)
                run(job)

            monkeypatch.setattr(engine, "_run_job", run_job)
            results = list(engine.stream(TEXTS))
        failed = {number for number, r in enumerate(results) if r.error is not None}
        assert failed == set(ran[1].texts) and len(failed) > 3
        assert all(results[n].logits == whole[n] for n in range(len(TEXTS)) if n not in failed)

    def test_closing_the_engine_ends_it(self, artifact):
        target = emulated(BOARDS["zcu102"])
        with opened(artifact, device=target) as engine:
            results = engine.stream(TEXTS)
            next(results)
            with pytest.raises(ValueError, match="is under way"):
                next(engine.stream(["w4"]))
        assert not target.device.memory.blocks and target.device.engine.idle
        assert not any(thread.name.startswith("zynqbert-engine") for thread in threading.enumerate())

    def test_a_model_whose_layers_differ(self, artifact):
        own = artifact.with_name("own")
        with pytest.raises(CompileError, match=r"layers\.1\..* is not as layers\.0\..*; remedy: "):
            opened(own)
        with pytest.raises(ValueError, match="early exit '2' is no operating point"):
            continuous.open(board="zcu102", artifact=artifact, device="emulated", early_exit="2")

    def test_an_engine_that_cannot(self, artifact, monkeypatch):
        def without(self):
            known = identify(self)
            return replace(known, capabilities=known.capabilities - {"queue"})

        identify = EngineDriver.identify
        monkeypatch.setattr(EngineDriver, "identify", without)
        lacking = "continuous batching needs queue, which this bitstream's engine lacks"
        with pytest.raises(EngineMismatch, match=lacking):
            opened(artifact)
