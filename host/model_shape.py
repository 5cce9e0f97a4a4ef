# SPDX-License-Identifier: Apache-2.0
"""What the compiler needs to know of a model: its sizes, from an artifact's manifest or from an architecture's name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class LayerShape:
    """Entries (K) that one encoder layer's norms and FFN give to the products after them."""

    attention_norm: int
    ffn: int  # N of ffn1 = K of ffn2
    ffn_norm: int


@dataclass(frozen=True)
class Ramps:
    """The off-ramps of a model, behind every layer but the last: `entropy` (m_e, s_e) of Q21, `row_shift` r of Q22."""

    pooler: bool
    entropy: tuple[int, int]
    row_shift: int


@dataclass(frozen=True)
class Adapters:
    """A task's adapters behind both branches of every layer: `width` of the bottleneck, and for each layer the layer
    whose adapters it uses, itself or an earlier one."""

    width: int
    owners: tuple[int, ...]


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a BERT or ALBERT model; `embedding_norm`, `mapping` and `layers` count operand entries (Q9, Q11, Q20).

    `kind`: "sequence", one answer a sentence, or "token", one a row. `mapping`: None where the embeddings have the
    hidden width. `weights`: for each layer, the layer whose matrices it uses, itself or an earlier one. `heads_left`:
    of each layer, None where all are; `spans`: of each head that is left (Q23), None where all see all; `exits`: the
    off-ramps, None where there are none. `adapters`: of a task on a backbone (Q25); layers that share matrices share
    their norms' parameters then.
    """

    name: str
    kind: str
    hidden: int
    embedding: int
    heads: int
    head_width: int
    ffn: int
    vocab: int
    positions: int
    types: int
    labels: int
    word_bits: int
    normalized: bool
    embedding_norm: int
    mapping: int | None
    layers: tuple[LayerShape, ...]
    weights: tuple[int, ...]
    heads_left: tuple[int, ...] | None = None
    spans: tuple[tuple[int, ...], ...] | None = None
    exits: Ramps | None = None
    word_format: str = "integer"
    adapters: Adapters | None = None

    @property
    def layer_heads(self) -> tuple[int, ...]:
        """The heads left of each layer."""
        return (self.heads,) * len(self.layers) if self.heads_left is None else self.heads_left

    def context_width(self, layer: int) -> int:
        """Channels of the queries, keys, values and context of a layer."""
        return self.layer_heads[layer] * self.head_width

    @staticmethod
    def of_manifest(manifest: Mapping[str, Any], name: str = "artifact") -> "ModelShape":
        """The shape that an artifact's checked manifest (docs/artifact.md) describes."""
        a, task, entries = manifest["architecture"], manifest["task"], manifest["entries"]
        layers = zip(entries["attention_norm"], entries["ffn"], entries["ffn_norm"], strict=True)
        spans, exits, adapters = (manifest.get(name) for name in ("spans", "exits", "adapters"))
        return ModelShape(
            name=name,
            kind=task["kind"],
            hidden=a["hidden"],
            embedding=a["embedding"],
            heads=a["heads"],
            head_width=a["head_width"],
            ffn=a["ffn"],
            vocab=a["vocab"],
            positions=a["positions"],
            types=a["types"],
            labels=len(task["labels"]),
            word_bits=a["word_bits"],
            normalized=manifest["softmax"] == "normalized",
            embedding_norm=entries["embedding_norm"][0],
            mapping=entries["mapping"][0] if a["family"] == "albert" else None,
            layers=tuple(LayerShape(*sizes) for sizes in layers),
            weights=tuple(a["weights"]),
            heads_left=None if set(a["layer_heads"]) <= {a["heads"]} else tuple(a["layer_heads"]),
            spans=None if spans is None else tuple(tuple(of_layer) for of_layer in spans),
            exits=None if exits is None else Ramps(exits["pooler"], tuple(exits["entropy"]), exits["row_shift"]),
            word_format=a.get("word_format", "integer"),
            adapters=None if adapters is None else Adapters(adapters["width"], tuple(adapters["owners"])),
        )

    @staticmethod
    def named(name: str) -> "ModelShape":
        """A well-known architecture or a backbone's, two labels, no channel split; ValueError names those there are."""
        known = ARCHITECTURES | BACKBONES
        try:
            layers, hidden, heads, ffn, embedding, vocab = known[name]
        except KeyError:
            raise ValueError(f"model {name!r} is none of {', '.join(known)}") from None
        albert = embedding is not None
        return ModelShape(
            name=name,
            kind="sequence",
            hidden=hidden,
            embedding=embedding if albert else hidden,
            heads=heads,
            head_width=hidden // heads,
            ffn=ffn,
            vocab=vocab,
            positions=128,
            types=2,
            labels=2,
            word_bits=8,
            normalized=False,
            embedding_norm=embedding if albert else hidden,
            mapping=hidden if albert else None,
            layers=(LayerShape(hidden, ffn, hidden),) * layers,
            weights=(0,) * layers if albert else tuple(range(layers)),
        )

    def one_layer(self) -> "ModelShape":
        """Its first layer between embedding and head, without off-ramps: what a tied model runs again and again."""
        return replace(
            self,
            layers=self.layers[:1],
            weights=(0,),
            heads_left=None if self.heads_left is None else self.heads_left[:1],
            spans=None if self.spans is None else self.spans[:1],
            exits=None,
            adapters=None if self.adapters is None else replace(self.adapters, owners=(0,)),
        )

    def dense_macs(self, rows: int) -> int:
        """Multiply-accumulates of the unpadded, unsplit model over `rows` tokens of one sentence, head included: all
        layers, whatever the spans."""
        mapping = 0 if self.mapping is None else rows * self.embedding * self.hidden
        heads = sum(self.layer_heads) * self.head_width
        linear = rows * (4 * self.hidden * heads + len(self.layers) * 2 * self.hidden * self.ffn)
        attention = 2 * rows * rows * heads
        token = rows * self.hidden * self.labels
        head = token if self.kind == "token" else self.hidden * (self.hidden + self.labels)
        return mapping + linear + attention + head


# layers, hidden, heads, ffn, width of ALBERT's embeddings, vocabulary
ARCHITECTURES = {
    "bert-base": (12, 768, 12, 3072, None, 30522),
    "bert-large": (24, 1024, 16, 4096, None, 30522),
    "minilm-l6": (6, 384, 12, 1536, None, 30522),
    "albert-base": (12, 768, 12, 3072, 128, 30000),
}

# Likewise, of backbones that no checkpoint is published of; `zynqbert train recipes/tasks.toml` makes them.
BACKBONES = {"albert-minilm": (6, 384, 12, 1536, 128, 30522)}
