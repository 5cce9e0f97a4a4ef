# SPDX-License-Identifier: Apache-2.0
"""The one table of addresses and AXI-Lite registers, as the driver, the emulated device, the RTL (rtl/registers.vh),
the block design's Tcl and docs/registers.md have them.

`python -m zynqbert.fpga.registers > docs/registers.md` and
`python -m zynqbert.fpga.registers --verilog > fpga/rtl/registers.vh` render it; a test compares.
"""

import sys
from dataclasses import dataclass

from .capabilities import CAPABILITIES, bits
from .instructions import LANES, PROGRAM_VERSION

RANGE = 0x1_0000  # bytes of address space of each block
CLOCK_INPUT_MHZ = 100.0  # the fixed clock: AXI-Lite, the wizard's control and its input
WIZARD_OUTPUTS_MHZ = (300, 200, 150, 100)  # CLKOUT0 .. 3 as the bitstream sets them, VCO 1200 MHz
SELECT_WAIT_CYCLES = 64  # fixed-clock cycles that the engine stands still before, and after, a change of output

ID_MAGIC = 0x5A51  # "ZQ"

AP_START, AP_DONE, AP_IDLE, AP_READY = 1 << 0, 1 << 1, 1 << 2, 1 << 3
WIZARD_RESET = 0xA
WIZARD_LOCKED = 1 << 0
WIZARD_LOAD = 0b11  # LOAD and SADDR: take the registers over
WIZARD_DEFAULTS = 0b01  # LOAD alone: back to what the bitstream had


CLOCK_STOP = 1 << 8
CLOCK_STOPPED, CLOCK_BUSY = 1 << 8, 1 << 9
CLOCK_LIMIT_DEFAULT = 3  # of register CLOCK_LIMIT
CLOCK_CHOSEN = 1 << 8  # of register CLOCK_ENDED
RESET_ENGINE = 1 << 0


@dataclass(frozen=True)
class Register:
    """A register: byte offset from its block's base, width in bits (64: low word first), access, meaning.

    Access: R, W, RW; R/COR clears on read, RW/TOW toggles the bits written as 1.
    """

    name: str
    offset: int
    width: int
    access: str
    meaning: str


STATUS_NAMES = (
    "fine",
    "bad opcode",
    "bad field",
    "bus error",
    "deadlock",
    "internal fault",
    "bad directory of weights",
    "bad segment of weights",
    "overlong segment of weights",
    "bad count of weights",
    "no end of weights",
)
WEIGHTS_FAULTS = range(6, len(STATUS_NAMES))  # of compressed weights
_STATUS_MEANING = "how the last run ended: " + ", ".join(f"{code} {name}" for code, name in enumerate(STATUS_NAMES))

_ID_MEANING = (
    "[31:16] 0x5A51, [15:8] program version, [7:0] columns; [39:32] lanes; from bit 40 on, one each: "
    + ", ".join(name.replace("_", " ") for name in CAPABILITIES)
)

ENGINE = (
    Register("AP_CTRL", 0x00, 32, "RW", "bit 0 ap_start, 1 ap_done (COR), 2 ap_idle, 3 ap_ready (COR)"),
    Register("GIE", 0x04, 32, "RW", "bit 0: interrupts on"),
    Register("IER", 0x08, 32, "RW", "bit 0: interrupt at ap_done, bit 1: at ap_ready"),
    Register("ISR", 0x0C, 32, "RW/TOW", "bit 0: ap_done, bit 1: ap_ready"),
    Register("PROGRAM", 0x10, 64, "RW", "address of the program, a multiple of 16"),
    Register("IMAGE", 0x20, 64, "RW", "address of the memory image, a multiple of 16"),
    Register("IO", 0x30, 64, "RW", "address of the io buffer, a multiple of 16"),
    Register("INSTRUCTIONS", 0x40, 32, "RW", "instructions in the program; 0 runs nothing, but sets STATUS and DETAIL"),
    Register("ROW_BLOCKS", 0x48, 32, "RW", "row blocks of the pass, 1 .. 4"),
    Register("STATUS", 0x50, 32, "R", _STATUS_MEANING),
    Register("DETAIL", 0x60, 64, "R", "index of the last instruction, or the address of a bus error"),
    Register("ID", 0x70, 64, "R", _ID_MEANING),
    Register("CLOCK", 0x80, 32, "RW", "[1:0] the wizard's output that clocks the engine; bit 8: 1 stops that clock"),
    Register("CLOCK_STATUS", 0x84, 32, "R", "[1:0] output in use; bit 8: the clock is stopped; bit 9: changing"),
    Register("RESET", 0x88, 32, "RW", "bit 0: write 1 to reset the engine; reads 1 until that is done"),
    Register(
        "CLOCK_LIMIT",
        0x8C,
        32,
        "RW",
        "[1:0] outputs below this one and below CLOCK's a program may not choose; 3 at first: none below CLOCK's",
    ),
    Register(
        "CLOCK_ENDED", 0x90, 32, "R", "[1:0] output of the clock as the last run ended; bit 8: the program chose it"
    ),
)

CLOCK_WIZARD = (
    Register("RESET", 0x00, 32, "W", "write 0xA: software reset"),
    Register("STATUS", 0x04, 32, "R", "bit 0: locked"),
    Register("CONFIG0", 0x200, 32, "RW", "[7:0] DIVCLK, [15:8] MULT, [25:16] fraction of MULT x 1000"),
    Register("CLKOUT0", 0x208, 32, "RW", "[7:0] divide of output 0, [17:8] its fraction x 1000"),
    Register("CLKOUT1", 0x214, 32, "RW", "[7:0] divide of output 1"),
    Register("CLKOUT2", 0x220, 32, "RW", "[7:0] divide of output 2"),
    Register("CLKOUT3", 0x22C, 32, "RW", "[7:0] divide of output 3"),
    Register("LOAD", 0x25C, 32, "RW", "write 3: load the registers above; 1: restore the defaults"),
)


@dataclass(frozen=True)
class Block:
    """A block of the overlay with a place in the PL's address space; `cell` is its name in the block design."""

    cell: str
    title: str
    vlnv: str
    base: int
    registers: tuple[Register, ...]


BLOCKS = (
    Block("engine", "Engine", "xilinx.com:module_ref:engine_control:1.0", 0xA000_0000, ENGINE),
    Block("clock_wizard", "Clocking wizard", "xilinx.com:ip:clk_wiz:6.0", 0xA001_0000, CLOCK_WIZARD),
    Block("interrupts", "Interrupt controller, driven by pynq", "xilinx.com:ip:axi_intc:4.1", 0xA002_0000, ()),
)
ENGINE_BLOCK, CLOCK_WIZARD_BLOCK, INTERRUPT_BLOCK = BLOCKS
ENGINE_INTERRUPT = 0  # input of the interrupt controller

_ENGINE = {register.name: register for register in ENGINE}
_CLOCK_WIZARD = {register.name: register for register in CLOCK_WIZARD}


def engine(name: str) -> Register:
    """The engine's register `name`."""
    return _ENGINE[name]


def clock_wizard(name: str) -> Register:
    """The clocking wizard's register `name`."""
    return _CLOCK_WIZARD[name]


def engine_id(columns: int, capabilities: tuple[str, ...] = CAPABILITIES) -> int:
    """What ID reads (64 bits) on an engine of `columns` columns that runs this version of programs."""
    low = ID_MAGIC << 16 | PROGRAM_VERSION << 8 | columns
    return (bits(capabilities) << 8 | LANES) << 32 | low


def render() -> str:
    """docs/registers.md."""
    lines = [
        "# Registers",
        "",
        "Generated by `python -m zynqbert.fpga.registers > docs/registers.md` from that file; a test compares.",
        "A 64-bit register is two words, the low one first. COR: clears on read. TOW: a 1 written toggles the bit.",
        "",
    ]
    for block in BLOCKS:
        lines += [
            f"## {block.title}",
            "",
            f"`{block.vlnv}`, cell `{block.cell}`, base address 0x{block.base:08X}, range 0x{RANGE:X}; "
            "the overlay's metadata decides.",
            "",
        ]
        if block.registers:
            lines += ["| offset | name | bits | access | meaning |", "|---|---|---|---|---|"]
            rows = ((f"0x{r.offset:02X}", r.name, str(r.width), r.access, r.meaning) for r in block.registers)
            lines += [f"| {' | '.join(row)} |" for row in rows]
            lines.append("")
    lines += [
        "To run: write PROGRAM, IMAGE, IO, INSTRUCTIONS and ROW_BLOCKS, write 1 to AP_CTRL, read AP_CTRL until bit 1",
        "is set (that read clears it), read STATUS. All registers are on the fixed clock and answer while the engine's",
        "clock stands. A change of CLOCK stops the engine's clock, waits, changes the output, waits, and starts it.",
        "So does a choice of the program, in the midst of its run; as the run ends the clock goes back to CLOCK's.",
        "The wizard is written only while AP_CTRL bit 2 (idle) is set and CLOCK_STATUS says stopped; output n is",
        f"{CLOCK_INPUT_MHZ:g} MHz x MULT / (DIVCLK x divide n); fractions, of MULT and of output 0 alone, are",
        "multiples of 125. Retuning resets nothing: what is on chip stays.",
        "",
    ]
    return "\n".join(lines)


def render_verilog() -> str:
    """rtl/registers.vh: offsets of the engine's registers as local parameters."""
    lines = [
        "// SPDX-License-Identifier: Apache-2.0",
        "// Generated by `python -m zynqbert.fpga.registers --verilog > fpga/rtl/registers.vh`.",
    ]
    lines += [f"localparam [7:0] REG_{r.name} = 8'h{r.offset:02X};" for r in ENGINE]
    lines += [f"localparam integer SELECT_WAIT_CYCLES = {SELECT_WAIT_CYCLES};"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render_verilog() if "--verilog" in sys.argv[1:] else render(), end="")
