# SPDX-License-Identifier: Apache-2.0
"""docs/roofline.md and docs/roofline.svg: where the cycles go, the roofline, published designs, broken assumptions.

    python benchmarks/roofline.py

Run again where the models of cycles, resources or power, or the published rows, have changed; a test holds the document
against them. The picture is that of `zynqbert estimate --model bert-base --board zcu102 --plot docs/roofline.svg`.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.cycle_account import CAUSES
from zynqbert.fpga.cycles import UNITS
from zynqbert.fpga.rivals import RIVALS
from zynqbert.fpga.sensitivity import Row, sensitivity
from zynqbert.host.compiler import Plan, plan
from zynqbert.host.estimate import estimate
from zynqbert.host.model_shape import ModelShape
from zynqbert.host.roofline import add_roofline, parts_json, parts_of_pass
from zynqbert.host.roofline_plot import draw
from zynqbert.host.roofline_text import DESIGN_HEAD, design_rows, numbers, over_layers

ROOT = Path(__file__).resolve().parents[1]
SHAPE = ModelShape.named("bert-base")
CLOCK_MHZ = 250
LENGTHS = (32, 128)


@cache
def planned(board: str) -> Plan:
    """BERT-base on a board."""
    return plan(SHAPE, BOARDS[board])


@cache
def figures(board: str) -> dict[str, Any]:
    """The estimate of BERT-base at 128 tokens with its parts and its roofline."""
    found = estimate(SHAPE, BOARDS[board], 128, CLOCK_MHZ)
    add_roofline(found, SHAPE)
    return found


@cache
def broken(board: str, tokens: int) -> dict[str, Row]:
    """The headline and each break of it, by name."""
    compiled = planned(board)
    rows = sensitivity(
        lambda mhz, model: compiled.simulate(tokens // 32, mhz, model),
        compiled.board,
        CLOCK_MHZ,
        SHAPE.dense_macs(tokens),
    )
    return {row.name: row for row in rows}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """A table in Markdown; the first `left` columns are text, the others numbers."""
    marks = ["---"] * left + ["---:"] * (len(head) - left)
    return [f"| {' | '.join(row)} |" for row in (head, marks, *rows)] + [""]


def causes() -> list[str]:
    """Shares of a pass by what bound them, for both boards and two lengths."""
    rows = []
    for board in BOARDS:
        for tokens in LENGTHS:
            total: Counter[str] = Counter()
            for part in parts_of_pass(planned(board), tokens // 32, CLOCK_MHZ):
                total.update(part.bound)
            shares = (f"{total[cause] / sum(total.values()):.2%}" for cause in CAUSES)
            rows.append((board.upper(), str(tokens), f"{sum(total.values()):,}", *shares))
    return table(("board", "tokens", "cycles", *CAUSES), rows)


def parts(board: str, tokens: int) -> list[str]:
    """What each part costs, all layers together, and how long each unit works for it, in thousand cycles."""
    rows = []
    for row in over_layers(parts_json(parts_of_pass(planned(board), tokens // 32, CLOCK_MHZ))):
        bound = ", ".join(f"{cause} {cycles / 1e3:.1f}" for cause, cycles in row["bound"].items() if cycles >= 50)
        busy = (f"{row['busy'].get(unit, 0) / 1e3:.1f}" for unit in UNITS)
        rows.append((row["part"], bound, f"{row['cycles'] / 1e3:.1f}", f"{row['share']:.1%}", *busy))
    return table(("part", "bound by", "cycles", "share", *(f"{unit} works" for unit in UNITS)), rows, left=2)


def points() -> list[str]:
    """Sentences below the roof of each board."""
    rows = []
    for board in BOARDS:
        for point in figures(board)["extra"]["roofline"]["points"]:
            reached = point["gops"] / point["attainable"]
            numbers_of = f"{point['intensity']:.0f}", f"{point['gops']:.0f}", f"{point['attainable']:.0f}"
            rows.append((board.upper(), str(point["tokens"]), *numbers_of, f"{reached:.1%}"))
    return table(("board", "tokens", "operations a byte", "GOPS", "attainable GOPS", "reached"), rows)


def designs() -> list[str]:
    """Ours on both boards and the published ones."""
    ours = [design_rows(figures(board))[0] for board in BOARDS]
    return table(DESIGN_HEAD, [*ours, *design_rows(figures("zcu102"))[1:]], left=5)


def sources() -> list[str]:
    return [*(f"- {rival.name}: {rival.source}." for rival in RIVALS), ""]


def sensitivities() -> list[str]:
    """Both boards at 128 tokens, and the latency of 32."""
    rows = []
    for name, row in broken("zcu102", 128).items():
        cells = []
        for board in BOARDS:
            of = broken(board, 128)[name]
            cells += [f"{of.latency_ms:.2f} ({of.latency_ms_ratio:.3f})", f"{of.mac_utilization:.1%}"]
            cells.append(f"{of.fps_per_w:.2f} ({of.fps_per_w_ratio:.2f})")
        short = (broken(board, 32)[name] for board in BOARDS)
        cells += [f"{of.latency_ms:.2f} ({of.latency_ms_ratio:.3f})" for of in short]
        rows.append((name, numbers(row.assumptions), *cells))
    heads = [f"{board.upper()} {what}" for board in BOARDS for what in ("ms", "of the array", "fps/W")]
    heads += [f"{board.upper()} ms, 32 tokens" for board in BOARDS]
    return table(("broken", "assumptions", *heads), rows, left=2)


def ratio(name: str, tokens: int) -> str:
    """How many times longer a pass takes, on ZCU102 and on ZCU111."""
    return " and ".join(f"{broken(board, tokens)[name].latency_ms_ratio:.2f}" for board in BOARDS)


def efficiency(name: str, tokens: int) -> str:
    """How many times the headline's fps/W, on ZCU102 and on ZCU111."""
    return " and ".join(f"{broken(board, tokens)[name].fps_per_w_ratio:.2f}" for board in BOARDS)


def render() -> str:
    """The document's text."""
    roofs: Mapping[str, Any] = {board: figures(board)["extra"]["roofline"]["roof"] for board in BOARDS}
    peaks = " and ".join(f"{roofs[board]['peak_gops']:.0f}" for board in BOARDS)
    fq_bert = next(rival.intensity for rival in RIVALS if rival.name.startswith("FQ-BERT"))
    ridges = " and ".join(f"{roofs[board]['ridge']:.0f}" for board in BOARDS)
    text = f"""# Roofline

Generated: `python benchmarks/roofline.py`. Every figure of ours is **modelled**; published ones are their papers'.

    zynqbert estimate --model bert-base --board zcu102 --plot docs/roofline.svg
    zynqbert estimate --model bert-base --sensitivity

draw the picture (`.svg` or `.png`, by the name's end) and print the last table below. With `--json` the same figures
are under `extra`: `parts` and `roofline` with `--plot`, `sensitivity` with `--sensitivity`. Everything on this page is
BERT-base at {CLOCK_MHZ} MHz, 128 tokens where nothing else is said.

![cycles by what bound them, roofline, published designs](roofline.svg)

## Where the cycles go

The cycle model notes when each unit works and what it waits for; that changes no cycle. Each cycle of a pass then goes
to one part of the model and to what bound it, so that they add up to the pass:

{chr(10).join(f"- **{cause}**: {what}." for cause, what in CAUSES.items())}

A cycle in which the array multiplies is the array's, whatever else works. Another one goes to what the array waits for;
of several things that a tile waits for, to the one that came last. Where the array waits for the vector unit, it goes
to what that does meanwhile, or waits for in turn. A part that costs nothing, such as the norms of long sentences, is
hidden behind the array's work.

{chr(10).join(causes())}
The array's share is not its utilization: idle columns, padded rows, and products with 8-bit weights, which take two
cells each, count as work here.

ZCU102, 128 tokens, all layers together, in thousand cycles; at the right how long each unit works for a part, whenever
that is:

{chr(10).join(parts("zcu102", 128))}
ZCU111, 32 tokens:

{chr(10).join(parts("zcu111", 32))}
## Roofline

The roof of ZCU102 and ZCU111 is {peaks} GOPS, every multiplier busy in every cycle, and what the DDR brings:
{roofs["zcu102"]["ddr_gb_s"]:.1f} GB/s, the assumed share of its peak, or what the weight ports take where that is less.
From {ridges} operations a byte on, the array binds. Operations are those of the dense model, two a product; bytes are
all that a pass moves, weights, parameters, embedding rows and program. Products with 8-bit weights (attention, pooler,
classifier) reach half the peak, which the roof leaves out. So does what blocks of zeros and spans spare the array: it
counts as done, and may lift a pruned model above the roof (`--pattern blocks`; `work_spared` says how much it is).

{chr(10).join(points())}
16 tokens fill half of a row block, and take as long as 32.

In the picture a published design is a square where its traffic follows from what is published, and a dashed line, of
GOPS alone, where it does not. FQ-BERT's {fq_bert:.0f} operations a byte are at most: each 4-bit weight read once a
pass, and nothing else. Each design has a roof of its own, its board's, which is not drawn.

{chr(10).join(designs())}
`*`: derived from published figures. `–`: not published. Rows differ in model, length, precision and board; binary
designs count one-bit operations. fps/W compare only where model and length are the same: FQ-BERT's, the CPU's and the
GPU's. Sources ([P] read, [D] derived, [U] not told):

{chr(10).join(sources())}
The rows are data in `fpga/rivals.py`; derived figures are computed there, not typed.

## Sensitivity

Each row breaks an assumption of [assumptions.md](assumptions.md) in the cycle model, or takes an end of the power
model's range, and simulates the pass again. In brackets: the ratio to the headline.

{chr(10).join(sensitivities())}
- Every loop at II = 2 halves the array's rate, and with it everything. The array is RTL, its rate confirmed to the
  cycle under Verilator; the loops that a synthesis report can still miss are the vector unit's, at whose II = 2 a pass
  takes {ratio("vector unit's loops at II = 2", 128)} times as long.
- With DDR at 8 GB/s a pass takes {ratio("DDR at 8 GB/s", 128)} times as long at 128 tokens, where weights come ahead of
  the array, and {ratio("DDR at 8 GB/s", 32)} times at 32, where they bind.
- No overlap is the same commands one after the other, simulated: none begins while one of another unit runs. Of a tile
  the array multiplies first and drains then; the vector unit begins a command when all of its sums are there, so that
  they leave the array and are read one after the other. Only fetch runs ahead. It is more than the sum of the units'
  busy cycles by these drains and by the start of each command.
- The four together cost less than the product of the single ones: at a slower clock the DDR brings more a cycle, and
  what comes one after the other does not all take twice as long at II = 2.
- A slower clock costs energy at 128 tokens too: PS and static power last longer. At 32 tokens, where weights bind, it
  does not: fps/W are {efficiency("200 MHz", 32)} times the headline's. Without overlap the engine draws fewer watts,
  but for longer.

A clock of 200 MHz or less is broken to four fifths of itself.
"""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def main() -> int:
    (ROOT / "docs" / "roofline.md").write_text(render(), encoding="utf-8")
    draw(figures("zcu102"), ROOT / "docs" / "roofline.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
