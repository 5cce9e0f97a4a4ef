# SPDX-License-Identifier: Apache-2.0
"""A whole pass in integers: reads an artifact (docs/artifact.md) by itself and applies the units of golden.py.

It shares no code with the packer, the compiler or the kernels, so that being equal to it means something.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from zynqbert.quant import golden


def unpack_nibbles(packed: np.ndarray, width: int) -> np.ndarray:
    """uint8 [n, ⌈width/2⌉], the even column in the low nibble → int8 [n, width] in −7 .. 7; 0x8 is a ValueError."""
    if packed.dtype != np.uint8 or packed.shape[1] != (width + 1) // 2:
        raise ValueError(f"{packed.dtype} {packed.shape} cannot hold rows of {width} nibbles")
    out = np.empty((packed.shape[0], 2 * packed.shape[1]), np.int8)
    out[:, 0::2] = packed % 16
    out[:, 1::2] = packed // 16
    if (out == 8).any():
        raise ValueError("nibble 0x8 is not an int4 weight")
    out[out > 8] -= 16
    if out[:, width:].any():
        raise ValueError("the nibble that pads a row is not 0")
    return out[:, :width]


LANES = 32  # rows of a row block


@dataclass(frozen=True)
class Answers:
    """What the sentences of a pass answer that leaves early (Q22), in the order of their result rows.

    logits int64 [results, labels] of the ramp at which each left; int64 [results]: `layer` at which it left (1 is the
    first), `entropy` there, layer `foretold` (0: none), `first`, the entropy at the ramp that foretold (0: none did).
    `clock` is the wizard's output chosen there, −1 if none was.
    """

    logits: np.ndarray
    layer: np.ndarray
    entropy: np.ndarray
    foretold: np.ndarray
    first: np.ndarray
    clock: int


class _Leaving:
    """(Q22) Who has left so far."""

    def __init__(self, exits: Mapping, entropy: tuple[int, int], shift: int, begin: np.ndarray, end: np.ndarray):
        """begin, end [results]: the rows of each sentence."""
        foretold = exits.get("foretold")
        if isinstance(foretold, Mapping):  # as an artifact's operating point has it: with a threshold of its own
            self.threshold, self.table = foretold["threshold"], foretold["table"]
        else:
            self.threshold, self.table = exits["threshold"], foretold
        self.clock_table = exits.get("clock")
        self.factor, self.shift, self.begin, self.end = entropy, shift, begin, end
        self.layer, self.entropy, self.foretold, self.first = np.zeros((4, len(begin)), np.int64)
        self.logits: np.ndarray | None = None
        self.clock = -1

    def meet(self, logits: np.ndarray, layer: int, last: bool) -> None:
        """The off-ramp behind `layer` (1 is the first) with its logits [results, labels]."""
        left = self.layer > 0
        entropy = golden.entropy_ref(logits, *self.factor)
        if layer == 1:
            self.logits = np.zeros_like(logits)
            if self.table:
                self.first, self.foretold = entropy, golden.predicted_ref(entropy, self.table, self.shift)
        now = ~left & golden.leaves_ref(entropy, layer, self.threshold, self.foretold, last)
        self.layer[now], self.entropy[now], self.logits[now] = layer, entropy[now], logits[now]
        if layer == 1 and self.table and self.clock_table and (self.layer == 0).any():
            self.clock = min(self.clock_table[foretold] for foretold in self.foretold[self.layer == 0])

    def live(self, rows: int) -> np.ndarray:
        """Which row blocks of the pass hold a sentence that has not left, bool."""
        blocks = np.zeros(-(-rows // LANES), bool)
        for begin, end in zip(self.begin[self.layer == 0], self.end[self.layer == 0], strict=True):
            blocks[begin // LANES : -(-end // LANES)] = True
        return blocks

    def answers(self) -> Answers:
        return Answers(self.logits, self.layer, self.entropy, self.foretold, self.first, self.clock)


def _with_task(folder: Path, backbone: dict, task: dict) -> dict:
    """The manifest of the model that a backbone and a task of it make."""
    found = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    if backbone["format"] != "zynqbert-backbone" or task["format"] != "zynqbert-task" or backbone["version"] != "1.0":
        raise ValueError(f"{folder}: not a zynqbert backbone of version 1.0, or its task is none")
    if task["backbone"]["sha256"] != found:
        raise ValueError(f"{folder}: task {task['name']} is of another backbone, {task['backbone']['name']}")
    own = {name: task[name] for name in ("task", "exits", "scales")}
    return {**backbone, **own, "format": "zynqbert-artifact", "version": "2.2"}


class GoldenModel:
    """An artifact, ready to run: `forward` takes a pass as the hardware sees it, `forward_sentence` one sentence."""

    def __init__(self, folder: str | Path, task: str | Path | None = None):
        """Read the artifact in `folder`, or the backbone there with the task in folder `task`; ValueError if it is not
        one that this reader knows, or the task is of another backbone."""
        folder = Path(folder)
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if task is not None:
            self.manifest = _with_task(folder, self.manifest, json.loads((Path(task) / "task.json").read_text("utf-8")))
        if self.manifest["format"] != "zynqbert-artifact" or self.manifest["version"] not in ("2.0", "2.1", "2.2"):
            raise ValueError(f"{folder}: not a zynqbert artifact of version 2.0 to 2.2")
        architecture, kind = self.manifest["architecture"], self.manifest["task"]["kind"]
        if architecture["family"] not in ("bert", "albert") or kind not in ("sequence", "token"):
            raise ValueError(f"{folder}: family {architecture['family']!r}, kind {kind!r}: not known")
        self.mapped, self.per_token = architecture["family"] == "albert", kind == "token"
        self.layers, self.hidden = architecture["layers"], architecture["hidden"]
        self.head_width = architecture["head_width"]
        self.heads = architecture.get("layer_heads", [architecture["heads"]] * self.layers)
        self.spans = self.manifest.get("spans") or [[128] * heads for heads in self.heads]
        self.exits = self.manifest.get("exits")
        self.weights, self.adapters = architecture["weights"], self.manifest.get("adapters")
        self.normalized = {"numerator": False, "normalized": True}[self.manifest["softmax"]]
        self.tensors = t = load_file(folder / "model.safetensors")
        if task is not None:
            t |= load_file(Path(task) / "task.safetensors")
        if architecture.get("word_format") == "adaptivfloat":
            t["embeddings.word.q"] = golden.adaptiv_ref(t["embeddings.word.q"])
            m, s = t["embeddings.word.factor"]
            t["embeddings.word.m"], t["embeddings.word.s"] = (np.full(architecture["vocab"], x) for x in (m, s))
        elif architecture["word_bits"] == 4:
            t["embeddings.word.q"] = unpack_nibbles(t["embeddings.word.q"], architecture["embedding"]) * np.int8(16)
        before = "mapping" if self.mapped else "embeddings.norm"
        for i, owner in enumerate(architecture["weights"]):
            layer = f"layers.{i}"
            inputs = {name: int(t[f"{before}.entries"].sum()) for name in "qkv"}
            inputs["o"] = self.heads[i] * self.head_width
            inputs["ffn1"] = int(t[f"{layer}.attention_norm.entries"].sum())
            inputs["ffn2"] = t[f"{layer}.ffn1.bias"].shape[0]
            for name, k in inputs.items():
                shared = t[f"layers.{owner}.{name}.weight"]  # unpacked already if it is another layer's
                t[f"{layer}.{name}.weight"] = unpack_nibbles(shared, k) if owner == i else shared
            before = f"{layer}.ffn_norm"

    def _linear(self, name: str, operand: np.ndarray) -> tuple[np.ndarray, ...]:
        """acc of Q3 and the b, m, s that go with it."""
        t = self.tensors
        return golden.linear_ref(t[f"{name}.weight"], operand), t[f"{name}.bias"], t[f"{name}.m"], t[f"{name}.s"]

    def _rows(self, field: str, ids: np.ndarray) -> tuple[np.ndarray, ...]:
        """One embedding table's q, m and s for each row of the pass."""
        if ids.size and ids.min() < 0:
            raise IndexError(f"negative {field}")
        return tuple(self.tensors[f"embeddings.{field}.{part}"][ids] for part in "qms")

    def _entries(self, norm: str, y: np.ndarray) -> np.ndarray:
        """The operand that the output of a layer norm, or of the mapping, becomes (Q9)."""
        return golden.entries_ref(y, self.tensors[f"{norm}.entries"], *self.tensors[f"{norm}.operand"])

    def _norm(self, norm: str, x: np.ndarray, trace: dict) -> tuple[np.ndarray, np.ndarray]:
        """y (Q7) and its entries (Q9)."""
        names = ("gamma", "gamma_shift", "beta", "beta_shift")
        part = norm.split(".")
        shared = self.adapters is not None and part[0] == "layers"
        of = f"layers.{self.weights[int(part[1])]}.{part[2]}" if shared else norm
        trace[f"{norm}.y"] = y = golden.layer_norm_ref(x, *(self.tensors[f"{of}.{name}"] for name in names))
        trace[f"{norm}.operand"] = operand = self._entries(norm, y)
        return y, operand

    def _branch(self, i: int, name: str, adapter: str, operand: np.ndarray, y: np.ndarray, trace: dict) -> np.ndarray:
        """What layer i's branch `name` and the residual y are together (Q12), by way of its adapter (Q25)."""
        t, branch = self.tensors, f"layers.{i}.{name}"
        product = self._linear(branch, operand)
        trace[f"{branch}.x"] = x = golden.residual_ref(*product, y, *t[f"{branch}.residual"])
        if self.adapters is None:
            return x
        h = golden.branch_operand_ref(golden.branch_ref(*product), t[f"{branch}.adapter_m"], t[f"{branch}.adapter_s"])
        own = f"layers.{self.adapters['owners'][i]}.{adapter}"
        every = np.ones(self.adapters["width"], np.int64)
        down = golden.activation_ref(*self._linear(f"{own}.down", h), t[f"{own}.table"], every, unsigned=False)
        trace[f"layers.{i}.{adapter}.down"] = down
        trace[f"layers.{i}.{adapter}.x"] = x = golden.residual_ref(*self._linear(f"{own}.up", down), x, 128, 7)
        return x

    def _attention(self, i: int, operand: np.ndarray, begin, end, trace: dict) -> np.ndarray:
        """Q10, Q14 to Q18, Q23 for the heads of layer i: operand [rows, K] → context [rows, heads · head width]."""
        t, layer = self.tensors, f"layers.{i}"
        for name in "qkv":
            trace[f"{layer}.{name}"] = golden.int8_ref(*self._linear(f"{layer}.{name}", operand))
        numerators, contexts = [], []
        for head in range(self.heads[i]):
            of_head = slice(head * self.head_width, (head + 1) * self.head_width)
            q, k, v = (trace[f"{layer}.{name}"][:, of_head] for name in "qkv")
            m, s = t[f"{layer}.attention.score_m"][head], t[f"{layer}.attention.score_s"][head]
            x = golden.scores_ref(q, k, m, s)
            e, r, p = golden.softmax_ref(x, begin, end, t["softmax.exp"], self.normalized, self.spans[i][head])
            m, s = t[f"{layer}.attention.context_m"][of_head], t[f"{layer}.attention.context_s"][of_head]
            numerators.append(e)
            contexts.append(golden.context_ref(e, v, r, p, m, s))
        trace[f"{layer}.numerators"] = np.stack(numerators)  # [heads, rows, keys]
        trace[f"{layer}.context"] = np.concatenate(contexts, axis=1)
        return trace[f"{layer}.context"]

    def _ramp(self, at: str, y: np.ndarray, norm: str, trace: dict) -> np.ndarray:
        """(Q19) An off-ramp (`at` "exits.0.") or the model's own head ("") on the [CLS] rows y [results, hidden]."""
        trace[f"{at}gathered"] = operand = self._entries(norm, y)
        if not at or self.exits["pooler"]:
            acc = self._linear(f"{at}pooler", operand)
            trace[f"{at}pooler"] = operand = golden.pooler_ref(*acc, self.tensors["pooler.tanh"])
        trace[f"{at}logits"] = golden.logits_ref(*self._linear(at[:-1] or "classifier", operand))
        return trace[f"{at}logits"]

    def forward(
        self,
        token_ids,
        position,
        type,
        begin,
        end,
        result_rows=(),
        trace: dict[str, np.ndarray] | None = None,
        exits: Mapping | None = None,
    ) -> np.ndarray | Answers:
        """One pass of at most 128 rows → logits int64 [results, labels]; [rows, labels] with one answer a token.

        token_ids, position, type, begin, end [rows]: row i sees the keys begin_i .. end_i − 1 (rows of this pass);
        padding rows have word, position and type 0 and an empty range. result_rows [results]: the [CLS] rows, of no
        use with one answer a token. ValueError if the pass is too long, or a range or result row is outside of it.
        Every buffer is left in `trace` by name, [rows, channels] but for numerators [heads, rows, keys].

        With an operating point `exits` sentences leave early (Q22) and the answer is Answers; ValueError without
        off-ramps. `threshold` is θ at every ramp; `foretold` none, the exit table [256] that the first ramp reads, or
        an object of `threshold` (then θ) and `table`; `clock` none, or the clock table. The trace has `exits.i.` with
        gathered, pooler and logits of every ramp that was met, and `layers.i.live`, bool [row blocks]: those whose rows
        the engine computes in layer i. The layers that no sentence reaches are missing; rows of a dead row block have
        what they would have had.
        """
        trace = {} if trace is None else trace
        t = self.tensors
        token_ids, position, type, begin, end, result_rows = (
            np.asarray(x, np.int64) for x in (token_ids, position, type, begin, end, result_rows)
        )
        rows = token_ids.shape[0]
        if not 1 <= rows <= 128 or (begin < 0).any() or (end > rows).any() or (result_rows < 0).any():
            raise ValueError("a pass has 1 .. 128 rows, and the key ranges and result rows are among them")
        leaving = None
        if exits is not None:
            if not self.exits:
                raise ValueError("the artifact has no off-ramps")
            of = self.exits
            leaving = _Leaving(exits, of["entropy"], of["row_shift"], begin[result_rows], end[result_rows])
        fields = (("word", token_ids), ("position", position), ("type", type))
        trace["embeddings.sum"] = x = golden.embed_ref(*(self._rows(field, ids) for field, ids in fields))
        norm = "embeddings.norm"
        y, operand = self._norm(norm, x, trace)
        if self.mapped:
            trace["mapping.x"] = y = golden.mapping_ref(*self._linear("mapping", operand))
            trace["mapping.operand"] = operand = self._entries("mapping", y)
        for i in range(self.layers):
            layer = f"layers.{i}"
            if leaving:  # before the first ramp every row block is computed
                trace[f"{layer}.live"] = leaving.live(rows) if i else np.ones(-(-rows // LANES), bool)
            context = self._attention(i, operand, begin, end, trace)
            x = self._branch(i, "o", "attention_adapter", context, y, trace)
            y, operand = self._norm(f"{layer}.attention_norm", x, trace)
            ffn1 = golden.activation_ref(
                *self._linear(f"{layer}.ffn1", operand), t[f"{layer}.gelu"], t[f"{layer}.ffn1.table"], unsigned=True
            )
            trace[f"{layer}.ffn1"] = ffn1
            x = self._branch(i, "ffn2", "ffn_adapter", ffn1, y, trace)
            norm = f"{layer}.ffn_norm"
            y, operand = self._norm(norm, x, trace)
            if leaving and i < self.layers - 1:
                leaving.meet(self._ramp(f"exits.{i}.", y[result_rows], norm, trace), i + 1, last=False)
                if (leaving.layer > 0).all():
                    return leaving.answers()
        if self.per_token:
            trace["logits"] = golden.logits_ref(*self._linear("classifier", operand))
            return trace["logits"]
        logits = self._ramp("", y[result_rows], norm, trace)
        if leaving:
            leaving.meet(logits, self.layers, last=True)
            return leaving.answers()
        return logits

    def forward_sentence(
        self, ids, types=None, length: int | None = None, trace: dict | None = None, exits: Mapping | None = None
    ) -> np.ndarray | Answers:
        """One sentence in a pass of `length` rows (its own length if None) → logits int64 [labels].

        [tokens, labels] with one answer a token; with `exits`, as of `forward`, Answers of one sentence. types: the
        segment of each token, 0 if None. ValueError where it does not fit.
        """
        n = len(ids)
        length = n if length is None else length
        if not 1 <= n <= length:
            raise ValueError(f"{n} tokens in {length} rows")
        pad = [0] * (length - n)
        types = [0] * n if types is None else list(types)
        columns = ([*ids, *pad], [*range(n), *pad], types + pad, [0] * length, [n] * n + pad)
        answer = self.forward(*columns, [0], trace, exits)
        if exits is not None:
            return answer
        return answer[:n] if self.per_token else answer[0]
