# SPDX-License-Identifier: Apache-2.0
"""Thresholds of leaving early: what is chosen, against a search through every threshold by the definition."""

import math
import statistics

import numpy as np
import pytest
from zynqbert.quant import thresholds
from zynqbert.quant.golden import leaves_ref
from zynqbert.quant.thresholds import (
    Ramps,
    candidates,
    curve,
    exit_layers,
    largest_threshold,
    measure,
    permitted,
    threshold_report,
)


def random_ramps(sentences: int = 200, layers: int = 5, seed: int = 0, labels: int = 2) -> Ramps:
    """Answers that get surer and better with depth; entropies of few values, so that many are equal."""
    draw = np.random.default_rng(seed)
    hard = draw.random(sentences)[:, None]
    depth = np.linspace(0.2, 1, layers)
    entropy = np.clip(draw.normal(60 * (1 - depth) + 40 * hard, 12), 0, 170).astype(np.int64)
    return Ramps(entropy, draw.random((sentences, layers)) < 0.6 + 0.35 * depth * (1 - 0.5 * hard))


def by_definition(entropy: np.ndarray, threshold: int, foretold: np.ndarray) -> np.ndarray:
    """Ramp by ramp, as the engine meets them (Q22)."""
    left = np.zeros(len(entropy), np.int64)
    for layer in range(1, entropy.shape[1] + 1):
        now = leaves_ref(entropy[:, layer - 1], layer, threshold, foretold, layer == entropy.shape[1])
        left[(left == 0) & now] = layer
    return left


@pytest.mark.parametrize("threshold", [0, 1, 37, 80, 171, 32767])
@pytest.mark.parametrize("told", [False, True])
def test_exit_layers_are_those_of_the_engines_equation(threshold, told):
    ramps = random_ramps()
    foretold = np.random.default_rng(1).integers(0, 6, 200) if told else np.zeros(200, np.int64)
    found = exit_layers(ramps.entropy, threshold, foretold if told else None)
    np.testing.assert_array_equal(found, by_definition(ramps.entropy, threshold, foretold))


def test_equal_to_the_threshold_stays():
    entropy = np.array([[5, 5, 0], [4, 5, 0]])
    np.testing.assert_array_equal(exit_layers(entropy, 5), [3, 1])
    np.testing.assert_array_equal(exit_layers(entropy, 0), [3, 3])


def test_a_larger_threshold_never_lets_leave_later():
    ramps = random_ramps()
    left = np.stack([exit_layers(ramps.entropy, t) for t in range(0, 180)])
    assert (np.diff(left, axis=0) <= 0).all()
    assert (left[0] == 5).all() and (left[-1] == 1).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("loss", [0.0, 0.5, 1.0, 2.0, 7.5])
def test_the_largest_threshold_is_that_of_a_search_through_all(seed, loss):
    """Accuracy is no monotone function of the threshold: above the chosen one all lose more, below it some may."""
    ramps = random_ramps(seed=seed)
    rows = np.arange(200)

    def lost(threshold: int) -> float:
        """Points, at the 95 % bound."""
        layers = by_definition(ramps.entropy, threshold, np.zeros(200, np.int64))
        both = zip(ramps.right[:, -1], ramps.right[rows, layers - 1], strict=True)
        missed = [int(full) - int(own) for full, own in both]
        return 100 * (statistics.mean(missed) + 1.645 * statistics.pstdev(missed) / math.sqrt(200))

    top = int(ramps.entropy[:, :-1].max()) + 1
    expected = max(t for t in range(top + 1) if lost(t) <= loss + 1e-9)
    assert largest_threshold(ramps, loss) == expected


def test_a_known_choice():
    """Ten sentences, right at the end; at layer 1 sentence i has entropy 10·i and is wrong from the sixth on."""
    entropy = np.stack([10 * np.arange(10), np.full(10, 95)], axis=1)
    right = np.stack([np.arange(10) < 6, np.full(10, True)], axis=1)
    ramps = Ramps(entropy, right)
    # one lost of ten is 10 points with a bound of 25.61, two 40.81, three 53.84, four 65.48
    losses = (0, 25.6, 25.62, 40.8, 40.82, 53.85, 65.4, 65.5, 100)
    assert [largest_threshold(ramps, loss) for loss in losses] == [60, 60, 70, 70, 80, 90, 90, 91, 91]
    found = measure(ramps, 70)
    assert (found["accuracy"], found["mean_layer"], found["layers"]) == (0.9, 1.3, [7, 3])
    assert found["difference_points"] == pytest.approx(-10) and found["disagreements"] == 1
    low, high = found["difference_interval_points"]
    assert low < -10 < high <= 0


@pytest.mark.parametrize("wrong, gained", [(5, 0), (9, 4), (0, 3), (40, 40)])
def test_a_loss_counts_with_its_95_percent_bound(wrong, gained):
    """Of 1,000 sentences, 900 right at full depth, the early answers miss so many and hit so many others."""
    full = np.arange(1000) < 900
    early = full.copy()
    early[:wrong], early[900 : 900 + gained] = False, True
    lost = 100 * (wrong - gained) / 1000
    error = 1.645 * 100 * math.sqrt((wrong + gained) / 1000 - (lost / 100) ** 2) / math.sqrt(1000)
    ramps = Ramps(np.zeros((1000, 1), np.int64), full[:, None])
    assert permitted(early, ramps, lost + error) and not permitted(early, ramps, lost + error - 1e-6)


def test_what_changes_nothing_is_permitted():
    ramps = random_ramps()
    assert permitted(ramps.right[:, -1], ramps, 0.0)


def test_losing_less_than_nothing_is_refused():
    with pytest.raises(ValueError, match="not even full depth"):
        largest_threshold(random_ramps(), -100.0)


def test_candidates_do_all_that_thresholds_can():
    ramps = random_ramps(sentences=30)
    some = candidates(ramps.entropy)
    for threshold in range(some[-1] + 1):
        same = some[np.searchsorted(some, threshold)]
        np.testing.assert_array_equal(exit_layers(ramps.entropy, threshold), exit_layers(ramps.entropy, same))
    assert (exit_layers(ramps.entropy, some[-1]) == 1).all()


def test_of_equal_logits_the_first_label_answers():
    logits = np.array([[[3, 3], [1, 2]]])
    ramps = Ramps.of(logits, np.zeros((1, 2), np.int64), [0])
    np.testing.assert_array_equal(ramps.right, [[True, False]])


def test_curve_goes_from_full_depth_to_the_first_layer():
    ramps = random_ramps()
    rows = curve(ramps)
    assert rows[0]["mean_layer"] == 5 and rows[0]["accuracy"] == ramps.full_accuracy
    assert rows[-1]["mean_layer"] == 1 and rows[-1]["accuracy"] == ramps.right[:, 0].mean()
    assert rows[1]["threshold"] == round(0.01 * 4096)
    for row in rows:
        assert sum(row["layers"]) == 200
        assert np.dot(row["layers"], np.arange(1, 6)) / 200 == pytest.approx(row["mean_layer"])


def test_how_foretelling_meets_entropy():
    entropy = np.array([[9, 0, 0], [9, 9, 0], [9, 9, 0], [0, 0, 0], [9, 0, 0]])
    ramps = Ramps(entropy, np.full((5, 3), True))
    found = measure(ramps, 5, np.array([2, 2, 3, 3, 0]))  # hit, too early, hit, no need, none foretold: to the end
    assert (found["told"], found["hit_rate"], found["too_early"], found["too_late"]) == (4, 0.5, 0.25, 0.25)
    assert (found["told_mean_foretold"], found["told_mean_layer"]) == (2.5, 2.25)
    assert (found["mean_layer"], found["mean_layer_by_entropy"], found["mean_foretold"]) == (2.0, 2.2, 2.2)


def test_nobody_needs_foretelling_where_all_leave_at_once():
    ramps = Ramps(np.zeros((3, 2), np.int64), np.full((3, 2), True))
    found = measure(ramps, 5, np.array([2, 2, 2]))
    assert found["told"] == 0 and found["hit_rate"] is None and found["mean_foretold"] == 1


def test_report_has_each_loss_and_each_ramp():
    ramps = random_ramps()
    report = threshold_report(ramps, (0.5, 2))
    assert list(report["points"]) == ["0.5", "2"]
    assert report["points"]["0.5"]["threshold"] <= report["points"]["2"]["threshold"]
    assert [ramp["accuracy"] for ramp in report["ramps"]] == ramps.right.mean(axis=0).tolist()
    for point in report["points"].values():
        assert point["difference_points"] >= -point["loss_points"] - 1e-9
        low, high = point["accuracy_interval"]
        assert low < point["accuracy"] < high


def test_the_threshold_fits_the_instruction(monkeypatch):
    ramps = Ramps(np.array([[32767, 0]]), np.array([[True, True]]))
    assert candidates(ramps.entropy).max() <= thresholds.MAX_THRESHOLD
