# SPDX-License-Identifier: Apache-2.0
"""A recipe with off-ramps to its end: artifacts of every step, operating points, reports, and how a run goes on."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from gems import NAMES, examples, quiet, save_project
from safetensors.numpy import load
from zynqbert.quant import exit_stages, stage_table, train
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.deepen import Deepen
from zynqbert.quant.evaluate import ramp_entropies, ramp_logits
from zynqbert.quant.exit_answers import Answers
from zynqbert.quant.exit_predictor import Exits
from zynqbert.quant.finetune import FineTuning
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.offramps import OffRamps
from zynqbert.quant.recipe import Data, Prune, QuantizedTraining, Quantizing, Recipe, RecipeError, load_recipe
from zynqbert.quant.slim import Slim
from zynqbert.quant.tokens import encode

SIZES = {"train": 48, "dev": 16, "test": 20}
ARTIFACTS = ("dense-calibrated", "slim-calibrated", "calibrated", "artifact")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a pretrained encoder and tables."""
    folder = tmp_path_factory.mktemp("project")
    save_project(folder, SIZES)
    return folder


@pytest.fixture(scope="module")
def recipe(project):
    return Recipe(
        data=Data(labels=NAMES, train="train.tsv", dev="dev.tsv", test="test.tsv", max_length=16),
        name="gems",
        threads=1,
        device="cpu",
        finetune=FineTuning(str(project / "base"), epochs=1, batch=8),
        deepen=Deepen(layers=4, batch=8),
        slim=Slim(batch=8, epochs=2, heads_off=0.5),
        offramps=OffRamps(batch=8, epochs=1),
        quantize=Quantizing(word_bits=8),
        train=None,
        exits=Exits(sentences=40, epochs=30, thresholds=3, seeds=1, losses=(0, 10)),
    )


@pytest.fixture(scope="module")
def finished(project, recipe, tmp_path_factory):
    """The folder of an uninterrupted run, and its report."""
    out = tmp_path_factory.mktemp("run") / "out"
    report = train.train(recipe, project, out, console=quiet())
    assert json.loads(json.dumps(report)) == json.loads((out / "train.json").read_text())
    return out, report


def contents(out) -> dict[str, bytes]:
    """Of every file that says nothing of the time it took."""
    timed = ("train.json", "manifest.json", "finetune.json", "deepen.json", "slim.json", "offramps.json")
    found = {str(p.relative_to(out)): p for p in out.rglob("*") if p.is_file() and p.name not in timed}
    # safetensors writes its metadata in any order
    return {
        name: load(p.read_bytes())["logits"].tobytes() if "answers" in name else p.read_bytes()
        for name, p in found.items()
    }


def test_what_it_writes(finished):
    out, _ = finished
    for name in ARTIFACTS:
        manifest = load_artifact(out / name).manifest
        assert (manifest["exits"] is not None) == (name in ("calibrated", "artifact"))
    for file in ("exits.json", "exits.svg", "steps.json", "steps.md", "predictor.safetensors", "train.json"):
        assert (out / file).is_file(), file
    assert not list(out.rglob("*.partial"))


def test_points_are_what_the_golden_model_does(finished):
    """Accuracy and exit layer of every point, on dev and test, by the model that shares no code with the choice."""
    out, _ = finished
    artifact, golden = load_artifact(out / "artifact"), GoldenModel(out / "artifact")
    points = artifact.manifest["exits"]["points"]
    assert list(points) == ["0", "10"]
    text = artifact.tokenizer_path.read_text()
    for split, seed in (("dev", 1), ("test", 2)):
        found = examples(SIZES[split], seed)
        for point in points.values():
            for of in (point, point["foretold"]):
                exits = point if "table" in of else {**point, "foretold": None}
                answers = [
                    golden.forward_sentence(s.ids, s.types, exits=exits)
                    for s in encode(text, [e.texts for e in found], 16)
                ]
                right = [a.logits[0].argmax() == e.label for a, e in zip(answers, found, strict=True)]
                measured = of if split == "dev" else of["test"]
                assert measured["accuracy"] == np.mean(right)
                assert measured["mean_layer"] == np.mean([a.layer[0] for a in answers])


def test_points_lose_no_more_than_permitted_on_dev(finished):
    out, _ = finished
    for name, point in load_artifact(out / "artifact").manifest["exits"]["points"].items():
        for of in (point, point["foretold"]):
            assert of["difference_points"] >= -float(name) - 1e-9


def test_the_table_of_steps(finished):
    out, report = finished
    steps = json.loads((out / "steps.json").read_text())
    assert steps == report["steps"]
    for split, rows in steps.items():
        assert [row["step"] for row in rows[:3]] == ["dense", "slim", "offramps"] and len(rows) == 3 + 2 * 2
        dense, slim, ramps = rows[:3]
        assert dense["difference_points"] == 0 and dense["heads"] == dense["heads_of"] and dense["mean_span"] is None
        assert slim["heads"] <= dense["heads"] // 2 + 4 and slim["density"] < 0.6 < dense["density"]
        assert ramps["density"] == pytest.approx(slim["density"], abs=0.05)
        assert slim["compressed_bytes"] < dense["compressed_bytes"] and slim["weight_bytes"] < dense["weight_bytes"]
        assert ramps["mean_layer"] == dense["mean_layer"] == 4
        artifact = load_artifact(out / "calibrated")
        found = examples(SIZES[split], {"dev": 1, "test": 2}[split])
        logits = ramp_logits(artifact.manifest, artifact.tensors,
                             encode(artifact.tokenizer_path.read_text(), [e.texts for e in found], 16))  # fmt: skip
        assert ramps["accuracy"] == (logits[:, -1].argmax(axis=1) == [e.label for e in found]).mean()
        assert ramp_entropies(artifact.manifest, logits).shape == (SIZES[split], 4)
    page = (out / "steps.md").read_text()
    assert page.count("| dense |") == 2 and "4.00" in page


def test_the_predictor_as_a_project(finished, project, recipe, tmp_path):
    """Asked for of a run that is finished: its table and its compiled network on the test split."""
    for name in ("h5py", "quantizers"):
        pytest.importorskip(name, reason="hls4ml's own dependencies are missing: pip install zynqbert[sim]")
    out = shutil.copytree(finished[0], tmp_path / "out")
    asked = dataclasses.replace(recipe, exits=dataclasses.replace(recipe.exits, firmware=10))
    found = train.train(asked, project, out, resume=True, console=quiet())["predictor"]
    point = load_artifact(out / "artifact").manifest["exits"]["points"]["10"]["foretold"]
    assert (found["point"], found["rule"]) == ("10", point["rule"])
    assert json.loads((out / "predictor" / "predictor.json").read_text())["point"] == "10"
    assert found["test"]["table"] == point["test"] and found["cost"]["table_bits"] == 2048
    by_network = found["test"]["network"]
    assert sum(by_network["layers"]) == SIZES["test"] and by_network["told"] == point["test"]["told"]
    assert by_network["full_depth_accuracy"] == point["test"]["full_depth_accuracy"]


def test_without_hls4ml_a_project_is_refused_before_any_training(project, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    asked = dataclasses.replace(recipe, exits=dataclasses.replace(recipe.exits, firmware=10))
    with pytest.raises(ModuleNotFoundError, match=r"remedy: pip install zynqbert\[sim\]"):
        train.train(asked, project, tmp_path / "out", console=quiet())
    assert not (tmp_path / "out" / "teacher").exists()


def test_a_finished_run_is_kept(finished, project, recipe, tmp_path, monkeypatch):
    out, report = finished
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    for name in ("calibrate", "quantize"):
        monkeypatch.setattr(f"zynqbert.quant.pipeline.{name}", None)  # whoever calls one fails
    monkeypatch.setattr(exit_stages, "foretold_points", None)
    monkeypatch.setattr("zynqbert.quant.exit_answers.ramp_logits", None)
    monkeypatch.setattr("zynqbert.quant.exit_answers.quantized_logits", None)
    again = train.train(recipe, project, copy, resume=True, console=quiet())
    assert contents(copy) == contents(out)
    assert {**again, "folder": ""} == {**report, "folder": ""}


def test_a_run_that_was_cut_ends_the_same(finished, project, recipe, tmp_path):
    out, _ = finished
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    for name in ("exits.json", "exits.svg", "steps.json", "steps.md", "predictor.safetensors", "train.json"):
        (copy / name).unlink()
    shutil.rmtree(copy / "artifact")
    (copy / "answers" / "offramps-test.safetensors").unlink()
    train.train(recipe, project, copy, resume=True, console=quiet())
    assert contents(copy) == contents(out)


def test_answers_of_another_model_are_not_taken(finished, project, recipe, tmp_path):
    """With another artifact in its place its answers are computed; and what was chosen for the first is refused."""
    out, _ = finished
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    shutil.rmtree(copy / "calibrated")
    other = dataclasses.replace(recipe, quantize=Quantizing(word_bits=4))
    artifact = train.calibrate_once(
        other, str(copy / "offramps"), recipe.data.load(project)[1], copy / "calibrated", quiet()
    )
    assert artifact.manifest["architecture"]["word_bits"] == 4
    with pytest.raises(ValueError, match=r"exits\.json: begun with other settings of model"):
        train.train(recipe, project, copy, resume=True, console=quiet())
    answers = Answers(recipe.data.load(project)[1], 16, copy / "answers", quiet())
    texts = answers.tokens("dev", artifact.tokenizer_path.read_text())
    logits = ramp_logits(artifact.manifest, artifact.tensors, texts)
    found = answers.ramps("offramps", artifact, "dev")
    np.testing.assert_array_equal(found.entropy, ramp_entropies(artifact.manifest, logits))
    np.testing.assert_array_equal(answers.ramps("offramps", artifact, "dev").entropy, found.entropy)
    fewer = answers.ramps("offramps", artifact, "dev", 5)
    np.testing.assert_array_equal(fewer.entropy, found.entropy[:5])


def test_other_settings_are_named(finished, project, recipe, tmp_path):
    out, _ = finished
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    other = dataclasses.replace(recipe, exits=dataclasses.replace(recipe.exits, losses=(1.0,)))
    with pytest.raises(ValueError, match=r"settings\.json: begun with other settings of exits\.losses"):
        train.train(other, project, copy, resume=True, console=quiet())


def test_without_exits_it_ends_in_float(finished, project, recipe, tmp_path):
    out, _ = finished
    copy = tmp_path / "out"
    copy.mkdir()
    for stage in ("teacher", "dense", "slim", "offramps"):
        shutil.copytree(out / stage, copy / stage)
    report = train.train(dataclasses.replace(recipe, exits=None), project, copy, resume=True, console=quiet())
    assert "steps" not in report and not (copy / "artifact").exists()


def test_quantized_training_keeps_zeros_and_ramps(finished, project, recipe, tmp_path):
    out, _ = finished
    copy = tmp_path / "out"
    for stage in ("teacher", "dense", "slim", "offramps", *ARTIFACTS[:3]):
        shutil.copytree(out / stage, copy / stage)
    settings = QuantizedTraining(epochs=1, batch=8, learning_rate=1e-3)
    report = train.train(dataclasses.replace(recipe, train=settings), project, copy, resume=True, console=quiet())
    made, trained = (load_artifact(copy / name) for name in ("calibrated", "artifact"))
    assert any((made.tensors[k] != trained.tensors[k]).any() for k in made.tensors)
    before, after = (stage_table.sizes(of)["density"] for of in (made, trained))
    assert after == pytest.approx(before, abs=0.02)  # a half of it all, more in what is left of layers without heads
    assert trained.manifest["exits"]["points"] and report["steps"]["dev"][2]["step"] == "offramps"


def test_pruning_spares_what_it_is_compared_with(finished, project, recipe, tmp_path):
    given = dataclasses.replace(
        recipe, checkpoint=str(finished[0] / "teacher"), deepen=None, slim=None, prune=Prune(0.3),
        offramps=OffRamps(train="frozen", epochs=1, batch=8), train=QuantizedTraining(epochs=1, batch=8),
    )  # fmt: skip
    dense, ramps = train.train(given, project, tmp_path / "out", console=quiet())["steps"]["dev"][:2]
    assert (dense["step"], ramps["step"]) == ("dense", "offramps")
    assert ramps["density"] <= 0.3 < 0.6 < dense["density"]


RECIPE = """
name = "x"
[data]
set = "movie-reviews"
[offramps]
"""


def test_firmware_of_a_loss_that_is_not_chosen_is_named(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE + "[exits]\nfirmware = 3")
    with pytest.raises(RecipeError, match=r"exits\.firmware: 3 is none of exits\.losses, 0\.5, 1, 2; remedy: "):
        load_recipe(tmp_path / "recipe.toml")


def test_exits_need_off_ramps(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("[offramps]", "[exits]"))
    with pytest.raises(RecipeError, match=r"exits: stands without \[offramps\]"):
        load_recipe(tmp_path / "recipe.toml")


def test_integers_are_trained_only_where_the_recipe_says_so(tmp_path):
    (tmp_path / "recipe.toml").write_text(RECIPE + "[exits]\nlosses = [0.5, 1]\nfirmware = 1")
    found = load_recipe(tmp_path / "recipe.toml")
    assert found.train is None and found.exits == Exits(losses=(0.5, 1), firmware=1)
    (tmp_path / "recipe.toml").write_text(RECIPE + "[train]\nepochs = 1")
    assert load_recipe(tmp_path / "recipe.toml").train == QuantizedTraining(epochs=1)
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("[offramps]", ""))
    assert load_recipe(tmp_path / "recipe.toml").train == QuantizedTraining()
