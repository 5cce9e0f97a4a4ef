# SPDX-License-Identifier: Apache-2.0
"""Layers that share their matrices quantized as one: every scale, bias and table is that of all places together.

Then a sentence's depth makes no difference to the engine, and sentences at different depths can share its products
(docs/program.md, Continuous batching). The rows of all places stand in one batch, as if each place read sentences of
its own; what a place reads is first the float model's, rounded, and in later turns what the integer layer of the turn
before made of the place before, so that the fit sees the errors that it will meet.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from . import float_model
from .batch import make_batch
from .calibrate import Calibration
from .checkpoint import Linear, ModelWeights, Ramp
from .linears import Operand
from .shared import groups, share
from .tables import exp_table
from .walk import _SEARCH_ROWS, Readers, Walk

TURNS = 3  # of the layer over all of its places
_STREAM = "ffn_norm"  # whose output every place reads, but for the first
_MATRICES = ("q", "k", "v", "o", "ffn1", "ffn2")
_INT16 = 32767


def with_tied_ramps(weights: ModelWeights) -> ModelWeights:
    """The model with its own head as the off-ramp behind every layer but the last.

    Raises ValueError for a model whose layers do not all share their matrices, or that labels tokens.
    """
    check(weights)
    ramp = Ramp(weights.pooler, weights.classifier)
    return dataclasses.replace(weights, ramps=[ramp] * (weights.architecture.layers - 1))


def check(weights: ModelWeights) -> None:
    """ValueError, with the remedy, for a model that cannot be tied."""
    a = weights.architecture
    if a.layers < 2 or list(groups(weights).values()) != [list(range(a.layers))]:
        raise ValueError(
            f"tied: {a.layers} layers that do not all share their matrices; remedy: an ALBERT of one group"
        )
    if weights.pooler is None:
        raise ValueError("tied: a model that labels tokens has no head that could be every layer's off-ramp")
    if a.spans is not None and len(set(map(tuple, a.spans))) > 1:
        raise ValueError("tied: spans differ from layer to layer; remedy: the same for all")
    if any(layer.attention_adapter is not None for layer in weights.layers):
        raise ValueError("tied: a model with adapters; remedy: quantize it with its tasks (zynqbert train)")
    for ramp in weights.ramps:
        same = ramp.pooler is not None and _same(ramp.pooler, weights.pooler)
        if not same or not _same(ramp.classifier, weights.classifier):
            raise ValueError("tied: off-ramps that are not the model's head; remedy: a model without off-ramps")


def _same(one: Linear, other: Linear) -> bool:
    return torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)


def joint(weights: ModelWeights, calibration: Calibration) -> Calibration:
    """Of each tap of the layers the widest peaks of all places; what the first place reads counts for the stream."""
    peaks, layers = dict(calibration.peaks), range(weights.architecture.layers)
    first = "embeddings.norm.y" if weights.mapping is None else "mapping.x"
    for name in [name for name in peaks if name.startswith("layers.0.")]:
        of_all = [f"layers.{i}.{name.removeprefix('layers.0.')}" for i in layers]
        of_all += [first] if name == f"layers.0.{_STREAM}.y" else []
        peaks |= dict.fromkeys(of_all, torch.stack([peaks[one] for one in of_all]).amax(dim=0))
    return Calibration(calibration.sentences, peaks)


class TiedWalk(Walk):
    """A walk that goes through the layer once for all places; tensors, codes and entries of each are the same."""

    def __init__(self, weights: ModelWeights, calibration: Calibration, options, on_step):
        """weights: as `with_tied_ramps` gives them."""
        check(weights)
        without = dataclasses.replace(weights, ramps=[])
        super().__init__(without, joint(weights, calibration), options, on_step)
        self.ramps = len(weights.ramps)
        self.before = "embeddings.norm" if weights.mapping is None else "mapping"

    def run(self) -> None:
        """Fill `t`, `codes` and `entries`."""
        w = self.weights
        self.on_step("shared matrices")
        self.shared = share(w, len(self.batch.ids), self.options, self.float_forward)
        self.on_step("embeddings")
        self.t["softmax.exp"] = exp_table()
        x, y_float = self.embedding()
        readers = self.readers(0) if w.mapping is None else Readers([w.mapping])
        y, operand = self.norm("embeddings.norm", "embedding_norm", w.embedding_norm, x, y_float, readers)
        if w.mapping is not None:
            self.on_step("mapping")
            y_float, y, _ = self.mapping(w.mapping, operand, y_float)
        floats = self.inputs(y_float)
        grid = self.grid[self.before]
        integers = [y, *((real / grid).round_().clamp_(-_INT16, _INT16).double() for real in floats[1:])]
        integers = [one.to(y.dtype) for one in integers]
        self.spread()
        for _ in range(TURNS):
            operand = self.stream(torch.cat(integers))
            for name in ("attention_norm", "ffn", _STREAM):
                self.entries[name] = []
            given = torch.cat(floats), torch.cat(integers), operand
            y_float, made, operand = self.layer(0, w.layers[0], self.before, *given)
            integers = [y, *made.chunk(len(floats))[:-1]]
        self.on_step("head")
        self.head(f"layers.0.{_STREAM}", y_float, made, operand)
        self.copy()

    def inputs(self, y_float: torch.Tensor) -> list[torch.Tensor]:
        """What each place reads in float, [rows, hidden]."""
        found = [y_float]
        for i in range(self.weights.architecture.layers - 1):
            found.append(float_model.encoder_layer(self.weights, i, found[-1], self.batch))
        return found

    def spread(self) -> None:
        """From here on the batch has the rows of all places, one place after the other."""
        self.batch = make_batch(self.calibration.sentences * self.weights.architecture.layers)
        rows = len(self.batch.ids)
        self.share = torch.full((rows,), 1 / rows)
        self.stride = max(1, rows // _SEARCH_ROWS)

    def stream(self, y: torch.Tensor) -> Operand:
        """(Q9) The operand of the layer for the rows y of all places: one step, one set of entries."""
        group = "embedding_norm" if self.weights.mapping is None else "mapping"
        self.entries[group] = []
        return super().split(self.before, group, y, self.readers(0))

    def split(self, name: str, group: str, y: torch.Tensor, readers: Readers) -> Operand:
        """(Q9) Behind the layer as in front of it."""
        if group != _STREAM:
            return super().split(name, group, y, readers)
        for part in ("entries", "operand"):
            self.t[f"{name}.{part}"] = self.t[f"{self.before}.{part}"].copy()
        self.entries[group].append(int(self.t[f"{name}.entries"].sum()))
        return self.operand(name, y, self.share)

    def copy(self) -> None:
        """What every place and every off-ramp has: tensors, codes, entries."""
        layers, own = self.weights.architecture.layers, tuple(f"{name}.weight" for name in _MATRICES)
        for name in [name for name in self.t if name.startswith("layers.0.")]:
            part = name.removeprefix("layers.0.")
            for i in range(1, layers if part not in own else 1):
                self.t[f"layers.{i}.{part}"] = self.t[name].copy()
        for name in [name for name in self.codes if name.startswith("layers.0.")]:
            for i in range(1, layers):
                self.codes[f"layers.{i}.{name.removeprefix('layers.0.')}"] = self.codes[name]
        for name in ("attention_norm", "ffn", _STREAM):
            self.entries[name] *= layers
        for i in range(self.ramps):
            self._ramp(f"exits.{i}", ("pooler", f"exits.{i}.pooler"), ("classifier", f"exits.{i}"))

    def _ramp(self, at: str, *parts: Sequence[str]) -> None:
        for head, ramp in parts:
            for name in [name for name in self.t if name.startswith(f"{head}.") and name != "pooler.tanh"]:
                self.t[f"{ramp}.{name.removeprefix(f'{head}.')}"] = np.array(self.t[name])
        self.codes |= {f"{at}.pooler": self.codes["pooler"], f"{at}.logits": self.codes["logits"]}
