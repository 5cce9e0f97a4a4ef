# SPDX-License-Identifier: Apache-2.0
"""Many tasks over one backbone (docs/tasks.md): adapters, their integers, and what they cost in accuracy beside
training all of it.

Every choice is made on dev; the test split is measured at the end.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification

from .backbone import make_backbone
from .datasets import DATA_SETS, SPLITS, DataSet, Example
from .evaluate import paired_bootstrap
from .finetune import base_model, base_tokenizer, fine_tune, predict
from .sentences import Sentences
from .task_recipe import TasksRecipe
from .task_stages import quantized_stages, shown_point, summary
from .task_training import load_task, train_task
from .tokens import encode
from .train import begin
from .training import versions, write_json

DEV = 500  # texts of each task that the backbone's epochs are compared on
WAYS = {
    "base": "the base, all of it trained",
    "full": "the backbone, all of it trained",
    "adapters": "adapters on the frozen backbone",
}


def follow_tasks(recipe: TasksRecipe, out: Path, *, resume: bool = False, console: Console | None = None) -> dict:
    """Follow a recipe of tasks; the report, which is also `out/tasks.json`.

    `out` gets `backbone/`, for each task a folder with `base/`, `full/` (Hugging Face folders), `adapters/` and
    `ramps/`, and the quantized `quantized/`, `sparse/` and `artifact/` (task_stages.py).
    With `resume` what is there is kept and an unfinished training goes on. Raises ValueError, UnsupportedModel,
    DataUnavailable, OSError.
    """
    console = console or Console(stderr=True)
    device = begin(out, resume, recipe.threads, recipe.device)
    sets = {name: DATA_SETS[name] for name in recipe.sets}
    data = {name: {split: of.load(split) for split in SPLITS} for name, of in sets.items()}
    how = {"seed": recipe.seed, "resume": True, "console": console}
    logs: dict[str, dict] = {}
    backbone = recipe.checkpoint
    if backbone is None:
        read = _texts(sets, data)
        tokenizer_json = base_tokenizer(base_model(recipe.backbone.base)).backend_tokenizer.to_str()
        sentences = Sentences(read, ("0", "1"), tokenizer_json, recipe.max_length, device)
        settings = dict(precision=recipe.precision, **how)
        logs["backbone"] = make_backbone(sentences, out / "backbone", recipe.backbone, **settings)
        backbone = str(out / "backbone")
    tokenizer_json = base_tokenizer(base_model(backbone)).backend_tokenizer.to_str()
    logs_of: dict[str, dict] = {}
    sentences: dict[str, Sentences] = {}
    for name, of in sets.items():  # first: the rest is what they are compared with
        console.print(f"task {name}")
        read = {split: data[name][split] for split in ("train", "dev")}
        sentences[name] = Sentences(read, of.labels, tokenizer_json, recipe.max_length, device)
        settings = dict(precision=recipe.precision, **how)
        log = train_task(backbone, sentences[name], out / name / "adapters", recipe.adapters, **settings)
        logs_of[name] = {"adapters": log}
    integers = quantized_stages(recipe, backbone, data, sentences, out, console)
    tasks = {}
    for name, of in sets.items():
        _compared_with(recipe, of, data[name], backbone, logs_of[name], out / name, device, how)
        tasks[name] = _task(
            of, data[name]["test"], backbone, sentences[name], logs_of[name], integers[name], out / name
        )
    report = {
        "recipe": asdict(recipe),
        "backbone": logs.get("backbone"),
        "tasks": tasks,
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    write_json(out / "tasks.json", report)
    return report


def _texts(sets: dict[str, DataSet], data: dict[str, dict[str, list[Example]]]) -> dict[str, list[Example]]:
    """What the backbone reads: every train text, and those that have no label; some of every dev split."""
    train = [example for of in data.values() for example in of["train"]]
    for of in sets.values():
        if of.unlabelled is not None:
            train += [Example(text, 0) for text in of.unlabelled()]
    return {"train": train, "dev": [example for of in data.values() for example in of["dev"][:DEV]]}


def _compared_with(
    recipe: TasksRecipe,
    of: DataSet,
    data: dict[str, list[Example]],
    backbone: str,
    logs: dict[str, dict],
    out: Path,
    device: str,
    how: dict,
) -> None:
    """Train a task in the other WAYS; their logs join `logs`."""
    trained = dict(max_length=recipe.max_length, device=device, precision=recipe.precision, **how)
    bases = {"full": backbone} if recipe.checkpoint is not None else {"base": recipe.backbone.base, "full": backbone}
    for way, base in bases.items():
        logs[way] = fine_tune(data, of.labels, out / way, replace(recipe.finetune, base=base), **trained)


def _task(
    of: DataSet,
    test: list[Example],
    backbone: str,
    sentences: Sentences,
    logs: dict[str, dict],
    integers: dict,
    out: Path,
) -> dict:
    """Accuracies of a task on the test split, of adapters against the other ways in points, and of its integers."""
    texts = encode(sentences.tokenizer_json, [e.texts for e in test], sentences.max_length)
    truth = np.array([e.label for e in test])
    right = {way: _answers(out / way, texts, backbone if way == "adapters" else None) == truth for way in logs}
    found = {}
    for way, log in logs.items():
        low, high = paired_bootstrap(right[way], right["adapters"])
        found[way] = {
            "test_accuracy": float(right[way].mean()),
            "dev_accuracy": max(entry["dev_accuracy"] for entry in log["epochs"]),
            "adapters_lose_points": 100 * float(right[way].mean() - right["adapters"].mean()),
            "interval_points": [-100 * high, -100 * low],
            "wall_seconds": log["wall_seconds"],
        }
    return {
        "labels": list(of.labels),
        "test_sentences": len(truth),
        "parameters": logs["adapters"]["parameters"],
        **found,
        **summary(right["adapters"], integers),
    }


def _answers(folder: Path, texts: Sequence, backbone: str | None) -> np.ndarray:
    """Each text's label, int64 [texts]."""
    if backbone is not None:
        return load_task(backbone, folder).logits(texts).argmax(dim=1).numpy()
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False, dtype=torch.float32)
    return predict(model, texts).argmax(dim=1).numpy()


def table(report: dict) -> Table:
    """The report's accuracies on the test split."""
    shown = Table(box=box.SIMPLE_HEAD, title="accuracy on the test split, measured")
    shown.add_column("task")
    ways = [way for way in WAYS if any(way in of for of in report["tasks"].values())]
    point = shown_point(report["recipe"]["sparse"]["losses"])
    density = report["recipe"]["sparse"]["density"]
    for title in (
        *(WAYS[way] for way in ways),
        "adapters lose to all of it trained, points (95 %)",
        "adapters, fully quantized",
        f"and pruned to {density:.0%}",
        f"and leaving early (point {point})",
        "mean layer",
    ):
        shown.add_column(title, justify="right")
    for name, of in report["tasks"].items():
        low, high = of["full"]["interval_points"]
        lost = f"{of['full']['adapters_lose_points']:+.1f} ({low:+.1f} to {high:+.1f})"
        early = of["points"][point]["test"]
        integers = (of["quantized"]["test_accuracy"], of["sparse"]["test_accuracy"], early["accuracy"])
        cells = (f"{accuracy:.1%}" for accuracy in (*(of[way]["test_accuracy"] for way in ways),))
        shown.add_row(name, *cells, lost, *(f"{x:.1%}" for x in integers), f"{early['mean_layer']:.2f}")
    return shown
