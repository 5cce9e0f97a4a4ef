# SPDX-License-Identifier: Apache-2.0
"""A random artifact all of whose layers have the same integers, off-ramps as the head: what a queue can run."""

from pathlib import Path

from random_artifact import make_random_artifact
from zynqbert.host.tied import first_like
from zynqbert.quant.artifact import load_artifact, save_artifact

OWN = ("format", "version", "tensors", "files")


def make_tied_artifact(path: Path, *, layers: int = 4, family: str = "albert", **shape) -> Path:
    """Write it at `path`. `shape` as make_random_artifact."""
    path = Path(path)
    weights = {} if family == "albert" else {"weights": [0] * layers}
    shape = {"exits": True, "exit_pooler": True, **shape}
    given = load_artifact(make_random_artifact(path / "own", layers=layers, family=family, **weights, **shape))
    tensors = {name: given.tensors[first_like(name)].copy() for name in given.tensors}
    manifest = {field: value for field, value in given.manifest.items() if field not in OWN}
    per_layer = ("attention_norm", "ffn_norm", "ffn")
    entries = {name: [n[0]] * len(n) if name in per_layer else n for name, n in manifest["entries"].items()}
    text = given.tokenizer_path.read_text(encoding="utf-8")
    return save_artifact(path / "tied", {**manifest, "entries": entries}, tensors, text)
