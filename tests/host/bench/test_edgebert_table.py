# SPDX-License-Identifier: Apache-2.0
"""Rows and ratios of the early-exit bench, from traces and costs that can be reckoned by hand."""

import numpy as np
import pytest
from zynqbert.host.bench.edgebert_table import Costs, Ran, aside, headline_target, met_of, ratios_of, rows_of
from zynqbert.host.bench.edgebert_trace import Trace
from zynqbert.host.bench.paired import accuracy_of, lost

LABELS = [0, 1, 0, 1]


def trace(answers, layers):
    """A trace of these; whatever else the engine says of no interest here."""
    found = Trace()
    for answer, layer in zip(answers, layers, strict=True):
        found.add(answer, layer, 0, None, 300.0)
    return found


def costs(ms, mj, met=None, clocks=(300.0,) * 4):
    """A quarter of the energy static, the rest of the array."""
    return Costs(ms, {"static": [x / 4 for x in mj], "DSPs working": [3 * x / 4 for x in mj]}, clocks, met)


def four():
    """(d) and (c) first, to see that they are sorted: (a) takes 8 mJ a sentence, (b) 4, (c) 2, (d) 1."""
    return [
        Ran("d", "recipe", "recipe", trace([1, 1, 0, 1], [1, 1, 1, 2]), costs([1, 1, 1, 2], [1] * 4, [True] * 4), 2.0),
        Ran(
            "d",
            "recipe",
            "recipe",
            trace([1, 1, 0, 1], [1, 1, 1, 2]),
            costs([1, 1, 1, 3], [1] * 4, [True] * 3 + [False]),
            1.5,
        ),
        Ran("c", "exit", "recipe", trace([0, 1, 1, 1], [1, 2, 3, 2]), costs([1, 1, 1, 2], [2] * 4, [True] * 4), 2.0),
        Ran("c", "exit", "recipe", trace([0, 1, 1, 1], [1, 2, 3, 2]), costs([1, 1, 1, 1], [2] * 4, [True] * 4), 1.5),
        Ran("b", "blind", "recipe", trace([0, 1, 0, 0], [2, 2, 3, 1]), costs([2, 2, 2, 2], [3, 5, 3, 5])),
        Ran("a", "dense", "dense", trace([0, 1, 0, 1], [4] * 4), costs([4, 4, 4, 4], [8] * 4)),
    ]


@pytest.fixture
def rows():
    return rows_of(four(), LABELS)


def test_rows_are_in_order(rows):
    assert [row["key"] for row in rows] == ["a", "b", "c@1.5", "c@2", "d@1.5", "d@2"]


def test_energies_and_their_ratios(rows):
    assert [row["energy"]["value"] for row in rows] == [8, 4, 2, 2, 1, 1]
    assert [row["energy_ratio"]["value"] for row in rows] == [1, 2, 4, 4, 8, 8]
    assert {key: part["value"] for key, part in rows[1]["energy_parts"].items()} == {"static": 1, "DSPs working": 3}


def test_layers_and_latencies(rows):
    blind = rows[1]
    assert blind["exit_layer"]["value"] == 2 and blind["exit_layers"] == {"1": 1, "2": 2, "3": 1}
    last = rows[-1]
    assert [last[f"latency_{name}"]["value"] for name in ("mean", "p50", "p99", "max")] == [1.25, 1, 2, 2]


def test_accuracy_is_counted_and_held_against_the_dense_model(rows):
    assert [row["accuracy"]["right"] for row in rows] == [4, 3, 3, 3, 3, 3]
    assert [row["lost"]["points"] for row in rows] == [0, 25, 25, 25, 25, 25]
    assert all(row["accuracy"]["source"] == row["lost"]["source"] == "measured" for row in rows)


def test_missed_targets_are_counted(rows):
    assert rows[0]["target"] is None and rows[1]["target"] is None
    missed = {row["key"]: row["target"]["missed"]["value"] for row in rows if row["target"]}
    assert missed == {"c@1.5": 0, "c@2": 0, "d@1.5": 1, "d@2": 0}
    (row,) = (row for row in rows if row["key"] == "d@1.5")
    assert row["target"]["met_share"]["value"] == 0.75 and row["target"]["worst_over"]["value"] == 1.5


def test_the_headline_is_the_least_target_that_nobody_misses(rows):
    assert headline_target(rows) == 2.0
    for row in rows:
        if row["target"]:
            row["target"]["missed"]["value"] = 1
    assert headline_target(rows) == 2.0  # the greatest where all are missed
    for row in rows:
        if row["target"]:
            row["target"]["missed"]["value"] = 0
    assert headline_target(rows) == 1.5


def test_ratios_beside_the_papers(rows):
    found = {(r["name"], r["target_ms"]): r for r in ratios_of(rows)}
    assert {key: r["ratio"]["value"] for key, r in found.items()} == {
        ("a/b", None): 2, ("a/c", 1.5): 4, ("b/c", 1.5): 2, ("a/d", 1.5): 8,
        ("a/c", 2.0): 4, ("b/c", 2.0): 2, ("a/d", 2.0): 8,
    }  # fmt: skip
    assert {name: r["published"] for (name, _), r in found.items()} == {
        "a/b": None,
        "a/c": None,
        "b/c": 2.5,
        "a/d": 7.0,
    }
    assert found["a/d", 1.5]["missed"] == 1 and found["a/d", 2.0]["missed"] == 0
    assert {r["ratio"]["source"] for r in found.values()} == {"modelled"}


def test_an_aside_is_against_its_first():
    found = aside("packing", "…", [("one", 6.0), ("many", 2.0)])
    assert [row["ratio"]["value"] for row in found["rows"]] == [1, 3] and found["kind"] == "modelled"


def test_without_a_target_none_is_met():
    assert met_of(costs([1] * 4, [1] * 4), None) is None


class TestPaired:
    def test_as_the_resampling_of_sentences(self):
        """The same interval as sentences drawn again give, to what 10,000 resamples leave open."""
        rng = np.random.default_rng(1)
        before, now = rng.random(400) < 0.86, rng.random(400) < 0.84
        found = lost(before, now)
        draws = np.random.default_rng(2).integers(0, 400, (20_000, 400))
        low, high = np.percentile(100 * (before[draws].mean(axis=1) - now[draws].mean(axis=1)), [2.5, 97.5])
        assert found["points"] == pytest.approx(100 * (before.mean() - now.mean()))
        assert found["interval"] == pytest.approx([low, high], abs=0.35)

    def test_equal_answers_lose_nothing(self):
        assert lost([True, False], [True, False])["interval"] == [0, 0]

    def test_wilson(self):
        found = accuracy_of([True] * 40 + [False] * 10)
        assert found["share"] == 0.8 and found["interval"] == pytest.approx([0.670, 0.888], abs=5e-4)
