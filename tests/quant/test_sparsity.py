# SPDX-License-Identifier: Apache-2.0
"""The study of densities: its rows are quantizations at their density, or trained artifacts; a cut run goes on."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tiny_bert import random_classifier
from zynqbert.quant import sparsity as module
from zynqbert.quant.artifact import load_artifact, save_artifact
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.datasets import DataSet, Example
from zynqbert.quant.evaluate import wilson
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.options import Options
from zynqbert.quant.pruning import compressed_bytes, density_report, encoder_matrices
from zynqbert.quant.quantize import quantize
from zynqbert.quant.sparsity import DENSITIES as DEFAULT
from zynqbert.quant.sparsity import draw, sparsity, table
from zynqbert.quant.tokens import encode
from zynqbert.quant.vocabulary import drop_unused_words

ROOT = Path(__file__).parents[2]
LABELS = ("LABEL_0", "LABEL_1", "LABEL_2")
DENSITIES = (1.0, 0.5, 0.2)
ROWS = {"train": 40, "dev": 30, "test": 36}


def load(split: str, *, offline: bool = False) -> list[Example]:
    """Random words of the tiny tokenizer, of random labels."""
    random = np.random.default_rng(len(split))
    words = ["a", "gem", ".", "gems"]
    texts = [f"{split[:1]} " + " ".join(random.choice(words, random.integers(1, 12))) for _ in range(ROWS[split])]
    return [Example(t, int(random.integers(3))) for t in texts]


OWN = DataSet("own", LABELS, load, None)
HOW = dict(densities=DENSITIES, block_densities=(0.5,), max_length=30)


class Cut(Exception):
    pass


def made(checkpoint, texts, **options):
    """Quantized by hand as a row shall be."""
    calibration = calibrate(checkpoint.weights, encode(checkpoint.tokenizer_json, texts, 30))
    options = Options(word_bits=4, **options)
    return quantize(checkpoint.weights, calibration, task=checkpoint.task, max_length=128, options=options)


def save(path, quantized, checkpoint, **metrics):
    return save_artifact(path, {**quantized.manifest, "metrics": metrics}, quantized.tensors, checkpoint.tokenizer_json)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(model, out, report, artifact, what was told) of a run cut within its second row, continued, continued with a
    trained artifact."""
    root, told = tmp_path_factory.mktemp("sparsity"), []
    random_classifier(root / "model", vocab_size=13, num_hidden_layers=1, intermediate_size=40)
    checkpoint = drop_unused_words(load_checkpoint(root / "model"))
    pruned = made(checkpoint, [e.texts for e in load("dev")], density=0.5)  # calibrated on others: not the one-shot row
    artifact = save(root / "trained", pruned, checkpoint, density={"wanted": 0.5})
    blocks = made(checkpoint, [e.texts for e in load("dev")], density=0.5, pattern="blocks")
    told_of = density_report(encoder_matrices(blocks.manifest, blocks.tensors), 0.5)
    in_blocks = save(root / "in-blocks", blocks, checkpoint, density=told_of)

    def until(*step) -> None:
        if step[0] == "density 0.5" and step[1] > 150:
            raise Cut

    with pytest.raises(Cut):
        sparsity(root / "model", OWN, root / "out", progress=until, **HOW)
    kept = json.loads((root / "out/sparsity.json").read_text())
    assert list(kept["one_shot"]) == ["1"] and set(kept["float"]) == {"dev", "test"}
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        note = lambda o: seen.append((o.density, o.pattern))  # noqa: E731
        patch.setattr(module, "quantize", lambda *a, **k: note(k["options"]) or quantize(*a, **k))
        again = lambda *step: told.append(step)  # noqa: E731
        sparsity(root / "model", OWN, root / "out", resume=True, progress=again, **HOW)
        rows = [(0.5, "free"), (0.2, "free"), (0.5, "blocks")]
        assert seen == rows
        how = dict(trained=[artifact, in_blocks], progress=again, **HOW)
        report = sparsity(root / "model", OWN, root / "out", resume=True, **how)
        assert seen == rows
    assert report["one_shot"]["1"] == kept["one_shot"]["1"]
    return root / "model", root / "out", report, artifact, told


def test_the_report(ran):
    _, out, report, _, _ = ran
    assert json.loads((out / "sparsity.json").read_text()) == json.loads(json.dumps(report))
    assert list(report["one_shot"]) == ["1", "0.5", "0.2"] and list(report["blocks"]) == ["0.5"]
    assert list(report["trained"]) == ["0.5", "0.5 blocks"]
    bounds = (report["blocks"]["0.5"], report["trained"]["0.5 blocks"], report["one_shot"]["0.5"])
    assert [row["block_bound"] for row in bounds] == [2, 2, 4]
    settings = report["settings"]
    assert (settings["sentences.dev"], settings["sentences.test"]) == (30, 36)
    assert settings["texts.dev"] != settings["texts.test"] and settings["prune_by"] == "contribution"
    shares = [row["compressed_share"] for row in report["one_shot"].values()]
    assert shares == sorted(shares, reverse=True)
    for name, row in report["one_shot"].items():
        assert row["achieved"] <= row["densest_matrix"] <= row["wanted"] == float(name)
        for split, n in (("dev", 30), ("test", 36)):
            found = row[split]
            assert found["sentences"] == n and found["float_right"] == report["float"][split]["right"]
            low, high = found["quantized_interval"]
            assert low < found["quantized_accuracy"] < high and found["logit_error"] > 0
    errors = [row["test"]["logit_error"] for row in report["one_shot"].values()]
    assert errors == sorted(errors) and errors[2] > 2 * errors[0]


def test_progress_is_told_of_the_whole(ran):
    ends = [i for i, step in enumerate(ran[4]) if step[0] == "float"]
    for part, rows in ((ran[4][: ends[1]], 3), (ran[4][ends[1] :], 2)):
        done = [step[1] for step in part]
        assert done == sorted(done) and done[-1] == 100 * rows and {step[2] for step in part} == {100 * rows}
    assert ran[4][-1][0] == "density 0.5 blocks, trained" and "density 0.5 in blocks" in {step[0] for step in ran[4]}


def test_a_row_is_the_pruned_engine(ran, tmp_path):
    model, _, report, trained, _ = ran
    checkpoint = drop_unused_words(load_checkpoint(model))
    quantized = made(checkpoint, [e.texts for e in load("train")], density=0.2)
    path = save(tmp_path / "a", quantized, checkpoint)
    for folder, row in ((path, report["one_shot"]["0.2"]), (trained, report["trained"]["0.5"])):
        golden, a = GoldenModel(folder), load_artifact(folder)
        for split in ("dev", "test"):
            tokens = encode(checkpoint.tokenizer_json, [e.texts for e in load(split)], 30)
            right = [
                int(golden.forward_sentence(*s).argmax()) == e.label for s, e in zip(tokens, load(split), strict=True)
            ]
            assert row[split]["quantized_right"] == sum(right)
        matrices = encoder_matrices(a.manifest, a.tensors)
        assert row["compressed_bytes"] == compressed_bytes(matrices)
        assert row["dense_bytes"] == sum(a.tensors[f"{name}.weight"].nbytes for name in matrices)
        assert row["achieved"] == pytest.approx(
            sum(map(np.count_nonzero, matrices.values())) / sum(q.size for q in matrices.values()), abs=1e-6
        )


def test_a_finished_run_stays(ran, monkeypatch, tmp_path):
    model, out, report, artifact, _ = ran
    monkeypatch.setattr(module, "quantize", None)
    monkeypatch.setattr(module, "quantized_logits", None)
    before = (out / "sparsity.json").read_bytes()
    trained = [artifact, artifact.with_name("in-blocks")]
    assert sparsity(model, OWN, out, resume=True, trained=trained, **HOW) == json.loads(json.dumps(report))
    assert (out / "sparsity.json").read_bytes() == before
    with pytest.raises(ValueError, match=r"sparsity\.json: holds a run already; remedy: --resume"):
        sparsity(model, OWN, out, **HOW)
    with pytest.raises(ValueError, match=r"other settings of prune_by: \['contribution'\], not \['magnitude'\]"):
        sparsity(model, OWN, out, resume=True, prune_by="magnitude", **HOW)
    with pytest.raises(ValueError, match=r"other settings of sentences\.dev, sentences\.test, texts\.dev, texts\.test"):
        sparsity(model, OWN, out, resume=True, sentences=20, **HOW)


def test_another_trained_artifact_is_measured_anew(ran, tmp_path):
    model, out, report, _, _ = ran
    checkpoint = drop_unused_words(load_checkpoint(model))
    other = made(checkpoint, [e.texts for e in load("test")], density=0.5)
    path = save(tmp_path / "other", other, checkpoint, density={"wanted": 0.5})
    (tmp_path / "sparsity.json").write_text((out / "sparsity.json").read_text())
    found = sparsity(model, OWN, tmp_path, resume=True, trained=[path], progress=lambda *step: None, **HOW)
    assert found["trained"]["0.5"]["artifact"] != report["trained"]["0.5"]["artifact"]
    assert found["one_shot"] == json.loads(json.dumps(report["one_shot"]))


def test_artifacts_that_do_not_fit(ran, tmp_path):
    model, _, _, artifact, _ = ran
    checkpoint = drop_unused_words(load_checkpoint(model))
    dense = made(checkpoint, [e.texts for e in load("dev")])
    with pytest.raises(ValueError, match=r"dense: metrics\.density is missing; remedy: an artifact of a recipe"):
        sparsity(model, OWN, tmp_path / "out", trained=[save(tmp_path / "dense", dense, checkpoint)], **HOW)
    with pytest.raises(ValueError, match=r"a second artifact of density 0\.5"):
        sparsity(model, OWN, tmp_path / "out", trained=[artifact, artifact], **HOW)
    dense.manifest["task"] = {**dense.manifest["task"], "labels": ["a", "b", "c"]}
    path = save(tmp_path / "labels", dense, checkpoint, density={"wanted": 0.5})
    with pytest.raises(ValueError, match=r"labels: its labels are \['a', 'b', 'c'\]"):
        sparsity(model, OWN, tmp_path / "out", trained=[path], **HOW)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "more, problem",
    [
        (dict(densities=(0.5, 0)), "density 0 is not above 0"),
        (dict(block_densities=(0.6,)), "density 0.6 is none that blocks of 4 can have: 0.25, 0.5, 0.75, 1"),
        (dict(prune_by="size"), "prune_by 'size' is none of"),
        (dict(sentences=0), "sentences = 0"),
    ],
)
def test_input_that_does_not_fit(ran, tmp_path, more, problem):
    with pytest.raises(ValueError, match=problem):
        sparsity(ran[0], OWN, tmp_path / "out", **{**HOW, **more})
    assert not (tmp_path / "out").exists()


def test_the_plot(ran, tmp_path):
    _, out, report, _, _ = ran
    content = (out / "sparsity.svg").read_bytes()
    ids = {element.get("id") for element in ElementTree.parse(out / "sparsity.svg").getroot().iter()}
    assert {"axes_1", "axes_2"} <= ids and "axes_3" not in ids
    assert all(name in content for name in (b"one shot, calibrated", b"in blocks", b"trained", b"two weights a byte"))
    draw(report, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == content


def test_the_table(ran):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table(ran[2]))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    starts = [line.split("  ")[0].strip() for line in lines]
    assert all(name in starts for name in ("float", "1", "0.5", "0.2", "0.5 blocks", "0.5 blocks trained")), lines


def test_the_committed_study_is_what_the_page_says():
    report = json.loads((ROOT / "artifacts" / "movie-reviews.sparsity.json").read_text(encoding="utf-8"))
    lines = (ROOT / "docs" / "sparsity.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.count("|") == 9]
    rows = {row[0]: row[1:] for row in cells}
    named = [*report["one_shot"], *(f"{name}, trained" for name in report["trained"])]
    assert set(named) | {"float", "density", "---"} == set(rows)
    assert named == [*(f"{d:g}" for d in DEFAULT), "0.5, trained"]
    log = json.loads((ROOT / "artifacts" / "movie-reviews-sparse.train.json").read_text(encoding="utf-8"))
    assert log["recipe"]["prune"]["density"] == 0.5
    assert log["density"]["achieved"] == report["trained"]["0.5"]["achieved"]
    for title, group in (("", "one_shot"), (", trained", "trained")):
        for name, row in report[group].items():
            kept, dev, test, points, error, size, share = rows[name + title]
            found, (low, high) = row["test"], row["test"]["difference_interval_points"]
            assert row["achieved"] <= row["densest_matrix"] <= row["wanted"] == float(name)
            assert kept == f"{100 * row['achieved']:.1f} %" and dev == f"{100 * row['dev']['quantized_accuracy']:.1f} %"
            assert test.startswith(f"{100 * found['quantized_right'] / 2272:.2f} % (")
            assert points == f"{found['difference_points']:+.2f} ({low:+.2f} to {high:+.2f})"
            assert error == f"{found['logit_error']:.3f}" and size == f"{row['compressed_bytes'] / 1e6:.2f}"
            assert share == f"{100 * row['compressed_bytes'] / row['dense_bytes']:.0f} %"


def test_wilson():
    low, high = wilson(40, 50)
    assert (round(low, 3), round(high, 3)) == (0.67, 0.888)
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-12) and wilson(10, 10)[1] == pytest.approx(1)
