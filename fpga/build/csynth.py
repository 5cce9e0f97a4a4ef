# SPDX-License-Identifier: Apache-2.0
"""Read the reports of C synthesis: csynth.xml and the *_csynth.xml of sub-functions beside it.

The tool puts every pipelined loop into a module of its own (FUNCTION_Pipeline_LABEL), so that loops stand under the
top's PerformanceEstimates, under each ModuleInformation/Module, and again in the sub-function's own file; they are told
apart by module and name. Inside a loop's element stand the loops that it holds.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RESOURCES = ("BRAM_18K", "DSP", "FF", "LUT", "URAM")

Range = tuple[int, int]  # lowest and highest


class ReportError(ValueError):
    """A report is missing, broken or without a figure; the message names the file and the path in it."""


@dataclass(frozen=True)
class ReportedLoop:
    """A loop of a report: cycles between iterations, stages, iterations, cycles; None where there is no number."""

    module: str
    name: str
    ii: int | None
    depth: int | None
    trips: Range | None
    latency: Range | None


@dataclass(frozen=True)
class Report:
    """What C synthesis says of a unit. Times in ns; `modules` holds each module's initiation interval, if it has one.

    protocol: block-level protocol ("ap_ctrl_hs", "ap_ctrl_none"); ports: bits by name; instances: how often each module
    stands in the hierarchy.
    """

    top: str
    version: str
    part: str
    target_ns: float
    uncertainty_ns: float
    estimated_ns: float
    latency: Range | None
    protocol: str | None
    resources: dict[str, int]
    available: dict[str, int]
    loops: tuple[ReportedLoop, ...]
    modules: dict[str, int | None]
    instances: dict[str, int]
    ports: dict[str, int]

    def loops_named(self, names: frozenset[str]) -> tuple[ReportedLoop, ...]:
        return tuple(loop for loop in self.loops if loop.name in names)

    def copies(self, function: str) -> tuple[str, ...]:
        """Modules made of a function: the tool calls them NAME, NAME_s, or NAME_1 and so on."""
        return tuple(name for name in self.modules if re.fullmatch(rf"{function}(_\d+|_s)?", name))


def read_report(folder: Path) -> Report:
    """The reports in `folder`; ReportError where csynth.xml is missing or lacks a figure."""
    path = folder / "csynth.xml"
    root = _parse(path)
    top = _text(root, "UserAssignments/TopModelName", path)
    loops: dict[tuple[str, str], ReportedLoop] = {}
    modules: dict[str, int | None] = {}
    _collect(root, top, loops)
    for module in root.findall("ModuleInformation/Module"):
        name = _text(module, "Name", path)
        _collect(module, name, loops)
        modules[name] = _number(module.find("PerformanceEstimates/SummaryOfOverallLatency/PipelineInitiationInterval"))
    for other in sorted(folder.glob("*_csynth.xml")):
        sub = _parse(other)
        name = _text(sub, "UserAssignments/TopModelName", other)
        _collect(sub, name, loops)
        modules.setdefault(name, _number(sub.find("PerformanceEstimates/SummaryOfOverallLatency/Interval-max")))
    latency = "PerformanceEstimates/SummaryOfOverallLatency"
    return Report(
        top=top,
        version=_text(root, "ReportVersion/Version", path),
        part=_text(root, "UserAssignments/Part", path),
        target_ns=_float(root, "UserAssignments/TargetClockPeriod", path),
        uncertainty_ns=_float(root, "UserAssignments/ClockUncertainty", path),
        estimated_ns=_float(root, "PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod", path),
        latency=_between(root.find(f"{latency}/Best-caseLatency"), root.find(f"{latency}/Worst-caseLatency")),
        protocol=_protocol(root, top),
        resources=_resources(root, "AreaEstimates/Resources", path),
        available=_resources(root, "AreaEstimates/AvailableResources", path),
        loops=tuple(loops.values()),
        modules=modules,
        instances=_instances(root),
        ports=dict(_ports(root)),
    )


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise ReportError(f"{path}: not there; remedy: run the csynth step again with --force") from None
    except ElementTree.ParseError as error:
        raise ReportError(f"{path}: no readable report ({error}); remedy: run csynth again with --force") from None


def _text(element: ElementTree.Element, path: str, file: Path) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ReportError(f"{file}: has no {path}; this version of the tool writes other reports than 2024.2")
    return text


def _float(element: ElementTree.Element, path: str, file: Path) -> float:
    text = _text(element, path, file)
    try:
        return float(text)
    except ValueError:
        raise ReportError(f"{file}: {path} is {text!r}, no number") from None


def _resources(root: ElementTree.Element, path: str, file: Path) -> dict[str, int]:
    return {name: int(_float(root, f"{path}/{name}", file)) for name in RESOURCES}


def _collect(element: ElementTree.Element, module: str, loops: dict[tuple[str, str], ReportedLoop]) -> None:
    summary = element.find("PerformanceEstimates/SummaryOfLoopLatency")
    for loop in _loop_elements(summary) if summary is not None else ():
        name = (loop.findtext("Name") or loop.tag).strip()
        trips, latency = loop.find("TripCount"), loop.find("Latency")
        found = ReportedLoop(
            module,
            name,
            _number(loop.find("PipelineII")),
            _number(loop.find("PipelineDepth")),
            _between(trips, trips),
            _between(latency, latency),
        )
        loops.setdefault((module, name), found)


def _loop_elements(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Loops in `element`, and those that they hold; only a loop has a TripCount or a PipelineII."""
    for child in element:
        if child.find("TripCount") is not None or child.find("PipelineII") is not None:
            yield child
            yield from _loop_elements(child)


def _between(low: ElementTree.Element | None, high: ElementTree.Element | None) -> Range | None:
    """Lowest number of one element and highest of the other; None where either names none (undef, inf, ?, -)."""
    lows, highs = _numbers(low), _numbers(high)
    return (min(lows), max(highs)) if lows and highs else None


def _number(element: ElementTree.Element | None) -> int | None:
    """The number of an element; of a range the highest, which is the one that must hold."""
    numbers = _numbers(element)
    return max(numbers) if numbers else None


def _numbers(element: ElementTree.Element | None) -> list[int]:
    """Numbers of "7", "1 ~ 512" or <range><min>1</min><max>512</max></range>."""
    if element is None:
        return []
    text = " ".join("".join(part.itertext()) for part in (element.findall("range/*") or [element]))
    return [int(n) for n in re.findall(r"\d+", text)] if re.fullmatch(r"\s*\d+(\s*[~ ]\s*\d+)?\s*", text) else []


def _protocol(root: ElementTree.Element, top: str) -> str | None:
    for port in root.findall("InterfaceSummary/RtlPorts"):
        if port.findtext("Object") == top and (port.findtext("IOProtocol") or "").startswith("ap_ctrl"):
            return port.findtext("IOProtocol")
    return None


def _ports(root: ElementTree.Element) -> Iterator[tuple[str, int]]:
    for port in root.findall("InterfaceSummary/RtlPorts"):
        bits = _number(port.find("Bits"))
        if bits is not None:
            yield port.findtext("name") or "", bits


def _instances(root: ElementTree.Element) -> dict[str, int]:
    counts: dict[str, int] = {}
    for instance in root.iterfind("RTLDesignHierarchy//Instance"):
        name = instance.findtext("ModuleName") or ""
        counts[name] = counts.get(name, 0) + 1
    return counts
