# SPDX-License-Identifier: Apache-2.0
"""`zynqbert info`: what it finds on a laptop, and on a board laid out in files; no item takes another with it."""

import hashlib
import json
import os
import stat
from functools import partial

import pytest
from hwmon import board_sysfs
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.manifest import Manifest, Timing, Use, Utilization, save_manifest
from zynqbert.host import info, rails, target
from zynqbert.host.pynq_quietly import Device

ITEMS = {
    *("zynqbert", "commit", "python", "platform", "user", "packages", "compiler", "board", "devices", "overlay"),
    *("manifest", "sensors", "contiguous memory", "artifact", "kernel cache", "Vitis HLS", "Vivado", "environment"),
}
MEMINFO = "MemTotal:        4038664 kB\nCmaTotal:         524288 kB\nCmaFree:          501760 kB\n"


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch):
    for name in [n for n in os.environ if n.startswith("ZYNQBERT_") or n in info.VARIABLES]:
        monkeypatch.delenv(name)


@pytest.fixture
def board(tmp_path, monkeypatch):
    """A ZCU111 with everything in place, but for a pynq device."""
    name = tmp_path / "pynq_board"
    name.write_bytes(b"ZCU111\0")
    monkeypatch.setattr(target, "BOARD_NAME", name)
    memory = tmp_path / "meminfo"
    memory.write_text(MEMINFO)
    monkeypatch.setattr(info, "MEMORY", memory)
    sysfs = board_sysfs(tmp_path / "sys", "zcu111", "ina2xx")
    monkeypatch.setattr(rails, "find_rails", partial(rails.find_rails, hwmon=sysfs.class_hwmon))
    monkeypatch.setenv("ZYNQBERT_BITSTREAMS", str(tmp_path / "overlays"))
    folder = tmp_path / "overlays" / "zcu111"
    folder.mkdir(parents=True)
    sums = {}
    for file, content in (("zynqbert.bit", b"bits" * 100), ("zynqbert.hwh", b"<xml/>")):
        (folder / file).write_bytes(content)
        sums[file] = hashlib.sha256(content).hexdigest()
    use = Use(1.0, 2.0)
    manifest = Manifest(
        board="zcu111",
        part=BOARDS["zcu111"].part,
        program_version=3,
        columns=192,
        lanes=32,
        capabilities=("clock_select",),
        max_clock_mhz=250.0,
        wizard_outputs_mhz=(250.0, 200.0, 150.0, 100.0),
        commit="0123456789abcdef0123456789abcdef01234567",
        modified=False,
        tools={"vivado": "2024.2"},
        sha256=sums,
        utilization=Utilization(use, use, use, use, use),
        timing=Timing(0.1, 0.0, 0, 0.1, 0.0, 0, 0.1, 0.0, 0, 0),
        csynth={},
        date="2025-01-02T03:04:05+00:00",
    )
    save_manifest(manifest, folder / "manifest.json")
    return folder


def test_every_item_is_found_or_has_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("ZYNQBERT_BITSTREAMS", str(tmp_path))
    report = info.collect()
    assert set(report["found"]) | set(report["not_found"]) == ITEMS
    assert not set(report["found"]) & set(report["not_found"])
    assert {"zynqbert", "python", "packages", "artifact", "environment"} <= set(report["found"])
    assert report["found"]["packages"]["numpy"].startswith("1.")
    # the board of a machine that is none
    assert report["not_found"]["overlay"].startswith(f"{tmp_path / 'zcu102' / 'zynqbert.bit'} is missing; ")


def test_text_has_a_line_an_item():
    report = info.collect()
    lines = info.text(report).splitlines()
    assert lines[0] == info.TITLE and "read it before you post it" in lines[0]
    starts = [line for line in lines[1:] if not line.startswith("    ")]
    assert [line[:21].strip() for line in starts] == [*report["found"], *report["not_found"]]
    for name, reason in report["not_found"].items():
        assert f"{name:21} not here: {reason}" in lines


@pytest.mark.parametrize("name", BOARDS)
def test_engine_is_asked_only_if_told_to(name):
    report = info.collect(name, "emulated")
    assert report["found"]["engine"]["columns"] == BOARDS[name].columns
    assert report["found"]["engine"]["where"] == f"emulated {name}"
    assert json.loads(json.dumps(report)) == report


def test_no_board_no_engine():
    report = info.collect("zcu102", "board")
    assert report["not_found"]["engine"].startswith("TargetError: no board: pynq finds no device here")


def test_a_board(board):
    report = info.collect()
    found = report["found"]
    assert found["board"] == "ZCU111"
    assert found["overlay"][".bit"] == f"{board / 'zynqbert.bit'}, 400 bytes"
    assert found["manifest"]["max_clock_mhz"] == 250.0 and found["manifest"]["files"] == "as described"
    assert found["sensors"]["pl"][0] == "u67 VCCINT" and found["sensors"]["missing"] == []
    assert found["contiguous memory"] == "512 MiB, of it 490 MiB free"
    assert found["environment"] == {"ZYNQBERT_BITSTREAMS": str(board.parent)}
    assert "    tools             vivado 2024.2" in info.text(report).splitlines()
    assert json.loads(json.dumps(report)) == report


def test_a_bitstream_of_another_build(board):
    (board / "zynqbert.bit").write_bytes(b"other" * 80)
    manifest = info.collect()["found"]["manifest"]
    assert "not the file it describes" in manifest["files"] and manifest["columns"] == 192


def test_a_broken_manifest(board):
    (board / "manifest.json").write_text("{")
    report = info.collect()
    assert report["not_found"]["manifest"].startswith("ManifestError: ")
    assert "overlay" in report["found"]


def test_missing_sensors_are_named(board, tmp_path, monkeypatch):
    sysfs = board_sysfs(tmp_path / "fewer", "zcu111", "ina2xx")
    sysfs.remove("u63")
    original = rails.find_rails.func
    monkeypatch.setattr(rails, "find_rails", partial(original, hwmon=sysfs.class_hwmon))
    assert info.collect()["found"]["sensors"]["missing"] == ["u63 VCCINT_RF"]


def test_devices(monkeypatch):
    class Board:
        name = "ZCU111"

    monkeypatch.setattr(Device, "_devices", [Board()], raising=False)
    assert info.collect()["found"]["devices"] == ["Board ZCU111"]


@pytest.mark.parametrize("broken", sorted(ITEMS))
def test_an_item_that_fails_takes_no_other_with_it(monkeypatch, broken):
    before = info.collect()
    function = {
        **{"zynqbert": "_package", "board": "_board_name", "kernel cache": "_cache", "python": "_python"},
        **{"Vitis HLS": "_vendor_tool", "Vivado": "_vendor_tool", "contiguous memory": "_contiguous_memory"},
    }.get(broken, f"_{broken}")

    def fail(*_):
        raise RuntimeError("the disk\nis gone")

    monkeypatch.setattr(info, function, fail)
    report = info.collect()
    assert report["not_found"].pop(broken) == "RuntimeError: the disk is gone"
    for found in (before["found"], report["found"]):
        for name in (broken, "Vitis HLS", "Vivado"):
            found.pop(name, None)
    assert report["found"] == before["found"]


def test_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    assert "c++' on PATH" in info.collect()["not_found"]["compiler"]
    for script, expected in (("echo 'c++ 1.2'; echo more", "c++ 1.2"), ("echo no licence >&2; exit 3", "ended with 3")):
        (tmp_path / "c++").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "c++").chmod(stat.S_IRWXU)
        report = info.collect()
        assert expected in (report["found"] | report["not_found"])["compiler"]


def test_only_variables_that_matter_are_shown(monkeypatch):
    monkeypatch.setenv("ZYNQBERT_DATA", "/data")
    monkeypatch.setenv("XILINX_XRT", "/usr")
    monkeypatch.setenv("API_TOKEN", "secret-8d1f")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-8d1f")
    report = info.collect()
    assert report["found"]["environment"] == {"XILINX_XRT": "/usr", "ZYNQBERT_DATA": "/data"}
    assert "secret-8d1f" not in json.dumps(report)


def test_no_contiguous_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(info, "MEMORY", tmp_path / "meminfo")
    assert info.collect()["not_found"]["contiguous memory"].startswith("FileNotFoundError: ")
    (tmp_path / "meminfo").write_text("MemTotal:        4038664 kB\n")
    assert "this kernel sets none aside" in info.collect()["not_found"]["contiguous memory"]
