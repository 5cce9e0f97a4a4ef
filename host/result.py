# SPDX-License-Identifier: Apache-2.0
"""One text's answer, and how logits become scores (docs/quantization.md, Q19)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import inf

import numpy as np


@dataclass(frozen=True)
class TokenLabel:
    """One token's answer: `text` is what stands in the sentence (or the pair's second text) from `start` to `end`."""

    text: str
    start: int
    end: int
    label: str
    confidence: float
    in_pair: bool


# What a Result says of early exit, and only with that on.
EXIT_FIELDS = (
    *("exit_layer", "layers", "exit_entropy", "first_entropy", "foretold_layer", "first_clock_mhz"),
    *("target_ms", "target_met", "waiting_mj", "energy_parts_mj"),
)

# What it says only where a backbone has tasks.
TASK_FIELDS = ("task",)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One text's answer. `source` says whether latency, energy and power are "measured" or "modelled".

    label, confidence: the best label and its score; None where there is none, for a regression and for a model that
    labels tokens. value: what a regression of one label gives, else None. scores: every label's score, empty for a
    model that labels tokens. tokens: their answers, special tokens left out. logits: one integer a label; for a model
    that labels tokens, such a tuple for each of `tokens`. energy_mj, power_w: None where the board's sensors say
    nothing. error: why there is no answer, else None; what is known then is text, pair, clock_mhz and truncated.

    With early exit on, else None: exit_layer, behind which of the model's `layers` the sentence left, from 1;
    exit_entropy there and first_entropy at the first off-ramp, in nats; foretold_layer, what that foretold (None: no
    layer). first_clock_mhz: of the first layer; clock_mhz: of the rest. target_ms: the latency wanted, if any;
    target_met: whether latency_ms, measured or modelled, is within it. energy_parts_mj: what energy_mj is made of, and
    waiting_mj: what static power and the processing system take until the target's time is over, the engine's clock
    stopped; both modelled, None where energy is measured.

    task: whose answer it is, of a backbone's tasks; None for a model by itself.
    """

    text: str
    pair: str | None = None
    label: str | None = None
    confidence: float | None = None
    value: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    tokens: tuple[TokenLabel, ...] = ()
    latency_ms: float | None = None
    energy_mj: float | None = None
    power_w: float | None = None
    clock_mhz: float
    truncated: bool
    source: str | None = None
    logits: tuple[int, ...] | tuple[tuple[int, ...], ...] = ()
    error: str | None = None
    exit_layer: int | None = None
    layers: int | None = None
    exit_entropy: float | None = None
    first_entropy: float | None = None
    foretold_layer: int | None = None
    first_clock_mhz: float | None = None
    target_ms: float | None = None
    target_met: bool | None = None
    waiting_mj: float | None = None
    energy_parts_mj: Mapping[str, float] | None = None
    task: str | None = None

    @property
    def fps_per_w(self) -> float | None:
        """Sentences a second and watt, one after the other; None where no power was measured."""
        if self.energy_mj is None:
            return None
        return 1e3 / self.energy_mj if self.energy_mj else inf

    def as_dict(self) -> dict:
        """The fields by name, for JSON; those of early exit only where it is on, the task where there are several."""
        left_out = (EXIT_FIELDS if self.layers is None else ()) + (TASK_FIELDS if self.task is None else ())
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def scores_of(x: np.ndarray, form: str) -> np.ndarray:
    """Scores of x = logits * scale, float [..., labels]: their "softmax", "sigmoid" of each, or x itself for "none"."""
    if form == "softmax":
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    if form == "sigmoid":
        return np.exp(-np.logaddexp(0, -x))  # 1/(1 + e^-x) without an overflow
    return x
