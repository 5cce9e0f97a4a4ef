# SPDX-License-Identifier: Apache-2.0
"""The word embeddings of an artifact as rows of Q6, in whichever format they are stored. numpy only."""

from collections.abc import Mapping

import numpy as np

from .adaptivfloat import values
from .packing import unpack_nibbles

FORMATS = ("integer", "adaptivfloat")


def word_rows(architecture: Mapping, tensors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q [vocab, embedding] (int8; Q24: int16), m and s [vocab] of Q6. Raises ValueError for a nibble 0x8."""
    q = tensors["embeddings.word.q"]
    if architecture["word_format"] == "adaptivfloat":
        m, s = tensors["embeddings.word.factor"]
        return values(q), np.full(len(q), m), np.full(len(q), s)
    if q.dtype == np.uint8:
        q = 16 * unpack_nibbles(q, architecture["embedding"])
    return q, tensors["embeddings.word.m"], tensors["embeddings.word.s"]
