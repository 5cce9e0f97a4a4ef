# SPDX-License-Identifier: Apache-2.0
"""Mantissas and shifts of Q2, Q6 and Q7."""

import numpy as np
import pytest
from zynqbert.quant import golden
from zynqbert.quant.scales import (
    FACTOR_MAX,
    FACTOR_MIN,
    Z_STEP,
    decode_factor,
    encode_beta,
    encode_entropy,
    encode_factor,
    encode_gamma,
    encode_rows,
    entropy_shift,
    snap_factor,
)

FACTORS = np.concatenate(
    [
        np.geomspace(FACTOR_MIN, FACTOR_MAX, 5001)[:-1],
        [FACTOR_MAX],
        2.0 ** np.arange(-24, 7),
        255.5 / 2.0 ** np.arange(2, 31),
    ]
)


def test_a_factor_is_within_a_256th():
    m, s = encode_factor(FACTORS)
    assert ((m >= 128) & (m <= 255)).all() and ((s >= 1) & (s <= 31)).all()
    assert (np.abs(decode_factor(m, s) / FACTORS - 1) <= 1 / 256).all()


def test_the_mantissa_is_the_nearest():
    """No other pair in range is nearer."""
    every = np.unique((np.arange(128, 256)[:, None] * 2.0 ** -np.arange(1, 32)).ravel())
    nearest = np.abs(every[None] - FACTORS[::7, None]).min(axis=1)
    np.testing.assert_allclose(np.abs(snap_factor(FACTORS[::7]) - FACTORS[::7]), nearest, rtol=0, atol=1e-15)


def test_256_becomes_128_with_a_smaller_shift():
    assert [int(x) for x in encode_factor(255.5 / 256)] == [128, 7]
    assert [int(x) for x in encode_factor(255.4 / 256)] == [255, 8]


@pytest.mark.parametrize("f", [0.0, 1e-12, FACTOR_MIN * (1 - 1e-9)])
def test_a_factor_that_is_too_small_is_a_dead_channel(f):
    assert [int(x) for x in encode_factor(f)] == [0, 1]


@pytest.mark.parametrize("f", [FACTOR_MAX * (1 + 1e-9), 1e9, np.inf, np.nan, -1.0])
def test_a_factor_that_is_too_large_is_an_error(f):
    with pytest.raises(ValueError, match="factor"):
        encode_factor([0.5, f])


def test_snapping_keeps_what_is_encoded():
    values = decode_factor(*encode_factor(FACTORS))
    np.testing.assert_array_equal(snap_factor(values), values)


def test_gamma_is_within_a_128th():
    grid = 1e-3
    gamma = np.concatenate([np.geomspace(1e-3, 20, 400), -np.geomspace(1e-3, 20, 400), [0.0]])
    q, s = encode_gamma(gamma, grid)
    assert (np.abs(q) <= 127).all() and ((s >= 1) & (s <= 31)).all()
    back = q * 2.0**-s * grid / Z_STEP
    assert (np.abs(back - gamma) <= np.abs(gamma) / 128 + 1e-12).all()
    assert q[-1] == 0


def test_gamma_too_large_names_its_channel():
    with pytest.raises(ValueError, match="channel 1"):
        encode_gamma([1.0, 1e6], 1e-3)


def test_beta_is_within_a_127th():
    grid = 1e-3
    beta = np.concatenate([np.linspace(-32, 32, 999), [0.0, 0.127, 0.1275]])
    q, t = encode_beta(beta, grid)
    assert (np.abs(q) <= 127).all() and ((t >= 0) & (t <= 8)).all()
    assert (np.abs(q * 2.0**t * grid - beta) <= np.maximum(np.abs(beta) / 126, grid / 2 + 1e-12)).all()


def test_beta_too_large_names_its_channel():
    with pytest.raises(ValueError, match="channel 2"):
        encode_beta([0.0, 1.0, 1e6], 1e-3)


@pytest.mark.parametrize(("bits", "worst"), [(8, 0.02), (4, 0.2)])
def test_embedding_rows(bits, worst):
    """The rows that Q6 gives back are near the float ones; a row of zeros stays zero."""
    rows = np.random.default_rng(0).normal(0, 0.05, (5000, 48)) * np.random.default_rng(1).uniform(0.2, 3, (5000, 1))
    rows[17] = 0
    grid = np.abs(rows).max() / 14000
    q, m, s = encode_rows(rows, grid, bits)
    limit = {8: 127, 4: 7}[bits]
    assert q.dtype == np.int8 and np.abs(q.astype(int)).max() == limit
    zero = (np.zeros((1, 48), int), np.zeros(1, int), np.ones(1, int))
    wide = q.astype(int) * (16 if bits == 4 else 1)
    back = golden.embed_ref((wide, m, s), *([np.repeat(part, 5000, axis=0) for part in zero] for _ in range(2))) * grid
    error = np.sqrt(((back - rows) ** 2).sum(axis=1) / np.maximum((rows**2).sum(axis=1), 1e-30))
    assert np.median(error) < worst
    assert (back[17] == 0).all() and m[17] == 0 and s[17] == 1


def test_a_clip_is_better_than_none_at_4_bits():
    rows = np.random.default_rng(0).normal(0, 0.05, (500, 48))
    q, m, s = encode_rows(rows, 1e-4, 4)
    back = q * decode_factor(m, s)[:, None] * 16e-4
    peak = np.abs(rows).max(axis=1, keepdims=True) / 7
    unclipped = np.round(rows / peak) * peak
    assert ((back - rows) ** 2).sum() < 0.9 * ((unclipped - rows) ** 2).sum()


def test_importance_steers_the_clip():
    rows = np.random.default_rng(0).normal(0, 0.05, (500, 48))
    rows[:, 0] *= 6
    importance = np.full(48, 1.0)
    importance[0] = 100.0

    def lost(weight) -> float:
        q, m, s = encode_rows(rows, 1e-4, 4, weight)
        return float((((q * decode_factor(m, s)[:, None] * 16e-4 - rows) ** 2) @ importance).sum())

    assert lost(importance) < 0.8 * lost(None)


def test_the_entropy_factor_is_as_near_as_16_bits_allow():
    """(Q21) A logit's step in 2^−10 of a factor of two; steps just below a power of two take the next shift."""
    for step in [*np.geomspace(1e-6, 8, 500), *(np.log(2) * 2.0 ** np.arange(-20, 3) * (1 - 2.0**-18))]:
        m, s = encode_entropy(float(step))
        assert 32768 <= m <= 65535 and 1 <= s <= 31
        assert m * 2.0**-s == pytest.approx(step * 1024 / np.log(2), rel=2.0**-16)
    for step in (1e-9, 100.0):
        with pytest.raises(ValueError, match="entropy factor"):
            encode_entropy(step)


def test_exit_rows_reach_the_largest_entropy():
    """(Q22) No shift less has 256 rows for ln(labels) in steps of 2^−12."""
    assert [entropy_shift(labels) for labels in (2, 3, 4, 1024)] == [4, 5, 5, 7]
    for labels in range(2, 1025):
        top, shift = int(np.log(labels) * 2**12), entropy_shift(labels)
        assert top >> shift < 256 <= top >> (shift - 1)
