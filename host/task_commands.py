# SPDX-License-Identifier: Apache-2.0
"""`zynqbert tasks`: which tasks a backbone has and what a switch to each moves; add one to it; plan its memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from .inputs import InputError
from .options import DEFAULT_TASKS, BoardName, BoardOption
from .plan_command import plan_command

app = typer.Typer(help="The tasks of a backbone: list them, add one, plan the memory.", rich_markup_mode=None)
app.command("plan")(plan_command)
BackboneArgument = Annotated[Path, typer.Argument(metavar="[BACKBONE]", help="Folder of the backbone.")]


@app.command("list")
def list_tasks(
    backbone: BackboneArgument = DEFAULT_TASKS,
    board: BoardOption = BoardName.zcu102,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a backbone's tasks, and the bytes that a switch to each moves on a board.

    Example: zynqbert tasks list artifacts/tasks --board zcu111
    """
    rows = list(rows_of(backbone, board.value))
    if as_json:
        print(json.dumps({"backbone": str(backbone), "board": board.value, "tasks": rows}, indent=2))
    elif rows:
        _print_table(rows, f"{backbone}, {board.value}")
    else:
        print(f"{backbone}: no tasks yet; zynqbert tasks add {backbone} TASK_FOLDER adds one")


@app.command("add")
def add(
    backbone: Annotated[Path, typer.Argument(metavar="BACKBONE", help="Folder of the backbone.")],
    folder: Annotated[Path, typer.Argument(metavar="TASK_FOLDER", help="Folder of a task quantized on it.")],
) -> None:
    """Add a task to a backbone, none of whose files is touched.

    Example: zynqbert tasks add artifacts/tasks ./my-quantized-task
    """
    from ..quant.task_artifact import add_task, load_backbone

    loaded = load_backbone(backbone)
    added = add_task(loaded, quantized_folder(folder))
    print(f"{added}: task {added.name} of {loaded.name}; zynqbert run --artifact {backbone} --task {added.name}")


def quantized_folder(folder: Path) -> Path:
    """The folder of a quantized task, `folder` itself. Raises InputError for one that was trained, but not quantized;
    what else may be wrong with it `add_task` says."""
    from ..quant.artifact_fields import ArtifactError
    from ..quant.artifact_files import read_json
    from ..quant.task_manifest import TASK_MANIFEST

    try:
        manifest, _ = read_json(folder / TASK_MANIFEST)
    except (ArtifactError, OSError):
        return folder
    if isinstance(manifest, dict) and "settings" in manifest and "format" not in manifest:
        fault = f"{folder}: a task in float, as it was trained"
        raise InputError(f"{fault}; remedy: quantize it on this backbone, and add what comes of it")
    return folder


def rows_of(backbone: Path, board: str) -> Iterator[dict[str, Any]]:
    """What is to be said of each task: sizes in bytes, `share` of the whole model's image; accuracy where it is known.

    switch_bytes_early_exit: what a switch moves at its operating points, None without. Raises ArtifactError.
    """
    from ..fpga.boards import board_named
    from ..quant.task_artifact import load_backbone, load_task, task_names
    from ..quant.task_manifest import TASKS
    from .compiler import ModelShape, plan
    from .early_exit import Ways

    loaded = load_backbone(backbone)
    for name in task_names(loaded):
        model = load_task(loaded, loaded.folder / TASKS / name)
        shape, task = ModelShape.of_manifest(model.manifest, name), model.manifest["task"]
        points = (model.manifest["exits"] or {}).get("points", {})
        compiled = plan(shape, board_named(board), artifact=model)
        leaving = None
        if points:
            way = Ways.of_point(next(iter(points.values()))).free
            leaving = plan(shape, board_named(board), artifact=model, exits=way).task.moved
        yield {
            "name": name,
            "labels": task["labels"],
            "max_length": task["max_length"],
            "points": list(points),
            "switch_bytes": compiled.task.moved,
            "switch_bytes_early_exit": leaving,
            "image_bytes": compiled.image_bytes,
            "share": compiled.task.moved / compiled.image_bytes,
            "test_accuracy": model.manifest["metrics"].get("test_accuracy"),
        }


def _print_table(rows: list[dict[str, Any]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title)
    for name in ("task", "labels"):
        table.add_column(name)
    for name in ("tokens", "a switch, bytes", "of the model", "leaving early", "points", "test accuracy"):
        table.add_column(name, justify="right")
    for row in rows:
        accuracy, early = row["test_accuracy"], row["switch_bytes_early_exit"]
        table.add_row(
            row["name"],
            ", ".join(row["labels"]),
            str(row["max_length"]),
            f"{row['switch_bytes']:,}",
            f"{row['share']:.2%}",
            "" if early is None else f"{early:,}",
            ", ".join(row["points"]),
            "" if accuracy is None else f"{accuracy:.1%}",
        )
    Console().print(table)
