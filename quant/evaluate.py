# SPDX-License-Identifier: Apache-2.0
"""Accuracy of the integer model on labelled sentences, and its difference to the float model with an interval."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from . import float_model, golden
from .batch import Batch, make_batch
from .checkpoint import ModelWeights
from .fake_quant import ENGINE, FakeQuantModel, Units
from .tokens import Tokens

RESAMPLES = 10_000
_ROWS = 512  # of one batch: what its layers leave fits a cache


@torch.inference_mode()
def quantized_logits(
    manifest: Mapping,
    tensors: Mapping[str, np.ndarray],
    sentences: Sequence[Tokens],
    on_rows=lambda rows: None,
    units: Units = ENGINE,
) -> torch.Tensor:
    """Logits float64 [sentences, labels] in their real unit, of a model of kind sequence; equal to the golden model's.

    Sentences of like length go together; `on_rows` is told the number of tokens done. `units` are those of an ablation.
    """
    model = FakeQuantModel(manifest, tensors, units)
    return _run(model.forward, sentences, on_rows) * manifest["scales"]["logits"]


def float_logits(weights: ModelWeights, sentences: Sequence[Tokens]) -> torch.Tensor:
    """Logits float32 [sentences, labels] of the float model."""
    return _run(lambda batch: float_model.forward(weights, batch), sentences, lambda rows: None)


@torch.inference_mode()
def ramp_logits(
    manifest: Mapping, tensors: Mapping[str, np.ndarray], sentences: Sequence[Tokens], on_rows=lambda rows: None
) -> np.ndarray:
    """Logits int64 [sentences, layers, labels] of every off-ramp, in steps of `scales.logits`; the golden model's.

    The last layer's are the model's own answer. `on_rows` is told the number of tokens done. ValueError where the model
    has no off-ramps.
    """
    if not manifest["exits"]:
        raise ValueError("the model has no off-ramps (exits is null); remedy: quantize one that has some")
    return _run(FakeQuantModel(manifest, tensors).every_ramp, sentences, on_rows).long().numpy()


def ramp_entropies(manifest: Mapping, logits: np.ndarray) -> np.ndarray:
    """(Q21) Entropy int64 [sentences, layers] of `ramp_logits`, in steps of 2^−12 nats."""
    sentences, layers, labels = logits.shape
    return golden.entropy_ref(logits.reshape(-1, labels), *manifest["exits"]["entropy"]).reshape(sentences, layers)


def _run(
    forward: Callable[[Batch], torch.Tensor], sentences: Sequence[Tokens], on_rows: Callable[[int], None]
) -> torch.Tensor:
    """What `forward` gives for each sentence, in order; sentences of like length go together."""
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i].ids))
    found: list[torch.Tensor] = []
    some: list[int] = []
    for place, i in enumerate(order, 1):
        some.append(i)
        rows = sum(len(sentences[j].ids) for j in some)
        if rows > _ROWS or place == len(order):
            found.append(forward(make_batch([sentences[j] for j in some])))
            on_rows(rows)
            some = []
    return torch.cat(found)[torch.tensor(order).argsort()]


def wilson(right: int, sentences: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy.

    >>> [round(x, 3) for x in wilson(40, 50)]
    [0.67, 0.888]
    """
    share = right / sentences
    middle = (share + z * z / (2 * sentences)) / (1 + z * z / sentences)
    half = z / (1 + z * z / sentences) * (share * (1 - share) / sentences + z * z / (4 * sentences**2)) ** 0.5
    return middle - half, middle + half


def paired_bootstrap(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of mean(b) − mean(a), sentences resampled with replacement; a, b bool [n] (right or wrong)."""
    rng = np.random.default_rng(seed)
    difference = b.astype(np.int64) - a.astype(np.int64)
    counts = rng.multinomial(len(difference), np.full(len(difference), 1 / len(difference)), size=RESAMPLES)
    low, high = np.percentile(counts @ difference / len(difference), [2.5, 97.5])
    return float(low), float(high)


def paired_accuracy(float_right: np.ndarray, quantized_right: np.ndarray) -> dict:
    """Both accuracies over the same sentences and their difference in points; bool [n] each (right or wrong)."""
    low, high = paired_bootstrap(float_right, quantized_right)
    return {
        "sentences": len(float_right),
        "float_right": int(float_right.sum()),
        "quantized_right": int(quantized_right.sum()),
        "float_accuracy": float(float_right.mean()),
        "quantized_accuracy": float(quantized_right.mean()),
        "difference_points": 100 * float(quantized_right.mean() - float_right.mean()),
        "difference_interval_points": [100 * low, 100 * high],
        "interval": f"95 %, paired bootstrap, {RESAMPLES} resamples, seed 0",
        "disagreements": int((float_right != quantized_right).sum()),
    }
