# SPDX-License-Identifier: Apache-2.0
"""Quantization-aware training: a recipe, from pretrained weights to a trained artifact, in steps that resume.

1. fine-tune in float (finetune.py), 2. quantize by calibration (pipeline.py), 3. train the quantized model
(trainable.py) on the labels and on the float model's answers, 4. measure float, calibrated and trained on the test
split. The test split is used in the last step alone; every choice is made on dev.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors import safe_open

from .artifact import Artifact, load_artifact, save_artifact
from .batch import Batch, make_batch
from .checkpoint import load_checkpoint, settings_of
from .datasets import Example
from .distillation import Teacher, distillation_loss, feature_loss
from .evaluate import float_logits, paired_accuracy, quantized_logits, ramp_logits
from .finetune import fine_tune, score
from .pipeline import quantize_checkpoint
from .pruning import density_report, encoder_matrices, stage_density
from .recipe import Prune, QuantizedTraining, Recipe, RecipeError
from .tokens import Tokens, encode
from .trainable import TrainableModel
from .training import (
    CLIP_NORM,
    check_settings,
    epoch_batches,
    learning_rate,
    load_state,
    save_state,
    save_tensors,
    versions,
    watched,
    write_json,
)
from .vocabulary import drop_unused_words

_WORST = (-1.0, 0.0)  # below every rank
CALIBRATION = 640  # texts of the train split handed to the quantizer
_NO_MATTER = ("data.labels", "exits.firmware")  # kept by another name; one more file, which changes no other


def choose_device(name: str) -> str:
    """ "auto" → "cuda" where there is one. Raises ValueError where "cuda" is asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda': PyTorch sees no GPU here; remedy: device = 'cpu' or 'auto'")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def begin(out: Path, resume: bool, threads: int, device: str) -> str:
    """Set the threads; the device. Raises ValueError where `out` holds something and is not to be resumed."""
    if not resume and out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out}: is not empty; remedy: --resume, or another folder")
    # The momentum of a word that does not occur falls by a tenth a step, and is denormal after some 800: a step over
    # many such words takes several times as long. Before the first product, for threads that are made then inherit it.
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    return choose_device(device)


def train(recipe: Recipe, folder: Path, out: Path, *, resume: bool = False, console: Console | None = None) -> dict:
    """Follow `recipe` (whose tables lie relative to `folder`); the report, which is also `out/train.json`.

    `out` gets `float/` (Hugging Face folder), `calibrated/` and `artifact/` (artifacts); with `resume`, what is there
    already is kept and an unfinished step continues. Raises ValueError naming what does not fit, UnsupportedModel,
    DataUnavailable, OSError.
    """
    console = console or Console(stderr=True)
    device = begin(out, resume, recipe.threads, recipe.device)
    _check_checkpoint(recipe)
    names, data = recipe.data.load(folder)
    _keep_settings(out / "settings.json", recipe, names, data)
    if any((recipe.deepen, recipe.slim, recipe.offramps)):
        from .exit_stages import edgebert  # which itself quantizes and trains by this module

        return edgebert(recipe, names, data, out, device=device, console=console)
    if recipe.tied is not None:
        from .tied_stages import tied

        return tied(recipe, names, data, out, device=device, console=console)
    source = recipe.checkpoint
    if source is None:
        settings = dict(max_length=recipe.data.max_length, seed=recipe.seed, device=device)
        fine_tune(data, names, out / "float", recipe.finetune, resume=True, console=console, **settings)
        source = str(out / "float")
    checkpoint = load_checkpoint(source)
    if checkpoint.task.kind != "sequence" or list(checkpoint.task.labels) != list(names):
        raise ValueError(f"{source}: its labels are {checkpoint.task.labels}, the data's {list(names)}")
    calibrated = calibrate_once(recipe, source, data, out / "calibrated", console)

    text = calibrated.tokenizer_path.read_text(encoding="utf-8")

    def tokens(split: str, tokenizer_json: str) -> list[Tokens]:
        return encode(tokenizer_json, [e.texts for e in data[split]], recipe.data.max_length)

    labels = {s: [e.label for e in data[s]] for s in data}
    teacher = Teacher(drop_unused_words(checkpoint).weights, device)
    log, tensors = train_quantized(
        (calibrated.manifest, calibrated.tensors), {s: tokens(s, text) for s in ("train", "dev")}, labels, teacher,
        recipe.train, prune=recipe.prune, seed=recipe.seed, out=out / "training", resume=resume, device=device,
        console=console,
    )  # fmt: skip

    console.print("test split: float, calibrated and trained")
    truth = np.array(labels["test"])
    in_float = float_logits(checkpoint.weights, tokens("test", checkpoint.tokenizer_json)).numpy().argmax(1) == truth
    sentences, right = tokens("test", text), {}
    for name, values in (("calibrated", calibrated.tensors), ("trained", tensors)):
        right[name] = quantized_logits(calibrated.manifest, values, sentences).numpy().argmax(1) == truth
    report = {
        "recipe": asdict(recipe),
        "training": log,
        "examples": {s: {n: labels[s].count(i) for i, n in enumerate(names)} for s in labels},
        "test": {name: paired_accuracy(in_float, values) for name, values in right.items()},
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": device,
    }
    given = {k: v for k, v in calibrated.manifest.items() if k not in ("format", "version", "tensors", "files")}
    metrics = {"calibration": given["metrics"], "test": report["test"]["trained"], "seed": recipe.seed}
    if recipe.prune is not None:
        report["density"] = density_report(encoder_matrices(calibrated.manifest, tensors), recipe.prune.density)
        metrics["density"] = report["density"]
    save_artifact(out / "artifact", {**given, "metrics": metrics}, tensors, text)
    write_json(out / "train.json", report)
    return report


def _check_checkpoint(recipe: Recipe) -> None:
    """RecipeError where what the recipe begins with is not there, before anything is loaded or written."""
    if recipe.checkpoint is None:
        return
    try:
        found = settings_of(recipe.checkpoint)
    except OSError:
        found = {}
    if not found:  # which a folder without config.json gives too
        fault = f"{recipe.checkpoint!r} is no folder of a model, and no name on the Hugging Face hub that can be read"
        remedy = "train that model first, or name another folder"
        raise RecipeError(f"recipe {recipe.name}", "checkpoint", fault, remedy)


def _keep_settings(path: Path, recipe: Recipe, names: Sequence[str], data: dict[str, list[Example]]) -> None:
    """Write what decides the run, or hold it against what the run was begun with. Raises ValueError naming fields."""
    kept: dict = {"seed": recipe.seed, "checkpoint": recipe.checkpoint, "data.labels": list(names)}
    tables = ("data", "finetune", "quantize", "train", "prune", "deepen", "slim", "offramps", "exits", "tied")
    for table in (table for table in tables if getattr(recipe, table) is not None):
        fields = asdict(getattr(recipe, table))
        kept |= {f"{table}.{name}": value for name, value in fields.items() if f"{table}.{name}" not in _NO_MATTER}
    for split, examples in data.items():
        kept[f"examples.{split}.sha256"] = hashlib.sha256(repr(examples).encode()).hexdigest()
    kept = json.loads(json.dumps(kept))  # tuples as they come back
    if path.is_file():
        check_settings(path, json.loads(path.read_text(encoding="utf-8")), kept)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, kept)


def calibrate_once(
    recipe: Recipe, source: str, data: dict, out: Path, console: Console, density: float | None = None
) -> Artifact:
    """The quantized but untrained model, made unless it is there already. density: of a model that is pruned."""
    if not out.is_dir():
        console.print("calibrating")
        texts = [e.texts for e in data["train"][:CALIBRATION]]
        options = asdict(recipe.quantize)
        if density is None and recipe.prune is not None and recipe.prune.ramp == 0:
            density = recipe.prune.density
            options["pattern"] = recipe.prune.pattern
        if density is not None:
            options["density"] = density
        options["tied"] = recipe.tied is not None
        quantize_checkpoint(source, texts, out, **options)  # up to 128 tokens, however short the training texts
    return load_artifact(out)


def train_quantized(
    calibrated: tuple[dict, dict[str, np.ndarray]],
    tokens: dict[str, Sequence[Tokens]],
    labels: dict[str, Sequence[int]],
    teacher: Teacher,
    settings: QuantizedTraining,
    *,
    prune: Prune | None = None,
    seed: int,
    out: Path,
    resume: bool = False,
    device: str = "cpu",
    console: Console | None = None,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Train a calibrated (manifest, tensors) on tokens["train"]; the log, and the tensors of the epoch best on dev.

    `out` holds the state of the last epoch and the tensors of the best; with `resume` training goes on from there.
    With `prune` the best is among the epochs that end with its density.
    """
    console = console or Console(stderr=True)
    manifest, tensors = calibrated
    last, best = out / "last.safetensors", out / "best.safetensors"
    model = TrainableModel(manifest, tensors, device, seed)
    optimizer = torch.optim.AdamW(list(model.parameters.values()), lr=0.0, weight_decay=0.0)
    kept = {**asdict(settings), "seed": seed, **({} if prune is None else {"prune": asdict(prune)})}
    if resume and last.is_file():
        log = load_state(last, model.parameters, optimizer, kept)
    else:
        out.mkdir(parents=True, exist_ok=True)
        log = {"settings": kept, "calibrated": _on_dev(manifest, tensors, tokens, labels), "epochs": []}
        console.print("calibrated, dev: " + _shown(log["calibrated"]))
    lengths = [len(s.ids) for s in tokens["train"]]
    per_epoch = -(-len(lengths) // settings.batch)

    def density(step: int) -> float | None:
        """Of the weights at a step; None prunes nothing."""
        return prune and stage_density(step, settings.epochs * per_epoch, prune.density, prune.ramp)

    def ranks() -> list[tuple[float, float]]:
        """Of each epoch; one that ends denser than it shall is none to keep."""
        ended = [
            density((i + 1) * per_epoch - 1) == density(settings.epochs * per_epoch) for i in range(len(log["epochs"]))
        ]
        return [_rank(entry) if done else _WORST for entry, done in zip(log["epochs"], ended, strict=True)]

    for epoch in range(len(log["epochs"]), settings.epochs):
        begun, total, step = time.monotonic(), 0.0, epoch * per_epoch
        held = None  # the masks follow from the parameters, so that a resumed run has the same
        batches = epoch_batches(lengths, settings.batch, seed, epoch)
        for rows, show in watched(batches, len(batches), f"quantized, epoch {epoch + 1}/{settings.epochs}", console):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, settings.epochs * per_epoch, settings.learning_rate)
            if (wanted := density(step)) != held:
                model.prune(held := wanted, prune.pattern)
            target = torch.tensor([labels["train"][i] for i in rows], device=device)
            loss = _loss(model, teacher, make_batch([tokens["train"][i] for i in rows], device), target, settings)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters.values(), CLIP_NORM)
            optimizer.step()
            model.hold()
            total += loss.item() * len(rows)
            step += 1
            show(loss.item())
        now = model.tensors()
        entry = {"train_loss": total / len(lengths), **_on_dev(manifest, now, tokens, labels)}
        entry["weights_moved"] = model.moved()
        entry["seconds"] = round(time.monotonic() - begun, 1)
        if prune is not None:
            entry["density"] = density_report(encoder_matrices(manifest, now), prune.density)["achieved"]
        log["epochs"].append(entry)
        *earlier, rank = ranks()
        if rank > max(earlier, default=_WORST):
            save_tensors(best, {name: torch.from_numpy(np.array(t)) for name, t in now.items()})
        save_state(last, model.parameters, optimizer, log)
        console.print(f"quantized, epoch {epoch + 1}/{settings.epochs}: {_shown(entry)}")
    log["best_epoch"] = ranks().index(max(ranks())) + 1
    log["wall_seconds"] = round(sum(entry["seconds"] for entry in log["epochs"]), 1)
    with safe_open(best, "np") as file:
        return log, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _loss(
    model: TrainableModel, teacher: Teacher, batch: Batch, target: torch.Tensor, settings: QuantizedTraining
) -> torch.Tensor:
    scales = model.manifest["scales"]
    taps: dict[str, torch.Tensor] = {}
    logits = model.forward(batch, taps.__setitem__) * scales["logits"]
    wanted, rows = teacher(batch)
    ramps = logits.unbind(dim=1) if model.manifest["exits"] else [logits]  # each follows the float model's last answer
    losses = [distillation_loss(of, target, wanted, settings.distillation, settings.temperature) for of in ramps]
    loss = torch.stack(losses).mean()
    return loss + settings.features * feature_loss(taps[teacher.last] * scales["activations"][teacher.last], rows)


def _on_dev(manifest: dict, tensors: dict, tokens: dict, labels: dict) -> dict:
    """Accuracy and loss of the model's own answer, and with off-ramps their means over all layers."""
    if not manifest["exits"]:
        found = score(quantized_logits(manifest, tensors, tokens["dev"]), labels["dev"])
        return {"dev_accuracy": found["accuracy"], "dev_loss": found["loss"]}
    logits = torch.from_numpy(ramp_logits(manifest, tensors, tokens["dev"])) * manifest["scales"]["logits"]
    every = [score(of, labels["dev"]) for of in logits.unbind(dim=1)]
    last = every[-1]
    means = {f"mean_{name}": float(np.mean([found[name] for found in every])) for name in ("accuracy", "loss")}
    return {"dev_accuracy": last["accuracy"], "dev_loss": last["loss"], **means}


def _rank(entry: dict) -> tuple[float, float]:
    """Of all answers that the model gives."""
    kind = "mean" if "mean_accuracy" in entry else "dev"
    return entry[f"{kind}_accuracy"], -entry[f"{kind}_loss"]


def _shown(entry: dict) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in entry.items())
