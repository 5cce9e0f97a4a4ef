# SPDX-License-Identifier: Apache-2.0
"""`zynqbert search` from end to end on tiny models: the front by brute force, bounds, a cut run, and bad input."""

import doctest
import io
import json
import subprocess
from dataclasses import replace
from math import nan
from xml.etree import ElementTree

import early_exit
import numpy as np
import pytest
import torch
from documents import ROOT
from early_exit import DEPTH, EXAMPLES, POINTS
from rich.console import Console
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.resources import resources
from zynqbert.host import cli, search_front, search_models, search_plot, search_text
from zynqbert.host import search as module
from zynqbert.host.inputs import InputError
from zynqbert.host.search import Bounds, Space, search
from zynqbert.host.search_front import is_default
from zynqbert.host.search_rows import FIELDS, MODEL_FIELDS, rows_of
from zynqbert.host.search_space import ALL, budget_of, shape_of, shaped
from zynqbert.quant import datasets
from zynqbert.quant import search_answers as asking
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.datasets import LABELS, DataSet
from zynqbert.quant.golden_model import GoldenModel

DEV, TEST = EXAMPLES[:16], EXAMPLES[16:]


class Cut(Exception):
    pass


def load(split, *, offline=False):
    return {"dev": DEV, "test": TEST}[split]


TINY = DataSet("movie-reviews", LABELS, load, datasets.REVIEWS_ARCHIVE)
BUDGET = budget_of(None)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The models are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {"early": early_exit.recipe(root / "early"), "dense": early_exit.dense(root / "dense")}


@pytest.fixture(scope="module")
def space(folders):
    models = search_models.load_models(list(folders.values()), None)
    return Space(["zcu102", "zcu111"], models, (64, 128, 192), (150.0, 250.0, 300.0), ("one", "packed"))


@pytest.fixture(scope="module")
def bound(space, tmp_path_factory):
    """A latency that some candidates meet and some do not."""
    report = search(space, TINY, Bounds(1000, BUDGET), tmp_path_factory.mktemp("free"))
    return round(float(np.median([row["p99_ms"] for row in rows_of(report, "zcu111")])), 6)


@pytest.fixture(scope="module")
def ran(space, bound, tmp_path_factory):
    """(out, report) of a run that was cut within the third array and went on."""
    out = tmp_path_factory.mktemp("search")

    def until(title, done, total):
        if title.startswith("dense on zcu102"):
            raise Cut

    with pytest.raises(Cut):
        search(space, TINY, Bounds(bound, BUDGET), out, progress=until)
    begun = json.loads((out / "search.json").read_text())
    assert {board: list(of) for board, of in begun["rows"].items()} == {"zcu102": ["early"], "zcu111": ["early"]}
    with pytest.MonkeyPatch.context() as patch:
        modelled, run = [], module.programs_of
        patch.setattr(module, "programs_of", lambda *of: modelled.append(of[1:]) or run(*of))
        patch.setattr(asking, "ramp_logits", None)
        report = search(space, TINY, Bounds(bound, BUDGET), out, resume=True, progress=lambda *step: None)
    assert modelled == [("dense", "zcu102", 128), ("dense", "zcu111", 128), ("dense", "zcu111", 192)]
    return out, report


def test_doctests():
    assert all(doctest.testmod(of).failed == 0 for of in (search_front, search_text))


def test_a_cut_run_becomes_what_a_whole_one_is(ran, space, bound, tmp_path):
    search(space, TINY, Bounds(bound, BUDGET), tmp_path)
    assert (tmp_path / "search.json").read_bytes() == (ran[0] / "search.json").read_bytes()


def test_a_finished_run_stays(ran, space, bound, monkeypatch):
    out, report = ran
    before = (out / "search.json").read_bytes()
    for name in ("answers", "programs_of"):
        monkeypatch.setattr(module, name, None)
    assert search(space, TINY, Bounds(bound, BUDGET), out, resume=True)["fronts"] == report["fronts"]
    assert (out / "search.json").read_bytes() == before
    with pytest.raises(InputError, match=r"search\.json: holds a search already; remedy: --resume, or another folder"):
        search(space, TINY, Bounds(bound, BUDGET), out)


def test_other_settings_are_refused(ran, space, bound):
    how = {"resume": True}
    for given, of in (
        ((space, TINY, Bounds(2 * bound, BUDGET)), "latency_ms"),
        ((space, TINY, Bounds(bound, BUDGET, worst=True)), "latency_of"),
        ((space, TINY, Bounds(bound, BUDGET | {"lut": 0.7})), "budget"),
        ((replace(space, clocks=(300.0,)), TINY, Bounds(bound, BUDGET)), "clocks_mhz"),
        ((replace(space, models={"early": space.models["early"]}), TINY, Bounds(bound, BUDGET)), "exits, models"),
    ):
        with pytest.raises(ValueError, match=rf"search\.json: begun with other settings of {of}: .*; remedy: restore"):
            search(*given, ran[0], **how)
    with pytest.raises(ValueError, match="begun with other settings of sentences, texts"):
        search(space, TINY, Bounds(bound, BUDGET), ran[0], sentences=7, **how)


def test_every_candidate_is_there(ran, space):
    _, report = ran
    ways = {"early": len(report["models"]["early"]["exits"]), "dense": 1}
    assert ways["early"] > 1 + DEPTH - 1 + 2 * len(POINTS)
    for board, columns in (("zcu102", {128}), ("zcu111", {128, 192})):
        rows = list(rows_of(report, board))
        keys = {(row["model"], row["columns"], row["exit"], row["mode"], row["clock_mhz"]) for row in rows}
        assert len(rows) == len(keys) == sum(ways.values()) * 3 * 2 * len(columns)
        assert {row["columns"] for row in rows} == columns
        counts = report["counts"][board]
        assert counts["candidates"] == sum(ways.values()) * 3 * 2 * len(space.columns)
        assert counts["feasible"] + sum(counts["not"].values()) == counts["candidates"]
        assert counts["not"]["array"] == sum(ways.values()) * 3 * 2
        assert counts["not"]["latency"] == sum(row["p99_ms"] > report["settings"]["latency_ms"] for row in rows)
    assert "dsp and bram36 and lut" in report["counts"]["zcu102"]["not"]


def better(a, b):
    """Whether a is as good as b in both and better in one."""
    one, other = ((row["accuracy"], -row["energy_mj"]) for row in (a, b))
    return one != other and all(x >= y for x, y in zip(one, other, strict=True))


def test_the_front_by_brute_force(ran):
    _, report = ran
    for board in BOARDS:
        rows = [row for row in rows_of(report, board) if row["p99_ms"] <= report["settings"]["latency_ms"]]
        best = [row for row in rows if not any(better(other, row) for other in rows)]
        front = report["fronts"][board]
        assert {(r["accuracy"], r["energy_mj"]) for r in best} == {(r["accuracy"], r["energy_mj"]) for r in front}
        assert len(front) > 1 and all(row in rows for row in front)
        assert [row["energy_mj"] for row in front] == sorted(row["energy_mj"] for row in front)
        assert len({row["accuracy"] for row in front}) == len(front)


def test_accuracies_are_the_goldens(ran, folders, space):
    exits = ran[1]["models"]["early"]["exits"]
    golden, artifact = GoldenModel(folders["early"]), space.models["early"]
    sentences = asking.encode(artifact.tokenizer_path.read_text(), [e.text for e in DEV], 64)
    of = {f"cut at layer {n}": {"foretold": {"threshold": 0, "table": [n] * 256}} for n in range(1, DEPTH)}
    of |= {"point 1": {"threshold": POINTS["1"]["threshold"]}, "point 0.5, foretold": POINTS["0.5"]}
    for name, way in of.items():
        left = [golden.forward_sentence(sentence.ids, exits=way) for sentence in sentences]
        right = sum(int(np.argmax(a.logits[0])) == e.label for a, e in zip(left, DEV, strict=True))
        assert exits[name]["right"] == right and exits[name]["sentences"] == len(DEV), name
        assert exits[name]["mean_layer"] == pytest.approx(np.mean([a.layer[0] for a in left])), name


def test_figures_hang_together(ran):
    for row in rows_of(ran[1], "zcu111"):
        assert row["energy_mj"] == pytest.approx(1e3 * row["power_w"] / row["per_s"], rel=1e-4)
        assert row["mean_ms"] <= row["p99_ms"] <= row["worst_ms"]
        assert row["fps_per_w"] == pytest.approx(row["per_s"] / row["power_w"], rel=1e-4)
        assert row["passes"] == len(DEV) or (row["mode"] == "packed" and row["passes"] < len(DEV) / 2)
    defaults = [row for row in rows_of(ran[1], "zcu111") if is_default(row)]
    assert [(row["model"], row["columns"], row["clock_mhz"], row["mode"]) for row in defaults] == [
        *(("early", 192, 250, "one"), ("dense", 192, 250, "one"))
    ]


def test_the_worst_sentence_counts_with_worst(space, bound, ran, tmp_path):
    report = search(space, TINY, Bounds(bound, BUDGET, worst=True), tmp_path)
    rows = list(rows_of(report, "zcu111"))
    assert [row["meets"] for row in rows] == [row["worst_ms"] <= bound for row in rows]


def test_the_test_split_is_read_for_the_front_alone(space, bound, ran, tmp_path, monkeypatch):
    read = []
    tiny = replace(TINY, load=lambda split: read.append(split) or load(split))
    report = search(space, tiny, Bounds(bound, BUDGET), tmp_path)
    assert read == ["dev"] and "test" not in report
    report = search(space, tiny, Bounds(bound, BUDGET), tmp_path, test=True, resume=True)
    assert read == ["dev", "dev", "test"] and report["fronts"] == ran[1]["fronts"]
    chosen = {(row["model"], row["exit"]) for front in report["fronts"].values() for row in front}
    chosen |= {("early", "all layers"), ("dense", "all layers")}
    assert {(model, name) for model, of in report["test"].items() for name in of} == chosen
    assert all(found["sentences"] == len(TEST) for of in report["test"].values() for found in of.values())
    assert "test" in console(search_text.table(report))


def test_shapes_are_those_that_the_kernels_take(tmp_path):
    """Both by the configuration header: what it refuses, and the words that stay on chip."""
    for columns in (64, 128, 192, 256):
        words = shaped(BOARDS["zcu111"], columns).resident_words
        source = f'#include "{ROOT}/fpga/kernels/config.hpp"\nstatic_assert(zq::kResidentWords == {words}, "words");\n'
        command = ["g++", "-std=c++17", f"-DZQ_COLUMNS={columns}", "-fsyntax-only", "-x", "c++", "-"]
        built = subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode == 0
        shape = shape_of(BOARDS["zcu111"], columns, BUDGET)
        assert built == (shape["over"] != {"array": None}), columns
        if built:
            assert shape["resources"]["dsp"] == resources(shaped(BOARDS["zcu111"], columns)).dsp
    assert shape_of(BOARDS["zcu111"], 192, BUDGET)["over"] == {}
    assert shaped(BOARDS["zcu111"], 192) == BOARDS["zcu111"]
    tight = shape_of(BOARDS["zcu111"], 192, BUDGET | {"lut": 0.5, "uram": 0.9})
    assert set(tight["over"]) == {"lut", "uram"} and tight["over"]["lut"] == pytest.approx(
        tight["shares"]["lut"] / 0.5, rel=1e-3
    )


def test_none_within_the_bounds(space, bound, tmp_path, monkeypatch):
    with pytest.raises(InputError) as error:
        search(space, TINY, Bounds(1e-4, BUDGET), tmp_path)
    report = json.loads((tmp_path / "search.json").read_text())
    least = min(row["p99_ms"] for board in BOARDS for row in rows_of(report, board))
    assert f"nearest to its bound is latency, {least:.4g} ms (p99, modelled) on zcu" in str(error.value)
    assert "0 keep all bounds; not: " in str(error.value) and report["fronts"] == {"zcu102": [], "zcu111": []}
    raised = float(str(error.value).rpartition("--latency-ms ")[2])
    # As the remedy says: nothing found gives way, and what the models answered is there.
    monkeypatch.setattr(asking, "ramp_logits", None)
    assert any(search(space, TINY, Bounds(raised, BUDGET), tmp_path)["fronts"].values())


def test_no_array_within_the_budget_before_any_model_is_asked(space, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "answers", None)
    one = replace(space, boards=["zcu102"])
    told = r"nearest to its bound is dsp, 8\d\.\d% of zcu102's \(modelled\) for 80\.0%"
    with pytest.raises(InputError, match=rf"^no array can be built: {told}.*; remedy: --budget dsp=0\.8\d\d$") as error:
        search(one, TINY, Bounds(1, BUDGET | {"dsp": 0.8}), tmp_path)
    budget = budget_of(str(error.value).rpartition("--budget ")[2])
    assert not shape_of(BOARDS["zcu102"], 128, budget)["over"]
    with pytest.raises(InputError, match="the kernels take 128 to 192 columns; remedy: --columns 128,192"):
        search(replace(space, columns=(64,)), TINY, Bounds(1, BUDGET), tmp_path / "narrow")
    assert list(tmp_path.iterdir()) == []


def test_what_is_checked_of_a_model_is_all_that_is_told(ran):
    for model in ran[1]["models"].values():
        assert set(model) == {*MODEL_FIELDS, "exits"}


def test_what_is_no_search_is_left_as_it_is(space, bound, tmp_path):
    parts = {"settings": {}, "models": {}, "shapes": {}, "rows": {}}
    for damaged in ("{", json.dumps(parts), json.dumps(parts | {"versions": []})):
        (tmp_path / "search.json").write_text(damaged)
        for resume in (False, True):
            with pytest.raises(ValueError, match=r"search\.json: .*; remedy: "):
                search(space, TINY, Bounds(bound, BUDGET), tmp_path, resume=resume)
        assert (tmp_path / "search.json").read_text() == damaged


def candidates(report: dict) -> list:
    return report["rows"]["zcu102"]["dense"]["128"]


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        (lambda report: report["models"].update(early={}), "models.early.exits: is missing"),
        (lambda report: report["models"]["dense"].pop("heads"), "models.dense.heads: is missing"),
        (lambda report: report["models"]["dense"]["exits"].update({ALL: {}}), "models.dense.exits.all layers: no acc"),
        (lambda report: report["rows"].update(zcu102=[]), "rows.zcu102: no models"),
        (lambda report: candidates(report).clear(), "rows.zcu102.dense.128: 6 candidates are needed"),
        (lambda report: candidates(report)[1].pop(), r"rows.zcu102.dense.128\[1\]: not exit, mode"),
        (lambda report: candidates(report)[1].__setitem__(4, nan), r"rows.zcu102.dense.128\[1\]: a figure that is no"),
        (lambda report: report["versions"].update(zynqbert="0.0"), "begun with other settings of zynqbert: "),
    ],
)
def test_a_report_that_is_damaged_is_not_gone_on_with(space, bound, ran, tmp_path, damage, field):
    report = json.loads((ran[0] / "search.json").read_text())
    damage(report)
    (tmp_path / "search.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match=rf"search\.json: {field}.*; remedy: "):
        search(space, TINY, Bounds(bound, BUDGET), tmp_path, resume=True)


def console(shown) -> str:
    out = Console(width=200, file=io.StringIO())
    out.print(shown)
    return out.file.getvalue()


def test_the_table_and_the_picture(ran, tmp_path):
    _, report = ran
    text = console(search_text.table(report))
    for row in report["fronts"]["zcu102"]:
        assert any(row["exit"] in line and f"{row['p99_ms']:.3f}" in line for line in text.splitlines())
    assert "array (the kernels take 128 to 192 columns)" in text
    for name in ("one.svg", "two.svg"):
        search_plot.draw(report, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    tree = ElementTree.parse(tmp_path / "one.svg")
    texts = {"".join(of.itertext()).strip() for of in tree.iter("{http://www.w3.org/2000/svg}text")}
    bound = report["settings"]["latency_ms"]
    assert {"zcu102", "zcu111", "candidate", f"not within {bound:g} ms", "early by default"} <= texts
    assert {"energy a sentence, mJ (modelled)", "accuracy, % of 16 dev texts (measured)"} <= texts


def test_a_candidate_a_line(ran):
    text = (ran[0] / "search.json").read_text()
    rows = [line for line in text.splitlines() if line.startswith("    [")]
    assert len(rows) == sum(len(list(rows_of(ran[1], board))) for board in BOARDS)
    assert all(len(json.loads(line.rstrip(","))) == len(FIELDS) for line in rows)


class TestCommandLine:
    @pytest.fixture
    def call(self, capsys, monkeypatch):
        monkeypatch.setitem(datasets.DATA_SETS, "movie-reviews", TINY)

        def run(*arguments):
            code = cli.call(["search", *map(str, arguments)])
            captured = capsys.readouterr()
            return code, captured.out, " ".join(captured.err.split())

        return run

    def test_it_finds_and_writes(self, call, folders, tmp_path):
        given = "--artifact", folders["early"], "--artifact", folders["dense"], "--data", "movie-reviews"
        code, out, _ = call("--latency-ms", 5, *given, "--clocks", "300", "--out", tmp_path / "s")
        assert code == 0 and f"{tmp_path}/s/search.json, {tmp_path}/s/search.svg" in out
        assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["answers", "search.json", "search.svg"]
        settings = json.loads((tmp_path / "s" / "search.json").read_text())["settings"]
        assert (settings["boards"], settings["columns"]) == (["zcu102"], [64, 128, 192, 256])

    def test_help_has_an_example(self, call):
        code, out, _ = call("--help")
        assert code == 0 and "Example: zynqbert search --latency-ms 2 --board both" in out

    @pytest.mark.parametrize(
        "arguments, parts",
        [
            (["--latency-ms", "0"], ["--latency-ms 0: a time above 0 is needed; remedy"]),
            (["--latency-ms", "nan"], ["--latency-ms nan: a time above 0 is needed; remedy"]),
            (["--latency-ms", "inf"], ["--latency-ms inf: a time above 0 is needed; remedy"]),
            (["--budget", "lut=0.1"], ["no array can be built: nearest to its bound is lut"]),
            (["--columns", "100"], ["--columns 100: not a multiple of 64; remedy: --columns 128,192"]),
            (["--columns", "0"], ["--columns 0: not a multiple of 64"]),
            (["--columns", "wide"], ["--columns wide: not a list parted by commas"]),
            (["--clocks", "300,300"], ["--clocks 300,300: a value twice"]),
            (["--clocks", "400"], ["--clocks 400: above 0 and at most 300 MHz"]),
            (["--clocks", "233.3333"], ["--clocks 233.333: the wizard gives "]),
            (["--modes", "two"], ["--modes two: none of one, packed"]),
            (["--budget", "lut=2"], ["--budget lut=2: a share above 0, at most 1, of dsp, bram36, lut, uram, ff"]),
            (["--budget", "gold=0.5"], ["--budget gold=0.5"]),
            (["--budget", "lut"], ["--budget lut: a share"]),
            (["--data", "news"], ["data 'news' is none of movie-reviews"]),
            (["--task", "tweets"], ["--task tweets: none of the models is a backbone with tasks"]),
        ],
    )
    def test_bad_input(self, call, folders, tmp_path, arguments, parts):
        given = [
            "--latency-ms",
            "5",
            "--artifact",
            folders["dense"],
            "--data",
            "movie-reviews",
            "--out",
            tmp_path / "s",
        ]
        code, out, err = call(*given, *arguments)
        assert (code, out) == (2, "") and all(part in err for part in parts), err
        assert not (tmp_path / "s").exists()

    def test_models_that_are_none_or_not_of_one_task(self, call, folders, tmp_path):
        code, _, err = call("--latency-ms", 5, "--artifact", tmp_path / "nowhere", "--data", "movie-reviews")
        assert code == 2 and f"{tmp_path}/nowhere" in err and "there is none" in err
        other = early_exit.altered(folders["dense"], tmp_path / "other", lambda m: m["task"].update(labels=["a", "b"]))
        both = "--artifact", folders["early"], "--artifact", other
        code, _, err = call("--latency-ms", 5, *both, "--data", "movie-reviews")
        assert code == 2 and "other: its labels are a, b, those of movie-reviews negative, positive; remedy" in err
        twice = early_exit.altered(folders["dense"], tmp_path / "dense", lambda m: None)
        code, _, err = call("--latency-ms", 5, "--artifact", folders["dense"], "--artifact", twice)
        assert code == 2 and f"--artifact {twice}: a second model called dense; remedy" in err


def test_names_of_models(folders, tmp_path):
    inner = early_exit.altered(folders["dense"], tmp_path / "run" / "artifact", lambda m: None)
    assert list(search_models.load_models([folders["early"], inner], None)) == ["early", "run/artifact"]
    assert load_artifact(inner).manifest["task"]["labels"] == list(LABELS)
