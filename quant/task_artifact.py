# SPDX-License-Identifier: Apache-2.0
"""One quantized backbone and the tasks that refer to it by hash (docs/artifact.md): written, read, put together.

Boards import this: numpy and safetensors, no torch. A task is added without touching the backbone's files.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from .artifact import Artifact
from .artifact_fields import ArtifactError
from .artifact_files import (
    describe,
    most_bytes,
    read_checked_tensors,
    read_file,
    read_json,
    read_tokenizer,
    sha256_of,
)
from .artifact_manifest import MANIFEST, MODEL, TOKENIZER, check_manifest, check_tensor_list
from .artifact_tensors import check_values, expected_tensors
from .task_folders import folder_names
from .task_manifest import (
    BACKBONE_FORMAT,
    TASK_FORMAT,
    TASK_MANIFEST,
    TASK_MODEL,
    TASKS,
    VERSION,
    any_model,
    backbone_spec,
    check_backbone,
    check_task_alone,
    check_task_of,
    listed_spec,
    merged_manifest,
    task_spec,
)
from .whole_folder import refuse_foreign, write_whole

__all__ = ["Backbone", "add_task", "load_backbone", "load_task", "save_backbone", "save_task", "task_names"]

_VERSION = ".".join(map(str, VERSION))


@dataclass(frozen=True)
class Backbone:
    """A checked backbone. sha256: of its manifest, which names the hashes of all else; tensors: read-only, by name."""

    name: str
    sha256: str
    manifest: dict
    tensors: dict[str, np.ndarray]
    tokenizer_path: Path
    folder: Path


def save_backbone(path: str | Path, manifest: Mapping, tensors: Mapping[str, np.ndarray], tokenizer_json: str) -> Path:
    """Write a backbone's folder, replacing one that is there and has no tasks.

    `manifest` comes without format, version, tensors and files. Raises ArtifactError where `path` holds something else,
    or a backbone with tasks (they would be of one that is no more), or where the parts make no valid one; OSError where
    it cannot be written. In every such case what was at `path` stays as it was.
    """
    path = Path(os.path.abspath(path))
    refuse_foreign(path, {MODEL, TOKENIZER, MANIFEST, TASKS}, MANIFEST, BACKBONE_FORMAT, "a backbone")
    tasks = path / TASKS
    _refuse_link(tasks)
    if tasks.exists() and any(tasks.iterdir()):
        raise ArtifactError(tasks, "folder", "holds tasks of the backbone that is there", "choose another folder")
    files = {TOKENIZER: tokenizer_json.encode("utf-8")}
    write_whole(path, _files(files, MODEL, MANIFEST, BACKBONE_FORMAT, manifest, tensors), load_backbone)
    return path


def save_task(path: str | Path, manifest: Mapping, tensors: Mapping[str, np.ndarray]) -> Path:
    """Write a task's folder, replacing one that is there; it is held against its backbone when it is loaded or added.

    `manifest` comes without format, version, tensors and files, and perhaps without `exits`. Raises as save_backbone.
    """
    path = Path(os.path.abspath(path))
    refuse_foreign(path, {TASK_MODEL, TASK_MANIFEST}, TASK_MANIFEST, TASK_FORMAT, "a task")
    write_whole(path, _files({}, TASK_MODEL, TASK_MANIFEST, TASK_FORMAT, {"exits": None, **manifest}, tensors), _alone)
    return path


def load_backbone(path: str | Path) -> Backbone:
    """Read and check a backbone's folder. Raises ArtifactError in one line: file, field, fault, remedy."""
    folder = Path(path)
    if not folder.is_dir():
        raise ArtifactError(folder, "folder", "there is none", "give the folder of a backbone")
    file = folder / MANIFEST
    manifest, data = read_json(file)
    check_backbone(file, manifest)
    expected = backbone_spec(manifest)
    check_tensor_list(file, manifest, expected)
    read_tokenizer(folder / TOKENIZER, manifest["files"][TOKENIZER]["sha256"])
    file = folder / MODEL
    tensors = read_checked_tensors(file, expected, manifest["files"][MODEL]["sha256"], manifest["tensors"])
    check_values(file, any_model(manifest), tensors)
    return Backbone(manifest["name"], sha256_of(data), manifest, tensors, folder / TOKENIZER, folder)


def load_task(backbone: Backbone, folder: str | Path) -> Artifact:
    """The whole model of a backbone and a task's folder. Raises ArtifactError, also where the task is another's."""
    folder = Path(folder)
    manifest, artifact = _merged(backbone, folder)
    here = os.path.abspath(folder)
    tasks = backbone.folder / TASKS
    if os.path.dirname(here) == os.path.abspath(tasks):
        _refuse_link(tasks)
        if (called := os.path.basename(here)) != manifest["name"]:
            fault = f"{manifest['name']} is not {called}, as its folder is called"
            raise ArtifactError(folder / TASK_MANIFEST, "name", fault, f"rename the folder to {manifest['name']}")
    return artifact


def task_names(backbone: Backbone) -> list[str]:
    """The tasks that lie in the backbone's folder, sorted; none of them is opened."""
    return folder_names(backbone.folder)


def add_task(backbone: Backbone, folder: str | Path) -> Path:
    """Copy a task's folder to the backbone's as tasks/NAME, after it has been held against the backbone; the folder.

    The backbone's files stay untouched. Raises ArtifactError where the task does not fit, or where another one of that
    name is there; the very same one may be.
    """
    folder = Path(folder)
    tasks = backbone.folder / TASKS
    _refuse_link(tasks)
    manifest, _ = _merged(backbone, folder)
    name = manifest["name"]
    files = _bytes(folder)
    target = tasks / name
    if not os.path.lexists(target):
        write_whole(target, files, lambda new: _merged(backbone, new), replace=False)
    elif target.is_symlink() or not target.is_dir() or _bytes(target) != files:
        remedy = "quantize this one under another name, or remove that folder"
        raise ArtifactError(target, "folder", f"another task {name} is there already", remedy)
    return target


def _files(
    others: dict[str, bytes], model: str, of: str, format_: str, manifest: Mapping, tensors: Mapping[str, np.ndarray]
) -> dict[str, bytes]:
    """The bytes of a folder by file name: the `others` it has, the tensors as `model`, the manifest as `of`."""
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    files = {**others, model: save(ordered)}
    full = {
        "format": format_,
        "version": _VERSION,
        "metrics": {},
        **manifest,
        "tensors": describe(ordered),
        "files": {name: {"sha256": sha256_of(content)} for name, content in files.items()},
    }
    return {**files, of: (json.dumps(full, indent=1, ensure_ascii=False) + "\n").encode("utf-8")}


def _refuse_link(tasks: Path) -> None:
    if tasks.is_symlink() or (tasks.exists() and not tasks.is_dir()):
        raise ArtifactError(tasks, "folder", "not a folder of tasks itself", "move it away, or copy the folder there")


def _alone(folder: Path) -> None:
    """Check a task's folder as far as it can be without a backbone."""
    file = folder / TASK_MANIFEST
    manifest, _ = read_json(file)
    check_task_alone(file, manifest)
    sha256 = manifest["files"][TASK_MODEL]["sha256"]
    read_checked_tensors(folder / TASK_MODEL, listed_spec(manifest), sha256, manifest["tensors"])


def _merged(backbone: Backbone, folder: Path) -> tuple[dict, Artifact]:
    """A task's own manifest and the whole model, all checked; the backbone's part was when it was loaded."""
    if folder.is_symlink() or not folder.is_dir():
        fault = "a symbolic link" if folder.is_symlink() else "there is none"
        raise ArtifactError(folder, "folder", fault, "give the folder of a quantized task")
    file = folder / TASK_MANIFEST
    manifest, _ = read_json(file)
    check_task_alone(file, manifest)
    architecture = backbone.manifest["architecture"]
    check_task_of(file, manifest, {"name": backbone.name, "sha256": backbone.sha256, "architecture": architecture})
    sha256 = manifest["files"][TASK_MODEL]["sha256"]
    both = sha256_of((backbone.manifest["files"][MODEL]["sha256"] + sha256).encode())
    merged = merged_manifest(backbone.manifest, manifest, both)
    check_manifest(file, merged)
    check_tensor_list(file, merged, expected_tensors(merged))
    tensors = read_checked_tensors(folder / TASK_MODEL, task_spec(merged), sha256, manifest["tensors"])
    check_values(folder / TASK_MODEL, merged, tensors)
    return manifest, Artifact(merged, backbone.tensors | tensors, backbone.tokenizer_path)


def _bytes(folder: Path) -> dict[str, bytes]:
    """A task's two files as they are."""
    manifest, data = read_json(folder / TASK_MANIFEST)
    check_task_alone(folder / TASK_MANIFEST, manifest)
    return {TASK_MODEL: read_file(folder / TASK_MODEL, most_bytes(listed_spec(manifest))), TASK_MANIFEST: data}
