# SPDX-License-Identifier: Apache-2.0
"""Spans of attention: the soft mask by hand, the hard band as keys that are not there, and heads that are gone."""

import doctest
import math

import pytest
import torch
from zynqbert.quant import float_model, spans
from zynqbert.quant.batch import make_batch
from zynqbert.quant.configuration import POSITIONS
from zynqbert.quant.spans import HardSpans, SoftSpans, hard_attention, soft_attention, soft_mask, whole_spans
from zynqbert.quant.tokens import Tokens

LENGTHS = (5, 1, 3, 5)
HEADS, WIDTH, R = 4, 8, 4.0


@pytest.fixture
def batch():
    return make_batch([Tokens([0] * n, [0] * n) for n in LENGTHS])


@pytest.fixture
def qkv():
    torch.manual_seed(0)
    return [torch.randn(sum(LENGTHS), HEADS * WIDTH) for _ in range(3)]


def by_hand(qkv, weigh) -> torch.Tensor:
    """Context [rows, hidden] key by key; weigh(head, distance) is the weight of a key, None for one not there."""
    q, k, v = (x.double().view(-1, HEADS, WIDTH) for x in qkv)
    context, start = torch.zeros_like(v), 0
    for length in LENGTHS:
        for h in range(HEADS):
            for i in range(start, start + length):
                near = {j: weigh(h, abs(i - j)) for j in range(start, start + length)}
                near = {j: m * math.exp(float(q[i, h] @ k[j, h]) / math.sqrt(WIDTH)) for j, m in near.items() if m}
                for j, share in near.items():
                    context[i, h] += share / sum(near.values()) * v[j, h]
        start += length
    return context.flatten(1).float()


@pytest.mark.parametrize("z", [[2.0, 2.5, 4.25, 11.0], [1.0, -1.5, -2.0, 6.0]])
def test_soft_attention_is_the_formula(qkv, batch, z):
    fade = [min(1, 0.5 + at / R) for at in z]
    wanted = by_hand(qkv, lambda h, distance: min(1.0, max(0.0, 0.5 + (z[h] - distance) / R)))
    wanted = wanted.unflatten(1, (HEADS, WIDTH)) * torch.tensor(fade)[:, None]
    found = soft_attention(*qkv, batch, torch.tensor(z), R)
    torch.testing.assert_close(found, wanted.flatten(1), rtol=1e-4, atol=1e-5)
    for h, at in enumerate(z):
        assert (found[:, h * WIDTH : (h + 1) * WIDTH] == 0).all() == (at == -R / 2)


def test_a_long_span_is_plain_attention(qkv, batch):
    plain = float_model.attention(*qkv, batch, WIDTH)
    torch.testing.assert_close(soft_attention(*qkv, batch, torch.full((HEADS,), 6.0), R), plain)
    assert torch.equal(whole_spans(2, HEADS).attend(1, *qkv, batch), plain)
    assert torch.equal(hard_attention(*qkv, batch, torch.full((HEADS,), 5)), plain)  # no two are 5 apart
    assert not torch.equal(hard_attention(*qkv, batch, torch.full((HEADS,), 4)), plain)


def test_a_hard_band_is_keys_dropped(qkv, batch):
    of = [1, 2, 4, 3]
    found = HardSpans([[9] * HEADS, of]).attend(1, *qkv, batch)
    torch.testing.assert_close(found, by_hand(qkv, lambda h, distance: distance < of[h]), rtol=1e-4, atol=1e-5)
    assert torch.equal(found[:, :WIDTH], qkv[2][:, :WIDTH])  # span 1 sees itself alone


def test_a_head_of_span_0_is_not_there(qkv, batch):
    found = hard_attention(*qkv, batch, torch.tensor([2, 0, POSITIONS, 0]))
    gone = torch.arange(HEADS).repeat_interleave(WIDTH) % 2 == 1
    assert (found[:, gone] == 0).all() and (found[:, ~gone] != 0).all()
    changed = [x.masked_fill(gone, torch.nan) for x in qkv]
    assert torch.equal(hard_attention(*changed, batch, torch.tensor([2, 0, POSITIONS, 0])), found)
    assert torch.equal(found[:, ~gone], hard_attention(*qkv, batch, torch.tensor([2, 5, 5, 1]))[:, ~gone])


def soft(z: list[list[float]], longest: int = 16, ramp: float = R) -> SoftSpans:
    made = SoftSpans(len(z), len(z[0]), longest, ramp)
    with torch.no_grad():
        made.z.copy_(torch.tensor(z))
    return made


@pytest.mark.parametrize("ramp", [1.0, 4.0, 7.5])
def test_the_hard_span_is_the_soft_mask_from_one_half_on(ramp):
    z = torch.linspace(-ramp / 2, 9, 61)
    found = soft([[9.0, at] for at in z.tolist()], ramp=ramp).hard(0)
    for at, (_, n) in zip(z, found, strict=True):
        mask = soft_mask(at[None], torch.arange(16), ramp)[0]
        assert (mask >= 0.5).tolist() == [distance < n for distance in range(16)], at


def test_every_head_begins_with_everything():
    made = SoftSpans(2, 3, 16, R)
    assert made.hard(0) == [[POSITIONS] * 3] * 2 and made.penalty() == 1
    assert soft([[16.0, 15.0, 14.9]]).hard(0) == [[POSITIONS, POSITIONS, 15]]  # 16 is all of a text


@pytest.mark.parametrize(
    "off, wanted",
    [
        (0, [[3, 8, 0, 0], [5, 5, 5, 5], [1, 0, 0, 0]]),
        (0.4, [[3, 8, 0, 0], [5, 5, 5, 5], [1, 0, 0, 0]]),
        (0.5, [[0, 8, 0, 0], [5, 5, 5, 5], [1, 0, 0, 0]]),
        (0.51, [[0, 8, 0, 0], [5, 0, 5, 5], [1, 0, 0, 0]]),  # of equal ones the first goes first
        (1, [[0, 8, 0, 0], [5, 0, 0, 0], [1, 0, 0, 0]]),
    ],
)
def test_heads_off(off, wanted):
    made = soft([[2.5, 7.0, -0.5, -2.0], [4.0, 4.0, 4.0, 4.0], [-1.9, -2.0, -2.0, -2.0]])
    assert made.hard(off) == wanted


def test_the_penalty_shortens_and_the_range_holds():
    made = SoftSpans(2, 2, 16, R)
    made.penalty().backward()
    assert torch.allclose(made.z.grad, torch.tensor(1 / 4 / 20))
    with torch.no_grad():
        made.z += torch.tensor([[3.0, -50.0], [-20.0, 0.0]])
    made.clamp()
    assert made.z.tolist() == [[18, -2], [-2, 18]]
    assert made.penalty() == 0.5 and made.gone().tolist() == [[False, True], [True, False]]


def test_a_narrow_ramp_is_the_hard_band(qkv, batch):
    """What is learnt last is what runs."""
    made = soft([[0.5, 2.5, -0.5, 7.0]], ramp=1e-3)
    torch.testing.assert_close(made.attend(0, *qkv, batch), HardSpans(made.hard(0)).attend(0, *qkv, batch))


def test_the_last_head_of_a_layer_is_never_gone():
    assert soft([[-2.0, -2.0, -2.0]]).gone().tolist() == [[False, True, True]]


def test_a_span_that_is_needed_grows(qkv, batch):
    """A head that would have to see further is pulled there by the loss."""
    made = soft([[2.0] * HEADS])
    wanted = float_model.attention(*qkv, batch, WIDTH)
    (made.attend(0, *qkv, batch) - wanted).square().sum().backward()
    assert (made.z.grad < 0).all()


def test_examples():
    assert doctest.testmod(spans).failed == 0
