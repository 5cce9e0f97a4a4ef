# SPDX-License-Identifier: Apache-2.0
"""A benchmark's report (host/bench/board.py) for people: lines of text, and one HTML page that loads nothing."""

from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

from . import charts
from .charts import four_digits

# The figures by table: title, then the report's name and ours of each.
PERCENTILES = (("p50", "half of them within"), ("p90", "90 % within"), ("p99", "99 % within"), ("max", "longest"))
SUMS = (("", "PL and PS"), ("_pl", "PL"), ("_ps", "PS"))
TABLES = (
    (
        "Speed",
        (
            ("fps", "engine alone, sentences a second"),
            ("fps_end_to_end", "end to end, sentences a second"),
            ("fps_per_watt", "engine alone, sentences a second and watt"),
        ),
    ),
    ("Latency, engine alone", tuple((f"kernel_latency_{key}", name) for key, name in PERCENTILES)),
    ("Latency, end to end", tuple((f"end_to_end_latency_{key}", name) for key, name in PERCENTILES)),
    ("Power, engine busy", tuple((f"power{key}", name) for key, name in SUMS)),
    ("Power, engine idle", tuple((f"idle_power{key}", name) for key, name in SUMS)),
    ("Power above idle", tuple((f"power_above_idle{key}", name) for key, name in SUMS)),
    (
        "Energy a sentence, engine alone",
        (("energy_per_sentence", "PL and PS"), ("energy_per_sentence_above_idle", "above idle")),
    ),
    (
        "Length of the sentences, special tokens included",
        (
            ("tokens_min", "shortest"),
            ("tokens_mean", "mean"),
            ("tokens_p50", "half of them within"),
            ("tokens_p90", "90 % within"),
            ("tokens_max", "longest"),
            ("truncated", "cut to the model's length"),
        ),
    ),
)
HEADLINE = (
    ("fps", "sentences a second, engine alone"),
    ("fps_end_to_end", "sentences a second, end to end"),
    ("kernel_latency_p50", "latency, engine alone, median"),
    ("power", "PL and PS, engine busy"),
    ("fps_per_watt", "sentences a second and watt"),
    ("energy_per_sentence", "energy a sentence"),
)
PARTS = {
    "ps": "processing system",
    "ddr": "DDR traffic",
    "static": "PL static",
    "dsp": "DSP",
    "lut": "LUT",
    "bram36": "block RAM",
    "uram": "URAM",
    "clocks": "clocks and registers",
}


def text(report: Mapping[str, Any]) -> str:
    """The report as lines: every figure with its source, then what a reader must know."""
    lines = [f"{title_of(report)}: {subtitle_of(report)}"]
    for title, rows in TABLES:
        lines.append(title)
        for name, label in rows:
            shown, why = value_of(report["figures"][name]), report["figures"][name].get("why")
            lines.append(f"  {label:34}{shown:>16}  {report['figures'][name]['source']}{f'  ({why})' if why else ''}")
    lines.append("fps/W of others, at another length and model than this run's")
    for row in report["published"]:
        label = f"{row['name']}, {row['model']}, {row['tokens']} tokens, {row['board']}"
        lines.append(f"  {label:44}{row['fps_per_watt']:>6} fps/W  published")
    return "\n".join([*lines, *(f"note: {note}" for note in report["notes"])])


def title_of(report: Mapping[str, Any]) -> str:
    """What the report is of."""
    return f"zynqbert on {report['settings']['device']}"


def subtitle_of(report: Mapping[str, Any]) -> str:
    """What ran, in a line."""
    given = report["settings"]
    texts = f"{given['sentences']} sentences" + (f" of {given['texts_from']}" if given["texts_from"] else "")
    return f"{given['clock_mhz']:g} MHz, {given['artifact']}, {texts}"


def value_of(figure: Mapping[str, Any]) -> str:
    """A figure's value and unit."""
    return "not known" if figure["value"] is None else f"{four_digits(figure['value'])} {figure['unit']}"


def page(report: Mapping[str, Any]) -> str:
    """The report as one HTML page."""
    measured = report["sentences"]["source"] == "measured"
    kind = (
        "Measured on a board: time by its clock, power by its sensors."
        if measured
        else "Modelled: there was no board. The sentences ran on an emulated one, bit for bit; time, power and energy "
        "are those of cycle and power models, not of a measurement."
    )
    template = Template(resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title_of(report)),
        subtitle=escape(subtitle_of(report)),
        kind=kind,
        headline="".join(
            f"<div><dt>{label}</dt><dd>{escape(value_of(report['figures'][name]))}</dd>{_badge(report['figures'][name])}</div>"
            for name, label in HEADLINE
        ),
        charts="\n".join(
            f"<figure><h3>{escape(title)}</h3>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"
            for title, drawing, caption in _charts(report)
        ),
        tables="\n".join(
            _table(title, ((label, report["figures"][name], name) for name, label in rows)) for title, rows in TABLES
        ),
        rails=_rails(report["sampling"]),
        notes="\n".join(f"<li>{escape(note)}</li>" for note in report["notes"]),
        settings=_settings(report),
    )


def _badge(figure: Mapping[str, Any]) -> str:
    """Measured or modelled, in words; nothing for what is not known."""
    if figure["value"] is None:
        return ""
    return f'<span class="source {figure["source"]}">{figure["source"]}</span>'


def _table(caption: str, rows: Iterable[tuple[str, Mapping[str, Any], str]]) -> str:
    """A table of figures: label, figure and its name in the JSON."""
    lines = [f"<table><caption>{escape(caption)}</caption><tbody>"]
    for label, figure, name in rows:
        why = f'<div class="why">{escape(figure["why"])}</div>' if figure.get("why") else ""
        lines.append(
            f'<tr data-figure="{escape(name)}"><th scope="row">{escape(label)}{why}</th>'
            f'<td class="value">{escape(value_of(figure))}</td><td>{_badge(figure)}</td></tr>'
        )
    return "".join([*lines, "</tbody></table>"])


def _charts(report: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """Each chart: title, drawing and caption."""
    given = report["sentences"]
    source = given["source"]
    for key, where in (("kernel", "engine alone"), ("end_to_end", "end to end")):
        at = {name: report["figures"][f"{key}_latency_{name}"]["value"] for name in ("p50", "p99")}
        title = f"Latency, {where} ({source})"
        caption = f"How many passes took how long, {where}; dashed: what half of them and 99 % stay within."
        found = report["latencies"][key]
        yield title, charts.histogram(title, "ms", found["edges_ms"], found["passes"], at), caption
    yield _power_chart(report)
    if None not in given["energy_mj"]:
        title = f"Energy a sentence against its length ({source})"
        caption = "Mean power times the sentence's own latency, engine alone; a dot for each sentence."
        yield title, charts.points(title, given["tokens"], given["energy_mj"], ("tokens", "mJ")), caption
    own = report["figures"]["fps_per_watt"]["value"]
    tokens = four_digits(report["figures"]["tokens_mean"]["value"])
    settings = report["settings"]
    rows = [] if own is None else [(f"this run, {settings['board']}, {tokens} tokens on average ({source})", own, True)]
    for row in report["published"]:
        name = f"{row['name']}, {row['board']}, {row['model']}, {row['tokens']} tokens (published)"
        rows.append((name, row["fps_per_watt"], False))
    title = "Sentences a second and watt, beside published ones"
    caption = (
        "Published: FQ-BERT (arXiv 2103.02800), BERT-base at 128 tokens, all layers. Another model and length than "
        "this run's: a shorter sentence or a smaller model is faster on any engine."
    )
    yield title, charts.bars(title, "fps/W", rows), caption


def _power_chart(report: Mapping[str, Any]) -> tuple[str, str, str]:
    """Watts over time where they were sampled, else by part where they are modelled."""
    over, parts = report["power_over_time"], report["power_model"]
    if over is not None:
        title = "Power over time (measured)"
        bands = [(stretch["name"], stretch["begin_s"], stretch["end_s"]) for stretch in over["stretches"]]
        series = {name.upper(): watts for name, watts in over["watts"].items()}
        caption = "Sums of the rails of PL and PS; shaded: what idle and busy power are means of."
        return title, charts.lines(title, over["seconds"], series, ("s", "W"), bands), caption
    if parts is not None:
        title = "Power by part, engine busy (modelled)"
        rows = [(PARTS.get(name, name), figure["value"], True) for name, figure in parts["parts"].items()]
        low, high = (value_of(parts[name]) for name in ("low", "high"))
        caption = f"Where the model sees the watts go; their sum lies between {low} and {high}."
        return title, charts.bars(title, "W", rows), caption
    return "Power", "", f"Not known: {report['figures']['power']['why']}."


def _rails(sampling: Mapping[str, Any] | None) -> str:
    """The sensors' own means, where there were sensors."""
    if sampling is None:
        return ""
    tables = [
        _table(
            f"Each rail, engine {when}",
            (
                (f"{rail['part']} {rail['net']} ({rail['group'].upper()})", rail[key], f"{rail['part']}.{key}")
                for rail in sampling["rails"]
            ),
        )
        for key, when in (("power", "busy"), ("idle_power", "idle"))
    ]
    counts = (("used", sampling["samples"], "samples"), ("dropped", sampling["dropped"], "dropped"))
    tables.append(_table("Readings of all rails", counts))
    return f'<h2>Power sensors</h2><div class="tables">{"".join(tables)}</div>'


def _settings(report: Mapping[str, Any]) -> str:
    """What was run, on what, with which versions."""
    given, bitstream, slowest = report["settings"], report["bitstream"], report["slowest"]
    rows = {
        "board": given["board"],
        "device": given["device"],
        "engine clock": f"{given['clock_mhz']:g} MHz",
        "model": given["artifact"],
        "its labels": ", ".join(given["labels"]),
        "sentences": f"{given['sentences']}, {given['texts_from'] or 'as given'}",
        "rounds": f"engine alone {given['rounds']['kernel']}, end to end {given['rounds']['end_to_end']}",
        "slowest sentence": f"{slowest['text']} ({value_of(slowest['kernel'])}, {slowest['kernel']['source']})",
        "bitstream": "none: the engine is emulated" if bitstream is None else bitstream["path"],
    }
    if bitstream is not None and bitstream["manifest"] is not None:
        manifest = bitstream["manifest"]
        rows["bitstream's commit"] = (
            f"{manifest['commit']}{', modified' if manifest['modified'] else ''}, {manifest['date']}"
        )
        rows["timing met for"] = f"{manifest['max_clock_mhz']:g} MHz"
        rows["built with"] = ", ".join(f"{name} {version}" for name, version in manifest["tools"].items())
    rows |= {"versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items())}
    rows["made"] = report["created"]
    lines = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>' for name, value in rows.items()
    )
    return f'<table class="settings"><tbody>{"".join(lines)}</tbody></table>'
