# SPDX-License-Identifier: Apache-2.0
"""Write and read a quantized model's folder (docs/artifact.md). Boards import this: numpy and safetensors, no torch.

Nothing in a folder is believed: a reader checks every field, size and checksum before it hands a tensor out.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from .artifact_fields import ArtifactError
from .artifact_files import describe, read_checked_tensors, read_json, read_tokenizer, sha256_of
from .artifact_manifest import (
    FORMAT,
    MAJOR,
    MANIFEST,
    MINOR,
    MODEL,
    TOKENIZER,
    check_manifest,
    check_tensor_list,
    with_defaults,
)
from .artifact_tensors import check_values, expected_tensors
from .task_folders import refuse_backbone, refuse_task
from .whole_folder import refuse_foreign, write_whole

__all__ = ["Artifact", "ArtifactError", "load_artifact", "save_artifact"]


@dataclass(frozen=True)
class Artifact:
    """A checked artifact. tensors: read-only arrays by name; int4 ones still packed.

    The manifest of an older version has the fields of the present one, with their defaults.
    """

    manifest: dict
    tensors: dict[str, np.ndarray]
    tokenizer_path: Path


def save_artifact(path: str | Path, manifest: Mapping, tensors: Mapping[str, np.ndarray], tokenizer_json: str) -> Path:
    """Write an artifact folder at `path`, replacing an artifact that is there once the new one is written and checked.

    `manifest` comes without format, version, tensors and files, which are filled in here, and perhaps without what 2.0
    did not have. Raises ArtifactError where `path` holds something else than an artifact, or where the parts do not
    make a valid one; OSError where it cannot be written. In every such case what was at `path` stays as it was.
    """
    path = Path(os.path.abspath(path))
    refuse_foreign(path, {MODEL, TOKENIZER, MANIFEST}, MANIFEST, FORMAT, "an artifact")
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    files = {MODEL: save(ordered), TOKENIZER: tokenizer_json.encode("utf-8")}
    full = {
        "format": FORMAT,
        "version": f"{MAJOR}.{MINOR}",
        "metrics": {},
        **with_defaults(manifest),
        "tensors": describe(ordered),
        "files": {name: {"sha256": sha256_of(content)} for name, content in files.items()},
    }
    files[MANIFEST] = (json.dumps(full, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
    write_whole(path, files, load_artifact)
    return path


def load_artifact(path: str | Path) -> Artifact:
    """Read and check an artifact folder. Raises ArtifactError in one line: file, field, fault, remedy."""
    folder = Path(path)
    if not folder.is_dir():
        raise ArtifactError(folder, "folder", "there is none", "give the folder of an artifact")
    file = folder / MANIFEST
    refuse_task(folder)
    manifest, _ = read_json(file)
    refuse_backbone(folder, manifest)
    check_manifest(file, manifest)
    manifest = with_defaults(manifest)
    expected = expected_tensors(manifest)
    check_tensor_list(file, manifest, expected)
    read_tokenizer(folder / TOKENIZER, manifest["files"][TOKENIZER]["sha256"])
    file = folder / MODEL
    tensors = read_checked_tensors(file, expected, manifest["files"][MODEL]["sha256"], manifest["tensors"])
    check_values(file, manifest, tensors)
    return Artifact(manifest, tensors, folder / TOKENIZER)
