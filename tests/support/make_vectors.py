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
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.host.packing import Pass, Sentence, pack_pass
from zynqbert.host.vectors import write_vectors
from zynqbert.quant.golden_model import GoldenModel

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
    # Two row blocks, the first of which leaves behind the first layer.
    "ramps": (
        dict(layers=2, hidden=32, heads=1, labels=3, exits=True, spans=[[128], [20]], positions=32, seed=3),
        [32, 21],
    ),
    "adapters": (
        dict(hidden=32, heads=1, labels=3, seed=4, adapters={"width": 4, "activation": "relu", "shared": False}),
        [20, 9],
    ),
    # Two of four weights, in a few more of them: choices of more than one beat.
    "blocks": (dict(hidden=64, heads=2, labels=3, ffn=90, bound=2, seed=5), [12, 7]),
}  # fmt: skip
OUTPUTS = [0, 1, 2] + [3] * 253  # of the wizard, for each layer foretold
FEW = dict(layers=1, ffn=16, vocab=10, positions=21, extra_entries=2)


def artifact(name: str, folder: Path) -> Path:
    """The artifact of vectors `name`, written to `folder`."""
    return make_random_artifact(folder, **FEW | MODELS[name][0])


def rows(name: str) -> Pass:
    """Their pass: random sentences, the end of each of the second type."""
    rng = np.random.default_rng(0)
    lengths = MODELS[name][1]
    ids = [rng.integers(0, FEW["vocab"], n) for n in lengths]
    types = [(np.arange(n) >= n - rng.integers(0, n)).astype(np.int64) for n in lengths]
    return pack_pass([Sentence(i, t, False) for i, t in zip(ids, types, strict=True)])


def leaving(name: str, model: Path) -> ExitPlan | None:
    """How the sentences of the pass leave: as the exit table foretells, the first behind layer 1 and the other at the
    end, with a clock chosen by it; None where the model has no off-ramps."""
    golden_model, of = GoldenModel(model), rows(name)
    if not golden_model.exits:
        return None
    columns = (of.word, of.position, of.type, of.begin, of.end, of.results)
    never = {"threshold": 0, "foretold": [99] * 256}
    first = golden_model.forward(*columns, exits=never).first >> golden_model.exits["row_shift"]
    table = [2] * 256
    table[min(255, int(first[0]))] = 1
    return ExitPlan(0, tuple(table), clock=True)


def make(folder: Path) -> list[Path]:
    """Write every file of vectors to `folder`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with tempfile.TemporaryDirectory() as work:
        for name in MODELS:
            model = artifact(name, Path(work) / name)
            for board in BOARDS.values():
                paths.append(folder / f"{name}-{board.columns}.bin")
                write_vectors(model, board, rows(name), paths[-1], leaving(name, model), OUTPUTS)
    return paths


if __name__ == "__main__":
    for path in make(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(f"{path}: {path.stat().st_size} bytes")
