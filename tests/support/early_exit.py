# SPDX-License-Identifier: Apache-2.0
"""Tiny models that leave early, and dense ones beside them, which label the movie reviews (at random)."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from random_artifact import make_random_artifact
from zynqbert.quant.datasets import LABELS, Example

DEPTH = 4
TABLE = [1] * 60 + [2] * 40 + [3] * 40 + [4] * 116
POINTS = {
    "0.5": {"threshold": 900, "foretold": {"threshold": 700, "table": TABLE}, "mean_layer": 3.0, "accuracy": 0.6},
    "1": {"threshold": 1500, "foretold": {"threshold": 1200, "table": TABLE}, "mean_layer": 2.0, "accuracy": 0.5},
}
EXAMPLES = [Example(" ".join(f"w{4 + (7 * n + k) % 45}" for k in range(2 + 5 * n % 60)), n % 2) for n in range(24)]


def labelled(folder: Path, labels=LABELS) -> Path:
    """The artifact with these labels in its manifest."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["task"]["labels"] = list(labels)
    path.write_text(json.dumps(manifest))
    return folder


def altered(folder: Path, to: Path, change: Callable[[dict], None], tokenizer: str | None = None) -> Path:
    """A copy of the artifact whose manifest is changed, perhaps with another tokenizer."""
    shutil.copytree(folder, to)
    manifest = json.loads((to / "manifest.json").read_text())
    if tokenizer is not None:
        (to / "tokenizer.json").write_text(tokenizer)
        manifest["files"]["tokenizer.json"]["sha256"] = hashlib.sha256(tokenizer.encode()).hexdigest()
    change(manifest)
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


def recipe(folder: Path, **given) -> Path:
    """Off-ramps, heads gone, spans, half of the weights."""
    found = {
        "exits": True,
        "points": POINTS,
        "layer_heads": [2, 3, 1, 2],
        "spans": [[4, 8], [128, 3, 2], [1], [9, 9]],
        "density": 0.5,
        "seed": 3,
    }
    return labelled(make_random_artifact(folder, **{"layers": DEPTH} | found | given))


def dense(folder: Path, **given) -> Path:
    """All heads, all weights, no off-ramps unless asked for."""
    return labelled(make_random_artifact(folder, **{"layers": DEPTH, "seed": 4} | given))
