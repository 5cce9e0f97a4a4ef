# SPDX-License-Identifier: Apache-2.0
"""What the robustness study is of: the tasks of a folder and their quantized models."""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .artifact import load_artifact
from .datasets import DATA_SETS
from .options import Options
from .quantize_tasks import TaskSource, Walked, task_settings, walk_tasks
from .robustness import DENSITIES, WEIGHT_BITS, Studied, StudiedTask
from .task_artifact import load_backbone, load_task, task_names
from .tokens import encode


def studied_tasks(folder: str | Path, data: str | None = None) -> Studied:
    """The tasks of a run of `zynqbert train recipes/tasks.toml`, or the one of an artifact (then see `of_artifact`).

    Raises ArtifactError, DataUnavailable, and ValueError naming what does not fit.
    """
    folder = Path(folder)
    if (folder / "quantized").is_dir():
        if data is not None:
            raise ValueError(f"--data {data}: the tasks of {folder} name their own; remedy: leave it out")
        return of_run(folder)
    return of_artifact(folder, data)


def of_run(folder: Path) -> Studied:
    """All tasks of a run, each at every density and number of bits: from the float backbone and adapters there."""
    made = load_backbone(folder / "quantized")
    names = task_names(made)
    examples = {name: {split: DATA_SETS[name].load(split) for split in ("train", "test")} for name in names}
    texts = {name: [e.texts for e in of["train"]] for name, of in examples.items()}
    sources = {name: TaskSource(folder / name / "adapters", texts[name]) for name in names}
    whole = {name: load_task(made, made.folder / "tasks" / name) for name in names}
    tokenizer = made.tokenizer_path.read_text(encoding="utf-8")
    tasks = [
        StudiedTask(
            name,
            encode(tokenizer, [e.texts for e in examples[name]["test"]], whole[name].manifest["task"]["max_length"]),
            np.array([e.label for e in examples[name]["test"]]),
            whole[name].manifest["files"]["model.safetensors"]["sha256"][:16],
        )
        for name in names
    ]
    given = made.manifest["metrics"]["quantize"]
    backbone = task_settings(sources[names[0]].folder)["backbone"]

    @functools.cache  # all tasks have one backbone, which is quantized once
    def walked(density: float, bits: int) -> Walked:
        options = Options(**{**given, "density": density}, weight_bits=bits)
        return walk_tasks(backbone, sources, options, lambda step, done, total: None)

    def model(name: str, density: float, bits: int) -> tuple[Mapping, Mapping[str, np.ndarray]]:
        if (density, bits) == (1.0, 4):
            return whole[name].manifest, whole[name].tensors
        return walked(density, bits).model(name)

    return Studied(folder.resolve().name, tasks, model, DENSITIES, WEIGHT_BITS)


def of_artifact(folder: str | Path, data: str | None = None) -> Studied:
    """The one task of an artifact folder, on the test split of data set `data`, or of that which its metrics name.

    An artifact has no float model to be pruned or given other bits, so that density 1 at 4 bits is all it can be made
    at. Raises ArtifactError, DataUnavailable, and ValueError naming what does not fit.
    """
    artifact = load_artifact(folder)
    task, metrics = artifact.manifest["task"], artifact.manifest["metrics"]
    data = data or metrics.get("data")
    if data is None:
        raise ValueError(f"{folder}: metrics.data is missing; remedy: --data, one of {', '.join(DATA_SETS)}")
    if not isinstance(data, str) or data not in DATA_SETS:
        raise ValueError(f"data {data!r} is none of {', '.join(DATA_SETS)}")
    of = DATA_SETS[data]
    if (task["kind"], task["scores"]) != ("sequence", "softmax"):
        fault = f"{folder}: task {task['kind']}, {task['scores']}: an accuracy needs one label a text"
        raise ValueError(f"{fault}; remedy: the artifact of a classifier of a single label")
    if task["labels"] != list(of.labels):
        fault = f"{folder}: its labels are {task['labels']}, the data's {list(of.labels)}"
        raise ValueError(f"{fault}; remedy: --data, the set it was made for")
    examples = of.load("test")
    text = artifact.tokenizer_path.read_text(encoding="utf-8")
    sentences = encode(text, [example.texts for example in examples], task["max_length"])
    digest = artifact.manifest["files"]["model.safetensors"]["sha256"][:16]
    studied = StudiedTask(data, sentences, np.array([example.label for example in examples]), digest)

    def model(name: str, density: float, bits: int) -> tuple[Mapping, Mapping[str, np.ndarray]]:
        if (density, bits) != (1.0, 4):
            raise ValueError(f"{folder}: no float model to make one of density {density:g} and {bits} bits from")
        return artifact.manifest, artifact.tensors

    return Studied(Path(folder).resolve().name, (studied,), model)
