# SPDX-License-Identifier: Apache-2.0
"""Which candidates of a search are on its front, why others are none, and which bound is nearest to being met."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..fpga.boards import board_named
from .search_rows import Row, rows_of
from .search_space import ALL, LEAST_COLUMNS, MOST_COLUMNS, ONE


def front_of(rows: Iterable[Row]) -> list[Row]:
    """Of the rows that meet the latency those that no other is better than, in accuracy or in energy a sentence, and as
    good in both; of equal ones the first. In the order of energy, and so of accuracy.

    >>> rows = [dict(accuracy=a, energy_mj=e, meets=True) for a, e in [(0.8, 3), (0.9, 4), (0.8, 2), (0.7, 2)]]
    >>> [(row["accuracy"], row["energy_mj"]) for row in front_of(rows)]
    [(0.8, 2), (0.9, 4)]
    """
    found: list[Row] = []
    for row in sorted((row for row in rows if row["meets"]), key=lambda row: (row["energy_mj"], -row["accuracy"])):
        if not found or row["accuracy"] > found[-1]["accuracy"]:
            found.append(row)
    return found


def counts_of(report: Mapping[str, Any], board: str) -> dict[str, Any]:
    """All candidates of a board, those that keep every bound, and the others by what they do not keep; each once."""
    settings = report["settings"]
    ways = sum(len(of["exits"]) for of in report["models"].values())
    each = ways * len(settings["clocks_mhz"]) * len(settings["modes"])
    against: Counter[str] = Counter()
    for shape in report["shapes"][board].values():
        if shape["over"]:
            against[" and ".join(shape["over"])] += each
    slow = sum(not row["meets"] for row in rows_of(report, board))
    if slow:
        against["latency"] = slow
    total = each * len(report["shapes"][board])
    return {"candidates": total, "feasible": total - against.total(), "not": dict(against)}


def is_default(row: Row) -> bool:
    """Whether it is how `zynqbert run` runs a model if nothing else is asked for."""
    board = board_named(row["board"])
    where = row["columns"], row["clock_mhz"], row["mode"], row["exit"]
    return where == (board.columns, board.clock_mhz, ONE, ALL)


def counts_text(counts: Mapping[str, Any]) -> str:
    """How many candidates there are, and what the others do not keep.

    >>> counts_text({"candidates": 30, "feasible": 10, "not": {"array": 12, "latency": 8}})
    '30 candidates, 10 keep all bounds; not: 12 array (the kernels take 128 to 192 columns), 8 latency'
    """
    array = f"array (the kernels take {LEAST_COLUMNS} to {MOST_COLUMNS} columns)"
    why = ", ".join(f"{count:,} {array if name == 'array' else name}" for name, count in counts["not"].items())
    said = f"{counts['candidates']:,} candidates, {counts['feasible']:,} keep all bounds"
    return f"{said}; not: {why}" if why else said


def nearest(report: Mapping[str, Any], boards: Iterable[str]) -> str:
    """Where no candidate of `boards` is feasible: what they do not keep, which comes nearest to the latency, and what
    would do."""
    why = "; ".join(f"{board}: {counts_text(report['counts'][board])}" for board in boards)
    return f"{why}; nearest to its bound is {min(_too_slow(report, boards))[1]}"


def too_large(report: Mapping[str, Any], boards: Iterable[str]) -> str:
    """Where no array of `boards` can be built: which comes nearest to the budget, and what would do."""
    found = sorted(_too_large(report, boards))
    if not found:
        why = f"the kernels take {LEAST_COLUMNS} to {MOST_COLUMNS} columns"
        return f"{why}; remedy: --columns {LEAST_COLUMNS},{MOST_COLUMNS}"
    return f"nearest to its bound is {found[0][1]}"


def _too_slow(report: Mapping[str, Any], boards: Iterable[str]) -> Iterator[tuple[float, str]]:
    """How many times the latency permitted each candidate takes that was modelled, and that in words."""
    settings = report["settings"]
    figure, bound = settings["latency_of"], settings["latency_ms"]
    for row in (row for board in boards for row in rows_of(report, board)):
        where = f"{row['model']}, {row['exit']}, {row['mode']}, {row['columns']} columns at {row['clock_mhz']:g} MHz"
        takes = f"{row[figure]:.4g} ms ({figure.removesuffix('_ms')}, modelled) on {row['board']} for {bound:g} ms"
        yield row[figure] / bound, f"latency, {takes}: {where}; remedy: --latency-ms {1.005 * row[figure]:.3g}"


def _too_large(report: Mapping[str, Any], boards: Iterable[str]) -> Iterator[tuple[float, str]]:
    """How many times what is permitted each array that can be built takes of what it takes too much of, in words."""
    for board in boards:
        for shape in report["shapes"][board].values():
            if shape["over"] and "array" not in shape["over"]:
                name, times = max(shape["over"].items(), key=lambda of: of[1])
                limit = report["settings"]["budget"].get(name, 1.0)
                takes = (
                    f"{shape['shares'][name]:.1%} of {board}'s (modelled) for {limit:.1%}: {shape['columns']} columns"
                )
                wanted = math.ceil(1e3 * shape["shares"][name]) / 1e3
                remedy = f"--budget {name}={wanted:g}" if wanted <= 1 else f"--columns {LEAST_COLUMNS}, another board"
                yield times, f"{name}, {takes}; remedy: {remedy}"
