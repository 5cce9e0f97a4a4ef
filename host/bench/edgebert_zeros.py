# SPDX-License-Identifier: Apache-2.0
"""Products of the array that are 0, counted in passes that really ran, and what gating their cells saves (modelled)."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from ...fpga.dvfs import Passes, leaving_at
from ...fpga.energy import ZERO_STEPS, Work, energy
from ...fpga.whole_file import write_whole
from ..compiler import Plan
from ..packing import pack_pass
from ..zero_steps import gated_steps
from .edgebert_costs import TOP_MHZ
from .edgebert_models import Model
from .edgebert_trace import digest

SENTENCES = 8  # spread over the split: the share hardly differs from one to another


def zero_share(folder: Path, model: Model, plan: Plan, texts: Sequence[str]) -> float:
    """Share of the array's cell-steps whose product is 0 in passes of `plan` through all layers, of SENTENCES of the
    texts, each alone.

    Counted from the golden model's buffers, which are the engine's; kept in `folder`. Raises ValueError for a spoilt
    file there.
    """
    from ...quant.golden_model import GoldenModel

    chosen = list(texts[:: max(1, len(texts) // SENTENCES)][:SENTENCES])
    path = folder / f"zeros-{digest([model.digest, plan.board.name, chosen])}.json"
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return found["gated"] / found["steps"]
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            raise ValueError(f"{path}: not a count of zeros; remedy: remove it, and they are counted again") from error
    golden, encoder = GoldenModel(model.folder), model.encoder()
    steps = gated = 0
    for text in chosen:
        rows, trace = pack_pass([encoder.encode(text)]), {}
        golden.forward(rows.word, rows.position, rows.type, rows.begin, rows.end, rows.results, trace)
        of_pass = gated_steps(plan, model.artifact, trace)
        steps, gated = steps + of_pass[0], gated + of_pass[1]
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"gated": gated, "steps": steps, "sentences": len(chosen)}))
    return gated / steps


def saved_mj(
    passes: Passes, blocks: Sequence[int], layers: Sequence[int] | None, clocks_mhz: Sequence[float], share: float
) -> float:
    """Mean mJ a sentence that gating saves: `layers` at which they left (None: a plan without off-ramps), `clocks_mhz`
    after the first off-ramp; the working part of the array's DSPs alone (fpga/energy.py)."""
    ways = [None] * len(blocks) if layers is None else list(map(leaving_at, layers, blocks))
    courses = (passes.course(n, way, TOP_MHZ, mhz) for n, way, mhz in zip(blocks, ways, clocks_mhz, strict=True))
    gated = (Work({ZERO_STEPS: share * course.work["array busy"]}) for course in courses)
    return fmean(-1e3 * energy(passes.board, work).joules for work in gated)
