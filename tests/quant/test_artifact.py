# SPDX-License-Identifier: Apache-2.0
"""Artifacts: what is written is read back; whatever is damaged, foreign or too new is refused by file and field."""

import copy
import hashlib
import itertools
import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from random_artifact import make_random_artifact
from safetensors.numpy import load_file, save
from zynqbert.quant.artifact import ArtifactError, load_artifact, save_artifact
from zynqbert.quant.artifact_tensors import linears


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_random_artifact(
        tmp_path_factory.mktemp("artifact"),
        layers=2,
        hidden=64,
        heads=2,
        ffn=41,
        vocab=30,
        word_bits=4,
        extra_entries=1,
    )


@pytest.fixture(scope="module")
def original_albert(tmp_path_factory):
    return make_random_artifact(
        tmp_path_factory.mktemp("albert"),
        family="albert",
        layers=4,
        hidden=64,
        heads=2,
        ffn=41,
        vocab=30,
        embedding=25,
        weights=[0, 1, 0, 1],
        kind="token",
        word_bits=4,
        extra_entries=1,
    )


POINTS = {
    "0.5": {
        "threshold": 900,
        "foretold": {"threshold": 0, "table": [3, 1] * 128},
        "loss_points": 0.5,
        "layers": [1, 2],
    },
    "all": {"threshold": 32767, "foretold": None},
}


@pytest.fixture(scope="module")
def original_early(tmp_path_factory):
    """Fewer heads, spans, off-ramps with poolers, two operating points."""
    return make_random_artifact(
        tmp_path_factory.mktemp("early"),
        layers=3,
        hidden=64,
        heads=2,
        ffn=41,
        vocab=30,
        labels=3,
        extra_entries=1,
        layer_heads=[2, 1, 2],
        spans=[[1, 128], [7], [128, 30]],
        exits=True,
        exit_pooler=True,
        points=POINTS,
    )


@pytest.fixture(scope="module")
def original_adapted(tmp_path_factory):
    """Four layers on two sets of matrices, one set of adapters each, and off-ramps."""
    return make_random_artifact(
        tmp_path_factory.mktemp("adapted"),
        family="albert",
        layers=4,
        weights=[0, 1, 0, 1],
        hidden=64,
        heads=2,
        ffn=41,
        vocab=30,
        embedding=25,
        extra_entries=2,
        exits=True,
        adapters={"width": 5, "activation": "silu", "shared": True},
    )


@pytest.fixture
def adapted(original_adapted, tmp_path):
    return shutil.copytree(original_adapted, tmp_path / "adapted")


@pytest.fixture
def early(original_early, tmp_path):
    return shutil.copytree(original_early, tmp_path / "early")


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "artifact")


@pytest.fixture
def albert(original_albert, tmp_path):
    return shutil.copytree(original_albert, tmp_path / "albert")


def parts(folder):
    """Manifest without what save fills in, tensors, tokenizer."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("format", "version", "tensors", "files"):
        del manifest[name]
    return manifest, load_file(folder / "model.safetensors"), (folder / "tokenizer.json").read_text()


def edit_manifest(folder, path: str, value) -> None:
    """Set the field at a/b/c; `...` deletes it."""
    file = folder / "manifest.json"
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


def reseal(folder, data: bytes, tensors: dict | None = None) -> None:
    """Write the safetensors bytes with checksums that fit, so that only the checks behind them can object."""
    (folder / "model.safetensors").write_bytes(data)
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["files"]["model.safetensors"]["sha256"] = hashlib.sha256(data).hexdigest()
    for name, tensor in (tensors or {}).items():
        if name in manifest["tensors"]:
            manifest["tensors"][name]["sha256"] = hashlib.sha256(tensor.tobytes()).hexdigest()
    file.write_text(json.dumps(manifest))


def edit_tensor(folder, name: str, edit) -> None:
    """Apply `edit` to a copy of one tensor and reseal; its result, if any, replaces the tensor."""
    tensors = {n: t.copy() for n, t in load_file(folder / "model.safetensors").items()}
    result = edit(tensors[name])
    if result is not None:
        tensors[name] = result
    reseal(folder, save(tensors), tensors)


def edit_header(folder, edit) -> None:
    """Apply `edit` to the safetensors header's object and reseal."""
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header = edit(header) or header
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    reseal(folder, struct.pack("<Q", len(text)) + text + data[8 + length :])


def refused(folder, file: str, field: str) -> str:
    """The one line with which loading fails."""
    with pytest.raises(ArtifactError) as caught:
        load_artifact(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    assert file in message and field in message and "remedy: " in message, message
    return message


@pytest.mark.parametrize("which", ["original", "original_albert", "original_early", "original_adapted"])
def test_what_is_saved_is_loaded(request, tmp_path, which):
    manifest, tensors, tokenizer = parts(request.getfixturevalue(which))
    path = save_artifact(tmp_path / "new" / "artifact", manifest, tensors, tokenizer)
    read = load_artifact(path)
    assert read.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(read.tensors[name], tensor)
    assert {name: read.manifest[name] for name in manifest} == manifest
    assert read.tokenizer_path.read_text() == tokenizer
    assert not next(iter(read.tensors.values())).flags.writeable
    assert [p.name for p in path.parent.iterdir()] == ["artifact"]


@pytest.mark.parametrize("scores", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("kind", ["sequence", "token"])
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_every_kind_of_model_loads(tmp_path, family, kind, scores):
    path = make_random_artifact(tmp_path / "a", family=family, kind=kind, scores=scores, layers=2, labels=3)
    artifact = load_artifact(path)
    assert artifact.manifest["task"]["scores"] == scores
    assert ("pooler.weight" in artifact.tensors) == ("pooler.tanh" in artifact.tensors) == (kind == "sequence")
    assert ("mapping.weight" in artifact.tensors) == (family == "albert")
    assert ("layers.1.q.weight" in artifact.tensors) == (family == "bert")
    assert {"layers.1.q.bias", "layers.1.q.m", "layers.1.gelu"} <= artifact.tensors.keys()


def test_an_artifact_of_2_0_has_the_fields_of_2_2(folder):
    """All heads are left and see everything, words are integers, no sentence leaves early, there are no adapters."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    older = {**manifest, "version": "2.0", "architecture": dict(manifest["architecture"])}
    for of, name in ((older, "spans"), (older, "exits"), (older["architecture"], "layer_heads")):
        del of[name]
    del older["architecture"]["word_format"]
    file.write_text(json.dumps(older))
    read = load_artifact(folder)
    assert read.manifest == {**manifest, "version": "2.0", "adapters": None}
    assert read.manifest["architecture"]["layer_heads"] == [2, 2] and read.manifest["spans"] is None
    edit_manifest(folder, "architecture/layer_heads", [2, 2])
    refused(folder, "manifest.json", "architecture.layer_heads: unknown field")


def test_what_2_0_did_not_have_may_be_left_to_saving(original, tmp_path):
    manifest, tensors, tokenizer = parts(original)
    given = {name: value for name, value in manifest.items() if name not in ("spans", "exits", "adapters")}
    read = load_artifact(save_artifact(tmp_path / "a", given, tensors, tokenizer))
    assert read.manifest["version"] == "2.2" and read.manifest["adapters"] is None
    assert {name: read.manifest[name] for name in manifest} == manifest


def test_an_artifact_of_2_1_has_no_adapters(folder):
    assert json.loads((folder / "manifest.json").read_text())["version"] == "2.1"
    assert load_artifact(folder).manifest["adapters"] is None
    edit_manifest(folder, "version", "2.2")
    edit_manifest(folder, "adapters", None)
    assert load_artifact(folder).manifest["adapters"] is None


@pytest.mark.parametrize(
    ("family", "shared", "owners"),
    [("albert", True, [0, 0, 0]), ("albert", False, [0, 1, 2]), ("bert", True, [0, 1, 2])],
)
def test_adapters_have_their_tensors(tmp_path, family, shared, owners):
    """Layers of one matrix have one norm's γ and β, and with `shared` one set of adapters."""
    adapters = {"width": 7, "activation": "gelu_new", "shared": shared}
    read = load_artifact(make_random_artifact(tmp_path / "a", family=family, layers=3, adapters=adapters))
    assert read.manifest["adapters"] == {"width": 7, "activation": "gelu_new", "owners": owners}
    shapes = {name: t.shape for name, t in read.tensors.items()}
    for i, place in itertools.product(range(3), ("attention_adapter", "ffn_adapter")):
        at = f"layers.{i}.{place}"
        own = {"down.weight": (7, 96), "up.weight": (96, 7), "table": (256,)}
        own |= {f"down.{part}": (7,) for part in ("bias", "m", "s")} | {
            f"up.{part}": (96,) for part in ("bias", "m", "s")
        }
        wanted = {f"{at}.{name}": shape for name, shape in own.items()} if owners[i] == i else {}
        assert {name: shape for name, shape in shapes.items() if name.startswith(at)} == wanted
        norm = f"layers.{i}.{place.replace('adapter', 'norm')}"
        assert (f"{norm}.gamma" in shapes) == (f"{norm}.beta_shift" in shapes) == (family == "bert" or i == 0)
        branch = {"attention_adapter": "o", "ffn_adapter": "ffn2"}[place]
        assert shapes[f"layers.{i}.{branch}.adapter_m"] == shapes[f"{norm}.entries"] == (96,)
    names = [place.name for place in linears(read.manifest) if place.name.startswith("layers.0.")][3:]
    ordered = (
        "o",
        "attention_adapter.down",
        "attention_adapter.up",
        "ffn1",
        "ffn2",
        "ffn_adapter.down",
        "ffn_adapter.up",
    )
    assert names == [f"layers.0.{name}" for name in ordered]


def test_off_ramps_and_fewer_heads_have_their_tensors(original_early):
    shapes = {name: t.shape for name, t in load_artifact(original_early).tensors.items()}
    assert [shapes[f"layers.{i}.q.weight"][0] for i in range(3)] == [64, 32, 64]
    assert [shapes[f"layers.{i}.o.weight"] for i in range(3)] == [(64, 32), (64, 16), (64, 32)]
    assert [shapes[f"layers.{i}.attention.score_m"] for i in range(3)] == [(2,), (1,), (2,)]
    assert shapes["layers.1.attention.context_s"] == (32,) and shapes["exits.1.pooler.weight"] == (64, 65)
    assert shapes["exits.0.weight"] == (3, 64) and "exits.2.weight" not in shapes


@pytest.mark.parametrize("labels", [2, 7])
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_off_ramps_without_poolers_read_the_norms_entries(tmp_path, family, labels):
    path = make_random_artifact(tmp_path / "a", family=family, layers=3, labels=labels, exits=True)
    tensors = load_artifact(path).tensors
    assert tensors["exits.1.weight"].shape == (labels, 99) and "exits.1.pooler.weight" not in tensors


def test_bert_may_share_matrices_too(tmp_path):
    path = make_random_artifact(tmp_path / "a", layers=3, weights=[0, 1, 1])
    assert "layers.2.q.weight" not in load_artifact(path).tensors


def test_importing_it_needs_no_torch():
    code = (
        "import sys; import zynqbert.quant.artifact; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_saving_replaces_an_artifact(folder):
    manifest, tensors, tokenizer = parts(folder)
    manifest["metrics"] = {"accuracy": 1.0}
    save_artifact(folder, manifest, tensors, tokenizer)
    assert load_artifact(folder).manifest["metrics"] == {"accuracy": 1.0}
    assert [p.name for p in folder.parent.iterdir()] == ["artifact"]


def test_a_failed_save_leaves_the_old_artifact(folder, original):
    manifest, tensors, tokenizer = parts(folder)
    tensors["pooler.bias"] = tensors["pooler.bias"][:-1]
    with pytest.raises(ArtifactError, match=r"pooler\.bias"):
        save_artifact(folder, manifest, tensors, tokenizer)
    for file in original.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
    assert [p.name for p in folder.parent.iterdir()] == ["artifact"]


def test_a_rename_that_fails_puts_the_old_artifact_back(folder, monkeypatch):
    manifest, tensors, tokenizer = parts(folder)
    rename = type(folder).rename

    def failing(self, target):
        if self.name.endswith(".new.partial"):
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(type(folder), "rename", failing)
    with pytest.raises(PermissionError):
        save_artifact(folder, manifest, tensors, tokenizer)
    load_artifact(folder)
    assert [p.name for p in folder.parent.iterdir()] == ["artifact"]


@pytest.mark.parametrize("kind", ["file", "other files", "more files", "foreign manifest", "link"])
def test_saving_replaces_nothing_else(original, tmp_path, kind):
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind == "link":
        target.symlink_to(shutil.copytree(original, tmp_path / "elsewhere"))
    else:
        target.mkdir()
        if kind == "more files":
            shutil.copytree(original, target, dirs_exist_ok=True)
        (target / ("manifest.json" if kind == "foreign manifest" else "thesis.txt")).write_text("{}")
    with pytest.raises(ArtifactError, match="remedy: choose another folder"):
        save_artifact(target, *parts(original))
    assert target.exists()


def test_saving_refuses_a_number_that_is_none(original, tmp_path):
    manifest, tensors, tokenizer = parts(original)
    manifest["metrics"] = {"accuracy": float("nan")}
    with pytest.raises(ValueError):
        save_artifact(tmp_path / "artifact", manifest, tensors, tokenizer)
    assert list(tmp_path.iterdir()) == []


MANIFEST_EDITS = [
    ("format", "other", "format"),
    ("format", ..., "format"),
    ("version", "3.0", "version: 3.0 is newer than 2.2"),
    ("version", "2.2", "adapters: missing"),
    ("version", "2.3", "version: 2.3 is newer than 2.2; remedy: update zynqbert"),
    ("version", "2.0", "spans: unknown field"),
    ("version", "1.0", "version: 1.0 is older than 2.0; remedy: quantize the model again"),
    ("version", 2.0, "version"),
    ("version", "2.0.0", "version"),
    ("adapters", None, "adapters: unknown field"),
    ("task", ..., "task: missing"),
    ("extra", 1, "extra: unknown field"),
    ("softmax", "sparse", "softmax"),
    ("metrics", [], "metrics"),
    ("architecture", [], "architecture: not an object"),
    ("architecture/family", "gpt", "architecture.family"),
    ("architecture/activation", "relu", "architecture.activation"),
    ("architecture/layers", 0, "architecture.layers"),
    ("architecture/layers", 10**9, "architecture.layers"),
    ("architecture/layers", 2.0, "architecture.layers"),
    ("architecture/layers", "2", "architecture.layers"),
    ("architecture/layers", 3, "architecture.weights"),
    ("architecture/hidden", 96, "architecture.hidden"),
    ("architecture/hidden", 2048, "architecture.hidden"),
    ("architecture/embedding", 32, "architecture.embedding: 32 is not hidden = 64"),
    ("architecture/embedding", ..., "architecture.embedding: missing"),
    ("architecture/heads", True, "architecture.heads"),
    ("architecture/head_width", 48, "architecture.head_width"),
    ("architecture/ffn", 5000, "architecture.ffn"),
    ("architecture/vocab", -1, "architecture.vocab"),
    ("architecture/vocab", 2**24, "tensors.embeddings.word.q.shape"),
    ("architecture/positions", 129, "architecture.positions"),
    ("architecture/types", 0, "architecture.types"),
    ("architecture/types", 3, "tensors.embeddings.type.q.shape"),
    ("architecture/word_bits", 2, "architecture.word_bits"),
    ("architecture/word_bits", 8, "tensors.embeddings.word.q.dtype"),
    ("architecture/word_bits", True, "architecture.word_bits"),
    ("architecture/depth", 2, "architecture.depth: unknown field"),
    ("architecture/weights", ..., "architecture.weights: missing"),
    ("architecture/weights", 0, "architecture.weights"),
    ("architecture/weights", [0], "architecture.weights"),
    ("architecture/weights", [0, 2], "architecture.weights"),
    ("architecture/weights", [0, -1], "architecture.weights"),
    ("architecture/weights", [False, True], "architecture.weights"),
    ("architecture/weights", [1, 1], "architecture.weights"),
    ("architecture/weights", [0, 0], "tensors.layers.1.ffn1.weight: unknown field"),
    ("task/kind", "regression", "task.kind"),
    ("task/kind", "token", "tensors.pooler"),
    ("task/scores", "argmax", "task.scores"),
    ("task/scores", None, "task.scores"),
    ("task/scores", ..., "task.scores: missing"),
    ("task/labels", [], "task.labels"),
    ("task/labels", ["a", "a"], "task.labels"),
    ("task/labels", ["a", 1], "task.labels"),
    ("task/labels", ["a", "b", "c"], "tensors.classifier.weight.shape"),
    ("task/max_length", 1000, "task.max_length"),
    ("task/max_length", 0, "task.max_length"),
    ("entries/embedding_norm", 65, "entries.embedding_norm"),
    ("entries/embedding_norm", [63], "entries.embedding_norm"),
    ("entries/embedding_norm", [64], "tensors.layers.0.q"),
    ("entries/mapping", ..., "entries.mapping: missing"),
    ("entries/mapping", [65], "entries.mapping"),
    ("entries/ffn_norm", [64, 1300], "entries.ffn_norm"),
    ("entries/attention_norm", [65], "entries.attention_norm"),
    ("entries/ffn", [41, 4609], "entries.ffn"),
    ("entries/ffn", [40, 42], "entries.ffn"),
    ("scales/logits", 0, "scales.logits"),
    ("scales/logits", "1", "scales.logits"),
    ("scales/activations", {"q": -1.0}, "scales.activations"),
    ("files/tokenizer.json", ..., "files.tokenizer.json: missing"),
    ("files/../secret", {"sha256": "0" * 64}, "files...: unknown field"),
    ("files/tokenizer.json/sha256", "xyz", "files.tokenizer.json.sha256"),
    ("files/model.safetensors/sha256", "A" * 64, "files.model.safetensors.sha256"),
    ("tensors/pooler.bias", ..., "tensors.pooler.bias: missing"),
    ("tensors/pooler.bias/dtype", "int64", "tensors.pooler.bias.dtype"),
    ("tensors/pooler.bias/shape", [63], "tensors.pooler.bias.shape"),
    ("tensors/pooler.bias/sha256", 5, "tensors.pooler.bias.sha256"),
    ("tensors/pooler.extra", {}, "tensors.pooler.extra: unknown field"),
]


@pytest.mark.parametrize(("path", "value", "field"), MANIFEST_EDITS)
def test_a_manifest_field_that_is_wrong(folder, path, value, field):
    if path == "files/../secret":  # a name that leaves the folder
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["../secret"] = value
        (folder / "manifest.json").write_text(json.dumps(manifest))
        field = "files.../secret: unknown field"
    else:
        edit_manifest(folder, path, value)
    refused(folder, "manifest.json", field)


ALBERT_MANIFEST_EDITS = [
    ("architecture/family", "bert", "architecture.embedding: 25 is not hidden = 64"),
    ("architecture/activation", "gelu_fast", "architecture.activation"),
    ("architecture/embedding", 7, "architecture.embedding"),
    ("architecture/embedding", 1025, "architecture.embedding"),
    ("architecture/embedding", 25.0, "architecture.embedding"),
    ("architecture/embedding", 23, "tensors.embeddings.word.q.shape"),
    ("architecture/embedding", 27, "entries.embedding_norm"),
    ("architecture/weights", [0, 1, 0, 2], "architecture.weights"),
    ("architecture/weights", [0, 0, 1, 1], "architecture.weights"),
    ("architecture/weights", [0, 1, 3, 3], "architecture.weights"),
    ("architecture/weights", [0, 1, 0, 1, 0], "architecture.weights"),
    ("architecture/weights", [0, 0, 0, 0], "tensors.layers.1.ffn1.weight: unknown field"),
    ("architecture/weights", [0, 1, 2, 1], "tensors.layers.2.q.weight: missing"),
    ("entries/mapping", [], "entries.mapping"),
    ("entries/mapping", [65, 65], "entries.mapping"),
    ("entries/mapping", [63], "entries.mapping"),
    ("entries/mapping", [1281], "entries.mapping"),
    ("entries/mapping", 65, "entries.mapping"),
    ("entries/mapping", [66], "layers 0 and 2, which share matrices"),
    ("entries/ffn_norm", [65, 65, 66, 65], "layers 1 and 3, which share matrices"),
    ("entries/ffn_norm", [65, 66, 65, 65], "entries.ffn_norm"),
    ("entries/ffn_norm", [65, 65, 65, 67], "tensors.classifier.weight.shape"),
    ("entries/attention_norm", [65, 65, 66, 65], "entries.attention_norm: [65, 65, 66, 65] is not such that layers 0"),
    ("entries/ffn", [42, 42, 42, 43], "entries.ffn: [42, 42, 42, 43] is not such that layers 1 and 3"),
    ("entries/embedding_norm", [24], "entries.embedding_norm"),
    ("entries/embedding_norm", [30], "tensors.mapping.weight.shape"),
    ("tensors/mapping.entries/shape", [25], "tensors.mapping.entries.shape"),
    ("tensors/embeddings.norm.gamma/shape", [64], "tensors.embeddings.norm.gamma.shape"),
    ("tensors/layers.2.q.weight", {}, "tensors.layers.2.q.weight: unknown field"),
    ("tensors/pooler.tanh", {}, "tensors.pooler.tanh: unknown field"),
    ("task/kind", "sequence", "tensors.pooler"),
]


@pytest.mark.parametrize(("path", "value", "field"), ALBERT_MANIFEST_EDITS)
def test_a_manifest_field_of_albert_that_is_wrong(albert, path, value, field):
    edit_manifest(albert, path, value)
    refused(albert, "manifest.json", field)


EARLY_MANIFEST_EDITS = [
    ("spans", ..., "spans: missing"),
    ("exits", ..., "exits: missing"),
    ("architecture/layer_heads", ..., "architecture.layer_heads: missing"),
    ("architecture/layer_heads", [2, 0, 2], "architecture.layer_heads"),
    ("architecture/layer_heads", [2, 3, 2], "architecture.layer_heads"),
    ("architecture/layer_heads", [2, 1], "architecture.layer_heads"),
    ("architecture/layer_heads", [2, True, 2], "architecture.layer_heads"),
    ("architecture/layer_heads", [2, 2, 2], "spans"),
    ("architecture/word_format", "posit", "architecture.word_format"),
    ("architecture/word_format", ..., "architecture.word_format: missing"),
    ("spans", [[1, 128], [0], [128, 30]], "spans"),
    ("spans", [[1, 129], [7], [128, 30]], "spans"),
    ("spans", [[1, 128], [7, 7], [128, 30]], "spans"),
    ("spans", [[1, 128], [7]], "spans"),
    ("spans", [[1, 128], 7, [128, 30]], "spans"),
    ("spans", [[1, 1.0], [7], [128, 30]], "spans"),
    ("exits", [], "exits: not an object"),
    ("exits", None, "tensors.exits."),
    ("exits/more", 1, "exits.more: unknown field"),
    ("exits/entropy", [32767, 16], "exits.entropy"),
    ("exits/entropy", [65536, 16], "exits.entropy"),
    ("exits/entropy", [40000, 0], "exits.entropy"),
    ("exits/entropy", [40000, 32], "exits.entropy"),
    ("exits/entropy", [40000], "exits.entropy"),
    ("exits/entropy", ..., "exits.entropy: missing"),
    ("exits/row_shift", 16, "exits.row_shift"),
    ("exits/row_shift", -1, "exits.row_shift"),
    ("exits/pooler", 1, "exits.pooler"),
    ("exits/pooler", False, "tensors.exits.0.pooler"),
    ("exits/points", [], "exits.points"),
    ("exits/points", {"": POINTS["all"]}, "exits.points"),
    ("exits/points/all", 5, "exits.points.all: not an object"),
    ("exits/points/all/threshold", ..., "exits.points.all.threshold: missing"),
    ("exits/points/all/threshold", 32768, "exits.points.all.threshold: 32768"),
    ("exits/points/all/threshold", 0.5, "exits.points.all.threshold"),
    ("exits/points/all/foretold", ..., "exits.points.all.foretold: missing"),
    ("exits/points/all/foretold", [], "exits.points.all.foretold: not an object"),
    ("exits/points/0.5/foretold/threshold", -1, "exits.points.0.5.foretold.threshold"),
    ("exits/points/0.5/foretold/table", [1] * 255, "exits.points.0.5.foretold.table"),
    (
        "exits/points/0.5/foretold/table",
        [4] * 256,
        "exits.points.0.5.foretold.table: not a list of 256 integers from 0 to 3",
    ),
    ("exits/points/0.5/foretold/table", ..., "exits.points.0.5.foretold.table"),
    ("task/scores", "sigmoid", "exits: 3 labels, kind sequence, scores sigmoid"),
    ("task/kind", "token", "exits: 3 labels, kind token"),
    ("task/labels", ["only"], "exits: 1 labels"),
    ("tensors/exits.1.bias/shape", [4], "tensors.exits.1.bias.shape"),
    ("tensors/layers.1.o.weight/shape", [64, 32], "tensors.layers.1.o.weight.shape"),
]


@pytest.mark.parametrize(("path", "value", "field"), EARLY_MANIFEST_EDITS)
def test_a_manifest_field_of_leaving_early_that_is_wrong(early, path, value, field):
    edit_manifest(early, path, value)
    refused(early, "manifest.json", field)


def test_spans_and_points_may_be_none(early):
    edit_manifest(early, "spans", None)
    edit_manifest(early, "exits/points", {})
    assert load_artifact(early).manifest["exits"]["points"] == {}


def test_layers_that_share_matrices_have_the_same_heads(albert):
    edit_manifest(albert, "architecture/layer_heads", [2, 2, 1, 2])
    refused(albert, "manifest.json", "architecture.layer_heads: [2, 2, 1, 2] is not such that layers which share")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[]", b"3", b'{"format": "zynqbert-artifact", "format": "zynqbert-artifact"}',
     b'{"format": NaN}', b"[" * 100_000],
)  # fmt: skip
def test_a_manifest_that_is_none(folder, text):
    (folder / "manifest.json").write_bytes(text)
    refused(folder, "manifest.json", "")


def test_a_manifest_beyond_all_size(folder):
    with open(folder / "manifest.json", "ab") as file:
        file.truncate(1 << 30)
    refused(folder, "manifest.json", "size")


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["missing", "link", "folder", "fifo"])
def test_a_file_that_is_none(folder, original, name, kind):
    (folder / name).unlink()
    if kind == "link":
        (folder / name).symlink_to(original / name)
    elif kind == "folder":
        (folder / name).mkdir()
    elif kind == "fifo":
        os.mkfifo(folder / name)
    refused(folder, name, "file: ")


def test_no_folder(tmp_path):
    refused(tmp_path / "none", "none", "folder")


@pytest.mark.parametrize("cut", [0, 7, 8, 100, 3000, -1])
def test_a_model_file_that_is_cut(folder, cut):
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:cut])
    refused(folder, "model.safetensors", "")
    reseal(folder, data[:cut])
    refused(folder, "model.safetensors", "")


def test_a_model_file_that_has_grown(folder):
    data = (folder / "model.safetensors").read_bytes() + b"\0"
    reseal(folder, data)
    refused(folder, "model.safetensors", "size")


def test_every_altered_byte_is_noticed(folder):
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(data), 20):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        refused(folder, "model.safetensors", "")
    file.write_bytes(data)
    load_artifact(folder)


def test_an_altered_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "tokenizer.json", "sha256")


def test_a_tensor_swapped_with_all_file_checksums_right(folder):
    tensors = {n: t.copy() for n, t in load_file(folder / "model.safetensors").items()}
    tensors["pooler.bias"][0] += 1
    reseal(folder, save(tensors))
    refused(folder, "model.safetensors", "pooler.bias sha256")


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**31, 2**63, 2**64 - 1])
def test_a_header_length_that_lies(folder, length):
    data = (folder / "model.safetensors").read_bytes()
    reseal(folder, struct.pack("<Q", length) + data[8:])
    refused(folder, "model.safetensors", "header")


def _moved(header, by):
    header["pooler.bias"]["data_offsets"] = [x + by for x in header["pooler.bias"]["data_offsets"]]


def _swapped(header):
    a, b = header["layers.0.q.bias"], header["layers.0.k.bias"]
    a["data_offsets"], b["data_offsets"] = b["data_offsets"], a["data_offsets"]


HEADER_EDITS = [
    (lambda h: h.pop("pooler.bias") and None, "pooler.bias: tensor missing"),
    (lambda h: h.update(evil=h["pooler.bias"]), "evil: unknown tensor"),
    (lambda h: h.update(__metadata__={"a": "b"}), "__metadata__: unknown tensor"),
    (lambda h: h["pooler.bias"].update(dtype="F32"), "pooler.bias dtype"),
    (lambda h: h["pooler.bias"].update(dtype=[]), "pooler.bias dtype"),
    (lambda h: h["pooler.bias"].update(shape=[8, 8]), "pooler.bias shape"),
    (lambda h: h["pooler.bias"].update(shape=[2**62]), "pooler.bias shape"),
    (lambda h: h["pooler.bias"].update(shape=64), "pooler.bias shape"),
    (lambda h: h["pooler.bias"].update(data_offsets=[0, 8]), "pooler.bias data_offsets"),
    (lambda h: h["pooler.bias"].update(data_offsets=[-256, 0]), "pooler.bias data_offsets"),
    (lambda h: h["pooler.bias"].update(data_offsets=[2**62, 2**62 + 256]), "pooler.bias data_offsets"),
    (lambda h: h["pooler.bias"].update(data_offsets="all"), "pooler.bias data_offsets"),
    (lambda h: h["pooler.bias"].pop("shape") and None, "pooler.bias: header entry"),
    (lambda h: h.update({"pooler.bias": 5}), "pooler.bias: header entry"),
    (lambda h: _moved(h, 4), "gap or overlap"),
    (lambda h: _moved(h, -4), "gap or overlap"),
    (_swapped, "sha256"),
    (lambda h: b"[]", "header: not an object"),
    (lambda h: b"{", "header: no valid JSON"),
    (lambda h: b'{"a": 1, "a": 2}', "header: no valid JSON"),
]


@pytest.mark.parametrize(("edit", "field"), HEADER_EDITS)
def test_a_header_that_is_wrong(folder, edit, field):
    edit_header(folder, edit)
    refused(folder, "model.safetensors", field)


def put(*at_and_value):
    """An edit that sets tensor[at] = value."""
    *at, value = at_and_value

    def edit(tensor):
        tensor[tuple(at)] = value

    return edit


def swap_entries(tensor):
    """Two entries more on one channel."""
    tensor[5] += 2


TENSOR_EDITS = [
    ("layers.1.q.m", put(7, 127), "layers.1.q.m[7]: 127"),
    ("layers.1.q.m", put(7, 1), "layers.1.q.m[7]"),
    ("layers.1.q.s", put(7, 0), "layers.1.q.s[7]"),
    ("layers.1.q.s", put(7, 32), "layers.1.q.s[7]"),
    ("classifier.s", put(1, 0), "classifier.s[1]"),
    ("embeddings.word.m", put(3, 100), "embeddings.word.m[3]"),
    ("embeddings.type.s", put(1, 40), "embeddings.type.s[1]"),
    ("layers.0.attention.score_m", put(1, 5), "layers.0.attention.score_m[1]"),
    ("layers.0.attention.context_s", put(9, 0), "layers.0.attention.context_s[9]"),
    ("layers.0.o.residual", put(0, 300), "layers.0.o.residual[0]"),
    ("layers.0.ffn2.residual", put(1, 0), "layers.0.ffn2.residual[1]"),
    ("embeddings.norm.operand", put(0, -128), "embeddings.norm.operand[0]"),
    ("embeddings.norm.operand", put(1, 32), "embeddings.norm.operand[1]"),
    ("embeddings.norm.gamma", put(0, -128), "embeddings.norm.gamma[0]"),
    ("embeddings.norm.gamma_shift", put(2, 0), "embeddings.norm.gamma_shift[2]"),
    ("embeddings.norm.beta_shift", put(2, 9), "embeddings.norm.beta_shift[2]"),
    ("layers.1.ffn_norm.entries", put(4, 0), "layers.1.ffn_norm.entries[4]"),
    ("layers.1.ffn_norm.entries", swap_entries, "layers.1.ffn_norm.entries: sum 67"),
    ("layers.0.ffn1.table", put(0, 2), "layers.0.ffn1.table[0]"),
    ("layers.0.v.weight", put(3, 5, 0x80), "layers.0.v.weight: int4: nibble 0x8 at row 3, column 11"),
    ("layers.0.v.weight", put(3, 32, 0x10), "layers.0.v.weight: int4: the nibble that pads"),
    ("embeddings.word.q", put(6, 0, 0x08), "embeddings.word.q: int4: nibble 0x8 at row 6, column 0"),
    ("pooler.weight", put(5, 6, -128), "pooler.weight[5, 6]: -128"),
    ("pooler.tanh", put(0, -128), "pooler.tanh[0]"),
    ("embeddings.position.q", put(0, 0, -128), "embeddings.position.q[0, 0]"),
    ("softmax.exp", put(255, 1), "softmax.exp"),
    ("layers.0.ffn2.bias", put(8, 2**26), "layers.0.ffn2, channel 8"),
    ("layers.0.ffn2.bias", put(8, -(2**31)), "layers.0.ffn2, channel 8"),
]


@pytest.mark.parametrize(("name", "edit", "field"), TENSOR_EDITS)
def test_a_value_out_of_range(folder, name, edit, field):
    edit_tensor(folder, name, edit)
    refused(folder, "model.safetensors", field)


ALBERT_TENSOR_EDITS = [
    ("mapping.weight", put(5, 6, -128), "mapping.weight[5, 6]: -128"),
    ("mapping.m", put(7, 100), "mapping.m[7]: 100"),
    ("mapping.s", put(7, 0), "mapping.s[7]"),
    ("mapping.bias", put(3, 2**26), "mapping, channel 3"),
    ("mapping.entries", put(4, 0), "mapping.entries[4]"),
    ("mapping.entries", swap_entries, "mapping.entries: sum 67 is not the manifest's 65"),
    ("mapping.operand", put(0, 5), "mapping.operand[0]"),
    ("mapping.operand", put(1, 0), "mapping.operand[1]"),
    ("embeddings.norm.entries", swap_entries, "embeddings.norm.entries: sum 28"),
    ("embeddings.word.q", put(6, 12, 0x10), "embeddings.word.q: int4: the nibble that pads"),
    ("layers.1.v.weight", put(3, 5, 0x80), "layers.1.v.weight: int4: nibble 0x8 at row 3, column 11"),
    ("layers.3.v.m", put(2, 1), "layers.3.v.m[2]"),
    ("layers.2.ffn_norm.gamma", put(0, -128), "layers.2.ffn_norm.gamma[0]"),
]


@pytest.mark.parametrize(("name", "edit", "field"), ALBERT_TENSOR_EDITS)
def test_a_value_of_albert_out_of_range(albert, name, edit, field):
    edit_tensor(albert, name, edit)
    refused(albert, "model.safetensors", field)


@pytest.mark.parametrize(
    ("name", "edit", "field"),
    [
        ("exits.0.weight", put(1, 6, -128), "exits.0.weight[1, 6]: -128"),
        ("exits.1.m", put(2, 100), "exits.1.m[2]: 100"),
        ("exits.1.pooler.s", put(7, 0), "exits.1.pooler.s[7]"),
        ("exits.0.pooler.bias", put(3, 2**26), "exits.0.pooler, channel 3"),
        ("layers.1.attention.context_m", put(31, 5), "layers.1.attention.context_m[31]: 5"),
    ],
)
def test_a_value_of_leaving_early_out_of_range(early, name, edit, field):
    edit_tensor(early, name, edit)
    refused(early, "model.safetensors", field)


ADAPTED_MANIFEST_EDITS = [
    ("adapters", ..., "adapters: missing"),
    ("adapters", [], "adapters: not an object"),
    ("adapters", None, "tensors.layers.2.attention_norm.gamma: missing"),
    ("adapters/width", 0, "adapters.width: 0 is not an integer from 1 to 512"),
    ("adapters/width", 513, "adapters.width"),
    ("adapters/width", True, "adapters.width"),
    ("adapters/width", 6, "tensors.layers.0.attention_adapter.down.weight.shape"),
    ("adapters/activation", "swish", "adapters.activation"),
    ("adapters/owners", [0, 1, 0], "adapters.owners"),
    ("adapters/owners", [0, 0, 0, 0], "adapters.owners"),
    ("adapters/owners", [0, 1, 2, 2], "adapters.owners"),
    ("adapters/owners", [0, 3, 0, 3], "adapters.owners"),
    ("adapters/owners", [2, 1, 2, 1], "adapters.owners"),
    ("adapters/owners", [0, 1, -1, 1], "adapters.owners"),
    ("adapters/owners", [0, 1, 2, 1], "tensors.layers.2.attention_adapter.down.weight: missing"),
    ("adapters/places", [], "adapters.places: unknown field"),
    ("architecture/weights", [0, 1, 2, 1], "adapters.owners: [0, 1, 0, 1] is not for each layer itself, or an earlier"),
    ("version", "2.1", "adapters: unknown field"),
]


@pytest.mark.parametrize(("path", "value", "field"), ADAPTED_MANIFEST_EDITS)
def test_a_manifest_field_of_adapters_that_is_wrong(adapted, path, value, field):
    edit_manifest(adapted, path, value)
    refused(adapted, "manifest.json", field)


def test_adapters_belong_to_a_sequence(adapted):
    edit_manifest(adapted, "exits", None)
    edit_manifest(adapted, "task/kind", "token")
    refused(adapted, "manifest.json", "adapters: kind token: adapters need kind sequence")


def other_split(tensor):
    """One entry moves to the next channel: the sum stays."""
    at = int(np.argmax(tensor > 1))
    tensor[at] -= 1
    tensor[(at + 1) % len(tensor)] += 1


def beyond_the_sums(tensor):
    tensor[4] = 2**26


@pytest.mark.parametrize(
    ("name", "edit", "field"),
    [
        (
            "layers.0.attention_adapter.down.weight",
            put(2, 6, -128),
            "layers.0.attention_adapter.down.weight[2, 6]: -128",
        ),
        ("layers.1.ffn_adapter.up.m", put(2, 100), "layers.1.ffn_adapter.up.m[2]: 100"),
        ("layers.1.ffn_adapter.down.s", put(4, 0), "layers.1.ffn_adapter.down.s[4]: 0"),
        ("layers.0.ffn_adapter.down.bias", beyond_the_sums, "layers.0.ffn_adapter.down, channel 4"),
        ("layers.1.attention_adapter.up.bias", beyond_the_sums, "layers.1.attention_adapter.up, channel 4"),
        ("layers.1.attention_adapter.table", put(3, -128), "layers.1.attention_adapter.table[3]"),
        ("layers.2.o.adapter_m", put(7, 127), "layers.2.o.adapter_m[7]: 127 is not 0 or 128 .. 255"),
        ("layers.3.ffn2.adapter_s", put(7, 0), "layers.3.ffn2.adapter_s[7]: 0 is not 1 .. 31"),
        ("layers.1.ffn_norm.gamma_shift", put(7, 0), "layers.1.ffn_norm.gamma_shift[7]"),
        ("layers.2.attention_norm.entries", other_split, "layers.2.attention_norm.entries["),
        ("layers.3.ffn_norm.entries", other_split, "layers.3.ffn_norm.entries["),
    ],
)
def test_a_value_of_adapters_out_of_range(adapted, name, edit, field):
    edit_tensor(adapted, name, edit)
    refused(adapted, "model.safetensors", field)


@pytest.mark.parametrize("shape", [(1, 96), (512, 32)])
def test_an_adapter_may_be_as_narrow_and_as_wide(tmp_path, shape):
    width, hidden = shape
    adapters = {"width": width, "activation": "tanh", "shared": False}
    load_artifact(make_random_artifact(tmp_path / "a", hidden=hidden, heads=hidden // 32, adapters=adapters))


@pytest.mark.parametrize(("name", "amax"), [("q", 127), ("ffn2", 255)])
def test_every_place_keeps_the_accumulator_bound_with_the_matrix_it_shares(albert, name, amax):
    """The largest bias of layer 2 that layer 0's weights leave room for, and one more."""
    packed = load_artifact(albert).tensors[f"layers.0.{name}.weight"]
    nibbles = np.stack([packed & 15, packed >> 4]).astype(int)
    room = 2**26 - amax * np.abs((nibbles ^ 8) - 8).sum(axis=(0, 2))  # [N]
    edit_tensor(albert, f"layers.2.{name}.bias", put(5, room[5] - 1))
    load_artifact(albert)
    edit_tensor(albert, f"layers.2.{name}.bias", put(5, room[5]))
    refused(albert, "model.safetensors", f"layers.2.{name}: layers.2.{name}, channel 5")


def test_eight_bit_words_load(tmp_path):
    path = make_random_artifact(tmp_path / "a", hidden=32, heads=1, ffn=20, vocab=12, word_bits=8)
    artifact = load_artifact(path)
    assert artifact.tensors["embeddings.word.q"].shape == (12, 32)
    broken = copy.copy(artifact.tensors["embeddings.word.q"])
    assert broken.dtype == np.int8
    edit_tensor(path, "embeddings.word.q", put(11, 31, -128))
    refused(path, "model.safetensors", "embeddings.word.q[11, 31]")


@pytest.fixture(scope="module")
def original_adaptive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adaptive")
    return make_random_artifact(folder, hidden=64, heads=2, ffn=41, vocab=30, word_density=0.4, extra_entries=1)


@pytest.fixture
def adaptive(original_adaptive, tmp_path):
    return shutil.copytree(original_adaptive, tmp_path / "adaptive")


def test_adaptivfloat_words_load(adaptive):
    read = load_artifact(adaptive)
    assert read.manifest["architecture"]["word_format"] == "adaptivfloat"
    assert read.tensors["embeddings.word.q"].dtype == np.uint8 and "embeddings.word.m" not in read.tensors


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("architecture/word_format", "float", "architecture.word_format"),
        ("architecture/word_format", ..., "architecture.word_format: missing"),
        ("architecture/word_format", "integer", "tensors.embeddings.word.m: missing"),
        ("architecture/word_bits", 4, "architecture.word_bits: 4 is not 8, as AdaptivFloat codes have"),
        ("architecture/embedding", 32, "architecture.embedding"),
        ("tensors/embeddings.word.factor", ..., "tensors.embeddings.word.factor: missing"),
        ("tensors/embeddings.word.m", {}, "tensors.embeddings.word.m: unknown field"),
    ],
)
def test_a_manifest_field_of_adaptivfloat_words_that_is_wrong(adaptive, path, value, field):
    edit_manifest(adaptive, path, value)
    refused(adaptive, "manifest.json", field)


@pytest.mark.parametrize(
    ("name", "at", "value", "field"),
    [
        ("embeddings.word.q", (3, 5), 128, "embeddings.word.q[3, 5]: 128 is not a code of Q24"),
        ("embeddings.word.factor", 0, 100, "embeddings.word.factor[0]: 100"),
        ("embeddings.word.factor", 0, 256, "embeddings.word.factor[0]: 256"),
        ("embeddings.word.factor", 1, 0, "embeddings.word.factor[1]: 0"),
        ("embeddings.word.factor", 1, 32, "embeddings.word.factor[1]: 32"),
    ],
)
def test_a_value_of_adaptivfloat_words_out_of_range(adaptive, name, at, value, field):
    def edit(tensor: np.ndarray) -> None:
        tensor[at] = value

    edit_tensor(adaptive, name, edit)
    refused(adaptive, "model.safetensors", field)
