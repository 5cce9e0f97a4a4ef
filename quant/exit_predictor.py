# SPDX-License-Identifier: Apache-2.0
"""The layer at which a sentence will leave, foretold by the entropy at the first off-ramp (EdgeBERT, arXiv 2011.14203).

A small network (entropy → 64 → 64 → 64 → 64 → layers, ReLU) learns from train sentences where those of a like entropy
leave, and is distilled to the exit table of the engine (Q22), 256 rows of entropies. A sentence then leaves at the
layer foretold, or earlier by its entropy: what the table tells too early costs accuracy, what it tells too late only
slack of the clock. So threshold and rule (how sure the table is) are chosen together on dev, within the permitted loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn.functional import log_softmax

from .golden import predicted_ref
from .thresholds import (
    LOSSES,
    STEPS_PER_NAT,
    Ramps,
    candidates,
    exit_layers,
    largest_threshold,
    measure,
    permitted,
    point_name,
    right_at,
)

ROWS = 256
WIDTH, HIDDEN = 64, 4
ROWS_PER_UNIT = 64  # the network's input is the row of the table, with its fraction, in units of so many
QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
LIKELIEST = "likeliest"


@dataclass(frozen=True)
class Predicting:
    """`sentences` of the train split, and `epochs` over them at `learning_rate`; a network for each of `thresholds`,
    and those that are chosen trained again with `seeds` other seeds, for the spread."""

    sentences: int = 3000
    epochs: int = 300
    learning_rate: float = 1e-2
    thresholds: int = 20
    seeds: int = 3


@dataclass(frozen=True)
class Exits(Predicting):
    """[exits] of a recipe: the permitted `losses` in points, each an operating point, and the one of them (or none)
    whose predictor becomes a project for hardware too, `firmware`."""

    losses: tuple[float, ...] = LOSSES
    firmware: float | None = None


def network(layers: int) -> nn.Sequential:
    """1 → 64 → 64 → 64 → 64 → layers with ReLU between; drawn by torch's seed."""
    widths = [1, *[WIDTH] * HIDDEN]
    hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, layers))


def network_input(entropy: np.ndarray, row_shift: int) -> torch.Tensor:
    """Entropies [n] in steps of 2^−12 nats → float32 [n, 1], 0 to 4 over the rows of the table."""
    units = np.asarray(entropy, np.float64) / (ROWS_PER_UNIT << row_shift)
    return torch.tensor(units, dtype=torch.float32)[:, None]


def row_centres(row_shift: int) -> np.ndarray:
    """The entropy in the middle of each of the 256 rows, float64 in steps of 2^−12 nats."""
    return (np.arange(ROWS) + 0.5) * (1 << row_shift)


def rows_of(entropy: np.ndarray, row_shift: int) -> np.ndarray:
    """The row of the exit table that each entropy reads (Q22)."""
    return np.minimum(np.asarray(entropy) >> row_shift, ROWS - 1)


def layer_counts(first: np.ndarray, layers_left: np.ndarray, layers: int, row_shift: int) -> np.ndarray:
    """How many sentences of each row leave at each layer: first, layers_left [n] → int64 [256, layers]."""
    counts = np.zeros((ROWS, layers), np.int64)
    np.add.at(counts, (rows_of(first, row_shift), layers_left - 1), 1)
    return counts


def train_network(
    counts: np.ndarray, row_shift: int, settings: Predicting, seed: int = 0, epochs: int | None = None
) -> nn.Sequential:
    """Cross-entropy of the layer left at, given the first entropy; `counts` int64 [256, layers] of `layer_counts`.

    Entropies of a row count as one, so an epoch is one step over the rows with all their sentences, and the same
    counts and seed give the same network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network(counts.shape[1])
    seen = np.flatnonzero(counts.sum(axis=1))
    x = network_input(row_centres(row_shift)[seen], row_shift)
    weight = torch.tensor(counts[seen] / counts.sum(), dtype=torch.float32)  # [rows seen, layers]
    epochs = epochs or settings.epochs
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        loss = -(weight * log_softmax(model(x), dim=1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def row_shares(model: nn.Module, row_shift: int) -> np.ndarray:
    """The share that the network gives to each layer in the middle of each row: float64 [256, layers]."""
    return model(network_input(row_centres(row_shift), row_shift)).double().softmax(dim=1).numpy()


def table_of(shares: np.ndarray, rule: str | float, seen: np.ndarray) -> np.ndarray:
    """The exit table int64 [256], layers from 1: of `shares` [256, layers] the likeliest layer, or by a quantile the
    first by which that share has left. Rows not `seen` (bool [256]) have the nearest seen one's, of two the deeper.

    >>> shares = np.tile([0.5, 0.2, 0.3], (256, 1))
    >>> [int(table_of(shares, rule, np.full(256, True))[0]) for rule in (LIKELIEST, 0.5, 0.6, 0.9)]
    [1, 1, 2, 3]
    """
    if rule == LIKELIEST:
        table = shares.argmax(axis=1) + 1
    else:
        enough = np.cumsum(shares, axis=1) >= rule - 1e-9
        enough[:, -1] = True
        table = enough.argmax(axis=1) + 1
    if not seen.any():
        raise ValueError("no row of the exit table was seen in training; remedy: give train sentences")
    known = np.flatnonzero(seen)
    distance = np.abs(np.arange(ROWS)[:, None] - known)  # [256, rows seen]
    nearest = distance == distance.min(axis=1, keepdims=True)
    return np.where(nearest, table[known], 0).max(axis=1)


def foretell(entropy: np.ndarray, table: np.ndarray, row_shift: int) -> np.ndarray:
    """(Q22) The layer foretold for each sentence: entropy [sentences, layers], of which the first is read."""
    return predicted_ref(entropy[:, 0], table, row_shift)


@dataclass(frozen=True)
class Foretold:
    """What was chosen for a permitted loss: `threshold`, and `table` int64 [256] by `rule`."""

    threshold: int
    table: np.ndarray
    rule: str | float


class Choosing:
    """Thresholds, rules and their tables, tried on dev; networks are trained on `train` once a threshold."""

    def __init__(self, train: Ramps, dev: Ramps, row_shift: int, settings: Predicting, seed: int = 0):
        self.train, self.dev, self.row_shift, self.settings, self.seed = train, dev, row_shift, settings, seed
        self.known: dict[int, tuple[nn.Sequential, np.ndarray, np.ndarray]] = {}

    def counts(self, threshold: int) -> np.ndarray:
        """Of the train sentences under a threshold: int64 [256, layers]."""
        left = exit_layers(self.train.entropy, threshold)
        return layer_counts(self.train.entropy[:, 0], left, self.train.layers, self.row_shift)

    def network(self, threshold: int) -> tuple[nn.Sequential, np.ndarray, np.ndarray]:
        """The network of a threshold, its shares [256, layers] and the rows seen, bool [256]."""
        if threshold not in self.known:
            counts = self.counts(threshold)
            model = train_network(counts, self.row_shift, self.settings, self.seed)
            self.known[threshold] = model, row_shares(model, self.row_shift), counts.sum(axis=1) > 0
        return self.known[threshold]

    def thresholds(self, losses: Sequence[float]) -> list[int]:
        """To try: of like steps in nats, and those that entropy alone permits, which the largest of them ends."""
        largest, every = [largest_threshold(self.dev, loss) for loss in losses], candidates(self.dev.entropy)
        some = np.linspace(0, max(largest), self.settings.thresholds + 1)[1:]
        return sorted({*largest, *(int(every[np.searchsorted(every, t)]) for t in some)})

    def tables(self, threshold: int) -> dict[str | float, np.ndarray]:
        """The table of every rule under a threshold; by the rule 1.0 it foretells the last layer to all."""
        _, shares, seen = self.network(threshold)
        tables: dict[str | float, np.ndarray] = {rule: table_of(shares, rule, seen) for rule in (LIKELIEST, *QUANTILES)}
        return tables | {1.0: np.full(ROWS, self.dev.layers)}

    def choose(self, loss_points: float, thresholds: Sequence[int]) -> Foretold:
        """Of what the loss permits on dev the least mean of exit layer and layer foretold: the one is the work, the
        other what the clock must be ready for. Of equal ones the surest rule. There always is one: entropy alone."""
        dev, best = self.dev, None
        for threshold in thresholds:
            for rule, table in self.tables(threshold).items():
                told = foretell(dev.entropy, table, self.row_shift)
                left = exit_layers(dev.entropy, threshold, told)
                if not permitted(right_at(dev, left), dev, loss_points):
                    continue
                told = np.where(dev.entropy[:, 0] < threshold, 1, told)  # who leaves at once needs no clock
                sure = 0.0 if rule == LIKELIEST else float(rule)
                rank = (left.mean() + told.mean(), -sure, threshold)
                if best is None or rank < best[0]:
                    best = rank, Foretold(threshold, table, rule)
        return best[1]

    def spread(self, chosen: Foretold) -> dict:
        """Of networks of other seeds, threshold and rule as chosen: least and largest of what they come to on dev."""
        found, (_, _, seen) = [], self.network(chosen.threshold)
        for seed in range(self.seed + 1, self.seed + 1 + self.settings.seeds):
            model = train_network(self.counts(chosen.threshold), self.row_shift, self.settings, seed)
            table = table_of(row_shares(model, self.row_shift), chosen.rule, seen)
            found.append(measure(self.dev, chosen.threshold, foretell(self.dev.entropy, table, self.row_shift)))
        names = ("accuracy", "mean_layer", "hit_rate", "mean_foretold")
        known = {name: [entry[name] for entry in found if entry[name] is not None] for name in names}
        return {"seeds": self.settings.seeds} | {name: [min(of), max(of)] for name, of in known.items() if of}


def foretold_points(
    train: Ramps,
    dev: Ramps,
    row_shift: int,
    losses: Sequence[float],
    settings: Predicting,
    seed: int = 0,
    on_try: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, tuple[dict, nn.Sequential]]:
    """For each permitted loss, by its point's name: `foretold` of an artifact, measured on dev, and its network.

    `on_try` is called with the networks trained so far and their number.
    """
    choosing = Choosing(train, dev, row_shift, settings, seed)
    thresholds, found = choosing.thresholds(losses), {}
    for done, threshold in enumerate(thresholds):
        on_try(done, len(thresholds))
        choosing.network(threshold)
    for loss in losses:
        chosen = choosing.choose(loss, thresholds)
        told = foretell(dev.entropy, chosen.table, row_shift)
        entry = {
            "threshold": chosen.threshold,
            "nats": round(chosen.threshold / STEPS_PER_NAT, 5),
            "rule": chosen.rule if chosen.rule == LIKELIEST else f"quantile {chosen.rule:g}",
            "table": chosen.table.tolist(),
            **measure(dev, chosen.threshold, told),
        }
        if settings.seeds and chosen.rule != 1.0:
            entry["other_seeds"] = choosing.spread(chosen)
        found[point_name(loss)] = entry, choosing.network(chosen.threshold)[0]
    return found
