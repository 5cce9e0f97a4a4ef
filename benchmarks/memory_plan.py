# SPDX-License-Identifier: Apache-2.0
"""docs/memory-plan.md and docs/memory-plan.svg: what lies in which memory, and what a switch of tasks costs. Modelled.

    python benchmarks/memory_plan.py

Run again where the compiler, the boards' memories or the models of cycles and power have changed; a test holds the
document against them.
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.memory_plan import memory_plan
from zynqbert.host.memory_plot import drawing
from zynqbert.host.memory_text import placement, switch_lines, table
from zynqbert.host.model_shape import ModelShape
from zynqbert.host.plan_command import costs_of, planned_on
from zynqbert.host.storage import matrices

ROOT = Path(__file__).resolve().parents[1]
MODEL, BOARD, DENSITY, WORD_DENSITY, TASK_WIDTH = "albert-base", "zcu111", 0.5, 0.4, 32
BACKBONES = ("albert-base", "albert-minilm")
DENSITIES = (0.4, 0.5, 0.6, 0.75, 1.0)
COLUMNS = 118

HEAD = """\
# Memory plan

Generated: `python benchmarks/memory_plan.py`. Where densities are not an artifact's, sizes are **modelled**; times and
energies always are, on [assumptions](assumptions.md).

`zynqbert tasks plan BACKBONE --board zcu111` prints what lies in which memory of a board, from the plans that the host
loads: a test compares its bytes with the buffers that the engine allocates. `--model` plans a shape, `--plot FILE`
draws it, `--json` gives all of it.

## The paper's memories and ours

| adapter-ALBERT (arXiv 2303.16100) | here |
|---|---|
| the backbone, read far more than written, in a dense memory, as bitmask and non-zeros | int4 matrices as bitmask and \
non-zeros in the resident memory on chip, where they fit: KEEP brings them there once, and every layer that shares \
them reads them there. What does not fit is streamed from DDR, compressed where that is smaller |
| embeddings, shared by all tasks, in the same memory | AdaptivFloat rows in DDR: a mask, the codes that are not 0, a \
factor; a pass gathers the rows of its tokens |
| adapters, norms and heads of the task in a small memory that is written | the last bytes of the memory image in DDR; \
a switch writes what a task fills of it, and nothing else |
| activations in fast memory | activation memory, residual, keys and values in block RAM; none goes to DDR |

The boards have no memory that keeps the backbone without power: it is read from DDR once after power-up, by KEEP.

## How to read it

A memory's rows add up to its bytes. A row "over these" lies on the same bytes as rows above it, at another time: the
FFN's operand where attention's queries and context were, a task where the one before it was. `words` are those of the
memory, `image from` an offset in the memory image, that of the row's first region; a region is padded to 16 bytes.
"""


def plans(model: str, density: float, word_density: float) -> dict:
    """The plans of a model with adapters on each board, as the command makes them."""
    options = {"density": density, "word-density": word_density, "width": TASK_WIDTH}
    return {name: planned_on(board, None, model, options) for name, board in BOARDS.items()}


def resident() -> list[str]:
    """How many of a shared layer's six matrices are resident, by density, and up to which one all are."""
    rows = []
    for model in BACKBONES:
        for name, board in BOARDS.items():
            found = []
            for density in DENSITIES:
                of = matrices(ModelShape.named(model), board, density=density).values()
                kept = sum(m.words for m in of if m.resident is not None)
                found.append(
                    f"{sum(m.resident is not None for m in of)} of {len(of)}, {kept / board.resident_words:.0%}"
                )
            rows.append((model, name.upper(), *found, most_whole(model, name)))
    head = ("backbone", "board", *(f"{density:.0%}" for density in DENSITIES), "all six up to")
    return _table(head, rows)


def most_whole(model: str, board: str) -> str:
    """The greatest density, in percent, at which every matrix is resident."""
    for percent in range(100, 0, -1):
        found = matrices(ModelShape.named(model), BOARDS[board], density=percent / 100).values()
        if all(m.resident is not None for m in found):
            return f"{percent} %"
    return "none"


def switches() -> list[str]:
    """A switch against a reload, for both backbones on both boards."""
    rows = []
    for model in BACKBONES:
        for name, planned in plans(model, DENSITY, WORD_DENSITY).items():
            cost, use = costs_of(planned.plans), memory_plan(planned.plans).tasks[0]
            switch, reload = cost["switch"], cost["reload"]
            shown = []
            for of in (switch, reload):
                shown += [f"{of.bytes / 1e3:.0f}", _range(of.seconds, of.seconds_range),
                          _range(of.joules, of.joules_range)]  # fmt: skip
            ratio = f"{reload.seconds / switch.seconds:.0f} / {reload.joules / switch.joules:.0f}"
            rows.append((model, name.upper(), f"{use.share:.2%}", *shown, ratio))
    head = ("backbone", "board", "moved of the model", "switch: kB", "ms", "mJ", "reload: kB", "ms", "mJ",
            "times the ms / mJ")  # fmt: skip
    return _table(head, rows)


def _range(value: float, ends: Sequence[float]) -> str:
    low, high = ends
    return f"{value * 1e3:.2f} ({low * 1e3:.2f}–{high * 1e3:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]


def command() -> str:
    """The command that prints the example."""
    options = f"--density {DENSITY} --word-density {WORD_DENSITY}"
    return f"zynqbert tasks plan --model {MODEL} --board {BOARD} {options} --plot docs/memory-plan.svg"


def printed() -> str:
    """What the command prints, in a terminal of COLUMNS."""
    planned = plans(MODEL, DENSITY, WORD_DENSITY)
    found = {name: memory_plan(of.plans, code_density=of.code_density) for name, of in planned.items()}
    out = io.StringIO()
    Console(file=out, width=COLUMNS, color_system=None, force_terminal=False).print(table(found[BOARD], True))
    text = [line.rstrip() for line in out.getvalue().rstrip().splitlines()]
    text += ["", *(placement(of) for of in found.values())]
    text += switch_lines({name: costs_of(of.plans) for name, of in planned.items()})
    return "\n".join(text)


def picture() -> str:
    """docs/memory-plan.svg."""
    planned = plans(MODEL, DENSITY, WORD_DENSITY)[BOARD]
    found = memory_plan(planned.plans, code_density=planned.code_density)
    return drawing(found, True, list(switch_lines({BOARD: costs_of(planned.plans)})))


def render() -> str:
    """docs/memory-plan.md."""
    parts = [
        HEAD,
        "## What is resident",
        "",
        "Of the six int4 matrices of the layer that all places share, those on chip, and how full that memory is, by",
        "the density of the weights; modelled. One that is not on chip is read from DDR by every layer of every pass.",
        "`albert-minilm` is an ALBERT of MiniLM's sizes: 6 layers, hidden 384.",
        "",
        *resident(),
        "",
        "## A switch against a reload",
        "",
        f"Modelled, with ranges: density {DENSITY:.0%}, {WORD_DENSITY:.0%} of the words' codes, adapters of width "
        f"{TASK_WIDTH} that all layers share.",
        "A reload is an image that the host has packed already, its programs, and KEEP; reading and packing come on",
        "top. Beside its bytes a switch takes its writes, one for each piece of the area that touches no other, at",
        "30 µs (`write_us`).",
        "",
        *switches(),
        "",
        "## Example",
        "",
        "Modelled. It also draws the picture.",
        "",
        "```",
        f"$ {command()}",
        printed(),
        "```",
        "",
        f"![{MODEL} on {BOARD.upper()}: what lies in which memory, modelled](memory-plan.svg)",
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write both files."""
    (ROOT / "docs" / "memory-plan.md").write_text(render(), encoding="utf-8")
    (ROOT / "docs" / "memory-plan.svg").write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
