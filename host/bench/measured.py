# SPDX-License-Identifier: Apache-2.0
"""A benchmark on a board: everything by its clock and its power sensors."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any, TypeVar

import numpy as np

from ..engine import Engine
from ..packing import Pass
from ..rails import Rails
from ..sampler import SETTLE_S, Mark, MeanPower, Sampler
from .run import MEASURED, WARM_UP, Run, Texts, Watts, answered, figure

POINTS = 300  # of the plot of power over time

NOTES = (
    "engine alone: from writing a pass's rows to reading its answer, driver and its polling included, one pass after "
    "the other; a thread reads the power sensors meanwhile",
    "end to end: text in, answer out, one after the other, tokenizer, packing and Python on the board included",
)
UNKNOWN = Watts({}, "the board's power sensors were not found (docs/troubleshooting.md, sensors)")

T = TypeVar("T")


@dataclass(frozen=True)
class Stretch:
    """A stretch of time, in seconds since the sampler was made, and how far the rails were at either end."""

    name: str
    begin_s: float
    begin: Mapping[str, Mark]
    end_s: float
    end: Mapping[str, Mark]


def measure(
    engine: Engine,
    texts: Texts,
    passes: Sequence[Pass],
    seconds: float,
    idle_s: float,
    step: Callable[[], None],
) -> Run:
    """What a board takes: idle, then the engine alone, its sensors sampled in both; then end to end, without."""

    def alone() -> tuple[list[list[float]], float]:
        return rounds(passes, engine.run_pass, seconds, step)

    rails = engine.meter.rails
    if rails is None:
        rounds(passes[:WARM_UP], engine.run_pass, SETTLE_S)
        kernel, kernel_s = alone()
        found = {"load": UNKNOWN, "idle": UNKNOWN}
    else:
        with Sampler(rails, keep=True) as sampler:
            sleep(SETTLE_S)
            idle, _ = during("idle", sampler, lambda: sleep(idle_s))
            rounds(passes[:WARM_UP], engine.run_pass, SETTLE_S)
            load, (kernel, kernel_s) = during("engine alone", sampler, alone)
        found = power_of(sampler, rails, idle, load)
    rounds(texts[:WARM_UP], lambda text: answered(engine, text), SETTLE_S)
    whole, whole_s = rounds(texts, lambda text: answered(engine, text), seconds, step)
    total = found["load"].total
    medians = [statistics.median(times) for times in zip(*kernel, strict=True)]
    energy = [None if total is None else total * ms for ms in medians]
    notes = NOTES + found.pop("notes", ())
    return Run(MEASURED, kernel, kernel_s, whole, whole_s, energy, notes=notes, **found)


def rounds(
    items: Sequence[T], run: Callable[[T], Any], seconds: float, step: Callable[[], None] = lambda: None
) -> tuple[list[list[float]], float]:
    """Run every item, round by round until `seconds` are over: by round each item's ms, and the seconds of all."""
    times: list[list[float]] = []
    start = perf_counter()
    while not times or perf_counter() - start < seconds:
        times.append([])
        for item in items:
            begin = perf_counter()
            run(item)
            times[-1].append((perf_counter() - begin) * 1e3)
            step()
    return times, perf_counter() - start


def during(name: str, sampler: Sampler, run: Callable[[], T]) -> tuple[Stretch, T]:
    """Call `run`; the stretch of time that took, in which every rail was read, and what it returned."""
    begin_s, begin = sampler.now(), sampler.mark()
    result = run()
    end = sampler.after(begin, SETTLE_S)
    return Stretch(name, begin_s, begin, sampler.now(), end), result


def power_of(sampler: Sampler, rails: Rails, idle: Stretch, load: Stretch) -> dict[str, Any]:
    """The fields of a Run that the sensors tell, by name."""
    idle_mean, load_mean = (sampler.mean(stretch.begin, stretch.end) for stretch in (idle, load))
    notes = list(rails.notes)
    if rails.missing:
        notes.append(f"the kernel does not show {', '.join(rails.missing)}: the board takes more than the sums say")
    if load_mean.lost:
        notes.append(f"{_watts(load_mean, rails).why}: its group has no figure")
    return {
        "load": _watts(load_mean, rails),
        "idle": _watts(idle_mean, rails),
        "sampling": _sampling(rails, idle_mean, load_mean),
        "power_over_time": over_time(sampler, rails, [idle, load]),
        "notes": tuple(notes),
    }


def _watts(mean: MeanPower, rails: Rails) -> Watts:
    """The sampler's mean with the reason where there is none."""
    known = {rail.name: rail for group in rails.groups.values() for rail in group}
    reasons = [f"the sensor {part} {known[part].net} was lost after {at:.1f} s" for part, at in mean.lost.items()]
    unread = [part for part, watts in mean.rails.items() if watts is None and part not in mean.lost]
    reasons += [f"the sensor {part} {known[part].net} gave no usable reading" for part in unread]
    reasons += [
        f"the kernel shows no sensor of the {name.upper()}" for name, group in rails.groups.items() if not group
    ]
    return Watts(mean.groups, "; ".join(reasons))


def _sampling(rails: Rails, idle: MeanPower, load: MeanPower) -> dict[str, Any]:
    """How the sensors were read, and each rail's own mean."""
    return {
        "rails": [
            {
                "part": rail.name,
                "net": rail.net,
                "group": group,
                "power": figure(load.rails[rail.name], "W", MEASURED, "lost, or never read"),
                "idle_power": figure(idle.rails[rail.name], "W", MEASURED, "lost, or never read"),
                "lost_at_s": load.lost.get(rail.name),
            }
            for group, members in rails.groups.items()
            for rail in members
        ],
        "rails_missing": list(rails.missing),
        "samples": figure(idle.samples + load.samples, "readings", MEASURED),
        "dropped": figure(idle.dropped + load.dropped, "readings", MEASURED),
    }


def over_time(sampler: Sampler, rails: Rails, stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Each group's watts at POINTS moments of the stretches and between, along straight lines between readings.

    None where a rail of the group is lost, or the group has none to read.
    """
    series = {part: np.array(points).reshape(-1, 2) for part, points in sampler.series().items()}
    at = np.linspace(stretches[0].begin_s, stretches[-1].end_s, POINTS)
    lost = {part: mark.lost_at for part, mark in stretches[-1].end.items() if mark.lost_at is not None}
    groups = {}
    for name, members in rails.groups.items():
        total = np.full(POINTS, 0.0 if members else np.nan)
        for rail in members:
            points = series[rail.name]
            watts = np.interp(at, points[:, 0], points[:, 1]) if len(points) else np.nan
            total += np.where(at >= lost.get(rail.name, np.inf), np.nan, watts)
        groups[name] = [None if np.isnan(watts) else round(float(watts), 4) for watts in total]
    return {
        "source": MEASURED,
        "seconds": [round(float(moment), 4) for moment in at],
        "watts": groups,
        "stretches": [
            {"name": stretch.name, "begin_s": round(stretch.begin_s, 4), "end_s": round(stretch.end_s, 4)}
            for stretch in stretches
        ],
    }
