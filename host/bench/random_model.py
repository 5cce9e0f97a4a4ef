# SPDX-License-Identifier: Apache-2.0
"""A model of given sizes with random tensors, to time what no value changes. Its answers mean nothing."""

import json
from pathlib import Path

import numpy as np

from ...quant.artifact import Artifact
from ...quant.artifact_tensors import expected_tensors
from ...quant.tables import exp_table
from ..model_shape import ModelShape

SEED = 0
# Least and greatest value of a tensor, by the last part of its name.
_RANGES = {"m": (128, 255), "s": (8, 16), "gamma": (40, 127), "gamma_shift": (6, 8), "beta_shift": (0, 3)}
_RANGES |= {"score_m": (128, 255), "score_s": (8, 12), "context_m": (128, 255), "context_s": (8, 12)}
_RANGES |= {"bias": (-1000, 1000), "table": (0, 1)}


def random_model(shape: ModelShape, folder: Path) -> Artifact:
    """An artifact of `shape` in memory, the same each time; of its files only a tokenizer is written, to `folder`.

    Every value is within its range and every product within the engine's, as for a quantized model.
    """
    manifest = _manifest(shape)
    rng = np.random.default_rng(SEED)
    entries = dict(_entries(manifest))
    tensors = {}
    for name, (dtype, size) in expected_tensors(manifest).items():
        tensors[name] = entries[name] if name in entries else _tensor(rng, name, np.dtype(dtype), size)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}}))
    return Artifact(manifest, tensors, path)


def _tensor(rng: np.random.Generator, name: str, dtype: np.dtype, size: tuple[int, ...]) -> np.ndarray:
    part = name.rpartition(".")[2]
    if name == "softmax.exp":
        return exp_table()
    if part in ("operand", "residual"):
        return np.array([160, 8], dtype)
    if dtype == np.uint8 and (part == "weight" or name == "embeddings.word.q"):
        # Two nibbles in -3 .. 3: the packing check holds for the widest product.
        low, high = rng.integers(-3, 4, size), rng.integers(-3, 4, size)
        return ((low & 15) | (high & 15) << 4).astype(np.uint8)
    if part in _RANGES:
        first, last = _RANGES[part]
    elif dtype == np.int8:
        first, last = -127, 127
    else:
        first, last = 0, 255
    return rng.integers(first, last + 1, size).astype(dtype)


def _entries(manifest: dict):
    """Entries a channel of every norm, one each: `shape` has no split ones."""
    for name, (dtype, size) in expected_tensors(manifest).items():
        if name.endswith(".entries"):
            yield name, np.ones(size, dtype)


def _manifest(shape: ModelShape) -> dict:
    """What the host reads of an artifact's manifest."""
    norms = [shape.embedding_norm, *(n for layer in shape.layers for n in (layer.attention_norm, layer.ffn_norm))]
    if norms != [shape.embedding] + [shape.hidden] * (2 * len(shape.layers)):
        raise ValueError(f"{shape.name}: a random model has no split channels")
    albert = shape.mapping is not None
    return {
        "architecture": {
            "family": "albert" if albert else "bert",
            "layers": len(shape.layers),
            "hidden": shape.hidden,
            "embedding": shape.embedding,
            "heads": shape.heads,
            "head_width": shape.head_width,
            "ffn": shape.layers[0].ffn,
            "vocab": shape.vocab,
            "positions": shape.positions,
            "types": shape.types,
            "activation": "gelu",
            "word_bits": shape.word_bits,
            "weights": list(shape.weights),
            "layer_heads": list(shape.layer_heads),
            "word_format": "integer",
        },
        "task": {
            "kind": shape.kind,
            "scores": "softmax",
            "labels": [f"label {n}" for n in range(shape.labels)],
            "max_length": shape.positions,
        },
        "entries": {
            "embedding_norm": [shape.embedding_norm],
            "mapping": [shape.mapping] if albert else [],
            "attention_norm": [layer.attention_norm for layer in shape.layers],
            "ffn": [layer.ffn for layer in shape.layers],
            "ffn_norm": [layer.ffn_norm for layer in shape.layers],
        },
        "scales": {"logits": 1.0, "activations": {}},
        "softmax": "normalized" if shape.normalized else "numerator",
        "spans": None,
        "exits": None,
    }
