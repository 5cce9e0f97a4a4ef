# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, one line an error, formats, and a demo without torch or the golden model."""

import csv
import functools
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from random_artifact import make_random_artifact
from safetensors.numpy import load_file, save
from split_tasks import make_tasks
from tied_artifact import make_tied_artifact
from zynqbert.host import cli, demo, engine, output, verify
from zynqbert.host import options as checks
from zynqbert.host.bench import emulator
from zynqbert.host.emulated.device import EmulatedDevice
from zynqbert.host.inputs import InputError
from zynqbert.host.model_shape import ARCHITECTURES
from zynqbert.quant import datasets
from zynqbert.quant.artifact import load_artifact, save_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return str(make_random_artifact(tmp_path_factory.mktemp("artifact"), seed=3))


@pytest.fixture(scope="module")
def sentiment(artifact, tmp_path_factory):
    """The same model with the demo's labels."""
    model = load_artifact(artifact)
    manifest = {k: v for k, v in model.manifest.items() if k not in ("format", "version", "tensors", "files")}
    manifest["task"] = manifest["task"] | {"labels": list(datasets.LABELS)}
    folder = tmp_path_factory.mktemp("sentiment") / "model"
    save_artifact(folder, manifest, model.tensors, model.tokenizer_path.read_text(encoding="utf-8"))
    return str(folder)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    """A model that labels tokens."""
    return str(make_random_artifact(tmp_path_factory.mktemp("tagger"), seed=5, kind="token", labels=3))


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """A model that gives one value."""
    return str(make_random_artifact(tmp_path_factory.mktemp("regression"), seed=5, scores="none", labels=1))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Three tasks of two, three and four labels."""
    return str(make_tasks(tmp_path_factory.mktemp("tasks") / "backbone", ("first", "second", "third"), seed=3))


@pytest.fixture
def hung(monkeypatch):
    """The second pass of an emulated device hangs."""
    run, ran = EmulatedDevice._run, []

    def run_and_count(device, *arguments):
        device.faults.hangs = int(len(ran) == 1)  # the first run brings weights on chip
        ran.append(arguments)
        return run(device, *arguments)

    monkeypatch.setattr(EmulatedDevice, "_run", run_and_count)
    monkeypatch.setattr(engine, "open", functools.partial(engine.open, timeout_s=0.02))


@pytest.fixture
def call(capsys):
    """Run a command line: exit code, stdout, stderr."""

    def run(*arguments):
        code = cli.call(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def refused(outcome, *parts):
    """Exit 2, nothing on stdout, one line on stderr that holds the parts."""
    code, out, err = outcome
    assert (code, out) == (2, "")
    assert err.startswith("zynqbert: ") and err.endswith("\n") and err.count("\n") == 1
    for part in parts:
        assert part in err


class TestHelp:
    COMMANDS = (
        *(
            ["demo"],
            ["quantize"],
            ["train"],
            ["ablation"],
            ["sparsity"],
            ["robustness"],
            ["run"],
            ["estimate"],
            ["verify"],
        ),
        *(["build"], ["info"], ["bench", "emulator"], ["bench", "board"], ["bench", "edgebert"]),
        *(["tasks", "list"], ["tasks", "add"], ["tasks", "plan"]),
    )

    @pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
    def test_every_command_has_an_example(self, call, command):
        code, out, err = call(*command, "--help")
        assert (code, err) == (0, "")
        assert f"Example: zynqbert {' '.join(command)}" in out

    @pytest.mark.parametrize(
        "command, example",
        [("train", "train recipes/edgebert.toml"), ("build", "--predictor build/edgebert/predictor")],
    )
    def test_early_exit_has_an_example(self, call, command, example):
        assert re.search(f"zynqbert [^:]*{example}", " ".join(call(command, "--help")[1].split()))

    def test_no_command_shows_the_commands(self, call):
        code, out, _ = call()
        assert code == 0
        assert all(command[0] in out for command in self.COMMANDS)

    def test_the_example_of_run_is_true(self, call, artifact):
        code, out, _ = call("run", "A gem.", "Two hours I want back.", "--format", "jsonl", "--artifact", artifact)
        assert code == 0 and out.count("\n") == 2


class TestBadInput:
    def test_unknown_command_option_and_value(self, call):
        refused(call("fly"), "No such command 'fly'")
        refused(call("run", "--wings", "a"), "--wings")
        refused(call("run", "a", "--board", "zcu104"), "--board", "zcu104")
        refused(call("demo", "--sentences", "0"), "--sentences")

    def test_no_sentences_or_both_kinds(self, call, artifact, tmp_path):
        refused(call("run", "--artifact", artifact), "give sentences as arguments, or --file")
        refused(call("run", "a", "--file", "-", "--artifact", artifact), "give sentences as arguments, or --file")

    def test_missing_files(self, call, artifact, tmp_path):
        refused(call("run", "--file", str(tmp_path / "none.txt"), "--artifact", artifact), "none.txt: no such file")
        refused(call("run", "a", "--device", "emulated", "--artifact", str(tmp_path / "none")), "none")

    def test_recipes(self, call, tmp_path):
        (tmp_path / "bad.toml").write_text('name = "x"\n[data]\nset = "reviews"\n')
        refused(call("train", str(tmp_path / "bad.toml")), "bad.toml: data.set: 'reviews' is not", "remedy: ")
        refused(call("train", str(tmp_path / "none.toml")), "none.toml")
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "notes.txt").write_text("mine")
        (tmp_path / "good.toml").write_text('name = "x"\n[data]\nset = "movie-reviews"\n')
        outcome = call("train", str(tmp_path / "good.toml"), "--out", str(tmp_path / "there"))
        refused(outcome, "there: is not empty; remedy: --resume")

    def test_ablation(self, call, tmp_path):
        out = ("--out", str(tmp_path / "out"))
        refused(call("ablation", str(tmp_path), *out, "--data", "reviews"), "data 'reviews' is none of movie-reviews")
        refused(call("ablation", str(tmp_path / "none"), *out), "none")

    def test_sparsity(self, call, tmp_path):
        out = ("--out", str(tmp_path / "out"))
        refused(call("sparsity", str(tmp_path), *out, "--data", "reviews"), "data 'reviews' is none of movie-reviews")
        refused(call("sparsity", str(tmp_path / "none"), *out), "none")

    @pytest.mark.parametrize(
        ("options", "fault"),
        [
            (
                ("--word-format", "adaptivfloat", "--word-bits", "4"),
                "--word-bits 4: with --word-format adaptivfloat it is 8",
            ),
            (("--word-format", "adaptivfloat", "--word-density", "0"), "--word-density 0 is not above 0 and at most 1"),
            (("--word-density", "0.4"), "--word-density 0.4 is for --word-format adaptivfloat alone"),
        ],
    )
    def test_words_that_do_not_go_together(self, call, tmp_path, options, fault):
        refused(call("quantize", str(tmp_path), "--out", str(tmp_path / "out"), *options), fault)

    @pytest.mark.parametrize("density", ["0", "-0.5", "1.5", "nan"])
    def test_a_density_that_is_none(self, call, tmp_path, density):
        outcome = call("quantize", str(tmp_path), "--out", str(tmp_path / "out"), f"--density={density}")
        refused(outcome, f"--density {density} is not above 0 and at most 1")
        assert not (tmp_path / "out").exists()

    def test_a_density_that_blocks_cannot_have(self, call, tmp_path):
        given = ("quantize", str(tmp_path), "--out", str(tmp_path / "out"), "--density", "0.6", "--pattern", "blocks")
        refused(call(*given), "--density 0.6 is none that --pattern blocks can have: 0.25, 0.5, 0.75 or 1")

    def test_a_truncated_artifact(self, call, tmp_path):
        folder = make_random_artifact(tmp_path / "artifact")
        model = folder / "model.safetensors"
        model.write_bytes(model.read_bytes()[:-1])
        refused(call("run", "a", "--device", "emulated", "--artifact", str(folder)), "model.safetensors")

    def test_a_nibble_that_is_no_weight(self, call, tmp_path):
        """Caught by the reader or by the packer, one line either way."""
        folder = make_random_artifact(tmp_path / "artifact")
        tensors = load_file(folder / "model.safetensors")
        tensors["layers.0.q.weight"][0, 0] = 0x88
        (folder / "model.safetensors").write_bytes(save(tensors))
        refused(call("run", "a", "--device", "emulated", "--artifact", str(folder)))

    def test_a_file_that_is_not_utf_8(self, call, artifact, tmp_path):
        (tmp_path / "latin.txt").write_bytes(b"w4\nw\xe95\n")
        outcome = call("run", "--file", str(tmp_path / "latin.txt"), "--device", "emulated", "--artifact", artifact)
        assert outcome[0] == 2 and outcome[1].count("\n") == 1  # the sentence before it was answered
        refused((2, "", outcome[2]), "latin.txt, line 2: not UTF-8")

    @pytest.mark.parametrize(("line", "tabs"), [("w4 w5", 0), ("w4\tw5\tw6", 2), ("", 0)])
    def test_a_pair_without_just_one_tab(self, call, artifact, tmp_path, line, tabs):
        (tmp_path / "pairs.tsv").write_text(f"w4\tw5\n{line}\n")
        file = str(tmp_path / "pairs.tsv")
        outcome = call("run", "--pairs", "--file", file, "--device", "emulated", "--artifact", artifact)
        assert outcome[0] == 2 and outcome[1].count("\n") == 1  # the pair before it was answered
        refused((2, "", outcome[2]), f"pairs.tsv, line 2: {tabs} tabs, --pairs takes two texts parted by one")
        refused(call("run", "w4\tw5", line, "--pairs", "--artifact", artifact), f"argument 2: {tabs} tabs, --pairs")
        refused(call("verify", line, "--pairs", "--artifact", artifact), f"argument 1: {tabs} tabs, --pairs")

    def test_pairs_of_nothing(self, call, artifact, tmp_path):
        refused(call("verify", "--pairs", "--artifact", artifact), "give sentences as arguments, or --file")
        outcome = call("quantize", str(tmp_path), "--out", str(tmp_path / "out"), "--pairs")
        refused(outcome, "--pairs is about the lines of a file: give it with --calibrate F")

    def test_strict(self, call, artifact):
        outcome = call("run", "w4 " * 80, "--strict", "--device", "emulated", "--artifact", artifact)
        refused(outcome, "sentence of 82 tokens, the model takes 64")

    def test_no_board(self, call, artifact):
        refused(call("run", "a", "--device", "board", "--artifact", artifact), "no board: pynq finds no device here")

    def test_clock_out_of_reach(self, call, artifact):
        outcome = call("run", "a", "--clock-mhz", "900", "--device", "emulated", "--artifact", artifact)
        refused(outcome, "--clock-mhz 900: the engine's clock is above 0 and at most 300 MHz; remedy: ")

    @pytest.mark.parametrize("clock", ["0", "-1", "nan", "inf"])
    def test_no_clock(self, call, artifact, clock):
        for command in (("run", "a", "--artifact", artifact), ("estimate", "--model", "bert-base")):
            refused(call(*command, "--clock-mhz", clock), f"--clock-mhz {clock}: the engine's clock is above 0")

    def test_a_window_of_nothing_that_waits(self, call, artifact):
        refused(call("run", "a", "--window", "5", "--artifact", artifact), "--window is of lines that wait", "remedy: ")

    def test_a_folder_of_sentences(self, call, artifact, tmp_path):
        refused(call("run", "--file", str(tmp_path), "--artifact", artifact), f"{tmp_path}: is a folder; remedy: ")

    def test_where_nothing_can_be_written(self, monkeypatch, tmp_path):
        def refuse(**_):
            raise OSError(13, "Permission denied")

        checks.check_out(tmp_path / "report.json")
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setattr(checks.tempfile, "TemporaryFile", refuse)
        with pytest.raises(InputError, match=r"^--html .*page.html: cannot be written: Permission denied; remedy: "):
            checks.check_out(tmp_path / "page.html", "--html")

    def test_nobody_reads_on(self, artifact, tmp_path):
        """As `| head -1` has it: that is no fault."""
        (tmp_path / "lines.txt").write_text("w4 w5\n" * 2000)
        command = [sys.executable, "-m", "zynqbert.host.cli", "run", "--device", "emulated", "--artifact", artifact]
        for more in ([], ["--packed"], ["--workers", "1"]):
            process = subprocess.Popen(
                [*command, *more, "--file", str(tmp_path / "lines.txt"), "--format", "jsonl"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert json.loads(process.stdout.readline())["text"] == "w4 w5"
            process.stdout.close()
            assert (process.wait(60), process.stderr.read()) == (0, "")
            process.stderr.close()

    def test_quantize_without_torch(self, call, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "torch", None)
        monkeypatch.delitem(sys.modules, "zynqbert.quant.pipeline", raising=False)
        for name in [n for n in sys.modules if n.startswith("zynqbert.quant.") and "datasets" not in n]:
            monkeypatch.delitem(sys.modules, name)
        outcome = call("quantize", str(tmp_path), "--out", str(tmp_path / "out"))
        refused(outcome, "quantize needs torch", "pip install 'zynqbert[quant]'")

    def test_a_defect_of_ours_shows_its_traceback(self, call, monkeypatch, artifact):
        monkeypatch.setattr(emulator, "bench_emulator", lambda *_, **__: [][0])
        code, _, err = call("bench", "emulator", "--artifact", artifact)
        assert code == 3 and "IndexError" in err


class TestTasks:
    LINES = "first\tw4 w5\nthird\tw6\tw7\nfirst\tw8\nsecond\tw9\n"

    def test_one_of_them(self, call, backbone):
        arguments = ("run", "w4 w5", "--device", "emulated", "--artifact", backbone, "--task", "second")
        code, out, err = call(*arguments)
        assert (code, err) == (0, "") and out.startswith("second  ")
        answer = json.loads(call(*arguments, "--format", "jsonl")[1])
        row = next(csv.DictReader(io.StringIO(call(*arguments, "--format", "csv")[1])))
        assert answer["task"] == row["task"] == "second" and next(iter(row)) == "task"
        assert [name for name in row if name.startswith("score:")] == [f"score:{n}" for n in answer["scores"]]

    @pytest.mark.parametrize("given", ["file", "arguments"])
    def test_mixed(self, call, backbone, tmp_path, given):
        (tmp_path / "lines.tsv").write_text(self.LINES)
        where = ("--file", str(tmp_path / "lines.tsv")) if given == "file" else tuple(self.LINES.splitlines())
        code, out, err = call(
            "run", *where, "--mixed", "--device", "emulated", "--artifact", backbone, "--format", "jsonl"
        )
        answers = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [(a["task"], a["text"], a["pair"]) for a in answers] == [
            *(("first", "w4 w5", None), ("third", "w6", "w7"), ("first", "w8", None), ("second", "w9", None)),
        ]
        moved = {row["name"]: row["switch_bytes"] for row in self.listed(call, backbone)}
        summary = f"zynqbert: 4 sentences, 2 switches of task, {moved['third'] + moved['second']} bytes moved\n"
        assert err == summary

    def test_a_window_of_one_switches_for_each(self, call, backbone):
        lines = [f"{task}\tw4" for task in ("first", "second") * 2]
        code, out, err = call("run", *lines, "--mixed", "--window", "1", "--device", "emulated", "--artifact", backbone)
        assert code == 0 and "4 sentences, 3 switches of task" in err
        assert [line.partition("  ")[0] for line in out.splitlines()] == ["first", "second"] * 2

    def test_what_does_not_go_together(self, call, backbone, artifact):
        emulated = ("--device", "emulated", "--artifact")
        refused(
            call("run", "a", *emulated, backbone), "a backbone of 3 tasks; remedy: name one", "first, second, third"
        )
        refused(call("run", "a", "--task", "fourth", *emulated, backbone), "it has: first, second, third")
        refused(
            call("run", "a", "--task", "first", *emulated, artifact), "--task first: ", "is no backbone", "remedy: "
        )
        refused(call("run", "a\tb", "--mixed", *emulated, artifact), "--mixed: ", "is no backbone", "remedy: ")
        refused(call("run", "a", "--mixed", "--task", "first", *emulated, backbone), "--task with --mixed", "remedy: ")
        refused(call("run", "a", "--mixed", "--pairs", *emulated, backbone), "--pairs with --mixed", "remedy: ")
        refused(call("run", "--mixed", *emulated, backbone), "give sentences as arguments, or --file")
        refused(call("estimate", "--model", "minilm-l6", "--task", "first"), "--task is of a backbone", "remedy: ")

    @pytest.mark.parametrize(
        ("line", "fault"),
        [
            ("fourth\tw4", "task 'fourth' is none of those there are: first, second, third"),
            ("", "task '' is none"),
            ("first", "0 tabs, --mixed takes a task and one or two texts"),
            ("first\ta\tb\tc", "3 tabs, --mixed takes"),
        ],
    )
    def test_a_line_that_is_none(self, call, backbone, tmp_path, line, fault):
        """Told behind the answers to the lines before; of arguments before any is answered."""
        (tmp_path / "lines.tsv").write_text(f"{self.LINES}{line}\n")
        arguments = ("--mixed", "--device", "emulated", "--artifact", backbone)
        code, out, err = call("run", "--file", str(tmp_path / "lines.tsv"), *arguments)
        assert code == 2 and len(out.splitlines()) == 4
        assert err.startswith("zynqbert: ") and f"lines.tsv, line 5: {fault}" in err and err.count("\n") == 1
        refused(call("run", "first\tw4", line, *arguments), f"argument 2: {fault}")

    def test_the_only_one_needs_no_name(self, call, tmp_path):
        folder = str(make_tasks(tmp_path / "backbone", ("only",), seed=3))
        code, out, _ = call("run", "w4 w5", "--device", "emulated", "--artifact", folder)
        assert code == 0 and out.startswith("only  ")

    def test_no_task_yet(self, call, tmp_path):
        folder = str(make_tasks(tmp_path / "backbone", (), seed=3))
        for options in ((), ("--mixed",), ("--task", "first")):
            refused(
                call("run", "a", *options, "--device", "emulated", "--artifact", folder), "has no task yet; remedy: "
            )
        assert "no tasks yet; zynqbert tasks add" in call("tasks", "list", folder)[1]

    def test_commands_that_take_a_model_by_itself(self, call, backbone):
        for command in (("demo",), ("bench", "board"), ("bench", "emulator")):
            outcome = call(*command, "--artifact", backbone)
            refused(outcome, "a backbone with tasks, this command takes a model by itself; remedy: zynqbert run")

    def test_estimate_and_verify(self, call, backbone):
        code, out, _ = call("estimate", "--artifact", backbone, "--task", "second", "--json")
        assert code == 0 and json.loads(out)["latency_ms"] > 0
        refused(call("estimate", "--artifact", backbone), "a backbone of 3 tasks; remedy: name one of them with --task")
        code, out, _ = call("verify", "w4", "--no-csim", "--artifact", backbone, "--task", "third")
        assert code == 0 and "golden = native" in out
        refused(call("verify", "w4", "--artifact", backbone), "a backbone of 3 tasks")

    @staticmethod
    def listed(call, folder, board="zcu102"):
        code, out, err = call("tasks", "list", folder, "--board", board, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)["tasks"]

    @pytest.mark.parametrize("board", ["zcu102", "zcu111"])
    def test_list(self, call, backbone, board):
        rows = self.listed(call, backbone, board)
        assert [(row["name"], len(row["labels"])) for row in rows] == [("first", 2), ("second", 3), ("third", 4)]
        for row in rows:
            assert row["share"] == row["switch_bytes"] / row["image_bytes"] and row["max_length"] == 64
            assert (row["points"], row["switch_bytes_early_exit"], row["test_accuracy"]) == ([], None, None)
        code, out, _ = call("tasks", "list", backbone, "--board", board)
        assert code == 0 and f"{rows[1]['switch_bytes']:,}" in out and f"{rows[1]['share']:.2%}" in out

    def test_list_of_tasks_that_leave_early(self, call, tmp_path):
        points = {"1": {"threshold": 9, "foretold": None}, "2": {"threshold": 99, "foretold": None}}
        options = {"layers": 2, "exits": True, "points": points, "seed": 3}
        folder = make_tasks(tmp_path / "backbone", ("first",), **options)
        file = folder / "tasks" / "first" / "task.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"metrics": {"test_accuracy": 0.875}}))
        (row,) = self.listed(call, str(folder))
        assert row["points"] == ["1", "2"] and row["test_accuracy"] == 0.875
        assert row["switch_bytes_early_exit"] >= row["switch_bytes"] + 256  # off-ramp and exit table
        assert "87.5%" in call("tasks", "list", str(folder))[1]

    def test_add(self, call, backbone, tmp_path):
        folder = str(make_tasks(tmp_path / "backbone", (), seed=3))
        task = Path(backbone) / "tasks" / "second"
        code, out, err = call("tasks", "add", folder, str(task))
        assert (code, err) == (0, "")
        added = Path(folder) / "tasks" / "second"
        assert out == f"{added}: task second of trunk; zynqbert run --artifact {folder} --task second\n"
        assert (added / "task.json").read_bytes() == (task / "task.json").read_bytes()
        assert call("run", "w4", "--device", "emulated", "--artifact", folder)[1].startswith("second  ")

    def test_add_what_is_none(self, call, backbone, artifact, tmp_path):
        refused(call("tasks", "add", backbone, str(tmp_path / "none")), "none: folder: there is none", "remedy: ")
        refused(call("tasks", "add", artifact, str(tmp_path)), "manifest.json", "remedy: ")
        refused(call("tasks", "list", artifact), "manifest.json", "remedy: ")
        (tmp_path / "task.json").write_text(json.dumps({"settings": {}, "epochs": []}))
        refused(call("tasks", "add", backbone, str(tmp_path)), "a task in float needs texts of its kind; remedy: ")


class TestRun:
    def test_text(self, call, artifact):
        code, out, err = call("run", "w4 w5", "w6", "--device", "emulated", "--artifact", artifact)
        lines = out.splitlines()
        assert (code, err, len(lines)) == (0, "", 2)
        assert lines[0].startswith("label") and lines[0].endswith("w4 w5")
        assert "ms" in lines[0] and " W " in lines[0] and "fps/W" in lines[0] and "modelled" in lines[0]

    def test_jsonl(self, call, artifact):
        code, out, _ = call("run", "w4 w5", 'quote "é"', "--format", "jsonl", "--artifact", artifact)
        first, second = (json.loads(line) for line in out.splitlines())
        assert code == 0
        names = {"text", "label", "confidence", "latency_ms", "energy_mj", "power_w", "clock_mhz"}
        assert names | {"truncated", "source"} <= set(first)
        assert (first["text"], first["source"], first["truncated"]) == ("w4 w5", "modelled", False)
        assert second["text"] == 'quote "é"' and "é" in out

    def test_csv(self, call, artifact):
        code, out, _ = call("run", 'w4, "w5"', "w6", "--format", "csv", "--artifact", artifact)
        rows = list(csv.DictReader(io.StringIO(out)))
        assert code == 0 and [row["text"] for row in rows] == ['w4, "w5"', "w6"]
        assert float(rows[0]["latency_ms"]) > 0

    def test_packed(self, call, artifact, tmp_path):
        texts = [f"w{4 + n} w5" for n in range(40)]
        (tmp_path / "lines.txt").write_text("\n".join(texts) + "\n")
        how = ("--device", "emulated", "--artifact", artifact, "--format", "jsonl")
        one_by_one = [
            json.loads(line) for line in call("run", "--file", str(tmp_path / "lines.txt"), *how)[1].splitlines()
        ]
        code, out, err = call("run", "--packed", "--file", str(tmp_path / "lines.txt"), *how)
        answers = [json.loads(line) for line in out.splitlines()]
        assert code == 0 and err == "zynqbert: 40 sentences in 2 passes\n"
        assert [a["text"] for a in answers] == texts and [a["scores"] for a in answers] == [
            a["scores"] for a in one_by_one
        ]
        code, _, err = call("run", "--packed", "--window", "8", *texts[:20], *how)
        assert code == 0 and err == "zynqbert: 20 sentences in 3 passes\n"

    def test_what_packed_does_not_go_with(self, call, artifact):
        how = ("--packed", "--device", "emulated", "--artifact", artifact)
        refused(call("run", "a\tb", "--mixed", *how), "--packed does not go with --mixed; remedy: ")
        refused(call("run", "a", "--continuous", *how), "--packed does not go with --continuous", "remedy: ")
        late = ("--continuous", "--early-exit", "1", "--latency-target", "5", *how[1:])
        refused(call("run", "a", *late), "--continuous does not go with --latency-target", "remedy: ")

    def test_continuous(self, call, artifact, tmp_path):
        points = {"1": {"threshold": 1900, "foretold": None, "loss_points": 1}}
        tied = make_tied_artifact(tmp_path, layers=3, embedding=64, points=points)
        how = ("--device", "emulated", "--early-exit", "1", "--format", "jsonl", "--artifact", str(tied))
        texts = [f"w{4 + n} w5" for n in range(20)]
        alone = [json.loads(line) for line in call("run", *texts, *how)[1].splitlines()]
        code, out, err = call("run", "--continuous", *texts, *how)
        answers = [json.loads(line) for line in out.splitlines()]
        assert code == 0 and err == "zynqbert: 20 sentences in 1 queue\n"
        for name in ("text", "scores", "exit_layer"):
            assert [a[name] for a in answers] == [a[name] for a in alone]
        own = ("--device", "emulated", "--artifact", str(tied.with_name("own")))
        refused(call("run", "a", "--continuous", *own), "is not as layers.0.", "; remedy: ")

    def test_packed_of_a_tagger(self, call, tmp_path):
        tagger = make_random_artifact(tmp_path / "tagger", kind="token")
        refused(
            call("run", "a", "--packed", "--device", "emulated", "--artifact", str(tagger)), "takes one text a pass"
        )

    def test_formats_agree(self, call, artifact):
        _, lines, _ = call("run", "w4 w5", "--format", "jsonl", "--artifact", artifact)
        _, table, _ = call("run", "w4 w5", "--format", "csv", "--artifact", artifact)
        answer, row = json.loads(lines), next(csv.DictReader(io.StringIO(table)))
        assert answer["label"] == row["label"] and answer["confidence"] == float(row["confidence"])

    def test_pairs(self, call, artifact, tmp_path):
        (tmp_path / "pairs.tsv").write_bytes("\ufeffw4 w5\tw6\r\n\tw7\n".encode())
        arguments = ("--pairs", "--format", "jsonl", "--artifact", artifact)
        code, lines, _ = call("run", "--file", str(tmp_path / "pairs.tsv"), *arguments)
        _, given, _ = call("run", "w4 w5\tw6", "\tw7", *arguments)
        answers = [json.loads(line) for line in lines.splitlines()]
        assert code == 0 and lines == given
        assert [(answer["text"], answer["pair"]) for answer in answers] == [("w4 w5", "w6"), ("", "w7")]
        assert answers[0]["scores"][answers[0]["label"]] == answers[0]["confidence"]
        _, text, _ = call("run", "w4 w5\tw6", "--pairs", "--artifact", artifact)
        assert text.endswith("w4 w5  |  w6\n")

    def test_without_pairs_a_tab_is_text(self, call, artifact):
        code, out, _ = call("run", "w4\tw5", "--format", "jsonl", "--artifact", artifact)
        answer = json.loads(out)
        assert code == 0 and (answer["text"], answer["pair"]) == ("w4\tw5", None)

    def test_a_column_for_each_label(self, call, artifact):
        _, lines, _ = call("run", "w4\tw5", "--pairs", "--format", "jsonl", "--artifact", artifact)
        _, table, _ = call("run", "w4\tw5", "--pairs", "--format", "csv", "--artifact", artifact)
        answer, row = json.loads(lines), next(csv.DictReader(io.StringIO(table)))
        assert (row["text"], row["pair"], row["value"]) == ("w4", "w5", "")
        assert {name: float(row[f"score:{name}"]) for name in ("label0", "label1")} == answer["scores"]

    def test_a_regression(self, call, regression):
        arguments = ("run", "w4 w5", "--device", "emulated", "--artifact", regression)
        answer = json.loads(call(*arguments, "--format", "jsonl")[1])
        assert answer["label"] is answer["confidence"] is None
        row = next(csv.DictReader(io.StringIO(call(*arguments, "--format", "csv")[1])))
        assert float(row["value"]) == float(row["score:label0"]) == answer["value"]
        assert (row["label"], row["confidence"]) == ("", "")
        assert call(*arguments)[1].startswith(f"label0 = {answer['value']:.4g}  ")

    def test_labels_that_hold_at_once(self, call, tmp_path):
        folder = str(make_random_artifact(tmp_path / "artifact", seed=1, scores="sigmoid", labels=6))
        texts = [f"w{4 + i} w{5 + i}" for i in range(12)]
        arguments = ("run", *texts, "--device", "emulated", "--artifact", folder)
        answers = [json.loads(line) for line in call(*arguments, "--format", "jsonl")[1].splitlines()]
        shown = []
        for answer, line in zip(answers, call(*arguments)[1].splitlines(), strict=True):
            holding = [name for name, score in answer["scores"].items() if score >= 0.5] or [answer["label"]]
            expected = "  ".join(f"{name}  {answer['scores'][name]:.3f}" for name in holding)
            assert line.startswith(expected + f"  {answer['latency_ms']:.3f} ms")
            shown.append(len(holding))
        assert len(set(shown)) > 1

    def test_tokens(self, call, tagger):
        texts = ("w5, w4", "", 'zz "é"')
        arguments = ("run", *texts, "--device", "emulated", "--artifact", tagger)
        answers = [json.loads(line) for line in call(*arguments, "--format", "jsonl")[1].splitlines()]
        tokens = [(n, token) for n, answer in enumerate(answers, 1) for token in answer["tokens"]]
        assert [(n, token["text"]) for n, token in tokens] == [(1, "w5,"), (1, "w4"), (3, "zz"), (3, '"é"')]
        rows = list(csv.DictReader(io.StringIO(call(*arguments, "--format", "csv")[1])))
        assert list(rows[0]) == ["sentence", "token", "start", "end", "label", "confidence", "in_pair", "error"]
        for (number, token), row in zip(tokens, rows, strict=True):
            assert (int(row["sentence"]), row["token"], row["label"]) == (number, token["text"], token["label"])
            assert (int(row["start"]), int(row["end"])) == (token["start"], token["end"])
            assert float(row["confidence"]) == token["confidence"] and row["in_pair"] == "False"
        lines = call(*arguments)[1].splitlines()
        assert len(lines) == len(texts) + len(tokens)
        assert lines[0].endswith("[modelled, 250 MHz]  w5, w4")
        assert lines[2] == f"    {tokens[1][1]['label']}  {tokens[1][1]['confidence']:.3f}  w4  [4..6]"

    def test_tokens_of_a_pair(self, call, tagger):
        arguments = ("run", "w5\tw4 w6", "--pairs", "--device", "emulated", "--artifact", tagger)
        rows = list(csv.DictReader(io.StringIO(call(*arguments, "--format", "csv")[1])))
        assert [(row["token"], row["start"], row["in_pair"]) for row in rows] == [
            ("w5", "0", "False"),
            ("w4", "0", "True"),
            ("w6", "3", "True"),
        ]
        assert call(*arguments)[1].endswith("w6  [3..5 of the second]\n")

    def test_file_line_by_line(self, call, artifact, tmp_path):
        (tmp_path / "in.txt").write_bytes("\ufeffw4 w5\r\n\nw6".encode())
        code, out, _ = call("run", "--file", str(tmp_path / "in.txt"), "--format", "jsonl", "--artifact", artifact)
        assert code == 0
        assert [json.loads(line)["text"] for line in out.splitlines()] == ["w4 w5", "", "w6"]

    def test_stdin(self, call, artifact, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"w4\nw5\n")))
        code, out, _ = call("run", "--file", "-", "--format", "jsonl", "--artifact", artifact)
        assert code == 0 and out.count("\n") == 2

    def test_too_long_is_told_once(self, call, artifact):
        long = "w4 " * 80
        arguments = ("run", long, "w5", long, "--format", "jsonl", "--device", "emulated", "--artifact", artifact)
        code, out, err = call(*arguments)
        assert code == 0
        assert [json.loads(line)["truncated"] for line in out.splitlines()] == [True, False, True]
        assert err == "zynqbert: a sentence is over the model's length: truncated, and marked so\n"

    def test_auto_says_emulated_on_stderr(self, call, artifact):
        _, out, err = call("run", "w4", "--artifact", artifact)
        assert err == "zynqbert: no board here, the zcu102 is emulated\n"
        assert "no board" not in out

    @pytest.mark.parametrize("form", ["text", "jsonl", "csv"])
    def test_a_sentence_whose_pass_hangs(self, call, artifact, hung, form):
        """It has its error in its place, and the others their answers."""
        code, out, err = call("run", *("w4", "w5", "w6"), "--format", form, "--artifact", artifact)
        assert code == 1 and "zynqbert: sentences failed: 1\n" in err
        if form == "text":
            first, second, third = out.splitlines()
            assert second.startswith("error: engine: not done after 0.02 s (") and second.endswith("  w5")
            assert first.startswith("label") and third.startswith("label")
        else:
            table = csv.DictReader(io.StringIO(out))
            rows = [json.loads(line) for line in out.splitlines()] if form == "jsonl" else list(table)
            assert [row["text"] for row in rows] == ["w4", "w5", "w6"]
            assert [bool(row["label"]) for row in rows] == [True, False, True]
            assert [bool(row["error"]) for row in rows] == [False, True, False]

    def test_as_a_command_of_its_own(self, artifact):
        """The installed entry point, and a reader that goes away early."""
        command = [sys.executable, "-m", "zynqbert.host.cli", "run", *["w4"] * 50, "--artifact", artifact]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline().startswith("label")
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        process.stderr.close()
        process.wait()

    def test_results_go_to_stdout_while_a_terminal_shows_progress(self, artifact):
        terminal, stderr = os.openpty()
        command = [sys.executable, "-m", "zynqbert.host.cli", "run", "w4", "w5", "--artifact", artifact]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60, check=True)
        os.close(stderr)
        shown = os.read(terminal, 1 << 16).decode()
        os.close(terminal)
        assert done.stdout.count("\n") == 2 and "[modelled" not in shown
        assert "sentences" in shown


class TestQuantize:
    """What is handed to the quantizer, which is a stub here, and what is said of its report."""

    REPORT: ClassVar = {"bytes": {"model": 12_340_000}, "encoder": {"ratio": 7.911}, "compared_sentences": 128}

    @pytest.fixture
    def given(self, monkeypatch):
        """Texts that the quantizer was given; its report has what is put in `given.report`."""
        found = SimpleNamespace(texts=None, report={})

        def quantize_checkpoint(source, texts, out, **options):
            found.texts, found.options = texts, options
            return self.REPORT | found.report

        module = SimpleNamespace(quantize_checkpoint=quantize_checkpoint)
        monkeypatch.setitem(sys.modules, "zynqbert.quant.pipeline", module)
        return found

    def test_sentences_of_a_file(self, call, given, tmp_path):
        (tmp_path / "in.txt").write_text("w4\tw5\n\nw6\n")
        outcome = call("quantize", "model", "--out", "folder", "--calibrate", str(tmp_path / "in.txt"))
        assert outcome == (0, "folder: 12.3 MB, encoder weights 7.91 times smaller than in float\n", "")
        assert given.texts == ["w4\tw5", "", "w6"]

    def test_a_density(self, call, given, tmp_path):
        (tmp_path / "in.txt").write_text("w4\n")
        command = ("quantize", "model", "--out", "folder", "--calibrate", str(tmp_path / "in.txt"))
        call(*command)
        words = {"word_bits": 8, "word_format": "integer", "word_density": 1.0}
        assert given.options == {**words, "softmax": "numerator", "density": 1.0, "pattern": "free", "tied": False}
        given.report = {"density": {"wanted": 0.5, "achieved": 0.4912}}
        code, out, err = call(*command, "--density", "0.5")
        assert (code, err, given.options["density"]) == (0, "", 0.5)
        call(*command, "--density", "0.5", "--pattern", "blocks")
        assert given.options["pattern"] == "blocks"
        assert out == "folder: 12.3 MB, encoder weights 7.91 times smaller than in float, 49.1% of them not zero\n"

    def test_words_of_adaptivfloat(self, call, given, tmp_path):
        (tmp_path / "in.txt").write_text("w4\n")
        command = ("quantize", "model", "--out", "folder", "--calibrate", str(tmp_path / "in.txt"))
        assert call(*command, "--word-format", "adaptivfloat", "--word-density", "0.4")[0] == 0
        assert (given.options["word_format"], given.options["word_density"]) == ("adaptivfloat", 0.4)

    def test_pairs_of_a_file(self, call, given, tmp_path):
        (tmp_path / "in.tsv").write_text("w4\tw5\n\tw6\n")
        code, _, err = call("quantize", "model", "--out", "folder", "--calibrate", str(tmp_path / "in.tsv"), "--pairs")
        assert (code, err) == (0, "") and given.texts == [("w4", "w5"), ("", "w6")]
        (tmp_path / "in.tsv").write_text("w4\n")
        outcome = call("quantize", "model", "--out", "folder", "--calibrate", str(tmp_path / "in.tsv"), "--pairs")
        refused(outcome, "in.tsv, line 1: 0 tabs")

    def test_what_it_calibrates_on_without_a_file(self, call, given, monkeypatch):
        monkeypatch.setattr(datasets, "movie_reviews", lambda split: [datasets.Example(f"{split} w4", 0)])
        code, _, err = call("quantize", "model", "--out", "folder")
        assert (code, given.texts) == (0, ["train w4"])
        assert err == "zynqbert: calibrating on movie reviews; --calibrate F takes texts of your own task\n"

    @pytest.mark.parametrize(
        ("report", "said"),
        [
            ({"agreement": 0.9765}, "97.7% of the answers to 128 further texts as in float"),
            (
                {"mean_absolute_error": 0.05},
                "values of 128 further texts off float by 0.050 of their spread",
            ),
        ],
    )
    def test_distance_from_float(self, call, given, report, said, tmp_path):
        (tmp_path / "in.txt").write_text("w4\n")
        given.report = report
        _, out, _ = call("quantize", "model", "--out", "folder", "--calibrate", str(tmp_path / "in.txt"))
        assert out.endswith(f" than in float, {said}\n")


class TestVerify:
    def test_equal(self, call, artifact):
        code, out, _ = call("verify", "w4 w5", "w6 " * 40, "--no-csim", "--artifact", artifact)
        assert code == 0
        assert out.count("golden = native: 15 buffers equal") == 2 and "csim" not in out

    def test_csim(self, call, artifact):
        code, out, _ = call("verify", "w4 w5", "--artifact", artifact, "--board", "zcu111")
        assert code == 0
        assert "golden = native" in out and "golden = csim" in out

    def test_pairs_and_tokens(self, call, tagger):
        code, out, _ = call("verify", "w4 w5\tw6", "--pairs", "--artifact", tagger)
        assert code == 0
        assert "golden = native" in out and "golden = csim" in out and "w6" in out

    def test_own_sentences_where_none_are_given(self, call, artifact):
        code, out, _ = call("verify", "--artifact", artifact)
        assert code == 0 and out.count("golden = csim") == out.count("golden = native") == 4

    def test_the_first_difference_is_named(self, call, artifact, monkeypatch):
        true_traces = verify.golden_traces

        def altered(golden, rows):
            trace = true_traces(golden, rows)
            trace["layers.0.k"] = trace["layers.0.k"].copy()
            trace["layers.0.k"][3, 5] += 1
            trace["logits"] = trace["logits"] + 1
            return trace

        monkeypatch.setattr(verify, "golden_traces", altered)
        code, out, _ = call("verify", "w4 w5", "--no-csim", "--artifact", artifact)
        assert code == 1
        assert "DIFFERS: layers.0.k[3, 5] is " in out and "(1 of 3072 differ)" in out

    def test_another_shape_differs(self):
        found = verify.first_difference({"x": np.zeros((2, 3))}, {"x": np.zeros((2, 4))})
        assert found.buffer == "x"


class TestEstimate:
    FIELDS = (
        "cycles", "clock_mhz", "latency_ms", "mac_utilization", "peak_macs_per_cycle", "power_pl_w", "power_ps_w",
        "power_w", "fps", "fps_per_w", "dsp", "bram36", "uram", "lut",
    )  # fmt: skip

    def test_json(self, call):
        code, out, err = call("estimate", "--model", "bert-base", "--board", "zcu111", "--seq", "128", "--json")
        figures = json.loads(out)
        assert (code, err) == (0, "")
        assert set(self.FIELDS) <= set(figures) and figures["modelled"] is True
        assert figures["peak_macs_per_cycle"] == 6144
        assert figures["latency_ms"] == pytest.approx(figures["cycles"] / figures["clock_mhz"] / 1e3)
        assert figures["power_w"] == pytest.approx(figures["power_pl_w"] + figures["power_ps_w"])
        assert 0.5 < figures["mac_utilization"] < 1
        assert len(figures["fq_bert"]) == 3

    def test_a_slower_clock_takes_longer(self, call):
        times = []
        for mhz in ("250", "100"):
            _, out, _ = call("estimate", "--model", "minilm-l6", "--seq", "32", "--clock-mhz", mhz, "--json")
            times.append(json.loads(out)["latency_ms"])
        assert times[1] > 1.5 * times[0]

    def test_text_says_modelled(self, call):
        code, out, _ = call("estimate", "--model", "minilm-l6", "--seq", "32")
        assert code == 0
        lines = {line.split()[0]: line for line in out.splitlines() if line}
        asked = {"clock_mhz", "peak_macs_per_cycle"}
        assert all(lines[name].endswith("modelled") for name in set(self.FIELDS) - asked)
        assert "FQ-BERT" in out and "published" in out
        assert re.search(r"FQ-BERT ZCU102 \(8,16\) +published +9\.80 W, modelled +[\d.]+ W, [+-]\d+%\n", out)
        assert re.search(r"Energy a pass, modelled: [\d.]+ mJ\n", out)
        assert re.search(r"  array DSPs +[\d.]+ mJ +[\d.]+%\n", out)

    def test_every_model_is_in_the_help(self, call):
        help_text = " ".join(call("estimate", "--help")[1].split())
        for name in ARCHITECTURES:
            assert name in help_text
            assert call("estimate", "--model", name, "--json")[0] == 0

    def test_of_an_artifact(self, call, artifact):
        code, out, _ = call("estimate", "--artifact", artifact, "--seq", "20", "--json")
        assert code == 0 and json.loads(out)["model"] == artifact

    def test_clocks_lengths_and_what_binds_them(self, call):
        code, out, _ = call("estimate", "--model", "bert-base", "--board", "zcu111", "--json")
        extra = json.loads(out)["extra"]
        assert code == 0 and [row["clock_mhz"] for row in extra["clocks"]] == [200, 250, 300]
        latencies = [row["latency_ms"] for row in extra["clocks"]]
        assert latencies == sorted(latencies, reverse=True)
        assert [row["tokens"] for row in extra["lengths"]] == [16, 32, 64, 128]
        assert extra["lengths"][0]["bound"].startswith("weights on their way from DDR")
        assert extra["lengths"][-1]["bound"].startswith("the array (")
        for row in extra["clocks"]:
            low, high = row["fps_per_w_range"]
            assert low < row["fps_per_w"] < high

    def test_weights_that_stay_on_chip_and_why_others_do_not(self, call):
        arguments = ("--model", "albert-base", "--density", "0.5")
        on_chip = call("estimate", *arguments, "--board", "zcu111")[1]
        assert "  layers.0.q .. layers.0.ffn2      2.700 MB compressed, on chip, used by 12 layers\n" in on_chip
        assert "  read a sentence: 1.73 MB, 34.12 MB with nothing on chip (modelled)\n" in on_chip
        in_ddr = call("estimate", *arguments, "--board", "zcu102")[1]
        assert "in DDR, used by 12 layers: layers.0.o needs 3516 words of the resident memory, 716 of 11264" in in_ddr
        memory = json.loads(call("estimate", *arguments, "--board", "zcu111", "--json")[1])["extra"]["memory"]
        assert memory["bytes_read_a_sentence"] < memory["bytes_read_a_sentence_streamed"] / 10
        assert memory["resident_words"] == sum(m["words"] for m in memory["matrices"]) <= memory["resident_capacity"]
        assert memory["weights_stored_bytes"] < 0.78 * memory["weights_dense_bytes"]

    @pytest.mark.parametrize("density", ["0", "-1", "1.5"])
    def test_a_density_that_is_none(self, call, artifact, density):
        refused(call("estimate", "--model", "bert-base", "--density", density), "--density is above 0, at most 1")
        refused(call("estimate", "--artifact", artifact, "--density", "0.5"), "an artifact has a density of its own")

    def test_blocks_spare_the_array_steps(self, call):
        half = ("--model", "bert-base", "--density", "0.5", "--json")
        free, blocks = (json.loads(call("estimate", *half, *more)[1]) for more in ((), ("--pattern", "blocks")))
        assert blocks["latency_ms"] < 0.56 * free["latency_ms"]
        found = {m["chosen"] for m in blocks["extra"]["memory"]["matrices"]}
        assert found == {True} and not any(m["chosen"] for m in free["extra"]["memory"]["matrices"])
        assert (blocks["density"], blocks["pattern"], free["pattern"]) == (0.5, "blocks", "free")
        assert free["extra"]["work_spared"] == 0 and 0.4 < blocks["extra"]["work_spared"] < 0.5
        assert blocks["extra"]["padding_waste"] == free["extra"]["padding_waste"]
        said = call("estimate", *half[:-1], "--pattern", "blocks")[1]
        assert "work_spared" in said and "what is spared counts as done" in said

    def test_a_pattern_of_no_density(self, call):
        blocks = ("estimate", "--model", "bert-base", "--pattern", "blocks")
        refused(call(*blocks), "--pattern says where the zeros of --density are, which is not given")
        refused(call(*blocks, "--density", "0.6"), "--density 0.6 is none that --pattern blocks can have: 0.25, 0.5")

    def test_refused(self, call, artifact):
        refused(call("estimate"), "give either --model or --artifact")
        refused(call("estimate", "--model", "bert-base", "--artifact", artifact), "give either --model or --artifact")
        refused(call("estimate", "--model", "bert-huge"), "model 'bert-huge' is none of bert-base")
        refused(call("estimate", "--model", "bert-base", "--seq", "129"), "sequence of 129 tokens, 1 to 128 fit")


class TestBench:
    def test_json(self, call, artifact):
        code, out, _ = call("bench", "emulator", "--tokens", "33", "--repeats", "2", "--artifact", artifact, "--json")
        figures = json.loads(out)
        assert code == 0 and figures["tokens"] == 33 and figures["repeats"] == 2
        assert figures["pass_ms"] >= figures["best_ms"] > 0 and figures["gmac_per_s"] > 0

    def test_text_says_measured(self, call, artifact):
        code, out, _ = call("bench", "emulator", "--repeats", "1", "--artifact", artifact)
        assert code == 0 and "measured on this machine" in out

    def test_random_weights(self, call, monkeypatch):
        monkeypatch.setitem(ARCHITECTURES, "tiny", (1, 64, 2, 96, None, 50))
        words = ("bench", "emulator", "--model", "tiny", "--repeats", "1", "--threads", "2")
        code, out, _ = call(*words, "--json")
        figures = json.loads(out)
        assert code == 0 and (figures["model"], figures["threads"]) == ("tiny", 2)
        assert figures["source"] == "measured on this machine" and figures["cpu_ms"] > 0
        code, out, _ = call(*words)
        assert code == 0 and "random tiny, 32 tokens, 2 threads: " in out

    def test_refused(self, call, artifact):
        refused(
            call("bench", "emulator", "--tokens", "129", "--artifact", artifact), "129 tokens, the model takes 1 to"
        )
        both = call("bench", "emulator", "--model", "bert-base", "--artifact", artifact)
        refused(both, "give either --model or --artifact")
        refused(call("bench", "emulator", "--model", "bert-huge"), "model 'bert-huge' is none of bert-base")
        few = call("bench", "emulator", "--artifact", artifact, "--threads", "0")
        refused(few, "threads is '0'; remedy: a number of threads from 1 to 64")


class TestDemo:
    EXAMPLES = tuple(datasets.Example(f"w{4 + i} w{5 + i}", i % 2) for i in range(40))

    @pytest.fixture
    def reviews(self, monkeypatch):
        monkeypatch.setattr(datasets, "movie_reviews", lambda split, **_: list(self.EXAMPLES))

    def test_table_and_accuracy(self, call, sentiment, reviews):
        code, out, _ = call("demo", "--artifact", sentiment, "--sentences", "30")
        assert code == 0
        for word in ("sentence", "label", "confidence", "modelled", "fps/W", "correct?", "yes", "no"):
            assert word in out
        assert "of 30 sentences of the test split" in " ".join(out.split())

    def test_the_sample_is_seeded(self, sentiment, reviews):
        found = [demo.demo(sentiment, sentences=10, device="emulated", seed=seed) for seed in (1, 1, 2)]
        assert found[0] == found[1]

    def test_offline_says_why_accuracy_was_not_measured(self, call, sentiment, monkeypatch, tmp_path):
        monkeypatch.setenv("ZYNQBERT_DATA", str(tmp_path))
        code, out, _ = call("demo", "--offline", "--artifact", sentiment)
        assert code == 0
        assert "accuracy not measured: these are our own sentences, not the test split" in " ".join(out.split())
        assert any(example.text[:10] in out for example in datasets.own_sentences())

    def test_labels_of_another_task(self, call, artifact, reviews):
        outcome = call("demo", "--artifact", artifact, "--device", "emulated")
        refused(outcome, "task.labels is ['label0', 'label1']", "negative, positive")

    def test_the_budget_ends_the_sample(self, sentiment):
        with demo.engines.open(board="zcu102", artifact=sentiment, device="emulated") as engine:
            assert demo.measure(engine, self.EXAMPLES, budget_s=-1).total == 1

    def test_interval(self):
        low, high = demo.Accuracy(80, 100).interval()
        assert (round(low, 3), round(high, 3)) == (0.711, 0.867)  # Wilson, 95 %

    def test_without_torch_and_golden(self, sentiment, tagger, tmp_path):
        """In a process where torch, transformers and the golden model cannot be imported."""
        reviews = b"".join(b"%d\t%d\tw%d w%d\r\n" % (i, 1 - 2 * (i % 2), 4 + i % 30, 5 + i % 40) for i in range(1, 400))
        archive = tmp_path / datasets.REVIEWS_ARCHIVE.file
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w:gz") as inner:
            member = tarfile.TarInfo(datasets._REVIEWS)
            member.size = len(reviews)
            inner.addfile(member, io.BytesIO(reviews))
        with zipfile.ZipFile(archive, "w") as outer:
            outer.writestr(datasets._TAR, tar.getvalue())
        script = (
            "import sys, dataclasses, hashlib, pathlib\n"
            "blocked = ('torch', 'transformers', 'zynqbert.quant.golden', 'zynqbert.quant.golden_model')\n"
            "for name in blocked: sys.modules[name] = None\n"
            "from zynqbert.quant import datasets\n"
            f"sha256 = hashlib.sha256(pathlib.Path({str(archive)!r}).read_bytes()).hexdigest()\n"
            "datasets.REVIEWS_ARCHIVE = dataclasses.replace(datasets.REVIEWS_ARCHIVE, sha256=sha256)\n"
            "from zynqbert.host import cli\n"
            f"assert cli.call(['run', 'w4\\tw5', '--pairs', '--device', 'emulated', '--artifact', {tagger!r}]) == 0\n"
            f"sys.exit(cli.call(['demo', '--sentences', '20', '--artifact', {sentiment!r}]))\n"
        )
        environment = {**os.environ, "ZYNQBERT_DATA": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "of 20 sentences of the test split" in " ".join(done.stdout.split())
        assert done.stderr == "zynqbert: no board here, the zcu102 is emulated\n"


def test_stages_in_float_are_shown_as_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    slim = {"dev_accuracy": 0.8612, "density": 0.45, "heads_off": 0.625, "mean_span": 11.26}
    ramps = {"dev_accuracy": 0.8601, "layers": [0.71, 0.8234, 0.8601]}
    report = {"stages": {"teacher": {"dev_accuracy": 0.866}, "slim": slim, "offramps": ramps}, "folder": "off"}
    output.print_stages(report, Path("build/x"))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for wanted in (
        ["teacher", "86.6%"],
        ["slim", "86.1%", "45.0%", "62.5%", "11.3"],
        ["offramps,", "accuracy", "after", "each", "layer:", "71.0%", "82.3%", "86.0%"],
    ):
        assert wanted in rows
    assert rows[-1][:3] == ["build/x/off:", "the", "model;"]


def test_a_training_is_shown_as_a_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    report = json.loads((Path(__file__).parents[2] / "artifacts" / "movie-reviews.train.json").read_text())
    output.print_training(report, Path("build/x"))
    shown, trained = capsys.readouterr().out, report["test"]["trained"]
    low, high = trained["difference_interval_points"]
    for wanted in (
        f"{trained['sentences']} examples, measured",
        f"{trained['float_accuracy']:.2%}",
        f"{trained['quantized_accuracy']:.2%}",
        f"{trained['difference_points']:+.2f} points",
        f"{low:+.2f} to {high:+.2f}",
        "quantized, calibrated",
        "build/x/artifact",
    ):
        assert wanted in shown
