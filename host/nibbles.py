# SPDX-License-Identifier: Apache-2.0
"""int4 weights out of an artifact's bytes."""

import numpy as np


class PackError(ValueError):
    """A tensor that the engine cannot hold exactly; the message names it, and the channel."""


def unpack_nibbles(name: str, packed: np.ndarray, k: int) -> np.ndarray:
    """uint8 [N, ceil(K/2)], even k in the low nibble -> nibbles uint8 [N, K] in 0 .. 15; PackError for 0x8."""
    nibbles = np.empty((packed.shape[0], 2 * packed.shape[1]), np.uint8)
    nibbles[:, 0::2] = packed & 15
    nibbles[:, 1::2] = packed >> 4
    nibbles = nibbles[:, :k]
    bad = np.argwhere(nibbles == 8)
    if bad.size:
        raise PackError(f"{name}.weight: nibble 0x8 at channel {bad[0, 0]}, entry {bad[0, 1]} is no int4 weight")
    return nibbles
