# SPDX-License-Identifier: Apache-2.0
"""The register table: sound in itself, and docs/registers.md is what it renders to."""

import itertools
from pathlib import Path

import pytest
from zynqbert.fpga import registers
from zynqbert.fpga.boards import BOARDS, board_named
from zynqbert.fpga.simulator import ROOT

TABLES = {"engine": registers.ENGINE, "clock_wizard": registers.CLOCK_WIZARD}


def test_document_is_rendered_from_the_table():
    document = Path(__file__).parents[2] / "docs" / "registers.md"
    assert document.read_text(encoding="utf-8") == registers.render(), (
        "stale: python -m zynqbert.fpga.registers > docs/registers.md"
    )


@pytest.mark.parametrize("table", TABLES)
def test_registers_are_words_that_do_not_overlap(table):
    words = [r.offset + at for r in TABLES[table] for at in range(0, r.width // 8, 4)]
    assert len(set(words)) == len(words)
    assert all(word % 4 == 0 and 0 <= word < registers.RANGE for word in words)
    assert len({r.name for r in TABLES[table]}) == len(TABLES[table])
    assert {r.width for r in TABLES[table]} <= {32, 64}


def test_blocks_do_not_overlap():
    places = sorted(block.base for block in registers.BLOCKS)
    assert all(after - before >= registers.RANGE for before, after in itertools.pairwise(places))
    assert len({block.cell for block in registers.BLOCKS}) == len({block.vlnv for block in registers.BLOCKS}) == 3


def test_verilog_has_the_table():
    text = (ROOT / "rtl" / "registers.vh").read_text()
    assert text == registers.render_verilog()
    assert "REG_CLOCK_STATUS = 8'h84;" in text


def test_wizard_has_the_vendors_offsets():
    offsets = {r.name: r.offset for r in registers.CLOCK_WIZARD}
    assert offsets == {
        "RESET": 0x000, "STATUS": 0x004, "CONFIG0": 0x200, "CLKOUT0": 0x208,
        "CLKOUT1": 0x214, "CLKOUT2": 0x220, "CLKOUT3": 0x22C, "LOAD": 0x25C,
    }  # fmt: skip


def test_ids_tell_boards_apart():
    assert registers.engine_id(128) == 0x7_FF20_5A51_0480
    assert registers.engine_id(192, ("plain_norm",)) == 0x0220_5A51_04C0
    assert len({registers.engine_id(board.columns) for board in BOARDS.values()}) == len(BOARDS)


def test_boards_are_found_by_name():
    assert board_named("ZCU102").columns == 128
    assert board_named("zcu111").peak_macs_per_cycle == 32 * 192
    assert (board_named("zcu111").ports, board_named("zcu111").groups) == (6, 3)
    with pytest.raises(ValueError, match="'zcu104' is none of zcu102, zcu111"):
        board_named("zcu104")
