# SPDX-License-Identifier: Apache-2.0
"""The integer units with gradients: forward exactly as in fake_quant.py, backward as if nothing were rounded.

Straight-through (Bengio et al., arXiv 1308.3432): where a value is clipped its gradient is 0, elsewhere rounding counts
as the identity. Tables pass their slope. Values are integers in float32; gradients are in the same units.
"""

from collections.abc import Sequence

import torch

from . import fake_quant
from .band import unseen
from .batch import Batch
from .scales import encode_beta, encode_factor, encode_gamma
from .tables import SCORE_STEP

_WINDOW = 4  # entries to either side that a table's slope is taken over


def _numpy(x: torch.Tensor):
    return x.detach().double().cpu().numpy()


class _RoundClamp(torch.autograd.Function):
    """clamp(⌊x + ½⌋, lo, hi)."""

    @staticmethod
    def forward(ctx, x, lo, hi):
        y = torch.floor(x + 0.5)
        ctx.save_for_backward((y >= lo) & (y <= hi))
        return y.clamp_(lo, hi)

    @staticmethod
    def backward(ctx, g):
        (inside,) = ctx.saved_tensors
        return g * inside, None, None


def round_clamp(x: torch.Tensor, lo: float, hi: float) -> torch.Tensor:
    """Nearest integer, ties upward, within lo .. hi."""
    return _RoundClamp.apply(x, lo, hi)


class _Requantize(torch.autograd.Function):
    """(Q2)"""

    @staticmethod
    def forward(ctx, acc, b, f, m, s, lo, hi):
        total = acc.double() + b.double()
        y = fake_quant.round_shift(total * m, s)
        inside = (y >= lo) & (y <= hi)
        ctx.save_for_backward(total.float(), f, inside)
        return y.clamp_(lo, hi).float()

    @staticmethod
    def backward(ctx, g):
        total, f, inside = ctx.saved_tensors
        g = g * inside
        g_acc = g * f.float()
        return g_acc, g_acc.sum(dim=0).to(f.dtype), (g * total).sum(dim=0).to(f.dtype), None, None, None, None


def factor(f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(Q2) A real factor with its m and s (float64): f as `requantize` takes it."""
    m, s = encode_factor(_numpy(f))
    return f, torch.as_tensor(m, device=f.device).double(), torch.as_tensor(s, device=f.device).double()


def requantize(acc: torch.Tensor, b: torch.Tensor, f: tuple, lo: int, hi: int) -> torch.Tensor:
    """(Q2) acc [rows, N], b [N] integers, f of `factor` [N]."""
    return _Requantize.apply(acc, b, *f, lo, hi)


def slope(table: torch.Tensor) -> torch.Tensor:
    """Rise of a 256-entry table at each entry, over the entries around it."""
    t = table.double()
    low, high = ((torch.arange(256) + d).clamp(0, 255) for d in (-_WINDOW, _WINDOW))
    return ((t[high] - t[low]) / (high - low)).float()


class _Activation(torch.autograd.Function):
    """(Q11) with a uint8 or int8 table; `direct` [N] marks the channels without it."""

    @staticmethod
    def forward(ctx, acc, b, f, m, s, table, rise, direct):
        total = acc.double() + b.double()
        code = fake_quant.round_shift(total * m, s)
        index = (code.clamp(*fake_quant.INDEX) + 128).long()
        out = table.float()[index]
        gain = rise[index] * ((code >= -128) & (code <= 127))
        if direct.any():
            part = code[:, direct]
            out[:, direct] = part.clamp(*fake_quant.UINT8).float()
            gain[:, direct] = ((part >= 0) & (part <= 255)).float()
        ctx.save_for_backward(total.float(), f, gain)
        return out

    @staticmethod
    def backward(ctx, g):
        total, f, gain = ctx.saved_tensors
        g = g * gain
        g_acc = g * f.float()
        sums = g_acc.sum(dim=0).to(f.dtype), (g * total).sum(dim=0).to(f.dtype)
        return g_acc, *sums, None, None, None, None, None


def activation(acc, b, f: tuple, table: torch.Tensor, rise: torch.Tensor, direct: torch.Tensor) -> torch.Tensor:
    """(Q11) acc [rows, N] → codes; table and its `slope` [256], direct bool [N]."""
    return _Activation.apply(acc, b, *f, table, rise, direct)


class _Scaled(torch.autograd.Function):
    """rs(y·m, s) within lo .. hi, for constant m and s."""

    @staticmethod
    def forward(ctx, y, m, s, lo, hi):
        out = fake_quant.round_shift(y.double() * m, s)
        ctx.save_for_backward((out >= lo) & (out <= hi), (m * torch.exp2(-s)).float())
        return out.clamp_(lo, hi).float()

    @staticmethod
    def backward(ctx, g):
        inside, f = ctx.saved_tensors
        return g * inside * f, None, None, None, None


def residual(product: torch.Tensor, y: torch.Tensor, m_r: torch.Tensor, s_r: torch.Tensor) -> torch.Tensor:
    """(Q12) x [rows, N] from the requantized product and the residual y."""
    kept = _Scaled.apply(y, m_r.double(), s_r.double(), *fake_quant.INT16)
    return round_clamp(product + kept, *fake_quant.INT16)


class _Normalised(torch.autograd.Function):
    """(Q7) z."""

    @staticmethod
    def forward(ctx, x):
        z = fake_quant.normalised(x.double()).float()
        ctx.save_for_backward(z, x.var(dim=1, keepdim=True, correction=0))
        return z

    @staticmethod
    def backward(ctx, g):
        z, variance = ctx.saved_tensors
        unit = z / 2048
        g = g - g.mean(dim=1, keepdim=True) - unit * (g * unit).mean(dim=1, keepdim=True)
        return g * torch.where(variance > 0, 2048 * variance.clamp(min=1e-6).rsqrt(), 0.0)


class _ScaleShift(torch.autograd.Function):
    """(Q7) y, from z, γ and β in steps of y."""

    @staticmethod
    def forward(ctx, z, gamma, beta, parts):
        y = fake_quant.round_shift(z.double() * parts[0], parts[1]) + parts[2] * torch.exp2(parts[3])
        inside = y.abs() <= 32767
        ctx.save_for_backward(z, gamma, inside)
        return fake_quant.clamp16(y).float()

    @staticmethod
    def backward(ctx, g):
        z, gamma, inside = ctx.saved_tensors
        g = g * inside
        return g * gamma.float(), (g * z).sum(dim=0).to(gamma.dtype), g.sum(dim=0).to(gamma.dtype), None


def norm_parts(gamma: torch.Tensor, beta: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(Q7) γ (y steps a z step) and β (y steps), [N], as gamma, gamma_shift, beta, beta_shift (float64)."""
    parts = (*encode_gamma(_numpy(gamma) * 2.0**11, 1.0), *encode_beta(_numpy(beta), 1.0))
    return tuple(torch.as_tensor(part, device=gamma.device).double() for part in parts)


def layer_norm(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """(Q7) x [rows, N] → y; γ and β as in `norm_parts`."""
    return _ScaleShift.apply(_Normalised.apply(x), gamma, beta, norm_parts(gamma, beta))


class _Entries(torch.autograd.Function):
    """(Q9)"""

    @staticmethod
    def forward(ctx, y, f, m, s, e):
        source = torch.repeat_interleave(torch.arange(len(e), device=y.device), e)
        before = torch.arange(len(source), device=y.device) - (e.cumsum(0) - e)[source]
        q = fake_quant.round_shift(y.double() * m, s)[:, source]
        taken = 127.0 * before
        left = q - torch.minimum(torch.maximum(q, -taken), taken)
        inside = (left.abs() <= 127) & ((left != 0) | (before == 0))
        ctx.save_for_backward(y, f, inside, source)
        return left.clamp_(*fake_quant.INT8).float()

    @staticmethod
    def backward(ctx, g):
        y, f, inside, source = ctx.saved_tensors
        g = torch.zeros_like(y).index_add_(1, source, g * inside)
        return g * f.float(), (g * y).sum().to(f.dtype), None, None, None


def entries(y: torch.Tensor, f: tuple, e: torch.Tensor) -> torch.Tensor:
    """(Q9) y [rows, N] → operand [rows, Σ e]; f of `factor`, a scalar; e int64 [N]."""
    return _Entries.apply(y, *f, e)


class _Attention(torch.autograd.Function):
    """(Q14 to Q18, Q23) u; backward as the softmax it stands for."""

    @staticmethod
    def forward(ctx, q, k, v, batch: Batch, score_m, score_s, exp_table, normalized, spans):
        out = fake_quant.average_values(q, k, v, batch, score_m, score_s, exp_table, normalized, spans)
        ctx.save_for_backward(q, k, v, score_m, score_s)
        ctx.batch, ctx.spans = batch, spans
        return out.float()

    @staticmethod
    def backward(ctx, g):
        q, k, v, score_m, score_s = ctx.saved_tensors
        f = (score_m.double() * torch.exp2(-score_s.double())).float()[:, None, None] * SCORE_STEP
        out = [torch.empty_like(x) for x in (q, k, v)]
        for rows in ctx.batch.groups():  # [sentences, length]
            shape = (*rows.shape, len(score_m), -1)
            qs, ks, vs, gs = (x[rows].view(shape).transpose(1, 2) for x in (q, k, v, 256 * g))
            x = qs @ ks.mT * f
            if ctx.spans is not None:
                x = x.masked_fill(unseen(rows.shape[1], ctx.spans, x.device), -torch.inf)
            p = torch.softmax(x, dim=-1)  # [sentences, heads, length, length]
            g_p = gs @ vs.mT
            g_x = p * (g_p - (g_p * p).sum(dim=-1, keepdim=True)) * f
            for whole, part in zip(out, (g_x @ ks, g_x.mT @ qs, p.mT @ gs), strict=True):
                whole[rows] = part.transpose(1, 2).flatten(2)
        return *out, None, None, None, None, None, None


def attention(
    q,
    k,
    v,
    batch: Batch,
    score: tuple,
    context: tuple,
    exp_table,
    normalized: bool,
    spans: Sequence[int] | None = None,
) -> torch.Tensor:
    """(Q14 to Q18, Q23) q, k, v [rows, heads · d] → context; score and context: constant m and s; spans [heads]."""
    u = _Attention.apply(q, k, v, batch, *score, exp_table, normalized, spans)
    return _Scaled.apply(u, *(part.double() for part in context), *fake_quant.INT8)
