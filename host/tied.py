# SPDX-License-Identifier: Apache-2.0
"""Whether every layer of a model is the same in all its integers, so that sentences at different depths can share a
product: what continuous batching needs (docs/program.md)."""

from collections.abc import Mapping

import numpy as np

from .compiler import Artifact, CompileError
from .exit_plan import QueuePlan
from .model_shape import ModelShape

REMEDY = "remedy: zynqbert quantize --tied, of a model whose layers share their matrices"


def queue_plan(artifact: Artifact, entries: int, threshold: int | None) -> QueuePlan:
    """The queue of a tied artifact: sentences leave below `threshold`, or all after the last layer if it is None.

    Raises CompileError, naming the tensor, for a model whose layers differ.
    """
    shape = ModelShape.of_manifest(artifact.manifest)
    check_tied(shape, artifact.tensors)
    ramps = shape.exits
    if ramps is None:
        if threshold is not None:
            raise CompileError("exits: the artifact has no off-ramps; remedy: name no operating point")
        return QueuePlan(entries, len(shape.layers), 0, True, (32768, 1), 0)
    return QueuePlan(entries, len(shape.layers), threshold or 0, ramps.pooler, ramps.entropy, ramps.row_shift)


def check_tied(shape: ModelShape, tensors: Mapping[str, np.ndarray]) -> None:
    """Raise CompileError, with the first difference, unless all layers are alike, and all off-ramps as the head."""
    if set(shape.weights) != {0}:
        raise CompileError(
            f"architecture.weights is {list(shape.weights)}: not all layers share their matrices; {REMEDY}"
        )
    if shape.spans is not None and len(set(shape.spans)) > 1:
        raise CompileError(f"spans: heads of other spans in another layer; {REMEDY}")
    if shape.adapters is not None and set(shape.adapters.owners) != {0}:
        raise CompileError(
            f"adapters.owners is {list(shape.adapters.owners)}: layers have adapters of their own; {REMEDY}"
        )
    if shape.exits is not None and not shape.exits.pooler:
        raise CompileError(f"exits.pooler is false: off-ramps are not as the head, which has a pooler; {REMEDY}")
    for name, tensor in tensors.items():
        same = first_like(name)
        if same != name and not np.array_equal(tensor, tensors[same]):
            raise CompileError(f"{name} is not as {same}; {REMEDY}")


def first_like(name: str) -> str:
    """The tensor that `name` must be equal to: that of layer 0, or of the head for an off-ramp's.

    >>> first_like("layers.3.ffn1.bias"), first_like("exits.2.pooler.m"), first_like("exits.2.weight"), first_like("q")
    ('layers.0.ffn1.bias', 'pooler.m', 'classifier.weight', 'q')
    """
    part = name.split(".")
    if part[0] == "layers":
        return ".".join(["layers", "0", *part[2:]])
    if part[0] == "exits" and len(part) > 2:
        rest = part[2:]
        return ".".join(rest if rest[0] == "pooler" else ["classifier", *rest])
    return name
