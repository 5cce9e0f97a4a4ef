# SPDX-License-Identifier: Apache-2.0
"""A quantized model before it is written, with the meaning of its integers."""

from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class Code:
    """What a tap's integers mean: value·scale + offset (scalars or [N]); `source` [N] merges split channels."""

    scale: np.ndarray
    offset: np.ndarray = field(default_factory=lambda: np.zeros(()))
    source: np.ndarray | None = None

    def decode(self, value: torch.Tensor) -> torch.Tensor:
        """Integers [rows, N] → float64 [rows, channels]."""
        real = value.double() * torch.as_tensor(self.scale) + torch.as_tensor(self.offset)
        if self.source is None:
            return real
        source = torch.as_tensor(self.source)
        return torch.zeros(len(real), int(source.max()) + 1, dtype=real.dtype).index_add_(1, source, real)


@dataclass(frozen=True)
class Quantized:
    """An artifact's manifest (without checksums) and tensors, and the code of each tap for comparisons."""

    manifest: dict
    tensors: dict[str, np.ndarray]
    codes: dict[str, Code]
