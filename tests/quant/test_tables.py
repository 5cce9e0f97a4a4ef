# SPDX-License-Identifier: Apache-2.0
"""The tables of Q11 and Q15 against 50 digits of mpmath: every entry, and how far the nearest tie is."""

import mpmath
import numpy as np
import pytest
from zynqbert.quant import golden
from zynqbert.quant.tables import GELU_MIN, GeluCoding, exp_table, gelu_table, tanh_table

mpmath.mp.dps = 50


def rounded(values) -> list[int]:
    """Nearest integers; a tie within 10^-9 would make the entry a matter of the platform."""
    assert all(abs(v - mpmath.floor(v) - 0.5) > 1e-9 or v == 0 for v in values)
    return [int(mpmath.floor(v + mpmath.mpf(1) / 2)) for v in values]


def test_exp():
    exact = [255 * mpmath.exp(-d * mpmath.log(510) / 255) for d in range(255)]
    assert exp_table().tolist() == [*rounded(exact), 0] == golden.exp_table_ref()
    assert exp_table().dtype == np.uint8


@pytest.mark.parametrize(("x_lo", "scale"), [(-3.0, 0.0131), (-2.5, 0.02), (-4.0, 0.047), (-1.5, 0.009)])
def test_gelu(x_lo, scale):
    zp = round(GELU_MIN / scale)
    x_hi = (255 - zp) * scale
    coding = GeluCoding((x_hi - x_lo) / 255, scale)
    assert coding.zp == zp and coding.x_hi == x_hi
    table = gelu_table(coding)
    x = [mpmath.mpf(coding.zero) + i * mpmath.mpf(coding.step) for i in range(-128, 128)]
    assert abs(x[0] - x_lo) < 1e-12 and abs(x[255] - x_hi) < 1e-12
    exact = [v * mpmath.ncdf(v) / mpmath.mpf(scale) for v in x]
    # 255 is x_hi itself, where gelu(x) = x but for a rest that a direct entry would not notice either
    assert table.tolist() == [min(255, max(0, v + zp)) for v in rounded(exact)]
    assert table.min() >= 0 and (table[255] == 255 or x_hi < 2.5)


def test_tanh():
    for step in (1.0 / 127, 2.7 / 127, 4.1 / 127):
        exact = [127 * mpmath.tanh(i * mpmath.mpf(step)) for i in range(-128, 128)]
        table = tanh_table(step)
        assert table.dtype == np.int8 and table.tolist() == rounded(exact)
        assert table.min() >= -127
