# SPDX-License-Identifier: Apache-2.0
"""From IPs to bitstream and manifest by a stub of Vivado, which runs the build's own Tcl; what fails, what is kept."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import fake_vitis
import pytest
from zynqbert.fpga.block_design import UNITS
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.build import vivado
from zynqbert.fpga.build.run import ToolFailed
from zynqbert.fpga.build.tools import Tool, read_version
from zynqbert.fpga.build.vivado import TimingNotMet, VivadoFailed, build_bitstream, git_state, record_of
from zynqbert.fpga.build.vivado_reports import VivadoReportError
from zynqbert.fpga.capabilities import CAPABILITIES
from zynqbert.fpga.instructions import PROGRAM_VERSION
from zynqbert.fpga.manifest import UnitReport, Use, check_files, load_manifest

ZCU102 = BOARDS["zcu102"]
PUBLISHED = {"zynqbert.bit", "zynqbert.hwh", "manifest.json"}


@pytest.fixture(autouse=True)
def outside_of_git(monkeypatch, tmp_path):
    """Builds of these tests belong to no checkout, unless the test makes one."""
    monkeypatch.setattr(vivado, "CHECKOUT", tmp_path / "nowhere")
    monkeypatch.delenv("ZQ_FAKE_VIVADO", raising=False)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1735689600")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A build's folder with IPs and csynth.json, a stub of Vivado, and a way to build there."""
    out = tmp_path / "out"
    for unit in UNITS.values():
        ip = out / unit / "ip"
        (ip / "hdl").mkdir(parents=True)
        (ip / "component.xml").write_text(f"<component>{unit}</component>")
        (ip / "hdl" / f"{unit}.v").write_text(f"module {unit}; endmodule")
    numbers = {"LUT": 7700, "FF": 5120, "DSP": 310, "BRAM_18K": 4, "URAM": 0}
    unit = {"estimated_ns": 2.43, "target_ns": 3.333, "tool": "2024.2", "resources": numbers}
    (out / "csynth.json").write_text(json.dumps({"board": "zcu102", "units": dict.fromkeys(UNITS.values(), unit)}))
    tool = Tool("vivado", fake_vitis.install(tmp_path / "tools", "vivado") / "vivado", "2024.2", "vivado")
    calls = tmp_path / "calls.jsonl"
    monkeypatch.setenv("ZQ_FAKE_LOG", str(calls))
    said = []

    def build(board=ZCU102, clock_mhz=300, **options):
        ips = {unit: out / unit / "ip" for unit in UNITS.values()}
        return build_bitstream(board, clock_mhz, ips, out, tool, said.append, **options)

    def scripts():
        """Scripts run since the last time."""
        found = [Path(call["argv"][7]).stem for call in fake_vitis.calls(calls)]
        calls.unlink(missing_ok=True)
        return found

    def trouble(name="", **figures):
        monkeypatch.setenv("ZQ_FAKE_VIVADO", json.dumps({"trouble": name, "figures": figures}))

    return SimpleNamespace(out=out, build=build, scripts=scripts, trouble=trouble, calls=calls, tool=tool, said=said)


def published(place):
    return {path.name for path in place.out.iterdir() if path.is_file()} - {"csynth.json"}


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def test_stub_tells_its_version(place):
    assert read_version(place.tool.path) == "2024.2"


@pytest.mark.parametrize(("board", "outputs"), [("zcu102", (300, 200, 150, 100)), ("zcu111", (300, 200, 150, 100))])
def test_bitstream_and_manifest(place, board, outputs):
    path = place.build(BOARDS[board])
    assert path == place.out / "manifest.json"
    assert published(place) == PUBLISHED
    manifest = load_manifest(path)
    check_files(manifest, place.out)
    assert (manifest.board, manifest.part, manifest.columns) == (board, BOARDS[board].part, BOARDS[board].columns)
    assert (manifest.program_version, manifest.lanes, manifest.capabilities) == (PROGRAM_VERSION, 32, CAPABILITIES)
    assert (manifest.max_clock_mhz, manifest.wizard_outputs_mhz) == (300, outputs)
    assert (manifest.commit, manifest.modified, manifest.date) == ("unknown", False, "2025-01-01T00:00:00Z")
    assert manifest.tools == {"vivado": "2024.2", "vitis_hls": "2024.2"}
    assert manifest.utilization.bram36 == Use(633.5, 912)
    assert (manifest.timing.wns_ns, manifest.timing.met) == (0.021, True)
    assert set(manifest.csynth) == set(UNITS.values())
    assert manifest.csynth["engine_load"] == UnitReport(2.43, 3.333, 7700, 5120, 310, 4, 0)
    assert place.scripts() == ["design", "implement"]


def test_command_lines(place):
    place.build()
    work, scripts = str(place.out / "vivado"), Path(vivado.__file__).resolve().parent / "tcl"
    options = ["vivado", "-mode", "batch", "-notrace", "-nolog", "-nojournal", "-source"]
    assert fake_vitis.calls(place.calls) == [
        {"argv": [*options, str(scripts / f"{name}.tcl"), "-tclargs", "settings.tcl"], "cwd": work}
        for name in ("design", "implement")
    ]


def test_a_slower_clock_is_in_the_manifest(place):
    """What timing was met for is what output 0 gives, and no output is faster."""
    manifest = load_manifest(place.build(clock_mhz=250))
    assert (manifest.max_clock_mhz, manifest.wizard_outputs_mhz) == (250, (250, 200, 1000 / 7, 100))


def test_date_is_now_without_a_wish(place, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", load_manifest(place.build()).date)


def test_bad_date_is_refused(place, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ValueError, match="SOURCE_DATE_EPOCH is 'yesterday', must be seconds since 1970"):
        place.build()


# --- what is kept, what is done again --------------------------------------------------------------------------------


def test_nothing_is_done_twice(place):
    place.build()
    before = (place.out / "manifest.json").read_text()
    place.scripts()
    place.build()
    assert place.scripts() == []
    assert (place.out / "manifest.json").read_text() == before
    assert place.said[-2:] == ["block design: up to date", "implementation: up to date"]


def test_published_files_are_restored(place):
    place.build()
    place.scripts()
    (place.out / "zynqbert.bit").unlink()
    (place.out / "zynqbert.hwh").write_text("other")
    check_files(load_manifest(place.build()), place.out)
    assert place.scripts() == []


CHANGES = {
    "IP": lambda p: (p.out / "engine_load" / "ip" / "hdl" / "engine_load.v").write_text("module engine_load_2;"),
    "new file of an IP": lambda p: (p.out / "engine_load" / "ip" / "hdl" / "more.v").write_text(""),
    "project": lambda p: (p.out / "vivado" / "project" / "zynqbert.xpr").unlink(),
    "stamp": lambda p: (p.out / "vivado" / "design.stamp").write_text("{"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_made_again(place, change):
    place.build()
    place.scripts()
    CHANGES[change](place)
    place.build()
    assert place.scripts() == ["design", "implement"]


def test_other_clock_other_design(place):
    place.build()
    place.scripts()
    place.build(clock_mhz=200)
    assert place.scripts() == ["design", "implement"]


def test_other_version_of_vivado_makes_it_again(place):
    place.build()
    place.scripts()
    newer = Tool("vivado", place.tool.path, "2025.1", "vivado")
    ips = {unit: place.out / unit / "ip" for unit in UNITS.values()}
    build_bitstream(ZCU102, 300, ips, place.out, newer, place.said.append)
    assert place.scripts() == ["design", "implement"]


def test_force(place):
    place.build()
    place.scripts()
    place.build(force=True)
    assert place.scripts() == ["design", "implement"]


@pytest.mark.parametrize("name", ["zynqbert.bit", "reports/timing_summary.rpt"])
def test_results_that_were_touched_are_made_again(place, name):
    """The runs are complete: Vivado only reports and writes again."""
    place.build()
    place.scripts()
    (place.out / "vivado" / "results" / name).write_text("other")
    place.build()
    assert place.scripts() == ["implement"]
    assert "keeps impl_1" in (place.out / "vivado" / "implement.log").read_text()


def test_a_killed_implementation_goes_on(place):
    """Vivado dies in the middle: no stamp, no result; the next call keeps the block design and the complete run."""
    place.trouble("killed-impl_1")
    with pytest.raises(ToolFailed):
        place.build()
    runs = place.out / "vivado" / "project" / "runs.txt"
    runs.write_text(re.sub(r"(impl_1 \{PROGRESS) 100%", r"\1 62%", runs.read_text()))
    assert published(place) == set()
    place.scripts()
    place.trouble()
    place.build()
    assert place.scripts() == ["implement"]
    log = (place.out / "vivado" / "implement.log").read_text()
    assert "keeps synth_1" in log and "keeps impl_1" not in log


def test_a_cut_block_design_is_made_anew(place):
    place.trouble("validate")
    with pytest.raises(VivadoFailed):
        place.build()
    assert not list((place.out / "vivado").glob("*.stamp"))
    place.scripts()
    place.trouble()
    place.build()
    assert place.scripts() == ["design", "implement"]


# --- what fails ------------------------------------------------------------------------------------------------------


def test_timing_not_met(place):
    """No bitstream, not the one of before either; the message has the figure and a clock that may do."""
    place.build()
    place.trouble("", wns=-0.412, tns=-1312.5, setup_failing=20511)
    (place.out / "engine_load" / "ip" / "component.xml").write_text("<component>changed</component>")
    with pytest.raises(TimingNotMet) as error:
        place.build()
    message = one_line(error)
    assert message.startswith("timing is not met at 300 MHz: WNS -0.412 ns (20511 endpoints); no bitstream was made; ")
    assert "remedy: --clock-mhz 250 (the slack stands for 266 MHz)" in message
    assert message.endswith("vivado/results/reports/timing_summary.rpt")
    assert error.value.timing.tns_ns == -1312.5
    assert published(place) == set()
    assert not list((place.out / "vivado" / "results").glob("zynqbert.*"))


@pytest.mark.parametrize(
    ("clock_mhz", "figures", "said"),
    [
        (300, {"wns": -2.0, "setup_failing": 9}, "remedy: --clock-mhz 150 (the slack stands for 187 MHz)"),
        (300, {"wns": -9.0, "setup_failing": 9}, "remedy: --clock-mhz 100 (the slack stands for 81 MHz)"),
        (100, {"wns": -1.0, "setup_failing": 9}, "remedy: a slower clock by --clock-mhz (the slack stands for 90 MHz)"),
        (300, {"whs": -0.02, "ths": -0.1, "hold_failing": 4}, "WHS -0.020 ns (4 endpoints); no bitstream was made; "
         "no slower clock mends this: see"),
        (300, {"wpws": -0.1, "tpws": -0.3, "pulse_failing": 2}, "WPWS -0.100 ns (2 endpoints)"),
        (300, {"no_clock": 64}, "64 register pins without a clock; no bitstream was made; no slower clock mends this"),
    ],
)  # fmt: skip
def test_remedies_of_timing(place, clock_mhz, figures, said):
    """The last case passes the script's own gate: the report alone tells of it."""
    place.trouble("", **figures)
    with pytest.raises(TimingNotMet) as error:
        place.build(clock_mhz=clock_mhz)
    assert said in one_line(error)
    assert published(place) == set()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("no-board", r"block design: .*no board files xilinx.com:zcu102:part0.*remedy: .*install ZCU102; its log: "),
        ("no-part", r"block design: .*no part xczu9eg-ffvb1156-2-e; remedy: .*; its log: .*/vivado/design.log"),
        ("validate", r"block design: ERROR: \[Stub 1-1\] validation failed; its log: "),
        ("no-hwh", r"block design: Vivado ended well, but wrote no .*/hw_handoff/zynqbert.hwh; its log: "),
        ("fail-synth_1", r"implementation: synth_1 ended with 'synth_1 ERROR'; its log: .*runme.log; its log: "),
        ("no-bit", r"implementation: Vivado ended well, but wrote no .*/results/zynqbert.bit; its log: "),
    ],
)
def test_failures_are_told_in_one_line(place, trouble, said):
    place.trouble(trouble)
    with pytest.raises(VivadoFailed) as error:
        place.build()
    assert re.match(said, one_line(error)), one_line(error)
    assert published(place) == set()


def test_a_tool_that_gives_no_reason_fails_as_a_tool(place, monkeypatch):
    """Its log's end is for the caller to show."""
    monkeypatch.setenv("ZQ_FAKE_VIVADO", "no JSON")
    with pytest.raises(ToolFailed) as error:
        place.build()
    assert any("JSONDecodeError" in line for line in error.value.tail)


def test_a_report_without_its_figures_fails(place, monkeypatch):
    monkeypatch.setattr(vivado, "read_utilization", lambda path: (_ for _ in ()).throw(VivadoReportError(f"{path}: x")))
    with pytest.raises(VivadoReportError):
        place.build()
    assert published(place) == set()


def test_missing_ip(place):
    (place.out / "engine_vector" / "ip" / "component.xml").unlink()
    with pytest.raises(
        VivadoFailed, match=r"no IP of engine_vector \(component.xml in .*\); remedy: .*--step ip --force"
    ):
        place.build()
    assert place.scripts() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is missing"),
        ("{}", "has no 'units'"),
        ('{"units": {"engine_fetch": {"estimated_ns": 1}}}', "has no 'target_ns'"),
        ("[1]", "is no summary of csynth"),
        ("{", "is no summary of csynth"),
    ],
)
def test_summary_of_csynth_that_is_none(place, text, said):
    path = place.out / "csynth.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(VivadoFailed, match=rf"{path} {said}.*remedy: zynqbert build --step csynth --force"):
        place.build()


def test_clock_out_of_reach(place):
    with pytest.raises(ValueError, match="clock of 800 MHz is outside"):
        place.build(clock_mhz=800)


# --- git and the checkout's record -----------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A git tree with fpga/ and bitstreams/, one commit."""
    root = tmp_path / "checkout"
    for name in ("fpga", "bitstreams"):
        (root / name).mkdir(parents=True)
        (root / name / "README.md").write_text(name)
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for arguments in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", "-C", str(root), *arguments], check=True)
    return root


def head(root):
    return subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_commit_and_whether_the_hardware_differs(checkout):
    assert git_state(checkout) == (head(checkout), False)
    (checkout / "bitstreams" / "new").write_text("no part of the hardware")
    assert git_state(checkout) == (head(checkout), False)
    (checkout / "fpga" / "new.v").write_text("untracked")
    assert git_state(checkout) == (head(checkout), True)


def test_outside_of_git_the_commit_is_unknown(tmp_path, checkout, monkeypatch):
    """A package installed somewhere within another's tree is not of that commit."""
    plain = tmp_path / "plain"
    plain.mkdir()
    for folder in (plain, checkout / "fpga", tmp_path / "missing"):
        assert git_state(folder) == ("unknown", False)
    monkeypatch.setenv("PATH", "")
    assert git_state(checkout) == ("unknown", False)


def test_where_the_checkout_keeps_a_manifest(tmp_path, checkout):
    kept = checkout / "bitstreams" / "zcu102" / "manifest.json"
    assert record_of("zcu102", checkout / "build" / "zcu102", checkout) == kept
    assert record_of("zcu102", tmp_path / "elsewhere", checkout) is None
    shutil.rmtree(checkout / "bitstreams")
    assert record_of("zcu102", checkout / "build" / "zcu102", checkout) is None


def test_a_build_within_the_checkout_is_kept(place, checkout, monkeypatch):
    monkeypatch.setattr(vivado, "CHECKOUT", checkout)
    place.build()
    assert not (checkout / "bitstreams" / "zcu102").exists()
    within = checkout / "build" / "zcu102"
    shutil.copytree(place.out, within, ignore=shutil.ignore_patterns("vivado"))
    ips = {unit: within / unit / "ip" for unit in UNITS.values()}
    path = build_bitstream(ZCU102, 300, ips, within, place.tool, place.said.append)
    kept = checkout / "bitstreams" / "zcu102" / "manifest.json"
    assert kept.read_text() == path.read_text()
    assert load_manifest(kept).commit == head(checkout)
    assert place.said[-1] == f"manifest kept in {kept}"
    assert [p.name for p in kept.parent.iterdir()] == ["manifest.json"]
