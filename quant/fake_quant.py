# SPDX-License-Identifier: Apache-2.0
"""The integer model on batches, in torch: integers held in float32 and float64, every step exact.

The same arithmetic as golden.py (docs/quantization.md) in another form: matrix products in float32 while
amax·Σ|w| < 2^24, all else in float64 below 2^53. `FakeQuantModel` runs thousands of sentences where the golden model
runs a few; the quantizer drives the units one by one. A unit computes on the device of its first argument. `Units`
has them under the names by which both call them, so that an ablation can put a real-valued one in the place of any
(units.py).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from .artifact_tensors import ramps
from .band import unseen
from .batch import Batch
from .packing import unpack_nibbles
from .scales import encode_beta, encode_factor, encode_gamma, encode_rows, snap_factor
from .tables import gelu_table, tanh_table
from .words import word_rows

INT8, UINT8, INDEX, INT16 = (-127, 127), (0, 255), (-128, 127), (-32767, 32767)
FIELDS = ("word", "position", "type")
Tap = Callable[[str, torch.Tensor], None]


def wide(x, device: torch.device | None = None) -> torch.Tensor:
    """Any numbers as float64, on `device` if one is given."""
    return torch.as_tensor(x, device=device).to(torch.float64)


def round_shift(x: torch.Tensor, s) -> torch.Tensor:
    """(Q1) float64 in, float64 out; |x| < 2^52."""
    return (x * torch.exp2(-wide(s, x.device))).add_(0.5).floor_()


def clamp16(x: torch.Tensor) -> torch.Tensor:
    """Saturate to int16."""
    return x.clamp_(*INT16)


def requantize(acc: torch.Tensor, b, m, s, lo: int, hi: int) -> torch.Tensor:
    """(Q2) acc [..., N] → float64 within lo .. hi."""
    return round_shift((wide(acc) + wide(b, acc.device)).mul_(wide(m, acc.device)), s).clamp_(lo, hi)


def linear(w: torch.Tensor, a: torch.Tensor, amax: int) -> torch.Tensor:
    """(Q3) w [N, K], a [rows, K] → acc [rows, N], exact; float32 where that is enough."""
    fits = amax * float(w.detach().abs().sum(dim=1).max()) < 2**24
    kind = torch.float32 if fits else torch.float64
    return a.to(kind) @ w.to(kind).T


def embed(tables: Mapping[str, tuple], batch: Batch) -> torch.Tensor:
    """(Q6) tables: field → (q [n, hidden], m [n], s [n]) → x [rows, hidden]."""
    x = 0.0
    for field, index in zip(FIELDS, (batch.ids, batch.position, batch.type), strict=True):
        q, m, s = (torch.as_tensor(part, device=index.device)[index] for part in tables[field])
        term = round_shift(wide(q) * wide(m)[:, None], s[:, None])
        x = clamp16(x + term)
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
    offset = wide(beta, z.device) * torch.exp2(wide(beta_shift, z.device))
    return clamp16(round_shift(z * wide(gamma, z.device), gamma_shift) + offset)


def entries(y: torch.Tensor, e, m, s) -> torch.Tensor:
    """(Q9) y [rows, N] → operand float32 [rows, Σ e]."""
    e = torch.as_tensor(e, device=y.device).long()
    source = torch.repeat_interleave(torch.arange(len(e), device=y.device), e)
    before = torch.arange(len(source), device=y.device) - (e.cumsum(0) - e)[source]  # entries of the channel so far
    q = round_shift(y * wide(m, y.device), s)[:, source]
    # entry j takes what the j before it left: those took clamp(q, −127·j, 127·j) in all
    taken = 127.0 * before
    return (q - torch.minimum(torch.maximum(q, -taken), taken)).clamp_(*INT8).float()


def look_up(acc: torch.Tensor, b, m, s, table) -> torch.Tensor:
    """(Q11) by the table alone; acc [rows, N] → codes float32 [rows, N]."""
    index = requantize(acc, b, m, s, *INDEX)
    return wide(table, acc.device)[(index + 128).long()].float()


def activation(acc: torch.Tensor, b, m, s, table, use_table, look_up=look_up) -> torch.Tensor:
    """(Q11) with uint8 codes; acc [rows, N] → codes float32 [rows, N]. `look_up` is what the table's channels do."""
    out = look_up(acc, b, m, s, table)
    direct = torch.as_tensor(use_table, device=acc.device) == 0
    if direct.any():
        part = [torch.as_tensor(x, device=acc.device)[direct] for x in (b, m, s)]
        out[:, direct] = requantize(acc[:, direct], *part, *UINT8).float()
    return out


def onto_int16(acc: torch.Tensor, b, m, s) -> torch.Tensor:
    """(Q12, Q13, Q20) A product on an int16 grid, acc [rows, N] → float64 [rows, N]."""
    return requantize(acc, b, m, s, *INT16)


def residual(acc: torch.Tensor, b, m, s, y: torch.Tensor, m_r, s_r) -> torch.Tensor:
    """(Q12) → x [rows, N]."""
    kept = clamp16(round_shift(y * wide(m_r, y.device), s_r))
    return clamp16(onto_int16(acc, b, m, s) + kept)


def branch_operand(h: torch.Tensor, m, s) -> torch.Tensor:
    """(Q25) An adapter's operand float32 of a branch h [rows, N] on its int16 grid."""
    return round_shift(h * wide(m, h.device), s).clamp_(*INT8).float()


def reciprocal(total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(Q16) Σ ≥ 1 → r, p."""
    p = (torch.frexp(total)[1] - 1).to(torch.float64)
    r = torch.floor((torch.floor(torch.exp2(p + 17) / total) + 1) / 2)
    return r.clamp_(max=65535), p


def average_values(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    batch: Batch,
    score_m,
    score_s,
    exp_table,
    normalized: bool,
    spans: Sequence[int] | None = None,
) -> torch.Tensor:
    """(Q14–Q18, Q23) q, k, v float32 [rows, heads · d] → u, V averaged over each row's own sentence, of the same shape.

    spans [heads]: how far each head sees, everything if None. The table ends with 0.
    """
    heads = len(score_m)
    score = [wide(part, q.device)[:, None, None] for part in (score_m, score_s)]
    exp_table = wide(exp_table, q.device)
    average = torch.empty_like(v, dtype=torch.float64)
    for rows in batch.groups():  # [sentences, length]
        shape = (*rows.shape, heads, -1)
        qs, ks, vs = (x[rows].view(shape).transpose(1, 2) for x in (q, k, v))  # [sentences, heads, length, d]
        x = requantize(qs @ ks.mT, 0, *score, *INT16)
        if spans is not None:
            x.masked_fill_(unseen(rows.shape[1], spans, x.device), -(2.0**17))  # 255 below every score, and more
        e = exp_table[(x.amax(dim=-1, keepdim=True) - x).clamp_(max=255).long()]
        r, p = reciprocal(e.sum(dim=-1, keepdim=True))
        if normalized:
            e = round_shift(e * r * 255, p + 16)
            r, p = torch.full_like(r, 32897), torch.full_like(p, 7)
        u = round_shift((e.float() @ vs).double() * r, p + 8)
        average[rows] = u.transpose(1, 2).flatten(2)
    return average


class Units:
    """The engine's units, and how their parameters are encoded: all that an ablation may compute in real numbers.

    A subclass that encodes a parameter otherwise also has the unit that reads it.
    """

    encode_factor = staticmethod(encode_factor)
    snap_factor = staticmethod(snap_factor)
    encode_rows = staticmethod(encode_rows)
    embed = staticmethod(embed)
    encode_gamma = staticmethod(encode_gamma)
    encode_beta = staticmethod(encode_beta)
    normalised = staticmethod(normalised)
    scale_shift = staticmethod(scale_shift)
    average_values = staticmethod(average_values)
    gelu_table = staticmethod(gelu_table)
    activation = staticmethod(activation)
    tanh_table = staticmethod(tanh_table)
    tanh = staticmethod(look_up)
    residual = staticmethod(residual)
    onto_int16 = staticmethod(onto_int16)


ENGINE = Units()


class FakeQuantModel:
    """Runs an artifact's tensors (numpy arrays by name) on batches; those of an ablation with its `units`."""

    def __init__(self, manifest: dict, tensors: Mapping[str, np.ndarray], units: Units = ENGINE):
        architecture = manifest["architecture"]
        self.units = units
        self.owners = architecture["weights"]
        self.normalized = manifest["softmax"] == "normalized"
        self.pooled = manifest["task"]["kind"] == "sequence"
        self.adapters = manifest.get("adapters")
        self.spans = manifest["spans"] or [None] * len(self.owners)
        self.ramps = ramps(manifest)
        self.ramp_pooler = bool(manifest["exits"]) and manifest["exits"]["pooler"]
        self.t = t = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
        # what the entries of each layer's q, k, v are taken from, and last those of the head
        first = "embeddings.norm" if architecture["family"] == "bert" else "mapping"
        self.sources = [first, *(f"layers.{i}.ffn_norm" for i in range(len(self.owners)))]
        for part, rows in zip("qms", word_rows(architecture, tensors), strict=True):
            t[f"embeddings.word.{part}"] = torch.from_numpy(np.array(rows))
        for i in sorted(set(self.owners)):
            inputs = dict.fromkeys("qkv", int(t[f"{self.sources[i]}.entries"].sum()))
            inputs["o"] = len(t[f"layers.{i}.attention.context_m"])
            inputs["ffn1"] = int(t[f"layers.{i}.attention_norm.entries"].sum())
            inputs["ffn2"] = len(t[f"layers.{i}.ffn1.bias"])
            for name, k in inputs.items():
                weight = f"layers.{i}.{name}.weight"
                if t[weight].dtype == torch.uint8:
                    t[weight] = torch.from_numpy(unpack_nibbles(tensors[weight], k))
                t[weight] = t[weight].float()

    def part(self, name: str, *fields: str) -> list[torch.Tensor]:
        """Tensors name.field, in order."""
        return [self.t[f"{name}.{field}"] for field in fields]

    def linear(self, name: str, a: torch.Tensor, amax: int = 127, owner: str | None = None) -> list[torch.Tensor]:
        """acc, b, m, s; the matrix is that of the linear layer `owner`, or its own."""
        return [linear(self.t[f"{owner or name}.weight"], a, amax), *self.part(name, "bias", "m", "s")]

    def norm(self, name: str, x: torch.Tensor, tap: Tap) -> torch.Tensor:
        """y of a layer norm."""
        z = self.units.normalised(x)
        part = name.split(".")
        if self.adapters is not None and part[0] == "layers":  # layers of one matrix have one γ and β
            part[1] = str(self.owners[int(part[1])])
        words = self.part(".".join(part), "gamma", "gamma_shift", "beta", "beta_shift")
        y = self.units.scale_shift(z, *words)
        tap(f"{name}.y", y)
        return y

    def operand(self, name: str, y: torch.Tensor) -> torch.Tensor:
        """(Q9) The operand that y of a layer norm, or of `mapping`, becomes."""
        return entries(y, self.t[f"{name}.entries"], *self.t[f"{name}.operand"])

    def embedding(self, batch: Batch, tap: Tap) -> torch.Tensor:
        """(Q6, Q7, Q20) The residual stream that the first layer reads, [rows, hidden]."""
        x = self.units.embed({field: self.part(f"embeddings.{field}", "q", "m", "s") for field in FIELDS}, batch)
        tap("embeddings.sum", x)
        y = self.norm("embeddings.norm", x, tap)
        if self.sources[0] == "mapping":
            y = self.units.onto_int16(*self.linear("mapping", self.operand("embeddings.norm", y)))
            tap("mapping.x", y)
        return y

    def layer(self, i: int, y: torch.Tensor, batch: Batch, tap: Tap) -> torch.Tensor:
        """Layer i, from the residual stream before it to that after it."""
        t, units, at = self.t, self.units, f"layers.{i}"

        def multiply(name: str, a: torch.Tensor, amax: int = 127) -> list[torch.Tensor]:
            return self.linear(f"{at}.{name}", a, amax, owner=f"layers.{self.owners[i]}.{name}")

        a = self.operand(self.sources[i], y)
        q, k, v = (requantize(*multiply(name, a), *INT8).float() for name in "qkv")
        tap(f"{at}.q", q), tap(f"{at}.k", k), tap(f"{at}.v", v)
        score = self.part(f"{at}.attention", "score_m", "score_s")
        average = units.average_values(q, k, v, batch, *score, t["softmax.exp"], self.normalized, self.spans[i])
        context = requantize(average, 0, *self.part(f"{at}.attention", "context_m", "context_s"), *INT8).float()
        tap(f"{at}.context", context)
        x = self.add(i, "o", "attention_adapter", multiply("o", context), y, tap)
        y = self.norm(f"{at}.attention_norm", x, tap)
        acc = multiply("ffn1", self.operand(f"{at}.attention_norm", y))
        codes = units.activation(*acc, t[f"{at}.gelu"], t[f"{at}.ffn1.table"])
        tap(f"{at}.ffn1", codes)
        x = self.add(i, "ffn2", "ffn_adapter", multiply("ffn2", codes, 255), y, tap)
        return self.norm(f"{at}.ffn_norm", x, tap)

    def add(
        self, i: int, branch: str, adapter: str, product: list[torch.Tensor], y: torch.Tensor, tap: Tap
    ) -> torch.Tensor:
        """(Q12, Q25) The residual y and what a branch of layer i gives, by way of its adapter."""
        t, at = self.t, f"layers.{i}.{branch}"
        x = self.units.residual(*product, y, *t[f"{at}.residual"])
        tap(f"{at}.x", x)
        if self.adapters is None:
            return x
        h = branch_operand(self.units.onto_int16(*product), *self.part(at, "adapter_m", "adapter_s"))
        own = f"layers.{self.adapters['owners'][i]}.{adapter}"
        down = look_up(*self.linear(f"{own}.down", h), t[f"{own}.table"])
        tap(f"layers.{i}.{adapter}.down", down)
        x = clamp16(x + self.units.onto_int16(*self.linear(f"{own}.up", down)))
        tap(f"layers.{i}.{adapter}.x", x)
        return x

    def head(self, at: str, y: torch.Tensor, source: str, tap: Tap) -> torch.Tensor:
        """(Q19) An off-ramp (`at` "exits.0.") or the model's own head ("") on what comes from norm `source`."""
        a = self.operand(source, y)
        if self.pooled:
            tap(f"{at}gathered", a)
        if self.ramp_pooler if at else self.pooled:
            a = self.units.tanh(*self.linear(f"{at}pooler", a), self.t["pooler.tanh"])
            tap(f"{at}pooler", a)
        logits = self.units.onto_int16(*self.linear(at[:-1] or "classifier", a))
        tap(f"{at}logits", logits)
        return logits

    @torch.inference_mode()
    def forward(self, batch: Batch, tap: Tap = lambda name, value: None) -> torch.Tensor:
        """Logits float64 [sentences, labels], or [rows, labels] with kind token; taps as the golden trace."""
        y = self.embedding(batch, tap)
        for i in range(len(self.owners)):
            y = self.layer(i, y, batch, tap)
        return self.head("", y[batch.first] if self.pooled else y, self.sources[-1], tap)

    @torch.inference_mode()
    def every_ramp(self, batch: Batch, tap: Tap = lambda name, value: None) -> torch.Tensor:
        """Logits float64 [sentences, layers, labels] of all off-ramps, the model's own answer last."""
        y, logits = self.embedding(batch, tap), []
        for i in range(len(self.owners)):
            y = self.layer(i, y, batch, tap)
            if i in self.ramps:
                logits.append(self.head(f"exits.{i}.", y[batch.first], self.sources[i + 1], tap))
        return torch.stack([*logits, self.head("", y[batch.first], self.sources[-1], tap)], dim=1)
