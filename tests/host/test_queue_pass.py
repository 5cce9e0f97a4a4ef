# SPDX-License-Identifier: Apache-2.0
"""Sentences from a queue, at depths of their own in every product: golden = csim = checked = native, each as alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pass_runner import FILL, IMAGE, IO, PROGRAM, read_artifact
from random_artifact import make_random_artifact
from tied_artifact import make_tied_artifact
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.cycles import simulate
from zynqbert.fpga.simulator import Simulator
from zynqbert.host.compiler import CompileError, plan
from zynqbert.host.memory_image import memory_image
from zynqbert.host.model_shape import ModelShape
from zynqbert.host.packing import Sentence
from zynqbert.host.sentence_queue import Entry, follow, queue_bytes
from zynqbert.host.tied import check_tied, queue_plan
from zynqbert.quant.golden_model import GoldenModel

SHAPES = {
    "albert": dict(layers=4, hidden=96, heads=3, ffn=70, embedding=40, labels=3, seed=1),
    "wide-heads": dict(layers=3, hidden=128, heads=2, head_width=64, ffn=131, embedding=64, labels=2, seed=2),
    # Two column tiles of labels on either board, no mapping in front.
    "bert": dict(layers=3, hidden=96, heads=3, ffn=64, labels=100, family="bert", seed=3),
    "spans": dict(
        layers=4, hidden=96, heads=3, ffn=64, embedding=32, labels=2, spans=[[33, 128, 1]] * 4,
        softmax="normalized", seed=4,
    ),
}  # fmt: skip
QUEUES = [
    [[9]],
    [[32], [32], [32], [32], [32], [32], [32]],
    [[128], [1], [128], [5]],
    [[10, 20], [60, 4], [31], [3, 4, 5, 2, 8], [96], [33], [40, 40, 40], [64], [7], [30]],
]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tied")
    return {name: make_tied_artifact(folder / name, **shape) for name, shape in SHAPES.items()}


def entries_of(lengths, rng) -> list[Entry]:
    """Random sentences of these lengths."""
    entries, number = [], 0
    for of in lengths:
        sentences = [
            Sentence(rng.integers(0, 50, n), np.arange(n) >= n - n // 3, False) for n in of
        ]  # the last third is of type 1
        entries.append(Entry(tuple(sentences), tuple(range(number, number + len(of)))))
        number += len(of)
    return entries


def answers_of(folder, entries, threshold):
    """By number, from the golden model, each sentence alone: logits, layer, entropy."""
    model, found = GoldenModel(folder), {}
    exits = {"threshold": threshold, "foretold": None}
    for entry in entries:
        for sentence, number in zip(entry.sentences, entry.numbers, strict=True):
            blocks = -(-len(sentence.ids) // 32)
            one = model.forward_sentence(sentence.ids, sentence.types.astype(int), length=32 * blocks, exits=exits)
            found[number] = one.logits[0].tolist(), int(one.layer[0]), int(one.entropy[0])
    return found


class QueueRunner:
    def __init__(self, folder, build, board, entries, threshold, *, sanitize=False):
        artifact = read_artifact(folder)
        queue = queue_plan(artifact, entries, threshold)
        shape = ModelShape.of_manifest(artifact.manifest).one_layer()
        self.plan = plan(shape, BOARDS[board], artifact=artifact, queue=queue)
        self.image = memory_image(self.plan, artifact)
        self.program = np.frombuffer(self.plan.program, np.uint8).copy()
        self.io = np.full(self.plan.queue.bytes, FILL, np.uint8)
        self.simulator = Simulator(build, BOARDS[board].columns, sanitize=sanitize)
        keeping = np.frombuffer(self.plan.keeping_program, np.uint8).copy()
        memory = [(PROGRAM, keeping), (IMAGE, self.image), (IO, self.io)]
        assert self.simulator.run(memory, PROGRAM, IMAGE, IO, len(self.plan.keeping), 1).name == "ok"

    def run(self, entries, seed=0):
        self.io[:] = FILL
        data = queue_bytes(entries, self.plan.queue)
        self.io[: data.size] = data
        memory = [(PROGRAM, self.program), (IMAGE, self.image), (IO, self.io)]
        status = self.simulator.run(memory, PROGRAM, IMAGE, IO, len(self.plan.instructions), 4, seed)
        assert status.name == "ok", status
        return follow(entries, self.plan.queue, self.io)


def some_threshold(folder, entries):
    """An entropy that about half of the sentences are below at their first ramp."""
    first = [entropy for _, _, entropy in answers_of(folder, entries, 32767).values()]
    return int(np.median(first)) + 1


def compare(folder, runner, entries, threshold, seed=0):
    followed = runner.run(entries, seed)
    found = {n: (left.logits.tolist(), left.layer, left.entropy) for n, left in followed.answers.items()}
    assert found == answers_of(folder, entries, threshold)
    return followed


@pytest.mark.parametrize("lengths", QUEUES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("build", ["checked", "native"])
def test_each_sentence_is_as_alone(artifacts, build, board, shape, lengths):
    entries = entries_of(lengths, np.random.default_rng(len(lengths)))
    threshold = some_threshold(artifacts[shape], entries)
    for at in (threshold, 0):
        runner = QueueRunner(artifacts[shape], build, board, len(entries), at)
        followed = compare(artifacts[shape], runner, entries, at)
        assert at or {left.layer for left in followed.answers.values()} == {SHAPES[shape]["layers"]}


@pytest.mark.parametrize("shape", ["albert", "bert"])
def test_csim_too(artifacts, shape):
    entries = entries_of([[5], [33], [12, 14], [40]], np.random.default_rng(9))
    threshold = some_threshold(artifacts[shape], entries)
    compare(artifacts[shape], QueueRunner(artifacts[shape], "csim", "zcu102", 8, threshold), entries, threshold)


def test_sanitized_build_finds_nothing(artifacts, tmp_path):
    """Address and undefined-behaviour sanitizers over a queue, in a process of its own."""
    tests = Path(__file__).parents[1]
    script = tmp_path / "run.py"
    script.write_text(
        f"import sys; sys.path[:0] = {[str(tests / 'support'), str(tests / 'host')]!r}\n"
        "from pathlib import Path; import numpy as np\n"
        "from test_queue_pass import QUEUES, QueueRunner, compare, entries_of, some_threshold\n"
        f"folder = Path({str(artifacts['albert'])!r})\n"
        "entries = entries_of(QUEUES[3], np.random.default_rng(1))\n"
        "threshold = some_threshold(folder, entries)\n"
        "runner = QueueRunner(folder, 'native', 'zcu102', 12, threshold, sanitize=True)\n"
        "compare(folder, runner, entries, threshold)\n"
    )
    ask = ["g++", "-print-file-name=libasan.so"]
    asan = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    env = {**os.environ, "LD_PRELOAD": asan, "ASAN_OPTIONS": "detect_leaks=0"}
    run = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("seed", range(1, 6))
def test_in_any_order_of_the_units(artifacts, seed):
    entries = entries_of(QUEUES[3], np.random.default_rng(seed))
    threshold = some_threshold(artifacts["albert"], entries)
    runner = QueueRunner(artifacts["albert"], "native", "zcu102", len(entries), threshold)
    compare(artifacts["albert"], runner, entries, threshold, seed)


def test_a_queue_after_a_queue(artifacts):
    """Nothing of the first is left in the second, whose lanes are fewer; a program has room for more entries."""
    folder = artifacts["albert"]
    first, second = (entries_of(lengths, np.random.default_rng(7)) for lengths in (QUEUES[3], [[6], [50]]))
    threshold = some_threshold(folder, first)
    runner = QueueRunner(folder, "native", "zcu102", 16, threshold)
    for entries in (first, second, first):
        compare(folder, runner, entries, threshold)
    # A row block that the first left, and that is free for the third here as soon as the second has gone.
    for seed in range(8):
        compare(folder, runner, first, threshold)
        compare(folder, runner, entries_of([[50], [6], [40], [7], [35]], np.random.default_rng(seed)), threshold)


@pytest.mark.parametrize("seed", range(8))
def test_random_queues(artifacts, seed):
    rng = np.random.default_rng(100 + seed)
    lengths = []
    for _ in range(int(rng.integers(1, 24))):
        of, left = [], int(rng.choice([32, 64, 96, 128]))
        while left >= 4 and (not of or rng.random() < 0.6):
            of.append(int(rng.integers(1, left + 1)))
            left -= max(of[-1], 4)
        lengths.append(of)
    entries = entries_of(lengths, rng)
    threshold = some_threshold(artifacts["albert"], entries)
    runner = QueueRunner(artifacts["albert"], "native", "zcu111", len(entries), threshold)
    followed = compare(artifacts["albert"], runner, entries, threshold)
    alone = sum(left.layer * entry.row_blocks for entry in entries for left in [followed.answers[entry.numbers[0]]])
    assert len(followed.course.verdicts) <= alone  # steps are shared, or the queue is one sentence after the other


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("lengths", QUEUES[1:], ids=str)
@pytest.mark.parametrize("shape", ["albert", "bert"])
def test_trips_of_every_loop_are_the_cycle_models(artifacts, shape, lengths, board):
    """But those that load embedding rows, which depend on the words."""
    entries = entries_of(lengths, np.random.default_rng(3))
    runner = QueueRunner(artifacts[shape], "native", board, len(entries), some_threshold(artifacts[shape], entries))
    runner.simulator.trips()
    followed = runner.run(entries)
    p = runner.plan
    known = {
        "directories": p.directories,
        "spans": p.spans,
        "verdicts": followed.course.verdicts,
        "queue": followed.course.queue,
    }
    timing = simulate(p.instructions, 4, p.board, 250, **known)
    assert len(timing.verdicts) == len(followed.course.verdicts) and list(timing.verdicts) == sorted(timing.verdicts)
    trips = runner.simulator.trips()
    for name, count in timing.trips.items():
        assert name.startswith("load_") or trips[name] == count, name
    assert trips["load_rows"] == timing.trips["load_rows"]


class TestTied:
    def test_what_differs_is_named(self, artifacts):
        artifact = read_artifact(artifacts["albert"])
        shape = ModelShape.of_manifest(artifact.manifest)
        for name in ("layers.2.ffn1.bias", "exits.1.m", "exits.0.pooler.weight", "layers.3.gelu"):
            tensors = {n: t.copy() for n, t in artifact.tensors.items()}
            tensors[name].view(np.uint8).reshape(-1)[0] ^= 1
            with pytest.raises(CompileError, match=rf"{name} is not as .*; remedy: "):
                check_tied(shape, tensors)

    def test_models_that_cannot_be(self, tmp_path):
        ramps = {"exits": True, "exit_pooler": False}
        folder = make_random_artifact(tmp_path / "ramps", layers=4, family="albert", seed=5, **ramps)
        with pytest.raises(CompileError, match=r"exits\.pooler is false"):
            queue_plan(read_artifact(folder), 4, 100)
        folder = make_tied_artifact(tmp_path / "none", exits=False, seed=5)
        assert queue_plan(read_artifact(folder), 4, None).depth == 4
        with pytest.raises(CompileError, match="the artifact has no off-ramps"):
            queue_plan(read_artifact(folder), 4, 100)

    def test_a_queue_needs_a_model_of_one_layer(self, artifacts):
        artifact = read_artifact(artifacts["albert"])
        queue = queue_plan(artifact, 4, 100)
        shape = ModelShape.of_manifest(artifact.manifest)
        with pytest.raises(CompileError, match="a queue needs a sequence's model of one layer"):
            plan(shape, BOARDS["zcu102"], artifact=artifact, queue=queue)


class TestEntries:
    def test_what_fits(self):
        word = Sentence(np.array([2]), np.array([0]), False)
        assert Entry((word,) * 8, tuple(range(8))).row_blocks == 1
        assert Entry((word,) * 9, tuple(range(9))).lanes == [*range(8), 8]  # of the second row block
        long = Sentence(np.arange(129), np.zeros(129, int), False)
        for sentences in ((), (long,)):
            with pytest.raises(ValueError, match="an entry of"):
                Entry(sentences, tuple(range(len(sentences))))

    def test_too_many(self, artifacts):
        runner = QueueRunner(artifacts["albert"], "native", "zcu102", 2, 100)
        entries = entries_of([[3]] * 3, np.random.default_rng(0))
        for some in (entries, []):
            with pytest.raises(ValueError, match="entries, a queue has 1 to 2"):
                queue_bytes(some, runner.plan.queue)
