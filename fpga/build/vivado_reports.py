# SPDX-License-Identifier: Apache-2.0
"""Read the text reports of Vivado: report_timing_summary and report_utilization."""

from __future__ import annotations

import math
import re
from pathlib import Path

from ..manifest import Timing, Use, Utilization

_TIMING_COLUMNS = {
    "wns_ns": "WNS(ns)",
    "tns_ns": "TNS(ns)",
    "setup_failing": "TNS Failing Endpoints",
    "whs_ns": "WHS(ns)",
    "ths_ns": "THS(ns)",
    "hold_failing": "THS Failing Endpoints",
    "wpws_ns": "WPWS(ns)",
    "tpws_ns": "TPWS(ns)",
    "pulse_failing": "TPWS Failing Endpoints",
}
_UTILIZATION_ROWS = {
    "lut": "CLB LUTs",
    "ff": "CLB Registers",
    "bram36": "Block RAM Tile",
    "uram": "URAM",
    "dsp": "DSPs",
}


class VivadoReportError(ValueError):
    """A report lacks a figure; the message names the file and what is missing."""


def read_timing(path: Path) -> Timing:
    """The design's figures of a report_timing_summary. VivadoReportError where one is not there, or no number."""
    text = _read(path)
    # The tables per clock further on have the same columns.
    section = text.partition("| Design Timing Summary")[2].partition("\n| Clock Summary")[0]
    lines = [line for line in section.splitlines() if line.strip()]
    at = next((n for n, line in enumerate(lines) if "WNS(ns)" in line), None)
    if at is None or at + 2 >= len(lines):
        raise VivadoReportError(f"{path}: has no Design Timing Summary")
    columns = re.split(r"\s{2,}", lines[at].strip())
    values = dict(zip(columns, lines[at + 2].split(), strict=False))
    found: dict[str, float] = {}
    for name, column in _TIMING_COLUMNS.items():
        if column not in values:
            raise VivadoReportError(f"{path}: Design Timing Summary has no {column}")
        found[name] = _number(values[column], path, column)
    checked = re.search(r"^\d+\. checking no_clock \((\d+)\)", text, flags=re.M)
    if checked is None:
        raise VivadoReportError(f"{path}: has no count of no_clock")
    counts = {name: int(found[name]) for name in found if name.endswith("_failing")}
    return Timing(**(found | counts), no_clock=int(checked[1]))


def read_utilization(path: Path) -> Utilization:
    """The whole design's use of a report_utilization. VivadoReportError where a row or figure is not there.

    A part without URAM may have no row of it.
    """
    text = _read(path)
    uses = {name: _use(text, row, path) for name, row in _UTILIZATION_ROWS.items() if name != "uram"}
    uram = _use(text, "URAM", path) if re.search(r"^\| URAM ", text, flags=re.M) else Use(0, 0)
    return Utilization(**uses, uram=uram)


def _use(text: str, row: str, path: Path) -> Use:
    columns: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0] == "Site Type":
            columns = cells
        elif cells[0].rstrip("*") == row and line.startswith("|"):
            figures = dict(zip(columns, cells, strict=False))
            for column in ("Used", "Available"):
                if column not in figures:
                    raise VivadoReportError(f"{path}: row {row} has no column {column}")
            return Use(*(_number(figures[column], path, f"{row}, {column}") for column in ("Used", "Available")))
    raise VivadoReportError(f"{path}: has no row {row}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise VivadoReportError(f"{path}: is missing") from None


def _number(text: str, path: Path, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise VivadoReportError(f"{path}: {what} is {text!r}, no number")
    return value
