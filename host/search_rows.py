# SPDX-License-Identifier: Apache-2.0
"""The report of `zynqbert search`: a candidate is a row of figures, and a line of the file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..fpga.whole_file import write_whole
from .search_costs import Costs

REPORT = "search.json"
# Of a candidate of a model on an array, in the order of its row. All but the first three and the last are modelled.
FIELDS = ("exit", "mode", "clock_mhz", "p99_ms", "worst_ms", "mean_ms", "per_s", "power_w", "energy_mj", "passes")
DIGITS = 6  # that a row keeps

Row = dict[str, Any]


def row_of(exit_name: str, mode: str, mhz: float, costs: Costs, p99_ms: float) -> list:
    """A candidate's row: the values of FIELDS."""
    count = len(costs.ms)
    figures = (
        *(p99_ms, max(costs.ms), sum(costs.ms) / count),
        *(count / costs.seconds, costs.joules / costs.seconds, 1e3 * costs.joules / count),
    )
    return [exit_name, mode, mhz, *(float(f"{figure:.{DIGITS}g}") for figure in figures), costs.passes]


def rows_of(report: Mapping[str, Any], board: str) -> Iterator[Row]:
    """The candidates that were modelled on a board, with all that is known of them."""
    settings = report["settings"]
    for model, arrays in report["rows"].get(board, {}).items():
        exits = report["models"][model]["exits"]
        for columns, rows in arrays.items():
            for row in rows:
                named = dict(zip(FIELDS, row, strict=True))
                left = {key: exits[named["exit"]][key] for key in ("accuracy", "mean_layer")}
                meets = named[settings["latency_of"]] <= settings["latency_ms"]
                where = {"board": board, "model": model, "columns": int(columns)}
                yield {**where, **named, **left, "fps_per_w": 1e3 / named["energy_mj"], "meets": meets}


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """The report as JSON, a candidate a line, whole or not at all."""
    rows = []
    for board, models in report["rows"].items():
        found = []
        for model, arrays in models.items():
            lists = (f"{json.dumps(columns)}: [\n{_lines(candidates)}\n   ]" for columns, candidates in arrays.items())
            found.append(f"{json.dumps(model)}: {{\n   " + ",\n   ".join(lists) + "\n  }")
        rows.append(f"{json.dumps(board)}: {{\n  " + ",\n  ".join(found) + "\n }")
    rest = {key: value for key, value in report.items() if key not in ("fields", "rows")}
    text = json.dumps({**rest, "fields": list(FIELDS), "rows": {}}, indent=1, ensure_ascii=False, allow_nan=False)
    body = "{\n " + ",\n ".join(rows) + "\n }" if rows else "{}"
    write_whole(path, text.removesuffix("{}\n}") + body + "\n}\n")


def _lines(candidates: Sequence[Sequence]) -> str:
    return ",\n".join("    " + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in candidates)
