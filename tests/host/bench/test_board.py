# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench board`: modelled figures are the models' and never the emulator's; measured ones are really taken, on
a stand-in for a board; every report keeps to docs/bench.schema.json.
"""

import json
import time
from pathlib import Path

import jsonschema
import pytest
from fake_board import fake_board, real_reports
from hwmon import FakeSysfs
from random_artifact import make_random_artifact
from zynqbert.fpga import estimate
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.constants import VALUES
from zynqbert.host import cli
from zynqbert.host.bench import commands, measured
from zynqbert.host.bench import report as bench_report
from zynqbert.host.bench.board import bench_board
from zynqbert.host.bench.run import WARM_UP, Watts, answered, percentile
from zynqbert.host.compiler import ModelShape, plan
from zynqbert.host.emulated.device import EmulatedDevice
from zynqbert.host.errors import HostError
from zynqbert.host.meter import BoardMeter
from zynqbert.host.rails import find_rails
from zynqbert.host.result import Result
from zynqbert.host.target import emulated
from zynqbert.quant.artifact import load_artifact

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "bench.schema.json").read_text(encoding="utf-8"))
TEXTS = ["w4 w5 w6", "w7", "w8 " * 40, "w9 w10"]  # 5, 3, 42 and 4 tokens: the third takes two row blocks


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact") / "model", layers=1, labels=3, seed=4)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return real_reports(tmp_path_factory.mktemp("reports"))


def problems(report):
    """What the schema has against a report, after a journey through JSON."""
    validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    return [error.message for error in validator.iter_errors(json.loads(json.dumps(report, allow_nan=False)))]


def values(report):
    return {name: figure["value"] for name, figure in report["figures"].items()}


def sources(report, names=("fps", "latency", "power", "energy")):
    """The sources of the figures about time, power and energy."""
    return {f["source"] for name, f in report["figures"].items() if any(part in name for part in names)}


def slowly(monkeypatch, seconds, passes=None):
    """Every pass of emulated devices made from now on (their first `passes`) takes so much longer here."""
    run, count = EmulatedDevice._run, iter(range(10**9))

    def slow(self, *arguments):
        if arguments[3] and (passes is None or next(count) < passes):
            time.sleep(seconds)
        return run(self, *arguments)

    monkeypatch.setattr(EmulatedDevice, "_run", slow)


@pytest.mark.parametrize("board", BOARDS)
class TestModelled:
    def test_figures_are_the_models(self, artifact, board):
        report = bench_board(artifact, TEXTS, board=board, device="emulated", clock_mhz=200)
        assert problems(report) == [] and sources(report) == {"modelled"}
        shape = ModelShape.of_manifest(load_artifact(artifact).manifest)
        compiled = plan(shape, BOARDS[board], artifact=load_artifact(artifact))
        short, long = (compiled.simulate(blocks, 200).seconds * 1e3 for blocks in (1, 2))
        assert report["sentences"]["kernel_ms"] == pytest.approx([short, short, long, short])
        assert report["sentences"]["tokens"] == [5, 3, 42, 4]
        found = values(report)
        assert found["fps"] == pytest.approx(4e3 / (3 * short + long))
        assert (found["kernel_latency_p50"], found["kernel_latency_max"]) == pytest.approx((short, long))
        assert (found["tokens_min"], found["tokens_p50"], found["tokens_max"], found["truncated"]) == (3, 4, 42, 0)

    def test_power_is_the_models(self, artifact, board):
        """Of texts of one length alone: no mean to reckon."""
        report = bench_board(artifact, TEXTS[:2], board=board, device="emulated")
        shape = ModelShape.of_manifest(load_artifact(artifact).manifest)
        compiled = plan(shape, BOARDS[board], artifact=load_artifact(artifact))
        expected = estimate.estimate(compiled.simulate(1, 250), BOARDS[board], shape.dense_macs(5))
        found = values(report)
        assert found["power_pl"] == pytest.approx(expected.power_pl_w)
        assert found["power_ps"] == pytest.approx(expected.power_ps_w)
        assert found["fps_per_watt"] == pytest.approx(expected.fps_per_w)
        parts = {name: figure["value"] for name, figure in report["power_model"]["parts"].items()}
        assert parts == pytest.approx(expected.extra["power_parts_w"])
        limits = [report["power_model"][name]["value"] for name in ("low", "high")]
        assert limits == pytest.approx(expected.extra["power_range_w"])

    def test_figures_agree_with_each_other(self, artifact, board):
        report = bench_board(artifact, TEXTS, board=board, device="emulated")
        found = values(report)
        for name in ("power", "idle_power", "power_above_idle"):
            assert found[name] == pytest.approx(found[f"{name}_pl"] + found[f"{name}_ps"])
        assert found["power_above_idle"] == pytest.approx(found["power"] - found["idle_power"])
        assert found["energy_per_sentence"] == pytest.approx(1e3 * found["power"] / found["fps"])
        assert found["energy_per_sentence"] == pytest.approx(1e3 / found["fps_per_watt"])
        assert sum(report["sentences"]["energy_mj"]) == pytest.approx(4 * found["energy_per_sentence"])
        # idle: no traffic, nothing at work, but clocked
        assert found["idle_power_ps"] == pytest.approx(VALUES["ps_w"])
        parts = {name: figure["value"] for name, figure in report["power_model"]["parts"].items()}
        assert parts["static"] + parts["clocks"] < found["idle_power_pl"] < found["power_pl"]


class TestNeverTheEmulators:
    def test_its_time_is_in_no_figure(self, artifact, monkeypatch):
        slowly(monkeypatch, 0.1)
        report = bench_board(artifact, TEXTS, board="zcu102", device="emulated")
        whole = report["sentences"]["end_to_end_ms"]
        assert max(whole) < 100
        assert all(ms > kernel for ms, kernel in zip(whole, report["sentences"]["kernel_ms"], strict=True))
        found = values(report)
        assert found["fps_end_to_end"] == pytest.approx(4e3 / sum(whole))
        assert found["fps_end_to_end"] < found["fps"]
        assert any("tokenizer, packing and Python took on this machine" in note for note in report["notes"])

    def test_warming_up_is_in_no_figure(self, artifact):
        target, steps = emulated(BOARDS["zcu102"]), []
        runs = []
        run = target.device.engine.run
        target.device.engine.run = lambda *arguments: (runs.append(arguments[3]), run(*arguments))[1]
        report = bench_board(artifact, TEXTS, board="zcu102", device=target, step=lambda: steps.append(1))
        assert len(steps) == len(TEXTS)
        assert sum(map(bool, runs)) == 1 + 2 * len(TEXTS)  # the first brings weights on chip
        assert sum(report["latencies"]["kernel"]["passes"]) == len(TEXTS) < WARM_UP

    @pytest.mark.parametrize("given", [{"scores": "none", "labels": 1}, {"kind": "token", "labels": 3}])
    def test_other_kinds_of_models(self, tmp_path, given):
        other = make_random_artifact(tmp_path / "artifact", seed=6, **given)
        assert problems(bench_board(other, TEXTS[:1], board="zcu102", device="emulated")) == []

    def test_pairs(self, artifact):
        report = bench_board(artifact, [("w4 w5", "w6"), ("w7", "w8 " * 30)], board="zcu102", device="emulated")
        assert problems(report) == [] and report["sentences"]["tokens"] == [6, 34]
        assert report["slowest"]["text"].startswith("w7 | w8")


class TestMeasured:
    """On the emulated device with a board's meter: figures of this machine's clock and of the sensors' copy."""

    @pytest.mark.parametrize("layout", ["iio", "ina2xx"])
    def test_everything_is_measured(self, artifact, tmp_path, monkeypatch, layout):
        slowly(monkeypatch, 0.02)
        target, sysfs = fake_board(tmp_path, "zcu102", layout)

        during = measured.during

        def idle_then_busy(name, *arguments):
            """The board's load rises once its idling is over."""
            found = during(name, *arguments)
            sysfs.set("u79", 1.0, 3.01)
            sysfs.set("u76", 1.0, 0.51)
            return found

        monkeypatch.setattr(measured, "during", idle_then_busy)
        steps = []
        report = bench_board(
            *(artifact, TEXTS),
            **{"board": "zcu102", "device": target, "seconds": 0.3, "idle_s": 0.2},
            step=lambda: steps.append(1),
        )
        assert problems(report) == [] and sources(report) == {"measured"}
        found = values(report)
        assert 20 <= found["kernel_latency_p50"] <= found["kernel_latency_max"] < 1000
        assert found["end_to_end_latency_p50"] >= 20 and 1 < found["fps"] < 50
        # 8 rails of the PL and 10 of the PS at 0.01 W; then 3 W and 0.5 W more
        assert (found["idle_power_pl"], found["idle_power_ps"]) == pytest.approx((0.08, 0.1))
        assert (found["power_pl"], found["power_ps"]) == pytest.approx((3.08, 0.6))
        assert found["power_above_idle"] == pytest.approx(3.5)
        assert found["energy_per_sentence"] == pytest.approx(1e3 * 3.68 / found["fps"])
        assert found["energy_per_sentence_above_idle"] == pytest.approx(1e3 * 3.5 / found["fps"])
        assert found["fps_per_watt"] == pytest.approx(found["fps"] / 3.68)
        medians = report["sentences"]["kernel_ms"]
        assert report["sentences"]["energy_mj"] == pytest.approx([3.68 * ms for ms in medians])
        rounds = report["settings"]["rounds"]
        assert len(steps) == len(TEXTS) * (rounds["kernel"] + rounds["end_to_end"])
        assert sum(report["latencies"]["end_to_end"]["passes"]) == len(TEXTS) * rounds["end_to_end"]
        (vccint,) = (rail for rail in report["sampling"]["rails"] if rail["part"] == "u79")
        assert vccint["power"]["value"] == pytest.approx(3.01) and vccint["net"] == "VCCINT"
        assert report["sampling"]["samples"]["value"] > 36 and report["sampling"]["dropped"]["value"] == 0
        assert report["bitstream"]["manifest"]["commit"] == "0123456789ab"
        over = report["power_over_time"]
        idle, busy = over["stretches"]
        assert idle["end_s"] - idle["begin_s"] >= 0.2 and busy["end_s"] - busy["begin_s"] >= 0.3
        assert over["watts"]["pl"][0] == pytest.approx(0.08) and over["watts"]["pl"][-1] == pytest.approx(3.08)

    def test_warming_up_is_in_no_figure(self, artifact, tmp_path, monkeypatch):
        slowly(monkeypatch, 0.5, passes=1)
        target, _ = fake_board(tmp_path)
        found = values(bench_board(artifact, TEXTS, board="zcu102", device=target, seconds=0.1, idle_s=0.05))
        assert found["kernel_latency_max"] < 500

    def test_whole_rounds(self, artifact, tmp_path):
        target, _ = fake_board(tmp_path)
        report = bench_board(artifact, TEXTS, board="zcu102", device=target, seconds=1e-6, idle_s=0.05)
        assert report["settings"]["rounds"] == {"kernel": 1, "end_to_end": 1}
        assert sum(report["latencies"]["kernel"]["passes"]) == len(TEXTS)

    def test_the_shared_rail_of_the_zcu111_counts_as_pl(self, artifact, tmp_path):
        target, _ = fake_board(tmp_path, "zcu111")
        report = bench_board(artifact, TEXTS, board="zcu111", device=target, seconds=0.05, idle_s=0.05)
        assert problems(report) == []
        assert report["figures"]["power_ps"]["why"] == "the board has no rails of the PS alone"
        assert values(report)["power"] == values(report)["power_pl"] == pytest.approx(0.14)
        assert any("u59 feeds block RAM and the PS together" in note for note in report["notes"])


class TestSensorsThatFail:
    def test_one_that_goes_away_costs_its_figures(self, reports):
        report = reports["lost"]
        assert problems(report) == [] and sources(report) == {"measured"}
        found, figures = values(report), report["figures"]
        for name in ("power", "power_ps", "power_above_idle", "power_above_idle_ps", "fps_per_watt"):
            assert found[name] is None and "the sensor u76 VCCPSINTFP was lost after" in figures[name]["why"]
        assert found["energy_per_sentence"] is None and set(report["sentences"]["energy_mj"]) == {None}
        assert found["power_pl"] == pytest.approx(0.08) and found["idle_power"] == pytest.approx(0.18)
        assert found["fps"] > 0 and found["fps_end_to_end"] > 0
        (rail,) = (rail for rail in report["sampling"]["rails"] if rail["part"] == "u76")
        stretch = report["power_over_time"]["stretches"][1]
        assert stretch["begin_s"] < rail["lost_at_s"] < stretch["end_s"]
        assert report["power_over_time"]["watts"]["ps"][-1] is None
        assert report["power_over_time"]["watts"]["pl"][-1] == pytest.approx(0.08)
        assert any("was lost after" in note and "has no figure" in note for note in report["notes"])

    def test_missing_ones_are_named_and_the_rest_summed(self, artifact, tmp_path):
        target, sysfs = fake_board(tmp_path)
        sysfs.remove("u81")
        rails = find_rails("zcu102", sysfs.class_hwmon)
        target = with_meter(target, rails)
        report = bench_board(artifact, TEXTS, board="zcu102", device=target, seconds=0.05, idle_s=0.05)
        assert problems(report) == [] and report["sampling"]["rails_missing"] == ["u81 VCCBRAM"]
        assert values(report)["power_pl"] == pytest.approx(0.07)
        assert any("does not show u81 VCCBRAM: the board takes more" in note for note in report["notes"])

    def test_a_ps_without_any_leaves_the_sum_unknown(self, artifact, tmp_path):
        sysfs = FakeSysfs(tmp_path / "pl alone")
        sysfs.add("u79", 2)
        target = with_meter(fake_board(tmp_path / "board")[0], find_rails("zcu102", sysfs.class_hwmon))
        report = bench_board(artifact, TEXTS, board="zcu102", device=target, seconds=0.05, idle_s=0.05)
        assert problems(report) == [] and values(report)["power"] is None
        assert report["figures"]["power_ps"]["why"] == "the kernel shows no sensor of the PS"
        assert values(report)["power_pl"] == pytest.approx(0)

    def test_none_at_all(self, artifact, tmp_path, monkeypatch):
        monkeypatch.setattr("zynqbert.host.meter.find_rails", lambda board: find_rails(board, tmp_path / "none"))
        target = with_meter(fake_board(tmp_path / "board")[0], None)
        report = bench_board(artifact, TEXTS, board="zcu102", device=target, seconds=0.05, idle_s=0.05)
        assert problems(report) == [] and report["sampling"] is None
        assert "docs/troubleshooting.md, sensors" in report["figures"]["fps_per_watt"]["why"]
        assert sources(report, ["fps", "latency"]) == {"measured"} and values(report)["fps"] > 0


def with_meter(target, rails):
    """The target with a board's meter of these rails."""
    return type(target)(**vars(target) | {"meter": lambda plan: BoardMeter("zcu102", rails)})


class TestFigures:
    @pytest.mark.parametrize(
        "values, percent, expected",
        [
            ([5.0], 50, 5.0),
            ([5.0], 99, 5.0),
            ([4, 1, 3, 2], 50, 2),
            ([4, 1, 3, 2], 51, 3),
            ([4, 1, 3, 2], 75, 3),
            ([4, 1, 3, 2], 100, 4),
            (range(1, 101), 99, 99),
            (range(1, 101), 90, 90),
            (range(1, 201), 99, 198),
            (range(1, 11), 99, 10),
        ],
    )
    def test_percentile_is_one_of_the_values(self, values, percent, expected):
        assert percentile(list(values), percent) == expected

    def test_above_idle_is_known_where_both_are(self):
        above = Watts({"pl": 5.0, "ps": 2.0}).above(Watts({"pl": 3.0, "ps": None}, "lost"))
        assert (above.groups, above.total, above.why) == ({"pl": 2.0, "ps": None}, None, "lost")
        assert Watts({"pl": 5.0, "ps": 2.0}).total == 7 and Watts({}, "none").total is None

    def test_a_text_without_an_answer_ends_it(self):
        class Engine:
            def stream(self, texts):
                yield Result(text=texts[0], clock_mhz=250, truncated=False, error="engine: not done after 10 s")

        with pytest.raises(HostError, match="not done after 10 s; the benchmark ends here, at the text 'w4'"):
            answered(Engine(), "w4")


class TestSchema:
    def test_it_is_one(self):
        jsonschema.Draft202012Validator.check_schema(SCHEMA)

    @pytest.mark.parametrize("name", ["modelled", "measured", "lost"])
    def test_real_reports_keep_to_it(self, reports, name):
        assert problems(reports[name]) == []

    @pytest.mark.parametrize(
        "name, path, value",
        [
            ("modelled", ("figures", "fps", "source"), "measured"),
            ("modelled", ("figures", "fps_end_to_end", "source"), "measured"),
            ("modelled", ("figures", "power", "value"), None),
            ("modelled", ("sentences", "source"), "measured"),
            ("modelled", ("latencies", "source"), "measured"),
            ("modelled", ("bitstream",), {"path": "x", "manifest": None}),
            ("modelled", ("settings", "idle_s"), 2.0),
            ("measured", ("figures", "fps", "source"), "modelled"),
            ("measured", ("settings", "device"), "emulated zcu102"),
            ("measured", ("figures", "fps", "unit"), "W"),
            ("measured", ("figures", "fps"), 12.0),
            ("measured", ("figures", "fps", "value"), 0),
            ("measured", ("figures", "speed"), {"value": 1, "unit": "fps", "source": "measured"}),
            ("measured", ("figures", "power", "source"), "guessed"),
            ("measured", ("power_model",), {}),
            ("lost", ("figures", "power"), {"value": None, "unit": "W", "source": "measured"}),
            ("measured", ("version",), 2),
        ],
    )
    def test_it_refuses(self, reports, name, path, value):
        report = json.loads(json.dumps(reports[name]))
        at = report
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        assert problems(report)

    @pytest.mark.parametrize("name", ["power", "fps_end_to_end", "kernel_latency_p99", "truncated"])
    def test_no_figure_may_be_missing(self, reports, name):
        report = json.loads(json.dumps(reports["measured"]))
        del report["figures"][name]
        assert problems(report)


class TestBadInput:
    @pytest.mark.parametrize(
        "texts, seconds, said",
        [([], 1, "no sentence to run; remedy"), (["w4"], 0, "must be more than 0"), (["w4"], float("nan"), "must be")],
    )
    def test_refused_before_anything_runs(self, artifact, texts, seconds, said):
        with pytest.raises(ValueError, match=said):
            bench_board(artifact, texts, board="zcu102", device="emulated", seconds=seconds)


class TestCommand:
    @pytest.fixture
    def call(self, capsys, artifact):
        def run(*arguments, emulated=True):
            device = ["--device", "emulated"] if emulated else []
            code = cli.call(["bench", "board", "--artifact", str(artifact), *device, *map(str, arguments)])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        return run

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "texts.txt"
        path.write_text("\n".join(TEXTS) + "\n")
        return path

    def test_json(self, call, file):
        code, out, err = call("--file", file, "--format", "json", "--board", "zcu111", "--clock-mhz", 100)
        report = json.loads(out)
        assert (code, err, problems(report)) == (0, "", [])
        assert report["settings"]["device"] == "emulated zcu111" and report["settings"]["clock_mhz"] == 100
        assert report["settings"]["texts_from"] == str(file) and report["settings"]["sentences"] == len(TEXTS)

    def test_text(self, call, file):
        code, out, err = call("--file", file)
        assert (code, err) == (0, "")
        assert "modelled" in out and out.startswith("zynqbert on emulated zcu102: 250 MHz")

    def test_files(self, call, file, tmp_path):
        code, out, err = call(
            "--file", file, "--format", "json", "--out", tmp_path / "b.json", "--html", tmp_path / "b.html"
        )
        assert (code, out, err) == (0, "", "")
        assert problems(json.loads((tmp_path / "b.json").read_text())) == []
        assert (tmp_path / "b.html").read_text().startswith("<!doctype html>")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b.html", "b.json", "texts.txt"]

    def test_as_many_sentences_as_asked(self, call, file):
        _, out, _ = call("--file", file, "--sentences", 2, "--format", "json")
        assert json.loads(out)["sentences"]["tokens"] == [5, 3]

    def test_without_a_file(self, call, monkeypatch):
        monkeypatch.setattr("zynqbert.host.demo.load_examples", lambda offline: ([], "no network") if offline else None)
        code, _, err = call("--offline")
        assert code == 2 and "no network" in err and "no sentence" in err

    @pytest.mark.parametrize(
        "arguments, said",
        [
            (["--file", "nowhere.txt"], "nowhere.txt: no such file"),
            (["--html", "nowhere/b.html"], "nowhere/b.html: there is no folder"),
            (["--out", "nowhere/b.json"], "nowhere/b.json: there is no folder"),
            (["--pairs"], "--pairs is about the lines of a file"),
            (["--sentences", "0"], "sentences"),
            (["--seconds", "0"], "seconds"),
            (["--format", "yaml"], "format"),
            (["--clock-mhz", "900"], "900"),
        ],
    )
    def test_refused(self, call, file, arguments, said, monkeypatch):
        monkeypatch.chdir(file.parent)
        needed = [] if {"--file", "--pairs"} & {*arguments} else ["--file", file]
        code, out, err = call(*needed, *arguments)
        assert (code, out) == (2, "") and said in err and err.count("\n") == 1

    def test_an_empty_file(self, call, tmp_path):
        (tmp_path / "empty.txt").touch()
        code, _, err = call("--file", tmp_path / "empty.txt")
        assert code == 2 and "empty.txt: no sentence; remedy" in err

    def test_a_board_that_is_none(self, call, file):
        code, out, err = call("--file", file, "--device", "board", emulated=False)
        assert (code, out) == (2, "") and "no board" in err

    def test_a_file_is_written_whole_or_not_at_all(self, tmp_path, monkeypatch):
        path = tmp_path / "page.html"
        commands.write_whole(path, "old")
        monkeypatch.setattr("os.replace", lambda *paths: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            commands.write_whole(path, "new")
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_every_figure_has_a_row_in_the_report(reports):
    shown = {name for _, rows in bench_report.TABLES for name, _ in rows}
    assert shown == set(reports["measured"]["figures"])
