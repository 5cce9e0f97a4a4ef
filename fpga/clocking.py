# SPDX-License-Identifier: Apache-2.0
"""What a change of the engine's clock costs: the time it stands still, and the energy of that. All of it modelled."""

from .assumptions import assumed
from .boards import Board
from .constants import VALUES
from .power import Activity, watts
from .registers import CLOCK_INPUT_MHZ, SELECT_WAIT_CYCLES


def select_seconds() -> float:
    """A change of register CLOCK: the waits before and after, and what the crossing to the engine's clock takes."""
    return (2 * SELECT_WAIT_CYCLES + assumed("select_crossing")) / (CLOCK_INPUT_MHZ * 1e6)


def retune_seconds() -> float:
    """The wizard's outputs changed: the clock is stopped, the dividers are written and locked on, the clock starts."""
    return assumed("retune_us") * 1e-6 + 2 * select_seconds()


def change_costs(board: Board) -> dict[str, dict[str, float]]:
    """Both kinds of change by name: microseconds that the engine stands still, and millijoules."""
    kinds = {"select": select_seconds(), "retune": retune_seconds()}
    return {kind: {"us": s * 1e6, "mj": pause_joules(board, s) * 1e3} for kind, s in kinds.items()}


def pause_joules(board: Board, seconds: float) -> float:
    """Energy of standing still: the processing system and static power; a gated clock tree switches nothing."""
    parts = watts(Activity(board.part, 0, [], [], [], [], 0, 0), VALUES, 0)
    return (parts["ps"] + parts["static"]) * seconds
