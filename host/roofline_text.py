# SPDX-License-Identifier: Apache-2.0
"""Parts, roofline and sensitivity of an estimate as text, from the values that roofline.py gives."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..fpga.assumptions import ASSUMPTIONS
from ..fpga.cycle_account import CAUSES
from ..fpga.cycles import UNITS
from ..fpga.program_parts import PARTS
from ..fpga.sensitivity import RATIOS

# The table of designs; what is derived from published figures has DERIVED behind it, what is not known is NOT_KNOWN.
DESIGN_HEAD = ("design", "platform", "precision", "MHz", "input", "ms", "GOPS", "GOPS/W", "fps/W")
DERIVED, NOT_KNOWN = "*", "–"


def over_layers(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The parts with those of all layers together, in the order of PARTS: `cycles`, `share`, `bound` and `busy`."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        sums = found.setdefault(
            part["part"], {"part": part["part"], "cycles": 0, "share": 0.0, "bound": {}, "busy": {}}
        )
        sums["cycles"] += part["cycles"]
        sums["share"] += part["share"]
        for name in ("bound", "busy"):
            for key, cycles in part[name].items():
                sums[name][key] = sums[name].get(key, 0) + cycles
    return sorted(found.values(), key=lambda sums: PARTS.index(sums["part"]))


def part_lines(parts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Where the cycles go, all layers together: by what bound them, and beside that what each unit works meanwhile."""
    rows = over_layers(parts)
    whole = {"part": "all", "share": 1.0, "bound": {}, "busy": {}, "cycles": sum(row["cycles"] for row in rows)}
    for name, keys in (("bound", CAUSES), ("busy", UNITS)):
        whole[name] = {key: sum(row[name].get(key, 0) for row in rows) for key in keys}
    yield "Where the cycles go, all layers together, modelled: what bound them | how long each unit works for it"
    yield f"  {'':18}{'cycles':>10}{'share':>8}" + "".join(f"{c:>10}" for c in CAUSES) + "  |" + _cells(UNITS)
    for row in (*rows, whole):
        bound = _cells(row["bound"].get(cause, 0) or "" for cause in CAUSES)
        busy = _cells(row["busy"].get(unit, 0) or "" for unit in UNITS)
        yield f"  {row['part']:18}{row['cycles']:10}{row['share']:8.1%}{bound}  |{busy}"


def _cells(values: Iterable[Any]) -> str:
    return "".join(f"{value:>10}" for value in values)


def sensitivity_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The headline, and below it each broken assumption with its ratios to the headline."""
    yield "The pass simulated again with assumptions broken (docs/roofline.md), modelled; in brackets the ratio"
    for row in rows:
        ms, used, efficiency = ("" if row is rows[0] else f"({row[f'{name}_ratio']:.3f})" for name in RATIOS)
        line = (
            f"  {row['name']:38}{row['latency_ms']:8.3f} ms {ms:8}{row['mac_utilization']:6.1%} of the array {used:8}"
            f"{row['power_w']:6.2f} W{row['fps_per_w']:7.2f} fps/W {efficiency:8}{numbers(row['assumptions'])}"
        )
        yield line.rstrip()


def numbers(names: Sequence[str]) -> str:
    """Where assumptions stand in docs/assumptions.md: "A02", "A14, A15", or of many the first and the last."""
    found = sorted(a.id for a in ASSUMPTIONS if a.name in names)
    return f"{found[0]} to {found[-1]}" if len(found) > 4 else ", ".join(found)


def model_name(figures: Mapping[str, Any]) -> str:
    """The name of an estimate's model: of an artifact, its folder's; of a pruned shape also how much is left."""
    name, density = Path(figures["model"]).name, figures.get("density", 1.0)
    if density == 1:
        return name
    return f"{name} ({density:g} of the weights{', in blocks' if figures['pattern'] == 'blocks' else ''})"


def design_rows(figures: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Ours (modelled) and the published designs, a tuple of DESIGN_HEAD's columns each."""
    gops = next(p["gops"] for p in figures["extra"]["roofline"]["points"] if p["tokens"] == figures["sequence"])
    low, high = figures["extra"]["fps_per_w_range"]
    ours = (
        "zynqbert, modelled",
        figures["board"].upper(),
        "w4a8",
        f"{figures['clock_mhz']:g}",
        f"{model_name(figures)}, {figures['sequence']}",
        f"{figures['latency_ms']:.2f}",
        f"{gops:.0f}",
        f"{gops / figures['power_w']:.0f}",
        f"{figures['fps_per_w']:.1f} ({low:.1f} to {high:.1f})",
    )
    return [ours, *(_published(row) for row in figures["extra"]["roofline"]["published"])]


def _published(row: Mapping[str, Any]) -> tuple[str, ...]:
    def shown(figure: str, form: str) -> str:
        if row[figure] is None:
            return NOT_KNOWN
        value = f"{row[figure]:{form}}"
        if figure == "fps_per_w" and row["fps_per_w_high"] is not None:
            value += f" to {row['fps_per_w_high']:g}"
        return value + (DERIVED if row["tags"][figure] == "derived" else "")

    clock = NOT_KNOWN if row["clock_mhz"] is None else f"{row['clock_mhz']:g}"
    given = row["model"] if row["sequence"] is None else f"{row['model']}, {row['sequence']}"
    figures = shown("ms", ".2f"), shown("gops", ".0f"), shown("gops_per_w", ".0f"), shown("fps_per_w", ".3g")
    return (row["name"], row["platform"], row["precision"], clock, given, *figures)
