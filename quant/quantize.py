# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: float weights and calibration sentences in, the artifact's integer tensors out.

The model is walked once from the embedding to the logits, the float model and the integer model side by side. Each step
chooses its scales, fits its integer weights to the operand that the already integer part before it really delivers
(not to the float one), and runs, so that later steps make up for earlier errors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from . import fake_quant, float_model
from .batch import Batch, make_batch
from .calibrate import Calibration, clip_scale, score_scales, split_channels, split_gelu, tanh_step
from .checkpoint import BertWeights, Layer, Linear, Norm
from .codes import Code, Quantized
from .linears import Fitted, Operand, fit, make_operand
from .packing import check_linear, pack_nibbles
from .scales import FACTOR_MAX, Z_STEP, encode_beta, encode_factor, encode_gamma, encode_rows, snap_factor
from .tables import CONTEXT_STEP, SCORE_STEP, exp_table, gelu_table, tanh_table

SOFTMAX = ("numerator", "normalized")
_MARGIN = 1.5  # room above the moving average of the largest value, on int16 grids
_INT16 = 32767
_SEARCH_ROWS = 2000  # that a search over scales looks at


@dataclass(frozen=True)
class Options:
    """Switches of the quantizer; the defaults are those that came out best on the movie reviews' dev split."""

    word_bits: int = 8
    softmax: str = "numerator"
    norm_entries: int | None = None  # at most so many extra entries a layer norm (Q9); a 64th of the width if None
    gelu_entries: int | None = None  # and direct entries a GELU (Q11)
    ridge: float = 0.1  # of the mean operand variance
    follow: bool = True  # fit weights and norms to the quantized operand, not the float one
    sweeps: int = 2  # of coordinate descent after the compensation


def steps(weights: BertWeights) -> int:
    """How often `quantize` calls `on_step`."""
    return 4 * weights.architecture.layers + 2


def quantize(
    weights: BertWeights,
    calibration: Calibration,
    *,
    labels: list[str],
    max_length: int,
    options: Options | None = None,
    on_step: Callable[[str], None] = lambda name: None,
) -> Quantized:
    """Quantize a model. Raises ValueError naming the tensor and channel that cannot be represented."""
    options = options or Options()
    if options.softmax not in SOFTMAX:
        raise ValueError(f"softmax {options.softmax!r} is none of {', '.join(SOFTMAX)}")
    if options.word_bits not in (4, 8):
        raise ValueError(f"word_bits {options.word_bits} is neither 4 nor 8")
    with torch.inference_mode():
        walk = _Walk(weights, calibration, options, on_step)
        walk.run()
    a = weights.architecture
    manifest = {
        "architecture": {
            "family": "bert",
            "layers": a.layers,
            "hidden": a.hidden,
            "heads": a.heads,
            "head_width": a.head_width,
            "ffn": a.ffn,
            "vocab": a.vocab,
            "positions": a.positions,
            "types": a.types,
            "activation": "gelu",
            "word_bits": options.word_bits,
        },
        "task": {"kind": "classification", "labels": labels, "max_length": min(max_length, a.positions)},
        "entries": walk.entries,
        "scales": {
            "logits": float(walk.codes["logits"].scale),
            "activations": {name: float(np.mean(code.scale)) for name, code in walk.codes.items()},
        },
        "softmax": options.softmax,
    }
    return Quantized(manifest, walk.t, walk.codes)


class _Walk:
    """The state of the walk: tensors made so far, their codes, and the statistics' weights."""

    def __init__(self, weights: BertWeights, calibration: Calibration, options: Options, on_step):
        self.weights, self.calibration, self.options, self.on_step = weights, calibration, options, on_step
        self.batch: Batch = make_batch(calibration.sentences)
        self.t: dict[str, np.ndarray] = {}
        self.codes: dict[str, Code] = {}
        self.entries: dict[str, list[int]] = {"embedding_norm": [], "attention_norm": [], "ffn_norm": [], "ffn": []}
        rows = len(self.batch.ids)
        self.share = torch.full((rows,), 1 / rows)  # of each row in the statistics
        self.stride = max(1, rows // _SEARCH_ROWS)
        extra = weights.architecture.hidden // 64
        self.norm_entries = extra if options.norm_entries is None else options.norm_entries
        self.gelu_entries = extra if options.gelu_entries is None else options.gelu_entries

    def run(self) -> None:
        w, layers = self.weights, self.weights.layers
        self.on_step("embeddings")
        self.t["softmax.exp"] = exp_table()
        x, y_float = self.embedding()
        readers = [layers[0].q, layers[0].k, layers[0].v]
        y, operand = self.norm("embeddings.norm", "embedding_norm", w.embedding_norm, x, y_float, readers)
        before = "embeddings.norm"
        for i, layer in enumerate(layers):
            readers = [getattr(layers[i + 1], name) for name in "qkv"] if i + 1 < len(layers) else [w.pooler]
            y_float, y, operand = self.layer(i, layer, before, y_float, y, operand, readers)
            before = f"layers.{i}.ffn_norm"
        self.on_step("head")
        self.head(before, y_float, y)

    # the model's parts: each makes tensors, and returns what the integer model computes with them -------------------

    def embedding(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(Q6) x [rows, hidden], and the float layer norm's output."""
        w = self.weights
        fields = {"word": w.word.numpy(), "position": w.position.numpy(), "type": w.type.numpy()}
        peaks = [float(np.abs(table).max()) for table in fields.values()]
        # no sum saturates, and the factor of the largest row is below 127.5
        grid = 1.01 * max(sum(peaks) / _INT16, max(peaks) / (7 * 16 * FACTOR_MAX))
        tables = {}
        for name, table in fields.items():
            bits = self.options.word_bits if name == "word" else 8
            q, m, s = encode_rows(table, grid, bits, w.embedding_norm.gamma.numpy() ** 2)
            self.t[f"embeddings.{name}.q"] = pack_nibbles(q) if bits == 4 else q
            self.put_factor(f"embeddings.{name}.", m, s)
            tables[name] = (q * np.int8(16) if bits == 4 else q, m, s)
        self.codes["embeddings.sum"] = Code(np.float64(grid))
        x_float = float_model.embedding_sum(w, self.batch)
        y_float = float_model.normalise(w.embedding_norm, x_float, w.architecture.eps)
        return fake_quant.embed(tables, self.batch), y_float

    def norm(
        self, name: str, group: str, norm: Norm, x: torch.Tensor, y_float: torch.Tensor, readers: list[Linear]
    ) -> tuple[torch.Tensor, Operand]:
        """(Q7, Q9) y [rows, hidden] for the integer input x, and the operand it becomes for its readers."""
        grid = _MARGIN * self.calibration.peak(f"{name}.y") / _INT16
        z = fake_quant.normalised(x)
        gamma, beta = norm.gamma.numpy().astype(np.float64), norm.beta.numpy().astype(np.float64)
        if self.options.follow:
            gamma, beta = self.affine(z, y_float, gamma)
        parts = dict(zip(("gamma", "gamma_shift"), encode_gamma(gamma, grid), strict=True))
        parts |= dict(zip(("beta", "beta_shift"), encode_beta(beta, grid), strict=True))
        y = fake_quant.scale_shift(z, *parts.values())
        for part, value in parts.items():
            self.t[f"{name}.{part}"] = value.astype(np.uint8 if part.endswith("shift") else np.int8)
        self.codes[f"{name}.y"] = Code(np.float64(grid))

        importance = sum(linear.weight.square().sum(dim=0) for linear in readers)
        scale, e = split_channels((y[:: self.stride] * grid).float(), importance, self.norm_entries)
        m, s = encode_factor(grid / scale)
        self.t[f"{name}.entries"] = e.astype(np.uint8)
        self.t[f"{name}.operand"] = np.array([m, s], np.int32)
        self.entries[group].append(int(e.sum()))
        return y, self.norm_operand(name, y, self.share)

    def norm_operand(self, name: str, y: torch.Tensor, share: torch.Tensor) -> Operand:
        """(Q9) What the rows y of a finished norm are for its readers."""
        e, (m, s) = self.t[f"{name}.entries"], self.t[f"{name}.operand"].tolist()
        source = np.repeat(np.arange(len(e)), e)
        step = np.full(len(source), float(self.codes[f"{name}.y"].scale) / (m * 2.0**-s))
        return make_operand(fake_quant.entries(y, e, m, s), step, source, 127, share)

    def layer(
        self, i: int, layer: Layer, before: str, y_float: torch.Tensor, y: torch.Tensor, operand: Operand, readers
    ) -> tuple[torch.Tensor, torch.Tensor, Operand]:
        """One encoder layer: y_float and y after it, and the operand for its readers."""
        at = f"layers.{i}"
        taps: dict[str, torch.Tensor] = {}
        y_float = float_model.encoder_layer(self.weights, i, y_float, self.batch, taps.__setitem__)
        self.on_step(f"{at}.attention")
        context, step = self.attention(at, layer, operand, taps)
        operand = make_operand(context, step, np.arange(len(step)), 127, self.share)
        self.on_step(f"{at}.o")
        x = self.residual(f"{at}.o", layer.o, operand, y, before, taps[f"{at}.o.x"])
        norm = f"{at}.attention_norm"
        y, operand = self.norm(norm, "attention_norm", layer.attention_norm, x, taps[f"{norm}.y"], [layer.ffn1])
        self.on_step(f"{at}.ffn1")
        operand = self.ffn1(at, layer, operand, taps[f"{at}.ffn1.z"])
        self.on_step(f"{at}.ffn2")
        x = self.residual(f"{at}.ffn2", layer.ffn2, operand, y, norm, taps[f"{at}.ffn2.x"])
        y, operand = self.norm(f"{at}.ffn_norm", "ffn_norm", layer.ffn_norm, x, y_float, readers)
        return y_float, y, operand

    def attention(
        self, at: str, layer: Layer, operand: Operand, taps: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, np.ndarray]:
        """(Q10, Q14–Q18) The context [rows, hidden] and its real step [hidden].

        K and V are centred, each channel on its mean: softmax does not notice the one, and the average of V shifts by
        the other, which the bias of the next layer takes up. So the int8 ranges are spent on what varies.
        """
        d = self.weights.architecture.head_width
        offset = {name: self.share @ taps[f"{at}.{name}"] for name in "kv"} | {"q": 0.0}
        target = {name: taps[f"{at}.{name}"] - offset[name] for name in "qkv"}
        scale = dict(zip("qk", score_scales(target["q"][:: self.stride], target["k"][:: self.stride], d), strict=True))
        scale["v"] = clip_scale(target["v"], target["v"].abs().amax(dim=0)).double().numpy()
        m, s = encode_factor((scale["q"] * scale["k"])[::d] / math.sqrt(d) / SCORE_STEP)
        self.put_factor(f"{at}.attention.score_", m, s)
        qkv = []
        for name in "qkv":
            acc, parts = self.linear(f"{at}.{name}", getattr(layer, name), operand, target[name], scale[name])
            qkv.append(fake_quant.requantize(acc, *parts, *fake_quant.INT8).float())
            self.codes[f"{at}.{name}"] = Code(scale[name], np.asarray(offset[name], np.float64))

        normalized = self.options.softmax == "normalized"
        average = fake_quant.average_values(*qkv, self.batch, m, s, self.t["softmax.exp"], normalized)
        step = scale["v"] * CONTEXT_STEP
        real = (average[:: self.stride] * torch.from_numpy(step)).float().reshape(-1, 1)
        clips = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3)
        wanted = float(clip_scale(real, real.abs().amax(dim=0), clips=clips))  # one scale for all channels
        m, s = encode_factor(step / wanted)
        self.put_factor(f"{at}.attention.context_", m, s)
        step = step / snap_factor(step / wanted)
        self.codes[f"{at}.context"] = Code(step, self.codes[f"{at}.v"].offset)
        return fake_quant.requantize(average, 0, m, s, *fake_quant.INT8).float(), step

    def residual(
        self, name: str, linear: Linear, operand: Operand, y: torch.Tensor, norm: str, x_float: torch.Tensor
    ) -> torch.Tensor:
        """(Q12) x [rows, hidden], the product and the residual y of `norm`; x_float is what it should be."""
        y_grid = float(self.codes[f"{norm}.y"].scale)
        m, s = encode_factor(y_grid * _INT16 / _MARGIN / self.calibration.peak(f"{name}.x"))
        grid = y_grid / (float(m) * 2.0 ** -float(s))
        self.t[f"{name}.residual"] = np.array([m, s], np.int32)
        self.codes[f"{name}.x"] = Code(np.float64(grid))
        target = x_float - (y * y_grid).float()
        acc, parts = self.linear(name, linear, operand, target, np.full(len(linear.bias), grid))
        return fake_quant.residual(acc, *parts, y, m, s)

    def ffn1(self, at: str, layer: Layer, operand: Operand, z_float: torch.Tensor) -> Operand:
        """(Q11) The GELU codes as the operand of ffn2; channels that leave the table have direct entries beside it."""
        importance = layer.ffn2.weight.square().sum(dim=0)
        coding, e = split_gelu(z_float[:: self.stride], importance, self.gelu_entries)
        self.t[f"{at}.gelu"] = table = gelu_table(coding)
        source = np.repeat(np.arange(len(e)), e)
        entry = np.arange(len(source)) - (np.cumsum(e) - e)[source]
        is_table = entry == 0
        self.t[f"{at}.ffn1.table"] = is_table.astype(np.uint8)
        self.entries["ffn"].append(len(source))

        origin = np.where(is_table, coding.zero, coding.x_hi + (entry - 1) * 255 * coding.scale)
        one = self.fit(layer.ffn1, operand, z_float, np.full(len(e), coding.step), origin=float(np.abs(origin).max()))
        fitted = Fitted(one.q[source], one.unit[source], one.bias[source])
        out_scale = np.where(is_table, coding.step, coding.scale)
        acc, parts = self.store(f"{at}.ffn1", fitted, fitted.bias_steps(origin), out_scale, operand, 4)
        codes = fake_quant.activation(acc, *parts, table, self.t[f"{at}.ffn1.table"])
        offset = np.where(is_table, -coding.zp * coding.scale, 0.0)
        self.codes[f"{at}.ffn1"] = Code(np.float64(coding.scale), offset, source)
        return make_operand(codes, np.full(len(source), coding.scale), source, 255, self.share)

    def head(self, norm: str, y_float: torch.Tensor, y: torch.Tensor) -> None:
        """(Q19) Pooler and classifier on the [CLS] rows, in int8."""
        first, w = self.batch.first, self.weights
        share = torch.full((len(first),), 1 / len(first))
        operand = self.norm_operand(norm, y[first], share)
        taps: dict[str, torch.Tensor] = {}
        float_model.head(w, y_float[first], taps.__setitem__)
        z_step = tanh_step(taps["pooler.z"])
        self.t["pooler.tanh"] = table = tanh_table(z_step)
        out_scale = np.full(len(w.pooler.bias), z_step)
        acc, parts = self.linear("pooler", w.pooler, operand, taps["pooler.z"], out_scale, bits=8)
        index = fake_quant.requantize(acc, *parts, *fake_quant.INDEX)
        pooled = torch.from_numpy(table).float()[(index + 128).long()]
        self.codes["pooler"] = Code(np.float64(1 / 127))
        operand = make_operand(pooled, np.full(len(out_scale), 1 / 127), np.arange(len(out_scale)), 127, share)
        grid = 2 * _MARGIN * self.calibration.peak("logits") / _INT16
        out_scale = np.full(len(w.classifier.bias), grid)
        self.linear("classifier", w.classifier, operand, taps["logits"], out_scale, bits=8)
        self.codes["logits"] = Code(np.float64(grid))

    # tools ----------------------------------------------------------------------------------------------------------

    def linear(
        self, name: str, linear: Linear, operand: Operand, target: torch.Tensor, out_scale: np.ndarray, bits: int = 4
    ) -> tuple[torch.Tensor, tuple]:
        """Fit, store and multiply: acc [rows, N] and (b, m, s)."""
        fitted = self.fit(linear, operand, target, out_scale, bits)
        return self.store(name, fitted, fitted.bias_steps(), out_scale, operand, bits)

    def fit(
        self,
        linear: Linear,
        operand: Operand,
        target: torch.Tensor,
        out_scale: np.ndarray,
        bits: int = 4,
        origin: float = 0.0,
    ) -> Fitted:
        o = self.options
        follow = o.follow and bits == 4  # the head has too few rows, and too little error, to be refitted
        settings = dict(bits=bits, ridge=o.ridge, follow=follow, sweeps=o.sweeps)
        return fit(linear, operand, target, out_scale, origin=origin, **settings)

    def store(
        self, name: str, fitted: Fitted, b: np.ndarray, out_scale: np.ndarray, operand: Operand, bits: int
    ) -> tuple[torch.Tensor, tuple]:
        check_linear(name, fitted.q, b, operand.amax, bits)
        m, s = encode_factor(fitted.unit / out_scale)
        self.t[f"{name}.weight"] = pack_nibbles(fitted.q) if bits == 4 else fitted.q
        self.t[f"{name}.bias"] = b.astype(np.int32)
        self.put_factor(f"{name}.", m, s)
        acc = fake_quant.linear(torch.from_numpy(fitted.q).float(), operand.a, operand.amax)
        return acc, (torch.from_numpy(b), m, s)

    def put_factor(self, prefix: str, m: np.ndarray, s: np.ndarray) -> None:
        self.t[f"{prefix}m"], self.t[f"{prefix}s"] = m.astype(np.uint8), s.astype(np.uint8)

    def affine(self, z: torch.Tensor, y: torch.Tensor, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """γ and β [hidden] that bring the integer model's z nearest to the float model's y; γ stays where z does."""
        share, real = self.share.double()[:, None], z * Z_STEP
        z_mean, y_mean = (share * real).sum(dim=0), (share * y).sum(dim=0)
        covariance = (share * (real - z_mean) * (y - y_mean)).sum(dim=0)
        variance = (share * (real - z_mean).square()).sum(dim=0)
        fitted = torch.where(variance > 1e-6, covariance / variance.clamp(min=1e-6), torch.from_numpy(gamma))
        return fitted.numpy(), (y_mean - fitted * z_mean).numpy()
