# SPDX-License-Identifier: Apache-2.0
"""What the float model does on calibration sentences: ranges as moving averages, and the codings chosen from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from . import float_model
from .batch import make_batch
from .checkpoint import ModelWeights
from .scales import snap_factor
from .tables import GELU_MIN, SCORE_STEP, GeluCoding, gelu, gelu_table
from .tokens import Tokens

_SENTENCES = 16  # of one batch of the moving average
_DECAY = 0.9
_MAX_ENTRIES = 12  # of one channel
# Of Q·K's two sides, at least: below it the head's factor would be none (Q2), and such scores are all alike anyway.
_LEAST_REACH = 0.05


@dataclass(frozen=True)
class Calibration:
    """The sentences, and per tap and channel the moving average of a batch's largest |x|, [channels]."""

    sentences: list[Tokens]
    peaks: dict[str, torch.Tensor]

    def peak(self, name: str) -> float:
        """The whole tensor's."""
        return float(self.peaks[name].max())


def calibrate(weights: ModelWeights, sentences: Sequence[Tokens]) -> Calibration:
    """Run the float model over sentences or pairs of the train split, in batches of 16. ValueError if there is none."""
    if not sentences:
        raise ValueError("calibration needs at least one sentence")
    peaks: dict[str, torch.Tensor] = {}

    def watch(name: str, value: torch.Tensor) -> None:
        peak = value.abs().amax(dim=0)
        peaks[name] = peak if name not in peaks else _DECAY * peaks[name] + (1 - _DECAY) * peak

    for start in range(0, len(sentences), _SENTENCES):
        float_model.forward(weights, make_batch(sentences[start : start + _SENTENCES]), watch)
    return Calibration(list(sentences), peaks)


def clip_scale(
    x: torch.Tensor, peak: torch.Tensor, levels: int = 127, clips: Sequence[float] = (1.0, 0.9, 0.8, 0.7, 0.6)
) -> torch.Tensor:
    """Scale [N] of x [rows, N] in ±levels with the least squared error, among `clips` of the reach `peak` [N]."""
    best = torch.full(peak.shape, torch.inf)
    chosen = torch.ones_like(peak)
    for clip in clips:
        scale = (peak * clip / levels).clamp(min=1e-12)
        lost = ((x / scale).round_().clamp_(-levels, levels).mul_(scale).sub_(x)).square_().mean(dim=0)
        chosen = torch.where(lost < best, scale, chosen)
        best = torch.minimum(best, lost)
    return chosen


def context_scale(x: torch.Tensor) -> float:
    """One scale for all channels of the context x [rows, hidden] float32 in int8."""
    x = x.reshape(-1, 1)
    return float(clip_scale(x, x.abs().amax(dim=0), clips=(1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3)))


def score_scales(q: torch.Tensor, k: torch.Tensor, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales [hidden] of Q and K for the least error of Q·K (Q10, Q14); q, k [rows, hidden], heads of d channels.

    Their product is the same in all channels of a head, and such that the head's factor of Q14 is exact. Between the
    two it is balanced so that rounding errors of Q and of K weigh the same.
    """
    heads, root_d = q.shape[1] // d, math.sqrt(d)
    q2, k2 = (x.square().mean(dim=0).clamp(min=1e-12).double() for x in (q, k))
    balance = (q2 / k2) ** 0.25
    # with this root of the product nothing is clipped
    reach = torch.maximum(q.abs().amax(dim=0) / balance, k.abs().amax(dim=0) * balance).view(heads, d).amax(dim=1)
    reach = reach.clamp(min=_LEAST_REACH)
    best = torch.ones(heads, dtype=torch.float64)
    least = torch.full((heads,), torch.inf, dtype=torch.float64)
    for clip in np.geomspace(1.0, 0.3, 14):
        factor = snap_factor(((reach * clip / 127) ** 2).numpy() / root_d / SCORE_STEP)
        root = torch.from_numpy(np.sqrt(factor * root_d * SCORE_STEP))
        each = root.repeat_interleave(d)
        q_error, k_error = (_lost(x, scale) for x, scale in ((q, each * balance), (k, each / balance)))
        lost = (q_error * k2 + k_error * q2).view(heads, d).sum(dim=1)
        best, least = torch.where(lost < least, root, best), torch.minimum(lost, least)
    each = best.repeat_interleave(d)
    return (each * balance).numpy(), (each / balance).numpy()


def _lost(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Mean squared error [N] of x [rows, N] as int8."""
    return (torch.floor(x / scale + 0.5).clamp_(-127, 127) * scale - x).square().mean(dim=0)


def split_channels(
    y: torch.Tensor, importance: torch.Tensor, budget: int, given: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Operand scale and entries e[c] ≥ 1 (Q9) of a layer norm's output y [rows, N]; at most `budget` are extra.

    The sum over channels of importance [N] times the squared error, of rounding and of what exceeds ±127·e·scale, is
    the least among the scales tried; for each scale the entries go where they help most, unless e is `given`.
    """
    magnitude = y.abs()
    peak = magnitude.amax(dim=0)
    low, high = float(peak.median()), float(peak.max())
    best = (np.inf, 1.0, np.ones(y.shape[1], np.int64))
    for reach in np.geomspace(max(low / 4, high / 127), high, 40):
        beyond = torch.stack(
            [(magnitude - j * reach).clamp_(min=0).square_().mean(dim=0) for j in range(1, _MAX_ENTRIES + 1)]
        )  # [entries, N]
        rounding = (reach / 127) ** 2 / 12
        gain, worthwhile = (beyond[:-1] - beyond[1:]) * importance, 1e-3 * rounding * float(importance.sum())
        extra = _spend(gain, budget, worthwhile) if given is None else torch.from_numpy(given - 1)
        left = beyond.gather(0, extra[None])[0]
        total = float(((left + rounding) * importance).sum())
        if total < best[0]:
            best = (total, reach / 127, (1 + extra).numpy())
    return best[1], best[2]


def _spend(gain: torch.Tensor, budget: int, worthwhile: float) -> torch.Tensor:
    """Extra entries of each channel [N]: the `budget` largest gains [entries, N] above `worthwhile`, without gaps."""
    flat = gain.flatten()
    taken = torch.zeros(flat.numel(), dtype=torch.bool)
    taken[flat.topk(min(budget, flat.numel())).indices] = True
    taken &= flat > worthwhile
    return taken.view_as(gain).long().cumprod(dim=0).sum(dim=0)


def split_gelu(
    z: torch.Tensor, importance: torch.Tensor, budget: int, form: str = "gelu", given: np.ndarray | None = None
) -> tuple[GeluCoding, np.ndarray]:
    """Coding of GELU's table and entries e[c] ≥ 1 (one table, the rest direct, Q11) for its input z [rows, N].

    As `split_channels`: at most `budget` direct entries, least squared error of the output weighted by importance [N].
    """
    channels = z.shape[1]
    low, high, width = -12.0, max(3.0, float(z.max()) * 1.05), 1 / 512
    bins = ((z.clamp(low, high) - low) / width).long()
    mass = torch.bincount(bins.flatten(), importance.expand_as(z).flatten().double()).numpy() / len(z)
    x = low + (np.arange(len(mass)) + 0.5) * width
    truth = gelu(x, form)
    tail = torch.nonzero(z > 1.0)[:, 1]
    values = z[z > 1.0]
    best = (np.inf, GeluCoding(1.0, 1.0), np.ones(channels, np.int64))
    for reach in np.geomspace(1.5, high, 24):
        scale = (reach + GELU_MIN) / 255
        scale = reach / (255 - round(GELU_MIN / scale))
        span = 255 * scale  # of a direct entry
        beyond = torch.stack(
            [
                torch.zeros(channels).index_add_(0, tail, (values - reach - j * span).clamp_(min=0).square_())
                for j in range(_MAX_ENTRIES)
            ]
        ) / len(z)
        worthwhile = 1e-3 * scale**2 / 12 * float(importance.sum())
        gain = (beyond[:-1] - beyond[1:]) * importance
        extra = _spend(gain, budget, worthwhile) if given is None else torch.from_numpy(given - 1)
        tail_error = float((beyond.gather(0, extra[None])[0] * importance).sum())
        if tail_error > best[0]:
            continue
        inside = x <= reach
        for x_lo in (-1.5, -2.0, -2.5, -3.0, -3.5, -4.0):
            coding = GeluCoding((reach - x_lo) / 255, scale)
            index = np.clip(np.floor((x[inside] - coding.zero) / coding.step + 0.5), -128, 127).astype(np.int64)
            out = (gelu_table(coding, form)[index + 128].astype(np.float64) - coding.zp) * scale
            total = tail_error + float((mass[inside] * (out - truth[inside]) ** 2).sum())
            if total < best[0]:
                best = (total, coding, (1 + extra).numpy())
    return best[1], best[2]


def tanh_step(z: torch.Tensor) -> float:
    """Input step of tanh's table with the least squared error of the output, for inputs z."""
    steps = np.linspace(1.0, 6.0, 26) / 127

    def lost(step: float) -> float:
        i = (z / step).round_().clamp_(-128, 127)
        out = torch.floor(127 * torch.tanh(i * step) + 0.5) / 127
        return float((out - torch.tanh(z)).square().mean())

    return float(min(steps, key=lost))
