# SPDX-License-Identifier: Apache-2.0
"""Charts of `zynqbert bench edgebert` as SVG. What is modelled says so in its title and on its axis."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...fpga.energy import PARTS
from .charts import COLOURS, GREY, HEIGHT, TOP, WIDTH, Axes, four_digits, svg, text

SERIES = (*COLOURS, "#7a3e9d", GREY)
# By part of the energy: light and dark grey, brown and ochre, then each kind of the units', dark and light.
PART_COLOURS = dict(
    zip(
        PARTS,
        (
            *("#9ca3af", "#4b5563", "#b35900", "#d9a441", "#123f73", "#6f9fd8", "#1c7c54", "#85c4a6"),
            *("#7a3e9d", "#c3a3d6"),
        ),
        strict=True,
    )
)
PART_NAMES = {"ps": "processing system", "static": "PL static", "ddr": "DDR traffic"}
ROW = 16  # of a legend
BAR, GAP = 22, 22


def legend(entries: Sequence[tuple[str, str]], y: float, columns: int = 2) -> tuple[str, float]:
    """Coloured squares and their names from `y` down, and where they end."""
    parts = []
    for number, (name, colour) in enumerate(entries):
        x, at = 10 + number % columns * (WIDTH - 10) / columns, y + number // columns * ROW
        parts.append(
            f'<rect x="{x:.1f}" y="{at:.1f}" width="10" height="10" fill="{colour}"/>{text(x + 15, at + 9, name)}'
        )
    return "".join(parts), y + -(-len(entries) // columns) * ROW + 4


def exit_layers(title: str, series: Mapping[str, Mapping[str, int]], depth: int) -> str:
    """Shares of sentences by the layer at which they left; `series`: counts by layer, of each row by name."""
    shares = {name: {int(layer): n / sum(of.values()) for layer, n in of.items()} for name, of in series.items()}
    most = max(max(of.values()) for of in shares.values())
    axes = Axes((0.5, depth + 0.5), (0, 100 * most * 1.08), "layer at which sentences left", "% of sentences")
    width = axes.width / depth * 0.8 / len(shares)
    bars = [
        f'<rect x="{axes.x(layer) + (number - len(shares) / 2) * width:.1f}" y="{axes.y(100 * share):.1f}" '
        f'width="{max(width - 0.5, 0.5):.1f}" height="{axes.bottom - axes.y(100 * share):.1f}" '
        f'fill="{SERIES[number]}"/>'
        for number, of in enumerate(shares.values())
        for layer, share in of.items()
    ]
    drawn, height = legend([(name, SERIES[n]) for n, name in enumerate(shares)], HEIGHT + 2, 1)
    told = "; ".join(
        f"{name}: layer {sum(layer * share for layer, share in of.items()):.2f} on average"
        for name, of in shares.items()
    )
    return svg(title, told, axes.drawn() + "".join(bars) + drawn, round(height))


def energy_by_target(title: str, targets: Sequence[float], series: Mapping[str, tuple[Sequence[float], bool]]) -> str:
    """Energy against the target, a line for each of `series`: mJ by target, and whether it is hypothetical (dashed)."""
    most = max(max(values) for values, _ in series.values())
    axes = Axes((0, max(targets) * 1.02), (0, most * 1.08), "latency target, ms", "modelled mJ a sentence")
    parts = [axes.drawn()]
    for colour, (values, hypothetical) in zip(SERIES, series.values(), strict=False):
        points = " ".join(f"{axes.x(t):.1f},{axes.y(v):.1f}" for t, v in zip(targets, values, strict=True))
        dash = ' stroke-dasharray="5 3"' if hypothetical else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
        parts += [
            f'<circle cx="{axes.x(t):.1f}" cy="{axes.y(v):.1f}" r="2.5" fill="{colour}"/>'
            for t, v in zip(targets, values, strict=True)
        ]
    drawn, height = legend([(name, SERIES[n]) for n, name in enumerate(series)], HEIGHT + 2, 1)
    told = "; ".join(
        f"{name}: {four_digits(min(v))} to {four_digits(max(v))} mJ, modelled" for name, (v, _) in series.items()
    )
    return svg(title, told, "".join(parts) + drawn, round(height))


def accuracy_by_layer(
    title: str,
    points: Sequence[tuple[str, float, float]],
    curves: Mapping[str, Sequence[tuple[float, float]]],
    depth: int,
) -> str:
    """Accuracy in percent against the average layer of leaving: named points, and curves of such pairs."""
    every = [y for _, _, y in points] + [y for curve in curves.values() for _, y in curve]
    low, high = min(every), max(every)
    room = max((high - low) * 0.12, 0.5)
    axes = Axes((0, depth + 0.5), (low - room, high + room), "average layer of leaving", "accuracy, %")
    parts, entries = [axes.drawn()], []
    for number, (name, curve) in enumerate(curves.items(), 1):
        at = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in sorted(curve))
        parts.append(f'<polyline points="{at}" fill="none" stroke="{SERIES[number]}" stroke-width="1.5"/>')
        entries.append((name, SERIES[number]))
    for name, x, y in points:
        end = axes.x(x) > WIDTH * 0.7
        place = (axes.x(x) + (-6 if end else 6), axes.y(y) - 5, name, "end" if end else "start")
        parts.append(f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="4" fill="{SERIES[0]}"/>{text(*place)}')
    drawn, height = legend([("this run's rows, test split", SERIES[0]), *entries], HEIGHT + 2, 1)
    told = "; ".join(f"{name}: {y:.2f} % at layer {x:.2f}" for name, x, y in points)
    return svg(title, told, "".join(parts) + drawn, round(height))


def energy_parts(title: str, rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """A bar across for each row, stacked of its parts in mJ."""
    longest = max(sum(parts.values()) for _, parts in rows)
    names = [name for name in PART_COLOURS if any(parts.get(name) for _, parts in rows)]
    drawn = []
    for number, (name, parts) in enumerate(rows):
        y, x = number * (BAR + GAP) + GAP - 2 + TOP - 10, 1.0
        drawn.append(text(1, y - 5, name))
        for part in names:
            width = parts.get(part, 0.0) / longest * (WIDTH - 110)
            drawn.append(f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{BAR}" fill="{PART_COLOURS[part]}"/>')
            x += width
        drawn.append(text(x + 6, y + BAR - 7, f"{four_digits(sum(parts.values()))} mJ"))
    top = len(rows) * (BAR + GAP) + 14
    drawn.append(text(1, top, "modelled mJ a sentence, by part"))
    key, height = legend([(PART_NAMES.get(name, name), PART_COLOURS[name]) for name in names], top + 8)
    told = "; ".join(f"{name}: {four_digits(sum(parts.values()))} mJ, modelled" for name, parts in rows)
    return svg(title, told, "".join(drawn) + key, round(height))


def parts_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The parts of a row's energy in mJ."""
    return {name: figure["value"] for name, figure in row["energy_parts"].items()}


def standalone(drawing: str) -> str:
    """A drawing as a file of its own: with a typeface, and on white, whatever the page behind it is."""
    typed = drawing.replace("<svg ", '<svg font-family="system-ui, DejaVu Sans, sans-serif" ', 1)
    return typed.replace("</desc>", '</desc><rect width="100%" height="100%" fill="white"/>', 1) + "\n"
