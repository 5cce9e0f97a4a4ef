# SPDX-License-Identifier: Apache-2.0
"""What the HLS tool is given for each unit: configuration file or Tcl script, and command lines. Pure functions.

A unit has a folder, in which every command runs; the paths below are relative to it, those of sources absolute.

| step | works in | writes |
|---|---|---|
| csim | csim/ | csim/hls/csim/report |
| csynth | csynth/ | csynth/hls/syn/report/csynth.xml |
| cosim | cosim/ | cosim/hls/sim/report |
| ip | csynth/ | csynth/hls/impl/ip |

Co-simulation cannot drive a block without a start signal (ap_ctrl_none, UG1399), as the free-running units are on the
board. So their block protocol stands in no pragma but in the configuration of csynth and ip, and cosim has a
configuration and a synthesis of its own, with the default protocol.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ..block_design import IP_LIBRARY as LIBRARY_OF_IPS
from ..boards import Board
from ..simulator import ROOT
from .predictor import PredictorProject
from .source import INCLUDE_FOLDERS, UNITS, top_of
from .tools import UNIFIED, VITIS_HLS, Tool

UNIT_STEPS = ("csim", "csynth", "cosim", "ip")
# The folder that a step starts from nothing in; ip goes on where csynth ended.
WORK_FOLDERS = {"csim": "csim", "csynth": "csynth", "cosim": "cosim"}
REPORTS = "csynth/hls/syn/report"
VERILOG = "csynth/hls/syn/verilog"
IP = "csynth/hls/impl/ip"
# What the log of a simulation says when the testbench, and the comparison behind it, passed.
PASSED = {"csim": "CSim done with 0 errors", "cosim": "C/RTL co-simulation finished: PASS"}

IP_VENDOR, IP_LIBRARY = LIBRARY_OF_IPS.split(":")
IP_VERSION = "1.0"
# Vectors whose sentences leave by the exit table: what another predictor says of them differs.
TABLE_VECTORS = "ramps"
# The tool's own default: what it leaves of the period for the wires it cannot know yet.
CLOCK_UNCERTAINTY_PERCENT = 27


class HlsSettingsError(ValueError):
    """What was asked for cannot be put into a configuration file or script."""


@dataclass(frozen=True)
class Component:
    """One unit on a board at a clock; `root` is the folder of the package's hardware sources. `predictor`: a network
    that becomes a part of the unit, the vector unit's alone."""

    unit: str
    board: Board
    clock_mhz: float
    root: Path = ROOT
    predictor: PredictorProject | None = None

    @property
    def free_running(self) -> bool:
        """Whether the unit has no start signal on the board: all but fetch, which starts the others by its streams."""
        return self.unit != "engine_fetch"

    @property
    def period_ns(self) -> float:
        """Clock period; rounded down to a picosecond, so that no more is granted than was asked for."""
        return math.floor(1e6 / self.clock_mhz) / 1e3

    @property
    def top(self) -> Path:
        return top_of(self.unit, self.root)

    @property
    def sources(self) -> tuple[Path, ...]:
        """What is synthesised: the top, and the predictor's function."""
        return (self.top, *((self.predictor.source,) if self.predictor else ()))

    @property
    def source_flags(self) -> str:
        """Compiler options of the sources; the testbench knows nothing of a predictor."""
        return f"{self.flags} {self.predictor.flags}" if self.predictor else self.flags

    @property
    def testbench(self) -> Path:
        return self.root / "testbench" / "testbench.cpp"

    @property
    def testbench_files(self) -> tuple[Path, ...]:
        """The testbench runs whole passes: it calls the tops of all units."""
        return (self.testbench, *(top_of(unit, self.root) for unit in UNITS if unit != self.unit))

    @property
    def data_folders(self) -> tuple[Path, ...]:
        """Folders that a simulation finds in its own: the weights of a predictor."""
        return (self.predictor.weights,) if self.predictor else ()

    @property
    def vectors(self) -> tuple[Path, ...]:
        """Vector files for the board's columns, the smallest first; HlsSettingsError if there is none."""
        folder = self.root / "testbench" / "vectors"
        found = sorted(folder.glob(f"*-{self.board.columns}.bin"), key=lambda path: (path.stat().st_size, path.name))
        if self.predictor is not None:
            found = [path for path in found if not path.name.startswith(f"{TABLE_VECTORS}-")]
        if not found:
            raise HlsSettingsError(f"{folder}: no test vectors *-{self.board.columns}.bin; remedy: reinstall zynqbert")
        return tuple(found)

    @property
    def flags(self) -> str:
        """Compiler options of tops and testbench alike. sim/ stays out: its hls_stream.h would hide the tool's own."""
        folders = " ".join(f"-I{self.root / folder}" for folder in INCLUDE_FOLDERS)
        return f"-std=c++17 -DZQ_COLUMNS={self.board.columns} {folders}"


@dataclass(frozen=True)
class Plan:
    """How a step is done: files to write, folder to start afresh (or None), and commands, each with its log file."""

    files: dict[str, str]
    afresh: str | None
    commands: tuple[tuple[str, tuple[str, ...]], ...]


def plan(tool: Tool, component: Component, step: str) -> Plan:
    """The step of the component with `tool`. HlsSettingsError where a path would not survive the tool's quoting."""
    if " " in str(component.root):
        raise HlsSettingsError(
            f"{component.root}: the HLS tool's options cannot hold a space; remedy: install zynqbert elsewhere"
        )
    make = _unified if tool.flavour == UNIFIED else _scripted
    return make(tool, component, step)


def configuration(component: Component, *, cosim: bool = False) -> str:
    """The configuration file of csim, csynth and ip, or with `cosim` that of co-simulation and its own synthesis."""
    c = component
    lines = [
        "# Written by zynqbert build.",
        f"part={c.board.part}",
        "",
        "[hls]",
        "flow_target=vivado",
        f"clock={c.period_ns:.3f}ns",
        f"clock_uncertainty={CLOCK_UNCERTAINTY_PERCENT}%",
        *(f"syn.file={path}" for path in c.sources),
        f"syn.top={c.unit}",
        f"syn.cflags={c.source_flags}",
        *(f"tb.file={path}" for path in (*c.testbench_files, *c.data_folders)),
        f"tb.cflags={c.flags}",
    ]
    if cosim:
        lines += [f"cosim.argv={c.vectors[0]}", "cosim.rtl=verilog", "cosim.O=true"]
    else:
        if c.free_running:
            lines.append(f"syn.directive.interface={c.unit} mode=ap_ctrl_none")
        lines += [
            f"csim.argv={_joined(c.vectors)}",
            "csim.O=true",
            "package.output.format=ip_catalog",
            "package.output.syn=false",
            f"package.ip.vendor={IP_VENDOR}",
            f"package.ip.library={IP_LIBRARY}",
            f"package.ip.name={c.unit}",
            f"package.ip.version={IP_VERSION}",
        ]
    return "\n".join(lines) + "\n"


def script(component: Component, step: str) -> str:
    """The Tcl script that does a step; it exits with 1 at any error, since the tool alone would wait for commands."""
    c = component
    if step == "ip":
        body = [
            "open_project csynth",
            "open_solution hls",
            f"export_design -format ip_catalog -vendor {IP_VENDOR} -library {IP_LIBRARY} -ipname {c.unit} "
            f"-version {IP_VERSION}",
        ]
    else:
        body = [
            f"open_project -reset {WORK_FOLDERS[step]}",
            f"set_top {c.unit}",
            *(f"add_files {{{path}}} -cflags {{{c.source_flags}}}" for path in c.sources),
            *(f"add_files -tb {{{path}}} -cflags {{{c.flags}}}" for path in c.testbench_files),
            *(f"add_files -tb {{{path}}}" for path in c.data_folders),
            "open_solution -reset hls -flow_target vivado",
            f"set_part {{{c.board.part}}}",
            f"create_clock -period {c.period_ns:.3f}ns -name default",
            f"set_clock_uncertainty {CLOCK_UNCERTAINTY_PERCENT}%",
        ]
        if step == "csynth" and c.free_running:
            body.append(f"set_directive_interface -mode ap_ctrl_none {c.unit}")
        if step == "csim":
            body.append(f"csim_design -O -argv {{{_joined(c.vectors)}}}")
        else:
            body.append("csynth_design")
        if step == "cosim":
            body.append(f"cosim_design -O -rtl verilog -argv {{{c.vectors[0]}}}")
    lines = ["# Written by zynqbert build.", "if {[catch {", *(f"  {line}" for line in body)]
    lines += ["} message]} {", "  puts stderr $message", "  exit 1", "}", "exit 0"]
    return "\n".join(lines) + "\n"


def _unified(tool: Tool, component: Component, step: str) -> Plan:
    cosim = step == "cosim"
    name = "hls_cosim.cfg" if cosim else "hls_config.cfg"
    work = WORK_FOLDERS.get(step, "csynth")
    common = ("--config", name, "--work_dir", work)
    synthesis = (str(tool.compiler), "-c", "--mode", "hls", *common)
    commands: list[tuple[str, tuple[str, ...]]] = []
    if step in ("csynth", "cosim"):
        commands.append(("cosim-csynth.log" if cosim else "csynth.log", synthesis))
    if step != "csynth":
        action = {"csim": "--csim", "cosim": "--cosim", "ip": "--package"}[step]
        commands.append((f"{step}.log", (str(tool.path), "--mode", "hls", action, *common)))
    return Plan({name: configuration(component, cosim=cosim)}, WORK_FOLDERS.get(step), tuple(commands))


def _scripted(tool: Tool, component: Component, step: str) -> Plan:
    name = f"{step}.tcl"
    options = ("-f",) if tool.flavour == VITIS_HLS else ("--mode", "hls", "--tcl")
    command = (str(tool.path), *options, name)
    return Plan({name: script(component, step)}, WORK_FOLDERS.get(step), ((f"{step}.log", command),))


def _joined(paths: tuple[Path, ...]) -> str:
    return " ".join(map(str, paths))
