# SPDX-License-Identifier: Apache-2.0
"""What the kernels' source says about each unit: the files that it is made of, and the pipelined loops that it reaches.

Read by the rules of the house rather than by a compiler: a label stands alone on the line above its loop, and
`#pragma HLS PIPELINE II = 1` is the first line of the body.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

UNITS = (
    "engine_fetch",
    "engine_load",
    "engine_weights",
    "engine_expand",
    "engine_array",
    "engine_vector",
    "engine_store",
)
# Where an #include is looked for after the including file's own folder; the vendor's headers are none of ours.
INCLUDE_FOLDERS = ("hooks/vitis", "kernels", "types/exact")

_PIPELINE = re.compile(r"\s*#pragma HLS PIPELINE II = 1\s*")


class SourceError(ValueError):
    """A file of the package lacks what the build reads from it."""


@dataclass(frozen=True)
class PipelinedLoop:
    """A loop that must start an iteration each cycle; `outer` holds the labels of the loops around it, nearest last."""

    label: str
    function: str
    outer: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """What a report may call it: the tool joins the labels of nested loops that it has flattened into one."""
        labels = (*self.outer, self.label)
        return frozenset("_".join(labels[n:]) for n in range(len(labels)))


@dataclass(frozen=True)
class Pipelines:
    """Everything of a unit that has `PIPELINE II = 1`: loops, and functions that are pipelined as a whole."""

    loops: tuple[PipelinedLoop, ...]
    functions: tuple[str, ...]


@dataclass(frozen=True)
class _Function:
    name: str
    body: str


def top_of(unit: str, root: Path) -> Path:
    """The file that holds the unit's top function, which has the file's name."""
    return root / "top" / f"{unit}.cpp"


def files_of(source: Path, root: Path) -> tuple[Path, ...]:
    """`source` and every file of the package that it includes, in a fixed order.

    OSError where `source` or an included file is gone.
    """
    found: dict[Path, None] = {}
    waiting = [source.resolve()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = None
        for mark, name in re.findall(r'^\s*#include ([<"])([^>"]+)[>"]', path.read_text(encoding="utf-8"), flags=re.M):
            folders = [path.parent] if mark == '"' else []
            folders += [root / folder for folder in INCLUDE_FOLDERS]
            included = next((f / name for f in folders if (f / name).is_file()), None)
            if included is not None:
                waiting.append(included.resolve())
            elif mark == '"':
                raise SourceError(f'{path}: #include "{name}" is not found; remedy: reinstall zynqbert')
    return tuple(sorted(found))


def pipelines_of(unit: str, root: Path) -> Pipelines:
    """The pipelined loops and functions that the unit's top function reaches by calls."""
    functions: dict[str, list[_Function]] = {}
    for path in files_of(top_of(unit, root), root):
        for function in _functions(path.read_text(encoding="utf-8")):
            functions.setdefault(function.name, []).append(function)
    if unit not in functions:
        raise SourceError(f"{top_of(unit, root)}: has no function {unit}; remedy: reinstall zynqbert")
    loops: list[PipelinedLoop] = []
    pipelined: list[str] = []
    reached: dict[str, None] = {}
    waiting = [unit]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached[name] = None
        for function in functions[name]:
            own_loops, whole = _pipelines(function)
            loops += own_loops
            pipelined += [name] * whole
            called = dict.fromkeys(re.findall(r"\b(\w+)\s*(?:<[^<>;]*>)?\s*\(", function.body))
            waiting += [c for c in called if c in functions]
    return Pipelines(tuple(sorted(loops, key=lambda loop: (loop.label, loop.function))), tuple(sorted(pipelined)))


def _functions(text: str) -> list[_Function]:
    """Functions with a body outside of structs; namespaces are looked into."""
    text = re.sub(r"//.*", "", text)
    functions = []
    start = position = 0
    while (opening := text.find("{", position)) >= 0:
        boundary = max(text.rfind(mark, start, opening) for mark in (";", "}", "{"))
        header = text[max(start, boundary + 1) : opening].rstrip()
        if re.search(r"\bnamespace\s+\w*$", header):
            start = position = opening + 1
            continue
        closing = _closing(text, opening)
        if header.endswith(")"):
            name = re.search(r"(\w+)\s*$", header[: _opening(header)])
            if name:
                functions.append(_Function(name[1], text[opening + 1 : closing]))
        start = position = closing + 1
    return functions


def _closing(text: str, opening: int) -> int:
    depth = 0
    for n in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[n], 0)
        if depth == 0:
            return n
    return len(text)


def _opening(header: str) -> int:
    """Index of the parenthesis that the last one of `header` closes."""
    depth = 0
    for n in range(len(header) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(header[n], 0)
        if depth == 0:
            return n
    return 0


def _pipelines(function: _Function) -> tuple[list[PipelinedLoop], bool]:
    """The function's pipelined loops, and whether it is pipelined itself."""
    loops: list[PipelinedLoop] = []
    whole = False
    around: list[tuple[str, int]] = []  # label of an open loop and the depth of its body
    label, depth = "", 0
    for line in function.body.splitlines():
        named = re.fullmatch(r"\s*(\w+):\s*", line)
        if named:
            label = named[1]
            continue
        if re.match(r"\s*(for|while) \(", line):
            if line.rstrip().endswith("{"):
                around.append((label, depth + 1))
            label = ""
        elif _PIPELINE.fullmatch(line):
            if depth == 0:
                whole = True
            elif around and around[-1][1] == depth and around[-1][0]:
                loops.append(PipelinedLoop(around[-1][0], function.name, tuple(name for name, _ in around[:-1])))
            else:
                raise SourceError(f"{function.name}: a PIPELINE that belongs to no labelled loop")
        depth += line.count("{") - line.count("}")
        while around and around[-1][1] > depth:
            around.pop()
    return loops, whole
