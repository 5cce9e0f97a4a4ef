# SPDX-License-Identifier: Apache-2.0
"""Embedding rows in the vector unit (Q6, Q24): int8, nibbles, and adaptive ones behind a mask, true or corrupt."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adaptive_rows import BEAT, adaptive_row, packed_rows
from units import LANES, Units
from zynqbert.fpga.simulator import SimulatorUnavailable, compile_library
from zynqbert.quant import golden

BUILDS = ["csim", "checked", "native"]
LONGEST = 65  # beats of a row in the embedding buffer


@pytest.fixture(scope="module", params=BUILDS)
def units(request):
    return Units(request.param)


def term(q, m, s) -> np.ndarray:
    """q [32, width] by m, s, scalars or one a lane → int16 [32, width]."""
    m, s = (np.broadcast_to(x, LANES)[:, None] for x in (m, s))
    return golden.clamp16_ref(golden.round_shift_ref(np.asarray(q, np.int64) * m, s))


def embed(units, rows: np.ndarray, width: int, **fields) -> np.ndarray:
    """rows uint8 [32, bytes] as the first table → what is teed, [32, width]."""
    units.put_embedding(rows, fields.get("slot", 0))
    beats = rows.shape[1] // BEAT
    return units.vector("embed", words=width, width=beats, **{"first_tile": 1, "adaptive": 1} | fields)


def draw(rng, width: int, density: float) -> np.ndarray:
    """Codes uint8 [32, width]: any of the 256, about `density` of them kept; an empty row, and one of 128s."""
    codes = np.where(rng.random((LANES, width)) < density, rng.integers(0, 256, (LANES, width)), 0).astype(np.uint8)
    codes[3] = 0
    codes[4, codes[4] != 0] = 128
    return codes


@pytest.mark.parametrize("density", [0.0, 0.05, 0.4, 1.0])
@pytest.mark.parametrize("width", [1, 16, 127, 128, 129, 200, 384, 768])
def test_adaptive_rows(units, width, density):
    rng = np.random.default_rng(width)
    codes, m, s = draw(rng, width, density), 181, 9
    got = embed(units, packed_rows(codes, m, s), width, row_block=2, slot=1)
    np.testing.assert_array_equal(got, term(golden.adaptiv_ref(codes), m, s))
    np.testing.assert_array_equal(units.get_residual(width, rb=2), got)


@pytest.mark.parametrize("codes_a_row", [0, 1, 15, 16, 17, 896])
def test_the_widest_table_fits_with_few_codes(units, codes_a_row):
    """1,024 channels take 8 beats of mask, so 56 beats of codes fit the buffer."""
    rng = np.random.default_rng(codes_a_row)
    codes = np.zeros((LANES, 1024), np.uint8)
    for row in codes:
        row[rng.permutation(1024)[:codes_a_row]] = rng.integers(1, 128, codes_a_row)
    rows = packed_rows(codes, 255, 7)
    assert rows.shape[1] // BEAT <= LONGEST
    np.testing.assert_array_equal(embed(units, rows, 1024), term(golden.adaptiv_ref(codes), 255, 7))


def test_every_code(units):
    """All 256 of them, stored even where they are 0, in a row that is full."""
    codes = np.tile(np.arange(256, dtype=np.uint8), (LANES, 1))
    codes = np.stack([np.roll(row, 8 * t) for t, row in enumerate(codes)])
    rows = np.stack([adaptive_row(np.ones(256), row, 128, 7, 16) for row in codes])
    np.testing.assert_array_equal(embed(units, rows, 256), golden.adaptiv_ref(codes))


@pytest.mark.parametrize(("m", "s"), [(255, 1), (255, 4), (128, 31), (0, 1), (129, 12)])
def test_extreme_factors_saturate(units, m, s):
    """3968·255/2 is far beyond int16: the first table's term is clamped too (Q6)."""
    codes = np.resize(np.array([127, 255, 1, 129, 0, 128, 16], np.uint8), (LANES, 40))
    got = embed(units, packed_rows(codes, m, s), 40)
    np.testing.assert_array_equal(got, term(golden.adaptiv_ref(codes), m, s))
    if (m, s) == (255, 1):
        assert {32767, -32767} <= set(got.ravel().tolist())


def test_lanes_have_rows_and_factors_of_their_own(units):
    rng = np.random.default_rng(5)
    codes = draw(rng, 200, 0.5)
    m, s = rng.integers(128, 256, LANES), rng.integers(4, 16, LANES)
    rows = packed_rows(codes, 0, 0)
    rows[:, -BEAT], rows[:, -BEAT + 1] = m, s
    np.testing.assert_array_equal(embed(units, rows, 200), term(golden.adaptiv_ref(codes), m, s))


def test_added_to_another_table_with_the_sums_of_the_norm(units):
    """A second table adds, and the layer norm behind finds its sums (Q7)."""
    rng = np.random.default_rng(6)
    width = 130
    codes, q = draw(rng, width, 0.6), rng.integers(-127, 128, (LANES, width))
    x = embed(units, packed_rows(codes, 200, 9), width)
    rows = np.zeros((LANES, 10 * BEAT), np.uint8)
    rows[:, :width] = q & 255
    rows[:, -BEAT], rows[:, -BEAT + 1] = 230, 5
    got = embed(units, rows, width, first_tile=0, adaptive=0)
    np.testing.assert_array_equal(got, golden.clamp16_ref(x + term(q, 230, 5)))
    ones = np.full(width, 64, np.uint64) | np.full(width, 6 << 8, np.uint64)  # γ = 64, sγ = 6: y = z
    units.put_parameters(ones)
    y = units.vector("norm", words=width, width=width, m=0, s=1)
    parts = (np.full(width, v) for v in (64, 6, 0, 0))
    np.testing.assert_array_equal(y, golden.layer_norm_ref(got, *parts))


def test_nibbles_and_bytes(units):
    rng = np.random.default_rng(7)
    nibbles = rng.integers(-7, 8, (LANES, 64))
    rows = np.zeros((LANES, 3 * BEAT), np.uint8)
    rows[:, :32] = (nibbles[:, 0::2] & 15) | (nibbles[:, 1::2] & 15) << 4
    rows[:, 32], rows[:, 33] = 200, 6
    got = embed(units, rows, 64, adaptive=0, four_bit=1)
    np.testing.assert_array_equal(got, term(16 * nibbles, 200, 6))


def read_as_documented(row: np.ndarray, width: int, m: int, s: int) -> list[int]:
    """What a row of any content is: bits of the mask, codes in order, those beyond the row 0."""
    mask_beats = -(-width // 128)
    codes = row[mask_beats * BEAT : -BEAT].tolist()
    out = []
    for c in range(width):
        bit = row[c // 128 * BEAT + c % 128 // 8] >> (c % 8) & 1
        out.append(int(golden.adaptiv_ref(codes.pop(0))) if bit and codes else 0)
    return out


@pytest.mark.parametrize("beats", [2, 4, 5, LONGEST])
@pytest.mark.parametrize("width", [5, 128, 300, 1024])
def test_a_corrupt_mask_reads_no_further_than_its_row(units, width, beats):
    rng = np.random.default_rng(width + beats)
    beats = max(beats, -(-width // 128) + 1)
    rows = rng.integers(0, 256, (LANES, beats * BEAT)).astype(np.uint8)
    rows[0] = 255
    rows[:, -BEAT], rows[:, -BEAT + 1] = 200, 8
    q = [read_as_documented(row, width, 200, 8) for row in rows]
    np.testing.assert_array_equal(embed(units, rows, width), term(q, 200, 8))


def test_a_corrupt_mask_under_the_sanitizers(tmp_path):
    """Every access to the buffer within its bounds, in a process of its own."""
    try:
        compile_library("native", 128, sanitize=True)
    except SimulatorUnavailable as reason:
        pytest.skip(str(reason))
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, numpy as np\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1] / 'support')!r})\n"
        "from units import Units\n"
        "units, rng = Units('native', sanitize=True), np.random.default_rng(0)\n"
        f"for width, beats in [(1024, 9), (1024, {LONGEST}), (1, 2), (129, 3), (384, 4), (1024, 20)]:\n"
        "    for ones in (False, True):\n"
        "        rows = rng.integers(0, 256, (32, beats * 16)).astype(np.uint8)\n"
        "        rows[:, :128] |= 255 * ones\n"
        "        rows[:, -16], rows[:, -15] = 255, 31\n"
        "        units.put_embedding(rows, 1)\n"
        "        units.vector('embed', words=width, width=beats, slot=1, first_tile=1, adaptive=1, row_block=3)\n"
    )
    asan = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {**os.environ, "LD_PRELOAD": asan.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
