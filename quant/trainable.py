# SPDX-License-Identifier: Apache-2.0
"""A calibrated model that can be trained: latent real values behind every integer, the engine's arithmetic in front.

What is trained is what runs: `forward` gives the integers of the golden model, and `tensors` is the artifact of that
very state. Trained are the matrices, their clips (a scale a row), biases, γ, β and the clips of the norms' operands;
a clip's scale goes into the factor of the product, so that moving it changes rounding and saturation, not the value.
Grids, tables, channel splits, attention's factors and the embeddings stay as calibrated.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from . import fake_quant
from . import straight_through as ste
from .artifact_tensors import Place, linears, norms, operands, ramps
from .batch import Batch
from .packing import check_linear, pack_nibbles, unpack_nibbles
from .pruning import keep, matrix_density
from .scales import FACTOR_MAX, FACTOR_MIN
from .tables import GELU_MIN
from .words import word_rows

LIMIT = {4: 7, 8: 127}
_SPREAD_CODE, _SPREAD_RESIDUAL, _SPREAD_LOGIT = 32.0, 2000.0, 5000.0  # usual size of what a bias is added to, in steps
_MAX_BIAS = 2.0**25
_WITHIN = 0.98  # of a step
_MAX_BETA = 127.0 * 2**8

Tap = Callable[[str, torch.Tensor], None]


class TrainableModel:
    """An artifact's tensors as parameters (`parameters`: name → Parameter, all of about unit size)."""

    def __init__(
        self,
        manifest: Mapping,
        tensors: Mapping[str, np.ndarray],
        device: torch.device | str = "cpu",
        seed: int = 0,
    ):
        """manifest and tensors as of an artifact of kind "sequence"; they are copied. ValueError for another kind.

        An integer weight says no more of its real value than that it rounds there, so each starts at a place of its
        step drawn by `seed`: at the middle all would be half a step from any change.
        """
        if manifest["task"]["kind"] != "sequence":
            raise ValueError(f"task.kind is {manifest['task']['kind']!r}: only sequence classifiers are trained here")
        if manifest.get("adapters") is not None:
            raise ValueError("adapters: a task on a backbone is trained in float (docs/tasks.md), not in integers")
        a = manifest["architecture"]
        self.manifest, self.device = manifest, torch.device(device)
        self.layers = a["layers"]
        self.spans = manifest["spans"] or [None] * self.layers
        self.normalized = manifest["softmax"] == "normalized"
        self.given = dict(tensors)
        self.random = torch.Generator().manual_seed(seed)
        self.parameters: dict[str, torch.nn.Parameter] = {}
        self.t = {name: torch.as_tensor(np.array(t), device=device) for name, t in tensors.items()}
        for part, rows in zip("qms", word_rows(a, tensors), strict=True):
            self.t[f"embeddings.word.{part}"] = torch.as_tensor(np.array(rows), device=device)
        tables = [name for name in self.t if name.endswith((".gelu", ".tanh"))]
        self.rises = {name: ste.slope(self.t[name].cpu()).to(device) for name in tables}
        self.places = {place.name: place for place in linears(manifest)}
        self.classifiers = {"classifier", *(f"exits.{i}" for i in ramps(manifest))}
        self.factors: dict[str, torch.Tensor] = {}
        self.centres: dict[str, torch.Tensor] = {}
        self.masks: dict[str, torch.Tensor] = {}  # of pruned matrices, by name: 1 where a weight may be other than 0
        with torch.no_grad():
            for name in self.places:
                self._add_linear(name)
            for name, _ in norms(manifest):
                self._add_norm(name)
            for name, _, _ in operands(manifest):
                self._add_operand(name)

    # what stands for what ------------------------------------------------------------------------------------------

    def _add(self, name: str, value: torch.Tensor) -> None:
        self.parameters[name] = torch.nn.Parameter(value.to(self.device))

    def _add_linear(self, name: str) -> None:
        place = self.places[name]
        if name == place.matrix:
            q = self._integers(place)
            within = torch.rand(q.shape, generator=self.random) - 0.5
            self._add(f"{name}.weight", (torch.as_tensor(q) + _WITHIN * within) / LIMIT[place.bits])
            self._add(f"{name}.clip", torch.zeros(len(q), dtype=torch.float64))
        f = self.t[f"{name}.m"].double() * torch.exp2(-self.t[f"{name}.s"].double())
        self.factors[name] = f
        if name.endswith(".ffn2"):
            at = name.removesuffix(".ffn2")
            scale = self.manifest["scales"]["activations"].get(f"{at}.ffn1")
            zero = round(GELU_MIN / scale) if scale else 0
            self.centres[name] = zero * self.t[f"{at}.ffn1.table"].double()
        bias = self.t[f"{name}.bias"].double() + self._centre(name, self._matrix(name).double())
        self._add(f"{name}.bias", bias * f / self._spread(name))

    def _integers(self, place: Place) -> np.ndarray:
        """The given matrix, int8 [N, K]."""
        weight = self.given[f"{place.matrix}.weight"]
        return unpack_nibbles(weight, place.k) if place.bits == 4 else np.array(weight)

    def _add_norm(self, name: str) -> None:
        gamma = self.t[f"{name}.gamma"].double() * torch.exp2(-self.t[f"{name}.gamma_shift"].double())
        beta = self.t[f"{name}.beta"].double() * torch.exp2(self.t[f"{name}.beta_shift"].double())
        size = gamma.abs().mean().clamp(min=2.0**-31)
        self.factors[name] = size
        self._add(f"{name}.gamma", gamma / size)
        self._add(f"{name}.beta", beta / (2048 * size))

    def _add_operand(self, name: str) -> None:
        m, s = self.t[f"{name}.operand"].double()
        self.factors[f"{name}.operand"] = m * torch.exp2(-s)
        self._add(f"{name}.operand_clip", torch.zeros((), dtype=torch.float64))

    def _spread(self, name: str) -> float:
        kind = name.rpartition(".")[2]
        if kind in ("o", "ffn2", "mapping"):
            return _SPREAD_RESIDUAL
        return _SPREAD_LOGIT if name in self.classifiers else _SPREAD_CODE

    def _matrix(self, name: str) -> torch.Tensor:
        """Integer weights [N, K], float32 with gradients to the latent ones and their clip."""
        matrix, limit = self.places[name].matrix, LIMIT[self.places[name].bits]
        clip = self.parameters[f"{matrix}.clip"].exp().float()[:, None]
        latent = self.parameters[f"{matrix}.weight"]
        if matrix in self.masks:
            latent = latent * self.masks[matrix]
        return ste.round_clamp(latent * (limit / clip), -limit, limit)

    def _centre(self, name: str, w: torch.Tensor) -> torch.Tensor | float:
        """What the zero point of the operand adds to a product, [N]: it goes with the weights, not with the bias."""
        return w.double() @ self.centres[name] if name in self.centres else 0.0

    def _parts(self, name: str, before: str | None) -> tuple[torch.Tensor, torch.Tensor, tuple]:
        """Weights [N, K], bias [N] and factor [N] of a product whose operand comes from norm `before`."""
        w = self._matrix(name)
        f = self.factors[name] * self.parameters[f"{self.places[name].matrix}.clip"].exp()
        if before is not None:
            f = f * self.parameters[f"{before}.operand_clip"].exp()
        alive = self.factors[name] > 0
        f = torch.where(alive, f.clamp(FACTOR_MIN, FACTOR_MAX), 0.0)
        real = self.parameters[f"{name}.bias"] * self._spread(name)
        b = torch.where(alive, real / f.clamp(min=FACTOR_MIN), self.t[f"{name}.bias"].double())
        b = ste.round_clamp(b - torch.where(alive, self._centre(name, w), 0.0), -_MAX_BIAS, _MAX_BIAS)
        return w, b, ste.factor(f)

    def _norm_values(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        size = self.factors[name]
        gamma = self.parameters[f"{name}.gamma"] * size
        return gamma, (self.parameters[f"{name}.beta"] * (2048 * size)).clamp(-_MAX_BETA, _MAX_BETA)

    def _operand_factor(self, name: str) -> tuple:
        f = self.factors[f"{name}.operand"] * (-self.parameters[f"{name}.operand_clip"]).exp()
        return ste.factor(f.clamp(FACTOR_MIN, FACTOR_MAX))

    # pruning -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prune(self, density: float, pattern: str = "free") -> None:
        """Hold all but the largest weights of each int4 matrix at 0, in steps of their rows, as `pruning.keep` has it.

        Where heads vanished the density is that of `matrix_density`.
        What was held before is 0 and so stays; the masks follow from the parameters alone.
        """
        for name, place in self.places.items():
            if place.bits == 4 and name == place.matrix:
                steps = self.parameters[f"{name}.weight"].abs() / self.parameters[f"{name}.clip"].exp()[:, None]
                if pattern == "blocks":  # two that round to 0 shall not outweigh, in a pair's sum, one that does not
                    steps = torch.where(steps * LIMIT[place.bits] < 0.5, 1e-3 * steps, steps)
                mask = torch.from_numpy(keep(steps.cpu().numpy(), self._density(name, density, pattern), pattern))
                self.masks[name] = mask.to(self.device, torch.float32)
        self.hold()

    def _density(self, name: str, density: float, pattern: str) -> float:
        a = self.manifest["architecture"]
        _, i, kind = name.split(".")
        return matrix_density(density, a["heads"], a["layer_heads"][int(i)], kind, pattern)

    @torch.no_grad()
    def hold(self) -> None:
        """Set the latent weights of what is pruned to 0, which an optimizer's momentum may have moved."""
        for name, mask in self.masks.items():
            self.parameters[f"{name}.weight"].mul_(mask)

    # the model -----------------------------------------------------------------------------------------------------

    def linear(self, name: str, a: torch.Tensor, before: str | None = None) -> tuple:
        """acc, b, f of a linear layer on the operand a [rows, K] float32."""
        w, b, f = self._parts(name, before)
        return fake_quant.linear(w, a, self.places[name].amax), b, f

    def norm(self, name: str, x: torch.Tensor, tap: Tap) -> torch.Tensor:
        """y of a layer norm."""
        y = ste.layer_norm(x, *self._norm_values(name))
        tap(f"{name}.y", y)
        return y

    def operand(self, name: str, y: torch.Tensor) -> torch.Tensor:
        """The operand that a norm's output becomes."""
        return ste.entries(y, self._operand_factor(name), self.t[f"{name}.entries"].long())

    def forward(self, batch: Batch, tap: Tap = lambda name, value: None) -> torch.Tensor:
        """Logits [sentences, labels], float32 integers; taps as the golden trace.

        With off-ramps [sentences, layers, labels], those of all ramps, the model's own answer last.
        """
        t = self.t
        tables = {
            field: tuple(t[f"embeddings.{field}.{part}"] for part in "qms") for field in ("word", "position", "type")
        }
        x = fake_quant.embed(tables, batch).float()
        tap("embeddings.sum", x)
        before = "embeddings.norm"
        y = self.norm(before, x, tap)
        if self.manifest["architecture"]["family"] == "albert":
            product = ste.requantize(*self.linear("mapping", self.operand(before, y), before), *fake_quant.INT16)
            before, y = "mapping", product
            tap("mapping.x", y)
        logits = []
        for i in range(self.layers):
            before, y = self._layer(i, before, y, batch, tap)
            if i in ramps(self.manifest):
                logits.append(self._head(f"exits.{i}.", before, y[batch.first], tap))
        logits.append(self._head("", before, y[batch.first], tap))
        return torch.stack(logits, dim=1) if self.manifest["exits"] else logits[-1]

    def _head(self, at: str, before: str, y: torch.Tensor, tap: Tap) -> torch.Tensor:
        """An off-ramp (`at` "exits.0.") or the model's own head ("") on the [CLS] rows y that come from `before`."""
        t, a, pooler = self.t, self.operand(before, y), f"{at}pooler"
        tap(f"{at}gathered", a)
        if pooler in self.places:
            none = torch.zeros(len(t[f"{pooler}.bias"]), dtype=torch.bool, device=self.device)
            product = self.linear(pooler, a, before)
            a, before = ste.activation(*product, t["pooler.tanh"], self.rises["pooler.tanh"], none), None
            tap(pooler, a)
        logits = ste.requantize(*self.linear(at[:-1] or "classifier", a, before), *fake_quant.INT16)
        tap(f"{at}logits", logits)
        return logits

    def _layer(self, i: int, before: str, y: torch.Tensor, batch: Batch, tap: Tap) -> tuple[str, torch.Tensor]:
        t, at = self.t, f"layers.{i}"
        a = self.operand(before, y)
        q, k, v = (ste.requantize(*self.linear(f"{at}.{n}", a, before), *fake_quant.INT8) for n in "qkv")
        tap(f"{at}.q", q), tap(f"{at}.k", k), tap(f"{at}.v", v)
        score, context = (tuple(t[f"{at}.attention.{part}_{x}"] for x in "ms") for part in ("score", "context"))
        context = ste.attention(q, k, v, batch, score, context, t["softmax.exp"], self.normalized, self.spans[i])
        tap(f"{at}.context", context)
        product = ste.requantize(*self.linear(f"{at}.o", context), *fake_quant.INT16)
        x = ste.residual(product, y, *t[f"{at}.o.residual"])
        tap(f"{at}.o.x", x)
        norm = f"{at}.attention_norm"
        y = self.norm(norm, x, tap)
        table, direct = t[f"{at}.gelu"], t[f"{at}.ffn1.table"] == 0
        codes = ste.activation(
            *self.linear(f"{at}.ffn1", self.operand(norm, y), norm), table, self.rises[f"{at}.gelu"], direct
        )
        tap(f"{at}.ffn1", codes)
        product = ste.requantize(*self.linear(f"{at}.ffn2", codes), *fake_quant.INT16)
        x = ste.residual(product, y, *t[f"{at}.ffn2.residual"])
        tap(f"{at}.ffn2.x", x)
        return f"{at}.ffn_norm", self.norm(f"{at}.ffn_norm", x, tap)

    # the artifact --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def tensors(self) -> dict[str, np.ndarray]:
        """The artifact's tensors of the present state. Raises ValueError where a product could overflow."""
        out = dict(self.given)
        for name, before in self._operands():
            w, b, (_, m, s) = self._parts(name, before)
            place = self.places[name]
            q, b = w.cpu().numpy().astype(np.int8), b.cpu().numpy().astype(np.int64)
            check_linear(name, q, b, place.amax, place.bits)
            if name == place.matrix:
                out[f"{name}.weight"] = pack_nibbles(q) if place.bits == 4 else q
            out[f"{name}.bias"] = b.astype(np.int32)
            out[f"{name}.m"], out[f"{name}.s"] = (part.cpu().numpy().astype(np.uint8) for part in (m, s))
        for name, _ in norms(self.manifest):
            parts = ste.norm_parts(*self._norm_values(name))
            for part, value in zip(("gamma", "gamma_shift", "beta", "beta_shift"), parts, strict=True):
                out[f"{name}.{part}"] = value.cpu().numpy().astype(np.uint8 if part.endswith("shift") else np.int8)
        for name, _, _ in operands(self.manifest):
            _, m, s = self._operand_factor(name)
            out[f"{name}.operand"] = np.array([int(m), int(s)], np.int32)
        return out

    @torch.no_grad()
    def moved(self) -> float:
        """Share of the matrices' integers that are no longer the given ones, 0..1."""
        places = [place for place in self.places.values() if place.name == place.matrix]
        others = sum(int((self._matrix(p.name).cpu() != torch.as_tensor(self._integers(p))).sum()) for p in places)
        return others / sum(place.n * place.k for place in places)

    def _operands(self) -> list[tuple[str, str | None]]:
        """Every linear layer and the norm that its operand comes from, None for others."""
        before, found = "embeddings.norm", []
        for name in self.places:
            kind = name.rpartition(".")[2]
            if kind == "ffn1":
                norm = f"{name.removesuffix('.ffn1')}.attention_norm"
            elif name.startswith("exits."):
                norm = f"layers.{name.split('.')[1]}.ffn_norm"
            else:
                norm = before
            pooler = "pooler" if name == "classifier" else f"{name}.pooler"
            found.append((name, None if pooler in self.places or kind in ("o", "ffn2") else norm))
            if kind == "mapping":
                before = "mapping"
            elif kind == "ffn2":
                before = f"{name.removesuffix('.ffn2')}.ffn_norm"
        return found
