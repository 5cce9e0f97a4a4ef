# SPDX-License-Identifier: Apache-2.0
"""Energy of a pass, or of a part of one, by what takes it. Every figure is modelled; the model is that of power.py.

    energy = (static + PS) · seconds + DDR · bytes + clocks · cycles + Σ units (idle · cycles + working · busy cycles)

It is linear in what is counted (`Work`), so that parts of a pass add up and subtract: what runs until an off-ramp's
verdict at one clock, the rest at another, a pause in which the engine's clock stands. Each coefficient is what power.py
says of one more of its counter: no constant is repeated here.

Zero operands: a DSP of the array whose clock enable is low for a step, because its product is 0 (gating.py), takes what
a DSP takes whose operands stand still: its idle share `dsp_idle`, and its part of the clock tree. Only the working part
of the DSP itself is saved. Its nets, the registers that hand operands on, and the memories are counted in full.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

from .boards import Board
from .constants import VALUES
from .cycles import UNITS, Mark, Timing
from .instructions import BLOCK
from .power import activity_of, factor, watts
from .resources import resources

SECONDS, CYCLES, BYTES, ZERO_STEPS = "seconds", "cycles", "DDR bytes", "zero steps"
CELLS = "array DSPs working"  # the one part that zero operands save of
SHARED = ("static", "ps", "ddr", "clocks")
KINDS = {"DSPs": ("dsp",), "fabric": ("lut",), "memories": ("bram36", "uram")}
PARTS = (*SHARED, *(f"{kind} {how}" for kind in KINDS for how in ("working", "idle")))  # of Energy.summed, in order


@dataclass(frozen=True)
class Work:
    """What a pass or a part of one counts, by name; works add up and subtract.

    "seconds" go by whatever happens; "cycles" of the engine's clock, none while it stands; "DDR bytes"; of each unit
    "… busy" cycles; of each memory whose accesses are counted "… accesses"; "zero steps": cycles of the whole array's
    worth of cell-steps whose clock enable is low.
    """

    counts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", MappingProxyType(dict(self.counts)))

    def __add__(self, other: "Work") -> "Work":
        return Work({name: self[name] + other[name] for name in {**self.counts, **other.counts}})

    def __sub__(self, other: "Work") -> "Work":
        return Work({name: self[name] - other[name] for name in {**self.counts, **other.counts}})

    def __getitem__(self, name: str) -> float:
        return self.counts.get(name, 0.0)

    @property
    def zero_share(self) -> float:
        """Share of the array's cell-steps whose clock enable is low; 0 where the array does not work."""
        steps = self["array busy"]
        return self[ZERO_STEPS] / steps if steps else 0.0


def work_of(timing: Timing, zero_share: float = 0.0) -> Work:
    """What a whole pass counts; `zero_share` of the array's cell-steps are gated. Raises ValueError outside 0 .. 1."""
    moved = timing.ddr_bytes_read + timing.ddr_bytes_written
    whole = Mark(timing.cycles, timing.busy, timing.accesses, moved)
    return work_until(whole, timing.clock_mhz, zero_share)


def work_until(mark: Mark, clock_mhz: float, zero_share: float = 0.0) -> Work:
    """What counts until fetch has a verdict (Timing.marks), likewise."""
    if not 0 <= zero_share <= 1:
        raise ValueError(f"share of zero products is {zero_share:g}, not 0 to 1")
    busy = {f"{unit} busy": min(worked, mark.cycles) for unit, worked in mark.busy.items()}
    most = {name: BLOCK if name == "activations" else 1 for name in mark.accesses}  # a cycle
    accesses = {f"{n} accesses": min(count, most[n] * mark.cycles) for n, count in mark.accesses.items()}
    counts = {CYCLES: mark.cycles, BYTES: mark.ddr_bytes, ZERO_STEPS: zero_share * busy["array busy"]}
    return Work({SECONDS: mark.cycles / (clock_mhz * 1e6), **counts, **busy, **accesses})


def standing(seconds: float) -> Work:
    """The engine's clock stands, as in a change of clock, or after the work until a period is over."""
    return Work({SECONDS: seconds})


def waiting(seconds: float, clock_mhz: float) -> Work:
    """The engine waits with its clock running."""
    return Work({SECONDS: seconds, CYCLES: seconds * clock_mhz * 1e6})


@dataclass(frozen=True)
class Energy:
    """Modelled joules by part; `saved` is what gated zero operands save, already taken off its part."""

    parts: Mapping[str, float]
    saved: float
    zero_share: float
    modelled: bool = True

    @property
    def joules(self) -> float:
        """All of it."""
        return sum(self.parts.values())

    def summed(self) -> dict[str, float]:
        """Joules of each of PARTS that there is; the sum is `joules`."""
        found: dict[str, float] = {name: self.parts[name] for name in SHARED}
        for name, joules in self.parts.items():
            if name not in SHARED:
                kind = name.partition(" ")[2]
                found[kind] = found.get(kind, 0.0) + joules
        return found


def energy(board: Board, work: Work) -> Energy:
    """Modelled energy of `work` on `board`, in joules."""
    coefficients = costs(board)
    parts = {name: sum(j * work[counter] for counter, j in of.items()) for name, of in coefficients.items()}
    saved = -coefficients[CELLS][ZERO_STEPS] * work[ZERO_STEPS]
    return Energy(parts, saved, work.zero_share)


@cache
def costs(board: Board) -> Mapping[str, Mapping[str, float]]:
    """Joules for one more of each counter, by part: "static", "ps", "ddr", "clocks", and "<unit> <kind> working" and
    "… idle", kind DSPs, fabric or memories.

    A unit that the cycle model does not time (fetch, expand) works in every cycle.
    """
    used = resources(board)
    names = sorted({b.accesses for b in used.blocks if b.accesses})
    # One cycle in two, so that no share is beyond 1, at 1 MHz: watts there are microjoules a cycle.
    resting = Timing(
        *(2, 1.0, dict.fromkeys(UNITS, 0), {}, {}, {}, 0, 0, 0, 0),
        accesses=dict.fromkeys(names, 0),
        data_waits={},
    )

    def of(timing: Timing, units: Sequence[str] | None = None) -> dict[str, float]:
        return watts(activity_of(used, timing, units), VALUES, factor())

    whole = of(resting)
    moved = of(replace(resting, ddr_bytes_read=1))
    found: dict[str, dict[str, float]] = {
        "static": {SECONDS: whole["static"]},
        "ps": {SECONDS: whole["ps"]},
        "ddr": {BYTES: (moved["ddr"] - whole["ddr"]) * resting.seconds},
        "clocks": {CYCLES: whole["clocks"] * 1e-6},
    }
    for unit in used.lut_by_unit:
        idle = of(resting, {unit})
        more = {f"{unit} busy": of(replace(resting, busy=resting.busy | {unit: 1}), {unit})} if unit in UNITS else {}
        for name in names:
            more[f"{name} accesses"] = of(replace(resting, accesses=resting.accesses | {name: 1}), {unit})
        for kind, keys in KINDS.items():
            still = sum(idle[key] for key in keys) * 1e-6
            working = {
                counter: joules
                for counter, now in more.items()
                if (joules := (sum(now[key] for key in keys) * 1e-6 - still) * resting.cycles)
            }
            if unit not in UNITS:
                working[CYCLES], still = still, 0.0
            found[f"{unit} {kind} working"] = working
            found[f"{unit} {kind} idle"] = {CYCLES: still}
    found[CELLS][ZERO_STEPS] = -found[CELLS]["array busy"]
    return {name: MappingProxyType(of) for name, of in found.items() if any(of.values())}
