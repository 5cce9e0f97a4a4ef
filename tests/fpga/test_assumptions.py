# SPDX-License-Identifier: Apache-2.0
"""The table of assumptions: complete, rendered, and what the cycle model really runs on."""

import re
from pathlib import Path

from zynqbert.fpga import assumptions
from zynqbert.fpga.assumptions import ASSUMPTIONS, DEPTHS, LABELS, assumed
from zynqbert.fpga.cycles import Model, loop_names

ROOT = Path(__file__).parents[2]


def kernel_loops() -> list[str]:
    text = (ROOT / "fpga" / "kernels" / "loops.hpp").read_text()
    return [name for name in re.findall(r"^  (\w+),?$", text, flags=re.M) if name != "count"]


def test_document_is_not_stale():
    text = (ROOT / "docs" / "assumptions.md").read_text()
    assert text == assumptions.render(), "run: python -m zynqbert.fpga.assumptions > docs/assumptions.md"


def test_ids_are_unique_and_in_order():
    assert [a.id for a in ASSUMPTIONS] == [f"A{n:02}" for n in range(1, len(ASSUMPTIONS) + 1)]
    assert len({a.name for a in ASSUMPTIONS}) == len(ASSUMPTIONS)


def test_every_row_says_its_effect_and_what_would_confirm_it():
    for a in ASSUMPTIONS:
        assert a.text and a.effect and a.confirm, a.id
        assert "|" not in a.text + a.effect + a.confirm, f"{a.id}: would break the table"


def test_every_loop_of_the_kernels_is_modelled():
    assert list(loop_names()) == kernel_loops()
    # The array's loops have no depth of their own: its skew is array_depth.
    assert set(DEPTHS) == set(kernel_loops()) - {"array_mac", "array_drain"}


def test_the_cycle_model_runs_on_the_table():
    model = Model()
    for name in ("ii", "command_overhead", "array_depth", "token_latency", "axi_read_latency_ns", "port_bytes"):
        assert getattr(model, name) == assumed(name), name
    assert model.ddr_bytes_per_second == assumed("ddr_peak_gb_s") * assumed("ddr_efficiency") * 1e9
    assert model.depths == {name: assumed(f"depth.{name}") for name in DEPTHS}


def test_loops_of_the_reports_are_labels_in_the_kernels():
    text = "".join(path.read_text() for path in sorted((ROOT / "fpga" / "kernels").glob("*.hpp")))
    for loop in DEPTHS:
        assert f"\n{LABELS.get(loop, loop)}:" in text.replace("  ", ""), loop
