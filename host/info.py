# SPDX-License-Identifier: Apache-2.0
"""`zynqbert info`: what a bug report needs to say of this machine. Each item stands alone: one that cannot be had is a
line with its reason. Nothing is sent anywhere; on the board only `--device board` touches the PL.
"""

import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MEMORY = Path("/proc/meminfo")
PACKAGES = (
    *("numpy", "pynq", "pynqmetadata", "pynqutils", "pydantic", "pycparser", "setuptools"),
    *("tokenizers", "safetensors", "typer", "rich", "matplotlib", "torch", "transformers", "hls4ml", "distributed"),
)
# Ours, and those of others that decide what is found here; all are names and paths.
VARIABLES = ("CXX", "XDG_CACHE_HOME", "BOARD", "XILINX_XRT", "XILINX_VIVADO", "XILINX_VITIS", "XILINX_HLS")
MANIFEST_FIELDS = ("board", "program_version", "columns", "max_clock_mhz", "commit", "modified", "tools", "date")
TIMEOUT_S = 10
TITLE = "zynqbert info: for a bug report. Nothing is sent anywhere; read it before you post it."


class NotHere(Exception):
    """An item that this machine does not have; the message says why."""


def collect(board: str | None = None, device: str = "auto") -> dict[str, Any]:
    """The items by name under "found", and under "not_found" the reasons of the others.

    board: "zcu102" or "zcu111", whose overlay and sensors are looked for; if None, the board this is, else zcu102.
    device: "board" and "emulated" also load the overlay there and read the engine's ID.
    """
    name = board or _this_board() or "zcu102"
    items: dict[str, Callable[[], Any]] = {
        "zynqbert": _package,
        "commit": _commit,
        "python": _python,
        "platform": _platform,
        "user": _user,
        "packages": _packages,
        "compiler": _compiler,
        "board": _board_name,
        "devices": _devices,
        "overlay": partial(_overlay, name),
        "manifest": partial(_manifest, name),
        "sensors": partial(_sensors, name),
        "contiguous memory": _contiguous_memory,
        "artifact": _artifact,
        "kernel cache": _cache,
        "Vitis HLS": partial(_vendor_tool, "find_hls"),
        "Vivado": partial(_vendor_tool, "find_vivado"),
        "environment": _environment,
    }
    if device != "auto":
        items["engine"] = partial(_engine, name, device)
    found, not_found = {}, {}
    for key, item in items.items():
        try:
            found[key] = item()
        except Exception as error:  # whatever is wrong with this machine, the other items are still wanted
            reason = " ".join(str(error).split())
            not_found[key] = reason if isinstance(error, NotHere) else f"{type(error).__name__}: {reason}"
    return {"found": found, "not_found": not_found}


def text(report: dict[str, Any]) -> str:
    """A report of `collect` as lines."""
    lines = [TITLE]
    for name, value in report["found"].items():
        if isinstance(value, dict) and value:
            lines += [name, *(f"    {key:17} {_shown(part)}" for key, part in value.items())]
        else:
            lines.append(f"{name:21} {_shown(value)}")
    lines += [f"{name:21} not here: {reason}" for name, reason in report["not_found"].items()]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        value = [f"{name} {part}" for name, part in value.items()]
    return (", ".join(map(str, value)) or "none") if isinstance(value, list | tuple) else str(value)


def _package() -> str:
    return f"{metadata.version('zynqbert')}, {ROOT}"


def _commit() -> str:
    if not (ROOT / ".git").exists():
        raise NotHere("an installed package, no checkout")
    return _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"])


def _python() -> str:
    return f"{platform.python_version()}, {sys.executable}"


def _platform() -> str:
    return platform.platform()


def _user() -> str:
    return "root" if os.geteuid() == 0 else f"uid {os.geteuid()}; the PL of a board needs root"


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "-"
    return found


def _compiler() -> str:
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        raise NotHere(f"no '{name}' on PATH; the emulated board needs one, a board does not")
    return f"{path}: {_output([path, '--version'])}"


def _board_name() -> str:
    from .target import BOARD_NAME

    if not BOARD_NAME.exists():
        raise NotHere(f"{BOARD_NAME} is missing: no PYNQ image")
    return BOARD_NAME.read_text(errors="replace").strip("\0\n ")


def _this_board() -> str | None:
    """The board of ours that this machine says it is."""
    from ..fpga.boards import BOARDS

    try:
        name = _board_name().lower()
    except Exception:  # told by the item
        return None
    return next((board for board in BOARDS if board in name), None)


def _devices() -> list[str]:
    from .pynq_quietly import Device

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "No devices found": said below
        devices = Device.devices
    if not devices:
        raise NotHere("pynq finds no device")
    return [f"{type(device).__name__} {device.name}" for device in devices]


def _overlay(board: str) -> dict[str, str]:
    from ..fpga.boards import board_named
    from .target import BITSTREAM_FOLDER, default_bitstream

    bitstream = default_bitstream(board_named(board))
    files = {part.suffix: part for part in (bitstream, bitstream.with_suffix(".hwh"))}
    for path in files.values():
        if not path.is_file():
            raise NotHere(f"{path} is missing; the folder is that of {BITSTREAM_FOLDER}, or the package's own")
    return {suffix: f"{path}, {path.stat().st_size} bytes" for suffix, path in files.items()}


def _manifest(board: str) -> dict[str, Any]:
    from ..fpga.boards import board_named
    from ..fpga.manifest import NAME, check_files, load_manifest
    from .target import default_bitstream

    folder = default_bitstream(board_named(board)).parent
    if not (folder / NAME).is_file():
        raise NotHere(f"{folder / NAME} is missing")
    manifest = load_manifest(folder / NAME)
    found = {field: getattr(manifest, field) for field in MANIFEST_FIELDS}
    try:
        check_files(manifest, folder)
        found["files"] = "as described"
    except (ValueError, OSError) as error:
        found["files"] = str(error)
    return found


def _sensors(board: str) -> dict[str, list[str]]:
    from .rails import find_rails

    rails = find_rails(board)
    found = {group: [f"{rail.name} {rail.net}" for rail in group_rails] for group, group_rails in rails.groups.items()}
    return found | {"missing": list(rails.missing), "notes": list(rails.notes)}


def _contiguous_memory() -> str:
    sizes = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines() if ":" in line)
    total, free = (sizes.get(name, "0 kB").split()[0] for name in ("CmaTotal", "CmaFree"))
    if not int(total):
        raise NotHere(f"{MEMORY} has no CmaTotal: this kernel sets none aside")
    return f"{int(total) / 1024:.0f} MiB, of it {int(free) / 1024:.0f} MiB free"


def _artifact() -> str:
    from .options import DEFAULT_ARTIFACT

    if not (DEFAULT_ARTIFACT / "manifest.json").is_file():
        raise NotHere(f"{DEFAULT_ARTIFACT} is missing")
    return str(DEFAULT_ARTIFACT)


def _cache() -> str:
    from ..fpga.simulator import cache_folder

    folder = cache_folder()
    return f"{folder}, {len(list(folder.glob('*.so')))} compiled"


def _vendor_tool(find: str) -> str:
    from ..fpga.build import tools

    try:
        tool = getattr(tools, find)()
    except tools.ToolMissing as error:
        raise NotHere(str(error).partition(";")[0]) from None
    return f"{tool.name} {tool.version}, {tool.path}"


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in sorted(os.environ) if name.startswith("ZYNQBERT_") or name in VARIABLES}


def _engine(board: str, device: str) -> dict[str, Any]:
    from ..fpga.boards import board_named
    from .driver import EngineDriver
    from .pynq_quietly import Overlay
    from .target import choose

    target = choose(board_named(board), device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynq's search for plug-ins warns of its own imports
        overlay = Overlay(target.bitstream, device=target.device)
    names = [name for name, ip in overlay.ip_dict.items() if ip["type"] in EngineDriver.bindto]
    if not names:
        raise NotHere(f"the overlay {target.bitstream} has no block of type {EngineDriver.bindto[0]}")
    identity = asdict(getattr(overlay, names[0]).identify())
    return {"where": target.name} | identity | {"capabilities": sorted(identity["capabilities"])}


def _output(command: list[str]) -> str:
    """The first line that `command` prints."""
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if run.returncode:
        raise NotHere(f"{command[0]} ended with {run.returncode}: {run.stderr.strip()[:200]}")
    return run.stdout.partition("\n")[0].strip()
