# SPDX-License-Identifier: Apache-2.0
"""The tables of Q11 and Q15 against 50 digits of mpmath: every entry, and how far the nearest tie is."""

import mpmath
import numpy as np
import pytest
from zynqbert.quant import golden
from zynqbert.quant.tables import GELU_MIN, GeluCoding, exp_table, gelu, gelu_table, tanh_table

mpmath.mp.dps = 50


def rounded(values) -> list[int]:
    """Nearest integers; a tie within 10^-9 would make the entry a matter of the platform."""
    assert all(abs(v - mpmath.floor(v) - 0.5) > 1e-9 or v == 0 for v in values)
    return [int(mpmath.floor(v + mpmath.mpf(1) / 2)) for v in values]


def test_exp():
    exact = [255 * mpmath.exp(-d * mpmath.log(510) / 255) for d in range(255)]
    assert exp_table().tolist() == [*rounded(exact), 0] == golden.exp_table_ref()
    assert exp_table().dtype == np.uint8


def tanh_gelu(x):
    """transformers' gelu_new."""
    return x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))


FORMS = {"gelu": lambda x: x * mpmath.ncdf(x), "gelu_new": tanh_gelu}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("x_lo", "scale"), [(-3.0, 0.0131), (-2.5, 0.02), (-4.0, 0.047), (-1.5, 0.009)])
def test_gelu(x_lo, scale, form):
    zp = round(GELU_MIN / scale)
    x_hi = (255 - zp) * scale
    coding = GeluCoding((x_hi - x_lo) / 255, scale)
    assert coding.zp == zp and coding.x_hi == x_hi
    table = gelu_table(coding, form)
    x = [mpmath.mpf(coding.zero) + i * mpmath.mpf(coding.step) for i in range(-128, 128)]
    assert abs(x[0] - x_lo) < 1e-12 and abs(x[255] - x_hi) < 1e-12
    exact = [FORMS[form](v) / mpmath.mpf(scale) for v in x]
    # 255 is x_hi itself, where gelu(x) = x but for a rest that a direct entry would not notice either
    assert table.tolist() == [min(255, max(0, v + zp)) for v in rounded(exact)]
    assert table.min() >= 0 and (table[255] == 255 or x_hi < 2.5)


def test_the_two_forms_of_gelu():
    x = np.linspace(-6, 6, 241)
    for form, exact in FORMS.items():
        np.testing.assert_allclose(gelu(x, form), [float(exact(mpmath.mpf(v))) for v in x], rtol=1e-11, atol=1e-14)
    assert 1e-4 < np.abs(gelu(x) - gelu(x, "gelu_new")).max() < 1e-3


def test_gelu_entries():
    """The table first, then direct entries that begin where the one before them ends (Q11)."""
    coding = GeluCoding(0.03, 0.02)
    of = coding.entries(np.array([1, 3, 1, 2]))
    assert of.source.tolist() == [0, 1, 1, 1, 2, 3, 3]
    assert of.is_table.tolist() == [True, True, False, False, True, True, False]
    np.testing.assert_array_equal(of.step, np.where(of.is_table, 0.03, 0.02))
    assert of.origin[0] == coding.zero and of.origin[2] == of.origin[6] == coding.x_hi
    assert of.origin[3] == pytest.approx(coding.x_hi + 255 * 0.02)


def test_tanh():
    for step in (1.0 / 127, 2.7 / 127, 4.1 / 127):
        exact = [127 * mpmath.tanh(i * mpmath.mpf(step)) for i in range(-128, 128)]
        table = tanh_table(step)
        assert table.dtype == np.int8 and table.tolist() == rounded(exact)
        assert table.min() >= -127
