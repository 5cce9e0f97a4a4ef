# SPDX-License-Identifier: Apache-2.0
"""The tops that Vitis gets: they compile with the vendor's types, and fetch's registers are the table's."""

import re
import shutil
import subprocess

import pytest
from zynqbert.fpga import registers
from zynqbert.fpga.simulator import ROOT, Simulator, _ap_types

TOPS = sorted((ROOT / "top").glob("*.cpp"))


@pytest.mark.parametrize("columns", [128, 192])
@pytest.mark.parametrize("top", TOPS, ids=lambda p: p.stem)
def test_top_compiles(top, columns):
    includes = [ROOT / "hooks" / "vitis", ROOT / "kernels", ROOT / "types" / "exact", ROOT / "sim"]
    command = [
        shutil.which("g++"),
        "-std=c++17",
        "-fsyntax-only",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-DZQ_COLUMNS={columns}",
    ]
    command += ["-Wno-unknown-pragmas", "-Wno-unused-label", "-Wno-unused-parameter"]
    command += [f"-I{path}" for path in includes] + ["-isystem", str(_ap_types()), str(top)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[:2000]


def test_registers_of_fetch_are_the_table():
    text = (ROOT / "top" / "engine_fetch.cpp").read_text()
    pragma = {
        m[1].upper(): int(m[2], 16) for m in re.finditer(r"s_axilite port = (\w+) .*offset = (0x[0-9A-F]+)", text)
    }
    table = {r.name: r.offset for r in registers.ENGINE if r.offset >= 0x10}
    assert pragma == table


@pytest.mark.parametrize("columns", [128, 192])
def test_id_is_what_the_host_expects(columns):
    assert Simulator("native", columns).lib.zq_id() == registers.engine_id(columns)
