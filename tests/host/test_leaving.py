# SPDX-License-Identifier: Apache-2.0
"""Whole passes whose sentences leave early, and heads of short spans: golden = csim = checked = native."""

from itertools import permutations

import numpy as np
import pytest
from pass_runner import PassRunner, compare, compare_leaving, pass_of, table_for
from random_artifact import make_random_artifact
from zynqbert.fpga.cycles import simulate
from zynqbert.fpga.expansion import gathers_of
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.quant.golden_model import GoldenModel

SHAPES = {
    "ramps": dict(layers=4, hidden=64, heads=2, ffn=70, labels=4, exits=True, seed=1),
    "poolers": dict(layers=3, hidden=96, heads=3, ffn=64, labels=3, exits=True, exit_pooler=True, seed=2),
    # Two column tiles of labels on either board, heads and spans of their own in each layer.
    "many-labels": dict(
        layers=3, hidden=96, heads=3, ffn=64, labels=100, exits=True, layer_heads=[3, 1, 2],
        spans=[[128, 1, 40], [33], [32, 2]], seed=3,
    ),
    "albert": dict(
        layers=4, hidden=128, heads=2, head_width=64, ffn=131, labels=5, family="albert", embedding=40,
        softmax="normalized", exits=True, spans=[[31, 128], [64, 65], [128, 128], [1, 97]], seed=4,
    ),
}  # fmt: skip
SPANS = {
    "narrow": dict(layers=2, hidden=96, heads=3, ffn=64, spans=[[1, 31, 32], [33, 64, 128]], seed=5),
    "wide-heads": dict(layers=1, hidden=192, heads=3, head_width=64, ffn=64, spans=[[2, 65, 127]], seed=6),
    "fewer-heads": dict(
        layers=3, hidden=160, heads=5, ffn=64, layer_heads=[1, 5, 2], spans=[[32], [1, 33, 96, 128, 16], [128, 128]],
        softmax="normalized", seed=7,
    ),
    "tokens": dict(layers=1, hidden=64, heads=2, ffn=64, spans=[[40, 3]], kind="token", labels=3, seed=8),
}  # fmt: skip
OUTPUTS = [3, 0, 2, 1, 3] + [2] * 251  # of the wizard, for each layer foretold
LENGTHS = [[32, 32, 32, 32], [1], [60, 3, 60], [5, 20, 30, 9, 40], [128], [33, 31, 20]]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    return {name: make_random_artifact(folder / name, **shape) for name, shape in {**SHAPES, **SPANS}.items()}


def median_threshold(folder, rows, results) -> int:
    """An entropy that about half of the sentences of a pass are below at the first ramp."""
    trace = {}
    padded = rows + [(0, 0, 0, 0, 0)] * (-len(rows) % 32)
    never = {"threshold": 0, "foretold": list(np.full(256, 99))}
    answers = GoldenModel(folder).forward(*zip(*padded, strict=True), results, trace, exits=never)
    return int(np.median(answers.first)) + 1


def ways(folder, rows, results, seed):
    """By entropy, as foretold, and as foretold with a clock."""
    rng, model = np.random.default_rng(seed), GoldenModel(folder)
    threshold = median_threshold(folder, rows, results)
    table = None
    while table is None:
        table = table_for(model, rows, results, rng.integers(1, model.layers + 1, len(results)).tolist())
    return {
        "entropy": ExitPlan(threshold),
        "nobody": ExitPlan(0),
        "foretold": ExitPlan(threshold // 4, tuple(table)),
        "clock": ExitPlan(0, tuple(table), clock=True),
    }


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
@pytest.mark.parametrize("build", ["checked", "native"])
def test_pass_equals_golden(artifacts, build, board, shape, lengths):
    rows, results = pass_of(np.random.default_rng(len(lengths)), lengths)
    for way in ways(artifacts[shape], rows, results, len(lengths)).values():
        runner = PassRunner(artifacts[shape], build, board, exits=way)
        compare_leaving(artifacts[shape], runner, rows, results, OUTPUTS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
def test_pass_under_ap_int_equals_golden(artifacts, board, shape):
    rows, results = pass_of(np.random.default_rng(1), [20, 13, 31])
    way = ways(artifacts[shape], rows, results, 1)["clock"]
    compare_leaving(artifacts[shape], PassRunner(artifacts[shape], "csim", board, exits=way), rows, results, OUTPUTS)


@pytest.mark.parametrize("order", permutations((1, 2, 3, 4)), ids=str)
def test_row_blocks_die_in_any_order(artifacts, order):
    """Four sentences of a row block each; sentence n leaves at layer order[n]."""
    folder = artifacts["ramps"]
    model, table, seed = GoldenModel(folder), None, 0
    while table is None:
        rows, results = pass_of(np.random.default_rng([7, seed]), [32, 32, 32, 32])
        table, seed = table_for(model, rows, results, list(order)), seed + 1
    runner = PassRunner(folder, "checked", exits=ExitPlan(0, tuple(table)))
    answers, verdicts = compare_leaving(folder, runner, rows, results)
    assert tuple(answers.layer) == order
    assert verdicts == [sum(1 << rb for rb in range(4) if order[rb] > layer) for layer in (1, 2, 3, 4)]


def test_a_sentence_over_two_row_blocks_keeps_both(artifacts):
    """The first leaves, the second lies in both: nothing dies; the third keeps the last alone."""
    folder = artifacts["ramps"]
    model, table, seed = GoldenModel(folder), None, 0
    while table is None:
        rows, results = pass_of(np.random.default_rng([8, seed]), [10, 40, 20])
        table, seed = table_for(model, rows, results, [1, 2, 4]), seed + 1
    runner = PassRunner(folder, "native", exits=ExitPlan(0, tuple(table)))
    _, verdicts = compare_leaving(folder, runner, rows, results)
    assert verdicts == [0b111, 0b110, 0b110, 0] or verdicts == [0b111, 0b010 | 0b100, 0b110, 0]


@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize("shape", ["ramps", "albert"])
def test_any_legal_schedule_gives_the_same(artifacts, shape, seed):
    rows, results = pass_of(np.random.default_rng(2), [40, 50, 20])
    for way in ways(artifacts[shape], rows, results, 2).values():
        runner = PassRunner(artifacts[shape], "native", exits=way)
        compare_leaving(artifacts[shape], runner, rows, results, OUTPUTS, seed=seed)


def test_chip_state_does_not_leak_between_passes(artifacts):
    """Who left a pass is forgotten by the next one."""
    folder = artifacts["poolers"]
    runner = PassRunner(folder, "native", exits=ExitPlan(2500))
    for lengths in ([30, 30, 30, 30], [3], [40, 40], [20, 13, 9, 1]):
        rows, results = pass_of(np.random.default_rng(sum(lengths)), lengths)
        compare_leaving(folder, runner, rows, results)


@pytest.mark.parametrize("shape", SHAPES)
def test_without_an_operating_point_all_layers_run(artifacts, shape):
    rows, results = pass_of(np.random.default_rng(3), [20, 13, 64])
    runner = PassRunner(artifacts[shape], "native")
    assert runner.plan.exit_layers == () and runner.plan.io.record_offset is None
    compare(artifacts[shape], runner, rows, results)


@pytest.mark.parametrize("lengths", [[1], [33], [5, 20, 30], [128], [60, 3, 60], [96]], ids=str)
@pytest.mark.parametrize("shape", SPANS)
@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
@pytest.mark.parametrize("build", ["checked", "native"])
def test_spans_equal_golden(artifacts, build, board, shape, lengths):
    rows, results = pass_of(np.random.default_rng(len(lengths)), lengths)
    compare(artifacts[shape], PassRunner(artifacts[shape], build, board), rows, results)


@pytest.mark.parametrize("shape", SPANS)
@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
def test_spans_under_ap_int_equal_golden(artifacts, board, shape):
    rows, results = pass_of(np.random.default_rng(1), [20, 47, 10])
    compare(artifacts[shape], PassRunner(artifacts[shape], "csim", board), rows, results)


@pytest.mark.parametrize("seed", range(1, 5))
def test_spans_in_any_legal_schedule(artifacts, seed):
    rows, results = pass_of(np.random.default_rng(2), [40, 70])
    compare(artifacts["fewer-heads"], PassRunner(artifacts["fewer-heads"], "native"), rows, results, seed=seed)


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
@pytest.mark.parametrize("lengths", [[32, 32, 32, 32], [20], [60, 3, 60]], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_trips_of_every_loop_are_the_cycle_models(artifacts, shape, lengths, board, trace):
    rows, results = pass_of(np.random.default_rng(3), lengths)
    blocks = -(-len(rows) // 32)
    gathers = gathers_of([[row[f] for row in [*rows, *[(0, 0, 0)] * (-len(rows) % 32)]] for f in range(3)])
    for way in ways(artifacts[shape], rows, results, 3).values():
        traced = PassRunner(artifacts[shape], "native", board, exits=way)
        _, verdicts = compare_leaving(artifacts[shape], traced, rows, results, OUTPUTS)
        runner = PassRunner(artifacts[shape], "native", board, trace=trace, exits=way)
        runner.clock_table = traced.clock_table
        runner.simulator.trips()
        status, _, _ = runner.run(rows, results)
        assert status.name == "ok"
        plan = runner.plan
        known = {"directories": plan.directories, "gathers": gathers, "verdicts": verdicts, "spans": plan.spans}
        timing = simulate(plan.instructions, blocks, plan.board, 250, **known)
        assert runner.simulator.trips() == timing.trips
        assert len(timing.verdicts) == len(verdicts) and list(timing.verdicts) == sorted(timing.verdicts)


@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SPANS)
def test_trips_of_spans_are_the_cycle_models(artifacts, shape, blocks):
    runner = PassRunner(artifacts[shape], "native")
    rows, results = pass_of(np.random.default_rng(3), [32 * blocks])
    runner.simulator.trips()
    status, _, _ = runner.run(rows, results)
    assert status.name == "ok"
    plan, gathers = runner.plan, gathers_of([[row[field] for row in rows] for field in range(3)])
    known = {"directories": plan.directories, "gathers": gathers, "spans": plan.spans}
    assert runner.simulator.trips() == simulate(plan.instructions, blocks, plan.board, 250, **known).trips
