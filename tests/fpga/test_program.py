# SPDX-License-Identifier: Apache-2.0
"""Programs: encoding word by word, refusals by field name, and the expansion's tokens, order and sizes."""

import re
import struct
from collections import Counter
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
from zynqbert.fpga import instructions as isa
from zynqbert.fpga import program as programs
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.directory import Tile
from zynqbert.fpga.expansion import expand
from zynqbert.fpga.simulator import ROOT
from zynqbert.fpga.tile_commands import Load, Source, Vector
from zynqbert.fpga.weight_buffer import WeightBuffer
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import LayerShape, ModelShape

GEMM = isa.Gemm(
    weights=0x110, parameters=0x220, k=99, n=200, src=5, src_stride=101, destination=isa.TO_RESIDUAL, dst=7,
    dst_stride=202, residual_m=200, residual_s=9, table=1, trace=0x330, head_width=64, w8=True, operand_unsigned=True,
    wait=3, signal=True,
)  # fmt: skip
ATTENTION = isa.Attention(
    parameters=0x10, heads=3, head_width=32, q=11, q_stride=96, p=400, context=700, context_stride=97,
    trace_context=0x40, trace_p=0x50, normalized=True, wait=1, signal=True,
)  # fmt: skip
EXAMPLES = (
    isa.End(),
    isa.Rows(io=0x40),
    isa.Table(image=0x100, table=2),
    isa.Embed(image=0x200, row_bytes=80, width=64, field=1, trace=0x60, first=True),
    isa.Norm(image=0x300, width=64, entries=70, dst=3, dst_stride=80, m=255, s=31, plain=True, signal=True),
    GEMM,
    ATTENTION,
    isa.Gather(image=0x400, width=64, entries=70, dst=9, m=128, s=1, trace=0x70),
    isa.Keep(weights=0x500, n=200, stored=77, resident=13),
    isa.Embed(image=0x200, row_bytes=48, width=64, adaptive=True),
    isa.Refill(io=0x40, entries=12, stride=0x830, section=7),
    isa.Loop(target=3, steps=72),
    isa.Exit(
        weights=0x110, parameters=0x220, k=99, n=200, src=5, logits=0x330, record=0x440, entropy_m=48000, entropy_s=16,
        layer=3, threshold=700, row_shift=5, predict=True, clock=True, wait=1,
    ),
)  # fmt: skip
EXIT = EXAMPLES[-1]
GEMM_ALONE = isa.Gemm(k=32, n=32, src_stride=32, dst=200, dst_stride=32)


def random_example(kind, rng):
    values = {name: int(rng.integers(0, 2**32)) for name in kind.WORDS}
    values |= {name: bool(rng.integers(0, 2)) for name in kind.FLAGS}
    return kind(wait=int(rng.integers(0, 256)), signal=bool(rng.integers(0, 2)), **values)


def small_shape(**changes):
    sizes = dict(hidden=64, embedding=64, heads=2, head_width=32, ffn=96, vocab=50, positions=40, types=2, labels=3)
    entries = dict(embedding_norm=66, mapping=None, layers=(LayerShape(70, 100, 65),) * 2, weights=(0, 1))
    shape = ModelShape(name="small", kind="sequence", word_bits=8, normalized=False, **sizes, **entries)
    return replace(shape, **changes)


ALBERT = dict(embedding=40, embedding_norm=41, mapping=65, weights=(0, 0))
SHAPES = {"bert": {}, "albert": ALBERT, "tokens": dict(kind="token", labels=70), "resident": {}}


class TestEncoding:
    def test_gemm_word_by_word(self):
        flags = 5 | 3 << 8 | 1 << 16 | 1 << 17 | 1 << 18
        words = [flags, 0x110, 0x220, 99, 200, 5, 101, 1, 7, 202, 200, 9, 1, 0x330, 64, 0]
        assert GEMM.encode() == struct.pack("<16I", *words)

    def test_attention_word_by_word(self):
        flags = 6 | 1 << 8 | 1 << 16 | 1 << 17
        words = [flags, 0x10, 3, 32, 11, 96, 400, 700, 97, 0x40, 0x50, 0, 0, 0, 0, 0]
        assert ATTENTION.encode() == struct.pack("<16I", *words)

    def test_compressed_and_held_gemms_word_by_word(self):
        gemm = replace(GEMM, w8=False, compressed=True, resident=True, grouped=True, stored=0x77)
        flags = 5 | 3 << 8 | 1 << 16 | 1 << 18 | 1 << 21 | 1 << 22 | 1 << 23
        words = [flags, 0x110, 0x220, 99, 200, 5, 101, 1, 7, 202, 200, 9, 1, 0x330, 64, 0x77]
        assert gemm.encode() == struct.pack("<16I", *words)

    def test_branch_word_by_word(self):
        gemm = replace(GEMM, branch=True)
        words = [5 | 3 << 8 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 24, *struct.unpack("<16I", GEMM.encode())[1:]]
        assert gemm.encode() == struct.pack("<16I", *words)

    def test_keep_word_by_word(self):
        assert EXAMPLES[8].encode() == struct.pack("<16I", 8, 0x500, 0, 0, 200, 0, 0, 13, *[0] * 7, 77)

    def test_exit_word_by_word(self):
        words = [9 | 1 << 8 | 0b011 << 17, 0x110, 0x220, 99, 200, 5, 0x330, 0x440, 48000, 16, 3, 700, 5, 0, 0, 0]
        assert EXIT.encode() == struct.pack("<16I", *words)
        assert struct.unpack_from("<I", replace(EXIT, predict=False, clock=False, last=True).encode())[0] >> 17 == 0b100

    def test_spans_and_tables_of_io_word_by_word(self):
        words = struct.unpack("<16I", replace(ATTENTION, banded=True, spans=0x660).encode())
        assert (words[0] >> 17, words[11]) == (0b11, 0x660)
        assert isa.Table(image=0x70, table=4, from_io=True).encode() == struct.pack(
            "<16I", 2 | 1 << 17, 0x70, 4, *[0] * 13
        )

    def test_norm_word_by_word(self):
        flags = 4 | 1 << 16 | 1 << 17
        assert EXAMPLES[4].encode() == struct.pack("<16I", flags, 0x300, 64, 70, 3, 80, 255, 31, 0xFFFFFFFF, *[0] * 7)

    def test_gather_leaves_word_5_out(self):
        words = [7, 0x400, 64, 70, 9, 0, 128, 1, 0x70, *[0] * 7]
        assert EXAMPLES[7].encode() == struct.pack("<16I", *words)

    def test_no_trace_is_all_ones(self):
        assert struct.unpack("<16I", isa.Norm(width=1, entries=1).encode())[8] == 0xFFFFFFFF

    @pytest.mark.parametrize("kind", isa.INSTRUCTIONS, ids=lambda k: k.__name__)
    def test_decode_is_the_inverse(self, kind):
        rng = np.random.default_rng(kind.OPCODE)
        for _ in range(20):
            example = random_example(kind, rng)
            assert programs.decode_instruction(example.encode()) == example

    def test_whole_program(self):
        assert programs.decode(programs.encode(EXAMPLES)) == EXAMPLES
        assert len(programs.encode(EXAMPLES)) == 64 * len(EXAMPLES)

    @pytest.mark.parametrize("kind", isa.INSTRUCTIONS, ids=lambda k: k.__name__)
    def test_every_field_has_a_word_or_a_flag_of_its_own(self, kind):
        own = {field.name for field in fields(kind)} - {"wait", "signal"}
        assert own == set(kind.WORDS) | set(kind.FLAGS)
        assert len(set(kind.WORDS.values())) == len(kind.WORDS)
        assert all(bit > 16 for bit in kind.FLAGS.values())

    def test_a_value_that_does_not_fit_its_word(self):
        with pytest.raises(isa.ProgramError, match=r"Gemm\.k"):
            replace(GEMM, k=2**32).encode()
        with pytest.raises(isa.ProgramError, match=r"Gemm\.wait"):
            replace(GEMM, wait=256).encode()
        with pytest.raises(isa.ProgramError, match=r"Gemm\.dst"):
            replace(GEMM, dst=-1).encode()


class TestDecodingRefuses:
    def test_unknown_opcode(self):
        with pytest.raises(isa.ProgramError, match="opcode: 12 is unknown"):
            programs.decode_instruction(struct.pack("<16I", 12, *[0] * 15))

    def test_a_word_that_no_field_owns(self):
        with pytest.raises(isa.ProgramError, match="End: a word or flag"):
            programs.decode_instruction(struct.pack("<16I", 0, *[0] * 14, 1))

    def test_a_flag_that_no_field_owns(self):
        with pytest.raises(isa.ProgramError, match="Rows: a word or flag"):
            programs.decode_instruction(struct.pack("<16I", 1 | 1 << 17, *[0] * 15))

    def test_part_of_an_instruction(self):
        with pytest.raises(isa.ProgramError, match="65 bytes"):
            programs.decode(bytes(65))


class TestChecks:
    REFUSED = (
        (isa.Rows(io=8), "Rows.io"),
        (isa.Refill(io=8), "Refill.io"),
        (isa.Refill(stride=8), "Refill.stride"),
        (isa.Refill(entries=0), "Refill.entries"),
        (isa.Refill(section=65), "Refill.section"),
        (isa.Loop(steps=0), "Loop.steps"),
        (isa.Exit(k=8, n=2, stride=16), "Exit.stride"),
        (isa.Exit(k=8, n=2, counted=True, last=True), "Exit.counted"),
        (isa.Table(image=8), "Table.image"),
        (isa.Table(table=5), "Table.table"),
        (isa.Embed(width=1025, row_bytes=1056), "Embed.width"),
        (isa.Embed(width=0, row_bytes=16), "Embed.width"),
        (isa.Embed(width=64, row_bytes=64), "Embed.row_bytes"),
        (isa.Embed(width=64, row_bytes=80, field=3), "Embed.field"),
        (isa.Embed(width=80, row_bytes=64, four_bit=True), "Embed.width"),
        (isa.Embed(width=64, row_bytes=80, trace=8), "Embed.trace"),
        (isa.Embed(width=128, row_bytes=16, adaptive=True), "Embed.row_bytes"),
        (isa.Embed(width=129, row_bytes=32, adaptive=True), "Embed.row_bytes"),
        (isa.Embed(width=1024, row_bytes=66 * 16, adaptive=True), "Embed.row_bytes"),
        (isa.Embed(width=64, row_bytes=40, adaptive=True), "Embed.row_bytes"),
        (isa.Embed(width=64, row_bytes=48, adaptive=True, four_bit=True), "Embed.four_bit"),
        (isa.Norm(width=64, entries=63, dst_stride=64), "Norm.entries"),
        (isa.Norm(width=64, entries=1281, dst_stride=1281), "Norm.entries"),
        (isa.Norm(width=64, entries=64, m=256), "Norm.m"),
        (isa.Norm(width=64, entries=64, s=0), "Norm.s"),
        (isa.Norm(width=64, entries=64, dst=24576 - 255, dst_stride=64), "Norm.dst"),
        (isa.Gather(width=64, entries=64, dst=24576 - 63), "Gather.dst"),
        (replace(GEMM, weights=8), "Gemm.weights"),
        (replace(GEMM, k=4609), "Gemm.k"),
        (replace(GEMM, n=1025), "Gemm.n"),
        (replace(GEMM, destination=5), "Gemm.destination"),
        (replace(GEMM, residual_s=32), "Gemm.residual_s"),
        (replace(GEMM, src=24576 - 99 - 3 * 101 + 1), "Gemm.src"),
        (replace(GEMM, destination=isa.TO_VALUES, n=64, head_width=48), "Gemm.head_width"),
        (replace(GEMM, destination=isa.TO_VALUES, n=96, head_width=64), "Gemm.n"),
        (replace(GEMM, destination=isa.TO_IO, dst=8), "Gemm.dst"),
        (isa.Keep(weights=8, n=1), "Keep.weights"),
        (isa.Keep(n=0), "Keep.n"),
        (isa.Keep(n=4609), "Keep.n"),
        (replace(GEMM, branch=True, destination=isa.TO_ACTIVATION), "Gemm.branch"),
        (replace(GEMM, branch=True, dst=24576 - 200 - 3 * 202 + 1), "Gemm.dst"),
        (replace(GEMM, compressed=True), "Gemm.compressed"),
        (replace(GEMM, grouped=True), "Gemm.grouped"),
        (replace(GEMM, w8=False, resident=True), "Gemm.resident"),
        (replace(ATTENTION, head_width=48), "Attention.head_width"),
        (replace(ATTENTION, heads=33), "Attention.heads"),
        (replace(ATTENTION, heads=17, head_width=64), "Attention.heads"),
        (replace(ATTENTION, p=24576 - 255), "Attention.p"),
        (replace(ATTENTION, context=24576 - 96 - 3 * 97 + 1), "Attention.context"),
        (replace(ATTENTION, spans=8), "Attention.spans"),
        (replace(EXIT, signal=True), "Exit.signal"),
        (replace(EXIT, predict=False), "Exit.clock"),
        (replace(EXIT, k=0), "Exit.k"),
        (replace(EXIT, n=1025), "Exit.n"),
        (replace(EXIT, src=24576 - 98), "Exit.src"),
        (replace(EXIT, logits=8), "Exit.logits"),
        (replace(EXIT, record=8), "Exit.record"),
        (replace(EXIT, entropy_m=32767), "Exit.entropy_m"),
        (replace(EXIT, entropy_m=65536), "Exit.entropy_m"),
        (replace(EXIT, entropy_s=0), "Exit.entropy_s"),
        (replace(EXIT, layer=0), "Exit.layer"),
        (replace(EXIT, layer=64), "Exit.layer"),
        (replace(EXIT, threshold=32768), "Exit.threshold"),
        (replace(EXIT, row_shift=16), "Exit.row_shift"),
    )

    @pytest.mark.parametrize(("instruction", "field"), REFUSED, ids=[field for _, field in REFUSED])
    def test_refused_by_field(self, instruction, field):
        with pytest.raises(isa.ProgramError) as caught:
            instruction.check()
        assert caught.value.field == field
        assert str(caught.value).startswith(field + ": ")

    @pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: type(e).__name__)
    def test_accepted(self, example):
        example.check()

    def test_regions_reach_the_last_word(self):
        replace(GEMM, src=24576 - 99 - 3 * 101).check()
        replace(GEMM, src=24576 - 99).check(row_blocks=1)

    def test_wait_without_signal(self):
        with pytest.raises(isa.ProgramError, match="instruction 0: waits for 4 tokens where 0 are sent"):
            programs.check((replace(GEMM, wait=1, signal=False), isa.End()))

    def test_signal_that_nobody_waits_for(self):
        with pytest.raises(isa.ProgramError, match="4 tokens are sent"):
            programs.check((replace(GEMM, wait=0), isa.End()))

    def test_a_token_is_one_row_blocks(self):
        """The result block's product signals one; one over all row blocks waits for four."""
        one = isa.Gemm(k=1, n=1, result_block=True, dst=100, signal=True)
        programs.check((one, replace(one, src=100, dst=0, wait=1, signal=False), isa.End()))
        with pytest.raises(isa.ProgramError, match="instruction 1: waits for 4 tokens where 1 are sent"):
            programs.check((one, replace(GEMM, wait=1, signal=False), isa.End()))

    @pytest.mark.parametrize(
        ("dst", "stride", "row_blocks"),
        [(100, 100, 4), (500, 96, 4), (0, 96, 4), (101, 99, 1)],
        ids=["alike", "behind", "before", "one row block"],
    )
    def test_a_norm_behind_its_residual_where_nothing_is_read(self, dst, stride, row_blocks):
        self.check_behind(dst, stride, row_blocks, src=400 if dst == 0 else 100)

    @pytest.mark.parametrize(("dst", "stride"), [(101, 100), (100, 99), (100, 101), (499, 96), (4, 100)])
    def test_a_norm_that_overwrites_what_is_still_read(self, dst, stride):
        with pytest.raises(isa.ProgramError, match="instruction 1: the norm writes where the product before it still"):
            self.check_behind(dst, stride, 4, src=100)
        programs.check((self.norm(dst, stride), isa.End()))

    @staticmethod
    def norm(dst, stride):
        return isa.Norm(width=96, entries=97 if stride > 97 else 96, dst=dst, dst_stride=stride)

    def check_behind(self, dst, stride, row_blocks, src):
        """The product reads four row blocks of 100 words from `src` on."""
        gemm = isa.Gemm(k=100, n=96, src=src, src_stride=100, destination=isa.TO_RESIDUAL, residual_s=1)
        programs.check((gemm, self.norm(dst, stride), isa.End()), row_blocks)

    def test_no_token_is_out_where_row_blocks_may_end(self):
        gather = isa.Gather(width=8, entries=8, signal=True)
        ramp = isa.Exit(k=8, n=2, wait=1)
        programs.check((gather, ramp, isa.End()))
        norm = isa.Norm(width=8, entries=8, dst=100, dst_stride=8, signal=True)
        with pytest.raises(isa.ProgramError, match="instruction 2: 4 tokens are out where row blocks may end"):
            programs.check((norm, gather, ramp, replace(GEMM, src=100, wait=1, signal=False), isa.End()))

    def test_end_is_needed(self):
        with pytest.raises(isa.ProgramError, match="does not end"):
            programs.check((isa.Rows(),))


def group(**changes):
    """Queries, keys and values of two heads of 32 in four row blocks, and their attention; `changes` of the latter."""
    common = dict(k=70, n=64, src=0, src_stride=70, grouped=True)
    projections = (
        isa.Gemm(dst=400, dst_stride=64, **common),
        isa.Gemm(destination=isa.TO_KEYS, head_width=32, **common),
        isa.Gemm(destination=isa.TO_VALUES, head_width=32, **common),
    )
    fields = dict(heads=2, head_width=32, q=400, q_stride=64, p=700, context=1000, context_stride=64)
    return [*projections, isa.Attention(**fields | changes), isa.End()]


class TestQueues:
    REFILL, RAMP = isa.Refill(section=2), isa.Exit(k=8, n=2, counted=True, wait=1)
    SECTION = isa.Embed(width=32, row_bytes=48), isa.Norm(width=32, entries=32, dst_stride=32, signal=True)
    GATHER = isa.Gather(width=32, entries=32, signal=True)

    def test_a_program_with_one(self):
        """The section's tokens are the next product's, whatever it waits for."""
        program = isa.Table(), self.REFILL, *self.SECTION, GEMM_ALONE, self.GATHER, self.RAMP, isa.Loop(target=1)
        programs.check((*program, isa.End()))

    @pytest.mark.parametrize(
        "program, fault",
        [
            ((isa.Loop(target=0),), "Loop.target: 0 is no REFILL before instruction 0"),
            ((isa.Table(), isa.Loop(target=0)), "Loop.target: 0 is no REFILL"),
            ((REFILL, *SECTION, GATHER, isa.Loop(target=0)), "instruction 4: 1 tokens are out where other sentences"),
            ((REFILL, isa.Loop(target=0)), "instruction 1: stands in the section of a REFILL"),
            ((REFILL, REFILL), "instruction 1: stands in the section"),
        ],
        ids=str,
    )
    def test_programs_that_are_none(self, program, fault):
        with pytest.raises(isa.ProgramError, match=fault):
            programs.check((*program, isa.End()))


class TestGroups:
    """GEMMs flagged grouped, which fetch holds for the ATTENTION behind them."""

    def test_accepted(self):
        programs.check(tuple(group()))

    @pytest.mark.parametrize(
        "context", [{"context": 0}, {"context": 279}, {"context": 400}, {"context": 700}, {"context": 955}], ids=str
    )
    def test_a_context_over_what_is_still_read(self, context):
        """Over the operand of the projections, its last word, the queries, either slot of P."""
        with pytest.raises(
            isa.ProgramError, match="instruction 3: the context is written where projections and scores"
        ):
            programs.check(tuple(group(**context)))

    def test_a_context_right_behind(self):
        programs.check(tuple(group(context=956)))
        programs.check(tuple(group(context=280, context_stride=0)), row_blocks=1)

    @pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (0, 1), (0, 0, 1, 2)], ids=str)
    def test_other_projections(self, order):
        *gemms, attention, end = group()
        with pytest.raises(isa.ProgramError, match=f"instruction {len(order)}: "):
            programs.check((*(gemms[n] for n in order), attention, end))

    def test_something_between(self):
        *gemms, attention, end = group()
        with pytest.raises(isa.ProgramError, match="instruction 3: stands between grouped GEMMs and their ATTENTION"):
            programs.check((*gemms, isa.Rows(), attention, end))
        with pytest.raises(isa.ProgramError, match="instruction 3: stands between"):
            programs.check((*gemms, end))

    @pytest.mark.parametrize("change", [{"n": 32}, {"signal": True}, {"result_block": True}], ids=str)
    def test_a_projection_of_another_kind(self, change):
        gemms = group()
        gemms[0] = replace(gemms[0], **change)
        with pytest.raises(isa.ProgramError, match="instruction 3: a grouped GEMM before it is no projection to 64"):
            programs.check(tuple(gemms))

    def test_values_of_another_head_width(self):
        gemms = group()
        gemms[2] = replace(gemms[2], head_width=64)
        with pytest.raises(isa.ProgramError, match="are not its queries, keys and values"):
            programs.check(tuple(gemms))


def test_limits_and_opcodes_are_the_kernels():
    config = (ROOT / "kernels" / "config.hpp").read_text()
    values = {name: int(value) for name, value in re.findall(r"constexpr int (k\w+) = (\d+);", config)}
    assert values["kLanes"] == isa.LANES
    assert values["kRowBlocks"] == isa.MAX_ROW_BLOCKS
    assert values["kMaxWidth"] == isa.MAX_WIDTH
    assert values["kMaskChannels"] == isa.MASK_CHANNELS
    assert values["kMaxHeads"] == isa.MAX_HEADS
    assert values["kMaxLabels"] == isa.MAX_LABELS
    assert values["kMaxEntries"] == isa.MAX_ENTRIES
    assert values["kParameterWords"] == isa.MAX_NORM_ENTRIES
    assert values["kActivationWords"] == isa.ACTIVATION_WORDS
    assert values["kProgramVersion"] == isa.PROGRAM_VERSION
    assert values["kMaxLayers"] == isa.MAX_LAYERS
    assert values["kRecordWords"] == isa.RECORD_WORDS
    assert values["kInstructionBeats"] * isa.BEAT_BYTES == isa.INSTRUCTION_BYTES
    fetch = (ROOT / "kernels" / "fetch_state.hpp").read_text()
    opcodes = re.search(r"enum opcode \{([^}]*)\}", fetch)[1].replace("Op", "").split(",")
    assert [name.strip()[1:].lower() for name in opcodes[:-1]] == [k.__name__.lower() for k in isa.INSTRUCTIONS]


def assert_apart(tiles, freed):
    """Tiles (first word, words) each lie in the buffer, apart from those before that have not been freed."""
    live = []
    for (word, k), count in zip(tiles, freed, strict=True):
        assert count <= len(live)
        live = live[count:]
        assert word >= 0 and word + k <= isa.WEIGHT_WORDS
        assert all(word + k <= other or other + size <= word for other, size in live)
        live.append((word, k))
        assert len(live) <= isa.WEIGHT_TILES


@pytest.mark.parametrize("seed", range(20))
def test_the_weight_buffer_is_a_ring_of_tiles(seed):
    rng = np.random.default_rng(seed)
    widest = int(rng.choice([200, 1500, 4608]))
    sizes = rng.integers(1, widest + 1, 300).tolist()
    buffer = WeightBuffer()
    placed = [buffer.place(k) for k in sizes]
    assert_apart([(word, k) for (word, _), k in zip(placed, sizes, strict=True)], [freed for _, freed in placed])


def test_the_weight_buffer_frees_no_tile_that_need_not_go():
    buffer = WeightBuffer()
    assert [buffer.place(4608) for _ in range(4)] == [(0, 0), (4608, 0), (0, 1), (4608, 1)]
    buffer = WeightBuffer()
    assert [buffer.place(10) for _ in range(9)] == [*((10 * n, 0) for n in range(8)), (80, 1)]


def grouped(heads, width):
    """Queries, keys and values, held for their attention."""
    n = heads * width
    fields = dict(k=50, n=n, src_stride=50, grouped=True, head_width=width)
    return (
        isa.Gemm(dst=1000, dst_stride=n, **fields),
        isa.Gemm(destination=isa.TO_KEYS, **fields),
        isa.Gemm(destination=isa.TO_VALUES, **fields),
        isa.Attention(
            heads=heads, head_width=width, q=1000, q_stride=n, p=8000, context=9000, context_stride=n, signal=True
        ),
        isa.End(),
    )


def alone(heads, width):
    """The attention with nothing beside it."""
    return (replace(grouped(heads, width)[3], signal=False), isa.End())


class TestExpansion:
    @pytest.fixture(params=list(product(BOARDS, (1, 2, 3, 4), SHAPES)), ids=str)
    def compiled(self, request):
        board, blocks, shape = request.param
        compiled = plan(small_shape(**SHAPES[shape]), BOARDS[board], resident=shape == "resident")
        e = expand(compiled.instructions, blocks, BOARDS[board].columns, compiled.directories)
        return compiled, blocks, e

    def test_tokens_balance(self, compiled):
        _, _, e = compiled
        assert sum(c.push_weights_free for c in e.array) == sum(c.pop_weights_free for c in e.weights)
        assert sum(c.pop_weights_ready for c in e.array) == len(e.expand) == len(e.weights) - 1
        assert sum(c.push_parameters_free for c in e.vector) == sum(c.pop_parameters_free for c in e.load)
        assert sum(c.pop_parameters for c in e.vector) == len(e.load) - 1
        assert sum(c.push_data for c in e.vector) == sum(c.pop_data for c in e.array)
        assert sum(c.words for c in e.array) == sum(c.accumulators for c in e.vector)

    def test_slots_alternate(self, compiled):
        _, _, e = compiled
        assert [c.slot for c in e.load[:-1]] == [n % 2 for n in range(len(e.load) - 1)]

    def test_a_slot_is_reused_only_after_it_was_freed(self, compiled):
        """Two slots, two credits: the third load, and every later one, waits for one to come back."""
        _, _, e = compiled
        credits = [c.pop_parameters_free for c in e.load if c.kind is not Load.DRAIN]
        assert credits == [0, 0] + [1] * (len(credits) - 2)
        assert e.load[-1].pop_parameters_free == 2

    def test_tiles_lie_where_none_is_that_has_not_been_freed(self, compiled):
        _, _, e = compiled
        tiles = [(c.word, c.k) for c in e.expand]
        assert_apart(tiles, [c.pop_weights_free for c in e.weights[:-1]])
        reads = [(c.weights, c.k) for c in e.array if c.pop_weights_ready]
        assert reads == tiles  # each tile is read where it was written

    def test_weights_are_read_once_a_place(self, compiled):
        """Of the image once, but for shared ones: layer 1 reads those of layer 0 again; what is on chip not at all."""
        compiled_plan, _, e = compiled
        weights = {name: r.bytes for name, r in compiled_plan.regions.items() if name.endswith(".weight")}
        if any(matrix.resident is not None for matrix in compiled_plan.matrices.values()):
            assert all(c.source is Source.RESIDENT for c in e.weights if c.compressed)
            weights = {name: n for name, n in weights.items() if not name.startswith("layers.")}
        again = sum(n for name, n in weights.items() if name.startswith("layers."))
        shared = compiled_plan.shape.weights == (0, 0)
        assert sum(c.bytes for c in e.weights) == sum(weights.values()) + shared * again

    def test_gemm_goes_column_tiles_outer(self):
        gemm = isa.Gemm(k=40, n=200, src_stride=40, dst=1000, dst_stride=200, wait=1, signal=True)
        e = expand((gemm, isa.End()), 2, 128)
        assert [(c.words, c.pop_data, c.pop_weights_ready, c.push_weights_free) for c in e.array] == [
            (128, 1, True, False), (128, 1, False, True), (72, 0, True, False), (72, 0, False, True),
        ]  # fmt: skip
        assert [(c.row_block, c.push_data) for c in e.vector] == [(0, 0), (1, 0), (0, 1), (1, 1)]
        assert [c.beats for c in e.load if c.kind is Load.PARAMETERS] == [64, 36]

    def test_a_norm_runs_behind_the_last_tile_of_its_residual(self):
        """Row block by row block, its parameters loaded before; after another destination it stands alone."""
        gemm = isa.Gemm(k=40, n=200, src_stride=40, destination=isa.TO_RESIDUAL, residual_s=1, wait=1)
        norm = isa.Norm(width=200, entries=200, dst_stride=200, signal=True)
        joined = expand((gemm, norm, isa.End()), 2, 128)
        assert [(c.instruction, c.row_block, c.push_data) for c in joined.vector] == [
            (0, 0, 0), (0, 1, 0), (0, 0, 0), (1, 0, 1), (0, 1, 0), (1, 1, 1),
        ]  # fmt: skip
        assert [c.beats for c in joined.load if c.kind is Load.PARAMETERS] == [64, 36, 100]
        alone = expand((replace(gemm, destination=isa.TO_ACTIVATION), norm, isa.End()), 2, 128)
        assert [c.instruction for c in alone.vector] == [0, 0, 0, 0, 1, 1]

    def test_w8_tiles_are_half_as_wide_and_results_take_one_block(self):
        gemm = isa.Gemm(k=40, n=65, w8=True, result_block=True, destination=isa.TO_IO, dst=0x40)
        e = expand((gemm, isa.End()), 4, 128)
        assert [c.words for c in e.array] == [64, 1]
        assert [(c.words, c.wide, c.bytes) for c in e.store[:-1]] == [(64, True, 4096), (1, True, 64)]

    @pytest.mark.parametrize(("columns", "tiles"), [(128, [64, 64]), (192, [64, 64])])
    def test_attention_interleaves_scores_and_contexts(self, columns, tiles):
        e = expand((replace(ATTENTION, heads=2, wait=1), isa.End()), 4, columns)
        contexts = [c.operand_unsigned for c in e.array]
        scores = [False, False]
        # S(0), S(1), PV(0), S(2), ..., S(7), PV(6), PV(7)
        assert contexts == [*scores, *([*scores, True] * 7), True]
        assert [c.words for c in e.array[:2]] == tiles
        assert [(c.k, c.words) for c in e.array if c.operand_unsigned] == [(128, 32)] * 8
        pairs = [Vector.SCORES, Vector.CONTEXT] * 7
        assert [c.kind for c in e.vector] == [Vector.COPY_HEADS, Vector.SCORES, *pairs, Vector.CONTEXT]
        assert [c.beats for c in e.load] == [2 * 17, 0]  # the factors of all heads at once

    @pytest.mark.parametrize("row_blocks", [1, 2, 3, 4])
    def test_a_context_waits_for_the_scores_of_its_item(self, row_blocks):
        """In the order of the commands: when item n's context starts, n + 1 softmaxes have said that they are over."""
        for program in (alone(3, 32), grouped(10, 32)):
            e = expand(program, row_blocks, 128)
            pushes = [c.push_data for c in e.vector]
            scored = [sum(pushes[: i + 1]) for i, c in enumerate(e.vector) if c.kind is Vector.SCORES]
            popped, item = 0, 0
            for c in e.array:
                popped += c.pop_data
                if c.keys_values and c.operand_unsigned:
                    assert popped >= scored[item]
                    item += 1
            assert item == len(scored) > 0

    @pytest.mark.parametrize(("columns", "heads", "width"), [(128, 10, 32), (128, 5, 64), (192, 7, 32), (192, 6, 64)])
    @pytest.mark.parametrize("row_blocks", [1, 3, 4])
    def test_heads_run_beside_the_projections_of_the_next_tile(self, columns, heads, width, row_blocks):
        e = expand(grouped(heads, width), row_blocks, columns)
        tiles = -(-heads * width // columns)
        # Q, K and V of a column tile behind each other, then the next one's.
        order = [(c.instruction, c.words) for c in e.array if not c.keys_values]
        expected = [
            (i, min(columns, heads * width - ct * columns))
            for ct in range(tiles) for i in range(3) for _ in range(row_blocks)
        ]  # fmt: skip
        assert order == expected
        # A head's scores come after the three products of its tile, and all but the last tile's before the end of the
        # next one's.
        projections, heads_seen = 0, 0
        in_tile = columns // width
        for c in e.array:
            if not c.keys_values:
                projections += 1
            elif not c.operand_unsigned:
                heads_seen += 1
                item = (heads_seen - 1) // (-(-row_blocks // 2))
                tile = item // row_blocks // in_tile
                assert 3 * row_blocks * (tile + 1) <= projections
                assert projections <= 3 * row_blocks * min(tile + 2, tiles)
        items = heads * row_blocks
        assert heads_seen == items * -(-row_blocks // 2)
        # Scores and contexts in the vector unit's order are items, each once; never more than two without context.
        open_items, most = 0, 0
        for c in e.vector:
            open_items += (c.kind is Vector.SCORES) - (c.kind is Vector.CONTEXT)
            most = max(most, open_items)
        assert (open_items, most) == (0, min(2, items))
        kinds = Counter(c.kind for c in e.vector)
        assert kinds[Vector.SCORES] == kinds[Vector.CONTEXT] == items
        tokens = [c.push_data for c in e.vector if c.kind is Vector.CONTEXT]
        assert tokens == [0] * (items - 1) + [row_blocks]

    def test_zero_tiles_are_a_step_without_weights(self):
        gemm = isa.Gemm(k=40, n=300, src_stride=40, dst=1000, dst_stride=300, compressed=True, stored=30)
        e = expand((gemm, isa.End()), 2, 128, {0: (Tile(20), Tile(0), Tile(10))})
        assert [(c.k, c.zero, c.pop_weights_ready, c.push_weights_free) for c in e.array] == [
            (40, False, True, False), (40, False, False, True),
            (1, True, False, False), (1, True, False, False),
            (40, False, True, False), (40, False, False, True),
        ]  # fmt: skip
        assert [(c.source, c.beats, c.k, c.compressed, c.pieces) for c in e.weights[:-1]] == [
            (Source.MEMORY, 20, 40, True, 1), (Source.MEMORY, 10, 40, True, 1),
        ]  # fmt: skip
        assert sum(c.bytes for c in e.weights) == 4 * 30 * 16
        assert e.fetched_bytes == 2 * 64 + 3 * 16 and e.directory_tiles == {0: 3}

    def test_kept_tiles_are_read_from_the_chip(self):
        keep = isa.Keep(weights=64, n=300, stored=30, resident=100)
        gemm = isa.Gemm(
            weights=64,
            k=300,
            n=300,
            src_stride=300,
            dst=5000,
            dst_stride=300,
            compressed=True,
            resident=True,
            stored=100,
        )
        e = expand((keep, gemm, isa.End()), 1, 128, {64: (Tile(20), Tile(0), Tile(10))})
        assert [(c.source, c.beats, c.k, c.resident, c.bytes) for c in e.weights[:-1]] == [
            (Source.KEEP, 20, 0, 100, 1280), (Source.KEEP, 10, 0, 120, 640),
            (Source.RESIDENT, 20, 300, 100, 0), (Source.RESIDENT, 10, 300, 120, 0),
        ]  # fmt: skip
        assert len(e.expand) == 2

    @pytest.mark.parametrize("name", SHAPES)
    def test_traces_reach_store(self, name):
        shape = small_shape(**SHAPES[name])
        for blocks in (1, 4):
            traced = plan(shape, BOARDS["zcu102"], trace=True)
            e = expand(traced.instructions, blocks, 128, traced.directories)
            stored = sum(c.bytes for c in e.store)
            assert stored == sum(t.bytes(blocks) for t in traced.io.traces.values())

    def test_untraced_programs_store_the_logits_alone(self, compiled):
        compiled_plan, blocks, e = compiled
        answers = blocks if compiled_plan.shape.kind == "token" else 1
        assert sum(c.bytes for c in e.store) == answers * compiled_plan.shape.labels * 64
        assert e.store[-1].end
