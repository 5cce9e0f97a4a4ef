# SPDX-License-Identifier: Apache-2.0
"""From a float model with off-ramps to an artifact whose sentences leave early (docs/edgebert.md).

Quantize, train the integers if the recipe says so, choose thresholds and predictors on dev, and then measure what was
chosen on the test split, which is read for nothing else. The models before it, dense and slim, are quantized alike, so
that each step can be compared. Whatever is there already is kept.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console
from safetensors.torch import load_file

from . import exit_plot, exit_predictor_hls, stage_table
from .artifact import Artifact, load_artifact, save_artifact
from .checkpoint import load_checkpoint
from .datasets import Example
from .distillation import Teacher
from .edgebert import float_stages
from .evaluate import paired_accuracy, paired_bootstrap
from .exit_answers import Answers, digest
from .exit_predictor import LIKELIEST, Exits, foretell, foretold_points, network
from .recipe import Prune, Recipe
from .temperature import temperatures, tempered
from .thresholds import Ramps, exit_layers, measure, point_name, right_at, threshold_report
from .train import calibrate_once, train_quantized
from .training import check_settings, save_tensors, versions, write_json
from .vocabulary import drop_unused_words

RAMPS = "offramps"  # the stage that becomes the artifact
FOLDERS = {"dense": "dense-calibrated", "slim": "slim-calibrated", RAMPS: "calibrated"}  # of the stages' artifacts
FILLED_IN = ("format", "version", "tensors", "files")  # by save_artifact


def edgebert(
    recipe: Recipe,
    names: Sequence[str],
    data: dict[str, list[Example]],
    out: Path,
    *,
    device: str = "cpu",
    console: Console | None = None,
) -> dict:
    """Follow a recipe that has stages; the report, which is also `out/train.json`.

    Without [exits] it ends with the last float folder. With it `out` gets an artifact of each stage (FOLDERS),
    `artifact/` with the operating points, `exits.json` and `.svg`, `steps.json` and `.md`, and where the recipe wants
    it the hls4ml project `predictor/`. Raises ValueError naming what does not fit, UnsupportedModel, ArtifactError,
    OSError.
    """
    console = console or Console(stderr=True)
    if recipe.exits is not None and recipe.exits.firmware is not None:
        exit_predictor_hls.check_installed()
    report = float_stages(recipe, names, data, out, device=device, console=console)
    if recipe.exits is None:
        return report
    sources = {stage: str(out / stage) for stage in FOLDERS if stage in report["stages"]}
    if "dense" not in sources:  # nothing was deepened: the rest began with this one
        sources = {"dense": recipe.checkpoint or str(out / "teacher"), **sources}
    # below 1 the zeros of a slim model stay what they are
    densities = {"dense": 1.0}  # what the others are compared with, even where [prune] takes from those
    if recipe.slim is not None:
        densities |= dict.fromkeys(("slim", RAMPS), recipe.slim.density)
    artifacts = {
        s: calibrate_once(recipe, source, data, out / FOLDERS[s], console, densities.get(s))
        for s, source in sources.items()
    }
    answers = Answers(data, recipe.data.max_length, out / "answers", console)
    if recipe.train is not None:
        made = artifacts[RAMPS]
        artifacts[RAMPS] = _trained(recipe, sources[RAMPS], made, answers, out, device, console)
    last = artifacts[RAMPS] = _tempered(artifacts[RAMPS], answers, out)
    chosen = choose(recipe.exits, recipe.seed, last, answers, out, console)
    exit_plot.draw(chosen, out / "exits.svg")

    steps = {split: step_rows(split, sources, artifacts, chosen["points"], answers) for split in ("dev", "test")}
    test = answers.ramps(RAMPS, last, "test")
    points = _tested(chosen["points"], test, last.manifest["exits"]["row_shift"])
    manifest = {k: v for k, v in last.manifest.items() if k not in FILLED_IN}
    manifest["exits"] = {**manifest["exits"], "points": points}
    manifest["metrics"] = {**manifest["metrics"], "steps": steps, "seed": recipe.seed}
    text = last.tokenizer_path.read_text(encoding="utf-8")
    artifact = save_artifact(out / "artifact", manifest, dict(last.tensors), text)
    report |= {
        "exits": {**chosen, "points": points},
        "steps": steps,
        "test": {
            stage: paired_accuracy(answers.float_right(stage, sources[stage], "test"), answers.right(stage, of, "test"))
            for stage, of in artifacts.items()
        },
        "folder": artifact.name,
        "versions": versions(),
    }
    if recipe.exits.firmware is not None:
        report["predictor"] = _firmware(recipe.exits, recipe.seed, load_artifact(artifact), artifact, out, test)
    write_json(out / "steps.json", steps)
    pages = [f"## {split}\n\n{stage_table.markdown(rows, split)}" for split, rows in steps.items()]
    partial = out / "steps.md.partial"
    partial.write_text("\n".join(pages), encoding="utf-8")
    partial.replace(out / "steps.md")
    write_json(out / "train.json", report)
    return report


def _trained(
    recipe: Recipe, source: str, made: Artifact, answers: Answers, out: Path, device: str, console: Console
) -> Artifact:
    """The quantized model trained on (`training/`, then `trained/`): no matrix gets denser than slim allows."""
    if not (out / "trained").is_dir():
        text = made.tokenizer_path.read_text(encoding="utf-8")
        log, tensors = train_quantized(
            (made.manifest, made.tensors),
            {split: answers.tokens(split, text) for split in ("train", "dev")},
            {split: answers.labels(split).tolist() for split in ("train", "dev")},
            Teacher(drop_unused_words(load_checkpoint(source)).weights, device),
            recipe.train,
            prune=recipe.prune if recipe.slim is None else Prune(recipe.slim.density),
            seed=recipe.seed,
            out=out / "training",
            resume=True,
            device=device,
            console=console,
        )
        given = {k: v for k, v in made.manifest.items() if k not in FILLED_IN}
        save_artifact(out / "trained", {**given, "metrics": {**given["metrics"], "training": log}}, tensors, text)
    return load_artifact(out / "trained")


def _tempered(made: Artifact, answers: Answers, out: Path) -> Artifact:
    """The model whose off-ramps are as sure on dev as they are right there (`tempered/`)."""
    logits = answers.logits("untempered", made, "dev") * made.manifest["scales"]["logits"]
    found = temperatures(logits, answers.labels("dev"))
    given = {k: v for k, v in made.manifest.items() if k not in FILLED_IN}
    metrics = {**given["metrics"], "temperatures": [round(float(t), 4) for t in found]}
    text = made.tokenizer_path.read_text(encoding="utf-8")
    return load_artifact(
        save_artifact(out / "tempered", {**given, "metrics": metrics}, tempered(made.tensors, found), text)
    )


def choose(exits: Exits, seed: int, artifact: Artifact, answers: Answers, out: Path, console: Console) -> dict:
    """Thresholds and predictors on dev: `exits.json`, and the networks in `predictor.safetensors`.

    What is there already is kept. Raises ValueError where it was made with other settings or of another model.
    """
    path = out / "exits.json"
    decides = {name: value for name, value in asdict(exits).items() if name != "firmware"}
    settings = json.loads(json.dumps({**decides, "seed": seed, "model": digest(artifact)}))
    if path.is_file():
        report = json.loads(path.read_text(encoding="utf-8"))
        check_settings(path, report["settings"], settings)
        return report
    dev, train = answers.ramps(RAMPS, artifact, "dev"), answers.ramps(RAMPS, artifact, "train", exits.sentences)
    report = {"settings": settings, "train_sentences": len(train.right), **threshold_report(dev, exits.losses)}
    found = foretold_points(
        train, dev, artifact.manifest["exits"]["row_shift"], exits.losses, exits, seed,
        lambda done, total: console.print(f"predictor: threshold {done + 1} of {total}"),
    )  # fmt: skip
    tensors = {}
    for name, (foretold, model) in found.items():
        report["points"][name]["foretold"] = foretold
        tensors |= {f"{name}/{field}": value.clone() for field, value in model.state_dict().items()}
    save_tensors(out / "predictor.safetensors", tensors)
    write_json(path, report)  # after everything else
    return report


def step_rows(
    split: str, sources: Mapping[str, str], artifacts: Mapping[str, Artifact], points: Mapping, answers: Answers
) -> list[dict]:
    """Rows of stage_table: each stage at full depth, then leaving early; differences are to the dense integers."""
    dense = answers.right("dense", artifacts["dense"], split)
    rows = []
    for stage, artifact in artifacts.items():
        in_float = answers.float_right(stage, sources[stage], split)
        rows.append({"step": stage, "float_accuracy": float(in_float.mean())})
        rows[-1] |= _against(dense, answers.right(stage, artifact, split)) | stage_table.sizes(artifact)
        rows[-1]["mean_layer"] = float(artifact.manifest["architecture"]["layers"])
    ramps, shift = answers.ramps(RAMPS, artifacts[RAMPS], split), artifacts[RAMPS].manifest["exits"]["row_shift"]
    for title, foretold in (("entropy", False), ("foretold", True)):
        for name, point in points.items():
            at = point["foretold"] if foretold else point
            left = _layers(ramps, at, shift)
            row = {"step": f"{title}, {name} points permitted", "point": name, "foretold": foretold}
            found = _measure(ramps, at, shift)
            rows.append(row | _against(dense, right_at(ramps, left)) | {
                k: found[k] for k in ("mean_layer", "mean_foretold") if k in found
            })  # fmt: skip
    return rows


def _told(ramps: Ramps, point: Mapping, shift: int) -> np.ndarray | None:
    return foretell(ramps.entropy, np.array(point["table"]), shift) if "table" in point else None


def _layers(ramps: Ramps, point: Mapping, shift: int) -> np.ndarray:
    """At which each sentence leaves at an operating point, or at what is `foretold` of one."""
    return exit_layers(ramps.entropy, point["threshold"], _told(ramps, point, shift))


def _measure(ramps: Ramps, point: Mapping, shift: int) -> dict:
    return measure(ramps, point["threshold"], _told(ramps, point, shift))


def _tested(points: Mapping, test: Ramps, shift: int) -> dict:
    """The operating points, each with what it comes to on sentences that took no part in choosing it."""
    found = {}
    for name, point in points.items():
        foretold = {**point["foretold"], "test": _measure(test, point["foretold"], shift)}
        found[name] = {**point, "test": _measure(test, point, shift), "foretold": foretold}
    return found


def _against(dense: np.ndarray, right: np.ndarray) -> dict:
    low, high = paired_bootstrap(dense, right)
    return {
        "accuracy": float(right.mean()),
        "difference_points": 100 * float(right.mean() - dense.mean()),
        "difference_interval_points": [100 * low, 100 * high],
    }


def _firmware(exits: Exits, seed: int, artifact: Artifact, folder: Path, out: Path, test: Ramps) -> dict:
    """The predictor of a permitted loss as an hls4ml project, `predictor/`, compiled once to be compared: with the
    float network and the table over all entropies, and with the table by what each comes to on the test split."""
    name = point_name(exits.firmware)
    point, of = artifact.manifest["exits"]["points"][name]["foretold"], artifact.manifest["exits"]
    layers, shift = artifact.manifest["architecture"]["layers"], of["row_shift"]
    if point["rule"] == LIKELIEST:
        model = network(layers).eval()
        kept = load_file(out / "predictor.safetensors")
        model.load_state_dict({k.split("/")[1]: v for k, v in kept.items() if k.split("/")[0] == name})
    else:
        model = exit_predictor_hls.follower(point["table"], layers, shift, exits, seed)
    content = exit_predictor_hls.export(model, out / "predictor", row_shift=shift, artifact=folder, point=name)
    fixed = exit_predictor_hls.compiled(model, out / "predictor.compiled", shift)(exit_predictor_hls.entropies(shift))
    foretold = {"table": _told(test, point, shift), "network": exit_predictor_hls.foretold_by(fixed, test.entropy)}
    return {
        "point": name,
        "rule": point["rule"],
        "cost": content["cost"],
        "compared": exit_predictor_hls.compare(model, fixed, point["table"], shift),
        "test": {by: measure(test, point["threshold"], told) for by, told in foretold.items()},
    }
