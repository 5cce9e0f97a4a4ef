# SPDX-License-Identifier: Apache-2.0
"""The register table: sound in itself, and docs/registers.md is what it renders to."""

from pathlib import Path

import pytest
from zynqbert.fpga import registers
from zynqbert.fpga.boards import BOARDS, board_named

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


def test_the_word_after_an_argument_is_left_to_vitis():
    """HLS puts a validity flag after each output and leaves a gap after each 64-bit input."""
    words = {r.offset + at for r in registers.ENGINE for at in range(0, r.width // 8, 4)}
    for register in registers.ENGINE:
        if register.offset >= 0x10:
            assert register.offset + register.width // 8 not in words, register.name


def test_wizard_has_the_vendors_offsets():
    offsets = {r.name: r.offset for r in registers.CLOCK_WIZARD}
    assert offsets == {"RESET": 0x000, "STATUS": 0x004, "CONFIG0": 0x200, "CONFIG2": 0x208, "LOAD": 0x25C}


def test_ids_tell_boards_apart():
    assert registers.engine_id(128) == 0x5A510280
    assert len({registers.engine_id(board.columns) for board in BOARDS.values()}) == len(BOARDS)


def test_boards_are_found_by_name():
    assert board_named("ZCU102").columns == 128
    assert board_named("zcu111").peak_macs_per_cycle == 32 * 192
    assert (board_named("zcu111").ports, board_named("zcu111").groups) == (6, 3)
    with pytest.raises(ValueError, match="'zcu104' is none of zcu102, zcu111"):
        board_named("zcu104")
