# SPDX-License-Identifier: Apache-2.0
"""A backbone and several tasks on it (docs/artifact.md), out of one random artifact with adapters."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from random_artifact import make_random_artifact, row_shift
from zynqbert.quant.artifact import Artifact, load_artifact
from zynqbert.quant.artifact_tensors import is_task_tensor
from zynqbert.quant.task_artifact import load_backbone, save_backbone, save_task

ENCODER = ("architecture", "entries", "softmax", "spans", "adapters")


def split_tasks(artifact: Artifact, path: str | Path, names: Sequence[str] = ("first",), name: str = "trunk") -> Path:
    """Write a backbone called `name` to `path` and tasks of these names to its tasks/; the backbone's folder.

    The first task is the artifact's own. Each further one has a label more than the one before and the same numbers
    in other channels, so that it answers otherwise.
    """
    manifest = artifact.manifest
    activations = {"activations": manifest["scales"]["activations"]}
    shared = {name: t for name, t in artifact.tensors.items() if not is_task_tensor(name)}
    encoder = {"name": name, **{field: manifest[field] for field in ENCODER}, "scales": activations}
    tokenizer = artifact.tokenizer_path.read_text(encoding="utf-8")
    path = save_backbone(path, {**encoder, "metrics": {"seed": 0}}, shared, tokenizer)
    backbone = {"name": name, "sha256": load_backbone(path).sha256}
    for n, task in enumerate(names):
        fields, tensors = task_of(artifact, n)
        save_task(path / "tasks" / task, {"name": task, "backbone": backbone, **fields}, tensors)
    return path


def task_of(artifact: Artifact, n: int) -> tuple[dict, dict[str, np.ndarray]]:
    """The n-th task of an artifact: fields of task.json but for name and backbone, tensors."""
    manifest = artifact.manifest
    tensors = {name: t for name, t in artifact.tensors.items() if is_task_tensor(name)}
    labels = [*manifest["task"]["labels"], *(f"more{i}" for i in range(n))]
    exits = manifest["exits"] and {**manifest["exits"], "row_shift": row_shift(len(labels))}
    fields = {"exits": exits, "scales": {"logits": manifest["scales"]["logits"], "activations": {}}}
    fields |= {"task": {**manifest["task"], "labels": labels}, "metrics": {"task": n}}
    if n:
        tensors = {name: _other(name, t, n, len(labels)) for name, t in tensors.items()}
    return fields, tensors


def _other(name: str, tensor: np.ndarray, n: int, labels: int) -> np.ndarray:
    """Whole output channels moved by n: of adapters' second matrices and of classifiers, which get `labels` of them."""
    if ".up." in name:
        return np.roll(tensor, n, axis=0)
    classifier = name.startswith(("classifier.", "exits.")) and ".pooler." not in name
    return np.roll(np.resize(tensor, (labels, *tensor.shape[1:])), n, axis=0) if classifier else tensor


def make_tasks(path: str | Path, names: Sequence[str] = ("first",), name: str = "trunk", **options: Mapping) -> Path:
    """split_tasks of a random artifact of these options, which lies in PATH-whole."""
    path = Path(path)
    options.setdefault("adapters", {"width": 5, "activation": "relu", "shared": True})
    whole = make_random_artifact(path.with_name(f"{path.name}-whole"), **options)
    return split_tasks(load_artifact(whole), path, names, name)
