# SPDX-License-Identifier: Apache-2.0
"""A board that is not there: a pynq Device behind whose registers the simulated kernels run.

Everything above it is what runs on a board: pynq.Overlay, the DefaultIP drivers, pynq.allocate.
"""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ...fpga import registers
from ...fpga.boards import Board
from ...fpga.registers import CLOCK_INPUT_MHZ
from ...fpga.simulator import Simulator
from ..pynq_quietly import Clocks, Device
from .interrupts import InterruptBlock
from .memory import Block, EmulatedBuffer, EmulatedMemory
from .registers import ClockWizardBlock, EmulationError, EngineBlock, Faults, RegisterBlock, RunEnd, ps_clock_blocks

# Pynq 3.1 sets the clock by the divisors of the IOPLL (1500 MHz), 4.0 by the frequency.
PL_CLOCK = {"enable": 1, "frequency": CLOCK_INPUT_MHZ, "divisor0": 15, "divisor1": 1}
PL_PS_IRQ0 = 121  # the number Linux has for pl_ps_irq0[0]


class EmulatedDevice(Device):
    """An emulated board. It has no `_probe_`, so that pynq never takes it for a board by itself.

    `build` is the simulator's ("native", "csim" or "checked"); `faults` may be changed while it runs; `identity`: what
    register ID reads, else what the simulated engine says; `threads`: the simulator's. Raises
    simulator.SimulatorUnavailable where the kernels cannot be compiled.
    """

    def __init__(
        self,
        board: Board,
        *,
        build: str = "native",
        seed: int = 0,
        faults: Faults | None = None,
        identity: int | None = None,
        threads: int | None = None,
    ):
        super().__init__(f"emulated-{board.name}")
        self.board = board
        self.name = board.name.upper()
        self.arch = "aarch64"
        self.capabilities = {"REGISTER_RW": True}
        self.faults = faults or Faults()
        self.build, self.seed, self.threads = build, seed, threads
        self._clear()
        self.memory = EmulatedMemory()
        self.fault_message = ""
        identity = self.simulator.lib.zq_id() if identity is None else identity
        self.engine = EngineBlock(identity, self._run, self._clear, lambda: self.clock_wizard.locked, self.faults)
        self.clock_wizard = ClockWizardBlock(lambda: self.engine.stopped, self.faults)
        self.interrupts = InterruptBlock(lambda: self.engine.interrupt << registers.ENGINE_INTERRUPT)
        self._blocks: tuple[RegisterBlock, ...] = (
            self.engine,
            self.clock_wizard,
            self.interrupts,
            *ps_clock_blocks(),
        )
        self._folder = tempfile.TemporaryDirectory(prefix="zynqbert-")
        self.bitstream = str(Path(self._folder.name) / "zynqbert.bit")
        Path(self.bitstream).touch()
        # pynq keeps the clocks of the first device it met for ever.
        if hasattr(Clocks, "_real_instance"):
            del Clocks._real_instance

    # What pynq.Overlay asks of a device

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> SimpleNamespace:
        """What pynq would parse from the bitstream's .hwh: the blocks, the interrupt and the PL clock."""
        if bitfile_name != self.bitstream:
            raise EmulationError(f"{bitfile_name} is no bitstream of the emulated {self.name}")
        controller = registers.INTERRUPT_BLOCK.cell
        pin = f"{registers.ENGINE_BLOCK.cell}/interrupt"
        pins = {pin: {"controller": controller, "index": registers.ENGINE_INTERRUPT, "fullpath": pin}}
        return SimpleNamespace(
            ip_dict={block.cell: _ip(block, pins) for block in registers.BLOCKS},
            gpio_dict={},
            interrupt_controllers={controller: {"parent": "", "index": 0, "raw_irq": PL_PS_IRQ0}},
            interrupt_pins=pins,
            hierarchy_dict={},
            mem_dict={},
            # pynq 3.0 sets the clocks of the processor it runs on, not those of a device
            clock_dict={0: dict(PL_CLOCK)} if hasattr(Clocks, "set_device") else {},
            systemgraph=None,
        )

    def download(self, bitstream, parser=None) -> None:
        """Nothing is loaded; pynq's own book-keeping follows."""
        self.post_download(bitstream, parser)

    # Registers

    def read_registers(self, address: int, length: int) -> bytes:
        """`length` bytes (whole words) of registers from `address`; EmulationError where nothing is mapped."""
        block = self._block(address, length)
        words = (block.read(address - block.base + at) for at in range(0, length, 4))
        return b"".join(word.to_bytes(4, "little") for word in words)

    def write_registers(self, address: int, data) -> None:
        """Write whole words to registers from `address`; EmulationError where nothing is mapped."""
        data = bytes(data)
        block = self._block(address, len(data))
        for at in range(0, len(data), 4):
            block.write(address - block.base + at, int.from_bytes(data[at : at + 4], "little"))

    def _block(self, address: int, length: int) -> RegisterBlock:
        for block in self._blocks:
            if block.base <= address and address + length <= block.base + block.size:
                if address % 4 or length % 4:
                    raise EmulationError(f"registers at 0x{address:X}, {length} bytes: not whole words")
                return block
        raise EmulationError(f"address 0x{address:X} is not mapped")

    # Memory

    def allocate(self, shape, dtype, cacheable: bool = False, **kwargs) -> EmulatedBuffer:
        """A buffer of `shape` and `dtype`; with `cacheable` it needs flush and invalidate."""
        return self.memory.allocate(self, shape, dtype, cacheable)

    def flush(self, bo: Block, offset: int, vaddr: int, nbytes: int) -> None:
        """Make what the CPU wrote visible to the device."""
        self.memory.flush(bo, offset, nbytes)

    def invalidate(self, bo: Block, offset: int, vaddr: int, nbytes: int) -> None:
        """Make what the device wrote visible to the CPU."""
        self.memory.invalidate(bo, offset, nbytes)

    # The engine

    @property
    def engine_mhz(self) -> float:
        """The clock the engine runs on; 0 while it stands."""
        return 0.0 if self.engine.stopped else self.clock_wizard.outputs_mhz[self.engine.output]

    def _clear(self) -> None:
        """What a reset leaves: an engine that knows nothing of what ran before."""
        self.simulator = Simulator(self.build, self.board.columns, threads=self.threads)

    def _run(self, program: int, image: int, io: int, instructions: int, row_blocks: int) -> RunEnd:
        status = self.simulator.run(self.memory.regions(), program, image, io, instructions, row_blocks, seed=self.seed)
        self.fault_message = getattr(status, "message", "")
        return RunEnd(status.code, status.detail, getattr(status, "output", None))

    def device_bytes(self, buffer: EmulatedBuffer) -> np.ndarray:
        """The device's copy of `buffer`, for tests."""
        return buffer.bo.device


def _ip(block: registers.Block, pins: dict[str, dict]) -> dict:
    """The pynq ip_dict entry of `block`, with those of the interrupt pins that are its own."""
    own = {pin.rpartition("/")[2]: entry for pin, entry in pins.items() if pin.startswith(f"{block.cell}/")}
    return {
        "type": block.vlnv,
        "phys_addr": block.base,
        "addr_range": registers.RANGE,
        "mem_id": "s_axi_control",
        "memtype": "REGISTER",
        "fullpath": block.cell,
        "parameters": {},
        "registers": {},
        "state": None,
        "gpio": {},
        "interrupts": own,
        "bdtype": None,
        "driver": None,
        "device": None,
    }
