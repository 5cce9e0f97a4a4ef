# SPDX-License-Identifier: Apache-2.0
"""The memory plan is what the host does: its bytes are the plans', its regions those that the program uses; and
what is printed, drawn and documented is it."""

import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import typer
from documents import ROOT, document_of
from split_tasks import make_tasks
from typer.testing import CliRunner
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.resources import memories
from zynqbert.host.compiler import plan
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.host.memory_plan import (
    ACTIVATION,
    BACKBONE,
    BUFFER,
    FREE,
    IO,
    OTHER,
    PROGRAM,
    RESIDENT,
    RING,
    memory_plan,
)
from zynqbert.host.memory_plot import HEIGHT, WIDTH, drawing
from zynqbert.host.model_shape import Adapters, ModelShape, Ramps
from zynqbert.host.plan_command import code_density, plan_command
from zynqbert.quant.task_artifact import load_backbone, load_task

NAMES = ("first", "second")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module", params=BOARDS)
def board(request):
    return BOARDS[request.param]


def shaped(name, board, *, width=32, labels=2, exits=None, density=0.5, **options):
    shape = ModelShape.named(name)
    adapters = Adapters(width, shape.weights)
    shape = replace(shape, adapters=adapters, word_format="adaptivfloat", labels=labels, exits=exits)
    return plan(shape, board, density=density, **options)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """Two tasks on a backbone of three layers that share one, of sparse weights and AdaptivFloat words."""
    options = dict(layers=3, family="albert", embedding=64, density=0.5, word_density=0.4)
    return make_tasks(tmp_path_factory.mktemp("plan") / "trunk", NAMES, **options)


@pytest.fixture(scope="module")
def of_tasks(backbone, board):
    """Plans by task, as the host makes them."""
    loaded = load_backbone(backbone)
    found = {}
    for name in NAMES:
        model = load_task(loaded, backbone / "tasks" / name)
        found[name] = plan(ModelShape.of_manifest(model.manifest, "trunk"), board, artifact=model)
    return found


def counted(memory):
    return sum(row.bytes for row in memory.rows if not row.over)


class TestSums:
    @pytest.mark.parametrize("name", ["albert-base", "albert-minilm", "minilm-l6", "bert-base"])
    def test_rows_fill_their_memories(self, name, board):
        found = memory_plan(shaped(name, board))
        assert [memory.name for memory in found.memories] == [
            *(RESIDENT, RING, ACTIVATION, OTHER, BACKBONE, BUFFER, PROGRAM, IO)
        ]  # fmt: skip
        for memory in found.memories:
            assert counted(memory) == memory.bytes, memory.name
            assert sum(memory.share(row) for row in memory.rows if not row.over) == pytest.approx(1)

    def test_ddr_is_the_plans(self, of_tasks):
        found = memory_plan(of_tasks)
        first, last = of_tasks.values()
        assert found[BACKBONE].bytes == first.task.offset == last.task.offset
        assert found[BUFFER].bytes == max(first.task.bytes, last.task.bytes)
        largest = max(first.image_bytes, last.image_bytes)
        assert found[BACKBONE].bytes + found[BUFFER].bytes == largest
        keeping = len(first.keeping_program)
        assert found[PROGRAM].bytes == len(first.program) + len(last.program) + keeping
        assert found[IO].bytes == max(first.io.bytes, last.io.bytes)
        rest = found[PROGRAM].bytes + found[IO].bytes
        assert found.ddr_bytes == largest + rest

    def test_tasks_are_the_plans(self, of_tasks):
        for use, (name, of) in zip(memory_plan(of_tasks).tasks, of_tasks.items(), strict=True):
            assert (use.name, use.bytes, use.moved) == (name, of.task.bytes, of.task.moved)
            assert (use.writes, use.program) == (len(of.task.pieces), len(of.program))
            assert use.share == of.task.moved / of.image_bytes

    def test_a_plan_without_adapters_has_no_buffer(self, board):
        compiled = plan(ModelShape.named("minilm-l6"), board)
        found = memory_plan(compiled)
        assert found.tasks == () and BUFFER not in [memory.name for memory in found.memories]
        assert found[BACKBONE].bytes == compiled.image_bytes == counted(found[BACKBONE])
        with pytest.raises(KeyError):
            found[BUFFER]

    def test_on_chip_memories_are_the_resource_models(self, board):
        found = memory_plan(shaped("albert-base", board))
        bits = sum(m.copies * m.words * m.bits for m in memories(board))
        chip = (RESIDENT, RING, ACTIVATION, OTHER)
        assert 8 * sum(found[name].bytes for name in chip) == pytest.approx(bits, abs=8)


class TestPlaces:
    def test_resident_matrices_lie_where_the_program_reads_them(self, of_tasks):
        (first, _), found = of_tasks.values(), memory_plan(of_tasks)
        size = 16 * first.board.ports
        rows = {row.what.partition(",")[0]: row for row in found[RESIDENT].rows if row.kind != FREE}
        gemms = [i for i in first.keeping if isinstance(i, isa.Keep)]
        assert len(rows) == len(gemms) == 6 == len(found.resident) and not found.streamed
        for row, keep in zip(rows.values(), gemms, strict=True):
            assert row.where.startswith(f"words {keep.resident} to {keep.resident + keep.stored - 1},")
            assert row.bytes == keep.stored * size

    def test_urams_end_where_the_resource_model_says(self):
        (deep,) = (m for m in memories(BOARDS["zcu111"]) if m.deep)
        assert deep.words == 28672
        kinds = {}
        for density in (0.5, 0.53):  # of 29,696 words
            rows = memory_plan(shaped("albert-base", BOARDS["zcu111"], density=density))[RESIDENT].rows
            kinds[density] = [row.where.rpartition(", ")[2] for row in rows if row.kind != FREE]
        assert kinds[0.5] == ["URAM"] * 6 and kinds[0.53] == ["URAM"] * 5 + ["URAM and block RAM"]
        rows = memory_plan(shaped("albert-minilm", BOARDS["zcu102"]))[RESIDENT].rows
        assert {row.where.rpartition(", ")[2] for row in rows if row.kind != FREE} == {"block RAM"}

    @pytest.mark.parametrize("exits", [None, Ramps(True, (32768, 16), 4)])
    def test_the_program_writes_within_the_regions_that_are_named(self, board, exits):
        """Every word of the activation memory that an instruction touches lies in one region, and none is free."""
        shape = replace(ModelShape.named("albert-base"), adapters=Adapters(32, (0,) * 12), exits=exits)
        compiled = plan(shape, board, density=0.5, exits=ExitPlan(0) if exits else None)
        named = [row for row in memory_plan(compiled)[ACTIVATION].rows if row.kind != FREE]
        spans = [(row.what, *map(int, row.where.removeprefix("words ").split(" to "))) for row in named]
        touched = list(accesses(compiled))
        for start, end in touched:
            assert any(low <= start and end - 1 <= high for _, low, high in spans), (start, end)
        assert max(end for _, end in touched) - 1 == max(high for *_, high in spans)

    def test_regions_over_begin_where_they_say(self, board):
        memory = memory_plan(shaped("albert-base", board))[ACTIVATION]
        used = memory.bytes - sum(row.bytes for row in memory.rows if row.kind == FREE)
        for row in memory.rows:
            if row.over:
                assert row.start + row.bytes <= used
                first, last = map(int, row.where.removeprefix("words ").split(" to "))
                assert (row.start, row.bytes) == (32 * first, 32 * (last - first + 1))

    def test_word_embeddings_by_hand(self, board):
        """Of 128 channels 40 %: a beat of mask, 51 codes in four, one of m and s."""
        compiled = shaped("albert-base", board, word_density=0.4)
        (row,) = (r for r in memory_plan(compiled, code_density=0.4)[BACKBONE].rows if r.what == "word embeddings")
        assert row.bytes == 30000 * 96
        assert row.why == (
            "AdaptivFloat, 96 bytes a row: mask 16, codes 64, factor 16, 40% of the codes not 0; masks 0.48 MB"
        )

    def test_code_density_of_an_artifact(self, backbone):
        model = load_task(load_backbone(backbone), backbone / "tasks" / "first")
        q = model.tensors["embeddings.word.q"]
        assert code_density(model) == np.mean(q != 0) and 0.2 < code_density(model) < 0.45

    def test_code_density_of_nibbles(self):
        tensors = {"embeddings.word.q": np.array([[0x00, 0x10, 0x21]], np.uint8)}
        model = SimpleNamespace(tensors=tensors, manifest={"architecture": {"word_bits": 4}})
        assert code_density(model) == 3 / 6


def accesses(compiled):
    """From and to which word of the activation memory an instruction reads or writes, in a pass of four row blocks."""
    for i in compiled.instructions:
        i = i.product() if isinstance(i, isa.Exit) else i
        if isinstance(i, isa.Gemm):
            for rb in range(1 if i.result_block else 4):
                yield i.src + rb * i.src_stride, i.src + rb * i.src_stride + i.k
                if i.destination == isa.TO_ACTIVATION or i.branch:
                    yield i.dst + rb * i.dst_stride, i.dst + rb * i.dst_stride + i.n
        elif isinstance(i, isa.Norm):
            for rb in range(4):
                yield i.dst + rb * i.dst_stride, i.dst + rb * i.dst_stride + i.entries
        elif isinstance(i, isa.Gather):
            yield i.dst, i.dst + i.entries
        elif isinstance(i, isa.Attention):
            yield i.p, i.p + 2 * isa.MAX_ROWS
            for rb in range(4):
                begin = i.context + rb * i.context_stride
                yield begin, begin + i.heads * i.head_width


class TestClaims:
    """What the design says fits, and where it does not."""

    def test_albert_base_at_half_density_is_whole_on_zcu111(self):
        found = memory_plan(shaped("albert-base", BOARDS["zcu111"]))
        assert len(found.resident) == 6 and found.streamed == ()

    def test_albert_base_streams_on_zcu102(self):
        found = memory_plan(shaped("albert-base", BOARDS["zcu102"]))
        assert found.streamed == ("layers.0.o", "layers.0.ffn1", "layers.0.ffn2")
        rows = {row.what: row.why for row in found[BACKBONE].rows}
        assert "needs 3516 words of the resident memory, 716 of 11264 are left" in rows["layers.0.o, streamed"]

    @pytest.mark.parametrize(("density", "streamed"), [(0.5, ()), (1.0, ("layers.0.ffn2",))])
    def test_hidden_384_is_whole_on_both_at_half_density(self, density, streamed):
        found = {name: memory_plan(shaped("albert-minilm", of, density=density)) for name, of in BOARDS.items()}
        assert found["zcu111"].streamed == () and found["zcu102"].streamed == streamed

    def test_many_matrices_are_named_together(self):
        rows = memory_plan(shaped("minilm-l6", BOARDS["zcu102"], density=1.0))[BACKBONE].rows
        (row,) = (row for row in rows if row.what.endswith("streamed"))
        assert row.what == "layers.0.ffn2 .. layers.5.ffn2, streamed"
        assert row.why.startswith("as they are, density 100%; layers.1.k needs 1161 words")


class TestRefused:
    def test_plans_of_other_backbones(self, board):
        two, wide = shaped("albert-base", board), shaped("albert-base", board, density=0.4)
        with pytest.raises(ValueError, match="task b is not on the backbone of task a"):
            memory_plan({"a": two, "b": wide})
        assert memory_plan({"a": two, "b": shaped("albert-base", board, labels=9)}).tasks[1].bytes > 0

    def test_other_boards(self):
        plans = {name: shaped("albert-base", of) for name, of in BOARDS.items()}
        with pytest.raises(ValueError, match="or for another board"):
            memory_plan(plans)

    def test_none(self):
        for given in ({}, {"a": ()}):
            with pytest.raises(ValueError, match="a task at least"):
                memory_plan(given)

    @pytest.mark.parametrize("density", [0, 1.1])
    def test_a_word_density_that_is_none(self, density):
        with pytest.raises(ValueError, match="word_density"):
            shaped("albert-base", BOARDS["zcu102"], word_density=density)


class TestPicture:
    def test_shows_every_memory_to_scale(self, of_tasks):
        found = memory_plan(of_tasks)
        tree = ElementTree.fromstring(drawing(found, False, ["a line"]))
        texts = [t.text for t in tree.iter(f"{SVG}text")]
        for memory in found.memories:
            assert any(text.startswith(memory.name.removeprefix("DDR, ")) for text in texts), memory.name
        assert {"a line", "weights", "embeddings", "the task's own", "free"} <= set(texts)
        assert "as the host allocates them" in texts[0] and found.board.name.upper() in texts[0]
        blocks = {r.find(f"{SVG}title").text: float(r.get("height")) for r in tree.iter(f"{SVG}rect") if len(r)}
        rows = [row for row in found[BACKBONE].rows if row.bytes > 1000]
        per_byte = [blocks[f"{row.what}: {row.bytes} bytes, {row.where}"] / row.bytes for row in rows]
        assert per_byte == pytest.approx([per_byte[0]] * len(rows), rel=0.01)

    @pytest.mark.parametrize("name", ["albert-base", "minilm-l6", "bert-base"])
    def test_nothing_lies_outside_and_labels_do_not_overlap(self, name, board):
        tree = ElementTree.fromstring(drawing(memory_plan(shaped(name, board)), True))
        for rect in tree.iter(f"{SVG}rect"):
            x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
            assert x >= 0 and x + float(rect.get("width")) <= WIDTH
            assert y >= 0 and y + float(rect.get("height")) <= HEIGHT
        places = {}
        for text in tree.iter(f"{SVG}text"):
            places.setdefault(text.get("x"), []).append(float(text.get("y")))
        for x, of in places.items():
            ordered = sorted(of)
            assert all(b - a >= 11 for a, b in pairwise(ordered)), x
            assert ordered[0] > 0 and ordered[-1] < HEIGHT

    def test_the_same_plan_gives_the_same_bytes(self, of_tasks):
        assert drawing(memory_plan(of_tasks), False) == drawing(memory_plan(dict(of_tasks)), False)


@pytest.fixture
def call():
    app = typer.Typer()
    app.command()(plan_command)
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words], env={"COLUMNS": "120"})


class TestCommand:
    def test_of_a_shape(self, call, tmp_path):
        out = tmp_path / "new" / "plan.svg"
        words = ("--model", "albert-base", "--board", "zcu111", "--density", "0.5", "--word-density", "0.4")
        said = call(*words, "--plot", out).stdout
        assert "albert-base on ZCU111" in said and "sizes modelled: densities are assumed" in said
        assert "zcu111: 6 of 6 int4 matrices of the backbone are resident on chip; a pass reads none from DDR" in said
        assert "zcu102: 3 of 6 int4 matrices" in said and "from DDR: layers.0.o, layers.0.ffn1, layers.0.ffn2" in said
        for name in BOARDS:
            assert f"{name}, modelled: a switch moves 136 kB in 0.31 (0.13 to 0.94) ms" in said
        assert f"{out}: the plan of zcu111" in said
        assert out.read_text(encoding="utf-8") == (ROOT / "docs" / "memory-plan.svg").read_text(encoding="utf-8")

    def test_of_a_backbone(self, call, backbone, of_tasks, board):
        result = call(backbone, "--board", board.name)
        assert result.exit_code == 0 and "sizes as the host allocates them" in result.stdout
        for name in NAMES:
            assert f"over these: task {name}" in result.stdout
        figures = json.loads(call(backbone, "--board", board.name, "--json").stdout)
        assert figures["ddr_bytes"] == memory_plan(of_tasks).ddr_bytes and figures["sizes_modelled"] is False
        assert [task["name"] for task in figures["tasks"]] == list(NAMES)
        assert set(figures["switching"]) == set(BOARDS)
        most = max(of.task.moved for of in of_tasks.values())
        for of in figures["switching"].values():
            assert of["switch"]["modelled"] and of["switch"]["bytes"] == most
            assert of["time_ratio"] == pytest.approx(of["reload"]["ms"] / of["switch"]["ms"])

    def test_a_slower_clock_makes_keep_longer(self, call):
        words = ("--model", "albert-minilm", "--json")
        slow, fast = (json.loads(call(*words, "--clock-mhz", mhz).stdout)["switching"] for mhz in (100, 300))
        for name in BOARDS:
            assert slow[name]["reload"]["ms"] > fast[name]["reload"]["ms"]
            assert slow[name]["switch"] == fast[name]["switch"]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ((), "give either a backbone's folder or --model"),
            (("somewhere", "--model", "albert-base"), "give either a backbone's folder or --model"),
            (("--model", "albert-base", "--density", "0"), "--density 0: above 0 and at most 1 is needed"),
            (("--model", "albert-base", "--word-density", "2"), "--word-density 2: above 0"),
            (("--model", "albert-base", "--width", "513"), "adapters.width is 513"),
            (("--model", "albert-huge"), "is none of bert-base"),
            (("--model", "albert-base", "--clock-mhz", "0"), "--clock-mhz 0: a number above 0"),
            (("somewhere", "--width", "8"), "--width goes with --model"),
            (("somewhere",), "there is none"),
        ],
    )  # fmt: skip
    def test_refused(self, call, words, message):
        error = call(*words).exception
        assert isinstance(error, ValueError) and message in str(error) and "\n" not in str(error)

    def test_a_backbone_without_tasks(self, call, tmp_path):
        folder = make_tasks(tmp_path / "trunk", (), layers=1, family="albert")
        error = call(folder).exception
        assert isinstance(error, ValueError) and "no task yet; remedy: zynqbert tasks add" in str(error)


@pytest.fixture(scope="module")
def document():
    """benchmarks/memory_plan.py, which is no part of the package."""
    yield from document_of("memory_plan")


def test_document_is_not_stale(document):
    text = (ROOT / "docs" / "memory-plan.md").read_text(encoding="utf-8")
    assert text == document.render(), "run: python benchmarks/memory_plan.py"
    assert (ROOT / "docs" / "memory-plan.svg").read_text(encoding="utf-8") == document.picture()
