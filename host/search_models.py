# SPDX-License-Identifier: Apache-2.0
"""The models of a search, by the names they are told by."""

from collections.abc import Sequence
from pathlib import Path

from ..quant.artifact import Artifact
from .inputs import InputError
from .task_choice import chosen
from .task_set import is_backbone, load_model


def load_models(folders: Sequence[Path], task: str | None) -> dict[str, Artifact]:
    """The artifacts by name; of a backbone `task`, or its only one.

    Raises ArtifactError; InputError for two of one name, or a `task` where none is a backbone.
    """
    if task is not None and not any(is_backbone(folder) for folder in folders):
        raise InputError(f"--task {task}: none of the models is a backbone with tasks; remedy: leave it out")
    found: dict[str, Artifact] = {}
    for folder in folders:
        of = chosen(folder, task if is_backbone(folder) else None)
        name = title(folder) if of is None else f"{title(folder)}/{of}"
        if name in found:
            raise InputError(f"--artifact {folder}: a second model called {name}; remedy: rename its folder")
        found[name] = load_model(folder, of)
    return found


def title(folder: Path) -> str:
    """The folder's name; its parent's too where a training called it "artifact"."""
    whole = folder.resolve()
    return f"{whole.parent.name}/{whole.name}" if whole.name == "artifact" else whole.name
