# SPDX-License-Identifier: Apache-2.0
"""Directory of a compressed matrix: where each column tile's port streams lie (docs/program.md, Compressed weights).

One beat a tile, little-endian 32-bit words: kind (0 zero, 1 stored), beats a port, beats a port before it, and the
bound of its blocks, 0 where it takes a step an entry of K.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .instructions import BEAT_BYTES, BLOCK

SEGMENT_STEPS = 256  # K steps of a segment, the last of a tile may have fewer
CHOICE_STEPS = 8  # of a beat of choices
FRAME_BEATS = 1  # the end beat of a tile; each segment has a header beat too
ZERO, STORED = 0, 1
_ENTRY = struct.Struct("<4I")


@dataclass(frozen=True)
class Tile:
    """One column tile: `beats` beats on each port, 0 for a tile of zeros that is not stored at all; `bound`: entries of
    a block that a group of channels uses at most, 0 for no bound."""

    beats: int
    bound: int = 0

    @property
    def zero(self) -> bool:
        """Whether it holds no weight but 0: the array spends one step on it."""
        return self.beats == 0

    def steps(self, k: int) -> int:
        """Steps of the array, and words of the weight buffer, for K = k entries."""
        return -(-k // BLOCK) * self.bound if self.bound else k


Directory = tuple[Tile, ...]


def encode_directory(tiles: Sequence[Tile]) -> bytes:
    """The directory's beats."""
    data, before = b"", 0
    for tile in tiles:
        data += _ENTRY.pack(ZERO if tile.zero else STORED, tile.beats, before, tile.bound)
        before += tile.beats
    return data


def region_bytes(tiles: Sequence[Tile], ports: int) -> int:
    """Bytes of a compressed matrix in the memory image: directory, then the streams."""
    return (len(tiles) + ports * sum(tile.beats for tile in tiles)) * BEAT_BYTES


def segments(k: int) -> int:
    """Segments of a tile of K = k steps."""
    return -(-k // SEGMENT_STEPS)


def chosen_beats(k: int, bound: int) -> int:
    """Beats a port of a tile of K = k entries whose blocks have this bound: a header a segment, a beat a step, and one
    of choices for every CHOICE_STEPS of them."""
    steps = Tile(FRAME_BEATS, bound).steps(k)
    whole, rest = divmod(steps, SEGMENT_STEPS)
    choices = whole * (SEGMENT_STEPS // CHOICE_STEPS) + -(-rest // CHOICE_STEPS)
    return FRAME_BEATS + segments(steps) + steps + choices


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
