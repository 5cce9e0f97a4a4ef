# SPDX-License-Identifier: Apache-2.0
"""Samples of Vivado's reports: the vendor's format of 2024.2, figures made up. None comes from a run of the tool."""

from pathlib import Path

HEADER = """Copyright 1986-2022 Xilinx, Inc. All Rights Reserved. Copyright 2022-2024 Advanced Micro Devices, Inc. \
All Rights Reserved.
---------------------------------------------------------------------------------------------------------------------
| Tool Version      : Vivado v.2024.2 (lin64) Build 5239630 Fri Nov 08 22:34:34 MST 2024
| Date              : Wed Jan 01 00:00:00 2025
| Host              : workstation running 64-bit Ubuntu 22.04.5 LTS
| Command           : {command}
| Design            : zynqbert_wrapper
| Device            : {device}
| Speed File        : -2  PRODUCTION 1.30 05-15-2022
| Design State      : Physopt postRoute
---------------------------------------------------------------------------------------------------------------------

"""

CHECKS = (
    "no_clock", "constant_clock", "pulse_width_clock", "unconstrained_internal_endpoints", "no_input_delay",
    "no_output_delay", "multiple_clock", "generated_clocks", "loops", "partial_input_delay", "partial_output_delay",
    "latch_loops",
)  # fmt: skip

RULE = "-" * 96
COLUMNS = (
    "    WNS(ns)      TNS(ns)  TNS Failing Endpoints  TNS Total Endpoints      WHS(ns)      THS(ns)  "
    "THS Failing Endpoints  THS Total Endpoints     WPWS(ns)     TPWS(ns)  TPWS Failing Endpoints  "
    "TPWS Total Endpoints  "
)
DASHES = (
    "    -------      -------  ---------------------  -------------------      -------      -------  "
    "---------------------  -------------------     --------     --------  ----------------------  "
    "--------------------  "
)

# Figures that meet timing.
MET = {
    "wns": 0.021, "tns": 0.0, "setup_failing": 0, "whs": 0.010, "ths": 0.0, "hold_failing": 0,
    "wpws": 0.550, "tpws": 0.0, "pulse_failing": 0, "no_clock": 0,
}  # fmt: skip


def timing_summary(**figures: float) -> str:
    """report_timing_summary; `figures` replace those of MET."""
    f = MET | figures
    counts = dict.fromkeys(CHECKS, 0) | {"no_clock": f["no_clock"], "multiple_clock": 812_004}
    titles = [f"{n}. checking {check} ({counts[check]})" for n, check in enumerate(CHECKS, 1)]
    row = (
        f"{f['wns']:11.3f}{f['tns']:13.3f}{f['setup_failing']:23d}{1_203_551:21d}"
        f"{f['whs']:13.3f}{f['ths']:13.3f}{f['hold_failing']:23d}{1_203_551:21d}"
        f"{f['wpws']:13.3f}{f['tpws']:13.3f}{f['pulse_failing']:24d}{406_002:22d}  "
    )
    met = f["wns"] >= 0 and f["whs"] >= 0 and f["wpws"] >= 0
    parts = [
        HEADER.format(command="report_timing_summary -max_paths 10 -report_unconstrained", device="xczu9eg-ffvb1156"),
        "Timing Summary Report\n\n",
        _title("Timer Settings"),
        "  Enable Multi Corner Analysis               :  Yes\n  Enable Pessimism Removal                   :  Yes\n\n",
        "  Corner  Analyze    Analyze    \n  Name    Max Paths  Min Paths  \n  ------  ---------  ---------  \n",
        "  Slow    Yes        Yes        \n  Fast    Yes        Yes        \n\n\n",
        "check_timing report\n\nTable of Contents\n-----------------\n",
        "\n".join(titles) + "\n\n",
        *(f"{title}\n{'-' * len(title)}\n\n\n" for title in titles),
        _title("Design Timing Summary"),
        f"{COLUMNS}\n{DASHES}\n{row}\n\n\n",
        "All user specified timing constraints are met.\n" if met else "Timing constraints are not met.\n",
        "\n\n",
        _title("Clock Summary"),
        "Clock                      Waveform(ns)         Period(ns)      Frequency(MHz)\n",
        "-----                      ------------         ----------      --------------\n",
        "clk_pl_0                   {0.000 5.000}        10.000          100.000         \n",
        "  clk_out1_zynqbert        {0.000 1.667}        3.333           300.000         \n\n\n",
        _title("Intra Clock Table"),
        f"Clock                  {COLUMNS}\n-----                  {DASHES}\n",
        f"clk_pl_0               {row.replace('-', ' ')}\n\n\n",
    ]
    return "".join(parts)


def _title(name: str) -> str:
    return f"{RULE}\n| {name}\n| {'-' * len(name)}\n{RULE}\n\n"


# (used, available) of the samples.
USED = {
    "CLB LUTs": (197_001, 274_080), "CLB Registers": (240_812, 548_160), "Block RAM Tile": (633.5, 912),
    "URAM": (0, 0), "DSPs": (2_190, 2_520),
}  # fmt: skip


def utilization(**rows: tuple[float, float] | None) -> str:
    """report_utilization; `rows` (lut, ff, bram36, uram, dsp) replace those of USED, None leaves the row out."""
    names = dict(zip(("lut", "ff", "bram36", "uram", "dsp"), USED, strict=True))
    used: dict[str, tuple[float, float] | None] = dict(USED)
    used.update({names[key]: value for key, value in rows.items()})
    parts = [
        HEADER.format(command="report_utilization -file utilization.rpt", device="xczu9eg-ffvb1156-2-e"),
        "Utilization Design Information\n\nTable of Contents\n-----------------\n1. CLB Logic\n"
        "1.1 Summary of Registers by Type\n2. CLB Logic Distribution\n3. BLOCKRAM\n4. ARITHMETIC\n\n",
        _table("1. CLB Logic", [("CLB LUTs", used), ("  LUT as Logic", (180_112, 274_080)), ("CLB Registers", used)]),
        _table("2. CLB Logic Distribution", [("CLB", (33_012, 34_260)), ("  CLBL", (17_002, 0))]),
        _table("3. BLOCKRAM", [("Block RAM Tile", used), ("  RAMB36/FIFO*", (633, 912)), ("URAM", used)]),
        _table("4. ARITHMETIC", [("DSPs", used), ("  DSP48E2 only", (2_190, 0))]),
    ]
    return "".join(parts)


def _table(title: str, rows: list) -> str:
    rule = f"+{'-' * 28}+{'-' * 8}+{'-' * 7}+{'-' * 12}+{'-' * 11}+{'-' * 7}+"
    lines = [title, "-" * len(title), "", rule]
    lines += [f"|{'Site Type':^28}|{'Used':^8}|{'Fixed':^7}|{'Prohibited':^12}|{'Available':^11}|{'Util%':^7}|", rule]
    for name, figures in rows:
        if isinstance(figures, dict):
            figures = figures[name]
        if figures is None:
            continue
        used, available = figures
        share = f"{100 * used / available:.2f}" if available else "0.00" if name == "URAM" else ""
        shown = f"{available}" if available or name == "URAM" else ""
        lines.append(f"| {name:<27}|{used:>7} |{0:>6} |{0:>11} |{shown:>10} |{share:>6} |")
    return "\n".join([*lines, rule, "", ""])


def write_reports(folder: Path, **figures: float) -> None:
    """The samples where the stub of Vivado finds them, and stats.txt: the figures that a run has as properties."""
    f = MET | figures
    (folder / "timing_summary.rpt").write_text(timing_summary(**figures))
    (folder / "utilization.rpt").write_text(utilization())
    stats = {"WNS": f["wns"], "TNS": f["tns"], "WHS": f["whs"], "THS": f["ths"], "TPWS": f["tpws"]}
    (folder / "stats.txt").write_text(" ".join(f"{name} {value:.3f}" for name, value in stats.items()))
