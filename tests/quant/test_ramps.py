# SPDX-License-Identifier: Apache-2.0
"""Classifiers after every layer: what they compute, their scaling beside them or folded in, and what they learn."""

import pytest
import torch
from zynqbert.quant.distillation import distillation_loss
from zynqbert.quant.ramps import Ramps, layer_accuracy, on_dev


@pytest.fixture
def first():
    """[CLS] rows [sentences, layers, hidden] that hardly differ beside what they have in common."""
    torch.manual_seed(0)
    return 5 * torch.randn(1, 4, 8) + (0.3 + torch.rand(4, 8)) * torch.randn(60, 4, 8)


def filled(first, **options) -> Ramps:
    ramps = Ramps.new(first, 3, **options)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in ramps.trained.values():
            parameter.copy_(torch.randn_like(parameter))
    return ramps


def test_new_ones_favour_no_label(first):
    for pooler in (False, True):
        ramps = Ramps.new(first, 3, pooler=pooler)
        assert all((ramps.logits(i, first[:, i]) == 0).all() for i in range(3))


def test_a_ramp_by_hand(first):
    ramps = filled(first)
    unit = (first[:, 1] - first[:, 1].mean(dim=0)) / first[:, 1].std(dim=0)
    wanted = unit @ ramps.parameters["1.weight"].T + ramps.parameters["1.bias"]
    torch.testing.assert_close(ramps.logits(1, first[:, 1]), wanted)
    ramps = filled(first, pooler=True)
    pooled = torch.tanh(unit @ ramps.parameters["1.pooler.weight"].T + ramps.parameters["1.pooler.bias"])
    wanted = pooled @ ramps.parameters["1.weight"].T + ramps.parameters["1.bias"]
    torch.testing.assert_close(ramps.logits(1, first[:, 1]), wanted)


@pytest.mark.parametrize("pooler", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_folded_they_answer_the_same(first, pooler, shared):
    ramps = filled(first, pooler=pooler, shared=shared)
    folded = ramps.folded()
    assert folded.scaling is None and not any(p.requires_grad for p in folded.parameters.values())
    for i in range(3):
        torch.testing.assert_close(folded.logits(i, first[:, i]), ramps.logits(i, first[:, i]), rtol=0, atol=1e-3)
    if shared:
        for name, parameter in folded.parameters.items():
            assert torch.equal(parameter, folded.parameters[f"0{name[1:]}"])
    assert (folded.parameters["0.weight"] != ramps.parameters["0.weight"]).any() != pooler


def test_a_channel_that_never_differs():
    first = torch.randn(20, 3, 8, generator=torch.Generator().manual_seed(0))
    first[:, :, 2] = 7.0
    folded = filled(first).folded()
    assert folded.parameters["0.weight"].abs().max() < 100
    assert filled(torch.ones(20, 3, 8)).logits(0, torch.ones(5, 8)).isfinite().all()


def test_a_shared_ramp_is_trained_once(first):
    ramps = Ramps.new(first, 2, pooler=True, shared=True)
    assert len(ramps.parameters) == 12 and set(ramps.trained) == {
        "0.weight", "0.bias", "0.pooler.weight", "0.pooler.bias"}  # fmt: skip
    assert len(Ramps.new(first, 2).trained) == 6


def test_their_loss_is_the_sum(first):
    ramps, target = filled(first), torch.arange(60) % 3
    wanted = torch.randn(60, 3)
    found = ramps.loss(first.unbind(dim=1), target, wanted, 0.7, 2.0)
    each = [distillation_loss(ramps.logits(i, first[:, i]), target, wanted, 0.7, 2.0) for i in range(3)]
    torch.testing.assert_close(found, sum(each))


def answered(first: torch.Tensor, target: torch.Tensor) -> float:
    """Share that ramp 0 answers right after 60 steps."""
    ramps = Ramps.new(first, 2)
    optimizer = torch.optim.AdamW(list(ramps.trained.values()), lr=0.05, weight_decay=0.0)
    for _ in range(60):
        loss = ramps.loss(first.unbind(dim=1), target, torch.zeros(60, 2), 0.0, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float((ramps.logits(0, first[:, 0]).argmax(dim=1) == target).float().mean())


def test_what_little_differs_is_learnt(first):
    """Beside a mean ten times as large: as much as an int8 operand still tells apart."""
    target = (first[:, 0, 3] > first[:, 0, 3].median()).long()
    assert answered(first + 10, target) > 0.9


def test_what_int8_loses_is_not_blown_up(first):
    """Beside a mean a thousand times as large; the rows' root mean square is 1,000, the channels' deviation 1."""
    ramps = Ramps.new(first + 1000, 2)
    _, deviation = ramps.scaling
    torch.testing.assert_close(deviation, torch.full_like(deviation, 1000 / 16), rtol=0.01, atol=0)
    alike = Ramps.new(first, 2).scaling[1]
    torch.testing.assert_close(alike, first[:, :-1].std(dim=0))  # what varies enough is scaled by how much it does


def test_figures_of_all_layers():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]], [[3.0, 0.0], [1.0, 0.0]]])
    assert layer_accuracy(logits, [0, 1, 1]) == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    first = torch.zeros(3, 2, 4)
    found = on_dev(Ramps.new(torch.rand(5, 2, 4), 2), first, logits[:, 1], [0, 1, 1])
    assert found["layers"] == pytest.approx([1 / 3, 1 / 3]) and found["dev_accuracy"] == pytest.approx(1 / 3)
    assert found["mean_accuracy"] == pytest.approx(1 / 3, abs=1e-6)
