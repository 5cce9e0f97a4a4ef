# SPDX-License-Identifier: Apache-2.0
"""One backbone and its tasks: put together they are the whole model; whatever does not belong together is refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from random_artifact import make_random_artifact
from safetensors.numpy import load_file, save
from split_tasks import make_tasks, split_tasks, task_of
from zynqbert.quant.artifact import ArtifactError, load_artifact, save_artifact
from zynqbert.quant.artifact_tensors import is_task_tensor
from zynqbert.quant.task_artifact import (
    add_task,
    load_backbone,
    load_task,
    save_backbone,
    save_task,
    task_names,
)

SMALL = dict(hidden=64, heads=2, ffn=41, vocab=30, extra_entries=1)
ALBERT = dict(family="albert", layers=3, embedding=25, exits=True, **SMALL)
NAMES = ["first", "second", "third.task"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A backbone of three layers on one set of matrices, with three tasks; beside it the whole model it was made of."""
    return make_tasks(tmp_path_factory.mktemp("tasks") / "trunk", NAMES, **ALBERT)


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "trunk")


@pytest.fixture
def whole(original):
    return load_artifact(original.with_name("trunk-whole"))


def refused(what, *words: str) -> str:
    """The one line with which `what` fails."""
    with pytest.raises(ArtifactError) as caught:
        what()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600 and "remedy: " in message
    assert all(word in message for word in words), message
    return message


def edit_json(file, path: str, value) -> None:
    """Set the field at a/b/c; `...` deletes it."""
    manifest = json.loads(file.read_text())
    at = manifest
    *outer, last = path.split("/")
    for name in outer:
        at = at[name]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    file.write_text(json.dumps(manifest))


def reseal(folder, model: str, manifest: str, tensors: dict) -> None:
    """Write tensors with checksums that fit, so that only the checks behind them can object."""
    data = save(tensors)
    (folder / model).write_bytes(data)
    found = json.loads((folder / manifest).read_text())
    found["files"][model]["sha256"] = hashlib.sha256(data).hexdigest()
    for name in found["tensors"].keys() & tensors.keys():
        found["tensors"][name]["sha256"] = hashlib.sha256(tensors[name].tobytes()).hexdigest()
    (folder / manifest).write_text(json.dumps(found))


def edit_tensor(folder, model: str, manifest: str, name: str, at: tuple, value: int) -> None:
    tensors = {n: t.copy() for n, t in load_file(folder / model).items()}
    tensors[name][at] = value
    reseal(folder, model, manifest, tensors)


def state(folder) -> dict:
    """Bytes and time of every file of a backbone itself."""
    files = [file for file in folder.iterdir() if file.is_file()]
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino) for file in files}


OPTIONS = {
    "albert": ALBERT,
    "bert": dict(layers=2, adapters={"width": 9, "activation": "gelu", "shared": False}, **SMALL),
    "own adapters": dict(
        family="albert", layers=3, exits=True, exit_pooler=True, labels=3,
        adapters={"width": 4, "activation": "tanh", "shared": False}, **SMALL,
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", OPTIONS)
def test_a_backbone_and_a_task_make_the_whole_model(tmp_path, which):
    """Tensor by tensor, field by field; and written as an artifact it loads as one."""
    folder = make_tasks(tmp_path / "trunk", ["a", "b"], **OPTIONS[which])
    whole = load_artifact(tmp_path / "trunk-whole")
    backbone = load_backbone(folder)
    read = load_task(backbone, folder / "tasks" / "a")
    assert read.tensors.keys() == whole.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert read.tensors[name].dtype == tensor.dtype and not read.tensors[name].flags.writeable
        np.testing.assert_array_equal(read.tensors[name], tensor)
    for field in ("architecture", "entries", "softmax", "spans", "adapters", "task", "exits", "scales", "tensors"):
        assert read.manifest[field] == whole.manifest[field], field
    assert read.manifest["metrics"] == {"seed": 0, "task": 0}
    assert read.tokenizer_path.read_bytes() == whole.tokenizer_path.read_bytes()
    assert set(read.manifest) == set(whole.manifest) and read.manifest["version"] == "2.2"
    for task in ("a", "b"):
        read = load_task(backbone, folder / "tasks" / task)
        given = {n: v for n, v in read.manifest.items() if n not in ("format", "version", "tensors", "files")}
        text = read.tokenizer_path.read_text()
        again = load_artifact(save_artifact(tmp_path / f"{task}-whole", given, read.tensors, text))
        assert again.manifest["tensors"] == read.manifest["tensors"]


def test_tasks_differ_and_share_what_is_the_backbones(folder):
    backbone = load_backbone(folder)
    assert task_names(backbone) == NAMES
    models = [load_task(backbone, folder / "tasks" / name) for name in NAMES]
    assert [len(m.manifest["task"]["labels"]) for m in models] == [2, 3, 4]
    assert [m.tensors["classifier.weight"].shape[0] for m in models] == [2, 3, 4]
    assert models[0].tensors["layers.0.q.weight"] is models[1].tensors["layers.0.q.weight"]
    hashes = {m.manifest["files"]["model.safetensors"]["sha256"] for m in models}
    assert len(hashes) == 3


def test_a_task_has_adapters_norms_words_classifier_and_off_ramps(folder):
    ours = set(load_file(folder / "tasks" / "first" / "task.safetensors"))
    parts = {f"{of}.{part}" for of in ("down", "up") for part in ("weight", "bias", "m", "s")} | {"table"}
    wanted = {f"layers.0.{at}_adapter.{part}" for at in ("attention", "ffn") for part in parts}
    words = ("gamma", "gamma_shift", "beta", "beta_shift")
    wanted |= {f"layers.0.{at}_norm.{word}" for at in ("attention", "ffn") for word in words}
    wanted |= {f"{of}.{part}" for of in ("classifier", "exits.0", "exits.1") for part in ("weight", "bias", "m", "s")}
    assert ours == wanted
    theirs = set(load_file(folder / "model.safetensors"))
    assert not ours & theirs and not any(map(is_task_tensor, theirs))
    assert {"pooler.weight", "pooler.tanh", "embeddings.norm.gamma", "layers.2.o.adapter_m", "softmax.exp"} <= theirs
    assert {"layers.2.ffn_norm.entries", "layers.1.attention_norm.operand", "layers.0.ffn2.residual"} <= theirs


@pytest.mark.parametrize(
    "name",
    ["", "layers.x.ffn_norm.gamma", "layers.0.ffn_norm.gammas", "embeddings.norm.beta", "a.classifier.m", "exits"],
)
def test_other_names_are_no_tasks(name):
    assert not is_task_tensor(name)


def test_a_backbones_hash_is_that_of_its_manifest(folder):
    backbone = load_backbone(folder)
    assert backbone.sha256 == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert (backbone.name, backbone.folder) == ("trunk", folder)
    assert not backbone.tensors["pooler.weight"].flags.writeable
    assert set(backbone.manifest["scales"]) == {"activations"} and "task" not in backbone.manifest


def test_importing_it_needs_no_torch():
    code = "import sys; import zynqbert.quant.task_artifact; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Adding.


def outside(folder, tmp_path, name="new", n=4, whole=None):
    """A task of the backbone in `folder`, in a folder of its own."""
    backbone = load_backbone(folder)
    fields, tensors = task_of(whole, n)
    of = {"name": backbone.name, "sha256": backbone.sha256}
    return save_task(tmp_path / "elsewhere", {"name": name, "backbone": of, **fields}, tensors)


def test_adding_a_task_leaves_the_backbone_as_it_was(folder, whole, tmp_path):
    before = state(folder)
    given = outside(folder, tmp_path, whole=whole)
    backbone = load_backbone(folder)
    path = add_task(backbone, given)
    assert path == folder / "tasks" / "new" and state(folder) == before
    assert task_names(backbone) == sorted([*NAMES, "new"])
    assert state(path).keys() == {"task.json", "task.safetensors"}
    assert all((path / name).read_bytes() == (given / name).read_bytes() for name in state(path))
    assert len(load_task(load_backbone(folder), path).manifest["task"]["labels"]) == 6
    assert {entry.name for entry in (folder / "tasks").iterdir()} == {*NAMES, "new"}
    added = state(path)
    assert add_task(backbone, given) == path == add_task(backbone, path)
    assert state(path) == added


def test_the_first_task_makes_the_folder(folder, whole, tmp_path):
    given = outside(folder, tmp_path, whole=whole)
    shutil.rmtree(folder / "tasks")
    backbone = load_backbone(folder)
    assert task_names(backbone) == []
    add_task(backbone, given)
    assert task_names(backbone) == ["new"]


def test_a_name_that_is_taken(folder, whole, tmp_path):
    given = outside(folder, tmp_path, name="second", whole=whole)
    before = state(folder / "tasks" / "second")
    refused(lambda: add_task(load_backbone(folder), given), "tasks/second", "another task second is there already")
    assert state(folder / "tasks" / "second") == before
    shutil.rmtree(folder / "tasks" / "second")
    (folder / "tasks" / "second").symlink_to(given)
    refused(lambda: add_task(load_backbone(folder), given), "another task second is there already")


def test_a_folder_of_tasks_that_is_a_link(folder, whole, tmp_path):
    given = outside(folder, tmp_path, whole=whole)
    away = (folder / "tasks").rename(tmp_path / "away")
    (folder / "tasks").symlink_to(away)
    backbone = load_backbone(folder)
    assert task_names(backbone) == []
    refused(lambda: add_task(backbone, given), "tasks: folder", "remedy: move it away")
    refused(lambda: load_task(backbone, folder / "tasks" / "first"), "tasks: folder")
    assert sorted(entry.name for entry in away.iterdir()) == NAMES


def test_a_copy_that_fails_leaves_nothing(folder, whole, tmp_path, monkeypatch):
    given = outside(folder, tmp_path, whole=whole)
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        add_task(load_backbone(folder), given)
    assert sorted(entry.name for entry in (folder / "tasks").iterdir()) == NAMES


# Refusing.


def test_a_foreign_backbone_is_named(folder, tmp_path):
    """The same tensors' names and shapes, other numbers."""
    other = load_backbone(make_tasks(tmp_path / "other", name="other-trunk", seed=1, **ALBERT))
    own = load_backbone(folder)
    message = refused(lambda: load_task(other, folder / "tasks" / "second"), "tasks/second/task.json: backbone: ")
    made_for, given = f"trunk (sha256 {own.sha256[:8]}…)", f"other-trunk (sha256 {other.sha256[:8]}…)"
    assert f"task second was made for backbone {made_for}, this is {given}; remedy: give that backbone" in message
    assert refused(lambda: add_task(other, folder / "tasks" / "second")) == message
    assert task_names(other) == ["first"]


@pytest.mark.parametrize("change", [{"name": "trunk2"}, {"sha256": "0" * 64}])
def test_a_backbone_is_its_name_and_its_hash(folder, change):
    backbone = replace(load_backbone(folder), **change)
    refused(lambda: load_task(backbone, folder / "tasks" / "first"), "task first was made for backbone trunk")


def test_a_backbone_whose_metrics_changed_is_another(folder):
    edit_json(folder / "manifest.json", "metrics", {"seed": 1})
    refused(lambda: load_task(load_backbone(folder), folder / "tasks" / "first"), "task first was made for backbone")


def test_a_task_of_another_width(folder, tmp_path):
    """Of adapters twice as wide, made for this backbone by its word."""
    adapters = {"width": 10, "activation": "relu", "shared": True}
    wide = load_artifact(make_random_artifact(tmp_path / "wide", **ALBERT, adapters=adapters))
    given = outside(folder, tmp_path, whole=wide)
    words = "task.json: tensors.layers.0.attention_adapter.down.weight.shape: [10, 64] is not [5, 64]"
    refused(lambda: add_task(load_backbone(folder), given), words)


TASK_EDITS = [
    ("format", "zynqbert-artifact", "format: 'zynqbert-artifact' is not 'zynqbert-task'"),
    ("version", "1.1", "version: 1.1 is newer than 1.0; remedy: update zynqbert"),
    ("version", "2.0", "version: 2.0 is newer than 1.0"),
    ("version", "0.9", "version: 0.9 is older"),
    ("version", 1.0, "version"),
    ("extra", 1, "extra: unknown field"),
    ("exits", ..., "exits: missing"),
    ("name", "", "name"),
    ("name", "..", "name: '..' is not a name of 1 to 64"),
    ("name", ".hidden", "name"),
    ("name", "-all", "name"),
    ("name", "a/b", "name"),
    ("name", "first\n", "name"),
    ("name", "Ä", "name"),
    ("name", "x" * 65, "name"),
    ("name", None, "name"),
    ("name", "other", "name: other is not first, as its folder is called; remedy: rename the folder to other"),
    ("backbone", "trunk", "backbone: not an object"),
    ("backbone/name", "../trunk", "backbone.name"),
    ("backbone/sha256", "0" * 63, "backbone.sha256"),
    ("backbone/path", "/", "backbone.path: unknown field"),
    ("task/kind", "token", "task.kind: token: adapters need kind sequence"),
    ("task/kind", "regression", "task.kind"),
    ("task/labels", ["a"], "exits: 1 labels"),
    ("task/labels", ["a", "b", "c"], "tensors.exits.0.weight.shape"),
    ("task/max_length", 129, "task.max_length"),
    ("task/positions", 1, "task.positions: unknown field"),
    ("scales/logits", 0, "scales.logits"),
    ("scales/logits", ..., "scales.logits: missing"),
    ("scales/activations", {"a": -1.0}, "scales.activations"),
    ("exits", None, "tensors.exits"),
    ("exits/pooler", True, "tensors.exits.0.pooler.weight: missing"),
    ("exits/row_shift", 16, "exits.row_shift"),
    ("metrics", 5, "metrics"),
    ("files/task.safetensors", ..., "files.task.safetensors: missing"),
    ("files/tokenizer.json", {"sha256": "0" * 64}, "files.tokenizer.json: unknown field"),
    ("tensors", [], "tensors: [] is not an object"),
    ("tensors/classifier.bias", ..., "tensors.classifier.bias: missing"),
    ("tensors/classifier.extra", {"dtype": "int8", "shape": [1], "sha256": "0" * 64}, "tensors.classifier.extra"),
    ("tensors/pooler.bias", {}, "tensors.pooler.bias: not a task's tensor"),
    ("tensors/classifier.bias/shape", [3], "tensors.classifier.bias.shape: [3] is not [2]"),
    ("tensors/classifier.bias/shape", [2.0], "tensors.classifier.bias.shape"),
    ("tensors/classifier.bias/shape", [2**40], "tensors.classifier.bias.shape"),
    ("tensors/classifier.bias/dtype", "int8", "tensors.classifier.bias.dtype"),
    ("tensors/classifier.bias/dtype", "object", "tensors.classifier.bias.dtype"),
    ("tensors/classifier.bias/sha256", "x", "tensors.classifier.bias.sha256"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "words"), TASK_EDITS)
def test_a_field_of_a_task_that_is_wrong(folder, path, value, words):
    edit_json(folder / "tasks" / "first" / "task.json", path, value)
    refused(lambda: load_task(load_backbone(folder), folder / "tasks" / "first"), f"task.json: {words}")


BACKBONE_EDITS = [
    ("format", "zynqbert-task", "format"),
    ("version", "1.1", "version: 1.1 is newer than 1.0; remedy: update zynqbert"),
    ("name", "..", "name"),
    ("name", ..., "name: missing"),
    ("task", {}, "task: unknown field"),
    ("exits", None, "exits: unknown field"),
    ("scales/logits", 1.0, "scales.logits: unknown field"),
    ("softmax", "sparse", "softmax"),
    ("spans", [[1]], "spans"),
    ("adapters", None, "adapters: None is not an object"),
    ("adapters/width", 0, "adapters.width"),
    ("adapters/owners", [0, 2, 2], "adapters.owners"),
    ("architecture/word_format", ..., "architecture.word_format: missing"),
    ("architecture/layers", 2, "architecture.weights"),
    ("entries/ffn", [42, 42, 43], "entries.ffn"),
    ("files/task.safetensors", {"sha256": "0" * 64}, "files.task.safetensors: unknown field"),
    ("tensors/pooler.bias", ..., "tensors.pooler.bias: missing"),
    ("tensors/classifier.bias", {}, "tensors.classifier.bias: unknown field"),
    ("tensors/pooler.bias/shape", [63], "tensors.pooler.bias.shape"),
]


@pytest.mark.parametrize(("path", "value", "words"), BACKBONE_EDITS)
def test_a_field_of_a_backbone_that_is_wrong(folder, path, value, words):
    edit_json(folder / "manifest.json", path, value)
    refused(lambda: load_backbone(folder), f"manifest.json: {words}")


def test_a_task_has_adapters_where_the_backbone_says(folder):
    """No tensor of a backbone depends on it, each of its tasks' does."""
    edit_json(folder / "manifest.json", "adapters/owners", [0, 1, 1])
    backbone = load_backbone(folder)
    edit_json(folder / "tasks" / "first" / "task.json", "backbone/sha256", backbone.sha256)
    words = "task.json: tensors.layers.1.attention_adapter.down.weight: missing"
    refused(lambda: load_task(backbone, folder / "tasks" / "first"), words)


@pytest.mark.parametrize(
    ("name", "at", "value", "words"),
    [
        ("layers.0.attention_adapter.down.weight", (1, 2), -128, "layers.0.attention_adapter.down.weight[1, 2]: -128"),
        ("layers.0.ffn_adapter.up.bias", (6,), 2**26, "layers.0.ffn_adapter.up: layers.0.ffn_adapter.up, channel 6"),
        ("layers.0.ffn_adapter.up.m", (6,), 5, "layers.0.ffn_adapter.up.m[6]: 5"),
        ("layers.0.ffn_norm.gamma_shift", (6,), 0, "layers.0.ffn_norm.gamma_shift[6]: 0"),
        ("exits.1.s", (1,), 32, "exits.1.s[1]: 32"),
        ("classifier.bias", (0,), -(2**31), "classifier: classifier, channel 0"),
    ],
)
def test_a_value_of_a_task_out_of_range(folder, name, at, value, words):
    task = folder / "tasks" / "first"
    edit_tensor(task, "task.safetensors", "task.json", name, at, value)
    refused(lambda: load_task(load_backbone(folder), task), f"first/task.safetensors: {words}")


@pytest.mark.parametrize(
    ("name", "at", "value", "words"),
    [
        ("pooler.weight", (1, 2), -128, "pooler.weight[1, 2]: -128"),
        ("layers.0.q.weight", (0, 0), 0x80, "layers.0.q.weight: int4"),
        ("layers.1.ffn2.adapter_s", (3,), 0, "layers.1.ffn2.adapter_s[3]: 0"),
        ("layers.1.ffn_norm.operand", (0,), 5, "layers.1.ffn_norm.operand[0]: 5"),
        ("embeddings.norm.gamma_shift", (3,), 0, "embeddings.norm.gamma_shift[3]: 0"),
        ("softmax.exp", (3,), 0, "softmax.exp"),
    ],
)
def test_a_value_of_a_backbone_out_of_range(folder, name, at, value, words):
    edit_tensor(folder, "model.safetensors", "manifest.json", name, at, value)
    refused(lambda: load_backbone(folder), f"trunk/model.safetensors: {words}")


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "tasks/first/task.safetensors"])
def test_every_altered_byte_is_noticed(folder, file):
    data = (folder / file).read_bytes()
    for at in (0, len(data) // 2, len(data) - 1):
        (folder / file).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        refused(lambda: load_task(load_backbone(folder), folder / "tasks" / "first"), file)


def test_a_tensor_swapped_with_all_file_checksums_right(folder):
    task = folder / "tasks" / "first"
    tensors = {n: t.copy() for n, t in load_file(task / "task.safetensors").items()}
    tensors["classifier.bias"][0] += 1
    listed = json.loads((task / "task.json").read_text())["tensors"]
    reseal(task, "task.safetensors", "task.json", tensors)
    edit_json(task / "task.json", "tensors", listed)
    refused(lambda: load_task(load_backbone(folder), task), "task.safetensors: classifier.bias sha256")


@pytest.mark.parametrize("edit", ["missing", "shape", "unknown", "grown"])
def test_tensors_that_are_not_those_listed(folder, edit):
    task = folder / "tasks" / "first"
    tensors = {n: t.copy() for n, t in load_file(task / "task.safetensors").items()}
    words = {"missing": "classifier.bias: tensor missing", "shape": "classifier.bias shape", "unknown": "evil: unknown"}
    if edit == "missing":
        del tensors["classifier.bias"]
    elif edit == "shape":
        tensors["classifier.bias"] = np.zeros(3, np.int32)
    elif edit == "unknown":
        tensors["evil"] = np.zeros(3, np.int8)
    reseal(task, "task.safetensors", "task.json", tensors)
    if edit == "grown":
        with open(task / "task.safetensors", "ab") as file:
            file.write(bytes(20 << 20))
    refused(lambda: load_task(load_backbone(folder), task), f"task.safetensors: {words.get(edit, 'size')}")


@pytest.mark.parametrize("file", ["manifest.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["missing", "link"])
def test_a_backbones_file_that_is_none(folder, tmp_path, file, kind):
    moved = (folder / file).rename(tmp_path / "moved")
    if kind == "link":
        (folder / file).symlink_to(moved)
    refused(lambda: load_backbone(folder), f"{file}: file: ")


@pytest.mark.parametrize("file", ["task.json", "task.safetensors", ""])
@pytest.mark.parametrize("kind", ["missing", "link"])
def test_a_tasks_file_that_is_none(folder, tmp_path, file, kind):
    at = folder / "tasks" / "first"
    moved = (at / file).rename(tmp_path / "moved")
    if kind == "link":
        (at / file).symlink_to(moved)
    backbone = load_backbone(folder)
    wanted = {"missing": "cannot be read" if file else "there is none", "link": "a symbolic link"}[kind]
    refused(lambda: load_task(backbone, at), "tasks/first", wanted)
    assert task_names(backbone) == (NAMES if file else NAMES[1:])


def test_what_is_no_task_is_not_named(folder):
    tasks = folder / "tasks"
    (tasks / "notes.txt").write_text("mine")
    (tasks / ".second.12.new.partial").mkdir()
    (tasks / "two words").mkdir()
    assert task_names(load_backbone(folder)) == NAMES


# Taken for a model by itself.


def test_a_backbone_is_no_model(folder):
    words = "manifest.json: format: a backbone, not a model by itself; remedy: name one of its tasks with --task: "
    refused(lambda: load_artifact(folder), words + ", ".join(NAMES))
    shutil.rmtree(folder / "tasks")
    refused(lambda: load_artifact(folder), "a backbone, not a model by itself; remedy: add a task to it")


def test_a_backbone_of_many_tasks_names_a_few(folder):
    for n in range(40):
        (folder / "tasks" / f"{'long' * 10}{n:02d}").mkdir()
    message = refused(lambda: load_artifact(folder), "first, ", " and 35 more")
    assert message.count("long" * 10) == 7


@pytest.mark.parametrize(
    ("name", "words"), [("trunk", "of backbone trunk"), ("../x", "of a backbone"), (5, "of a back")]
)
def test_a_task_is_no_model(folder, name, words):
    task = folder / "tasks" / "first"
    edit_json(task / "task.json", "backbone/name", name)
    refused(lambda: load_artifact(task), "task.json: format: a task ", words, "remedy: give the backbone's folder")


def test_a_model_is_no_backbone_and_no_task(folder, original):
    whole = original.with_name("trunk-whole")
    refused(lambda: load_backbone(whole), "format: 'zynqbert-artifact' is not 'zynqbert-backbone'")
    refused(lambda: load_backbone(folder / "none"), "folder: there is none")
    refused(lambda: load_task(load_backbone(folder), whole), "task.json: file: cannot be read")


def test_a_task_trained_in_float_is_none(folder):
    """quant/multi_task.py writes files of these names too."""
    task = folder / "tasks" / "first"
    (task / "task.json").write_text(json.dumps({"labels": ["a", "b"]}))
    refused(lambda: load_task(load_backbone(folder), task), "format: 'None' is not 'zynqbert-task'", "a quantized task")
    refused(lambda: load_artifact(task), "manifest.json: file: cannot be read")


# Saving.


def parts(folder):
    """Manifest of a backbone without what save fills in, tensors, tokenizer."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("format", "version", "tensors", "files"):
        del manifest[name]
    return manifest, load_file(folder / "model.safetensors"), (folder / "tokenizer.json").read_text()


def test_a_backbone_with_tasks_is_not_replaced(folder):
    before = state(folder)
    refused(lambda: save_backbone(folder, *parts(folder)), "tasks: folder", "remedy: choose another folder")
    assert state(folder) == before and task_names(load_backbone(folder)) == NAMES


def test_a_backbone_without_tasks_is_replaced(folder):
    shutil.rmtree(folder / "tasks")
    (folder / "tasks").mkdir()
    manifest, tensors, tokenizer = parts(folder)
    save_backbone(folder, {**manifest, "metrics": {"again": 1}}, tensors, tokenizer)
    assert load_backbone(folder).manifest["metrics"] == {"again": 1}
    assert [entry.name for entry in folder.parent.iterdir()] == ["trunk"]


def test_a_backbone_is_the_same_bytes_each_time(original, tmp_path):
    again = split_tasks(load_artifact(original.with_name("trunk-whole")), tmp_path / "a", NAMES)
    for file in ("manifest.json", "model.safetensors", "tasks/second/task.json", "tasks/second/task.safetensors"):
        assert (again / file).read_bytes() == (original / file).read_bytes()


def test_a_failed_save_leaves_what_was_there(folder, whole, tmp_path):
    manifest, tensors, tokenizer = parts(folder)
    del tensors["pooler.bias"]
    refused(lambda: save_backbone(tmp_path / "b", manifest, tensors, tokenizer), "tensors.pooler.bias: missing")
    task = outside(folder, tmp_path, whole=whole)
    before = state(task)
    fields, own = task_of(whole, 0)
    of = {"name": "trunk", "sha256": "0" * 64}
    refused(lambda: save_task(task, {"name": "a/b", "backbone": of, **fields}, own), "name: 'a/b'")
    foreign = own | {"pooler.bias": np.zeros(64, np.int32)}
    refused(lambda: save_task(task, {"name": "a", "backbone": of, **fields}, foreign), "not a task's tensor")
    assert state(task) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["elsewhere", "trunk"]
    save_task(task, {"name": "a", "backbone": of, **{n: v for n, v in fields.items() if n != "exits"}}, own)
    assert json.loads((task / "task.json").read_text())["exits"] is None


@pytest.mark.parametrize("kind", ["artifact", "backbone", "other"])
def test_saving_replaces_nothing_else(folder, whole, original, tmp_path, kind):
    target = tmp_path / "target"
    if kind == "other":
        target.mkdir()
        (target / "thesis.txt").write_text("mine")
    else:
        shutil.copytree(folder if kind == "backbone" else original.with_name("trunk-whole"), target)
    fields, own = task_of(whole, 0)
    task = {"name": "a", "backbone": {"name": "trunk", "sha256": "0" * 64}, **fields}
    refused(lambda: save_task(target, task, own), "remedy: choose another folder")
    refused(lambda: save_backbone(target, *parts(folder)), "remedy: choose another folder")
    given = {n: v for n, v in whole.manifest.items() if n not in ("format", "version", "tensors", "files")}
    if kind != "artifact":
        with pytest.raises(ArtifactError, match="remedy: choose another folder"):
            save_artifact(target, given, whole.tensors, parts(folder)[2])
