# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench compare` on tiny models: every way answers the same sentences, what is counted is right on cases made
for it, and what does not go together is told in a line.
"""

import json
import random
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from early_exit import altered
from tiny_bert import make_slim, random_classifier
from zynqbert.host import cli
from zynqbert.host.bench import compare, compare_report
from zynqbert.host.bench.compare import bench_compare
from zynqbert.host.bench.compare_report import grids
from zynqbert.host.bench.edgebert_models import Model
from zynqbert.host.bench.edgebert_run import trace_of
from zynqbert.host.inputs import InputError
from zynqbert.quant.datasets import LABELS, Example
from zynqbert.quant.finetune import collate
from zynqbert.quant.float_classifier import torch_threads
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.pipeline import quantize_checkpoint
from zynqbert.quant.tokens import encode

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "docs" / "compare.schema.json").read_text(encoding="utf-8"))
COMMITTED = ROOT / "artifacts" / "movie-reviews"
WORDS = ["a", "gem", "gems", ".", "Ghent"]
POINT = {"1": {"threshold": 2100, "foretold": None}}  # in the middle of the first off-ramp's entropies
FEW = {"timed_sentences": 3, "rounds": 2, "threads": 1}


def texts(count):
    """Of 3 to 140 tokens; the last one is too long for the model."""
    draw = random.Random(5)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 40))) for _ in range(count - 1)] + ["gem " * 140]


TEXTS = texts(30)


def undecided(folder):
    """A random model that answers half of TEXTS with either label: what it says of some hangs on little."""
    model = random_classifier(folder, num_labels=2, id2label=dict(enumerate(LABELS)), num_hidden_layers=3)
    with torch.inference_mode():
        inputs = [collate([tokens]) for tokens in encode((folder / "tokenizer.json").read_text(), TEXTS, 128)]
        found = torch.cat([model(**given).logits for given in inputs])
    model.classifier.bias.data[0] -= (found[:, 0] - found[:, 1]).median()
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A float model of the movie reviews' labels, and its artifact; likewise with off-ramps."""
    root = tmp_path_factory.mktemp("models")
    for name in ("plain", "ramps"):
        undecided(root / name)
        if name == "ramps":
            make_slim(root / name, pooler=True)
        with torch_threads(1):  # the models are too small for more
            quantize_checkpoint(root / name, TEXTS, root / f"{name}-artifact", progress=lambda *_: None)
    altered(root / "ramps-artifact", root / "leaving", lambda m: m["exits"].update(points=POINT))
    return root


@pytest.fixture(scope="module")
def answers(folders):
    """What the float model and the golden model answer, each by its own means."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folders / "plain").eval()
    own = encode((folders / "plain" / "tokenizer.json").read_text(), TEXTS, 128)
    with torch.inference_mode():
        in_float = [int(model(**collate([tokens])).logits.argmax()) for tokens in own]
    golden = GoldenModel(folders / "plain-artifact")
    theirs = encode((folders / "plain-artifact" / "tokenizer.json").read_text(), TEXTS, 128)
    return in_float, [int(np.argmax(golden.forward_sentence(*tokens))) for tokens in theirs]


@pytest.fixture(scope="module")
def ran(folders, answers):
    """A report, as read back from JSON: the labels are the golden model's answers, but for the first three."""
    truth = [1 - label if i < 3 else label for i, label in enumerate(answers[1])]
    examples = [Example(text, label) for text, label in zip(TEXTS, truth, strict=True)]
    report = bench_compare(folders / "plain-artifact", folders / "plain", examples, texts_from="the test", **FEW)
    return json.loads(json.dumps(report, allow_nan=False)), truth


@pytest.fixture(scope="module")
def left(folders):
    examples = [Example(text, i % 2) for i, text in enumerate(TEXTS)]
    report = bench_compare(folders / "leaving", folders / "ramps", examples, boards=["zcu111"], **FEW)
    return json.loads(json.dumps(report, allow_nan=False))


def problems(report):
    validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(report)]


def rows(report):
    return {row["key"]: row for row in report["measured"]}


class TestReport:
    def test_keeps_to_its_schema(self, ran, left):
        assert problems(ran[0]) == [] and problems(left) == []

    def test_ways_in_order(self, ran, left):
        assert list(rows(ran[0])) == ["pytorch", "onnx", "onnx_int8", "emulator"]
        assert list(rows(left)) == ["pytorch", "onnx", "onnx_int8", "emulator", "emulator_early_exit"]

    def test_accuracies_are_counted(self, ran, answers):
        report, truth = ran
        in_float, golden = answers
        found = rows(report)
        right = [a == b for a, b in zip(in_float, truth, strict=True)]
        assert found["emulator"]["accuracy"]["right"] == len(TEXTS) - 3
        assert found["emulator"]["accuracy"]["share"] == pytest.approx(0.9)
        for key in ("pytorch", "onnx"):
            assert found[key]["accuracy"]["right"] == sum(right)
        agreed = sum(a == b for a, b in zip(in_float, golden, strict=True))
        assert agreed < len(TEXTS) and len(set(in_float)) == len(set(golden)) == 2  # else nothing here says much
        assert found["emulator"]["agreement"]["value"] == pytest.approx(agreed / len(TEXTS))
        assert found["onnx"]["agreement"]["value"] == found["pytorch"]["agreement"]["value"] == 1

    def test_differences_are_paired_with_float(self, ran, answers):
        report, truth = ran
        pairs = [(f == t, g == t) for f, g, t in zip(*answers, truth, strict=True)]
        found = rows(report)["emulator"]["difference"]
        assert (found["gained"], found["lost"]) == (pairs.count((False, True)), pairs.count((True, False)))
        assert found["points"] == pytest.approx(100 * (found["gained"] - found["lost"]) / len(TEXTS))
        assert found["interval"][0] <= found["points"] <= found["interval"][1]
        assert rows(report)["pytorch"]["difference"] is None
        assert rows(report)["onnx"]["difference"]["points"] == 0

    def test_all_read_the_same_tokens(self, ran, folders):
        theirs = encode((folders / "plain-artifact" / "tokenizer.json").read_text(), TEXTS, 128)
        assert ran[0]["tokens"]["mean"]["value"] == pytest.approx(np.mean([len(t.ids) for t in theirs]))
        assert ran[0]["tokens"]["max"]["value"] == 128

    def test_bytes_on_disk(self, ran, folders):
        found = {key: row["bytes"]["value"] for key, row in rows(ran[0]).items()}
        assert found["pytorch"] == (folders / "plain" / "model.safetensors").stat().st_size
        artifact = folders / "plain-artifact"
        assert found["emulator"] == sum((artifact / n).stat().st_size for n in ("manifest.json", "model.safetensors"))
        assert found["onnx_int8"] < 0.6 * found["onnx"]

    def test_boards_are_modelled_and_nothing_else(self, ran):
        boards = [(row["board"], row["point"], row["answers"]) for row in ran[0]["modelled"]]
        assert boards == [("zcu102", None, "emulator"), ("zcu111", None, "emulator")]

    def test_settings_and_machine(self, ran):
        given = ran[0]["settings"]
        assert (given["sentences"], given["timed_sentences"], given["rounds"], given["threads"]) == (30, 3, 2, 1)
        assert ran[0]["machine"]["cores"] >= 1 and set(ran[0]["machine"]["instructions"]) <= set(compare.INSTRUCTIONS)
        assert {"torch", "transformers", "onnx", "onnxruntime", "zynqbert"} <= set(ran[0]["versions"])


class TestLeavingEarly:
    def test_answers_and_layers_are_the_engines(self, left, folders, tmp_path):
        model = Model.load("--artifact", folders / "leaving")
        trace = trace_of(tmp_path, model, TEXTS, board="zcu102", point="1")
        assert 1 < np.mean(trace.layers) < 3  # else nothing here says much
        found = rows(left)["emulator_early_exit"]
        assert found["exit_layer"]["value"] == pytest.approx(np.mean(trace.layers))
        assert found["accuracy"]["right"] == sum(a == i % 2 for i, a in enumerate(trace.labels))

    def test_its_own_row_of_the_board(self, left):
        whole, early = left["modelled"]
        assert (whole["point"], early["point"], early["answers"]) == (None, "1", "emulator_early_exit")
        assert early["per_second"]["value"] > whole["per_second"]["value"]
        assert early["fps_per_watt"]["value"] > whole["fps_per_watt"]["value"]

    def test_a_point_that_there_is_none_of(self, folders):
        with pytest.raises(ValueError, match=r"early exit '2' is no operating point .* it has: 1"):
            bench_compare(folders / "leaving", folders / "ramps", [Example("a", 0)], point="2")
        with pytest.raises(ValueError, match="the artifact has no off-ramps"):
            bench_compare(folders / "plain-artifact", folders / "plain", [Example("a", 0)], point="1")


class TestText:
    def test_every_heading_says_where_its_figures_are_from(self, ran, left):
        for report in (ran[0], left):
            measured, modelled, published = grids(report)
            assert (
                measured.head[0] == "on this machine, measured"
                and "emulator's speed is not a board's" in measured.title
            )
            assert modelled.head[:2] == ("board, modelled", "accuracy,\nmeasured") and "modelled" in modelled.title
            assert published.head[0] == "published" and published.head[6].startswith("ours, modelled:")
            shown = compare_report.text(report)
            assert max(map(len, shown.split("\n"))) <= compare_report.WIDTH
            assert all(grid.title in " ".join(shown.split()) for grid in grids(report))

    def test_figures_stand_in_both_forms(self, ran):
        for shown in (compare_report.text(ran[0]), compare_report.markdown(ran[0])):
            for figure in ("90.00%", "43.89", "23.79", "2.32", "3.18"):
                assert figure in shown
            assert "512 tokens are beyond the 128 rows of a pass" in " ".join(shown.split())

    def test_markdown_is_tables(self, ran):
        for block in compare_report.markdown(ran[0]).split("\n\n"):
            if block.startswith("|"):
                assert len({line.count("|") for line in block.split("\n")}) == 1


class TestRefusals:
    def test_another_float_model(self, folders, tmp_path):
        random_classifier(tmp_path, num_labels=2, id2label=dict(enumerate(LABELS)), num_hidden_layers=2)
        with pytest.raises(InputError, match=r"--float .*: layers is 2, the artifact's is 3 .*; remedy: the"):
            bench_compare(folders / "plain-artifact", tmp_path, [Example("a", 0)])

    def test_no_sentence(self, folders):
        with pytest.raises(InputError, match="no sentence to compare"):
            bench_compare(folders / "plain-artifact", folders / "plain", [])

    @pytest.mark.parametrize("clock", [0, -1, 301, float("nan")])
    def test_a_clock_that_there_is_not(self, folders, clock):
        with pytest.raises(InputError, match="the engine's clock is above 0 and at most 300 MHz"):
            bench_compare(folders / "plain-artifact", folders / "plain", [Example("a", 0)], clock_mhz=clock)


class TestCommand:
    def run(self, capsys, *given):
        code = cli.call(["bench", "compare", *map(str, given)])
        return code, capsys.readouterr()

    def test_writes_the_report(self, folders, tmp_path, capsys):
        table, out = tmp_path / "labelled.tsv", tmp_path / "out.json"
        table.write_text("".join(f"{LABELS[i % 2]}\t{text}\n" for i, text in enumerate(TEXTS[:4])))
        given = ["--float", folders / "plain", "--artifact", folders / "plain-artifact", "--table", table]
        few = ["--rounds", 1, "--timed", 2, "--threads", 1, "--sentences", 3]
        code, said = self.run(capsys, *given, *few, "--format", "json", "--out", out, "--board", "zcu102")
        assert (code, said.out) == (0, "")
        report = json.loads(out.read_text())
        assert problems(report) == [] and report["settings"]["sentences"] == 3
        assert report["settings"]["texts_from"] == str(table)

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (
                ["--data", "tweets"],
                "--data tweets: its labels are negative, neutral, positive, the artifact's",
            ),
            (["--data", "nothing"], "--data nothing: none of movie-reviews, policy-pairs, tweets"),
            (["--data", "movie-reviews", "--table", "x.tsv"], "give either --data or --table"),
            (["--artifact", "artifacts/tasks"], "a backbone with tasks, this command takes a model by itself"),
            (["--out", "nowhere/at/all.json"], "there is no folder"),
        ],
        ids=["labels", "no set", "both", "backbone", "folder"],
    )
    def test_what_does_not_go_together(self, capsys, monkeypatch, options, told):
        monkeypatch.chdir(ROOT)
        code, said = self.run(capsys, "--float", "unread", *options)
        assert code == 2 and told in said.err and "Traceback" not in said.err

    def test_without_onnx_runtime(self, folders, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        monkeypatch.delitem(sys.modules, "zynqbert.quant.onnx_model", raising=False)
        given = ["--float", folders / "plain", "--artifact", folders / "plain-artifact", "--offline"]
        code, said = self.run(capsys, *given)
        assert code == 2 and "needs onnxruntime; remedy: pip install 'zynqbert[compare]'" in said.err
