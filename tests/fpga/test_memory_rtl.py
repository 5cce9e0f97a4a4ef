# SPDX-License-Identifier: Apache-2.0
"""memory.v under Verilator against a numpy model of a two-cycle ap_memory, cycle by cycle."""

import ctypes

import numpy as np
import pytest
import rtl

# (style, words, bits, stalls) as the block design has them, cut short where they are deep.
BANKS = (("block", 640, 64, 1), ("ultra", 96, 256, 1), ("block", 96, 256, 0))
CYCLES = 3000


class Memory:
    """memory.v with these parameters."""

    def __init__(self, style: str, words: int, bits: int, stalls: int):
        self.words, self.bytes, self.stalls = words, bits // 8, stalls
        address_bits = (words - 1).bit_length()
        self.lib = rtl.compile_bench(
            "memory",
            "memory_bench",
            WIDTH=bits,
            DEPTH=words,
            ADDRESS_WIDTH=address_bits,
            STYLE=f'"{style}"',
            STALLS=stalls,
        )

    def __call__(self, write_address, write_ce, write_we, write_d, read_address, read_ce) -> np.ndarray:
        """Stimuli of n cycles (addresses and enables [n], words uint8 [n, bytes]) → read_q before each edge."""
        columns = (
            np.ascontiguousarray(write_address, dtype=np.uint32),
            np.ascontiguousarray(write_ce, dtype=np.uint8),
            np.ascontiguousarray(write_we, dtype=np.uint8),
            np.ascontiguousarray(write_d, dtype=np.uint8),
            np.ascontiguousarray(read_address, dtype=np.uint32),
            np.ascontiguousarray(read_ce, dtype=np.uint8),
            np.zeros((len(read_ce), self.bytes), dtype=np.uint8),
        )
        counts = (ctypes.c_uint64(1), ctypes.c_uint64(len(read_ce)))  # seed of what was never written, cycles
        self.lib.zq_memory(*counts, *(rtl.pointer(column) for column in columns))
        return columns[-1]


@pytest.fixture(scope="module", params=BANKS, ids=lambda bank: f"{bank[0]}-{bank[3]}")
def memory(request):
    return Memory(*request.param)


def model(words, width, stalls, write_address, write_ce, write_we, write_d, read_address, read_ce):
    """read_q before each edge, and where it is known: after two enabled edges, or, where nobody stalls, one and any
    other. All words start as 0."""
    stored = np.zeros((words, width), dtype=np.uint8)
    word, q, edges = np.zeros(width, dtype=np.uint8), np.zeros(width, dtype=np.uint8), 0
    out, known = np.zeros((len(read_ce), width), dtype=np.uint8), np.zeros(len(read_ce), dtype=bool)
    for i in range(len(read_ce)):
        out[i], known[i] = q, edges >= 2
        if read_ce[i] or not stalls:
            q, edges = word, edges + (read_ce[i] or edges > 0)
        if read_ce[i]:
            word = stored[read_address[i]].copy()
        if write_ce[i] and write_we[i]:  # after the read: a word read as it is written is the old one
            stored[write_address[i]] = write_d[i]
    return out, known


def zeros_first(memory, stimuli):
    """The stimuli after a pass that writes 0 to every word."""
    n = memory.words
    first = (np.arange(n), np.ones(n), np.ones(n), np.zeros((n, memory.bytes)), np.zeros(n), np.zeros(n))
    return [np.concatenate([a, b]).astype(np.int64) for a, b in zip(first, stimuli, strict=True)]


@pytest.mark.parametrize("spread", ["all", "few"])
def test_random_traffic(memory, spread):
    """Writes with either enable missing, reads that stop and go; `few` words, so that writes and reads collide."""
    rng = np.random.default_rng(memory.words)
    last = memory.words if spread == "all" else 3
    # The last word is among them.
    write_address, read_address = memory.words - 1 - rng.integers(0, last, (2, CYCLES))
    enables = rng.random((3, CYCLES)) < 0.7
    data = rng.integers(0, 256, (CYCLES, memory.bytes))
    stimuli = zeros_first(memory, (write_address, enables[0], enables[1], data, read_address, enables[2]))
    collisions = np.count_nonzero(enables.all(axis=0) & (write_address == read_address))
    assert collisions > (300 if spread == "few" else 0)
    expected, known = model(memory.words, memory.bytes, memory.stalls, *stimuli)
    found = memory(*stimuli)
    assert known.sum() > CYCLES - 20
    np.testing.assert_array_equal(found[known], expected[known])


def test_a_pipeline_that_stalls_loses_no_word(memory):
    """A reader as HLS makes them: three stages that move only while ce is high, an address in the first, its word
    taken in the third. Where no reader stalls a word is taken two cycles after its address, and stays."""
    rng = np.random.default_rng(1)
    words = rng.integers(0, 256, (memory.words, memory.bytes))
    n = memory.words
    fill = (np.arange(n), np.ones(n), np.ones(n), words, np.zeros(n), np.zeros(n))
    moves = rng.random(CYCLES) < 0.5
    wanted = rng.integers(0, n, CYCLES)
    stage = np.concatenate([[0], np.cumsum(moves)[:-1]])  # of each cycle: how often the pipeline has moved
    none = np.zeros(CYCLES)
    stimuli = (none, none, none, np.zeros((CYCLES, memory.bytes)), wanted[stage], moves)
    q = memory(*(np.concatenate([a, b]) for a, b in zip(fill, stimuli, strict=True)))[n:]
    if memory.stalls:
        taken = moves & (stage >= 2)
        np.testing.assert_array_equal(q[taken], words[wanted[stage[taken] - 2]])
        return
    asked = np.flatnonzero(moves)
    last = asked[np.searchsorted(asked, np.arange(asked[0] + 2, CYCLES) - 2, side="right") - 1]
    np.testing.assert_array_equal(q[asked[0] + 2 :], words[wanted[stage[last]]])


def test_lint():
    assert rtl.lint("memory") == ""
