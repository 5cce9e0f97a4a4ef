# SPDX-License-Identifier: Apache-2.0
"""EdgeBERT's stages in float by one recipe: what it writes and reports, how it goes on, what it refuses."""

import dataclasses
import json
import shutil

import pytest
import torch
from gems import NAMES, cut_after, quiet, save_project
from safetensors.torch import load_file
from zynqbert.quant import finetune, float_stage
from zynqbert.quant.deepen import Deepen
from zynqbert.quant.finetune import FineTuning
from zynqbert.quant.offramps import FIELD, FILE, OffRamps
from zynqbert.quant.recipe import Data, Recipe
from zynqbert.quant.slim import Slim
from zynqbert.quant.spans import SPANS
from zynqbert.quant.student import read_config
from zynqbert.quant.train import train

FOLDERS = ("teacher", "dense", "slim", "offramps")
LOGS = ("finetune", "deepen", "slim", "offramps")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a pretrained encoder and tables."""
    folder = tmp_path_factory.mktemp("project")
    save_project(folder, {"train": 32, "dev": 12, "test": 12})
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
    )


@pytest.fixture(scope="module")
def finished(project, recipe, tmp_path_factory):
    """The folder of an uninterrupted run."""
    out = tmp_path_factory.mktemp("run") / "out"
    report = train(recipe, project, out, console=quiet())
    assert json.loads(json.dumps(report)) == json.loads((out / "train.json").read_text())
    return out


def contents(out) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_it_writes(finished):
    for folder, log in zip(FOLDERS, LOGS, strict=True):
        for file in ("config.json", "model.safetensors", "tokenizer.json", f"{log}.json"):
            assert (finished / folder / file).is_file(), f"{folder}/{file}"
    assert (finished / "offramps" / FILE).is_file() and not list(finished.rglob("checkpoint"))
    config = read_config(finished / "offramps")
    assert config[SPANS] == read_config(finished / "slim")[SPANS] and config[FIELD]["trained"] == "jointly"


def test_what_it_reports(finished, recipe):
    report = json.loads((finished / "train.json").read_text())
    assert report["recipe"] == json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert report["folder"] == "offramps" and tuple(report["stages"]) == FOLDERS
    for folder, log in zip(FOLDERS, LOGS, strict=True):
        kept = json.loads((finished / folder / f"{log}.json").read_text())
        assert report["stages"][folder]["dev_accuracy"] == kept.get("best", kept)["dev_accuracy"]
    assert {"density", "heads_off", "mean_span"} <= set(report["stages"]["slim"])
    assert len(report["stages"]["offramps"]["layers"]) == 4
    assert set(report["examples"]) == {"train", "dev"}  # the test split is not read


def test_resuming_a_finished_run_changes_nothing(finished, project, recipe, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    before = contents(out)
    train(recipe, project, out, resume=True, console=quiet())
    after = contents(out)
    moved = before.pop("train.json"), after.pop("train.json")  # it names its folder
    assert after == before and moved[1] == moved[0].replace(str(finished).encode(), str(out).encode())


def test_a_run_cut_in_each_stage_goes_on_to_the_same_weights(finished, project, recipe, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for module, steps in ((finetune, 2), (float_stage, 3), (float_stage, 4 + 5), (float_stage, 4 + 2)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            cut_after(patch, module, steps)
            train(recipe, project, out, resume=True, console=quiet())
        assert not (out / "train.json").exists()
    train(recipe, project, out, resume=True, console=quiet())
    for file in (*(f"{folder}/model.safetensors" for folder in FOLDERS), f"offramps/{FILE}"):
        one, two = load_file(finished / file), load_file(out / file)
        assert all(torch.equal(one[name], two[name]) for name in one), file


@pytest.mark.parametrize(
    "part, changes, named",
    [
        (
            "deepen",
            {"share": 0.2},
            r"settings\.json: begun with other .* deepen\.share: \[0\.1\], not \[0\.2\]",
        ),
        ("slim", {"density": 0.4}, r"settings of slim\.density: \[0\.5\], not \[0\.4\]"),
        ("offramps", {"shared": True}, r"settings of offramps\.shared: \[False\], not \[True\]"),
    ],
)
def test_other_settings_are_refused_by_name(finished, project, recipe, tmp_path, part, changes, named):
    out = shutil.copytree(finished, tmp_path / "out")
    before = contents(out)
    changed = dataclasses.replace(recipe, **{part: dataclasses.replace(getattr(recipe, part), **changes)})
    with pytest.raises(ValueError, match=f"{named}; remedy: "):
        train(changed, project, out, resume=True, console=quiet())
    assert contents(out) == before


def test_stages_may_be_left_out(finished, project, recipe, tmp_path):
    """Off-ramps for a checkpoint as it is."""
    given = dataclasses.replace(recipe, checkpoint=str(finished / "teacher"), deepen=None, slim=None)
    report = train(given, project, tmp_path / "out", console=quiet())
    assert list(report["stages"]) == ["offramps"] and len(report["stages"]["offramps"]["layers"]) == 2
    assert not any((tmp_path / "out" / folder).exists() for folder in FOLDERS[:3])


def test_texts_without_label_are_read_from_slim_on(finished, project, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(Data, "load_unlabelled", lambda data: ["a gem", "s"])
    report = train(recipe, project, tmp_path / "out", console=quiet())
    assert report["unlabelled"] == 2 and json.loads((finished / "train.json").read_text())["unlabelled"] == 0
    for folder, log in zip(FOLDERS, LOGS, strict=True):
        settings = json.loads((tmp_path / "out" / folder / f"{log}.json").read_text())["settings"]
        assert ("examples.unlabelled.sha256" in settings) == (folder in ("slim", "offramps")), folder
    same, other = (load_file(out / "slim" / "model.safetensors") for out in (finished, tmp_path / "out"))
    assert any(not torch.equal(same[name], other[name]) for name in same)


def test_a_checkpoint_of_other_labels_is_refused(finished, project, recipe, tmp_path):
    data = dataclasses.replace(recipe.data, labels=tuple(reversed(NAMES)))
    given = dataclasses.replace(recipe, checkpoint=str(finished / "teacher"), data=data)
    with pytest.raises(ValueError, match="its labels are "):
        train(given, project, tmp_path / "out", console=quiet())
