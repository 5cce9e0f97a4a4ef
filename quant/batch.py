# SPDX-License-Identifier: Apache-2.0
"""Sentences as flat token rows: no padding, so every row counts the same in every statistic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from .tokens import Tokens


@dataclass(frozen=True)
class Batch:
    """Rows of whole sentences, one after the other. ids, position, type [rows]; lengths [sentences]."""

    ids: torch.Tensor
    position: torch.Tensor
    type: torch.Tensor
    lengths: torch.Tensor

    @property
    def first(self) -> torch.Tensor:
        """Row of each sentence's [CLS], [sentences]."""
        return self.lengths.cumsum(0) - self.lengths

    def groups(self) -> Iterator[torch.Tensor]:
        """Row indices [sentences, length] of the sentences of one length, for each length."""
        first = self.first
        for length in self.lengths.unique().tolist():
            yield first[self.lengths == length][:, None] + torch.arange(length, device=first.device)


def make_batch(sentences: Sequence[Tokens], device: torch.device | str = "cpu") -> Batch:
    """Sentences → a batch, on `device`."""
    lengths = torch.tensor([len(s.ids) for s in sentences])
    ids = torch.tensor([token for s in sentences for token in s.ids])
    types = torch.tensor([segment for s in sentences for segment in s.types])
    position = torch.cat([torch.arange(n) for n in lengths.tolist()])
    return Batch(*(part.to(device) for part in (ids, position, types, lengths)))


def split_batches(sentences: Sequence[Tokens], rows: int = 2048, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """Batches of about `rows` rows, in order, on `device`."""
    some: list[Tokens] = []
    for sentence in sentences:
        if some and sum(len(s.ids) for s in some) + len(sentence.ids) > rows:
            yield make_batch(some, device)
            some = []
        some.append(sentence)
    if some:
        yield make_batch(some, device)
