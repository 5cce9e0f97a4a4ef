# SPDX-License-Identifier: Apache-2.0
"""How a program lets sentences leave at its off-ramps (docs/program.md, Leaving early, Continuous batching)."""

from dataclasses import dataclass

TABLE_ROWS = 256


@dataclass(frozen=True)
class ExitPlan:
    """Leave below entropy `threshold` (steps of 2^-12 nats, Q22), 0 .. 32767.

    `table`: the exit table, 256 layers, by which the first ramp foretells where a sentence leaves; None: nothing is
    foretold. `clock`: choose the engine's clock by the layer foretold, from a table that the host writes for each pass.
    """

    threshold: int
    table: tuple[int, ...] | None = None
    clock: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 32767:
            raise ValueError(f"threshold is {self.threshold}, not 0 to 32767")
        if self.table is not None and (len(self.table) != TABLE_ROWS or not all(0 <= x <= 255 for x in self.table)):
            raise ValueError(f"table: not {TABLE_ROWS} layers from 0 to 255")
        if self.clock and self.table is None:
            raise ValueError("clock: is chosen by the layer foretold, which needs a table")


@dataclass(frozen=True)
class QueuePlan:
    """At most `entries` entries of a queue; each sentence leaves below entropy `threshold` (as ExitPlan), or after
    `depth` layers. The off-ramp is the head's: `pooler` says whether it has one, `entropy` and `row_shift` are the
    manifest's exits (docs/artifact.md).
    """

    entries: int
    depth: int
    threshold: int
    pooler: bool
    entropy: tuple[int, int]
    row_shift: int
