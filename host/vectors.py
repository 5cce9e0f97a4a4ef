# SPDX-License-Identifier: Apache-2.0
"""Test vectors for the hardware's testbench from an artifact: the host's compiler makes the memory before a pass, the
golden model what is expected after it. The kernels have no part in either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..fpga import instructions as isa
from ..fpga import program as programs
from ..fpga import vectors as files
from ..fpga.boards import Board
from ..quant import golden
from ..quant.artifact import load_artifact
from ..quant.golden_model import GoldenModel
from .compiler import plan
from .exit_plan import ExitPlan
from .layouts import Trace
from .memory_image import memory_image
from .model_shape import ModelShape
from .packing import Pass

# What the memory holds before the pass: zeros would hide a zero that is never written.
FILL = 0xA5
ALIGNMENT = 4096


def write_vectors(
    artifact: str | Path,
    board: Board,
    rows: Pass,
    out: str | Path,
    exits: ExitPlan | None = None,
    clock_table: Sequence[int] = (0,) * isa.CLOCK_TABLE_BYTES,
) -> files.Vectors:
    """Write the vectors of one pass of the model in folder `artifact` to file `out`, and return them.

    Every traced buffer of the pass is expected, absent lanes of the result block too; where sentences leave early, by
    `exits`, every ramp's logits and the record. Raises ArtifactError, CompileError, PackError, OSError, and ValueError
    where the model is too large for the testbench's memory, or sentences that leave at different layers share a row
    block.
    """
    model = load_artifact(artifact)
    traced = exits is None
    compiled = plan(ModelShape.of_manifest(model.manifest), board, artifact=model, trace=traced, exits=exits)
    image = memory_image(compiled, model)
    header = rows.header()
    instructions = (*compiled.keeping[:-1], *compiled.instructions)  # what is to stay on chip first
    program = programs.encode(instructions)
    sizes = (len(program), image.size, compiled.io.bytes)
    program_at, image_at, io_at, end = _addresses(sizes)
    if end > files.MEMORY_BYTES:
        raise ValueError(
            f"{artifact}: the model and every buffer of a pass take {end} bytes, the testbench's memory has "
            f"{files.MEMORY_BYTES}; remedy: a smaller model"
        )
    initial = [
        files.Segment(program_at, program),
        files.Segment(image_at, image.tobytes()),
        files.Segment(io_at + compiled.io.header, header.tobytes()),
    ]
    if compiled.io.clock_table is not None:
        initial.append(files.Segment(io_at + compiled.io.clock_table, bytes(clock_table)))
    verdicts: tuple[files.Verdict, ...] = ()
    if exits is None:
        buffers = expected_buffers(artifact, rows)
        left = {t.offset: lay(t, buffers[name], rows.row_blocks) for name, t in compiled.io.traces.items()}
    else:
        early = leave_early(artifact, rows, exits, clock_table)
        left = {
            t.offset: lay(t, early.logits[layer], 1) for layer, t in compiled.io.ramps.items() if layer in early.logits
        }
        left[compiled.io.record_offset] = early.record
        verdicts = early.verdicts
    vectors = files.Vectors(
        columns=board.columns,
        program_version=isa.PROGRAM_VERSION,
        row_blocks=rows.row_blocks,
        instructions=len(instructions),
        program=program_at,
        image=image_at,
        io=io_at,
        fill=FILL,
        initial=tuple(initial),
        expected=tuple(files.Segment(io_at + offset, data.tobytes()) for offset, data in left.items()),
        verdicts=verdicts,
    )
    files.write(vectors, out)
    return vectors


def _addresses(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Where buffers of these sizes lie, one after the other and none at 0, and the end of the last."""
    addresses, end = [], ALIGNMENT
    for size in sizes:
        addresses.append(-(-end // ALIGNMENT) * ALIGNMENT)
        end = addresses[-1] + size
    return (*addresses, end)


def expected_buffers(artifact: str | Path, rows: Pass) -> dict[str, np.ndarray]:
    """The golden model's buffers for a pass, by name; those of the result block with all its lanes, [32, channels]."""
    model = GoldenModel(artifact)
    buffers: dict[str, np.ndarray] = {}
    model.forward(rows.word, rows.position, rows.type, rows.begin, rows.end, list(rows.results), buffers)
    if model.per_token:
        return buffers
    for name, absent in absent_lane(model, buffers["gathered"].shape[1]).items():
        lanes = np.repeat(absent, isa.LANES, axis=0)
        lanes[: len(rows.results)] = buffers[name]
        buffers[name] = lanes
    return buffers


@dataclass(frozen=True)
class Early:
    """A pass that sentences leave early: int16 logits [32, labels] of each ramp that runs, by layer; the record, int16
    [5, 32]; the verdicts."""

    logits: dict[int, np.ndarray]
    record: np.ndarray
    verdicts: tuple[files.Verdict, ...]


def leave_early(artifact: str | Path, rows: Pass, exits: ExitPlan, clock_table: Sequence[int]) -> Early:
    """What the golden model says of such a pass. ValueError where sentences that leave at different layers share a row
    block: rows of the one that left go on without the keys that are dead, which the golden model does not follow."""
    model, results = GoldenModel(artifact), np.array(rows.results)
    buffers: dict[str, np.ndarray] = {}
    point = {"threshold": exits.threshold, "foretold": None if exits.table is None else list(exits.table)}
    point["clock"] = list(clock_table) if exits.clock else None
    answers = model.forward(rows.word, rows.position, rows.type, rows.begin, rows.end, results, buffers, exits=point)
    blocks = np.arange(rows.row_blocks) * isa.LANES
    begin, end = (np.asarray(x)[results] for x in (rows.begin, rows.end))
    within = (begin[:, None] < blocks + isa.LANES) & (end[:, None] > blocks)  # [sentences, row blocks]
    for block in within.T:
        if len(set(answers.layer[block])) > 1:
            raise ValueError("sentences that leave at different layers share a row block")
    logits, verdicts = {}, []
    for layer in range(1, int(answers.layer.max()) + 1):
        y = np.zeros((isa.LANES, model.hidden), np.int64)
        for lane, (row, left) in enumerate(zip(results, answers.layer, strict=True)):
            y[lane] = buffers[f"layers.{min(layer, left) - 1}.ffn_norm.y"][row]  # of a dead row block: as it was
        norm = f"layers.{layer - 1}.ffn_norm"
        gathered = golden.entries_ref(y, model.tensors[f"{norm}.entries"], *model.tensors[f"{norm}.operand"])
        at = "" if layer == model.layers else f"exits.{layer - 1}."
        logits[layer] = head(model, at, gathered)["logits"]
        live = sum(1 << int(n) for n in np.flatnonzero(within[answers.layer > layer].any(axis=0)))
        verdicts.append(files.Verdict(live, answers.clock if layer == 1 and answers.clock >= 0 else None))
    record = np.zeros((isa.RECORD_WORDS, isa.LANES), np.int16)
    record[:4, : len(results)] = answers.layer, answers.entropy, answers.foretold, answers.first
    record[4] = answers.clock
    return Early(logits, record, tuple(verdicts))


def head(model: GoldenModel, at: str, gathered: np.ndarray) -> dict[str, np.ndarray]:
    """What a head makes of gathered rows [lanes, entries]: the model's own (`at` "") or an off-ramp's ("exits.0.")."""

    def linear(name: str, operand: np.ndarray) -> tuple[np.ndarray, ...]:
        weight, *parameters = (model.tensors[f"{name}.{part}"] for part in ("weight", "bias", "m", "s"))
        return golden.linear_ref(weight, operand), *parameters

    found, operand = {"gathered": gathered}, gathered
    if not at or model.exits["pooler"]:
        found["pooler"] = operand = golden.pooler_ref(*linear(f"{at}pooler", gathered), model.tensors["pooler.tanh"])
    return found | {"logits": golden.logits_ref(*linear(at[:-1] or "classifier", operand))}


def absent_lane(model: GoldenModel, entries: int) -> dict[str, np.ndarray]:
    """What the head makes of a lane that names no row, whose operand is 0 (Q19): gathered, pooler, logits [1, N]."""
    return head(model, "", np.zeros((1, entries), np.int64))


def lay(trace: Trace, values: np.ndarray, row_blocks: int) -> np.ndarray:
    """A golden buffer as the engine leaves it in the io buffer: uint8 [trace.bytes(row_blocks)], Trace.read undone.

    Raises ValueError if `values` has not the trace's shape, or a value is not of its type.
    """
    kept = np.asarray(values).astype(trace.dtype)
    if not np.array_equal(kept, values):
        raise ValueError(f"{trace.name}: a value is no {trace.dtype}")
    blocks = kept.reshape(-1, isa.LANES, kept.shape[-1])  # [row block or head and row block][lane][channel or key]
    data = np.ascontiguousarray(blocks.transpose(0, 2, 1)).view(np.uint8).reshape(-1)
    if data.size != trace.bytes(row_blocks):
        raise ValueError(f"{trace.name}: {data.size} bytes of {np.shape(values)}, not {trace.bytes(row_blocks)}")
    return data
