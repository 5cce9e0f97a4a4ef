# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench board`: speed, power and energy of a model on a board, each figure "measured" or "modelled".

On a board all are measured. On an emulated one the engine's time and power are those of the models; what the emulator
takes is left out, and what Python takes on this machine is counted as the board's in the figures end to end, which are
modelled therefore. docs/bench.md says how each figure comes about.
"""

import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .. import engine as engines
from ..meter import BoardMeter
from ..packing import pack_pass
from ..target import Target
from .measured import measure
from .modelled import model
from .run import MEASURED, WARM_UP, Run, Texts, figure, percentile

FORMAT, VERSION = "zynqbert-bench", 1
IDLE_S = 2.0
BINS = 24  # of the latencies

# FQ-BERT (arXiv 2103.02800): BERT-base's encoder, 128 tokens, batch 1.
PUBLISHED = (
    {"name": "FQ-BERT", "board": "zcu102", "model": "BERT-base", "tokens": 128, "fps_per_watt": 2.32},
    {"name": "FQ-BERT", "board": "zcu111", "model": "BERT-base", "tokens": 128, "fps_per_watt": 3.18},
)


def bench_board(
    artifact: Path,
    texts: Texts,
    *,
    board: str,
    device: str | Target = "auto",
    clock_mhz: float | None = None,
    seconds: float = 5.0,
    idle_s: float = IDLE_S,
    texts_from: str = "",
    step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run `texts` on `board`; the report of docs/bench.schema.json.

    On a board the texts go round until `seconds` are over, once for the engine alone and once end to end, after
    `idle_s` with the engine idle. `texts_from` says where they are from; `step` is called after every text.
    Raises ValueError for no text, or a length of time that is not positive; what `engine.open` does; HostError where a
    text is not answered.
    """
    if not texts:
        raise ValueError("no sentence to run; remedy: give a file with one a line")
    if not (seconds > 0 and idle_s > 0):
        raise ValueError(f"{seconds:g} s of running after {idle_s:g} s of idling: both must be more than 0")
    with engines.open(board=board, artifact=artifact, device=device, clock_mhz=clock_mhz) as engine:
        sentences = [engine.encoder.encode(text) for text in texts]
        passes = [pack_pass([sentence]) for sentence in sentences]
        on_board = isinstance(engine.meter, BoardMeter)
        given = engine, texts, passes
        run = measure(*given, seconds, idle_s, step) if on_board else model(*given, step)
        tokens = [len(sentence.ids) for sentence in sentences]
        truncated = sum(sentence.truncated for sentence in sentences)
        return {
            "format": FORMAT,
            "version": VERSION,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "settings": {
                "board": engine.plan.board.name,
                "device": engine.target.name,
                "clock_mhz": engine.clock_mhz,
                "artifact": str(artifact),
                "labels": engine.labels,
                "texts_from": texts_from,
                "sentences": len(texts),
                "rounds": {"kernel": len(run.kernel_ms), "end_to_end": len(run.end_to_end_ms)},
                "warm_up_sentences": WARM_UP,
                "idle_s": idle_s if on_board else None,
            },
            "bitstream": bitstream_of(engine.target) if on_board else None,
            "figures": figures_of(run, tokens, truncated),
            "sentences": {
                "source": run.source,
                "tokens": tokens,
                "kernel_ms": [statistics.median(times) for times in zip(*run.kernel_ms, strict=True)],
                "end_to_end_ms": [statistics.median(times) for times in zip(*run.end_to_end_ms, strict=True)],
                "energy_mj": run.energy_mj,
            },
            "latencies": {
                "source": run.source,
                "kernel": histogram(run.kernel_ms),
                "end_to_end": histogram(run.end_to_end_ms),
            },
            "slowest": slowest(run, texts),
            "sampling": run.sampling,
            "power_over_time": run.power_over_time,
            "power_model": run.power_model,
            "published": [row | {"source": "published"} for row in PUBLISHED],
            "notes": list(run.notes),
            "versions": versions(),
        }


def figures_of(run: Run, tokens: Sequence[int], truncated: int) -> dict[str, dict[str, Any]]:
    """Every figure by name."""
    kernel, whole = ([ms for round_ in rounds for ms in round_] for rounds in (run.kernel_ms, run.end_to_end_ms))
    fps = len(kernel) / run.kernel_s
    found = {
        "fps": figure(fps, "fps", run.source),
        "fps_end_to_end": figure(len(whole) / run.end_to_end_s, "fps", run.source),
    }
    for name, times in (("kernel_latency", kernel), ("end_to_end_latency", whole)):
        for suffix, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)):
            found[f"{name}_{suffix}"] = figure(percentile(times, percent), "ms", run.source)
    above = run.load.above(run.idle)
    for name, watts in (("power", run.load), ("idle_power", run.idle), ("power_above_idle", above)):
        found[name] = figure(watts.total, "W", run.source, watts.why)
        for group in ("pl", "ps"):
            none = f"the board has no rails of the {group.upper()} alone"
            why = none if watts.groups and group not in watts.groups else watts.why
            found[f"{name}_{group}"] = figure(watts.groups.get(group), "W", run.source, why)
    for name, watts in (("energy_per_sentence", run.load), ("energy_per_sentence_above_idle", above)):
        energy = None if watts.total is None else 1e3 * watts.total / fps
        found[name] = figure(energy, "mJ", run.source, watts.why)
    per_watt = None if run.load.total is None else fps / run.load.total
    found["fps_per_watt"] = figure(per_watt, "fps/W", run.source, run.load.why)
    counted = {
        "tokens_min": min(tokens),
        "tokens_mean": statistics.fmean(tokens),
        "tokens_p50": percentile(tokens, 50),
        "tokens_p90": percentile(tokens, 90),
        "tokens_max": max(tokens),
    }
    found |= {name: figure(value, "tokens", MEASURED) for name, value in counted.items()}
    return found | {"truncated": figure(truncated, "sentences", MEASURED)}


def histogram(rounds: Sequence[Sequence[float]]) -> dict[str, list]:
    """How many passes of all rounds took how long: BINS counts between BINS + 1 edges in ms."""
    counts, edges = np.histogram([ms for times in rounds for ms in times], BINS)
    return {"edges_ms": edges.tolist(), "passes": counts.tolist()}


def slowest(run: Run, texts: Texts) -> dict[str, Any]:
    """The text that the engine took longest for, its begin at least."""
    worst = max(range(len(texts)), key=lambda i: max(times[i] for times in run.kernel_ms))
    longest = max(times[worst] for times in run.kernel_ms)
    text = texts[worst] if isinstance(texts[worst], str) else " | ".join(texts[worst])
    return {"text": text if len(text) <= 120 else text[:119] + "…", "kernel": figure(longest, "ms", run.source)}


def bitstream_of(target: Target) -> dict[str, Any]:
    """The bitstream's file and what its manifest says."""
    return {"path": target.bitstream, "manifest": None if target.manifest is None else asdict(target.manifest)}


def versions() -> dict[str, str]:
    """Of what ran."""
    packages = {name: metadata.version(name) for name in ("zynqbert", "pynq", "numpy", "tokenizers")}
    return packages | {"python": platform.python_version(), "platform": platform.platform()}
