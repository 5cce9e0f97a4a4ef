# SPDX-License-Identifier: Apache-2.0
"""`zynqbert tasks`: which tasks a backbone has and what a switch to each moves; add one to it; plan its memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from .inputs import InputError, read_texts
from .options import DEFAULT_TASKS, BoardName, BoardOption
from .plan_command import plan_command

app = typer.Typer(help="The tasks of a backbone: list them, add one, plan the memory.", rich_markup_mode=None)
app.command("plan")(plan_command)
PIPED_WIDTH = 110
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
    folder: Annotated[Path, typer.Argument(metavar="TASK_FOLDER", help="Folder of a task, in float or quantized.")],
    name: Annotated[str | None, typer.Option("--name", help="Of a task in float; else its folder's.")] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Of a task in float: texts of its kind, one a line, a few hundred.")
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Each line of --calibrate holds two texts, parted by a tab.")
    ] = False,
    trained_on: Annotated[
        str | None, typer.Option("--trained-on", help="The float backbone, where the task names another place.")
    ] = None,
) -> None:
    """Add a task to a backbone, none of whose files is touched: a quantized one, or one in float, as it was trained.

    Example: zynqbert tasks add artifacts/tasks ./my-quantized-task

    In float: zynqbert tasks add build/tasks/artifact ./my-task --name mine --calibrate texts.txt
    """
    from ..quant.task_artifact import add_task, load_backbone

    loaded = load_backbone(backbone)
    if _is_float(folder):
        added = _quantized(backbone, folder, name or folder.name, calibrate, pairs, trained_on)
    elif name or calibrate or pairs or trained_on:
        raise InputError(f"{folder}: no task in float; remedy: leave --name, --calibrate, --pairs and --trained-on out")
    else:
        added = add_task(loaded, folder)
    print(f"{added}: task {added.name} of {loaded.name}; zynqbert run --artifact {backbone} --task {added.name}")


def _is_float(folder: Path) -> bool:
    """Whether `folder` holds a task as it was trained; what is wrong with any other `add_task` says."""
    from ..quant.artifact_fields import ArtifactError
    from ..quant.artifact_files import read_json
    from ..quant.task_manifest import TASK_MANIFEST

    try:
        manifest, _ = read_json(folder / TASK_MANIFEST)
    except (ArtifactError, OSError):
        return False
    return isinstance(manifest, dict) and "settings" in manifest and "format" not in manifest


def _quantized(
    backbone: Path, folder: Path, name: str, calibrate: Path | None, pairs: bool, trained_on: str | None
) -> Path:
    """Quantize the float task in `folder` on the backbone; its folder there."""
    from .workstation import needing_packages

    if calibrate is None:
        raise InputError(f"{folder}: a task in float needs texts of its kind; remedy: --calibrate F, one a line")
    texts = list(read_texts(str(calibrate), pairs))
    with needing_packages("tasks add"):
        from ..quant.quantize_tasks import TaskSource, add_float_task
    return add_float_task(backbone, name, TaskSource(folder, texts), trained_on)


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
    for name in ("tokens", "switch bytes", "of the model", "leaving early", "points", "test accuracy"):
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
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPED_WIDTH)
    console.print(table)
