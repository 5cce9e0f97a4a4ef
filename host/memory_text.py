# SPDX-License-Identifier: Apache-2.0
"""A memory plan, and what a switch of tasks costs, as text."""

from collections.abc import Iterable, Iterator, Mapping

from rich import box
from rich.table import Table

from ..fpga.switching import SwitchCost
from .memory_plan import MemoryPlan


def table(plan: MemoryPlan, modelled: bool) -> Table:
    """Every memory with its rows. `modelled`: whether densities are assumed, not an artifact's."""
    sizes = "sizes modelled: densities are assumed" if modelled else "sizes as the host allocates them"
    title = f"{plan.model} on {plan.board.name.upper()}: {plan.ddr_bytes} bytes of DDR ({sizes})"
    found = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
    found.add_column("what lies where", overflow="fold", ratio=3)
    for name in ("bytes", "share"):
        found.add_column(name, justify="right", no_wrap=True)
    found.add_column("place, and why", overflow="fold", ratio=5)
    for memory in plan.memories:
        found.add_section()
        found.add_row(memory.name.upper(), str(memory.bytes), "", memory.made_of)
        for row in memory.rows:
            what = f"  over these: {row.what}" if row.over else f"  {row.what}"
            why = f"{row.where}; {row.why}" if row.why else row.where
            found.add_row(what, str(row.bytes), f"{memory.share(row):.1%}", why)
    return found


def placement(plan: MemoryPlan) -> str:
    """In a line, whether the backbone's int4 matrices are on chip."""
    total = len(plan.resident) + len(plan.streamed)
    where = f"{plan.board.name}: {len(plan.resident)} of {total} int4 matrices of the backbone are resident on chip"
    if not plan.streamed:
        return f"{where}; a pass reads none from DDR"
    named = ", ".join(plan.streamed[:6]) + (", …" if len(plan.streamed) > 6 else "")
    return f"{where}; each pass reads from DDR: {named}"


def switch_lines(costs: Mapping[str, Mapping[str, SwitchCost]]) -> Iterator[str]:
    """A line a board, of its "switch" and its "reload"; all modelled."""
    for board, cost in costs.items():
        switch, reload = cost["switch"], cost["reload"]
        times = reload.seconds / switch.seconds, reload.joules / switch.joules
        saved = "{:.0f} times the time, {:.0f} times the energy".format(*times)
        yield f"{board}, modelled: a switch moves {_of(switch)}; a reload {_of(reload)}: {saved}"


def _of(cost: SwitchCost) -> str:
    ms, mj = _range(cost.seconds, cost.seconds_range), _range(cost.joules, cost.joules_range)
    return f"{cost.bytes / 1e3:.0f} kB in {ms} ms with {mj} mJ"


def _range(value: float, ends: Iterable[float]) -> str:
    low, high = ends
    return f"{value * 1e3:.2f} ({low * 1e3:.2f} to {high * 1e3:.2f})"
