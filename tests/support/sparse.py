# SPDX-License-Identifier: Apache-2.0
"""Sparse int4 matrices, and compressed tiles taken apart and put together by hand."""

import numpy as np
from zynqbert.quant import compressed

NIBBLES = np.array([n for n in range(16) if n not in (0, 8)], dtype=np.uint8)


def sparse(rng, n: int, k: int, density: float) -> np.ndarray:
    """Nibbles uint8 [N, K], a share of `density` not 0."""
    return np.where(rng.random((n, k)) < density, rng.choice(NIBBLES, (n, k)), 0).astype(np.uint8)


def in_blocks(rng, n: int, k: int, bound: int, share: float = 1.0) -> np.ndarray:
    """Nibbles uint8 [N, K]: of each four entries four channels use the same `bound`, a share of them not 0."""
    order = np.argsort(rng.random((-(-n // 4), -(-k // 4), 4)), axis=2)
    used = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(used, order[:, :, :bound], True, axis=2)
    mask = used.reshape(len(used), -1)[:, :k].repeat(4, axis=0)[:n]
    return sparse(rng, n, k, share) * mask


def streams_of(matrix: compressed.CompressedMatrix) -> list[np.ndarray | None]:
    """Port streams of each column tile, uint8 [ports, beats, 16]; None for a tile of zeros."""
    at = 16 * len(matrix.beats)
    streams = []
    for beats in matrix.beats:
        size = matrix.ports * beats * 16
        streams.append(matrix.data[at : at + size].reshape(matrix.ports, beats, 16).copy() if beats else None)
        at += size
    assert at == len(matrix.data)
    return streams


def tile_of(nibbles: np.ndarray, columns: int, chosen: bool = False) -> np.ndarray:
    """Port streams of a matrix that is one column tile."""
    (stream,) = streams_of(compressed.compress(nibbles, columns, chosen))
    assert stream is not None
    return stream


def words(stream: np.ndarray) -> np.ndarray:
    """The streams' 32-bit words, [ports, beats, 4], to be changed in place."""
    return stream.view("<u4")


def end_beat(ports: int) -> np.ndarray:
    """The end beat on every port, uint8 [ports, 1, 16]."""
    out = np.zeros((ports, 1, 4), dtype="<u4")
    out[:, :, 0] = compressed.END_TAG
    return out.view(np.uint8)


def segment(kind: int, k: int, payload: np.ndarray, counts) -> np.ndarray:
    """A segment by hand: payload uint8 [ports, beats, 16] behind its header."""
    head = np.zeros((len(payload), 1, 4), dtype="<u4")
    head[:, 0, 0] = compressed.SEGMENT_TAG << 16 | kind
    head[:, 0, 1] = payload.shape[1]
    head[:, 0, 2] = k
    head[:, 0, 3] = counts
    return np.concatenate([head.view(np.uint8), payload], axis=1)
