# SPDX-License-Identifier: Apache-2.0
"""What the compiler needs to know of a model: its sizes, from an artifact's manifest or from an architecture's name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LayerShape:
    """Entries (K) that one encoder layer's norms and FFN give to the products after them."""

    attention_norm: int
    ffn: int  # N of ffn1 = K of ffn2
    ffn_norm: int


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a BERT classifier; `embedding_norm` and `layers` count operand entries (Q9, Q11)."""

    name: str
    hidden: int
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
    layers: tuple[LayerShape, ...]

    @staticmethod
    def of_manifest(manifest: Mapping[str, Any], name: str = "artifact") -> "ModelShape":
        """The shape that an artifact's checked manifest (docs/artifact.md) describes."""
        a, entries = manifest["architecture"], manifest["entries"]
        layers = zip(entries["attention_norm"], entries["ffn"], entries["ffn_norm"], strict=True)
        embedding = entries["embedding_norm"]
        return ModelShape(
            name=name,
            hidden=a["hidden"],
            heads=a["heads"],
            head_width=a["head_width"],
            ffn=a["ffn"],
            vocab=a["vocab"],
            positions=a["positions"],
            types=a["types"],
            labels=len(manifest["task"]["labels"]),
            word_bits=a["word_bits"],
            normalized=manifest["softmax"] == "normalized",
            embedding_norm=embedding[0] if isinstance(embedding, list) else embedding,
            layers=tuple(LayerShape(*sizes) for sizes in layers),
        )

    @staticmethod
    def named(name: str) -> "ModelShape":
        """A well-known architecture, two labels, no channel split; ValueError names those there are."""
        try:
            layers, hidden, heads, ffn = ARCHITECTURES[name]
        except KeyError:
            raise ValueError(f"model {name!r} is none of {', '.join(ARCHITECTURES)}") from None
        return ModelShape(
            name=name,
            hidden=hidden,
            heads=heads,
            head_width=hidden // heads,
            ffn=ffn,
            vocab=30522,
            positions=128,
            types=2,
            labels=2,
            word_bits=8,
            normalized=False,
            embedding_norm=hidden,
            layers=(LayerShape(hidden, ffn, hidden),) * layers,
        )

    def dense_macs(self, rows: int) -> int:
        """Multiply-accumulates of the unpadded, unsplit model over `rows` tokens of one sentence, head included."""
        linear = rows * (4 * self.hidden * self.hidden + 2 * self.hidden * self.ffn)
        attention = 2 * rows * rows * self.hidden
        head = self.hidden * (self.hidden + self.labels)
        return len(self.layers) * (linear + attention) + head


# layers, hidden, heads, ffn
ARCHITECTURES = {
    "bert-base": (12, 768, 12, 3072),
    "bert-large": (24, 1024, 16, 4096),
    "minilm-l6": (6, 384, 12, 1536),
}
