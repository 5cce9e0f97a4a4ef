# SPDX-License-Identifier: Apache-2.0
"""The quantizer's one way through a model, from the embedding to the logits.

The float model and the integer model go side by side. Each step chooses its scales, fits its integer weights to the
operand that the already integer part before it really delivers (not to the float one), and runs, so that later steps
make up for earlier errors. Where layers share their matrices, these are fitted before (shared.py), and each layer fits
the rest.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from . import fake_quant, float_model
from .adaptivfloat import encode_table, factor, fitting_grid
from .batch import Batch, make_batch
from .calibrate import Calibration, clip_scale, context_scale, score_scales, split_channels, split_gelu, tanh_step
from .checkpoint import Layer, Linear, ModelWeights, Norm, Ramp
from .codes import Code
from .linears import Fitted, Matrix, Operand, Pruning, fit, make_operand, refit
from .options import Options
from .packing import check_linear, pack_nibbles
from .pruning import matrix_density
from .scales import FACTOR_MAX, Z_STEP
from .shared import Shared, groups, share
from .tables import CONTEXT_STEP, SCORE_STEP, exp_table
from .words import word_rows

_MARGIN = 1.5  # room above the moving average of the largest value, on int16 grids
_INT16 = 32767
_SEARCH_ROWS = 2000  # that a search over scales looks at


class Readers(NamedTuple):
    """What reads a residual stream, and the entries e of its operand where they are chosen already."""

    linears: list[Linear]
    entries: np.ndarray | None = None


def int16_grid(peak: float) -> float:
    """The step of an int16 grid for values that reach `peak`."""
    return _MARGIN * peak / _INT16


def kept(x: np.ndarray, kind: type) -> np.ndarray:
    """Integers as the artifact holds them, real numbers (units.py) as they are."""
    return x.astype(kind) if x.dtype.kind == "i" else x


def encode_norm(units: type[fake_quant.Units], gamma: np.ndarray, beta: np.ndarray, grid: float) -> dict:
    """(Q7) gamma, gamma_shift, beta, beta_shift [channels] for an output in steps of `grid`."""
    parts = dict(zip(("gamma", "gamma_shift"), units.encode_gamma(gamma, grid), strict=True))
    parts |= dict(zip(("beta", "beta_shift"), units.encode_beta(beta, grid), strict=True))
    return {part: kept(value, np.uint8 if part.endswith("shift") else np.int8) for part, value in parts.items()}


class Walk:
    """The state of the walk: tensors made so far, their codes, and the statistics' weights."""

    def __init__(self, weights: ModelWeights, calibration: Calibration, options: Options, on_step):
        """options: as `Options.checked` gives them."""
        self.weights, self.calibration, self.options, self.on_step = weights, calibration, options, on_step
        self.units = options.units
        self.batch: Batch = make_batch(calibration.sentences)
        self.t: dict[str, np.ndarray] = {}
        self.codes: dict[str, Code] = {}
        self.grid: dict[str, float] = {}  # of the residual stream after each norm, and after the mapping
        self.shared: dict[int, Shared] = {}
        self.first: list[tuple[str, torch.Tensor, torch.Tensor]] = []  # norm, float and integer [CLS] rows of each ramp
        names = ("embedding_norm", "mapping", "attention_norm", "ffn_norm", "ffn")
        self.entries: dict[str, list[int]] = {name: [] for name in names}
        rows = len(self.batch.ids)
        self.share = torch.full((rows,), 1 / rows)  # of each row in the statistics
        self.stride = max(1, rows // _SEARCH_ROWS)

    def run(self) -> None:
        """Fill `t`, `codes` and `entries`."""
        w = self.weights
        if groups(w):
            self.on_step("shared matrices")
            self.shared = share(w, len(self.batch.ids), self.options, self.float_forward)
        self.on_step("embeddings")
        self.t["softmax.exp"] = exp_table()
        x, y_float = self.embedding()
        before = "embeddings.norm"
        readers = self.readers(0) if w.mapping is None else Readers([w.mapping])
        y, operand = self.norm(before, "embedding_norm", w.embedding_norm, x, y_float, readers)
        if w.mapping is not None:
            self.on_step("mapping")
            before = "mapping"
            y_float, y, operand = self.mapping(w.mapping, operand, y_float)
        for i, layer in enumerate(w.layers):
            y_float, y, operand = self.layer(i, layer, before, y_float, y, operand)
            before = f"layers.{i}.ffn_norm"
            if i < len(w.ramps):
                self.first.append((before, y_float[self.batch.first], y[self.batch.first]))
        self.on_step("head")
        self.head(before, y_float, y, operand)
        if w.ramps:
            self.on_step("off-ramps")
            for i, ramp in enumerate(w.ramps):
                self.ramp(i, ramp)

    def float_forward(self, tap: float_model.Tap) -> None:
        """The calibration's rows through the float model."""
        float_model.forward(self.weights, self.batch, tap)

    def float_layer(self, i: int, y: torch.Tensor, tap: float_model.Tap) -> torch.Tensor:
        """The same through its layer i."""
        return float_model.encoder_layer(self.weights, i, y, self.batch, tap)

    def readers(self, i: int) -> Readers:
        """What reads the residual stream before layer i, or before the head."""
        w = self.weights
        if i == len(w.layers):
            return Readers([w.classifier if w.pooler is None else w.pooler])
        shared = self.shared_by(i)
        return Readers([getattr(w.layers[i], name) for name in "qkv"], shared and shared.stream)

    def shared_by(self, i: int) -> Shared | None:
        """What layer i has in common with others."""
        return self.shared.get(self.weights.architecture.weights[i])

    # the model's parts: each makes tensors, and returns what the integer model computes with them -------------------

    def embedding(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(Q6) x [rows, hidden], and the float layer norm's output."""
        w, adaptive = self.weights, self.options.word_format == "adaptivfloat"
        fields = {"word": w.word.numpy(), "position": w.position.numpy(), "type": w.type.numpy()}
        if adaptive:
            words = encode_table(fields.pop("word"), self.options.word_density)
        peaks = [float(np.abs(table).max()) for table in fields.values()] + ([words.peak] if adaptive else [])
        # no sum saturates, and the factor of the largest row is below 127.5
        grid = 1.01 * max(sum(peaks) / _INT16, max(peaks) / (7 * 16 * FACTOR_MAX))
        tables = {}
        if adaptive:
            grid = fitting_grid(words.step, grid)
            self.t["embeddings.word.q"] = words.codes
            self.t["embeddings.word.factor"] = factor(words.step, grid)
            tables["word"] = word_rows({"word_format": "adaptivfloat"}, self.t)
        for name, table in fields.items():
            bits = self.options.word_bits if name == "word" else 8
            q, m, s = self.units.encode_rows(table, grid, bits, w.embedding_norm.gamma.numpy() ** 2)
            nibbles = bits == 4 and q.dtype == np.int8
            self.t[f"embeddings.{name}.q"] = pack_nibbles(q) if nibbles else q
            self.put_factor(f"embeddings.{name}.", m, s)
            tables[name] = (q * np.int8(16) if nibbles else q, m, s)
        self.codes["embeddings.sum"] = Code(np.float64(grid))
        x_float = float_model.embedding_sum(w, self.batch)
        y_float = float_model.normalise(w.embedding_norm, x_float, w.architecture.eps)
        return self.units.embed(tables, self.batch), y_float

    def norm(
        self, name: str, group: str, norm: Norm, x: torch.Tensor, y_float: torch.Tensor, readers: Readers
    ) -> tuple[torch.Tensor, Operand]:
        """(Q7, Q9) y [rows, channels] for the integer input x, and the operand it becomes for its readers."""
        self.grid[name] = grid = int16_grid(self.calibration.peak(f"{name}.y"))
        self.codes[f"{name}.y"] = Code(np.float64(grid))
        y = self.scaled(name, norm, self.units.normalised(x), y_float)
        return y, self.split(name, group, y, readers)

    def scaled(self, name: str, norm: Norm, z: torch.Tensor, y_float: torch.Tensor) -> torch.Tensor:
        """(Q7) γ and β, fitted to y_float, and y of the integer model's z [rows, channels]."""
        gamma, beta = norm.gamma.numpy().astype(np.float64), norm.beta.numpy().astype(np.float64)
        if self.options.follow:
            gamma, beta = self.affine(z, y_float, gamma)
        parts = encode_norm(self.units, gamma, beta, self.grid[name])
        self.t |= {f"{name}.{part}": value for part, value in parts.items()}
        return self.units.scale_shift(z, *parts.values())

    def split(self, name: str, group: str, y: torch.Tensor, readers: Readers) -> Operand:
        """(Q9) The residual stream y as the operand of its readers."""
        importance = sum(linear.weight.square().sum(dim=0) for linear in readers.linears)
        real = (y[:: self.stride] * self.grid[name]).float()
        scale, e = split_channels(real, importance, self.options.norm_entries, readers.entries)
        m, s = self.units.encode_factor(self.grid[name] / scale)
        self.t[f"{name}.entries"] = e.astype(np.uint8)
        self.t[f"{name}.operand"] = kept(np.array([m, s]), np.int32)
        self.entries[group].append(int(e.sum()))
        return self.operand(name, y, self.share)

    def operand(self, name: str, y: torch.Tensor, share: torch.Tensor) -> Operand:
        """(Q9) What the rows y are for their readers, once `split`."""
        e, (m, s) = self.t[f"{name}.entries"], self.t[f"{name}.operand"].tolist()
        source = np.repeat(np.arange(len(e)), e)
        step = np.full(len(source), self.grid[name] / (m * 2.0**-s))
        return make_operand(fake_quant.entries(y, e, m, s), step, source, 127, share)

    def mapping(
        self, linear: Linear, operand: Operand, y_float: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Operand]:
        """(Q20) y_float and y [rows, hidden], and the operand of layer 0."""
        y_float = float_model.apply(linear, y_float)
        self.grid["mapping"] = grid = int16_grid(self.calibration.peak("mapping.x"))
        self.codes["mapping.x"] = Code(np.float64(grid))
        acc, parts = self.linear("mapping", linear, operand, y_float, np.full(len(linear.bias), grid), bits=8)
        y = self.units.onto_int16(acc, *parts)
        return y_float, y, self.split("mapping", "mapping", y, self.readers(0))

    def layer(
        self, i: int, layer: Layer, before: str, y_float: torch.Tensor, y: torch.Tensor, operand: Operand
    ) -> tuple[torch.Tensor, torch.Tensor, Operand]:
        """One encoder layer: y_float and y after it, and the operand for its readers."""
        shared = self.shared_by(i)
        at = f"layers.{i}"
        taps: dict[str, torch.Tensor] = {}
        y_float = self.float_layer(i, y_float, taps.__setitem__)
        self.on_step(f"{at}.attention")
        context, step = self.attention(at, layer, operand, taps)
        operand = make_operand(context, step, np.arange(len(step)), 127, self.share)
        self.on_step(f"{at}.o")
        x = self.residual(f"{at}.o", layer.o, operand, y, before, taps[f"{at}.o.x"])
        norm = f"{at}.attention_norm"
        readers = Readers([layer.ffn1], shared and shared.attention_norm)
        y, operand = self.norm(norm, "attention_norm", layer.attention_norm, x, taps[f"{norm}.y"], readers)
        self.on_step(f"{at}.ffn1")
        operand = self.ffn1(at, layer, operand, taps[f"{at}.ffn1.z"], shared and shared.ffn)
        self.on_step(f"{at}.ffn2")
        x = self.residual(f"{at}.ffn2", layer.ffn2, operand, y, norm, taps[f"{at}.ffn2.x"])
        y, operand = self.norm(f"{at}.ffn_norm", "ffn_norm", layer.ffn_norm, x, y_float, self.readers(i + 1))
        return y_float, y, operand

    def attention(
        self, at: str, layer: Layer, operand: Operand, taps: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, np.ndarray]:
        """(Q10, Q14–Q18, Q23) The context [rows, heads · d] of the heads that are left, and its real step.

        K and V are centred, each channel on its mean: softmax does not notice the one, and the average of V shifts by
        the other, which the bias of the next layer takes up. So the int8 ranges are spent on what varies.
        """
        a = self.weights.architecture
        d, spans = a.head_width, a.spans and a.spans[int(at.removeprefix("layers."))]
        offset = {name: self.share @ taps[f"{at}.{name}"] for name in "kv"} | {"q": 0.0}
        target = {name: taps[f"{at}.{name}"] - offset[name] for name in "qkv"}
        scale = dict(zip("qk", score_scales(target["q"][:: self.stride], target["k"][:: self.stride], d), strict=True))
        scale["v"] = clip_scale(target["v"], target["v"].abs().amax(dim=0)).double().numpy()
        m, s = self.units.encode_factor((scale["q"] * scale["k"])[::d] / math.sqrt(d) / SCORE_STEP)
        self.put_factor(f"{at}.attention.score_", m, s)
        qkv = []
        for name in "qkv":
            acc, parts = self.linear(f"{at}.{name}", getattr(layer, name), operand, target[name], scale[name])
            qkv.append(fake_quant.requantize(acc, *parts, *fake_quant.INT8).float())
            self.codes[f"{at}.{name}"] = Code(scale[name], np.asarray(offset[name], np.float64))

        normalized = self.options.softmax == "normalized"
        average = self.units.average_values(*qkv, self.batch, m, s, self.t["softmax.exp"], normalized, spans)
        step = scale["v"] * CONTEXT_STEP
        wanted = context_scale((average[:: self.stride] * torch.from_numpy(step)).float())
        m, s = self.units.encode_factor(step / wanted)
        self.put_factor(f"{at}.attention.context_", m, s)
        factor = self.units.snap_factor(step / wanted)
        step = np.where(factor > 0, step / np.where(factor > 0, factor, 1.0), wanted)  # without a factor it is 0
        self.codes[f"{at}.context"] = Code(step, self.codes[f"{at}.v"].offset)
        return fake_quant.requantize(average, 0, m, s, *fake_quant.INT8).float(), step

    def residual(
        self, name: str, linear: Linear, operand: Operand, y: torch.Tensor, norm: str, x_float: torch.Tensor
    ) -> torch.Tensor:
        """(Q12) x [rows, hidden], the product and the residual y of `norm`; x_float is what it should be."""
        y_grid = self.grid[norm]
        m, s = self.units.encode_factor(y_grid / int16_grid(self.calibration.peak(f"{name}.x")))
        grid = y_grid / (float(m) * 2.0 ** -float(s))
        self.t[f"{name}.residual"] = kept(np.array([m, s]), np.int32)
        self.codes[f"{name}.x"] = Code(np.float64(grid))
        target = x_float - (y * y_grid).float()
        acc, parts = self.linear(name, linear, operand, target, np.full(len(linear.bias), grid))
        return self.add(name, (acc, *parts), y, m, s)

    def add(self, name: str, product: tuple, y: torch.Tensor, m, s) -> torch.Tensor:
        """(Q12) x of a branch's product (acc, b, m, s) and the residual y with its factor."""
        return self.units.residual(*product, y, m, s)

    def ffn1(self, at: str, layer: Layer, operand: Operand, z_float: torch.Tensor, given: np.ndarray | None) -> Operand:
        """(Q11) The GELU codes as the operand of ffn2; channels that leave the table have direct entries beside it."""
        importance, form = layer.ffn2.weight.square().sum(dim=0), self.weights.architecture.activation
        coding, e = split_gelu(z_float[:: self.stride], importance, self.options.gelu_entries, form, given)
        self.t[f"{at}.gelu"] = table = self.units.gelu_table(coding, form)
        of = coding.entries(e)
        self.t[f"{at}.ffn1.table"] = of.is_table.astype(np.uint8)
        self.entries["ffn"].append(len(of.source))

        bits, one_scale, origin = self.options.weight_bits, np.full(len(e), coding.step), float(np.abs(of.origin).max())
        one = self.fit(f"{at}.ffn1", layer.ffn1, operand, z_float, one_scale, bits, origin=origin, times=e)
        fitted = Fitted(one.q[of.source], one.unit[of.source], one.bias[of.source])
        acc, parts = self.store(f"{at}.ffn1", fitted, fitted.bias_steps(of.origin), of.step, operand, bits)
        codes = self.units.activation(acc, *parts, table, self.t[f"{at}.ffn1.table"])
        offset = np.where(of.is_table, -coding.zp * coding.scale, 0.0)
        self.codes[f"{at}.ffn1"] = Code(np.float64(coding.scale), offset, of.source)
        return make_operand(codes, np.full(len(of.source), coding.scale), of.source, 255, self.share)

    def head(self, before: str, y_float: torch.Tensor, y: torch.Tensor, operand: Operand) -> None:
        """(Q19) Classifier, in int8: on every row, or after the pooler on those of [CLS]. All ramps have its grid."""
        w, first = self.weights, self.batch.first
        peaks = [self.calibration.peak(name) for name in self.calibration.peaks if name.endswith("logits")]
        self.grid["logits"] = 2 * int16_grid(max(peaks))
        each_token = w.pooler is None
        if each_token:
            logits = float_model.head(w, y_float)
        else:
            self.tanh(y_float[first])
            operand, logits = self.pooler("", before, y_float[first], y[first])
        self.classifier("classifier", w.classifier, operand, logits, follow=each_token)

    def tanh(self, y_float: torch.Tensor) -> None:
        """(Q11) The table of all poolers; y_float are the [CLS] rows that the last one reads."""
        w = self.weights
        rows = [(w.pooler, y_float)] + [
            (ramp.pooler, y) for ramp, (_, y, _) in zip(w.ramps, self.first, strict=True) if ramp.pooler is not None
        ]
        z = torch.cat([float_model.apply(pooler, y) for pooler, y in rows])
        self.tanh_step = tanh_step(z)
        self.t["pooler.tanh"] = self.units.tanh_table(self.tanh_step)

    def ramp(self, i: int, ramp: Ramp) -> None:
        """(Q19) The off-ramp behind layer i, as the head is."""
        before, y_float, y = self.first[i]
        if ramp.pooler is None:
            operand = self.operand(before, y, torch.full((len(y),), 1 / len(y)))
            logits = float_model.off_ramp(self.weights, i, y_float)
        else:
            operand, logits = self.pooler(f"exits.{i}.", before, y_float, y)
        self.classifier(f"exits.{i}", ramp.classifier, operand, logits, follow=False)

    def classifier(self, name: str, linear: Linear, operand: Operand, logits: torch.Tensor, follow: bool) -> None:
        """(Q13) The model's own classifier, or an off-ramp's; what it should give, [rows, labels]."""
        out_scale = np.full(len(linear.bias), self.grid["logits"])
        self.linear(name, linear, operand, logits, out_scale, bits=8, follow=follow)
        tap = "logits" if name == "classifier" else f"{name}.logits"
        self.codes[tap] = Code(np.float64(self.grid["logits"]))

    def pooler(self, at: str, before: str, y_float: torch.Tensor, y: torch.Tensor) -> tuple[Operand, torch.Tensor]:
        """The classifier's operand for the [CLS] rows y, and the float model's logits [sentences, labels].

        `at` is "" for the model's own head, "exits.i." for an off-ramp.
        """
        w = self.weights
        share = torch.full((len(y),), 1 / len(y))
        taps: dict[str, torch.Tensor] = {}
        if at:
            i = int(at.split(".")[1])
            linear, logits = w.ramps[i].pooler, float_model.off_ramp(w, i, y_float, taps.__setitem__)
        else:
            linear, logits = w.pooler, float_model.head(w, y_float, taps.__setitem__)
        name = f"{at}pooler"
        out_scale = np.full(len(linear.bias), self.tanh_step)
        operand = self.operand(before, y, share)
        acc, parts = self.linear(name, linear, operand, taps[f"{name}.z"], out_scale, bits=8, follow=False)
        pooled = self.units.tanh(acc, *parts, self.t["pooler.tanh"])
        self.codes[name] = Code(np.float64(1 / 127))
        return make_operand(pooled, np.full(len(out_scale), 1 / 127), np.arange(len(out_scale)), 127, share), logits

    # tools ----------------------------------------------------------------------------------------------------------

    def linear(
        self,
        name: str,
        linear: Linear,
        operand: Operand,
        target: torch.Tensor,
        out_scale: np.ndarray,
        bits: int | None = None,
        follow: bool = True,
    ) -> tuple[torch.Tensor, tuple]:
        """Fit, store and multiply: acc [rows, N] and (b, m, s). Weights have the encoder's `bits` if none are given.
        Without `follow` they stay near the float ones: the [CLS] rows are too few, and the error of 8 bits too small,
        to be refitted."""
        bits = bits or self.options.weight_bits
        fitted = self.fit(name, linear, operand, target, out_scale, bits, follow)
        return self.store(name, fitted, fitted.bias_steps(), out_scale, operand, bits)

    def fit(
        self,
        name: str,
        linear: Linear,
        operand: Operand,
        target: torch.Tensor,
        out_scale: np.ndarray,
        bits: int,
        follow: bool = True,
        origin: float = 0.0,
        times: np.ndarray | None = None,
    ) -> Fitted:
        """Weights, scales and bias; of a shared matrix only the latter two. `times` [N]: how often a row is stored."""
        o = self.options
        settings = dict(ridge=o.ridge, follow=o.follow and follow, origin=origin, snap=self.units.snap_factor)
        _, matrix = self.matrix(name)
        if matrix is not None:
            return refit(matrix, operand, target, out_scale, **settings)
        prune = None
        if o.density < 1 and name.startswith("layers."):
            _, i, kind = name.split(".")
            a = self.weights.architecture
            density = matrix_density(o.density, a.heads, a.layer_heads[int(i)], kind, o.pattern)
            prune = Pruning(density, o.prune_by, times, o.pattern, o.block_shape)
        return fit(linear, operand, target, out_scale, bits=bits, sweeps=o.sweeps, prune=prune, **settings)

    def matrix(self, name: str) -> tuple[str, Matrix | None]:
        """The linear layer whose matrix `name` uses, itself or another, and its integers where it is shared."""
        if not name.startswith("layers."):
            return name, None
        _, i, kind = name.split(".")
        owner = self.weights.architecture.weights[int(i)]
        shared = self.shared.get(owner)
        return f"layers.{owner}.{kind}", shared and shared.matrices[kind]

    def store(
        self, name: str, fitted: Fitted, b: np.ndarray, out_scale: np.ndarray, operand: Operand, bits: int
    ) -> tuple[torch.Tensor, tuple]:
        """Check and keep a linear layer's tensors, and multiply: acc [rows, N] and (b, m, s)."""
        if bits <= 4 or not name.startswith("layers."):  # an encoder of more bits runs on no engine
            check_linear(name, fitted.q, b, operand.amax, max(bits, 4))
        m, s = self.units.encode_factor(fitted.unit / out_scale)
        owner, _ = self.matrix(name)
        if owner == name:
            self.t[f"{name}.weight"] = pack_nibbles(fitted.q) if bits <= 4 else fitted.q
        self.t[f"{name}.bias"] = b.astype(np.int32)
        self.put_factor(f"{name}.", m, s)
        acc = fake_quant.linear(torch.from_numpy(fitted.q).float(), operand.a, operand.amax)
        return acc, (torch.from_numpy(b), m, s)

    def put_factor(self, prefix: str, m: np.ndarray, s: np.ndarray) -> None:
        """Keep mantissas and shifts as two tensors."""
        self.t[f"{prefix}m"], self.t[f"{prefix}s"] = kept(m, np.uint8), kept(s, np.uint8)

    def affine(self, z: torch.Tensor, y: torch.Tensor, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """γ and β [hidden] that bring the integer model's z nearest to the float model's y; γ stays where z does."""
        share, real = self.share.double()[:, None], z * Z_STEP
        z_mean, y_mean = (share * real).sum(dim=0), (share * y).sum(dim=0)
        covariance = (share * (real - z_mean) * (y - y_mean)).sum(dim=0)
        variance = (share * (real - z_mean).square()).sum(dim=0)
        fitted = torch.where(variance > 1e-6, covariance / variance.clamp(min=1e-6), torch.from_numpy(gamma))
        return fitted.numpy(), (y_mean - fitted * z_mean).numpy()
