# SPDX-License-Identifier: Apache-2.0
"""What the cycle, power, resource and clock models take for granted until a vendor report or a board says otherwise.

One table. `docs/assumptions.md` is rendered from it (`python -m zynqbert.fpga.assumptions > docs/assumptions.md`), and
the models read their numbers from it, so that a figure that a report contradicts is replaced in one place. In
`confirm`, `csynth:` is a path under `<profile>` of the unit's csynth.xml.
"""

from dataclasses import dataclass

_OVERALL = "csynth: PerformanceEstimates/SummaryOfOverallLatency"
_LOOP = "csynth: PerformanceEstimates/SummaryOfLoopLatency"
_ARRAY = "Verilator confirms it: the array's RTL, to the cycle (tests/fpga/test_mac_array_rtl.py)"


@dataclass(frozen=True)
class Assumption:
    """One assumption: `name` is how a model asks for `value` (in `unit`); `effect` says what changes if it is wrong.
    `low` .. `high`: where `value` is believed to lie, if a figure's range takes that in."""

    id: str
    name: str
    value: float
    unit: str
    text: str
    effect: str
    confirm: str
    low: float | None = None
    high: float | None = None


_GENERAL: tuple[tuple[str, float, str, str, str, str], ...] = (
    (
        "clock_mhz", 250, "MHz",
        "The engine meets timing at this clock on both boards; 300 is the ambition.",
        "Time scales with 1/clock, but for what DDR binds; dynamic power with the clock.",
        "timing report: WNS ≥ 0; csynth: PerformanceEstimates/SummaryOfTimingAnalysis/EstimatedClockPeriod",
    ),
    (
        "ii", 1, "cycles",
        "Every loop of the table below starts an iteration each cycle.",
        "A loop of II = 2 doubles its trips' time; in array_mac that doubles the whole.",
        f"{_LOOP}/*/PipelineII",
    ),
    (
        "command_overhead", 4, "cycles",
        "Load, vector unit and store need this from the end of one command to the first trip of the next.",
        "1 cycle more costs BERT-base 0.05 %: it shows in attention.",
        f"{_OVERALL}/Average-caseLatency less the sum of {_LOOP}/*/Latency",
    ),
    (
        "loop_overhead", 2, "cycles",
        "Between two loops of one command.",
        "Three loops a softmax, two a norm: 1 cycle more costs BERT-base 0.05 %.",
        f"{_OVERALL}/Average-caseLatency less the sum of {_LOOP}/*/Latency",
    ),
    (
        "array_overhead", 0, "cycles",
        "The array takes the first operand of a tile the cycle after the last of the tile before.",
        "1 cycle a tile costs BERT-base 0.08 %.",
        _ARRAY,
    ),
    (
        "array_start", 3, "cycles",
        "From the cycle in which what a tile still waits for (command, token, the word that leaves the accumulator "
        "stream) is there to the tile's first operand.",
        "Seen only where the array waits.",
        _ARRAY,
    ),
    (
        "array_shortest", 2, "cycles",
        "From the first operand of a tile to the next one's, however few steps it has.",
        "Seen only by tiles of one step.",
        _ARRAY,
    ),
    (
        "array_depth", 43, "cycles",
        "From the last operand of a tile to its first word in the accumulator stream: 32 rows of skew and 11 stages.",
        "Seen only where the array waits for its own result, eight times a layer.",
        _ARRAY,
    ),
    (
        "drain_overlap", 1, "",
        "A column's sums leave the array in the cycle they are complete, and wait in their row for their turn: a tile "
        "drains while the next one multiplies, so it takes max(K, words of the tile before). 0: a tile drains before "
        "the next one starts, as the C++ reads.",
        "Without it BERT-base takes 21 % more on ZCU102 and 27 % more on ZCU111.",
        _ARRAY,
    ),
    (
        "accumulator_tiles", 4, "tiles",
        "The accumulator stream holds this many tiles of C words; a tile starts only when its words fit.",
        "With one tile BERT-base takes 19 to 23 % more: the array waits until the tile before has been read.",
        "The array's RTL holds the stream itself (depth 4·C, 864 bits) and counts; Verilator confirms that no tile "
        "starts without room (tests/fpga/test_mac_array_rtl.py)",
    ),
    (
        "token_latency", 2, "cycles",
        "From a token's write to its reader's next cycle.",
        "Paid where a unit waits for another: 1 cycle more costs BERT-base less than 0.01 %.",
        "cosimulation: write to read of the token streams",
    ),
    (
        "command_depth", 0, "",
        "The command streams never fill: fetch runs ahead of every unit (0: unbounded).",
        "Shallow streams keep load from fetching the next weights early and expose their load time.",
        "cosimulation: the deepest fill of the command streams",
    ),
    (
        "fetch_command_cycles", 1, "cycles",
        "Fetch sends one command to each unit in this time.",
        "Nothing while fetch runs ahead; four cycles a command would still be hidden.",
        f"{_LOOP}/fetch_gemm_blocks/PipelineII",
    ),
    (
        "ddr_peak_gb_s", 17.07, "GB/s",
        "PS DDR4, 64 bits at 2133 MT/s, on both boards (UG1182, UG1271).",
        "Half of it costs BERT-base less than 0.1 %; a short pass, where weights bind, two thirds more.",
        "board: a read-bandwidth test over the HP ports",
    ),
    (
        "ddr_efficiency", 0.8, "",
        "Share of the peak that long bursts reach, refresh and the CPU's own traffic included.",
        "At 0.3 BERT-base takes 0.1 % more on ZCU102 and 7 % more on ZCU111.",
        "board: a read-bandwidth test over the HP ports",
    ),
    (
        "port_bytes", 16, "bytes/cycle",
        "Each of the C/32 HP and HPC ports moves one 128-bit beat an engine cycle; they share nothing but the DDR "
        "controller.",
        "At half of it BERT-base takes 0.4 to 0.6 % more.",
        "csynth: InterfaceSummary, and a board test of all ports at once",
    ),
    (
        "axi_read_latency_ns", 250, "ns",
        "From a burst's address to its first beat.",
        "Paid once a load command and once an embedding row: 100 ns more cost BERT-base 0.4 to 0.5 %.",
        "board: AXI performance monitor; csynth: the m_axi latency option the report was made with",
    ),
    (
        "axi_write_latency_ns", 150, "ns",
        "From the last beat of a burst to its response.",
        "Once a pass.",
        "board: AXI performance monitor",
    ),
    (
        "gather_overlap", 0, "",
        "Embedding rows are gathered one by one: each waits out the read latency (0). 1: their bursts overlap.",
        "Overlapped, BERT-base gains 0.8 to 1.1 %.",
        f"{_LOOP}/load_embedding_rows/Latency",
    ),
    (
        "load_store_contention", 0, "",
        "Load and store do not slow each other.",
        "Only traces write much; a normal pass writes less than a kilobyte.",
        "board: cycles of a pass with and without traces",
    ),
    (
        "start_done_cycles", 20, "cycles",
        "From the start bit to fetch's first read and from `done` to the interrupt.",
        "Once a pass; register writes, cache flush and the host's own time are not in the figure at all.",
        "board: cycle counter against the host's clock",
    ),
    (
        "rows_enabled", 1, "",
        "Of the memories between units only the blocks that hold the word are enabled in an access (ram_decomp of "
        "rtl/memory.v), so that the power model counts one row of the blocks in depth.",
        "If all of a memory's blocks worked in each access, BERT-base would take 5 % more energy.",
        "report_power: enable rates of the block RAMs of memory_weights and memory_activations",
    ),
    (
        "mantissa_products_in_luts", 1, "",
        "Products with an 8-bit mantissa, or narrower than 18 by 9 bits, are built in LUTs (bind_op fabric), but "
        "for the two that take most: the requantizer and N·x.",
        "In DSPs, ZCU102 would hold over 90 % of its DSPs.",
        "csynth: AreaEstimates/Resources/DSP of the vector unit",
    ),
    (
        "one_requantizer", 1, "",
        "The loops of the vector unit, one at a time, share one instance of requantize_word (ALLOCATION).",
        "With one instance a loop ZCU102 would hold 89 % of its LUTs.",
        "csynth: AreaEstimates/Resources/LUT of the vector unit; instances of requantize_word in its binding report",
    ),
)  # fmt: skip

# Cycles from a trip's first stage to its result, by loop: what the longest chain of the loop's body needs at 4 ns.
DEPTHS: dict[str, tuple[int, str]] = {
    "load_weights": (6, "beat, count of a mask 2, state, stream"),
    "expand_words": (7, "mask, ranks 2, shift 2, choice, weight buffer"),
    "load_parameters": (3, "beat to parameter slot"),
    "load_table": (3, "beat to parameter slot"),
    "load_rows": (3, "beat to parameter slot and row fields"),
    "load_neighbours": (4, "row 2, comparison, masks"),
    "load_embedding": (4, "beat, lanes, embedding buffer"),
    "vector_copy": (3, "read, split, write"),
    "vector_embed": (16, "place 1, read 2, code 2, product 3, shift 2, add and clamp 2, square 3, write 1"),
    "vector_linear": (14, "read 2, bias 1, product 3, shift 2, clamp 1, table 2 or residual 3, write 1"),
    "vector_turn": (13, "as vector_linear, then the plane"),
    "vector_scores": (10, "product 3, shift 2, clamp 1, maximum 2, write 2"),
    "vector_softmax": (10, "read 2, subtract 1, clamp 1, table 2, sum 2, write 2"),
    "vector_reciprocal": (42, "leading one 2, pipelined division of 32 bits 36, round 2, write 2"),
    "vector_normalize": (12, "read 2, two products 6, shift 2, write 2"),
    "vector_context": (18, "product 4, shift 2, product 3, shift 2, clamp 1, read 4, write 2"),
    "norm_statistics": (44, "squares 6, leading one 4, shift 3, table 2, Newton step 18, root table, write 11"),
    "norm_apply": (30, "read 2, product 4, subtract 1, product 5, shift 3, product 3, shift 2, product 3, entries 7"),
    "gather": (14, "read 2, choose of 128 rows 3, product 3, shift 2, entries 2, write 2"),
    "exit_logits": (26, "read 2, bias 1, product 3, shift 2, product 3, shift 2, table 2, sums 9, write 2"),
    "exit_entropy": (54, "leading one 2, table 2, division of 33 bits 37, product 3, shift 2, tables 4, write 4"),
    "exit_record": (3, "choice, word"),
    "store_words": (3, "word to beat"),
}  # fmt: skip

# What a change of the engine's clock costs (clocking.py).
_CLOCKING: tuple[tuple[str, float, str, str, str, str], ...] = (
    (
        "select_crossing", 4, "cycles",
        "Cycles of the fixed 100 MHz clock that a change of register CLOCK takes beside its two waits: 1 until "
        "CLOCK_STATUS says so (the RTL under Verilator), the others until the gate has opened on the engine's clock.",
        "10 cycles more, before each pass, cost BERT-base 0.001 %.",
        "Verilator: fixed cycles from the write of CLOCK to CLOCK_STATUS without its changing bit",
    ),
    (
        "retune_us", 250, "µs",
        "From the stopped to the started clock when the wizard's outputs change: six register writes, the dynamic "
        "reconfiguration, lock (at most 100 µs, DS925), five words read back.",
        "Doubled, and before each pass, it costs BERT-base 2 % more on ZCU102 and 3 % more on ZCU111.",
        "board: time of ClockWizardDriver.retune",
    ),
)  # fmt: skip

# What it costs the processing system to bring bytes to the engine's memory (switching.py); each with its range.
_SWITCHING: tuple[tuple[str, float, str, str, str, str, float, float], ...] = (
    (
        "copy_gb_s", 0.7, "GB/s",
        "One A53 copies to a cacheable contiguous buffer and flushes it. Copies alone: 0.8 on a Zynq UltraScale+ "
        "(ikwzm/udmabuf issue 16), 1.0 on an AM62L (TI SPRADO9); low: the first without a cache.",
        "Time of a reload and of a switch of tasks scales with 1/value, but for what each write takes.",
        "board: time of writing and flushing a buffer of some MB",
        0.25, 1.5,
    ),
    (
        "write_us", 30, "µs",
        "What a write takes however short it is: an assignment of numpy, and a flush from Python with its system call.",
        "Doubled, a switch of ALBERT-base's adapters of width 32 takes 38 % more.",
        "board: time of writing and flushing 16 bytes",
        10, 100,
    ),
    (
        "copy_traffic", 2, "",
        "Bytes in DDR for each one copied: read once, written once. 1: the source is cached; 3: lines are read before "
        "they are written.",
        "1 more takes 0.06 mJ a megabyte, 1.2 % of a large copy on ZCU102.",
        "board: energy of a copy, by the INA226 of the PS DDR rail",
        1, 3,
    ),
)  # fmt: skip

# Loops that share a label in the kernels.
LABELS = {"load_weights": "weights_tile", "load_parameters": "load_words", "load_table": "load_words",
          "load_rows": "load_words",
          "load_embedding": "load_embedding_beats", "store_words": "store_beats"}  # fmt: skip


def _table() -> tuple[Assumption, ...]:
    rows: list[tuple] = list(_GENERAL)
    rows += [
        (
            f"depth.{loop}", depth, "cycles",
            f"Pipeline depth of {loop}: {chain}.",
            "Added once each time the loop runs; all depths doubled cost BERT-base 0.4 to 0.8 %.",
            f"{_LOOP}/{LABELS.get(loop, loop)}/PipelineDepth",
        )
        for loop, (depth, chain) in DEPTHS.items()
    ]  # fmt: skip
    rows += [*_CLOCKING, *_SWITCHING]
    return tuple(Assumption(f"A{number:02}", *row) for number, row in enumerate(rows, 1))


ASSUMPTIONS: tuple[Assumption, ...] = _table()
_BY_NAME = {a.name: a for a in ASSUMPTIONS}


def assumed(name: str) -> float:
    """The value of the assumption called `name`; KeyError if there is none."""
    return _BY_NAME[name].value


def assumed_range(name: str) -> tuple[float, float]:
    """Least and greatest value of the assumption called `name`; KeyError if there is none, ValueError without a
    range."""
    found = _BY_NAME[name]
    if found.low is None or found.high is None:
        raise ValueError(f"assumption {name} has no range")
    return found.low, found.high


def render() -> str:
    """The table as the text of docs/assumptions.md."""
    lines = [
        "# Assumptions",
        "",
        "Generated from `fpga/assumptions.py`: `python -m zynqbert.fpga.assumptions > docs/assumptions.md`.",
        "Time, power and area are **modelled** on these until a vendor report or a board confirms or replaces them.",
        "`csynth:` is a path under `<profile>` of a unit's csynth.xml.",
        "",
        "| id | name | value | what is assumed | what changes if wrong | what would confirm it |",
        "|---|---|---|---|---|---|",
    ]
    for a in ASSUMPTIONS:
        value = f"{a.value:g} {a.unit}".rstrip()
        value += "" if a.low is None else f" ({a.low:g} to {a.high:g})"
        lines.append(f"| {a.id} | `{a.name}` | {value} | {a.text} | {a.effect} | {a.confirm} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
