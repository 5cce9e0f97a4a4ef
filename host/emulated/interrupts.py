# SPDX-License-Identifier: Apache-2.0
"""The interrupt controller of the emulated device: the part of AXI INTC 4.1 that pynq drives."""

from collections.abc import Callable

from ...fpga import registers
from ...fpga.registers import Register
from .registers import RegisterBlock

INTERRUPT_CONTROLLER = (
    Register("ISR", 0x00, 32, "R", "latched inputs"),
    Register("IPR", 0x04, 32, "R", "latched and enabled inputs"),
    Register("IER", 0x08, 32, "RW", "enabled inputs"),
    Register("IAR", 0x0C, 32, "W", "acknowledge: clears bits of ISR"),
    Register("SIE", 0x10, 32, "W", "sets bits of IER"),
    Register("CIE", 0x14, 32, "W", "clears bits of IER"),
    Register("MER", 0x1C, 32, "RW", "bit 0: output on, bit 1: inputs from the hardware"),
)


class InterruptBlock(RegisterBlock):
    """AXI INTC 4.1, inputs by level: `lines()` is a bit each. What pynq drives of it."""

    def __init__(self, lines: Callable[[], int]):
        super().__init__("interrupt controller", registers.INTERRUPT_BLOCK.base, registers.RANGE, INTERRUPT_CONTROLLER)
        self.lines = lines
        self.offsets = {register.name: register.offset for register in INTERRUPT_CONTROLLER}

    @property
    def pending(self) -> int:
        """Inputs that are latched and enabled."""
        if self.values[self.offsets["MER"]] & 2:
            self.values[self.offsets["ISR"]] |= self.lines()
        return self.values[self.offsets["ISR"]] & self.values[self.offsets["IER"]]

    @property
    def output(self) -> bool:
        """The level of the processor's interrupt."""
        return bool(self.values[self.offsets["MER"]] & 1 and self.pending)

    def read(self, offset: int) -> int:
        return self.pending if offset == self.offsets["IPR"] else super().read(offset)

    def write(self, offset: int, value: int) -> None:
        super().write(offset, value)
        enabled = self.offsets["IER"]
        if offset == self.offsets["IAR"]:
            self.values[self.offsets["ISR"]] &= ~value
        elif offset == self.offsets["SIE"]:
            self.values[enabled] |= value
        elif offset == self.offsets["CIE"]:
            self.values[enabled] &= ~value
