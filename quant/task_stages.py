# SPDX-License-Identifier: Apache-2.0
"""The integers of a recipe of tasks: an artifact with all of its weights, and one that is pruned and leaves early.

`quantized/` and `sparse/` are backbones with their tasks; `artifact/` is the latter with operating points, which are
chosen on dev.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from safetensors.torch import load_file

from .artifact_tensors import is_task_tensor
from .datasets import Example
from .evaluate import paired_bootstrap
from .exit_answers import Answers
from .exit_stages import FILLED_IN
from .offramps import FILE, OffRamps
from .options import Options
from .pipeline import bar
from .quantize_tasks import TaskSource, quantize_tasks
from .sentences import Sentences
from .task_artifact import load_backbone, load_task, save_task
from .task_manifest import TASK_MANIFEST
from .task_ramps import train_task_ramps
from .task_recipe import TasksRecipe
from .task_training import load_task as load_float_task
from .thresholds import measure, point_name, threshold_report
from .training import write_json

Data = Mapping[str, Mapping[str, list[Example]]]


def quantized_stages(
    recipe: TasksRecipe, backbone: str, data: Data, sentences: Mapping[str, Sentences], out: Path, console: Console
) -> dict[str, dict]:
    """Make what is not there yet of the three folders; by task what the test split says of them.

    `out/TASK/adapters/` holds each float task. Raises ValueError, ArtifactError, OSError.
    """
    sources = {n: TaskSource(out / n / "adapters", [e.texts for e in of["train"]]) for n, of in data.items()}
    _quantize(recipe, backbone, sources, out / "quantized", 1.0, console)
    s = recipe.sparse
    fields = ("epochs", "batch", "learning_rate", "distillation", "temperature")
    settings = OffRamps(train="frozen", **{name: getattr(s, name) for name in fields})
    for name, source in sources.items():
        folder = out / name / "ramps"
        task = load_float_task(backbone, source.folder)
        train_task_ramps(task, sentences[name], folder, settings, seed=recipe.seed, resume=True, console=console)
        sources[name] = TaskSource(source.folder, source.texts, load_file(folder / FILE))
    _quantize(recipe, backbone, sources, out / "sparse", s.density, console)
    return _measured(recipe, data, out, console)


def _quantize(
    recipe: TasksRecipe, backbone: str, sources: Mapping[str, TaskSource], out: Path, density: float, console: Console
) -> None:
    if out.is_dir():
        return
    options = Options(**asdict(recipe.quantize), density=density)
    with bar(None) as advance:
        report = quantize_tasks(backbone, sources, out, name=recipe.name, options=options, on_step=advance)
    write_json(out.with_name(f"{out.name}.json"), report)
    said = (f"{name} {of['agreement']:.1%}" for name, of in report["tasks"].items() if of)
    console.print(f"{out.name}: {report['seconds']:.0f} s; answers as in float: {', '.join(said)}")


def _measured(recipe: TasksRecipe, data: Data, out: Path, console: Console) -> dict[str, dict]:
    """Accuracies on the test split, and `artifact/` with the operating points."""
    dense, sparse = (load_backbone(out / folder) for folder in ("quantized", "sparse"))
    found: dict[str, dict] = {}
    manifests: dict[str, dict] = {}
    for name, of in data.items():
        answers = Answers(of, recipe.max_length, out / name / "answers", console)
        whole, pruned = (load_task(b, b.folder / "tasks" / name) for b in (dense, sparse))
        dev = threshold_report(answers.ramps("sparse", pruned, "dev"), recipe.sparse.losses)
        test = answers.ramps("sparse", pruned, "test")
        points = {
            point: {**at, "foretold": None, "test": measure(test, at["threshold"])}
            for point, at in dev["points"].items()
        }
        found[name] = {
            "quantized": answers.right("quantized", whole, "test"),
            "sparse": test.right[:, -1],
            "points": points,
            "ramps": dev["ramps"],
        }
        exits = {**pruned.manifest["exits"], "points": points}
        metrics = {"data": name, "test_accuracy": float(test.right[:, -1].mean()), "test_sentences": len(test.right)}
        manifests[name] = {"exits": exits, "metrics": metrics}
    _with_points(out / "sparse", out / "artifact", manifests)
    return found


def _with_points(sparse: Path, out: Path, fields: Mapping[str, dict]) -> None:
    """A copy of the backbone in `sparse`, its tasks with these fields of theirs changed."""
    stage = out.with_name(f".{out.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    try:
        shutil.copytree(sparse, stage)
        backbone = load_backbone(stage)
        for name, changed in fields.items():
            folder = stage / "tasks" / name
            manifest = json.loads((folder / TASK_MANIFEST).read_text(encoding="utf-8"))
            kept = {field: value for field, value in manifest.items() if field not in FILLED_IN}
            tensors = load_task(backbone, folder).tensors
            save_task(folder, {**kept, **changed}, {n: t for n, t in tensors.items() if is_task_tensor(n)})
            load_task(backbone, folder)
        shutil.rmtree(out, ignore_errors=True)
        os.replace(stage, out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def summary(right: np.ndarray, found: Mapping) -> dict:
    """What tasks.json says of a task's integers; `right`: bool [sentences], its adapters in float on the test split."""
    said: dict = {}
    for way in ("quantized", "sparse"):
        low, high = paired_bootstrap(right, found[way])
        said[way] = {
            "test_accuracy": float(found[way].mean()),
            "against_adapters_points": 100 * float(found[way].mean() - right.mean()),
            "interval_points": [100 * low, 100 * high],
        }
    return {**said, "points": found["points"], "ramps": found["ramps"]}


def shown_point(losses: tuple[float, ...]) -> str:
    """The operating point that the table has: that of one point, else the first."""
    return point_name(1.0 if 1.0 in losses else losses[0])
