# SPDX-License-Identifier: Apache-2.0
"""Which of a backbone's tasks a command runs: what the options may say of an artifact, and of a backbone."""

from pathlib import Path

from .inputs import InputError


def chosen(artifact: Path, task: str | None) -> str | None:
    """The task of backbone `artifact` that a command means by --task, or its only one; None for a model by itself.

    Raises InputError where `task` and `artifact` do not go together; ValueError for a task that there is none of.
    """
    from .task_set import is_backbone, known_task

    if not is_backbone(artifact):
        if task is not None:
            raise InputError(f"--task {task}: {_alone(artifact)}")
        return None
    names = names_of(artifact)
    if task is None and len(names) > 1:
        shown = ", ".join(names)
        raise InputError(f"{artifact}: a backbone of {len(names)} tasks; remedy: name one of them with --task: {shown}")
    return known_task(artifact, names, names[0] if task is None and names else task)


def mixed_tasks(artifact: Path, task: str | None, pairs: bool) -> list[str]:
    """The tasks that the lines of --mixed may name; InputError where the options beside it do not go with it."""
    from .task_set import is_backbone, known_task

    if task is not None:
        raise InputError("--task with --mixed: each line names its own task; remedy: leave one of them out")
    if pairs:
        raise InputError("--pairs with --mixed: a line with a second tab is a pair; remedy: leave --pairs out")
    if not is_backbone(artifact):
        raise InputError(f"--mixed: {_alone(artifact)}")
    names = names_of(artifact)
    known_task(artifact, names, names[0] if names else None)
    return names


def by_itself(artifact: Path) -> Path:
    """`artifact`, for a command that knows no tasks; InputError if it is a backbone."""
    from .task_set import is_backbone

    if is_backbone(artifact):
        fault = f"{artifact}: a backbone with tasks, this command takes a model by itself"
        raise InputError(f"{fault}; remedy: zynqbert run --artifact {artifact} --task NAME runs one of its tasks")
    return artifact


def names_of(backbone: Path) -> list[str]:
    """The tasks in a backbone's folder, none of them opened."""
    from ..quant.task_folders import folder_names

    return folder_names(backbone)


def _alone(artifact: Path) -> str:
    return f"{artifact} is no backbone with tasks; remedy: leave the option out, or give a backbone with --artifact"
