# SPDX-License-Identifier: Apache-2.0
"""Cell-steps that zero products spare: every step of the array counted, gated where the operands are zero."""

import numpy as np
import pytest
from random_artifact import make_random_artifact
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.instructions import LANES
from zynqbert.host.compiler import plan
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.host.model_shape import ModelShape
from zynqbert.host.packing import Sentence, pack_pass
from zynqbert.host.zero_steps import gated_steps, zero_share
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.golden_model import GoldenModel

BOARD = BOARDS["zcu102"]
KINDS = {
    "bert": {},
    "exits": {"exits": True},
    "exits with poolers": {"exits": True, "exit_pooler": True},
    "albert": {"family": "albert", "embedding": 32},
    "tokens": {"kind": "token"},
    "blocks": {"bound": 2, "ffn": 301},
}


def traced(folder, tokens=70, exits=None):
    """The artifact, and every buffer of a pass of three row blocks, the last one part filled."""
    golden, trace = GoldenModel(folder), {}
    ids = np.arange(4, 4 + tokens) % 30 + 4
    rows = pack_pass([Sentence(ids, np.zeros(tokens, np.int64), False)])
    golden.forward(rows.word, rows.position, rows.type, rows.begin, rows.end, rows.results, trace, exits)
    return load_artifact(folder), trace


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_of_the_array_is_counted(tmp_path, kind):
    """As many as the cycle model has the array work, in each of its cells."""
    folder = make_random_artifact(tmp_path / "artifact", layers=2, seed=3, positions=128, **KINDS[kind])
    ramps = "exits" in KINDS[kind]
    artifact, trace = traced(folder, exits={"threshold": 0, "foretold": None} if ramps else None)
    shape = ModelShape.of_manifest(artifact.manifest)
    compiled = plan(shape, BOARD, artifact=artifact, exits=ExitPlan(0) if ramps else None)
    steps, gated = gated_steps(compiled, artifact, trace)
    assert steps == compiled.simulate(3, 250).busy["array"] * LANES * BOARD.columns // 2
    assert 0 < gated < steps and zero_share(compiled, artifact, trace) == gated / steps


def test_zeros_of_weights_and_of_activations_each_add(tmp_path):
    folder = make_random_artifact(tmp_path / "artifact", seed=3, positions=128)
    artifact, trace = traced(folder)
    compiled = plan(ModelShape.of_manifest(artifact.manifest), BOARD, artifact=artifact)
    share = zero_share(compiled, artifact, trace)
    still = trace | {"layers.0.ffn1": np.zeros_like(trace["layers.0.ffn1"])}
    assert zero_share(compiled, artifact, still) > share
    sparse = make_random_artifact(tmp_path / "sparse", seed=3, positions=128, density=0.4)
    artifact, trace = traced(sparse)
    compiled = plan(ModelShape.of_manifest(artifact.manifest), BOARD, artifact=artifact)
    assert zero_share(compiled, artifact, trace) > share


def test_layers_that_were_not_reached_are_left_out(tmp_path):
    folder = make_random_artifact(tmp_path / "artifact", layers=3, seed=3, positions=128, exits=True)
    artifact, trace = traced(folder, exits={"threshold": 32767, "foretold": None})
    compiled = plan(ModelShape.of_manifest(artifact.manifest), BOARD, artifact=artifact, exits=ExitPlan(0))
    steps, _ = gated_steps(compiled, artifact, trace)
    assert steps == compiled.simulate(3, 250, verdicts=(0,)).busy["array"] * LANES * BOARD.columns // 2
