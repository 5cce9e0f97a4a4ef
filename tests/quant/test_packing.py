# SPDX-License-Identifier: Apache-2.0
"""int4 nibbles and the packing check (Q4, Q5)."""

import numpy as np
import pytest
from zynqbert.quant import golden_model
from zynqbert.quant.packing import check_linear, pack_nibbles, unpack_nibbles


@pytest.mark.parametrize("width", [1, 2, 15, 16, 33])
def test_unpacking_undoes_packing(width):
    w = np.random.default_rng(width).integers(-7, 8, (9, width))
    packed = pack_nibbles(w)
    assert packed.dtype == np.uint8 and packed.shape == (9, (width + 1) // 2)
    np.testing.assert_array_equal(unpack_nibbles(packed, width), w)
    np.testing.assert_array_equal(golden_model.unpack_nibbles(packed, width), w)


def test_the_even_column_is_in_the_low_nibble():
    assert pack_nibbles(np.array([[1, -1, 7], [-7, 0, 2]])).tolist() == [[0xF1, 0x07], [0x09, 0x02]]


@pytest.mark.parametrize("value", [-8, 8, 127, 256])
def test_a_weight_beyond_7_is_refused(value):
    with pytest.raises(ValueError, match=r"within −7 \.\. 7"):
        pack_nibbles(np.array([[0, value]]))


@pytest.mark.parametrize(("byte", "column"), [(0x08, 2), (0x80, 3)])
def test_nibble_8_is_an_error(byte, column):
    packed = np.zeros((3, 2), np.uint8)
    packed[1, 1] = byte
    with pytest.raises(ValueError, match=f"0x8 at row 1, column {column}"):
        unpack_nibbles(packed, 4)


def test_a_filled_padding_nibble_is_an_error():
    with pytest.raises(ValueError, match="pads"):
        unpack_nibbles(np.array([[0x10]], np.uint8), 1)


@pytest.mark.parametrize("packed", [np.zeros((2, 2), np.int8), np.zeros((2, 3), np.uint8), np.zeros(2, np.uint8)])
def test_another_shape_is_an_error(packed):
    with pytest.raises(ValueError, match="cannot hold rows of 4"):
        unpack_nibbles(packed, 4)


def test_the_accumulator_bound_names_tensor_and_channel():
    w = np.zeros((4, 10), np.int8)
    w[2] = 7
    bias = np.zeros(4, np.int64)
    bias[2] = -(2**26 - 127 * 70 - 1)
    check_linear("layers.0.q", w, bias, 127, 4)
    bias[2] -= 1
    with pytest.raises(ValueError, match=r"layers\.0\.q, channel 2: .* 2\^26"):
        check_linear("layers.0.q", w, bias, 127, 4)


@pytest.mark.parametrize(("amax", "k"), [(127, 4681), (255, 2349)])
def test_the_low_half_of_w4_holds_on_even_channels_only(amax, k):
    """7·amax·K stays below 2^22 to K as quantization.md says; the odd channel is the high half."""
    w = np.zeros((2, k + 200), np.int8)
    w[:, :k] = 7
    check_linear("x", w, np.zeros(2), amax, 4)
    w[1] = 7
    check_linear("x", w, np.zeros(2), amax, 4)
    w[0] = 7
    with pytest.raises(ValueError, match=r"x\.weight, channel 0: .* 2\^22"):
        check_linear("x", w, np.zeros(2), amax, 4)


def test_the_low_half_of_w8():
    """15·127·K stays below 2^22 to K = 2201."""
    w = np.full((3, 2201), 15, np.int8)
    w[1:] = 16
    check_linear("pooler", w, np.zeros(3), 127, 8)
    w = np.full((3, 2202), 16, np.int8)
    w[1] = -1  # high −1, low 15
    with pytest.raises(ValueError, match=r"pooler\.weight, channel 1: .* 2\^22"):
        check_linear("pooler", w, np.zeros(3), 127, 8)


@pytest.mark.parametrize(("bits", "value"), [(4, 8), (4, -8), (8, -128)])
def test_a_weight_beyond_its_bits_names_its_channel(bits, value):
    w = np.zeros((5, 6), np.int8)
    w[3, 2] = value
    with pytest.raises(ValueError, match=r"o\.weight, channel 3: not within"):
        check_linear("o", w, np.zeros(5), 127, bits)
