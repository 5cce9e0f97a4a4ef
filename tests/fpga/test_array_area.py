# SPDX-License-Identifier: Apache-2.0
"""What yosys counts of the array's RTL, and what the resource model makes of it."""

import importlib.util
from pathlib import Path

import pytest
from zynqbert.fpga.array_area import array_area, counts, render
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.resources import logic, resources

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "array_area.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("array_area_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def total(rows: int, columns: int) -> dict[str, float]:
    parts = array_area(rows, columns)
    return {key: sum(getattr(part, key) for part in parts) for key in ("dsp", "lut", "ff")}


def test_a_whole_slice_is_the_sum_of_its_modules():
    """What scales with cells, rows and columns is told apart rightly: the slice was counted at once."""
    whole = counts()["slice"]
    parts = total(whole["rows"], whole["columns"])
    assert parts["dsp"] == whole["dsp"] == whole["rows"] * whole["columns"] // 2
    assert parts["ff"] == whole["ff"]
    assert parts["lut"] == pytest.approx(whole["lut"], rel=0.02)  # mapping to LUTs is a heuristic


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_the_resource_model_uses_the_counts(board):
    parts = [part for part in logic(board) if part.unit == "array"]
    counted = total(32, board.columns)
    assert (
        sum(part.lut for part in parts) == counted["lut"] == pytest.approx(resources(board).lut_by_unit["array"], abs=1)
    )
    assert sum(part.ff for part in parts) == counted["ff"]
    assert counted["dsp"] == resources(board).array_dsp


def test_a_cell_takes_what_its_group_shares():
    """47 bits of a drain of one LUT and one register each; twice a block of four bytes with a sign, four flags of zeros
    and `add` handed on, once what was chosen; an enable, its delay and a flag of the weight for each of three DSPs; for
    each choice two bits handed on, and a choice of four of eight bits and a flag, a sign, and a LUT that joins them."""
    for kind, choices in (("even", 2), ("odd", 1)):
        lut, ff = 47 + 3 + 11 * choices, 47 + 2 * (32 + 1 + 4 + 1) + 10 + 3 * 2 + 2 * choices
        assert counts()["modules"][f"mac_group_{kind}"] == {"dsp": 3, "lut": lut, "ff": ff}


def test_the_document_has_the_counts():
    table = render({board.name.upper(): board.columns for board in BOARDS.values()})
    text = (BENCHMARK.parents[1] / "docs" / "mac-array.md").read_text()
    assert table in text, table


def test_longer_delays_take_no_fewer_luts():
    for_a_bit = counts()["delay"]["lut"]
    assert for_a_bit[0] == 0 and for_a_bit == sorted(for_a_bit)


@pytest.mark.proof
def test_yosys_counts_the_same(benchmark):
    """Some modules and a whole slice again, with the version that the counts name."""
    few = ("mac_group_even", "mac_group_odd", "zero_flag", "weight_edge", "nibbles", "activation_edge", "drain_lane")
    benchmark.MODULES = {name: benchmark.MODULES[name] for name in few}
    version, modules = benchmark.count_modules()
    assert version == counts()["yosys"]
    assert modules == {name: counts()["modules"][name] for name in few}
    assert benchmark.count_slice() == counts()["slice"]


def test_a_cell_of_no_known_size_is_named(benchmark):
    assert benchmark.area({"LUT6": 2, "RAM64M8": 1, "FDRE": 3, "MUXF7": 5, "DSP48E2": 1}) == {
        "dsp": 1,
        "lut": 10,
        "ff": 3,
    }
    with pytest.raises(ValueError, match="4 URAM288, whose size is not known"):
        benchmark.area({"URAM288": 4})
