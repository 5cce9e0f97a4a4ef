# SPDX-License-Identifier: Apache-2.0
"""Tasks on one backbone, in one engine: the golden's answers after any switch, and what a switch moves."""

import csv
import io
import json
import logging
import shutil

import numpy as np
import pytest
from split_tasks import make_tasks
from zynqbert import host
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.compiler import CompileError
from zynqbert.host.driver import EngineDriver
from zynqbert.host.emulated.memory import EmulatedMemory
from zynqbert.host.output import write_results
from zynqbert.host.packing import TooLong
from zynqbert.host.task_set import is_backbone, load_model
from zynqbert.host.verify import verify
from zynqbert.quant.artifact import ArtifactError
from zynqbert.quant.golden_model import GoldenModel

NAMES = ("first", "second", "third")
TEXTS = ["w4 w5 w6", "", " ".join(f"w{4 + i % 40}" for i in range(50)), "w9 unknown w8"]
# 15, 16 and 17 labels: the classifier of the last alone has columns behind a second port.
SHAPE = {"layers": 2, "family": "albert", "labels": 15, "seed": 4}
FORMS = {"second": ("sigmoid", 1 / 700, 32), "third": ("softmax", 1 / 3000, 48)}  # scores, logit scale, max_length
POINTS = {"1": {"threshold": 1300, "foretold": {"threshold": 1500, "table": [2] * 128 + [0] * 128}}}


def altered(folder, change):
    """A task's manifest with `change` made to it."""
    file = folder / "task.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Three tasks that differ in labels, scores, scale and length."""
    folder = make_tasks(tmp_path_factory.mktemp("tasks") / "backbone", NAMES, **SHAPE)
    for name, (scores, scale, length) in FORMS.items():

        def change(manifest, scores=scores, scale=scale, length=length):
            manifest["task"] |= {"scores": scores, "max_length": length}
            manifest["scales"]["logits"] = scale

        altered(folder / "tasks" / name, change)
    return folder


@pytest.fixture(scope="module")
def goldens(backbone):
    return {name: GoldenModel(backbone, backbone / "tasks" / name) for name in NAMES}


@pytest.fixture
def engine(backbone):
    with opened(backbone) as engine:
        yield engine


def opened(backbone, board="zcu102", **kwargs):
    return host.open(board=board, artifact=backbone, device="emulated", **kwargs)


def expected(golden, engine, given, **kwargs):
    """The golden's answer to what the engine's task in use makes of a text or pair."""
    sentence = engine.encoder.encode(given)
    return golden.forward_sentence(sentence.ids, sentence.types, -(-len(sentence.ids) // 32) * 32, **kwargs)


def check(engine, goldens, texts=TEXTS):
    """The answers of the task in use are its golden's."""
    for result in engine.stream(texts):
        assert result.task == engine.task_name
        assert list(result.logits) == expected(goldens[result.task], engine, result.text).tolist()


class TestSwitch:
    @pytest.mark.parametrize("board", BOARDS)
    def test_answers_are_the_goldens_after_any_switch(self, backbone, goldens, board):
        """From wider to narrower and back, with stale columns of others in between."""
        logits = {}
        with opened(backbone, board) as engine:
            for name in ("first", "third", "first", "second", "third", "second", "first"):
                engine.use(name)
                assert engine.task_name == name
                check(engine, goldens, TEXTS[:2])
                found = [result.logits for result in engine.stream(TEXTS[:2])]
                assert logits.setdefault(name, found) == found
        assert [len(logits[name][0]) for name in NAMES] == [15, 16, 17]
        assert len({found[0][:15] for found in logits.values()}) == 3, "the tasks do not differ"

    def test_it_moves_the_pieces_of_the_tasks_area_and_nothing_else(self, engine, monkeypatch):
        memory, flushed = engine.target.device.memory, []
        plain = EmulatedMemory.flush

        def noted(self, block, offset, nbytes):
            flushed.append((block, offset, nbytes))
            plain(self, block, offset, nbytes)

        monkeypatch.setattr(EmulatedMemory, "flush", noted)
        blocks, seen = set(memory.blocks), []
        for name in ("second", "third", "first"):
            before, counted = memory.flushed_bytes, engine.switched_bytes
            flushed.clear()
            switch = engine.use(name)
            area = engine.plan.task
            assert (switch.task, switch.bytes, switch.writes) == (name, area.moved, len(area.pieces))
            assert memory.flushed_bytes - before == engine.switched_bytes - counted == area.moved < area.bytes
            assert {block for block, _, _ in flushed} == {engine._image.bo}
            assert [(offset, size) for _, offset, size in flushed] == [(p.offset, p.bytes) for p in area.pieces]
            assert all(area.offset <= at and at + size <= area.offset + area.bytes for _, at, size in flushed)
            seen.append(area.moved)
        assert seen[1] > max(seen[0], seen[2]) and engine.switches == 3 and set(memory.blocks) == blocks

    def test_the_backbone_stays_as_it_was(self, engine):
        at = engine.plan.task.offset
        before = engine.target.device.device_bytes(engine._image)[:at].copy()
        engine.use("third")
        assert np.array_equal(engine.target.device.device_bytes(engine._image)[:at], before)

    def test_there_is_one_image_with_room_for_the_largest(self, engine):
        sizes = {name: engine._tasks[name].plan.image_bytes for name in NAMES}
        assert engine._image.size == max(sizes.values()) > sizes["first"]
        assert all(engine._tasks[name].area.size == engine._tasks[name].plan.task.bytes for name in NAMES)

    def test_the_one_in_use_moves_nothing(self, engine):
        before = engine.target.device.memory.flushed_bytes
        assert engine.use("first") is None
        assert engine.target.device.memory.flushed_bytes == before and engine.switches == engine.switched_bytes == 0

    def test_resident_weights_stay_and_programs_lie_there(self, engine, monkeypatch):
        runs, plain = [], EngineDriver.run

        def noted(self, program, *rest, **kwargs):
            runs.append(program)
            return plain(self, program, *rest, **kwargs)

        monkeypatch.setattr(EngineDriver, "run", noted)
        keeping = int(engine._keeping.physical_address)
        for name in ("first", "second", "first"):
            engine.use(name)
            list(engine.stream(TEXTS[:1]))
        programs = [int(engine._tasks[name].free.program.physical_address) for name in NAMES]
        assert runs == [keeping, programs[0], programs[1], programs[0]]

    def test_all_that_is_of_the_task_changes(self, engine, backbone):
        long = "w4 " * 60
        for name in (*NAMES, "first"):
            engine.use(name)
            scores, scale, length = FORMS.get(name, ("softmax", 1 / 1500, 64))
            task = json.loads((backbone / "tasks" / name / "task.json").read_text())["task"]
            assert engine.task == engine.task_of(name) == task and engine.labels == task["labels"]
            (result,) = engine.stream([long])
            assert list(result.scores) == task["labels"] and result.label == task["labels"][np.argmax(result.logits)]
            assert len(engine.encoder.encode(long).ids) == min(length, 62) and result.truncated == (length < 62)
            x = np.array(result.logits) * scale
            e = np.exp(x - x.max())
            wanted = e / e.sum() if scores == "softmax" else 1 / (1 + np.exp(-x))
            assert list(result.scores.values()) == pytest.approx(wanted.tolist())

    def test_figures_are_the_tasks(self, engine):
        found = set()
        for name in ("first", "third", "first"):
            engine.use(name)
            (result,) = engine.stream(TEXTS[:1])
            assert result.latency_ms == pytest.approx(engine.plan.simulate(1, engine.clock_mhz).seconds * 1e3)
            found.add(result.latency_ms)
        assert len(found) == 2

    def test_pairs_several_in_a_pass_and_a_task_by_name(self, engine, goldens):
        engine.use("third")
        found = engine.together(["w4 w5", "w6"])
        alone = list(engine.stream(["w4 w5", "w6"]))
        assert [r.logits for r in found] == [r.logits for r in alone] and {r.task for r in found} == {"third"}
        (result,) = engine.stream([("w4", "w5 w6")], task="second")
        assert (result.task, engine.task_name) == ("second", "second")
        assert list(result.logits) == expected(goldens["second"], engine, ("w4", "w5 w6")).tolist()
        with pytest.raises(ValueError, match="task 'fourth' is none of those there are: first, second, third"):
            next(engine.stream(["w4"], task="fourth"))

    @pytest.mark.parametrize("at", [0, 3])
    def test_an_interrupted_one_is_made_up_for(self, engine, goldens, monkeypatch, at):
        plain, writes = engine._write, []

        def interrupted(*given):
            writes.append(given)
            if len(writes) == at + 1:
                raise KeyboardInterrupt
            plain(*given)

        monkeypatch.setattr(engine, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.use("third")
        check(engine, goldens, TEXTS[:1])
        assert engine.task_name == "third"
        writes.clear()
        with pytest.raises(KeyboardInterrupt):
            engine.use("first")
        engine.use("third")
        check(engine, goldens, TEXTS[:1])

    def test_a_hang_costs_the_sentence_alone(self, backbone, goldens):
        with opened(backbone, timeout_s=0.05) as engine:
            engine.use("second")
            list(engine.stream(TEXTS[:1]))
            engine.target.device.faults.hangs = 1
            first, second = engine.stream(TEXTS[:2])
            assert first.error is not None and first.task == "second" and second.error is None
            check(engine, goldens, TEXTS[:1])
            engine.use("first")
            check(engine, goldens, TEXTS[:1])

    def test_after_the_end(self, engine):
        engine.close()
        with pytest.raises(ValueError, match="the engine is closed"):
            engine.use("second")
        assert not engine.target.device.memory.blocks

    def test_what_is_told(self, backbone, caplog):
        with caplog.at_level(logging.DEBUG, "zynqbert"), opened(backbone) as engine:
            moved = engine.use("second").bytes
        said = [record.getMessage() for record in caplog.records]
        assert "tasks: first, second, third" in said and f"task second: {moved} bytes moved" in said


class TestEarlyExit:
    @pytest.fixture(scope="class")
    def leaving(self, tmp_path_factory):
        options = {"exits": True, "points": POINTS, "layers": 3, "seed": 11, "family": "albert"}
        return make_tasks(tmp_path_factory.mktemp("leaving") / "backbone", NAMES[:2], **options)

    def test_answers_are_the_goldens_with_and_without_a_target(self, leaving):
        goldens = {name: GoldenModel(leaving, leaving / "tasks" / name) for name in NAMES[:2]}
        point, layers = POINTS["1"], set()
        with opened(leaving, early_exit="1") as engine:
            runs = (("first", None), ("first", 5.0), ("second", None), ("first", 5.0), ("second", 5.0))
            for name, target in (*runs, ("second", None)):
                engine.use(name)
                way = point if target is not None else point | {"foretold": None}
                for result in engine.stream(TEXTS, latency_target_ms=target):
                    answer = expected(goldens[name], engine, result.text, exits=way)
                    assert list(result.logits) == answer.logits[0].tolist() and result.task == name
                    assert (result.exit_layer, result.foretold_layer or 0) == (answer.layer[0], answer.foretold[0])
                    layers.add(result.exit_layer)
        assert len(layers) > 1

    def test_a_switch_brings_the_exit_table_that_the_task_had(self, leaving):
        with opened(leaving, early_exit="1") as engine:
            list(engine.stream(TEXTS[:1], latency_target_ms=5.0))
            assert engine.use("second").bytes == engine.plan.task.moved
            at = engine.plan.regions["exits.table"].offset
            table = engine.target.device.device_bytes(engine._image)[at : at + 256]
            assert not table.any()
            engine.use("first")
            assert table.tolist() == POINTS["1"]["foretold"]["table"]

    def test_a_point_that_one_task_has_not(self, leaving, tmp_path):
        folder = tmp_path / "backbone"
        shutil.copytree(leaving, folder)
        altered(folder / "tasks" / "second", lambda manifest: manifest["exits"].update(points={}))
        with pytest.raises(ValueError, match=r"^task second: early exit '1' is no operating point of the artifact"):
            opened(folder, early_exit="1")


class TestMixed:
    ITEMS = (("first", "w4"), ("second", ("w5", "w6")), ("first", "w7 w8"), ("third", "w9"), ("second", "w10"))

    def test_results_are_in_order_and_those_of_each_task(self, backbone, engine, goldens):
        results = list(engine.mixed(self.ITEMS))
        given = [(r.task, r.text if r.pair is None else (r.text, r.pair)) for r in results]
        assert given == list(self.ITEMS)
        assert engine.switches == 2 and engine.task_name == "third"
        areas = [engine._tasks[name].plan.task.moved for name in ("second", "third")]
        assert engine.switched_bytes == sum(areas)
        for result, (name, text) in zip(results, self.ITEMS, strict=True):
            engine.use(name)
            assert list(result.logits) == expected(goldens[name], engine, text).tolist()

    @pytest.mark.parametrize(("window", "switches"), [(1, 4), (2, 4), (3, 2), (4, 3), (5, 2), (64, 2)])
    def test_fewer_switches_in_wider_windows(self, engine, window, switches):
        """Of 3: first, first, second | second, third: the next window begins with the one in use."""
        assert [r.task for r in engine.mixed(self.ITEMS, window=window)] == [name for name, _ in self.ITEMS]
        assert engine.switches == switches

    def test_the_next_window_begins_with_the_one_in_use(self, engine):
        list(engine.mixed([("first", "w4"), ("second", "w4")] * 4, window=2))
        assert engine.switches == 4  # first second | second first | first second | …

    def test_as_they_come(self, engine):
        taken = []
        results = engine.mixed((taken.append(n) or item for n, item in enumerate(self.ITEMS)), window=3)
        assert next(results).text == "w4" and taken == [0, 1, 2]
        engine.use("third")  # someone else's switch between two results does no harm
        assert [r.task for r in results] == ["second", "first", "third", "second"]

    def test_what_is_wrong_is_told_before_its_window_runs(self, engine):
        before = engine.target.device.memory.flushed_bytes
        with pytest.raises(ValueError, match=r"item 6: task 'fourth' is none of those there are: first, second, third"):
            list(engine.mixed([*self.ITEMS, ("fourth", "w4")]))
        with pytest.raises(TooLong, match="50 tokens, the model takes 48"):
            list(engine.mixed([*self.ITEMS, ("third", "w4 " * 48)], strict=True))
        with pytest.raises(ValueError, match="a text, or a tuple of two, is needed"):
            list(engine.mixed([("first", 7)]))
        assert engine.target.device.memory.flushed_bytes == before and engine.switches == 0

    def test_a_target_without_early_exit(self, engine):
        with pytest.raises(ValueError, match="a latency target needs early exit"):
            engine.mixed(self.ITEMS, latency_target_ms=5.0)

    def test_written(self, engine):
        tasks = {name: engine.task_of(name) for name in engine.tasks}
        results = list(engine.mixed(self.ITEMS))
        lines, table, text = io.StringIO(), io.StringIO(), io.StringIO()
        for form, out in (("jsonl", lines), ("csv", table), ("text", text)):
            write_results(results, form, tasks, out)
        names = [name for name, _ in self.ITEMS]
        answers = [json.loads(line) for line in lines.getvalue().splitlines()]
        rows = list(csv.DictReader(io.StringIO(table.getvalue())))
        assert [a["task"] for a in answers] == [row["task"] for row in rows] == names
        assert [line.split("  ")[0] for line in text.getvalue().splitlines()] == names
        for answer, row in zip(answers, rows, strict=True):
            shown = {key.removeprefix("score:"): value for key, value in row.items() if key.startswith("score:")}
            assert len(shown) == 17
            assert {label: float(value) for label, value in shown.items() if value} == answer["scores"]


class TestOpen:
    def test_names_and_which_begins(self, backbone):
        with opened(backbone) as engine:
            assert engine.tasks == NAMES and engine.task_name == "first"
        with opened(backbone, task="second") as engine:
            assert engine.task_name == "second" and engine.switches == 0
            assert next(engine.stream(["w4"])).task == "second"

    def test_a_task_to_begin_with_that_is_not_the_first(self, backbone, goldens):
        with opened(backbone, task="third") as engine:
            for name in ("third", "first", "third"):
                engine.use(name)
                check(engine, goldens, TEXTS[:1])

    def test_a_task_there_is_none_of(self, backbone):
        with pytest.raises(ValueError, match=r"task 'fourth' is none of the tasks of .*; it has: first, second, third"):
            opened(backbone, task="fourth")

    def test_a_model_by_itself_has_none(self, backbone):
        whole = backbone.with_name("backbone-whole")
        with pytest.raises(ValueError, match=r"task 'first': .* is no backbone with tasks; remedy: name no task"):
            opened(whole, task="first")
        with opened(whole) as engine:
            assert engine.tasks == () and engine.task_name is None
            (result,) = engine.stream(["w4"])
            assert result.task is None and "task" not in result.as_dict()
            with pytest.raises(ValueError, match="none, it is a model by itself"):
                engine.use("first")
            with pytest.raises(ValueError, match="task 'first' is none of those there are"):
                list(engine.mixed([("first", "w4")]))

    def test_a_backbone_without_tasks(self, tmp_path):
        folder = make_tasks(tmp_path / "backbone", (), **SHAPE)
        with pytest.raises(ValueError, match="the backbone has no task yet; remedy: zynqbert tasks add"):
            opened(folder)

    def test_what_is_wrong_with_one_task(self, backbone, tmp_path):
        folder = tmp_path / "backbone"
        shutil.copytree(backbone, folder)
        (folder / "tasks" / "second" / "task.safetensors").write_bytes(b"none")
        with pytest.raises(ArtifactError, match=r"second.task.safetensors"):
            opened(folder)

    def test_a_task_that_the_engine_does_not_take_is_named(self, backbone, monkeypatch):
        def refused(shape, *_, **__):
            if shape.labels == 16:
                raise CompileError("task.labels is 16, the engine takes 1 to 15")

        monkeypatch.setattr("zynqbert.host.compiler.check_limits", refused)
        with pytest.raises(CompileError, match=r"^task second: task\.labels is 16"):
            opened(backbone)

    def test_which_folders_are_backbones(self, backbone, tmp_path):
        whole = backbone.with_name("backbone-whole")
        (tmp_path / "manifest.json").write_text("[")
        found = [is_backbone(folder) for folder in (backbone, whole, tmp_path, tmp_path / "none")]
        assert found == [True, False, False, False]
        with pytest.raises(ArtifactError):
            load_model(backbone, "fourth")


def test_verify_compares_a_task(backbone):
    verdicts = list(verify(backbone, BOARDS["zcu102"], ["w4 w5"], ["native"], "second"))
    assert [verdict.difference for verdict in verdicts] == [None] and verdicts[0].buffers > 20
