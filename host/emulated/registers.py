# SPDX-License-Identifier: Apache-2.0
"""Register files of the emulated device (fpga/registers.py): engine, clocking wizard, and the PS clock registers that
pynq.Overlay writes before a download.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from ...fpga import registers
from ...fpga.registers import Register

# What a bitstream is built with: a VCO of 100 MHz x 12, outputs of 300, 200, 150, 100 MHz.
BUILT_WITH = {"CONFIG0": 12 << 8 | 1, "CLKOUT0": 4, "CLKOUT1": 6, "CLKOUT2": 8, "CLKOUT3": 12}
VCO_MHZ = (800, 1600)
# Reads of a status register that a change takes: of CLOCK, of RESET, of the wizard's settings until it has lock.
READS_UNTIL_DONE = 3


class EmulationError(RuntimeError):
    """The host did what the hardware would not forgive; the message says what."""


class RunEnd(NamedTuple):
    """How a run ended: STATUS, DETAIL, and the output of the wizard that the program chose last, or None."""

    status: int
    detail: int
    output: int | None = None


@dataclass
class Faults:
    """Faults that tests inject."""

    hangs: int = 0  # so many coming starts never end, until RESET; -1: all
    never_locks: bool = False  # the clocking wizard has no lock
    locks_lost: int = 0  # so many coming loads of the wizard end without lock; -1: all


def _one_less(coming: int) -> int:
    """A count of faults to come, after one of them; 0 stays none, -1 all."""
    return coming - 1 if coming > 0 else coming


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
    """The engine's registers. ap_start calls `run(program, image, io, instructions, row_blocks)`, which answers with
    the fields of a RunEnd; RESET calls `clear()`. `locked()` says whether the wizard gives clocks.
    """

    def __init__(
        self,
        identity: int,
        run: Callable[..., RunEnd | tuple[int, int]],
        clear: Callable[[], None],
        locked: Callable[[], bool],
        faults: Faults,
    ):
        block = registers.ENGINE_BLOCK
        super().__init__("engine", block.base, registers.RANGE, block.registers)
        self.run, self.clear, self.locked, self.faults = run, clear, locked, faults
        self._reads_until_clock = self._reads_until_reset = 0
        self.put(registers.engine("ID"), identity)
        self._set("CLOCK_LIMIT", registers.CLOCK_LIMIT_DEFAULT)
        self._set("AP_CTRL", registers.AP_IDLE)

    def _get(self, name: str) -> int:
        return self.values[registers.engine(name).offset]

    def _set(self, name: str, value: int) -> None:
        self.values[registers.engine(name).offset] = value

    @property
    def idle(self) -> bool:
        """Whether no program runs."""
        return bool(self._get("AP_CTRL") & registers.AP_IDLE)

    @property
    def output(self) -> int:
        """The wizard's output that clocks the engine, or did until its clock was stopped."""
        return self._get("CLOCK_STATUS") & 3

    @property
    def stopped(self) -> bool:
        """Whether the engine's clock stands, and no change of it is under way."""
        return bool(self._get("CLOCK_STATUS") & registers.CLOCK_STOPPED) and not self._reads_until_clock

    @property
    def interrupt(self) -> bool:
        """The level of the interrupt line."""
        return bool(self._get("GIE") & 1 and self._get("ISR"))

    def read(self, offset: int) -> int:
        if offset == registers.engine("CLOCK_STATUS").offset:
            return self._clock_status()
        if offset == registers.engine("RESET").offset:
            return self._reset_status()
        value = super().read(offset)
        if offset == registers.engine("AP_CTRL").offset:  # ap_done and ap_ready clear on read
            self.values[offset] = value & ~(registers.AP_DONE | registers.AP_READY)
        return value

    def write(self, offset: int, value: int) -> None:
        if offset == registers.engine("ISR").offset:
            self.values[offset] ^= value & 3
        elif offset == registers.engine("AP_CTRL").offset:
            if value & registers.AP_START and self.idle:
                self._start()
        elif offset == registers.engine("CLOCK").offset:
            self._change_clock(value & (registers.CLOCK_STOP | 3))
        elif offset == registers.engine("CLOCK_LIMIT").offset:
            self.values[offset] = value & 3
        elif offset == registers.engine("RESET").offset:
            if value & registers.RESET_ENGINE:
                self._reset()
        else:
            super().write(offset, value)

    def _start(self) -> None:
        if self._get("CLOCK") & registers.CLOCK_STOP:
            raise EmulationError("the engine is started while its clock is stopped")
        if self._get("RESET"):
            raise EmulationError("the engine is started while it is being reset")
        if self.faults.hangs:
            self.faults.hangs = _one_less(self.faults.hangs)
            self._set("AP_CTRL", registers.AP_START)
            return
        names = ("PROGRAM", "IMAGE", "IO", "INSTRUCTIONS", "ROW_BLOCKS")
        end = RunEnd(*self.run(*(self.get(registers.engine(name)) for name in names)))
        self._set("STATUS", end.status)
        self.put(registers.engine("DETAIL"), end.detail)
        self._set("CLOCK_ENDED", self._ended_on(end.output))
        self._set("ISR", self._get("ISR") | self._get("IER") & 3)
        self._set("AP_CTRL", registers.AP_IDLE | registers.AP_DONE | registers.AP_READY)

    def _ended_on(self, chosen: int | None) -> int:
        """CLOCK_ENDED of a run whose program chose that output. The clock is back at the host's when the run is over:
        a run takes no time here.
        """
        host = self._get("CLOCK") & 3
        if chosen is None:
            return host
        return registers.CLOCK_CHOSEN | max(chosen, min(self._get("CLOCK_LIMIT"), host))

    def _change_clock(self, value: int) -> None:
        if not self.idle:
            raise EmulationError("the engine's clock is changed while a program runs")
        if not value & registers.CLOCK_STOP and not self.locked():
            raise EmulationError("the engine's clock is started while the clocking wizard has no lock")
        if value != self._get("CLOCK"):
            self._set("CLOCK", value)
            self._reads_until_clock = READS_UNTIL_DONE

    def _clock_status(self) -> int:
        self._reads_until_clock = max(0, self._reads_until_clock - 1)
        if self._reads_until_clock:
            return self.output | registers.CLOCK_BUSY
        self._set("CLOCK_STATUS", self._get("CLOCK"))  # the bits of both stand alike
        return self._get("CLOCK_STATUS")

    def _reset(self) -> None:
        """Ends the run without done; how the last one ended stays to be read."""
        self.clear()
        self._set("AP_CTRL", registers.AP_IDLE)
        self._set("ISR", 0)
        self._set("RESET", registers.RESET_ENGINE)
        self._reads_until_reset = READS_UNTIL_DONE

    def _reset_status(self) -> int:
        self._reads_until_reset -= self.locked()  # a reset takes cycles of the engine's clock
        if self._reads_until_reset <= 0:
            self._set("RESET", 0)
        return self._get("RESET")


class ClockWizardBlock(RegisterBlock):
    """Clocking wizard 6.0: what is written takes effect at LOAD, lock comes a few reads later.

    `stopped()` says whether the engine's clock stands; `outputs_mhz` is what each output gives.
    """

    def __init__(self, stopped: Callable[[], bool], faults: Faults):
        block = registers.CLOCK_WIZARD_BLOCK
        super().__init__("clocking wizard", block.base, registers.RANGE, block.registers)
        self.stopped, self.faults = stopped, faults
        self._lost, self._reads_until_lock = False, 0
        self._put_defaults()
        self._take_over()

    @property
    def locked(self) -> bool:
        """Whether the outputs can be used."""
        return not (self._lost or self._reads_until_lock or self.faults.never_locks)

    def _put_defaults(self) -> None:
        for name, value in BUILT_WITH.items():
            self.put(registers.clock_wizard(name), value)

    def _load(self) -> None:
        self._take_over()
        self._reads_until_lock = READS_UNTIL_DONE
        self._lost = self.faults.locks_lost != 0
        self.faults.locks_lost = _one_less(self.faults.locks_lost)

    def _take_over(self) -> None:
        config, *outputs = (self.get(registers.clock_wizard(name)) for name in BUILT_WITH)
        prescale, multiply = config & 255, (config >> 8 & 255) + Fraction(config >> 16 & 1023, 1000)
        divides = [Fraction(word & 255) for word in outputs]
        divides[0] += Fraction(outputs[0] >> 8 & 1023, 1000)
        if prescale == 0 or 0 in divides:
            raise EmulationError("the clocking wizard is loaded with a factor of 0")
        vco = Fraction(registers.CLOCK_INPUT_MHZ) * multiply / prescale
        if not VCO_MHZ[0] <= vco <= VCO_MHZ[1]:
            raise EmulationError(f"the clocking wizard is loaded with a VCO of {float(vco):g} MHz")
        self.outputs_mhz = tuple(float(vco / divide) for divide in divides)

    def read(self, offset: int) -> int:
        if offset == registers.clock_wizard("STATUS").offset:
            self._reads_until_lock = max(0, self._reads_until_lock - 1)
            return registers.WIZARD_LOCKED if self.locked else 0
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        if not self.stopped():
            raise EmulationError("the clocking wizard is written while the engine's clock is not stopped")
        super().write(offset, value)
        reset = offset == registers.clock_wizard("RESET").offset and value == registers.WIZARD_RESET
        load = offset == registers.clock_wizard("LOAD").offset and value
        if reset or load == registers.WIZARD_DEFAULTS:
            self._put_defaults()
        if reset or load in (registers.WIZARD_DEFAULTS, registers.WIZARD_LOAD):
            self._load()


def ps_clock_blocks() -> tuple[StorageBlock, StorageBlock]:
    """CRL_APB and CRF_APB, from which pynq.ps.Clocks reads the IOPLL (33.333 MHz x 90 / 2) and sets PL0."""
    iopll = 90 << 8 | 1 << 16
    pl_clock = 1 << 24 | 1 << 16 | 15 << 8
    crl = dict.fromkeys((0x20, 0x30), iopll) | dict.fromkeys((0xC0, 0xC4, 0xC8, 0xCC), pl_clock)
    crf = dict.fromkeys((0x20, 0x2C, 0x38), iopll)
    return StorageBlock("CRL_APB", 0xFF5E_0000, 0x100, crl), StorageBlock("CRF_APB", 0xFD1A_0000, 0x100, crf)
