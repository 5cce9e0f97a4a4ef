# SPDX-License-Identifier: Apache-2.0
"""Masks of a float model: how many weights stay and which, by size or by the way they move, and none of a head gone."""

import pytest
import torch
from gems import sentences
from tiny_bert import random_model
from zynqbert.quant.masks import METHODS, Masks, largest, serving
from zynqbert.quant.spans import whole_spans
from zynqbert.quant.student import Student, forward

NONE_GONE = torch.zeros(2, 2, dtype=torch.bool)


@pytest.fixture
def student():
    return Student(random_model(num_labels=2))


@pytest.mark.parametrize("density, kept", [(0.29, 101), (0.5, 175), (1.0, 350), (0.001, 0)])
def test_exactly_so_many_of_the_largest_stay(density, kept):
    score = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    mask = largest(score, density, torch.ones_like(score, dtype=torch.bool))
    assert mask.dtype == torch.bool and int(mask.sum()) == kept
    if 0 < kept < 350:
        assert score[mask].min() > score[~mask].max()


def test_of_equal_scores_the_first_stay():
    mask = largest(torch.zeros(2, 5), 0.5, torch.ones(2, 5, dtype=torch.bool))
    assert mask.flatten().tolist() == [True] * 5 + [False] * 5


def test_what_serves_no_head_makes_room_for_the_rest():
    score, serves = torch.tensor([[9.0, 8.0, 1.0], [-7.0, 2.0, 3.0]]), torch.tensor([[False, True, True], [True] * 3])
    assert largest(score, 0.5, serves).tolist() == [[False, True, False], [False, True, True]]
    assert largest(score, 0.9, serves).tolist() == serves.tolist()  # 5 of 6: all that serve, whatever their score
    assert largest(score, 1.0, serves).tolist() == serves.tolist()


def test_the_weights_of_a_head(student):
    gone = torch.tensor([[False, False], [True, False]])
    first, second = slice(0, 32), slice(32, 64)
    for name, weight in student.matrices.items():
        serves = serving(name, weight, gone)
        assert serves.shape == weight.shape
        if name in ("layers.1.q", "layers.1.k", "layers.1.v"):
            assert not serves[first].any() and serves[second].all()
        elif name == "layers.1.o":
            assert not serves[:, first].any() and serves[:, second].all()
        else:
            assert serves.all(), name


def test_by_magnitude_what_is_pruned_is_0_for_good(student):
    masks = Masks(student.matrices, "magnitude")
    name, weight = "layers.1.ffn1", student.matrices["layers.1.ffn1"]
    before = weight.detach().clone()
    masks.choose(0.75, NONE_GONE)
    first = weight != 0
    assert first.sum() == 70 * 64 * 3 // 4 and torch.equal(weight[first], before[first])
    assert before[first].abs().min() > before[~first].abs().max()
    with torch.no_grad():
        weight += 3
    masks.hold()
    assert torch.equal(weight != 0, first)
    masks.choose(0.5, NONE_GONE)
    assert ((weight != 0) <= first).all() and (weight != 0).sum() == 70 * 64 // 2
    assert masks.densities()[name] == 0.5 and masks.density() == 0.5
    assert masks.scores == {} and masks.applied(student.weights, learnt=True) is student.weights


def loss_of(student, weights) -> torch.Tensor:
    batch, _ = sentences().batch("train", range(8))
    return forward(weights, batch, whole_spans(2, 2).attend).logits.square().sum()


def test_movement_scores_gather_minus_weight_times_gradient(student):
    masks = Masks(student.matrices, "movement")
    name = "layers.0.ffn2"
    weight, score = student.matrices[name], masks.scores[f"scores.{name}"]
    masks.masks[name] = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5

    masked = weight.detach() * masks.masks[name]  # the same model with its pruned weights in place
    plain = Student(random_model(num_labels=2))
    with torch.no_grad():
        plain.matrices[name].copy_(masked)
    loss_of(plain, plain.weights).backward()
    wanted = plain.matrices[name].grad

    loss_of(student, masks.applied(student.weights, learnt=True)).backward()
    torch.testing.assert_close(score.grad, weight.detach() * wanted, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(weight.grad, wanted * masks.masks[name], rtol=1e-4, atol=1e-3)
    assert (wanted[~masks.masks[name]] != 0).any()  # pruned weights' scores learn too

    torch.optim.SGD([score], lr=1.0).step()
    away = (weight * wanted) < 0  # a descent step makes |w| larger
    assert (score[away] > 0).all() and (score[~away] <= 0).all()


def test_by_movement_the_largest_scores_stay_whatever_their_weight(student):
    masks = Masks(student.matrices, "movement")
    name, weight = "layers.0.q", student.matrices["layers.0.q"]
    before = weight.detach().clone()
    with torch.no_grad():
        masks.scores[f"scores.{name}"].copy_(-before.abs())
    masks.choose(0.5, NONE_GONE)
    masks.hold()
    assert torch.equal(weight, before)  # kept beneath the mask: its score may bring it back
    mask = masks.masks[name]
    assert mask.sum() == 64 * 32 and before[mask].abs().max() < before[~mask].abs().min()
    found = masks.applied(student.weights, learnt=False).layers[0].q
    assert torch.equal(found.weight, before * mask) and found.bias is student.weights.layers[0].q.bias
    masks.bake()
    assert torch.equal(weight, before * mask)


@pytest.mark.parametrize("method", METHODS)
def test_fixed_masks_teach_no_scores(student, method):
    masks = Masks(student.matrices, method)
    masks.choose(0.5, NONE_GONE)
    one = loss_of(student, masks.applied(student.weights, learnt=False))
    one.backward()
    assert all(score.grad is None for score in masks.scores.values())
    masks.bake()
    assert torch.equal(loss_of(student, student.weights), one)
