# SPDX-License-Identifier: Apache-2.0
"""The roofline of a board: what array and DDR allow at an intensity, and where a pass stands below it. All modelled.

Operations are those of the dense model, two a product, so that a matrix that is stored with fewer weights, or kept on
chip, stands further right, and padding counts as time lost. The peak is that of 4-bit weights: products with 8-bit ones
(attention, pooler, classifier) reach half of it.
"""

from dataclasses import asdict, dataclass
from typing import Any

from .boards import Board
from .cycles import Model, Timing
from .rivals import FIGURES, RIVALS, Rival


@dataclass(frozen=True)
class Roof:
    """`peak_gops`: every multiplier busy in every cycle; `ddr_gb_s`: 10^9 bytes a second that weights can come with."""

    peak_gops: float
    ddr_gb_s: float

    @property
    def ridge(self) -> float:
        """Operations a byte from which on the array binds."""
        return self.peak_gops / self.ddr_gb_s

    def attainable(self, intensity: float) -> float:
        """10^9 operations a second that `intensity` operations a byte allow."""
        return min(self.peak_gops, self.ddr_gb_s * intensity)


def roof(board: Board, clock_mhz: float, model: Model | None = None) -> Roof:
    """The roof of `board` at `clock_mhz`: the DDR's bandwidth or, where less, that of the ports that bring weights."""
    model = model or Model()
    ports = board.ports * model.port_bytes * clock_mhz / 1e3
    return Roof(2 * board.peak_macs_per_cycle * clock_mhz / 1e3, min(model.ddr_bytes_per_second / 1e9, ports))


@dataclass(frozen=True)
class Point:
    """A pass below the roof: `gops` reached, of the `attainable` at its `intensity` (operations a byte)."""

    tokens: int
    gops: float
    intensity: float
    attainable: float
    modelled: bool = True


def point(timing: Timing, board: Board, dense_macs: int, tokens: int) -> Point:
    """Where the pass that `timing` is of stands, a sentence of `tokens` tokens and `dense_macs` products."""
    intensity = 2 * dense_macs / (timing.ddr_bytes_read + timing.ddr_bytes_written)
    gops = 2 * dense_macs / timing.seconds / 1e9
    return Point(tokens, gops, intensity, roof(board, timing.clock_mhz).attainable(intensity))


def roof_json(found: Roof) -> dict[str, float]:
    """A roof as JSON values, with its ridge."""
    return asdict(found) | {"ridge": found.ridge}


def rival_rows() -> list[dict[str, Any]]:
    """The published rows as JSON values: figures, `intensity` where it follows, and `tags`, how each came about."""
    return [_row(rival) for rival in RIVALS]


def _row(rival: Rival) -> dict[str, Any]:
    values = asdict(rival) | {"intensity": rival.intensity}
    del values["derived"]
    return values | {"tags": {name: rival.tag(name) for name in FIGURES if rival.tag(name) is not None}}
