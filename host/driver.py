# SPDX-License-Identifier: Apache-2.0
"""PYNQ drivers of the two blocks in the overlay: the engine, and the clocking wizard that clocks it.

They know registers only (fpga/registers.py), and hold to `MMIO.write` of plain ints, which works on every pynq device.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..fpga import capabilities, registers
from ..fpga.clock_settings import SETTINGS_WORDS, ClockSettings, find_settings
from ..fpga.instructions import LANES
from .errors import ClockError, EngineError, EngineMismatch, EngineTimeout, ResetTimeout
from .pynq_quietly import DefaultIP

POLL_S = 50e-6
LOCK_TIMEOUT_S = 1.0  # lock takes at most 100 us; the host may be busy much longer between two reads
CLOCK_TIMEOUT_S = 1.0  # a change of CLOCK takes microseconds
RESET_TIMEOUT_S = 1.0
LOST_INTERRUPT_S = 0.1  # AP_CTRL is read this often while an interrupt is awaited: a lost one costs no more
OUTPUTS = len(registers.WIZARD_OUTPUTS_MHZ)

_REMEDY = "remedy: a bitstream of this version (zynqbert build)"
_OUTPUT = OUTPUTS - 1  # bits of CLOCK and CLOCK_STATUS that number an output
_CLOCK_STATE = _OUTPUT | registers.CLOCK_STOPPED | registers.CLOCK_BUSY


@dataclass(frozen=True)
class Identity:
    """What an engine says of itself."""

    program_version: int
    columns: int
    lanes: int
    capabilities: frozenset[str]


def block_of(overlay, kind: type[DefaultIP]) -> DefaultIP:
    """The overlay's one block that driver class `kind` is bound to. Raises EngineMismatch if there is not just one."""
    names = [name for name, ip in overlay.ip_dict.items() if ip["type"] in kind.bindto]
    if len(names) != 1:
        raise EngineMismatch(f"the overlay has {len(names)} blocks of type {kind.bindto[0]}, one is needed")
    return getattr(overlay, names[0])


class EngineDriver(DefaultIP):
    """Starts programs and waits for their end; chooses, stops and starts the engine's clock; resets it."""

    bindto = [registers.ENGINE_BLOCK.vlnv]  # noqa: RUF012 (pynq reads a list)

    def __init__(self, description):
        # pynq would tie interrupts to the event loop of this moment; `interrupt` does at their first use.
        self._pins = description.get("interrupts", {})
        super().__init__({**description, "interrupts": {}})
        self._done = False
        self.resets = 0  # what was on chip before the last of them is lost

    def identify(self) -> Identity:
        """What register ID says. Raises EngineMismatch for another block, program version or number of lanes."""
        value = self._read64("ID")
        if value >> 16 & 0xFFFF != registers.ID_MAGIC:
            raise EngineMismatch(f"engine register ID is 0x{value:016X}: this is no zynqbert engine; {_REMEDY}")
        found = Identity(value >> 8 & 255, value & 255, value >> 32 & 255, capabilities.names(value >> 40))
        for name, is_, needed in (
            ("program version", found.program_version, registers.PROGRAM_VERSION),
            ("lanes", found.lanes, LANES),
        ):
            if is_ != needed:
                raise EngineMismatch(
                    f"engine register ID is 0x{value:016X}: {name} {is_}, this host needs {needed}; {_REMEDY}"
                )
        return found

    # Programs

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
        self._put("INSTRUCTIONS", int(instructions))
        self._put("ROW_BLOCKS", int(row_blocks))
        self._done = False
        self._put("AP_CTRL", registers.AP_START)

    def wait(self, timeout_s: float) -> None:
        """Wait for ap_done, then raise EngineError unless STATUS is 0. Raises EngineTimeout."""
        deadline = time.monotonic() + timeout_s
        while not self._finished():
            if time.monotonic() > deadline:
                raise EngineTimeout(timeout_s, self._show())
            time.sleep(POLL_S)
        self._check_status()

    @property
    def idle(self) -> bool:
        """Whether no program runs."""
        return bool(self._control() & registers.AP_IDLE)

    # Interrupts

    @cached_property
    def interrupt(self):
        """The pynq.Interrupt of the end of a program. Raises EngineMismatch where there is none."""
        from pynq import Interrupt

        if "interrupt" not in self._pins:
            raise EngineMismatch("the overlay's engine has no interrupt; remedy: wait(), which reads AP_CTRL")
        try:
            return Interrupt(self._pins["interrupt"]["fullpath"])
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineMismatch(f"the engine's interrupt: {error}; remedy: wait(), which reads AP_CTRL") from error

    def enable_interrupt(self) -> None:
        """Have the end of a program raise the interrupt, as `wait_async` needs."""
        self._put("IER", 1)
        self._put("GIE", 1)

    async def wait_async(self, timeout_s: float) -> None:
        """As `wait`, while other coroutines run: awaits the interrupt. The processor is free meanwhile.

        One event loop only: pynq ties the interrupt to its first. Raises EngineMismatch for an overlay without
        interrupts, besides what `wait` raises.
        """
        deadline = time.monotonic() + timeout_s
        while not self._finished():
            left = deadline - time.monotonic()
            if left < 0:
                raise EngineTimeout(timeout_s, self._show())
            try:
                await asyncio.wait_for(self.interrupt.wait(), min(left, LOST_INTERRUPT_S))
            except asyncio.TimeoutError:
                continue
            # Before AP_CTRL is read again: an end that comes in between then raises the interrupt anew.
            self._clear_interrupt()
        self._clear_interrupt()
        self._check_status()

    def _clear_interrupt(self) -> None:
        pending = self._get("ISR")
        if pending:
            self._put("ISR", pending)  # toggles: what is 0 must not be written as 1

    # Clock and reset

    @property
    def clock_output(self) -> int:
        """The wizard's output that clocks the engine, or did when its clock was stopped."""
        return self._get("CLOCK_STATUS") & _OUTPUT

    @property
    def clock_stopped(self) -> bool:
        """Whether the engine's clock stands."""
        return bool(self._get("CLOCK_STATUS") & registers.CLOCK_STOPPED)

    def select_clock(self, output: int) -> None:
        """Clock the engine from the wizard's `output` (0 .. 3), and start its clock if it was stopped.

        Only while idle; what is on chip stays. Raises ClockError: a program runs, or the change does not end;
        ValueError for an output there is none of.
        """
        if output not in range(OUTPUTS):
            raise ValueError(f"clock output {output} is none of 0 .. {OUTPUTS - 1}")
        self._set_clock(int(output))

    def stop_clock(self) -> None:
        """Stop the engine's clock, while idle; what is on chip stays. Raises ClockError as `select_clock`."""
        self._set_clock(self._get("CLOCK") & _OUTPUT | registers.CLOCK_STOP)

    def start_clock(self) -> None:
        """Start the engine's clock again, from the output it had. Raises ClockError as `select_clock`."""
        self._set_clock(self._get("CLOCK") & _OUTPUT)

    def _set_clock(self, value: int) -> None:
        if not self.idle:
            raise ClockError("engine: a program runs, its clock cannot be changed now")
        self._put("CLOCK", value)
        deadline = time.monotonic() + CLOCK_TIMEOUT_S
        while (status := self._get("CLOCK_STATUS")) & _CLOCK_STATE != value:  # the bits of both stand alike
            if time.monotonic() > deadline:
                raise ClockError(
                    f"engine: its clock did not change within {CLOCK_TIMEOUT_S:g} s "
                    f"(CLOCK = 0x{value:X}, CLOCK_STATUS = 0x{status:X}); remedy: load the overlay again"
                )

    def reset(self) -> None:
        """End a program that hangs; the engine is idle then, its clock as it was, and what was on chip is lost.

        Raises ResetTimeout.
        """
        self.resets += 1
        self._put("RESET", registers.RESET_ENGINE)
        deadline = time.monotonic() + RESET_TIMEOUT_S
        while self._get("RESET") & registers.RESET_ENGINE or not self.idle:
            if time.monotonic() > deadline:
                raise ResetTimeout(RESET_TIMEOUT_S, f"RESET = 0x{self._get('RESET'):X}, {self._show()}")
            time.sleep(POLL_S)
        self._done = False

    def _finished(self) -> bool:
        self._control()
        return self._done

    def _control(self) -> int:
        """AP_CTRL; the read clears ap_done, so it is kept here."""
        value = self._get("AP_CTRL")
        self._done |= bool(value & registers.AP_DONE)
        return value

    def _check_status(self) -> None:
        status = self._get("STATUS")
        if status:
            raise EngineError(status, self._read64("DETAIL"))

    def _get(self, name: str) -> int:
        return self.read(registers.engine(name).offset)

    def _put(self, name: str, value: int) -> None:
        self.write(registers.engine(name).offset, value)

    def _read64(self, name: str) -> int:
        offset = registers.engine(name).offset
        return self.read(offset) | self.read(offset + 4) << 32

    def _show(self) -> str:
        shown = [f"AP_CTRL = 0x{self._control():X}"]
        for name in ("PROGRAM", "IMAGE", "IO"):
            shown.append(f"{name} = 0x{self._read64(name):X}")
        for name in ("INSTRUCTIONS", "ROW_BLOCKS"):
            shown.append(f"{name} = {self._get(name)}")
        return ", ".join(shown)


class ClockWizardDriver(DefaultIP):
    """Retunes the outputs that the engine's clock is chosen from, by the wizard's dynamic reconfiguration."""

    bindto = [registers.CLOCK_WIZARD_BLOCK.vlnv]  # noqa: RUF012 (pynq reads a list)

    @property
    def locked(self) -> bool:
        """Whether the outputs are clocks that can be used."""
        return bool(self._get("STATUS") & registers.WIZARD_LOCKED)

    def outputs_mhz(self) -> tuple[float, ...]:
        """What each output gives, by the wizard's registers. Raises ClockError where they hold no settings."""
        return self._settings().mhz()

    def retune(self, mhz: Sequence[float], engine: EngineDriver) -> tuple[float, ...]:
        """Bring each output to the frequency nearest to its `mhz` from below (find_settings); what they give then.

        Only while `engine` is idle. Its clock stands meanwhile and runs from the same output after; nothing is reset.
        Whatever goes wrong, the settings before come back. Raises ClockError, which says what runs now: engine busy,
        no lock, registers that do not read back; ValueError for a frequency out of reach.
        """
        settings = find_settings(mhz)
        if not engine.idle:
            raise ClockError("clocking wizard: the engine is busy, its clock cannot be changed now")
        before = self._settings()
        self._wait_for_lock("before")
        try:
            self._change(settings, engine)
        except BaseException as error:
            running = self._restore(before, engine, error)
            if isinstance(error, ClockError):
                raise ClockError(f"{error}; {running}") from error
            raise
        return settings.mhz()

    def _change(self, settings: ClockSettings, engine: EngineDriver) -> None:
        engine.stop_clock()
        words = settings.words()
        for name, value in words.items():
            self._put(name, value)
        self._put("LOAD", registers.WIZARD_LOAD)
        time.sleep(POLL_S)  # for some cycles STATUS still shows the lock before
        self._wait_for_lock("after")
        for name, value in words.items():
            found = self._get(name)
            if found != value:
                raise ClockError(f"clocking wizard: {name} reads back 0x{found:08X}, written 0x{value:08X}")
        engine.start_clock()

    def _restore(self, before: ClockSettings, engine: EngineDriver, cause: BaseException) -> str:
        """Bring the settings before back, and say what clocks the engine then. Raises ClockError if that fails too."""
        try:
            self._change(before, engine)
        except ClockError as error:
            state = "stays stopped" if engine.clock_stopped else "runs at an unknown frequency"
            raise ClockError(
                f"{cause}; nor do the settings before come back ({error}): the engine's clock {state}; "
                "remedy: load the overlay again"
            ) from cause
        output = engine.clock_output
        return f"the engine runs from output {output} at {before.mhz()[output]:g} MHz, as before"

    def _settings(self) -> ClockSettings:
        try:
            return ClockSettings.of_words({name: self._get(name) for name in SETTINGS_WORDS})
        except ValueError as error:
            raise ClockError(f"clocking wizard: {error}; remedy: load the overlay again") from error

    def _wait_for_lock(self, when: str) -> None:
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while not self.locked:
            if time.monotonic() > deadline:
                raise ClockError(f"clocking wizard: no lock {when} loading, STATUS bit 0 stays 0")
            time.sleep(POLL_S)

    def _get(self, name: str) -> int:
        return self.read(registers.clock_wizard(name).offset)

    def _put(self, name: str, value: int) -> None:
        self.write(registers.clock_wizard(name).offset, value)
