# SPDX-License-Identifier: Apache-2.0
"""Which share of a pass's cell-steps in the array stands still because a product is 0 (fpga/gating.py): from the
weights as they are stored, and from activations as a model of the pass has left them.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ..fpga import instructions as isa
from ..fpga.directory import Directory
from ..fpga.gating import zero_choices, zero_products
from ..quant.compressed import choose
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
    found = list(_counts(plan, artifact, trace))
    return sum(steps for steps, _ in found), sum(gated for _, gated in found)


def _counts(plan: Plan, artifact: Artifact, trace: Mapping[str, np.ndarray]) -> Iterator[tuple[int, int]]:
    """Cell-steps and gated ones of every product of the pass."""
    columns = plan.board.columns
    for gemm, name, owner in linear_layers(plan):
        operand = trace.get(operand_of(name, plan))
        reached = name in trace or name[-1] not in "qkv"  # what these read, an off-ramp before them reads too
        if operand is not None and reached:
            weights = artifact.tensors[f"{owner}.weight"]
            if not gemm.w8:
                weights = unpack_nibbles(owner, weights, gemm.k)
            if gemm.compressed:
                yield from _of_tiles(weights, operand, plan.matrices[owner].directory, columns)
            else:
                yield zero_products(weights, operand, gemm.w8, columns)
    width = plan.shape.head_width
    for layer, heads in enumerate(plan.shape.layer_heads):
        if f"layers.{layer}.numerators" not in trace:
            continue
        q, k, v = (trace[f"layers.{layer}.{name}"] for name in "qkv")
        for head in range(heads):
            of_head = slice(head * width, (head + 1) * width)
            for first in range(0, len(k), KEYS):
                yield zero_products(k[first : first + KEYS, of_head], q[:, of_head], True, columns)
            yield zero_products(v[:, of_head].T, trace[f"layers.{layer}.numerators"][head], True, columns)


def _of_tiles(
    weights: np.ndarray, operand: np.ndarray, directory: Directory, columns: int
) -> Iterator[tuple[int, int]]:
    """Those of the column tiles of compressed weights [N, K]; the array passes over one of zeros in one step."""
    for number, tile in enumerate(directory):
        of_tile = weights[number * columns : (number + 1) * columns]
        if tile.bound:
            channels, entries = -len(of_tile) % isa.GROUP, -operand.shape[1] % isa.BLOCK
            steps, choices = choose(np.pad(of_tile, ((0, channels), (0, 0))), tile.bound)
            first = isa.BLOCK * (np.arange(steps.shape[1]) // tile.bound)
            taken = first + choices.repeat(isa.GROUP // 2, axis=0)
            yield zero_choices(steps, taken, np.pad(operand, ((0, 0), (0, entries))), False, columns)
        elif not tile.zero:
            yield zero_products(of_tile, operand, False, columns)


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
