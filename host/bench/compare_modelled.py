# SPDX-License-Identifier: Apache-2.0
"""What the boards would do, modelled: with a comparison's sentences, and beside published figures at their length."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from ...fpga import instructions as isa
from ...fpga.boards import Board
from ...fpga.dvfs import Passes
from ...fpga.power import power
from ...fpga.resources import resources
from ...fpga.rivals import RIVALS, Rival
from ...quant.artifact import Artifact
from ..compiler import ModelShape, Plan, plan
from ..early_exit import Ways
from .edgebert_costs import at_one_clock, row_blocks
from .run import MODELLED, figure, percentile

PUBLISHED = "published"
OF_OURS = {"BERT-base": "bert-base"}  # models of published rows that are ours too, by their name here
# Figures of a published row: field of Rival, name and unit in the report.
SHOWN = (("ms", "latency", "ms"), ("watts", "power", "W"), ("fps_per_w", "fps_per_watt", "fps/W"))


def board_figures(
    artifact: Artifact,
    board: Board,
    clock_mhz: float,
    tokens: Sequence[int],
    leaving: tuple[Mapping[str, Any], Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Sentences of so many tokens one by one on `board`, through all layers, or `leaving` at an operating point of the
    artifact, each at its layer."""
    shape = ModelShape.of_manifest(artifact.manifest)
    point, layers = leaving or (None, None)
    exits = None if point is None else Ways.of_point(point).free
    return figures_of(plan(shape, board, artifact=artifact, exits=exits), clock_mhz, tokens, layers)


def figures_of(
    compiled: Plan, clock_mhz: float, tokens: Sequence[int], layers: Sequence[int] | None = None
) -> dict[str, Any]:
    """Sentences of so many tokens one by one, each to the layer at which it leaves, or through all.

    Sentences a second, and by watt, are over all of them, passes following one another. The range of the power model is
    given for all layers alone.
    """
    blocks = [row_blocks(count) for count in tokens]
    costs = at_one_clock(Passes(compiled), blocks, layers, clock_mhz)
    seconds, joules = sum(costs.ms) / 1e3, sum(costs.mj) / 1e3
    found = {
        "latency_p50": figure(percentile(costs.ms, 50), "ms", MODELLED),
        "latency_p90": figure(percentile(costs.ms, 90), "ms", MODELLED),
        "per_second": figure(len(tokens) / seconds, "sentences/s", MODELLED),
        "power": figure(joules / seconds, "W", MODELLED),
        "fps_per_watt": figure(len(tokens) / joules, "fps/W", MODELLED),
    }
    if layers is None:
        timings = {n: compiled.simulate(n, clock_mhz) for n in set(blocks)}
        watts = {n: power(resources(compiled.board), timing) for n, timing in timings.items()}
        for bound, name in (("high_w", "fps_per_watt_low"), ("low_w", "fps_per_watt_high")):
            bounding = sum(getattr(watts[n], bound) * timings[n].seconds for n in blocks)
            found[name] = figure(len(tokens) / bounding, "fps/W", MODELLED)
    return found


def published_rows(boards: Sequence[Board], clock_mhz: float | None = None) -> Iterator[dict[str, Any]]:
    """Every row of fpga/rivals.py that tells latency or sentences by watt, and ours modelled on the same model and
    number of tokens: on its own board if that is one of `boards`, else on each of them. `why` says why there is nothing
    to set beside it."""
    for rival in (rival for rival in RIVALS if rival.ms or rival.fps_per_w):
        why = not_ours(rival)
        own = [board for board in boards if board.name == rival.platform.lower()]
        yield {
            "name": rival.name,
            "platform": rival.platform,
            "precision": rival.precision,
            "model": rival.model,
            "tokens": rival.sequence,
            "source": rival.source,
            "published": dict(_published(rival)),
            "ours": [] if why else [_beside(rival, board, clock_mhz) for board in own or boards],
        } | ({"why": why} if why else {})


def not_ours(rival: Rival) -> str | None:
    """Why nothing of ours can stand beside the row; None where it can."""
    if rival.model not in OF_OURS:
        return f"{rival.model} is none of the models that the engine runs"
    if rival.sequence is None:
        return "its length is not told"
    if rival.sequence > isa.MAX_ROWS:
        return f"{rival.sequence} tokens are beyond the {isa.MAX_ROWS} rows of a pass"
    return None


def _beside(rival: Rival, board: Board, clock_mhz: float | None) -> dict[str, Any]:
    return ours(OF_OURS[rival.model], rival.sequence, board, clock_mhz or board.clock_mhz)


@cache
def ours(model: str, tokens: int, board: Board, clock_mhz: float) -> dict[str, Any]:
    """One sentence of `tokens` tokens through all layers of one of our architectures on `board`."""
    found = figures_of(plan(ModelShape.named(model), board), clock_mhz, [tokens])
    kept = {name: found[name] for name in ("power", "fps_per_watt", "fps_per_watt_low", "fps_per_watt_high")}
    return {
        "board": board.name,
        "clock_mhz": clock_mhz,
        "tokens": tokens,
        "latency": found["latency_p50"],
        **kept,
    }


def _published(rival: Rival) -> Iterator[tuple[str, dict[str, Any]]]:
    """Latency, power and efficiency of a row; "derived" where they follow from what was read."""
    for field, name, unit in SHOWN:
        found = figure(getattr(rival, field), unit, PUBLISHED, "not told")
        if rival.tag(field) == "derived":
            found["derived"] = True
        yield name, found
    if rival.fps_per_w_high is not None:
        yield "fps_per_watt_high", figure(rival.fps_per_w_high, "fps/W", PUBLISHED) | {"derived": True}
