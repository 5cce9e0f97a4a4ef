# SPDX-License-Identifier: Apache-2.0
"""One text's answer, and how logits become scores (docs/quantization.md, Q19)."""

from dataclasses import asdict, dataclass, field

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
    that labels tokens, such a tuple for each of `tokens`.
    """

    text: str
    pair: str | None = None
    label: str | None = None
    confidence: float | None = None
    value: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    tokens: tuple[TokenLabel, ...] = ()
    latency_ms: float
    energy_mj: float
    power_w: float
    clock_mhz: float
    truncated: bool
    source: str
    logits: tuple[int, ...] | tuple[tuple[int, ...], ...]

    @property
    def fps_per_w(self) -> float:
        """Sentences a second and watt, one after the other."""
        return 1e3 / self.energy_mj

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
