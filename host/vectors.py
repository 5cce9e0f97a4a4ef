# SPDX-License-Identifier: Apache-2.0
"""Test vectors for the hardware's testbench from an artifact: the host's compiler makes the memory before a pass, the
golden model what is expected after it. The kernels have no part in either.
"""

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
from .layouts import Trace
from .memory_image import memory_image
from .model_shape import ModelShape
from .packing import Pass

# What the memory holds before the pass: zeros would hide a zero that is never written.
FILL = 0xA5
ALIGNMENT = 4096


def write_vectors(artifact: str | Path, board: Board, rows: Pass, out: str | Path) -> files.Vectors:
    """Write the vectors of one pass of the model in folder `artifact` to file `out`, and return them.

    Every traced buffer of the pass is expected, absent lanes of the result block too. Raises ArtifactError,
    CompileError, PackError, OSError, and ValueError where the model is too large for the testbench's memory.
    """
    model = load_artifact(artifact)
    compiled = plan(ModelShape.of_manifest(model.manifest), board, artifact=model, trace=True)
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
    buffers = expected_buffers(artifact, rows)
    vectors = files.Vectors(
        columns=board.columns,
        program_version=isa.PROGRAM_VERSION,
        row_blocks=rows.row_blocks,
        instructions=len(instructions),
        program=program_at,
        image=image_at,
        io=io_at,
        fill=FILL,
        initial=(
            files.Segment(program_at, program),
            files.Segment(image_at, image.tobytes()),
            files.Segment(io_at + compiled.io.header, header.tobytes()),
        ),
        expected=tuple(
            files.Segment(io_at + trace.offset, lay(trace, buffers[name], rows.row_blocks).tobytes())
            for name, trace in compiled.io.traces.items()
        ),
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


def absent_lane(model: GoldenModel, entries: int) -> dict[str, np.ndarray]:
    """What the head makes of a lane that names no row, whose operand is 0 (Q19): gathered, pooler, logits [1, N]."""

    def linear(name: str, operand: np.ndarray) -> tuple[np.ndarray, ...]:
        weight, *parameters = (model.tensors[f"{name}.{part}"] for part in ("weight", "bias", "m", "s"))
        return golden.linear_ref(weight, operand), *parameters

    gathered = np.zeros((1, entries), np.int64)
    pooler = golden.pooler_ref(*linear("pooler", gathered), model.tensors["pooler.tanh"])
    return {"gathered": gathered, "pooler": pooler, "logits": golden.logits_ref(*linear("classifier", pooler))}


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
