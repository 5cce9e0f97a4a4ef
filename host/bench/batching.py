# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench batching`: one sentence a pass, several, and a queue that is never empty, with early exit.

At which layer each sentence leaves, and what it answers there, is counted from the integers, which are those of the
engine; time, power and energy follow from that by the cycle and power models. docs/packing.md says how to read it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...fpga import instructions as isa
from ...fpga.boards import Board, board_named
from ...fpga.dvfs import Passes, leaving_at
from ...fpga.energy import Work, energy, work_of
from ...quant.datasets import DATA_SETS
from ..compiler import Plan, plan
from ..continuous import ENTRIES, WINDOW, entries_of
from ..early_exit import operating_point, verdicts_after
from ..exit_plan import ExitPlan
from ..model_shape import ModelShape
from ..options import check_clock
from ..packed import passes as passes_of
from ..packer import Packer
from ..packing import Sentence, SentenceEncoder
from ..sentence_queue import Entry, course_of
from ..task_set import load_model
from ..tied import queue_plan
from .labelled import data_of, in_order
from .run import MEASURED, MODELLED, figure

Step = Callable[[], None]
Progress = Callable[[str, int], Step]  # what is done, how often: a function to call each time


@dataclass(frozen=True)
class Given:
    """Sentences of a model, each with the layer at which it leaves (all layers without early exit), on a board."""

    board: Board
    clock_mhz: float
    sentences: Sequence[Sentence]
    layers: Sequence[int]
    depth: int


@dataclass(frozen=True)
class Found:
    """What a way of running them all takes: modelled work, passes or steps (`unit`), mean latency in ms."""

    work: Work
    count: int
    latency_ms: float
    unit: str = "passes"


def bench_batching(
    folder: Path,
    *,
    board: str = "zcu102",
    point: str | None = None,
    task: str | None = None,
    data: str | None = None,
    count: int | None = None,
    clock_mhz: float | None = None,
    entries: int = ENTRIES,
    progress: Progress = lambda what, total: lambda: None,
) -> dict[str, Any]:
    """The report: rows by name, figures as docs/bench.md has them, `ratio` to a sentence of 128 tokens at full depth.

    point: an operating point, the artifact's first if None, none where it has no off-ramps. data: a data set by name,
    the artifact's own if None, whose first `count` test texts run. `progress` begins a part of so many steps. Raises
    InputError, ArtifactError, CompileError, DataUnavailable.
    """
    artifact = load_model(folder, task)
    manifest = artifact.manifest
    of = board_named(board)
    check_clock(clock_mhz, board)
    name = data_of(manifest, data)
    shape = ModelShape.of_manifest(manifest)
    longest = min(isa.MAX_ROWS, shape.positions, manifest["task"]["max_length"])
    encoder = SentenceEncoder(artifact.tokenizer_path, longest, shape.vocab, shape.types)
    examples = in_order(DATA_SETS[name].load("test")[:count], DATA_SETS[name].labels, manifest["task"]["labels"])
    sentences = [encoder.encode(example.texts) for example in examples]
    depth = len(shape.layers)
    chosen, threshold, layers, right = None, None, [depth] * len(sentences), {}
    if shape.exits is not None and manifest["exits"]["points"]:
        chosen = point or next(iter(manifest["exits"]["points"]))
        threshold = operating_point(manifest, chosen)["threshold"]
        step = progress("tokens answered", sum(len(s.ids) for s in sentences))
        layers, right = answers_of(artifact, sentences, threshold, [example.label for example in examples], step)
    elif point is not None:
        operating_point(manifest, point)  # which says why there is none
    clock_mhz = of.clock_mhz if clock_mhz is None else clock_mhz
    all_layers = Given(of, clock_mhz, sentences, [depth] * len(sentences), depth)
    early = Given(of, clock_mhz, sentences, layers, depth)
    whole = Passes(plan(shape, of, artifact=artifact))
    leaving = whole if threshold is None else Passes(plan(shape, of, artifact=artifact, exits=ExitPlan(threshold)))
    try:
        queue = queue_plan(artifact, entries, threshold)
    except ValueError:
        queue = None  # layers of their own
    ways = 2 + 2 * (threshold is not None) + (queue is not None)
    step = progress("sentences, each way", ways * len(sentences))
    found = {"a sentence of 128 tokens, all layers": full_pass(whole, clock_mhz)}
    found["one a pass, all layers"] = one_by_one(whole, all_layers, leaves=False, step=step)
    found["several a pass, all layers"] = packed(whole, all_layers, leaves=False, step=step)
    if threshold is not None:
        found["one a pass, early exit"] = one_by_one(leaving, early, leaves=True, step=step)
        found["several a pass, early exit"] = packed(leaving, early, leaves=True, step=step)
    if queue is not None:
        tied = plan(shape.one_layer(), of, artifact=artifact, queue=queue)
        found["continuously batched, early exit"] = continuous(tied, early, entries, step)
    rows = {
        title: row(of, result, 1 if title.startswith("a sent") else len(sentences)) for title, result in found.items()
    }
    full = rows["a sentence of 128 tokens, all layers"]["fps_per_watt"]["value"]
    for of_row in rows.values():
        of_row["ratio"] = figure(of_row["fps_per_watt"]["value"] / full, "times", MODELLED)
    return {
        "artifact": Path(folder).resolve().name,
        "board": board,
        "clock_mhz": clock_mhz,
        "data": name,
        "sentences": len(sentences),
        "tokens": figure(float(np.mean([len(s.ids) for s in sentences])), "tokens", MEASURED),
        "layers": depth,
        "point": chosen,
        "exit_layer": figure(float(np.mean(layers)), "layers", MEASURED),
        "accuracy": {way: figure(share, "share", MEASURED) for way, share in right.items()},
        "rows": rows,
    }


def answers_of(
    artifact, sentences: Sequence[Sentence], threshold: int, labels: Sequence[int], step: Step
) -> tuple[list[int], dict[str, float]]:
    """At which layer each leaves, and the share answered right there and at the last one, from the logits of every ramp
    (quant.evaluate, equal to the engine's); `step` is called for every token."""
    from ...quant.evaluate import ramp_entropies, ramp_logits
    from ...quant.thresholds import exit_layers
    from ...quant.tokens import Tokens

    tokens = [Tokens(s.ids.tolist(), s.types.tolist()) for s in sentences]

    def rows_done(rows: int) -> None:
        for _ in range(rows):
            step()

    logits = ramp_logits(artifact.manifest, artifact.tensors, tokens, rows_done)
    layers = exit_layers(ramp_entropies(artifact.manifest, logits), threshold)
    right = logits.argmax(axis=2) == np.asarray(labels)[:, None]  # [sentences, layers]
    early = right[np.arange(len(layers)), layers - 1]
    return layers.tolist(), {"all layers": float(right[:, -1].mean()), "early exit": float(early.mean())}


def row(board: Board, found: Found, sentences: int) -> dict[str, Any]:
    """The figures of a way."""
    seconds, joules = found.work["seconds"], energy(board, found.work).joules
    return {
        "passes": figure(found.count, found.unit, MEASURED),
        "sentences_per_second": figure(sentences / seconds, "1/s", MODELLED),
        "power": figure(joules / seconds, "W", MODELLED),
        "fps_per_watt": figure(sentences / joules, "1/(s W)", MODELLED),
        "energy_per_sentence": figure(1e3 * joules / sentences, "mJ", MODELLED),
        "latency": figure(found.latency_ms, "ms", MODELLED),
    }


def full_pass(passes: Passes, clock_mhz: float) -> Found:
    """One sentence in all rows of a pass."""
    course = passes.course(isa.MAX_ROW_BLOCKS, None, clock_mhz, clock_mhz)
    return Found(course.work, 1, 1e3 * course.seconds)


def one_by_one(passes: Passes, given: Given, *, leaves: bool, step: Step) -> Found:
    """A pass each."""
    work, seconds = Work(), 0.0
    for sentence, layer in zip(given.sentences, given.layers, strict=True):
        blocks = -(-len(sentence.ids) // isa.LANES)
        verdicts = leaving_at(layer, blocks) if leaves else None
        course = passes.course(blocks, verdicts, given.clock_mhz, given.clock_mhz)
        work, seconds = work + course.work, seconds + course.seconds
        step()
    return Found(work, len(given.sentences), 1e3 * seconds / len(given.sentences))


def packed(passes: Passes, given: Given, *, leaves: bool, step: Step) -> Found:
    """As `Engine.packed` packs them."""
    work, count, waited = Work(), 0, 0.0
    for taken in passes_of(range(len(given.sentences)), Packer(), given.sentences.__getitem__):
        blocks, masks, at = [], [], 0
        for waiting in taken:
            end = at + len(waiting.sentence.ids)
            blocks.append(range(at // isa.LANES, (end - 1) // isa.LANES + 1))
            at = end
        masks = [sum(1 << block for block in of) for of in blocks]
        verdicts = verdicts_after(masks, [given.layers[w.number] for w in taken], given.depth) if leaves else None
        course = passes.course(-(-at // isa.LANES), verdicts, given.clock_mhz, given.clock_mhz)
        work, count, waited = work + course.work, count + 1, waited + course.seconds * len(taken)
        for _ in taken:
            step()
    return Found(work, count, 1e3 * waited / len(given.sentences))


def continuous(tied: Plan, given: Given, most: int, step: Step) -> Found:
    """As `ContinuousEngine.stream` queues them."""
    entries = []
    for taken in entries_of(range(len(given.sentences)), Packer(WINDOW), given.sentences.__getitem__):
        entries.append(Entry(tuple(w.sentence for w in taken), tuple(w.number for w in taken)))
    work, count, waited = Work(), 0, 0.0
    for first in range(0, len(entries), most):
        queue, came = entries[first : first + most], {}

        def leaving(at: int, staying: Sequence[tuple[int, int]], came=came) -> list[int]:
            return [n for _, n in staying if at - came.setdefault(n, at) + 1 == given.layers[n]]

        course = course_of(queue, leaving)
        known: Mapping[str, Any] = {"verdicts": course.verdicts, "queue": course.queue}
        timing = tied.simulate(isa.MAX_ROW_BLOCKS, given.clock_mhz, **known)
        work, count = work + work_of(timing), count + len(course.verdicts)
        for begin, end in course.steps.values():
            cycles = timing.verdicts[end] - (timing.verdicts[begin - 1] if begin else 0)
            waited += cycles / (given.clock_mhz * 1e6)
            step()
    return Found(work, count, 1e3 * waited / len(given.sentences), "steps")
