# SPDX-License-Identifier: Apache-2.0
"""From an ALBERT to an artifact that continuous batching runs (docs/continuous.md).

Train every layer's answer, quantize all layers as one, choose thresholds on dev, and measure on the test split, which
is read for nothing else.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from .artifact import save_artifact
from .checkpoint import load_checkpoint
from .datasets import Example
from .edgebert import stage_report
from .evaluate import paired_accuracy
from .every_layer import train_every_layer
from .exit_answers import Answers
from .exit_stages import FILLED_IN
from .finetune import fine_tune
from .recipe import Recipe
from .sentences import Sentences
from .thresholds import measure, threshold_report
from .train import calibrate_once
from .training import versions, write_json


def tied(
    recipe: Recipe,
    names: Sequence[str],
    data: dict[str, list[Example]],
    out: Path,
    *,
    device: str = "cpu",
    console: Console | None = None,
) -> dict:
    """Follow a recipe with a [tied] table; the report, which is also `out/train.json`.

    `out` gets `teacher/` and `float/` (Hugging Face folders), `calibrated/` and `artifact/`; what is there already is
    kept. Raises ValueError naming what does not fit, UnsupportedModel, ArtifactError, OSError.
    """
    console = console or Console(stderr=True)
    how = {"seed": recipe.seed, "resume": True, "console": console}
    settings = dict(max_length=recipe.data.max_length, device=device, precision=recipe.precision, **how)
    logs = {"teacher": fine_tune(data, names, out / "teacher", recipe.finetune, **settings)}
    teacher, begun = load_checkpoint(out / "teacher"), load_checkpoint(recipe.checkpoint)
    read = {split: data[split] for split in ("train", "dev")}
    sentences, taught = (
        Sentences(read, names, of.tokenizer_json, recipe.data.max_length, device) for of in (begun, teacher)
    )
    if sentences.tokens != taught.tokens:
        fault = f"{recipe.checkpoint}: its tokens are not those of {recipe.finetune.base}, which teaches it"
        raise ValueError(f"{fault}; remedy: finetune.base of the same vocabulary")
    logs["float"] = train_every_layer(
        recipe.checkpoint, teacher.weights, sentences, out / "float", recipe.tied, precision=recipe.precision, **how
    )
    made = calibrate_once(recipe, str(out / "float"), data, out / "calibrated", console)
    answers = Answers(data, recipe.data.max_length, out / "answers", console)
    chosen = threshold_report(answers.ramps("tied", made, "dev"), recipe.tied.losses)
    test = answers.ramps("tied", made, "test")
    in_float = {name: answers.float_right(name, str(out / name), "test") for name in ("teacher", "float")}
    points = {
        name: {**at, "foretold": None, "test": measure(test, at["threshold"])} for name, at in chosen["points"].items()
    }
    manifest = {k: v for k, v in made.manifest.items() if k not in FILLED_IN}
    manifest["exits"] = {**manifest["exits"], "points": points}
    metrics = {"data": recipe.data.set, "test_accuracy": float(test.right[:, -1].mean()), "seed": recipe.seed}
    manifest["metrics"] = {**manifest["metrics"], **metrics, "test_sentences": len(test.right)}
    text = made.tokenizer_path.read_text(encoding="utf-8")
    artifact = save_artifact(out / "artifact", manifest, dict(made.tensors), text)
    report = {
        "recipe": asdict(recipe),
        "stages": {name: stage_report(log) for name, log in logs.items()},
        "folder": artifact.name,
        "exits": {**chosen, "points": points},
        "test": {
            "float": paired_accuracy(in_float["teacher"], in_float["float"]),
            "quantized": paired_accuracy(in_float["float"], test.right[:, -1]),
            "layers": [float(layer) for layer in test.right.mean(axis=0)],
        },
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    write_json(out / "train.json", report)
    return report
