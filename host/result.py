# SPDX-License-Identifier: Apache-2.0
"""One text's answer, and how logits become scores (docs/quantization.md, Q19)."""

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


@dataclass(frozen=True, kw_only=True)
class Result:
    """One text's answer. `source` says whether latency, energy and power are "measured" or "modelled".

    label, confidence: the best label and its score; None where there is none, for a regression and for a model that
    labels tokens. value: what a regression of one label gives, else None. scores: every label's score, empty for a
    model that labels tokens. tokens: their answers, special tokens left out. logits: one integer a label; for a model
    that labels tokens, such a tuple for each of `tokens`. energy_mj, power_w: None where the board's sensors say
    nothing. error: why there is no answer, else None; what is known then is text, pair, clock_mhz and truncated.
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

    @property
    def fps_per_w(self) -> float | None:
        """Sentences a second and watt, one after the other; None where no power was measured."""
        if self.energy_mj is None:
            return None
        return 1e3 / self.energy_mj if self.energy_mj else inf

    def as_dict(self) -> dict:
        """The fields by name, for JSON."""
        return asdict(self)


def scores_of(x: np.ndarray, form: str) -> np.ndarray:
    """Scores of x = logits * scale, float [..., labels]: their "softmax", "sigmoid" of each, or x itself for "none"."""
    if form == "softmax":
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    if form == "sigmoid":
        return np.exp(-np.logaddexp(0, -x))  # 1/(1 + e^-x) without an overflow
    return x
