# SPDX-License-Identifier: Apache-2.0
"""Where the engine is: on this board, or emulated. Decided once, here; nothing above asks again."""

import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..fpga.boards import Board
from .compiler import Plan
from .errors import TargetError
from .meter import BoardMeter, Meter, ModelledMeter
from .pynq_quietly import Device, EmbeddedDevice

DEVICES = ("auto", "board", "emulated")
BITSTREAM_FOLDER = "ZYNQBERT_BITSTREAMS"
BOARD_NAME = Path("/proc/device-tree/chosen/pynq_board")


@dataclass(frozen=True)
class Target:
    """A pynq device, the bitstream to load on it, and what meters a pass there."""

    device: object
    bitstream: str
    meter: Callable[[Plan], Meter]
    name: str


def choose(board: Board, device: str = "auto", *, bitstream: str | None = None, build: str = "native") -> Target:
    """The target for `device`: "board", "emulated", or "auto" (a board if this is one, else emulated, said on stderr).

    Raises TargetError: no board, another board, or no bitstream for it; on a board nothing falls back to emulation.
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
    from .emulated_device import EmulatedDevice

    device = EmulatedDevice(board, **kwargs)
    return Target(device, device.bitstream, ModelledMeter, f"emulated {board.name}")


def on_board(board: Board, device, bitstream: str | None) -> Target:
    """The real board. Raises TargetError for another board or a missing bitstream."""
    if BOARD_NAME.exists():
        name = BOARD_NAME.read_text(errors="replace").strip("\0\n ")
        if board.name not in name.lower():
            raise TargetError(f"this board is {name!r}, not a {board.name}; remedy: --board, or the device emulated")
    path = Path(bitstream) if bitstream else default_bitstream(board)
    for needed in (path, path.with_suffix(".hwh")):
        if not needed.is_file():
            raise TargetError(
                f"{needed} is missing; remedy: put zynqbert.bit and .hwh there, or set {BITSTREAM_FOLDER}"
            )
    return Target(device, str(path), lambda plan: BoardMeter(board.name), board.name)


def default_bitstream(board: Board) -> Path:
    """Where a board's bitstream is looked for: overlays/<board>/ of $ZYNQBERT_BITSTREAMS, or of this package."""
    folder = os.environ.get(BITSTREAM_FOLDER)
    root = Path(folder) if folder else Path(__file__).resolve().parent / "overlays"
    return root / board.name / "zynqbert.bit"


def find_board():
    """The pynq device of the board this runs on, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "No devices found": the caller says so
        return next((device for device in Device.devices if isinstance(device, EmbeddedDevice)), None)
