# SPDX-License-Identifier: Apache-2.0
"""The units `weights` and `expand`: compressed tiles to words of the weight buffer, and what corrupt ones do."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sparse import end_beat, in_blocks, segment, sparse, streams_of, tile_of, words
from units import Units
from zynqbert.quant import compressed
from zynqbert.quant.compressed import CHOSEN, MASKED, RAW, ZERO, choose, compress, expand_ref, steps_of

BUILDS = ("csim", "checked", "native")
DENSITIES = (0.0, 0.01, 0.25, 0.5, 0.74, 0.76, 1.0)
STEPS = (1, 3, 4, 255, 256, 257, 780, 1031)
BAD_SEGMENT, OVERLONG, BAD_COUNT, NO_END = 7, 8, 9, 10  # kernels/commands.hpp


@pytest.fixture(scope="module", params=[(b, c) for b in BUILDS for c in (128, 192)], ids=lambda p: f"{p[0]}-{p[1]}")
def units(request):
    return Units(*request.param)


@pytest.fixture(scope="module", params=(128, 192), ids=lambda c: f"native-{c}")
def fast(request):
    return Units("native", request.param)


def through(units, stream, k, *, source="memory", word=0, **rest) -> tuple[np.ndarray, tuple[int, int]]:
    """A tile's nibbles [columns, k] and fault; beats read and streams left are what they must be.

    The region ends with the tile's last beat, so that a beat more would be a bus error.
    """
    units.fill_weights(word, k, 0xA5)
    units.sim.trips()
    left = units.weights_tile(source, stream.shape[1], k, stream, word=word, instruction=21, **rest)
    trips = units.sim.trips()
    assert left == [0, 0, 0]
    assert (trips["load_weights"], trips["expand_words"]) == (stream.shape[1], k)
    return units.get_nibbles(word, k), units.weights_status()


def as_golden(units, stream, k, **where) -> int:
    """Words and fault are the golden decoder's; the fault."""
    got, (code, instruction) = through(units, stream, k, **where)
    expected, choices, fault = expand_ref(stream, k)
    assert (code, instruction) == (fault, 21 if fault else 0)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(units.get_choices(where.get("word", 0), k), choices)
    return code


class TestSound:
    @pytest.mark.parametrize("k", STEPS)
    @pytest.mark.parametrize("density", DENSITIES)
    def test_every_density_and_length(self, units, density, k):
        """A matrix of a tile and a part of one: what was compressed is what the array gets."""
        if units.sim.build == "csim" and k > 257:
            k = 257 + k % 7
        columns = units.columns
        nibbles = sparse(np.random.default_rng(k), columns + 37, k, density)
        padded = np.zeros((2 * columns, k), dtype=np.uint8)
        padded[: len(nibbles)] = nibbles
        for number, stream in enumerate(streams_of(compress(nibbles, columns))):
            tile = padded[number * columns : (number + 1) * columns]
            if stream is None:
                assert not tile.any()
                continue
            got, status = through(units, stream, k, word=5)
            assert status == (0, 0)
            np.testing.assert_array_equal(got, tile)

    @pytest.mark.parametrize("k", [4, 256, 300])
    def test_one_port_dense_and_the_others_empty(self, units, k):
        for port in range(units.columns // 32):
            nibbles = np.zeros((units.columns, k), dtype=np.uint8)
            nibbles[32 * port : 32 * port + 32] = sparse(np.random.default_rng(port), 32, k, 0.7)
            got, status = through(units, tile_of(nibbles, units.columns), k)
            assert status == (0, 0)
            np.testing.assert_array_equal(got, nibbles)

    def test_all_kinds_of_segments_in_a_tile(self, units):
        rng = np.random.default_rng(3)
        nibbles = np.concatenate([sparse(rng, units.columns, 256, d) for d in (0, 1, 0.3)], axis=1)
        nibbles = np.concatenate([nibbles, sparse(rng, units.columns, 13, 1)], axis=1)
        stream = tile_of(nibbles, units.columns)
        at, kinds = 0, []
        while words(stream)[0, at, 0] != compressed.END_TAG:
            kinds.append(int(words(stream)[0, at, 0]) & 0xFFFF)
            at += 1 + int(words(stream)[0, at, 1])
        assert kinds == [ZERO, RAW, MASKED, RAW]
        got, status = through(units, stream, nibbles.shape[1])
        assert status == (0, 0)
        np.testing.assert_array_equal(got, nibbles)

    @pytest.mark.parametrize("bound", [1, 2, 3])
    @pytest.mark.parametrize("k", [4, 7, 300, 1031])
    def test_every_bound_and_length(self, units, k, bound):
        """A tile with a bound in its blocks: steps and choices as the array takes them."""
        nibbles = in_blocks(np.random.default_rng(k), units.columns, k, bound)
        steps = steps_of(k, bound)
        stream = tile_of(nibbles, units.columns, chosen=True)
        assert stream.shape[1] == 1 + -(-steps // 256) + steps + -(-steps // 8)
        got, status = through(units, stream, steps, word=5)
        assert status == (0, 0)
        wanted, choices = choose(nibbles, bound)
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_array_equal(units.get_choices(5, steps), choices)

    def test_choices_of_a_segment_are_its_own(self, units):
        """Behind a chosen segment one of zeros and one of masks: no choice is left over."""
        rng = np.random.default_rng(8)
        nibbles, masked = in_blocks(rng, units.columns, 512, 2), sparse(rng, units.columns, 40, 0.2)
        parts = [tile_of(nibbles, units.columns, chosen=True)[:, :-1]]
        parts.append(segment(ZERO, 256, np.zeros((units.columns // 32, 0, 16), np.uint8), 0))
        stream = np.concatenate([*parts, tile_of(masked, units.columns)], axis=1)
        assert as_golden(units, stream, 256 + 256 + 40) == 0
        assert units.get_choices(0, 256).any() and not units.get_choices(256, 296).any()

    def test_every_nibble_at_every_place(self, units):
        """Values of all 15 kinds, at each channel, behind every number of values before."""
        k = 256
        nibbles = np.zeros((units.columns, k), dtype=np.uint8)
        for i in range(k):
            nibbles[i % units.columns :: 5, i] = 1 + i % 7
            nibbles[(3 * i) % units.columns, i] = 15 - i % 7
        got, status = through(units, tile_of(nibbles, units.columns), k)
        assert status == (0, 0)
        np.testing.assert_array_equal(got, nibbles)

    def test_uncompressed(self, units):
        """A beat a step, whatever it holds."""
        rng = np.random.default_rng(4)
        stream = rng.integers(0, 256, (units.columns // 32, 70, 16), dtype=np.uint8)
        got, status = through(units, stream, 70, word=9216 - 70, compressed=False)
        assert status == (0, 0)
        pairs = stream.transpose(0, 2, 1).reshape(-1, 70)
        np.testing.assert_array_equal(got[0::2], pairs & 15)
        np.testing.assert_array_equal(got[1::2], pairs >> 4)

    def test_kept_and_used_twice(self, units):
        """Two tiles come to the resident memory and from there to the array, without memory, in any order."""
        rng = np.random.default_rng(5)
        tiles = [sparse(rng, units.columns, 261, density) for density in (0.3, 0.9)]
        streams = [tile_of(tile, units.columns) for tile in tiles]
        last = {128: 11264, 192: 29696}[units.columns] - streams[1].shape[1]
        for stream, resident in zip(streams, (7, last), strict=True):
            assert units.weights_tile("keep", stream.shape[1], data=stream, resident=resident) == [0, 0, 0]
        for number in (1, 0, 1):
            beats, resident = streams[number].shape[1], (7, last)[number]
            units.fill_weights(40, 261, 0xA5)
            assert units.weights_tile("resident", beats, 261, resident=resident, word=40) == [0, 0, 0]
            np.testing.assert_array_equal(units.get_nibbles(40, 261), tiles[number])
        assert units.weights_status() == (0, 0)


class TestFaults:
    """A defect of each kind by hand. The stream has a masked segment of 256 steps and one of 44."""

    K = 300

    @pytest.fixture
    def stream(self, units):
        return tile_of(sparse(np.random.default_rng(6), units.columns, self.K, 0.3), units.columns)

    @staticmethod
    def second(stream) -> int:
        """Beat of the second header."""
        return 1 + int(words(stream)[0, 0, 1])

    def is_fault(self, units, stream, fault):
        assert as_golden(units, stream, self.K) == fault
        sound = sparse(np.random.default_rng(7), units.columns, 20, 0.4)
        got, status = through(units, tile_of(sound, units.columns), 20)  # the next one is none the worse
        assert status == (0, 0)
        np.testing.assert_array_equal(got, sound)

    def test_bad_tag(self, units, stream):
        words(stream)[:, 0, 0] ^= 1 << 20
        self.is_fault(units, stream, BAD_SEGMENT)

    def test_unknown_kind(self, units, stream):
        words(stream)[:, self.second(stream), 0] += 1
        self.is_fault(units, stream, BAD_SEGMENT)

    @pytest.mark.parametrize("word", [0, 1, 2])
    def test_header_that_differs_between_ports(self, units, stream, word):
        words(stream)[-1, self.second(stream), word] += 1
        self.is_fault(units, stream, BAD_SEGMENT)

    @pytest.mark.parametrize("k", [0, 1, 255, 257, 2**32 - 1])
    def test_wrong_k(self, units, stream, k):
        words(stream)[:, 0, 2] = k
        self.is_fault(units, stream, BAD_SEGMENT)

    @pytest.mark.parametrize("k", [43, 45, 256])
    def test_wrong_k_of_the_last_segment(self, units, stream, k):
        words(stream)[:, self.second(stream), 2] = k
        self.is_fault(units, stream, BAD_SEGMENT)

    @pytest.mark.parametrize("beats", [0, 63, 321])
    def test_beats_that_no_masked_segment_has(self, units, stream, beats):
        stream = np.concatenate([stream, np.zeros((len(stream), 400, 16), np.uint8)], axis=1)
        words(stream)[:, 0, 1] = beats
        self.is_fault(units, stream, BAD_SEGMENT)

    @pytest.mark.parametrize("by", [-1, 1])
    def test_beats_that_no_chosen_segment_has(self, units, by):
        """One less takes the end for a beat, one more has none."""
        stream = tile_of(in_blocks(np.random.default_rng(6), units.columns, 200, 2), units.columns, chosen=True)
        stream = np.concatenate([stream, end_beat(len(stream))], axis=1)
        words(stream)[:, 0, 1] += np.array([by], dtype="<i4").view("<u4")
        assert as_golden(units, stream, 100) == BAD_SEGMENT

    def test_a_chosen_segment_counts_nothing(self, units):
        stream = tile_of(in_blocks(np.random.default_rng(6), units.columns, 64, 1), units.columns, chosen=True)
        words(stream)[:, 0, 3] = 7
        assert as_golden(units, stream, 16) == 0

    @pytest.mark.parametrize("kind", [ZERO, RAW, CHOSEN])
    def test_beats_that_no_segment_of_this_kind_has(self, units, stream, kind):
        words(stream)[:, 0, 0] = compressed.SEGMENT_TAG << 16 | kind
        self.is_fault(units, stream, BAD_SEGMENT)

    def test_longer_than_its_tile(self, units, stream):
        words(stream)[:, self.second(stream), 1] += 1
        self.is_fault(units, stream, OVERLONG)

    def test_much_longer_than_its_tile(self, units, stream):
        words(stream)[:, 0, 1] = 2**32 - 1
        self.is_fault(units, stream, OVERLONG)

    @pytest.mark.parametrize("by", [-1, 1])
    def test_count_off_by_one(self, units, stream, by):
        words(stream)[-1, self.second(stream), 3:] += np.array([by], dtype="<i4").view("<u4")
        self.is_fault(units, stream, BAD_COUNT)

    def test_a_mask_with_a_bit_more(self, units, stream):
        mask = words(stream)[0, 1]
        bit = next(b for b in range(32) if not mask[0] >> b & 1)
        mask[0] |= 1 << bit
        self.is_fault(units, stream, BAD_COUNT)

    def test_a_mask_bit_beyond_the_last_step_is_none(self, units):
        """The 3 steps of a mask beat that the segment lacks count for nothing, in masks and in values."""
        nibbles = np.zeros((units.columns, 257 + 48), dtype=np.uint8)
        nibbles[::3] = 3
        stream = tile_of(nibbles, units.columns)
        masks = self.second(stream) + 1
        assert words(stream)[0, self.second(stream), 2] == 49
        last = masks + int(words(stream)[0, masks - 1, 1]) - 1
        groups = [at for at in range(masks, last + 1) if not words(stream)[:, at, 1:].any()]
        assert groups[-1] in (last, last - 1)  # the mask beat of the last step alone, and perhaps its values
        words(stream)[:, groups[-1], 1:] = 0xFFFFFFFF
        assert as_golden(units, stream, 305) == 0
        np.testing.assert_array_equal(units.get_nibbles(0, 305), nibbles)

    def test_missing_end_tag(self, units, stream):
        """The last segment then fills its tile; a beat that is none stands for a segment."""
        self.is_fault(units, np.ascontiguousarray(stream[:, :-1]), OVERLONG)
        words(stream)[:, -1, 0] ^= 1
        self.is_fault(units, stream, BAD_SEGMENT)

    def test_end_tag_too_early(self, units, stream):
        at = self.second(stream)
        words(stream)[:, at] = words(stream)[:, -1]
        self.is_fault(units, stream, NO_END)

    def test_end_tag_before_all_steps(self, units, stream):
        cut = np.concatenate([stream[:, : self.second(stream)], end_beat(len(stream))], axis=1)
        self.is_fault(units, cut, NO_END)

    def test_beats_behind_the_end_tag(self, units, stream):
        self.is_fault(units, np.concatenate([stream, stream[:, -1:]], axis=1), NO_END)

    def test_another_segment_where_the_end_should_be(self, units, stream):
        more = segment(ZERO, 1, np.zeros((len(stream), 0, 16), np.uint8), 0)
        self.is_fault(units, np.concatenate([stream[:, :-1], more, end_beat(len(stream))], axis=1), BAD_SEGMENT)

    @pytest.mark.parametrize("kept", [1, 2, 40, 100])
    def test_cut_short(self, units, stream, kept):
        assert as_golden(units, np.ascontiguousarray(stream[:, :kept]), self.K) == OVERLONG

    def test_the_first_fault_is_told(self, units, stream):
        bad, worse = stream.copy(), stream.copy()
        words(bad)[:, 0, 0] = 0
        for number, tile in enumerate((stream, bad, worse[:, :-1], stream)):
            units.weights_tile("memory", tile.shape[1], self.K, tile, instruction=number)
        assert units.weights_status() == (BAD_SEGMENT, 1)
        assert units.weights_status() == (0, 0)

    def test_a_kept_tile_is_judged_when_it_is_used(self, units, stream):
        words(stream)[:, 0, 0] = 0
        units.weights_tile("keep", stream.shape[1], data=stream, instruction=3)
        assert units.weights_status() == (0, 0)
        units.weights_tile("resident", stream.shape[1], self.K, instruction=8)
        assert units.weights_status() == (BAD_SEGMENT, 8)


def damaged(rng, stream: np.ndarray) -> np.ndarray:
    """A copy with bits flipped, bytes of noise, words of headers changed, or beats swapped, cut or added."""
    stream = stream.copy()
    at = [0]
    while words(stream)[0, at[-1], 0] != compressed.END_TAG:
        at.append(at[-1] + 1 + int(words(stream)[0, at[-1], 1]))
    for _ in range(int(rng.integers(1, 4))):
        port, beat = int(rng.integers(len(stream))), int(rng.integers(stream.shape[1]))
        header = at[int(rng.integers(len(at)))]
        match int(rng.integers(7)):
            case 0:
                stream[port, beat, rng.integers(16)] ^= 1 << int(rng.integers(8))
            case 1:
                stream[port, beat] = rng.integers(0, 256, 16)
            case 2:
                stream[:, beat] = rng.integers(0, 256, (len(stream), 16)) * (rng.random() < 0.5)
            case 3 if header < stream.shape[1]:
                ports = slice(None) if rng.random() < 0.7 else port
                word = int(rng.integers(4))
                by = np.array([rng.choice([1, 2, -1, 64])], dtype="<i4").view("<u4")
                words(stream)[ports, header, word : word + 1] += by
            case 4 if header < stream.shape[1]:
                words(stream)[:, header, 0] = compressed.SEGMENT_TAG << 16 | int(rng.integers(4))
            case 5:
                stream = np.ascontiguousarray(stream[:, : int(rng.integers(1, stream.shape[1] + 1))])
            case _:
                stream = np.ascontiguousarray(np.insert(stream, beat, stream[:, rng.integers(stream.shape[1])], axis=1))
    return stream


def damage_and_compare(units, seeds) -> set[int]:
    seen = set()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        k = int(rng.choice([1, 5, 30, 256, 262, 520]))
        density = float(rng.choice([0.02, 0.3, 0.6, 0.8]))
        bound = int(rng.integers(4))
        nibbles = in_blocks(rng, units.columns, k, bound, density) if bound else sparse(rng, units.columns, k, density)
        nibbles[0, 0] = 1
        made = compress(nibbles, units.columns, chosen=bool(bound))
        seen.add(as_golden(units, damaged(rng, streams_of(made)[0]), steps_of(k, made.bounds[0])))
    return seen


def test_any_damage_gives_what_the_golden_decoder_gives(fast):
    assert damage_and_compare(fast, range(400)) == {0, BAD_SEGMENT, OVERLONG, BAD_COUNT, NO_END}


@pytest.mark.parametrize("build", ["csim", "checked"])
@pytest.mark.parametrize("columns", [128, 192])
def test_any_damage_leaves_no_declared_width(build, columns):
    damage_and_compare(Units(build, columns), range(1000, 1012 if build == "csim" else 1100))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_noise_gives_what_the_golden_decoder_gives(fast, data):
    """Beats that hypothesis makes up, behind a header that may or may not be one."""
    ports = fast.columns // 32
    k = data.draw(st.sampled_from([1, 4, 7, 256, 260]))
    steps = min(k, 256)
    beats = data.draw(st.integers(-(-steps // 4), 5 * -(-steps // 4)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bias = data.draw(st.integers(0, 6))
    noise = rng.integers(0, 256, (ports, beats, 16), dtype=np.uint8)
    for _ in range(bias):
        noise &= rng.integers(0, 256, noise.shape, dtype=np.uint8)
    parts = [segment(MASKED, steps, noise, data.draw(st.integers(0, 500))), end_beat(ports)]
    as_golden(fast, np.concatenate(parts, axis=1), k)
