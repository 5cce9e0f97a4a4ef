# SPDX-License-Identifier: Apache-2.0
"""What a model would cost on a board: the compiler's program through the models of fpga/. All of it modelled."""

from dataclasses import replace
from typing import Any

from ..fpga import estimate as models
from ..fpga import instructions as isa
from ..fpga.boards import Board
from ..fpga.dvfs import Passes, ladder, leaving_at
from ..fpga.energy import CYCLES
from ..fpga.power import power
from ..fpga.registers import WIZARD_OUTPUTS_MHZ
from ..fpga.resources import resources
from .compiler import Artifact, ModelShape, Plan, plan
from .exit_plan import ExitPlan

CLOCKS_MHZ = (200, 250, 300)  # printed beside the one asked for
LENGTHS = (16, 32, 64, 128)  # tokens of a sentence


def estimate(
    shape: ModelShape,
    board: Board,
    sequence: int,
    clock_mhz: float | None = None,
    *,
    artifact: Artifact | None = None,
    density: float = 1.0,
    pattern: str = "free",
) -> dict[str, Any]:
    """One sentence of `sequence` tokens, everything modelled: the fields of fpga.estimate.Estimate beside `model`,
    `board`, `sequence` and, of a model that is no artifact, `density` and `pattern`; in `extra` also other
    clocks, other lengths, where the weights lie and the traffic, and for a model with off-ramps `exits`, what it costs
    to leave behind each layer.

    What weights are 0 comes from `artifact`; without one a share of `density` is taken not to be, in `pattern`. Raises
    ValueError for a length, clock or density out of range, CompileError for a model beyond the engine.
    """
    longest = min(isa.MAX_ROWS, shape.positions)
    if not 1 <= sequence <= longest:
        raise ValueError(f"sequence of {sequence} tokens, 1 to {longest} fit")
    clock_mhz = board.clock_mhz if clock_mhz is None else clock_mhz
    if not clock_mhz > 0:
        raise ValueError(f"clock of {clock_mhz:g} MHz is not positive")
    stored = {"artifact": artifact, "density": density, "pattern": pattern}
    compiled, streamed = plan(shape, board, **stored), plan(shape, board, **stored, resident=False)
    timing = compiled.simulate(_blocks(sequence), clock_mhz)
    whole = None
    if artifact is not None or density < 1:  # only then the array may be spared something
        dense = plan(replace(shape, spans=None, exits=None), board, resident=False)
        whole = dense.simulate(_blocks(sequence), clock_mhz).array_macs_executed
    found = models.estimate(timing, board, shape.dense_macs(sequence), whole).to_json()
    found["extra"] |= {
        "clocks": [_at_clock(compiled, sequence, mhz) for mhz in CLOCKS_MHZ],
        "lengths": [_at_length(compiled, tokens, clock_mhz) for tokens in LENGTHS if tokens <= longest],
        "memory": memory(compiled, streamed, sequence, clock_mhz),
    }
    if shape.exits is not None:
        leaving = plan(shape, board, **stored, exits=ExitPlan(0))
        found["extra"]["exits"] = exit_rows(leaving, _blocks(sequence), clock_mhz)
    weights = {} if artifact is not None else {"density": density, "pattern": pattern}
    return {"model": shape.name, "board": board.name, "sequence": sequence, **weights, **found}


def exit_rows(leaving: Plan, row_blocks: int, first_mhz: float) -> list[dict[str, Any]]:
    """What a sentence costs that leaves behind each layer, by the clock of the rest: the first layer runs at
    `first_mhz`, the rest at that or at a slower output of the wizard. `energy_mj` is to the end of the pass."""
    passes = Passes(leaving)
    clocks = ladder((first_mhz, *(mhz for mhz in WIZARD_OUTPUTS_MHZ if mhz < first_mhz)), 0)
    found = []
    for layer in leaving.exit_layers:
        for _, mhz in clocks if layer > 1 else clocks[:1]:
            course = passes.course(row_blocks, leaving_at(layer, row_blocks), first_mhz, mhz)
            found.append(
                {
                    "layer": layer,
                    "rest_mhz": mhz,
                    "cycles": round(course.work[CYCLES]),
                    "latency_ms": course.seconds * 1e3,
                    "energy_mj": passes.energy(course).joules * 1e3,
                }
            )
    return found


def _blocks(tokens: int) -> int:
    return -(-tokens // isa.LANES)


def _at_clock(compiled: Plan, sequence: int, clock_mhz: float) -> dict[str, Any]:
    timing = compiled.simulate(_blocks(sequence), clock_mhz)
    watts = power(resources(compiled.board), timing)
    fps = 1 / timing.seconds
    return {
        "clock_mhz": clock_mhz,
        "latency_ms": timing.seconds * 1e3,
        "power_w": watts.power_w,
        "fps_per_w": fps / watts.power_w,
        "fps_per_w_range": [fps / watts.high_w, fps / watts.low_w],
    }


def _at_length(compiled: Plan, tokens: int, clock_mhz: float) -> dict[str, Any]:
    timing = compiled.simulate(_blocks(tokens), clock_mhz)
    macs = compiled.shape.dense_macs(tokens)
    return {
        "tokens": tokens,
        "latency_ms": timing.seconds * 1e3,
        "mac_utilization": macs / (compiled.board.peak_macs_per_cycle * timing.cycles),
        "fps_per_w": 1 / timing.seconds / power(resources(compiled.board), timing).power_w,
        "ddr_bytes_read": timing.ddr_bytes_read,
        "bound": models.bound(timing),
    }


def memory(compiled: Plan, streamed: Plan, sequence: int, clock_mhz: float) -> dict[str, Any]:
    """Where each matrix lies and why, and the bytes that a sentence moves with it and with nothing kept on chip."""
    blocks = _blocks(sequence)
    resident, without = (p.simulate(blocks, clock_mhz) for p in (compiled, streamed))
    keeping = compiled.simulate_keeping(clock_mhz)
    matrices = compiled.matrices.values()
    return {
        "resident_words": sum(m.words for m in matrices if m.resident is not None),
        "resident_capacity": compiled.board.resident_words,
        "word_bytes": compiled.board.ports * isa.BEAT_BYTES,
        "word_table_bytes": compiled.regions["embeddings.word"].bytes,
        "word_row_bytes": compiled.regions["embeddings.word"].bytes // compiled.shape.vocab,
        "weights_dense_bytes": sum(m.dense_bytes for m in matrices),
        "weights_stored_bytes": sum(m.bytes for m in matrices),
        "bytes_read_a_sentence": resident.ddr_bytes_read,
        "bytes_read_a_sentence_streamed": without.ddr_bytes_read,
        "latency_ms_streamed": without.seconds * 1e3,
        "bytes_read_once": keeping.ddr_bytes_read,
        "load_ms": keeping.seconds * 1e3 if len(compiled.keeping) > 1 else 0.0,
        "matrices": [
            {
                "name": m.name,
                "density": m.density,
                "uses": m.uses,
                "dense_bytes": m.dense_bytes,
                "bytes": m.bytes,
                "words": m.words,
                "compressed": m.compressed,
                "chosen": m.chosen,
                "place": "resident" if m.resident is not None else "DDR",
                "word": m.resident,
                "why": m.why,
            }
            for m in matrices
        ],
    }


def reference() -> list[dict[str, Any]]:
    """What the same cycle model says at FQ-BERT's multiplier counts and clock, beside its published latencies."""
    return models.fq_bert_rows()
