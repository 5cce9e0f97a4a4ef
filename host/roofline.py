# SPDX-License-Identifier: Apache-2.0
"""What `zynqbert estimate` adds to its figures where it is asked to: the cycles of each part by what bound them, the
roofline with published designs beside it, the headline with its assumptions broken. All of ours is modelled."""

from typing import Any

from ..fpga import instructions as isa
from ..fpga import roofline as roofs
from ..fpga.boards import board_named
from ..fpga.cycle_account import PartCycles, Timeline, by_part
from ..fpga.cycles import simulate
from ..fpga.sensitivity import BREAKS, sensitivity
from .compiler import Artifact, ModelShape, Plan, plan
from .estimate import LENGTHS
from .output import progress


def add_roofline(
    figures: dict[str, Any],
    shape: ModelShape,
    *,
    artifact: Artifact | None = None,
    density: float = 1.0,
    pattern: str = "free",
) -> None:
    """Add `parts` and `roofline` to the `extra` of an estimate of `shape` (estimate.estimate)."""
    board, clock_mhz, sequence = _asked(figures)
    compiled = plan(shape, board, artifact=artifact, density=density, pattern=pattern)
    lengths = sorted({sequence, *(tokens for tokens in LENGTHS if tokens <= shape.positions)})
    points = []
    for tokens in lengths:
        timing = compiled.simulate(_blocks(tokens), clock_mhz)
        points.append(vars(roofs.point(timing, board, shape.dense_macs(tokens), tokens)))
    roof = roofs.roof_json(roofs.roof(board, clock_mhz))
    figures["extra"] |= {
        "parts": parts_json(parts_of_pass(compiled, _blocks(sequence), clock_mhz)),
        "roofline": {"roof": roof, "points": points, "published": roofs.rival_rows()},
    }


def parts_of_pass(compiled: Plan, row_blocks: int, clock_mhz: float) -> list[PartCycles]:
    """Cycles of a pass of `row_blocks` row blocks by part of the model, layer by layer, and by what bound them; they
    add up to the pass's."""
    timeline = Timeline()
    known = None, compiled.directories, None, None, compiled.spans
    simulate(compiled.instructions, row_blocks, compiled.board, clock_mhz, *known, timeline=timeline)
    return by_part(compiled.instructions, timeline)


def parts_json(parts: list[PartCycles]) -> list[dict[str, Any]]:
    """The parts of a pass as JSON values."""
    whole = sum(part.cycles for part in parts)
    return [
        {
            "layer": of.part.layer,
            "part": of.part.name,
            "cycles": of.cycles,
            "share": of.cycles / whole,
            "bound": dict(of.bound),
            "busy": dict(of.busy),
        }
        for of in parts
    ]


def add_sensitivity(
    figures: dict[str, Any],
    shape: ModelShape,
    *,
    artifact: Artifact | None = None,
    density: float = 1.0,
    pattern: str = "free",
) -> None:
    """Add `sensitivity` to the `extra` of an estimate of `shape`: the headline, then a row an assumption broken."""
    board, clock_mhz, sequence = _asked(figures)
    compiled = plan(shape, board, artifact=artifact, density=density, pattern=pattern)
    rows = sensitivity(
        lambda mhz, model: compiled.simulate(_blocks(sequence), mhz, model),
        board,
        clock_mhz,
        shape.dense_macs(sequence),
    )
    found = []
    with progress("assumptions", 1 + len(BREAKS)) as step:
        for row in rows:
            found.append(row.to_json())
            step()
    figures["extra"]["sensitivity"] = found


def _asked(figures: dict[str, Any]) -> tuple:
    return board_named(figures["board"]), figures["clock_mhz"], figures["sequence"]


def _blocks(tokens: int) -> int:
    return -(-tokens // isa.LANES)
