# SPDX-License-Identifier: Apache-2.0
"""The integer model on batches, in torch: integers held in float32 and float64, every step exact.

The same arithmetic as golden.py (docs/quantization.md) in another form: matrix products in float32 while
amax·Σ|w| < 2^24, all else in float64 below 2^53. `FakeQuantModel` runs thousands of sentences where the golden model
runs a few; the quantizer drives the units one by one.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from .batch import Batch
from .packing import unpack_nibbles

INT8, UINT8, INDEX, INT16 = (-127, 127), (0, 255), (-128, 127), (-32767, 32767)
Tap = Callable[[str, torch.Tensor], None]


def wide(x) -> torch.Tensor:
    """Any numbers as float64."""
    return torch.as_tensor(x).to(torch.float64)


def round_shift(x: torch.Tensor, s) -> torch.Tensor:
    """(Q1) float64 in, float64 out; |x| < 2^52."""
    return (x * torch.exp2(-wide(s))).add_(0.5).floor_()


def clamp16(x: torch.Tensor) -> torch.Tensor:
    """Saturate to int16."""
    return x.clamp_(*INT16)


def requantize(acc: torch.Tensor, b, m, s, lo: int, hi: int) -> torch.Tensor:
    """(Q2) acc [..., N] → float64 within lo .. hi."""
    return round_shift((wide(acc) + wide(b)).mul_(wide(m)), s).clamp_(lo, hi)


def linear(w: torch.Tensor, a: torch.Tensor, amax: int) -> torch.Tensor:
    """(Q3) w [N, K], a [rows, K] → acc [rows, N], exact; float32 where that is enough."""
    fits = amax * float(w.abs().sum(dim=1).max()) < 2**24
    kind = torch.float32 if fits else torch.float64
    return a.to(kind) @ w.to(kind).T


def embed(tables: Mapping[str, tuple], batch: Batch) -> torch.Tensor:
    """(Q6) tables: field → (q [n, hidden], m [n], s [n]) → x [rows, hidden]."""
    x = None
    for field, index in (("word", batch.ids), ("position", batch.position), ("type", batch.type)):
        q, m, s = (torch.as_tensor(part)[index] for part in tables[field])
        term = round_shift(wide(q) * wide(m)[:, None], s[:, None])
        x = term if x is None else clamp16(x + term)
    return x


def inverse_root(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(Q8) V ≥ 1 → r, h."""
    p = torch.frexp(v)[1] - 1
    h = torch.floor((p - 14) / 2)
    v = torch.floor(v * torch.exp2(-2.0 * h))
    i = torch.floor(v / 512)
    r0 = torch.clamp(torch.floor(2**23 / torch.sqrt((i + 0.5) * 512) + 0.5), max=65535)
    a = torch.floor((v * r0 + 2**15) / 2**16)
    d = 3 * 2**30 - a * r0
    return torch.clamp(torch.floor((r0 * d + 2**30) / 2**31), max=65535), h


def normalised(x: torch.Tensor) -> torch.Tensor:
    """(Q7) x [rows, N] → z."""
    n = x.shape[1]
    total = x.sum(dim=1, keepdim=True)
    v = n * (x * x).sum(dim=1, keepdim=True) - total * total
    r, h = inverse_root(v.clamp(min=1))
    return round_shift((n * x - total) * r, 12 + h) * (v > 0)


def scale_shift(z: torch.Tensor, gamma, gamma_shift, beta, beta_shift) -> torch.Tensor:
    """(Q7) z [rows, N] → y."""
    return clamp16(round_shift(z * wide(gamma), gamma_shift) + wide(beta) * torch.exp2(wide(beta_shift)))


def entries(y: torch.Tensor, e, m, s) -> torch.Tensor:
    """(Q9) y [rows, N] → operand float32 [rows, Σ e]."""
    e = torch.as_tensor(e).long()
    source = torch.repeat_interleave(torch.arange(len(e)), e)
    before = torch.arange(len(source)) - (e.cumsum(0) - e)[source]  # entries of the channel before this one
    q = round_shift(y * wide(m), s)[:, source]
    # entry j takes what the j before it left: those took clamp(q, −127·j, 127·j) in all
    taken = 127.0 * before
    return (q - torch.minimum(torch.maximum(q, -taken), taken)).clamp_(*INT8).float()


def activation(acc: torch.Tensor, b, m, s, table, use_table) -> torch.Tensor:
    """(Q11) with a uint8 table; acc [rows, N] → codes float32 [rows, N]."""
    index = requantize(acc, b, m, s, *INDEX)
    out = wide(table)[(index + 128).long()]
    direct = torch.as_tensor(use_table) == 0
    if direct.any():
        part = [torch.as_tensor(x)[direct] for x in (b, m, s)]
        out[:, direct] = requantize(acc[:, direct], *part, *UINT8)
    return out.float()


def residual(acc: torch.Tensor, b, m, s, y: torch.Tensor, m_r, s_r) -> torch.Tensor:
    """(Q12) → x [rows, N]."""
    kept = clamp16(round_shift(y * wide(m_r), s_r))
    return clamp16(requantize(acc, b, m, s, *INT16) + kept)


def reciprocal(total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(Q16) Σ ≥ 1 → r, p."""
    p = (torch.frexp(total)[1] - 1).to(torch.float64)
    r = torch.floor((torch.floor(torch.exp2(p + 17) / total) + 1) / 2)
    return r.clamp_(max=65535), p


def average_values(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, batch: Batch, score_m, score_s, exp_table, normalized: bool
) -> torch.Tensor:
    """(Q14–Q18) q, k, v float32 [rows, hidden] → u [rows, hidden], V averaged over each row's own sentence."""
    heads = len(score_m)
    score = [wide(part)[:, None, None] for part in (score_m, score_s)]
    exp_table = wide(exp_table)
    average = torch.empty_like(v, dtype=torch.float64)
    for rows in batch.groups():  # [sentences, length]
        shape = (*rows.shape, heads, -1)
        qs, ks, vs = (x[rows].view(shape).transpose(1, 2) for x in (q, k, v))  # [sentences, heads, length, d]
        x = requantize(qs @ ks.mT, 0, *score, *INT16)
        e = exp_table[(x.amax(dim=-1, keepdim=True) - x).clamp_(max=255).long()]
        r, p = reciprocal(e.sum(dim=-1, keepdim=True))
        if normalized:
            e = round_shift(e * r * 255, p + 16)
            r, p = torch.full_like(r, 32897), torch.full_like(p, 7)
        u = round_shift((e.float() @ vs).double() * r, p + 8)
        average[rows] = u.transpose(1, 2).flatten(2)
    return average


class FakeQuantModel:
    """Runs an artifact's tensors (numpy arrays by name) on batches."""

    def __init__(self, manifest: dict, tensors: Mapping[str, np.ndarray]):
        architecture = manifest["architecture"]
        self.layers = architecture["layers"]
        self.normalized = manifest["softmax"] == "normalized"
        self.t = t = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
        if architecture["word_bits"] == 4:
            word = 16 * unpack_nibbles(tensors["embeddings.word.q"], architecture["hidden"])
            t["embeddings.word.q"] = torch.from_numpy(word)
        for name in [n for n in t if n.endswith(".weight")]:
            linear_name = name.removesuffix(".weight")
            if linear_name.startswith("layers."):
                t[name] = torch.from_numpy(unpack_nibbles(tensors[name], self._inputs(linear_name))).float()

    def _inputs(self, name: str) -> int:
        _, i, kind = name.split(".")
        if kind == "o":
            return len(self.t["embeddings.norm.gamma"])
        if kind == "ffn2":
            return len(self.t[f"layers.{i}.ffn1.bias"])
        before = "embeddings.norm" if i == "0" else f"layers.{int(i) - 1}.ffn_norm"
        norm = f"layers.{i}.attention_norm" if kind == "ffn1" else before
        return int(self.t[f"{norm}.entries"].sum())

    def part(self, name: str, *fields: str) -> list[torch.Tensor]:
        """Tensors name.field, in order."""
        return [self.t[f"{name}.{field}"] for field in fields]

    def linear(self, name: str, a: torch.Tensor, amax: int = 127) -> list[torch.Tensor]:
        """acc, b, m, s."""
        return [linear(self.t[f"{name}.weight"], a, amax), *self.part(name, "bias", "m", "s")]

    def norm(self, name: str, x: torch.Tensor, tap: Tap) -> torch.Tensor:
        """y of a layer norm."""
        y = scale_shift(normalised(x), *self.part(name, "gamma", "gamma_shift", "beta", "beta_shift"))
        tap(f"{name}.y", y)
        return y

    def operand(self, name: str, y: torch.Tensor) -> torch.Tensor:
        """The operand that the layer norm's output becomes."""
        return entries(y, self.t[f"{name}.entries"], *self.t[f"{name}.operand"])

    @torch.inference_mode()
    def forward(self, batch: Batch, tap: Tap = lambda name, value: None) -> torch.Tensor:
        """Logits float64 [sentences, labels]; taps as the golden trace."""
        t = self.t
        tables = {field: self.part(f"embeddings.{field}", "q", "m", "s") for field in ("word", "position", "type")}
        x = embed(tables, batch)
        tap("embeddings.sum", x)
        norm = "embeddings.norm"
        y = self.norm(norm, x, tap)
        for i in range(self.layers):
            at = f"layers.{i}"
            a = self.operand(norm, y)
            q, k, v = (requantize(*self.linear(f"{at}.{name}", a), *INT8).float() for name in "qkv")
            tap(f"{at}.q", q), tap(f"{at}.k", k), tap(f"{at}.v", v)
            score = self.part(f"{at}.attention", "score_m", "score_s")
            average = average_values(q, k, v, batch, *score, t["softmax.exp"], self.normalized)
            context_factor = self.part(f"{at}.attention", "context_m", "context_s")
            context = requantize(average, 0, *context_factor, *INT8).float()
            tap(f"{at}.context", context)
            x = residual(*self.linear(f"{at}.o", context), y, *t[f"{at}.o.residual"])
            tap(f"{at}.o.x", x)
            y = self.norm(f"{at}.attention_norm", x, tap)
            acc = self.linear(f"{at}.ffn1", self.operand(f"{at}.attention_norm", y))
            codes = activation(*acc, t[f"{at}.gelu"], t[f"{at}.ffn1.table"])
            tap(f"{at}.ffn1", codes)
            x = residual(*self.linear(f"{at}.ffn2", codes, 255), y, *t[f"{at}.ffn2.residual"])
            tap(f"{at}.ffn2.x", x)
            norm = f"{at}.ffn_norm"
            y = self.norm(norm, x, tap)
        a = self.operand(norm, y[batch.first])
        tap("gathered", a)
        index = requantize(*self.linear("pooler", a), *INDEX)
        pooled = wide(t["pooler.tanh"])[(index + 128).long()].float()
        tap("pooler", pooled)
        logits = requantize(*self.linear("classifier", pooled), *INT16)
        tap("logits", logits)
        return logits
