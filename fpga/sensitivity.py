# SPDX-License-Identifier: Apache-2.0
"""The headline with its assumptions broken, one at a time and four together: how much of it rests on which. Modelled.

Each is broken in the cycle model (or at an end of the power model's range) and the pass simulated again; no figure is
scaled. Names in `assumptions` are those of assumptions.py (docs/assumptions.md).

Overlap lost is `Model.serial`: the same commands in an order that their tokens allow, none of which begins while one of
another unit runs. Of a tile the array first multiplies, then drains; of a command the vector unit begins when all of
its sums are there. Fetch alone runs ahead.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .assumptions import DEPTHS
from .boards import Board
from .cycles import Model, Timing
from .power import power
from .resources import resources

HEADLINE = "as assumed"
SLOW_MHZ = 200.0
SLOW_DDR = 8e9  # bytes a second


@dataclass(frozen=True)
class Break:
    """One row: `fields` of the cycle model as they are then, a slower clock, or `watts` at an end of their range,
    "low_w" or "high_w"; `assumptions`: which of assumptions.py that breaks."""

    name: str
    assumptions: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    slow_clock: bool = False
    watts: str = "power_w"


_II = {"ii": 2}
_DDR = {"ddr_bytes_per_second": SLOW_DDR}
_SERIAL = {"serial": True}
_MEMORY = ("ddr_peak_gb_s", "ddr_efficiency")

# What the headline rests on most, and all of it together.
MAIN = (
    Break("every loop at II = 2", ("ii",), _II),
    Break("DDR at 8 GB/s", _MEMORY, _DDR),
    Break("slower clock", ("clock_mhz",), slow_clock=True),
    Break("no overlap: one unit at a time", (), _SERIAL),
)
TOGETHER = Break("these four together", ("ii", *_MEMORY, "clock_mhz"), _II | _DDR | _SERIAL, slow_clock=True)
FURTHER = (
    Break("vector unit's loops at II = 2", ("ii",), {"vector_ii": 2}),
    Break("a tile drains before the next begins", ("drain_overlap",), {"drain_overlap": False}),
    Break("accumulator stream of one tile", ("accumulator_tiles",), {"accumulator_tiles": 1}),
    Break(
        "pipelines twice as deep",
        tuple(f"depth.{name}" for name in DEPTHS),
        {"depths": {name: 2 * depth for name, (depth, _) in DEPTHS.items()}},
    ),
    Break(
        "memory latency doubled",
        ("axi_read_latency_ns", "axi_write_latency_ns"),
        {name: 2 * getattr(Model(), name) for name in ("axi_read_latency_ns", "axi_write_latency_ns")},
    ),
    Break("ports at half their rate", ("port_bytes",), {"port_bytes": Model().port_bytes // 2}),
    Break("tokens, commands, loops twice as slow", ("token_latency", "command_overhead", "loop_overhead"), {
        name: 2 * getattr(Model(), name) for name in ("token_latency", "command_overhead", "loop_overhead")
    }),
    Break("power at the low end of its range", watts="low_w"),
    Break("power at the high end of its range", watts="high_w"),
)  # fmt: skip
BREAKS = (*MAIN, TOGETHER, *FURTHER)
RATIOS = ("latency_ms", "mac_utilization", "fps_per_w")  # figures that rows give as ratios too


@dataclass(frozen=True)
class Row:
    """A pass with something broken, modelled; `…_ratio`: to the headline's figure."""

    name: str
    assumptions: tuple[str, ...]
    cycles: int
    clock_mhz: float
    latency_ms: float
    mac_utilization: float
    power_w: float
    fps_per_w: float
    latency_ms_ratio: float
    mac_utilization_ratio: float
    fps_per_w_ratio: float
    modelled: bool = True

    def to_json(self) -> dict[str, Any]:
        """The row as JSON values."""
        return asdict(self) | {"assumptions": list(self.assumptions)}


def sensitivity(
    simulate: Callable[[float, Model], Timing], board: Board, clock_mhz: float, dense_macs: int
) -> Iterator[Row]:
    """The headline first, then a row for each of BREAKS, one simulation each.

    `simulate(clock_mhz, model)`: the pass. `dense_macs`: of the sentence, as in estimate.py. `clock_mhz`: the
    headline's; the slower one is 200 MHz, or four fifths where that is no less.
    """
    slow_mhz = SLOW_MHZ if clock_mhz > SLOW_MHZ else 0.8 * clock_mhz
    headline = None
    for broken in (Break(HEADLINE), *BREAKS):
        mhz = slow_mhz if broken.slow_clock else clock_mhz
        timing = simulate(mhz, replace(Model(), **broken.fields))
        name = f"{mhz:g} MHz" if broken.slow_clock and not broken.fields else broken.name
        figures = _figures(timing, board, dense_macs, broken.watts)
        headline = headline or figures
        ratios = {f"{key}_ratio": figures[key] / headline[key] for key in RATIOS}
        yield Row(name, broken.assumptions, timing.cycles, mhz, **figures, **ratios)


def _figures(timing: Timing, board: Board, dense_macs: int, watts: str) -> dict[str, float]:
    found = getattr(power(resources(board), timing), watts)
    return {
        "latency_ms": timing.seconds * 1e3,
        "mac_utilization": dense_macs / (board.peak_macs_per_cycle * timing.cycles),
        "power_w": found,
        "fps_per_w": 1 / timing.seconds / found,
    }
