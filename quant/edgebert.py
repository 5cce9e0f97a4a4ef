# SPDX-License-Identifier: Apache-2.0
"""EdgeBERT's training in float (docs/edgebert.md): teacher, deeper, slim, off-ramps, each a folder that is kept.

Every choice is made on dev; the test split is not read here.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from .checkpoint import load_checkpoint
from .datasets import Example
from .deepen import deepen
from .finetune import fine_tune
from .offramps import train_offramps
from .recipe import Recipe
from .sentences import Sentences
from .slim import slim
from .training import versions, write_json

STAGES = ("teacher", "dense", "slim", "offramps")


def float_stages(
    recipe: Recipe,
    names: Sequence[str],
    data: dict[str, list[Example]],
    out: Path,
    *,
    device: str = "cpu",
    console: Console | None = None,
) -> dict:
    """Take the stages that a recipe has, each from where it was left; the report, which is also `out/train.json`.

    `out` gets a Hugging Face folder of each stage's name. On texts without label (data.unlabelled) slim and off-ramps
    follow their teacher too. Raises ValueError for labels of a checkpoint that are not
    `names`, for layers that cannot be, or where a stage was begun with other settings; UnsupportedModel, OSError.
    """
    console = console or Console(stderr=True)
    how = {"seed": recipe.seed, "resume": True, "console": console}
    computed = {**how, "precision": recipe.precision}
    source, logs = recipe.checkpoint, {}
    if source is None:
        source = str(out / "teacher")
        settings = dict(max_length=recipe.data.max_length, device=device, **how)
        logs["teacher"] = fine_tune(data, names, out / "teacher", recipe.finetune, **settings)
    checkpoint = load_checkpoint(source)
    if checkpoint.task.kind != "sequence" or list(checkpoint.task.labels) != list(names):
        raise ValueError(f"{source}: its labels are {checkpoint.task.labels}, the data's {list(names)}")
    read = {split: data[split] for split in ("train", "dev")}
    sentences = Sentences(read, names, checkpoint.tokenizer_json, recipe.data.max_length, device)
    dense = last = Path(source)
    if recipe.deepen is not None:
        logs["dense"] = deepen(last, sentences, out / "dense", recipe.deepen, **computed)
        dense = last = out / "dense"
    unlabelled = recipe.data.load_unlabelled()
    if unlabelled:
        sentences = sentences.with_unlabelled(unlabelled)
    if recipe.slim is not None:
        logs["slim"] = slim(last, sentences, out / "slim", recipe.slim, **computed)
        last = out / "slim"
    if recipe.offramps is not None:
        logs["offramps"] = train_offramps(last, dense, sentences, out / "offramps", recipe.offramps, **computed)
        last = out / "offramps"
    report = {
        "recipe": asdict(recipe),
        "stages": {name: stage_report(log) for name, log in logs.items()},
        "folder": last.name,
        "examples": {s: {name: sentences.labels[s].count(i) for i, name in enumerate(names)} for s in sentences.labels},
        "unlabelled": len(unlabelled),
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    write_json(out / "train.json", report)
    return report


def stage_report(log: dict) -> dict:
    """What a stage came to on dev: `dev_accuracy`, with what it has of density, spans and each layer's accuracy."""
    best = log.get("best", log)
    wanted = ("dev_accuracy", "dev_loss", "density", "heads_off", "mean_span", "layers")
    return {k: best[k] for k in wanted if k in best} | {"wall_seconds": log["wall_seconds"]}
