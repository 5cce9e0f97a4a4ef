# SPDX-License-Identifier: Apache-2.0
"""Compressed weights: bitmask and packed non-zero nibbles (docs/program.md, Compressed weights). numpy only.

A matrix of int4 weights becomes a directory, one beat of 16 bytes a column tile, and behind it the tiles' port streams:
for each port (32 output channels) as many beats as the tile's directory entry says. A stream is segments of 256 K steps
(the last may have fewer) and an end beat. A segment is a header beat and, by its kind, nothing (zero), one beat a step
(raw), or for every 4 steps a beat of 4 x 32 mask bits, each followed by the beats of 32 nibbles that its bits ask for
and that did not come yet (masked).

A tile whose blocks have a density bound (VDBB, Liu et al., arXiv 2009.02381) takes fewer steps than K: of every 4
consecutive entries a group of 4 channels uses at most `bound` < 4, and each step names the entry that each group takes.
For every 8 such steps a beat of 8 x 8 choices of two bits comes before their raw beats (chosen).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BEAT = 16  # bytes
PORT_CHANNELS = 32
SEGMENT_STEPS = 256
GROUP_STEPS = 4  # steps of a mask beat
BLOCK = 4  # consecutive entries of K of which a group of channels chooses
GROUP = 4  # channels that choose alike
PORT_GROUPS = PORT_CHANNELS // GROUP
CHOICE_STEPS = 8  # steps of a beat of choices
SEGMENT_TAG = 0x5A47
END_TAG = 0x2E444E45
ZERO, RAW, MASKED, CHOSEN = range(4)

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
    """`beats`: of each column tile, on each of `ports` ports; 0 for a tile of zeros. `bounds`: of its blocks, 0 where a
    tile takes a step an entry. `data`: uint8, all of it."""

    ports: int
    beats: tuple[int, ...]
    bounds: tuple[int, ...]
    data: np.ndarray


def compress(nibbles: np.ndarray, columns: int, chosen: bool = False) -> CompressedMatrix:
    """Compress int4 weights `nibbles`, uint8 [N, K] in 0 .. 15, two's complement, for an array of `columns` columns.

    With `chosen` a tile whose blocks have a density bound is stored by choices where steps and beats are then fewer in
    all. Raises ValueError for the nibble 0x8, which is no weight, and for columns that are no multiple of 64.
    """
    if columns % 64:
        raise ValueError(f"{columns} columns are no multiple of 64")
    if (nibbles == 8).any() or (nibbles > 15).any():
        raise ValueError("0x8, or more than a nibble, is no int4 weight")
    n, k = nibbles.shape
    tiles, ports = -(-n // columns), columns // PORT_CHANNELS
    padded = np.zeros((tiles * columns, k), np.uint8)
    padded[:n] = nibbles
    made = [_best(tile, chosen) for tile in padded.reshape(tiles, columns, k)]
    streams = [stream for stream, _ in made]
    beats = tuple(0 if stream is None else stream.shape[1] for stream in streams)
    bounds = tuple(bound for _, bound in made)
    directory = np.zeros((tiles, 4), "<u4")
    directory[:, 0] = np.array(beats) > 0
    directory[:, 1] = beats
    directory[:, 2] = np.concatenate([[0], np.cumsum(beats)[:-1]])
    directory[:, 3] = bounds
    parts = [directory.view(np.uint8).reshape(-1), *(s.reshape(-1) for s in streams if s is not None)]
    return CompressedMatrix(ports, beats, bounds, np.concatenate(parts))


def steps_of(k: int, bound: int) -> int:
    """Steps of a tile of K entries whose blocks have this bound; 0: none, a step an entry."""
    return -(-k // BLOCK) * bound if bound else k


def tile_bound(tile: np.ndarray) -> int:
    """The most entries of a block that a group of channels uses, 0 .. BLOCK; tile [C, K], C a multiple of GROUP."""
    return int(_used(tile).sum(axis=2).max(initial=0))


def choose(tile: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """Nibbles [C, K] as steps: the nibbles [C, S] and the entry of its block that each group takes, [C / GROUP, S].

    A block's entries come in their order; where a group uses fewer than `bound` it takes entry 0 times 0.
    """
    used = _used(tile)  # [groups, blocks, BLOCK]
    groups, blocks, _ = used.shape
    order = np.argsort(~used, axis=2, kind="stable")[:, :, :bound]
    real = np.take_along_axis(used, order, axis=2)  # [groups, blocks, bound]
    of_block = _padded(tile).reshape(groups, GROUP, blocks, BLOCK)
    taken = np.take_along_axis(of_block, np.broadcast_to(order[:, None], (groups, GROUP, blocks, bound)), axis=3)
    steps = np.where(real[:, None], taken, 0).astype(np.uint8).reshape(len(tile), blocks * bound)
    return steps, np.where(real, order, 0).astype(np.uint8).reshape(groups, blocks * bound)


def _padded(tile: np.ndarray) -> np.ndarray:
    return np.pad(tile, ((0, 0), (0, -tile.shape[1] % BLOCK)))


def _used(tile: np.ndarray) -> np.ndarray:
    """Nibbles [C, K] → bool [groups, blocks, BLOCK]: whether a channel of the group is not 0 there."""
    filled = _padded(tile != 0)
    return filled.reshape(len(tile) // GROUP, GROUP, filled.shape[1] // BLOCK, BLOCK).any(axis=1)


def _best(tile: np.ndarray, chosen: bool) -> tuple[np.ndarray | None, int]:
    """Nibbles [C, K] → port streams uint8 [P, beats, 16], None if all are 0, and the bound, 0 for none."""
    if not tile.any():
        return None, 0
    channels, k = tile.shape
    by_port = channels // PORT_CHANNELS, PORT_CHANNELS, -1
    plain = _framed([_segment(part) for part in _cut(tile.reshape(by_port))])
    bound = tile_bound(tile) if chosen else BLOCK
    if bound == BLOCK:
        return plain, 0
    nibbles, choices = choose(tile, bound)
    cut = zip(_cut(nibbles.reshape(by_port)), _cut(choices.reshape(by_port[0], PORT_GROUPS, -1)), strict=True)
    blocks = _framed([_chosen(*part) for part in cut])
    if nibbles.shape[1] + blocks.shape[1] < k + plain.shape[1]:
        return blocks, bound
    return plain, 0


def _cut(of_ports: np.ndarray) -> list[np.ndarray]:
    """[P, …, steps] in segments."""
    return [of_ports[:, :, first : first + SEGMENT_STEPS] for first in range(0, of_ports.shape[2], SEGMENT_STEPS)]


def _framed(parts: list[np.ndarray]) -> np.ndarray:
    """Segments uint8 [P, beats, 16] and the end beat."""
    ports = len(parts[0])
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
    return _headed(kind, k, payload, counts)


def _headed(kind: int, k: int, payload: np.ndarray, counts: np.ndarray | int = 0) -> np.ndarray:
    """A segment of k steps: header and payload uint8 [P, beats, 16]."""
    header = np.zeros((len(payload), 1, 4), "<u4")
    header[:, 0, 0] = SEGMENT_TAG << 16 | kind
    header[:, 0, 1] = payload.shape[1]
    header[:, 0, 2] = k
    header[:, 0, 3] = counts
    return np.concatenate([header.view(np.uint8), payload], axis=1)


def _chosen(nibbles: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Nibbles [P, 32, k] and choices [P, 8, k] → header and payload: a beat of choices before every 8 raw ones."""
    ports, _, k = nibbles.shape
    if not nibbles.any():
        return _headed(ZERO, k, np.zeros((ports, 0, BEAT), np.uint8))
    groups = -(-k // CHOICE_STEPS)
    by_step = np.zeros((ports, groups * CHOICE_STEPS, PORT_GROUPS // 4, 4), np.uint8)
    by_step[:, :k] = choices.transpose(0, 2, 1).reshape(ports, k, PORT_GROUPS // 4, 4)
    named = (by_step << np.arange(0, 8, 2, dtype=np.uint8)).sum(axis=3, dtype=np.uint8).reshape(ports, groups, BEAT)
    raw = nibbles[:, 0::2] | nibbles[:, 1::2] << 4  # [P, 16, k]
    place = np.arange(k) + np.arange(k) // CHOICE_STEPS + 1
    payload = np.zeros((ports, k + groups, BEAT), np.uint8)
    payload[:, place] = raw.transpose(0, 2, 1)
    payload[:, np.arange(groups) * (CHOICE_STEPS + 1)] = named
    return _headed(CHOSEN, k, payload)


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
    for number, (kind, beats, before, bound) in enumerate(directory.tolist()):
        first = (tiles + before * ports) * BEAT
        stream = data[first : first + beats * ports * BEAT]
        whole = kind <= 1 and (kind == 0) == (beats == 0) and bound < BLOCK * (kind or not bound)
        if not whole or len(stream) != beats * ports * BEAT:
            raise ValueError(f"tile {number}: its directory entry is corrupt")
        if kind:
            nibbles, choices, fault = expand_ref(stream.reshape(ports, beats, BEAT), steps_of(k, bound))
            if fault:
                raise ValueError(f"tile {number}: {FAULTS[fault]}")
            out[number] = _placed(nibbles, choices, bound, k, number) if bound else nibbles
    return out.reshape(tiles * columns, k)[:n]


def _placed(nibbles: np.ndarray, choices: np.ndarray, bound: int, k: int, number: int) -> np.ndarray:
    """Steps' nibbles [C, S] and choices [C / GROUP, S] → nibbles [C, K]; ValueError for weights of no entry."""
    channels, steps = nibbles.shape
    entry = BLOCK * (np.arange(steps) // bound) + choices.repeat(GROUP, axis=0)  # [C, S]
    row, step = np.nonzero(nibbles)
    at = entry[row, step]
    if (at >= k).any() or len(np.unique(row * BLOCK * steps + at)) < len(at):
        raise ValueError(f"tile {number}: an entry that is chosen twice, or beyond the last")
    out = np.zeros((channels, k), np.uint8)
    out[row, at] = nibbles[row, step]
    return out


def expand_ref(streams: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Golden of the engine's units `weights` and `expand`: port streams uint8 [P, beats, 16] of one tile of k steps.

    Returns the nibbles uint8 [32·P, k], the choices uint8 [8·P, k], and the fault, 0 if none. Whatever the beats say:
    steps of a segment that has been begun are what its masks and values gave before the fault, then 0; steps in no
    segment are 0, and so are choices but in a chosen segment.
    """
    ports, beats, _ = streams.shape
    words = np.ascontiguousarray(streams).view("<u4")  # [P, beats, 4]
    out = np.zeros((ports, k, PORT_CHANNELS), np.uint8)
    choices = np.zeros((ports, k, PORT_GROUPS), np.uint8)
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
        elif kind == CHOSEN:
            place = np.arange(steps) + np.arange(steps) // CHOICE_STEPS + 1
            out[:, done : done + steps, 0::2] = payload[:, place] & 15
            out[:, done : done + steps, 1::2] = payload[:, place] >> 4
            named = payload[:, :: CHOICE_STEPS + 1].reshape(ports, -1, PORT_GROUPS // 4)[:, :steps]  # two bytes a step
            choices[:, done : done + steps] = (named[..., None] >> np.arange(0, 8, 2) & 3).reshape(ports, steps, -1)
        elif kind == MASKED:
            for p in range(ports):
                out[p, done : done + steps], sound = _unmask(payload[p], steps, int(head[p, 3]) & 0xFFFF)
                if not sound:
                    fault = BAD_COUNT
        done += steps
    if not fault and not ended:
        fault = NO_END
    by_channel, by_group = out.transpose(0, 2, 1), choices.transpose(0, 2, 1)
    return by_channel.reshape(ports * PORT_CHANNELS, k), by_group.reshape(ports * PORT_GROUPS, k), fault


def _begin_fault(head: np.ndarray, left: int, left_k: int) -> int:
    """Fault of header words [P, 4], 0 if the segment may begin; the tile has `left` beats and `left_k` steps left."""
    tag, size, steps = (int(x) for x in head[0, :3])
    kind = tag & 0xFFFF
    groups = -(-steps // (CHOICE_STEPS if kind == CHOSEN else GROUP_STEPS))
    if tag >> 16 != SEGMENT_TAG or kind > CHOSEN or (head[:, :3] != head[0, :3]).any():
        return BAD_SEGMENT
    if not 0 < steps <= min(left_k, SEGMENT_STEPS) or steps not in (SEGMENT_STEPS, left_k):
        return BAD_SEGMENT
    if size >= left:
        return OVERLONG
    chosen = steps + groups
    sizes = {ZERO: (0, 0), RAW: (steps, steps), MASKED: (groups, 5 * groups), CHOSEN: (chosen, chosen)}[kind]
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
