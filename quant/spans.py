# SPDX-License-Identifier: Apache-2.0
"""Attention of a learnt reach: each head sees the tokens near enough, and heads of span 0 are not there at all.

While it is learnt (Sukhbaatar et al., arXiv 1905.07799; EdgeBERT, arXiv 2011.14203), head h weighs a key at distance
δ = |i − j| tokens by m(δ) = clamp(1/2 + (z_h − δ)/R, 0, 1): its attention is m·e^s / Σ m·e^s. Every head has m(0) = 1
as long as z ≥ R/2. Below, its context is multiplied by m(0), so that it fades as z nears −R/2 and is 0 there. What runs
afterwards is the hard span n, an integer: a head sees the keys with δ < n, those that had m ≥ 1/2; POSITIONS sees all.
That is where m goes as R falls, so a model that learns until R is small has nothing to get used to.
"""

import math
from collections.abc import Sequence

import torch

from .batch import Batch
from .configuration import POSITIONS

SPANS = "zynqbert_spans"  # in config.json: [[span of each head] of each layer]
Spans = list[list[int]]  # [layers][heads]


def distances(length: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """|i − j|, int64 [length, length]."""
    at = torch.arange(length, device=device)
    return (at[:, None] - at).abs()


def soft_mask(z: torch.Tensor, distance: torch.Tensor, ramp: float) -> torch.Tensor:
    """m = clamp(1/2 + (z − δ)/R, 0, 1): z [heads], distance [...] → [heads, ...].

    >>> soft_mask(torch.tensor([3.0, 0.0]), torch.tensor([0, 1, 2, 3, 5]), 4.0).tolist()
    [[1.0, 1.0, 0.75, 0.5, 0.0], [0.5, 0.25, 0.0, 0.0, 0.0]]
    """
    z = z.view(-1, *[1] * distance.ndim)
    return (0.5 + (z - distance) / ramp).clamp(0, 1)


def soft_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch, z: torch.Tensor, ramp: float
) -> torch.Tensor:
    """q, k, v [rows, hidden], z [heads] → context [rows, hidden]."""
    heads, context = len(z), torch.empty_like(v)
    for rows in batch.groups():  # [sentences, length]
        qs, ks, vs = (_split(x[rows], heads) for x in (q, k, v))  # [sentences, heads, length, d]
        mask = soft_mask(z, distances(rows.shape[1], q.device), ramp)  # [heads, length, length]
        weights = torch.softmax(qs @ ks.mT / math.sqrt(qs.shape[-1]), dim=-1) * mask
        weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-8)
        seen = weights @ vs * mask[:, :1, :1]  # m(0) stands in the corner
        context[rows] = seen.transpose(1, 2).flatten(2).to(v.dtype)
    return context


def hard_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch, spans: torch.Tensor
) -> torch.Tensor:
    """q, k, v [rows, hidden], spans int64 [heads] → context [rows, hidden], exactly 0 for a head of span 0."""
    heads, context = len(spans), torch.zeros_like(v)
    there = spans > 0
    for rows in batch.groups():
        qs, ks, vs = (_split(x[rows], heads)[:, there] for x in (q, k, v))  # [sentences, heads left, length, d]
        unseen = distances(rows.shape[1], q.device) >= spans[there, None, None]  # [heads left, length, length]
        scores = (qs @ ks.mT / math.sqrt(qs.shape[-1])).masked_fill(unseen, -math.inf)
        seen = torch.zeros(rows.shape[0], heads, rows.shape[1], qs.shape[-1], dtype=v.dtype, device=v.device)
        seen[:, there] = (torch.softmax(scores, dim=-1) @ vs).to(v.dtype)
        context[rows] = seen.transpose(1, 2).flatten(2)
    return context


def _split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[sentences, length, hidden] → [sentences, heads, length, head width]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class HardSpans:
    """Attention of integer spans [layers][heads]."""

    def __init__(self, spans: Sequence[Sequence[int]], device: torch.device | str = "cpu"):
        self.spans: Spans = [list(of_layer) for of_layer in spans]
        self._of = [torch.tensor(of_layer, device=device) for of_layer in spans]

    def attend(self, i: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Layer i's context (student.Attend)."""
        return hard_attention(q, k, v, batch, self._of[i])


def whole_spans(layers: int, heads: int, device: torch.device | str = "cpu") -> HardSpans:
    """Every head sees everything."""
    return HardSpans([[POSITIONS] * heads] * layers, device)


class SoftSpans:
    """Attention of spans that are learnt: `z` float [layers, heads], tokens, from −ramp/2 to longest + ramp/2."""

    def __init__(self, layers: int, heads: int, longest: int, ramp: float, device: torch.device | str = "cpu"):
        """Every head begins by seeing all of a text of `longest` tokens."""
        self.longest, self.ramp = longest, ramp
        self.z = torch.full((layers, heads), longest + ramp / 2, device=device).requires_grad_()

    def attend(self, i: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Layer i's context (student.Attend)."""
        return soft_attention(q, k, v, batch, self.z[i], self.ramp)

    def penalty(self) -> torch.Tensor:
        """Mean of (R/2 + z)/(R + longest): 1 where all is seen, 0 where no head is left."""
        return ((self.ramp / 2 + self.z) / (self.ramp + self.longest)).mean()

    @torch.no_grad()
    def clamp(self) -> None:
        """Back into the range, after a step."""
        self.z.clamp_(-self.ramp / 2, self.longest + self.ramp / 2)

    def gone(self) -> torch.Tensor:
        """Bool [layers, heads]: heads that have faded out, the last one of a layer excepted."""
        z = self.z.detach()
        return (z <= -self.ramp / 2).scatter(1, z.argmax(dim=1, keepdim=True), False)

    def hard(self, off: float) -> Spans:
        """The spans that run: n = ⌊z⌋ + 1, the keys of m ≥ 1/2; POSITIONS where that is all of a text.

        Of all heads at least the share `off` gets 0, those of the smallest z. The head of a layer's largest z (of equal
        ones the first) is none of them, and has a span of at least 1.
        """
        z = self.z.detach().cpu()
        spans = (torch.floor(z).long() + 1).clamp(min=0)  # [layers, heads]
        best = z.argmax(dim=1, keepdim=True)
        order = z.scatter(1, best, torch.inf).flatten().sort(stable=True).indices
        spans.view(-1)[order[: min(math.ceil(off * z.numel()), z.numel() - len(z))]] = 0
        spans.scatter_(1, best, spans.gather(1, best).clamp(min=1))
        spans[spans >= self.longest] = POSITIONS
        return spans.tolist()
