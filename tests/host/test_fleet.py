# SPDX-License-Identifier: Apache-2.0
"""More than one board: real worker processes, some of which are killed. No sentence is lost, none is told twice, the
order is kept, and the integers are those of one engine.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import fleet_faults
import pytest
from distributed import LocalCluster
from documents import document_of
from early_exit import recipe
from random_artifact import make_random_artifact
from split_tasks import make_tasks
from tied_artifact import make_tied_artifact
from zynqbert import host
from zynqbert.host import cli, fleet, fleet_cluster, fleet_worker
from zynqbert.host.compiler import CompileError
from zynqbert.host.errors import TargetError
from zynqbert.host.fleet_errors import DeadlySentence, FleetError, NoWorkers
from zynqbert.host.fleet_stream import READ, Reader, Stream
from zynqbert.host.fleet_worker import Answered
from zynqbert.host.packing import TooLong

CHUNK = 4
TEXTS = [" ".join(f"w{4 + (7 * n + k) % 45}" for k in range(1 + n % 5)) + f" n{n}" for n in range(60)]
HOW = {"board": "zcu102", "device": "emulated"}


def is_group(number):
    """Whether a process of this group is left."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(happened, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact") / "model", labels=3, seed=4)


@pytest.fixture(scope="module")
def expected(artifact):
    """What one engine answers."""
    with host.open(artifact=artifact, **HOW) as engine:
        return list(engine.stream(TEXTS))


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two workers, processes of their own with nannies, which start them again."""
    cluster = fleet_cluster.Cluster(None, 2, 60.0, preload=["fleet_faults"])
    yield cluster
    cluster.close()


@pytest.fixture
def opened(cluster, artifact):
    """Open a fleet of these workers, once both are there."""
    fleets = []

    def open_fleet(artifact=artifact, **how):
        wait_until(lambda: len(cluster.threads()) == 2)
        how = {"chunk": CHUNK, "patience_s": 60.0, "scheduler": cluster.address, **HOW, **how}
        fleets.append(fleet.open(artifact=artifact, **how))
        return fleets[-1]

    yield open_fleet
    for boards in fleets:
        boards.close()


@pytest.fixture(scope="module")
def accuracy():
    """benchmarks/accuracy.py"""
    yield from document_of("accuracy")


class TestAnswers:
    def test_are_those_of_one_engine_in_order_by_both_workers(self, opened, expected):
        boards = opened()
        results = list(boards.stream(TEXTS))
        assert results == expected
        shares = boards.shares.values()
        assert sum(share.sentences for share in shares) == len(TEXTS)
        assert len(shares) == 2 and all(share.sentences for share in shares)
        *each, total = boards.report()
        rate = sum(1e3 * s.sentences / s.engine_ms for s in shares)
        assert total == (
            f"60 sentences by 2 workers; the engines alone, side by side: {rate:,.0f} sentences/s (modelled)"
        )
        assert [line.partition(", ")[0] for line in each] == ["worker 0", "worker 1"]
        assert all("emulated zcu102: " in line for line in each)

    def test_a_process_opens_one_engine_and_keeps_it(self, opened, cluster):
        boards = opened()
        before = cluster.client.run(fleet_faults.opened)
        for _ in range(2):
            assert len(list(boards.stream(TEXTS[:20]))) == 20
        assert cluster.client.run(fleet_faults.opened) == before and len(before) == 2
        assert all(cluster.client.run(fleet_faults.holds_one).values())
        boards.close()
        assert not any(cluster.client.run(fleet_faults.holds_one).values())

    def test_pairs_and_what_is_too_long(self, opened, artifact):
        boards = opened()
        pairs = [("w4 w5", f"w{4 + n}") for n in range(10)]
        with host.open(artifact=artifact, **HOW) as engine:
            assert list(boards.stream(pairs)) == list(engine.stream(pairs))
        long, told = "w4 " * 80, []
        assert [r.truncated for r in boards.stream(["w4", long])] == [False, True]
        with pytest.raises(TooLong, match=r"^sentence of 82 tokens, the model takes 64"):
            for result in boards.stream([*TEXTS[:9], long], strict=True):
                told.append(result.text)
        assert told == TEXTS[:9]

    def test_what_ends_the_texts_is_told_behind_their_answers(self, opened):
        def texts():
            yield from TEXTS[:9]
            raise InterruptedError("the line broke")

        told = []
        with pytest.raises(InterruptedError, match="the line broke"):
            for result in opened().stream(texts()):
                told.append(result.text)
        assert told == TEXTS[:9]

    def test_no_text(self, opened):
        assert list(opened().stream([])) == []

    def test_after_it_is_closed(self, opened):
        boards = opened()
        under_way = boards.stream(itertools.cycle(TEXTS))
        assert next(under_way).text == TEXTS[0]
        boards.close()
        under_way.close()  # as where nobody reads on
        for results in (boards.stream(TEXTS), boards.packed(TEXTS)):
            with pytest.raises(ValueError, match=r"^the fleet is closed$"):
                next(results)

    def test_a_hang_is_a_result_with_its_error(self, opened, expected):
        texts = [*TEXTS[:5], "w4 hang", *TEXTS[5:9]]
        results = list(opened(timeout_s=0.1).stream(texts))
        assert results[5].error.startswith("engine: not done after 0.1 s") and results[5].text == "w4 hang"
        assert [r.logits for r in results[:5] + results[6:]] == [r.logits for r in expected[:9]]

    def test_early_exit_and_a_latency_target(self, opened, tmp_path):
        folder = recipe(tmp_path / "model")
        how = {"early_exit": "1", "retune": False}
        with host.open(artifact=folder, **HOW, **how) as engine:
            free = list(engine.stream(TEXTS[:16]))
            timed = list(engine.stream(TEXTS[:16], latency_target_ms=0.2))
        boards = opened(folder, **how)
        assert list(boards.stream(TEXTS[:16])) == free
        assert list(boards.stream(TEXTS[:16], latency_target_ms=0.2)) == timed
        with pytest.raises(ValueError, match=r"^latency target of -1 ms"):
            next(boards.stream(TEXTS, latency_target_ms=-1))

    def test_tasks(self, opened, tmp_path):
        folder = make_tasks(tmp_path / "backbone", ("first", "second"), seed=3)
        items = [(("first", "second")[n % 3 == 0], text) for n, text in enumerate(TEXTS[:24])]
        with host.open(artifact=folder, **HOW) as engine:
            mixed = list(engine.mixed(items, window=8))
            second = list(engine.stream(TEXTS[:8], task="second"))
            first = list(engine.stream(TEXTS[:8], task="first"))
        boards = opened(folder)
        assert (boards.tasks, boards.task_name) == (("first", "second"), "first")
        assert list(boards.mixed(items, window=8)) == mixed
        assert boards.switches >= 2 and boards.switched_bytes > 0
        assert list(boards.stream(TEXTS[:8], task="second")) == second
        assert list(boards.stream(TEXTS[:8])) == first
        with pytest.raises(ValueError, match="task 'third' is none of those there are: first, second"):
            boards.stream(TEXTS, task="third")
        with pytest.raises(ValueError, match=r"^item 3: task 'third' is none"):
            list(boards.mixed([*items[:2], ("third", "w4")]))


class TestShared:
    """Sentences that share passes, on each of the boards."""

    def test_packed_answers_are_those_of_one_by_one(self, opened, expected):
        boards = opened()
        results = list(boards.packed(TEXTS, window=8))
        assert [(r.text, r.logits) for r in results] == [(r.text, r.logits) for r in expected]
        assert 60 / 32 <= boards.passes <= 60 / 8 + 2
        # A pass that several share is counted once.
        engine_ms = sum(share.engine_ms for share in boards.shares.values())
        assert engine_ms == pytest.approx(sum(r.energy_mj / r.power_w for r in results))
        assert engine_ms < 0.5 * sum(r.latency_ms for r in results)

    def test_packed_with_early_exit_as_a_task_and_a_target(self, opened, artifact, tmp_path):
        boards = opened(recipe(tmp_path / "model"), early_exit="1", retune=False)
        alone = list(boards.stream(TEXTS[:16]))
        left = [(r.logits, r.exit_layer) for r in boards.packed(TEXTS[:16], window=4)]
        assert left == [(r.logits, r.exit_layer) for r in alone]
        assert all(r.target_ms == 0.2 and r.label for r in boards.packed(TEXTS[:16], latency_target_ms=0.2))
        boards = opened(make_tasks(tmp_path / "backbone", ("first", "second"), seed=3))
        second = list(boards.stream(TEXTS[:8], task="second"))
        assert [r.logits for r in boards.packed(TEXTS[:8], task="second")] == [r.logits for r in second]

    def test_queues(self, opened, tmp_path):
        points = {"1": {"threshold": 1900, "foretold": None, "loss_points": 1}}
        folder = make_tied_artifact(tmp_path, layers=4, embedding=64, points=points, seed=3)
        with host.open(artifact=folder, early_exit="1", **HOW) as engine:
            alone = [(r.text, r.logits, r.exit_layer) for r in engine.stream(TEXTS)]
        assert len({layer for *_, layer in alone}) > 1
        boards = opened(folder, early_exit="1", continuous=True)
        results = list(boards.stream(TEXTS, window=8))
        assert [(r.text, r.logits, r.exit_layer) for r in results] == alone
        assert 2 <= boards.passes <= 60 / 8 + 1 and sum(s.sentences for s in boards.shares.values()) == 60

    def test_killed_midway(self, opened, expected, tmp_path):
        texts = [f"{text} die:{tmp_path / 'once'}" if n == 21 else text for n, text in enumerate(TEXTS)]
        results = list(opened().packed(texts, window=4))
        assert (tmp_path / "once").exists() and [r.text for r in results] == texts
        for n, (result, one) in enumerate(zip(results, expected, strict=True)):
            assert n == 21 or result.logits == one.logits

    def test_refused(self, opened, tmp_path):
        with pytest.raises(ValueError, match=r"^a window of 0 sentences"):
            opened().packed(TEXTS, window=0)
        with pytest.raises(ValueError, match=r"^packed: a model that labels tokens takes one text a pass"):
            opened(make_random_artifact(tmp_path / "tagger", kind="token")).packed(TEXTS)
        with pytest.raises(CompileError, match=r"^worker \d: .*not all layers share their matrices; remedy: "):
            opened(make_random_artifact(tmp_path / "layers", layers=2), continuous=True)

    def test_a_chunk_has_a_window_until_the_texts_end(self):
        class Future:
            status = "finished"

            def add_done_callback(self, call):
                call(self)

        class Workers:
            remedy, sizes = "", []

            def count(self):
                return 2

            def submit(self, chunk):
                self.sizes.append(len(chunk.items))
                return Future()

            def done(self, future):
                return True

            def result(self, future):
                return Answered("worker", "", [])

            def cancel(self, futures):
                assert not futures

        def trickle():
            for n in range(22):
                time.sleep(0.01)
                yield n

        workers = Workers()
        stream = Stream(workers, trickle(), 16, 60.0, least=4)
        assert len(list(stream.chunks())) == len(workers.sizes)
        assert all(4 <= size <= 16 for size in workers.sizes[:-1]) and sum(workers.sizes) == 22


class TestFlow:
    def test_no_more_is_read_than_there_is_room_for(self, opened):
        """Of a stream without an end; and closing it leaves the workers free for another."""
        read = itertools.count()
        boards = opened()
        results = boards.stream(f"w{4 + next(read) % 40}" for _ in itertools.count())
        assert len(list(itertools.islice(results, 30))) == 30
        time.sleep(0.5)  # for a reader that goes on
        at = next(read)
        assert 30 < at <= 30 + READ * 2 * CHUNK
        results.close()
        time.sleep(0.1)
        assert next(read) <= at + 2  # the one that was being read, and this count itself
        assert len(list(boards.stream(TEXTS[:8]))) == 8

    def test_a_text_is_answered_while_the_next_is_not_there(self, opened):
        more = threading.Event()

        def texts():
            yield "w4"
            assert more.wait(20)
            yield "w5"

        results = opened(chunk=32).stream(texts())
        assert next(results).text == "w4"
        more.set()
        assert [result.text for result in results] == ["w5"]

    def test_reader_waits_for_room(self):
        changed, read = threading.Condition(), []
        reader = Reader((read.append(n) or n for n in range(9)), 3, changed)
        wait_until(lambda: len(read) == 3)
        time.sleep(0.05)
        assert len(read) == 3
        reader.taken()
        wait_until(lambda: len(read) == 4)
        reader.stop()
        wait_until(lambda: reader.ended)
        assert len(read) == 4 and list(reader.waiting) == [0, 1, 2, 3]


class TestDeaths:
    def test_killed_from_outside(self, opened, expected):
        boards = opened()
        results, told = boards.stream(TEXTS), []
        told.extend(itertools.islice(results, 10))
        os.kill(boards.members[0].pid, signal.SIGKILL)
        told.extend(results)
        assert told == expected

    def test_killed_in_the_middle_of_a_chunk(self, opened, artifact, tmp_path):
        texts = [f"{text} die:{tmp_path / 'once'}" if n == 21 else text for n, text in enumerate(TEXTS)]
        boards = opened()
        before = {member.pid for member in boards.members}
        told = list(boards.stream(texts))
        assert (tmp_path / "once").exists()
        assert [result.text for result in told] == texts
        assert sum(share.sentences for share in boards.shares.values()) == len(texts)
        with host.open(artifact=artifact, **HOW) as engine:
            assert told == list(engine.stream(texts))
        assert len(before & {member.pid for member in opened().members}) == 1

    def test_a_sentence_that_kills_whoever_answers_it(self, opened):
        """It is told by its number; those of its chunk are answered for all that."""
        texts, told = [*TEXTS[:6], "w4 die", *TEXTS[6:12]], []
        with pytest.raises(DeadlySentence) as fault:
            for result in opened().stream(texts):
                told.append(result.text)
        assert told == texts[:6]
        assert (fault.value.number, fault.value.answered) == (7, 6)
        assert "sentence 7, 'w4 die', ended all 2 workers" in str(fault.value) and "; remedy: " in str(fault.value)

    def test_one_that_takes_long_to_come_back(self):
        """dask looks some time after a death whether the worker is back, and would end it then."""
        with dask.config.set({"distributed.deploy.lost-worker-timeout": "100 ms"}):
            local = fleet_cluster.Cluster(None, 1, 60.0)
            try:
                ((first, pid),) = local.client.run(os.getpid).items()
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: list(local.threads()) not in ([], [first]))
                time.sleep(1)  # it is ended once it is up
                assert len(local.threads()) == 1 and pid not in local.client.run(os.getpid).values()
            finally:
                local.close()
            assert dask.config.get("distributed.deploy.lost-worker-timeout") == "100 ms"

    def test_all_are_dead(self, artifact, tmp_path, monkeypatch):
        """Workers as docs/fleet.md starts them, without a nanny that would start them again."""
        monkeypatch.setattr(fleet_cluster, "FETCH_S", 0.5)
        scheduler = LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50)
        address = scheduler.scheduler_address
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
        command += ["--no-dashboard", "--name"]
        workers = [
            subprocess.Popen([*command, name], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for name in ("here", "there")
        ]
        try:
            wait_until(lambda: len(scheduler.scheduler.workers) == 2)
            boards = fleet.open(scheduler=address, artifact=artifact, chunk=CHUNK, patience_s=1.0, **HOW)
            assert {member.name for member in boards.members} == {"worker here", "worker there"}
            told, other = [], boards.stream(itertools.cycle(TEXTS))
            assert next(other).text == TEXTS[0]
            with pytest.raises(NoWorkers) as fault:
                for result in boards.stream(itertools.cycle(TEXTS)):
                    told.append(result.text)
                    if len(told) == 10:
                        for worker in workers:
                            worker.kill()
            n = fault.value.answered
            assert n == len(told) >= 10 and told == list(itertools.islice(itertools.cycle(TEXTS), n))
            said = f"{n} sentences are answered, the next is number {n + 1}, '{TEXTS[n % 60]}'; remedy: start workers"
            assert said in str(fault.value)
            with pytest.raises(NoWorkers, match=f"scheduler {address} has no worker, after 1 s; remedy: dask worker"):
                fleet.open(scheduler=address, artifact=artifact, patience_s=1.0, **HOW)
            scheduler.close()
            with pytest.raises(FleetError, match=f"scheduler {address}: the connection is lost; remedy: "):
                list(other)
            boards.close()
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
            scheduler.close()


class TestRefused:
    def test_a_worker_with_another_model(self, opened, tmp_path):
        folder = make_random_artifact(tmp_path / "model", seed=1)
        other = Path(f"{folder}.worker-1")
        shutil.copytree(folder, other)
        opened(folder).close()
        shutil.rmtree(other)
        make_random_artifact(other, seed=2)
        with pytest.raises(FleetError, match=rf"^worker 1: {other} is another model \(sha256 .*\); remedy: copy the"):
            opened(folder)

    def test_what_a_worker_cannot_open_names_it(self, opened, tmp_path):
        folder = make_random_artifact(tmp_path / "model", seed=1)
        make_random_artifact(f"{folder}.worker-1", seed=1)
        model = Path(f"{folder}.worker-1") / "model.safetensors"
        model.write_bytes(model.read_bytes()[:-1])
        with pytest.raises(ValueError, match=r"^worker 1: .*model.safetensors: size: "):
            opened(folder)

    def test_workers_that_do_not_fit_together(self):
        ours = fleet_worker.versions()

        def worker(name, host="a", on_board=False, **versions):
            return {"name": f"worker {name}", "pid": 1, "host": host, "on_board": on_board, "versions": ours | versions}

        check = fleet_cluster.check_workers
        check({"tcp://a": worker(0), "tcp://b": worker(1)}, {"tcp://a": 1, "tcp://b": 1})
        check({"tcp://a": worker(0, "a", True), "tcp://b": worker(1, "b", True)}, {})
        with pytest.raises(FleetError, match="worker 0 and worker 1 are both on a, whose board has one engine; remedy"):
            check({"tcp://a": worker(0, "a", True), "tcp://b": worker(1, "a", True)}, {})
        with pytest.raises(FleetError, match=r"worker 1 on a has 4 threads, .*; remedy: dask worker … --nthreads 1"):
            check({"tcp://a": worker(0), "tcp://b": worker(1)}, {"tcp://a": 1, "tcp://b": 4})
        with pytest.raises(FleetError, match=f"worker 0 on a has zynqbert 0.0, this host {ours['zynqbert']}; remedy"):
            check({"tcp://a": worker(0, zynqbert="0.0")}, {})
        with pytest.raises(FleetError, match=r"^worker tcp://a: ModuleNotFoundError: .*; remedy: install zynqbert"):
            check({"tcp://a": ModuleNotFoundError("No module named 'zynqbert'")}, {})
        with pytest.raises(FleetError, match=r"^worker tcp://a: pynq fails; remedy: sudo -i$"):
            check({"tcp://a": TargetError("pynq fails; remedy: sudo -i")}, {})

    def test_arguments(self, artifact, monkeypatch):
        how = {"artifact": artifact, **HOW}
        for wrong in ({}, {"workers": 2, "scheduler": "tcp://a:1"}):
            with pytest.raises(ValueError, match="either a scheduler's address, or workers"):
                fleet.open(**how, **wrong)
        with pytest.raises(ValueError, match="workers is 0; remedy: 1 or more"):
            fleet.open(**how, workers=0)
        with pytest.raises(ValueError, match="device 'toaster' is none of auto, board, emulated"):
            fleet.open(**{**how, "device": "toaster"}, workers=2)
        for address in ("nonsense", "localhost", "tcp://localhost", "localhost:8786"):
            with pytest.raises(FleetError, match=rf"^scheduler {address}: no address; remedy: .*, tcp://HOST:8786$"):
                fleet.open(**how, scheduler=address)
        monkeypatch.setattr(fleet_cluster, "CONNECT_S", 0.2)
        with pytest.raises(FleetError, match=r"^scheduler tcp://127.0.0.1:9: .*; remedy: start one \(dask scheduler\)"):
            fleet.open(**how, scheduler="tcp://127.0.0.1:9")

    def test_names_that_the_whole_package_shares(self):
        from zynqbert.host import continuous, engine, target

        assert (fleet.TIMEOUT_S, fleet.DEVICES) == (engine.TIMEOUT_S, target.DEVICES)
        assert fleet.SHARED == engine.PACK_WINDOW == continuous.WINDOW

    def test_a_model_of_the_package_is_found_wherever_that_is(self, artifact):
        from zynqbert.host.options import DEFAULT_ARTIFACT

        place = fleet_worker.place_of(DEFAULT_ARTIFACT)
        assert place == "zynqbert:movie-reviews" and fleet_worker.folder_of(place) == DEFAULT_ARTIFACT
        assert fleet_worker.folder_of(fleet_worker.place_of(artifact)) == artifact

    def test_digest_is_of_every_task(self, tmp_path):
        folder = make_tasks(tmp_path / "backbone", ("first", "second"), seed=3)
        before = fleet_worker.digest(folder)
        file = folder / "tasks" / "second" / "task.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"metrics": {"task": 9}}))
        assert fleet_worker.digest(folder) != before


class TestCommand:
    @pytest.fixture
    def started(self, artifact):
        """`zynqbert run` with two workers, reading from us, in a process group as a terminal's."""
        command = [sys.executable, "-m", "zynqbert.host.cli", "run", "--file", "-", "--artifact", artifact]
        process = subprocess.Popen(
            [*command, "--workers", "2", "--device", "emulated", "--format", "jsonl"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        yield process
        if is_group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    @staticmethod
    def ends_at_ctrl_c(process):
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        assert (process.stdout.read(), process.stderr.read()) == ("", "")
        wait_until(lambda: not is_group(process.pid), 5)

    def test_lines_are_answered_as_they_come_and_ctrl_c_ends_all(self, started, expected):
        for text, result in zip(TEXTS[:3], expected[:3], strict=True):
            started.stdin.write(f"{text}\n")
            started.stdin.flush()
            assert json.loads(started.stdout.readline())["logits"] == list(result.logits)
        self.ends_at_ctrl_c(started)

    def test_ctrl_c_while_the_workers_start(self, started):
        wait_until(lambda: Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text())
        self.ends_at_ctrl_c(started)

    def test_of_a_scheduler(self, artifact, cluster, expected, capsys, tmp_path):
        file = tmp_path / "lines.txt"
        file.write_text("".join(f"{text}\n" for text in TEXTS[:12]))
        arguments = ["run", "--file", str(file), "--artifact", str(artifact), "--scheduler", cluster.address]
        assert cli.call([*arguments, "--format", "jsonl"]) == 0
        captured = capsys.readouterr()
        assert [tuple(json.loads(line)["logits"]) for line in captured.out.splitlines()] == [
            result.logits for result in expected[:12]
        ]
        first, *shares, total = captured.err.splitlines()
        assert first == "zynqbert: no board here, the zcu102 is emulated"
        assert all(line.startswith("zynqbert: worker ") for line in shares)
        assert total.startswith("zynqbert: 12 sentences by ") and total.endswith(" sentences/s (modelled)")

    def test_ways_of_sharing_passes(self, artifact, cluster, expected, capsys):
        arguments = ["run", *TEXTS[:12], "--artifact", str(artifact), "--scheduler", cluster.address, "--packed"]
        assert cli.call([*arguments, "--format", "jsonl"]) == 0
        captured = capsys.readouterr()
        assert [tuple(json.loads(line)["logits"]) for line in captured.out.splitlines()] == [
            result.logits for result in expected[:12]
        ]
        assert "zynqbert: 12 sentences in 1 pass" in captured.err and "12 sentences by 1 worker;" in captured.err
        assert cli.call([*arguments[:-1], "--continuous"]) == 0  # of one layer, which is as all of them
        assert "zynqbert: 12 sentences in 1 queue" in capsys.readouterr().err

    def test_accuracy_of_a_split(self, accuracy, cluster, artifact, expected, capsys):
        wait_until(lambda: len(cluster.threads()) == 2)
        found = accuracy.engine_predictions(artifact, TEXTS, ["label0", "label1", "label2"], scheduler=cluster.address)
        assert [f"label{label}" for label in found] == [result.label for result in expected]
        assert "60 sentences by 2 workers" in capsys.readouterr().err

    def test_both(self, capsys, artifact):
        arguments = ["run", "w4", "--artifact", str(artifact), "--workers", "2", "--scheduler", "tcp://a:1"]
        assert cli.call(arguments) == 2
        assert "--workers starts workers here, --scheduler has its own; remedy: " in capsys.readouterr().err

    def test_without_dask(self, capsys, artifact, monkeypatch):
        monkeypatch.setitem(sys.modules, "distributed", None)
        assert cli.call(["run", "w4", "--artifact", str(artifact), "--workers", "2"]) == 2
        assert "a fleet of workers needs distributed; remedy: pip install 'zynqbert[fleet]'" in capsys.readouterr().err
