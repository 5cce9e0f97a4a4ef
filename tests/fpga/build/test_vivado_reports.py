# SPDX-License-Identifier: Apache-2.0
"""Vivado's text reports are read, and what is missing in one is named. The samples have the vendor's format; their
figures are made up (tests/support/vivado_samples.py).
"""

import pytest
import vivado_samples
from zynqbert.fpga.build.vivado_reports import VivadoReportError, read_timing, read_utilization
from zynqbert.fpga.manifest import Timing, Use, Utilization


@pytest.fixture
def report(tmp_path):
    """Writes a report and gives its path."""

    def write(text):
        path = tmp_path / "some.rpt"
        path.write_text(text)
        return path

    return write


def test_timing_that_is_met(report):
    assert read_timing(report(vivado_samples.timing_summary())) == Timing(
        wns_ns=0.021, tns_ns=0.0, setup_failing=0, whs_ns=0.010, ths_ns=0.0, hold_failing=0,
        wpws_ns=0.550, tpws_ns=0.0, pulse_failing=0, no_clock=0,
    )  # fmt: skip


def test_every_figure_of_its_own(report):
    """The table of clocks below has the same columns and is not read."""
    figures = {
        "wns": -0.412, "tns": -1312.5, "setup_failing": 20511, "whs": -0.031, "ths": -0.5, "hold_failing": 17,
        "wpws": -0.2, "tpws": -0.9, "pulse_failing": 3, "no_clock": 64,
    }  # fmt: skip
    found = read_timing(report(vivado_samples.timing_summary(**figures)))
    assert list(vars(found).values()) == list(figures.values())


@pytest.mark.parametrize(
    ("figures", "met"),
    [
        ({}, True), ({"wns": 0.0, "whs": 0.0, "wpws": 0.0}, True), ({"wns": -0.001}, False), ({"whs": -0.001}, False),
        ({"wpws": -0.001}, False), ({"setup_failing": 1}, False), ({"hold_failing": 1}, False),
        ({"pulse_failing": 1}, False), ({"no_clock": 1}, False),
    ],
)  # fmt: skip
def test_whether_timing_is_met(report, figures, met):
    assert read_timing(report(vivado_samples.timing_summary(**figures))).met is met


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("| Design Timing Summary", "| Something else", "has no Design Timing Summary"),
        ("    WNS(ns) ", "    ???(ns) ", "has no Design Timing Summary"),
        ("WHS(ns)  ", "XHS(ns)  ", r"Design Timing Summary has no WHS\(ns\)"),
        ("      0.021", "         NA", r"WNS\(ns\) is 'NA', no number"),
        ("      0.550", "        inf", r"WPWS\(ns\) is 'inf', no number"),
        ("checking no_clock", "checking some_clock", "has no count of no_clock"),
    ],
)
def test_missing_figures_of_timing_are_named(report, old, new, missing):
    text = vivado_samples.timing_summary()
    assert old in text
    path = report(text.replace(old, new))
    with pytest.raises(VivadoReportError, match=missing) as error:
        read_timing(path)
    assert str(path) in str(error.value)


def test_timing_report_cut_off(report):
    text = vivado_samples.timing_summary()
    path = report(text[: text.index("WNS(ns)") + 200])
    with pytest.raises(VivadoReportError, match="has no Design Timing Summary"):
        read_timing(path)


def test_utilization(report):
    assert read_utilization(report(vivado_samples.utilization())) == Utilization(
        lut=Use(197_001, 274_080), ff=Use(240_812, 548_160), bram36=Use(633.5, 912), uram=Use(0, 0),
        dsp=Use(2_190, 2_520),
    )  # fmt: skip


def test_utilization_with_and_without_uram(report):
    """A part without URAM may leave the row out; CLB is no CLB LUTs, and rows of parts are not the whole."""
    assert read_utilization(report(vivado_samples.utilization(uram=(57, 80)))).uram == Use(57, 80)
    assert read_utilization(report(vivado_samples.utilization(uram=None))).uram == Use(0, 0)


def test_older_reports_have_no_column_prohibited(report):
    text = "".join(
        "|".join(cell for n, cell in enumerate(line.split("|")) if n != 4) + "\n"
        if line.startswith("|")
        else line + "\n"
        for line in vivado_samples.utilization().splitlines()
    )
    assert "Prohibited" not in text
    assert read_utilization(report(text)).dsp == Use(2_190, 2_520)


@pytest.mark.parametrize(("row", "name"), [("lut", "CLB LUTs"), ("ff", "CLB Registers"), ("dsp", "DSPs")])
def test_missing_rows_of_utilization_are_named(report, row, name):
    path = report(vivado_samples.utilization(**{row: None}))
    with pytest.raises(VivadoReportError, match=rf"{path}: has no row {name}"):
        read_utilization(path)


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("Available", "Something", "row CLB LUTs has no column Available"),
        (" 633.5 ", "  n/a  ", "Block RAM Tile, Used is 'n/a', no number"),
        ("  2520 |", "       |", "DSPs, Available is '', no number"),
    ],
)
def test_missing_figures_of_utilization_are_named(report, old, new, missing):
    text = vivado_samples.utilization()
    assert old in text
    with pytest.raises(VivadoReportError, match=missing):
        read_utilization(report(text.replace(old, new)))


@pytest.mark.parametrize("read", [read_timing, read_utilization])
def test_no_report(tmp_path, read):
    with pytest.raises(VivadoReportError, match=r"none\.rpt: is missing"):
        read(tmp_path / "none.rpt")
