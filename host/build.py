# SPDX-License-Identifier: Apache-2.0
"""`zynqbert build`: the vendor's tools from the kernels to a bitstream (docs/building.md)."""

import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .options import BoardName


class StepName(str, Enum):
    """Steps, each with what it needs before it; cosim on request alone."""

    csim = "csim"
    csynth = "csynth"
    cosim = "cosim"
    ip = "ip"
    bitstream = "bitstream"


def build(
    board: Annotated[BoardName, typer.Option("--board", help="Board to build for.")],
    step: Annotated[StepName, typer.Option("--step", help="How far to go; what it needs comes first.")] = (
        StepName.bitstream
    ),
    clock_mhz: Annotated[float, typer.Option("--clock-mhz", help="Engine clock that timing must be met for.")] = 300,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the build; build/BOARD if none.")] = None,
    tools: Annotated[Path | None, typer.Option("--tools", help="Where Vitis and Vivado are installed.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=5, help="Units at a time; each takes some GB.")] = 2,
    predictor: Annotated[
        Path | None, typer.Option("--predictor", help="Project of a network that foretells exits; the table if none.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Do again what is done already.")] = False,
) -> None:
    """Build the bitstream of a board with Vitis HLS and Vivado 2024.2 or newer; hours of work, which may be cut short.

    Example: zynqbert build --board zcu102 --clock-mhz 250

    No further than synthesis and its gates: zynqbert build --board zcu102 --step csynth

    Exits foretold by a network: zynqbert build --board zcu102 --predictor build/edgebert/predictor
    """
    from ..fpga.boards import board_named
    from ..fpga.build.predictor import read_predictor
    from ..fpga.build.steps import NEEDS, Build, BuildFailed, run
    from ..fpga.build.tools import find_hls, find_vivado

    last = step.value
    settings = Build(
        board=board_named(board.value),
        clock_mhz=clock_mhz,
        out=out or Path("build") / board.value,
        hls=find_hls(tools),
        # looked for at once: not after hours of synthesis
        vivado=find_vivado(tools) if last == "bitstream" else None,
        jobs=jobs,
        force=force,
        predictor=None if predictor is None else read_predictor(predictor),
    )
    for tool in filter(None, (settings.hls, settings.vivado)):
        print(f"{tool.name} {tool.version}: {tool.path}")
    try:
        with interrupted_by_signals(), watched(NEEDS[last]) as notify:
            manifest = run(settings, last, notify, log=print)
    except BuildFailed as error:
        print("\n".join(error.details), file=sys.stderr)
        raise
    if "csynth" in NEEDS[last]:
        print("\n".join(synthesis_lines(settings.out / "csynth.json")))
    print(manifest if manifest is not None else settings.out)


def synthesis_lines(path: Path) -> list[str]:
    """A line for each unit of csynth.json: clock that the estimate allows, resources, assumptions."""
    units = json.loads(path.read_text(encoding="utf-8"))["units"]
    lines = []
    for name, unit in units.items():
        resources = ", ".join(f"{kind} {count:,}" for kind, count in unit["resources"].items())
        verdicts = [row["verdict"] for row in unit["assumptions"]]
        lines.append(
            f"{name}: estimated for {unit['reachable_mhz']:g} MHz; {resources}; assumptions: "
            f"{verdicts.count('confirmed')} confirmed, {verdicts.count('contradicted')} contradicted"
        )
    return [*lines, f"{path}: each loop and assumption"]


@contextmanager
def watched(steps: Sequence[str]) -> Iterator:
    """Lines on stdout as steps begin and end, and a bar on stderr where that is a terminal; yields the function to
    call with each event."""
    from rich.console import Console
    from rich.progress import Progress

    from ..fpga.build.source import UNITS
    from .output import progress_columns

    console = Console(stderr=True)
    total = sum(1 if step == "bitstream" else len(UNITS) for step in steps)
    running: list[str] = []
    lock = threading.Lock()  # units run in threads
    # a line printed on the same terminal goes above the bar, one that goes to a file goes there
    with Progress(
        *progress_columns(), console=console, disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty()
    ) as bar:
        task = bar.add_task("", total=total)

        def notify(event) -> None:
            name = f"{event.step} {event.unit}".strip()
            with lock:
                if event.state == "started":
                    running.append(name)
                else:
                    if name in running:
                        running.remove(name)
                    bar.advance(task)
                took = "" if event.state in ("started", "up to date") else f" after {event.seconds:.0f} s"
                print(f"{name}: {event.state}{took}", flush=True)
                bar.update(task, description=", ".join(running))

        yield notify


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """A closed terminal or a kill ends the build as Ctrl-C does, so that no tool is left running for hours."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    # nohup has the closed terminal ignored: that stays
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
