# SPDX-License-Identifier: Apache-2.0
"""When the tiles of the MAC array begin and drain, as its RTL does it (docs/mac-array.md), a cycle at a time.

A tile takes its operands a step a cycle, and its words leave `depth` cycles after the last, one a cycle, while the next
tile multiplies. It begins so that its words follow those of the tile before: a tile costs max(K, words before it).
"""

from dataclasses import dataclass


@dataclass
class ArrayTimes:
    """The array from cycle 0 on; all in cycles.

    depth: from the cycle after a tile's last operand to the one in which its first word enters the accumulator stream;
    shortest: from one tile's begin to the next one's; overhead: more between two tiles (none in the RTL); overlap: a
    tile drains while the next one multiplies.
    """

    depth: int
    shortest: int = 0
    overhead: int = 0
    overlap: bool = True
    free: int = 0  # for the next tile's first operand
    drained: int = 0  # the cycle after the last word

    def drain_free(self, steps: int) -> int:
        """The cycle from which a tile of `steps` may begin without meeting the words of the tile before."""
        return self.drained - steps - self.depth

    def begin(self, now: int, steps: int, words: int) -> int:
        """A tile begins in cycle `now`; the cycle in which its first word enters the accumulator stream."""
        if now < max(self.free, self.drain_free(steps)):
            raise ValueError(f"a tile that begins in cycle {now} meets the one before")
        first = now + steps + self.depth
        self.drained = first + words
        self.free = (now + max(steps, self.shortest) if self.overlap else self.drained) + self.overhead
        return first
