# SPDX-License-Identifier: Apache-2.0
"""Accuracies of models on the same sentences: counted, with 95 % intervals, and the points lost between two models."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..demo import Accuracy
from .run import MEASURED

RESAMPLES = 10_000


def accuracy_of(right: Sequence[bool]) -> dict[str, Any]:
    """Share of sentences that are right, with Wilson's 95 % interval."""
    counted = Accuracy(sum(map(bool, right)), len(right))
    low, high = counted.interval()
    return {
        "right": counted.right,
        "sentences": counted.total,
        "share": counted.right / counted.total,
        "interval": [low, high],
        "source": MEASURED,
    }


def lost(before: Sequence[bool], now: Sequence[bool]) -> dict[str, Any]:
    """Points of accuracy lost from `before` to `now`, with the 95 % interval of a paired bootstrap.

    gained, lost: sentences right in one of them alone. The difference of a resample depends on how many of each it
    draws, so that is what is drawn: multinomial, 10,000 times, seed 0.

    >>> found = lost([True, True, True, False], [True, True, False, False])
    >>> found["points"], found["lost"], found["gained"]
    (25.0, 1, 0)
    """
    pairs = list(zip(map(bool, before), map(bool, now), strict=True))
    away, new, n = pairs.count((True, False)), pairs.count((False, True)), len(pairs)
    draws = np.random.default_rng(0).multinomial(n, [away / n, new / n, 1 - (away + new) / n], size=RESAMPLES)
    low, high = np.percentile(100 * (draws[:, 0] - draws[:, 1]) / n, [2.5, 97.5])
    return {
        "points": 100 * (away - new) / n,
        "interval": [float(low), float(high)],
        "lost": away,
        "gained": new,
        "source": MEASURED,
    }
