# SPDX-License-Identifier: Apache-2.0
"""A memory plan as an SVG: DDR and the memories on chip to one scale, activations and a task's buffer larger beside
them. The same plan gives the same bytes, on any machine: no library draws it."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from .memory_plan import (
    ACTIVATION,
    ACTIVATIONS,
    BUFFER,
    EMBEDDINGS,
    FACTORS,
    FREE,
    PROGRAMS,
    TASK,
    WEIGHTS,
    Memory,
    MemoryPlan,
    Row,
    in_ddr,
)

WIDTH, HEIGHT = 1180, 640
TOP, BOTTOM = 92, 596  # of the columns
BLOCK, GAP, LINE = 110, 8, 14  # width of a column, between memories, from label to label
COLUMNS = (20, 400, 790)  # where columns begin
DETAIL = 250  # height of a memory that is drawn larger
MOST = 8.0  # times that memories on chip may be drawn larger than DDR
COLOURS = {
    WEIGHTS: "#4c7fc0",
    EMBEDDINGS: "#54a47d",
    FACTORS: "#c9a94a",
    TASK: "#d9732b",
    PROGRAMS: "#8a6bb8",
    ACTIVATIONS: "#8fb8c9",
    FREE: "#ffffff",
}  # dark text is readable on each


def draw(plan: MemoryPlan, path: Path, modelled: bool, lines: Sequence[str] = ()) -> None:
    """Write the drawing to `path`, whose folder is made; as `drawing`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(drawing(plan, modelled, lines), encoding="utf-8")
    partial.replace(path)


def drawing(plan: MemoryPlan, modelled: bool, lines: Sequence[str] = ()) -> str:
    """The plan as an SVG, `lines` of text below its title; `modelled`: whether densities are assumed."""
    ddr = [memory for memory in plan.memories if in_ddr(memory)]
    chip = [memory for memory in plan.memories if not in_ddr(memory)]
    per_byte = _scale(ddr)
    times = min(MOST, _scale(chip) / per_byte) if _scale(chip) > 3 * per_byte else 1.0
    sizes = "modelled: densities are assumed" if modelled else "as the host allocates them"
    title = f"{plan.model} on {plan.board.name.upper()}: what lies in which memory; sizes {sizes}"
    parts = [_text(COLUMNS[0], 20, title, "bold", 15)]
    parts += [_text(COLUMNS[0], 38 + 15 * n, line) for n, line in enumerate(lines)]
    same = "the same scale" if times == 1 else f"drawn {times:.3g} times as large"
    chip_heading = f"on chip, {_size(sum(m.bytes for m in chip))}, {same}"
    parts += _column(COLUMNS[0], f"DDR, {_size(plan.ddr_bytes)}", ddr, per_byte)
    parts += _column(COLUMNS[1], chip_heading, chip, per_byte * times)
    parts += _larger(COLUMNS[2], TOP, plan[ACTIVATION], "who comes later lies over it")
    if any(memory.name == BUFFER for memory in ddr):
        parts += _larger(COLUMNS[2], BOTTOM - DETAIL + 24, plan[BUFFER], "beside it: each task's area")
    parts += _legend()
    content = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11" role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{content}\n</svg>\n'
    )


def _scale(memories: Sequence[Memory]) -> float:
    """Pixels a byte with which these fill a column."""
    return (BOTTOM - TOP - GAP * (len(memories) - 1)) / max(1, sum(memory.bytes for memory in memories))


def _column(x: float, heading: str, memories: Sequence[Memory], per_byte: float) -> list[str]:
    """Memories one below the other, each row a block of its size, and labels at their right."""
    parts, labels, y = [_text(x, TOP - 12, heading, "bold", 12)], [], float(TOP)
    for memory in memories:
        height = memory.bytes * per_byte
        labels.append((y, f"{memory.name.removeprefix('DDR, ')}: {memory.made_of}, {_size(memory.bytes)}", "bold"))
        at = y
        for row in memory.rows:
            if not row.over:
                parts.append(_block(x, at, BLOCK, row.bytes * per_byte, row))
                if len(memory.rows) > 1 and memory.name not in (ACTIVATION, BUFFER):  # these are drawn larger
                    labels.append((at + row.bytes * per_byte / 2, f"{row.what}, {_size(row.bytes)}", "normal"))
                at += row.bytes * per_byte
        parts.append(_outline(x, y, BLOCK, height))
        y += height + GAP
    return parts + _labels(x + BLOCK, labels)


def _larger(x: float, y: float, memory: Memory, note: str) -> list[str]:
    """A memory on a scale of its own: its rows, at the right half of the column what lies over them, each in turn."""
    heading = f"{memory.name.removeprefix('DDR, ')}, {_size(memory.bytes)}, larger; {note}"
    parts, labels = [_text(x, y - 12, heading, "bold", 12)], []
    height = DETAIL - 48.0
    per_byte = height / memory.bytes
    at = y
    for row in memory.rows:
        if not row.over:
            parts.append(_block(x, at, BLOCK, row.bytes * per_byte, row))
            labels.append((at + row.bytes * per_byte / 2, f"{row.what}, {_size(row.bytes)}", "normal"))
            at += row.bytes * per_byte
    over = [row for row in memory.rows if row.over]
    lanes = _lanes(over)
    for row, lane in zip(over, lanes, strict=True):
        width = BLOCK / 2 / (max(lanes) + 1)
        left, top = x + BLOCK / 2 + lane * width, y + row.start * per_byte
        parts.append(_block(left, top, width, row.bytes * per_byte, row))
        labels.append((top + row.bytes * per_byte / 2, f"{row.what}, {_size(row.bytes)}", "italic"))
    parts.append(_outline(x, y, BLOCK, height))
    return parts + _labels(x + BLOCK, labels, y + height)


def _lanes(rows: Sequence[Row]) -> list[int]:
    """A lane for each row such that those in one lane do not overlap."""
    ends: list[int] = []
    found = []
    for row in rows:
        lane = next((n for n, until in enumerate(ends) if until <= row.start), len(ends))
        ends[lane : lane + 1] = [row.start + row.bytes]
        found.append(lane)
    return found


def _labels(x: float, labels: Sequence[tuple[float, str, str]], bottom: float = BOTTOM) -> list[str]:
    """Texts at the right of a column, as near to their blocks as they can be without overlapping, each with a line."""
    ordered = sorted(labels, key=lambda label: label[0])
    places: list[float] = []
    for wanted, _, _ in ordered:
        places.append(max(wanted, places[-1] + LINE if places else wanted))
    limit = bottom
    for n in range(len(places) - 1, -1, -1):  # what went beyond the end comes back up
        places[n] = min(places[n], limit)
        limit = places[n] - LINE
    parts = []
    for (wanted, text, style), place in zip(ordered, places, strict=True):
        parts.append(
            f'<polyline points="{x:.1f},{wanted:.1f} {x + 8:.1f},{place:.1f} {x + 12:.1f},{place:.1f}" fill="none" '
            'stroke="#9aa1ab"/>'
        )
        parts.append(_text(x + 15, place + 4, text, style))
    return parts


def _block(x: float, y: float, width: float, height: float, row: Row) -> str:
    dashed = ' stroke-dasharray="3 2"' if row.kind == FREE else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{height:.2f}" fill="{COLOURS[row.kind]}" '
        f'stroke="#4a4f57" stroke-width="0.5"{dashed}><title>{escape(f"{row.what}: {row.bytes} bytes, {row.where}")}'
        "</title></rect>"
    )


def _outline(x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{height:.2f}" fill="none" stroke="#111827" '
        'stroke-width="1.5"/>'
    )


def _legend() -> list[str]:
    parts, x = [], float(COLUMNS[0])
    for kind, colour in COLOURS.items():
        parts.append(f'<rect x="{x:.1f}" y="{HEIGHT - 26}" width="12" height="12" fill="{colour}" stroke="#4a4f57"/>')
        parts.append(_text(x + 17, HEIGHT - 16, kind))
        x += 40 + 6.2 * len(kind)
    return parts


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _text(x: float, y: float, what: str, style: str = "normal", size: int = 11) -> str:
    form = {"normal": "", "bold": ' font-weight="bold"', "italic": ' font-style="italic"'}[style]
    form += "" if size == 11 else f' font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{form} fill="#111827">{escape(what)}</text>'
