# SPDX-License-Identifier: Apache-2.0
"""Register files of the emulated device (fpga/registers.py): engine, clocking wizard, and the PS clock registers that
pynq.Overlay writes before a download.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..fpga import registers
from ..fpga.registers import Register

# What a bitstream is built with: 100 MHz x 10 / (1 x 4) = 250 MHz.
WIZARD_CONFIG0_DEFAULT = 10 << 8 | 1
WIZARD_CONFIG2_DEFAULT = 4
# Reads of the wizard's STATUS until it reports lock again after LOAD.
READS_UNTIL_LOCK = 3


class EmulationError(RuntimeError):
    """The host did what the hardware would not forgive; the message says what."""


@dataclass
class Faults:
    """Faults that tests inject."""

    never_finishes: bool = False  # ap_start is taken, ap_done never comes
    never_locks: bool = False  # the clocking wizard stays unlocked after LOAD


class RegisterBlock:
    """A block of 32-bit registers; one that no table knows raises EmulationError."""

    def __init__(self, name: str, base: int, size: int, table: tuple[Register, ...]):
        self.name, self.base, self.size = name, base, size
        self.values: dict[int, int] = {}
        self.access: dict[int, str] = {}
        for register in table:
            for word in range(register.width // 32):
                self.values[register.offset + 4 * word] = 0
                self.access[register.offset + 4 * word] = register.access

    def read(self, offset: int) -> int:
        """Value of the register at `offset`."""
        if offset not in self.values:
            raise EmulationError(f"read of {self.name} offset 0x{offset:X}, where there is no register")
        return self.values[offset]

    def write(self, offset: int, value: int) -> None:
        """Write `value` to the register at `offset`."""
        if offset not in self.values:
            raise EmulationError(f"write to {self.name} offset 0x{offset:X}, where there is no register")
        if "W" not in self.access[offset]:
            raise EmulationError(f"write to {self.name} offset 0x{offset:X}, which is read-only")
        self.values[offset] = value

    def get(self, register: Register) -> int:
        """Value of `register`, both words if it has 64 bits."""
        high = self.values[register.offset + 4] if register.width == 64 else 0
        return high << 32 | self.values[register.offset]

    def put(self, register: Register, value: int) -> None:
        """Set `register` from the hardware's side."""
        self.values[register.offset] = value & 0xFFFFFFFF
        if register.width == 64:
            self.values[register.offset + 4] = value >> 32


class StorageBlock(RegisterBlock):
    """Registers that only remember what was written."""

    def __init__(self, name: str, base: int, size: int, values: dict[int, int]):
        super().__init__(name, base, size, ())
        self.values = {offset: values.get(offset, 0) for offset in range(0, size, 4)}
        self.access = dict.fromkeys(self.values, "RW")


class EngineBlock(RegisterBlock):
    """The engine's registers; writing ap_start calls `run(program, image, io, instructions, row_blocks)`, which
    answers (status, detail)."""

    def __init__(self, columns: int, run: Callable[..., tuple[int, int]], faults: Faults):
        super().__init__("engine", registers.ENGINE_BASE, registers.RANGE, registers.ENGINE)
        self.columns, self.run, self.faults = columns, run, faults
        self.control = registers.engine("AP_CTRL").offset
        self.values[self.control] = registers.AP_IDLE

    @property
    def idle(self) -> bool:
        """Whether no program runs."""
        return bool(self.values[self.control] & registers.AP_IDLE)

    def read(self, offset: int) -> int:
        value = super().read(offset)
        if offset == self.control:  # ap_done and ap_ready clear on read
            self.values[offset] = value & ~(registers.AP_DONE | registers.AP_READY)
        return value

    def write(self, offset: int, value: int) -> None:
        if offset == registers.engine("ISR").offset:
            self.values[offset] ^= value
        elif offset != self.control:
            super().write(offset, value)
        elif value & registers.AP_START and self.idle:
            self._start()

    def _start(self) -> None:
        if self.faults.never_finishes:
            self.values[self.control] = registers.AP_START
            return
        names = ("PROGRAM", "IMAGE", "IO", "INSTRUCTIONS", "ROW_BLOCKS")
        status, detail = self.run(*(self.get(registers.engine(name)) for name in names))
        self.put(registers.engine("STATUS"), status)
        self.put(registers.engine("DETAIL"), detail)
        self.put(registers.engine("ID"), registers.engine_id(self.columns))
        self.values[registers.engine("ISR").offset] |= self.values[registers.engine("IER").offset] & 3
        self.values[self.control] = registers.AP_IDLE | registers.AP_DONE | registers.AP_READY


class ClockWizardBlock(RegisterBlock):
    """Clocking wizard 6.0: the dividers written take effect at LOAD, lock comes a few reads later."""

    def __init__(self, engine_idle: Callable[[], bool], faults: Faults):
        super().__init__("clocking wizard", registers.CLOCK_WIZARD_BASE, registers.RANGE, registers.CLOCK_WIZARD)
        self.engine_idle, self.faults = engine_idle, faults
        self.reads_until_lock = 0
        self._defaults()

    @property
    def mhz(self) -> float:
        """Frequency of CLKOUT0 with what was loaded last."""
        config0, config2 = self.loaded
        multiply = (config0 >> 8 & 255) + (config0 >> 16 & 1023) / 1000
        divide = (config0 & 255) * ((config2 & 255) + (config2 >> 8 & 1023) / 1000)
        return registers.CLOCK_INPUT_MHZ * multiply / divide

    def _defaults(self) -> None:
        self.put(registers.clock_wizard("CONFIG0"), WIZARD_CONFIG0_DEFAULT)
        self.put(registers.clock_wizard("CONFIG2"), WIZARD_CONFIG2_DEFAULT)
        self._load()

    def _load(self) -> None:
        self.loaded = tuple(self.get(registers.clock_wizard(name)) for name in ("CONFIG0", "CONFIG2"))
        self.reads_until_lock = READS_UNTIL_LOCK

    def read(self, offset: int) -> int:
        if offset == registers.clock_wizard("STATUS").offset:
            if self.faults.never_locks:
                return 0
            self.reads_until_lock = max(0, self.reads_until_lock - 1)
            return registers.WIZARD_LOCKED if self.reads_until_lock == 0 else 0
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        if not self.engine_idle():
            raise EmulationError("the clocking wizard is written while the engine runs")
        super().write(offset, value)
        if offset == registers.clock_wizard("RESET").offset and value == registers.WIZARD_RESET:
            self._defaults()
        elif offset == registers.clock_wizard("LOAD").offset:
            if value == registers.WIZARD_DEFAULTS:
                self._defaults()
            elif value == registers.WIZARD_LOAD:
                self._load()


def ps_clock_blocks() -> tuple[StorageBlock, StorageBlock]:
    """CRL_APB and CRF_APB, from which pynq.ps.Clocks reads the IOPLL (33.333 MHz x 90 / 2) and sets PL0."""
    iopll = 90 << 8 | 1 << 16
    pl_clock = 1 << 24 | 1 << 16 | 15 << 8
    crl = dict.fromkeys((0x20, 0x30), iopll) | dict.fromkeys((0xC0, 0xC4, 0xC8, 0xCC), pl_clock)
    crf = dict.fromkeys((0x20, 0x2C, 0x38), iopll)
    return StorageBlock("CRL_APB", 0xFF5E_0000, 0x100, crl), StorageBlock("CRF_APB", 0xFD1A_0000, 0x100, crf)
