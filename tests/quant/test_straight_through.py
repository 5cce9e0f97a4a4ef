# SPDX-License-Identifier: Apache-2.0
"""The units with gradients: forward to the integer as fake_quant.py, backward as the real formula that each rounds.

Each formula of docs/quantization.md is written out in float64 here and differentiated by torch; integers say where it
saturates, and there the gradient is exactly 0.
"""

import numpy as np
import pytest
import torch
from zynqbert.quant import fake_quant
from zynqbert.quant import straight_through as ste
from zynqbert.quant.batch import make_batch
from zynqbert.quant.scales import encode_factor
from zynqbert.quant.tables import SCORE_STEP, GeluCoding, exp_table, gelu_table, tanh_table
from zynqbert.quant.tokens import Tokens

RTOL = 2e-5  # of the largest gradient: sums of some dozen products in float32
ROWS, N = 40, 24


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * (high - low) + low


def integers(low: int, high: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """float32 integers, both ends included; the first row holds extremes and small numbers."""
    x = torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).float()
    x[0, :7] = torch.tensor([low, high, 0, 1, -1, 2, -2]).clamp(low, high)
    return x


def rounded(total: torch.Tensor, m, s) -> torch.Tensor:
    """(Q1) rs(total·m, s) in int64, before any clamp."""
    total, m, s = (torch.as_tensor(x).long() for x in (total, m, s))
    return (total * m + (1 << (s - 1))) >> s


def within(real: torch.Tensor, code: torch.Tensor, lo: int, hi: int) -> torch.Tensor:
    """`real` where its integer `code` is within lo .. hi, a constant elsewhere."""
    return torch.where((code >= lo) & (code <= hi), real, code.clamp(lo, hi).double())


def gradients(f, g: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """f(*inputs) detached, and the gradients of Σ g·f by each input."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = f(*leaves)
    found = torch.autograd.grad(out, leaves, g.to(out.dtype))
    assert [x.dtype for x in found] == [x.dtype for x in inputs]
    return out.detach(), found


def smooth(f, g: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gradients of the real formula f, in float64."""
    return gradients(f, g.double(), *(x.double() for x in inputs))[1]


def assert_near(found, expected, rtol: float = RTOL) -> None:
    """Within rtol of the largest of each tensor; and there are gradients."""
    for a, b in zip(found, expected, strict=True):
        assert b.abs().max() > 0
        np.testing.assert_allclose(a.double(), b, rtol=rtol, atol=rtol * float(b.abs().max()))


def assert_same(found: torch.Tensor, expected: torch.Tensor) -> None:
    np.testing.assert_array_equal(found.double(), expected.double())


def factors(low: float = 1e-4, high: float = 0.05, n: int = N, dead: bool = True) -> torch.Tensor:
    """Factors [n] that m and s hold to 0.4 % only, some exactly; channel 1 is dead."""
    f = torch.exp(uniform(np.log(low), np.log(high), n))
    f[2:4] = torch.tensor([2.0**-9, 255 * 2.0**-14])
    if dead:
        f[1] = 0.0
    return f


def test_round_clamp_rounds_ties_upward_and_stops_at_the_ends():
    x = torch.tensor([-8.0, -7.5, -7.49, -1.5, -0.5, 0.5, 1.5, 6.5, 7.49, 7.5, 90.0])
    y, (g,) = gradients(lambda x: ste.round_clamp(x, -7, 7), torch.full((11,), 3.0), x)
    assert y.tolist() == [-7, -7, -7, -1, 0, 1, 2, 7, 7, 7, 7]
    assert g.tolist() == [0, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0]


def test_factor_is_that_of_the_quantizer():
    f = factors()
    same, m, s = ste.factor(f)
    assert same is f and m.dtype == s.dtype == torch.float64
    expected = encode_factor(f.numpy())
    assert m.tolist() == expected[0].tolist() and s.tolist() == expected[1].tolist()
    assert m[1] == 0 and m[2] == 128


@pytest.mark.parametrize("lo, hi", [fake_quant.INT8, fake_quant.INDEX, fake_quant.INT16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # as fake_quant.linear gives
def test_requantize(lo, hi, dtype):
    reach = 2**23 if dtype == torch.float32 else 2**25
    acc = integers(-reach, reach, ROWS, N).to(dtype)
    acc[1:20] = torch.round(acc[1:20] / 2**11)  # small ones too, so that a part is not saturated
    b = torch.round(uniform(-reach, reach, N, seed=1)) if hi > 255 else torch.round(uniform(-3000, 3000, N, seed=1))
    f = factors(high=0.5)
    acc[0, 2], b[2] = 2.0**8 * 3, 0.0  # factor 2^-9: a tie
    _, m, s = parts = ste.factor(f)
    g = uniform(-1, 1, ROWS, N, seed=2)
    y, found = gradients(lambda acc, b, f: ste.requantize(acc, b, (f, m, s), lo, hi), g, acc, b, f)
    assert y.dtype == torch.float32
    assert_same(y, fake_quant.requantize(acc, b, *parts[1:], lo, hi))
    assert y[0, 2] == 2  # 1.5, upward
    code = rounded(acc.double() + b, m, s)
    saturated = (code < lo) | (code > hi)
    assert 0.1 < saturated.double().mean() < 0.9
    # the gradient goes by the real factor, not by its m·2^−s
    assert_near(found, smooth(lambda acc, b, f: within((acc + b) * f, code, lo, hi), g.float(), acc, b, f))
    assert not found[0][saturated].any() and not found[0][:, 1].any() and found[0][~saturated][:50].any()


def test_a_saturated_channel_gives_nothing_to_bias_and_factor():
    acc, b, f = torch.full((5, 2), 1e6), torch.zeros(2), torch.tensor([0.5, 2.0**-14])
    _, m, s = ste.factor(f)
    run = lambda *x: ste.requantize(*x[:2], (x[2], m, s), *fake_quant.INT8)  # noqa: E731
    y, (g_acc, g_b, g_f) = gradients(run, torch.ones(5, 2), acc, b, f)
    assert y[0].tolist() == [127, 61]
    assert not g_acc[:, 0].any() and g_b[0] == 0 and g_f[0] == 0
    assert g_b[1] == 5 * 2.0**-14 and g_f[1] == 5e6


def test_slope_of_a_table():
    line = torch.arange(256, dtype=torch.uint8)
    assert ste.slope(line).tolist() == [1.0] * 256
    assert not ste.slope(torch.full((256,), 9, dtype=torch.uint8)).any()
    assert ste.slope((2 * torch.arange(-128, 128)).clamp(-127, 127).to(torch.int8))[100:150].tolist() == [2.0] * 50


@pytest.mark.parametrize("form", ["gelu", "gelu_new"])
@pytest.mark.parametrize("x_lo, scale", [(-3.0, 0.0131), (-2.0, 0.008), (-4.0, 0.03)])
def test_slope_of_gelu(form, x_lo, scale):
    """Two roundings of half a code, over eight entries, at the ends over four."""
    coding = GeluCoding(((255 - round(0.17 / scale)) * scale - x_lo) / 255, scale)
    x = (coding.zero + torch.arange(-128, 128).double() * coding.step).requires_grad_()
    y = torch.nn.functional.gelu(x, approximate="tanh" if form == "gelu_new" else "none")
    (exact,) = torch.autograd.grad(y.sum(), x)
    error = (ste.slope(torch.from_numpy(gelu_table(coding, form))) - exact * coding.step / scale).abs()
    assert error[4:-4].max() <= 1 / 8 + 0.01 and error.max() <= 1 / 4 + 0.03


def test_slope_of_tanh():
    step = 2.7 / 127
    x = (torch.arange(-128, 128).double() * step).requires_grad_()
    (exact,) = torch.autograd.grad(torch.tanh(x).sum(), x)
    error = (ste.slope(torch.from_numpy(tanh_table(step))) - 127 * exact * step).abs()
    assert error[4:-4].max() <= 1 / 8 + 0.01 and error.max() <= 1 / 4 + 0.03


@pytest.mark.parametrize("directs", [0, 9])
def test_activation(directs):
    """(Q11) On a table of straight pieces, of which the slope is exact away from the corners."""
    index = torch.arange(256)
    table = torch.where(index < 128, index // 4, 32 + (index - 128) // 2 * 2).to(torch.uint8)
    rise = ste.slope(table)
    direct = torch.zeros(N, dtype=torch.bool)
    direct[N - directs :] = True
    acc = integers(-40000, 40000, ROWS, N)
    b, f = torch.round(uniform(-3000, 3000, N, seed=1)), factors(1e-3, 0.02)
    _, m, s = ste.factor(f)
    g = uniform(-1, 1, ROWS, N, seed=2)
    run = lambda acc, b, f: ste.activation(acc, b, (f, m, s), table, rise, direct)  # noqa: E731
    y, found = gradients(run, g, acc, b, f)
    assert_same(y, fake_quant.activation(acc, b, m, s, table, (~direct).to(torch.uint8)))
    code = rounded(acc.double() + b, m, s)
    gain = torch.where(direct, torch.ones(()), rise[(code.clamp(-128, 127) + 128)])

    def formula(acc, b, f):
        real = (acc + b) * f
        return torch.where(direct, within(real, code, 0, 255), gain.double() * within(real, code, -128, 127))

    assert_near(found, smooth(formula, g.float(), acc, b, f))
    saturated = torch.where(direct, (code < 0) | (code > 255), (code < -128) | (code > 127))
    assert 0.1 < saturated.double().mean() < 0.9 and not found[0][saturated].any()
    if directs:
        assert saturated[:, direct].any() and not saturated[:, direct].all()


def test_activation_with_a_signed_table():
    table = torch.from_numpy(tanh_table(2.7 / 127))
    acc, b, f = integers(-9000, 9000, ROWS, N), torch.round(uniform(-500, 500, N)), factors(5e-3, 0.03)
    _, m, s = ste.factor(f)
    none = torch.zeros(N, dtype=torch.bool)
    y = ste.activation(acc, b, (f, m, s), table, ste.slope(table), none)
    index = fake_quant.requantize(acc, b, m, s, *fake_quant.INDEX)
    assert_same(y, table[(index + 128).long()])
    assert y.min() < -100 and y.max() > 100


def test_residual():
    acc, y = integers(-(2**22), 2**22, ROWS, N), integers(-32767, 32767, ROWS, N, seed=1)
    b, f = torch.round(uniform(-3000, 3000, N)), factors(1e-3, 0.02)
    _, m, s = ste.factor(f)
    m_r, s_r = torch.tensor([200, 7], dtype=torch.int32)  # 1.56: the residual alone saturates in places
    g = uniform(-1, 1, ROWS, N, seed=2)

    def run(acc, b, y):
        return ste.residual(ste.requantize(acc, b, (f, m, s), *fake_quant.INT16), y, m_r, s_r)

    x, found = gradients(run, g, acc, b, y)
    assert_same(x, fake_quant.residual(acc, b, m, s, y, m_r, s_r))
    product, kept = rounded(acc.double() + b, m, s), rounded(y, m_r, s_r)
    total = product.clamp(-32767, 32767) + kept.clamp(-32767, 32767)

    def formula(acc, b, y):
        parts = within((acc + b) * f, product, *fake_quant.INT16), within(y * (200 / 128), kept, *fake_quant.INT16)
        return within(sum(parts), total, *fake_quant.INT16)

    assert_near(found, smooth(formula, g.float(), acc, b, y))
    lost = total.abs() > 32767
    assert lost.any() and not found[0][lost].any() and not found[2][lost].any()
    alone = (kept.abs() > 32767) & ~lost
    assert alone.any() and not found[2][alone].any() and found[0][alone].any()


@pytest.mark.parametrize("width", [8, 96, 1024])
def test_layer_norm(width):
    """(Q7) Gradients within 0.1 % of the largest: z, of which they are made, is rounded to 2^−11."""
    x = integers(-20000, 20000, 12, width)
    x[1] = torch.round(x[1] / 1000)
    x[2] = 5.0  # no variance
    x[3] = 32767.0
    x[4], x[4, 3] = 7.0, 8.0  # hardly any
    gamma, beta = uniform(0.2, 2.0, width, seed=1), uniform(-3000, 3000, width, seed=2)
    gamma[1], gamma[2], beta[1] = -gamma[1], 20.0, 127.0 * 2**8
    g = uniform(-1, 1, 12, width, seed=3)
    y, found = gradients(ste.layer_norm, g, x, gamma, beta)
    parts = ste.norm_parts(gamma, beta)
    z = fake_quant.normalised(x.double())
    assert_same(y, fake_quant.scale_shift(z, *parts))
    inside = (rounded(z, parts[0], parts[1]) + parts[2] * torch.exp2(parts[3])).abs() <= 32767
    assert (~inside).any() and not z[2:4].any()

    def formula(x, gamma, beta):
        centred = x - x.mean(dim=1, keepdim=True)
        flat = centred.detach().abs().amax(dim=1, keepdim=True) == 0
        z = 2048 * centred / (centred.square().mean(dim=1, keepdim=True) + flat).sqrt()
        return torch.where(inside & ~flat, z * gamma, 0.0) + torch.where(inside, beta, 0.0)

    expected = smooth(formula, g.float(), x, gamma, beta)
    assert not found[0][2:4].any()
    for row in range(12):  # rows have gradients of very different size
        if row not in (2, 3):
            assert_near(found[0][row][None], expected[0][row][None], 1e-3)
    assert_near(found[1:], expected[1:], 1e-3)


def test_a_saturated_norm_gives_nothing():
    x = torch.tensor([[0.0, 100.0, -100.0, 3.0]])
    gamma, beta = torch.tensor([1.0, 40.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, -32512.0, 0.0])  # channels 1 and 2
    y, (_, g_gamma, g_beta) = gradients(ste.layer_norm, torch.ones(1, 4), x, gamma.double(), beta.double())
    assert y[0, 1] == 32767 and y[0, 2] == -32767
    assert not g_gamma[1:3].any() and g_beta.tolist() == [1, 0, 0, 1] and g_gamma[3] != 0


def test_norm_parts_encode_what_they_are_given():
    """γ to 1/128, β to half of the step that its size asks for."""
    gamma = torch.cat([uniform(-4, 4, 200), torch.tensor([0.0, 2.0**-31, 63.5])]).double()
    beta = torch.cat([uniform(-32000, 32000, 100), uniform(-120, 120, 100), torch.tensor([0.0, 32512.0, -32512.0])])
    q, s, b, t = ste.norm_parts(gamma, beta)
    assert q.abs().max() <= 127 and b.abs().max() <= 127 and s.min() >= 1 and s.max() <= 31 and t.max() == 8
    assert ((q * torch.exp2(-s) - gamma).abs() <= gamma.abs() / 128).all()
    assert ((b * torch.exp2(t) - beta).abs() <= torch.exp2(t - 1)).all()
    assert (t[100:200] == 0).all() and t[200] == 0


@pytest.mark.parametrize("f", [0.0021, 2.0**-8, 0.019])
def test_entries(f):
    y = integers(-32767, 32767, ROWS, N)
    # at every step of the first rows: ±127·j, which both entries could claim, and one beside it
    y[1, :12] = torch.round(torch.tensor([127, 128, 126, -127, -128, 254, 255, -254, -255, 381, 382, 0]) / f)
    e = torch.tensor([1, 2, 3, 1, 5, 1, 2, 12] + [1] * 8 + [2] * 8)
    e[8:12] = 3
    f = torch.tensor(f, dtype=torch.float64)
    _, m, s = ste.factor(f)
    g = uniform(-1, 1, ROWS, int(e.sum()), seed=2)
    a, found = gradients(lambda y, f: ste.entries(y, (f, m, s), e), g, y, f)
    assert_same(a, fake_quant.entries(y.double(), e, m, s))

    q = rounded(y, m, s)

    def formula(y, f):
        columns = []
        for c, count in enumerate(e.tolist()):
            real, left = y[:, c] * f, q[:, c]
            for j in range(count):
                # entry j moves where it is neither full nor still waiting for the one before
                moves = (left.abs() <= 127) & ((left != 0) | (j == 0))
                columns.append(torch.where(moves, real, left.clamp(-127, 127).double()))
                left = left - left.clamp(-127, 127)
        return torch.stack(columns, dim=1)

    assert_near(found, smooth(formula, g.float(), y, f))
    saturated = q.abs() > 127 * e
    assert saturated.any() and not found[0][saturated].any() and found[0][~saturated].all()


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("heads, d, spans", [(3, 32, None), (1, 64, None), (3, 32, [1, 128, 4])])
def test_attention(heads, d, spans, normalized):
    """(Q14 to Q18, Q23) Gradients of the real softmax, several sentences of several lengths, one of a single token."""
    batch = make_batch([Tokens([1] * n, [0] * n) for n in (5, 1, 33, 5, 128)])
    rows, hidden = len(batch.ids), heads * d
    q, k, v = (integers(-127, 127, rows, hidden, seed=i) for i in range(3))
    score = torch.full((heads,), 200, dtype=torch.uint8), torch.arange(13, 13 + heads, dtype=torch.uint8)
    context = torch.full((hidden,), 160, dtype=torch.uint8), torch.full((hidden,), 15, dtype=torch.uint8)
    context[1][: hidden // 2] = 13  # saturates where V's average is large
    context[0][3] = 0  # dead
    context[1][3] = 1
    exp = torch.from_numpy(exp_table())
    g = uniform(-1, 1, rows, hidden, seed=5)
    run = lambda q, k, v: ste.attention(q, k, v, batch, score, context, exp, normalized, spans)  # noqa: E731
    out, found = gradients(run, g, q, k, v)
    u = fake_quant.average_values(q, k, v, batch, *score, exp, normalized, spans)
    assert_same(out, fake_quant.requantize(u, 0, *context, *fake_quant.INT8))
    code = rounded(u, *(x.long() for x in context))
    saturated = code.abs() > 127
    assert saturated.any() and not saturated.all()

    def formula(q, k, v):
        parts = []
        for x in (q, k, v):
            parts.append([p.view(len(p), heads, d).transpose(0, 1) for p in x.split(batch.lengths.tolist())])
        f = (score[0].double() * torch.exp2(-score[1].double()) * SCORE_STEP)[:, None, None]
        averages = []
        for qs, ks, vs in zip(*parts, strict=True):
            distance = (torch.arange(qs.shape[1])[:, None] - torch.arange(qs.shape[1])).abs()
            far = torch.stack([distance >= span for span in spans or [999] * heads])
            averages.append(torch.softmax((qs @ ks.mT * f).masked_fill(far, -torch.inf), dim=-1) @ vs)
        average = torch.cat([x.transpose(0, 1).flatten(1) for x in averages])
        return within(256 * average * context[0].double() * torch.exp2(-context[1].double()), code, -127, 127)

    assert_near(found, smooth(formula, g.float(), q, k, v), 1e-4)
    alone = slice(5, 6)  # a single token: its own V, whatever Q and K say
    assert not found[0][alone].any() and not found[1][alone].any() and found[2][alone].any()
    assert not found[2][alone][saturated[alone]].any()
