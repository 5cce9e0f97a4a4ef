# SPDX-License-Identifier: Apache-2.0
"""What lies in which memory when a model, or a backbone with its tasks, runs on a board: adapter-ALBERT's heterogeneous
memories on ours. Read from the plans that the host loads (compiler.Plan), so that it is what the host does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from ..fpga import instructions as isa
from ..fpga.boards import Board
from ..fpga.resources import memories, weight_bits
from .compiler import Plan
from .layouts import is_task_region
from .storage import Matrix

Ways = Plan | Sequence[Plan]  # of a task: with early exit it has two programs

# What can lie in a memory.
WEIGHTS, EMBEDDINGS, FACTORS, TASK, PROGRAMS, ACTIVATIONS, FREE = (
    *("weights", "embeddings", "factors, norms, tables", "the task's own", "programs", "activations, io", "free"),
)
RESIDENT, RING, ACTIVATION, OTHER = "resident memory", "weight ring", "activation memory", "other memories on chip"
BACKBONE, BUFFER, PROGRAM, IO = "DDR, backbone", "DDR, writable task buffer", "DDR, programs", "DDR, io buffer"
WORD_BYTES = isa.LANES  # of the activation memory
MANY = 12  # matrices in a list that are named together


@dataclass(frozen=True)
class Row:
    """`bytes` bytes of a memory: what they are, of which kind, where, and why there.

    One that lies `over` others has its bytes counted with these, and begins `start` bytes into the memory.
    """

    what: str
    kind: str
    where: str
    bytes: int
    why: str = ""
    over: bool = False
    start: int = 0


@dataclass(frozen=True)
class Memory:
    """A memory and its rows; those that do not lie over others fill its `bytes`."""

    name: str
    made_of: str
    bytes: int
    rows: tuple[Row, ...]

    def share(self, row: Row) -> float:
        """A row's share of the memory."""
        return row.bytes / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class TaskUse:
    """A task: bytes of its area, those that a switch to it `moved` by so many `writes`, what share of a model's image
    they are, and the bytes of its programs."""

    name: str
    bytes: int
    moved: int
    writes: int
    share: float
    program: int


@dataclass(frozen=True)
class MemoryPlan:
    """The memories of a board under a model. `resident` and `streamed`: the int4 matrices that are on chip, and those
    that each pass reads from DDR."""

    model: str
    board: Board
    memories: tuple[Memory, ...]
    tasks: tuple[TaskUse, ...]
    resident: tuple[str, ...]
    streamed: tuple[str, ...]

    def __getitem__(self, name: str) -> Memory:
        """The memory called `name`; KeyError if there is none."""
        for memory in self.memories:
            if memory.name == name:
                return memory
        raise KeyError(name)

    @property
    def ddr_bytes(self) -> int:
        """Contiguous DDR that the host allocates."""
        return sum(memory.bytes for memory in self.memories if in_ddr(memory))

    def to_json(self) -> dict[str, object]:
        """Everything, by name."""
        return {
            "model": self.model,
            "board": self.board.name,
            "ddr_bytes": self.ddr_bytes,
            "resident": list(self.resident),
            "streamed": list(self.streamed),
            "memories": [
                {
                    "name": memory.name,
                    "made_of": memory.made_of,
                    "bytes": memory.bytes,
                    "rows": [asdict(row) | {"share": memory.share(row)} for row in memory.rows],
                }
                for memory in self.memories
            ],
            "tasks": [asdict(task) for task in self.tasks],
        }


def in_ddr(memory: Memory) -> bool:
    """Whether a memory is a part of DDR, else it is on chip."""
    return memory.name.startswith("DDR")


def memory_plan(plans: Plan | Mapping[str, Ways], *, code_density: float | None = None) -> MemoryPlan:
    """What lies where under one plan, or under those of a backbone's tasks by name.

    code_density: the share of the word table's codes that is not 0, where it is known. Raises ValueError for plans that
    are not of one backbone on one board, and without any.
    """
    given = {"task": plans} if isinstance(plans, Plan) else plans
    named = {name: (ways,) if isinstance(ways, Plan) else tuple(ways) for name, ways in given.items()}
    if not named or not all(named.values()):
        raise ValueError("a memory plan needs a plan of each task, and a task at least")
    first = next(iter(named.values()))[0]
    for name, ways in named.items():
        if any(_front(plan) != _front(first) for plan in ways):
            raise ValueError(f"task {name} is not on the backbone of task {next(iter(named))}, or for another board")
    found = [_resident(first), _ring(first), _activations(first), _others(first), _backbone(first, code_density)]
    tasks: tuple[TaskUse, ...] = ()
    if first.task is not None:
        found.append(_buffer(named))
        tasks = tuple(_use(name, ways) for name, ways in named.items())
    kept = {on_chip: tuple(m.name for m in first.matrices.values() if (m.resident is not None) == on_chip)
            for on_chip in (True, False)}  # fmt: skip
    everything = *found, _programs(named), _io(named)
    return MemoryPlan(first.shape.name, first.board, everything, tasks, kept[True], kept[False])


def _front(plan: Plan) -> tuple:
    """What plans of one backbone for one board have in common: all in front of the task's area."""
    end = plan.image_bytes if plan.task is None else plan.task.offset
    shared = {name: region for name, region in plan.regions.items() if region.offset < end}
    places = {name: (m.resident, m.words, m.bytes) for name, m in plan.matrices.items()}
    return plan.board, end, shared, places, plan.activations


def _use(name: str, ways: Sequence[Plan]) -> TaskUse:
    area, programs = ways[0].task, sum(len(plan.program) for plan in ways)
    return TaskUse(name, area.bytes, area.moved, len(area.pieces), area.moved / ways[0].image_bytes, programs)


# On chip


def _resident(plan: Plan) -> Memory:
    """Each matrix in it, and what is left."""
    board = plan.board
    size = board.ports * isa.BEAT_BYTES
    deep = sum(m.words for m in memories(board) if m.deep)
    kept = sorted((m for m in plan.matrices.values() if m.resident is not None), key=lambda m: m.resident)
    rows = []
    for run in _runs(kept):
        words, uses = sum(m.words for m in run), run[0].uses
        rows.append(
            Row(
                f"{_called(run)}, density {_density(run):.0%}",
                WEIGHTS,
                f"{_words(run[0].resident, words)}, {_blocks(run[0].resident, words, deep)}",
                words * size,
                f"read from DDR once, used by {uses} layers" if uses > 1 else "read from DDR once",
            )
        )
    used = sum(m.words for m in kept)
    rows.append(_free(used, board.resident_words - used, size))
    made_of = "URAM and block RAM" if deep else "block RAM"
    return Memory(RESIDENT, made_of, board.resident_words * size, _there(rows))


def _blocks(word: int, words: int, deep: int) -> str:
    if word + words <= deep:
        return "URAM"
    return "block RAM" if word >= deep else "URAM and block RAM"


def _ring(plan: Plan) -> Memory:
    """A ring that no matrix has a place in: its longest tile says how many fit."""
    longest = max((i.k for i in plan.instructions if isinstance(i, isa.Gemm)), default=0)
    size = weight_bits(plan.board) // 8
    why = f"a tile takes its K words, {longest} at most, choices beside the weights; {isa.WEIGHT_TILES} tiles at a time"
    whole = Row("tiles on their way to the array", WEIGHTS, _words(0, isa.WEIGHT_WORDS), isa.WEIGHT_WORDS * size, why)
    return Memory(RING, "block RAM", whole.bytes, (whole,))


def _activations(plan: Plan) -> Memory:
    """Regions for a pass of four row blocks; what lies over others at another time is said so."""
    at, hidden, blocks = plan.activations, plan.shape.hidden, isa.MAX_ROW_BLOCKS
    regions = {
        "attention: queries": (at.q, blocks * at.q_stride),
        "attention: numerators, two slots": (at.p, 2 * isa.MAX_ROWS),
        "attention: context": (at.context, blocks * hidden),
        "FFN: what ffn2 reads": (at.ffn, blocks * at.ffn_stride),
    }
    if any(isinstance(i, isa.Exit) for i in plan.instructions):
        regions["off-ramp: pooled rows"] = at.ramp, hidden
    end = max(start + words for start, words in regions.values())
    x, shared = (at.x, blocks * at.x_stride), (at.q, end - at.q)
    why = "the FFN's operand lies over all of attention's, which is done by then"
    rows = [
        _activation("x, the operand of q, k, v and ffn1", *x),
        _activation("attention's, then the FFN's", *shared, why=why),
    ]
    later = {"attention: queries": "an adapter's narrow side after it"} if plan.task else {}
    rows += [_activation(name, *words, why=later.get(name, ""), over=True) for name, words in regions.items()]
    rows.append(_free(end, isa.ACTIVATION_WORDS - end, WORD_BYTES))
    return Memory(ACTIVATION, "block RAM", isa.ACTIVATION_WORDS * WORD_BYTES, _there(rows))


def _activation(name: str, start: int, words: int, why: str = "", over: bool = False) -> Row:
    return Row(name, ACTIVATIONS, _words(start, words), words * WORD_BYTES, why, over, over * start * WORD_BYTES)


def _others(plan: Plan) -> Memory:
    """What else is on chip, as the resource model has it."""
    shape = plan.shape
    row_bytes = max(i.row_bytes for i in plan.instructions if isinstance(i, isa.Embed))
    notes = {
        "residual, one bank a row block": f"{shape.hidden} of {isa.MAX_WIDTH} channels are used",
        "embedding rows, a bank a lane": f"the longest row has {row_bytes} of {isa.EMBEDDING_BEATS * 16} bytes",
        "head factors": f"{shape.heads} of {isa.MAX_HEADS} heads",
    }
    named = ("weights", "activations, four banks", "resident weights", "resident weights, deep")
    rows = [
        Row(
            m.name,
            FACTORS if m.name.startswith(("tables", "head", "parameters")) else ACTIVATIONS,
            f"{m.copies} of {m.words} words of {m.bits} bits",
            m.copies * m.words * m.bits // 8,
            notes.get(m.name, ""),
        )
        for m in memories(plan.board)
        if m.name not in named
    ]
    return Memory(OTHER, "block RAM", sum(row.bytes for row in rows), tuple(rows))


# DDR


def _backbone(plan: Plan, code_density: float | None) -> Memory:
    """The image up to the task's area, region by region gathered by what they are."""
    end = plan.image_bytes if plan.task is None else plan.task.offset
    of_matrix = {f"{m.name}.weight": _matrix_kind(run) for run in _runs(streamed(plan)) for m in run}
    found: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for name, offset, size in _padded(plan):
        if offset < end:
            kind = of_matrix[name] if name in of_matrix else _backbone_kind(plan, name, code_density)
            found.setdefault(kind, []).append((offset, size))
    rows = [
        Row(what, kind, _image(min(offset for offset, _ in parts)), sum(size for _, size in parts), why)
        for (what, kind, why), parts in found.items()
    ]
    order = (WEIGHTS, EMBEDDINGS, FACTORS, TASK)
    return Memory(BACKBONE, "DDR", end, tuple(sorted(rows, key=lambda row: order.index(row.kind))))


def _backbone_kind(plan: Plan, name: str, code_density: float | None) -> tuple[str, str, str]:
    """What a region of the backbone is, its kind, and why it is there."""
    if name.removesuffix(".weight") in plan.matrices:
        return "the resident matrices", WEIGHTS, "compressed; KEEP brings them on chip once"
    if name == "embeddings.word":
        return "word embeddings", EMBEDDINGS, word_format(plan, code_density)
    if name.startswith(("embeddings.position", "embeddings.type")):
        return "positions and types", EMBEDDINGS, "int8, read a row a token"
    if is_task_region(name) and name.endswith(".weight"):
        return "8-bit matrices", WEIGHTS, "classifier and off-ramps"
    if name.endswith(".weight"):
        return "8-bit matrices", WEIGHTS, "pooler, mapping: int8, once a pass"
    if "norm" in name or name == "mapping":
        return "norms", FACTORS, "those that tasks share"
    return "factors and tables", FACTORS, "of each product, of each head; softmax, GELU, pooler"


def _matrix_kind(run: Sequence[Matrix]) -> tuple[str, str, str]:
    """The same of matrices that each pass reads; why they are not on chip is said of the smallest."""
    form = f"{'compressed' if run[0].compressed else 'as they are'}, density {_density(run):.0%}"
    smallest = min(run, key=lambda m: m.words)
    which = "" if len(run) == 1 else f"{smallest.name} "
    return f"{_called(run)}, streamed", WEIGHTS, f"{form}; {which}{smallest.why}"


def word_format(plan: Plan, code_density: float | None = None) -> str:
    """How the word table is stored: bytes a row, of these its mask, and the share of codes if it is known."""
    shape, row = plan.shape, plan.regions["embeddings.word"].bytes // plan.shape.vocab
    if shape.word_format != "adaptivfloat":
        return f"int{shape.word_bits}, {row} bytes a row of which {isa.BEAT_BYTES} its factor"
    mask = isa.adaptive_row_bytes(shape.embedding, 0) - isa.BEAT_BYTES
    known = "" if code_density is None else f", {code_density:.0%} of the codes not 0"
    return (
        f"AdaptivFloat, {row} bytes a row: mask {mask}, codes {row - mask - isa.BEAT_BYTES}, "
        f"factor {isa.BEAT_BYTES}{known}; masks {mask * shape.vocab / 1e6:.2f} MB"
    )


def _buffer(named: Mapping[str, Sequence[Plan]]) -> Memory:
    """The area behind the backbone, as large as the largest task's; every task lies over the one before."""
    largest = max((ways[0] for ways in named.values()), key=lambda plan: plan.task.bytes)
    area = largest.task
    parts: dict[str, list[tuple[int, int]]] = {}
    for name, offset, size in _padded(largest):
        if offset >= area.offset:
            parts.setdefault(_task_part(name), []).append((offset, size))
    rows = [
        Row(what, TASK, _image(min(offset for offset, _ in of)), sum(size for _, size in of))
        for what, of in parts.items()
    ]
    for name, ways in named.items():
        use = _use(name, ways)
        why = f"a switch moves {use.moved} bytes by {use.writes} writes, {use.share:.2%} of the model; the rest stays 0"
        rows.append(Row(f"task {name}", TASK, _image(area.offset), use.bytes, why, over=True))
    return Memory(BUFFER, "DDR", area.bytes, tuple(rows))


def _task_part(name: str) -> str:
    part = name.split(".")
    if part[0] != "layers":
        return "classifier" if part[0] == "classifier" else "off-ramps"
    return "adapters" if part[2].endswith("adapter") else "norms of the layers"


def _programs(named: Mapping[str, Sequence[Plan]]) -> Memory:
    """Every task's programs, and that which brings the resident matrices on chip."""
    first = next(iter(named.values()))[0]
    rows = [
        Row(f"program of task {name}", PROGRAMS, f"{len(plan.instructions)} instructions", len(plan.program))
        for name, ways in named.items()
        for plan in ways
    ]
    if len(first.keeping) > 1:
        why = "run once, when the engine is opened or has been reset"
        rows.append(Row("KEEP", PROGRAMS, f"{len(first.keeping)} instructions", len(first.keeping_program), why))
    return Memory(PROGRAM, "DDR", sum(row.bytes for row in rows), tuple(rows))


def _io(named: Mapping[str, Sequence[Plan]]) -> Memory:
    """One buffer that serves every task."""
    size = max(plan.io.bytes for ways in named.values() for plan in ways)
    row = Row("rows of tokens in, logits out", ACTIVATIONS, "a buffer of its own", size, "all that a pass exchanges")
    return Memory(IO, "DDR", size, (row,))


def _padded(plan: Plan) -> Iterator[tuple[str, int, int]]:
    """Name, offset and bytes of each region of the image, up to the next beat."""
    for name, region in plan.regions.items():
        yield name, region.offset, -(-region.bytes // isa.BEAT_BYTES) * isa.BEAT_BYTES


def _runs(found: Sequence[Matrix]) -> list[list[Matrix]]:
    """Matrices one by one, or where they are many those together that lie behind each other and alike."""
    runs: list[list[Matrix]] = []
    for m in found:
        alike = runs and (runs[-1][0].uses, runs[-1][0].compressed) == (m.uses, m.compressed)
        if alike and len(found) > MANY:
            runs[-1].append(m)
        else:
            runs.append([m])
    return runs


def _called(run: Sequence[Matrix]) -> str:
    return run[0].name if len(run) == 1 else f"{run[0].name} .. {run[-1].name}"


def _density(run: Sequence[Matrix]) -> float:
    """Share of all their weights that is not 0."""
    return sum(m.density * m.k * m.n for m in run) / sum(m.k * m.n for m in run)


def _image(offset: int) -> str:
    return f"image from {offset:#x}"


def _words(start: int, words: int) -> str:
    return f"words {start} to {start + words - 1}"


def _free(start: int, words: int, size: int) -> Row:
    return Row("free", FREE, _words(start, words), words * size)


def _there(rows: list[Row]) -> tuple[Row, ...]:
    """The rows that have bytes."""
    return tuple(row for row in rows if row.bytes)


def streamed(plan: Plan) -> list[Matrix]:
    """The int4 matrices that each pass reads from DDR."""
    return [m for m in plan.matrices.values() if m.resident is None]
