# SPDX-License-Identifier: Apache-2.0
"""Compressed matrices: what goes in comes out, in as few beats as the format allows, and corrupt ones are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse import in_blocks, sparse, streams_of, words
from zynqbert.quant import compressed
from zynqbert.quant.compressed import CHOSEN, MASKED, RAW, ZERO, compress, decompress, expand_ref, steps_of, tile_bound


def kinds(stream) -> list[int]:
    """Kinds of the segments of one tile's port streams."""
    found, at = [], 0
    while words(stream)[0, at, 0] != compressed.END_TAG:
        found.append(int(words(stream)[0, at, 0]) & 0xFFFF)
        at += 1 + int(words(stream)[0, at, 1])
    assert at == stream.shape[1] - 1
    return found


@pytest.mark.parametrize("columns", [128, 192])
@pytest.mark.parametrize("density", [0, 0.01, 0.25, 0.5, 0.74, 0.76, 1])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (128, 4), (129, 255), (192, 256), (200, 257), (31, 1031), (400, 3)])
def test_round_trip(n, k, density, columns):
    nibbles = sparse(np.random.default_rng(n + k), n, k, density)
    made = compress(nibbles, columns)
    np.testing.assert_array_equal(decompress(made.data, n, k, columns), nibbles)
    assert len(made.beats) == -(-n // columns)
    assert made.data.dtype == np.uint8 and len(made.data) == 16 * (len(made.beats) + made.ports * sum(made.beats))


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 300), k=st.integers(1, 600), seed=st.integers(0, 2**32), columns=st.sampled_from([64, 128, 192]),
    densities=st.lists(st.sampled_from([0, 0.001, 0.3, 0.9, 1]), min_size=1, max_size=5),
)  # fmt: skip
def test_round_trip_of_any_shape_and_mixture(n, k, seed, columns, densities):
    """Bands of columns and of steps, each with a density of its own."""
    rng = np.random.default_rng(seed)
    bands = np.array(densities)
    share = np.maximum(bands[np.arange(n) // 40 % len(bands)][:, None] * bands[np.arange(k) // 100 % len(bands)], 0)
    nibbles = sparse(rng, n, k, share)
    np.testing.assert_array_equal(decompress(compress(nibbles, columns).data, n, k, columns), nibbles)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.7, 0.8, 1])
def test_beats_are_those_of_the_format(density):
    """Header, then the fewer of a beat a step, and a mask beat for 4 steps with the busiest port's values; an end."""
    nibbles = sparse(np.random.default_rng(1), 128, 300, density)
    expected = 1
    for first, steps in ((0, 256), (256, 44)):
        counts = np.count_nonzero(nibbles[:, first : first + steps].reshape(4, -1), axis=1)
        expected += 1 + min(steps, -(-steps // 4) + -(-int(counts.max()) // 32))
    assert compress(nibbles, 128).beats == (expected,)


def test_raw_where_masks_do_not_pay():
    """At 3/4 of the weights masks and values fill as many beats as there are steps: raw from there on."""
    nibbles = np.zeros((128, 256), dtype=np.uint8)
    nibbles[:96] = 5
    one_port = np.zeros((128, 256), dtype=np.uint8)
    one_port[:32] = nibbles[64:96]
    spread = np.zeros((128, 256), dtype=np.uint8)
    spread[np.arange(128) % 4 != 0] = 5
    fewer = spread.copy()
    fewer[1::32, 0] = fewer[2::32, :31] = 0
    found = [kinds(streams_of(compress(x, 128))[0]) for x in (nibbles, one_port, spread, fewer)]
    assert found == [[RAW], [RAW], [RAW], [MASKED]]


def test_zero_segments_are_a_header_and_zero_tiles_nothing():
    nibbles = np.zeros((384, 512), dtype=np.uint8)
    nibbles[128:256, 256:] = 3
    made = compress(nibbles, 128)
    assert made.beats == (0, 1 + 1 + 256 + 1, 0)
    assert kinds(streams_of(made)[1]) == [ZERO, RAW]
    assert made.data[:48].view("<u4").reshape(3, 4).tolist() == [[0, 0, 0, 0], [1, 259, 0, 0], [0, 0, 259, 0]]
    assert len(compress(np.zeros((200, 9), np.uint8), 128).data) == 2 * 16


@pytest.mark.parametrize("columns", [128, 192])
@pytest.mark.parametrize("bound", [1, 2, 3])
@pytest.mark.parametrize(("n", "k"), [(128, 4), (128, 257), (256, 770), (192, 1031)])
def test_round_trip_of_blocks(n, k, bound, columns):
    """Each tile takes a step for each entry that its busiest block uses, and a beat for eight of them more."""
    nibbles = in_blocks(np.random.default_rng(n + k), n, k, bound)
    made = compress(nibbles, columns, chosen=True)
    assert set(made.bounds) == {bound}
    steps = steps_of(k, bound)
    assert steps == -(-k // 4) * bound and tile_bound(np.pad(nibbles, ((0, -n % 4), (0, 0)))) == bound
    assert set(made.beats) == {1 + -(-steps // 256) + steps + -(-steps // 8)}
    assert [kinds(stream) for stream in streams_of(made)] == [[CHOSEN] * -(-steps // 256)] * len(made.beats)
    np.testing.assert_array_equal(decompress(made.data, n, k, columns), nibbles)


def test_a_tile_is_chosen_where_steps_and_beats_are_fewer_in_all():
    """Of three of four entries a few weights: masks take so few beats that a step an entry is cheaper. A tile of zeros
    stays one, one that uses all of a block has no bound, and who does not ask gets none."""
    few = in_blocks(np.random.default_rng(1), 128, 512, 3, 0.1)
    half = in_blocks(np.random.default_rng(2), 128, 512, 2)
    full = half.copy()
    full[4:8, 8:12] = 1
    made = compress(np.concatenate([few, half, np.zeros_like(half), full]), 128, chosen=True)
    assert made.bounds == (0, 2, 0, 0) and made.beats[2] == 0
    directory = made.data[:64].view("<u4").reshape(4, 4)
    assert directory[:, 3].tolist() == list(made.bounds)
    assert compress(half, 128).bounds == (0,)


def test_a_segment_of_zeros_among_blocks():
    nibbles = in_blocks(np.random.default_rng(3), 128, 1024, 2)
    nibbles[:, 512:] = 0
    made = compress(nibbles, 128, chosen=True)
    assert kinds(streams_of(made)[0]) == [CHOSEN, ZERO]
    np.testing.assert_array_equal(decompress(made.data, 128, 1024, 128), nibbles)


@pytest.mark.parametrize(("at", "entry"), [(0, "twice"), (1, "beyond")])
def test_an_entry_chosen_twice_or_beyond_the_last_is_refused(at, entry):
    """K = 6: the second block has two entries, and its third is none."""
    nibbles = np.zeros((128, 6), dtype=np.uint8)
    nibbles[:, [0, 1, 4, 5]] = 3
    made = compress(nibbles, 128, chosen=True)
    assert made.bounds == (2,)
    data = made.data.copy()
    data[16:].reshape(4, -1, 16)[0, 1, 4 * at + 2] = 0 if at == 0 else 3  # the choices of a step, four groups a byte
    with pytest.raises(ValueError, match="tile 0: an entry that is chosen twice, or beyond the last"):
        decompress(data, 128, 6, 128)


@pytest.mark.parametrize("nibble", [8, 16, 255])
def test_no_weight(nibble):
    with pytest.raises(ValueError, match="no int4 weight"):
        compress(np.array([[1, nibble]], dtype=np.uint8), 128)


@pytest.mark.parametrize("columns", [32, 100])
def test_no_array(columns):
    with pytest.raises(ValueError, match=f"{columns} columns are no multiple of 64"):
        compress(np.ones((4, 4), np.uint8), columns)


@pytest.mark.parametrize(("word", "value"), [(0, 2), (0, 0), (1, 0), (1, 10**6), (2, 10**6), (3, 4), (3, 10**6)])
def test_corrupt_directory(word, value):
    data = compress(sparse(np.random.default_rng(2), 200, 20, 0.5), 128).data.copy()
    data[:32].view("<u4")[4 + word] = value
    with pytest.raises(ValueError, match="tile 1: its directory entry is corrupt"):
        decompress(data, 200, 20, 128)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w[:, 0].__setitem__((slice(None), 0), 0), "a segment header that is none"),
        (lambda w: w[:, 0].__setitem__((slice(None), 1), 10**6), "a segment longer than its tile"),
        (lambda w: w[:, 0].__setitem__((0, 3), 1), "other weights than the header counts"),
        (lambda w: w[:, 0].__setitem__((slice(None), 0), compressed.END_TAG), "no end tag"),
    ],
)
def test_corrupt_tile_is_named(change, message):
    made = compress(sparse(np.random.default_rng(3), 200, 20, 0.3), 128)
    data = made.data.copy()
    second = data[32 + 16 * 4 * made.beats[0] :].reshape(4, made.beats[1], 16)
    change(second.view("<u4"))
    with pytest.raises(ValueError, match=f"tile 1: {message}"):
        decompress(data, 200, 20, 128)


def test_what_came_before_a_fault_is_there():
    nibbles = sparse(np.random.default_rng(4), 128, 300, 0.4)
    (stream,) = streams_of(compress(nibbles, 128))
    words(stream)[:, 1 + int(words(stream)[0, 0, 1]), 0] = 0
    out, choices, fault = expand_ref(stream, 300)
    assert fault == compressed.BAD_SEGMENT
    np.testing.assert_array_equal(out[:, :256], nibbles[:, :256])
    assert not out[:, 256:].any() and not choices.any()
