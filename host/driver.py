# SPDX-License-Identifier: Apache-2.0
"""PYNQ drivers of the two blocks in the overlay: the engine, and the clocking wizard that clocks it.

They know registers only (fpga/registers.py), and hold to `MMIO.write` of plain ints, which works on every pynq device.
"""

import time

from ..fpga import registers
from .clock_settings import find_settings
from .errors import ClockError, EngineError, EngineMismatch, EngineTimeout
from .pynq_quietly import DefaultIP

POLL_S = 50e-6
LOCK_TIMEOUT_S = 1.0  # lock takes at most 100 us; the host may be busy much longer between two reads


class EngineDriver(DefaultIP):
    """Starts programs and waits for their end."""

    bindto = [registers.ENGINE_VLNV]  # noqa: RUF012 (pynq reads a list)

    def __init__(self, description):
        super().__init__(description)
        self._done = False

    def identify(self) -> int:
        """Columns of the engine, read from ID after an empty program (ID is 0 before any).

        Raises EngineMismatch where ID is none, or is of another program version.
        """
        self.run(0, 0, 0, 0, 1, timeout_s=1.0)
        value = self.read(registers.engine("ID").offset)
        if value >> 16 != registers.ID_MAGIC:
            raise EngineMismatch(f"engine register ID is 0x{value:08X}: this is no zynqbert engine")
        if value != registers.engine_id(value & 255):
            raise EngineMismatch(
                f"engine register ID is 0x{value:08X}: program version {value >> 8 & 255}, "
                f"this host writes version {registers.PROGRAM_VERSION}"
            )
        return value & 255

    def run(
        self, program: int, image: int, io: int, instructions: int, row_blocks: int, timeout_s: float = 10.0
    ) -> None:
        """Run a program on buffers at these physical addresses (multiples of 16) and wait for its end.

        Raises EngineError if the engine refuses it, EngineTimeout if it does not end within `timeout_s`.
        """
        self.start(program, image, io, instructions, row_blocks)
        self.wait(timeout_s)

    def start(self, program: int, image: int, io: int, instructions: int, row_blocks: int) -> None:
        """Write the arguments and ap_start. Raises ValueError for an address that is no multiple of 16."""
        for name, address in (("PROGRAM", program), ("IMAGE", image), ("IO", io)):
            if address % 16:
                raise ValueError(f"engine register {name}: address 0x{address:X} is no multiple of 16")
            offset = registers.engine(name).offset
            self.write(offset, int(address) & 0xFFFFFFFF)
            self.write(offset + 4, int(address) >> 32)
        self.write(registers.engine("INSTRUCTIONS").offset, int(instructions))
        self.write(registers.engine("ROW_BLOCKS").offset, int(row_blocks))
        self._done = False
        self.write(registers.engine("AP_CTRL").offset, registers.AP_START)

    def wait(self, timeout_s: float) -> None:
        """Wait for ap_done, then raise EngineError unless STATUS is 0. Raises EngineTimeout."""
        deadline = time.monotonic() + timeout_s
        while not self._finished():
            if time.monotonic() > deadline:
                raise EngineTimeout(timeout_s, self._show())
            time.sleep(POLL_S)
        status = self.read(registers.engine("STATUS").offset)
        if status:
            raise EngineError(status, self._read64("DETAIL"))

    @property
    def idle(self) -> bool:
        """Whether no program runs."""
        return bool(self._control() & registers.AP_IDLE)

    def _finished(self) -> bool:
        self._control()
        return self._done

    def _control(self) -> int:
        """AP_CTRL; the read clears ap_done, so it is kept here."""
        value = self.read(registers.engine("AP_CTRL").offset)
        self._done |= bool(value & registers.AP_DONE)
        return value

    def _read64(self, name: str) -> int:
        offset = registers.engine(name).offset
        return self.read(offset) | self.read(offset + 4) << 32

    def _show(self) -> str:
        shown = [f"AP_CTRL = 0x{self._control():X}"]
        for name in ("PROGRAM", "IMAGE", "IO"):
            shown.append(f"{name} = 0x{self._read64(name):X}")
        for name in ("INSTRUCTIONS", "ROW_BLOCKS"):
            shown.append(f"{name} = {self.read(registers.engine(name).offset)}")
        return ", ".join(shown)


class ClockWizardDriver(DefaultIP):
    """Retunes the engine's clock by the wizard's dynamic reconfiguration."""

    bindto = [registers.CLOCK_WIZARD_VLNV]  # noqa: RUF012 (pynq reads a list)

    def set_mhz(self, mhz: float, engine: EngineDriver) -> float:
        """Set CLKOUT0 to `mhz`, or the nearest below; the frequency set.

        Only while `engine` is idle; retuning does not reset it. Raises ClockError (engine busy, no lock, registers that
        do not read back), ValueError for a frequency out of reach.
        """
        settings = find_settings(mhz, registers.CLOCK_INPUT_MHZ)
        if not engine.idle:
            raise ClockError("clocking wizard: the engine is busy, its clock cannot be changed now")
        self._wait_for_lock("before")
        written = (("CONFIG0", settings.config0()), ("CONFIG2", settings.config2()))
        for name, value in written:
            self.write(registers.clock_wizard(name).offset, value)
        self._wait_for_lock("before")
        self.write(registers.clock_wizard("LOAD").offset, registers.WIZARD_LOAD)
        self._wait_for_lock("after")
        for name, value in written:
            found = self.read(registers.clock_wizard(name).offset)
            if found != value:
                raise ClockError(f"clocking wizard: {name} reads back 0x{found:08X}, written 0x{value:08X}")
        return settings.mhz(registers.CLOCK_INPUT_MHZ)

    def _wait_for_lock(self, when: str) -> None:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while not self.read(registers.clock_wizard("STATUS").offset) & registers.WIZARD_LOCKED:
            if time.monotonic() > deadline:
                raise ClockError(f"clocking wizard: no lock {when} loading, STATUS bit 0 stays 0")
            time.sleep(POLL_S)
