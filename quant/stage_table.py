# SPDX-License-Identifier: Apache-2.0
"""What each step from a dense classifier to one that leaves early did: accuracy, bytes, density, heads, exit layer.

Cycles and energy are modelled from the artifacts of the steps by `zynqbert bench edgebert`, not here.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from rich import box
from rich.table import Table

from .artifact import Artifact
from .pruning import compressed_bytes, density_report, encoder_matrices

COLUMNS = {
    "step": "step",
    "float_accuracy": "float",
    "accuracy": "quantized",
    "difference_points": "points to dense",
    "weight_bytes": "weights, bytes",
    "compressed_bytes": "compressed",
    "density": "density",
    "heads": "heads",
    "mean_span": "mean span",
    "mean_layer": "mean layer",
    "mean_foretold": "foretold",
}


def sizes(artifact: Artifact) -> dict:
    """What an artifact's encoder holds: `weight_bytes` as stored (int4), `compressed_bytes` with masks (or as stored,
    tile by tile), `density` of its weights, `heads` left and of how many, `mean_span` of those or None for all."""
    manifest = artifact.manifest
    architecture, spans = manifest["architecture"], manifest["spans"]
    matrices = encoder_matrices(manifest, artifact.tensors)
    return {
        "weight_bytes": sum(artifact.tensors[f"{name}.weight"].nbytes for name in matrices),
        "compressed_bytes": compressed_bytes(matrices),
        "density": density_report(matrices, 1.0)["achieved"],
        "heads": sum(architecture["layer_heads"]),
        "heads_of": architecture["heads"] * architecture["layers"],
        "mean_span": None if spans is None else round(float(np.mean([z for of_layer in spans for z in of_layer])), 2),
        "embedding_bytes": sum(t.nbytes for name, t in artifact.tensors.items() if name.startswith("embeddings.word.")),
    }


def _cell(name: str, row: Mapping) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if name in ("float_accuracy", "accuracy", "density"):
        return f"{100 * value:.1f} %"
    if name == "difference_points":
        low, high = row["difference_interval_points"]
        return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
    if name == "heads":
        return f"{value} of {row['heads_of']}"
    return f"{value:,}" if isinstance(value, int) else value if isinstance(value, str) else f"{value:.2f}"


def _shown(rows: Sequence[Mapping]) -> dict[str, str]:
    """The columns that some row fills."""
    return {name: title for name, title in COLUMNS.items() if any(row.get(name) is not None for row in rows)}


def table(rows: Sequence[Mapping], split: str) -> Table:
    """For people, at a terminal."""
    shown = Table(box=box.SIMPLE_HEAD, title=f"what each step did, {split} split, measured on the integer model")
    for name, title in _shown(rows).items():
        shown.add_column(title, justify="left" if name == "step" else "right")
    for row in rows:
        shown.add_row(*(_cell(name, row) for name in _shown(rows)))
    return shown


def markdown(rows: Sequence[Mapping], split: str) -> str:
    """The same for a page."""
    columns = _shown(rows)
    lines = ["| " + " | ".join(columns.values()) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(_cell(name, row) for name in columns) + " |" for row in rows]
    caption = f"Accuracy of the {split} split; points with 95 % intervals by paired bootstrap. Bytes are the encoder's."
    return "\n".join([*lines, "", caption, ""])
