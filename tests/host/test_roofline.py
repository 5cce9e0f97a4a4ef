# SPDX-License-Identifier: Apache-2.0
"""`zynqbert estimate --plot` and `--sensitivity`: what they add agrees with the estimate, the picture holds it, and bad
names are refused before anything is computed."""

import contextlib
import io
import json
from xml.etree import ElementTree

import pytest
from documents import ROOT
from zynqbert.fpga.cycle_account import CAUSES
from zynqbert.fpga.rivals import RIVALS
from zynqbert.fpga.sensitivity import BREAKS, HEADLINE
from zynqbert.host import cli, roofline_text
from zynqbert.host import estimate as estimates

MINI = "--model", "minilm-l6", "--seq", "20"


@pytest.fixture
def call(capsys):
    """Run `zynqbert estimate`: exit code, stdout, stderr."""

    def run(*arguments):
        code = cli.call(["estimate", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Figures as JSON and the texts of the picture that was drawn with them."""
    folder, out = tmp_path_factory.mktemp("drawn"), io.StringIO()
    options = "--board", "zcu111", "--plot", str(folder / "roof.svg"), "--sensitivity", "--json"
    with contextlib.redirect_stdout(out):
        assert cli.call(["estimate", *MINI, *options]) == 0
    assert [path.name for path in folder.iterdir()] == ["roof.svg"]
    tree = ElementTree.parse(folder / "roof.svg")
    texts = ["".join(of.itertext()).strip() for of in tree.iter("{http://www.w3.org/2000/svg}text")]
    return json.loads(out.getvalue()), texts


def test_parts_and_roofline_are_the_estimates(drawn):
    figures, _ = drawn
    parts, roofline = figures["extra"]["parts"], figures["extra"]["roofline"]
    assert sum(part["cycles"] for part in parts) == figures["cycles"]
    assert sum(part["share"] for part in parts) == pytest.approx(1)
    assert all(sum(part["bound"].values()) == part["cycles"] for part in parts)
    busy = sum(part["busy"].get("array", 0) for part in parts)
    assert busy / figures["cycles"] == pytest.approx(figures["extra"]["busy"]["array"])
    assert {part["layer"] for part in parts} == {None, 1, 2, 3, 4, 5, 6}

    points = {point["tokens"]: point for point in roofline["points"]}
    assert list(points) == [16, 20, 32, 64, 128] and all(point["modelled"] for point in points.values())
    share = points[20]["gops"] / roofline["roof"]["peak_gops"]
    assert share == pytest.approx(figures["mac_utilization"])
    assert points[20]["gops"] < points[20]["attainable"] < roofline["roof"]["peak_gops"]
    assert [row["name"] for row in roofline["published"]] == [rival.name for rival in RIVALS]


def test_sensitivity_begins_with_the_headline(drawn):
    figures, _ = drawn
    rows = figures["extra"]["sensitivity"]
    assert len(rows) == 1 + len(BREAKS) and rows[0]["name"] == HEADLINE
    for name in ("cycles", "clock_mhz", "latency_ms", "mac_utilization", "power_w", "fps_per_w"):
        assert rows[0][name] == figures[name], name
    assert all(row["modelled"] for row in rows)
    ends = [row["fps_per_w"] for row in rows if row["name"].startswith("power at the ")]
    assert sorted(ends) == pytest.approx(figures["extra"]["fps_per_w_range"])


def test_the_picture_says_what_is_in_it(drawn):
    figures, texts = drawn
    assert f"minilm-l6 on ZCU111, 20 tokens at 250 MHz: {figures['latency_ms']:.2f} ms, modelled" in texts
    assert {"embedding", "layer 1", "layer 6", "head", "q/k/v", "ffn norm", "20 tokens"} <= set(texts)
    assert {rival.name for rival in RIVALS} <= set(texts)
    by_cause = {cause: sum(part["bound"].get(cause, 0) for part in figures["extra"]["parts"]) for cause in CAUSES}
    for cause, cycles in by_cause.items():
        assert (f"{cycles / figures['cycles']:.2%}  {CAUSES[cause]}" in texts) == (cycles > 0), cause
    # those whose traffic is not published are lines, which are named; those without GOPS are in the table alone
    named = [text for text in texts if text.startswith(("Jetson AGX Orin", "COBRA", "spatial dataflow"))]
    assert sorted(named) == [
        *("COBRA", "COBRA (binary)", "Jetson AGX Orin", "spatial dataflow", "spatial dataflow (w4a8, 512 tokens)")
    ]


def test_png_and_the_same_svg_again(call, tmp_path):
    for name in ("a.svg", "b.svg", "c.png"):
        assert call(*MINI, "--plot", tmp_path / name)[0] == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_text(call, tmp_path):
    code, out, err = call(*MINI, "--plot", tmp_path / "roof.svg", "--sensitivity")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    figures = json.loads(call(*MINI, "--json")[1])
    whole = next(words for words in lines if words[:1] == ["all"])
    assert int(whole[1]) == figures["cycles"] == sum(map(int, whole[3 : whole.index("|")]))
    assert f"{tmp_path / 'roof.svg'}: these cycles and the roofline" in out
    assert "with assumptions broken (docs/roofline.md), modelled" in out
    assert any(words[:6] == ["every", "loop", "at", "II", "=", "2"] and words[-1] == "A02" for words in lines)
    headline = next(words for words in lines if words[:2] == ["as", "assumed"])
    assert float(headline[2]) == pytest.approx(figures["latency_ms"], abs=5e-4)


def test_of_an_artifact_whose_name_is_no_formula(call, tmp_path):
    """A folder's last name stands in the picture, as it is."""
    (tmp_path / "a$b$c").symlink_to(ROOT / "artifacts" / "movie-reviews")
    code, out, _ = call("--artifact", tmp_path / "a$b$c", "--seq", "32", "--plot", tmp_path / "roof.svg", "--json")
    figures = json.loads(out)
    assert code == 0 and sum(part["cycles"] for part in figures["extra"]["parts"]) == figures["cycles"]
    assert ">a$b$c on ZCU102, 32 tokens at 250 MHz: " in (tmp_path / "roof.svg").read_text(encoding="utf-8")


def test_nothing_is_added_where_it_is_not_asked_for(call):
    extra = json.loads(call(*MINI, "--json")[1])["extra"]
    assert not {"parts", "roofline", "sensitivity"} & set(extra)


def test_a_bad_name_is_refused_before_anything_is_computed(call, tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "estimate", lambda *_, **__: pytest.fail("computed"))
    (tmp_path / "folder.svg").mkdir()
    for name, said in (
        ("roof.pdf", "a name that ends in .svg or .png is needed; remedy: --plot roof.svg"),
        ("roof", "a name that ends in .svg or .png is needed; remedy: --plot roof.svg"),
        ("none/roof.svg", f"there is no folder {tmp_path / 'none'}; remedy: mkdir -p {tmp_path / 'none'}"),
        ("folder.svg", "is a folder; remedy: "),
    ):
        code, out, err = call(*MINI, "--plot", tmp_path / name)
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert f"--plot {tmp_path / name}: {said}" in err
    assert [path.name for path in tmp_path.iterdir()] == ["folder.svg"]


def test_designs_beside_ours(drawn):
    figures, _ = drawn
    rows = {
        row[0]: dict(zip(roofline_text.DESIGN_HEAD, row, strict=True)) for row in roofline_text.design_rows(figures)
    }
    ours = rows.pop("zynqbert, modelled")
    assert ours["GOPS/W"] == f"{float(ours['GOPS']) / figures['power_w']:.0f}"
    assert ours["fps/W"].startswith(f"{figures['fps_per_w']:.1f} (")
    assert rows["FQ-BERT ZCU111 (16,16)"]["GOPS"] == "939*" and rows["FQ-BERT ZCU111 (16,16)"]["fps/W"] == "3.18"
    assert rows["COBRA"]["GOPS"] == "3895" and rows["COBRA"]["ms"] == "–"
    assert rows["Jetson AGX Orin"]["fps/W"] == "22 to 30*" and rows["Jetson AGX Orin"]["input"] == "BERT-base"


def test_where_assumptions_stand():
    assert roofline_text.numbers(()) == ""
    assert roofline_text.numbers(("ddr_efficiency", "ddr_peak_gb_s")) == "A14, A15"
    assert roofline_text.numbers([f"depth.{name}" for name in ("load_weights", "gather", "vector_copy")]) != ""
    assert " to " in roofline_text.numbers(
        BREAKS[[row.name for row in BREAKS].index("pipelines twice as deep")].assumptions
    )
