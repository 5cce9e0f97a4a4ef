# SPDX-License-Identifier: Apache-2.0
"""Adaptive embedding rows (docs/program.md) written bit by bit, with a writer of their own."""

import numpy as np

BEAT = 16


def adaptive_row(mask, codes, m: int, s: int, code_beats: int) -> np.ndarray:
    """mask [width] of 0 and 1, the codes that follow it, and `code_beats` beats for them → bytes uint8."""
    mask_beats = -(-len(mask) // 128)
    row = np.zeros((mask_beats + code_beats + 1) * BEAT, np.uint8)
    for c, bit in enumerate(mask):
        row[c // 128 * BEAT + c % 128 // 8] |= int(bit) << (c % 8)
    for i, code in enumerate(codes):
        row[mask_beats * BEAT + i] = code
    row[-BEAT], row[-BEAT + 1] = m, s
    return row


def packed_rows(codes: np.ndarray, m: int, s: int, code_beats: int | None = None) -> np.ndarray:
    """codes uint8 [n, width], those that are not 0 stored → uint8 [n, bytes], beats for the longest row or as given."""
    longest = int((codes != 0).sum(axis=1).max(initial=0))
    beats = -(-longest // BEAT) if code_beats is None else code_beats
    return np.stack([adaptive_row(row != 0, row[row != 0], m, s, beats) for row in codes])
