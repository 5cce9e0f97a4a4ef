# SPDX-License-Identifier: Apache-2.0
"""Compressed weights: bitmask and packed non-zero nibbles (docs/program.md, Compressed weights). numpy only.

A matrix of int4 weights becomes a directory, one beat of 16 bytes a column tile, and behind it the tiles' port streams:
for each port (32 output channels) as many beats as the tile's directory entry says. A stream is segments of 256 K steps
(the last may have fewer) and an end beat. A segment is a header beat and, by its kind, nothing (zero), one beat a step
(raw), or for every 4 steps a beat of 4 x 32 mask bits, each followed by the beats of 32 nibbles that its bits ask for
and that did not come yet (masked).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BEAT = 16  # bytes
PORT_CHANNELS = 32
SEGMENT_STEPS = 256
GROUP_STEPS = 4  # steps of a mask beat
SEGMENT_TAG = 0x5A47
END_TAG = 0x2E444E45
ZERO, RAW, MASKED = range(3)

# Faults, by the engine's status codes (kernels/commands.hpp).
BAD_SEGMENT, OVERLONG, BAD_COUNT, NO_END = 7, 8, 9, 10
FAULTS = {
    BAD_SEGMENT: "a segment header that is none",
    OVERLONG: "a segment longer than its tile",
    BAD_COUNT: "other weights than the header counts",
    NO_END: "no end tag",
}


@dataclass(frozen=True)
class CompressedMatrix:
    """`beats`: of each column tile, on each of `ports` ports; 0 for a tile of zeros. `data`: uint8, all of it."""

    ports: int
    beats: tuple[int, ...]
    data: np.ndarray


def compress(nibbles: np.ndarray, columns: int) -> CompressedMatrix:
    """Compress int4 weights `nibbles`, uint8 [N, K] in 0 .. 15, two's complement, for an array of `columns` columns.

    Raises ValueError for the nibble 0x8, which is no weight, and for columns that are no multiple of 64.
    """
    if columns % 64:
        raise ValueError(f"{columns} columns are no multiple of 64")
    if (nibbles == 8).any() or (nibbles > 15).any():
        raise ValueError("0x8, or more than a nibble, is no int4 weight")
    n, k = nibbles.shape
    tiles, ports = -(-n // columns), columns // PORT_CHANNELS
    padded = np.zeros((tiles * columns, k), np.uint8)
    padded[:n] = nibbles
    streams = [_tile(tile) for tile in padded.reshape(tiles, ports, PORT_CHANNELS, k)]
    beats = tuple(0 if stream is None else stream.shape[1] for stream in streams)
    directory = np.zeros((tiles, 4), "<u4")
    directory[:, 0] = np.array(beats) > 0
    directory[:, 1] = beats
    directory[:, 2] = np.concatenate([[0], np.cumsum(beats)[:-1]])
    parts = [directory.view(np.uint8).reshape(-1), *(s.reshape(-1) for s in streams if s is not None)]
    return CompressedMatrix(ports, beats, np.concatenate(parts))


def _tile(tile: np.ndarray) -> np.ndarray | None:
    """Nibbles [P, 32, K] → port streams uint8 [P, beats, 16]; None if all are 0."""
    if not tile.any():
        return None
    ports, _, k = tile.shape
    parts = []
    for first in range(0, k, SEGMENT_STEPS):
        parts.append(_segment(tile[:, :, first : first + SEGMENT_STEPS]))
    end = np.zeros((ports, 1, 4), "<u4")
    end[:, :, 0] = END_TAG
    return np.concatenate([*parts, end.view(np.uint8)], axis=1)


def _segment(nibbles: np.ndarray) -> np.ndarray:
    """Nibbles [P, 32, k] → header and payload uint8 [P, beats, 16], of the kind that takes fewest beats."""
    ports, _, k = nibbles.shape
    by_step = nibbles.transpose(0, 2, 1)  # [P, k, 32]: a word of the array, 32 nibbles a port
    used = by_step != 0
    counts = used.reshape(ports, -1).sum(axis=1)
    groups = -(-k // GROUP_STEPS)
    masked = groups + int(-(-counts.max() // 32))
    kind = ZERO if not counts.any() else MASKED if masked < k else RAW
    if kind == RAW:
        payload = by_step[:, :, 0::2] | by_step[:, :, 1::2] << 4
    elif kind == ZERO:
        payload = np.zeros((ports, 0, BEAT), np.uint8)
    else:
        payload = np.stack([_masked(by_step[p], used[p], groups, masked) for p in range(ports)])
    header = np.zeros((ports, 1, 4), "<u4")
    header[:, 0, 0] = SEGMENT_TAG << 16 | kind
    header[:, 0, 1] = payload.shape[1]
    header[:, 0, 2] = k
    header[:, 0, 3] = counts
    return np.concatenate([header.view(np.uint8), payload], axis=1)


def _masked(by_step: np.ndarray, used: np.ndarray, groups: int, beats: int) -> np.ndarray:
    """One port's masked payload, uint8 [beats, 16]: by_step and used [k, 32]."""
    bits = np.zeros((groups * GROUP_STEPS, PORT_CHANNELS), bool)
    bits[: len(used)] = used
    masks = np.packbits(bits, axis=1, bitorder="little").reshape(groups, BEAT)
    values = by_step[used]  # in the order of steps, then of channels
    packed = np.zeros(-(-len(values) // 32) * 32, np.uint8)
    packed[: len(values)] = values
    words = (packed[0::2] | packed[1::2] << 4).reshape(-1, BEAT)
    ones = bits.reshape(groups, -1).sum(axis=1)
    before = np.cumsum(ones) - ones  # non-zeros of the groups before
    place = np.arange(groups) + -(-before // 32)
    out = np.zeros((beats, BEAT), np.uint8)
    is_mask = np.zeros(groups + len(words), bool)
    is_mask[place] = True
    out[: len(is_mask)][is_mask] = masks
    out[: len(is_mask)][~is_mask] = words
    return out


def decompress(data: np.ndarray, n: int, k: int, columns: int) -> np.ndarray:
    """The nibbles, uint8 [N, K], of a compressed matrix. Raises ValueError, naming the tile, where it is corrupt."""
    tiles, ports = -(-n // columns), columns // PORT_CHANNELS
    directory = data[: tiles * BEAT].view("<u4").reshape(tiles, 4)
    out = np.zeros((tiles, columns, k), np.uint8)
    for number, (kind, beats, before, _) in enumerate(directory.tolist()):
        first = (tiles + before * ports) * BEAT
        stream = data[first : first + beats * ports * BEAT]
        if kind > 1 or (kind == 0) != (beats == 0) or len(stream) != beats * ports * BEAT:
            raise ValueError(f"tile {number}: its directory entry is corrupt")
        if kind:
            out[number], fault = expand_ref(stream.reshape(ports, beats, BEAT), k)
            if fault:
                raise ValueError(f"tile {number}: {FAULTS[fault]}")
    return out.reshape(tiles * columns, k)[:n]


def expand_ref(streams: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """Golden of the engine's units `weights` and `expand`: port streams uint8 [P, beats, 16] of one tile, K = k steps.

    Returns the nibbles uint8 [32·P, k] and the fault, 0 if none. Whatever the beats say: steps of a segment that has
    been begun are what its masks and values gave before the fault, then 0; steps in no segment are 0.
    """
    ports, beats, _ = streams.shape
    words = np.ascontiguousarray(streams).view("<u4")  # [P, beats, 4]
    out = np.zeros((ports, k, PORT_CHANNELS), np.uint8)
    done, at, fault, ended = 0, 0, 0, False
    while at < beats and not fault and not ended:
        head = words[:, at]
        at += 1
        if head[0, 0] == END_TAG:
            ended = at == beats and done == k
            break
        fault = _begin_fault(head, beats - at, k - done)
        if fault:
            break
        kind, size, steps = int(head[0, 0]) & 0xFFFF, int(head[0, 1]), int(head[0, 2])
        payload = streams[:, at : at + size]
        at += size
        if kind == RAW:
            out[:, done : done + steps, 0::2] = payload & 15
            out[:, done : done + steps, 1::2] = payload >> 4
        elif kind == MASKED:
            for p in range(ports):
                out[p, done : done + steps], sound = _unmask(payload[p], steps, int(head[p, 3]) & 0xFFFF)
                if not sound:
                    fault = BAD_COUNT
        done += steps
    if not fault and not ended:
        fault = NO_END
    return out.transpose(0, 2, 1).reshape(ports * PORT_CHANNELS, k), fault


def _begin_fault(head: np.ndarray, left: int, left_k: int) -> int:
    """Fault of header words [P, 4], 0 if the segment may begin; the tile has `left` beats and `left_k` steps left."""
    tag, size, steps = (int(x) for x in head[0, :3])
    kind = tag & 0xFFFF
    groups = -(-steps // GROUP_STEPS)
    if tag >> 16 != SEGMENT_TAG or kind > MASKED or (head[:, :3] != head[0, :3]).any():
        return BAD_SEGMENT
    if not 0 < steps <= min(left_k, SEGMENT_STEPS) or steps not in (SEGMENT_STEPS, left_k):
        return BAD_SEGMENT
    if size >= left:
        return OVERLONG
    sizes = {ZERO: (0, 0), RAW: (steps, steps), MASKED: (groups, 5 * groups)}[kind]
    return 0 if sizes[0] <= size <= sizes[1] else BAD_SEGMENT


def _unmask(payload: np.ndarray, steps: int, count: int) -> tuple[np.ndarray, bool]:
    """One port's steps, uint8 [steps, 32], of a masked payload uint8 [beats, 16], and whether all came as counted."""
    groups = -(-steps // GROUP_STEPS)
    masks, values, debt = [], [], 0
    for beat in payload:
        if debt > 0:
            values.append(beat)
            debt -= 32
        elif len(masks) < groups:
            bits = np.unpackbits(beat, bitorder="little").reshape(GROUP_STEPS, PORT_CHANNELS)
            bits[max(steps - GROUP_STEPS * len(masks), 0) :] = 0
            masks.append(bits)
            debt += int(bits.sum())
    bits = np.zeros((groups * GROUP_STEPS, PORT_CHANNELS), bool)
    if masks:
        bits[: GROUP_STEPS * len(masks)] = np.concatenate(masks)
    bits = bits[:steps]
    total = int(bits.sum())
    packed = np.concatenate([np.zeros((0, BEAT), np.uint8), *(v[None] for v in values)])
    nibbles = np.zeros(max(2 * packed.size, total), np.uint8)
    nibbles[0 : 2 * packed.size : 2] = packed.reshape(-1) & 15
    nibbles[1 : 2 * packed.size : 2] = packed.reshape(-1) >> 4
    out = np.zeros((steps, PORT_CHANNELS), np.uint8)
    out[bits] = nibbles[:total]
    return out, len(masks) == groups and debt <= 0 and total == count
