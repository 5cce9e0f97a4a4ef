# SPDX-License-Identifier: Apache-2.0
"""Where the engine is: on this board, or emulated. Decided once, here; nothing above asks again."""

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..fpga.boards import Board
from ..fpga.manifest import BIT, HWH, NAME, Manifest, check_files, load_manifest
from .checks import check_manifest
from .compiler import Plan
from .errors import TargetError
from .meter import BoardMeter, Meter, ModelledMeter
from .pynq_quietly import Device, EmbeddedDevice

DEVICES = ("auto", "board", "emulated")
BITSTREAM_FOLDER = "ZYNQBERT_BITSTREAMS"
BOARD_NAME = Path("/proc/device-tree/chosen/pynq_board")


@dataclass(frozen=True)
class Target:
    """A pynq device, the bitstream to load on it, what meters a pass there, and the bitstream's manifest.

    An emulated board has no manifest.
    """

    device: object
    bitstream: str
    meter: Callable[[Plan], Meter]
    name: str
    manifest: Manifest | None = None

    @property
    def manifest_path(self) -> Path:
        """Where the manifest stands: beside the bitstream."""
        return Path(self.bitstream).with_name(NAME)

    @property
    def max_clock_mhz(self) -> float:
        """What the bitstream's timing was met for; on an emulated board the fastest clock of its board."""
        return max(self.device.board.clocks) if self.manifest is None else self.manifest.max_clock_mhz


def choose(board: Board, device: str = "auto", *, bitstream: str | None = None, build: str = "native") -> Target:
    """The target for `device`: "board", "emulated", or "auto" (a board if this is one, else emulated, said on stderr).

    Raises TargetError: no board, another board, or no bitstream for it; ManifestError: a manifest that is none, or of
    other files. On a board nothing falls back to emulation.
    """
    if device not in DEVICES:
        raise TargetError(f"device {device!r} is none of {', '.join(DEVICES)}")
    if device == "emulated":
        return emulated(board, build=build)
    found = find_board()
    if found is not None:
        return on_board(board, found, bitstream)
    if device == "board":
        raise TargetError("no board: pynq finds no device here; remedy: run on the board, or with the device emulated")
    print(f"zynqbert: no board here, the {board.name} is emulated", file=sys.stderr)
    return emulated(board, build=build)


def emulated(board: Board, **kwargs) -> Target:
    """An emulated board; `kwargs` go to EmulatedDevice."""
    from .emulated.device import EmulatedDevice

    device = EmulatedDevice(board, **kwargs)
    return Target(device, device.bitstream, ModelledMeter, f"emulated {board.name}")


def on_board(board: Board, device, bitstream: str | None) -> Target:
    """The real board. Raises TargetError for another board, or a bitstream that is missing or not for it."""
    if BOARD_NAME.exists():
        name = BOARD_NAME.read_text(errors="replace").strip("\0\n ")
        if board.name not in name.lower():
            raise TargetError(f"this board is {name!r}, not a {board.name}; remedy: --board, or the device emulated")
    path = Path(bitstream) if bitstream else default_bitstream(board)
    if path.name != BIT:
        raise TargetError(f"{path}: a bitstream is called {BIT}; remedy: give the path of one, or none")
    target = Target(device, str(path), lambda plan: BoardMeter(board.name), board.name)
    for needed in (path, path.with_name(HWH), target.manifest_path):
        if not needed.is_file():
            raise TargetError(
                f"{needed} is missing; remedy: put {BIT}, {HWH} and {NAME} of one build there, "
                f"or set {BITSTREAM_FOLDER}"
            )
    manifest = load_manifest(target.manifest_path)
    check_files(manifest, path.parent)
    check_manifest(manifest, target.manifest_path, board)
    return replace(target, manifest=manifest)


def default_bitstream(board: Board) -> Path:
    """Where a board's bitstream is looked for: overlays/<board>/ of $ZYNQBERT_BITSTREAMS, or of this package."""
    folder = os.environ.get(BITSTREAM_FOLDER)
    root = Path(folder) if folder else Path(__file__).resolve().parent / "overlays"
    return root / board.name / BIT


def find_board():
    """The pynq device of the board this runs on, or None. Raises TargetError where pynq fails as it looks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "No devices found": the caller says so
        try:
            return next((device for device in Device.devices if isinstance(device, EmbeddedDevice)), None)
        except (RuntimeError, OSError, ImportError, KeyError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise TargetError(
                f"pynq fails as it looks for a board ({reason}); remedy: a root login shell of PYNQ's image, sudo -i"
            ) from error
