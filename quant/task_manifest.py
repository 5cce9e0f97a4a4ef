# SPDX-License-Identifier: Apache-2.0
"""What the manifests of a backbone and of a task may say, and the whole model's, made of both (docs/artifact.md)."""

import re
from collections.abc import Mapping
from typing import Any

from .artifact_fields import ArtifactError, Fields, check_version, is_int, is_sha256
from .artifact_manifest import (
    FORMAT,
    MAJOR,
    MINOR,
    MODEL,
    TOKENIZER,
    check_encoder,
    check_exits,
    check_files,
    check_scales,
    check_task,
)
from .artifact_tensors import Spec, expected_tensors, is_task_tensor

BACKBONE_FORMAT, TASK_FORMAT, VERSION = "zynqbert-backbone", "zynqbert-task", (1, 0)
TASK_MODEL, TASK_MANIFEST, TASKS = "task.safetensors", "task.json", "tasks"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_IS_NAME = "a name of 1 to 64 of A-Z a-z 0-9 _ . -, no . or - first"
_ENCODER = ("architecture", "entries", "softmax", "spans", "adapters")
_DTYPES = ("int8", "uint8", "int32")


def is_name(x: Any) -> bool:
    """Whether backbones and tasks may be called so: a folder's name that leads nowhere else and is no option."""
    return isinstance(x, str) and _NAME.fullmatch(x) is not None


def check_backbone(file: object, manifest: Any) -> None:
    """Every field of a backbone's manifest, but for `tensors`. ArtifactError names the first that is wrong."""
    check_version(file, manifest, BACKBONE_FORMAT, VERSION, "give the folder of a backbone")
    names = ("format", "version", "name", *_ENCODER, "scales", "tensors", "files", "metrics")
    top = Fields(file, "", manifest, names)
    top.check("name", is_name, _IS_NAME)
    top.check("adapters", lambda x: x is not None, "an object: every task has adapters of that width")
    check_encoder(top, MINOR)
    top.check("tensors", lambda x: isinstance(x, dict), "an object")
    top.check("metrics", lambda x: isinstance(x, dict), "an object")
    check_scales(file, manifest["scales"], ("activations",))
    check_files(file, manifest["files"], (MODEL, TOKENIZER))


def check_task_alone(file: object, manifest: Any) -> None:
    """What a task's manifest says that needs no backbone: names, types, `tensors` that are a task's."""
    check_version(file, manifest, TASK_FORMAT, VERSION, "give the folder of a quantized task")
    names = ("format", "version", "name", "backbone", "task", "exits", "scales", "tensors", "files", "metrics")
    top = Fields(file, "", manifest, names)
    top.check("name", is_name, _IS_NAME)
    of = Fields(file, "backbone.", manifest["backbone"], ("name", "sha256"))
    of.check("name", is_name, _IS_NAME)
    of.check("sha256", is_sha256, "a sha256 in hexadecimal")
    top.check("metrics", lambda x: isinstance(x, dict), "an object")
    check_scales(file, manifest["scales"], ("logits", "activations"))
    check_files(file, manifest["files"], (TASK_MODEL,))
    tensors = top.check("tensors", lambda x: isinstance(x, dict), "an object")
    for name, listed in tensors.items():
        if not is_task_tensor(name):
            raise ArtifactError(file, f"tensors.{name[:80]}", "not a task's tensor, but the backbone's or none")
        entry = Fields(file, f"tensors.{name[:80]}.", listed, ("dtype", "shape", "sha256"))
        entry.choice("dtype", *_DTYPES)
        good = lambda x: isinstance(x, list) and len(x) in (1, 2) and all(is_int(n, 1, 2**20) for n in x)  # noqa: E731
        entry.check("shape", good, "one or two sizes")
        entry.check("sha256", is_sha256, "a sha256 in hexadecimal")


def check_task_of(file: object, manifest: dict, backbone: Mapping) -> None:
    """What a task's manifest, checked alone, says of this backbone: that it is the task's, and that the task fits it.

    backbone: `name`, `sha256` and `architecture`.
    """
    name, made_for = manifest["name"], manifest["backbone"]
    if (made_for["name"], made_for["sha256"]) != (backbone["name"], backbone["sha256"]):
        wanted, found = (f"{of['name']} (sha256 {of['sha256'][:8]}…)" for of in (made_for, backbone))
        fault = f"task {name} was made for backbone {wanted}, this is {found}"
        raise ArtifactError(file, "backbone", fault, f"give that backbone, or quantize {name} on this one")
    check_task(file, manifest["task"], backbone["architecture"]["positions"])
    if manifest["task"]["kind"] != "sequence":
        raise ArtifactError(file, "task.kind", f"{manifest['task']['kind']}: adapters need kind sequence")
    check_exits(file, {**manifest, "architecture": backbone["architecture"]})


def listed_spec(manifest: Mapping) -> Spec:
    """Name → dtype, shape of the tensors that a checked manifest lists."""
    return {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in manifest["tensors"].items()}


def backbone_spec(manifest: Mapping) -> Spec:
    """The tensors of a backbone, from its checked manifest: those of any model on it that are no task's."""
    return {name: of for name, of in expected_tensors(any_model(manifest)).items() if not is_task_tensor(name)}


def any_model(backbone: Mapping) -> dict:
    """A backbone's manifest as that of a model with some task, for what depends on no task."""
    return {**backbone, "task": {"kind": "sequence", "labels": ["any"]}, "exits": None}


def task_spec(merged: Mapping) -> Spec:
    """The tensors of the task alone, from a whole model's manifest."""
    return {name: of for name, of in expected_tensors(merged).items() if is_task_tensor(name)}


def merged_manifest(backbone: Mapping, task: Mapping, model_sha256: str) -> dict:
    """The artifact's manifest that a backbone's and a task's make; `model_sha256` stands for both tensor files."""
    activations = backbone["scales"]["activations"] | task["scales"]["activations"]
    return {
        "format": FORMAT,
        "version": f"{MAJOR}.{MINOR}",
        **{name: backbone[name] for name in _ENCODER},
        "task": task["task"],
        "exits": task["exits"],
        "scales": {"logits": task["scales"]["logits"], "activations": activations},
        "tensors": backbone["tensors"] | task["tensors"],
        "files": {TOKENIZER: backbone["files"][TOKENIZER], MODEL: {"sha256": model_sha256}},
        "metrics": backbone["metrics"] | task["metrics"],
    }
