# SPDX-License-Identifier: Apache-2.0
"""The tensors that an architecture calls for and the values they may hold (docs/artifact.md). numpy only."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from .artifact_fields import ArtifactError
from .packing import check_linear, unpack_nibbles
from .tables import exp_table

Spec = dict[str, tuple[str, tuple[int, ...]]]
ADAPTERS = {"o": "attention_adapter", "ffn2": "ffn_adapter"}  # by the branch behind which they stand
_NORM_PARTS = (("gamma", "int8"), ("gamma_shift", "uint8"), ("beta", "int8"), ("beta_shift", "uint8"))


_OF_A_TASK = re.compile(
    r"classifier\..*|exits\..*|layers\.[0-9]+\.((attention|ffn)_adapter\..*|(attention|ffn)_norm\.(gamma|beta)(_shift)?)"
)


def is_task_tensor(name: str) -> bool:
    """Whether a tensor of a model with adapters is its task's, not its backbone's: adapters, the words of the layers'
    norms, classifier, off-ramps.

    >>> is_task_tensor("layers.0.ffn_norm.gamma"), is_task_tensor("layers.0.ffn_norm.entries")
    (True, False)
    """
    return _OF_A_TASK.fullmatch(name) is not None


class Place(NamedTuple):
    """A linear layer where the model applies it: its bias and factors are `name`'s, its matrix may be shared."""

    name: str
    matrix: str  # whose `.weight` it uses: its own name, or that of the layer that owns it
    n: int
    k: int
    bits: int
    amax: int  # largest |operand|


def context_width(manifest: Mapping, i: int) -> int:
    """Channels of q, k, v and of the context of layer i: those of the heads that are left."""
    a = manifest["architecture"]
    return a["layer_heads"][i] * a["head_width"]


def ramps(manifest: Mapping) -> range:
    """The layers that have an off-ramp behind them, but for the last, whose ramp is the model's own head."""
    return range(manifest["architecture"]["layers"] - 1 if manifest["exits"] else 0)


def adapter_owners(manifest: Mapping) -> list[int]:
    """The layers that have adapter tensors, none without adapters."""
    adapters = manifest.get("adapters")
    return sorted(set(adapters["owners"])) if adapters else []


def linears(manifest: Mapping) -> Iterator[Place]:
    """Every place of a linear layer, in the order of the model; those that share a matrix come once each.

    An adapter that several layers use comes once, at the layer that owns it: bias and factors are shared with it.
    """
    a, entries, task = manifest["architecture"], manifest["entries"], manifest["task"]
    hidden, before, labels = a["hidden"], entries["embedding_norm"][0], len(task["labels"])
    if entries["mapping"]:
        yield Place("mapping", "mapping", hidden, before, 8, 127)
        before = entries["mapping"][0]
    for i, owner in enumerate(a["weights"]):
        attention, ffn, context = entries["attention_norm"][i], entries["ffn"][i], context_width(manifest, i)
        sizes = {name: (context, before, 127) for name in "qkv"}
        sizes |= {"o": (hidden, context, 127), "ffn1": (ffn, attention, 127), "ffn2": (hidden, ffn, 255)}
        for name, (n, k, amax) in sizes.items():
            yield Place(f"layers.{i}.{name}", f"layers.{owner}.{name}", n, k, 4, amax)
            if name in ADAPTERS and i in adapter_owners(manifest):
                at, width = f"layers.{i}.{ADAPTERS[name]}", manifest["adapters"]["width"]
                yield Place(f"{at}.down", f"{at}.down", width, hidden, 8, 127)
                yield Place(f"{at}.up", f"{at}.up", hidden, width, 8, 127)
        before = entries["ffn_norm"][i]
    for i in ramps(manifest):
        before = entries["ffn_norm"][i]
        if manifest["exits"]["pooler"]:
            yield Place(f"exits.{i}.pooler", f"exits.{i}.pooler", hidden, before, 8, 127)
            before = hidden
        yield Place(f"exits.{i}", f"exits.{i}", labels, before, 8, 127)
    before = entries["ffn_norm"][-1]
    if task["kind"] == "sequence":
        yield Place("pooler", "pooler", hidden, before, 8, 127)
        before = hidden
    yield Place("classifier", "classifier", labels, before, 8, 127)


def norms(manifest: Mapping) -> Iterator[tuple[str, int]]:
    """Every layer norm with γ and β of its own: name, width. With adapters, layers that share matrices share them."""
    a = manifest["architecture"]
    yield "embeddings.norm", a["embedding"]
    for i, owner in enumerate(a["weights"]):
        if owner == i or not manifest.get("adapters"):
            yield f"layers.{i}.attention_norm", a["hidden"]
            yield f"layers.{i}.ffn_norm", a["hidden"]


def operands(manifest: Mapping) -> Iterator[tuple[str, int, int]]:
    """Every output that becomes an operand by Q9: name, width, entries."""
    a, entries = manifest["architecture"], manifest["entries"]
    yield "embeddings.norm", a["embedding"], entries["embedding_norm"][0]
    for k in entries["mapping"]:
        yield "mapping", a["hidden"], k
    for i in range(a["layers"]):
        yield f"layers.{i}.attention_norm", a["hidden"], entries["attention_norm"][i]
        yield f"layers.{i}.ffn_norm", a["hidden"], entries["ffn_norm"][i]


def expected_tensors(manifest: Mapping) -> Spec:
    """Name → dtype, shape, from a checked manifest."""
    a = manifest["architecture"]
    embedding = a["embedding"]
    spec: Spec = {"softmax.exp": ("uint8", (256,))}
    if manifest["task"]["kind"] == "sequence":
        spec["pooler.tanh"] = ("int8", (256,))
    for field, rows in (("word", a["vocab"]), ("position", a["positions"]), ("type", a["types"])):
        if field == "word" and a["word_format"] == "adaptivfloat":
            spec["embeddings.word.q"] = ("uint8", (rows, embedding))
            spec["embeddings.word.factor"] = ("int32", (2,))
            continue
        four = field == "word" and a["word_bits"] == 4
        spec[f"embeddings.{field}.q"] = ("uint8", (rows, (embedding + 1) // 2)) if four else ("int8", (rows, embedding))
        spec[f"embeddings.{field}.m"] = spec[f"embeddings.{field}.s"] = ("uint8", (rows,))
    for name, width in norms(manifest):
        for part, dtype in _NORM_PARTS:
            spec[f"{name}.{part}"] = (dtype, (width,))
    for name, width, _ in operands(manifest):
        spec[f"{name}.entries"] = ("uint8", (width,))
        spec[f"{name}.operand"] = ("int32", (2,))
    for name, matrix, n, k, bits, _ in linears(manifest):
        spec[f"{matrix}.weight"] = ("uint8", (n, (k + 1) // 2)) if bits == 4 else ("int8", (n, k))
        spec[f"{name}.bias"] = ("int32", (n,))
        spec[f"{name}.m"] = spec[f"{name}.s"] = ("uint8", (n,))
    for i in range(a["layers"]):
        at = f"layers.{i}"
        spec[f"{at}.attention.score_m"] = spec[f"{at}.attention.score_s"] = ("uint8", (a["layer_heads"][i],))
        context = ("uint8", (context_width(manifest, i),))
        spec[f"{at}.attention.context_m"] = spec[f"{at}.attention.context_s"] = context
        spec[f"{at}.o.residual"] = spec[f"{at}.ffn2.residual"] = ("int32", (2,))
        spec[f"{at}.ffn1.table"] = ("uint8", (manifest["entries"]["ffn"][i],))
        spec[f"{at}.gelu"] = ("uint8", (256,))
        for branch in ADAPTERS if manifest.get("adapters") else ():
            spec[f"{at}.{branch}.adapter_m"] = spec[f"{at}.{branch}.adapter_s"] = ("uint8", (a["hidden"],))
    for i in adapter_owners(manifest):
        for place in ADAPTERS.values():
            spec[f"layers.{i}.{place}.table"] = ("int8", (256,))
    return spec


def check_values(file: object, manifest: Mapping, tensors: Mapping[str, np.ndarray]) -> None:
    """Every value that a field's range or the engine's arithmetic forbids; ArtifactError names tensor and place.

    tensors: all that expected_tensors names, or of those just a task's, or just the others.
    """

    def check(name: str, good: np.ndarray, wanted: str) -> None:
        if not good.all():
            at = np.unravel_index(int(np.argmin(good)), good.shape)
            found = tensors[name][at]
            raise ArtifactError(file, f"{name}[{', '.join(map(str, at))}]", f"{found} is not {wanted}")

    def factor(name: str, m: np.ndarray, s: np.ndarray) -> None:
        """m and s of Q2 as two tensors, or the two elements of one."""
        one = m.ndim == 0
        parts = (name, name) if one else (f"{name}m", f"{name}s")
        good_m, good_s = (m == 0) | ((m >= 128) & (m <= 255)), (s >= 1) & (s <= 31)
        if one:
            check(parts[0], np.array([good_m, good_s]), "m in 0, 128 .. 255, then s in 1 .. 31")
        else:
            check(parts[0], good_m, "0 or 128 .. 255")
            check(parts[1], good_s, "1 .. 31")

    t = tensors
    for name, tensor in t.items():
        if tensor.dtype == np.int8:
            check(name, tensor != -128, "−127 .. 127")
    for name in (name for name, _ in norms(manifest) if f"{name}.gamma" in t):
        check(f"{name}.gamma_shift", (t[f"{name}.gamma_shift"] >= 1) & (t[f"{name}.gamma_shift"] <= 31), "1 .. 31")
        check(f"{name}.beta_shift", t[f"{name}.beta_shift"] <= 8, "0 .. 8")
    for name, matrix, _, k, bits, amax in (place for place in linears(manifest) if f"{place.name}.bias" in t):
        factor(f"{name}.", t[f"{name}.m"], t[f"{name}.s"])
        weight = t[f"{matrix}.weight"]
        w = _nibbles(file, f"{matrix}.weight", weight, k) if bits == 4 else weight
        try:
            check_linear(name, w, t[f"{name}.bias"], amax, bits)
        except ValueError as error:
            raise ArtifactError(file, name, str(error)) from error
    if "softmax.exp" not in t:
        return
    if not np.array_equal(t["softmax.exp"], exp_table()):
        raise ArtifactError(file, "softmax.exp", "not the table of Q15")
    adaptive = manifest["architecture"]["word_format"] == "adaptivfloat"
    if adaptive:
        factor("embeddings.word.factor", *t["embeddings.word.factor"])
        check("embeddings.word.q", t["embeddings.word.q"] != 128, "a code of Q24, of which 0 is the zero")
    for field in ("position", "type") if adaptive else ("word", "position", "type"):
        factor(f"embeddings.{field}.", t[f"embeddings.{field}.m"], t[f"embeddings.{field}.s"])
    if manifest["architecture"]["word_bits"] == 4:
        _nibbles(file, "embeddings.word.q", t["embeddings.word.q"], manifest["architecture"]["embedding"])
    for name, _, entries in operands(manifest):
        check(f"{name}.entries", t[f"{name}.entries"] >= 1, "1 or more")
        if (total := int(t[f"{name}.entries"].sum(dtype=np.int64))) != entries:
            raise ArtifactError(file, f"{name}.entries", f"sum {total} is not the manifest's {entries}")
        factor(f"{name}.operand", *t[f"{name}.operand"])
    for i in range(manifest["architecture"]["layers"]):
        at = f"layers.{i}"
        for part in ("score_", "context_"):
            name = f"{at}.attention.{part}"
            factor(name, t[f"{name}m"], t[f"{name}s"])
        for part in ("o", "ffn2"):
            factor(f"{at}.{part}.residual", *t[f"{at}.{part}.residual"])
        check(f"{at}.ffn1.table", t[f"{at}.ffn1.table"] <= 1, "0 or 1")
    for i, owner in enumerate(manifest["architecture"]["weights"] if manifest.get("adapters") else ()):
        for branch in ADAPTERS:
            name = f"layers.{i}.{branch}.adapter_"
            factor(name, t[f"{name}m"], t[f"{name}s"])
        for norm in ("attention_norm", "ffn_norm"):
            entries, of_owner = (t[f"layers.{j}.{norm}.entries"] for j in (i, owner))
            check(f"layers.{i}.{norm}.entries", entries == of_owner, f"layer {owner}'s, whose norm it uses")


def _nibbles(file: object, name: str, packed: np.ndarray, width: int) -> np.ndarray:
    try:
        return unpack_nibbles(packed, width)
    except ValueError as error:
        raise ArtifactError(file, name, str(error)) from error
