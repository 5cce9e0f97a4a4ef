# SPDX-License-Identifier: Apache-2.0
"""Off-ramps as sure as they are right: one temperature a ramp (Guo et al., arXiv 1706.04599), in its factors (Q2).

All ramps leave by one threshold, so that an entropy has to mean the same behind every layer. Early ramps read [CLS]
rows that hardly differ from text to text, and in int8 much of what they tell apart is rounding: they would be as sure
of it as late ramps are of the text. Dividing a ramp's logits by T changes no answer.
"""

from collections.abc import Mapping

import numpy as np

from .scales import FACTOR_MAX, decode_factor, encode_factor

_TEMPERATURES = np.geomspace(0.5, 64.0, 141)


def temperatures(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """T [layers − 1] of least mean cross-entropy; real logits [sentences, layers, labels], labels [sentences].

    The last layer's answer is the model's own and stays as it is.
    """

    def loss(x: np.ndarray, temperature: float) -> float:
        x = x / temperature
        x = x - x.max(axis=1, keepdims=True)
        right = np.take_along_axis(x, labels[:, None], axis=1)[:, 0]
        return float((np.log(np.exp(x).sum(axis=1)) - right).mean())

    ramps = (logits[:, i].astype(np.float64) for i in range(logits.shape[1] - 1))
    return np.array([min(_TEMPERATURES, key=lambda t, x=x: loss(x, t)) for x in ramps])


def tempered(tensors: Mapping[str, np.ndarray], found: np.ndarray) -> dict[str, np.ndarray]:
    """The artifact's tensors with the factors of off-ramp i divided by found[i]."""
    made = dict(tensors)
    for i, temperature in enumerate(found):
        m, s = (tensors[f"exits.{i}.{part}"] for part in "ms")
        m, s = encode_factor(np.minimum(decode_factor(m, s) / temperature, FACTOR_MAX))
        made[f"exits.{i}.m"], made[f"exits.{i}.s"] = m.astype(np.uint8), s.astype(np.uint8)
    return made
