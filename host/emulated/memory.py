# SPDX-License-Identifier: Apache-2.0
"""Memory of the emulated device: physical addresses with holes, and for each cacheable buffer two copies, the CPU's and
the device's, that only flush and invalidate bring together. A forgotten one shows as stale data, as on a board.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..pynq_quietly import PynqBuffer

FIRST_ADDRESS = 0x8_0000_0000  # above 4 GiB, so that the high words of addresses matter
HOLE = 1 << 20  # bytes between buffers that belong to nobody
PAGE = 1 << 12
JUNK = 0xA5  # fresh memory is not zero


@dataclass(eq=False)
class Block:
    """One allocation: its physical address, and the bytes the CPU and the device see (one array if coherent)."""

    address: int
    cpu: np.ndarray
    device: np.ndarray


class EmulatedBuffer(PynqBuffer):
    """A PynqBuffer whose memory the emulated device owns; only the buffer itself frees it, never a view."""

    owner: "EmulatedMemory | None" = None

    def freebuffer(self) -> None:
        """Give the memory back; once, however often it is called."""
        if self.owner is not None:
            self.owner.release(self.bo)
            self.owner = None


class EmulatedMemory:
    """Hands out buffers, resolves addresses, copies between the two sides."""

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        self._next = FIRST_ADDRESS
        self.flushed_bytes = 0  # what moved from the CPU to the device

    def allocate(self, device, shape, dtype, cacheable: bool) -> EmulatedBuffer:
        """A buffer of `shape` and `dtype` for pynq device `device`."""
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        nbytes = max(1, math.prod(shape) * dtype.itemsize)
        seen_by_device = np.full(nbytes, JUNK, np.uint8)
        seen_by_cpu = seen_by_device.copy() if cacheable else seen_by_device
        block = Block(self._next, seen_by_cpu, seen_by_device)
        self._next += -(-nbytes // PAGE) * PAGE + HOLE
        self.blocks[block.address] = block
        buffer = EmulatedBuffer(
            shape,
            dtype,
            buffer=seen_by_cpu.data,
            device=device,
            device_address=block.address,
            bo=block,
            coherent=not cacheable,
        )
        buffer.owner = self
        return buffer

    def release(self, block: Block) -> None:
        """Forget `block`: the device cannot reach it any more."""
        self.blocks.pop(block.address, None)

    def flush(self, block: Block, offset: int, nbytes: int) -> None:
        """CPU copy to device copy."""
        self._live(block)
        block.device[offset : offset + nbytes] = block.cpu[offset : offset + nbytes]
        self.flushed_bytes += nbytes

    def invalidate(self, block: Block, offset: int, nbytes: int) -> None:
        """Device copy to CPU copy."""
        self._live(block)
        block.cpu[offset : offset + nbytes] = block.device[offset : offset + nbytes]

    def regions(self) -> list[tuple[int, np.ndarray]]:
        """(address, device bytes) of every live block, what a bus master can reach."""
        return [(block.address, block.device) for block in self.blocks.values()]

    def flip(self, address: int, mask: int) -> None:
        """Flip the bits of `mask` in the device's byte at `address`: a memory fault, for tests."""
        for block in self.blocks.values():
            if block.address <= address < block.address + block.device.size:
                block.device[address - block.address] ^= mask
                return
        raise ValueError(f"no buffer holds address 0x{address:X}")

    def _live(self, block: Block) -> None:
        if self.blocks.get(block.address) is not block:
            raise RuntimeError(f"buffer at 0x{block.address:X} is used after it was freed")
