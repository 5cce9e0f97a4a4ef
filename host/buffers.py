# SPDX-License-Identifier: Apache-2.0
"""Contiguous memory that host and engine share: one set of buffers, freed together."""

from pathlib import Path

import numpy as np

from .errors import TargetError
from .pynq_quietly import PynqBuffer, allocate

MEMINFO = Path("/proc/meminfo")
_KEPT: list[PynqBuffer] = []  # a buffer that nobody refers to frees itself


class Buffers:
    """Cacheable buffers of bytes on one pynq device: what the CPU writes is flushed, what it reads invalidated."""

    def __init__(self, device):
        self._device = device
        self._buffers: list[PynqBuffer] = []

    def allocate(self, nbytes: int) -> PynqBuffer:
        """A buffer of uint8 [nbytes]. Raises TargetError where the board's contiguous memory does not suffice."""
        try:
            buffer = allocate(nbytes, np.uint8, target=self._device, cacheable=True)
        except (MemoryError, RuntimeError) as error:
            raise TargetError(
                f"contiguous memory: no {nbytes} bytes ({_free_memory()}{error}); remedy: end what else holds buffers, "
                'or give the kernel more by cma= (docs/troubleshooting.md, "contiguous memory")'
            ) from error
        self._buffers.append(buffer)
        return buffer

    def filled(self, data: np.ndarray) -> PynqBuffer:
        """A buffer that holds `data`, uint8, for the device to read."""
        buffer = self.allocate(data.size)
        buffer[:] = data
        buffer.flush()
        return buffer

    def keep(self) -> None:
        """Give none of it back before the process ends: an engine that nothing stops may still write there."""
        _KEPT.extend(self._buffers)
        self._buffers.clear()

    def free(self) -> None:
        """Give all of it back; nothing may write there any more."""
        while self._buffers:
            self._buffers.pop().freebuffer()


def _free_memory() -> str:
    """The kernel's contiguous memory, as "CmaTotal 65536 kB, CmaFree 512 kB: "; "" where it shows none."""
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return ""
    fields = [" ".join(line.replace(":", " ").split()) for line in lines if line.startswith(("CmaTotal", "CmaFree"))]
    return f"{', '.join(fields)}: " if fields else ""
