# SPDX-License-Identifier: Apache-2.0
"""A network for the vector unit: its project read and refused, what the tools are told, and what the unit foretells."""

import ctypes
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from predictor_project import make_project
from zynqbert.fpga.boards import board_named
from zynqbert.fpga.build import source
from zynqbert.fpga.build.hls import Component, configuration, script
from zynqbert.fpga.build.predictor import PredictorError, read_predictor
from zynqbert.fpga.build.steps import Build
from zynqbert.fpga.simulator import ROOT, _ap_types

VECTOR = Component("engine_vector", board_named("zcu102"), 300)


@pytest.fixture
def project(tmp_path):
    return read_predictor(make_project(tmp_path / "network"))


def test_sources_are_what_synthesis_reads(project):
    names = [path.relative_to(project.folder).as_posix() for path in project.files]
    assert names == [
        "firmware/defines.h",
        "firmware/exit_predictor.cpp",
        "firmware/exit_predictor.h",
        "firmware/nnet_utils/nnet_common.h",
        "firmware/parameters.h",
        "firmware/weights/w2.txt",
    ]
    assert project.layers == 3


def test_the_digest_is_of_contents_and_names(project, tmp_path):
    other = make_project(tmp_path / "other")
    assert read_predictor(other).sha256 == project.sha256, "wherever it lies"
    (other / "firmware" / "ap_types" / "ap_fixed.h").write_text("")
    assert read_predictor(other).sha256 == project.sha256
    (other / "firmware" / "weights" / "w2.txt").write_text("0.6")
    assert read_predictor(other).sha256 != project.sha256
    shutil.rmtree(other)
    make_project(other)
    (other / "firmware" / "weights" / "w2.txt").rename(other / "firmware" / "weights" / "w3.txt")
    assert read_predictor(other).sha256 != project.sha256


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "x"}, "format is 'x', must be 'zynqbert-exit-predictor'"),
        ({"version": 2}, "version is 2, must be 1"),
        ({"version": True}, "version is True, must be 1"),
        ({"top": "myproject"}, "top is 'myproject', must be 'exit_predictor'"),
        ({"layers": 64}, "layers is 64, must be 1 .. 63"),
        ({"layers": 0}, "layers is 0, must be 1 .. 63"),
        ({"layers": "12"}, "layers is '12', must be 1 .. 63"),
        ({"layers": True}, "layers is True, must be 1 .. 63"),
    ],
)
def test_a_field_that_is_wrong_is_named(tmp_path, changed, message):
    folder = make_project(tmp_path / "network", **changed)
    with pytest.raises(PredictorError) as error:
        read_predictor(folder)
    assert str(error.value) == f"--predictor {folder}/predictor.json: {message}; remedy: export the predictor again"


@pytest.mark.parametrize("gone", ["exit_predictor.cpp", "exit_predictor.h", "defines.h", "parameters.h"])
def test_a_file_that_is_missing_is_named(tmp_path, gone):
    folder = make_project(tmp_path / "network")
    (folder / "firmware" / gone).unlink()
    with pytest.raises(PredictorError, match=rf"firmware/{gone}: is missing; remedy: "):
        read_predictor(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'])
def test_what_is_no_object_is_refused(tmp_path, text):
    folder = make_project(tmp_path / "network")
    (folder / "predictor.json").write_text(text)
    with pytest.raises(PredictorError, match=r"predictor.json: .*; remedy: export the predictor again"):
        read_predictor(folder)


def test_a_folder_that_is_none_or_has_a_space_is_refused(tmp_path):
    with pytest.raises(PredictorError, match=r"none/predictor.json: cannot be read \("):
        read_predictor(tmp_path / "none")
    with pytest.raises(PredictorError, match=r"a b: the HLS tool's options cannot hold a space; remedy: move it"):
        read_predictor(make_project(tmp_path / "a b"))


def test_the_vector_unit_alone_is_told(project):
    build = Build(board_named("zcu102"), 300, Path("out"), None, predictor=project)
    for unit in source.UNITS:
        given = build.component(unit)
        without = replace(given, predictor=None)
        changed = unit == "engine_vector"
        assert (configuration(given) != configuration(without)) == changed
        assert all((script(given, step) != script(without, step)) == changed for step in ("csim", "csynth", "cosim"))


def test_configuration_with_a_network(project):
    before, after = configuration(VECTOR).splitlines(), configuration(replace(VECTOR, predictor=project)).splitlines()
    flags = f" -DZQ_EXIT_PREDICTOR=3 -I{project.folder}/firmware"
    at = before.index("syn.top=engine_vector")
    before.insert(at, f"syn.file={project.folder}/firmware/exit_predictor.cpp")
    before[at + 2] += flags
    last = max(n for n, line in enumerate(before) if line.startswith("tb.file="))
    before.insert(last + 1, f"tb.file={project.folder}/firmware/weights")
    # Of the vectors those go whose sentences leave by the table.
    simulated = next(n for n, line in enumerate(before) if line.startswith("csim.argv="))
    before[simulated] = "csim.argv=" + " ".join(str(path) for path in VECTOR.vectors if "ramps" not in path.name)
    assert after == before
    assert len(VECTOR.vectors) == len(replace(VECTOR, predictor=project).vectors) + 1


def test_script_with_a_network(project):
    lines = [line.strip() for line in script(replace(VECTOR, predictor=project), "csim").splitlines()]
    flags = f"{VECTOR.flags} -DZQ_EXIT_PREDICTOR=3 -I{project.folder}/firmware"
    assert lines[4:6] == [
        f"add_files {{{ROOT}/top/engine_vector.cpp}} -cflags {{{flags}}}",
        f"add_files {{{project.folder}/firmware/exit_predictor.cpp}} -cflags {{{flags}}}",
    ]
    assert f"add_files -tb {{{project.folder}/firmware/weights}}" in lines
    assert sum("ZQ_EXIT_PREDICTOR" in line for line in lines) == 2


HARNESS = """\
#include "exit_network.hpp"
using namespace zq;
// Entropies of 32 lanes, which S and T of Q21 give, and what the predictor says of each.
extern "C" void foretell(const long long* sums, int predict, int* entropies, int* layers) {
  static exit_state e;
  for (int t = 0; t < kLanes; ++t) {
    e.top[t] = 0;
    e.total[t] = sums[2 * t];
    e.distances[t] = sums[2 * t + 1];
    entropies[t] = entropy_of(e, t).to_int();
  }
  vector_command c;
  c.predict = predict;
  exit_network network;
  for (int t = 0; t < kLanes; ++t) network.told[t] = 77;
  network.foretell(c, e);
  for (int t = 0; t < kLanes; ++t) layers[t] = network.layer(c, e, zq::uint<15>(entropies[t]), t).to_int();
}
"""


def test_the_unit_foretells_what_the_network_says(project, tmp_path):
    """Compiled as synthesis reads it: the raw bits of the input are the entropy; the first of the largest results."""
    (tmp_path / "harness.cpp").write_text(HARNESS)
    folders = [ROOT / name for name in ("types/exact", "kernels", "sim")]
    flags = ["-std=c++17", "-O0", "-fPIC", "-shared", "-w", "-DZQ_COLUMNS=128", *project.flags.split()]
    command = ["g++", *flags, *(f"-I{f}" for f in folders), "-isystem", str(_ap_types())]
    library = tmp_path / "network.so"
    command += [str(tmp_path / "harness.cpp"), str(project.source), "-o", str(library)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[:2000]
    lib = ctypes.CDLL(str(library))
    total = 1 << 28  # one label's worth; T/S is then the entropy's steps
    wanted = np.array([0, 1, 499, 500, 501, 999, 1000, 1001, 19999, 20000, 20001, 32767, *range(600, 32600, 1600)])
    sums = np.zeros((32, 2), dtype=np.int64)
    sums[:, 0] = total
    # H is about T/S * ln 2 * 4; close by, the exact one is read back
    sums[:, 1] = [int(h / 0.6931 / 4 * total) for h in wanted[:32]]
    entropies, layers = np.zeros(32, dtype=np.int32), np.zeros(32, dtype=np.int32)
    pointer = lambda a: ctypes.c_void_p(a.ctypes.data)  # noqa: E731
    lib.foretell(pointer(sums), 1, pointer(entropies), pointer(layers))
    expected = np.where(entropies == 500, 1, np.where(entropies < 1000, 1, np.where(entropies < 20000, 2, 3)))
    np.testing.assert_array_equal(layers, expected)
    assert set(layers) == {1, 2, 3}
    lib.foretell(pointer(sums), 0, pointer(entropies), pointer(layers))
    assert set(layers) == {77}, "without the flag nothing is foretold"


def test_the_top_takes_it(project):
    """The vector unit compiles as the tool is told, with our stream in the place of the tool's own."""
    flags = replace(VECTOR, predictor=project).source_flags.split()
    command = ["g++", "-fsyntax-only", "-Wno-unknown-pragmas", *flags, f"-I{ROOT}/sim", "-isystem", str(_ap_types())]
    run = subprocess.run([*command, str(VECTOR.top)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[:2000]
