# SPDX-License-Identifier: Apache-2.0
"""The array's RTL under Verilator: values against the golden product (Q3 to Q5), cycles against the cycle model."""

import itertools
import re

import numpy as np
import pytest
import rtl
from rtl_array import SETTLED, Array, Result, Stalls, command_bytes
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.assumptions import assumed
from zynqbert.fpga.cycle_array import ArrayTimes
from zynqbert.fpga.cycle_streams import Accumulators
from zynqbert.fpga.expansion import expand
from zynqbert.fpga.gating import zero_choices, zero_products
from zynqbert.fpga.simulator import ROOT, SimulatorUnavailable

# Rows and columns: the ZCU102's, one with a last group that is full and three key/value banks, one that is quick.
SIZES = {"small": (4, 16), "odd": (8, 48), "zcu102": (32, 128)}


@pytest.fixture(params=SIZES)
def array(request):
    return Array(*SIZES[request.param])


@pytest.fixture
def small():
    return Array(*SIZES["small"])


@pytest.fixture
def zcu102():
    return Array(*SIZES["zcu102"])


def check(array: Array, commands: list[dict], **how) -> Result:
    """Run tiles; every word must be the golden product of what the memories hold."""
    result = array.run(commands, **how)
    wanted = [array.product(c) for c in commands]
    np.testing.assert_array_equal(result.accumulators, np.concatenate([x.T for x in wanted]))
    return result


def random_tiles(array: Array, rng: np.random.Generator, count: int, longest: int = 60) -> list[dict]:
    """Tiles of every kind, tokens included; in w4 some of all columns."""
    tiles = []
    for _ in range(count):
        w8, k = bool(rng.integers(2)), int(rng.integers(1, rng.choice([2, 8, longest])))
        bound = int(rng.choice([0, 0, 0, 1, 2, 3]))
        operand = int(rng.integers(0, (24576 - 4 * k) // 4) * 4) if bound else int(rng.integers(0, 24576 - k))
        columns = array.pairs if w8 else array.columns
        tiles.append(
            {
                "w8": w8,
                "unsigned_operand": int(rng.integers(2)),
                "keys_values": int(w8 and rng.integers(2)),
                "weights": int(rng.integers(0, 9216 - k)),
                "operand": operand,
                "key_value": int(rng.integers(0, 6144 - k)),
                "k": k,
                "words": columns if rng.integers(2) else int(rng.integers(1, columns + 1)),
                "pop_weights_ready": int(rng.integers(2)),
                "push_weights_free": int(rng.integers(2)),
                "pop_data": int(rng.choice([0, 0, 1, 4])),
                "zero": int(rng.random() < 0.1),
                "bound": bound,
            }
        )
    return tiles


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unsigned", [0, 1])
@pytest.mark.parametrize("k", [1, 2, 3, 33, 129])
def test_w4(array, k, unsigned):
    """Every count of columns that ends in a group or row half, back to back."""
    counts = [n for n in (1, 2, 3, 4, 5, 6, 7, 15, 16, 31, 47, 65, 127, 128) if n <= array.columns]
    check(
        array,
        [
            {"k": k, "words": n, "operand": n, "weights": 4608 * (n % 2) + 9 * n, "unsigned_operand": unsigned}
            for n in counts
        ],
    )


@pytest.mark.parametrize("keys_values", [0, 1])
@pytest.mark.parametrize("unsigned", [0, 1])
def test_w8(array, unsigned, keys_values):
    rng = np.random.default_rng(unsigned)
    array.put_weights(rng.integers(-128, 128, (array.pairs, 128)), True, word=4608)
    shapes = [(1, 1), (1, array.pairs), (3, 2), (64, array.pairs), (32, array.pairs), (128, 5), (31, array.pairs - 1)]
    common = {"w8": 1, "weights": 4608, "unsigned_operand": unsigned, "keys_values": keys_values, "key_value": 77}
    check(array, [common | {"k": k, "words": n} for k, n in shapes])


@pytest.mark.parametrize("sign", [1, -1])
def test_low_field_at_its_bound_borrows_from_the_high_one(array, sign):
    """Σ |n0·a| just below 2^22 beside a high field of the other sign: the correction of Q4 decides."""
    k = 4608
    a = np.full((array.rows, k), 127)
    a[1] = -127
    w = np.empty((4, k), dtype=np.int64)
    w[0], w[1], w[2], w[3] = 7 * sign, -7 * sign, -7 * sign, 0
    array.put_operand(a, address=100)
    array.put_weights(w, False)
    check(array, [{"k": k, "words": 4, "operand": 100}])


def test_extremes_of_both_fields(array):
    """uint8 at 255 over the longest K of Q4 and Q5: the high field needs its 24 bits."""
    array.put_operand(np.full((array.rows, 2349), 255), address=200)
    w = np.array([[7], [7], [-7], [-7], [7], [-7], [-7], [7]]).repeat(2349, axis=1)
    array.put_weights(w, False)
    array.put_weights(np.array([[-128], [127], [15], [-1]]).repeat(1096, axis=1), True, word=4608)
    common = {"operand": 200, "unsigned_operand": 1}
    check(array, [common | {"k": 2349, "words": 8}, common | {"k": 1096, "words": 4, "w8": 1, "weights": 4608}])


def test_every_byte_of_w8(array):
    w = np.resize(np.arange(-128, 128), (array.pairs, 256))
    array.put_weights(np.stack([np.roll(row, j) for j, row in enumerate(w)]), True)
    array.put_operand(np.resize(np.array([255, 0, 128, 1, 127]), (array.rows, 256)))
    check(array, [{"k": 256, "words": array.pairs, "w8": 1, "unsigned_operand": u} for u in (0, 1)])


def test_a_tile_of_zeros_is_zero_whatever_the_memories_hold(array):
    n = array.columns
    tiles = [{"k": 5, "words": n}, {"k": 1, "words": n, "zero": 1}, {"k": 5, "words": n, "unsigned_operand": 1}]
    result = check(array, tiles)
    assert not result.accumulators[n : 2 * n].any() and result.accumulators[:n].any()


def test_all_of_an_array_command_is_taken_from_where_c_puts_it():
    """uint<1> three times, four 16-bit words, six bytes: 18 bytes with the padding."""
    raw = command_bytes(
        w8=1, unsigned_operand=1, keys_values=1, weights=0x2A05, operand=0x7F01, key_value=0x1F02, k=0x1203, words=0x84,
        pop_weights_ready=1, push_weights_free=1, pop_data=0x85, zero=1, bound=2,
    )  # fmt: skip
    assert raw.hex() == "01010100052a017f021f0312840101850102"


@pytest.mark.parametrize("seed", range(6))
def test_random_tiles_with_stalls_at_every_stream(small, seed):
    rng = np.random.default_rng(seed)
    rates = dict(zip(("commands", "tokens", "free", "words"), map(int, rng.choice([16, 90, 200, 256], 4)), strict=True))
    tiles = random_tiles(small, rng, 120)
    result = check(small, tiles, stalls=Stalls(seed=seed, **rates))
    assert len(result.freed) == sum(c["push_weights_free"] for c in tiles)


@pytest.mark.parametrize("name", ["odd", "zcu102"])
def test_random_tiles_with_stalls_at_larger_sizes(name):
    array = Array(*SIZES[name])
    tiles = random_tiles(array, np.random.default_rng(3), 25, longest=200)
    check(array, tiles, stalls=Stalls(seed=5, commands=120, tokens=60, free=30, words=150))


@pytest.mark.parametrize("rate", [8, 64])
def test_words_that_nobody_takes_hold_back_tiles_and_lose_nothing(small, rate):
    """Taken late and slowly: what is there meanwhile is at most what the stream holds."""
    tiles = [{"k": 3, "words": n, "operand": n} for n in (16, 16, 5, 16, 1, 2, 16, 16, 9, 16)]
    check(small, tiles, stalls=Stalls(words_from=600, words=rate))


def test_tokens_of_free_weights_wait_for_their_taker(small):
    tiles = [{"k": 2, "words": 1, "push_weights_free": 1} for _ in range(12)]
    result = check(small, tiles, stalls=Stalls(free_from=900))
    assert len(result.freed) == 12 and result.freed[0] == 900
    assert result.taken[3] < 900 < result.taken[-1]  # four tokens wait, then tiles do


@pytest.mark.parametrize("cycles", [1, 5, 23, 40, 77, 150, 333])
def test_a_reset_in_the_midst_leaves_nothing_behind(small, cycles):
    """Tokens, room, drain and stream are as after the first reset, whatever was under way."""
    tiles = random_tiles(small, np.random.default_rng(9), 40)
    result = check(small, tiles, stalls=Stalls(reset_at=cycles))
    taken, freed, _ = modelled(small, tiles)
    np.testing.assert_array_equal(result.taken, taken)
    np.testing.assert_array_equal(result.freed, freed)


# --- zeros -----------------------------------------------------------------------------------------------------------


def enabled_steps(array: Array, command: dict) -> int:
    """Cell-steps of a tile that are not gated, by what the memories hold for all of its columns."""
    w8 = bool(command.get("w8"))
    w, a = array.operands(command | {"words": array.pairs if w8 else array.columns})
    size = w8, array.columns, array.rows
    taken = array.choose(command)
    products, gated = zero_choices(w, taken, a, *size) if command.get("bound") else zero_products(w, a, *size)
    return products - gated


def with_zeros(array: Array, rng: np.random.Generator, share: float) -> None:
    """So many of the bytes and nibbles of the memories become 0."""
    array.activations[rng.random(array.activations.shape) < share] = 0
    array.key_values[rng.random(array.key_values.shape) < share] = 0
    for mask in (0xF0, 0x0F):
        array.weights[rng.random(array.weights.shape) < share] &= mask


@pytest.mark.parametrize("share", [0, 0.5, 0.95, 1])
@pytest.mark.parametrize("size", [(4, 16), (8, 48)], ids=["small", "odd"])
def test_cells_of_zero_products_stand_still(size, share):
    """Multiplier and adder of all cells are enabled as often as the operands say, in tiles of every kind; what comes
    out is what it always was."""
    rng = np.random.default_rng(int(100 * share))
    array = Array(*size, counting=True)
    with_zeros(array, rng, share)
    tiles = random_tiles(array, rng, 40, longest=90)
    result = check(array, tiles, at=SETTLED + np.sort(rng.integers(0, 2000, len(tiles))))
    wanted = sum(enabled_steps(array, c) for c in tiles)
    assert (result.multiplied, result.added) == (wanted, wanted)
    steps = sum(c["k"] for c in tiles) * array.rows * array.pairs
    assert (wanted < steps) == (share > 0 or any(c["zero"] for c in tiles))


def test_the_first_step_of_a_tile_is_never_gated():
    """Zeros alone: P is loaded once, with 0, whatever it held."""
    array = Array(*SIZES["small"], counting=True)
    array.activations[500:600] = 0
    array.weights[500:600] = 0
    tiles = [{"k": 9, "words": 16}, {"k": 30, "words": 16, "operand": 500, "weights": 500}, {"k": 9, "words": 16}]
    result = check(array, tiles, at=np.full(3, SETTLED))
    assert not result.accumulators[16:32].any()
    full = enabled_steps(array, tiles[0])
    assert result.added == result.multiplied == 2 * full + array.rows * array.pairs


# --- cycles ----------------------------------------------------------------------------------------------------------


def in_order(times, count: int) -> list[int]:
    """When tokens offered at `times` are taken, one a cycle."""
    out: list[int] = []
    for time in np.zeros(count) if times is None else times:
        out.append(max(int(time), out[-1] + 1 if out else 0))
    return out


def modelled(array: Array, commands, at=None, weights_at=None, data_at=None, words_from=0) -> tuple[list, list, list]:
    """The cycle model's array: cycles of every word's taking and of every freed tile, and each tile's begin."""
    start = int(assumed("array_start"))
    depth = int(assumed("array_depth")) - 32 + array.rows  # a row of skew for each row
    times = ArrayTimes(depth, int(assumed("array_shortest")), int(assumed("array_overhead")))
    stream = Accumulators(int(assumed("accumulator_tiles")) * array.columns)
    weights = in_order(weights_at, sum(c.get("pop_weights_ready", 0) for c in commands))
    data = in_order(data_at, sum(c.get("pop_data", 0) for c in commands))
    taken, freed, begins, read = [], [], [], words_from
    popped = [0, 0]

    def last(generator):
        try:
            while True:
                next(generator)
        except StopIteration as end:
            return end.value

    for i, c in enumerate(commands):
        ready = [0 if at is None else int(at[i])]
        for n, (tokens, field) in enumerate(((weights, "pop_weights_ready"), (data, "pop_data"))):
            popped[n] += c.get(field, 0)
            if c.get(field, 0):
                ready.append(tokens[popped[n] - 1])
        ready.append(last(stream.room(c["words"])))
        now = max(times.free, times.drain_free(c["k"]), *(r + start for r in ready))
        begins.append(now)
        first = times.begin(now, c["k"], c["words"])
        stream.send(first, c["words"])
        end, _ = last(stream.receive(read, c["words"], 1))
        taken += range(end - c["words"] + 1, end + 1)
        read = end + 1
        if c.get("push_weights_free"):
            freed.append(now + c["k"])
    return taken, freed, begins


def agree(array: Array, commands: list[dict], words_from: int = 0, **times) -> list[int]:
    """RTL and cycle model agree in every word and freed tile, values included; the tiles' begins by the model."""
    result = check(array, commands, stalls=Stalls(words_from=words_from), **times)
    taken, freed, begins = modelled(array, commands, words_from=words_from, **times)
    np.testing.assert_array_equal(result.taken, taken)
    np.testing.assert_array_equal(result.freed, freed)
    return begins


def tiles_of(program, row_blocks: int, columns: int) -> list[dict]:
    """The array's commands of a program, operands anywhere."""
    return [
        {
            "k": c.k, "words": c.words, "w8": int(c.w8), "unsigned_operand": int(c.operand_unsigned),
            "keys_values": int(c.keys_values), "weights": c.weights,
            "operand": 97 * i % 16000, "key_value": 31 * i % 4000,
            "pop_weights_ready": int(c.pop_weights_ready), "push_weights_free": int(c.push_weights_free),
            "pop_data": c.pop_data,
        }
        for i, c in enumerate(expand((*program, isa.End()), row_blocks, columns).array)
    ]  # fmt: skip


GEMMS = [
    # k, n, w8, row blocks
    (768, 768, False, 4),
    (384, 384, False, 2),
    (3072, 256, False, 1),
    (64, 192, False, 3),
    (130, 200, False, 4),
    (100, 130, False, 1),
    (768, 64, True, 1),
    (48, 100, True, 4),
]


@pytest.mark.parametrize(("k", "n", "w8", "blocks"), GEMMS)
def test_cycles_of_a_whole_product(zcu102, k, n, w8, blocks):
    """First word and last, and each between: a tile costs max(K, words of the tile before)."""
    gemm = isa.Gemm(k=k, n=n, src_stride=k, dst_stride=n, dst=12288, w8=w8)
    tiles = tiles_of([gemm], blocks, 128)
    result = check(zcu102, tiles)
    taken, freed, _ = modelled(zcu102, tiles)
    np.testing.assert_array_equal(result.taken, taken)
    np.testing.assert_array_equal(result.freed, freed)
    start, depth = int(assumed("array_start")), int(assumed("array_depth"))
    assert result.taken[0] == start + k + depth + 1  # readable a cycle after it came
    words = [c["words"] for c in tiles]
    # Two full tiles are in the stream before it takes a third: that binds where they multiply faster than they drain.
    if 2 * max(k, words[0]) >= k + depth + words[0] + 1 + start:
        assert result.taken[-1] == start + sum(max(k, n) for n in words[:-1]) + k + depth + words[-1]


@pytest.mark.parametrize("head_width", [64, 32])
@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_cycles_of_attention(zcu102, head_width, blocks):
    """Score tiles drain within their own K where it is as long as they have words."""
    attention = isa.Attention(heads=2, head_width=head_width, q_stride=64, p=4096, context=8192, context_stride=64)
    tiles = tiles_of([attention], blocks, 128)
    begins = agree(zcu102, tiles)
    costs = [max(a["k"], a["k"] + a["words"] - b["k"]) for a, b in itertools.pairwise(tiles)]
    assert np.diff(begins).tolist() == costs


def test_cycles_of_scores_alone(zcu102):
    """BERT-base's: 64 keys of 64 channels, tile after tile without a cycle between."""
    tiles = [{"k": 64, "words": 64, "w8": 1, "keys_values": 1, "operand": i} for i in range(12)]
    begins = agree(zcu102, tiles)
    assert np.diff(begins).tolist() == [64] * 11


@pytest.mark.parametrize("seed", range(4))
def test_cycles_of_random_tiles(array, seed):
    rng = np.random.default_rng(100 + seed)
    agree(array, random_tiles(array, rng, 40, longest=150))


@pytest.mark.parametrize("seed", range(8))
def test_cycles_where_commands_tokens_and_takers_are_late(small, seed):
    rng = np.random.default_rng(200 + seed)
    tiles = random_tiles(small, rng, 40)
    count = {field: sum(c[field] for c in tiles) for field in ("pop_weights_ready", "pop_data")}
    late = {
        "at": np.sort(rng.integers(0, 1500, len(tiles))) if seed % 2 else None,
        "weights_at": np.sort(rng.integers(0, 1500, count["pop_weights_ready"])) if seed % 3 else None,
        "data_at": np.sort(rng.integers(0, 1500, count["pop_data"])) if seed % 4 else None,
    }
    agree(small, tiles, words_from=int(rng.integers(0, 900)), **late)


def test_the_stream_holds_four_tiles_and_no_more(small):
    """Of six full tiles the first four start while nobody reads, the others as words leave."""
    tiles = [{"k": 4, "words": 16} for _ in range(6)]
    result = check(small, tiles, stalls=Stalls(words_from=500))
    # Room is back three cycles after a word has left, then K steps and the depth go by: the fifth tile comes late.
    assert result.taken[:64].tolist() == list(range(500, 564))
    taken, _, begins = modelled(small, tiles, words_from=500)
    np.testing.assert_array_equal(result.taken, taken)
    assert begins[3] < 90 and begins[4] == 500 + 15 + 1 + 3


@pytest.mark.proof
def test_the_array_of_the_zcu111():
    """192 columns: values and cycles of full tiles of both modes, of attention, and of random ones."""
    array = Array(32, 192)
    gemm = isa.Gemm(k=384, n=400, src_stride=384, dst_stride=400, dst=12288)
    agree(array, tiles_of([gemm], 2, 192))
    agree(array, [{"k": k, "words": 192, "operand": k} for k in (200, 1, 192, 5, 300)])
    attention = isa.Attention(heads=1, head_width=64, q_stride=64, p=4096, context=8192, context_stride=64)
    agree(array, tiles_of([attention], 4, 192))
    tiles = random_tiles(array, np.random.default_rng(4), 40, longest=200)
    agree(array, tiles)
    check(array, tiles, stalls=Stalls(seed=2, commands=120, tokens=60, free=30, words=150))


# --- RTL -------------------------------------------------------------------------------------------------------------


def test_lint():
    assert rtl.lint("engine_array") == ""


def test_the_dsp_model_refuses_what_it_does_not_have():
    with pytest.raises(SimulatorUnavailable, match="attribute_that_this_model_of_DSP48E2_lacks"):
        rtl.compile_bench("DSP48E2", "memory_bench", MREG=0)


def test_constants_are_the_kernels():
    config = (ROOT / "kernels" / "config.hpp").read_text()
    assert re.search(r"kAccumulatorDepth = 4 \* kColumns;", config)
    assert "WORDS = 4 * COLUMNS;" in (ROOT / "rtl" / "engine_array.v").read_text()
