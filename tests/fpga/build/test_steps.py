# SPDX-License-Identifier: Apache-2.0
"""The chain of steps, run with stub tools: order, gates, what is skipped and what done again, failures, interrupts."""

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_vitis import UNIFIED, calls, install
from zynqbert.fpga.boards import board_named
from zynqbert.fpga.build import steps
from zynqbert.fpga.build.run import ToolFailed
from zynqbert.fpga.build.source import UNITS
from zynqbert.fpga.build.steps import Build, BuildFailed, Event
from zynqbert.fpga.build.tools import find_hls
from zynqbert.fpga.simulator import ROOT


class Bench:
    """A build in a folder of its own, with a copy of the sources that a test may change."""

    def __init__(self, folder: Path, monkeypatch, *names: str) -> None:
        self.monkeypatch = monkeypatch
        self.log = folder / "calls.jsonl"
        self.out = folder / "out"
        self.root = folder / "fpga"
        for part in ("kernels", "top", "hooks", "types", "sim", "testbench"):
            shutil.copytree(ROOT / part, self.root / part)
        monkeypatch.setenv("ZQ_FAKE_LOG", str(self.log))
        monkeypatch.delenv("ZQ_FAKE", raising=False)
        tool = find_hls(install(folder / "bin", *names))
        self.build = Build(board_named("zcu102"), 300, self.out, tool, jobs=3, root=self.root)
        self.events: list[Event] = []

    def fake(self, **how) -> None:
        self.monkeypatch.setenv("ZQ_FAKE", json.dumps(how))

    def run(self, last: str, **changes) -> list[str]:
        """Build up to `last`; what the tools were called for, as "csynth engine_load"."""
        before, self.events = len(calls(self.log)), []
        fresh = replace(self.build, stop=threading.Event(), **changes)
        try:
            self.result = steps.run(fresh, last, self.events.append, print)
        finally:
            self.called = [self._name(call) for call in calls(self.log)[before:]]
        return sorted(self.called)

    @staticmethod
    def _name(call: dict) -> str:
        """The step, by the command line alone, and the unit, by the folder it ran in."""
        argv, unit = call["argv"], Path(call["cwd"]).name
        if argv[-1].endswith(".tcl"):
            return f"{argv[-1].removesuffix('.tcl')} {unit}"
        if argv[0] == "v++":
            return f"{'csynth' if argv[-1] == 'csynth' else 'cosim-csynth'} {unit}"
        return f"{ {'--csim': 'csim', '--cosim': 'cosim', '--package': 'ip'}[argv[3]] } {unit}"

    def states(self, step: str) -> dict[str, str]:
        """The last state that was told of each unit."""
        return {event.unit: event.state for event in self.events if event.step == step}


def all_of(*names: str, units=UNITS) -> list[str]:
    return sorted(f"{name} {unit}" for name in names for unit in units)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    return Bench(tmp_path, monkeypatch, *UNIFIED)


@pytest.mark.parametrize("names", [UNIFIED, ("vitis-run",), ("vitis_hls",)])
def test_every_flavour_goes_from_csim_to_ip(tmp_path, monkeypatch, names):
    bench = Bench(tmp_path, monkeypatch, *names)
    assert bench.run("ip") == all_of("csim", "csynth", "ip")
    for unit in UNITS:
        ip = bench.out / unit / "csynth" / "hls" / "impl" / "ip"
        vendor = "<spirit:vendor>zynqbert.org</spirit:vendor><spirit:library>hls</spirit:library>"
        assert vendor in (ip / "component.xml").read_text()
        assert (ip / f"zynqbert_org_hls_{unit}_1_0.zip").is_file()
    if len(names) == 1:  # cosim has a synthesis of its own in the same script
        assert bench.run("cosim") == all_of("cosim")
    else:
        assert bench.run("cosim") == all_of("cosim-csynth", "cosim")


@pytest.mark.parametrize(
    ("last", "called"),
    [
        ("csim", ("csim",)),
        ("csynth", ("csim", "csynth")),
        ("cosim", ("csim", "cosim-csynth", "cosim")),
        ("ip", ("csim", "csynth", "ip")),
    ],
)
def test_a_step_runs_what_it_needs(bench, last, called):
    assert bench.run(last) == all_of(*called)
    order = [name.split()[0].replace("cosim-csynth", "cosim") for name in bench.called]
    assert order == sorted(order, key=["csim", "csynth", "cosim", "ip"].index), "a step starts when the last has ended"


def test_a_second_run_runs_nothing(bench):
    bench.run("ip")
    assert bench.run("ip") == []
    for step in ("csim", "csynth", "ip"):
        assert bench.states(step) == dict.fromkeys(UNITS, "up to date")
    assert bench.run("ip", force=True) == all_of("csim", "csynth", "ip")


def test_a_kernel_header_that_is_touched_reruns_what_depends_on_it(bench):
    """store.hpp is in the store unit, and in the testbench of all."""
    bench.run("ip")
    header = bench.root / "kernels" / "store.hpp"
    header.write_text(header.read_text() + "// more\n")
    assert bench.run("ip") == [*all_of("csim"), "csynth engine_store", "ip engine_store"]
    assert bench.states("csynth")["engine_load"] == "up to date"


def test_ip_is_made_again_after_synthesis(bench):
    bench.run("ip")
    verilog = bench.out / "engine_load" / "csynth" / "hls" / "syn" / "verilog" / "engine_load.v"
    verilog.write_text("changed by hand\n")
    assert bench.run("ip") == ["csynth engine_load", "ip engine_load"]


def test_testbench_and_vectors_rerun_simulation_alone(bench):
    bench.run("ip")
    vector = next((bench.root / "testbench" / "vectors").glob("*-128.bin"))
    vector.write_bytes(vector.read_bytes() + b"x")
    assert bench.run("ip") == all_of("csim")
    other = next((bench.root / "testbench" / "vectors").glob("*-192.bin"))
    other.write_bytes(other.read_bytes() + b"x")
    assert bench.run("ip") == []


@pytest.mark.parametrize("change", [{"clock_mhz": 250}, {"board": board_named("zcu111")}])
def test_clock_and_board_rerun_everything(bench, change):
    bench.run("csynth")
    assert bench.run("csynth", **change) == all_of("csim", "csynth")


def test_another_version_of_the_tool_reruns_everything(bench):
    bench.run("csynth")
    newer = replace(bench.build.hls, version="2025.1")
    assert bench.run("csynth", hls=newer) == all_of("csim", "csynth")


@pytest.mark.parametrize("spoil", ["missing", "changed", "stamp"])
def test_a_result_that_is_gone_or_changed_is_made_again(bench, spoil):
    bench.run("ip")
    component = bench.out / "engine_array" / "csynth" / "hls" / "impl" / "ip" / "component.xml"
    if spoil == "missing":
        component.unlink()
    elif spoil == "changed":
        component.write_text("by hand")
    else:
        (bench.out / "engine_array" / "ip.stamp").write_text('{"inputs"')
    assert bench.run("ip") == ["ip engine_array"]


# What goes wrong.


def test_a_failing_tool(bench):
    bench.fake(fail="csynth:engine_vector", code=3)
    with pytest.raises(BuildFailed) as raised:
        bench.run("ip")
    log = bench.out / "engine_vector" / "csynth.log"
    assert str(raised.value) == f"csynth of engine_vector: v++ failed with exit code 3; its log: {log}"
    assert raised.value.details[0] == f"{log}:"
    assert raised.value.details[1:] == [
        *(f"INFO: line {n}" for n in range(26, 40)),
        "ERROR: [HLS 200-1] csynth of engine_vector went wrong",
    ]
    # the others went to their end, the next step did not start, and the failed one is all there is to do again
    assert sorted(bench.called) == all_of("csim", "csynth")
    assert bench.states("csynth") == {unit: "failed" if unit == "engine_vector" else "done" for unit in UNITS}
    bench.fake()
    assert bench.run("ip") == sorted(["csynth engine_vector", *all_of("ip")])


def test_failures_of_several_units_are_told_together(bench):
    bench.fake(estimated=3.2)
    with pytest.raises(BuildFailed) as raised:
        bench.run("csynth")
    assert str(raised.value) == "; ".join(f"csynth of {unit}: 1 of its gates not passed" for unit in UNITS)
    assert [line.split(":")[0] for line in raised.value.details] == list(UNITS)


def test_the_gate_stops_the_build_and_keeps_the_report(bench):
    bench.fake(ii={"weights_tile": 2})
    with pytest.raises(BuildFailed, match=r"^csynth of engine_weights: 1 of its gates not passed$") as raised:
        bench.run("ip")
    line = "engine_weights: loop weights_tile of weights_tile_beat_s_Pipeline_weights_tile: found II 2, wanted II 1"
    assert raised.value.details == [line]
    units = json.loads((bench.out / "csynth.json").read_text())["units"]
    assert {unit: content["failures"] for unit, content in units.items()} == {
        unit: [line] if unit == "engine_weights" else [] for unit in UNITS
    }
    # the same sources give the same report: it is judged again, not made again
    with pytest.raises(BuildFailed, match="1 of its gates not passed"):
        bench.run("ip")
    assert bench.called == []


def test_a_summary_of_all_units_is_written(bench):
    bench.run("csynth")
    content = json.loads((bench.out / "csynth.json").read_text())
    assert (content["board"], list(content["units"])) == ("zcu102", list(UNITS))
    assert content["units"]["engine_vector"] == json.loads((bench.out / "engine_vector" / "csynth.json").read_text())


def test_no_summary_of_an_older_synthesis_is_left(bench):
    bench.run("csynth")
    bench.fake(fail="csynth:engine_load")
    with pytest.raises(BuildFailed):
        bench.run("csynth", force=True)
    assert "engine_load" not in json.loads((bench.out / "csynth.json").read_text())["units"]


@pytest.mark.parametrize(
    ("silent", "last", "message"),
    [
        ("csim:engine_load", "csim", 'csim of engine_load: the log has no line "CSim done with 0 errors"'),
        ("csynth:engine_load", "csynth", "csynth of engine_load: the tool ended well, but wrote no csynth.xml"),
        ("ip:engine_load", "ip", "ip of engine_load: the tool ended well, but wrote no component.xml"),
        ("cosim:engine_load", "cosim", "cosim of engine_load: the log has no line"),
    ],
)
def test_exit_code_0_alone_is_no_success(bench, silent, last, message):
    bench.fake(silent=silent)
    with pytest.raises(BuildFailed) as raised:
        bench.run(last)
    assert message in str(raised.value)
    assert not (bench.out / "engine_load" / f"{last}.stamp").exists()


def test_an_old_report_is_never_read_for_a_new_one(bench):
    bench.run("csynth")
    bench.fake(silent="csynth:engine_load")
    with pytest.raises(BuildFailed, match=r"wrote no csynth\.xml"):
        bench.run("csynth", force=True)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_an_interrupted_step_leaves_no_stamp_and_no_process(bench):
    bench.run("csim")
    bench.fake(hang="csynth:engine_array")
    pids = Path(f"{bench.log}.pids")

    def interrupt() -> None:
        wait_for(pids.exists)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        bench.run("csynth", jobs=1)
    wait_for(lambda: not any(alive(int(pid)) for pid in pids.read_text().split()))
    assert not (bench.out / "engine_array" / "csynth.stamp").exists()
    bench.fake()
    done_before = [unit for unit in UNITS if UNITS.index(unit) < UNITS.index("engine_array")]
    assert bench.run("csynth", jobs=1) == all_of("csynth", units=[unit for unit in UNITS if unit not in done_before])


def test_a_folder_that_cannot_be_written(bench):
    bench.out.write_text("a file")
    with pytest.raises(OSError, match=r"^--out .*/out cannot be written \(.*\); remedy: name another folder$"):
        bench.run("csim")


def test_a_folder_with_a_space_is_refused(bench):
    with pytest.raises(ValueError, match=r"--out .* a space in its name"):
        bench.run("csim", out=bench.out / "a b")


def test_two_builds_in_one_folder(bench):
    with steps._folder(bench.out), pytest.raises(ValueError, match="another build works there; remedy"):
        bench.run("csim")
    assert bench.run("csim") == all_of("csim")


@pytest.mark.parametrize("mhz", [0, -1, 5, 2000, float("nan"), float("inf")])
def test_a_clock_out_of_reach_is_refused_at_once(bench, mhz):
    with pytest.raises(ValueError, match=r"^--clock-mhz: "):
        bench.run("csim", clock_mhz=mhz)
    assert bench.called == []


# The last step.


def test_bitstream_gets_the_ips_and_gives_the_manifest(bench, monkeypatch):
    seen = []

    def build_bitstream(board, clock_mhz, ip_folders, folder, vivado, log, *, force, predictor):
        assert predictor is None
        seen.append((board.name, clock_mhz, ip_folders, folder, vivado, force))
        assert all((path / "component.xml").is_file() for path in ip_folders.values())
        return folder / "manifest.json"

    monkeypatch.setattr(steps, "build_bitstream", build_bitstream)
    vivado = replace(bench.build.hls, name="vivado", flavour="vivado")
    assert bench.run("bitstream", vivado=vivado) == all_of("csim", "csynth", "ip")
    ips = {unit: bench.out / unit / "csynth" / "hls" / "impl" / "ip" for unit in UNITS}
    assert seen == [("zcu102", 300, ips, bench.out, vivado, False)]
    assert bench.result == bench.out / "manifest.json"
    assert [event.state for event in bench.events if event.step == "bitstream"] == ["started", "done"]


def test_no_bitstream_of_units_that_do_not_pass(bench, monkeypatch):
    monkeypatch.setattr(steps, "build_bitstream", lambda *_, **__: pytest.fail("must not be called"))
    bench.fake(ii={"gather": 2})
    with pytest.raises(BuildFailed, match="csynth of engine_vector"):
        bench.run("bitstream", vivado=bench.build.hls)


def test_a_failing_vivado_shows_its_log(bench, monkeypatch):
    log = bench.log.with_name("vivado.log")
    log.write_text("one\ntwo\n")

    def build_bitstream(*_, **__):
        raise ToolFailed(["/x/vivado"], 1, log)

    monkeypatch.setattr(steps, "build_bitstream", build_bitstream)
    with pytest.raises(BuildFailed) as raised:
        bench.run("bitstream", vivado=bench.build.hls)
    assert str(raised.value) == f"bitstream: vivado failed with exit code 1; its log: {log}"
    assert raised.value.details == [f"{log}:", "one", "two"]
