# SPDX-License-Identifier: Apache-2.0
"""Rows and ratios of `zynqbert bench edgebert`: pure arithmetic on traces, which are counted, and costs, modelled.

    (a) dense model, all layers, top clock      (b) early exit, latency-blind, top clock
    (c) early exit to a latency target          (d) the whole recipe to a latency target

Answers, and layers at which sentences left, are the emulated engine's (measured: they are exact integers). Time and
energy are modelled, in every row by the same model, for the same sentences, one to a pass.
"""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .edgebert_trace import Trace
from .paired import accuracy_of, lost
from .run import MEASURED, MODELLED, figure, percentile

ROWS = "abcd"
# EdgeBERT (arXiv 2011.14203): "up to", of a 12 nm chip whose voltage follows its clock.
PUBLISHED = (
    {"ratio": "a/d", "value": 7.0, "name": "EdgeBERT against inference without early exit, up to"},
    {"ratio": "b/c", "value": 2.5, "name": "EdgeBERT against early exit that ignores latency, up to"},
)


@dataclass(frozen=True)
class Costs:
    """Modelled cost of sentences, in order: ms from start to answer, mJ by part, the clock in MHz of what came after
    the first off-ramp, and whether each met the target (None where there is none)."""

    ms: Sequence[float]
    parts_mj: Mapping[str, Sequence[float]]
    clocks_mhz: Sequence[float]
    met: Sequence[bool] | None = None

    @property
    def mj(self) -> list[float]:
        """Of each sentence, all parts."""
        return [sum(parts) for parts in zip(*self.parts_mj.values(), strict=True)]


@dataclass(frozen=True)
class Ran:
    """One row before it is one: its letter, what it is, the model it is of ("dense", "recipe"), target in ms if any."""

    letter: str
    name: str
    model: str
    trace: Trace
    costs: Costs
    target_ms: float | None = None

    @property
    def key(self) -> str:
        """Its name among rows: "a", "c@2"."""
        return self.letter if self.target_ms is None else f"{self.letter}@{self.target_ms:g}"


def rows_of(runs: Sequence[Ran], labels: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of the report: (a), which the others are held against, then (b), (c), (d), each by its target.

    Raises ValueError without exactly one (a).
    """
    ordered = sorted(runs, key=lambda ran: (ROWS.index(ran.letter), ran.target_ms or 0.0))
    (dense,) = [ran for ran in ordered if ran.letter == "a"]
    base = statistics.fmean(dense.costs.mj)
    before = dense.trace.right(labels)
    return [row(ran, labels, before, base) for ran in ordered]


def row(ran: Ran, labels: Sequence[int], before: Sequence[bool], base_mj: float) -> dict[str, Any]:
    """One row; `before`: which sentences (a) has right, `base_mj`: its energy a sentence."""
    costs, right = ran.costs, ran.trace.right(labels)
    energy = statistics.fmean(costs.mj)
    return {
        "row": ran.letter,
        "key": ran.key,
        "name": ran.name,
        "model": ran.model,
        "target_ms": ran.target_ms,
        "accuracy": accuracy_of(right),
        "lost": lost(before, right),
        "exit_layer": figure(statistics.fmean(ran.trace.layers), "layers", MEASURED),
        "exit_layers": {str(layer): n for layer, n in sorted(Counter(ran.trace.layers).items())},
        "energy": figure(energy, "mJ", MODELLED),
        "energy_ratio": figure(base_mj / energy, "times", MODELLED),
        "energy_parts": {
            part: figure(statistics.fmean(values), "mJ", MODELLED) for part, values in costs.parts_mj.items()
        },
        "latency_mean": figure(statistics.fmean(costs.ms), "ms", MODELLED),
        "latency_p50": figure(percentile(costs.ms, 50), "ms", MODELLED),
        "latency_p99": figure(percentile(costs.ms, 99), "ms", MODELLED),
        "latency_max": figure(max(costs.ms), "ms", MODELLED),
        "clocks": {f"{mhz:g}": count for mhz, count in sorted(Counter(costs.clocks_mhz).items(), reverse=True)},
        "target": met_of(costs, ran.target_ms),
    }


def met_of(costs: Costs, target_ms: float | None) -> dict[str, Any] | None:
    """How many sentences missed the target, and by how much the worst; None without a target."""
    if target_ms is None:
        return None
    missed = [ms - target_ms for ms, met in zip(costs.ms, costs.met, strict=True) if not met]
    return {
        "missed": figure(len(missed), "sentences", MODELLED),
        "met_share": figure(1 - len(missed) / len(costs.ms), "share", MODELLED),
        "worst_over": figure(max(missed, default=0.0), "ms", MODELLED),
    }


def headline_target(rows: Sequence[Mapping[str, Any]]) -> float:
    """The target that ratios are told at first: the least that no sentence of (c) or (d) misses, else the greatest.

    The rule looks at time alone, never at energy.
    """
    targets = sorted({row["target_ms"] for row in rows if row["target_ms"] is not None})
    for target in targets:
        if not any(row["target"]["missed"]["value"] for row in rows if row["target_ms"] == target):
            return target
    return targets[-1]


def ratios_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """a/b, and for every target a/c, b/c and a/d: energies a sentence, with the paper's beside those that it has.

    `missed`: sentences of either row that missed the target.
    """
    by_key = {row["key"]: row for row in rows}
    targets = sorted({row["target_ms"] for row in rows if row["target_ms"] is not None})
    wanted = [("a", "b", None)] + [(*pair, t) for t in targets for pair in (("a", "c"), ("b", "c"), ("a", "d"))]
    published = {row["ratio"]: row["value"] for row in PUBLISHED}
    found = []
    for over, under, target in wanted:
        lower = by_key.get(under if target is None else f"{under}@{target:g}")
        if lower is None or over not in by_key:
            continue
        name = f"{over}/{under}"
        value = by_key[over]["energy"]["value"] / lower["energy"]["value"]
        found.append(
            {
                "name": name,
                "target_ms": target,
                "ratio": figure(value, "times", MODELLED),
                "missed": lower["target"]["missed"]["value"] if lower["target"] else 0,
                "published": published.get(name),
            }
        )
    return found


def aside(name: str, told: str, pairs: Sequence[tuple[str, float]], *, label: str = MODELLED) -> dict[str, Any]:
    """A comparison that is no part of the ratios: energies a sentence by name in mJ, each against the first.

    label: "modelled", or "hypothetical, modelled" for what these boards cannot do.
    """
    first = pairs[0][1]
    return {
        "name": name,
        "told": told,
        "kind": label,
        "rows": [
            {
                "name": what,
                "energy": figure(mj, "mJ", MODELLED),
                "ratio": figure(first / mj, "times", MODELLED),
            }
            for what, mj in pairs
        ],
    }
