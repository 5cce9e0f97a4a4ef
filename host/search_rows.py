# SPDX-License-Identifier: Apache-2.0
"""The report of `zynqbert search`: a candidate is a row of figures, and a line of the file."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..fpga.whole_file import write_whole
from .search_costs import Costs

REPORT = "search.json"
# Of a candidate of a model on an array, in the order of its row. All but the first three and the last are modelled.
FIELDS = ("exit", "mode", "clock_mhz", "p99_ms", "worst_ms", "mean_ms", "per_s", "power_w", "energy_mj", "passes")
MODELLED = FIELDS[3:-1]
DIGITS = 6  # that a row keeps
# Of a model, beside `exits`.
MODEL_FIELDS = (
    *("family", "layers", "hidden", "ffn", "heads", "heads_of", "mean_span", "density", "weight_bytes", "off_ramps"),
    "mean_tokens",
)

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


def check_rows(path: Path, report: Mapping[str, Any]) -> None:
    """ValueError, with the field, where a report that a search goes on with is not as it was written."""

    def refuse(field: str, fault: str) -> NoReturn:
        remedy = "remove it, and arrays are modelled anew; what the models answered is kept beside it"
        raise ValueError(f"{path}: {field}: {fault}; remedy: {remedy}")

    for name, model in report["models"].items():
        if not isinstance(model, dict) or not isinstance(model.get("exits"), dict):
            refuse(f"models.{name}.exits", "is missing")
        for field in (field for field in MODEL_FIELDS if field not in model):
            refuse(f"models.{name}.{field}", "is missing")
        for exit_name, found in model["exits"].items():
            if not isinstance(found, dict) or not all(_is_figure(found.get(k)) for k in ("accuracy", "mean_layer")):
                refuse(f"models.{name}.exits.{exit_name}", "no accuracy and mean_layer")
    settings = report["settings"]
    for board, models in report["rows"].items():
        if not isinstance(models, dict) or not all(isinstance(arrays, dict) for arrays in models.values()):
            refuse(f"rows.{board}", "no models with their arrays")
        for name, columns, rows in ((name, *array) for name, arrays in models.items() for array in arrays.items()):
            field, exits = f"rows.{board}.{name}.{columns}", report["models"].get(name, {}).get("exits", {})
            wanted = len(exits) * len(settings["clocks_mhz"]) * len(settings["modes"])
            if not isinstance(rows, list) or len(rows) != wanted:
                refuse(field, f"{wanted} candidates are needed")
            for number, row in enumerate(rows):
                if not isinstance(row, list) or len(row) != len(FIELDS) or row[0] not in exits:
                    refuse(f"{field}[{number}]", f"not {', '.join(FIELDS)}")
                if not all(map(_is_figure, row[2:])):
                    refuse(f"{field}[{number}]", "a figure that is no number")


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """The report as JSON, a candidate a line, whole or not at all."""
    rows = []
    for board, models in report["rows"].items():
        found = []
        for model, arrays in models.items():
            lists = (f"{json.dumps(columns)}: [\n{_lines(candidates)}\n   ]" for columns, candidates in arrays.items())
            found.append(f"{json.dumps(model)}: {{\n   " + ",\n   ".join(lists) + "\n  }")
        rows.append(f"{json.dumps(board)}: {{\n  " + ",\n  ".join(found) + "\n }")
    rest = {key: value for key, value in report.items() if key not in ("fields", "modelled", "rows")}
    rest |= {"fields": list(FIELDS), "modelled": list(MODELLED), "rows": {}}
    text = json.dumps(rest, indent=1, ensure_ascii=False, allow_nan=False)
    body = "{\n " + ",\n ".join(rows) + "\n }" if rows else "{}"
    write_whole(path, text.removesuffix("{}\n}") + body + "\n}\n")


def _lines(candidates: Sequence[Sequence]) -> str:
    return ",\n".join("    " + json.dumps(row, ensure_ascii=False, allow_nan=False) for row in candidates)
