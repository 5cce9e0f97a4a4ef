# SPDX-License-Identifier: Apache-2.0
"""`zynqbert build` with stub tools: what it prints, its exit codes, one line an error."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_vitis import UNIFIED, calls, install
from predictor_project import make_project
from zynqbert.fpga.block_design import UNITS as IPS
from zynqbert.fpga.build import tools
from zynqbert.fpga.build.source import UNITS
from zynqbert.fpga.manifest import check_files, load_manifest
from zynqbert.host import cli


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run `zynqbert build` on stub tools: exit code, stdout, stderr."""
    monkeypatch.setattr(tools, "INSTALLATIONS", ())
    monkeypatch.setenv("ZQ_FAKE_LOG", str(tmp_path / "calls.jsonl"))
    monkeypatch.delenv("ZQ_FAKE", raising=False)
    monkeypatch.setenv("PATH", f"{install(tmp_path / 'bin', *UNIFIED)}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.call(["build", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_csynth_prints_steps_and_what_each_unit_came_to(call, tmp_path):
    code, out, err = call("--board", "zcu111", "--step", "csynth", "--jobs", "1")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"vitis-run 2024.2: {tmp_path}/bin/vitis-run"
    assert lines[1:3] == ["csim engine_fetch: started", "csim engine_fetch: done after 0 s"]
    assert lines[-9] == (
        "engine_fetch: estimated for 321.4 MHz; BRAM_18K 4, DSP 310, FF 5,120, LUT 7,700, URAM 0; "
        "assumptions: 2 confirmed, 0 contradicted"
    )
    assert lines[-2:] == ["build/zcu111/csynth.json: each loop and assumption", "build/zcu111"]
    first = calls(tmp_path / "calls.jsonl")[0]
    assert first == {
        "argv": ["vitis-run", "--mode", "hls", "--csim", "--config", "hls_config.cfg", "--work_dir", "csim"],
        "cwd": str(tmp_path / "build" / "zcu111" / "engine_fetch"),
    }


def test_a_second_call_does_nothing_and_says_so(call, tmp_path):
    call("--board", "zcu102", "--step", "csynth", "--out", "x")
    done = len(calls(tmp_path / "calls.jsonl"))
    code, out, _ = call("--board", "zcu102", "--step", "csynth", "--out", "x")
    assert code == 0
    told = sorted(line for line in out.splitlines() if "up to date" in line)
    assert told == sorted(f"{step} {unit}: up to date" for step in ("csim", "csynth") for unit in UNITS)
    assert len(calls(tmp_path / "calls.jsonl")) == done
    call("--board", "zcu102", "--step", "csynth", "--out", "x", "--force")
    assert len(calls(tmp_path / "calls.jsonl")) == 2 * done


def test_a_failing_tool_shows_its_log_and_one_line(call, monkeypatch):
    monkeypatch.setenv("ZQ_FAKE", json.dumps({"fail": "csim:engine_load", "code": 9}))
    code, _, err = call("--board", "zcu102", "--step", "csim", "--out", "x")
    lines = err.splitlines()
    assert code == 2
    assert lines[0] == "x/engine_load/csim.log:"
    assert lines[1:-1] == [
        *(f"INFO: line {n}" for n in range(26, 40)),
        "ERROR: [HLS 200-1] csim of engine_load went wrong",
    ]
    assert lines[-1] == (
        "zynqbert: csim of engine_load: vitis-run failed with exit code 9; its log: x/engine_load/csim.log"
    )


def test_a_gate_shows_what_was_found_and_wanted(call, monkeypatch):
    monkeypatch.setenv("ZQ_FAKE", json.dumps({"ii": {"array_mac": 2}, "missing": ["gather"]}))
    code, _, err = call("--board", "zcu102", "--step", "ip", "--out", "x")
    assert code == 2
    assert err.splitlines() == [
        "engine_array: loop array_mac of array_mac_Pipeline_array_mac: found II 2, wanted II 1",
        "engine_vector: loop gather: found 0 times in the report, wanted 1 (vector_gather), each with II 1",
        "zynqbert: csynth of engine_array: 1 of its gates not passed; "
        "csynth of engine_vector: 1 of its gates not passed",
    ]


def test_a_network_becomes_a_part_of_the_vector_unit(call, tmp_path):
    """Another network, and that unit is made again; the others stay."""
    project = make_project(tmp_path / "network")
    code, _, err = call("--board", "zcu102", "--step", "csynth", "--out", "x", "--predictor", "network")
    assert (code, err) == (0, "")
    told = {unit: (tmp_path / "x" / unit / "hls_config.cfg").read_text() for unit in UNITS}
    assert f"syn.file={project}/firmware/exit_predictor.cpp\n" in told.pop("engine_vector")
    assert not [unit for unit, text in told.items() if "predictor" in text]
    (project / "firmware" / "weights" / "w2.txt").write_text("0.25")
    done = len(calls(tmp_path / "calls.jsonl"))
    call("--board", "zcu102", "--step", "csynth", "--out", "x", "--predictor", "network")
    again = {Path(c["cwd"]).name for c in calls(tmp_path / "calls.jsonl")[done:]}
    assert again == {"engine_vector"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board", "zcu104"], "'zcu104' is not one of 'zcu102', 'zcu111'"),
        ([], "Missing option '--board'"),
        (["--board", "zcu102", "--step", "route"], "'route' is not one of 'csim', 'csynth', 'cosim', 'ip', 'bitstre"),
        (["--board", "zcu102", "--step", "csim", "--clock-mhz", "5000"], "--clock-mhz: clock of 5000 MHz is"),
        (["--board", "zcu102", "--step", "csim", "--clock-mhz", "fast"], "Invalid value for '--clock-mhz'"),
        (["--board", "zcu102", "--step", "csim", "--jobs", "0"], "Invalid value for '--jobs'"),
        (["--board", "zcu102", "--step", "csim", "--out", "/proc/none"], "--out /proc/none cannot be written"),
        (["--board", "zcu102", "--step", "csim", "--out", "a b"], "a space in its name"),
        (["--board", "zcu102", "--step", "csim", "--predictor", "none"], "none/predictor.json: cannot be read ("),
        (["--board", "zcu102", "--step", "csim", "--tools", "/none"], "Vitis HLS 2024.2 or newer not found: no usable"),
        (["--board", "zcu102"], "Vivado 2024.2 or newer not found: no usable vivado in $XILINX_VIVADO (not set), PATH"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(call, monkeypatch, tmp_path, arguments, message):
    monkeypatch.delenv("XILINX_VIVADO", raising=False)
    code, _, err = call(*arguments)
    assert code == 2
    assert err.startswith("zynqbert: ") and err.count("\n") == 1
    assert message in err
    assert calls(tmp_path / "calls.jsonl") == [], "nothing runs before all is known to be there"


def test_from_kernels_to_bitstream(call, monkeypatch, tmp_path):
    """The whole chain on stub tools; timing decides, and what is done is not done again."""
    install(tmp_path / "bin", "vivado")
    monkeypatch.setenv("ZQ_FAKE_VIVADO", json.dumps({"figures": {"wns": -0.25, "setup_failing": 7}}))
    code, _, err = call("--board", "zcu111", "--out", "x")
    assert code == 2
    assert err.startswith("zynqbert: timing is not met at 300 MHz: ") and "--clock-mhz 250" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x" / "manifest.json").exists()
    monkeypatch.delenv("ZQ_FAKE_VIVADO")
    code, out, err = call("--board", "zcu111", "--out", "x", "--clock-mhz", "250")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == [f"{name} 2024.2: {tmp_path}/bin/{name}" for name in ("vitis-run", "vivado")]
    assert out.splitlines()[-1] == f"{tmp_path}/x/manifest.json"
    manifest = load_manifest(tmp_path / "x" / "manifest.json")
    check_files(manifest, tmp_path / "x")
    assert (manifest.board, manifest.max_clock_mhz, list(manifest.csynth)) == ("zcu111", 250, list(IPS.values()))
    before = len(calls(tmp_path / "calls.jsonl"))
    assert call("--board", "zcu111", "--out", "x", "--clock-mhz", "250")[0] == 0
    assert len(calls(tmp_path / "calls.jsonl")) == before
    assert call("--board", "zcu111", "--out", "x", "--clock-mhz", "250", "--force")[0] == 0
    assert len(calls(tmp_path / "calls.jsonl")) == before + 3 * len(UNITS) + 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_tools_and_exits(tmp_path, number):
    """In a process of its own, as from a terminal."""
    log = tmp_path / "calls.jsonl"
    environment = os.environ | {"ZQ_FAKE_LOG": str(log), "ZQ_FAKE": json.dumps({"hang": "csim:engine_fetch"})}
    command = [sys.executable, "-m", "zynqbert.host.cli", "build", "--board", "zcu102", "--step", "csim"]
    command += ["--tools", str(install(tmp_path / "bin", *UNIFIED))]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    pids = Path(f"{log}.pids")
    end = time.monotonic() + 60
    while not pids.exists():
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(timeout=90) == 130
    process.stderr.close()
    left = [pid for pid in pids.read_text().split() if Path(f"/proc/{pid}").exists()]
    states = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] for pid in left]
    assert set(states) <= {"Z"}
    assert not list((tmp_path / "build" / "zcu102").glob("engine_fetch/*.stamp"))
