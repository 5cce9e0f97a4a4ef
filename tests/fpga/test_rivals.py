# SPDX-License-Identifier: Apache-2.0
"""Published rows: derived figures follow from the read ones, and agree with what is kept elsewhere."""

import pytest
from zynqbert.fpga.published import PUBLISHED
from zynqbert.fpga.reference import FQ_BERT, FQ_BERT_CLOCK_MHZ
from zynqbert.fpga.rivals import FIGURES, RIVALS, bert_base_gop

ROWS = {rival.name: rival for rival in RIVALS}


def test_names_are_unique_and_every_row_says_where_it_is_from():
    assert len(ROWS) == len(RIVALS)
    assert all(rival.source.startswith(("[P]", "[D]")) for rival in RIVALS)


def test_operations_of_bert_base_at_128_tokens():
    # 10.87 G linear and 0.30 G attention products
    assert bert_base_gop(128) == pytest.approx(22.35, abs=0.005)


def test_figures_follow_from_each_other():
    for rival in RIVALS:
        if rival.gop is not None and rival.ms is not None:
            assert rival.gops == pytest.approx(rival.gop / rival.ms * 1e3)
        if None not in (rival.gops, rival.watts):
            assert rival.gops_per_w == pytest.approx(rival.gops / rival.watts)
        if None not in (rival.ms, rival.watts):
            # read in the source where it is, rounded to two digits after the point there
            assert rival.fps_per_w == pytest.approx(1e3 / rival.ms / rival.watts, abs=0.01)


def test_fq_bert_rows_are_those_of_the_cycle_models_check():
    found = [r for r in RIVALS if r.name.startswith("FQ-BERT")]
    assert [(r.platform.lower(), r.ms) for r in found] == [(board, ms) for board, _, _, ms in FQ_BERT]
    assert {r.clock_mhz for r in found} == {FQ_BERT_CLOCK_MHZ}
    assert {round(r.gops_per_w) for r in found if r.watts} == {52, 71}
    assert {round(r.intensity) for r in found} == {526}


def test_watts_are_those_of_the_power_models_rows():
    watts = {row.name.split(" ")[0]: row.watts for row in PUBLISHED if row.family == row.name}
    assert ROWS["HeatViT"].watts == watts["HeatViT"]
    assert ROWS["EfficientViT accelerator"].watts == pytest.approx(watts["EfficientViT"])
    fq_bert = {row.name: row.watts for row in PUBLISHED if row.family == "FQ-BERT"}
    assert {name: ROWS[name].watts for name in fq_bert} == fq_bert


def test_each_figure_is_read_derived_or_absent():
    orin = ROWS["Jetson AGX Orin"]
    assert {figure: orin.tag(figure) for figure in FIGURES} == dict.fromkeys(FIGURES) | {"fps_per_w": "derived"}
    assert orin.intensity is None
    assert ROWS["COBRA"].tag("gops") == "read"
    assert ROWS["COBRA"].tag("watts") == "derived"
    for rival in RIVALS:
        assert all(rival.tag(figure) for figure in rival.derived)
