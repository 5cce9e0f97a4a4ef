# SPDX-License-Identifier: Apache-2.0
"""Quantize a backbone with its tasks, or one more task for a backbone that is quantized already (docs/tasks.md)."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .adapters import Adapting, with_task
from .artifact import ArtifactError
from .checkpoint import Checkpoint, Linear, ModelWeights, Ramp, Task, read_tokenizer
from .codes import Code, Quantized
from .compare import compare
from .options import Options
from .quantize import architecture_fields, exit_fields, steps
from .student import encoder
from .task_artifact import Backbone, load_backbone, load_task, save_backbone, save_task
from .task_manifest import is_name
from .task_training import FILE
from .task_walk import FloatTask, TaskWalk, rounded_task
from .tokens import Texts, encode
from .vocabulary import drop_unused_words

SENTENCES = 512  # calibrated on, of all tasks together
COMPARED = 128  # further texts of each task, for the report
_ANY = Task("sequence", "softmax", ["0", "1"])  # an encoder has no task


@dataclass(frozen=True)
class TaskSource:
    """A float task: the folder of task.safetensors and task.json (task_training.py), and texts of its train split.

    `ramps`: tensors "{i}.weight" [labels, hidden], "{i}.bias" of off-ramps behind all layers but the last, if any.
    """

    folder: Path
    texts: Sequence[Texts]
    ramps: Mapping[str, torch.Tensor] = field(default_factory=dict)


def quantize_tasks(
    backbone: str | Path,
    tasks: Mapping[str, TaskSource],
    out: Path,
    *,
    name: str,
    options: Options | None = None,
    on_step: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict:
    """Quantize the encoder `backbone` (folder or hub name) and its tasks to the folder `out`; the report by task.

    Raises UnsupportedModel, ArtifactError, OSError, and ValueError where tasks do not go together or `out` holds
    something; it is there whole or not at all.
    """
    begun = time.monotonic()
    _check_free(out)
    walked = walk_tasks(backbone, tasks, options or Options(), on_step)
    checkpoint, walk = walked.checkpoint, walked.walk
    stage = out.with_name(f".{out.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    try:
        fields = backbone_fields(name, walked)
        made = load_backbone(save_backbone(stage, fields, walk.t, checkpoint.tokenizer_json))
        report = {}
        for part in walk.parts:
            task, settings = part.task.name, walked.settings[part.task.name]
            fields = task_fields(part.task, settings, made.name, made.sha256, part.made.codes)
            save_task(stage / "tasks" / task, fields, part.made.tensors)
            codes, texts = walk.codes | part.made.codes, tasks[task].texts[len(part.task.sentences) :][:COMPARED]
            on_step(f"comparison, {task}", walked.steps, walked.steps)
            whole = load_task(made, stage / "tasks" / task)
            report[task] = _compared(part.task, Quantized(whole.manifest, whole.tensors, codes), checkpoint, texts)
        os.replace(stage, out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return {"seconds": round(time.monotonic() - begun, 1), "tasks": report}


@dataclass(frozen=True)
class Walked:
    """A backbone and its tasks after the walk: `walk.t` are the backbone's tensors, `walk.parts` have the tasks'."""

    checkpoint: Checkpoint
    source: str
    settings: Mapping[str, Mapping]
    adapting: Adapting
    options: Options
    walk: TaskWalk
    steps: int

    def model(self, task: str) -> tuple[dict, dict[str, np.ndarray]]:
        """Manifest (as far as FakeQuantModel reads it) and tensors of a task's whole model."""
        [part] = [part for part in self.walk.parts if part.task.name == task]
        fields = task_fields(part.task, self.settings[task], "", "", part.made.codes)
        return {**backbone_fields("", self), **fields}, self.walk.t | part.made.tensors


def walk_tasks(
    backbone: str | Path, tasks: Mapping[str, TaskSource], options: Options, on_step: Callable[[str, int, int], None]
) -> Walked:
    """Quantize in memory. Raises UnsupportedModel, ValueError, OSError."""
    settings = {task: task_settings(source.folder) for task, source in tasks.items()}
    adapting = _common(settings, tasks)
    checkpoint = float_backbone(backbone)
    weights = checkpoint.weights
    count = SENTENCES // len(tasks)
    floats = [float_task(task, source, checkpoint, settings[task], count) for task, source in tasks.items()]
    options = options.checked(weights.architecture.hidden)
    total, done = steps(weights), 0

    def step(what: str) -> None:
        nonlocal done
        on_step(what, done, total)
        done += 1

    with torch.inference_mode():
        walk = TaskWalk(weights, floats, adapting, options, step)
        walk.run()
    return Walked(checkpoint, Path(backbone).name, settings, adapting, options, walk, total)


def add_float_task(backbone: Path, name: str, source: TaskSource, float_source: str | Path | None = None) -> Path:
    """Quantize one more task for the quantized `backbone`, whose files stay as they are; its folder in tasks/.

    `float_source`: the float encoder that the task was trained on, else what its task.json names. Raises
    UnsupportedModel, ArtifactError, OSError, ValueError, also where that encoder is not the backbone's.
    """
    if not is_name(name):
        raise ValueError(f"a task {name!r}: letters, digits, _ . and - are needed; remedy: another --name")
    made = load_backbone(backbone)
    settings = task_settings(source.folder)
    _check_form(name, settings, made)
    checkpoint = float_backbone(float_source or settings["backbone"])
    if digest(checkpoint.weights) != made.manifest["metrics"].get("source_sha256"):
        fault = f"task {name} was trained on {float_source or settings['backbone']}"
        raise ValueError(f"{fault}, which is not what backbone {made.name} was made of; remedy: train it on that one")
    task = float_task(name, source, checkpoint, settings, SENTENCES)
    with torch.inference_mode():
        tensors = rounded_task(task, made.manifest, made.tensors)
    target = made.folder / "tasks" / name
    if target.exists():
        raise ArtifactError(
            target, "folder", f"a task {name} is there already", "another --name, or remove that folder"
        )
    return save_task(target, task_fields(task, settings, made.name, made.sha256, tensors.codes), tensors.tensors)


def float_backbone(source: str | Path) -> Checkpoint:
    """The float encoder without the words that no text can produce; its head answers nothing."""
    weights = encoder(str(source)).weights
    with torch.no_grad():
        weights = replace(weights, classifier=Linear(weights.classifier.weight[:2], weights.classifier.bias[:2]))
    return drop_unused_words(Checkpoint(weights, _ANY, read_tokenizer(source, weights.architecture.vocab)))


def digest(weights: ModelWeights) -> str:
    """Of a float encoder's matrices and words: which backbone a task was trained on."""
    found = hashlib.sha256()
    for name, linear in weights.linears():
        if name != "classifier":
            found.update(linear.weight.detach().numpy().tobytes())
    found.update(weights.word.detach().numpy().tobytes())
    return found.hexdigest()


def task_settings(folder: Path) -> dict:
    """`settings` of a float task's task.json. Raises ValueError naming the file and what is wrong."""
    file = folder / "task.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))["settings"]
        needed = {"width", "activation", "shared", "labels", "backbone"}
        if missing := sorted(needed - settings.keys()):
            raise ValueError(f"settings.{missing[0]} is missing")
    except (ValueError, KeyError, TypeError) as error:
        remedy = "a folder that `zynqbert train` or import_adapter wrote"
        raise ValueError(f"{file}: no float task ({error}); remedy: {remedy}") from None
    return settings


def adapting_of(settings: Mapping) -> Adapting:
    """The form of a float task's adapters."""
    return Adapting(**{name: settings[name] for name in ("width", "activation", "shared")})


def float_task(name: str, source: TaskSource, checkpoint: Checkpoint, settings: Mapping, sentences: int) -> FloatTask:
    """The task over its backbone, with `sentences` texts to calibrate on."""
    file = source.folder / FILE
    try:
        weights = with_task(checkpoint.weights, load_file(file), adapting_of(settings))
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{file}: no task of this backbone ({error}); remedy: train it on this one") from None
    if source.ramps:
        ramps = range(weights.architecture.layers - 1)
        weights.ramps = [Ramp(None, Linear(source.ramps[f"{i}.weight"], source.ramps[f"{i}.bias"])) for i in ramps]
    tokens = encode(checkpoint.tokenizer_json, source.texts[:sentences], _length(settings, weights))
    return FloatTask(name, weights, Task("sequence", "softmax", list(settings["labels"])), tokens)


def _length(settings: Mapping, weights: ModelWeights) -> int:
    return min(settings.get("max_length") or 128, weights.architecture.positions)


def backbone_fields(name: str, walked: Walked) -> dict:
    """A backbone's manifest; its `scales.activations` are the grids that later tasks are rounded to."""
    a, options, walk = walked.checkpoint.weights.architecture, walked.options, walked.walk
    made = {
        field: getattr(options, field) for field in ("word_bits", "word_format", "word_density", "softmax", "density")
    }
    return {
        "name": name,
        "architecture": architecture_fields(a, options),
        "entries": walk.entries,
        "scales": {"activations": {tap: float(np.mean(code.scale)) for tap, code in walk.codes.items()}},
        "softmax": options.softmax,
        "spans": a.spans and [list(of_layer) for of_layer in a.spans],
        "adapters": {
            "width": walked.adapting.width,
            "activation": walked.adapting.activation,
            "owners": walk.owners,
        },
        "metrics": {"source": walked.source, "source_sha256": digest(walked.checkpoint.weights), "quantize": made},
    }


def task_fields(task: FloatTask, settings: Mapping, name: str, sha256: str, codes: Mapping[str, Code]) -> dict:
    """The manifest of a task on the backbone of this name and hash."""
    logits = float(codes["logits"].scale)
    labels, length = task.task.labels, _length(settings, task.weights)
    return {
        "name": task.name,
        "backbone": {"name": name, "sha256": sha256},
        "task": {"kind": "sequence", "scores": "softmax", "labels": labels, "max_length": length},
        "exits": exit_fields(logits, len(labels), pooler=False) if task.weights.ramps else None,
        "scales": {"logits": logits, "activations": {tap: float(np.mean(code.scale)) for tap, code in codes.items()}},
        "metrics": {},
    }


def _compared(task: FloatTask, quantized: Quantized, checkpoint: Checkpoint, texts: Sequence[Texts]) -> dict:
    """Float and integer answers on texts that were not calibrated on."""
    if not texts:
        return {}
    tokens = encode(checkpoint.tokenizer_json, texts, quantized.manifest["task"]["max_length"])
    return compare(task.weights, quantized, tokens)


def _common(settings: Mapping[str, Mapping], tasks: Mapping[str, TaskSource]) -> Adapting:
    first, *others = ((task, adapting_of(of)) for task, of in settings.items())
    for task, form in others:
        if form != first[1]:
            file = tasks[task].folder / "task.json"
            raise ValueError(f"{file}: adapters of {form}, {first[0]} has {first[1]}; remedy: train all tasks alike")
    return first[1]


def _check_form(name: str, settings: Mapping, backbone: Backbone) -> None:
    wanted = backbone.manifest["adapters"]
    if (settings["width"], settings["activation"]) != (wanted["width"], wanted["activation"]):
        found, needed = (f"width {of['width']}, {of['activation']}" for of in (settings, wanted))
        raise ValueError(f"task {name} has adapters of {found}, backbone {backbone.name} takes {needed}")


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is not empty; remedy: another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
