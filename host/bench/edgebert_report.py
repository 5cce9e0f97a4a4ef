# SPDX-License-Identifier: Apache-2.0
"""The report of `zynqbert bench edgebert` for people: lines of text, drawings, and one HTML page that loads nothing.

Every figure stands beside the word that says where it is from; a missed target is marked where its row stands.
"""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

from ..early_exit import NATS
from . import edgebert_charts as charts
from .charts import four_digits

MISSED = "MISSED"


def points_of(lost: Mapping[str, Any]) -> str:
    """Points lost and their interval."""
    low, high = lost["interval"]
    return f"{lost['points']:+.2f} ({low:+.2f} to {high:+.2f})"


def met_text(row: Mapping[str, Any]) -> str:
    """Whether the target is met by all, or by how many it is missed."""
    target = row["target"]
    if target is None:
        return "–"
    missed = target["missed"]["value"]
    if not missed:
        return "met by all"
    share, worst = 1 - target["met_share"]["value"], four_digits(target["worst_over"]["value"])
    return f"{MISSED} by {missed} of {row['accuracy']['sentences']} ({share:.1%}), the worst by {worst} ms"


def accuracy_text(accuracy: Mapping[str, Any]) -> str:
    """Share, count and interval."""
    low, high = accuracy["interval"]
    return f"{accuracy['share']:.2%} ({accuracy['right']} of {accuracy['sentences']}; {low:.1%} to {high:.1%})"


def theta_text(point: Mapping[str, Any]) -> str:
    """The threshold of an operating point in nats and as the engine has it; nothing where all layers run."""
    stored = point["threshold"]
    return "" if stored is None else f"{stored * NATS:.3f} nats ({stored} as stored)"


def named(point: Mapping[str, Any]) -> str:
    """An operating point, and its threshold."""
    return "all layers" if point["point"] is None else f"point {point['point']}, θ {theta_text(point)}"


def way_of(step: Mapping[str, Any]) -> str:
    """How the model of a step ran."""
    if step["point"] is None:
        return "all layers"
    return f"early exit, point {step['point']}, " + ("to the layer foretold" if step["foretold"] else "by entropy")


def title_of(report: Mapping[str, Any]) -> str:
    """What the report is of."""
    return "zynqbert: early exit, latency targets and slimming"


def subtitle_of(report: Mapping[str, Any]) -> str:
    """What ran, in a line."""
    given = report["settings"]
    texts = f"{given['sentences']} sentences" + (f" of {given['texts_from']}" if given["texts_from"] else "")
    return f"{given['artifact']} at operating point {given['point']}, against {given['dense']}; {texts}"


# Text ----------------------------------------------------------------------------------------------------------------


def text(report: Mapping[str, Any]) -> str:
    """The report as lines."""
    lines = [f"{title_of(report)}: {subtitle_of(report)}"]
    for board, found in report["boards"].items():
        lines += ["", f"{board}, clocks up to {found['top_mhz']:g} MHz; energy a sentence, modelled"]
        lines += [line for row in told_rows(report, found) for line in _row_lines(row)]
        lines += ["", f"{board}: ratios of energies, modelled, beside the paper's (published, voltage scaled)"]
        lines += [f"  {line}" for line in ratio_lines(found)]
        lines += ["", f"{board}: apart from the ratios"]
        for aside in found["asides"]:
            lines.append(f"  {aside['name']} ({aside['kind']}): {aside['told']}")
            for row in aside["rows"]:
                energy, ratio = (four_digits(row[name]["value"]) for name in ("energy", "ratio"))
                lines.append(f"    {row['name']:58}{energy:>9} mJ  {ratio:>6}x  {aside['kind']}")
    lines += ["", "operating points by entropy alone: accuracy measured, energy and time at the top clock modelled"]
    for point in report["operating_points"]:
        layer = point["exit_layer"]["value"]
        lines.append(f"  {named(point)}: layer {layer:.2f} on average, {accuracy_text(point['accuracy'])}, measured")
        lines += [f"    {line}" for line in _cost_lines(point["boards"])]
    if report["steps"]:
        lines += ["", "steps of the recipe: accuracy measured, sizes counted, energy and cycles modelled"]
        lines += [f"  {line}" for step in report["steps"] for line in _step_lines(step)]
    return "\n".join([*lines, "", *(f"note: {note}" for note in report["notes"])])


def told_rows(report: Mapping[str, Any], found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of a board; (d) once, at the headline's target, where it is (c): the dense model has no off-ramps."""
    if report["settings"]["off_ramps_of"] == "dense":
        return found["rows"]
    return [row for row in found["rows"] if row["row"] != "d" or row["target_ms"] == found["headline_target_ms"]]


def _row_lines(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"  ({row['row']}) {row['name']}"
    names = ("energy", "energy_ratio", "latency_mean", "latency_max")
    energy, ratio, mean, longest = (four_digits(row[name]["value"]) for name in names)
    yield f"      {energy} mJ, a/{row['row']} {ratio}; {mean} ms on average, {longest} ms at most: modelled"
    accuracy, lost = accuracy_text(row["accuracy"]), points_of(row["lost"])
    yield f"      accuracy {accuracy}, points lost {lost}, layer {row['exit_layer']['value']:.2f} on average: measured"
    if row["target"] is not None:
        clocks = ", ".join(f"{count} at {mhz} MHz" for mhz, count in row["clocks"].items())
        yield f"      target {row['target_ms']:g} ms: {met_text(row)}, modelled; after layer 1: {clocks}"


def ratio_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """A line a ratio; those of the headline's target are marked."""
    for ratio in found["ratios"]:
        target = "" if ratio["target_ms"] is None else f" to {ratio['target_ms']:g} ms"
        published = "" if ratio["published"] is None else f"; paper, published: up to {ratio['published']:g}"
        missed = f"; {MISSED} by {ratio['missed']} sentences" if ratio["missed"] else ""
        headline = "  <- headline" if ratio["target_ms"] == found["headline_target_ms"] else ""
        name = f"{ratio['name']}{target}"
        yield f"{name:18}{ratio['ratio']['value']:6.2f} times, modelled{published}{missed}{headline}"


def _step_lines(step: Mapping[str, Any]) -> Iterator[str]:
    told = step["model"]
    span = "" if told["mean_span"] is None else f", mean span {told['mean_span']:.1f}"
    yield (
        f"{told['artifact']}: {told['bytes'] / 1e6:.2f} MB, {told['density']:.1%} of the encoder's weights not 0, "
        f"{told['heads']} of {told['heads_of']} heads{span}, {told['word_format']} words, counted"
    )
    yield f"    {way_of(step)}: layer {step['exit_layer']['value']:.2f}, {accuracy_text(step['accuracy'])}, measured"
    yield from (f"    {line}" for line in _cost_lines(step["boards"]))


def _cost_lines(boards: Mapping[str, Any]) -> Iterator[str]:
    for board, found in boards.items():
        energy, ms, cycles = (four_digits(found[name]["value"]) for name in ("energy", "latency_mean", "cycles_mean"))
        yield f"{board}: {energy} mJ, {ms} ms, {cycles} cycles a sentence, modelled"


# Drawings ------------------------------------------------------------------------------------------------------------


def headline_rows(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """(a), (b), and (c) and (d) at the headline's target."""
    return [row for row in found["rows"] if row["target_ms"] in (None, found["headline_target_ms"])]


def drawings(report: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """By file name: title, drawing and caption."""
    found = {}
    depth = max(told["layers"] for told in report["models"].values())
    for board, of in report["boards"].items():
        rows = headline_rows(of)
        leaving = {f"({row['row']}) {row['name']}": row["exit_layers"] for row in rows if row["row"] != "a"}
        title = f"Where sentences leave, {board} (measured)"
        caption = "Counted from the emulated engine's own records, test split."
        found[f"exit-layers-{board}.svg"] = title, charts.exit_layers(title, leaving, depth), caption
        targets = of["targets_ms"]
        series = {
            "top clock, then the clock stopped": ([t["race"]["value"] for t in of["by_target"]], False),
            "slowest clock that meets the target": ([t["slow"]["value"] for t in of["by_target"]], False),
            "the engine's choice": ([t["best"]["value"] for t in of["by_target"]], False),
            "until the answer, if the voltage could follow (hypothetical)": (
                [t["hypothetical_voltage"]["value"] for t in of["by_target"]],
                True,
            ),
        }
        title = f"Energy against the latency target, whole recipe, {board} (modelled)"
        missed = [f"{t['target_ms']:g} ms by {t['missed']['value']}" for t in of["by_target"] if t["missed"]["value"]]
        caption = (
            "Full lines: over the target's whole period, idling included, voltage fixed. Dashed: hypothetical."
            + (f" Targets {MISSED}: {', '.join(missed)} sentences." if missed else "")
        )
        found[f"energy-by-target-{board}.svg"] = title, charts.energy_by_target(title, targets, series), caption
        title = f"Where the energy of a sentence goes, {board} (modelled)"
        bars = [(f"({row['row']}) {row['name']}", charts.parts_of(row)) for row in rows]
        caption = "One power model, the same sentences, one a pass."
        found[f"energy-parts-{board}.svg"] = title, charts.energy_parts(title, bars), caption
    title = "Accuracy against the average layer of leaving (measured)"
    curve = [(p["exit_layer"]["value"], 100 * p["accuracy"]["share"]) for p in report["operating_points"]]
    first = next(iter(report["boards"].values()))
    points = [
        (f"({row['row']})", row["exit_layer"]["value"], 100 * row["accuracy"]["share"]) for row in headline_rows(first)
    ]
    curves = {"by entropy alone, operating points and all layers, test split": curve}
    curves |= {name: [tuple(at) for at in of] for name, of in report["dev_curves"].items()}
    caption = "Integers of the emulated engine on the test split; dev: what the operating points were chosen by."
    found["accuracy-by-layer.svg"] = title, charts.accuracy_by_layer(title, points, curves, depth), caption
    return found


# Page ----------------------------------------------------------------------------------------------------------------


def page(report: Mapping[str, Any]) -> str:
    """The report as one HTML page."""
    template = Template(resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    kind = (
        "Answers and layers of leaving: measured, the emulated engine's exact integers. Time and energy: modelled, by "
        "cycle and power models; there was no board."
    )
    return template.substitute(
        title=escape(title_of(report)),
        subtitle=escape(subtitle_of(report)),
        kind=kind,
        headline="".join(_headline(report)),
        charts="\n".join(
            f"<figure><h3>{escape(title)}</h3>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"
            for title, drawing, caption in drawings(report).values()
        ),
        tables="\n".join(_tables(report)),
        rails="",
        notes="\n".join(f"<li>{escape(note)}</li>" for note in report["notes"]),
        settings=_settings(report),
    )


def _badge(source: str) -> str:
    return f'<span class="source {escape(source.split()[-1])}">{escape(source)}</span>'


def _headline(report: Mapping[str, Any]) -> Iterator[str]:
    for board, found in report["boards"].items():
        for ratio in found["ratios"]:
            if ratio["target_ms"] not in (None, found["headline_target_ms"]):
                continue
            at = "" if ratio["target_ms"] is None else f" to {ratio['target_ms']:g} ms"
            published = "" if ratio["published"] is None else f" (paper: up to {ratio['published']:g}, published)"
            missed = f" <small>{MISSED} by {ratio['missed']}</small>" if ratio["missed"] else ""
            yield (
                f"<div><dt>{escape(board)}, energy {ratio['name']}{at}{published}</dt>"
                f"<dd>{ratio['ratio']['value']:.2f}{missed}</dd>{_badge('modelled')}</div>"
            )


def _tables(report: Mapping[str, Any]) -> Iterator[str]:
    for board, found in report["boards"].items():
        yield _table(
            f"{board}: energy a sentence",
            (
                (
                    f"({row['row']}) {row['name']}",
                    f"layer {row['exit_layer']['value']:.2f}; {accuracy_text(row['accuracy'])}, points lost "
                    f"{points_of(row['lost'])}, measured; target: {met_text(row)}",
                    f"{four_digits(row['energy']['value'])} mJ",
                    "modelled",
                    f"{board}.{row['key']}",
                )
                for row in told_rows(report, found)
            ),
        )
        yield _table(
            f"{board}: energy of (a) over that of each row",
            (
                (f"({row['row']}) {row['name']}", met_text(row), f"{row['energy_ratio']['value']:.2f}", "modelled", "")
                for row in told_rows(report, found)
            ),
        )
        for aside in found["asides"]:
            yield _table(
                f"{board}, apart from the ratios: {aside['name']}. {aside['told']}",
                (
                    (row["name"], "", f"{four_digits(row['energy']['value'])} mJ", aside["kind"], "")
                    for row in aside["rows"]
                ),
            )
    yield _table("Operating points, by entropy alone", _point_rows(report["operating_points"]))
    if report["steps"]:
        yield _table("Steps of the recipe", _step_rows(report["steps"]))


def _step_rows(steps: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str, str]]:
    for step in steps:
        name = f"{step['model']['artifact']}, {way_of(step)}"
        told = next(_step_lines(step))
        layer = f"layer {step['exit_layer']['value']:.2f} on average; {told}"
        yield name, layer, f"{step['accuracy']['share']:.2%}", "measured", ""
        yield from _cost_rows(name, step["boards"])


def _point_rows(points: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str, str]]:
    for point in points:
        name = named(point)
        yield name, accuracy_text(point["accuracy"]), f"layer {point['exit_layer']['value']:.2f}", "measured", ""
        yield from _cost_rows(name, point["boards"])


def _cost_rows(name: str, boards: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    for board, found in boards.items():
        ms, cycles = (four_digits(found[name]["value"]) for name in ("latency_mean", "cycles_mean"))
        told = f"{ms} ms, {cycles} cycles on average at the top clock"
        yield f"{name}, {board}", told, f"{four_digits(found['energy']['value'])} mJ", "modelled", ""


def _table(caption: str, rows: Iterable[tuple[str, str, str, str, str]]) -> str:
    """Label, what more there is to say, value, source, name in the JSON (if any)."""
    lines = [f"<table><caption>{escape(caption)}</caption><tbody>"]
    for label, more, value, source, name in rows:
        why = f'<div class="why">{escape(more)}</div>' if more else ""
        data = f' data-figure="{escape(name)}"' if name else ""
        lines.append(
            f'<tr{data}><th scope="row">{escape(label)}{why}</th><td class="value">{escape(value)}</td>'
            f"<td>{_badge(source)}</td></tr>"
        )
    return "".join([*lines, "</tbody></table>"])


def _settings(report: Mapping[str, Any]) -> str:
    given = report["settings"]
    rows = {
        "recipe's model": given["artifact"],
        "dense model": given["dense"],
        "off-ramps of rows (b), (c)": f"the {given['off_ramps_of']} model's",
        "operating point": given["point"],
        "sentences": f"{given['sentences']}, {given['texts_from'] or 'as given'}",
        "versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        "made": report["created"],
    }
    lines = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>' for name, value in rows.items()
    )
    return f'<table class="settings"><tbody>{"".join(lines)}</tbody></table>'
