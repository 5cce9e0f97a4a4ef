# SPDX-License-Identifier: Apache-2.0
"""Which share of a pass's cell-steps in the array stands still because a product is 0 (fpga/gating.py): from the
weights as they are stored, and from activations as a model of the pass has left them.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ..fpga import instructions as isa
from ..fpga.gating import zero_products
from .compiler import Artifact, Plan
from .memory_image import linear_layers
from .nibbles import unpack_nibbles

KEYS = 2 * isa.LANES  # that a tile of scores has at most


def zero_share(plan: Plan, artifact: Artifact, trace: Mapping[str, np.ndarray]) -> float:
    """Share of the array's cell-steps that is gated in a pass of the plan."""
    steps, gated = gated_steps(plan, artifact, trace)
    return gated / steps if steps else 0.0


def gated_steps(plan: Plan, artifact: Artifact, trace: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Cell-steps of the array in a pass of the plan, and those that are gated.

    `trace`: every buffer of the pass by the names of quant/golden_model.py, whole row blocks. Products that it does not
    have, of layers that no sentence reached, are left out; so is the one step of a compressed tile of zeros.
    """
    found = [zero_products(*product, plan.board.columns) for product in _products(plan, artifact, trace)]
    return sum(steps for steps, _ in found), sum(gated for _, gated in found)


def _products(
    plan: Plan, artifact: Artifact, trace: Mapping[str, np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Weights [N, K], activations [M, K] and whether w8, of every product of the pass."""
    for gemm, name, owner in linear_layers(plan):
        operand = trace.get(operand_of(name, plan))
        reached = name in trace or name[-1] not in "qkv"  # what these read, an off-ramp before them reads too
        if operand is not None and reached:
            weights = artifact.tensors[f"{owner}.weight"]
            if not gemm.w8:
                weights = unpack_nibbles(owner, weights, gemm.k)
            yield _worked(weights, plan.board.columns) if gemm.compressed else weights, operand, gemm.w8
    width = plan.shape.head_width
    for layer, heads in enumerate(plan.shape.layer_heads):
        if f"layers.{layer}.numerators" not in trace:
            continue
        q, k, v = (trace[f"layers.{layer}.{name}"] for name in "qkv")
        for head in range(heads):
            of_head = slice(head * width, (head + 1) * width)
            for first in range(0, len(k), KEYS):
                yield k[first : first + KEYS, of_head], q[:, of_head], True
            yield v[:, of_head].T, trace[f"layers.{layer}.numerators"][head], True


def _worked(weights: np.ndarray, columns: int) -> np.ndarray:
    """The rows of `weights` that are not in a column tile of zeros, which the array passes over in one step."""
    tiles = np.array_split(weights, range(columns, len(weights), columns))
    return np.concatenate([tile for tile in tiles if tile.any()] or [weights[:0]])


def operand_of(name: str, plan: Plan) -> str:
    """The trace that linear layer `name` reads."""
    before, _, matrix = name.rpartition(".")
    if before.startswith("layers."):
        layer = int(before.split(".")[1])
        first = "embeddings.norm" if plan.shape.mapping is None else "mapping"
        x = f"layers.{layer - 1}.ffn_norm.operand" if layer else f"{first}.operand"
        own = {"o": "context", "ffn1": "attention_norm.operand", "ffn2": "ffn1"}
        return x if matrix in "qkv" else f"{before}.{own[matrix]}"
    if before.startswith("exits"):
        if matrix.isdigit():
            return f"{name}.{'pooler' if plan.shape.exits.pooler else 'gathered'}"
        return f"{before}.gathered"
    if name == "classifier" and plan.shape.kind == "token":
        return f"layers.{len(plan.shape.layers) - 1}.ffn_norm.operand"
    return {"mapping": "embeddings.norm.operand", "pooler": "gathered", "classifier": "pooler"}[name]
