# SPDX-License-Identifier: Apache-2.0
"""What a model costs on a board: time, power and area of one pass. All of it modelled."""

from dataclasses import asdict, dataclass, field
from typing import Any

from .boards import Board
from .clocking import change_costs
from .cycles import Timing
from .power import by_unit, leave_one_out, power
from .reference import fq_bert_check
from .resources import resources


@dataclass(frozen=True)
class Estimate:
    """Modelled cost of one pass, a sentence of it at batch 1.

    `mac_utilization`: dense unpadded products over `peak_macs_per_cycle` times cycles. Power in watts while passes
    follow one another, `power_pl_w` + `power_ps_w` = `power_w`. `extra` holds what a reader may want besides: ranges,
    waste, traffic, changes of the clock, what each kind of instruction costs and what bound it, what is over budget.
    """

    cycles: int
    clock_mhz: float
    latency_ms: float
    mac_utilization: float
    peak_macs_per_cycle: int
    power_pl_w: float
    power_ps_w: float
    power_w: float
    fps: float
    fps_per_w: float
    dsp: int
    bram36: int
    uram: int
    lut: int
    modelled: bool = True
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, the contents of `extra` beside them under `extra`."""
        return asdict(self)


def estimate(timing: Timing, board: Board, dense_macs: int, whole_macs: int | None = None) -> Estimate:
    """Modelled cost of the pass that `timing` is of, on `board`.

    `dense_macs`: multiply-accumulates of the unpadded, unsplit model over the sentence (ModelShape.dense_macs).
    `whole_macs`: what the array would execute if zeros and spans spared it nothing; what `timing` has if None.
    """
    used = resources(board)
    watts = power(used, timing)
    fps = 1 / timing.seconds
    whole = timing.array_macs_executed if whole_macs is None else whole_macs
    return Estimate(
        cycles=timing.cycles,
        clock_mhz=timing.clock_mhz,
        latency_ms=timing.seconds * 1e3,
        mac_utilization=dense_macs / (board.peak_macs_per_cycle * timing.cycles),
        peak_macs_per_cycle=board.peak_macs_per_cycle,
        power_pl_w=watts.pl_w,
        power_ps_w=watts.ps_w,
        power_w=watts.power_w,
        fps=fps,
        fps_per_w=fps / watts.power_w,
        dsp=used.dsp,
        bram36=used.bram36,
        uram=used.uram,
        lut=used.lut,
        extra={
            "power_range_w": [watts.low_w, watts.high_w],
            "fps_per_w_range": [fps / watts.high_w, fps / watts.low_w],
            "power_parts_w": dict(watts.parts),
            "energy_mj": {name: value * timing.seconds * 1e3 for name, value in by_unit(used, timing).items()},
            "power_rows": power_rows(),
            "padding_waste": 1 - dense_macs / whole if whole else 0.0,
            "work_spared": 1 - timing.array_macs_executed / whole if whole else 0.0,
            "ddr_bytes_read": timing.ddr_bytes_read,
            "ddr_bytes_written": timing.ddr_bytes_written,
            "clock_changes": change_costs(board),
            "resource_shares": used.shares,
            "over_budget": used.over_budget(),
            "busy": {unit: cycles / timing.cycles for unit, cycles in timing.busy.items()},
            "stall_cycles": timing.stall,
            "array_waits": array_waits(timing),
            "instructions": shares(timing),
        },
    )


def shares(timing: Timing) -> dict[str, dict[str, Any]]:
    """By kind of instruction: its cycles, its share of the pass, and the unit that worked longest for it."""
    return {
        kind: {"cycles": share.cycles, "share": share.cycles / timing.cycles, "bound": share.bound}
        for kind, share in timing.shares.items()
    }


WAITS = {
    "weights": "for weights",
    "drain": "for the drain of the tile before",
    "credit": "for room in the accumulator stream",
}


def array_waits(timing: Timing) -> dict[str, float]:
    """What the array does not hide: shares of the pass, by what it waits for; "ends" is before its first tile and after
    its last."""
    waits = {text: timing.stall.get(f"array.{name}", 0) / timing.cycles for name, text in WAITS.items()}
    waits |= {f"for {name}": cycles / timing.cycles for name, cycles in timing.data_waits.items()}
    busy = timing.busy["array"] / timing.cycles
    return waits | {"at the ends of the pass": max(1 - busy - sum(waits.values()), 0.0)}


BOUND = {
    "array": "the array",
    "weights": "weights on their way from DDR",
    "vector": "the vector unit",
    "load": "parameters and embedding rows on their way from DDR",
    "store": "traces on their way to DDR",
}


def bound(timing: Timing) -> str:
    """What binds a pass: the unit that works the greatest share of it, and that share."""
    unit = max(timing.busy, key=timing.busy.__getitem__)
    return f"{BOUND[unit]} ({timing.busy[unit] / timing.cycles:.0%} busy)"


def power_rows() -> list[dict[str, Any]]:
    """Published accelerators, each beside what the power model says of it without having seen it, as JSON values."""
    return [
        {
            "name": left.row.name,
            "published_w": left.row.watts,
            "modelled_w": left.predicted_w,
            "error": left.error,
            "scope": left.row.scope,
            "told": left.row.told,
            "calibrates": left.row.calibrates,
            "complete": left.row.complete,
        }
        for left in leave_one_out()
    ]


def fq_bert_rows() -> list[dict[str, Any]]:
    """The model at FQ-BERT's multiplier counts beside its published latencies, as JSON values."""
    return [asdict(check) | {"ratio": check.ratio} for check in fq_bert_check()]
