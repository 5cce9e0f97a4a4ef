# SPDX-License-Identifier: Apache-2.0
"""What a benchmark of a board is made of: its run, figures that say where they come from, and what they sum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..engine import Engine
from ..errors import HostError
from ..result import Result

MEASURED, MODELLED = "measured", "modelled"
WARM_UP = 8  # sentences, before each measurement

Texts = Sequence[str | tuple[str, str]]


@dataclass(frozen=True)
class Watts:
    """Mean watts of a stretch of time by group ("pl", "ps"); None: not known, `why` says so."""

    groups: Mapping[str, float | None]
    why: str = ""

    @property
    def total(self) -> float | None:
        """All groups; None where one is not known."""
        known = list(self.groups.values())
        return None if not known or None in known else sum(known)

    def above(self, idle: "Watts") -> "Watts":
        """These without `idle`."""
        pairs = {name: (watts, idle.groups.get(name)) for name, watts in self.groups.items()}
        above = {name: None if None in pair else pair[0] - pair[1] for name, pair in pairs.items()}
        return Watts(above, self.why or idle.why)


@dataclass(frozen=True)
class Run:
    """What was run. `kernel_ms`, `end_to_end_ms`: for each round, each text's; `…_s`: how long all rounds took."""

    source: str
    kernel_ms: list[list[float]]
    kernel_s: float
    end_to_end_ms: list[list[float]]
    end_to_end_s: float
    energy_mj: list[float | None]  # by text, without what passes between them
    load: Watts
    idle: Watts
    sampling: dict[str, Any] | None = None  # of a board's sensors
    power_over_time: dict[str, Any] | None = None
    power_model: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


def figure(value: float | None, unit: str, source: str, why: str = "") -> dict[str, Any]:
    """A figure of the report; `why` it is not known goes with one that is None."""
    return {"value": value, "unit": unit, "source": source} | ({"why": why} if value is None else {})


def percentile(values: Sequence[float], percent: int) -> float:
    """The least of `values` that `percent` of them do not exceed: one of them, none in between."""
    return sorted(values)[max(0, -(-percent * len(values) // 100) - 1)]


def answered(engine: Engine, text: str | tuple[str, str]) -> Result:
    """The text's result. Raises HostError where it is an error: figures of a faulty engine say nothing."""
    (result,) = engine.stream([text])
    if result.error is not None:
        raise HostError(f"{result.error}; the benchmark ends here, at the text {str(text)[:40]!r}")
    return result
