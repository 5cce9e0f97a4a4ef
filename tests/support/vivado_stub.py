# SPDX-License-Identifier: Apache-2.0
"""Run the build's Tcl in a real interpreter over stubs of Vivado's commands, and read what it made of them."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import vivado_catalogue
import vivado_samples

HERE = Path(__file__).resolve().parent
STUBS = HERE / "tcl" / "vivado_stubs.tcl"
# Without tclsh, the interpreter in Python's own tkinter, which needs no display.
TKINTER = """
import os, sys, tkinter
tcl = tkinter.Tcl()
def leave(code="0"):
    tcl.eval("flush stdout")
    sys.stderr.flush()
    os._exit(int(code))
tcl.tk.createcommand("exit", leave)  # tkinter takes Tcl's own away
tcl.tk.setvar("argv", tuple(sys.argv[2:]))
try:
    tcl.tk.call("source", sys.argv[1])
except tkinter.TclError:
    print(tcl.eval("set errorInfo"), file=sys.stderr)
    leave(1)
leave()
"""


def interpreter() -> list[str]:
    """The command line of a Tcl interpreter."""
    found = shutil.which("tclsh")
    return [found] if found else [sys.executable, "-c", TKINTER]


def run_script(script: Path, settings: Path, columns: int, record: Path, **options) -> subprocess.CompletedProcess:
    """Run a script of fpga/build/tcl with `settings`, for units of `columns`; what it makes is added to `record`.

    trouble: a way to fail that the stubs know; units and handshake: as vivado_catalogue.catalogue; figures: as
    vivado_samples.timing_summary; edit: changes the catalogue's Tcl.
    """
    trouble, figures = options.pop("trouble", ""), options.pop("figures", {})
    edit = options.pop("edit", lambda text: text)
    folder = record.parent / "stub"
    folder.mkdir(exist_ok=True)
    (folder / "catalogue.tcl").write_text(edit(vivado_catalogue.as_tcl(vivado_catalogue.catalogue(columns, **options))))
    vivado_samples.write_reports(folder, **figures)
    command = [*interpreter(), str(STUBS), str(folder / "catalogue.tcl"), str(record), str(script), str(settings)]
    environment = os.environ | {"FAKE_VIVADO": trouble, "FAKE_REPORTS": str(folder)}
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


@dataclass
class Design:
    """A block design as the script made it: names without the leading slash."""

    cells: dict[str, str] = field(default_factory=dict)  # VLNV
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    nets: dict[str, str] = field(default_factory=dict)  # sink pin to its driver
    buses: dict[str, str] = field(default_factory=dict)  # slave to its master
    addresses: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)  # space to segment to place
    excluded: list[tuple[str, str]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)  # everything, in order

    def of(self, what: str) -> list[list[str]]:
        """The rows of a kind, without its name."""
        return [rest for kind, *rest in self.rows if kind == what]


def read_design(record: Path) -> Design:
    """What the record tells."""
    design = Design()
    for line in record.read_text().splitlines():
        kind, *rest = line.split("\t")
        rest = [word.removeprefix("/") for word in rest] if kind not in ("file", "project") else rest
        design.rows.append([kind, *rest])
        if kind == "cell":
            design.cells[rest[0]] = rest[1]
        elif kind == "config":
            design.settings.setdefault(rest[0], {})[rest[1]] = rest[2]
        elif kind == "net":
            design.nets[rest[1]] = rest[0]
        elif kind == "bus":
            design.buses[rest[1]] = rest[0]
        elif kind == "address":
            design.addresses.setdefault(rest[0], {})[rest[1]] = (int(rest[2]), int(rest[3]))
        elif kind == "exclude":
            design.excluded.append((rest[0], rest[1]))
    return design
