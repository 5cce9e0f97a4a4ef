# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between host and engine, each with a message of one line."""

from ..fpga import registers


class HostError(RuntimeError):
    """Base of this module's errors."""


class EngineError(HostError):
    """The engine ended a program with an error; `status` and `detail` are its registers."""

    def __init__(self, status: int, detail: int):
        self.status, self.detail = status, detail
        name = registers.STATUS_NAMES[status] if status < len(registers.STATUS_NAMES) else f"status {status}"
        where = f"at address 0x{detail:X}" if name == "bus error" else f"at instruction {detail}"
        super().__init__(f"engine: {name} {where}")


class CorruptWeights(EngineError):
    """The engine found compressed weights that are none; the message names their tensor."""

    def __init__(self, found: EngineError, tensor: str):
        HostError.__init__(
            self,
            f"{found}: {tensor} is corrupt in the board's memory; remedy: open the engine again, which writes it anew",
        )
        self.status, self.detail, self.tensor = found.status, found.detail, tensor


class EngineTimeout(HostError, TimeoutError):
    """The engine did not finish in time; the message shows its registers."""

    def __init__(self, seconds: float, registers_shown: str):
        super().__init__(f"engine: not done after {seconds:g} s ({registers_shown})")


class EngineStuck(EngineTimeout):
    """The engine did not finish in time, and does not come back from a reset."""

    def __init__(self, hang: EngineTimeout):
        HostError.__init__(
            self,
            f"{hang}, nor does an empty program end after a reset; remedy: open the engine again, which loads the "
            "overlay, or switch the board off and on",
        )


class ResetTimeout(EngineTimeout):
    """The engine did not come back from a reset; the message shows its registers."""

    def __init__(self, seconds: float, registers_shown: str):
        HostError.__init__(
            self,
            f"engine: not reset after {seconds:g} s ({registers_shown}); remedy: load the overlay again, or switch the "
            "board off and on",
        )


class EngineMismatch(HostError):
    """The engine is none that this host can drive, or lacks what the artifact's program needs."""


class ClockError(HostError):
    """The clock could not be set; the message says which register or state stands against it."""


class TargetError(HostError):
    """The device asked for cannot be had; the message says the remedy."""
