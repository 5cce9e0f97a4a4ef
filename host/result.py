# SPDX-License-Identifier: Apache-2.0
"""One sentence's answer."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Result:
    """One sentence's answer. `source` says whether latency, energy and power are "measured" or "modelled"."""

    text: str
    label: str
    confidence: float
    latency_ms: float
    energy_mj: float
    power_w: float
    clock_mhz: float
    truncated: bool
    source: str
    logits: tuple[int, ...]

    @property
    def fps_per_w(self) -> float:
        """Sentences a second and watt, one after the other."""
        return 1e3 / self.energy_mj

    def as_dict(self) -> dict:
        """The fields by name, for JSON."""
        return asdict(self)
