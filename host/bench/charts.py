# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG for a page that loads nothing: histogram, lines, points, bars. All text that is given is escaped."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 42
COLOURS = ("#1f5fa8", "#b35900", "#1c7c54")  # each 4.5:1 or more on white
GREY, BAND = "#6b7280", "#eef2f7"
BAR, GAP = 20, 20


def histogram(title: str, unit: str, edges: Sequence[float], counts: Sequence[int], marks: Mapping[str, float]) -> str:
    """`counts` of what lies between each two `edges`; `marks` are vertical lines by name."""
    axes = Axes((edges[0], edges[-1]), (0, max(counts) * 1.2), unit, "passes")  # room above the bars for marks' names
    bars = [
        f'<rect x="{axes.x(begin):.1f}" y="{axes.y(count):.1f}" width="{max(1, axes.x(end) - axes.x(begin) - 1):.1f}" '
        f'height="{axes.bottom - axes.y(count):.1f}" fill="{COLOURS[0]}"/>'
        for (begin, end), count in zip(pairwise(edges), counts, strict=True)
        if count
    ]
    lines = []
    for number, (name, value) in enumerate(marks.items()):
        x, y = axes.x(value), TOP + 10 + 12 * number
        anchor, dx = ("end", -4) if x > WIDTH / 2 else ("start", 4)
        lines.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{axes.bottom}" stroke="{COLOURS[1]}" '
            f'stroke-dasharray="4 3"/>{text(x + dx, y, name, anchor, COLOURS[1])}'
        )
    told = [f"{sum(counts)} passes of {four_digits(edges[0])} to {four_digits(edges[-1])} {unit}"]
    told += [f"{name} at {four_digits(value)} {unit}" for name, value in marks.items()]
    return svg(title, "; ".join(told), axes.drawn() + "".join(bars + lines))


def lines(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    units: tuple[str, str],
    bands: Sequence[tuple[str, float, float]],
) -> str:
    """Each of `series` over `x`, broken where it is None; `bands` are named stretches of x."""
    known = [y for values in series.values() for y in values if y is not None]
    axes = Axes((min(x), max(x)), (min([0.0, *known]), max(known, default=1.0) * 1.15), *units)
    drawn = [
        f'<rect x="{axes.x(begin):.1f}" y="{TOP}" width="{axes.x(end) - axes.x(begin):.1f}" '
        f'height="{axes.bottom - TOP}" fill="{BAND}"/>{text(axes.x(begin) + 4, TOP + 11, name)}'
        for name, begin, end in bands
    ]
    drawn.append(axes.drawn())
    for colour, (name, values) in zip(COLOURS, series.items(), strict=False):
        for stretch in unbroken(x, values):
            points = " ".join(f"{axes.x(a):.1f},{axes.y(b):.1f}" for a, b in stretch)
            drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            at, value = stretch[-1]
            drawn.append(text(axes.x(at) - 2, axes.y(value) - 9, name, "end", colour))
    told = "; ".join(
        f"{name}: {four_digits(min(there))} to {four_digits(max(there))} {units[1]}"
        for name, values in series.items()
        if (there := [y for y in values if y is not None])
    )
    return svg(title, told, "".join(drawn))


def points(title: str, x: Sequence[float], y: Sequence[float], units: tuple[str, str]) -> str:
    """A point for each pair."""
    axes = Axes((min(0, *x), max(x)), (0, max(y)), *units)
    dots = "".join(
        f'<circle cx="{axes.x(a):.1f}" cy="{axes.y(b):.1f}" r="3" fill="{COLOURS[0]}" fill-opacity="0.45"/>'
        for a, b in zip(x, y, strict=True)
    )
    ranges = (
        f"{four_digits(min(of))} to {four_digits(max(of))} {unit}" for of, unit in zip((x, y), units, strict=True)
    )
    told = f"{len(x)} points, {' and '.join(ranges)}"
    return svg(title, told, axes.drawn() + dots)


def bars(title: str, unit: str, rows: Sequence[tuple[str, float, bool]]) -> str:
    """A bar across for each row: its name, value, and whether it is one of ours (filled) or a comparison (outlined)."""
    height = len(rows) * (BAR + GAP) + 6
    longest = max(*(value for _, value, _ in rows), 1e-12)
    drawn = []
    for number, (name, value, ours) in enumerate(rows):
        y = number * (BAR + GAP) + GAP - 3
        width = max(1.0, value / longest * (WIDTH - 130))
        fill = f'fill="{COLOURS[0]}"' if ours else f'fill="white" stroke="{GREY}"'
        drawn.append(
            f'{text(1, y - 4, name)}<rect x="1" y="{y}" width="{width:.1f}" height="{BAR}" {fill}/>'
            f"{text(width + 8, y + BAR - 6, f'{four_digits(value)} {unit}')}"
        )
    told = "; ".join(f"{name}: {four_digits(value)} {unit}" for name, value, _ in rows)
    return svg(title, told, "".join(drawn), height)


class Axes:
    """Two axes with ticks: `x` and `y` give the place of a value."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], x_unit: str, y_unit: str):
        self.x_ticks, self.y_ticks = ticks(*x), ticks(*y)
        self.x_range = x if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
        self.y_range = min(y[0], self.y_ticks[0]), max(y[1], self.y_ticks[-1], y[0] + 1e-9)
        self.units = x_unit, y_unit
        self.width, self.bottom = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM

    def x(self, value: float) -> float:
        """Across."""
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * self.width

    def y(self, value: float) -> float:
        """Down."""
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - TOP)

    def drawn(self) -> str:
        """Ticks, grid and units."""
        parts = []
        for tick in self.y_ticks:
            y = self.y(tick)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d7dbe0"/>')
            parts.append(text(LEFT - 6, y + 4, four_digits(tick), "end"))
        for tick in self.x_ticks:
            x = self.x(tick)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.bottom}" y2="{self.bottom + 4}" stroke="{GREY}"/>')
            parts.append(text(x, self.bottom + 16, four_digits(tick), "middle"))
        parts.append(text(LEFT + self.width / 2, HEIGHT - 8, self.units[0], "middle"))
        middle = (TOP + self.bottom) / 2
        turned = text(12, middle, self.units[1], "middle")
        parts.append(f'<g transform="rotate(-90 12 {middle:.1f})">{turned}</g>')
        return "".join(parts)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, some `about` of them; at least one."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)] or [low]


def unbroken(x: Sequence[float], y: Sequence[float | None]) -> list[list[tuple[float, float]]]:
    """The pairs in stretches without a None."""
    found: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(x, y, strict=True):
        if b is not None:
            found[-1].append((a, b))
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]


def four_digits(value: float) -> str:
    """A number to four digits, without an exponent where it is large."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def text(x: float, y: float, what: str, anchor: str = "start", colour: str = "#1a1a1a") -> str:
    """Text at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(what)}</text>'


def svg(title: str, told: str, content: str, height: int = HEIGHT) -> str:
    """The drawing; `title` and `told` are what a screen reader says of it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg" font-size="12" '
        f'aria-label="{escape(f"{title}. {told}")}"><title>{escape(title)}</title><desc>{escape(told)}</desc>'
        f"{content}</svg>"
    )
