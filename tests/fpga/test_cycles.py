# SPDX-License-Identifier: Apache-2.0
"""The cycle model: small programs against cycles counted by hand, tokens, bounds, monotony, and the kernels' trips."""

from dataclasses import replace

import numpy as np
import pytest
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.cycles import CycleModelDeadlock, Model, simulate
from zynqbert.fpga.program import encode
from zynqbert.fpga.simulator import Simulator
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import LayerShape, ModelShape

ZCU102 = BOARDS["zcu102"]
END = isa.End()

# Every overhead and latency 0, every loop of n trips n cycles: what remains can be counted on paper. Fetch reads an
# instruction in 4 cycles, so that commands of the first one are there at cycle 4.
BARE = Model(
    depths=dict.fromkeys(Model().depths, 1),
    command_overhead=0,
    loop_overhead=0,
    array_depth=0,
    array_start=0,
    array_shortest=0,
    token_latency=0,
    fetch_command_cycles=0,
    ddr_bytes_per_second=1e18,
    axi_read_latency_ns=0,
    axi_write_latency_ns=0,
    start_done_cycles=0,
)


def bare(*program, row_blocks=1, **changes):
    return simulate((*program, END), row_blocks, ZCU102, 250, replace(BARE, **changes))


def gemm(k=300, n=128, **fields):
    return isa.Gemm(k=k, n=n, src_stride=k, dst_stride=n, dst=12288, **fields)


@pytest.fixture(scope="module", params=list(BOARDS))
def board(request):
    return BOARDS[request.param]


@pytest.fixture(scope="module")
def bert(board):
    return simulate(plan(ModelShape.named("bert-base"), board).instructions, 4, board, 250)


# By hand


def test_table():
    # 4 fetch, 16 beats, 32 words copied.
    timing = bare(isa.Table())
    assert timing.cycles == 4 + 16 + 32
    assert (timing.trips["load_table"], timing.trips["vector_copy"]) == (16, 32)


def test_table_with_the_assumed_overheads():
    model = Model()
    read = 63  # 250 ns at 250 MHz, rounded up
    issued = model.start_done_cycles + read + 4
    loaded = issued + 4 + read + 16 + (3 - 1)
    copied = loaded + 2 + 3 + 31
    credit = copied + 2  # load takes the slot back at END, which nothing comes after
    timing = simulate((isa.Table(), END), 1, ZCU102, 250)
    assert timing.cycles == credit + model.start_done_cycles


def test_one_tile_waits_for_its_parameters():
    # 8 fetch (a GEMM goes out once the instruction after it is read), weights to 16, parameters (64 beats) to 80; the
    # tile drained from 24 on; 128 words from 80 on.
    assert bare(gemm(k=8)).cycles == 80 + 128


def test_tiles_of_long_k_follow_each_other():
    # Weights to 308, four tiles of 300 to 1508, the last one's words one cycle later.
    timing = bare(gemm(), row_blocks=4)
    assert timing.cycles == 308 + 4 * 300 + 1 + 128
    assert timing.busy["array"] == 4 * 300


def test_tiles_of_short_k_are_bound_by_the_drain():
    # Tiles of 8 steps drain 128 words each: after the parameters (80) a word a cycle.
    timing = bare(gemm(k=8), row_blocks=4)
    assert timing.cycles == 80 + 4 * 128
    assert timing.stall["array.drain"] + timing.stall["array.credit"] > 0


def test_without_overlap_every_tile_drains_before_the_next():
    assert bare(gemm(), row_blocks=4, drain_overlap=False).cycles == 308 + 4 * 300 + 3 * 128 + 1 + 128


def test_array_waits_for_the_norm_that_signals():
    # Parameters (384 beats) to 388, 32 roots and 768 entries to 1188, K = 768 to 1956, then a tile's words.
    norm = isa.Norm(width=768, entries=768, dst_stride=768, signal=True)
    timing = bare(norm, gemm(k=768, wait=1))
    assert timing.cycles == 1188 + 768 + 1 + 128
    assert timing.stall["array.data"] > 0
    assert bare(replace(norm, signal=False), gemm(k=768)).cycles < timing.cycles


def test_a_norm_behind_a_residual_hides_in_the_arrays_shadow():
    # Weights to 1008, four tiles of 1000 to 5008. A row block's norm (32 roots, 128 entries) is over long before the
    # next tile is, the last one's at 5297; the next product goes through its row blocks meanwhile, 128 steps each, and
    # then the vector unit takes its words.
    residual = isa.Gemm(k=1000, n=128, src_stride=1000, destination=isa.TO_RESIDUAL, residual_s=8)
    norm = isa.Norm(width=128, entries=128, dst_stride=128, signal=True)
    timing = bare(residual, norm, gemm(k=128, wait=1), row_blocks=4)
    assert timing.cycles == 5297 + 1 + 4 * 128
    assert "array.data" not in timing.stall


def test_a_product_starts_with_the_row_blocks_that_are_there():
    # As above without a GEMM before: four norms of 160 cycles, and a product of 128 steps a row block right behind.
    norm = isa.Norm(width=128, entries=128, dst_stride=128, signal=True)
    timing = bare(norm, gemm(k=128, wait=1), row_blocks=4)
    # Parameters (64 beats) to 68, norms to 708; two tiles' words are there then, and the others come in time.
    assert timing.cycles == 708 + 1 + 4 * 128


def test_weights_have_two_slots():
    # Four column tiles of K = 1000 on one row block; load is done with the third only after the first is used up.
    timing = bare(gemm(k=1000, n=512))
    # Weights at 1008, then (after 64 beats of parameters each) 1000 a load: load binds, not the array.
    assert timing.cycles == 8 + 4 * 1000 + 3 * 64 + 1000 + 1 + 128
    fast = bare(gemm(k=1000, n=512), port_bytes=16_000)
    # Loads of a cycle: the third and fourth wait for a slot, and the array never waits again.
    assert fast.cycles == 8 + 1 + 4 * 1000 + 1 + 128
    assert fast.stall["load.slot"] > 1000


def test_accumulators_hold_back_the_array():
    # The vector unit takes 4 cycles a word (traced int16): the array may be two tiles ahead, not more.
    traced = gemm(k=8, destination=isa.TO_RESIDUAL, residual_s=8, trace=4096)
    timing = bare(traced, row_blocks=4)
    assert timing.trips["store_words"] == 4 * 4 * 128
    assert timing.cycles >= 80 + 4 * 4 * 128
    assert timing.stall["array.credit"] > 0
    assert timing.cycles > bare(replace(traced, trace=isa.NO_TRACE), row_blocks=4).cycles


def test_a_plain_norm_takes_as_long_as_any():
    norm = isa.Norm(width=96, entries=100, dst_stride=100)
    assert bare(replace(norm, plain=True), row_blocks=3) == bare(norm, row_blocks=3)


def test_traces_slow_down_what_makes_them():
    norm = isa.Norm(width=96, entries=100, dst_stride=100, trace=4096)
    timing = bare(norm)
    assert timing.trips["store_words"] == 4 * 96  # channels, not entries
    # Parameters (50 beats) to 54, 32 roots, then 384 beats take longer than 100 entries; the last beats come after.
    assert timing.cycles == 54 + 32 + 4 * 96 + 4 + 1


def test_one_head_of_attention():
    # One row block: scores (K = 64, 32 words), softmax (32 + 32), context (K = 32, 64 words).
    timing = bare(isa.Attention(heads=1, head_width=64, q_stride=64, p=4096, context=8192, context_stride=64))
    names = ("vector_scores", "vector_softmax", "vector_reciprocal", "vector_context", "vector_normalize")
    assert [timing.trips[name] for name in names] == [32, 32, 32, 64, 0]
    scored = 4 + 64 + 1 + 32  # first word at 68, read at 69; last at 100
    softmax = scored + 32 + 32
    assert timing.cycles == softmax + 32 + 1 + 64
    normalized = isa.Attention(
        heads=1, head_width=64, q_stride=64, p=4096, context=8192, context_stride=64, normalized=True
    )
    assert bare(normalized).cycles == timing.cycles + 32


def test_values_take_the_corner_turn():
    keys = bare(gemm(n=64, destination=isa.TO_KEYS, head_width=64))
    values = bare(gemm(n=64, destination=isa.TO_VALUES, head_width=64))
    assert values.trips["vector_turn"] == 64 + 32 and values.trips["vector_linear"] == 0
    assert values.cycles == keys.cycles + 32


def test_embedding_rows_each_wait_out_the_latency():
    embed = isa.Embed(row_bytes=784, width=768, first=True)
    timing = bare(embed, axi_read_latency_ns=100)  # 25 cycles a row, and before the instruction
    assert timing.trips["load_embedding"] == 32 * 49
    assert timing.cycles == 29 + 32 * (25 + 49) + 768
    assert bare(embed, axi_read_latency_ns=100, gather_overlap=True).cycles == 29 + 25 + 32 * 49 + 768


def test_ddr_binds_where_ports_are_faster():
    # 300 beats on 4 ports are 19,200 bytes: 600 cycles at 8 GB/s and 250 MHz, where the ports take 300.
    timing = bare(gemm(), ddr_bytes_per_second=8e9)
    assert timing.cycles == 8 + 600 + 300 + 1 + 128


# Tokens


def test_token_that_nobody_sends_is_a_deadlock():
    with pytest.raises(CycleModelDeadlock, match="array"):
        bare(gemm(wait=1))


def test_tile_wider_than_the_array_is_refused():
    head = isa.Attention(heads=1, head_width=64, q_stride=64, p=4096, context=8192, context_stride=64)
    with pytest.raises(ValueError, match="64 columns on an array of 32"):
        simulate((head, END), 1, replace(ZCU102, columns=64), 250)


# Bounds and monotony


def test_no_unit_works_longer_than_the_pass(bert):
    assert bert.cycles >= max(bert.busy.values())


def test_array_work_is_what_the_architecture_asks_for(bert, board):
    tiles = {"q, k, v, o": 4 * -(-768 // board.columns) * 768, "ffn1": -(-3072 // board.columns) * 768}
    tiles["ffn2"] = -(-768 // board.columns) * 3072
    attention = 12 * 4 * (-(-4 // board.groups) * 64 + 128)
    head = 2 * -(-768 // (board.columns // 2)) * 768
    pooler, classifier = head // 2, 768
    assert bert.trips["array_mac"] == 12 * (4 * sum(tiles.values()) + attention) + pooler + classifier
    assert bert.array_macs_executed == bert.trips["array_mac"] * board.peak_macs_per_cycle


def test_traffic_takes_its_time(bert):
    assert bert.seconds >= bert.ddr_bytes_read / Model().ddr_bytes_per_second
    weights = 12 * (4 * 768 * 768 + 2 * 768 * 3072) // 2
    assert weights < bert.ddr_bytes_read < 1.1 * weights


def test_shared_matrices_save_memory_not_traffic(bert, board):
    albert = simulate(plan(ModelShape.named("albert-base"), board).instructions, 4, board, 250)
    assert 0.99 < albert.ddr_bytes_read / bert.ddr_bytes_read < 1
    assert 0.99 < albert.cycles / bert.cycles < 1


def test_shares_sum_to_the_pass(bert):
    assert sum(share.cycles for share in bert.shares.values()) == bert.cycles
    for unit, busy in bert.busy.items():
        assert sum(share.busy.get(unit, 0) for share in bert.shares.values()) == busy


def test_bert_base_keeps_the_array_busy(bert, board):
    utilization = ModelShape.named("bert-base").dense_macs(128) / (board.peak_macs_per_cycle * bert.cycles)
    assert {"zcu102": 0.87, "zcu111": 0.80}[board.name] < utilization < 1
    assert bert.shares["gemm"].bound == "array"
    assert bert.shares["attention"].bound == "vector"


@pytest.mark.parametrize(
    "slower",
    [
        {"depths": {name: depth + 1 for name, depth in Model().depths.items()}},
        {"ii": 2},
        {"command_overhead": 5},
        {"loop_overhead": 3},
        {"array_overhead": 1},
        {"array_depth": 44},
        {"array_start": 4},
        {"array_shortest": 900},
        {"array_interval": 1.5},
        {"drain_overlap": False},
        {"accumulator_tiles": 1},
        {"token_latency": 3},
        {"ddr_bytes_per_second": 5e9},
        {"port_bytes": 8},
        {"axi_read_latency_ns": 400},
        {"axi_write_latency_ns": 4e6},
        {"start_done_cycles": 21},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_gets_slower_the_pass_gets_longer(slower, bert, board):
    program = plan(ModelShape.named("bert-base"), board).instructions
    assert simulate(program, 4, board, 250, replace(Model(), **slower)).cycles > bert.cycles


def test_more_rows_more_layers_and_traces_take_longer(board):
    layer, mini = LayerShape(384, 1536, 384), ModelShape.named("minilm-l6")
    shapes = [replace(mini, layers=(layer,) * n, weights=tuple(range(n))) for n in (1, 2)]
    one, two = (plan(shape, board).instructions for shape in shapes)
    passes = [simulate(one, blocks, board, 250).cycles for blocks in (1, 2, 3, 4)]
    assert passes == sorted(set(passes))
    assert simulate(two, 4, board, 250).cycles > passes[-1]
    assert simulate(plan(shapes[0], board, trace=True).instructions, 4, board, 250).cycles > passes[-1]


def test_a_faster_clock_saves_time_but_not_cycles(bert, board):
    program = plan(ModelShape.named("bert-base"), board).instructions
    fast = simulate(program, 4, board, 300)
    assert fast.seconds < bert.seconds
    assert fast.cycles >= bert.cycles  # memory takes more of the shorter cycles


# The kernels


@pytest.mark.parametrize("row_blocks", [1, 2, 4])
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("albert", [False, True])
def test_trips_equal_the_kernels(board, row_blocks, traced, normalized, albert):
    """Every pipelined loop runs in the simulated kernels as often as the model says."""
    sizes = dict(hidden=160, embedding=160, heads=5, head_width=32, ffn=416, vocab=3, positions=2, types=2, labels=3)
    entries = dict(embedding_norm=170, mapping=None, layers=(LayerShape(160, 421, 163),), weights=(0,))
    bits = 4 if traced else 8
    shape = ModelShape(name="small", kind="sequence", word_bits=bits, normalized=normalized, **sizes, **entries)
    if albert:
        shape = replace(shape, embedding=96, embedding_norm=100, mapping=163, kind="token")
    made = plan(shape, board, trace=traced)
    program = np.frombuffer(encode(made.instructions), dtype=np.uint8).copy()
    image = np.full(made.image_bytes, 1, dtype=np.uint8)  # every m and s is 1: no shift is out of range
    norms = {"embeddings.norm": shape.embedding, "layers.0.attention_norm": 160, "layers.0.ffn_norm": 160}
    for norm, width in (norms | ({"mapping": 160} if albert else {})).items():
        words = image[made.regions[norm].offset :][: made.regions[norm].bytes].reshape(-1, 8)
        words[width:, 3] |= 0x10  # the entries beyond the channels continue the last one
    io = np.zeros(made.io.bytes, dtype=np.uint8)
    simulator = Simulator("native", board.columns)
    memory = [(0x1000_0000, program), (0x2000_0000, image), (0x3000_0000, io)]
    simulator.trips()
    status = simulator.run(memory, 0x1000_0000, 0x2000_0000, 0x3000_0000, len(made.instructions), row_blocks)
    assert status.name == "ok", status
    assert simulator.trips() == simulate(made.instructions, row_blocks, board, 250).trips
