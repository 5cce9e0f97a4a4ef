# SPDX-License-Identifier: Apache-2.0
"""The model at FQ-BERT's multiplier count and clock against its published latencies; nothing fitted."""

from dataclasses import fields

import pytest
from zynqbert.fpga import program, reference
from zynqbert.fpga.cycles import Model
from zynqbert.fpga.reference import encoder_products, encoder_program, fq_bert_check, fq_bert_timing


@pytest.fixture(scope="module")
def checks():
    return fq_bert_check()


def test_rows_are_the_papers(checks):
    assert [(c.board, c.multipliers, c.published_ms) for c in checks] == [
        ("zcu102", 1536, 43.89),
        ("zcu102", 1536, 45.35),
        ("zcu111", 3072, 23.79),
    ]
    assert all(c.clock_mhz == 214 and c.modelled for c in checks)


def test_ideal_time_by_hand(checks):
    # 10.87 G products of linear layers, 0.30 G of attention at two multipliers each.
    assert encoder_products() == pytest.approx(10.87e9 + 2 * 0.302e9, rel=1e-3)
    assert checks[0].ideal_ms == pytest.approx(11.476e9 / 1536 / 214e3, rel=1e-3)
    assert checks[2].ideal_ms == pytest.approx(checks[0].ideal_ms / 2)


def test_model_lies_between_the_ideal_and_the_paper(checks):
    """A model that beats its own multipliers is wrong; one slower than a design without packing would be too."""
    for c in checks:
        assert c.ideal_ms < c.modelled_ms < c.serial_ms < c.published_ms
        assert 1.2 < c.ratio < 1.35


def test_difference_is_put_in_figures(checks):
    for c in checks:
        assert f"{c.ideal_ms:.1f} ms" in c.difference
        assert f"{c.serial_ms:.1f} ms" in c.difference
        assert f"{c.published_ms - c.serial_ms:.1f} ms" in c.difference


def test_nothing_is_fitted(monkeypatch):
    seen = []

    def spy(*arguments):
        seen.append(arguments[-1])
        return original(*arguments)

    original = reference.simulate
    monkeypatch.setattr(reference, "simulate", spy)
    fq_bert_timing(1536)
    changed = {f.name for f in fields(Model) if getattr(seen[0], f.name) != getattr(Model(), f.name)}
    assert changed == {"array_interval"}


def test_twice_the_multipliers_take_half_the_array_time():
    one, two = fq_bert_timing(1536), fq_bert_timing(3072)
    assert one.busy["array"] == pytest.approx(2 * two.busy["array"], rel=1e-3)
    assert one.busy["vector"] == two.busy["vector"]


def test_encoder_program_is_one_that_the_engine_takes():
    program.check(encoder_program(layers=12, hidden=768, heads=12, ffn=3072))
