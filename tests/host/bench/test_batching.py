# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench batching`: what it counts and models is what the emulated engine does, one by one, packed, queued."""

import json

import numpy as np
import pytest
from tied_artifact import make_tied_artifact
from typer.testing import CliRunner
from zynqbert import host
from zynqbert.host import continuous
from zynqbert.host.bench import batching, labelled
from zynqbert.host.cli import app
from zynqbert.host.inputs import InputError
from zynqbert.quant.datasets import Example

COUNTS = np.random.default_rng(5).integers(0, 60, 30).tolist()
TEXTS = [" ".join(f"w{4 + (11 * n + i) % 40}" for i in range(count)) for n, count in enumerate(COUNTS)]
POINTS = {"1": {"threshold": 1900, "foretold": None, "loss_points": 1}}
NEAR = 0.02  # the bench reads a row of the embeddings for every word, a pass one for neighbours alike
FULL = "a sentence of 128 tokens, all layers"


class Texts:
    """A data set of TEXTS."""

    labels = tuple(f"label{n}" for n in range(5))

    def load(self, split):
        assert split == "test"
        return [Example(text, 4 * (n % 3 == 0)) for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tied")
    return make_tied_artifact(folder, layers=4, embedding=64, points=POINTS, seed=5, labels=5)


@pytest.fixture
def texts(monkeypatch):
    for module in (batching, labelled):
        monkeypatch.setattr(module, "DATA_SETS", {"texts": Texts()})


@pytest.fixture
def report(artifact, texts):
    return batching.bench_batching(artifact, data="texts", entries=6)


def per_sentence(row) -> float:
    assert row["energy_per_sentence"]["source"] == "modelled"
    return row["energy_per_sentence"]["value"]


def test_one_by_one_packed_and_queued_as_the_engine_runs_them(artifact, report):
    rows, how = report["rows"], {"board": "zcu102", "artifact": artifact, "device": "emulated", "early_exit": "1"}
    with host.open(**how) as engine:
        alone = list(engine.stream(TEXTS))
        packed = list(engine.packed(TEXTS))
    with continuous.open(**how, entries=6) as engine:
        queued = list(engine.stream(TEXTS))
    ways = {"one a pass": alone, "several a pass": packed, "continuously batched": queued}
    for way, results in ways.items():
        wanted = sum(r.energy_mj for r in results) / len(results)
        assert per_sentence(rows[f"{way}, early exit"]) == pytest.approx(wanted, rel=NEAR), way
        # the engine's ends with the answer, the bench's with the pass
        wanted = sum(r.latency_ms for r in results) / len(results)
        assert 0.999 * wanted < rows[f"{way}, early exit"]["latency"]["value"] < 1.25 * wanted, way
    assert report["exit_layer"]["value"] == np.mean([r.exit_layer for r in alone])
    right = [
        r.logits.index(max(r.logits)) == example.label for r, example in zip(alone, Texts().load("test"), strict=True)
    ]
    assert report["accuracy"]["early exit"] == {"value": np.mean(right), "unit": "share", "source": "measured"}


def test_all_layers_as_without_a_point(artifact, report):
    with host.open(board="zcu102", artifact=artifact, device="emulated") as engine:
        ways = {"one a pass": list(engine.stream(TEXTS)), "several a pass": list(engine.packed(TEXTS))}
    for way, results in ways.items():
        wanted = sum(r.energy_mj for r in results) / len(results)
        assert per_sentence(report["rows"][f"{way}, all layers"]) == pytest.approx(wanted, rel=NEAR), way
    full = report["rows"][FULL]
    assert full["passes"]["value"] == 1 and full["ratio"]["value"] == 1
    for row in report["rows"].values():
        assert row["ratio"]["value"] == row["fps_per_watt"]["value"] / full["fps_per_watt"]["value"]


def test_the_command_prints_and_writes_it(artifact, texts, tmp_path):
    out = tmp_path / "report.json"
    given = ["bench", "batching", "--artifact", str(artifact), "--data", "texts", "--sentences", "9", "--out", str(out)]
    done = CliRunner().invoke(app, given, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    written = json.loads(out.read_text())
    assert written["sentences"] == 9 and written["point"] == "1"
    for title, row in written["rows"].items():
        assert title in done.output
        assert row["passes"]["unit"] == ("steps" if title.startswith("continuously") else "passes")
    assert "all else modelled" in done.output and "% early exit" in done.output


@pytest.mark.parametrize("clock", [0, -3, float("nan"), float("inf"), 301])
def test_no_clock(artifact, texts, clock):
    with pytest.raises(InputError, match=r"^--clock-mhz .* at most 300 MHz; remedy: --clock-mhz 300$"):
        batching.bench_batching(artifact, clock_mhz=clock)


def test_what_it_refuses(artifact, texts, tmp_path):
    with pytest.raises(InputError, match=r"--data none: none of texts; remedy"):
        batching.bench_batching(artifact, data="none")
    with pytest.raises(ValueError, match="early exit '7' is no operating point of the artifact"):
        batching.bench_batching(artifact, data="texts", point="7", count=1)
    other = make_tied_artifact(tmp_path, layers=2, embedding=64, labels=3)
    with pytest.raises(InputError, match=r"--data texts: its labels are label0, .*, the artifact's .*; remedy: an"):
        batching.bench_batching(other, data="texts")
    with pytest.raises(InputError, match=r"the artifact does not name its data, .*; remedy: --data, one of texts$"):
        batching.bench_batching(other)
    wrong = ["bench", "batching", "--artifact", str(artifact), "--out"]
    done = CliRunner().invoke(app, [*wrong, str(tmp_path)])
    assert isinstance(done.exception, InputError) and "is a folder; remedy: " in str(done.exception)
    done = CliRunner().invoke(app, [*wrong, str(tmp_path / "no" / "file.json")])
    assert isinstance(done.exception, InputError) and "there is no folder" in str(done.exception)


def test_progress_is_of_tokens_and_of_sentences_each_way(artifact, texts):
    parts = {}

    def begin(what, total):
        parts[what] = [0, total]

        def step():
            parts[what][0] += 1

        return step

    batching.bench_batching(artifact, count=7, entries=6, progress=begin)
    assert list(parts) == ["tokens answered", "sentences, each way"]
    assert all(done == total > 0 for done, total in parts.values()) and parts["sentences, each way"][1] == 5 * 7
