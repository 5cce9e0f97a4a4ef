# SPDX-License-Identifier: Apache-2.0
"""Entropy, leaving, spans and AdaptivFloat of golden.py against float, scalar loops and worked examples."""

import math

import numpy as np
import pytest
from zynqbert.quant import golden

BOUND = 2.0**-10  # nats
LABELS = (2, 3, 5, 10, 64, 65, 333, 1000, 1024)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def factor(step: float) -> tuple[int, int]:
    """(m_e, s_e) that bring logits of `step` to 2^−10 of a factor of two."""
    real = step * math.log2(math.e) * 1024
    s = 15 - math.floor(math.log2(real))
    m = round(real * 2**s)
    return (m // 2, s - 1) if m == 65536 else (m, s)


def entropy(x: np.ndarray) -> np.ndarray:
    """H = ln Σ e^x − Σ x·e^x / Σ e^x of each row."""
    x = x - x.max(axis=1, keepdims=True)
    e = np.exp(x)
    return np.log(e.sum(axis=1)) - (x * e).sum(axis=1) / e.sum(axis=1)


def off(x: np.ndarray, step: float) -> float:
    return float(np.abs(golden.entropy_ref(x, *factor(step)) / 4096 - entropy(x * step)).max())


def test_power_table():
    assert list(golden.power_table_ref()) == [round(2 ** (15 + f / 1024)) for f in range(1024)]


def test_log_table():
    assert list(golden.log_table_ref()) == [round(4096 * math.log2(1 + (i + 0.5) / 1024)) for i in range(1024)]


def test_entropy_example():
    assert golden.entropy_ref([[1200, -400, 300]], *factor(1e-3))[0] == round(0.9036 * 4096)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("step", [6e-5, 1e-3, 3e-2])
def test_entropy_of_random_logits(rng, labels, step):
    for spread in (0.1, 1, 8):
        x = np.clip(np.round(rng.normal(0, spread, (50, labels)) / step), -32767, 32767).astype(np.int64)
        assert off(x, step) <= BOUND


@pytest.mark.parametrize("labels", LABELS)
def test_entropy_of_ties(labels):
    assert golden.entropy_ref(np.full((1, labels), -7), *factor(1e-3))[0] == pytest.approx(
        4096 * math.log(labels), abs=4096 * BOUND
    )
    tied = np.full((1, labels), -20000)
    tied[0, : max(2, labels // 2)] = 900
    assert off(tied, 1e-3) <= BOUND


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("step", [1e-3, 3e-2])
def test_entropy_of_extremes_in_any_order(rng, labels, step):
    rising = np.sort(rng.integers(-32767, 32768, (20, labels)), axis=1)
    last = np.full((1, labels), -32767)
    last[0, -1] = 32767
    for x in (rising, rising[:, ::-1], last, last[:, ::-1], -last):
        assert off(x, step) <= BOUND


def test_entropy_has_its_peak_where_logits_meet():
    x = np.stack([np.arange(-3000, 3001, 50), np.zeros(121, np.int64)], axis=1)
    h = golden.entropy_ref(x, *factor(1e-3))
    assert h.argmax() == 60 and (np.diff(h[:61]) >= 0).all() and (np.diff(h[60:]) <= 0).all()


def test_leaving():
    entropies, foretold = [100, 99, 500, 500, 500], [0, 0, 2, 3, 4]
    assert golden.leaves_ref(entropies, 3, 100, foretold, last=False).tolist() == [False, True, True, True, False]
    assert golden.leaves_ref([0], 1, 0, [0], last=False).tolist() == [False]  # 0 lets none leave
    assert golden.leaves_ref([32767], 12, 0, [0], last=True).tolist() == [True]


def test_foretold_layer():
    table = np.arange(256) % 64
    assert golden.predicted_ref([0, 31, 32, 8191, 32767], table, 5).tolist() == [0, 0, 1, 255 % 64, 255 % 64]


def test_a_span_drops_keys(rng):
    x = rng.integers(-32767, 32768, (40, 40))
    begin, end, table = np.zeros(40, int), np.full(40, 37), np.array(golden.exp_table_ref())
    e, _, _ = golden.softmax_ref(x, begin, end, table, span=3)
    for i in (0, 1, 20, 36, 39):
        low, high = max(0, i - 2), min(37, i + 3)
        alone, _, _ = golden.softmax_ref(x[i : i + 1], [low], [high], table)
        np.testing.assert_array_equal(e[i], alone[0])
    whole, _, _ = golden.softmax_ref(x, begin, end, table)
    np.testing.assert_array_equal(golden.softmax_ref(x, begin, end, table, span=128)[0], whole)


def test_every_code_of_adaptivfloat():
    found = golden.adaptiv_ref(np.arange(256))
    for code in range(256):
        sign, exponent, mantissa = -1 if code >> 7 else 1, code >> 4 & 7, code & 15
        wanted = 0 if exponent == mantissa == 0 else sign * 2**exponent * (1 + mantissa / 16) * 16
        assert found[code] == wanted
    assert np.abs(found).max() == 3968 and len(set(found.tolist())) == 255
