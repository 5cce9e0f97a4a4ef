# SPDX-License-Identifier: Apache-2.0
"""pynq finds our notebooks and our overlays by the package's entry points, as on a board."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from pynqutils.setup_utils import ExtensionsManager
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.target import BITSTREAM_FOLDER, default_bitstream

NOTEBOOKS = ["1-first-inference.ipynb", "2-throughput-per-watt.ipynb", "3-early-exit.ipynb", "4-many-tasks.ipynb"]


def folder_of(group):
    (entry,) = (entry for entry in entry_points(group=group) if entry.name == "zynqbert")
    return Path(entry.load().__path__[0])


def test_notebooks_are_where_the_entry_point_says():
    assert sorted(path.name for path in folder_of("pynq.notebooks").glob("*.ipynb")) == NOTEBOOKS


@pytest.mark.parametrize("board", BOARDS)
def test_default_bitstream_is_where_pynq_looks(monkeypatch, board):
    monkeypatch.delenv(BITSTREAM_FOLDER, raising=False)
    path = default_bitstream(BOARDS[board])
    assert path == folder_of("pynq.overlays") / board / "zynqbert.bit"
    paths = [Path(p).resolve() for p in ExtensionsManager("pynq.overlays").paths]
    assert path.parents[1].resolve() in paths


@pytest.mark.parametrize("where", [["--ignore-overlays"], ["--device", "ZCU102"]], ids=["no device", "zcu102"])
def test_get_notebooks(tmp_path, where):
    pynq = Path(sys.executable).with_name("pynq")
    command = [pynq, "get-notebooks", "zynqbert", *where, "--path", str(tmp_path / "notebooks")]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    delivered = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.ipynb"))
    assert delivered == [f"notebooks/zynqbert/{name}" for name in NOTEBOOKS]
    assert not list(tmp_path.rglob("*.py"))
