# SPDX-License-Identifier: Apache-2.0
"""The options of commands that may have more than one board, and what they open by them."""

import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from .inputs import InputError

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="So many processes of this machine, each with an emulated device, or a board."
    ),
]
SchedulerOption = Annotated[
    str | None, typer.Option("--scheduler", help="Workers of this dask scheduler, tcp://HOST:8786 (docs/fleet.md).")
]


def check_way(ways: Mapping[str, bool], latency_target: float | None) -> None:
    """InputError for ways of sharing passes, by their options, that do not go together, or with the rest."""
    chosen = [name for name, given in ways.items() if given]
    others = ["--latency-target"] if "--continuous" in chosen and latency_target is not None else []
    if len(chosen) + len(others) > 1 and chosen:
        fault = f"{chosen[0]} does not go with {[*chosen, *others][1]}"
        raise InputError(f"{fault}; remedy: leave one of them out")


def opened(workers: int | None, scheduler: str | None, *, continuous: bool = False, **how):
    """An Engine, or a Fleet of `workers` here or those of a `scheduler`; with `continuous` those of a queue. how:
    arguments of all of these one's `open`.

    Raises InputError where both are given; otherwise as these.
    """
    if workers is None and scheduler is None:
        from . import continuous as queues
        from . import engine as engines

        return (queues if continuous else engines).open(**how)
    if workers is not None and scheduler is not None:
        raise InputError("--workers starts workers here, --scheduler has its own; remedy: leave one of them out")
    from . import fleet

    boards = fleet.open(workers=workers, scheduler=scheduler, continuous=continuous, **how)
    emulated = sum(member.opened.emulated for member in boards.members)
    if how.get("device") == "auto" and emulated:
        count = f" at {emulated} of {len(boards.members)} workers" if emulated < len(boards.members) else ""
        print(f"zynqbert: no board here{count}, the {how['board']} is emulated", file=sys.stderr)
    return boards


def tell(boards) -> None:
    """Who of a Fleet has answered how much, on stderr; of an Engine nothing."""
    for line in getattr(boards, "report", list)():
        print(f"zynqbert: {line}", file=sys.stderr)
