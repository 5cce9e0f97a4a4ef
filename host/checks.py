# SPDX-License-Identifier: Apache-2.0
"""Whether board, bitstream and artifact fit each other: any disagreement is refused by name before a program runs."""

from pathlib import Path

from ..fpga.boards import Board
from ..fpga.capabilities import CAPABILITIES, needed
from ..fpga.instructions import PROGRAM_VERSION
from ..fpga.manifest import BIT, HWH, NAME, Manifest
from .compiler import Plan
from .driver import Identity
from .errors import EngineMismatch, TargetError

REBUILD = "remedy: build the bitstream again (zynqbert build)"
ONE_BUILD = f"remedy: take {BIT}, {HWH} and {NAME} from one build (zynqbert build)"

# What in an artifact makes its program need a capability.
NEEDED_BY = {
    "four_bit_rows": "4-bit word embeddings need",
    "plain_norm": "embedding mapping needs",
    "normalized_softmax": "normalized softmax needs",
    "token_results": "labels of tokens need",
    "exit": "off-ramps need",
    "spans": "spans of heads need",
    "adaptive_rows": "AdaptivFloat word embeddings need",
    "branches": "adapters need",
    "queue": "continuous batching needs",
    "chosen": "weights with a density bound in blocks need",
}


def check_manifest(manifest: Manifest, path: Path, board: Board) -> None:
    """Raise TargetError unless the manifest at `path` is of a bitstream for `board` that runs this host's programs."""
    for field, needs in (("board", board.name), ("columns", board.columns), ("program_version", PROGRAM_VERSION)):
        found = getattr(manifest, field)
        if found != needs:
            raise TargetError(f"{path}: {field} is {found}, this host needs {needs} for the {board.name}; {REBUILD}")


def check_identity(found: Identity, manifest: Manifest, path: Path) -> None:
    """Raise EngineMismatch unless the loaded engine is the one that its bitstream's manifest at `path` describes."""
    for field in ("program_version", "columns", "lanes", "capabilities"):
        said, is_so = _shown(getattr(manifest, field)), _shown(getattr(found, field))
        if said != is_so:
            raise EngineMismatch(f"{path}: {field} is {said}, the engine's register ID says {is_so}; {ONE_BUILD}")


def check_plan(plan: Plan, engine: Identity | Manifest, name: str) -> None:
    """Raise EngineMismatch unless `engine`, called `name` in the message, runs the plan's program."""
    if engine.columns != plan.board.columns:
        raise EngineMismatch(
            f"{name} has {engine.columns} columns, the {plan.board.name}'s {plan.board.columns}; {REBUILD}"
        )
    lacking = needed(plan.instructions) - frozenset(engine.capabilities)
    if lacking:
        wants = ", ".join(f"the artifact's {NEEDED_BY[what]} {what}" for what in CAPABILITIES if what in lacking)
        raise EngineMismatch(f"{wants}, which {name} lacks; {REBUILD}")


def _shown(value) -> str:
    """A number, or names of capabilities in any order."""
    return str(value) if isinstance(value, int) else ", ".join(sorted(value)) or "none"
