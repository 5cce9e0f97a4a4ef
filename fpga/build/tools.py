# SPDX-License-Identifier: Apache-2.0
"""Find Vitis HLS and Vivado, and read their versions.

`vitis-run` and `v++` side by side are the unified flow (configuration files); `vitis-run` alone, or `vitis_hls`, take
one Tcl script a run. All three do the same work.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OLDEST = (2024, 2)
# Where the installers put things unless told otherwise.
INSTALLATIONS: tuple[str, ...] = ("/tools/Xilinx", "/opt/Xilinx", "/tools/AMDDesignTools", "/opt/AMDDesignTools")
PRODUCTS = ("Vitis", "Vitis_HLS", "Vivado")
VERSION_TIMEOUT_S = 120  # the first start of a tool from a network drive takes its time

UNIFIED, VITIS_RUN_TCL, VITIS_HLS, VIVADO = "unified", "vitis-run-tcl", "vitis_hls", "vivado"
# Executables that do the work, the best first, and the variables that their installation sets.
_HLS = ("vitis-run", "vitis_hls"), ("XILINX_VITIS", "XILINX_HLS")
_VIVADO = ("vivado",), ("XILINX_VIVADO",)
_VERSION_OPTION = {"vitis-run": "--version", "vitis_hls": "-version", "vivado": "-version"}

_LICENCE = (
    "the free Vivado Standard edition does not cover the boards' parts (XCZU9EG, XCZU28DR): they need a licence of "
    "the Enterprise edition, or the device-locked one whose voucher comes with the board"
)


class ToolMissing(ValueError):
    """No such tool, or only one that is too old; the message says where was looked and what to do."""


@dataclass(frozen=True)
class Tool:
    """A vendor tool: `name` as called, `path` of its executable, `version` as "2024.2".

    flavour: "unified" (v++ stands beside vitis-run), "vitis-run-tcl", "vitis_hls" or "vivado".
    """

    name: str
    path: Path
    version: str
    flavour: str

    @property
    def compiler(self) -> Path:
        """v++ of the unified flow."""
        return self.path.with_name("v++")


def find_hls(folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Tool:
    """Vitis HLS 2024.2 or newer. With `folder` (an installation, or the folder of a product) only there.

    Raises ToolMissing.
    """
    return _find("Vitis HLS", *_HLS, folder, os.environ if environment is None else environment)


def find_vivado(folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Tool:
    """Vivado 2024.2 or newer, looked for as find_hls does."""
    return _find("Vivado", *_VIVADO, folder, os.environ if environment is None else environment)


def read_version(executable: Path) -> str | None:
    """What the executable says of itself, as "2024.2"; None if it does not start or names no version."""
    try:
        run = subprocess.run(
            [executable, _VERSION_OPTION[executable.name]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bv(\d{4}\.\d+(?:\.\d+)?)\b", run.stdout.decode(errors="replace"))
    return found[1] if found else None


def _find(
    what: str,
    names: Sequence[str],
    variables: Sequence[str],
    folder: Path | None,
    environment: Mapping[str, str],
) -> Tool:
    refused = []
    tried = set()
    for bin_folder in _folders(variables, folder, environment):
        for name in names:
            found = shutil.which(name, path=str(bin_folder))
            if found is None:
                continue
            path = Path(found).absolute()  # the tools run in folders of their own
            if path in tried:
                continue
            tried.add(path)
            version = read_version(path)
            if version is None:
                refused.append(f"{path} does not tell its version")
            elif _ordered(version) < OLDEST:
                refused.append(f"{path} is {version}")
            else:
                return Tool(name, path, version, _flavour(path))
    raise ToolMissing(_missing(what, names, refused, _places(variables, folder, environment)))


def _flavour(path: Path) -> str:
    if path.name == "vitis-run":
        return UNIFIED if shutil.which("v++", path=str(path.parent)) else VITIS_RUN_TCL
    return path.name


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _folders(variables: Sequence[str], folder: Path | None, environment: Mapping[str, str]) -> Iterator[Path]:
    """Folders that may hold the executable, in the order they count."""
    if folder is not None:
        yield folder
        yield folder / "bin"
        yield from _installed(folder)
        return
    for variable in variables:
        if environment.get(variable):
            yield Path(environment[variable]) / "bin"
    yield from (Path(part) for part in environment.get("PATH", "").split(os.pathsep) if part)
    for installation in INSTALLATIONS:
        yield from _installed(Path(installation))


def _installed(installation: Path) -> Iterator[Path]:
    """bin folders below an installation, the newest version first: Vitis/2024.2/bin, 2025.1/Vitis/bin, or Vitis/bin."""
    found = []
    for product in PRODUCTS:
        for path in (*installation.glob(f"{product}/*/bin"), *installation.glob(f"*/{product}/bin")):
            version = path.parts[-2] if path.parts[-3] == product else path.parts[-3]
            if re.fullmatch(r"\d+(\.\d+)*", version):
                found.append((_ordered(version), -PRODUCTS.index(product), path))
        yield installation / product / "bin"
    yield from (path for *_, path in sorted(found, reverse=True))


def _places(variables: Sequence[str], folder: Path | None, environment: Mapping[str, str]) -> str:
    if folder is not None:
        return f"--tools {folder} (also its bin, Vitis/*/bin, */Vitis/bin and so on)"
    shown = [f"${v} ({environment.get(v) or 'not set'})" for v in variables]
    return ", ".join([*shown, "PATH", *INSTALLATIONS])


def _missing(what: str, names: Sequence[str], refused: Sequence[str], places: str) -> str:
    oldest = ".".join(map(str, OLDEST))
    parts = [f"{what} {oldest} or newer not found: no usable {' or '.join(names)} in {places}"]
    if refused:
        parts.append(f"too old or unusable: {', '.join(refused)}")
    parts.append(
        f"remedy: install AMD Vitis {oldest} or newer (it brings Vivado) and source its settings64.sh, or name its "
        f"folder by --tools; {_LICENCE}; all of zynqbert but `zynqbert build` runs without these tools"
    )
    return "; ".join(parts)
