# SPDX-License-Identifier: Apache-2.0
"""How word embeddings are best stored: bytes, error and accuracy of int8, int4 and AdaptivFloat, of one float model.

    python benchmarks/word_formats.py --float build/movie-reviews/float --out artifacts/movie-reviews.words.json
    python benchmarks/word_formats.py --out artifacts/movie-reviews.words.json --table

Every row is quantized from the same calibration sentences of the train split, all of the model: what comes after the
embedding is fitted to the words as they are stored. Rows that the JSON has already are not measured again. The test
split is only read here.
"""

import sys

import numpy as np
from quantized_rows import cells, float_cells, main
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.compiler import plan
from zynqbert.host.memory_image import pack_adaptive, pack_embedding
from zynqbert.host.model_shape import ModelShape
from zynqbert.quant.artifact import Artifact
from zynqbert.quant.checkpoint import Checkpoint
from zynqbert.quant.options import Options
from zynqbert.quant.words import word_rows

ROWS = {
    "int8": Options(),
    "int4": Options(word_bits=4),
    "AdaptivFloat": Options(word_format="adaptivfloat"),
    "AdaptivFloat, 0.6": Options(word_format="adaptivfloat", word_density=0.6),
    "AdaptivFloat, 0.4": Options(word_format="adaptivfloat", word_density=0.4),
}


def word_error(words: np.ndarray, artifact: Artifact) -> float:
    """Root mean square of what is lost of the float table [vocab, width], over that of the table."""
    q, m, s = word_rows(artifact.manifest["architecture"], artifact.tensors)
    step = artifact.manifest["scales"]["activations"]["embeddings.sum"]
    scale = m.astype(np.float64) * np.exp2(-s.astype(np.float64)) * step  # [vocab]
    lost = [((q[i] * scale[i] - words[i]) ** 2).sum() for i in range(len(words))]
    return float(np.sqrt(sum(lost) / (words.astype(np.float64) ** 2).sum()))


def word_bytes(artifact: Artifact) -> dict[str, int]:
    """Bytes of a row of words, and of the table in the memory image, as packed."""
    t = artifact.tensors
    if artifact.manifest["architecture"]["word_format"] == "adaptivfloat":
        packed = pack_adaptive(t["embeddings.word.q"], *t["embeddings.word.factor"])
    else:
        packed = pack_embedding(*(t[f"embeddings.word.{part}"] for part in "qms"))
    region = plan(ModelShape.of_manifest(artifact.manifest), BOARDS["zcu102"], artifact=artifact).regions
    if region["embeddings.word"].bytes != packed.nbytes:
        raise AssertionError("the plan's region is not what is packed")
    return {"row_bytes": packed.shape[1], "table_bytes": packed.nbytes}


def words(artifact: Artifact, checkpoint: Checkpoint) -> dict:
    """What a row says of the words: bytes, error, and codes that are not 0."""
    codes = word_rows(artifact.manifest["architecture"], artifact.tensors)[0]
    error = word_error(checkpoint.weights.word.numpy(), artifact)
    kept = float(np.mean(np.count_nonzero(codes, axis=1)))
    return word_bytes(artifact) | {"word_error": error, "codes_a_row": kept}


def table(report: dict) -> str:
    """The report as a table of docs/edgebert.md."""
    dev, test = float_cells(report)
    lines = [
        "| words | bytes a row | MB | RMS error | dev | test | test, points against float (95 %) |",
        "|---|---|---|---|---|---|---|",
        f"| float | – | – | – | {dev} | {test} | – |",
    ]
    for name, row in report["rows"].items():
        sizes = f"{row['row_bytes']} | {row['table_bytes'] / 1e6:.2f} | {100 * row['word_error']:.1f} %"
        lines.append(f"| {name} | {sizes} | {' | '.join(cells(row))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(__doc__, ROWS, table, words))
