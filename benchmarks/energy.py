# SPDX-License-Identifier: Apache-2.0
"""docs/energy.md: where a sentence's energy goes, when a slower clock saves some, and what scaling the voltage would
add. All modelled.

    python benchmarks/energy.py

Run again where the models of cycles, resources or power have changed; a test holds the document against them.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.clocking import change_costs, select_seconds
from zynqbert.fpga.constants import VALUES
from zynqbert.fpga.dvfs import MARGIN, Course, Passes, ladder, leaving_at, paper_mhz
from zynqbert.fpga.energy import CYCLES, SECONDS, energy, standing
from zynqbert.fpga.registers import WIZARD_OUTPUTS_MHZ
from zynqbert.fpga.voltage import LEAST_SHARE, LEAST_V, TOP_V, at_volts, volts
from zynqbert.host.compiler import plan
from zynqbert.host.early_exit import BATCH
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.host.model_shape import ModelShape, Ramps
from zynqbert.host.packing import SentenceEncoder, pack_pass
from zynqbert.host.zero_steps import gated_steps
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.datasets import own_sentences
from zynqbert.quant.golden_model import GoldenModel

ROOT = Path(__file__).resolve().parents[1]
MODELS = {"bert-base": 1.0, "albert-base": 0.5, "minilm-l6": 1.0}  # density of the int4 weights
RAMPS = Ramps(False, (32768, 16), 4)  # factors do not change what a ramp costs
TOP = WIZARD_OUTPUTS_MHZ[0]
STEPS = ladder(WIZARD_OUTPUTS_MHZ, 0)
MEASURED_SENTENCES = 3

# Sentences out of a hundred that leave behind each of 12 layers. Made up for this page with a mean like that of
# EdgeBERT's published traces (3.90 for SST-2 with its predictor); `zynqbert bench` shows a model's own.
TRACE = {1: 10, 2: 18, 3: 22, 4: 20, 5: 12, 6: 7, 7: 4, 8: 3, 9: 1, 10: 1, 11: 1, 12: 1}

# As many clocks as EdgeBERT's public hardware model has voltages [R], evenly from where the least voltage is reached up
# to the top; the pairs are those of fpga/voltage.py [U].
SETTINGS = 16
CLOCKS = tuple(TOP * (LEAST_SHARE + (1 - LEAST_SHARE) * n / (SETTINGS - 1)) for n in range(SETTINGS))
NOT_LOGIC = ("ps", "ddr")


@cache
def passes(model: str, board: str) -> Passes:
    """Modelled passes of a model with off-ramps."""
    shape = replace(ModelShape.named(model), exits=RAMPS)
    return Passes(plan(shape, BOARDS[board], density=MODELS[model], exits=ExitPlan(0, (0,) * 256, clock=True)))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def parts() -> list[str]:
    """What a sentence of one row block takes, through all layers and to layer 4."""
    found = {}
    for model in MODELS:
        modelled = passes(model, "zcu102")
        layers = len(modelled.plan.exit_layers)
        for layer in (layers, 4):
            course = modelled.course(1, leaving_at(layer, 1), TOP, TOP)
            found[f"{model}, {layer} layers"] = modelled.energy(course).summed()
    kinds = list(next(iter(found.values())))
    rows = [(kind, *(f"{of[kind] * 1e3:.2f}" for of in found.values())) for kind in kinds]
    rows.append(("all", *(f"{sum(of.values()) * 1e3:.2f}" for of in found.values())))
    return table(("mJ, ZCU102, 32 tokens, 300 MHz", *found), rows)


def strategies() -> list[str]:
    """Race and slow over the same period: what the rest takes at 100 MHz."""
    rows = []
    for board in BOARDS:
        for model in MODELS:
            modelled = passes(model, board)
            layers = len(modelled.plan.exit_layers)
            for blocks in (1, 4):
                way = leaving_at(layers, blocks)
                period = modelled.course(blocks, way, TOP, min(WIZARD_OUTPUTS_MHZ)).seconds
                found = [modelled.course(blocks, way, TOP, mhz) for _, mhz in STEPS]
                gated = [modelled.energy(course, period).joules * 1e3 for course in found]
                running = [modelled.energy(course, period, gated=False).joules * 1e3 for course in found]
                choice = modelled.choose(blocks, way, STEPS, period)
                rows.append(
                    (
                        board.upper(),
                        f"{model}, {32 * blocks}",
                        f"{period * 1e3:.2f}",
                        f"{modelled.balance_mhz(blocks, layers, TOP):.0f}",
                        *(f"{mj:.2f}" for mj in gated),
                        f"{choice.strategy}, {choice.course.rest_mhz:g}",
                        f"{running[0]:.2f} / {running[-1]:.2f}",
                    )
                )
    clocks = [f"{mhz} MHz" for _, mhz in STEPS]
    return table(("board", "model, tokens", "T, ms", "balance, MHz", *clocks, "taken", "not stopped: 300 / 100"), rows)


def to_the_end() -> list[str]:
    """Energy to the end of the pass alone, where the next sentence waits."""
    rows = []
    for model in MODELS:
        modelled = passes(model, "zcu102")
        layers = len(modelled.plan.exit_layers)
        for blocks in (1, 4):
            found = [modelled.course(blocks, leaving_at(layers, blocks), TOP, mhz) for _, mhz in STEPS]
            shown = (f"{modelled.energy(c).joules * 1e3:.2f} in {c.seconds * 1e3:.2f}" for c in found)
            rows.append((f"{model}, {32 * blocks}", *shown))
    return table(("mJ in ms, ZCU102", *(f"{mhz} MHz" for _, mhz in STEPS)), rows)


def clocks_needed() -> list[str]:
    """The paper's clock beside the cycle model's."""
    rows = []
    for model, blocks, layer in (("bert-base", 1, 8), ("minilm-l6", 1, 6), ("bert-base", 4, 8)):
        modelled = passes(model, "zcu102")
        way = leaving_at(layer, blocks)
        first, whole = modelled.until(1, blocks, TOP), modelled.work(blocks, TOP, way)
        for longer in (1.1, 1.5, 2.0):
            target = whole[SECONDS] * longer
            paper = paper_mhz(whole[CYCLES] - first[CYCLES], target, first[SECONDS] + select_seconds())
            needed = modelled.least_mhz(blocks, way, TOP, target)
            rows.append(
                (
                    f"{model}, {32 * blocks}, layer {layer}",
                    f"{target * 1e3:.2f}",
                    f"{paper:.0f}",
                    f"{needed:.0f}",
                    f"{paper / needed - 1:+.0%}",
                )
            )
    return table(("model, tokens, leaves at", "T, ms", "N/(T − t), MHz", "needed, MHz", "the paper's is off by"), rows)


@dataclass(frozen=True)
class Way:
    """Joules a sentence of TRACE over the period: all, and the programmable logic's alone."""

    name: str
    joules: float
    logic: float


def scaled(modelled: Passes, course: Course, first: dict[str, float], period: float, supply: float) -> dict[str, float]:
    """HYPOTHETICAL energy by part of a course whose rest runs at `supply` volts; `first`: its first layer's."""
    own = energy(modelled.board, course.work).parts
    left = energy(modelled.board, standing(max(period - course.seconds, 0.0))).parts
    rest = at_volts({name: joules - first.get(name, 0.0) for name, joules in own.items()}, supply)
    idle = at_volts(left, LEAST_V)
    return {name: first.get(name, 0.0) + joules + idle[name] for name, joules in rest.items()}


def ways(model: str, board: str, longer: float) -> Iterator[Way]:
    """TRACE, a row block each, over a period of the whole depth's time at the top clock, `longer` times."""
    modelled = passes(model, board)
    layers = len(modelled.plan.exit_layers)
    whole = modelled.course(1, leaving_at(layers, 1), TOP, TOP)
    period = whole.seconds * longer
    first = energy(modelled.board, modelled.until(1, 1, TOP)).parts
    sums: dict[str, dict[str, float]] = {}

    def add(name: str, found: dict[str, float], count: int) -> None:
        of = sums.setdefault(name, {})
        for part, joules in found.items():
            of[part] = of.get(part, 0.0) + joules * count

    for layer, count in TRACE.items():
        way = leaving_at(layer, 1)
        race = modelled.course(1, way, TOP, TOP)
        add("every layer, top clock", dict(modelled.energy(whole, period).parts), count)
        add("leaves early, top clock", dict(modelled.energy(race, period).parts), count)
        choice = modelled.choose(1, way, STEPS, period)
        add("leaves early, the wizard's output that the engine takes", dict(choice.period.parts), count)
        courses = ((mhz, modelled.course(1, way, TOP, mhz)) for mhz in CLOCKS)
        mhz, slowest = next((mhz, c) for mhz, c in courses if c.seconds <= period or mhz == TOP)
        found = scaled(modelled, slowest, first, period, volts(mhz, TOP))
        add("HYPOTHETICAL: the voltage follows the clock", found, count)
    total = sum(TRACE.values())
    for name, of in sums.items():
        logic = sum(joules for part, joules in of.items() if part not in NOT_LOGIC)
        yield Way(name, sum(of.values()) / total, logic / total)


def voltage() -> list[str]:
    rows = []
    for model in ("albert-base", "bert-base"):
        for longer in (1.0, 2.0):
            found = list(ways(model, "zcu102", longer))
            for way in found:
                rows.append(
                    (
                        f"{model}, {longer:g}",
                        way.name,
                        f"{way.joules * 1e3:.2f}",
                        f"{found[0].joules / way.joules:.2f}",
                        f"{way.logic * 1e3:.2f}",
                        f"{found[0].logic / way.logic:.2f}",
                    )
                )
    head = ("model, T in whole depths", "a sentence", "mJ over T", "times less", "mJ, logic alone", "times less")
    return table(head, rows)


@cache
def zero_shares() -> tuple[float, float, float]:
    """Of the passes of artifacts/movie-reviews: share of cell-steps gated, of its int4 weights that are 0, and of a
    sentence's energy that this saves, ZCU102 at 250 MHz."""
    folder = ROOT / "artifacts" / "movie-reviews"
    artifact, golden = load_artifact(folder), GoldenModel(folder)
    shape = ModelShape.of_manifest(artifact.manifest)
    compiled = plan(shape, BOARDS["zcu102"], artifact=artifact)
    encoder = SentenceEncoder(artifact.tokenizer_path, 128, shape.vocab, shape.types)
    steps = gated = 0
    for example in own_sentences()[:MEASURED_SENTENCES]:
        rows, trace = pack_pass([encoder.encode(example.text)]), {}
        golden.forward(rows.word, rows.position, rows.type, rows.begin, rows.end, rows.results, trace)
        counted = gated_steps(compiled, artifact, trace)
        steps, gated = steps + counted[0], gated + counted[1]
    share = gated / steps
    plain, less = (
        modelled.energy(modelled.course(1, None, 250, 250)) for modelled in (Passes(compiled), Passes(compiled, share))
    )
    nonzero = [m.density for m in compiled.matrices.values()]
    return share, 1 - float(np.mean(nonzero)), less.saved / plain.joules


def render() -> str:
    """The document's text."""
    share, zeros, saved = zero_shares()
    costs = change_costs(BOARDS["zcu102"])
    mean = sum(layer * count for layer, count in TRACE.items()) / sum(TRACE.values())
    text = f"""# Energy, early exit and the clock

Generated: `python benchmarks/energy.py`. Every figure is **modelled**; nothing has been synthesized or measured. The
power model and its constants, with their ranges, are those of [power.md](power.md).

## Where it goes

    energy = (static + PS) · seconds + DDR · bytes + clocks · cycles + Σ units (idle · cycles + working · busy cycles)

`fpga/energy.py` takes each coefficient from the power model: nothing gated and nobody leaving, the sum is its watts
times the time. It is linear in what is counted, so the parts of a pass add up: the first layer at one clock, a change
of clock, the rest at another, a pause with the clock stopped. With early exit, what is counted up to an off-ramp's
verdict is exactly the beginning of the whole pass, so that one simulation a clock tells the cost of every exit layer.

{chr(10).join(parts())}
**Zero operands.** A cell of the array whose product is 0 keeps its DSP's registers still (`rtl/mac_cell.sv`,
`fpga/gating.py`). It then takes what a DSP takes whose operands stand still: its idle share ({VALUES["dsp_idle"]:g} of
a working cycle's energy) and its load on the clock tree stay, the rest is saved. Its nets, the registers that hand
operands on and the memories are counted in full, and so are the flags and enables that do it: they are part of the
array's fabric and clocks (docs/mac-array.md), whether anything is gated or not. In `artifacts/movie-reviews`, measured
in the integer model on {MEASURED_SENTENCES} of our sentences, {share:.1%} of all cell-steps are gated
({zeros:.1%} of its int4 weights are 0, two of them to a cell; the others are zero activations, padding among them):
{saved:.1%} of a sentence's energy.

## Race or slow

The board's voltage is fixed, so a cycle of work costs the same at every clock. Within a latency target T a sentence
can race (the top clock, then the engine's clock stands until T) or go slowly (a slower output of the wizard for all
behind the first off-ramp). Static power and the processing system run on until T either way; what differs is only the
cycles in which units wait. A change of clock costs {costs["select"]["us"]:.2f} µs, a retuned wizard
{costs["retune"]["us"]:.0f} µs.

Where there is a latency target, the host stops the engine's clock as soon as a pass is over and starts it before it
writes the next one's registers: time of the host, which no modelled latency counts. After every {BATCH} passes it looks
whether other outputs of the wizard suit these better, if they or their target are others than at the last look, and
retunes it where that saves more than {MARGIN:.0%} of their energy over T and more than it costs.

mJ over T, the time of the whole depth with the rest at 100 MHz:

{chr(10).join(strategies())}
- **Race wins**, or nothing is lost by it, where the array binds: long sentences, weights on chip, sparse weights. The
  cycles are the same at every clock. A slower clock saves less than {MARGIN:.0%}, far less than the model is known to,
  and the engine takes the faster one, which leaves it free for the next sentence.
- **Slow wins** where weights on their way from DDR bind: short sentences of a model that is streamed. At 300 MHz the
  array, the vector unit and the clock tree wait for them. The gain is had at the **balance clock**, at which array and
  DDR take equally long; slower than that saves nothing more. The engine takes the fastest output within {MARGIN:.0%} of
  the least energy.
- **Slow wins** also where the clock could not be stopped after the work (last column: it then runs on at 300 MHz until
  T). Here it can: register CLOCK.

Where the next sentence waits there is no period to fill: what counts is the energy to the end of the pass, and the
processing system's watts make every array-bound sentence cheapest at the top clock:

{chr(10).join(to_the_end())}
## The paper's clock

EdgeBERT clocks the rest at f = N / (T − t), N the cycles that are left. With N from the top clock this asks for more
than is needed where DDR binds, since a slower clock waits fewer cycles for the same bytes. Here time comes from the
cycle model run at each clock (`Passes.least_mhz`):

{chr(10).join(clocks_needed())}
## What scaling the voltage would add: hypothetical

These boards cannot do it: VCCINT is one rail of 0.85 V for the whole logic. EdgeBERT's own chip has a regulator of
{LEAST_V:.2f} to {TOP_V:.2f} V beside a fast oscillator [R], {SETTINGS} settings in its public hardware model [R].
The last row of each group runs the same sentences as if our logic had both: the rest at the slowest of as many clocks
that meets T, with a voltage on a straight line over the clock, {TOP_V:g} V at {TOP:g} MHz and {LEAST_V:g} V at half
of it (`fpga/voltage.py`): the pairs are not published, the line is an assumption [U]. Energy of a cycle goes with the
voltage's square, static power in proportion [U], the processing system and DDR stay as they are. The sentences are made
up for this page: one row block each, mean exit layer {mean:.2f}, near that of EdgeBERT's published traces.

{chr(10).join(voltage())}
So early exit is most of what can be had, and the clock adds what the balance clock gives. Voltage would lower the
logic's share further, but on a Zynq the processing system takes its watts until T whatever the logic does.
"""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def main() -> int:
    (ROOT / "docs" / "energy.md").write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
