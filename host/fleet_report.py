# SPDX-License-Identifier: Apache-2.0
"""Which worker of a fleet has answered how much, and what their engines come to side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .result import Result


@dataclass
class Share:
    """What one worker has answered: sentences, how many of them failed, and what its engine took for all."""

    where: str
    sentences: int = 0
    failed: int = 0
    engine_ms: float = 0.0
    sources: set[str] = field(default_factory=set)

    def add(self, result: Result, engine_ms: float) -> None:
        """One more, and what the engine took for it."""
        self.sentences += 1
        self.engine_ms += engine_ms
        if result.error is not None:
            self.failed += 1
        else:
            self.sources.add(result.source)

    @property
    def rate(self) -> float:
        """Sentences a second of the engine alone; 0 where it has answered none."""
        return 1e3 * (self.sentences - self.failed) / self.engine_ms if self.engine_ms else 0.0


def lines(shares: Mapping[str, Share]) -> Iterator[str]:
    """A line a worker, and one for all: their engines' rates added up, which is what the boards do side by side, host
    and network left out."""
    for name, share in sorted(shares.items()):
        failed = f", {share.failed} of them failed" if share.failed else ""
        yield f"{name}, {share.where}: {_sentences(share.sentences)}{failed}"
    total, source = (
        sum(share.sentences for share in shares.values()),
        set().union(*(s.sources for s in shares.values())),
    )
    if source:
        kind = "modelled" if "modelled" in source else "measured"
        workers = f"{len(shares)} worker{'' if len(shares) == 1 else 's'}"
        rate = sum(share.rate for share in shares.values())
        yield f"{_sentences(total)} by {workers}; the engines alone, side by side: {rate:,.0f} sentences/s ({kind})"


def _sentences(count: int) -> str:
    return f"{count} sentence{'' if count == 1 else 's'}"
