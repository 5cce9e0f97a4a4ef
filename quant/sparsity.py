# SPDX-License-Identifier: Apache-2.0
"""What pruned weights cost in accuracy and save in bytes: the same float model quantized at one density after another.

docs/sparsity.md says how rows are made. One-shot rows are calibrated alike from the float model; trained ones are
artifacts of `zynqbert train` with a [prune] table. Every row answers the dev and the test split.
"""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from . import float_model
from .ablation import Advance, Given, prepare, progress_bar, read_report
from .artifact import Artifact, load_artifact
from .batch import split_batches
from .calibrate import calibrate
from .datasets import DataSet
from .evaluate import paired_accuracy, quantized_logits, wilson
from .options import Options
from .pruning import BLOCK, compressed_bytes, density_report, encoder_matrices
from .quantize import quantize, steps
from .training import check_settings, versions, write_json

DENSITIES = (1.0, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2)
BLOCK_DENSITIES = (0.75, 0.5, 0.25)
SPLITS = ("dev", "test")


def sparsity(
    source: str | Path,
    data: str | DataSet,
    out: Path,
    *,
    densities: Sequence[float] = DENSITIES,
    block_densities: Sequence[float] = BLOCK_DENSITIES,
    trained: Sequence[Path] = (),
    prune_by: str = "contribution",
    sentences: int | None = None,
    max_length: int = 128,
    word_bits: int = 4,
    resume: bool = False,
    progress: Advance | None = None,
) -> dict:
    """Measure `source` (Hugging Face folder or hub name) in float, at every density and at those of the pattern
    "blocks" (pruning.py), and the artifacts `trained`.

    `data` as of `ablation`; its train split calibrates, the first `sentences` (all if None) of dev and test are
    answered. `out` gets `sparsity.json` after every row and `sparsity.svg`; with `resume` rows that are there stay.
    Raises ValueError naming what does not fit, UnsupportedModel, ArtifactError, DataUnavailable, OSError.
    """
    path = Path(out) / "sparsity.json"
    if not resume and path.exists():
        raise ValueError(f"{path}: holds a run already; remedy: --resume, or another folder")
    for density in densities:
        Options(density=density, prune_by=prune_by).checked(0)
    for density in block_densities:
        Options(density=density, prune_by=prune_by, pattern="blocks").checked(0)
    begun = (
        read_report(path, ("settings", "float", "one_shot", "trained"), "a sparsity study") if path.exists() else None
    )
    given, settings = {}, {}
    for split in SPLITS:
        given[split], found = prepare(source, data, split, sentences, max_length, word_bits)
        own = {f"{name}.{split}": found.pop(name) for name in ("sentences", "texts")}
        del found["split"]
        settings = {**settings, **found, **own, "prune_by": prune_by}
    artifacts = {}
    for folder in trained:
        wanted, artifact = _trained(folder, given)
        if wanted in artifacts:
            raise ValueError(f"{folder}: a second artifact of density {wanted}; remedy: give one of each")
        artifacts[wanted] = artifact
    report = {"settings": settings, "versions": versions(), "float": {}, "one_shot": {}, "blocks": {}, "trained": {}}
    if begun is not None:
        check_settings(path, begun["settings"], settings)
        report = {**report, **begun}
    path.parent.mkdir(parents=True, exist_ok=True)
    todo: list[tuple[str, str, Artifact | None]] = [
        ("one_shot", f"{d:g}", None) for d in densities if f"{d:g}" not in report["one_shot"]
    ]
    todo += [("blocks", f"{d:g}", None) for d in block_densities if f"{d:g}" not in report["blocks"]]
    for wanted, artifact in artifacts.items():
        if report["trained"].get(wanted, {}).get("artifact") != _digest(artifact):
            todo.append(("trained", wanted, artifact))
    if todo:
        with progress_bar(progress, "sparsity") as advance:
            _measure(given, todo, prune_by, report, path, advance)
    draw(report, path.with_suffix(".svg"))
    return report


def _trained(folder: Path, given: dict[str, Given]) -> tuple[str, Artifact]:
    """What the artifact was trained for, "0.5" or in blocks "0.5 blocks", and the artifact. ValueError where it is
    another model or was not pruned."""
    artifact = load_artifact(folder)
    found = artifact.manifest["metrics"].get("density", {})
    wanted = found.get("wanted")
    if wanted is None:
        raise ValueError(f"{folder}: metrics.density is missing; remedy: an artifact of a recipe with a [prune] table")
    checkpoint = given["dev"].checkpoint
    if artifact.manifest["task"]["labels"] != list(checkpoint.task.labels):
        raise ValueError(f"{folder}: its labels are {artifact.manifest['task']['labels']}, not the float model's")
    if artifact.tokenizer_path.read_text(encoding="utf-8") != checkpoint.tokenizer_json:
        raise ValueError(f"{folder}: its tokenizer is not the float model's; remedy: the model it was trained from")
    in_blocks = found.get("block_bound", BLOCK) <= wanted * BLOCK < BLOCK
    return f"{wanted:g}{' blocks' if in_blocks else ''}", artifact


def _digest(artifact: Artifact) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(artifact.tensors.items()):
        found.update(name.encode() + tensor.tobytes())
    return found.hexdigest()[:16]


def _measure(given: dict[str, Given], todo: list, prune_by: str, report: dict, path: Path, advance: Advance) -> None:
    """Fill the report with the rows to do, written after each."""
    title, done = "float", 0.0

    def show(share: float) -> None:
        """Progress by a share of a row."""
        nonlocal done
        done += share
        advance(title, round(100 * done), 100 * len(todo))

    show(0)
    checkpoint = given["dev"].checkpoint
    weights = checkpoint.weights
    logits, in_float = {}, {}
    for split, of in given.items():
        logits[split] = torch.cat([float_model.forward(weights, b) for b in split_batches(of.sentences)]).double()
        in_float[split] = logits[split].numpy().argmax(axis=1) == of.labels
        right, n = int(in_float[split].sum()), len(of.labels)
        report["float"][split] = {"right": right, "sentences": n, "accuracy": right / n, "interval": wilson(right, n)}
    calibration = None
    token = 0.5 / sum(len(s.ids) for of in given.values() for s in of.sentences)
    for group, name, artifact in todo:
        kind = {"one_shot": "", "blocks": " in blocks", "trained": ", trained"}[group]
        title, begun = f"density {name}{kind}", time.monotonic()
        if artifact is not None:
            manifest, tensors = artifact.manifest, artifact.tensors
            show(0.5)
        else:
            calibration = calibration or calibrate(weights, given["dev"].calibration)
            pattern = "blocks" if group == "blocks" else "free"
            words = report["settings"]["word_bits"]
            options = Options(word_bits=words, density=float(name), prune_by=prune_by, pattern=pattern)
            made = quantize(
                weights,
                calibration,
                task=checkpoint.task,
                max_length=weights.architecture.positions,
                options=options,
                on_step=lambda step: show(0.5 / steps(weights)),
            )
            manifest, tensors = made.manifest, made.tensors
        entry = sizes(manifest, tensors, float(name.split()[0]))
        if artifact is not None:
            entry["artifact"] = _digest(artifact)
        for split, of in given.items():
            found = quantized_logits(manifest, tensors, of.sentences, lambda rows: show(token * rows))
            entry[split] = paired_accuracy(in_float[split], found.numpy().argmax(axis=1) == of.labels)
            entry[split]["quantized_interval"] = wilson(entry[split]["quantized_right"], len(of.labels))
            entry[split]["logit_error"] = float((found - logits[split]).abs().mean())
        entry["seconds"] = round(time.monotonic() - begun, 1)
        report[group][name] = entry
        report[group] = dict(sorted(report[group].items(), key=lambda item: -float(item[0].split()[0])))
        write_json(path, report)


def sizes(manifest: dict, tensors: dict, wanted: float) -> dict:
    """Density of the encoder's integers, wanted and found, and their bytes: two a byte, and compressed (counted)."""
    matrices = encoder_matrices(manifest, tensors)
    found = density_report(matrices, wanted)
    dense = sum(tensors[f"{name}.weight"].nbytes for name in matrices)
    packed = compressed_bytes(matrices)
    return {
        "wanted": wanted,
        "achieved": found["achieved"],
        "densest_matrix": max(found["matrices"].values()),
        "block_bound": found["block_bound"],
        "dense_bytes": dense,
        "compressed_bytes": packed,
        "compressed_share": packed / dense,
    }


# what the report looks like ------------------------------------------------------------------------------------------


def table(report: dict) -> Table:
    """The report for people, 80 columns wide."""
    s = report["settings"]
    shown = Table(
        title=f"{s['model']}, {s['sentences.dev']:,} dev and {s['sentences.test']:,} test texts of {s['data']}",
        caption="95 % (Wilson); points against float (paired bootstrap); MB of encoder weights, compressed (counted)",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("density")
    for name in ("not 0", "dev", "test, 95 %", "points, 95 %", "MB"):
        shown.add_column(name, justify="right")
    rows = report["float"]
    shown.add_row("float", "", f"{100 * rows['dev']['accuracy']:.1f} %", _accuracy(rows["test"], ""), "", "")
    groups = ("", report["one_shot"]), (" blocks", report["blocks"]), (" trained", report["trained"])
    for title, group in groups:
        shown.add_section()
        for name, row in group.items():
            low, high = row["test"]["difference_interval_points"]
            shown.add_row(
                name + title,
                f"{100 * row['achieved']:.1f} %",
                f"{100 * row['dev']['quantized_accuracy']:.1f} %",
                _accuracy(row["test"], "quantized_"),
                f"{row['test']['difference_points']:+.2f} ({low:+.2f} to {high:+.2f})",
                f"{row['compressed_bytes'] / 1e6:.2f}",
            )
    return shown


def _accuracy(found: dict, of: str) -> str:
    low, high = found[f"{of}interval"]
    return f"{100 * found[f'{of}accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def draw(report: dict, path: Path) -> None:
    """Accuracy and bytes against density as an SVG, the same bytes for the same report (and matplotlib)."""
    with matplotlib.rc_context({"svg.hashsalt": "zynqbert", "font.size": 9}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        series = (
            ("one_shot", "o-", "black", "one shot, calibrated"),
            ("blocks", "s--", "tab:orange", "the same in blocks"),
            ("trained", "D", "tab:blue", "trained"),
        )
        for group, style, color, label in series:
            rows = list(report[group].values())
            if not rows:
                continue
            density = [row["achieved"] for row in rows]
            points = np.array([row["test"]["difference_points"] for row in rows])
            low, high = np.array([row["test"]["difference_interval_points"] for row in rows]).T
            # of very few texts a percentile can lie beyond the measured difference
            lengths = np.maximum([points - low, high - points], 0)
            left.errorbar(density, points, yerr=lengths, fmt=style, color=color, capsize=3, label=label)
            right.plot(density, [row["compressed_bytes"] / 1e6 for row in rows], style, color=color, label=label)
        if rows := [row for group, *_ in series for row in report[group].values()]:
            right.axhline(rows[0]["dense_bytes"] / 1e6, color="gray", linewidth=0.8, label="two weights a byte")
        left.axhline(0, color="gray", linewidth=0.8)
        left.set_ylabel("test accuracy against float, points")
        right.set_ylabel("encoder weights, MB compressed (counted)")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.set_xlabel("share of encoder weights that are not 0")
            axes.grid(linewidth=0.4)
            axes.legend(frameon=False)
        partial = path.with_name(path.name + ".partial")
        figure.savefig(partial, format="svg", metadata={"Date": None})
    partial.replace(path)
