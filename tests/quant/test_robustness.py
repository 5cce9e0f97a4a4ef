# SPDX-License-Identifier: Apache-2.0
"""The study of errors, densities and bits: points are what the models answer, a cut run goes on, a changed one not."""

import doctest
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from random_artifact import make_random_artifact
from rich.console import Console
from zynqbert.host import cli
from zynqbert.quant import robustness as module
from zynqbert.quant import robustness_plot, task_models
from zynqbert.quant.artifact import load_artifact, save_artifact
from zynqbert.quant.bit_errors import Errors, model_with_errors, stored
from zynqbert.quant.datasets import DataSet, Example
from zynqbert.quant.evaluate import quantized_logits
from zynqbert.quant.robustness import SERIES, Studied, StudiedTask, series_name, study
from zynqbert.quant.robustness_plot import axis, draw, table
from zynqbert.quant.tokens import Tokens

RATES = (1e-3, 3e-2)
HOW = dict(rates=RATES, seeds=2, sentences=25)
POINTS = 1 + 2 * len(SERIES) * len(RATES) + 2


class Cut(Exception):
    pass


def sentences(seed: int, count: int = 30) -> list[Tokens]:
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 12, count)
    return [Tokens(random.integers(4, 50, n).tolist(), [0] * int(n)) for n in lengths]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Two tasks of random models, labelled by what these answer; and what models were asked for."""
    root, asked = tmp_path_factory.mktemp("models"), []
    sizes = dict(family="albert", layers=2, hidden=64, heads=2, ffn=90, labels=3, word_bits=4)
    models, tasks = {}, []
    for seed, name in enumerate(("reviews", "tweets")):
        for density in (1.0, 0.3):
            folder = make_random_artifact(root / f"{name}-{density}", seed=seed, density=density, **sizes)
            models[name, density] = load_artifact(folder)
        clean, texts = models[name, 1.0], sentences(seed)
        labels = quantized_logits(clean.manifest, clean.tensors, texts).numpy().argmax(axis=1)
        tasks.append(StudiedTask(name, texts, np.where(np.arange(30) % 10, labels, 0), f"weights of {name}"))

    def model(name, density, bits):
        asked.append((name, density, bits))
        return models[name, density].manifest, models[name, density].tensors

    return Studied("tiny", tasks, model, densities=(1.0, 0.3), bits=(4, 6)), asked


@pytest.fixture(scope="module")
def ran(studied, tmp_path_factory):
    """(out, report, told) of a run cut at its fifth point and continued."""
    of, asked = studied
    out, told = tmp_path_factory.mktemp("study"), []

    def until(*step):
        if step[1] > 450:
            raise Cut

    with pytest.raises(Cut):
        study(of, out, progress=until, **HOW)
    kept = json.loads((out / "robustness.json").read_text())
    assert "clean" in kept["points"]["reviews"] and kept["points"]["tweets"] == {}
    asked.clear()
    report = study(of, out, resume=True, progress=lambda *step: told.append(step), **HOW)
    assert asked == [(name, *of) for name in ("reviews", "tweets") for of in ((1.0, 4), (0.3, 4), (1.0, 6))]
    assert report["points"]["reviews"]["clean"] == kept["points"]["reviews"]["clean"]
    left = 2 * POINTS - 4
    assert told[-1][1:] == (100 * left, 100 * left) and [s[1] for s in told] == sorted(s[1] for s in told)
    return out, report, told


def test_doctests():
    assert doctest.testmod(module).failed == doctest.testmod(robustness_plot).failed == 0


def test_the_report(ran, studied):
    out, report, _ = ran
    assert json.loads((out / "robustness.json").read_text()) == json.loads(json.dumps(report))
    assert sorted(p.name for p in out.iterdir()) == [
        *("robustness-bits.svg", "robustness-density.svg", "robustness-errors.svg", "robustness.json")
    ]
    assert report["settings"]["sentences.tweets"] == 25
    assert report["settings"]["weights.reviews"] == "weights of reviews"
    for task, points in zip(studied[0].tasks, report["points"].values(), strict=True):
        assert list(points) == ["clean", "errors", "density", "bits"]
        assert list(points["density"]) == ["0.3"] and list(points["bits"]) == ["6"]
        assert list(points["errors"]) == [series_name(*series) for series in SERIES]
        for series in points["errors"].values():
            assert list(series) == ["0.001", "0.03"]
            assert all(list(seeds) == ["0", "1"] for seeds in series.values())
        entry = points["clean"]
        assert entry["right"] == 25 * entry["accuracy"] and entry["interval"][0] < entry["accuracy"]
        assert entry["right"] >= 25 - 3 and points["bits"]["6"]["right"] == entry["right"], task.name


def test_points_are_what_the_models_answer(ran, studied):
    of, _ = studied
    task = of.tasks[1]
    points = ran[1]["points"]["tweets"]
    manifest, tensors = of.model("tweets", 1.0, 4)
    for where, cell, protected in (("both", 3, 2), ("backbone", 1, 0), ("embeddings", 1, 0)):
        entry = points["errors"][series_name(where, cell, protected)]["0.03"]["1"]
        words = stored(manifest, tensors, where)
        spoilt, count = model_with_errors(tensors, words, Errors(0.03, cell, protected, seed=1))
        logits = quantized_logits(manifest, spoilt, task.sentences[:25]).numpy()
        assert entry["right"] == (logits.argmax(axis=1) == task.labels[:25]).sum() and entry["errors"] == count > 0
    assert entry["overhead"] == 0 < points["errors"][series_name("both", 3, 2)]["0.03"]["1"]["overhead"]
    pruned = quantized_logits(*of.model("tweets", 0.3, 4), task.sentences[:25]).numpy().argmax(axis=1)
    assert points["density"]["0.3"]["right"] == (pruned == task.labels[:25]).sum()
    assert points["density"]["0.3"]["right"] < points["clean"]["right"]


def test_a_finished_run_stays(ran, studied, monkeypatch):
    out, report, _ = ran
    before = (out / "robustness.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "quantized_logits", None)
        assert study(studied[0], out, resume=True, **HOW) == json.loads(json.dumps(report))
    assert (out / "robustness.json").read_bytes() == before
    with pytest.raises(ValueError, match=r"robustness\.json: holds a run already; remedy: --resume"):
        study(studied[0], out, **HOW)


def test_more_seeds_come_on_top(ran, studied, tmp_path):
    out, report, _ = ran
    (tmp_path / "robustness.json").write_bytes((out / "robustness.json").read_bytes())
    steps = []
    more = study(studied[0], tmp_path, resume=True, progress=lambda *s: steps.append(s), **{**HOW, "seeds": 3})
    assert steps[-1][2] == 100 * 2 * len(SERIES) * len(RATES)
    for name, series in more["points"]["tweets"]["errors"].items():
        for rate, seeds in series.items():
            assert list(seeds) == ["0", "1", "2"]
            assert seeds["1"] == json.loads(json.dumps(report["points"]["tweets"]["errors"][name][rate]["1"]))


def test_changed_settings_are_refused(ran, studied):
    out, of = ran[0], studied[0]
    with pytest.raises(ValueError, match=r"other settings of sentences\.reviews, sentences\.tweets, texts\.reviews"):
        study(of, out, resume=True, **{**HOW, "sentences": 20})
    first = of.tasks[0]
    for task, changed in (
        (StudiedTask(first.name, first.sentences, first.labels, "others"), r"weights\.reviews"),
        (StudiedTask(first.name, first.sentences, 1 - first.labels % 2, first.weights), r"texts\.reviews"),
    ):
        with pytest.raises(ValueError, match=f"other settings of {changed}: "):
            study(Studied(of.name, [task, of.tasks[1]], of.model), out, resume=True, **HOW)
    with pytest.raises(ValueError, match=r"other settings of sentences\.tweets, tasks, texts\.tweets"):
        study(Studied(of.name, of.tasks[:1], of.model), out, resume=True, **HOW)


@pytest.mark.parametrize(
    "more, problem", [(dict(seeds=0), "seeds = 0: nothing"), (dict(sentences=0), "sentences = 0: nothing")]
)
def test_input_that_does_not_fit(studied, tmp_path, more, problem):
    with pytest.raises(ValueError, match=problem):
        study(studied[0], tmp_path / "out", **{**HOW, **more})
    few = Studied("few", [StudiedTask("a", sentences(0), np.zeros(3, int))], studied[0].model)
    with pytest.raises(ValueError, match="task a: 30 sentences, 3 labels; remedy: "):
        study(few, tmp_path / "out", **HOW)
    assert not (tmp_path / "out").exists()


def test_no_report_of_another_study(studied, tmp_path):
    (tmp_path / "robustness.json").write_text("{}")
    with pytest.raises(ValueError, match="settings is missing: not a robustness study's report"):
        study(studied[0], tmp_path, resume=True, **HOW)


def test_the_table(ran):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table(ran[1]))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in capture.get()
    points = ran[1]["points"]["tweets"]
    clean = f"{100 * points['clean']['accuracy']:.1f} %"
    text = "\n".join(lines)
    assert re.search(r"^density 0\.3, 4 bits +\d", text, re.M) and re.search(r"^density 1, 6 bits +\d", text, re.M)
    assert re.search(rf"^density 1, 4 bits .*{clean} \(", text, re.M) and f"accuracy, {clean} without" in text
    seeds = points["errors"][series_name("both", 2, 2)]["0.03"]
    found = [100 * entry["accuracy"] for entry in seeds.values()]
    extra = f"{100 * seeds['0']['overhead']:.0f} %"
    row = rf"^both +2 +2 +{extra} .* {sum(found) / 2:.1f}/{min(found):.1f} *$"
    assert re.search(row, text[text.index("tweets: errors") :], re.M), text


def test_the_table_of_all_rates(ran):
    """Five rates, the sizes of a whole run."""
    console, report = Console(width=80), json.loads(json.dumps(ran[1]))
    for points in report["points"].values():
        for series in points["errors"].values():
            series |= {f"{rate:g}": series["0.03"] for rate in module.RATES}
            del series["0.03"]
    with console.capture() as capture:
        console.print(table(report))
    assert max(map(len, capture.get().splitlines())) <= 80 and "…" not in capture.get()
    assert re.search("errs in +bits +kept +.cells +1e-06 +1e-05 +1e-04 +1e-03 +1e-02", capture.get())


def test_the_plots(ran, tmp_path):
    out, report, _ = ran
    draw(json.loads(json.dumps(report)), tmp_path)
    for name, panels in (("density", 2), ("bits", 2), ("errors", 4)):
        path = out / f"robustness-{name}.svg"
        ids = {element.get("id") for element in ElementTree.parse(path).getroot().iter()}
        assert f"axes_{panels}" in ids and f"axes_{panels + 1}" not in ids
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()
    words = set(re.findall(r"<!-- (.*?) -->", (out / "robustness-errors.svg").read_text(encoding="utf-8")))
    assert {"1 bit a cell", "3 bits a cell, 2 protected", "embeddings, 1 bit a cell", "reviews", "tweets"} <= words


def test_the_clean_point_is_on_both_axes(ran):
    points = ran[1]["points"]["reviews"]
    assert list(axis(points, "density")) == [0.3, 1.0] and list(axis(points, "bits")) == [4.0, 6.0]
    assert axis(points, "density")[1.0] is axis(points, "bits")[4.0] is points["clean"]
    assert axis({"clean": points["clean"]}, "bits") == {}


class TestCommand:
    LABELS = ("negative", "positive")

    @pytest.fixture
    def artifact(self, tmp_path, monkeypatch):
        """An artifact of the labels of a data set of twelve texts."""
        found = load_artifact(make_random_artifact(tmp_path / "random", hidden=64, heads=2, ffn=90))
        manifest = {k: v for k, v in found.manifest.items() if k not in ("format", "version", "tensors", "files")}
        manifest["task"] = {**manifest["task"], "labels": list(self.LABELS)}
        text = found.tokenizer_path.read_text(encoding="utf-8")
        examples = [Example(f"w{4 + i} w{5 + i}", i % 2) for i in range(12)]
        own = {"own": DataSet("own", self.LABELS, lambda split: examples, None)}
        other = DataSet("feelings", ("sad", "glad"), lambda split: examples, None)
        monkeypatch.setattr(task_models, "DATA_SETS", own | {"feelings": other})
        monkeypatch.setattr(module, "SERIES", SERIES[:1])
        return save_artifact(tmp_path / "artifact", manifest, found.tensors, text)

    def call(self, *arguments):
        return cli.call(["robustness", *map(str, arguments)])

    def test_an_artifact(self, artifact, tmp_path, capsys):
        out = tmp_path / "out"
        given = (artifact, "--out", out, "--data", "own", "--sentences", 8, "--seeds", 1)
        assert self.call(*given) == 0
        found = capsys.readouterr().out
        assert "artifact: 8 texts of own" in found and "robustness-errors.svg" in found.replace("\n", "")
        report = json.loads((out / "robustness.json").read_text())
        assert list(report["points"]["own"]) == ["clean", "errors"]
        assert len(report["points"]["own"]["errors"]["both, 1 bit a cell, 0 protected"]) == 5
        assert self.call(*given) == 2 and "remedy: --resume" in capsys.readouterr().err
        assert self.call(*given, "--resume") == 0

    def test_what_does_not_fit(self, artifact, tmp_path, capsys):
        for arguments, fault in (
            ((artifact,), "metrics.data is missing; remedy: --data, one of own, feelings"),
            ((artifact, "--data", "films"), "data 'films' is none of own, feelings"),
            ((artifact, "--data", "feelings"), "its labels are ['negative', 'positive'], the data's ['sad', 'glad']"),
            ((tmp_path / "none", "--data", "own"), "none"),
        ):
            assert self.call(*arguments, "--out", tmp_path / "out") == 2
            found = capsys.readouterr()
            assert fault in found.err and found.err.count("\n") == 1 and not found.out
        assert not (tmp_path / "out").exists()

    def test_an_artifact_has_one_model(self, artifact):
        studied = task_models.studied_tasks(artifact, "own")
        assert (studied.densities, studied.bits) == ((1.0,), (4,))
        with pytest.raises(ValueError, match=r"no float model to make one of density 0\.5 and 4 bits"):
            studied.model("own", 0.5, 4)
