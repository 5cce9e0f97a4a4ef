# SPDX-License-Identifier: Apache-2.0
"""Which of the sentences that wait share a pass: the one that waits longest, and those that fill its rows best."""

from typing import Generic, TypeVar

from ..fpga import instructions as isa

T = TypeVar("T")
WINDOW = 32  # sentences; of so many, of a review's length, some fill the 128 rows of a pass but for one or two


class Packer(Generic[T]):
    """At most `window` items wait at a time. A pass has `rows` rows and answers `most` of them."""

    def __init__(self, window: int = WINDOW, rows: int = isa.MAX_ROWS, most: int = isa.LANES):
        if window < 1:
            raise ValueError(f"a window of {window} sentences: 1 or more are needed")
        self.window, self.rows, self.most = window, rows, most
        self._waiting: list[tuple[T, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether a pass must be taken before another item comes."""
        return len(self._waiting) >= self.window

    def add(self, item: T, rows: int) -> None:
        """One more that waits. Raises ValueError for one that fits no pass, and where the window is full."""
        if not 1 <= rows <= self.rows:
            raise ValueError(f"a sentence of {rows} rows, 1 to {self.rows} fit a pass")
        if self.full:
            raise ValueError(f"{self.window} sentences wait already")
        self._waiting.append((item, rows))

    @property
    def first_rows(self) -> int:
        """Rows of the item that waits longest; 0 if none waits."""
        return self._waiting[0][1] if self._waiting else 0

    def take(self, rows: int | None = None) -> list[T]:
        """The items of a pass, in the order they came; none if none waits. rows: what they may take, if not all.

        The first is among them, whatever it fills: nothing waits for ever. Of the sets of others that fill the most
        rows it is one of early ones.
        """
        if not self._waiting:
            return []
        chosen = set(self._fill([rows for _, rows in self._waiting], self.rows if rows is None else rows))
        taken = [item for n, (item, _) in enumerate(self._waiting) if n in chosen]
        self._waiting = [waiting for n, waiting in enumerate(self._waiting) if n not in chosen]
        return taken

    def _fill(self, rows: list[int], most: int) -> list[int]:
        """Indices of the first and of those that fill what it leaves, by subset sums as the bits of integers."""
        left = most - rows[0]
        sums = [1]  # bit s of the n-th: some of the first n others fill s rows
        for count in rows[1:]:
            sums.append((sums[-1] | sums[-1] << count) & ((1 << left + 1) - 1))
        filled, chosen = sums[-1].bit_length() - 1, [0]
        for n in range(len(rows) - 1, 0, -1):
            if not sums[n - 1] >> filled & 1:  # the others before do not fill as much without it
                chosen.append(n)
                filled -= rows[n]
        return sorted(chosen)[: self.most]
