# SPDX-License-Identifier: Apache-2.0
"""The resource model: shapes of memories and multipliers counted by hand, limits as in the kernels, budgets."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.resources import (
    BUDGET,
    KEY_VALUE_WORDS,
    SLOTS,
    Memory,
    Product,
    logic,
    memories,
    products,
    resources,
)

KERNELS = Path(__file__).parents[2] / "fpga" / "kernels"


@pytest.fixture(params=list(BOARDS))
def board(request):
    return BOARDS[request.param]


@pytest.mark.parametrize(
    ("words", "bits", "bram36"),
    [(512, 72, 1), (513, 72, 2), (1024, 36, 1), (2048, 18, 1), (4096, 9, 1), (9216, 512, 135), (24576, 256, 174)],
)
def test_bram36_of_a_memory_that_works_a_row_at_a_time(words, bits, bram36):
    assert Memory("m", words, bits, "array", row_enabled=True).bram36 == bram36
    assert Memory("m", words, bits, "array", copies=3, row_enabled=True).bram36 == 3 * bram36


@pytest.mark.parametrize(
    ("words", "bits", "copies", "bram36"),
    [
        (512, 36, 1, 1),
        (512, 36, 3, 2),  # halves
        (1024, 512, 4, 58),  # 14 times 36 bits of two halves each, and 8 bits of one
        (11264, 512, 1, 157),  # 14 times 36 bits of 22 halves, and 8 bits of 6
        (24576, 256, 1, 171),
    ],
)
def test_bram36_of_other_memories(words, bits, copies, bram36):
    """Columns of the best shape, the last of another, counted in halves."""
    assert Memory("m", words, bits, "vector", copies=copies).bram36 == bram36


def test_no_memory_takes_less_than_its_bits(board):
    for m in memories(board):
        assert m.bram36 * 36 * 1024 >= m.copies * m.words * m.bits, m.name
        assert m.uram * 288 * 1024 >= m.copies * m.words * m.bits, m.name


@pytest.mark.parametrize(
    ("a", "b", "dsp"), [(27, 18, 1), (27, 17, 1), (17, 17, 1), (28, 18, 2), (27, 27, 2), (35, 17, 2), (41, 11, 2)]
)
def test_dsps_of_a_product(a, b, dsp):
    assert Product("vector", "x", a, b, 1).dsp == Product("vector", "x", b, a, 1).dsp == dsp


def test_luts_of_a_product():
    # 8 by 8: 4 chains of 9, 3 adders of 11; 16 by 16: 8 chains of 17, 7 adders of 19.
    assert Product("vector", "x", 8, 8, 1).lut == 4 * 9 + 3 * 11
    assert Product("vector", "x", 16, 16, 1).lut == 8 * 17 + 7 * 19


def test_eight_bit_mantissas_stay_out_of_the_dsps():
    fabric = {p.source for p in products() if p.in_fabric}
    assert {"Q7 z·γ", "Q9 y·m", "Q6 q·m"} <= fabric
    assert not {"Q17 acc·r", "Q7 D·r", "Q7 S²"} & fabric


def test_products_bound_to_dsps_are_the_kernels():
    """What bind_op puts there although it is narrow enough for LUTs."""
    bound = {p.source for p in products() if p.bound}
    assert bound == {"Q2, one requantizer for every loop", "Q7 N·x"}
    text = "".join((KERNELS / name).read_text() for name in ("round.hpp", "layer_norm.hpp"))
    assert set(re.findall(r"BIND_OP variable = (\w+) op = mul impl = dsp", text)) == {"product", "whole"}


def test_dsps_by_hand(board):
    # Per lane: two squares, acc·r and D·r, the requantizer and N·x; once: 2 + 2 + 1 + 1 + 2 of layer norm,
    # 1 + 2 + 2 + 1 of off-ramps, 2 + 4 of addresses.
    assert resources(board).dsp == 32 * board.columns // 2 + 6 * 32 + 8 + 6 + 6


def test_limits_are_the_kernels():
    text = "".join((KERNELS / name).read_text() for name in ("config.hpp", "load.hpp"))
    known = {"kKeyWords": "2 * kMaxWidth", "kEmbeddingBeats": "kMaxWidth / 16", "kSlots": str(SLOTS)}
    for name, expected in known.items():
        assert re.search(rf"constexpr int {name} = ([^;]+);", text)[1] == expected
    assert re.search(r"kKeyValueWords = ([^;]+);", text)[1] == "kKeyWords + kMaxHeads * kRows"
    assert KEY_VALUE_WORDS == 2 * isa.MAX_WIDTH + isa.MAX_HEADS * isa.MAX_ROWS
    assert re.search(r"kEmbeddingWords = ([^;]+);", text)[1] == "kEmbeddingBeats + 1"
    assert isa.EMBEDDING_BEATS == isa.MAX_WIDTH // 16 + 1


def test_deep_memories_go_to_uram_where_there_is_some():
    small, large = resources(BOARDS["zcu102"]), resources(BOARDS["zcu111"])
    assert small.uram == 0
    assert 0 < large.uram <= BOARDS["zcu111"].uram
    without = resources(replace(BOARDS["zcu111"], uram=0))
    assert without.bram36 == large.bram36 - 22 + 621  # resident weights, 29,696 words of 768 bits
    assert without.bram36 > small.bram36


def test_parts_sum(board):
    used = resources(board)
    assert used.bram36 == sum(used.bram36_by_unit.values())
    assert used.lut == pytest.approx(sum(used.lut_by_unit.values()), abs=len(used.lut_by_unit))
    assert all(part.why for part in logic(board))


def test_dsp_and_bram_are_within_budget(board):
    used = resources(board)
    assert used.shares["dsp"] <= BUDGET["dsp"]
    assert used.shares["bram36"] <= BUDGET["bram36"]
    assert used.shares["ff"] <= 0.8
    assert used.shares["lut"] < 1


def test_over_budget_names_the_resource(board):
    tight = replace(board, dsp=resources(board).dsp)
    assert any(line.startswith("dsp: 100.0%") for line in resources(tight).over_budget())


@pytest.mark.parametrize("name", BOARDS)
def test_luts_are_within_budget(name):
    assert resources(BOARDS[name]).over_budget() == []
