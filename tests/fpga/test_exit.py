# SPDX-License-Identifier: Apache-2.0
"""Off-ramps of the vector unit against the golden functions: logits, entropies (Q21), who leaves and is told (Q22)."""

import re

import numpy as np
import pytest
from units import EXIT, LANES, Units, linear_words
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.simulator import ROOT
from zynqbert.quant import golden

BUILDS = ["csim", "checked", "native"]
FOR_ENTROPY = (48000, 16)  # a factor of two is 1,400 steps of the logits


@pytest.fixture(scope="module", params=BUILDS)
def units(request):
    return Units(request.param)


def ramp(units, logits, *, tile=64, m=FOR_ENTROPY[0], s=FOR_ENTROPY[1], **fields):
    """An off-ramp on logits [32, labels], which the accumulators give as they are; record [5, 32], verdict [3]."""
    labels = logits.shape[1]
    units.put_parameters(linear_words(np.zeros(tile), np.full(tile, 128), np.full(tile, 7)))
    fields = {"layer": 1} | fields
    for first in range(0, labels, tile):
        words = min(tile, labels - first)
        last = first + words == labels
        teed = units.vector(
            "linear", logits[:, first : first + words], words=words, destination=EXIT, first_tile=first == 0,
            last_tile=last, entropy_m=m, s=s, **fields,
        )  # fmt: skip
        np.testing.assert_array_equal(teed[:, :words], logits[:, first : first + words])
        assert teed.shape[1] == words + (isa.RECORD_WORDS if last else 0)
        assert last or (units.verdict == -1).all()
    return teed[:, words:].T, units.verdict


def sentences(units, ranges, lanes):
    """Rows of a pass with sentences of the given key ranges, the [CLS] of sentence n in lane lanes[n]."""
    begin, end = np.zeros(128, dtype=np.int64), np.zeros(128, dtype=np.int64)
    results = np.full(LANES, 255)
    for lane, (first, after) in zip(lanes, ranges, strict=True):
        begin[first:after], end[first:after] = first, after
        results[lane] = first
    units.load_rows(begin, end, results)


def everyone(units):
    """A sentence of four rows in every lane."""
    sentences(units, [(4 * n, 4 * n + 4) for n in range(LANES)], range(LANES))


def cases(rng, labels):
    """Logits [32, labels]: usual ones, ties, extremes, ascending and descending ones, one far above the rest."""
    x = np.rint(rng.normal(0, 1, (LANES, labels)) * rng.choice([1, 300, 1500, 6000, 20000], (LANES, 1))).astype(int)
    x[0], x[1], x[2] = 0, 32767, -32767
    x[3] = np.where(np.arange(labels) % 2 == 0, 32767, -32767)
    x[4] = -x[3]
    x[5] = -32767
    x[5, labels // 2] = 32767
    x[6], x[7] = np.linspace(-32767, 32767, labels).astype(int), np.linspace(32767, -32767, labels).astype(int)
    x[8] = np.arange(labels) * 7
    x[9, -1] = 32000
    x[10] = rng.choice([-1, 0, 1], labels)
    x[11] = x[11, 0]
    return np.clip(x, -32767, 32767)


@pytest.mark.parametrize("labels", [2, 3, 5, 64, 65, 130, 1000])
@pytest.mark.parametrize(("m", "s"), [FOR_ENTROPY, (65535, 1), (32768, 31), (65535, 12)])
def test_entropy(units, labels, m, s):
    if units.sim.build == "csim" and labels == 1000 and (m, s) != FOR_ENTROPY:
        pytest.skip("slow under ap_int, and run for the other builds")
    rng = np.random.default_rng(labels + s)
    x = cases(rng, labels)
    everyone(units)
    record, verdict = ramp(units, x, m=m, s=s, last=1, layer=7)
    np.testing.assert_array_equal(record[1], golden.entropy_ref(x, m, s))
    np.testing.assert_array_equal(record[0], 7)
    assert not record[2:4].any() and (record[4] == -1).all()
    assert verdict.tolist() == [0, 0, 0]


def test_the_tables_are_the_goldens():
    """The headers hold the numbers of docs/quantization.md."""
    for name, values in (("power", golden.power_table_ref()), ("log", golden.log_table_ref())):
        text = (ROOT / "kernels" / f"{name}_table.hpp").read_text()
        found = re.search(r"\[1024\] = \{(.*?)\}", text, flags=re.S)[1]
        assert tuple(int(n) for n in re.findall(r"\d+", found)) == values


def test_one_label_has_no_entropy(units):
    everyone(units)
    x = np.linspace(-32767, 32767, LANES).astype(int)[:, None]
    record, _ = ramp(units, x, last=1)
    np.testing.assert_array_equal(record[1], golden.entropy_ref(x, *FOR_ENTROPY))


@pytest.mark.parametrize("seed", range(6))
def test_who_leaves(units, seed):
    """Ramps of six layers as the golden functions decide, with absent lanes and a layer foretold or not."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 9))
    cuts = np.sort(rng.choice(np.arange(1, 128), 2 * count - 1, replace=False))
    ranges = list(zip([0, *cuts[1::2]], cuts[::2], strict=True))[:count]
    lanes = rng.permutation(LANES)[:count]
    sentences(units, ranges, lanes)
    shift, threshold = int(rng.integers(2, 8)), int(rng.integers(0, 3000))
    table, outputs = rng.integers(0, 8, 256), rng.integers(0, 4, 256)
    units.load_table(isa.TABLE_EXIT, table)
    units.load_table(isa.TABLE_CLOCK, outputs)
    foretelling, choosing = seed % 3 > 0, seed % 3 > 1
    left = np.zeros(LANES, dtype=np.int64)
    present = np.isin(np.arange(LANES), lanes)
    entropy, foretold, first, output = np.zeros(LANES), np.zeros(LANES, dtype=np.int64), np.zeros(LANES), -1
    for layer in range(1, 7):
        x = cases(rng, 5)[rng.permutation(LANES)]
        h = golden.entropy_ref(x, *FOR_ENTROPY)
        there = present & (left == 0)
        if foretelling and layer == 1:
            foretold = np.where(there, golden.predicted_ref(h, table, shift), 0)
            first = np.where(there, h, 0)
        leaves = there & golden.leaves_ref(h, layer, threshold, foretold, layer == 6)
        left, entropy = np.where(leaves, layer, left), np.where(leaves, h, entropy)
        stay = present & (left == 0)
        if choosing and layer == 1 and stay.any():
            output = outputs[foretold[stay]].min()
        live = 0
        for lane, (begin, end) in zip(lanes, ranges, strict=True):
            if stay[lane]:
                live |= sum(1 << rb for rb in range(4) if begin < 32 * rb + 32 and end > 32 * rb)
        at_first = {"predict": foretelling and layer == 1, "clock": choosing and layer == 1}
        record, verdict = ramp(units, x, layer=layer, threshold=threshold, row_shift=shift, last=layer == 6, **at_first)
        np.testing.assert_array_equal(record, [left, entropy, foretold, first, np.full(LANES, output)])
        choose = int(choosing and layer == 1 and stay.any())
        assert verdict[:2].tolist() == [live, choose]
        assert not choose or verdict[2] == output
    assert live == 0 and left[present].all() and not left[~present].any()


def test_foretold_layer_is_looked_up_at_the_tables_end(units):
    """min(255, H >> r), and a layer at or above the ramp's own lets the sentence leave at once."""
    x = np.zeros((LANES, 900), dtype=np.int64)  # H = ln 900, 27862 steps
    everyone(units)
    table = np.zeros(256, dtype=np.int64)
    table[255], table[27862 >> 7] = 2, 5
    units.load_table(isa.TABLE_EXIT, table)
    for shift, layer in ((0, 2), (6, 2), (7, 5), (15, 0)):
        units.vector("rows", words=4)  # begins a pass, and leaves its rows
        everyone(units)
        record, verdict = ramp(units, x, predict=1, row_shift=shift, layer=2)
        assert (record[2] == layer).all()
        assert (record[0] == (2 if layer == 2 else 0)).all()
        assert verdict[0] == (0 if layer == 2 else 15)


def test_below_the_threshold_not_at_it(units):
    everyone(units)
    x = cases(np.random.default_rng(2), 4)
    h = golden.entropy_ref(x, *FOR_ENTROPY)
    threshold = int(np.sort(h)[LANES // 2])
    record, _ = ramp(units, x, threshold=threshold)
    np.testing.assert_array_equal(record[0], h < threshold)
    assert (h == threshold).any()


def test_a_new_pass_forgets_who_left(units):
    everyone(units)
    x = cases(np.random.default_rng(0), 3)
    ramp(units, x, threshold=32767)
    record, _ = ramp(units, x, layer=2, threshold=32767)
    assert (record[0] == 1).all()  # they left at layer 1, and the second ramp changes nothing
    everyone(units)
    record, verdict = ramp(units, x, layer=2)
    assert not record[:4].any() and (record[4] == -1).all() and verdict[0] == 15
