# SPDX-License-Identifier: Apache-2.0
"""The labelled texts of a training in float, as tokens."""

import hashlib
from collections.abc import Mapping, Sequence

import torch

from .batch import Batch, make_batch
from .datasets import Example
from .tokens import Tokens, encode


class Sentences:
    """`tokens` and `labels` of each split, cut to `max_length`; `settings` say which they are."""

    def __init__(
        self,
        data: Mapping[str, Sequence[Example]],
        names: Sequence[str],
        tokenizer_json: str,
        max_length: int,
        device: torch.device | str = "cpu",
    ):
        self.names, self.max_length, self.device = list(names), max_length, device
        self.tokens: dict[str, list[Tokens]] = {
            split: encode(tokenizer_json, [e.texts for e in examples], max_length) for split, examples in data.items()
        }
        self.labels = {split: [e.label for e in examples] for split, examples in data.items()}
        read = {split: hashlib.sha256(repr(list(examples)).encode()).hexdigest() for split, examples in data.items()}
        kept = {f"examples.{split}.sha256": read[split] for split in ("train", "dev")}
        self.settings = {"max_length": max_length, "labels": self.names, **kept}

    @property
    def lengths(self) -> list[int]:
        """Tokens of each train text."""
        return [len(s.ids) for s in self.tokens["train"]]

    def batch(self, split: str, rows: Sequence[int]) -> tuple[Batch, torch.Tensor]:
        """The texts `rows` of a split, and their labels int64 [texts]."""
        target = torch.tensor([self.labels[split][i] for i in rows], device=self.device)
        return make_batch([self.tokens[split][i] for i in rows], self.device), target
