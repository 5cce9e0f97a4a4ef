# SPDX-License-Identifier: Apache-2.0
"""Entropy thresholds (Q22): how early sentences may leave while the accuracy lost stays within what is permitted.

Everything here is a function of the integer model's answers, so what is chosen is what the engine will do. Thresholds
are chosen on dev; a split that took no part in that choice is measured with what was chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .evaluate import paired_bootstrap, wilson

STEPS_PER_NAT = 2**12  # an entropy's (Q21)
LOSSES = (0.5, 1.0, 2.0)  # points
MAX_THRESHOLD = 32767
SURE = 1.645  # standard errors: a normal variable stays below in 95 of 100 cases
CURVE_STEP = 0.01  # nats, as in the paper's tables


@dataclass(frozen=True)
class Ramps:
    """What every off-ramp says about labelled sentences, the model's own answer last.

    entropy int64 [sentences, layers] in steps of 2^−12 nats; right bool [sentences, layers].
    """

    entropy: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, logits: np.ndarray, entropy: np.ndarray, labels: Sequence[int]) -> "Ramps":
        """logits int64 [sentences, layers, labels]; of equal ones the first is the answer."""
        return cls(entropy, logits.argmax(axis=2) == np.asarray(labels)[:, None])

    @property
    def layers(self) -> int:
        return self.entropy.shape[1]

    @property
    def full_accuracy(self) -> float:
        """At full depth."""
        return float(self.right[:, -1].mean())


def exit_layers(entropy: np.ndarray, threshold: int, foretold: np.ndarray | None = None) -> np.ndarray:
    """(Q22) The layer, 1 the first, at which each sentence leaves: entropy [sentences, layers] → int64 [sentences].

    foretold [sentences]: the layer told at the first ramp, at which a sentence leaves at the latest; 0 for none.

    >>> entropy = np.array([[9, 5, 0], [4, 9, 0], [9, 9, 9]])
    >>> exit_layers(entropy, 5), exit_layers(entropy, 6), exit_layers(entropy, 0, np.array([0, 1, 2]))
    (array([3, 1, 3]), array([2, 1, 3]), array([3, 1, 2]))
    """
    leaves = entropy < threshold
    if foretold is not None:
        told = np.asarray(foretold)[:, None]
        leaves = leaves | ((told > 0) & (np.arange(1, entropy.shape[1] + 1) >= told))
    leaves = leaves.copy()
    leaves[:, -1] = True
    return leaves.argmax(axis=1) + 1


def right_at(ramps: Ramps, layers: np.ndarray) -> np.ndarray:
    """bool [sentences]: whether what each says at its layer (1 the first) is right."""
    return ramps.right[np.arange(len(layers)), layers - 1]


def permitted(right: np.ndarray, ramps: Ramps, loss_points: float) -> bool:
    """Whether early answers, `right` or not (bool [sentences]), lose no more than so many points against full depth.

    What is chosen here is to hold on texts not seen, and a choice among many finds those that were lucky on these. So
    the loss counts with SURE standard errors (of the paired difference, s/√n) on top: its 95 % bound from above.

    >>> full = Ramps(np.zeros((400, 1), np.int64), np.full((400, 1), True))
    >>> three = np.arange(400) >= 3  # wrong: 0.75 points, with a standard error of 0.43
    >>> [permitted(three, full, loss) for loss in (1.0, 1.5)]
    [False, True]
    """
    lost = 100.0 * (ramps.right[:, -1].astype(int) - right)
    return bool(lost.mean() + SURE * lost.std() / len(lost) ** 0.5 <= loss_points + 1e-9)


def candidates(entropy: np.ndarray) -> np.ndarray:
    """Ascending thresholds that do all that thresholds can: any other does what the next larger one of these does.

    One is every entropy that occurs before the last layer (H < θ keeps what has just θ); the last is 1 above them all.

    >>> candidates(np.array([[7, 3, 0], [3, 5, 0]]))
    array([3, 5, 7, 8])
    """
    seen = np.unique(entropy[:, :-1])
    return np.append(seen, min(MAX_THRESHOLD, int(seen[-1]) + 1))


def largest_threshold(ramps: Ramps, loss_points: float) -> int:
    """The largest θ, one for all layers, whose early answers lose no more than is `permitted` against full depth.

    No more than 1 above the largest entropy seen: there every sentence leaves at layer 1.
    """
    for threshold in candidates(ramps.entropy)[::-1]:
        layers = exit_layers(ramps.entropy, int(threshold))
        if permitted(right_at(ramps, layers), ramps, loss_points):
            return int(threshold)
    raise ValueError(f"a loss of {loss_points} points: not even full depth loses so little; remedy: 0 or more")


def measure(ramps: Ramps, threshold: int, foretold: np.ndarray | None = None) -> dict:
    """What leaving early comes to on labelled sentences, beside the same model at full depth.

    `layers`: sentences that leave at each layer, from which any cost of a layer follows (`costs`).
    """
    layers = exit_layers(ramps.entropy, threshold, foretold)
    right, full = right_at(ramps, layers), ramps.right[:, -1]
    low, high = paired_bootstrap(full, right)
    sentences = len(right)
    found = {
        "sentences": sentences,
        "accuracy": float(right.mean()),
        "accuracy_interval": list(wilson(int(right.sum()), sentences)),
        "full_depth_accuracy": float(full.mean()),
        "difference_points": 100 * float(right.mean() - full.mean()),
        "difference_interval_points": [100 * low, 100 * high],
        "disagreements": int((right != full).sum()),
        "mean_layer": float(layers.mean()),
        "layers": np.bincount(layers, minlength=ramps.layers + 1)[1:].tolist(),
    }
    if foretold is not None:
        found |= _of_foretelling(layers, exit_layers(ramps.entropy, threshold), np.asarray(foretold), ramps.layers)
    return found


def _of_foretelling(left: np.ndarray, alone: np.ndarray, foretold: np.ndarray, layers: int) -> dict:
    """How the layers foretold meet those at which entropy `alone` lets leave, of the sentences it keeps at layer 1.

    The others need no foretelling: the engine knows at the ramp that foretells. All int64 [sentences].
    """
    told = np.where(foretold > 0, foretold, layers)  # none foretold: to the end
    stay = alone > 1
    share = lambda which: float(which[stay].mean()) if stay.any() else None  # noqa: E731
    mean = lambda of: float(of[stay].mean()) if stay.any() else None  # noqa: E731
    return {
        "told": int(stay.sum()),
        "hit_rate": share(told == alone),
        "too_early": share(told < alone),
        "too_late": share(told > alone),
        "told_mean_foretold": mean(told),
        "told_mean_layer": mean(left),
        "told_mean_layer_by_entropy": mean(alone),
        "mean_foretold": float(np.where(stay, told, 1).mean()),
        "mean_layer_by_entropy": float(alone.mean()),
    }


def curve(ramps: Ramps, thresholds: Sequence[int] | None = None) -> list[dict]:
    """Accuracy and mean exit layer over thresholds; if None, every 0.01 nats to where all leave at layer 1."""
    if thresholds is None:
        last = int(candidates(ramps.entropy)[-1])
        thresholds = sorted({0, last, *np.arange(0, last, CURVE_STEP * STEPS_PER_NAT).round().astype(int).tolist()})
    return [{"threshold": int(t), "nats": round(t / STEPS_PER_NAT, 5), **_short(ramps, int(t))} for t in thresholds]


def _short(ramps: Ramps, threshold: int) -> dict:
    layers = exit_layers(ramps.entropy, threshold)
    return {
        "accuracy": float(right_at(ramps, layers).mean()),
        "mean_layer": float(layers.mean()),
        "layers": np.bincount(layers, minlength=ramps.layers + 1)[1:].tolist(),
    }


def point_name(loss_points: float) -> str:
    """Of the operating point of a permitted loss.

    >>> point_name(0.5), point_name(1.0)
    ('0.5', '1')
    """
    return f"{loss_points:g}"


def threshold_report(ramps: Ramps, losses: Sequence[float] = LOSSES) -> dict:
    """What is chosen for each permitted loss, the curve it is chosen from, and every ramp by itself, all on `ramps`."""
    points = {}
    for loss in losses:
        threshold = largest_threshold(ramps, loss)
        chosen = {"loss_points": loss, "threshold": threshold, "nats": round(threshold / STEPS_PER_NAT, 5)}
        points[point_name(loss)] = chosen | measure(ramps, threshold)
    alone = [
        {"layer": i + 1, "accuracy": float(of.mean()), "accuracy_interval": list(wilson(int(of.sum()), len(of)))}
        for i, of in enumerate(ramps.right.T)
    ]
    return {
        "sentences": len(ramps.right),
        "full_depth_accuracy": ramps.full_accuracy,
        "interval": "95 %: accuracy by Wilson, differences by paired bootstrap (10,000 resamples, seed 0)",
        "ramps": alone,
        "points": points,
        "curve": curve(ramps),
    }
