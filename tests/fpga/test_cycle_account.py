# SPDX-License-Identifier: Apache-2.0
"""Where the cycles go: the parts add up to the pass exactly, and agree with what the cycle model counts otherwise."""

from collections import Counter
from dataclasses import replace

import pytest
from bare_model import BARE
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.cycle_account import CAUSES, Timeline, by_part
from zynqbert.fpga.cycles import UNITS, Model, simulate
from zynqbert.host.compiler import plan
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.host.model_shape import ModelShape, Ramps

MINI = ModelShape.named("minilm-l6")
RAMPED = replace(MINI, exits=Ramps(pooler=False, entropy=(40000, 5), row_shift=3))


def timed(compiled, blocks=4, model=None, verdicts=None, clock=250):
    """A pass with its timeline, which has to leave the pass as it is without one."""
    timeline = Timeline()
    known = model, compiled.directories, None, verdicts, compiled.spans
    timing = simulate(compiled.instructions, blocks, compiled.board, clock, *known, timeline=timeline)
    assert timing == compiled.simulate(blocks, clock, model, verdicts=verdicts)
    return timing, timeline


def causes(parts):
    total = Counter()
    for part in parts:
        total.update(part.bound)
    return total


PASSES = {
    "bert-base": (dict(shape=ModelShape.named("bert-base")), {}),
    "one row block": (dict(shape=MINI), dict(blocks=1)),
    "traced": (dict(shape=MINI, trace=True), dict(blocks=2)),
    "albert, half of it": (dict(shape=ModelShape.named("albert-base"), density=0.5), dict(blocks=3)),
    "every sentence leaves": (dict(shape=RAMPED, exits=ExitPlan(0)), dict(blocks=2, verdicts=(3, 1, 0))),
    "slow memory": (dict(shape=MINI), dict(model=replace(Model(), ddr_bytes_per_second=1e9))),
    "no overlap of tiles": (dict(shape=MINI), dict(model=replace(Model(), drain_overlap=False))),
    "one unit at a time": (dict(shape=MINI), dict(model=replace(Model(), serial=True))),
}


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
@pytest.mark.parametrize("name", PASSES)
def test_the_parts_add_up_to_the_pass(name, board):
    planned, run = PASSES[name]
    compiled = plan(planned["shape"], board, **{key: value for key, value in planned.items() if key != "shape"})
    timing, timeline = timed(compiled, **run)
    parts = by_part(compiled.instructions, timeline)
    total = causes(parts)
    assert sum(part.cycles for part in parts) == timing.cycles
    assert set(total) <= set(CAUSES) and all(count > 0 for part in parts for count in part.bound.values())
    assert total["array"] == timing.busy["array"]
    # less where the data came later still
    assert 0 <= total["weights"] <= timing.stall.get("array.weights", 0)
    if timeline.waits["array.drain"]:
        assert total["drain"] >= timing.stall.get("array.drain", 0)
    for unit in UNITS:
        assert sum(part.busy.get(unit, 0) for part in parts) == timing.busy[unit], unit


def test_a_norm_and_a_product_by_hand():
    """The norm's parameters come in 384 cycles, it takes 32 + 768; then the array multiplies, drains into the vector
    unit and that ends a cycle after the last of 128 words."""
    program = (
        isa.Norm(width=768, entries=768, dst_stride=768, signal=True),
        isa.Gemm(k=768, n=128, src_stride=768, dst_stride=128, dst=12288, wait=1),
        isa.End(),
    )
    timeline = Timeline()
    timing = simulate(program, 1, BOARDS["zcu102"], 250, BARE, timeline=timeline)
    found = timeline.account()
    assert found[0, "load"] == 384  # two parameters a beat
    assert found[0, "vector"] == 32 + 768
    assert found[1, "array"] == 768
    assert found[1, "vector"] + found[1, "drain"] == timing.cycles - (4 + 384 + 800 + 768)
    # of the array's wait the first part is for weights too, which came before the data
    assert timing.stall["array.weights"] > 700 and not found[1, "weights"]
    assert sum(found.values()) == timing.cycles


def test_weights_that_come_late_bind():
    slow = replace(Model(), ddr_bytes_per_second=1e9)
    compiled = plan(MINI, BOARDS["zcu102"])
    timing, timeline = timed(compiled, 1, slow)
    shares = causes(by_part(compiled.instructions, timeline))
    assert shares["weights"] > 0.7 * timing.cycles
    assert causes(by_part(compiled.instructions, timed(compiled, 4)[1]))["weights"] < 0.02 * timing.cycles


def test_traces_bind_by_the_store():
    traced, plain = (plan(MINI, BOARDS["zcu102"], trace=trace) for trace in (True, False))
    found = [causes(by_part(of.instructions, timed(of, 4)[1]))["store"] for of in (traced, plain)]
    assert found[0] > 10 * found[1] > 0


def test_an_exit_is_charged_to_its_ramp():
    compiled = plan(RAMPED, BOARDS["zcu102"], exits=ExitPlan(0))
    _, timeline = timed(compiled, 1, verdicts=(0,))
    parts = {(of.part.layer, of.part.name): of for of in by_part(compiled.instructions, timeline)}
    assert parts[1, "off-ramp"].cycles > 0 and parts[1, "ffn2"].cycles > 0
    assert all(of.cycles == 0 for (layer, _), of in parts.items() if layer is not None and layer > 1)
