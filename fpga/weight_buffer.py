# SPDX-License-Identifier: Apache-2.0
"""Where fetch places tiles of weights (kernels/fetch_weights.hpp)."""

from .instructions import WEIGHT_TILES, WEIGHT_WORDS


class WeightBuffer:
    """Where tiles of weights lie in the buffer: a ring, a tile in one piece, freed in order."""

    def __init__(self) -> None:
        self.live: list[int] = []  # first words
        self.next = 0

    def place(self, k: int) -> tuple[int, int]:
        """First word of a tile of `k` words, and how many of the tiles before it must have been freed meanwhile."""
        freed = 0
        while True:
            oldest = self.live[0] if self.live else 0
            if not self.live:
                self.next = 0
            wrapped = bool(self.live) and self.next <= oldest
            if len(self.live) < WEIGHT_TILES:
                if self.next + k <= (oldest if wrapped else WEIGHT_WORDS):
                    break
                if not wrapped and k <= oldest:
                    self.next = 0
                    break
            self.live.pop(0)
            freed += 1
        word = self.next
        self.live.append(word)
        self.next += k
        return word, freed
