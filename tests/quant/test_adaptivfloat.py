# SPDX-License-Identifier: Apache-2.0
"""AdaptivFloat<8,3> (Q24): every code there and back, nearest values, saturation, pruned rows, the table's factor."""

import numpy as np
import pytest
from zynqbert.quant import golden
from zynqbert.quant.adaptivfloat import (
    SIZES,
    canonical,
    encode,
    encode_table,
    exponent_bias,
    factor,
    fitting_grid,
    keep_largest_of_rows,
    values,
)
from zynqbert.quant.words import word_rows

CODES = np.arange(256, dtype=np.uint8)


def test_values_are_the_golden_ones():
    np.testing.assert_array_equal(values(CODES), golden.adaptiv_ref(CODES))
    assert SIZES.tolist() == sorted(set(SIZES.tolist())) and SIZES[1] == 17 and SIZES[-1] == 3968


@pytest.mark.parametrize("bias", [-20, -8, 0, 3])
def test_every_code_comes_back(bias):
    """128, the other zero, as 0."""
    back = encode(values(CODES) * 2.0 ** (bias - 4), bias)
    np.testing.assert_array_equal(back, canonical(CODES))
    assert canonical(CODES)[128] == 0 and (np.delete(canonical(CODES), 128) == np.delete(CODES, 128)).all()


def test_the_nearest_value_is_taken():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 900, 4000), rng.uniform(-70, 70, 4000), [0.0, -0.0, 8.49, 1e-30]])
    all_values = values(CODES[CODES != 128]).astype(np.float64)
    distance = np.abs(x[:, None] - all_values).min(axis=1)
    np.testing.assert_array_equal(np.abs(x - values(encode(x / 16, 0))), distance)


@pytest.mark.parametrize("sign", [1, -1])
def test_ties_go_to_the_larger_size(sign):
    middles = (SIZES[1:] + SIZES[:-1]) / 2
    np.testing.assert_array_equal(values(encode(sign * middles / 16, 0)), sign * SIZES[1:])
    np.testing.assert_array_equal(values(encode(sign * np.nextafter(middles, 0) / 16, 0)), sign * SIZES[:-1])


def test_what_is_too_large_saturates_and_what_is_no_number_is_refused():
    assert values(encode(np.array([3969, -5000, 1e30]) / 16, 0)).tolist() == [3968, -3968, 3968]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            encode(np.array([0.0, bad]), 0)
        with pytest.raises(ValueError, match="no number to quantize"):
            encode_table(np.array([[0.0, bad]]))


@pytest.mark.parametrize("peak", [1.0, 1.99, 0.5, 0.4999, 3e-7, 12.0])
def test_the_bias_puts_the_largest_value_into_the_largest_exponent(peak):
    bias = exponent_bias(peak)
    assert 2.0 ** (7 + bias) <= peak < 2.0 ** (8 + bias)
    assert encode(np.array([peak]), bias)[0] >> 4 == 7 and exponent_bias(0.0) == 0


def test_a_relative_error_of_a_thirty_second_over_seven_octaves():
    """Half a step of the mantissa from the largest value down to a 2^7-th of it, but for what saturates."""
    x = np.exp2(np.random.default_rng(1).uniform(-7, 0, (4, 500))) * 0.96
    table = encode_table(x)
    assert (np.abs(values(table.codes) * table.step - x) <= x / 32).all()


def test_pruned_rows_keep_their_largest_values():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(5000, 30)).astype(np.float32)  # more than are done at a time
    rows[7] = 0
    mask = keep_largest_of_rows(rows, 0.29)
    assert (mask.sum(axis=1) == 8).all()  # ⌊0.29·30⌋
    kept, dropped = np.where(mask, np.abs(rows), np.inf).min(axis=1), np.where(mask, 0, np.abs(rows)).max(axis=1)
    assert (kept >= dropped).all()
    assert keep_largest_of_rows(np.array([[1, -2, 2, 1, 2]]), 0.4).tolist() == [[False, True, True, False, False]]
    codes = encode_table(rows, 0.29).codes
    np.testing.assert_array_equal(codes[~mask], 0)
    assert np.count_nonzero(codes, axis=1).max() == 8
    np.testing.assert_array_equal(encode_table(rows).codes, encode(rows, exponent_bias(float(np.abs(rows).max()))))


def test_the_factor_is_exact_on_a_grid_that_fits():
    rng = np.random.default_rng(3)
    for _ in range(500):
        step, least = 2.0 ** rng.integers(-20, 4), 10.0 ** rng.uniform(-7, 0)
        grid = fitting_grid(step, least)
        m, s = factor(step, grid).tolist()
        assert least <= grid
        if m and step / least < 127.5:
            assert m * 2.0**-s * grid == pytest.approx(step, rel=1e-12) and grid < 1.008 * least


def test_a_table_of_zeros():
    table = encode_table(np.zeros((3, 20)))
    assert not table.codes.any() and table.peak == 0


def test_rows_of_an_artifact():
    codes = np.random.default_rng(4).integers(0, 256, (5, 9)).astype(np.uint8)
    tensors = {"embeddings.word.q": codes, "embeddings.word.factor": np.array([200, 9], np.int32)}
    q, m, s = word_rows({"word_format": "adaptivfloat", "embedding": 9}, tensors)
    np.testing.assert_array_equal(q, golden.adaptiv_ref(codes))
    assert m.tolist() == [200] * 5 and s.tolist() == [9] * 5
