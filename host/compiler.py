# SPDX-License-Identifier: Apache-2.0
"""Compile a model's shape to the engine's program and to the layouts of its memories (docs/program.md).

One program serves every pass: the number of row blocks is a register. What depends on values (weights, tables) is in
the memory image, see memory_image.py; only the factors of norms and residuals stand in instructions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..fpga import instructions as isa
from ..fpga import program as programs
from ..fpga.boards import Board
from ..fpga.cycles import Model, Timing, simulate
from ..fpga.directory import Directory
from ..quant.pruning import allowed, check_density
from .exit_plan import ExitPlan, QueuePlan
from .layouts import (
    RECORD_BYTES,
    ActivationMap,
    IoLayout,
    QueueLayout,
    Region,
    TaskArea,
    Trace,
    is_task_region,
    joined,
    longest_row,
)
from .model_shape import LayerShape, ModelShape
from .storage import Matrix, matrices

MAX_ADAPTER_WIDTH = 512
IDENTITY = 128, 7  # (m, s) of a residual that is kept as it is
HEADER_BYTES = (2 + isa.MAX_ROWS) * isa.BEAT_BYTES


class CompileError(ValueError):
    """The model does not fit the engine; the message names the manifest's field and the limit."""


class Artifact(Protocol):
    """What the compiler takes from an artifact: the manifest and the tensors of docs/artifact.md, by name."""

    manifest: Mapping
    tensors: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """A compiled model: program, and the layouts of memory image, io buffer and activation memory.

    `matrices`: how each int4 matrix is stored. `keeping`: the program that brings the resident ones on chip, of END
    alone where there are none. `names`: the tensor whose weights an instruction of `instructions` reads, by its index.
    `exits`: how sentences leave early, None where all run through every layer. `task`: where in the image a task on a
    backbone keeps what is its own, None without adapters. `queue`: the io buffer of a program that takes its sentences
    from a queue, which has no other.
    """

    shape: ModelShape
    board: Board
    instructions: tuple[isa.Instruction, ...]
    regions: Mapping[str, Region]
    image_bytes: int
    io: IoLayout
    activations: ActivationMap
    matrices: Mapping[str, Matrix]
    keeping: tuple[isa.Instruction, ...]
    names: Mapping[int, str]
    exits: ExitPlan | None = None
    task: TaskArea | None = None
    queue: QueueLayout | None = None

    @property
    def io_bytes(self) -> int:
        """Of the io buffer."""
        return self.io.bytes if self.queue is None else self.queue.bytes

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """The layer (1 is the first) of each EXIT, in the order of their verdicts."""
        return tuple(i.layer for i in self.instructions if isinstance(i, isa.Exit))

    @property
    def spans(self) -> dict[int, tuple[int, ...]]:
        """Of the heads of banded attentions, by the image offset that instructions name."""
        return {
            self.regions[f"layers.{layer}.spans"].offset: spans
            for layer, spans in enumerate(self.shape.spans or ())
            if f"layers.{layer}.spans" in self.regions
        }

    @property
    def directories(self) -> dict[int, Directory]:
        """Of the compressed matrices, by the image offset that instructions name."""
        stored = ((name, matrix) for name, matrix in self.matrices.items() if matrix.compressed)
        return {self.regions[f"{name}.weight"].offset: matrix.directory for name, matrix in stored}

    def simulate(
        self,
        row_blocks: int,
        clock_mhz: float,
        model: Model | None = None,
        gathers: Mapping[tuple[int, int], tuple[int, int]] | None = None,
        verdicts: Sequence[int] | None = None,
        queue: Sequence[int] | None = None,
    ) -> Timing:
        """Modelled time of a pass of `row_blocks` row blocks; `gathers`, `verdicts` and `queue` as in
        fpga.expansion.expand.

        `verdicts`: the row blocks, a bit each, in which the EXIT of each of `exit_layers` leaves a sentence, up to the
        0 that ends the pass; None: none leaves before the last layer.
        """
        known = self.directories, gathers, verdicts, self.spans
        return simulate(self.instructions, row_blocks, self.board, clock_mhz, model, *known, queue=queue)

    def simulate_keeping(self, clock_mhz: float) -> Timing:
        """Modelled time of bringing the resident matrices on chip."""
        return simulate(self.keeping, 1, self.board, clock_mhz, None, self.directories)

    @property
    def program(self) -> bytes:
        """The program's bytes, 64 an instruction."""
        return programs.encode(self.instructions)

    @property
    def keeping_program(self) -> bytes:
        """The bytes of `keeping`."""
        return programs.encode(self.keeping)

    def tensor_of(self, instructions: tuple[isa.Instruction, ...], index: int) -> str:
        """The tensor whose weights instruction `index` of a program of this plan reads."""
        if instructions is self.instructions:
            return self.names[index]
        by_offset = {self.regions[f"{name}.weight"].offset: f"{name}.weight" for name in self.matrices}
        return by_offset[instructions[index].weights]


def plan(
    shape: ModelShape,
    board: Board,
    *,
    artifact: Artifact | None = None,
    trace: bool = False,
    density: float = 1.0,
    pattern: str = "free",
    word_density: float = 1.0,
    resident: bool = True,
    exits: ExitPlan | None = None,
    queue: QueuePlan | None = None,
) -> Plan:
    """Compile `shape` for `board`. Raises CompileError where a size is beyond the engine.

    With `exits` sentences leave at the model's off-ramps; without, all run through every layer.

    The factors of norms and residuals come from `artifact`; without one (estimates) they are 1/2, which costs the same,
    and of the int4 weights a share of `density` is taken not to be 0, in `pattern`, of each AdaptivFloat row of words
    one of `word_density` (0 excluded; ValueError). `resident` false keeps no weights on chip.
    With `queue` the layer of a shape of one (ModelShape.one_layer) is run again and again by sentences that each leave
    when they are ready, or when they passed it so often as the queue says; others take their places.
    With `trace` every instruction leaves its result in the io buffer, named as in quant/golden_model.py.
    """
    check_limits(shape)
    if queue is not None and (len(shape.layers) != 1 or shape.kind != "sequence" or trace or exits is not None):
        raise CompileError("a queue needs a sequence's model of one layer, without traces or a pass's exits")
    stored = matrices(shape, board, artifact=artifact, density=density, pattern=pattern, resident=resident)
    if exits is not None and shape.exits is None:
        raise CompileError("exits: the artifact has no off-ramps; remedy: train one with them, or run all layers")
    check_density(word_density, "word_density")
    given = shape, board, artifact, trace, stored, exits, word_density, queue
    compiler = _Compiler(*given)
    compiler.model()
    if shape.adapters is not None:  # the task's area lies behind the backbone, whose size is known now
        compiler = _Compiler(*given, task_base=compiler.image_bytes)
        compiler.model()
    program = tuple(compiler.instructions)
    programs.check(program)
    layout = compiler.regions, compiler.image_bytes + compiler.task_bytes, compiler.io(), compiler.map
    return Plan(
        shape,
        board,
        program,
        *layout,
        stored,
        compiler.keeping(),
        compiler.names,
        exits,
        compiler.task_area(),
        compiler.queue_io,
    )


def check_limits(shape: ModelShape) -> None:
    """Raise CompileError, naming the manifest's field, if the model is beyond the engine's limits."""
    per_layer = [(f"entries.attention_norm[{i}]", layer.attention_norm) for i, layer in enumerate(shape.layers)]
    per_layer += [(f"entries.ffn_norm[{i}]", layer.ffn_norm) for i, layer in enumerate(shape.layers)]
    ffn = [(f"entries.ffn[{i}]", layer.ffn) for i, layer in enumerate(shape.layers)]
    mapping = [] if shape.mapping is None else [("entries.mapping", shape.mapping)]
    embedding = ("entries.embedding_norm", shape.embedding_norm)
    norms = [*mapping, *per_layer]
    bounds = [
        ("architecture.hidden", shape.hidden, isa.MAX_WIDTH),
        ("architecture.embedding", shape.embedding, isa.MAX_WIDTH),
        ("architecture.heads", shape.heads, isa.MAX_HEADS),
        *((f"architecture.layer_heads[{i}]", n, shape.heads) for i, n in enumerate(shape.layer_heads)),
        ("task.labels", shape.labels, isa.MAX_LABELS),
        *((name, value, isa.MAX_NORM_ENTRIES) for name, value in (embedding, *norms)),
        *((name, value, isa.MAX_ENTRIES) for name, value in ffn),
    ]
    for name, value, limit in bounds:
        if not 1 <= value <= limit:
            raise CompileError(f"{name} is {value}, the engine takes 1 to {limit}")
    if shape.head_width not in isa.HEAD_WIDTHS:
        raise CompileError(f"architecture.head_width is {shape.head_width}, the engine takes 32 or 64")
    if shape.heads * shape.head_width != shape.hidden:
        raise CompileError(f"architecture.heads x head_width is not architecture.hidden = {shape.hidden}")
    if shape.mapping is None and shape.embedding != shape.hidden:
        raise CompileError(f"architecture.embedding is {shape.embedding}, and no mapping leads to {shape.hidden}")
    if shape.word_bits == 4 and shape.embedding % 32:
        raise CompileError(f"architecture.embedding is {shape.embedding}, 4-bit words take a multiple of 32")
    if shape.embedding_norm < shape.embedding:
        raise CompileError(
            f"entries.embedding_norm is {shape.embedding_norm}, less than architecture.embedding = {shape.embedding}"
        )
    for name, value in norms:
        if value < shape.hidden:
            raise CompileError(f"{name} is {value}, less than architecture.hidden = {shape.hidden}")
    _check_sharing(shape)
    _check_spans(shape)
    _check_adapters(shape)
    if shape.exits is not None and (shape.kind != "sequence" or not 2 <= len(shape.layers) <= isa.MAX_LAYERS):
        found = f"kind {shape.kind}, {len(shape.layers)} layers"
        raise CompileError(f"exits: {found}; off-ramps need kind sequence and 2 to {isa.MAX_LAYERS} layers")


def _check_spans(shape: ModelShape) -> None:
    """Heads are counted for each layer, alike where layers share matrices, and each has a span."""
    heads = shape.layer_heads
    if len(heads) != len(shape.layers):
        raise CompileError(f"architecture.layer_heads names {len(heads)} layers of {len(shape.layers)}")
    for i, owner in enumerate(shape.weights):
        if heads[i] != heads[owner]:
            raise CompileError(f"architecture.layer_heads[{i}] is {heads[i]}, {heads[owner]} where its matrices are")
    if shape.spans is None:
        return
    if tuple(len(of_layer) for of_layer in shape.spans) != shape.layer_heads:
        raise CompileError("spans: not one for each head of architecture.layer_heads")
    for i, of_layer in enumerate(shape.spans):
        if not all(1 <= span <= isa.FULL_SPAN for span in of_layer):
            raise CompileError(f"spans[{i}] is {list(of_layer)}, the engine takes 1 to {isa.FULL_SPAN}")


def _check_adapters(shape: ModelShape) -> None:
    """Adapters of a sequence's model, within the bounds of a product, their own or those of an earlier layer."""
    if shape.adapters is None:
        return
    width, owners = shape.adapters.width, shape.adapters.owners
    if shape.kind != "sequence":
        raise CompileError(f"adapters: kind {shape.kind}; tasks on a backbone are of kind sequence")
    if not 1 <= width <= MAX_ADAPTER_WIDTH:
        raise CompileError(f"adapters.width is {width}, the engine takes 1 to {MAX_ADAPTER_WIDTH}")
    if len(owners) != len(shape.layers) or any(not 0 <= j <= i or owners[j] != j for i, j in enumerate(owners)):
        raise CompileError(f"adapters.owners is {list(owners)}: for each layer itself or an earlier one with its own")


def _check_sharing(shape: ModelShape) -> None:
    """Layers use matrices of their own or of an earlier layer, of the same sizes."""
    if len(shape.weights) != len(shape.layers):
        raise CompileError(f"architecture.weights names {len(shape.weights)} layers, there are {len(shape.layers)}")
    before = [shape.embedding_norm if shape.mapping is None else shape.mapping]
    before += [layer.ffn_norm for layer in shape.layers[:-1]]
    sizes = [(k, layer.attention_norm, layer.ffn) for k, layer in zip(before, shape.layers, strict=True)]
    for i, owner in enumerate(shape.weights):
        if not 0 <= owner <= i or shape.weights[owner] != owner:
            raise CompileError(f"architecture.weights[{i}] is {owner}, no layer up to {i} with matrices of its own")
        if sizes[i] != sizes[owner]:
            raise CompileError(f"architecture.weights[{i}] is {owner}, of entries {sizes[owner]}, not {sizes[i]}")


def activation_map(shape: ModelShape) -> ActivationMap:
    """Lay the activation memory out for passes of four row blocks. What `check_limits` passes always fits."""
    norms = [shape.embedding_norm, *(n for layer in shape.layers for n in (layer.attention_norm, layer.ffn_norm))]
    x_stride = _whole_blocks(max(*norms, shape.mapping or 0))
    base = isa.MAX_ROW_BLOCKS * x_stride
    context = base + isa.MAX_ROW_BLOCKS * shape.hidden + 2 * isa.MAX_ROWS
    return ActivationMap(
        x=0,
        x_stride=x_stride,
        q=base,
        q_stride=shape.hidden,
        p=base + isa.MAX_ROW_BLOCKS * shape.hidden,
        context=context,
        ffn=base,
        ffn_stride=_whole_blocks(max((layer.ffn for layer in shape.layers), default=0)),
        ramp=max(context, base + x_stride),
    )


def _whole_blocks(entries: int) -> int:
    """So that every row block begins with a block of entries, whose weights may have a density bound."""
    return -(-entries // isa.BLOCK) * isa.BLOCK


class _Compiler:
    """Instructions, image regions and traces as they grow."""

    def __init__(
        self,
        shape: ModelShape,
        board: Board,
        artifact: Artifact | None,
        trace: bool,
        stored: Mapping[str, Matrix],
        exits: ExitPlan | None,
        word_density: float,
        queue: QueuePlan | None = None,
        task_base: int = 0,
    ):
        self.shape, self.board, self.artifact, self.tracing = shape, board, artifact, trace
        self.map, self.stored, self.exits = activation_map(shape), stored, exits
        self.word_density, self.queue = word_density, queue
        self.queue_io = None if queue is None else QueueLayout.of(queue.entries, queue.depth, shape.labels)
        self.names: dict[int, str] = {}
        self.instructions: list[isa.Instruction] = []
        self.regions: dict[str, Region] = {}
        self.image_bytes = self.task_bytes = 0
        self.task_base, self.task_pieces = task_base, []
        self.traces: dict[str, Trace] = {}
        self.io_bytes = HEADER_BYTES
        self.clock_table = self.reserve(isa.CLOCK_TABLE_BYTES) if exits is not None and exits.clock else None
        self.logits = Trace("logits", self.io_bytes, "int16", shape.labels, result_block=shape.kind == "sequence")
        self.io_bytes += self.logits.bytes()
        self.record = None if exits is None else self.reserve(RECORD_BYTES)
        self.ramps: dict[int, Trace] = {}
        self.owner = {f"layers.{i}": f"layers.{owner}" for i, owner in enumerate(shape.weights)}

    def io(self) -> IoLayout:
        results = 0, self.logits.offset, self.io_bytes, self.shape.labels, self.traces
        return IoLayout(*results, self.record, self.ramps, self.clock_table)

    # Layout

    def region(self, name: str, size: int, filled: int | None = None) -> int:
        """Reserve `size` bytes of the image under `name`; their offset. What belongs to a task goes to its area;
        behind the first `filled` bytes only channels lie that there are none of."""
        padded = -(-size // isa.BEAT_BYTES) * isa.BEAT_BYTES
        if self.shape.adapters is not None and is_task_region(name):
            offset = self.task_base + self.task_bytes
            self.task_bytes += padded
            self.task_pieces.append(Region(offset, padded if filled is None else filled))
        else:
            offset = self.image_bytes
            self.image_bytes += padded
        self.regions[name] = Region(offset, size)
        return offset

    def task_area(self) -> TaskArea | None:
        if self.shape.adapters is None:
            return None
        return TaskArea(self.task_base, self.task_bytes, joined(self.task_pieces))

    def shared_region(self, name: str, size: int) -> int:
        """The region `name`, which several layers may use."""
        return self.regions[name].offset if name in self.regions else self.region(name, size)

    def reserve(self, size: int) -> int:
        """Reserve `size` bytes of the io buffer; their offset."""
        offset = self.io_bytes
        self.io_bytes += size
        return offset

    def trace(self, name: str, dtype: str, channels: int, **kind) -> int:
        """Reserve a trace of the io buffer, if tracing; the instruction's trace field."""
        if not self.tracing:
            return isa.NO_TRACE
        trace = Trace(name, self.io_bytes, dtype, channels, **kind)
        self.traces[name] = trace
        return self.reserve(trace.bytes())

    def factor(self, name: str) -> tuple[int, int]:
        """(m, s) of tensor `name`."""
        if self.artifact is None:
            return 128, 8
        m, s = self.artifact.tensors[name]
        return int(m), int(s)

    def emit(self, instruction: isa.Instruction) -> None:
        self.instructions.append(instruction)

    # Model

    def model(self) -> None:
        if self.queue is not None:
            self.queued_model(self.queue, self.queue_io)
            return
        self.emit(isa.Rows(io=0))
        self.table("softmax.exp", isa.TABLE_EXP)
        if self.shape.kind == "sequence":
            self.table("pooler.tanh", isa.TABLE_POOLER)
        if self.exits is not None and self.exits.table is not None:
            self.table("exits.table", isa.TABLE_EXIT)
        if self.clock_table is not None:
            self.emit(isa.Table(image=self.clock_table, table=isa.TABLE_CLOCK, from_io=True))
        k = self.embedded()
        for index, layer in enumerate(self.shape.layers):
            k = self.layer(index, layer, k)
            if self.exits is not None and index < len(self.shape.layers) - 1:
                self.off_ramp(index, k)
        if self.shape.kind == "sequence":
            self.head(k)
        else:
            self.classifier(k, src=self.map.x, src_stride=self.map.x_stride)
        self.emit(isa.End())

    def embedded(self) -> int:
        """What layer 0 reads; its entries."""
        self.embeddings()
        k = self.norm("embeddings.norm", self.shape.embedding_norm, self.shape.embedding)
        return k if self.shape.mapping is None else self.mapping(k, self.shape.mapping)

    def queued_model(self, queue: QueuePlan, io: QueueLayout) -> None:
        """One layer for all depths, whose sentences come from a queue and leave each by itself."""
        shape, at = self.shape, self.map
        self.table("softmax.exp", isa.TABLE_EXP)
        self.table("pooler.tanh", isa.TABLE_POOLER)
        refill = len(self.instructions)
        self.emit(isa.Refill(entries=io.entries, stride=io.entry_bytes))
        k = self.embedded()
        self.instructions[refill] = replace(self.instructions[refill], section=len(self.instructions) - refill - 1)
        k = self.layer(0, shape.layers[0], k, waits=0)
        self.gather("", k, at.q)
        src = at.q
        if queue.pooler:
            self.pooler("", k, at.q, at.ramp)
            k, src = shape.hidden, at.ramp
        weights, parameters = self.product("classifier", k, shape.labels, w8=True)
        self.emit(
            isa.Exit(
                weights=weights,
                parameters=parameters,
                k=k,
                n=shape.labels,
                src=src,
                logits=io.results,
                record=io.results + io.stride - RECORD_BYTES,
                entropy_m=queue.entropy[0],
                entropy_s=queue.entropy[1],
                layer=queue.depth,
                threshold=queue.threshold,
                row_shift=queue.row_shift,
                stride=io.stride,
                counted=True,
                wait=1,
            )
        )
        self.emit(isa.Loop(target=refill, steps=io.steps))
        self.emit(isa.End())

    def table(self, name: str, table: int) -> None:
        self.emit(isa.Table(image=self.region(name, 256), table=table))

    def embeddings(self) -> None:
        shape = self.shape
        fields = (("word", shape.vocab), ("position", shape.positions), ("type", shape.types))
        for index, (name, rows) in enumerate(fields):
            four_bit = name == "word" and shape.word_bits == 4
            adaptive = name == "word" and shape.word_format == "adaptivfloat"
            row_bytes = self.adaptive_row() if adaptive else isa.embedding_row_bytes(shape.embedding, four_bit)
            last = index == len(fields) - 1
            self.emit(
                isa.Embed(
                    image=self.region(f"embeddings.{name}", rows * row_bytes),
                    row_bytes=row_bytes,
                    width=shape.embedding,
                    field=index,
                    trace=self.trace("embeddings.sum", "int16", shape.embedding) if last else isa.NO_TRACE,
                    first=index == 0,
                    four_bit=four_bit,
                    adaptive=adaptive,
                )
            )

    def adaptive_row(self) -> int:
        """Bytes of a row of the word table (Q24), the longest row's; without an artifact of `word_density` codes."""
        width = self.shape.embedding
        if self.artifact is None:
            codes = allowed(self.word_density, width)
        else:
            codes = longest_row(self.artifact.tensors["embeddings.word.q"])
        size = isa.adaptive_row_bytes(width, codes)
        if size > isa.EMBEDDING_BEATS * isa.BEAT_BYTES:
            most = (isa.EMBEDDING_BEATS - isa.adaptive_row_bytes(width, 0) // isa.BEAT_BYTES) * isa.BEAT_BYTES
            raise CompileError(
                f"embeddings.word.q has a row of {codes} codes, the engine takes {most} at width {width}; "
                f"remedy: quantize again with a word_density of {most / width:g}"
            )
        return size

    def norm(self, name: str, entries: int, width: int, *, plain: bool = False) -> int:
        """NORM of the residual's `width` channels to region x; its entries. A plain one changes nothing to trace."""
        m, s = self.factor(f"{name}.operand")
        self.emit(
            isa.Norm(
                image=self.norm_words(name, entries),
                width=width,
                entries=entries,
                dst=self.map.x,
                dst_stride=self.map.x_stride,
                m=m,
                s=s,
                trace=isa.NO_TRACE if plain else self.trace(f"{name}.y", "int16", width),
                plain=plain,
                signal=True,
            )
        )
        return entries

    def norm_words(self, name: str, entries: int) -> int:
        """Image offset of a norm's parameters; with adapters layers that share matrices share them."""
        layer, _, norm = name.rpartition(".")
        if self.shape.adapters is not None and layer in self.owner:
            return self.shared_region(f"{self.owner[layer]}.{norm}", _words(entries))
        return self.region(name, _words(entries))

    def mapping(self, k: int, entries: int) -> int:
        """The embedding's k entries to the hidden width, as a residual and as entries of it (Q20)."""
        source = {"src": self.map.x, "src_stride": self.map.x_stride}
        # m = 0: what the residual memory held, a norm of another width, adds nothing
        self.residual("mapping", k, (0, 1), w8=True, **source)
        return self.norm("mapping", entries, self.shape.hidden, plain=True)

    def weights(self, name: str, size: int, filled: int) -> tuple[str, int]:
        """Matrix of linear layer `name`, its own or one that an earlier layer placed: its name, its image offset."""
        layer, _, matrix = name.rpartition(".")
        owner = f"{self.owner.get(layer, layer)}.{matrix}" if layer else name
        if owner in self.stored:
            size = self.stored[owner].bytes
        region = f"{owner}.weight"
        return owner, self.regions[region].offset if region in self.regions else self.region(region, size, filled)

    def product(self, name: str, k: int, n: int, *, w8: bool) -> tuple[int, int]:
        """Image offsets of weights and parameters of linear layer `name`, whose instruction comes next."""
        tile = self.board.columns // 2 if w8 else self.board.columns
        ports = n // tile * self.board.ports + -(-(n % tile) // (tile // self.board.ports))  # that have channels
        owner, weights = self.weights(name, -(-n // tile) * k * self.board.columns // 2, ports * k * isa.BEAT_BYTES)
        self.names[len(self.instructions)] = f"{owner}.weight"
        return weights, self.shared_region(f"{name}.parameters", _words(n))

    def linear(self, name: str, k: int, n: int, *, trace: int, w8: bool = False, **fields) -> None:
        """GEMM of linear layer `name`, its weights and parameters in the image."""
        weights, parameters = self.product(name, k, n, w8=w8)
        matrix = self.stored.get(self.names[len(self.instructions)].removesuffix(".weight"))
        if matrix is not None and matrix.compressed:
            resident = matrix.resident is not None
            fields |= {"compressed": True, "resident": resident, "chosen": matrix.chosen}
            fields["stored"] = matrix.resident if resident else matrix.words
        self.emit(isa.Gemm(weights=weights, parameters=parameters, k=k, n=n, trace=trace, w8=w8, **fields))

    def keeping(self) -> tuple[isa.Instruction, ...]:
        """The program that brings the resident matrices on chip."""
        kept = (matrix for matrix in self.stored.values() if matrix.resident is not None and matrix.words)
        program = [
            isa.Keep(
                weights=self.regions[f"{matrix.name}.weight"].offset,
                n=matrix.n,
                stored=matrix.words,
                resident=matrix.resident,
            )
            for matrix in kept
        ]
        return (*program, isa.End())

    def layer(self, index: int, layer: LayerShape, k: int, waits: int | None = None) -> int:
        """One encoder layer on an operand of k entries; the entries of its result."""
        shape, at, name = self.shape, self.map, f"layers.{index}"
        hidden, heads = shape.hidden, shape.context_width(index)
        if waits is None:  # behind an off-ramp, for which fetch waits, everything is there
            waits = int(not isinstance(self.instructions[-1], isa.Exit))
        x = {"src": at.x, "src_stride": at.x_stride}
        queries = {"destination": isa.TO_ACTIVATION, "dst": at.q, "dst_stride": at.q_stride, "wait": waits}
        keys = {"destination": isa.TO_KEYS, "head_width": shape.head_width}
        values = {"destination": isa.TO_VALUES, "head_width": shape.head_width}
        for matrix, fields in (("q", queries), ("k", keys), ("v", values)):
            trace = self.trace(f"{name}.{matrix}", "int8", heads)
            self.linear(f"{name}.{matrix}", k, heads, trace=trace, grouped=True, **x, **fields)
        self.attention(index)
        context = {"src": at.context, "src_stride": hidden}
        self.branch(index, "o", "attention_adapter", heads, **context)
        entries = self.norm(f"{name}.attention_norm", layer.attention_norm, hidden)
        self.table(f"{name}.gelu", isa.TABLE_ACTIVATION)
        self.linear(
            f"{name}.ffn1",
            entries,
            layer.ffn,
            trace=self.trace(f"{name}.ffn1", "uint8", layer.ffn),
            destination=isa.TO_ACTIVATION,
            dst=at.ffn,
            dst_stride=at.ffn_stride,
            table=isa.TABLE_ACTIVATION,
            output_unsigned=True,
            wait=1,
            signal=True,
            **x,
        )
        ffn = {"src": at.ffn, "src_stride": at.ffn_stride, "operand_unsigned": True}
        self.branch(index, "ffn2", "ffn_adapter", layer.ffn, **ffn)
        return self.norm(f"{name}.ffn_norm", layer.ffn_norm, hidden)

    def branch(self, index: int, product: str, adapter: str, k: int, **fields) -> None:
        """A layer's branch to the residual, by way of its adapter if there is one (Q12, Q25)."""
        at, name, hidden = self.map, f"layers.{index}.{product}", self.shape.hidden
        adapters = self.shape.adapters
        factor = self.factor(f"{name}.residual")
        if adapters is None:
            self.residual(name, k, factor, **fields)
            return
        # x and q have been read by then, and their readers are done
        operand = {"dst": at.x, "dst_stride": at.x_stride}
        self.residual(name, k, factor, branch=True, signal=True, **operand, **fields)
        owner = f"layers.{adapters.owners[index]}.{adapter}"
        self.emit(isa.Table(image=self.shared_region(f"{owner}.table", 256), table=isa.TABLE_ACTIVATION))
        narrow = {"dst": at.q, "dst_stride": adapters.width}
        self.linear(
            f"{owner}.down",
            hidden,
            adapters.width,
            trace=self.trace(f"layers.{index}.{adapter}.down", "int8", adapters.width),
            w8=True,
            src=at.x,
            src_stride=at.x_stride,
            destination=isa.TO_ACTIVATION,
            table=isa.TABLE_ACTIVATION,
            wait=1,
            signal=True,
            **narrow,
        )
        read = {"src": at.q, "src_stride": adapters.width, "w8": True}
        self.residual(f"{owner}.up", adapters.width, IDENTITY, traced=f"layers.{index}.{adapter}.x", **read)

    def attention(self, index: int) -> None:
        shape, at, name = self.shape, self.map, f"layers.{index}"
        heads = shape.layer_heads[index]
        banded = shape.spans is not None and min(shape.spans[index]) < isa.FULL_SPAN
        words_per_head = 1 + shape.head_width + (1 + shape.head_width) % 2
        self.emit(
            isa.Attention(
                parameters=self.region(f"{name}.attention", heads * _words(words_per_head)),
                heads=heads,
                head_width=shape.head_width,
                q=at.q,
                q_stride=at.q_stride,
                p=at.p,
                context=at.context,
                context_stride=shape.hidden,
                trace_context=self.trace(f"{name}.context", "int8", heads * shape.head_width),
                trace_p=self.trace(f"{name}.numerators", "uint8", 0, heads=heads),
                spans=self.region(f"{name}.spans", isa.SPAN_BYTES) if banded else 0,
                normalized=shape.normalized,
                banded=banded,
                signal=True,
            )
        )

    def residual(self, name: str, k: int, factor: tuple[int, int], traced: str = "", **fields) -> None:
        """GEMM whose result meets the residual, which takes `factor` = (m, s) before (Q12)."""
        self.linear(
            name,
            k,
            self.shape.hidden,
            trace=self.trace(traced or f"{name}.x", "int16", self.shape.hidden),
            destination=isa.TO_RESIDUAL,
            residual_m=factor[0],
            residual_s=factor[1],
            wait=1,
            **fields,
        )

    def gather(self, prefix: str, k: int, dst: int) -> None:
        """GATHER of the result rows from the NORM before, as k entries; its token is sent in place of the norm's, whose
        entries nothing reads before."""
        last = self.instructions[-1]
        self.instructions[-1] = replace(last, signal=False)
        self.emit(
            isa.Gather(
                image=last.image,
                width=self.shape.hidden,
                entries=k,
                dst=dst,
                m=last.m,
                s=last.s,
                trace=self.trace(f"{prefix}gathered", "int8", k, result_block=True),
                signal=True,
            )
        )

    def pooler(self, prefix: str, k: int, src: int, dst: int) -> None:
        """The pooler on the gathered rows (Q11)."""
        hidden = self.shape.hidden
        self.linear(
            f"{prefix}pooler",
            k,
            hidden,
            trace=self.trace(f"{prefix}pooler", "int8", hidden, result_block=True),
            w8=True,
            result_block=True,
            src=src,
            destination=isa.TO_ACTIVATION,
            dst=dst,
            table=isa.TABLE_POOLER,
            wait=1,
            signal=True,
        )

    def head(self, k: int) -> None:
        """GATHER, pooler and classifier on the result block (Q19); k entries of the last norm."""
        shape, at = self.shape, self.map
        self.gather("", k, at.x)
        self.pooler("", k, at.x, at.q)
        if self.exits is None:
            self.classifier(shape.hidden, src=at.q, result_block=True)
        else:
            self.exit("classifier", len(shape.layers), shape.hidden, at.q, self.logits)

    def off_ramp(self, index: int, k: int) -> None:
        """GATHER, a pooler if ramps have one, and EXIT behind layer `index`; k entries of its norm, which stay."""
        shape, at, name = self.shape, self.map, f"exits.{index}"
        self.gather(f"{name}.", k, at.q)
        logits = Trace(f"{name}.logits", self.io_bytes, "int16", shape.labels, result_block=True)
        self.reserve(logits.bytes())
        if shape.exits.pooler:
            self.pooler(f"{name}.", k, at.q, at.ramp)
            self.exit(name, index + 1, shape.hidden, at.ramp, logits)
        else:
            self.exit(name, index + 1, k, at.q, logits)

    def exit(self, name: str, layer: int, k: int, src: int, logits: Trace) -> None:
        """EXIT of linear layer `name` behind `layer` (1 is the first), on the result block's operand of k entries."""
        ramps, first = self.shape.exits, layer == 1
        self.ramps[layer] = logits
        if self.tracing:
            self.traces[logits.name] = logits
        weights, parameters = self.product(name, k, self.shape.labels, w8=True)
        self.emit(
            isa.Exit(
                weights=weights,
                parameters=parameters,
                k=k,
                n=self.shape.labels,
                src=src,
                logits=logits.offset,
                record=self.record,
                entropy_m=ramps.entropy[0],
                entropy_s=ramps.entropy[1],
                layer=layer,
                threshold=self.exits.threshold,
                row_shift=ramps.row_shift,
                predict=first and self.exits.table is not None,
                clock=first and self.exits.clock,
                last=layer == len(self.shape.layers),
                wait=1,
            )
        )

    def classifier(self, k: int, **fields) -> None:
        """The classifier on an operand of k entries, to the results (Q13)."""
        if self.tracing:
            self.traces["logits"] = self.logits
        self.linear(
            "classifier",
            k,
            self.shape.labels,
            trace=isa.NO_TRACE,
            w8=True,
            destination=isa.TO_IO,
            dst=self.logits.offset,
            wait=1,
            **fields,
        )


def _words(count: int) -> int:
    """Bytes of `count` parameter words of 8 bytes, padded to a beat."""
    return (count + count % 2) * 8
