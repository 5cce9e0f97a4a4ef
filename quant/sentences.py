# SPDX-License-Identifier: Apache-2.0
"""The labelled texts of a training in float, as tokens."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from copy import copy

import torch

from .batch import Batch, make_batch
from .datasets import Example
from .distillation import UNLABELLED
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
        self.tokenizer_json = tokenizer_json
        self.tokens: dict[str, list[Tokens]] = {
            split: encode(tokenizer_json, [e.texts for e in examples], max_length) for split, examples in data.items()
        }
        self.labels = {split: [e.label for e in examples] for split, examples in data.items()}
        read = {split: hashlib.sha256(repr(list(examples)).encode()).hexdigest() for split, examples in data.items()}
        kept = {f"examples.{split}.sha256": read[split] for split in ("train", "dev")}
        self.settings = {"max_length": max_length, "labels": self.names, **kept}

    def with_unlabelled(self, texts: Sequence[str]) -> "Sentences":
        """The same, with texts that have no label behind those of the train split."""
        more = copy(self)
        found = encode(self.tokenizer_json, texts, self.max_length)
        more.tokens = {**self.tokens, "train": [*self.tokens["train"], *found]}
        more.labels = {**self.labels, "train": [*self.labels["train"], *[UNLABELLED] * len(texts)]}
        digest = hashlib.sha256(repr(list(texts)).encode()).hexdigest()
        more.settings = {**self.settings, "examples.unlabelled.sha256": digest}
        return more

    @property
    def lengths(self) -> list[int]:
        """Tokens of each train text."""
        return [len(s.ids) for s in self.tokens["train"]]

    def target(self, split: str, rows: Sequence[int]) -> torch.Tensor:
        """Labels int64 of the texts `rows` of a split."""
        return torch.tensor([self.labels[split][i] for i in rows], device=self.device)

    def batch(self, split: str, rows: Sequence[int], noise: float = 0.0) -> tuple[Batch, torch.Tensor]:
        """The texts `rows` of a split, and their labels; of their tokens the share `noise` is replaced (`noisy`)."""
        batch = make_batch([self.tokens[split][i] for i in rows], self.device)
        return noisy(batch, noise) if noise else batch, self.target(split, rows)


def noisy(batch: Batch, share: float) -> Batch:
    """The batch with each token replaced at the chance `share` by one drawn from all of the batch.

    New texts for a teacher to answer: a student that follows it learns more than the train split by heart. The special
    tokens, which are those of the ids that texts begin and end with, stay and are never drawn.
    """
    ids, last = batch.ids, batch.first + batch.lengths - 1
    words = ~torch.isin(ids, torch.cat([ids[batch.first], ids[last]]))  # [rows]
    if not words.any():
        return batch
    drawn = ids[words][torch.randint(int(words.sum()), ids.shape, device=ids.device)]
    replaced = words & (torch.rand(ids.shape, device=ids.device) < share)
    return dataclasses.replace(batch, ids=torch.where(replaced, drawn, ids))
