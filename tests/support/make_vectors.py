# SPDX-License-Identifier: Apache-2.0
"""Makes the test vectors in fpga/testbench/vectors: `python tests/support/make_vectors.py [FOLDER]`.

Small on purpose: co-simulation takes its time for every tile. The random artifacts are as the tests know them.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from random_artifact import make_random_artifact
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.simulator import ROOT
from zynqbert.host.packing import Pass, Sentence, pack_pass
from zynqbert.host.vectors import write_vectors

FOLDER = ROOT / "testbench" / "vectors"
# Artifact, and tokens of the sentences of the pass: row blocks in the first, heads in the second.
MODELS = {
    "bert": (dict(hidden=32, heads=1, labels=3, seed=1), [21, 17, 9]),
    "albert-tokens": (
        dict(
            hidden=64, heads=2, labels=5, seed=2, family="albert", embedding=32, word_bits=4, softmax="normalized",
            kind="token",
        ),
        [9, 14],
    ),
}  # fmt: skip
FEW = dict(layers=1, ffn=16, vocab=10, positions=21, extra_entries=2)


def artifact(name: str, folder: Path) -> Path:
    """The artifact of vectors `name`, written to `folder`."""
    return make_random_artifact(folder, **MODELS[name][0], **FEW)


def rows(name: str) -> Pass:
    """Their pass: random sentences, the end of each of the second type."""
    rng = np.random.default_rng(0)
    lengths = MODELS[name][1]
    ids = [rng.integers(0, FEW["vocab"], n) for n in lengths]
    types = [(np.arange(n) >= n - rng.integers(0, n)).astype(np.int64) for n in lengths]
    return pack_pass([Sentence(i, t, False) for i, t in zip(ids, types, strict=True)])


def make(folder: Path) -> list[Path]:
    """Write every file of vectors to `folder`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with tempfile.TemporaryDirectory() as work:
        for name in MODELS:
            model = artifact(name, Path(work) / name)
            for board in BOARDS.values():
                paths.append(folder / f"{name}-{board.columns}.bin")
                write_vectors(model, board, rows(name), paths[-1])
    return paths


if __name__ == "__main__":
    for path in make(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(f"{path}: {path.stat().st_size} bytes")
