# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench edgebert` from end to end on tiny models: the engine decides, nothing runs twice, and what does not
go together is told in a line.
"""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import early_exit
import jsonschema
import numpy as np
import pytest
from early_exit import DEPTH, EXAMPLES, POINTS
from zynqbert.host import cli
from zynqbert.host.bench import commands, edgebert, edgebert_markdown, edgebert_report
from zynqbert.host.bench import edgebert_models as models
from zynqbert.host.bench.charts import four_digits
from zynqbert.host.bench.edgebert import bench_edgebert, checked_targets, two_digits_up
from zynqbert.host.errors import HostError
from zynqbert.host.inputs import InputError
from zynqbert.quant.datasets import LABELS
from zynqbert.quant.golden_model import GoldenModel

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "edgebert.schema.json").read_text(encoding="utf-8"))
SPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "recipe": early_exit.recipe(root / "recipe"),
        "dense": early_exit.dense(root / "dense"),
        "ramps": early_exit.dense(root / "ramps", exits=True, points=POINTS),
    }


@pytest.fixture(scope="module")
def ran(folders, tmp_path_factory):
    """A report of both boards with default targets, as read back from JSON, and its folder."""
    out = tmp_path_factory.mktemp("out")
    steps = [folders["dense"], folders["ramps"], folders["recipe"]]
    report = bench_edgebert(folders["recipe"], folders["dense"], EXAMPLES, out, steps=steps)
    return json.loads(json.dumps(report, allow_nan=False)), out


@pytest.fixture(scope="module")
def with_ramps(folders, tmp_path_factory):
    """The dense model has off-ramps of its own; targets given, the first of which nobody can meet."""
    out = tmp_path_factory.mktemp("out")
    given = {"boards": ["zcu111"], "targets_ms": [5.0, 0.001], "point": "0.5"}
    report = bench_edgebert(folders["recipe"], folders["ramps"], EXAMPLES, out, **given)
    return json.loads(json.dumps(report, allow_nan=False))


def problems(report):
    validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(report)]


def golden(folder, exits):
    """Answers of the integer model in numpy: labels' indices and layers."""
    model, encoder = GoldenModel(folder), models.Model.load("--artifact", folder).encoder()
    labels, layers = [], []
    for example in EXAMPLES:
        ids = encoder.encode(example.text).ids
        if exits is None:
            labels.append(int(np.argmax(model.forward_sentence(ids))))
            layers.append(DEPTH)
        else:
            found = model.forward_sentence(ids, exits=exits)
            labels.append(int(np.argmax(found.logits[0])))
            layers.append(int(found.layer[0]))
    return labels, layers


class TestReport:
    def test_keeps_to_its_schema(self, ran, with_ramps):
        assert problems(ran[0]) == [] and problems(with_ramps) == []

    def test_rows_are_in_order(self, ran):
        for found in ran[0]["boards"].values():
            targets = found["targets_ms"]
            expected = ["a", "b", *(f"c@{t:g}" for t in targets), *(f"d@{t:g}" for t in targets)]
            assert [row["key"] for row in found["rows"]] == expected

    def test_answers_and_layers_are_those_of_the_golden_model(self, ran, folders):
        report, _ = ran
        truth = [example.label for example in EXAMPLES]
        point = POINTS["1"]
        for key, folder, exits in (
            ("a", "dense", None),
            ("b", "recipe", {"threshold": point["threshold"]}),
            ("d", "recipe", {"foretold": point["foretold"]}),
        ):
            labels, layers = golden(folders[folder], exits)
            for board in report["boards"].values():
                for row in (row for row in board["rows"] if row["row"] == key):
                    assert row["accuracy"]["right"] == sum(a == b for a, b in zip(labels, truth, strict=True))
                    assert row["exit_layer"]["value"] == pytest.approx(np.mean(layers))

    def test_sentences_leave_at_different_layers(self, ran):
        """Else nothing above says much."""
        rows = ran[0]["boards"]["zcu102"]["rows"]
        assert len(rows[1]["exit_layers"]) >= 3 and len(rows[-1]["exit_layers"]) >= 2

    def test_dense_without_ramps_lends_the_recipes_rows(self, ran, with_ramps):
        report, _ = ran
        assert report["settings"]["off_ramps_of"] == "recipe"
        assert any("(d) is (c)" in note for note in report["notes"])
        found = {row["key"]: row for row in report["boards"]["zcu102"]["rows"]}
        target = report["boards"]["zcu102"]["headline_target_ms"]
        assert found[f"c@{target:g}"]["energy"] == found[f"d@{target:g}"]["energy"]
        assert with_ramps["settings"]["off_ramps_of"] == "dense" and with_ramps["settings"]["point"] == "0.5"
        rows = {row["key"]: row for row in with_ramps["boards"]["zcu111"]["rows"]}
        assert rows["b"]["model"] == rows["c@5"]["model"] == "dense" and rows["d@5"]["model"] == "recipe"
        assert rows["c@5"]["energy"] != rows["d@5"]["energy"]
        assert not any("(d) is (c)" in note for note in with_ramps["notes"])

    def test_default_targets_lie_between_one_layer_and_all(self, ran):
        for found in ran[0]["boards"].values():
            assert len(found["targets_ms"]) == 4 and found["targets_ms"] == sorted(found["targets_ms"])
            whole = found["rows"][0]["latency_max"]["value"]
            assert found["targets_ms"][0] < whole <= found["targets_ms"][-1] * 1.2
            assert {
                row["target"]["missed"]["value"] for row in found["rows"] if row["target_ms"] == found["targets_ms"][-1]
            } == {0}

    def test_a_target_that_nobody_meets_is_shown(self, with_ramps):
        rows = {row["key"]: row for row in with_ramps["boards"]["zcu111"]["rows"]}
        assert rows["c@0.001"]["target"]["missed"]["value"] == len(EXAMPLES)
        assert rows["c@0.001"]["target"]["met_share"]["value"] == 0
        said = edgebert_report.text(with_ramps)
        assert f"target 0.001 ms: MISSED by {len(EXAMPLES)} of {len(EXAMPLES)} (100.0%)" in said
        assert re.search(r"a/d to 0.001 ms .*modelled.*MISSED by 24 sentences", said)
        assert "MISSED by 24" in edgebert_report.page(with_ramps)
        (drawn,) = (
            caption for name, (_, _, caption) in edgebert_report.drawings(with_ramps).items() if "target" in name
        )
        assert "MISSED: 0.001 ms by 24 sentences" in drawn

    def test_steps_in_each_way(self, ran):
        """All layers; with off-ramps also by entropy, as row (b), and by the layer foretold, as row (d)."""
        steps = ran[0]["steps"]
        ramps = [(None, False), ("1", False), ("1", True)]
        assert [(s["point"], s["foretold"]) for s in steps] == [(None, False), *ramps, *ramps]
        rows = {row["row"]: row for row in ran[0]["boards"]["zcu102"]["rows"]}
        for step, row in ((steps[0], rows["a"]), (steps[5], rows["b"]), (steps[6], rows["d"])):
            assert (step["accuracy"], step["exit_layer"]) == (row["accuracy"], row["exit_layer"])
        for step, row in ((steps[0], rows["a"]), (steps[5], rows["b"])):
            assert step["boards"]["zcu102"]["energy"]["value"] == pytest.approx(row["energy"]["value"])
        layers = [step["exit_layer"]["value"] for step in steps]
        assert layers[0] == layers[1] == layers[4] == DEPTH > layers[5] > layers[6]
        cost = [step["boards"]["zcu102"]["energy"]["value"] for step in steps[4:]]
        assert cost[0] > cost[1] > cost[2]
        first, last = steps[0]["model"], steps[4]["model"]
        assert first["heads"] == 12 and last["heads"] == 8
        assert last["density"] <= 0.5 < first["density"]

    def test_operating_points(self, ran):
        found = {p["point"]: p["exit_layer"]["value"] for p in ran[0]["operating_points"]}
        assert found[None] == DEPTH > found["0.5"] >= found["1"]
        costs = {p["point"]: p["boards"]["zcu102"] for p in ran[0]["operating_points"]}
        blind = next(row for row in ran[0]["boards"]["zcu102"]["rows"] if row["row"] == "b")
        for name in ("energy", "latency_mean"):
            assert costs["1"][name]["value"] == pytest.approx(blind[name]["value"])
            assert costs[None][name]["value"] > costs["0.5"][name]["value"] >= costs["1"][name]["value"]
        assert list(ran[0]["dev_curves"].values()) == [[[3.0, 60.0], [2.0, 50.0]]]


class TestSays:
    def test_every_modelled_figure_in_text(self, ran):
        for line in edgebert_report.text(ran[0]).splitlines():
            if re.search(r"\d (mJ|ms|times|cycles)\b", line) and not re.match(r"  (\(|[a-z ]+ \()|note", line):
                assert "modelled" in line, line

    def test_hypothetical_wherever_it_stands(self, ran):
        report, _ = ran
        (aside,) = (a for a in report["boards"]["zcu102"]["asides"] if a["name"] == "voltage scaling")
        assert aside["kind"] == "hypothetical, modelled"
        said = edgebert_report.text(report).splitlines()
        assert all("hypothetical" in line for line in said if "voltage follows the clock" in line)
        page = edgebert_report.page(report)
        for row in re.findall(r"<tr>(.*?)</tr>", page):
            if "voltage follows the clock" in row:
                assert '<span class="source modelled">hypothetical, modelled</span>' in row

    def test_every_row_of_the_page_has_a_source(self, ran):
        page = edgebert_report.page(ran[0])
        rows = re.findall(r'<tr[^>]*><th scope="row">.*?</tr>', page.split('<table class="settings">')[0])
        assert len(rows) > 40
        for row in rows:
            assert '<span class="source' in row, row
            if re.search(r'class="value">[\d.]+ mJ', row):
                assert "modelled</span>" in row

    def test_thresholds_in_nats_and_as_stored(self, ran):
        said, page, table = (
            form(ran[0]) for form in (edgebert_report.text, edgebert_report.page, edgebert_markdown.points)
        )
        for name, nats, stored in (("0.5", "0.220", 900), ("1", "0.366", 1500)):
            theta = f"{nats} nats ({stored} as stored)"
            assert f"point {name}, θ {theta}: layer" in said
            assert page.count(f"point {name}, θ {theta}") == 3  # answers, and each board's costs
            assert f"| {name} | {theta} |" in table

    def test_cycles_of_every_cost(self, ran):
        report, page = ran[0], edgebert_report.page(ran[0])
        for of in (*report["operating_points"], *report["steps"]):
            for found in of["boards"].values():
                cycles = four_digits(found["cycles_mean"]["value"])
                assert f"{four_digits(found['latency_mean']['value'])} ms, {cycles} cycles on average" in page

    def test_markdown(self, ran):
        report = ran[0]
        tables = edgebert_markdown.page(report)
        lines = [line for line in tables.splitlines() if line.startswith("|")]
        for head in (line for line in lines if "mJ" in line):
            for cell in head.split("|"):
                assert ("mJ" in cell or "ms" in cell) == ("modelled" in cell and "target" not in cell)
                assert ("accuracy" in cell or "average layer" in cell) <= ("measured" in cell)
        steps = [line for line in edgebert_markdown.steps(report).splitlines() if "words |" in line]
        assert [line.split(" | ")[1] for line in steps] == [edgebert_report.way_of(step) for step in report["steps"]]
        assert {line.count("|") for line in steps} == {10}
        for line, step in zip(steps, report["steps"], strict=True):
            assert f"| {step['exit_layer']['value']:.2f} |" in line and f"{step['accuracy']['share']:.2%}" in line
            for found in step["boards"].values():
                wanted = (four_digits(found[name]["value"]) for name in ("energy", "latency_mean", "cycles_mean"))
                assert f"| {', '.join(wanted)} |" in line
        rows = edgebert_markdown.rows(report, "zcu111")
        headline = report["boards"]["zcu111"]["headline_target_ms"]
        assert len(re.findall(r"^\| \([abcd]\)", rows, re.M)) == 4
        assert re.findall(r"^- (\S+)(.*?) +[\d.]+ times, modelled", rows, re.M) == [
            ("a/b", ""),
            *((name, f" to {headline:g} ms") for name in ("a/c", "b/c", "a/d")),
        ]

    def test_drawings_say_what_is_modelled(self, ran):
        found = edgebert_report.drawings(ran[0])
        assert len(found) == 7
        for name, (title, drawing, _) in found.items():
            root = ElementTree.fromstring(drawing)
            words = " ".join(element.text or "" for element in root.iter(f"{SPACE}text"))
            if "energy" in name:
                assert "(modelled)" in title and "modelled mJ" in words
            else:
                assert "(measured)" in title and "mJ" not in words
            assert root.get("role") == "img" and root.find(f"{SPACE}desc").text

    def test_what_others_wrote_is_text(self, ran):
        report = json.loads(json.dumps(ran[0]))
        report["settings"] |= {"artifact": "<script>a</script>", "texts_from": "<img src=x>"}
        report["notes"] = ["<b>n</b>"]
        page = edgebert_report.page(report)
        assert "<script>" not in page and "<img" not in page and "<b>n" not in page


class TestResume:
    def test_nothing_runs_again(self, ran, folders, monkeypatch):
        report, out = ran

        def no_engine(**given):
            raise AssertionError("all was there")

        monkeypatch.setattr(edgebert.trace_of.__globals__["engines"], "open", no_engine)
        again = bench_edgebert(folders["recipe"], folders["dense"], EXAMPLES, out, steps=[folders["dense"]])
        assert json.loads(json.dumps(again["boards"])) == report["boards"]

    def test_an_interrupted_run_goes_on(self, ran, folders, tmp_path):
        report, _ = ran
        answered = []

        def progress(what, total):
            def step():
                answered.append(what)
                if len(answered) == 30:
                    raise KeyboardInterrupt

            return step

        given = {"boards": ["zcu102"], "targets_ms": report["boards"]["zcu102"]["targets_ms"]}
        with pytest.raises(KeyboardInterrupt):
            bench_edgebert(folders["recipe"], folders["dense"], EXAMPLES, tmp_path, progress=progress, **given)
        assert len(list((tmp_path / "runs").iterdir())) == 2
        again = bench_edgebert(folders["recipe"], folders["dense"], EXAMPLES, tmp_path, **given)
        assert json.loads(json.dumps(again["boards"]["zcu102"])) == report["boards"]["zcu102"]

    def test_another_clock_than_the_models_ends_the_run(self, ran, folders):
        _, out = ran
        spoilt = 0
        for path in (out / "runs").glob("recipe-zcu102-point-1-*ms-*.json"):
            found = json.loads(path.read_text())
            kept = json.dumps(found)
            found["trace"]["clocks_mhz"] = [123.0] * len(EXAMPLES)
            path.write_text(json.dumps(found))
            with pytest.raises(HostError, match=r"the engine clocked sentence \d+ with 123 MHz, the model with"):
                bench_edgebert(folders["recipe"], folders["dense"], EXAMPLES, out, boards=["zcu102"])
            path.write_text(kept)
            spoilt += 1
        assert spoilt == 4


class TestErrors:
    """One line that names what does not fit, and what to do."""

    def refused(self, match, *given, **more):
        with pytest.raises(InputError, match=match):
            bench_edgebert(*given, **more)

    def test_no_off_ramps(self, folders, tmp_path):
        self.refused(
            r"--artifact .*dense: exits is null.*remedy", folders["dense"], folders["dense"], EXAMPLES, tmp_path
        )

    def test_no_operating_point(self, folders, tmp_path):
        folder = early_exit.altered(folders["recipe"], tmp_path / "pointless", lambda m: m["exits"]["points"].clear())
        self.refused(r"exits.points is empty.*remedy", folder, folders["dense"], EXAMPLES, tmp_path)

    def test_an_unknown_operating_point(self, folders, tmp_path):
        given = folders["recipe"], folders["dense"], EXAMPLES, tmp_path
        self.refused(r"--point 7: no operating point of --artifact .*; remedy: 0\.5 or 1", *given, point="7")

    def test_other_labels(self, folders, tmp_path):
        other = early_exit.altered(
            folders["dense"], tmp_path / "other", lambda m: m["task"].update(labels=["no", "yes"])
        )
        self.refused(r"--dense .*other: task\.labels is no, yes.*remedy", folders["recipe"], other, EXAMPLES, tmp_path)

    def test_labels_in_another_order(self, folders, tmp_path):
        turned = list(LABELS[::-1])
        other = early_exit.altered(folders["dense"], tmp_path / "other", lambda m: m["task"].update(labels=turned))
        self.refused(r"differ in task\.labels.*remedy", folders["recipe"], other, EXAMPLES, tmp_path)

    def test_another_vocabulary(self, folders, tmp_path):
        tokenizer = (folders["dense"] / "tokenizer.json").read_text().replace("w49", "w50")
        other = early_exit.altered(folders["dense"], tmp_path / "other", lambda m: None, tokenizer)
        self.refused(r"differ in tokenizer; remedy", folders["recipe"], other, EXAMPLES, tmp_path)
        given = folders["recipe"], folders["dense"], EXAMPLES, tmp_path
        self.refused(r"--steps .*other: its tokenizer.*remedy", *given, steps=[other])

    def test_a_dense_model_that_is_not(self, folders, tmp_path):
        given = folders["recipe"], folders["recipe"], EXAMPLES, tmp_path
        self.refused(r"--dense .*8 of 12 heads.*not the dense model; remedy", *given)

    @pytest.mark.parametrize("targets", [[], [0.0], [-1.0], [float("nan")], [float("inf")]])
    def test_targets_that_are_no_times(self, targets):
        with pytest.raises(InputError, match=r"--targets .*above 0 in ms; remedy"):
            checked_targets(targets)

    def test_a_target_twice(self):
        with pytest.raises(InputError, match="a target twice; remedy"):
            checked_targets([1.0, 2.0, 1.0])
        assert checked_targets([2.0, 1.0]) == [1.0, 2.0] and checked_targets(None) is None

    @pytest.mark.parametrize("content", ["", "[]", '{"curve": 3}', '{"curve": [{"accuracy": 1}]}'])
    def test_a_curve_that_is_none(self, folders, tmp_path, content):
        (tmp_path / "exits.json").write_text(content)
        given = folders["recipe"], folders["dense"], EXAMPLES, tmp_path
        self.refused(r"--curve .*exits\.json: no curve.*remedy", *given, curve=tmp_path / "exits.json")

    def test_a_curve(self, folders, tmp_path):
        given = edgebert.prepare(folders["recipe"], folders["dense"], EXAMPLES, tmp_path, "zcu102", None, None)
        (tmp_path / "exits.json").write_text(
            json.dumps({"curve": [{"mean_layer": 3.5, "accuracy": 0.75, "nats": 0.1}]})
        )
        assert list(edgebert.dev_curves(given, tmp_path / "exits.json").values()) == [[[3.5, 75.0]]]

    def test_no_sentence(self, folders, tmp_path):
        self.refused("no sentence to run", folders["recipe"], folders["dense"], [], tmp_path)


@pytest.mark.parametrize("value, expected", [(1.234, 1.3), (0.0501, 0.051), (2.0, 2.0), (9.96, 10.0), (0.1, 0.1)])
def test_two_digits_up(value, expected):
    assert two_digits_up(value) == expected


class TestCommand:
    @pytest.fixture(autouse=True)
    def data(self, monkeypatch):
        monkeypatch.setattr(commands, "labelled", lambda sentences, offline: (EXAMPLES[:sentences], "these"))

    def call(self, folders, out, *more):
        given = ("--artifact", folders["recipe"], "--dense", folders["dense"], "--out", out)
        return cli.call(["bench", "edgebert", *map(str, given), *more])

    def test_files_and_text(self, folders, tmp_path, capsys):
        out = tmp_path / "a" / "b"
        assert self.call(folders, out, "--board", "zcu111", "--targets", "0.1,9", "--sentences", "5") == 0
        said = capsys.readouterr().out
        assert (
            "zcu111, clocks up to 300 MHz" in said and "zcu102, clocks" not in said and "5 sentences of these" in said
        )
        report = json.loads((out / "edgebert.json").read_text())
        assert problems(report) == [] and report["boards"]["zcu111"]["targets_ms"] == [0.1, 9.0]
        names = {path.name for path in out.iterdir()}
        drawn = {f"{n}-zcu111.svg" for n in ("exit-layers", "energy-by-target", "energy-parts")} | {
            "accuracy-by-layer.svg"
        }
        assert names == {"edgebert.json", "edgebert.html", "edgebert.md", "runs"} | drawn
        assert (out / "edgebert.md").read_text() == edgebert_markdown.page(report)
        assert all('fill="white"' in (out / name).read_text() for name in drawn)

    def test_json(self, folders, tmp_path, capsys):
        assert self.call(folders, tmp_path, "--board", "zcu102", "--sentences", "3", "--json") == 0
        assert problems(json.loads(capsys.readouterr().out)) == []

    @pytest.mark.parametrize("targets, said", [("1,x", "not numbers"), ("0,1", "above 0"), ("1,1", "twice")])
    def test_bad_targets(self, folders, tmp_path, capsys, targets, said):
        assert self.call(folders, tmp_path, "--targets", targets) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "--targets" in error and said in error and "remedy" in error

    @pytest.mark.parametrize("more", [("--targets", "1,x"), ("--curve", "/nope/exits.json"), ("--point", "7")])
    def test_a_refused_run_leaves_no_folder(self, folders, tmp_path, capsys, more):
        assert self.call(folders, tmp_path / "out", *more) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and " ".join(more) in error and "remedy" in error
        assert not (tmp_path / "out").exists()

    def test_missing_dense(self, folders, tmp_path, capsys):
        assert cli.call(["bench", "edgebert", "--artifact", str(folders["recipe"]), "--out", str(tmp_path)]) == 2
        assert "--dense" in capsys.readouterr().err
        assert self.call(folders | {"dense": tmp_path / "none"}, tmp_path) == 2
        assert "none: folder: there is none" in capsys.readouterr().err


def test_folders_that_a_training_called_artifact_are_told_apart():
    titles = [models.Model("--dense", Path(folder), None, "").title for folder in ("build/one/artifact", "build/two")]
    assert titles == ["one/artifact", "two"]
