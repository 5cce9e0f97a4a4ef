# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: float weights and calibration sentences in, the artifact's integer tensors out."""

from collections.abc import Callable

import numpy as np
import torch

from .calibrate import Calibration
from .checkpoint import Architecture, ModelWeights, Task
from .codes import Quantized
from .options import Options
from .scales import encode_entropy, entropy_shift
from .shared import groups
from .tied import TURNS, TiedWalk
from .walk import Walk

__all__ = ["Options", "quantize", "steps"]


def steps(weights: ModelWeights, *, tied: bool = False) -> int:
    """How often `quantize` calls `on_step`."""
    if tied:
        return 4 * TURNS + 3 + (weights.mapping is not None)
    parts = (weights.mapping is not None, bool(groups(weights)), bool(weights.ramps))
    return 4 * weights.architecture.layers + 2 + sum(parts)


def quantize(
    weights: ModelWeights,
    calibration: Calibration,
    *,
    task: Task,
    max_length: int,
    options: Options | None = None,
    on_step: Callable[[str], None] = lambda name: None,
) -> Quantized:
    """Quantize a model; with `options.tied` one that `tied.with_tied_ramps` has given its off-ramps.

    Raises ValueError naming the option, or the tensor and channel, that cannot be represented."""
    a = weights.architecture
    options = (options or Options()).checked(a.hidden)
    with torch.inference_mode():
        walk = (TiedWalk if options.tied else Walk)(weights, calibration, options, on_step)
        walk.run()
    pooler = bool(weights.ramps) and weights.ramps[0].pooler is not None
    manifest = {
        "architecture": architecture_fields(a, options),
        "task": {
            "kind": task.kind,
            "scores": task.scores,
            "labels": task.labels,
            "max_length": min(max_length, a.positions),
        },
        "entries": walk.entries,
        "scales": {
            "logits": float(walk.codes["logits"].scale),
            "activations": {name: float(np.mean(code.scale)) for name, code in walk.codes.items()},
        },
        "softmax": options.softmax,
        "spans": a.spans and [list(of_layer) for of_layer in a.spans],
        "exits": exit_fields(walk.grid["logits"], len(weights.classifier.bias), pooler=pooler)
        if weights.ramps
        else None,
    }
    return Quantized(manifest, walk.t, walk.codes)


def architecture_fields(a: Architecture, options: Options) -> dict:
    """The manifest's `architecture`."""
    return {
        "family": a.family,
        "layers": a.layers,
        "hidden": a.hidden,
        "embedding": a.embedding,
        "heads": a.heads,
        "head_width": a.head_width,
        "ffn": a.ffn,
        "vocab": a.vocab,
        "positions": a.positions,
        "types": a.types,
        "activation": a.activation,
        "word_bits": options.word_bits,
        "word_format": options.word_format,
        "weights": list(a.weights),
        "layer_heads": list(a.layer_heads),
    }


def exit_fields(logit_step: float, labels: int, *, pooler: bool) -> dict:
    """(Q21, Q22) What the engine takes a ramp's entropy by. There is no operating point yet."""
    return {
        "entropy": list(encode_entropy(logit_step)),
        "row_shift": entropy_shift(labels),
        "pooler": pooler,
        "points": {},
    }
