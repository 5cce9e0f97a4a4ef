# SPDX-License-Identifier: Apache-2.0
"""What a search takes a design to cost is what the cycle model, and the engine, say of every single pass."""

import random
from collections.abc import Sequence

import early_exit
import numpy as np
import pytest
import torch
from early_exit import DEPTH, EXAMPLES, POINTS
from random_artifact import make_random_artifact
from zynqbert import host
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.energy import energy, work_of
from zynqbert.host.compiler import ModelShape, plan
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.host.packed import passes
from zynqbert.host.packer import Packer
from zynqbert.host.search import programs_of
from zynqbert.host.search_costs import Clocks, LayeredPasses, shared_passes
from zynqbert.host.search_space import CUT, FORETOLD, Exit, Left, exits_of, leave, outputs_at
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.search_answers import Answers, answers

TEXTS = [example.text for example in EXAMPLES]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The models are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return early_exit.recipe(tmp_path_factory.mktemp("early"))


@pytest.fixture(scope="module")
def asked(folder, tmp_path_factory) -> tuple:
    artifact = load_artifact(folder)
    return artifact, answers(artifact, EXAMPLES, 64, tmp_path_factory.mktemp("kept") / "kept.safetensors")


def ways(asked) -> dict[str, tuple[Exit, Left]]:
    artifact, answered = asked
    found = exits_of(answered.ramps, artifact.manifest)
    return {way.name: (way, leave(way, answered.ramps, artifact.manifest)) for way in found}


def verdicts_by_hand(tokens: Sequence[int], layers: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Row blocks, and those in which a sentence is left after each off-ramp, row by row."""
    rows = [layer for count, layer in zip(tokens, layers, strict=True) for _ in range(count)]
    blocks = [rows[at : at + 32] for at in range(0, len(rows), 32)]
    found = []
    for ramp in range(1, max(layers) + 1):
        found.append(sum(1 << n for n, block in enumerate(blocks) if max(block) > ramp))
    return len(blocks), tuple(found)


@pytest.mark.parametrize("adapters", [None, {"width": 8, "activation": "relu", "shared": True}])
def test_a_pass_is_the_sum_of_its_layers(adapters, tmp_path):
    """To the cycle, whichever row blocks are left where; and few passes are simulated for it."""
    sizes = {"family": "albert", "weights": [0, 0, 0, 0, 4]} if adapters else {}
    given = {"layers": 5, "exits": True, "points": {}, "density": 0.4, "seed": 2} | sizes
    artifact = load_artifact(make_random_artifact(tmp_path / "model", adapters=adapters, **given))
    shape = ModelShape.of_manifest(artifact.manifest)
    compiled = plan(shape, BOARDS["zcu111"], artifact=artifact, exits=ExitPlan(0, (0,) * 256))
    layered, chance = LayeredPasses(compiled), random.Random(1)
    for _ in range(12):
        blocks = chance.choice([2, 3, 4])
        left, verdicts = (1 << blocks) - 1, []
        while left and len(verdicts) < 4:
            verdicts.append(left := left & chance.choice([left, chance.randrange(1 << blocks)]))
        verdicts = tuple(verdicts) if not left else (*verdicts, 0)
        timing = compiled.simulate(blocks, 300.0, verdicts=verdicts)
        work, direct = layered.work(blocks, 300.0, verdicts), work_of(timing)
        assert work["cycles"] == pytest.approx(timing.cycles, abs=1e-6), verdicts
        assert work["DDR bytes"] == direct["DDR bytes"] and work["array busy"] == direct["array busy"]
        assert energy(compiled.board, work).joules == pytest.approx(energy(compiled.board, direct).joules, rel=1e-3)
    assert layered.simulated <= 3 + 2 + 6 + 14  # whole, and each set of row blocks but all and none


@pytest.mark.parametrize("mode", ["one", "packed"])
@pytest.mark.parametrize("name", ["all layers", "cut at layer 3", "point 1"])
def test_costs_are_those_of_each_pass_simulated(asked, name, mode):
    artifact, answered = asked
    way, left = ways(asked)[name]
    found = programs_of(artifact, "early", "zcu102", 128).costs(way, left, answered.tokens, mode, 250.0, 1.0)
    exits = None if name == "all layers" else ExitPlan(0, (0,) * 256)
    compiled = plan(ModelShape.of_manifest(artifact.manifest), BOARDS["zcu102"], artifact=artifact, exits=exits)
    groups = [[n] for n in range(len(TEXTS))]
    if mode == "packed":
        groups = packed_by_the_engine(answered.tokens)
    joules = seconds = 0.0
    for group in groups:
        blocks, verdicts = verdicts_by_hand([answered.tokens[n] for n in group], left.layers[group].tolist())
        timing = compiled.simulate(blocks, 250.0, verdicts=None if exits is None else verdicts)
        assert [found.ms[n] for n in group] == pytest.approx([1e3 * timing.seconds] * len(group))
        joules += energy(compiled.board, work_of(timing)).joules
        seconds += timing.seconds
    assert (found.passes, found.seconds) == (len(groups), pytest.approx(seconds))
    assert found.joules == pytest.approx(joules, rel=1e-3)
    if name == "cut at layer 3":
        assert way.kind == CUT and set(left.layers.tolist()) == {3}


def packed_by_the_engine(tokens: Sequence[int]) -> list[list[int]]:
    class Sentence:
        def __init__(self, rows: int):
            self.ids = [0] * rows

    return [[waiting.number for waiting in taken] for taken in passes(tokens, Packer(), Sentence)]


def test_the_engine_packs_so(asked):
    tokens = [*asked[1].tokens, *asked[1].tokens[::-1]]  # more than a window
    found = list(shared_passes(tokens))
    assert found == packed_by_the_engine(tokens) and len(found) < len(tokens) / 2


@pytest.mark.parametrize("mode", ["one", "packed"])
def test_foretold_is_what_the_engine_does(asked, folder, mode):
    """Passes, clocks and energy of a stream with a latency target, from the engine's own record; of few short texts
    too, for whose passes a slower clock pays."""
    artifact, answered = asked
    way, left = ways(asked)["point 1, foretold"]
    assert way.kind == FORETOLD
    programs = programs_of(artifact, "early", "zcu102", 128)
    every, clocks = list(range(len(TEXTS))), set()
    few = sorted((n for n in every if left.layers[n] > 1), key=answered.tokens.__getitem__)[:2]
    for target, some in ((0.05, every), (0.2, every), (0.2, few)):
        left_some = Left(left.layers[some], left.right[some], left.foretold[some])
        tokens = [answered.tokens[n] for n in some]
        costs = programs.costs(way, left_some, tokens, mode, 300.0, target)
        with host.open(board="zcu102", artifact=folder, device="emulated", early_exit="1", retune=False) as engine:
            stream = engine.stream if mode == "one" else engine.packed
            results = list(stream([TEXTS[n] for n in some], latency_target_ms=target))
        clocks |= {result.clock_mhz for result in results}
        assert [r.exit_layer for r in results] == left_some.layers.tolist()
        assert list(costs.ms) == pytest.approx([r.latency_ms for r in results])
        assert 1e3 * costs.joules == pytest.approx(sum(r.energy_mj for r in results), rel=1e-3)
    assert len(clocks) > 1, "else no clock was chosen"


def test_the_fastest_of_the_clocks_foretold(asked):
    """Deeper layers want faster clocks at some target; a pass gets the fastest of its sentences'."""
    passes, layers = programs_of(asked[0], "early", "zcu102", 128).timed, range(1, DEPTH + 1)
    found = (Clocks(passes, 300.0, target) for target in np.geomspace(0.02, 0.5, 60).tolist())
    clocks = next(of for of in found if len({of.of(1, [layer]) for layer in layers}) > 1)
    assert clocks.of(1, list(layers)) == max(clocks.of(1, [layer]) for layer in layers)


def test_points_and_cuts_leave_as_they_say(asked):
    ramps, found = asked[1].ramps, ways(asked)
    kinds = [name for name in found if not name.startswith("below")]
    points = [f"point {name}{how}" for name in POINTS for how in ("", ", foretold")]
    assert kinds == ["all layers", *(f"cut at layer {n}" for n in range(1, DEPTH)), *points]
    for n in range(1, DEPTH):
        np.testing.assert_array_equal(found[f"cut at layer {n}"][1].right, ramps.right[:, n - 1])
    np.testing.assert_array_equal(found["all layers"][1].right, ramps.right[:, -1])
    below = [left.layers.mean() for name, (_, left) in found.items() if name.startswith("below")]
    assert len(below) > 8 and below == sorted(below, reverse=True) and below[0] > below[-1] >= 1


def test_without_off_ramps_all_layers_are_the_only_way(tmp_path):
    artifact = load_artifact(early_exit.dense(tmp_path / "dense"))
    answered = Answers([5, 6], answers(artifact, EXAMPLES[:2], 64, tmp_path / "kept.safetensors").ramps)
    (way,) = exits_of(answered.ramps, artifact.manifest)
    assert leave(way, answered.ramps, artifact.manifest).layers.tolist() == [DEPTH, DEPTH]
    assert programs_of(artifact, "dense", "zcu102", 128).free is None


def test_clocks_are_those_of_a_bitstream():
    assert outputs_at(300) == (300, 200, 150, 100) and outputs_at(250)[0] == 250 and outputs_at(150)[:3] == (150,) * 3
    assert max(outputs_at(200)) == 200
