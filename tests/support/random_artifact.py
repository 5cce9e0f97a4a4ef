# SPDX-License-Identifier: Apache-2.0
"""Writes small artifacts of random weights (docs/artifact.md) for the tests, with a writer of their own.

The scales are set by running the units of golden.py on random sentences while the tensors are drawn, so that
activations fill their ranges without saturating throughout.
"""

import hashlib
import json
from collections.abc import Sequence
from math import erf, exp, floor, log, log2, pi, sqrt, tanh
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from zynqbert.quant import golden

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]  # then w4, w5, …
LOGIT_STEP = 1 / 1500  # logits spread over two units
MATRICES = ("q", "k", "v", "o", "ffn1", "ffn2")
NORM_PARTS = (("gamma", np.int8), ("gamma_shift", np.uint8), ("beta", np.int8), ("beta_shift", np.uint8))
ADAPTERS = {"o": "attention_adapter", "ffn2": "ffn_adapter"}
GELU = {
    "gelu": lambda x: x * (1 + erf(x / sqrt(2))) / 2,
    "gelu_new": lambda x: x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2,
}
ACTIVATIONS = {**GELU, "relu": lambda x: max(x, 0.0), "silu": lambda x: x / (1 + exp(-x)), "tanh": tanh}


def encode_factor(f: float) -> tuple[int, int]:
    """(m, s) with f ≈ m·2^−s, m in 128 .. 255 (Q2)."""
    for s in range(1, 32):
        m = round(f * 2**s)
        if 128 <= m <= 255:
            return m, s
    for s in range(1, 31):  # 256 becomes 128 with s − 1
        if round(f * 2 ** (s + 1)) == 256:
            return 128, s
    raise ValueError(f"factor {f}")


def pack_nibbles(w: np.ndarray) -> np.ndarray:
    """[N, K] in −7 .. 7 → uint8 [N, ⌈K/2⌉], even k in the low nibble."""
    w = np.pad(w, ((0, 0), (0, w.shape[1] % 2)))
    return ((w[:, 0::2] & 15) | (w[:, 1::2] & 15) << 4).astype(np.uint8)


def _rms(x: np.ndarray) -> np.ndarray:
    """Root mean square of each column [rows, N] → [N], small ones raised to a quarter of the average."""
    rms = np.sqrt((x * x).mean(axis=0))
    return np.maximum(rms, max(1.0, rms.mean() / 4))


class _Builder:
    """Draws tensors, keeps them by name, and carries the activations of the calibration pass along."""

    def __init__(self, seed: int, extra_entries: int, weights: Sequence[int], density: float, bound: int):
        self.rng = np.random.default_rng(seed)
        self.holes = np.random.default_rng([seed, 1])  # of its own: the other draws are those of a dense artifact
        self.extra, self.density, self.bound = extra_entries, density, bound
        self.tensors: dict[str, np.ndarray] = {}
        self.owners = {f"layers.{i}.{name}": f"layers.{j}.{name}" for i, j in enumerate(weights) for name in MATRICES}
        self.matrices: dict[str, np.ndarray] = {}  # by owner

    def put(self, name: str, values, dtype) -> np.ndarray:
        values = np.asarray(values)
        kept = values.astype(dtype)
        assert (kept == values).all(), name
        self.tensors[name] = kept
        return values.astype(np.int64)

    def factors(self, name: str, f, dead: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Encode one factor a channel as NAME m and s; with `dead`, channel 1 gets m = 0."""
        m, s = np.array([encode_factor(x) for x in f]).T
        if dead:
            m[1], s[1] = 0, 1
        return self.put(f"{name}m", m, np.uint8), self.put(f"{name}s", s, np.uint8)

    def embedding(self, field: str, n: int, width: int, std: float, four_bit: bool) -> tuple[np.ndarray, ...]:
        name = f"embeddings.{field}."
        top = 7 if four_bit else 127
        q = np.clip(np.rint(self.rng.normal(0, top / 2.5, (n, width))), -top, top).astype(np.int64)
        q[n - 1] = 0  # one row of zeros, m = 0
        if four_bit:
            self.put(name + "q", pack_nibbles(q), np.uint8)
            q = 16 * q
        else:
            self.put(name + "q", q, np.int8)
        m, s = self.factors(name, std / 50 * self.rng.uniform(0.7, 1.4, n))
        m[n - 1] = 0
        return q, self.put(name + "m", m, np.uint8), s

    def adaptive_words(self, n: int, width: int, std: float, density: float) -> tuple[np.ndarray, ...]:
        """A word table of AdaptivFloat codes (Q24), `density` of them kept here and there; the last row is empty."""
        codes = np.where(self.rng.random((n, width)) < density, self.rng.integers(0, 256, (n, width)), 0)
        codes[codes == 128] = 0
        codes[n - 1] = 0
        q = golden.adaptiv_ref(self.put("embeddings.word.q", codes, np.uint8))
        m, s = self.put("embeddings.word.factor", encode_factor(std / q.std()), np.int32)
        return q, np.full(n, m), np.full(n, s)

    def split(self, hidden: int) -> np.ndarray:
        """e [hidden] of Q9: the extra entries on random channels."""
        return 1 + np.bincount(self.rng.integers(0, hidden, self.extra), minlength=hidden)

    def entries(self, name: str, y: np.ndarray, e: np.ndarray) -> np.ndarray:
        """Keep e and (m, s) of Q9 as NAME; y [rows, N] → operand."""
        self.put(f"{name}.entries", e, np.uint8)
        operand = self.put(f"{name}.operand", encode_factor(40 / y[:, e == 1].std()), np.int32)
        return golden.entries_ref(y, e, *operand)

    def norm(
        self, name: str, x: np.ndarray, e: np.ndarray | None = None, owner: str | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw a layer norm, and its entries unless given; x [rows, hidden] → y, operand, e. With an `owner` its γ, β
        are that norm's."""
        rng, hidden = self.rng, x.shape[1]
        e = self.split(hidden) if e is None else e
        if owner:
            y = golden.layer_norm_ref(x, *(self.tensors[f"{owner}.{part}"] for part, _ in NORM_PARTS))
            return y, self.entries(name, y, e), e
        gamma = rng.integers(40, 128, hidden) * rng.choice([1, 1, 1, -1], hidden)
        gamma_shift = np.where(e > 1, 5, rng.integers(6, 8, hidden))  # outlier channels are larger
        beta, beta_shift = rng.integers(-127, 128, hidden), rng.integers(0, 4, hidden)
        values = zip(NORM_PARTS, (gamma, gamma_shift, beta, beta_shift), strict=True)
        y = golden.layer_norm_ref(x, *(self.put(f"{name}.{part}", v, dtype) for (part, dtype), v in values))
        return y, self.entries(name, y, e), e

    def weight(self, name: str, n: int, k: int, repeat=None, rows=None, bits: int = 4) -> np.ndarray:
        """Random weights [n, k], columns repeated as the entries say, rows picked by `rows`; shared ones as drawn."""
        owner = self.owners.get(name, name)
        if owner in self.matrices:
            return self.matrices[owner]
        top = {4: 7, 8: 127}[bits]
        w = np.clip(np.rint(self.rng.normal(0, top / 2.5, (n, k))), -top, top).astype(np.int64)
        w[0, : min(k // 2, 500)] = top  # one row of extremes, few enough for the packing check
        w[0, k - min(k // 2, 500) :] = -top
        w = w if repeat is None else np.repeat(w, repeat, axis=1)
        w = w if rows is None else w[rows]
        w = self.bounded(self.prune(w)) if bits == 4 else w
        self.put(f"{owner}.weight", *((pack_nibbles(w), np.uint8) if bits == 4 else (w, np.int8)))
        self.matrices[owner] = w
        return w

    def prune(self, w: np.ndarray) -> np.ndarray:
        """Zeros at random, so that at most ⌊density·N·K⌋ weights are not 0 (exactly so many if more were drawn)."""
        kept, left = np.flatnonzero(w), int(self.density * w.size)
        if self.density == 1 or len(kept) <= left:
            return w
        w = w.copy()
        w.flat[self.holes.permutation(kept)[left:]] = 0
        return w

    def bounded(self, w: np.ndarray) -> np.ndarray:
        """Of each four entries four channels use `bound` at most, the same ones drawn at random; 0 for no bound."""
        if not self.bound:
            return w
        (n, k), order = w.shape, np.argsort(self.holes.random((-(-len(w) // 4), -(-w.shape[1] // 4), 4)), axis=2)
        used = (np.argsort(order, axis=2) < self.bound).reshape(len(order), -1)
        return w * used[:, :k].repeat(4, axis=0)[:n]

    def linear(self, name: str, w: np.ndarray, a: np.ndarray, std, offset=0, dead: bool = False):
        """Bias and factors such that the output of `a` has about `std` (one or [n]); offset [n] is added to the bias.

        Returns acc, b, m, s, what the units of golden.py take.
        """
        acc = golden.linear_ref(w, a)
        spread = _rms(acc + offset)
        b = np.rint(self.rng.normal(0, 0.3, len(w)) * spread).astype(np.int64) + offset
        b = self.put(f"{name}.bias", b, np.int32)
        return acc, b, *self.factors(f"{name}.", std / spread, dead)


class _Adapters:
    """Draws a model's bottleneck adapters, `settings` as make_random_artifact takes them; None: there are none."""

    def __init__(self, build: _Builder, settings: dict | None, weights: Sequence[int]):
        self.build, self.settings, self.weights = build, settings, weights
        if settings:
            act = ACTIVATIONS[settings["activation"]]
            values = [act((i - 128) / 32) for i in range(256)]
            self.table = [round(v * 127 / max(map(abs, values))) for v in values]
            owners = list(weights) if settings["shared"] else list(range(len(weights)))
            self.fields = {"width": settings["width"], "activation": settings["activation"], "owners": owners}

    def branch(self, i: int, branch: str, acc, b, m, s, y, m_r: int, s_r: int) -> np.ndarray:
        """The residual sum behind `branch` (o, ffn2) of layer i, with the adapter in between → x [rows, hidden]."""
        if not self.settings:
            return golden.residual_ref(acc, b, m, s, y, m_r, s_r)
        build, name, owner = self.build, f"layers.{i}.{branch}.adapter_", self.fields["owners"][i]
        at = f"layers.{owner}.{ADAPTERS[branch]}"
        h = golden.requantize_ref(acc, b, m, s, *golden.INT16)
        x = golden.residual_ref(acc, b, m, s, y, m_r, s_r)
        m, s = np.array([encode_factor(f) for f in 40 / _rms(h)]).T
        m[3], s[3] = 0, 1  # a channel that the adapter does not read
        m, s = build.put(f"{name}m", m, np.uint8), build.put(f"{name}s", s, np.uint8)
        operand = np.clip(golden.round_shift_ref(h * m, s), *golden.INT8)
        z = golden.requantize_ref(*self.linear(f"{at}.down", self.fields["width"], operand, 45), *golden.INDEX)
        if owner == i:
            build.put(f"{at}.table", self.table, np.int8)
        a = build.tensors[f"{at}.table"].astype(np.int64)[z + 128]
        up = golden.requantize_ref(*self.linear(f"{at}.up", h.shape[1], a, 600), *golden.INT16)
        return golden.clamp16_ref(up + x)

    def linear(self, name: str, n: int, operand: np.ndarray, std: float) -> tuple[np.ndarray, ...]:
        """acc, b, m, s of an adapter's matrix, drawn where the first layer uses it."""
        build = self.build
        if name in build.matrices:
            kept = (build.tensors[f"{name}.{part}"] for part in ("bias", "m", "s"))
            return golden.linear_ref(build.matrices[name], operand), *kept
        return build.linear(name, build.weight(name, n, operand.shape[1], bits=8), operand, std)

    def entries(self, before: Sequence[np.ndarray]) -> np.ndarray | None:
        """e of an ffn_norm that no earlier layer reads: layers that share γ and β share the split of the channels."""
        shared = self.settings and list(self.weights) != list(range(len(self.weights)))
        return before[0] if shared else None

    def norm_owner(self, i: int, norm: str) -> str | None:
        """The norm whose γ and β layer i uses, if not its own."""
        owner = self.weights[i]
        return f"layers.{owner}.{norm}" if self.settings and owner < i else None


def _attention(build: _Builder, layer: str, operand, e, heads: int, d: int, spans, ranges, normalized) -> np.ndarray:
    """heads: those that are left; spans [heads] of each (Q23); ranges: begin and end [rows]."""
    width = heads * d
    q, k, v = (
        golden.int8_ref(
            *build.linear(f"{layer}.{name}", build.weight(f"{layer}.{name}", width, len(e), e), operand, 45, dead=True)
        )
        for name in "qkv"
    )
    of_head = [slice(h * d, (h + 1) * d) for h in range(heads)]
    # real scores of standard deviation 1.5, in steps of ln(510)/255
    score = [1.5 * 255 / log(510) / golden.linear_ref(k[:, c], q[:, c]).std() for c in of_head]
    score_m, score_s = build.factors(f"{layer}.attention.score_", score)
    table = golden.exp_table_ref()
    softmax = [
        golden.softmax_ref(
            golden.scores_ref(q[:, c], k[:, c], score_m[h], score_s[h]), *ranges, table, normalized, span=spans[h]
        )
        for h, c in enumerate(of_head)
    ]
    # m = 128, s = 15 gives the average of V itself
    raw = [golden.context_ref(*_evr(softmax[h], v[:, c]), 128, 15) for h, c in enumerate(of_head)]
    spread = _rms(np.concatenate(raw, axis=1))
    m, s = build.factors(f"{layer}.attention.context_", 40 / 256 / spread)
    return np.concatenate(
        [golden.context_ref(*_evr(softmax[h], v[:, c]), m[c], s[c]) for h, c in enumerate(of_head)], axis=1
    )


def _head(build: _Builder, pooler: str | None, classifier: str, operand, e, hidden: int, labels: int) -> None:
    """A pooler (of that name, if any) and a classifier, calibrated on every row, not only on the few [CLS] ones."""
    if pooler:
        w = build.weight(pooler, hidden, hidden, e, bits=8)
        operand = golden.pooler_ref(*build.linear(pooler, w, operand, 42.5), build.tensors["pooler.tanh"])
        e = np.ones(hidden, np.int64)
    w = build.weight(classifier, labels, len(e), e, bits=8)
    build.linear(classifier, w, operand, 3000)


def entropy_factor(step: float) -> list[int]:
    """[m_e, s_e] of Q21 for logits of that step: its share of 2^−10 of a factor of two."""
    real = step * log2(exp(1)) * 1024
    s = 15 - floor(log2(real))
    m = round(real * 2**s)
    return [m // 2, s - 1] if m == 2**16 else [m, s]


def row_shift(labels: int) -> int:
    """The least r of Q22 with which 256 rows reach the entropy ln(labels), in steps of 2^−12."""
    return next(r for r in range(16) if log(labels) * 2**12 < 256 << r)


def _evr(softmax, v):
    e, r, p = softmax
    return e, v, r, p


def _mapping(build: _Builder, operand, e, hidden: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ALBERT's way to the hidden width (Q20): operand [rows, K], e [embedding] → y [rows, hidden], operand, its e."""
    w = build.weight("mapping", hidden, len(e), e, bits=8)
    e = build.split(hidden)
    std = np.where(e > 1, 5000, 2000)  # outlier channels are larger
    y = golden.mapping_ref(*build.linear("mapping", w, operand, std, dead=True))
    return y, build.entries("mapping", y, e), e


def _ffn1(build: _Builder, name: str, operand, e, source: np.ndarray, gelu) -> tuple[np.ndarray, np.ndarray, int]:
    """ffn1 with a table channel and perhaps direct ones for each source channel (Q11) → codes, table flag [N], zp."""
    x_lo, x_hi = -4.0, 1.5
    s_out = (x_hi + 0.17) / 255
    zp = round(0.17 / s_out)
    xs = [x_lo + i * (x_hi - x_lo) / 255 for i in range(256)]
    table = [min(255, max(0, round(gelu(x) / s_out) + zp)) for x in xs]
    build.put(f"{name[:-4]}gelu", table, np.uint8)
    ffn = source[-1] + 1
    first = np.searchsorted(source, source)  # index of the channel's table entry
    entry = np.arange(len(source)) - first  # 0: table
    w = build.weight(name, ffn, len(e), e, rows=source)
    acc = golden.linear_ref(w, operand)
    step = 1 / _rms(acc)  # x of one unit of acc, so that x is about ±1
    index = step * 255 / (x_hi - x_lo)
    mean = build.rng.normal(0, 0.5, ffn)[source]
    x0 = np.where(entry == 0, mean - x_lo - 128 * (x_hi - x_lo) / 255, mean - x_hi - (entry - 1) * 255 * s_out)
    b = build.put(f"{name}.bias", np.rint(x0 / step), np.int32)
    m, s = build.factors(f"{name}.", np.where(entry == 0, index, step / s_out))
    flags = build.put(f"{name}.table", (entry == 0).astype(np.int64), np.uint8)
    return golden.activation_ref(acc, b, m, s, table, flags, unsigned=True), flags, zp


def _tokenizer(vocab: int) -> Tokenizer:
    words = WORDS + [f"w{i}" for i in range(len(WORDS), vocab)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [(word, words.index(word)) for word in ("[CLS]", "[SEP]")]
    pair = "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"
    tokenizer.post_processor = processors.TemplateProcessing("[CLS]:0 $A:0 [SEP]:0", pair, special)
    return tokenizer


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_random_artifact(
    path: str | Path,
    *,
    layers: int = 1,
    hidden: int = 96,
    heads: int = 3,
    head_width: int = 32,
    ffn: int = 200,
    vocab: int = 50,
    labels: int = 2,
    word_bits: int = 8,
    seed: int = 0,
    extra_entries: int = 3,
    softmax: str = "numerator",
    positions: int = 128,
    family: str = "bert",
    embedding: int | None = None,
    weights: Sequence[int] | None = None,
    kind: str = "sequence",
    scores: str = "softmax",
    density: float = 1.0,
    bound: int = 0,
    layer_heads: Sequence[int] | None = None,
    spans: Sequence[Sequence[int]] | None = None,
    exits: bool = False,
    exit_pooler: bool = False,
    points: dict | None = None,
    word_density: float | None = None,
    adapters: dict | None = None,
) -> Path:
    """Write an artifact folder at `path` and return it. The same arguments give the same bytes.

    `extra_entries` entries are added to random channels of every norm (Q9), and as many direct channels to every ffn1
    (Q11). The [PAD] word is a row like any other; the last word, position and type are rows of zeros with m = 0;
    channel 1 of q, k, v, o, ffn2 and mapping is dead (m = 0).
    `embedding` is the width of the embeddings, for albert alone, 40 if not given. `weights` says
    whose matrices each layer uses: for bert its own, for albert those of layer 0 if not given. Layers that share
    matrices have the same entries, all else of their own, fitted to the operands they meet. With a `density` below 1
    at most that share of each int4 matrix is not zero, at random places; of those drawn a seventh is 0 in any case.
    With a `bound` (1 .. 3) four channels use so many of each four entries.
    `layer_heads` are the heads left of each layer, all if not given; `spans` one int (1 .. 128) a head that is left.
    With `exits` there is an off-ramp behind every layer but the last, with a pooler if `exit_pooler`, and the operating
    `points` by name (docs/artifact.md). With a `word_density` the words are AdaptivFloat, about so many of their codes
    not 0. With `adapters`, {"width": …, "activation": …, "shared": …}, there is one behind each branch: all layers that
    share matrices share it if `shared`, and their γ, β in any case. Then the version is 2.2, else 2.1.
    """
    if not 0 < density <= 1:
        raise ValueError("density is above 0 and at most 1")
    if hidden != heads * head_width or vocab <= len(WORDS) + 1:
        raise ValueError("hidden is heads × head_width, and the vocabulary holds the special words and two more")
    albert = {"bert": False, "albert": True}[family]
    activation = "gelu_new" if albert else "gelu"
    if embedding and not albert:
        raise ValueError("bert's embeddings have the hidden width")
    embedding = embedding or (40 if albert else hidden)
    weights = list(weights or ([0] * layers if albert else range(layers)))
    if len(weights) != layers or any(j > i or weights[j] != j for i, j in enumerate(weights)):
        raise ValueError("weights holds one layer each: itself, or an earlier one that uses its own")
    layer_heads = list(layer_heads or [heads] * layers)
    if len(layer_heads) != layers or any(layer_heads[i] != layer_heads[j] for i, j in enumerate(weights)):
        raise ValueError("layer_heads holds one layer each, and is the same where layers share matrices")
    if spans is not None and [len(of_layer) for of_layer in spans] != layer_heads:
        raise ValueError("spans holds one list a layer, one span a head that is left")
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    build = _Builder(seed, extra_entries, weights, density, bound)
    normalized = {"numerator": False, "normalized": True}[softmax]
    exp_table = build.put("softmax.exp", golden.exp_table_ref(), np.uint8)
    assert exp_table[1] == round(255 * exp(-log(510) / 255))

    # the calibration pass: sentences of these lengths, or shorter if positions are few
    lengths = [min(n, positions) for n in (1, 3, 5, 8, 13, 21, 34, 32, 16, 16, 11)]
    ends = np.cumsum(lengths)
    begin, end = np.repeat(ends - lengths, lengths), np.repeat(ends, lengths)
    rows = int(ends[-1])
    cls = ends - lengths
    ids = build.rng.integers(0, vocab, rows)
    ids[cls] = WORDS.index("[CLS]")
    index = {"word": ids, "position": np.arange(rows) - begin, "type": build.rng.integers(0, 2, rows)}
    sizes = {"word": (vocab, 2500.0), "position": (positions, 1500.0), "type": (2, 500.0)}
    terms = []
    for field, (n, std) in sizes.items():
        if field == "word" and word_density is not None:
            table = build.adaptive_words(n, embedding, std, word_density)
        else:
            table = build.embedding(field, n, embedding, std, four_bit=field == "word" and word_bits == 4)
        terms.append(tuple(part[index[field]] for part in table))
    x = golden.embed_ref(*terms)
    y, operand, e = build.norm("embeddings.norm", x)
    widths = {"embedding_norm": [int(e.sum())], "mapping": [], "attention_norm": [], "ffn_norm": [], "ffn": []}
    if albert:
        y, operand, e = _mapping(build, operand, e, hidden)
        widths["mapping"].append(int(e.sum()))
    adapting = _Adapters(build, adapters, weights)
    before, between, sources = [], [], []  # of each layer: e of its operand, e of its attention norm, source of ffn1
    outputs = []  # of each layer: the operand that comes from it, and its e
    for i, owner in enumerate(weights):
        layer = f"layers.{i}"
        before.append(e)
        left = layer_heads[i]
        reach = spans[i] if spans else [128] * left
        context = _attention(build, layer, operand, e, left, head_width, reach, (begin, end), normalized)
        w = build.weight(f"{layer}.o", hidden, left * head_width)
        m_r, s_r = build.put(f"{layer}.o.residual", encode_factor(0.8), np.int32)
        x = adapting.branch(i, "o", *build.linear(f"{layer}.o", w, context, 1500, dead=True), y, m_r, s_r)
        e = between[owner] if owner < i else None
        y, operand, e = build.norm(f"{layer}.attention_norm", x, e, adapting.norm_owner(i, "attention_norm"))
        between.append(e)
        widths["attention_norm"].append(int(e.sum()))
        if owner == i:
            sources.append(np.sort(np.concatenate([np.arange(ffn), build.rng.integers(0, ffn, build.extra)])))
        else:
            sources.append(sources[owner])
        source = sources[i]
        codes, flags, zp = _ffn1(build, f"{layer}.ffn1", operand, e, source, GELU[activation])
        widths["ffn"].append(len(source))
        w = build.weight(f"{layer}.ffn2", hidden, ffn, np.bincount(source))
        m_r, s_r = build.put(f"{layer}.ffn2.residual", encode_factor(1.3), np.int32)
        zero = -zp * (w * flags).sum(axis=1)  # only table entries carry the zero point
        x = adapting.branch(i, "ffn2", *build.linear(f"{layer}.ffn2", w, codes, 1500, zero, dead=True), y, m_r, s_r)
        reader = weights[i + 1] if i + 1 < layers else layers
        e = before[reader] if reader <= i else adapting.entries(before)
        y, operand, e = build.norm(f"{layer}.ffn_norm", x, e, adapting.norm_owner(i, "ffn_norm"))
        widths["ffn_norm"].append(int(e.sum()))
        outputs.append((operand, e))

    if kind == "sequence":
        build.put("pooler.tanh", [round(127 * tanh(-3 + 6 * i / 255)) for i in range(256)], np.int8)
    _head(build, "pooler" if kind == "sequence" else None, "classifier", operand, e, hidden, labels)
    for i, (operand, e) in enumerate(outputs[:-1] if exits else ()):
        _head(build, f"exits.{i}.pooler" if exit_pooler else None, f"exits.{i}", operand, e, hidden, labels)

    tensors = dict(sorted(build.tensors.items()))
    save_file(tensors, path / "model.safetensors")
    _tokenizer(vocab).save(str(path / "tokenizer.json"))
    manifest = {
        "format": "zynqbert-artifact",
        "version": "2.1",
        "architecture": {
            "family": family,
            "layers": layers,
            "hidden": hidden,
            "embedding": embedding,
            "heads": heads,
            "head_width": head_width,
            "ffn": ffn,
            "vocab": vocab,
            "positions": positions,
            "types": 2,
            "activation": activation,
            "word_bits": word_bits,
            "weights": weights,
            "layer_heads": layer_heads,
            "word_format": "integer" if word_density is None else "adaptivfloat",
        },
        "task": {
            "kind": kind,
            "scores": scores,
            "labels": [f"label{i}" for i in range(labels)],
            "max_length": min(64, positions),
        },
        "entries": widths,
        "scales": {"logits": LOGIT_STEP, "activations": {}},
        "softmax": softmax,
        "spans": None if spans is None else [list(of_layer) for of_layer in spans],
        "exits": None,
        "tensors": {
            name: {"dtype": str(t.dtype), "shape": list(t.shape), "sha256": _sha256(t.tobytes())}
            for name, t in tensors.items()
        },
        "files": {
            name: {"sha256": _sha256((path / name).read_bytes())} for name in ("tokenizer.json", "model.safetensors")
        },
        "metrics": {"seed": seed},
    }
    if exits:
        found = {"entropy": entropy_factor(LOGIT_STEP), "row_shift": row_shift(labels)}
        manifest["exits"] = {**found, "pooler": exit_pooler, "points": points or {}}
    if adapters:
        manifest |= {"version": "2.2", "adapters": adapting.fields}
    (path / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return path
