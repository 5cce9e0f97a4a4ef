# SPDX-License-Identifier: Apache-2.0
"""What the HLS tool is given: configuration, script and commands of every step; and that it compiles and passes."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from zynqbert.fpga.boards import BOARDS, board_named
from zynqbert.fpga.build import hls, source
from zynqbert.fpga.build.hls import Component, HlsSettingsError, configuration, plan, script
from zynqbert.fpga.build.tools import Tool
from zynqbert.fpga.simulator import ROOT, _ap_types

UNIFIED = Tool("vitis-run", Path("/x/bin/vitis-run"), "2025.1", "unified")
TCL = Tool("vitis-run", Path("/x/bin/vitis-run"), "2024.2", "vitis-run-tcl")
OLD = Tool("vitis_hls", Path("/x/bin/vitis_hls"), "2024.2", "vitis_hls")
LOAD = Component("engine_load", board_named("zcu102"), 300)
FLAGS = f"-std=c++17 -DZQ_COLUMNS=128 -I{ROOT}/hooks/vitis -I{ROOT}/kernels -I{ROOT}/types/exact"
RAMPS, ADAPTERS, BERT, ALBERT, BLOCKS = (
    f"{ROOT}/testbench/vectors/{name}-128.bin" for name in ("ramps", "adapters", "bert", "albert-tokens", "blocks")
)
OTHERS = [
    "testbench/testbench",
    *(f"top/engine_{unit}" for unit in ("fetch", "weights", "expand", "array", "vector", "store")),
]


def values(text: str) -> dict[str, list[str]]:
    """The keys of a configuration file, each with its values."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line:
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_configuration_of_a_free_running_unit():
    assert configuration(LOAD).splitlines() == [
        "# Written by zynqbert build.",
        "part=xczu9eg-ffvb1156-2-e",
        "",
        "[hls]",
        "flow_target=vivado",
        "clock=3.333ns",
        "clock_uncertainty=27%",
        f"syn.file={ROOT}/top/engine_load.cpp",
        "syn.top=engine_load",
        f"syn.cflags={FLAGS}",
        *(f"tb.file={ROOT}/{name}.cpp" for name in OTHERS),
        f"tb.cflags={FLAGS}",
        "syn.directive.interface=engine_load mode=ap_ctrl_none",
        f"csim.argv={RAMPS} {ADAPTERS} {BERT} {ALBERT} {BLOCKS}",
        "csim.O=true",
        "package.output.format=ip_catalog",
        "package.output.syn=false",
        "package.ip.vendor=zynqbert.org",
        "package.ip.library=hls",
        "package.ip.name=engine_load",
        "package.ip.version=1.0",
    ]


def test_cosim_keeps_the_default_protocol_and_takes_the_smallest_vectors():
    text = configuration(LOAD, cosim=True)
    assert values(text)["cosim.argv"] == [RAMPS]
    assert values(text)["cosim.rtl"] == ["verilog"]
    assert "ap_ctrl_none" not in text
    assert not [key for key in values(text) if key.startswith(("csim.", "package."))]
    shared = {key: value for key, value in values(configuration(LOAD)).items() if key in values(text)}
    assert shared == {key: value for key, value in values(text).items() if not key.startswith("cosim.")}


@pytest.mark.parametrize("unit", source.UNITS)
def test_every_unit_but_fetch_is_free_running(unit):
    component = replace(LOAD, unit=unit)
    wanted = None if unit == "engine_fetch" else [f"{unit} mode=ap_ctrl_none"]
    assert values(configuration(component)).get("syn.directive.interface") == wanted
    directive = f"set_directive_interface -mode ap_ctrl_none {unit}"
    assert (directive in script(component, "csynth")) == (wanted is not None)
    for step in ("csim", "cosim", "ip"):
        assert "ap_ctrl_none" not in script(component, step)


def test_boards_differ_by_part_columns_and_vectors_alone():
    one = configuration(LOAD)
    other = configuration(replace(LOAD, board=board_named("zcu111")))
    assert other == one.replace("xczu9eg-ffvb1156-2-e", "xczu28dr-ffvg1517-2-e").replace("=128", "=192").replace(
        "-128.bin", "-192.bin"
    )


@pytest.mark.parametrize(("mhz", "period"), [(300, "3.333"), (250, "4.000"), (150, "6.666"), (200, "5.000")])
def test_the_period_is_never_longer_than_asked_for(mhz, period):
    component = replace(LOAD, clock_mhz=mhz)
    assert values(configuration(component))["clock"] == [f"{period}ns"]
    assert f"create_clock -period {period}ns -name default" in script(component, "csynth")
    assert component.period_ns * mhz <= 1000


def test_scripts():
    start = [f"add_files -tb {{{ROOT}/{name}.cpp}} -cflags {{{FLAGS}}}" for name in OTHERS]
    start = [f"add_files {{{ROOT}/top/engine_load.cpp}} -cflags {{{FLAGS}}}", *start]
    start = ["set_top engine_load", *start, "open_solution -reset hls -flow_target vivado"]
    start += ["set_part {xczu9eg-ffvb1156-2-e}", "create_clock -period 3.333ns -name default"]
    start += ["set_clock_uncertainty 27%"]
    bodies = {
        "csim": [
            "open_project -reset csim",
            *start,
            f"csim_design -O -argv {{{RAMPS} {ADAPTERS} {BERT} {ALBERT} {BLOCKS}}}",
        ],
        "csynth": [
            "open_project -reset csynth",
            *start,
            "set_directive_interface -mode ap_ctrl_none engine_load",
            "csynth_design",
        ],
        "cosim": [
            "open_project -reset cosim",
            *start,
            "csynth_design",
            f"cosim_design -O -rtl verilog -argv {{{RAMPS}}}",
        ],
        "ip": [
            "open_project csynth",
            "open_solution hls",
            "export_design -format ip_catalog -vendor zynqbert.org -library hls -ipname engine_load -version 1.0",
        ],
    }
    for step, body in bodies.items():
        head = ["# Written by zynqbert build.", "if {[catch {"]
        end = ["} message]} {", "  puts stderr $message", "  exit 1", "}", "exit 0"]
        assert script(LOAD, step).splitlines() == [*head, *(f"  {line}" for line in body), *end], step


def test_command_lines_of_the_unified_flow():
    run, compiler = "/x/bin/vitis-run", "/x/bin/v++"
    build = ("--config", "hls_config.cfg", "--work_dir")
    cosim = ("--config", "hls_cosim.cfg", "--work_dir", "cosim")
    expected = {
        "csim": ("csim", [("csim.log", (run, "--mode", "hls", "--csim", *build, "csim"))]),
        "csynth": ("csynth", [("csynth.log", (compiler, "-c", "--mode", "hls", *build, "csynth"))]),
        "cosim": (
            "cosim",
            [
                ("cosim-csynth.log", (compiler, "-c", "--mode", "hls", *cosim)),
                ("cosim.log", (run, "--mode", "hls", "--cosim", *cosim)),
            ],
        ),
        "ip": (None, [("ip.log", (run, "--mode", "hls", "--package", *build, "csynth"))]),
    }
    for step, (afresh, commands) in expected.items():
        made = plan(UNIFIED, LOAD, step)
        name = "hls_cosim.cfg" if step == "cosim" else "hls_config.cfg"
        assert made.files == {name: configuration(LOAD, cosim=step == "cosim")}, step
        assert (made.afresh, list(made.commands)) == (afresh, commands), step


@pytest.mark.parametrize(
    ("tool", "start"), [(OLD, ("/x/bin/vitis_hls", "-f")), (TCL, ("/x/bin/vitis-run", "--mode", "hls", "--tcl"))]
)
def test_command_lines_of_the_scripted_flows(tool, start):
    for step in hls.UNIT_STEPS:
        made = plan(tool, LOAD, step)
        assert made.files == {f"{step}.tcl": script(LOAD, step)}
        assert made.commands == ((f"{step}.log", (*start, f"{step}.tcl")),)
        assert made.afresh == (None if step == "ip" else step)


def test_both_flows_write_to_the_same_places():
    """The solution is named as the folder that the unified flow makes in its work folder."""
    for step, work in hls.WORK_FOLDERS.items():
        assert f"open_project -reset {work}" in script(LOAD, step)
        assert plan(UNIFIED, LOAD, step).commands[0][1][-1] == work
    assert hls.REPORTS.startswith("csynth/hls/") and hls.IP.startswith("csynth/hls/")


def test_a_space_in_the_package_folder_is_refused(tmp_path):
    with pytest.raises(HlsSettingsError, match="cannot hold a space; remedy"):
        plan(UNIFIED, replace(LOAD, root=tmp_path / "with space"), "csim")


def test_missing_vectors_are_an_error(tmp_path):
    with pytest.raises(HlsSettingsError, match=r"no test vectors \*-128\.bin"):
        configuration(replace(LOAD, root=tmp_path))


def test_every_path_is_there():
    for unit in source.UNITS:
        for board in BOARDS.values():
            found = values(configuration(Component(unit, board, 300)))
            flags = found["syn.cflags"][0].split()
            paths = found["syn.file"] + found["tb.file"] + found["csim.argv"][0].split()
            paths += [flag[2:] for flag in flags if flag.startswith("-I")]
            assert all(Path(path).is_absolute() and Path(path).exists() for path in paths)
            tops = [path for path in paths if "/top/" in path]
            assert sorted(tops) == sorted(f"{ROOT}/top/{name}.cpp" for name in source.UNITS)


def test_our_own_stream_stays_out_of_the_tools_way():
    """sim/ has an hls_stream.h: on the include path it would hide the tool's."""
    assert all(not (ROOT / folder / "hls_stream.h").exists() for folder in source.INCLUDE_FOLDERS)
    for name in ("testbench/testbench.cpp", *(f"top/{unit}.cpp" for unit in source.UNITS)):
        assert all(path.name != "hls_stream.h" for path in source.files_of(ROOT / name, ROOT)), name


def test_what_the_configuration_says_compiles_and_passes(tmp_path):
    """csim by g++ instead of the tool: its files, flags and arguments, the ap_int and stream headers of hls4ml."""
    found = values(configuration(Component("engine_vector", board_named("zcu111"), 300)))
    assert found["syn.cflags"] == found["tb.cflags"]
    program = tmp_path / "csim"
    command = [shutil.which("g++"), *found["syn.cflags"][0].split(), "-O0", "-w", "-isystem", str(_ap_types())]
    made = subprocess.run(
        [*command, *found["syn.file"], *found["tb.file"], "-o", str(program)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[:2000]
    vectors = found["csim.argv"][0].split()
    run = subprocess.run([program, *vectors], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[:2000]
    assert all(f"{path}: equal" in run.stdout for path in vectors)
    broken = bytearray(Path(vectors[0]).read_bytes())
    broken[-1] ^= 1
    (tmp_path / "broken.bin").write_bytes(broken)
    run = subprocess.run([program, tmp_path / "broken.bin"], capture_output=True, text=True, check=False)
    assert run.returncode != 0


# What the source says about a unit.


def test_every_pipeline_of_the_kernels_belongs_to_a_unit():
    found = set()
    for unit in source.UNITS:
        pipelines = source.pipelines_of(unit, ROOT)
        found |= {(loop.function, loop.label) for loop in pipelines.loops}
        found |= {(name, None) for name in pipelines.functions}
    written = sum(
        len(re.findall(r"#pragma HLS PIPELINE II = 1\b", path.read_text())) for path in (ROOT / "kernels").glob("*.hpp")
    )
    assert len(found) == written > 20


def test_a_unit_has_the_loops_that_it_calls_not_those_that_it_includes():
    """fetch includes load.hpp by way of the commands, but runs none of its loops."""
    includes = source.files_of(source.top_of("engine_fetch", ROOT), ROOT)
    assert ROOT / "kernels" / "load.hpp" in includes
    assert [loop.label for loop in source.pipelines_of("engine_fetch", ROOT).loops] == [
        "read_directory",
        "read_instruction",
        "read_spans",
    ]


def test_a_flattened_loop_may_have_the_joined_name():
    (loop,) = source.pipelines_of("engine_store", ROOT).loops
    assert (loop.label, loop.outer) == ("store_beats", ("store_words",))
    assert loop.names == {"store_beats", "store_words_store_beats"}


def test_files_of_a_unit_are_those_that_the_compiler_reads(tmp_path):
    for unit in source.UNITS:
        top = source.top_of(unit, ROOT)
        command = ["g++", *Component(unit, board_named("zcu102"), 300).flags.split(), "-isystem", str(_ap_types())]
        made = subprocess.run([*command, "-MM", str(top)], capture_output=True, text=True, check=True)
        read = {Path(word).resolve() for word in made.stdout.replace("\\\n", " ").split()[1:]}
        with_network = {ROOT / "kernels" / "exit_network.hpp"} if unit == "engine_vector" else set()
        assert set(source.files_of(top, ROOT)) == read | with_network


def test_an_include_that_is_gone_is_named(tmp_path):
    (tmp_path / "a.cpp").write_text('#include "gone.hpp"\n')
    with pytest.raises(source.SourceError, match=r'a\.cpp: #include "gone\.hpp" is not found; remedy'):
        source.files_of(tmp_path / "a.cpp", tmp_path)


def test_a_pipeline_without_a_label_is_refused(tmp_path):
    (tmp_path / "top").mkdir()
    text = "void engine_store() {\n  for (int i = 0; i < 3; ++i) {\n#pragma HLS PIPELINE II = 1\n  }\n}\n"
    (tmp_path / "top" / "engine_store.cpp").write_text(text)
    with pytest.raises(source.SourceError, match="belongs to no labelled loop"):
        source.pipelines_of("engine_store", tmp_path)
