# SPDX-License-Identifier: Apache-2.0
"""What a unit's synthesis must have reached before it goes on: one line a failure, empty if all is well.

- It is of the unit, part, clock and block-level protocol that were asked for.
- Every loop and function with `PIPELINE II = 1` is in the report, as often as in the source, and has II = 1 wherever it
  is. A loop that is not in the report fails: silence is no proof.
- The estimated clock period stays within the period less the uncertainty (27 %), the tool's own aim. The uncertainty is
  kept for wires, which only place and route knows; whether timing is met at last the bitstream step decides.
"""

from __future__ import annotations

import math

from .csynth import Report
from .hls import CLOCK_UNCERTAINTY_PERCENT, Component
from .source import Pipelines

ROUNDING_NS = 0.005  # the report has two decimals


def failures(report: Report, component: Component, pipelines: Pipelines) -> list[str]:
    """One line for each thing that is not as wanted: unit, what, found, wanted."""
    lines = [*_identity(report, component), *_loops(report, pipelines), *_functions(report, pipelines)]
    lines += _clock(report, component)
    return [f"{component.unit}: {line}" for line in lines]


def budget_ns(component: Component) -> float:
    """The longest estimated period that passes."""
    return component.period_ns * (100 - CLOCK_UNCERTAINTY_PERCENT) / 100


def reachable_mhz(report: Report) -> float:
    """The clock at which this estimate would just pass, the uncertainty being a share of the period."""
    return 10 * (100 - CLOCK_UNCERTAINTY_PERCENT) / report.estimated_ns


def _identity(report: Report, component: Component) -> list[str]:
    protocol = "ap_ctrl_none" if component.free_running else "ap_ctrl_hs"
    lines = [
        f"{what}: found {found or 'none'}, wanted {wanted}"
        for what, found, wanted in (
            ("top function", report.top, component.unit),
            ("part", report.part, component.board.part),
            ("block-level protocol", report.protocol, protocol),
        )
        if found != wanted
    ]
    uncertainty = component.period_ns * CLOCK_UNCERTAINTY_PERCENT / 100
    for what, found, wanted in (
        ("clock period", report.target_ns, component.period_ns),
        ("clock uncertainty", report.uncertainty_ns, uncertainty),
    ):
        if abs(found - wanted) > ROUNDING_NS:
            lines.append(f"{what} of the report: found {found:.2f} ns, wanted {wanted:.2f} ns")
    return lines


def _loops(report: Report, pipelines: Pipelines) -> list[str]:
    lines = []
    wanted: dict[frozenset[str], list[str]] = {}
    labels: dict[frozenset[str], str] = {}
    for loop in pipelines.loops:
        wanted.setdefault(loop.names, []).append(loop.function)
        labels[loop.names] = loop.label
    for names, functions in wanted.items():
        found = report.loops_named(names)
        for loop in found:
            if loop.ii != 1:
                lines.append(f"loop {loop.name} of {loop.module}: found II {loop.ii or 'none'}, wanted II 1")
        if len(found) < len(functions):
            lines.append(
                f"loop {labels[names]}: found {len(found)} times in the report, wanted {len(functions)} "
                f"({', '.join(functions)}), each with II 1"
            )
    return lines


def _functions(report: Report, pipelines: Pipelines) -> list[str]:
    lines = []
    for function in pipelines.functions:
        copies = report.copies(function)
        if not copies:
            lines.append(f"function {function}: not in the report, wanted II 1")
        for name in copies:
            if report.modules[name] != 1:
                lines.append(f"function {name}: found II {report.modules[name] or 'none'}, wanted II 1")
    return lines


def _clock(report: Report, component: Component) -> list[str]:
    budget = budget_ns(component)
    if report.estimated_ns <= budget + ROUNDING_NS:
        return []
    return [
        f"estimated clock period: found {report.estimated_ns:.3f} ns, wanted at most {budget:.3f} ns "
        f"({component.period_ns:.3f} ns less {CLOCK_UNCERTAINTY_PERCENT} %); "
        f"remedy: --clock-mhz {math.floor(reachable_mhz(report))} or less"
    ]
