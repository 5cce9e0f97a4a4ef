# SPDX-License-Identifier: Apache-2.0
"""The predictor of the exit layer: its network, the table it is distilled to, and what is chosen on dev."""

import numpy as np
import pytest
import torch
from zynqbert.quant.exit_predictor import (
    LIKELIEST,
    QUANTILES,
    Choosing,
    Predicting,
    foretell,
    foretold_points,
    layer_counts,
    network,
    network_input,
    row_centres,
    row_shares,
    rows_of,
    table_of,
    train_network,
)
from zynqbert.quant.golden import predicted_ref
from zynqbert.quant.thresholds import Ramps, exit_layers, measure

SHIFT = 4
QUICK = Predicting(sentences=400, epochs=60, thresholds=4, seeds=1)


def ramps(sentences: int, seed: int, layers: int = 4) -> Ramps:
    """The surer at the first ramp, the earlier: entropy falls from its first value by the same steps for all."""
    draw = np.random.default_rng(seed)
    first = draw.integers(0, 2839, sentences)[:, None]
    entropy = np.clip(first - 700 * np.arange(layers) + draw.integers(-60, 60, (sentences, layers)), 0, 2839)
    right = draw.random((sentences, layers)) < 0.95 - 0.4 * entropy / 2839
    return Ramps(entropy, right)


def counts_of(layer_of_row: np.ndarray, each: int = 5, layers: int = 4) -> np.ndarray:
    counts = np.zeros((256, layers), np.int64)
    seen = layer_of_row > 0
    counts[np.flatnonzero(seen), layer_of_row[seen] - 1] = each
    return counts


def test_network_is_the_papers():
    shapes = [tuple(p.shape) for p in network(12).parameters()]
    assert shapes == [(64, 1), (64,), *[(64, 64), (64,)] * 3, (12, 64), (12,)]


def test_rows_are_those_that_the_engine_reads():
    entropy, table = np.arange(0, 32768, 7), np.arange(256)
    np.testing.assert_array_equal(rows_of(entropy, SHIFT), predicted_ref(entropy, table, SHIFT))
    np.testing.assert_array_equal(rows_of(row_centres(SHIFT).astype(np.int64), SHIFT), table)
    assert network_input(np.array([64 << SHIFT]), SHIFT).item() == 1.0


def test_counts_are_sentences_by_row_and_layer():
    counts = layer_counts(np.array([0, 15, 16, 32767]), np.array([1, 2, 2, 4]), 4, SHIFT)
    assert counts.sum() == 4
    assert counts[0].tolist() == [1, 1, 0, 0] and counts[1, 1] == 1 and counts[255, 3] == 1


def test_training_follows_from_counts_and_seed_alone():
    counts = counts_of(np.repeat([1, 2, 3, 4], 64))
    torch.manual_seed(1)
    one = train_network(counts, SHIFT, QUICK, seed=3)
    before = torch.random.get_rng_state()
    other = train_network(counts, SHIFT, QUICK, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    different = train_network(counts, SHIFT, QUICK, seed=4)
    assert not torch.equal(next(one.parameters()), next(different.parameters()))


def test_network_learns_a_staircase():
    wanted = np.repeat([1, 2, 3, 4], 64)
    model = train_network(counts_of(wanted), SHIFT, Predicting(epochs=400))
    shares = row_shares(model, SHIFT)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    table = table_of(shares, LIKELIEST, np.full(256, True))
    away = np.abs(np.arange(256)[:, None] - np.array([64, 128, 192])).min(axis=1) > 4  # from the steps
    np.testing.assert_array_equal(table[away], wanted[away])


def test_shares_are_those_of_the_sentences():
    """Two layers by turns in every row: a quarter leaves at 1, the rest at 3."""
    counts = np.tile([10, 0, 30, 0], (256, 1))
    shares = row_shares(train_network(counts, SHIFT, Predicting(epochs=300)), SHIFT)
    np.testing.assert_allclose(shares, np.tile([0.25, 0, 0.75, 0], (256, 1)), atol=0.02)


def test_a_surer_rule_never_foretells_earlier():
    shares = np.random.default_rng(0).dirichlet(np.ones(6), 256)
    tables = np.stack([table_of(shares, rule, np.full(256, True)) for rule in QUANTILES])
    assert (np.diff(tables, axis=0) >= 0).all()
    reached = np.cumsum(shares, axis=1)
    for rule, table in zip(QUANTILES, tables, strict=True):
        assert (reached[np.arange(256), table - 1] >= rule - 1e-9).all()
        before = np.where(table > 1, reached[np.arange(256), np.maximum(table - 2, 0)], 0)
        assert (before < rule).all()


def test_rows_never_seen_have_their_neighbours_layer():
    shares = np.eye(4)[np.arange(256) % 4]  # row i is of layer i % 4 + 1
    seen = np.zeros(256, bool)
    seen[[8, 14, 21, 200]] = True  # layers 1, 3, 2, 1
    table = table_of(shares, LIKELIEST, seen)
    assert table[[8, 14, 21, 200]].tolist() == [1, 3, 2, 1]
    assert (table[:8] == 1).all() and (table[200:] == 1).all()
    assert table[9:14].tolist() == [1, 1, 3, 3, 3]  # row 11 is as near to both: the deeper
    assert table[15:21].tolist() == [3, 3, 3, 2, 2, 2]
    assert table[110] == 2 and table[111] == 1  # 89 from either; 90 from one, 89 from the other
    with pytest.raises(ValueError, match="no row"):
        table_of(shares, LIKELIEST, np.zeros(256, bool))


@pytest.fixture(scope="module")
def chosen() -> dict:
    return foretold_points(ramps(400, 0), ramps(300, 1), SHIFT, (0.5, 2, 100), QUICK, seed=0)


def test_points_keep_the_permitted_loss_and_fit_the_artifact(chosen):
    assert list(chosen) == ["0.5", "2", "100"]
    for name, (point, _) in chosen.items():
        assert point["difference_points"] >= -float(name) - 1e-9
        assert len(point["table"]) == 256 and all(type(x) is int and 1 <= x <= 4 for x in point["table"])
        assert type(point["threshold"]) is int and 0 <= point["threshold"] <= 32767


def test_points_are_measured_as_the_engine_leaves(chosen):
    dev = ramps(300, 1)
    for point, _ in chosen.values():
        told = predicted_ref(dev.entropy[:, 0], point["table"], SHIFT)
        left = exit_layers(dev.entropy, point["threshold"], told)
        assert point["mean_layer"] == left.mean()
        assert point["accuracy"] == dev.right[np.arange(300), left - 1].mean()


def test_what_may_lose_more_leaves_earlier(chosen):
    work = [point["mean_layer"] + point["mean_foretold"] for point, _ in chosen.values()]
    assert work == sorted(work, reverse=True)
    assert chosen["100"][0]["mean_layer"] == 1


def test_never_worse_than_entropy_alone(chosen):
    """The last layer foretold to all is among what is tried, at the threshold of entropy alone."""
    choosing = Choosing(ramps(400, 0), ramps(300, 1), SHIFT, QUICK)
    threshold = choosing.thresholds([0.5])[-1]
    assert (choosing.tables(threshold)[1.0] == 4).all()
    alone = measure(choosing.dev, threshold, np.full(300, 4))
    point = chosen["0.5"][0]
    assert point["mean_layer"] + point["mean_foretold"] <= alone["mean_layer"] + alone["mean_foretold"]


def test_the_same_choice_again(chosen):
    again = foretold_points(ramps(400, 0), ramps(300, 1), SHIFT, (0.5, 2, 100), QUICK, seed=0)
    assert {name: point for name, (point, _) in again.items()} == {name: point for name, (point, _) in chosen.items()}


def test_foretelling_reads_the_first_ramp():
    table = np.arange(256)
    np.testing.assert_array_equal(foretell(np.array([[32, 999], [5000, 0]]), table, SHIFT), [2, 255])
