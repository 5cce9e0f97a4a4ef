# SPDX-License-Identifier: Apache-2.0
"""Whole passes, buffer by buffer: golden = csim = checked = native, several sentences a pass, any schedule."""

import numpy as np
import pytest
from pass_runner import PassRunner, albert_base_artifact, compare, pass_of
from random_artifact import make_random_artifact
from zynqbert.fpga.cycles import simulate
from zynqbert.fpga.expansion import gathers_of

SHAPES = {
    "two-layers": dict(layers=2, hidden=96, heads=3, head_width=32, ffn=200, labels=3),
    "wide-heads": dict(layers=1, hidden=192, heads=3, head_width=64, ffn=131, labels=5),
    "four-bit": dict(layers=1, hidden=128, heads=2, head_width=64, ffn=96, labels=2, word_bits=4, extra_entries=0),
    "normalized": dict(layers=1, hidden=64, heads=2, head_width=32, ffn=64, labels=2, softmax="normalized"),
    # One that shares and one of its own; embeddings that fill no beat.
    "albert": dict(layers=3, hidden=96, heads=3, ffn=140, family="albert", embedding=40, weights=[0, 0, 2]),
    "albert-wide-embedding": dict(layers=2, hidden=64, heads=2, ffn=70, family="albert", embedding=90, extra_entries=9),
    # Two column tiles of labels on either board.
    "albert-four-bit-tokens": dict(
        layers=2, hidden=128, heads=2, head_width=64, ffn=131, family="albert", embedding=32, word_bits=4,
        labels=100, kind="token",
    ),
    # Products of more steps than the native build's threads share, and than it sums at a time.
    "long-products": dict(layers=1, hidden=64, heads=2, ffn=1100, kind="token", labels=100, extra_entries=9),
    "tokens": dict(layers=1, hidden=96, heads=3, ffn=64, labels=1, kind="token"),
    # Words of AdaptivFloat: rows of two beats of mask, and rows that are all codes.
    "adaptive-words": dict(layers=1, hidden=192, heads=3, head_width=64, ffn=64, word_density=0.4),
    "albert-adaptive-words": dict(
        layers=1, hidden=64, heads=2, ffn=70, family="albert", embedding=130, word_density=1.0,
    ),
    "adapters": dict(
        layers=2, hidden=96, heads=3, ffn=64, adapters={"width": 5, "activation": "relu", "shared": False},
    ),
    # Matrices that two layers share and one has alone; a bottleneck of two column tiles on either board.
    "albert-adapters": dict(
        layers=3, hidden=64, heads=2, ffn=70, family="albert", embedding=40, weights=[0, 0, 2],
        adapters={"width": 100, "activation": "gelu", "shared": True},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    return {
        name: make_random_artifact(folder / name, vocab=50, seed=i, **s) for i, (name, s) in enumerate(SHAPES.items())
    }


@pytest.mark.parametrize("lengths", [[1], [32], [33], [5, 20, 30], [128], [60, 3, 60]], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
@pytest.mark.parametrize("build", ["checked", "native"])
def test_pass_equals_golden(artifacts, build, board, shape, lengths):
    rows, results = pass_of(np.random.default_rng(len(lengths)), lengths)
    compare(artifacts[shape], PassRunner(artifacts[shape], build, board), rows, results)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
def test_pass_under_ap_int_equals_golden(artifacts, board, shape):
    rows, results = pass_of(np.random.default_rng(1), [20, 13])
    compare(artifacts[shape], PassRunner(artifacts[shape], "csim", board), rows, results)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
@pytest.mark.parametrize("build", ["csim", "checked", "native"])
def test_pass_with_weights_as_they_are_equals_golden(artifacts, build, board, shape):
    """Nothing resident: full matrices come from DDR uncompressed, but for some that fill no column tile."""
    runner = PassRunner(artifacts[shape], build, board, resident=False)
    assert not all(matrix.compressed for matrix in runner.plan.matrices.values())
    rows, results = pass_of(np.random.default_rng(6), [20, 13])
    compare(artifacts[shape], runner, rows, results)


@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("shape", ["two-layers", "albert-four-bit-tokens", "adaptive-words"])
def test_any_legal_schedule_gives_the_same(artifacts, shape, seed):
    rows, results = pass_of(np.random.default_rng(2), [40, 50])
    compare(artifacts[shape], PassRunner(artifacts[shape], "native"), rows, results, seed=seed)


@pytest.mark.parametrize("shape", ["two-layers", "albert"])
def test_chip_state_does_not_leak_between_passes(artifacts, shape):
    runner = PassRunner(artifacts[shape], "native")
    for lengths in ([128], [3], [40, 40]):
        rows, results = pass_of(np.random.default_rng(sum(lengths)), lengths)
        compare(artifacts[shape], runner, rows, results)


@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
def test_any_number_of_threads_gives_the_same(artifacts, board):
    rows, results = pass_of(np.random.default_rng(5), [40, 50])
    one, two = (PassRunner(artifacts["long-products"], "native", board, threads=n) for n in (1, 2))
    (_, expected, logits), (status, traces, got) = (runner.run(rows, results) for runner in (one, two))
    assert status.name == "ok" and traces.keys() == expected.keys() and len(traces) > 5
    for name, value in expected.items():
        np.testing.assert_array_equal(traces[name], value, err_msg=name)
    np.testing.assert_array_equal(got, logits)
    compare(artifacts["long-products"], two, rows, results)


@pytest.fixture(scope="module")
def albert_base(tmp_path_factory):
    return albert_base_artifact(tmp_path_factory.mktemp("albert-base"))


@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
def test_albert_base_equals_golden(albert_base, board):
    rows, results = pass_of(np.random.default_rng(4), [12, 5, 12])
    compare(albert_base, PassRunner(albert_base, "native", board), rows, results)


def test_sanitized_build_finds_nothing(artifacts, tmp_path):
    """Address and undefined-behaviour sanitizers over a whole pass, in a process of its own."""
    import subprocess
    import sys
    from pathlib import Path

    script = tmp_path / "run.py"
    script.write_text(
        "import sys, numpy as np; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1] / 'support')!r})\n"
        "from pass_runner import PassRunner, sentence_rows\n"
        f"for folder in {[str(artifacts[name]) for name in ('two-layers', 'long-products', 'adaptive-words')]}:\n"
        "    runner = PassRunner(Path(folder), 'native', sanitize=True, threads=2)\n"
        "    status, _, _ = runner.run(sentence_rows(range(1, 41)), [0])\n"
        "    assert status.name == 'ok', status\n"
    )
    asan = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    run = subprocess.run(
        [sys.executable, str(script)],
        env={**__import__("os").environ, "LD_PRELOAD": asan, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
@pytest.mark.parametrize("shape", SHAPES)
def test_trips_of_every_loop_are_the_cycle_models(artifacts, shape, board, blocks, trace):
    runner = PassRunner(artifacts[shape], "native", board, trace=trace)
    rows, results = pass_of(np.random.default_rng(3), [32 * blocks])
    runner.simulator.trips()
    status, _, _ = runner.run(rows, results)
    assert status.name == "ok"
    gathers = gathers_of([[row[field] for row in rows] for field in range(3)])
    plan = runner.plan
    timing = simulate(plan.instructions, blocks, plan.board, 250, directories=plan.directories, gathers=gathers)
    assert runner.simulator.trips() == timing.trips
