# SPDX-License-Identifier: Apache-2.0
"""Parts of `zynqbert bench compare`: whose turn it is while times are taken, modelled figures beside those of the other
commands, published rows and what may stand beside them, labelled texts.
"""

import pytest
import zynqbert.host
from early_exit import POINTS
from random_artifact import make_random_artifact
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.rivals import RIVALS
from zynqbert.host.bench import labelled
from zynqbert.host.bench.board import bench_board
from zynqbert.host.bench.compare import difference
from zynqbert.host.bench.compare_modelled import board_figures, published_rows
from zynqbert.host.bench.compare_ways import BLOCK, Way, timed
from zynqbert.host.bench.labelled import in_order, labelled_texts
from zynqbert.host.estimate import estimate
from zynqbert.host.inputs import InputError
from zynqbert.host.model_shape import ModelShape
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.datasets import DATA_SETS, LABELS, TWEET_LABELS, DataUnavailable, Example, own_sentences

TEXTS = ["w4 w5 w6", "w7", "w8 " * 40, "w9 w10"]
TOKENS = [5, 3, 42, 4]


class TestTurns:
    @pytest.fixture
    def ran(self):
        """Calls in order, and the times, of a machine on which way number n takes n + 1 seconds."""
        now, calls = [0.0], []

        def way(n):
            def run(i):
                calls.append((n, i))
                now[0] += n + 1

            return Way(str(n), f"way {n}", run, (), 0)

        steps = []
        times = timed([way(n) for n in range(3)], BLOCK + 5, 2, lambda: steps.append(1), lambda: now[0])
        assert len(steps) == 3 * 2 * (BLOCK + 5)
        return calls, times

    def test_a_way_has_its_own_time_for_every_sentence(self, ran):
        _, times = ran
        assert times == {str(n): [[(n + 1) * 1e3] * (BLOCK + 5)] * 2 for n in range(3)}

    def test_ways_take_turns_each_time_another_first(self, ran):
        calls, _ = ran
        order = [n for k, (n, _) in enumerate(calls) if k == 0 or calls[k - 1][0] != n]
        assert order == [0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2]

    def test_the_first_of_a_turn_runs_once_more_before(self, ran):
        calls, _ = ran
        first = [i for n, i in calls if n == 0][: BLOCK + 1]
        assert first == [0, *range(BLOCK)]


class TestDifference:
    """`right` is 30 of 40 sentences in float."""

    @pytest.mark.parametrize(("gained", "lost"), [(4, 0), (0, 4), (6, 2), (0, 0)])
    def test_points_above_float(self, gained, lost):
        float_right = [True] * 30 + [False] * 10
        right = [False] * lost + [True] * (30 - lost) + [True] * gained + [False] * (10 - gained)
        found = difference(float_right, right)
        assert (found["points"], found["gained"], found["lost"]) == (2.5 * (gained - lost), gained, lost)
        low, high = found["interval"]
        assert low <= found["points"] <= high
        assert (low >= 0) == (lost == 0) and (high <= 0) == (gained == 0)
        assert "-0.0" not in str(found)


@pytest.mark.parametrize("board", BOARDS)
class TestBoards:
    def test_figures_are_those_of_bench_board(self, tmp_path, board):
        """One energy model here, one power model there: they are the same."""
        made = make_random_artifact(tmp_path / "artifact", layers=2, seed=4)
        expected = bench_board(made, TEXTS, board=board, device="emulated", clock_mhz=200)["figures"]
        found = board_figures(load_artifact(made), BOARDS[board], 200, TOKENS)
        for ours, name in (
            ("per_second", "fps"), ("power", "power"), ("fps_per_watt", "fps_per_watt"),
            ("latency_p50", "kernel_latency_p50"), ("latency_p90", "kernel_latency_p90"),
        ):  # fmt: skip
            assert found[ours]["value"] == pytest.approx(expected[name]["value"]), name
        assert {figure["source"] for figure in found.values()} == {"modelled"}

    def test_the_range_is_the_estimates(self, tmp_path, board):
        """Of sentences of one length: no mean to reckon."""
        made = make_random_artifact(tmp_path / "artifact", layers=2, seed=4)
        artifact = load_artifact(made)
        shape = ModelShape.of_manifest(artifact.manifest)
        expected = estimate(shape, BOARDS[board], 40, 250, artifact=artifact)["extra"]["fps_per_w_range"]
        found = board_figures(artifact, BOARDS[board], 250, [40, 41])
        assert [found[f"fps_per_watt_{bound}"]["value"] for bound in ("low", "high")] == pytest.approx(expected)

    def test_leaving_costs_what_the_engine_says(self, tmp_path, board):
        made = make_random_artifact(tmp_path / "artifact", layers=4, seed=3, exits=True, points=POINTS)
        with zynqbert.host.open(board=board, artifact=made, device="emulated", clock_mhz=250, early_exit="1") as engine:
            results = list(engine.stream(TEXTS))
        layers = [result.exit_layer for result in results]
        found = board_figures(load_artifact(made), BOARDS[board], 250, TOKENS, (POINTS["1"], layers))
        ms, mj = (sum(getattr(result, name) for result in results) for name in ("latency_ms", "energy_mj"))
        assert found["per_second"]["value"] == pytest.approx(4e3 / ms)
        assert found["fps_per_watt"]["value"] == pytest.approx(4e3 / mj)
        assert "fps_per_watt_low" not in found


class TestPublished:
    @pytest.fixture(scope="class")
    def rows(self):
        return list(published_rows(list(BOARDS.values())))

    def test_every_row_of_latency_or_efficiency_with_its_source(self, rows):
        expected = [(r.name, r.sequence, r.source) for r in RIVALS if r.ms is not None or r.fps_per_w is not None]
        assert [(row["name"], row["tokens"], row["source"]) for row in rows] == expected and len(expected) >= 8

    @pytest.mark.parametrize(("board", "ms", "per_watt"), [("zcu102", 43.89, 2.32), ("zcu111", 23.79, 3.18)])
    def test_fq_bert_beside_ours_on_its_board(self, rows, board, ms, per_watt):
        (row,) = (row for row in rows if row["published"]["latency"]["value"] == ms)
        assert row["published"]["fps_per_watt"] == {"value": per_watt, "unit": "fps/W", "source": "published"}
        (ours,) = row["ours"]
        expected = estimate(ModelShape.named("bert-base"), BOARDS[board], 128)
        assert (ours["board"], ours["tokens"], ours["clock_mhz"]) == (board, 128, 250)
        assert ours["latency"] == {"value": pytest.approx(expected["latency_ms"]), "unit": "ms", "source": "modelled"}
        assert ours["fps_per_watt"]["value"] == pytest.approx(expected["fps_per_w"])

    def test_what_follows_from_published_figures_says_so(self, rows):
        vit = next(row for row in rows if row["name"] == "HeatViT")
        assert vit["published"]["fps_per_watt"]["derived"] and "derived" not in vit["published"]["latency"]

    def test_only_the_same_model_and_length_stand_side_by_side(self, rows):
        for row in rows:
            assert all(ours["tokens"] == row["tokens"] for ours in row["ours"])
            assert bool(row["ours"]) == (row["model"] == "BERT-base" and row["tokens"] == 128)
            assert ("why" in row) != bool(row["ours"])
        why = {row["name"]: row.get("why") for row in rows}
        assert why["spatial dataflow"] == "512 tokens are beyond the 128 rows of a pass"
        assert why["Jetson AGX Orin"] == "its length is not told"

    def test_another_platform_stands_beside_both_boards(self, rows):
        assert [ours["board"] for ours in next(row for row in rows if row["platform"] == "CPU")["ours"]] == list(BOARDS)


def manifest(labels, kind="sequence", scores="softmax", data=None):
    return {"task": {"labels": list(labels), "kind": kind, "scores": scores}, "metrics": {"data": data} if data else {}}


class TestTexts:
    @pytest.fixture(autouse=True)
    def no_download(self, monkeypatch):
        def load(split, *, offline=False):
            assert split == "test" and offline
            return [Example("one", 0), Example("two", 2)]

        sets = dict(DATA_SETS)
        sets["tweets"] = type(sets["tweets"])("tweets", TWEET_LABELS, load, sets["tweets"].archive)
        monkeypatch.setattr(labelled, "DATA_SETS", sets)

    def test_the_artifacts_own_by_its_labels(self):
        found, named = labelled_texts(manifest(TWEET_LABELS), None, None, True)
        assert [example.text for example in found] == ["one", "two"] and named == "the test split of tweets"

    def test_labels_are_the_artifacts_in_its_order(self):
        found, _ = labelled_texts(manifest(["positive", "negative", "neutral"]), None, None, True)
        assert [example.label for example in found] == [1, 0]
        assert in_order([Example("a", 1, "b")], ["x", "y"], ["y", "x"]) == [Example("a", 0, "b")]

    def test_a_table_of_ones_own(self, tmp_path):
        table = tmp_path / "t.tsv"
        table.write_text("good\tone\nbad\ttwo\n")
        found, named = labelled_texts(manifest(["bad", "good"]), None, table, True)
        assert [(e.text, e.label) for e in found] == [("one", 1), ("two", 0)] and named == str(table)

    def test_own_sentences_where_the_reviews_cannot_be_had(self, monkeypatch):
        def load(split, *, offline=False):
            raise DataUnavailable(DATA_SETS["movie-reviews"].archive, "offline")

        sets = {"movie-reviews": type(DATA_SETS["tweets"])("movie-reviews", LABELS, load, None)}
        monkeypatch.setattr(labelled, "DATA_SETS", sets)
        found, named = labelled_texts(manifest(LABELS), None, None, True)
        assert found == own_sentences() and named.startswith("zynqbert's own, not the test split")

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (
                manifest(["x", "y"]),
                "its data, and its labels are x, y; remedy: --data, one of .*, or --table",
            ),
            (manifest(TWEET_LABELS, kind="token"), "task is token, softmax: accuracy is that of one label a text"),
            (manifest(["value"], scores="none"), "task is sequence, none"),
            (manifest(TWEET_LABELS, scores="sigmoid"), "task is sequence, sigmoid"),
            (
                manifest(TWEET_LABELS, data="movie-reviews"),
                "its labels are negative, positive, the artifact's negative",
            ),
        ],
        ids=["labels", "tokens", "regression", "several", "named"],
    )
    def test_what_cannot_be_counted_is_refused(self, given, told):
        with pytest.raises(InputError, match=told):
            labelled_texts(given, None, None, True)
