# SPDX-License-Identifier: Apache-2.0
"""What joins the units on a board, as one table: clocks, streams, memories, memory ports, register blocks.

docs/block-design.md tells the why. The Tcl of the build (build/tcl/) holds no number and no name of a join of its own:
it takes them from `settings_tcl`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .boards import Board
from .capabilities import CAPABILITIES
from .clock_settings import STEPS, ClockSettings, find_settings
from .instructions import ACTIVATION_WORDS, BLOCK, EMBEDDING_BEATS, LANES, MAX_NORM_ENTRIES, WEIGHT_WORDS
from .registers import BLOCKS, CLOCK_INPUT_MHZ, RANGE, WIZARD_OUTPUTS_MHZ, engine_id
from .resources import ACCUMULATOR_BITS, KEY_VALUE_WORDS, SLOTS, weight_bits

NAME = "zynqbert"  # of project, block design, .bit and .hwh: pynq wants the last two alike

CLOCK_MIN_MHZ = 10  # what clock_select needs

# The wizard's outputs have no buffer: the MMCM drives the BUFGMUXes of clock_select, global buffers themselves. A BUFG
# before them would add a cascade that the placer has to keep in one clock region, and delay for nothing.
OUTPUT_DRIVES = "No_buffer"

# Setup margin on the engine's clocks, ns. Timing is analysed for the wizard's settings of the bitstream; retuned by the
# host, the MMCM may run with other factors, whose jitter is greater. Half of the peak-to-peak jitter counts: 0.1 ns is
# room for 0.2 ns more of it. Not measured.
RETUNE_MARGIN_NS = 0.1

SYNTHESIS_STRATEGY = "Flow_PerfOptimized_high"
IMPLEMENTATION_STRATEGY = "Performance_ExplorePostRoutePhysOpt"

# Cells of the units: the name in the block design, and the top function that the IP is made of.
UNITS = {name: f"engine_{name}" for name in ("fetch", "load", "weights", "expand", "vector", "store")}
# Units that are RTL: the cell and its module.
MODULES = {"array": "engine_array"}
IP_LIBRARY = "zynqbert.org:hls"
PORT_BITS = 128
MAX_GROUPS = 3  # key/value ports that the array has

# Fields of the commands (kernels/commands.hpp; a test sums them) and words of the streams, bits.
COMMAND_BITS = {"load": 86, "weights": 128, "expand": 27, "array": 79, "vector": 152, "store": 73}
TOKEN_BITS = 1
SEGMENT_BITS, FAULT_BITS, VERDICT_BITS = 15, 20, 7
# Depths of kernels/config.hpp; axis_data_fifo takes powers of two from 16 on.
COMMAND_DEPTH, TOKEN_DEPTH, STORED_DEPTH, MASK_DEPTH, VALUE_DEPTH = 64, 16, 32, 64, 128
FIFO_MIN_DEPTH = 16
LUT_RAM_BITS = 16_384  # a FIFO of more bits than this takes block RAM

# DDR as the PS maps it for its slave ports, both halves of the address map: segment, address, bytes. The boards' 4 GB
# fill the lower window and the first 2 GB of the upper one.
DDR_WINDOWS = (("DDR_LOW", 0x0, 0x8000_0000), ("DDR_HIGH", 0x8_0000_0000, 0x8_0000_0000))


@dataclass(frozen=True)
class Stream:
    """A stream between two units: interfaces as cell/name, payload in bits, words of its FIFO (0: none between them).

    How the tool pads a struct to bytes is its own affair: the Tcl reads the width from the IPs, demands that both ends
    have the same and that the payload fits.
    """

    name: str
    producer: str
    consumer: str
    bits: int
    depth: int

    @property
    def fifo_depth(self) -> int:
        """What axis_data_fifo offers for that depth."""
        return max(FIFO_MIN_DEPTH, 1 << (self.depth - 1).bit_length()) if self.depth else 0

    @property
    def fifo_memory(self) -> str:
        return "block" if self.fifo_depth * self.bits > LUT_RAM_BITS else "distributed"


@dataclass(frozen=True)
class MemoryBank:
    """A memory between two units: ports as cell/argument, with the indices of its bank."""

    name: str
    writer: str
    reader: str
    words: int
    bits: int
    style: str  # ram_style

    @property
    def address_bits(self) -> int:
        return max(1, (self.words - 1).bit_length())

    @property
    def stalls(self) -> int:
        """Whether its reader may stall (rtl/memory.v): units by HLS do, the array's RTL never."""
        return int(self.reader.split("/")[0] not in MODULES)


@dataclass(frozen=True)
class MemoryPort:
    """A slave port of the PS and the units' AXI masters behind it, as cell/interface."""

    name: str  # HP0 .. HP3, HPC0, HPC1, LPD
    masters: tuple[str, ...]

    @property
    def number(self) -> int:
        """n of S_AXI_GPn, by which the PS's parameters and address segments call it."""
        return ("HPC0", "HPC1", "HP0", "HP1", "HP2", "HP3", "LPD").index(self.name)

    @property
    def interface(self) -> str:
        return f"S_AXI_{self.name}" if self.name == "LPD" else f"S_AXI_{self.name}_FPD"

    @property
    def clock(self) -> str:
        return "saxi_lpd_aclk" if self.name == "LPD" else f"saxi{self.name.lower()}_fpd_aclk"

    @property
    def segments(self) -> str:
        """What its address segments' names begin with."""
        return f"SAXIGP{self.number}/{self.name}"


@dataclass(frozen=True)
class BlockDesign:
    """Everything the Tcl needs to know of one bitstream."""

    board: Board
    clock_mhz: float
    wizard: ClockSettings
    streams: tuple[Stream, ...]
    memories: tuple[MemoryBank, ...]
    ports: tuple[MemoryPort, ...]

    @property
    def unconnected(self) -> tuple[str, ...]:
        """Interfaces and inputs of the units that stay open: memory ports for weights and the array's key/value ports
        that the board has no columns for, and the handshake that fetch and engine_control join pin by pin."""
        used = {master for port in self.ports for master in port.masters}
        masters = (f"weights/m_axi_hp{n}" for n in range(6) if f"weights/m_axi_hp{n}" not in used)
        return ("fetch/ap_ctrl", *masters, *(f"array/key_value_{n}_q0" for n in range(self.board.groups, MAX_GROUPS)))


def block_design(board: Board, clock_mhz: float) -> BlockDesign:
    """The block design of `board` with an engine clock of at most `clock_mhz`; ValueError for a clock out of reach."""
    return BlockDesign(board, clock_mhz, wizard(clock_mhz), streams(board), memories(board), ports(board))


def wizard(clock_mhz: float) -> ClockSettings:
    """Factors for the outputs `clock_mhz` and WIZARD_OUTPUTS_MHZ[1:], none above `clock_mhz`, each nearest from below.

    So 250 MHz comes with 200, 142.9 and 100. Raises ValueError for a clock out of reach.
    """
    if not clock_mhz >= CLOCK_MIN_MHZ:
        raise ValueError(f"engine clock of {clock_mhz:g} MHz is below {CLOCK_MIN_MHZ} MHz")
    return find_settings((clock_mhz, *(min(mhz, clock_mhz) for mhz in WIZARD_OUTPUTS_MHZ[1:])))


def streams(board: Board) -> tuple[Stream, ...]:
    """The streams between the units."""
    commands = tuple(
        Stream(f"commands_{unit}", f"fetch/commands_{unit}", f"{unit}/commands", bits, COMMAND_DEPTH)
        for unit, bits in COMMAND_BITS.items()
    )
    tokens = (
        ("weights_ready", "expand", "array"),
        ("weights_free", "array", "weights"),
        ("parameters_ready", "load", "vector"),
        ("parameters_free", "vector", "load"),
        ("data_ready", "vector", "array"),
        ("done", "store", "fetch"),
    )
    return (
        *commands,
        *(Stream(name, f"{giver}/{name}", f"{taker}/{name}", TOKEN_BITS, TOKEN_DEPTH) for name, giver, taker in tokens),
        # The array's RTL holds this stream's words itself: it has to count them.
        Stream("accumulators", "array/accumulators", "vector/accumulators", LANES * ACCUMULATOR_BITS, 0),
        Stream("segments", "weights/segments", "expand/segments", SEGMENT_BITS, TOKEN_DEPTH),
        Stream("faults", "weights/faults", "fetch/faults", FAULT_BITS, TOKEN_DEPTH),
        Stream("verdicts", "vector/verdicts", "fetch/verdicts", VERDICT_BITS, TOKEN_DEPTH),
        *(
            Stream(f"{name}_{port}", f"weights/{name}_{port}", f"expand/{name}_{port}", PORT_BITS, depth)
            for name, depth in (("masks", MASK_DEPTH), ("values", VALUE_DEPTH))
            for port in range(board.ports)
        ),
        Stream("stored", "vector/stored", "store/words", LANES * 16, STORED_DEPTH),
    )


def memories(board: Board) -> tuple[MemoryBank, ...]:
    """The memories between the units, a bank each, in the order of the tops' partitions.

    Block RAM: URAM, where the part has it, holds the resident weights, a memory of their unit alone.
    """
    banks = [MemoryBank("weights", "expand/weights", "array/weights", WEIGHT_WORDS, weight_bits(board), "block")]
    for bank in range(2):
        name = f"parameters_{bank}"
        banks.append(MemoryBank(name, f"load/{name}", f"vector/{name}", SLOTS * MAX_NORM_ENTRIES // 2, 64, "block"))
    for lane in range(LANES):
        name = f"embedding_{lane}"
        banks.append(MemoryBank(name, f"load/{name}", f"vector/{name}", SLOTS * EMBEDDING_BEATS, 128, "block"))
    for bank in range(BLOCK):
        name = f"activations_{bank}"
        words = ACTIVATION_WORDS // BLOCK
        banks.append(MemoryBank(name, f"vector/{name}", f"array/{name}", words, LANES * 8, "block"))
    for group in range(board.groups):
        name = f"key_value_{group}"
        banks.append(MemoryBank(name, f"vector/{name}", f"array/{name}", KEY_VALUE_WORDS, LANES * 8, "block"))
    return tuple(banks)


def ports(board: Board) -> tuple[MemoryPort, ...]:
    """The PS's memory ports in use: weights each have one, of which load shares the first."""
    found = []
    for n, name in enumerate(board.weight_ports):
        found.append(MemoryPort(name, (f"weights/m_axi_hp{n}", *(["load/m_axi_hp0"] if n == 0 else []))))
    return (*found, MemoryPort(board.shared_port, ("fetch/m_axi_hp0", "store/m_axi_hp0")))


def ps_settings(design: BlockDesign) -> dict[str, object]:
    """Parameters of the PS on top of the board's preset: pl_clk0, an interrupt, the register port, the memory ports."""
    used = {port.number for port in design.ports}
    settings: dict[str, object] = {
        "PSU__FPGA_PL0_ENABLE": 1,
        "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": CLOCK_INPUT_MHZ,
        "PSU__USE__FABRIC__RST": 1,
        "PSU__NUM_FABRIC_RESETS": 1,
        "PSU__USE__IRQ0": 1,
        "PSU__USE__M_AXI_GP0": 1,
        "PSU__MAXIGP0__DATA_WIDTH": 32,
        "PSU__USE__M_AXI_GP1": 0,
        "PSU__USE__M_AXI_GP2": 0,
    }
    for number in range(7):
        settings[f"PSU__USE__S_AXI_GP{number}"] = int(number in used)
        if number in used:
            settings[f"PSU__SAXIGP{number}__DATA_WIDTH"] = PORT_BITS
    return settings


def wizard_settings(factors: ClockSettings) -> tuple[dict[str, object], ...]:
    """Parameters of clk_wiz in the order it takes them: a frequency counts once its output is there, factors count once
    it was told to take them as they are."""
    outputs = factors.mhz()
    general: dict[str, object] = {
        "PRIMITIVE": "MMCM",
        "PRIM_SOURCE": "No_buffer",  # pl_clk0 comes from a buffer of the PS
        "USE_DYN_RECONFIG": "true",  # by AXI4-Lite: the only interface that clk_wiz 6.0 still offers
        "USE_PHASE_ALIGNMENT": "false",  # no buffer in the feedback: the engine keeps no phase with the fixed clock
        "OPTIMIZE_CLOCKING_STRUCTURE_EN": "false",  # no divider behind the MMCM, which retuning would not know of
        "NUM_OUT_CLKS": len(outputs),
    }
    general |= {f"CLKOUT{n}_USED": "true" for n in range(2, len(outputs) + 1)}
    general |= {f"CLKOUT{n}_DRIVES": OUTPUT_DRIVES for n in range(1, len(outputs) + 1)}
    wanted = {f"CLKOUT{n}_REQUESTED_OUT_FREQ": f"{mhz:.3f}" for n, mhz in enumerate(outputs, 1)}
    first, *others = factors.divide_eighths
    exact: dict[str, object] = {
        "MMCM_DIVCLK_DIVIDE": factors.prescale,
        "MMCM_CLKFBOUT_MULT_F": f"{factors.multiply_eighths / STEPS:.3f}",
        "MMCM_CLKOUT0_DIVIDE_F": f"{first / STEPS:.3f}",
    }
    exact |= {f"MMCM_CLKOUT{n}_DIVIDE": divide // STEPS for n, divide in enumerate(others, 1)}
    return general, wanted, {"OVERRIDE_MMCM": "true"}, exact


def settings_tcl(
    design: BlockDesign,
    *,
    project: Path,
    results: Path,
    ip_folders: Sequence[Path],
    rtl: Sequence[Path],
    constraints: Path,
    jobs: int,
) -> str:
    """The settings file that both Tcl scripts read: one `set` a value, lists of rows where the table has many.

    project: a folder that Vivado may empty; results: where reports, .bit and .hwh go; jobs: runs of Vivado at a time.
    Paths are made absolute.
    """
    values: dict[str, str] = {
        "name": NAME,
        "project": tcl_word(project.resolve()),
        "results": tcl_word(results.resolve()),
        "jobs": str(jobs),
        "part": design.board.part,
        "board_part": design.board.board_part,
        "board": design.board.name,
        "synthesis_strategy": SYNTHESIS_STRATEGY,
        "implementation_strategy": IMPLEMENTATION_STRATEGY,
        "ip_folders": tcl_list(path.resolve() for path in ip_folders),
        "rtl": tcl_list(path.resolve() for path in rtl),
        "constraints": tcl_word(constraints.resolve()),
        "ip_library": IP_LIBRARY,
        "units": tcl_list(word for pair in UNITS.items() for word in pair),
        "modules": tcl_rows((cell, module, "CONFIG.COLUMNS", design.board.columns) for cell, module in MODULES.items()),
        "engine_id": f"0x{engine_id(design.board.columns, CAPABILITIES):016X}",
        "engine_hz": str(round(design.wizard.mhz()[0] * 1e6)),
        "port_bits": str(PORT_BITS),
        "ps_settings": tcl_list(_configuration(ps_settings(design))),
        "wizard_settings": tcl_rows(map(_configuration, wizard_settings(design.wizard))),
        "blocks": tcl_rows((b.cell, b.vlnv, f"0x{b.base:08X}", f"0x{RANGE:X}") for b in BLOCKS),
        "ddr_windows": tcl_rows((name, f"0x{base:X}", f"0x{size:X}") for name, base, size in DDR_WINDOWS),
        "streams": tcl_rows(
            (s.name, s.producer, s.consumer, s.bits, s.fifo_depth, s.fifo_memory) for s in design.streams
        ),
        "memories": tcl_rows(
            (m.name, m.writer, m.reader, m.words, m.bits, m.address_bits, m.style, m.stalls) for m in design.memories
        ),
        "ports": tcl_rows((p.name, p.interface, p.clock, p.segments, *p.masters) for p in design.ports),
        "unconnected": tcl_list(design.unconnected),
    }
    lines = ["# Written by zynqbert build from fpga/block_design.py."]
    lines += [f"set design({name}) {value}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def tcl_word(value: object) -> str:
    """`value` as one word of Tcl, whatever characters it has."""
    text = str(value)
    if not text:
        return "{}"
    return "".join(c if c.isalnum() or c in "_./:-+=,@%*" else "\\n" if c == "\n" else f"\\{c}" for c in text)


def tcl_list(values: Iterable[object]) -> str:
    """A Tcl list of words."""
    return "[list " + " ".join(map(tcl_word, values)) + "]"


def tcl_rows(rows: Iterable[Sequence[object]]) -> str:
    """A Tcl list of lists, a row a line."""
    return "[list \\\n" + "".join(f"  {tcl_list(row)} \\\n" for row in rows) + "]"


def _configuration(parameters: Mapping[str, object]) -> list[object]:
    """An IP's parameters as set_property -dict takes them."""
    return [word for name, value in parameters.items() for word in (f"CONFIG.{name}", value)]
