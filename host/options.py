# SPDX-License-Identifier: Apache-2.0
"""Options that several commands take, and what holds of their values."""

import tempfile
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..fpga.boards import BOARDS
from .inputs import InputError

# A checkout's own models, which the package holds too; the second leaves early.
DEFAULT_ARTIFACT = Path(__file__).resolve().parents[1] / "artifacts" / "movie-reviews"
EARLY_EXIT_ARTIFACT = DEFAULT_ARTIFACT.with_name("edgebert")
DEFAULT_TASKS = DEFAULT_ARTIFACT.with_name("tasks")  # a backbone and its tasks
EARLY_EXIT_BENCH = DEFAULT_ARTIFACT.with_name("edgebert.bench.json")  # what `zynqbert bench edgebert` says of it


class BoardName(str, Enum):
    """Boards."""

    zcu102 = "zcu102"
    zcu111 = "zcu111"


class Pattern(str, Enum):
    """What of a matrix is kept (quant/pruning.py)."""

    free = "free"
    blocks = "blocks"


def check_pattern(pattern: Pattern, density: float) -> None:
    """InputError for a density that blocks of four weights cannot have."""
    if pattern is Pattern.blocks and density not in (0.25, 0.5, 0.75, 1):
        raise InputError(f"--density {density:g} is none that --pattern blocks can have: 0.25, 0.5, 0.75 or 1")


def check_clock(clock_mhz: float | None, *boards: str) -> None:
    """InputError for a clock that no bitstream of one of these boards is built for; None is fine."""
    fastest = min(max(BOARDS[name].clocks) for name in boards)
    if clock_mhz is not None and not 0 < clock_mhz <= fastest:
        fault = f"--clock-mhz {clock_mhz:g}: the engine's clock is above 0 and at most {fastest} MHz"
        raise InputError(f"{fault}; remedy: --clock-mhz {fastest}")


def check_out(path: Path | None, option: str = "--out") -> None:
    """InputError, before any work is done, where the file `path` could not be written; None is fine."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; remedy: name a file in it")
    if not folder.is_dir():
        raise InputError(f"{option} {path}: there is no folder {folder}; remedy: mkdir -p {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{option} {path}: cannot be written: {error.strerror}; remedy: another folder") from None


class DeviceName(str, Enum):
    """Where to run."""

    auto = "auto"
    board = "board"
    emulated = "emulated"


ArtifactOption = Annotated[Path, typer.Option("--artifact", help="Folder of the quantized model.")]
BoardOption = Annotated[BoardName, typer.Option("--board", help="Board to run on, or to emulate.")]
DeviceOption = Annotated[DeviceName, typer.Option("--device", help="auto: the board if this is one, else emulated.")]
ClockOption = Annotated[
    float | None,
    typer.Option("--clock-mhz", help="Engine clock; the board's plan if not given, with --early-exit the fastest."),
]
PlanClockOption = Annotated[
    float | None, typer.Option("--clock-mhz", help="Engine clock; the board's plan if not given.")
]
FileOption = Annotated[str | None, typer.Option("--file", help="File of sentences, one a line; - reads stdin.")]
PairsOption = Annotated[bool, typer.Option("--pairs", help="Each argument or line holds two texts, parted by a tab.")]
TaskOption = Annotated[str | None, typer.Option("--task", help="Which of a backbone's tasks; its one if not given.")]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Download nothing: what is cached, or our own sentences.")
]
