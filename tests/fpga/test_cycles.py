# SPDX-License-Identifier: Apache-2.0
"""The cycle model: small programs against cycles counted by hand, tokens, bounds, monotony, and the kernels' trips."""

from dataclasses import replace

import numpy as np
import pytest
from bare_model import BARE
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.cycles import CycleModelDeadlock, Model, simulate
from zynqbert.fpga.directory import Tile
from zynqbert.fpga.expansion import gathers_of
from zynqbert.fpga.program import encode
from zynqbert.fpga.simulator import Simulator
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import LayerShape, ModelShape

ZCU102 = BOARDS["zcu102"]
END = isa.End()


def bare(*program, row_blocks=1, **changes):
    return simulate((*program, END), row_blocks, ZCU102, 250, replace(BARE, **changes))


def gemm(k=300, n=128, **fields):
    return isa.Gemm(k=k, n=n, src_stride=k, dst_stride=n, dst=12288, **fields)


@pytest.fixture(scope="module", params=list(BOARDS))
def board(request):
    return BOARDS[request.param]


@pytest.fixture(scope="module")
def bert(board):
    return compiled_bert(board).simulate(4, 250)


def compiled_bert(board):
    """BERT-base with every weight in memory: what is kept on chip only saves time."""
    return plan(ModelShape.named("bert-base"), board, resident=False)


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
    # 8 fetch (a GEMM goes out once the instruction after it is read), weights to 17 (the last word a cycle after its
    # beat), parameters (64 beats) to 72 beside them; the tile drained from 25 on; 128 words from 72 on.
    assert bare(gemm(k=8)).cycles == 72 + 128


def test_tiles_of_long_k_follow_each_other():
    # Weights to 309, four tiles of 300 to 1509, the last one's words one cycle later.
    timing = bare(gemm(), row_blocks=4)
    assert timing.cycles == 309 + 4 * 300 + 1 + 128
    assert timing.busy["array"] == 4 * 300


def test_tiles_of_short_k_are_bound_by_the_drain():
    # Tiles of 8 steps drain 128 words each: after the parameters (72) a word a cycle.
    timing = bare(gemm(k=8), row_blocks=4)
    assert timing.cycles == 72 + 4 * 128
    assert timing.stall["array.drain"] > 0


def test_without_overlap_every_tile_drains_before_the_next():
    assert bare(gemm(), row_blocks=4, drain_overlap=False).cycles == 309 + 4 * 300 + 3 * 128 + 1 + 128


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
    # Parameters (64 beats) to 68, norms to 228, 388, 548 and 708, a tile behind each; the words of three are there when
    # the vector unit gets to them at 708, and the fourth's (from 836 on) come in time.
    assert timing.cycles == 708 + 4 * 128


def test_weights_run_ahead_as_far_as_the_buffer_goes():
    # Four column tiles of K = 1000 on one row block: all fit, so that the weights come without a break, 1001 cycles a
    # tile, beside the parameters; the last tile's 1000 steps follow.
    timing = bare(gemm(k=1000, n=512))
    assert timing.cycles == 8 + 4 * 1001 + 1000 + 1 + 128
    assert timing.busy["weights"] == 4 * 1001


def test_weights_wait_for_room_in_the_buffer():
    # Tiles of 2400 words, three fit. The array needs 9600 cycles for each of the five from 2409 on and never waits
    # again. The fourth is free to go at 7211 but gets its room at 12009; the fifth at 14410, and at 21609; END takes
    # the last tile's credit, from 24010 on, at 50409.
    timing = bare(gemm(k=2400, n=640), row_blocks=4)
    assert timing.cycles == 2409 + 5 * 9600 + 1 + 128
    assert timing.stall["weights.slot"] == (12009 - 7211) + (21609 - 14410) + (50409 - 24010)
    assert timing.stall["array.weights"] == 2409 - 8


def test_compressed_weights_come_as_fast_as_they_expand():
    """Fewer beats do not help the one port that writes a word a cycle; zero tiles are a step, kept ones no memory."""
    fields = dict(compressed=True, stored=120, weights=0)
    directory = {0: (Tile(120),)}
    program = (gemm(k=400, **fields), END)
    # Two segments: between them the pipeline of expand runs dry, a cycle.
    timing = simulate(program, 1, ZCU102, 250, BARE, directory)
    assert timing.cycles == 8 + 1 + (401 + 1) + 400 + 1 + 128  # one cycle for the directory's beat
    assert (timing.trips["load_weights"], timing.trips["expand_words"]) == (120, 400)
    zero = simulate((gemm(k=400, compressed=True), END), 1, ZCU102, 250, BARE, {0: (Tile(0),)})
    assert zero.trips["array_mac"] == 1 and zero.trips["load_weights"] == 0
    assert zero.cycles == 9 + 64 + 128  # parameters alone
    resident = simulate((gemm(k=400, resident=True, **fields), END), 1, ZCU102, 250, BARE, directory)
    assert resident.cycles == timing.cycles
    assert timing.ddr_bytes_read - resident.ddr_bytes_read == 120 * 4 * 16
    slow = replace(BARE, ddr_bytes_per_second=1e9, axi_read_latency_ns=400)
    spared = [
        simulate((gemm(k=400, resident=on, **fields), END), 1, ZCU102, 250, slow, directory) for on in (False, True)
    ]
    assert spared[0].cycles > spared[1].cycles


def test_accumulators_hold_back_the_array():
    # The vector unit takes 4 cycles a word (traced int16): the array may be four tiles ahead, not more.
    traced = gemm(k=8, n=256, destination=isa.TO_RESIDUAL, residual_s=8, trace=4096)
    timing = bare(traced, row_blocks=4)
    assert timing.trips["store_words"] == 4 * 8 * 128
    assert timing.cycles >= 72 + 4 * 8 * 128
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
    # the head's factors (33 beats, 66 words) are there at 103; the scores' words wait since 68
    scored = 4 + 33 + 66 + 32
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


RAMP = isa.Exit(k=8, n=2)


def test_fetch_waits_for_the_verdict():
    # Weights to 13, the tile's two words at 21 and 22, each 32 cycles from 22 on, 32 lanes' entropies to 118. Then
    # fetch reads on: a table of 16 beats and 32 words.
    timing = simulate((RAMP, isa.Table(), END), 1, ZCU102, 250, BARE, verdicts=[1])
    assert timing.verdicts == (118,)
    assert timing.cycles == 118 + 4 + 16 + 32
    names = ("exit_logits", "exit_entropy", "exit_record", "store_words", "vector_linear", "vector_copy")
    assert [timing.trips[name] for name in names] == [2 * 32, 32, 5, 4 * (2 + 5), 0, 32]
    later = simulate((RAMP, isa.Table(), END), 1, ZCU102, 250, replace(BARE, token_latency=7), verdicts=[1])
    assert later.verdicts == (118 + 2 * 7,)  # weights are ready, and the verdict


def test_a_pass_that_all_have_left_is_over():
    program = (RAMP, gemm(), isa.Table(), END)
    timing = simulate(program, 1, ZCU102, 250, BARE, verdicts=[0])
    # The record's five words leave from 118 on, four beats each; the last beats come after.
    assert timing.cycles == 118 + 4 * 5 + 4 + 1
    assert timing.verdicts == (118,) and timing.trips["array_mac"] == 8 and timing.trips["vector_copy"] == 0
    assert sum(share.cycles for share in timing.shares.values()) == timing.cycles
    assert timing.ddr_bytes_read < simulate(program, 1, ZCU102, 250, BARE, verdicts=[1]).ddr_bytes_read


def test_only_live_row_blocks_cost():
    """Behind the ramp a product over one, two or four row blocks, whichever they are."""
    program = (RAMP, gemm(k=1000), END)
    cycles = {live: simulate(program, 4, ZCU102, 250, BARE, verdicts=[live]).cycles for live in (1, 8, 5, 10, 15)}
    assert cycles[1] == cycles[8] and cycles[5] == cycles[10]
    assert cycles[15] - cycles[5] == 2 * (cycles[5] - cycles[1]) == 2000
    nobody_leaves = simulate(program, 4, ZCU102, 250, BARE)
    assert nobody_leaves.cycles == cycles[15] and len(nobody_leaves.verdicts) == 1
    with pytest.raises(ValueError, match="no verdict is given"):
        simulate(program, 4, ZCU102, 250, BARE, verdicts=[])


def test_narrow_heads_cost_less():
    """Four row blocks: of a head of span 1 each row block meets its own keys, scored with their neighbours'."""
    head = isa.Attention(heads=2, head_width=64, q_stride=128, p=4096, context=8192, context_stride=128, banded=True)
    wide, narrow, mixed = (
        simulate((head, END), 4, ZCU102, 250, BARE, spans={0: spans}) for spans in ((128, 128), (1, 1), (1, 33))
    )
    # K steps: two tiles of 64 a row block and 128 of context; one, and 32.
    assert wide.trips["array_mac"] == 2 * 4 * (2 * 64 + 128)
    assert narrow.trips["array_mac"] == 2 * (4 * (64 + 32))
    # Span 33 reaches into each neighbour: two row blocks of keys at the ends, three in between, over two pairs.
    assert mixed.trips["array_mac"] == 4 * (64 + 32) + 2 * (64 + 64) + 2 * (2 * 64 + 96)
    assert narrow.trips["vector_softmax"] == 2 * (32 + 64 + 32 + 64)
    assert narrow.cycles < mixed.cycles < wide.cycles
    plain = simulate((replace(head, banded=False), END), 4, ZCU102, 250, BARE)
    assert wide.cycles - plain.cycles == 2  # the beats of the spans
    assert wide.ddr_bytes_read - plain.ddr_bytes_read == 32


def test_embedding_rows_come_in_bursts():
    embed = isa.Embed(row_bytes=784, width=768, first=True)
    timing = bare(embed, axi_read_latency_ns=100)  # 25 cycles a burst, and before the instruction
    assert timing.trips["load_embedding"] == 32 * 49
    # Words all differ: 32 cycles to look for neighbours, then a burst a row.
    assert timing.cycles == 29 + 32 + 32 * (25 + 49) + 768
    assert bare(embed, axi_read_latency_ns=100, gather_overlap=True).cycles == 29 + 32 + 25 + 32 * 49 + 768
    # Positions follow each other: one burst. Types are one: one row.
    position = bare(replace(embed, field=isa.FIELD_POSITION), axi_read_latency_ns=100)
    assert position.cycles == 29 + 32 + 25 + 32 * 49 + 768
    kind = bare(replace(embed, field=isa.FIELD_TYPE), axi_read_latency_ns=100)
    assert kind.cycles == 29 + 32 + 25 + 49 + 768
    gathers = {(isa.FIELD_WORD, 0): (20, 3)}
    known = simulate((embed, END), 1, ZCU102, 250, replace(BARE, axi_read_latency_ns=100), gathers=gathers)
    assert known.cycles == 29 + 32 + 3 * 25 + 20 * 49 + 768


def test_an_adaptive_row_costs_a_loop_for_each_beat_of_its_mask():
    embed = isa.Embed(row_bytes=(6 + 20 + 1) * 16, width=768, first=True, adaptive=True)
    slow = replace(BARE, depths={**BARE.depths, "vector_embed": 16}, loop_overhead=2)
    one, six = (simulate((replace(embed, width=w), END), 1, ZCU102, 250, slow) for w in (128, 768))
    assert six.trips["vector_embed"] == 768 and one.trips["vector_embed"] == 128
    assert six.cycles - one.cycles == 768 - 128 + 5 * (15 + 2)
    plain = simulate((replace(embed, adaptive=False, row_bytes=784), END), 1, ZCU102, 250, slow)
    assert plain.cycles - six.cycles == 32 * (49 - 27) - 5 * (15 + 2)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (list(range(32)), (32, 1)),
        ([7] * 32, (1, 1)),
        (list(range(0, 64, 2)), (32, 32)),
        ([0, 1, 2, 2, 2, 3, *range(10, 36)], (31, 4)),
        ([5, 5, 6, 7, *range(20, 48)], (31, 3)),
        (list(range(31, -1, -1)), (32, 32)),
    ],
)
def test_neighbours_share_a_row_or_a_burst(rows, expected):
    assert gathers_of([rows]) == {(0, 0): expected}


def test_ddr_binds_where_ports_are_faster():
    # 300 beats on 4 ports are 19,200 bytes: 600 cycles at 8 GB/s and 250 MHz, where the ports take 300.
    timing = bare(gemm(), ddr_bytes_per_second=8e9)
    assert timing.cycles == 8 + 600 + 300 + 1 + 128
    # That is the DDR's, not the words': those take 301 cycles.
    assert bare(gemm(), ddr_bytes_per_second=1e18).cycles == 8 + 301 + 300 + 1 + 128


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
    attention = 12 * 4 * (2 * 64 + 128)  # keys of two row blocks a tile
    head = 2 * -(-768 // (board.columns // 2)) * 768
    pooler, classifier = head // 2, 768
    assert bert.trips["array_mac"] == 12 * (4 * sum(tiles.values()) + attention) + pooler + classifier
    assert bert.array_macs_executed == bert.trips["array_mac"] * board.peak_macs_per_cycle


def test_traffic_takes_its_time(bert):
    assert bert.seconds >= bert.ddr_bytes_read / Model().ddr_bytes_per_second
    weights = 12 * (4 * 768 * 768 + 2 * 768 * 3072) // 2
    assert weights < bert.ddr_bytes_read < 1.1 * weights


def test_shared_matrices_save_memory_not_traffic(bert, board):
    albert = plan(ModelShape.named("albert-base"), board, resident=False).simulate(4, 250)
    assert 0.99 < albert.ddr_bytes_read / bert.ddr_bytes_read < 1
    assert 0.99 < albert.cycles / bert.cycles < 1


def test_waits_for_data_are_told_by_what_makes_them(bert):
    assert sum(bert.data_waits.values()) == bert.stall["array.data"]
    assert {"embedding", "softmax"} <= set(bert.data_waits)
    norm = isa.Norm(width=768, entries=768, dst_stride=768, signal=True)
    first = gemm(k=8, n=8)
    timing = bare(first, norm, gemm(k=768, wait=1))
    assert timing.data_waits == {"a layer norm": timing.stall["array.data"]} and timing.stall["array.data"] > 0
    assert set(bare(norm, gemm(k=768, wait=1)).data_waits) == {"embedding"}


def test_shares_sum_to_the_pass(bert):
    assert sum(share.cycles for share in bert.shares.values()) == bert.cycles
    for unit, busy in bert.busy.items():
        assert sum(share.busy.get(unit, 0) for share in bert.shares.values()) == busy


def test_bert_base_keeps_the_array_busy(bert, board):
    utilization = ModelShape.named("bert-base").dense_macs(128) / (board.peak_macs_per_cycle * bert.cycles)
    assert {"zcu102": 0.94, "zcu111": 0.90}[board.name] < utilization < 1
    assert bert.shares["gemm"].bound == "array"
    assert bert.shares["attention"].bound == "vector"


@pytest.mark.parametrize("clock", [250, 300])
def test_bert_base_in_time(board, clock):
    limits = {"zcu102": {250: 12.1, 300: 10.1}, "zcu111": {250: 8.1, 300: 6.8}}
    assert compiled_bert(board).simulate(4, clock).seconds * 1e3 < limits[board.name][clock]


@pytest.mark.parametrize("name", ["bert-base", "minilm-l6", "albert-base"])
def test_short_passes(name, board):
    """More row blocks take longer, but less than passes of their own; weights bind the shortest."""
    compiled = plan(ModelShape.named(name), board, resident=False)
    passes = [compiled.simulate(blocks, 250) for blocks in (1, 2, 3, 4)]
    cycles = [timing.cycles for timing in passes]
    assert cycles == sorted(set(cycles))
    assert all(longer < blocks * cycles[0] for blocks, longer in enumerate(cycles[1:], 2))
    assert passes[0].busy["weights"] > passes[0].busy["array"]
    assert passes[3].busy["array"] > passes[3].busy["weights"]
    for timing in passes:
        assert timing.cycles >= max(timing.busy.values())


@pytest.mark.parametrize("density", [0.3, 0.6])
def test_weights_on_chip_save_traffic_and_no_pass_gets_longer(density, board):
    shape = ModelShape.named("albert-base")
    stored, kept = (plan(shape, board, density=density, resident=on) for on in (False, True))
    for blocks in (1, 4):
        a, b = stored.simulate(blocks, 250), kept.simulate(blocks, 250)
        assert b.ddr_bytes_read < a.ddr_bytes_read
        assert b.cycles <= a.cycles
        dense = plan(shape, board, resident=False).simulate(blocks, 250)
        assert a.ddr_bytes_read < dense.ddr_bytes_read
    assert kept.simulate_keeping(250).ddr_bytes_read > 0


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
    assert compiled_bert(board).simulate(4, 250, replace(Model(), **slower)).cycles > bert.cycles


def test_more_rows_more_layers_and_traces_take_longer(board):
    layer, mini = LayerShape(384, 1536, 384), ModelShape.named("minilm-l6")
    shapes = [replace(mini, layers=(layer,) * n, weights=tuple(range(n))) for n in (1, 2)]
    one, two = (plan(shape, board) for shape in shapes)
    passes = [one.simulate(blocks, 250).cycles for blocks in (1, 2, 3, 4)]
    assert passes == sorted(set(passes))
    assert two.simulate(4, 250).cycles > passes[-1]
    assert plan(shapes[0], board, trace=True).simulate(4, 250).cycles > passes[-1]


def test_a_faster_clock_saves_time_but_not_cycles(bert, board):
    fast = compiled_bert(board).simulate(4, 300)
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
    made = plan(shape, board, trace=traced, resident=False)
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
    gathers = gathers_of(np.zeros((3, 32 * row_blocks), dtype=int))  # every row of the pass is row 0 of its table
    timing = simulate(made.instructions, row_blocks, board, 250, gathers=gathers)
    assert simulator.trips() == timing.trips
