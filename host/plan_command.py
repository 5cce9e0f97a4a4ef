# SPDX-License-Identifier: Apache-2.0
"""`zynqbert tasks plan`: what lies in which memory, and what a switch of tasks costs against a reload."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ..fpga.boards import BOARDS, Board
from ..fpga.switching import SwitchCost, reloading, switching
from ..quant.artifact import Artifact
from .compiler import Plan, plan
from .inputs import InputError
from .memory_plan import memory_plan
from .model_shape import Adapters, ModelShape
from .options import BoardName, BoardOption, ClockOption

WIDTH, DENSITY = 32, 1.0


@dataclass(frozen=True)
class Planned:
    """The plans of the tasks on a board, and what is known of the words' codes; `modelled`: densities are assumed."""

    plans: Mapping[str, Plan]
    code_density: float
    modelled: bool


def plan_command(
    backbone: Annotated[Path | None, typer.Argument(help="Folder of a backbone with its tasks.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A shape instead: albert-base, albert-minilm, minilm-l6, bert-base, …")
    ] = None,
    board: BoardOption = BoardName.zcu102,
    density: Annotated[
        float | None, typer.Option(help="Share of the int4 weights that is not 0, with --model; all if not given.")
    ] = None,
    word_density: Annotated[
        float | None, typer.Option("--word-density", help="The same of the words' AdaptivFloat codes.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Of the adapters, with --model; 32 if not given.")] = None,
    clock_mhz: ClockOption = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the plan to this file, an SVG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What lies in which memory of a board, and what a switch of tasks costs against reloading a model.

    Example: zynqbert tasks plan --model albert-base --board zcu111 --density 0.5 --word-density 0.4 --plot plan.svg
    """
    from rich.console import Console

    from .memory_plot import draw
    from .memory_text import placement, switch_lines, table

    if clock_mhz is not None and not clock_mhz > 0:
        raise InputError(f"--clock-mhz {clock_mhz:g}: a number above 0 is needed; remedy: --clock-mhz 250")
    options = {"density": density, "word-density": word_density, "width": width}
    planned = {name: planned_on(of, backbone, model, options) for name, of in BOARDS.items()}
    found = {name: memory_plan(of.plans, code_density=of.code_density) for name, of in planned.items()}
    costs = {name: costs_of(of.plans, clock_mhz) for name, of in planned.items()}
    chosen, modelled = found[board.value], planned[board.value].modelled
    if plot is not None:
        draw(chosen, plot, modelled, list(switch_lines({board.value: costs[board.value]})))
    if as_json:
        print(json.dumps(_figures(chosen.to_json(), modelled, costs), indent=2))
        return
    Console().print(table(chosen, modelled))
    for of in found.values():
        print(placement(of))
    for line in switch_lines(costs):
        print(line)
    if plot is not None:
        print(f"{plot}: the plan of {board.value} as a picture")


def planned_on(board: Board, backbone: Path | None, model: str | None, options: Mapping[str, Any]) -> Planned:
    """The plans of a backbone's tasks, or of a shape with adapters, for `board`; `options` are those of a shape.

    Raises InputError where they do not go together, ArtifactError, CompileError.
    """
    if (backbone is None) == (model is None):
        raise InputError("give either a backbone's folder or --model; remedy: zynqbert tasks plan --model albert-base")
    given = [name for name, value in options.items() if value is not None]
    if model is None:
        if given:
            raise InputError(f"--{given[0]} goes with --model: a backbone has its own; remedy: leave it out")
        return _planned_tasks(board, backbone)
    shares = {name: DENSITY if options[name] is None else options[name] for name in ("density", "word-density")}
    for name, share in shares.items():
        if not 0 < share <= 1:
            raise InputError(f"--{name} {share:g}: above 0 and at most 1 is needed; remedy: --{name} 0.5")
    shape = ModelShape.named(model)
    width = WIDTH if options["width"] is None else options["width"]
    shape = replace(shape, word_format="adaptivfloat", adapters=Adapters(width, shape.weights))
    compiled = plan(shape, board, density=shares["density"], word_density=shares["word-density"])
    return Planned({"of this width": compiled}, shares["word-density"], True)


def _planned_tasks(board: Board, folder: Path) -> Planned:
    from ..quant.task_artifact import load_backbone, load_task, task_names
    from ..quant.task_manifest import TASKS

    backbone = load_backbone(folder)
    names = task_names(backbone)
    if not names:
        raise InputError(f"{folder}: the backbone has no task yet; remedy: zynqbert tasks add {folder} TASK_FOLDER")
    plans = {}
    for name in names:
        model = load_task(backbone, backbone.folder / TASKS / name)
        plans[name] = plan(ModelShape.of_manifest(model.manifest, backbone.name), board, artifact=model)
    return Planned(plans, code_density(model), False)


def code_density(model: Artifact) -> float:
    """Share of the word table's codes that is not 0, of 4-bit ones too."""
    q = model.tensors["embeddings.word.q"]
    if model.manifest["architecture"]["word_bits"] == 4:
        return float(np.count_nonzero(q & 15) + np.count_nonzero(q >> 4)) / (2 * q.size)
    return float(np.count_nonzero(q)) / q.size


def costs_of(plans: Mapping[str, Plan], clock_mhz: float | None = None) -> dict[str, SwitchCost]:
    """Modelled costs of a "switch" to the task that moves most, and of a "reload" of its whole model.

    ValueError for plans without adapters.
    """
    if any(of.task is None for of in plans.values()):
        raise ValueError("a model without adapters has no tasks to switch; remedy: give a backbone's")
    most = max(plans.values(), key=lambda of: of.task.moved)
    clock_mhz = most.board.clock_mhz if clock_mhz is None else clock_mhz
    switch = switching(most.board, most.task.moved, len(most.task.pieces))
    return {"switch": switch, "reload": reloading(most, clock_mhz)}


def _figures(plan_json: Mapping[str, Any], modelled: bool, costs: Mapping) -> dict[str, Any]:
    """The plan's JSON, whether its sizes are modelled, and the costs on both boards, which always are."""
    switches = {
        board: {name: cost.to_json() for name, cost in of.items()}
        | {
            "time_ratio": of["reload"].seconds / of["switch"].seconds,
            "energy_ratio": of["reload"].joules / of["switch"].joules,
        }
        for board, of in costs.items()
    }
    return {**plan_json, "sizes_modelled": modelled, "switching": switches}
