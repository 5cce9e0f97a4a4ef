# SPDX-License-Identifier: Apache-2.0
"""int4 nibbles in bytes, and the bounds within which the engine is exact (Q4, Q5). numpy only."""

import numpy as np

LIMIT = {4: 7, 8: 127}


def pack_nibbles(w: np.ndarray) -> np.ndarray:
    """[N, K] in −7 .. 7 → uint8 [N, ⌈K/2⌉], even k in the low nibble, an odd row's last nibble 0."""
    w = np.asarray(w)
    if w.size and np.abs(w.astype(np.int64)).max() > 7:
        raise ValueError("int4: a weight is not within −7 .. 7")
    w = np.pad(w.astype(np.int8), ((0, 0), (0, w.shape[1] % 2))).view(np.uint8) & 15
    return w[:, 0::2] | w[:, 1::2] << 4


def unpack_nibbles(packed: np.ndarray, width: int) -> np.ndarray:
    """uint8 [N, ⌈width/2⌉] → int8 [N, width]. Raises ValueError for a nibble 0x8 and for a filled padding nibble."""
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != (width + 1) // 2:
        raise ValueError(f"int4: {packed.dtype} {packed.shape} cannot hold rows of {width} nibbles")
    out = np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)  # [N, 2·⌈width/2⌉]
    if bad := np.argwhere(out == 8).tolist():
        raise ValueError(f"int4: nibble 0x8 at row {bad[0][0]}, column {bad[0][1]}")
    if out[:, width:].any():
        raise ValueError("int4: the nibble that pads a row is not 0")
    return ((out[:, :width] ^ 8).astype(np.int8) - 8).astype(np.int8)


def check_linear(name: str, weight: np.ndarray, bias: np.ndarray, amax: int, bits: int) -> None:
    """The packing check: raises ValueError naming the tensor and the channel whose sums could leave the engine's range.

    weight [N, K] ints, bias [N] ints; amax is the largest |operand|, 127 or 255; bits 4 (Q4) or 8 (Q5).
    """
    w = np.asarray(weight, np.int64)
    if over := np.argwhere(np.abs(w) > LIMIT[bits]).tolist():
        raise ValueError(f"{name}.weight, channel {over[0][0]}: not within ±{LIMIT[bits]}")
    total = amax * np.abs(w).sum(axis=1) + np.abs(np.asarray(bias, np.int64))
    if (total >= 2**26).any():
        worst = int(np.argmax(total))
        raise ValueError(f"{name}, channel {worst}: amax·Σ|w| + |b| = {total[worst]}, 2^26 or more")
    low = np.abs(w[0::2]).sum(axis=1) if bits == 4 else (w & 15).sum(axis=1)
    if (amax * low >= 2**22).any():
        worst = int(np.argmax(low)) * (2 if bits == 4 else 1)
        raise ValueError(f"{name}.weight, channel {worst}: low partial sum {amax * int(low.max())}, 2^22 or more")
