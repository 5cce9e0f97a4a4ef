# SPDX-License-Identifier: Apache-2.0
"""The boards the engine is built for. One bitstream differs from another by `columns` and the part alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Board:
    """One board: its part, the array built on it, and what the part offers."""

    name: str
    part: str
    columns: int  # C: columns of the array in w4 mode, two to a DSP48E2
    dsp: int
    bram36: int
    uram: int
    lut: int
    ff: int
    clocks: tuple[int, ...]  # engine clocks in MHz, the design's plan first
    board_part: str = ""  # the vendor's board files, of any version; they bring the PS's settings (DDR, MIO)
    weight_ports: tuple[str, ...] = ()  # ports of the PS that bring weights, one to each of load's
    shared_port: str = ""  # the port of the PS that fetch and store share
    resident_words: int = 0  # of weights that stay on chip, a beat of every weight port each (kResidentWords)

    @property
    def groups(self) -> int:
        """G: column groups of 32 in w8 mode."""
        return self.columns // 64

    @property
    def ports(self) -> int:
        """128-bit AXI ports that bring weights."""
        return self.columns // 32

    @property
    def clock_mhz(self) -> int:
        """The engine clock unless another is asked for."""
        return self.clocks[0]

    @property
    def peak_macs_per_cycle(self) -> int:
        """MACs a cycle in w4 mode: 32 rows times C columns."""
        return 32 * self.columns


BOARDS = {
    board.name: board
    for board in (
        Board(
            "zcu102", "xczu9eg-ffvb1156-2-e", 128, 2520, 912, 0, 274_080, 548_160, (250, 300, 200, 150, 100),
            "xilinx.com:zcu102:part0", ("HP0", "HP1", "HP2", "HP3"), "HPC0", 11264,
        ),
        Board(
            "zcu111", "xczu28dr-ffvg1517-2-e", 192, 4272, 1080, 80, 425_280, 850_560, (250, 300, 200, 150, 100),
            "xilinx.com:zcu111:part0", ("HP0", "HP1", "HP2", "HP3", "HPC0", "HPC1"), "LPD", 29696,
        ),
    )
}  # fmt: skip


def board_named(name: str) -> Board:
    """The board called `name`, in any case; ValueError names those there are."""
    try:
        return BOARDS[name.lower()]
    except KeyError:
        raise ValueError(f"board {name!r} is none of {', '.join(BOARDS)}") from None
