# SPDX-License-Identifier: Apache-2.0
"""LUTs and registers of the array's RTL for any shape, from what yosys counts of its modules (array_area.json).

The RTL repeats a few modules: a group of three cells, the end of a row, the way of one pair's weights, the way of one
row's activations. Each is counted by itself (benchmarks/array_area.py) and taken as often as the RTL has it, so nothing
is assumed to shrink or to grow with the array. A whole slice is counted too; it must come to the same sum.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .instructions import BLOCK

COUNTS = Path(__file__).with_suffix(".json")
GROUP = 3  # columns that share a stop of the drain
ADDRESS = 6  # bits of the address of a row's waiting sums
LANE_BITS = 27


@dataclass(frozen=True)
class Area:
    """DSPs, LUTs and registers of a part of the array, `copies` of it in all, and what it scales with."""

    name: str
    dsp: float
    lut: float
    ff: float
    scales: str


@cache
def counts() -> dict:
    """The committed counts: `yosys`, `modules` {name: {dsp, lut, ff}}, `delay` (of one bit, by depth), `slice`."""
    return json.loads(COUNTS.read_text(encoding="utf-8"))


def delay(kind: str, depth: int) -> int:
    """LUTs or registers of one bit's delay; one beyond the counted depths takes a shift register of 32 more a LUT."""
    table = counts()["delay"][kind]
    more = max(0, -(-(depth - len(table) + 1) // 32))
    return table[depth - 32 * more] + (more if kind == "lut" else 0)


def array_area(rows: int, columns: int) -> tuple[Area, ...]:
    """The parts of an array of `rows` by `columns` (C, two to a DSP)."""
    pairs = columns // 2
    groups = -(-pairs // GROUP)
    column_skews = [j - j // GROUP for j in range(pairs)]
    lane_skews = range(rows)

    def repeated(name: str, modules: dict[str, int], scales: str) -> Area:
        of = counts()["modules"]
        return Area(name, *(sum(n * of[m][k] for m, n in modules.items()) for k in ("dsp", "lut", "ff")), scales)

    def delays(name: str, bits: int, depths, scales: str) -> Area:
        return Area(name, 0, *(bits * sum(delay(k, d) for d in depths) for k in ("lut", "ff")), scales)

    cells: dict[str, int] = {}
    for g in range(groups):
        size, kind = min(GROUP, pairs - GROUP * g), "odd" if g % 2 else "even"
        name = f"mac_group_{kind}" + (f"_{size}" if size < GROUP else "")
        cells[name] = cells.get(name, 0) + rows
    return (
        repeated("cells with their drain and choices", cells, "rows x columns / 3: a group of three cells"),
        Area("control from row to row", 0, 0, (rows - 1) * (2 * groups + 2), "rows x columns / 3: two bits a group"),
        delays("skew of activations", 8 * BLOCK, range(rows), "rows: shift registers as long as the row is late"),
        repeated("activations", {"activation_edge_4": rows, "activation_edge": (BLOCK - 1) * rows}, "rows"),
        repeated("activations that are zero", {"zero_flag": BLOCK * rows}, "rows"),
        delays("skew of weights", 9, column_skews, "columns: shift registers as long as the column is late"),
        delays("skew of choices", 2, column_skews[::2], "columns: likewise, for every second pair"),
        Area("choices, whether with sign", 0, 1, pairs + 1, "columns: a register"),
        repeated("weights to nibbles", {"nibbles": pairs}, "columns"),
        repeated("weights that are zero", {"weight_edge": pairs}, "columns"),
        repeated("ends of the rows", {"drain_lane": rows}, "rows: 64 waiting sums, borrow correction, w8 sum"),
        delays("rows brought together", LANE_BITS, lane_skews, "rows: shift registers of 27 bits"),
        Area("control of the rows' ends", 0, 0, (rows - 1) * (2 * ADDRESS + 4) + 3, "rows"),
        _control(pairs),
        _stream(rows),
    )  # fmt: skip


def _control(pairs: int) -> Area:
    """Linear in the columns: a pulse that walks along row 0, a bit and a comparison each."""
    few, many = (counts()["modules"][f"array_control_{n}"] for n in (12, 96))
    lut, ff = (few[k] + (many[k] - few[k]) * (pairs - 12) / (96 - 12) for k in ("lut", "ff"))
    return Area("commands, credit, addresses", 0, lut, ff, "once, and a pulse along the columns")


def _stream(rows: int) -> Area:
    """The output register of the stream is a word wide; its memory is block RAM (resources.py counts that)."""
    one, two = (counts()["modules"][f"word_fifo_{n}"] for n in (4, 8))
    lut, ff = (one[k] + (two[k] - one[k]) * (rows - 4) / 4 for k in ("lut", "ff"))
    return Area("accumulator stream", 0, lut, ff, "rows: a register of 27 bits")


def render(boards: dict[str, int]) -> str:
    """The table of docs/mac-array.md: LUTs and registers of each part, for the columns of each board."""
    areas = {name: array_area(32, columns) for name, columns in boards.items()}
    lines = [
        "| part | scales with | " + " | ".join(f"{name}: LUT, FF" for name in boards) + " |",
        "|---|---|" + "---|" * len(boards),
    ]
    for parts in zip(*areas.values(), strict=True):
        figures = " | ".join(f"{part.lut:,.0f}, {part.ff:,.0f}" for part in parts)
        lines.append(f"| {parts[0].name} | {parts[0].scales} | {figures} |")
    sums = (f"{sum(p.lut for p in parts):,.0f}, {sum(p.ff for p in parts):,.0f}" for parts in areas.values())
    lines.append("| all | | " + " | ".join(sums) + " |")
    return "\n".join(lines) + "\n"
