# SPDX-License-Identifier: Apache-2.0
"""Directory of a compressed matrix: where each column tile's port streams lie (docs/program.md, Compressed weights).

One beat a tile, little-endian 32-bit words: kind (0 zero, 1 stored), beats a port, beats a port before it, 0.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .instructions import BEAT_BYTES

SEGMENT_STEPS = 256  # K steps of a segment, the last of a tile may have fewer
FRAME_BEATS = 1  # the end beat of a tile; each segment has a header beat too
ZERO, STORED = 0, 1
_ENTRY = struct.Struct("<4I")


@dataclass(frozen=True)
class Tile:
    """One column tile: `beats` beats on each port, 0 for a tile of zeros that is not stored at all."""

    beats: int

    @property
    def zero(self) -> bool:
        """Whether it holds no weight but 0: the array spends one step on it."""
        return self.beats == 0


Directory = tuple[Tile, ...]


def encode_directory(tiles: Sequence[Tile]) -> bytes:
    """The directory's beats."""
    data, before = b"", 0
    for tile in tiles:
        data += _ENTRY.pack(ZERO if tile.zero else STORED, tile.beats, before, 0)
        before += tile.beats
    return data


def region_bytes(tiles: Sequence[Tile], ports: int) -> int:
    """Bytes of a compressed matrix in the memory image: directory, then the streams."""
    return (len(tiles) + ports * sum(tile.beats for tile in tiles)) * BEAT_BYTES


def segments(k: int) -> int:
    """Segments of a tile of K = k steps."""
    return -(-k // SEGMENT_STEPS)


def expected_beats(k: int, density: float) -> int:
    """Beats a port of a tile whose weights are non-zero with probability `density`, independently: for estimates.

    A segment of n steps has a header, and n beats if raw, or n/4 of masks and n·density of values. The busiest of a few
    ports comes about one standard deviation, and half a beat of rounding, above their mean.
    """
    if density <= 0:
        return 0
    beats = FRAME_BEATS
    for first in range(0, k, SEGMENT_STEPS):
        n = min(SEGMENT_STEPS, k - first)
        spread = (32 * n * density * (1 - density)) ** 0.5 / 32
        masked = -(-n // 4) + n * density + 1.2 * spread + 0.5
        beats += 1 + min(n, round(masked))
    return beats
