# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench edgebert`: what leaving early, slowing down and slimming save, from one run over the same sentences.

Every sentence runs through the emulated engine in each way that is compared, and the engine decides: its answers and
the layers at which sentences leave are counted. Time and energy follow from those by one model. docs/edgebert.md says
how to read the report.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...fpga.boards import Board, board_named
from ...fpga.dvfs import MARGIN, Passes
from ...fpga.voltage import LEAST_V, TOP_V
from ...quant.datasets import Example
from ..early_exit import Ways
from ..errors import HostError
from ..inputs import InputError
from . import edgebert_costs as costs
from . import edgebert_zeros as zeros
from .board import versions
from .edgebert_models import Model, check_pair
from .edgebert_run import trace_of
from .edgebert_table import PUBLISHED, Ran, aside, headline_target, ratios_of, rows_of
from .edgebert_trace import Trace, digest
from .paired import accuracy_of
from .run import MEASURED, MODELLED, figure, percentile

FORMAT, VERSION = "zynqbert-edgebert", 1
RUNS = "runs"  # folder of traces
HYPOTHETICAL = "hypothetical, modelled"

Progress = Callable[[str, int], Callable[[], None]]  # what is done, how often: a function to call each time


@dataclass(frozen=True)
class Given:
    """What all parts of a run have in common."""

    dense: Model
    recipe: Model
    leaving: Model  # whose off-ramps rows (b) and (c) use
    point: str
    examples: Sequence[Example]
    tokens: Sequence[int]
    out: Path
    first_board: str  # which emulated board ran what no clock is chosen in: integers are those of either
    progress: Progress

    @property
    def texts(self) -> list[str]:
        """The sentences."""
        return [example.text for example in self.examples]

    @property
    def labels(self) -> list[int]:
        """Their labels' indices."""
        return [example.label for example in self.examples]

    def trace(self, model: Model, board: str, point: str | None = None, target_ms: float | None = None) -> Trace:
        """As edgebert_run.trace_of, with a bar."""
        way = "all layers" if point is None else f"point {point}"
        way += "" if target_ms is None else f", {target_ms:g} ms"
        step = self.progress(f"{model.title}, {board}, {way}", len(self.examples))
        return trace_of(self.out / RUNS, model, self.texts, board=board, point=point, target_ms=target_ms, step=step)

    def asked(self, trace: Trace) -> costs.Asked:
        """The sentences as the cost model needs them."""
        return costs.Asked(self.tokens, trace.layers, trace.foretold)


def bench_edgebert(
    artifact: Path,
    dense: Path,
    examples: Sequence[Example],
    out: Path,
    *,
    boards: Sequence[str] = ("zcu102", "zcu111"),
    point: str | None = None,
    targets_ms: Sequence[float] | None = None,
    steps: Sequence[Path] = (),
    curve: Path | None = None,
    texts_from: str = "",
    progress: Progress = lambda what, total: lambda: None,
) -> dict[str, Any]:
    """Run `examples` through both models in every way; the report of docs/edgebert.schema.json.

    `artifact`: the recipe's result, with off-ramps; `dense`: the dense model. `targets_ms`: latency targets, from the
    models' own latencies if none are given. `steps`: artifacts after each step of the recipe. `curve`: exits.json of
    its training, for the curve over thresholds that they were chosen from. What ran lies in `out`/runs,
    from where an interrupted run goes on. `progress(what, total)` gives a function to call at each step.
    Raises InputError, ArtifactError, HostError.
    """
    if not examples:
        raise InputError("no sentence to run; remedy: --sentences of 1 or more")
    targets = checked_targets(targets_ms)
    given = prepare(artifact, dense, examples, out, boards[0], point, progress)
    after = [Model.load("--steps", folder) for folder in steps]
    curves = dev_curves(given, curve)
    for model in after:
        check_step(given, model)
    reports = {board: of_board(given, board_named(board), targets) for board in boards}
    headline = reports[boards[0]]["headline_target_ms"]
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {
            "artifact": given.recipe.title,
            "dense": given.dense.title,
            "off_ramps_of": "dense" if given.leaving is given.dense else "recipe",
            "point": given.point,
            "texts_from": texts_from,
            "sentences": len(examples),
            "texts": digest(given.texts),
            "boards": list(boards),
            "targets_given": targets is not None,
        },
        "models": {"dense": given.dense.told(), "recipe": given.recipe.told()},
        "tokens": {
            "mean": figure(statistics.fmean(given.tokens), "tokens", MEASURED),
            "max": figure(max(given.tokens), "tokens", MEASURED),
        },
        "boards": reports,
        "operating_points": operating_points(given, boards),
        "dev_curves": curves,
        "steps": [row for model in after for row in step_rows(given, model, boards, headline)],
        "published": [{**row, "source": "published"} for row in PUBLISHED],
        "notes": notes_of(given),
        "versions": versions(),
    }


def checked_targets(targets_ms: Sequence[float] | None) -> list[float] | None:
    """The targets in order. Raises InputError for one that is no time, or twice there."""
    if targets_ms is None:
        return None
    if not targets_ms or not all(0 < target < float("inf") for target in targets_ms):
        raise InputError(f"--targets {', '.join(f'{t:g}' for t in targets_ms)}: times above 0 in ms; remedy: 0.5,1,2")
    if len(set(targets_ms)) != len(targets_ms):
        raise InputError(f"--targets {', '.join(f'{t:g}' for t in targets_ms)}: a target twice; remedy: give it once")
    return sorted(targets_ms)


def prepare(
    artifact: Path,
    dense: Path,
    examples: Sequence[Example],
    out: Path,
    first_board: str,
    point: str | None,
    progress: Progress,
) -> Given:
    """Load both models and hold them against each other. Raises InputError, ArtifactError."""
    recipe, whole = Model.load("--artifact", artifact), Model.load("--dense", dense)
    name, _ = recipe.point(point)
    check_pair(whole, recipe)
    leaving = recipe
    if whole.exits is not None:
        name, _ = whole.point(name)
        leaving = whole
    encoder = recipe.encoder()
    tokens = [len(encoder.encode(example.text).ids) for example in examples]
    return Given(whole, recipe, leaving, name, examples, tokens, out, first_board, progress)


def default_targets(passes: Passes, leaving: Passes, depth: int, tokens: Sequence[int]) -> list[float]:
    """Four targets from the models' own latencies at the top clock, to two digits: between that of one layer of a
    sentence of median length and that of all layers of the longest one, dense or with its `depth` off-ramps; the last
    is met by every sentence.
    """
    blocks = [costs.row_blocks(count) for count in tokens]
    one = costs.at_one_clock(leaving, [percentile(blocks, 50)], [1]).ms[0]
    longest = [max(blocks)]
    whole = max(costs.at_one_clock(*of).ms[0] for of in ((passes, longest, None), (leaving, longest, [depth])))
    found = [two_digits_up(one + (whole - one) * share) for share in (0.25, 0.5, 0.75, 1.0)]
    return sorted(set(found))


def two_digits_up(value: float) -> float:
    """Rounded up to two digits.

    >>> two_digits_up(1.234), two_digits_up(0.0501), two_digits_up(2.0)
    (1.3, 0.051, 2.0)
    """
    text = f"{value:.1e}"
    step = 10.0 ** (int(text.split("e")[1]) - 1)
    rounded = float(text)
    return float(f"{rounded if rounded >= value * (1 - 1e-12) else rounded + step:.1e}")


# One board -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Modelled:
    """A model's passes on a board: all layers, by entropy alone, by the layer foretold."""

    full: Passes
    entropy: Passes | None
    foretold: Passes | None

    @staticmethod
    def of(model: Model, board: Board, point: str) -> "Modelled":
        """Plans of the model as the engine compiles them."""
        full = model.passes(board)
        if model.exits is None:
            return Modelled(full, None, None)
        ways = Ways.of_point(model.exits["points"][point])
        return Modelled(full, model.passes(board, ways.free), model.passes(board, ways.timed))


def of_board(given: Given, board: Board, targets: list[float] | None) -> dict[str, Any]:
    """The rows, ratios and comparisons of one board."""
    dense, leaving = Modelled.of(given.dense, board, given.point), Modelled.of(given.leaving, board, given.point)
    recipe = leaving if given.recipe is given.leaving else Modelled.of(given.recipe, board, given.point)
    blocks = [costs.row_blocks(count) for count in given.tokens]
    targets = targets or default_targets(dense.full, leaving.foretold, given.leaving.layers, given.tokens)
    of = "dense" if given.leaving is given.dense else "recipe"
    whole = given.trace(given.dense, given.first_board)
    blind = given.trace(given.leaving, given.first_board, given.point)
    top = f"{costs.TOP_MHZ:g} MHz"
    runs = [
        Ran(
            "a",
            f"dense, all {given.dense.layers} layers, {top}",
            "dense",
            whole,
            costs.at_one_clock(dense.full, blocks, None),
        ),
        Ran(
            "b",
            f"{of}, early exit, latency-blind, {top}",
            of,
            blind,
            costs.at_one_clock(leaving.entropy, blocks, blind.layers),
        ),
    ]
    last: dict[str, Trace] = {}
    for target in targets:
        found = given.trace(given.leaving, board.name, given.point, target)
        runs.append(to_target(given, "c", f"{of}, early exit to {target:g} ms", of, leaving.foretold, found, target))
        slim = found
        if given.recipe is not given.leaving:
            slim = given.trace(given.recipe, board.name, given.point, target)
        runs.append(to_target(given, "d", f"whole recipe to {target:g} ms", "recipe", recipe.foretold, slim, target))
        for key, trace in (("c", found), ("d", slim)):
            if key in last and (last[key].layers, last[key].labels) != (trace.layers, trace.labels):
                raise HostError(f"row ({key}) at {target:g} ms: sentences left elsewhere than at another target")
            last[key] = trace
    rows = rows_of(runs, given.labels)
    headline = headline_target(rows)
    return {
        "top_mhz": costs.TOP_MHZ,
        "targets_ms": targets,
        "headline_target_ms": headline,
        "rows": rows,
        "ratios": ratios_of(rows),
        "by_target": by_target(given, recipe.foretold, last["d"], targets),
        "asides": asides(given, dense, recipe, blocks, last["d"], runs, headline, board),
    }


def to_target(given: Given, letter: str, name: str, model: str, passes: Passes, trace: Trace, target: float) -> Ran:
    """A row (c) or (d). Raises HostError where the engine chose another clock than the cost model says it does."""
    found = costs.to_target(passes, given.asked(trace), target)
    for n, (ran, modelled) in enumerate(zip(trace.clocks_mhz, found.clocks_mhz, strict=True)):
        if ran != modelled and trace.layers[n] > 1:
            raise HostError(
                f"row ({letter}) at {target:g} ms: the engine clocked sentence {n} with {ran:g} MHz, the model with "
                f"{modelled:g} MHz"
            )
    return Ran(letter, name, model, trace, found, target)


def by_target(given: Given, passes: Passes, trace: Trace, targets: Sequence[float]) -> list[dict[str, Any]]:
    """For each target the ways of the recipe's model: racing and slowing over the target's period, and what it would
    be if the supply followed the clock. All modelled, the last of them hypothetical."""
    asked, rows = given.asked(trace), []
    for target in targets:
        found = costs.ways(passes, asked, target)
        volts = costs.with_voltage(passes, asked, target)
        rows.append(
            {
                "target_ms": target,
                **{name: figure(way.mj, "mJ", MODELLED) for name, way in found.items()},
                "missed": figure(found["best"].missed, "sentences", MODELLED),
                "hypothetical_voltage": figure(volts.mj, "mJ", MODELLED),
            }
        )
    return rows


def asides(
    given: Given,
    dense: Modelled,
    recipe: Modelled,
    blocks: Sequence[int],
    trace: Trace,
    runs: Sequence[Ran],
    headline: float,
    board: Board,
) -> list[dict[str, Any]]:
    """Comparisons apart from the ratios, which change none of them: trimming, packing, the whole period of the target,
    racing and slowing, voltage."""
    compared = [run for run in runs if run.target_ms in (None, headline)]
    asked, long = given.asked(trace), [costs.FULL_BLOCKS] * len(blocks)

    def mean(found) -> float:
        return statistics.fmean(found.mj)

    own = mean(costs.at_one_clock(dense.full, blocks, None))
    slim = mean(costs.at_one_clock(recipe.foretold, blocks, trace.layers))
    step = given.progress(f"packing, {board.name} (modelled)", 2 * len(costs.first_fit(given.tokens)))
    packed = [
        costs.packed(passes, asked, leaving, step) for passes, leaving in ((dense.full, False), (recipe.foretold, True))
    ]
    way = costs.ways(recipe.foretold, asked, headline)
    volts = costs.with_voltage(recipe.foretold, asked, headline)
    targeted = costs.to_target(recipe.foretold, asked, headline)
    plain = statistics.fmean(targeted.mj)
    shares = [
        zeros.zero_share(given.out / RUNS, model, passes.plan, given.texts)
        for model, passes in ((given.dense, dense.full), (given.recipe, recipe.full))
    ]
    zero = (
        zeros.saved_mj(dense.full, blocks, None, [costs.TOP_MHZ] * len(blocks), shares[0]),
        zeros.saved_mj(recipe.foretold, blocks, trace.layers, targeted.clocks_mhz, shares[1]),
    )
    a_pass = f"{packed[0]['sentences_a_pass']:.1f} sentences a pass"
    return [
        aside(
            "trimming",
            "Row blocks as long as the sentence, against every sentence in 128 rows. All rows above are trimmed.",
            (
                ("dense, all layers, 128 rows", mean(costs.at_one_clock(dense.full, long, None))),
                ("dense, all layers, as long as the sentence", own),
                ("whole recipe, early exit, 128 rows", mean(costs.at_one_clock(recipe.foretold, long, trace.layers))),
                ("whole recipe, early exit, as long as the sentence", slim),
            ),
        ),
        aside(
            "packing",
            "Several sentences in a pass of up to 128 rows, each put where it fits first, in the order of the split; "
            "its share of the pass. A row block stays until its last sentence has left. Waiting for others is not "
            "counted. All rows above have one sentence a pass.",
            (
                ("dense, all layers, one sentence a pass", own),
                (f"dense, all layers, {a_pass}", packed[0]["mj"]),
                ("whole recipe, early exit, one sentence a pass", slim),
                (f"whole recipe, early exit, {a_pass}", packed[1]["mj"]),
            ),
        ),
        aside(
            "whole period",
            f"Energy over the whole period of {headline:g} ms and not only until the answer: the clock stops after it, "
            "static power and processing system go on.",
            tuple((f"({run.letter}) {run.name}", costs.over_period(board, run.costs, headline)) for run in compared),
        ),
        aside(
            "racing or slowing",
            f"The whole recipe over the whole period of {headline:g} ms, idling included, voltage fixed.",
            (
                ("top clock to the end, clock left running", way["ungated"].mj),
                ("top clock to the end, then the clock stopped", way["race"].mj),
                ("slowest clock that meets the target, then stopped", way["slow"].mj),
                (f"the engine's choice: the fastest within {MARGIN:.0%} of the least", way["best"].mj),
            ),
        ),
        aside(
            "zero products",
            f"Cells of the array whose product is 0 stand still (fpga/gating.py): {shares[0]:.1%} of the cell-steps of "
            f"the dense model, {shares[1]:.1%} of the recipe's, counted over {zeros.SENTENCES} sentences, all "
            "layers. Only the working part of their DSPs is saved. No row above counts it.",
            (
                ("(a) as above", own),
                ("(a), zero products gated", own - zero[0]),
                ("(d) as above", plain),
                ("(d), zero products gated", plain - zero[1]),
            ),
        ),
        aside(
            "voltage scaling",
            f"Hypothetical: whole recipe to {headline:g} ms until the answer, if the logic's supply could follow the "
            f"clock between EdgeBERT's {TOP_V:g} V at {costs.TOP_MHZ:g} MHz and {LEAST_V:g} V at half of "
            "it and below, on a straight line (the pairs between are not published). These boards cannot.",
            (("fixed voltage, as in row (d)", plain), ("voltage follows the clock, hypothetical", volts.mj)),
            label=HYPOTHETICAL,
        ),
    ]


# Beside the boards ---------------------------------------------------------------------------------------------------


def operating_points(given: Given, boards: Sequence[str]) -> list[dict[str, Any]]:
    """Every operating point of the off-ramps of (b), by entropy alone, and full depth: threshold, accuracy, average
    layer, and what a sentence costs at the top clock."""
    model, found = given.leaving, []
    for name in (None, *model.exits["points"]):
        trace = given.trace(model, given.first_board, name)
        found.append(
            {
                "point": name,
                "threshold": None if name is None else model.exits["points"][name]["threshold"],
                **measured_and_modelled(given, model, name, trace, boards),
            }
        )
    return found


def measured_and_modelled(
    given: Given, model: Model, point: str | None, trace: Trace, boards: Sequence[str], *, foretold: bool = False
) -> dict[str, Any]:
    """Accuracy and average layer of a trace, by entropy alone, by the layer `foretold` or through all layers, and its
    mean cost a board at the top clock."""
    blocks = [costs.row_blocks(count) for count in given.tokens]
    exits = None
    if point is not None:
        ways = Ways.of_point(model.exits["points"][point])
        exits = ways.timed if foretold else ways.free
    layers = None if point is None else trace.layers
    of_board = {}
    for name in boards:
        found = costs.at_one_clock(model.passes(board_named(name), exits), blocks, layers)
        of_board[name] = {
            "energy": figure(statistics.fmean(found.mj), "mJ", MODELLED),
            "latency_mean": figure(statistics.fmean(found.ms), "ms", MODELLED),
            "cycles_mean": figure(statistics.fmean(found.ms) * costs.TOP_MHZ * 1e3, "cycles", MODELLED),
        }
    return {
        "accuracy": accuracy_of(trace.right(given.labels)),
        "exit_layer": figure(statistics.fmean(trace.layers), "layers", MEASURED),
        "boards": of_board,
    }


def dev_curves(given: Given, file: Path | None) -> dict[str, list[list[float]]]:
    """Average layer and accuracy in percent on dev by entropy alone, by name: of the training's file if there is one,
    else of the operating points, where the artifact tells them. Raises InputError for a file that is none."""
    if file is not None:
        try:
            rows = json.loads(Path(file).read_text(encoding="utf-8"))["curve"]
            found = [[float(row["mean_layer"]), 100 * float(row["accuracy"])] for row in rows]
        except OSError as error:
            raise InputError(f"--curve {file}: {error.strerror}; remedy: exits.json of the training") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"--curve {file}: no curve of accuracies; remedy: exits.json of the training") from error
        return {"by entropy alone, every threshold, dev split": found}
    points = given.leaving.exits["points"].values()
    found = [[p["mean_layer"], 100 * p["accuracy"]] for p in points if {"mean_layer", "accuracy"} <= p.keys()]
    return {"by entropy alone, operating points, dev split": found} if found else {}


def step_rows(given: Given, model: Model, boards: Sequence[str], target_ms: float) -> Iterator[dict[str, Any]]:
    """One step of the recipe in each way that it can run, at the top clock: all layers; if it has the point of the run
    also by entropy alone and, if that foretells, at the latest at the layer foretold. What it is, accuracy and cost.

    `target_ms`: any target, without which the engine does not look at what is foretold; layers do not depend on it.
    """
    ways: list[tuple[str | None, float | None]] = [(None, None)]
    if model.exits is not None and given.point in model.exits["points"]:
        ways.append((given.point, None))
        if model.exits["points"][given.point]["foretold"] is not None:
            ways.append((given.point, target_ms))
    told = model.told()
    for point, target in ways:
        trace = given.trace(model, given.first_board, point, target)
        found = measured_and_modelled(given, model, point, trace, boards, foretold=target is not None)
        yield {"model": told, "point": point, "foretold": target is not None, **found}


def check_step(given: Given, model: Model) -> None:
    """A step's model reads the same tokens. Raises InputError."""
    if model.artifact.tokenizer_path.read_bytes() != given.dense.artifact.tokenizer_path.read_bytes():
        raise InputError(
            f"--steps {model.folder}: its tokenizer is not that of --dense {given.dense.folder}; remedy: steps of one "
            "recipe"
        )


def notes_of(given: Given) -> list[str]:
    """What a reader must know."""
    notes = [
        "answers, and the layers at which sentences left, are the emulated engine's own: exact integers, counted",
        "time and energy are modelled: cycle and power models of one board, the same for every row; energy is that of "
        "the board's chip, processing system included, from the start of a pass to the answer",
        "one sentence a pass, in as many row blocks of 32 rows as it needs, in every row of the table",
        f"what no clock is chosen in ran on the emulated {given.first_board}: answers do not depend on the board",
        "the voltage is fixed on these boards; EdgeBERT's ratios are of a chip whose voltage follows its clock",
    ]
    if given.leaving.exits["points"][given.point]["foretold"] is None:
        notes.append(
            "the operating point foretells no layer: clocks are chosen as if every sentence went to the last one"
        )
    if given.leaving is given.recipe:
        notes.append(
            "the dense model has no off-ramps, so that rows (b) and (c) are of the recipe's model, slimmed as it is, "
            "and (d) is (c): a/c and a/d hold what slimming saves too"
        )
    return notes
