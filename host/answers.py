# SPDX-License-Identifier: Apache-2.0
"""From logits to the fields of a Result that depend on the model's kind (docs/quantization.md, Q19)."""

from collections.abc import Sequence

import numpy as np

from .packing import Span
from .result import TokenLabel, scores_of


def sentence_answer(logits: np.ndarray, scale: float, labels: Sequence[str], form: str) -> dict:
    """The answer of int logits [labels]; `form` is the manifest's task.scores."""
    scores = scores_of(logits * scale, form).tolist()
    answer = {"scores": dict(zip(labels, scores, strict=True)), "logits": tuple(logits.tolist())}
    if form == "none":
        return answer | {"value": scores[0] if len(scores) == 1 else None}
    best = int(np.argmax(logits))
    return answer | {"label": labels[best], "confidence": scores[best]}


def token_answers(
    logits: np.ndarray, scale: float, labels: Sequence[str], form: str, spans: Sequence[Span], texts: tuple
) -> dict:
    """The same of a model that labels tokens: int logits [rows, labels], `spans` the tokens' places in `texts`."""
    logits = logits[[span.row for span in spans]]  # [tokens, labels]
    tokens = []
    for span, best, row in zip(spans, np.argmax(logits, axis=1), scores_of(logits * scale, form), strict=True):
        part = texts[span.in_pair][span.start : span.end]
        tokens.append(TokenLabel(part, span.start, span.end, labels[best], float(row[best]), span.in_pair))
    return {"tokens": tuple(tokens), "logits": tuple(map(tuple, logits.tolist()))}
