# SPDX-License-Identifier: Apache-2.0
"""A unit's synthesis in short, beside what the models assume: what the report confirms and what it contradicts.

docs/assumptions.md names for each assumption the figure that would settle it; those that C synthesis has are looked up
here. A contradicted assumption fails nothing: it is a figure to replace in fpga/assumptions.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..assumptions import ASSUMPTIONS, DEPTHS, LABELS
from ..resources import products
from .csynth import Report
from .gate import reachable_mhz
from .hls import Component
from .source import Pipelines

CONFIRMED, CONTRADICTED, ABSENT = "confirmed", "contradicted", "not in this report"

Finder = Callable[[Report, Pipelines], "float | None"]


def summary(report: Report, component: Component, pipelines: Pipelines, failed: list[str]) -> dict[str, Any]:
    """The unit's csynth.json."""
    return {
        "unit": component.unit,
        "board": component.board.name,
        "part": report.part,
        "tool": report.version,
        "clock_mhz": component.clock_mhz,
        "target_ns": report.target_ns,
        "uncertainty_ns": report.uncertainty_ns,
        "estimated_ns": report.estimated_ns,
        "reachable_mhz": round(reachable_mhz(report), 1),
        "protocol": report.protocol,
        "resources": report.resources,
        "available": report.available,
        "loops": [
            {
                "module": loop.module,
                "loop": loop.name,
                "ii": loop.ii,
                "depth": loop.depth,
                "trips": loop.trips,
                "latency": loop.latency,
            }
            for loop in report.loops
        ],
        "assumptions": assumptions(report, pipelines),
        "failures": failed,
    }


def assumptions(report: Report, pipelines: Pipelines) -> list[dict[str, Any]]:
    """The assumptions that this unit's report can speak about: id, name, assumed and found value, verdict."""
    rows = []
    for assumption in ASSUMPTIONS:
        finder = _finder(assumption.name, report.top, pipelines)
        if finder is None:
            continue
        assumed = _assumed_dsp() if assumption.name == "mantissa_products_in_luts" else assumption.value
        found = finder(report, pipelines)
        if found is None:
            verdict = ABSENT
        elif found == assumed or (assumption.name == "clock_mhz" and found >= assumed):
            verdict = CONFIRMED
        else:
            verdict = CONTRADICTED
        rows.append(
            {
                "id": assumption.id,
                "name": assumption.name,
                "assumed": assumed,
                "found": found,
                "unit": "DSPs" if assumption.name == "mantissa_products_in_luts" else assumption.unit,
                "verdict": verdict,
            }
        )
    return rows


def _finder(name: str, unit: str, pipelines: Pipelines) -> Finder | None:
    """How this unit's report answers the assumption; None if it has nothing to say about it."""
    if name == "clock_mhz":
        return lambda report, _: round(reachable_mhz(report), 1)
    if name == "ii":
        return _highest_ii
    if name.startswith("depth."):
        loop = name.removeprefix("depth.")
        label = LABELS.get(loop, loop)
        if loop not in DEPTHS or all(p.label != label for p in pipelines.loops):
            return None
        return lambda report, given: _deepest(report, given, label)
    return _OF_UNIT.get((unit, name))


def _highest_ii(report: Report, pipelines: Pipelines) -> float | None:
    found = [loop.ii for p in pipelines.loops for loop in report.loops_named(p.names)]
    return None if not found or None in found else max(found)


def _deepest(report: Report, pipelines: Pipelines, label: str) -> float | None:
    """The depth of the loop, of the deepest where several have the label."""
    names = frozenset().union(*(p.names for p in pipelines.loops if p.label == label))
    depths = [loop.depth for loop in report.loops_named(names) if loop.depth is not None]
    return max(depths, default=None)


def _command_cycles(report: Report, _: Pipelines) -> float | None:
    return max((loop.ii or 0 for loop in report.loops_named(frozenset({"fetch_gemm_blocks"}))), default=0) or None


def _requantizers(report: Report, pipelines: Pipelines) -> float | None:
    copies = [copy for function in pipelines.functions for copy in report.copies(function)]
    return sum(report.instances.get(copy, 0) for copy in copies) or None


def _port_bytes(report: Report, _: Pipelines) -> float | None:
    bits = report.ports.get("m_axi_hp0_RDATA")
    return None if bits is None else bits // 8


def _assumed_dsp() -> int:
    return sum(p.dsp for p in products() if p.unit == "vector" and not p.in_fabric)


_OF_UNIT: dict[tuple[str, str], Finder] = {
    ("engine_fetch", "fetch_command_cycles"): _command_cycles,
    ("engine_vector", "one_requantizer"): _requantizers,
    ("engine_vector", "mantissa_products_in_luts"): lambda report, _: report.resources["DSP"],
    ("engine_weights", "port_bytes"): _port_bytes,
}
