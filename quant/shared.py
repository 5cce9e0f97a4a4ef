# SPDX-License-Identifier: Apache-2.0
"""Matrices that several layers share (ALBERT): their integers and their operands' entries, fitted once to every use.

The operands are those of the float model, rounded as each layer will round its own: scales, biases and all else that
belongs to one layer alone is left to the walk (walk.py), which meets the operands as they really are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from . import fake_quant, float_model
from .calibrate import context_scale, split_channels, split_gelu
from .checkpoint import Layer, ModelWeights
from .linears import Matrix, Operand, Pruning, fit_shared, make_operand
from .options import Options
from .pruning import matrix_density

_ROWS = 24000  # of all uses of one matrix together
_MATRICES = ("q", "k", "v", "o", "ffn1", "ffn2")
_SEARCH_ROWS = 6000  # of those, what a search over scales looks at

Uses = list[tuple[torch.Tensor, Operand]]  # for each use of a matrix: the float operand, and its integers


@dataclass(frozen=True)
class Shared:
    """What layers with the same matrices have in common: entries e of their operands (Q9, Q11), and the matrices.

    `stream` is what q, k and v read; `matrices` by the names q, k, v, o, ffn1 (a row for each channel, not for each of
    its entries) and ffn2.
    """

    stream: np.ndarray
    attention_norm: np.ndarray
    ffn: np.ndarray
    matrices: dict[str, Matrix]


def groups(weights: ModelWeights) -> dict[int, list[int]]:
    """The layers that share their matrices, by the first of them; none of those that share with nobody."""
    of = weights.architecture.weights
    every = {owner: [i for i, other in enumerate(of) if other == owner] for owner in sorted(set(of))}
    return {owner: layers for owner, layers in every.items() if len(layers) > 1}


def share(
    weights: ModelWeights, rows: int, options: Options, forward: Callable[[float_model.Tap], object]
) -> dict[int, Shared]:
    """For each owner of matrices with several uses: what is common to them, fitted to the calibration's rows, which
    `forward` runs through the float model."""
    found = groups(weights)
    if not found:
        return {}
    first = "embeddings.norm.y" if weights.mapping is None else "mapping.x"
    names = {i: [f"layers.{i - 1}.ffn_norm.y" if i else first] for layers in found.values() for i in layers}
    stride: dict[str, int] = {}
    for layers in found.values():
        for i in layers:
            names[i] += [f"layers.{i}.{tap}" for tap in ("context", "attention_norm.y", "ffn1.z")]
            stride |= dict.fromkeys(names[i], max(1, rows * len(layers) // _ROWS))
    taps: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, value: torch.Tensor) -> None:
        if name in stride:
            taps.setdefault(name, []).append(value[:: stride[name]].clone())

    forward(keep)
    a = weights.architecture
    return {
        owner: _fit(
            weights.layers[owner],
            [[torch.cat(taps.pop(name)) for name in names[i]] for i in layers],
            a.activation,
            options,
            {n: matrix_density(options.density, a.heads, a.layer_heads[owner], n, options.pattern) for n in _MATRICES},
        )
        for owner, layers in found.items()
    }


def _fit(
    layer: Layer, taps: list[list[torch.Tensor]], form: str, options: Options, density: dict[str, float]
) -> Shared:
    """taps: for each use of the layer's matrices its stream, context, attention norm and input of GELU, in float;
    density of each matrix."""
    streams, contexts, ys, zs = (list(of_all) for of_all in zip(*taps, strict=True))
    importance = sum(getattr(layer, name).weight.square().sum(dim=0) for name in "qkv")
    stream, of_stream = _norm(streams, importance, options.norm_entries)
    attention_norm, of_norm = _norm(ys, layer.ffn1.weight.square().sum(dim=0), options.norm_entries)
    ffn, of_gelu = _gelu(zs, layer.ffn2.weight.square().sum(dim=0), options, form)
    read = dict.fromkeys("qkv", of_stream) | {"o": _context(contexts), "ffn1": of_norm, "ffn2": of_gelu}
    how = dict(ridge=options.ridge, follow=options.follow, sweeps=options.sweeps, bits=options.weight_bits)
    times = {"ffn1": ffn}  # its rows are stored once for each entry
    prune = dict.fromkeys(read)
    if options.density < 1:
        prune = {
            n: Pruning(density[n], options.prune_by, times.get(n), options.pattern, options.block_shape) for n in read
        }
    matrices = {name: fit_shared(getattr(layer, name), uses, prune=prune[name], **how) for name, uses in read.items()}
    return Shared(stream, attention_norm, ffn, matrices)


def _norm(ys: list[torch.Tensor], importance: torch.Tensor, budget: int) -> tuple[np.ndarray, Uses]:
    """(Q9) Entries for all of ys, each in its own measure, and the operands that these become."""
    some = _some(ys)
    own = [split_channels(y, importance, budget)[0] for y in some]
    _, e = split_channels(torch.cat([y / scale for y, scale in zip(some, own, strict=True)]), importance, budget)
    scales = [split_channels(y, importance, budget, e)[0] for y in some]
    return e, [(y, _operand(y, scale, e)) for y, scale in zip(ys, scales, strict=True)]


def _context(contexts: list[torch.Tensor]) -> Uses:
    """(Q17) Contexts about their means, as the walk has them; one step for all channels."""
    centred = [x - x.mean(dim=0) for x in contexts]
    return [(x, _operand(x, context_scale(x), np.ones(x.shape[1], np.int64))) for x in centred]


def _operand(x: torch.Tensor, scale: float, e: np.ndarray) -> Operand:
    source = np.repeat(np.arange(len(e)), e)
    a = fake_quant.entries(x.double() / scale, e, 1, 0)
    return make_operand(a, np.full(len(source), scale), source, 127, _equal(x))


def _gelu(zs: list[torch.Tensor], importance: torch.Tensor, options: Options, form: str) -> tuple[np.ndarray, Uses]:
    """(Q11) Entries for all of zs, and the operands of ffn2, each with a table of its own."""
    units, budget = options.units, options.gelu_entries
    some = _some(zs)
    _, e = split_gelu(torch.cat(some), importance, budget, form)
    found = []
    for z, few in zip(zs, some, strict=True):
        coding, _ = split_gelu(few, importance, budget, form, e)
        of = coding.entries(e)
        table = units.gelu_table(coding, form)
        codes = units.activation(z[:, of.source], -of.origin, 1 / of.step, np.zeros(len(of.step)), table, of.is_table)
        step = np.full(len(of.source), coding.scale)
        found.append((float_model.activate(z, form), make_operand(codes, step, of.source, 255, _equal(z))))
    return e, found


def _some(xs: list[torch.Tensor]) -> list[torch.Tensor]:
    return [x[:: max(1, len(x) * len(xs) // _SEARCH_ROWS)] for x in xs]


def _equal(x: torch.Tensor) -> torch.Tensor:
    return torch.full((len(x),), 1 / len(x))
