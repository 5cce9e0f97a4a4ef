# SPDX-License-Identifier: Apache-2.0
"""What a quantized model is trained towards: the labels, the float model's answers, and its last layer's rows."""

import copy
import dataclasses
from typing import Any

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from . import float_model
from .batch import Batch
from .checkpoint import ModelWeights

UNLABELLED = -100  # in place of a label


class Teacher:
    """The float model on the batches of the quantized one."""

    def __init__(self, weights: ModelWeights, device: torch.device | str = "cpu"):
        """weights: with the vocabulary of the quantized model (vocabulary.drop_unused_words)."""
        self.weights = _moved(weights, device, {})
        self.last = f"layers.{weights.architecture.layers - 1}.ffn_norm.y"

    def __call__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [sentences, labels], and the last layer's output [rows, hidden]."""
        taps: dict[str, torch.Tensor] = {}
        logits = float_model.forward(self.weights, batch, taps.__setitem__)
        return logits.clone(), taps[self.last].clone()  # clones take part in autograd, inference tensors do not


def distillation_loss(
    logits: torch.Tensor, target: torch.Tensor, teacher: torch.Tensor, share: float, temperature: float
) -> torch.Tensor:
    """(1 − share)·cross-entropy + share·T²·KL(teacher ‖ model) of logits softened by T (Hinton et al., 1503.02531).

    Means over the batch. A target UNLABELLED has no cross-entropy.
    """
    loss = (1 - share) * cross_entropy(logits, target, ignore_index=UNLABELLED, reduction="sum") / len(target)
    soft = (log_softmax(x / temperature, dim=1) for x in (logits, teacher))
    return loss + share * temperature**2 * kl_div(*soft, log_target=True, reduction="batchmean")


def feature_loss(rows: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Squared error of rows [rows, hidden] as a share of the teacher's variance."""
    return (rows - teacher).square().mean() / variance(teacher)


def variance(rows: torch.Tensor) -> torch.Tensor:
    """Mean over the channels of rows [rows, hidden]."""
    return (rows - rows.mean(dim=0)).square().mean()


def _moved(value: Any, device: torch.device | str, seen: dict[int, Any]) -> Any:
    """A copy with every tensor on `device`; what was one object (a shared layer) stays one."""
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, torch.Tensor):
        moved = value.to(device)
    elif isinstance(value, list):
        moved = [_moved(item, device, seen) for item in value]
    elif dataclasses.is_dataclass(value):
        moved = copy.copy(value)
        for field in dataclasses.fields(value):
            part = getattr(value, field.name)
            if isinstance(part, torch.Tensor | list) or dataclasses.is_dataclass(part):
                object.__setattr__(moved, field.name, _moved(part, device, seen))
    else:
        moved = value
    seen[id(value)] = moved
    return moved
