# SPDX-License-Identifier: Apache-2.0
"""A pass on its way: what is asked, the buffer it has, and what its run left."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .layouts import Record
from .meter import Reading
from .packing import Pass, Sentence
from .pynq_quietly import PynqBuffer


@dataclass
class Job:
    """`texts` with their pairs, and the `sentences` they became, one a lane; `laid`: their rows lie in `io` already.

    Of the run: `known` are fields of every Result; `reading`, or why there is none (`error`); where sentences leave
    early the `record`, and the clock behind the first layer.
    """

    texts: Sequence[tuple[str, str | None]]
    sentences: Sequence[Sentence]
    rows: Pass
    target_s: float | None
    io: PynqBuffer
    laid: bool = False
    known: dict[str, Any] = field(default_factory=dict)
    reading: Reading | None = None
    error: str | None = None
    record: Record | None = None
    rest_mhz: float | None = None
