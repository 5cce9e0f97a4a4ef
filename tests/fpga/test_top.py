# SPDX-License-Identifier: Apache-2.0
"""The tops that Vitis gets: they compile with the vendor's types, and every argument has its interface."""

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


def arguments(text: str) -> dict[str, str]:
    """Name -> type of the top function's arguments, arrays without their sizes."""
    inner = re.search(r"void engine_\w+\((.*?)\) \{", text, flags=re.S)[1]
    parts = [re.fullmatch(r"(.*?)(\w+)((?:\[\w+\])*)", " ".join(part.split())) for part in re.split(r",\s+", inner)]
    return {m[2]: m[1].strip() + "[]" * m[3].count("[") for m in parts}


def interfaces(text: str) -> dict[str, dict[str, str]]:
    """Port -> options of its INTERFACE pragma; a port that has two is an error."""
    found = {}
    for line in re.findall(r"#pragma HLS INTERFACE (.*)", text):
        options = dict(re.findall(r"(\w+)\s*=\s*([\w.]+)", line))
        assert options["port"] not in found, options["port"]
        found[options["port"]] = options
    return found


@pytest.mark.parametrize("top", TOPS, ids=lambda p: p.stem)
def test_every_argument_has_the_interface_of_its_type(top):
    text = top.read_text()
    found = interfaces(text)
    # The block protocol of the free-running units is the configuration file's, see the comment there.
    protocol = {"mode": "ap_ctrl_hs", "port": "return"} if top.stem == "engine_fetch" else None
    assert found.pop("return", None) == protocol
    expected = {}
    for name, kind in arguments(text).items():
        if kind == "command_streams&":
            assert f"#pragma HLS DISAGGREGATE variable = {name}\n" in text
            members = re.findall(r"hls::stream<\w+> (\w+);", (ROOT / "kernels" / "fetch_state.hpp").read_text())
            expected |= {f"{name}.{member}": "axis" for member in members}
        elif kind.startswith("hls::stream<"):
            expected[name] = "axis"
        elif kind == "beat*":
            expected[name] = "m_axi"
        elif kind.endswith("[]"):
            expected[name] = "ap_memory"
        else:
            expected[name] = "ap_vld" if kind.endswith("*") else "ap_none"
    assert {port: options["mode"] for port, options in found.items()} == expected
    for port, options in found.items():
        if options["mode"] == "ap_memory":  # memories outside of it, two cycles from address to data
            assert options["latency"] == "2", port
        if (
            options["mode"] == "m_axi"
        ):  # a bus of its own, as deep as the testbench's memory, addresses from the commands
            assert (options["bundle"], options["offset"], options["depth"]) == (port, "off", "kTestbenchBeats")


@pytest.mark.parametrize("top", TOPS, ids=lambda p: p.stem)
def test_only_memories_are_packed(top):
    """A port on AXI cannot use compact = bit (UG1399): both ends of a stream take the struct as it is padded."""
    text = top.read_text()
    packed = re.findall(r"#pragma HLS AGGREGATE variable = (\w+) compact = bit\n", text)
    structs = {name for name, kind in arguments(text).items() if kind.endswith("[]") and "_word" in kind}
    assert set(packed) == structs


@pytest.mark.parametrize("top", TOPS, ids=lambda p: p.stem)
def test_reads_and_writes_are_the_storage_types(top):
    """A memory that a unit only reads is const, and a ROM to it; the others it only writes."""
    text = top.read_text()
    found = interfaces(text)
    for name, kind in arguments(text).items():
        if kind.endswith("[]") and "stream" not in kind:
            assert found[name]["storage_type"] == ("rom_1p" if kind.startswith("const ") else "ram_1p"), name


@pytest.mark.parametrize("columns", [128, 192])
def test_id_is_what_the_host_expects(columns):
    assert Simulator("native", columns).lib.zq_id() == registers.engine_id(columns)
