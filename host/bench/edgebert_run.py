# SPDX-License-Identifier: Apache-2.0
"""Sentences through the emulated engine, at full depth, by entropy alone or to a latency target: its own decisions."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ...quant.datasets import LABELS
from .. import engine as engines
from ..errors import HostError
from .edgebert_costs import TOP_MHZ
from .edgebert_models import Model
from .edgebert_trace import Trace, digest, kept


def trace_of(
    folder: Path,
    model: Model,
    texts: Sequence[str],
    *,
    board: str,
    point: str | None = None,
    target_ms: float | None = None,
    step: Callable[[], None] = lambda: None,
) -> Trace:
    """What the engine says of each text, kept in `folder`; `step` is called for every one, run now or before.

    Without `point` every sentence goes through all layers; without `target_ms` it leaves by its entropy alone.
    Raises HostError where a text is not answered, what `engine.open` does, ValueError for a spoilt file.
    """
    settings = {
        "model": model.digest,
        "texts": digest(list(texts)),
        "board": board,
        "point": point,
        "target_ms": target_ms,
    }
    way = "full" if point is None else f"point-{point}" + ("" if target_ms is None else f"-{target_ms:g}ms")

    def run(first: int, trace: Trace) -> None:
        # Never retuned: what a sentence costs would depend on those before it, and on where a run was cut.
        with engines.open(
            board=board, artifact=model.folder, device="emulated", clock_mhz=TOP_MHZ, early_exit=point, retune=False
        ) as engine:
            more = {} if target_ms is None else {"latency_target_ms": target_ms}
            for result in engine.stream(texts[first:], **more):
                if result.error is not None:
                    raise HostError(f"{result.error}; the benchmark ends here, at the text {result.text[:40]!r}")
                trace.add(
                    LABELS.index(result.label),
                    model.layers if point is None else result.exit_layer,
                    result.foretold_layer or 0,
                    result.exit_entropy,
                    result.clock_mhz,
                )

    return kept(folder, f"{model.folder.name}-{board}-{way}", settings, len(texts), run, step)
