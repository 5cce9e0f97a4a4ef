# SPDX-License-Identifier: Apache-2.0
"""Where Vitis HLS and Vivado are looked for, which is taken, what is said when there is none; and how a tool is run."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_vitis import UNIFIED, install
from zynqbert.fpga.build import tools
from zynqbert.fpga.build.run import Stopped, ToolFailed, run_tool
from zynqbert.fpga.build.tools import Tool, ToolMissing, find_hls, find_vivado


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No installation in the usual places."""
    monkeypatch.setattr(tools, "INSTALLATIONS", (str(tmp_path / "tools"), str(tmp_path / "opt")))
    return tmp_path


def vivado(folder: Path, version: str = "2024.2") -> Path:
    folder.mkdir(parents=True)
    script = folder / "vivado"
    script.write_text(f"#!/bin/sh\n[ \"$*\" = -version ] && echo 'vivado v{version} (64-bit)'\n")
    script.chmod(0o755)
    return folder


def path_of(*folders: Path) -> dict[str, str]:
    return {"PATH": os.pathsep.join(map(str, folders))}


def test_the_flavour_is_told_by_what_stands_together(nowhere):
    both = install(nowhere / "both", *UNIFIED)
    alone = install(nowhere / "alone", "vitis-run")
    old = install(nowhere / "old", "vitis_hls")
    assert find_hls(environment=path_of(both)) == Tool("vitis-run", both / "vitis-run", "2024.2", "unified")
    assert find_hls(environment=path_of(alone)) == Tool("vitis-run", alone / "vitis-run", "2024.2", "vitis-run-tcl")
    assert find_hls(environment=path_of(old)) == Tool("vitis_hls", old / "vitis_hls", "2024.2", "vitis_hls")
    assert find_hls(environment=path_of(both)).compiler == both / "v++"


def test_vivado_is_found_and_its_version_read(nowhere):
    folder = vivado(nowhere / "bin", "2025.1.1")
    assert find_vivado(environment=path_of(folder)) == Tool("vivado", folder / "vivado", "2025.1.1", "vivado")


def test_order_of_places(nowhere):
    """--tools alone, then the variables, then PATH, then the usual places with the newest first."""
    given = install(nowhere / "given" / "Vitis" / "2024.2" / "bin", *UNIFIED, version="2024.2")
    variable = install(nowhere / "variable" / "bin", *UNIFIED, version="2025.1")
    on_path = install(nowhere / "path", *UNIFIED, version="2025.2")
    oldest = install(nowhere / "tools" / "Vitis_HLS" / "2024.2" / "bin", "vitis_hls", version="2024.2")
    newest = install(nowhere / "tools" / "2025.10" / "Vitis" / "bin", *UNIFIED, version="2025.10")
    install(nowhere / "tools" / "Vitis" / "2025.9" / "bin", *UNIFIED, version="2025.9")
    environment = path_of(on_path) | {"XILINX_VITIS": str(nowhere / "variable")}
    assert find_hls(nowhere / "given", environment).path.parent == given
    assert find_hls(None, environment).path.parent == variable
    assert find_hls(None, path_of(on_path)).path.parent == on_path
    assert find_hls(None, {}).path.parent == newest
    for tool in (*newest.iterdir(), *(nowhere / "tools" / "Vitis" / "2025.9" / "bin").iterdir()):
        tool.unlink()
    assert find_hls(None, {}).path.parent == oldest


@pytest.mark.parametrize("below", ["", "bin", "Vitis/bin", "Vitis/2024.2/bin", "2025.1/Vitis/bin"])
def test_tools_folder_in_every_layout(nowhere, below):
    found = install(nowhere / "given" / below, *UNIFIED)
    assert find_hls(nowhere / "given", {}).path.parent == found


def test_a_tool_is_named_from_the_root(nowhere, monkeypatch):
    """It is run in another folder than the one that the user stands in."""
    found = install(nowhere / "here" / "bin", *UNIFIED)
    monkeypatch.chdir(nowhere)
    assert find_hls(Path("here"), {}).path == found / "vitis-run"
    assert find_hls(None, {"PATH": "here/bin"}).path == found / "vitis-run"


def test_a_folder_that_is_given_is_the_only_one_searched(nowhere):
    on_path = install(nowhere / "path", *UNIFIED)
    with pytest.raises(ToolMissing, match=r"--tools .*empty"):
        find_hls(nowhere / "empty", path_of(on_path))


def test_a_tool_too_old_is_passed_by_and_named(nowhere):
    old = install(nowhere / "old", "vitis_hls", version="2023.2")
    new = install(nowhere / "new", *UNIFIED)
    assert find_hls(environment=path_of(old, new)).path.parent == new
    with pytest.raises(ToolMissing, match=rf"too old or unusable: {old}/vitis_hls is 2023\.2;"):
        find_hls(environment=path_of(old))


def test_a_tool_that_does_not_start_or_names_no_version_is_refused(nowhere):
    folder = nowhere / "bin"
    folder.mkdir()
    (folder / "vivado").write_text("#!/bin/sh\necho no licence\n")
    (folder / "vivado").chmod(0o755)
    with pytest.raises(ToolMissing, match="vivado does not tell its version"):
        find_vivado(environment=path_of(folder))


def test_what_is_missing_where_was_looked_and_the_remedy(nowhere):
    with pytest.raises(ToolMissing) as raised:
        find_hls(environment=path_of(nowhere / "a", nowhere / "b") | {"XILINX_HLS": "/gone"})
    message = str(raised.value)
    assert message.startswith("Vitis HLS 2024.2 or newer not found: no usable vitis-run or vitis_hls in ")
    for part in (
        "$XILINX_VITIS (not set), $XILINX_HLS (/gone), PATH",
        str(nowhere / "tools"),
        str(nowhere / "opt"),
        "settings64.sh",
        "--tools",
        "XCZU9EG",
        "XCZU28DR",
        "Enterprise",
        "all of zynqbert but `zynqbert build` runs without these tools",
    ):
        assert part in message, part
    with pytest.raises(ToolMissing, match=r"^Vivado 2024\.2 or newer not found: no usable vivado in "):
        find_vivado(environment={})


def test_run_tool_keeps_both_outputs_in_the_log(tmp_path):
    code = "import sys, os; print(os.getcwd()); sys.stderr.write('two'); sys.stdin.read()"
    run_tool([sys.executable, "-c", code], tmp_path, tmp_path / "x.log")
    assert sorted((tmp_path / "x.log").read_text().split()) == sorted([str(tmp_path), "two"])


def test_a_failing_tool_tells_code_log_and_its_last_lines(tmp_path):
    code = "import sys\nfor n in range(100): print('line', n)\nsys.exit(7)"
    with pytest.raises(ToolFailed) as raised:
        run_tool([sys.executable, "-c", code], tmp_path, tmp_path / "x.log")
    error = raised.value
    assert (error.code, error.log_file) == (7, tmp_path / "x.log")
    assert str(error) == f"{Path(sys.executable).name} failed with exit code 7; its log: {tmp_path / 'x.log'}"
    assert error.tail == [f"line {n}" for n in range(85, 100)]


def test_a_tool_ended_by_a_signal_says_so(tmp_path):
    with pytest.raises(ToolFailed, match="was ended by signal 9"):
        run_tool(["sh", "-c", "kill -9 $$"], tmp_path, tmp_path / "x.log")


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("ignores_term", [False, True])
def test_stopping_ends_the_whole_process_group(tmp_path, ignores_term):
    trap = "trap '' TERM; " if ignores_term else ""
    command = ["sh", "-c", f'sh -c "{trap}echo \\$\\$ > pid.new; mv pid.new pid; sleep 60" & wait']
    stop = threading.Event()
    caught = []

    def work() -> None:
        try:
            run_tool(command, tmp_path, tmp_path / "x.log", stop)
        except Stopped as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: (tmp_path / "pid").exists())
    stop.set()
    thread.join(timeout=20)
    assert caught
    wait_for(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_an_interrupt_ends_the_tool_and_goes_on(tmp_path):
    def interrupt() -> None:
        wait_for(lambda: (tmp_path / "pid").exists())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_tool(["sh", "-c", "echo $$ > pid.new; mv pid.new pid; sleep 60"], tmp_path, tmp_path / "x.log")
    assert not alive(int((tmp_path / "pid").read_text()))


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)
