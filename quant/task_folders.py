# SPDX-License-Identifier: Apache-2.0
"""The folders of a backbone's tasks by name, and what is said where one of them is taken for a model by itself."""

import os
from pathlib import Path
from typing import Any

from .artifact_fields import ArtifactError
from .artifact_files import read_json
from .artifact_manifest import MANIFEST
from .task_manifest import BACKBONE_FORMAT, TASK_FORMAT, TASK_MANIFEST, TASKS, is_name


def folder_names(backbone: Path) -> list[str]:
    """The tasks in a backbone's folder, sorted: real folders with a name that a task may have; no link is followed."""
    tasks = backbone / TASKS
    if tasks.is_symlink() or not tasks.is_dir():
        return []
    with os.scandir(tasks) as found:
        return sorted(entry.name for entry in found if is_name(entry.name) and entry.is_dir(follow_symlinks=False))


def refuse_backbone(folder: Path, manifest: Any) -> None:
    """ArtifactError if a manifest is a backbone's: it answers nothing without a task."""
    if isinstance(manifest, dict) and manifest.get("format") == BACKBONE_FORMAT:
        names = folder_names(folder)
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        remedy = f"name one of its tasks with --task: {shown}" if names else "add a task to it: it has none yet"
        raise ArtifactError(folder / MANIFEST, "format", "a backbone, not a model by itself", remedy)


def refuse_task(folder: Path) -> None:
    """ArtifactError if a folder is a task's: it is nothing without its backbone."""
    file = folder / TASK_MANIFEST
    if os.path.lexists(folder / MANIFEST) or not os.path.lexists(file):
        return
    manifest, _ = read_json(file)
    if isinstance(manifest, dict) and manifest.get("format") == TASK_FORMAT:
        of = manifest.get("backbone")
        name = of.get("name") if isinstance(of, dict) else None
        named = f"of backbone {name}" if is_name(name) else "of a backbone"
        remedy = "give the backbone's folder, and the task with --task"
        raise ArtifactError(file, "format", f"a task {named}, not a model by itself", remedy)
