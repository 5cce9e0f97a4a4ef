# SPDX-License-Identifier: Apache-2.0
"""What density-bound blocks of several shapes cost in accuracy: one quantization of the same float model for each.

    python benchmarks/block_shapes.py --float build/movie-reviews/float --out artifacts/movie-reviews.blocks.json
    python benchmarks/block_shapes.py --out artifacts/movie-reviews.blocks.json --table

A shape is the entries of a block and the channels that choose alike among them; the engine has 4 and 4
(quant/pruning.py).
"""

import sys

from quantized_rows import cells, float_cells, main
from zynqbert.quant.options import Options


def in_blocks(density: float, *shape: int) -> Options:
    return Options(word_bits=4, density=density, pattern="blocks", block_shape=shape)


ROWS = {
    "all weights": Options(word_bits=4),
    "half, anywhere": Options(word_bits=4, density=0.5),
    "2 of 4, a channel": in_blocks(0.5, 4, 1),
    "2 of 4, 2 channels": in_blocks(0.5, 4, 2),
    "2 of 4, 4 channels": in_blocks(0.5, 4, 4),
    "2 of 4, 8 channels": in_blocks(0.5, 4, 8),
    "1 of 2, 4 channels": in_blocks(0.5, 2, 4),
    "4 of 8, 4 channels": in_blocks(0.5, 8, 4),
    "3 of 4, 4 channels": in_blocks(0.75, 4, 4),
    "1 of 4, 4 channels": in_blocks(0.25, 4, 4),
}


def table(report: dict) -> str:
    """The report as a table of docs/more-per-dsp.md."""
    lines = [
        "| weights that may be other than 0 | dev | test | test, points against float (95 %) | mean abs. logit error |",
        "|---|---|---|---|---|",
        f"| in float | {' | '.join(float_cells(report))} | – | – |",
    ]
    for name, row in report["rows"].items():
        lines.append(f"| {name} | {' | '.join(cells(row))} | {row['test']['logit_error']:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(__doc__, ROWS, table))
