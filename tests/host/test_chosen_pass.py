# SPDX-License-Identifier: Apache-2.0
"""Models whose weights have a density bound in blocks: fewer steps of the array, always the golden's numbers."""

import numpy as np
import pytest
from pass_runner import PassRunner, compare, pass_of
from random_artifact import make_random_artifact
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.directory import chosen_beats
from zynqbert.fpga.expansion import expand, gathers_of
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ModelShape

# Entries that are no multiple of four, two column tiles, layers that share.
SHAPES = {
    "bert": dict(layers=2, hidden=96, heads=3, ffn=301, labels=3),
    "albert": dict(layers=3, hidden=192, heads=3, head_width=64, ffn=270, family="albert", embedding=40),
}


@pytest.fixture(scope="module", params=[1, 2, 3])
def bound(request):
    return request.param


@pytest.fixture(scope="module", params=SHAPES)
def blocks(request, bound, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks") / request.param
    return make_random_artifact(folder, vocab=50, seed=3, bound=bound, **SHAPES[request.param])


def chosen_gemms(runner) -> list[isa.Gemm]:
    return [i for i in runner.plan.instructions if isinstance(i, isa.Gemm) and i.chosen]


@pytest.mark.parametrize("resident", [False, True], ids=["streamed", "resident"])
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("build", ["checked", "native"])
def test_pass_equals_golden(blocks, bound, board, build, resident):
    runner = PassRunner(blocks, build, board, resident=resident)
    assert chosen_gemms(runner)
    assert bound in {tile.bound for m in runner.plan.matrices.values() for tile in m.directory}
    rows, results = pass_of(np.random.default_rng(1), [40, 20, 50])
    compare(blocks, runner, rows, results)


@pytest.mark.parametrize("board", BOARDS)
def test_pass_under_ap_int_equals_golden(blocks, board):
    rows, results = pass_of(np.random.default_rng(2), [20, 13])
    compare(blocks, PassRunner(blocks, "csim", board), rows, results)


@pytest.mark.parametrize("seed", range(1, 4))
def test_any_legal_schedule_gives_the_same(blocks, seed):
    rows, results = pass_of(np.random.default_rng(3), [40, 50])
    compare(blocks, PassRunner(blocks, "native", "zcu111"), rows, results, seed=seed)


@pytest.mark.parametrize("resident", [False, True], ids=["streamed", "resident"])
def test_trips_are_the_models(blocks, resident):
    runner = PassRunner(blocks, "native", "zcu102", resident=resident)
    rows, results = pass_of(np.random.default_rng(4), [60, 3])
    runner.simulator.trips()
    runner.run(rows, results)
    fields = np.array(rows)[:, :3].T
    fields = np.pad(fields, ((0, 0), (0, -fields.shape[1] % 32)))
    timing = runner.plan.simulate(2, 250, gathers=gathers_of(fields))
    assert runner.simulator.trips() == timing.trips


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
@pytest.mark.parametrize("density", [0.25, 0.5, 0.75])
def test_the_array_spends_that_share_of_the_steps(board, density):
    """BERT-base: all but attention and the classifier is int4, and the beats of choices are an eighth more."""
    shape = ModelShape.named("bert-base")
    dense = plan(shape, board)
    found = plan(shape, board, density=density, pattern="blocks", resident=False)
    tiles = [expand(p.instructions, 4, board.columns, p.directories).array for p in (dense, found)]
    steps = [sum(c.k for c in of_pass) for of_pass in tiles]
    int4 = sum(c.k for c in tiles[0] if not c.w8)
    assert steps[1] == steps[0] - (1 - density) * int4
    # each block is read once, whatever is taken of it
    assert sum(c.activations for c in tiles[1]) == sum(c.k for c in tiles[0])
    matrix = found.matrices["layers.3.ffn2"]
    assert {tile.bound for tile in matrix.directory} == {round(4 * density)}
    assert (
        matrix.directory[0].beats
        == chosen_beats(3072, round(4 * density))
        == pytest.approx(3072 * density * 9 / 8, rel=0.01)
    )


def test_random_weights_take_no_bound_and_blocks_must_be_quarters():
    shape, board = ModelShape.named("minilm-l6"), BOARDS["zcu102"]
    free = plan(shape, board, density=0.5)
    assert not any(m.chosen for m in free.matrices.values())
    assert not any(m.chosen for m in plan(shape, board, density=1.0, pattern="blocks").matrices.values())
    with pytest.raises(ValueError, match=r"density 0\.4 is none that blocks of 4 can have"):
        plan(shape, board, density=0.4, pattern="blocks")
