# SPDX-License-Identifier: Apache-2.0
"""Layouts of a plan, refusals by field name, and the memory image byte by byte as docs/program.md has it."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from adaptive_rows import packed_rows
from pass_runner import read_artifact
from random_artifact import make_random_artifact
from zynqbert.fpga import instructions as isa
from zynqbert.fpga import program as programs
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import memory_image as images
from zynqbert.host.compiler import CompileError, plan
from zynqbert.host.memory_image import PackError, linear_layers, memory_image
from zynqbert.host.model_shape import ARCHITECTURES, Adapters, LayerShape, ModelShape
from zynqbert.host.nibbles import unpack_nibbles
from zynqbert.quant.compressed import decompress

BOTH = pytest.mark.parametrize("board", BOARDS.values(), ids=lambda b: b.name)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    return read_artifact(make_random_artifact(folder, layers=2, hidden=96, heads=3, ffn=203, labels=3, extra_entries=5))


@pytest.fixture(scope="module")
def packed(artifact):
    """By board: the plan and its image."""
    shape = ModelShape.of_manifest(artifact.manifest)
    plans = {name: plan(shape, board, artifact=artifact, resident=False) for name, board in BOARDS.items()}
    return {name: (compiled, memory_image(compiled, artifact)) for name, compiled in plans.items()}


@pytest.fixture(scope="module")
def albert(tmp_path_factory):
    """Two layers that share, and a third one of its own."""
    folder = tmp_path_factory.mktemp("albert")
    return read_artifact(make_random_artifact(folder, layers=3, family="albert", embedding=40, weights=[0, 0, 2]))


def shape_of(**changes):
    """MiniLM with `changes`; unless they say otherwise layers have their own matrices and embeddings no mapping."""
    shape = replace(ModelShape.named("minilm-l6"), **changes)
    width, own = changes.get("embedding", shape.hidden), tuple(range(len(shape.layers)))
    return replace(shape, embedding=width, weights=changes.get("weights", own))


class TestPlan:
    @BOTH
    @pytest.mark.parametrize("name", ARCHITECTURES)
    @pytest.mark.parametrize("trace", [False, True])
    def test_known_architectures_compile(self, name, board, trace):
        compiled = plan(ModelShape.named(name), board, trace=trace)
        assert programs.decode(compiled.program) == compiled.instructions
        for row_blocks in (1, 4):
            programs.check(compiled.instructions, row_blocks)

    def test_macs_of_bert_base_are_the_papers(self):
        """10.87 G linear and 0.30 G attention at 128 tokens (the encoder), and the head."""
        shape = ModelShape.named("bert-base")
        linear, attention, head = 12 * 128 * 12 * 768 * 768, 12 * 2 * 128 * 128 * 768, 768 * 768 + 768 * 2
        assert shape.dense_macs(128) == linear + attention + head
        assert round(linear / 1e9, 2) == 10.87 and round(attention / 1e9, 2) == 0.30

    def test_macs_of_albert_base_are_bert_bases_and_the_mapping(self):
        bert, albert = ModelShape.named("bert-base"), ModelShape.named("albert-base")
        assert albert.dense_macs(100) == bert.dense_macs(100) + 100 * 128 * 768

    def test_macs_of_a_head_a_token(self):
        one = ModelShape.named("minilm-l6")
        many = replace(one, kind="token", labels=9)
        pooled = 384 * 384 + 384 * 2
        assert many.dense_macs(33) == one.dense_macs(33) - pooled + 33 * 384 * 9

    @BOTH
    def test_image_regions_are_aligned_and_apart(self, board):
        compiled = plan(shape_of(vocab=77, labels=5), board)
        regions = sorted(compiled.regions.values(), key=lambda r: r.offset)
        assert all(r.offset % 16 == 0 for r in regions)
        assert all(a.offset + a.bytes <= b.offset for a, b in pairwise(regions))
        assert regions[-1].offset + regions[-1].bytes <= compiled.image_bytes

    @pytest.mark.parametrize("kind", ["sequence", "token"])
    def test_io_pieces_are_aligned_and_apart(self, kind):
        io = plan(shape_of(labels=5, kind=kind), BOARDS["zcu102"], trace=True).io
        pieces = [(io.header, 16 * (2 + 128)), (io.results, 5 * 64 * (4 if kind == "token" else 1))]
        pieces += [(t.offset, t.bytes()) for name, t in io.traces.items() if name != "logits"]
        pieces.sort()
        assert all(at % 16 == 0 for at, _ in pieces)
        assert all(a + n <= b for (a, n), (b, _) in pairwise(pieces))
        assert sum(pieces[-1]) <= io.bytes

    def test_a_layers_activations_lie_apart_while_they_live(self):
        at = plan(ModelShape.named("bert-large"), BOARDS["zcu102"]).activations
        assert at.x + 4 * at.x_stride <= min(at.q, at.ffn)
        assert at.q + 4 * at.q_stride <= at.p
        assert max(at.p + 256, at.ffn + 4 * at.ffn_stride) <= isa.ACTIVATION_WORDS

    def test_no_instruction_reads_what_it_writes(self):
        """The vector unit may overwrite a region only once the array has read it: docs/program.md."""
        for instruction in plan(ModelShape.named("albert-base"), BOARDS["zcu111"]).instructions:
            if isinstance(instruction, isa.Gemm) and instruction.destination == isa.TO_ACTIVATION:
                reads = range(instruction.src, instruction.src + 3 * instruction.src_stride + instruction.k)
                writes = range(instruction.dst, instruction.dst + 3 * instruction.dst_stride + instruction.n)
                assert reads.stop <= writes.start or writes.stop <= reads.start

    def test_factors_come_from_the_artifact(self, artifact):
        compiled = plan(ModelShape.of_manifest(artifact.manifest), BOARDS["zcu102"], artifact=artifact)
        norms = [i for i in compiled.instructions if isinstance(i, isa.Norm)]
        assert [norms[1].m, norms[1].s] == artifact.tensors["layers.0.attention_norm.operand"].tolist()
        residual = [i for i in compiled.instructions if isinstance(i, isa.Gemm) and i.destination == isa.TO_RESIDUAL]
        found = [residual[1].residual_m, residual[1].residual_s]
        assert found == artifact.tensors["layers.0.ffn2.residual"].tolist()

    def test_normalized_softmax_is_a_flag(self):
        def flags(shape):
            return {i.normalized for i in plan(shape, BOARDS["zcu102"]).instructions if isinstance(i, isa.Attention)}

        assert flags(shape_of()) == {False}
        assert flags(shape_of(normalized=True)) == {True}

    def test_traces_have_the_goldens_names(self):
        compiled = plan(shape_of(layers=(LayerShape(384, 100, 384),)), BOARDS["zcu102"], trace=True)
        layer = ["q", "k", "v", "numerators", "context", "o.x", "attention_norm.y", "ffn1", "ffn2.x", "ffn_norm.y"]
        names = ["embeddings.sum", "embeddings.norm.y", *(f"layers.0.{name}" for name in layer)]
        assert set(compiled.io.traces) == {*names, "gathered", "pooler", "logits"}
        assert not plan(shape_of(), BOARDS["zcu102"]).io.traces

    def test_traces_of_albert_and_of_tokens(self):
        names = list(plan(ModelShape.named("albert-base"), BOARDS["zcu102"], trace=True).io.traces)
        assert names[:4] == ["embeddings.sum", "embeddings.norm.y", "mapping.x", "layers.0.q"]
        tokens = list(plan(shape_of(kind="token"), BOARDS["zcu102"], trace=True).io.traces)
        assert tokens[-2:] == ["layers.5.ffn_norm.y", "logits"]


class TestAlbert:
    """The embeddings' own width, the mapping, shared matrices (docs/program.md)."""

    @BOTH
    def test_weights_take_a_twelfth_of_bert_bases(self, board):
        """With nothing on chip: what is, has headers."""
        bert, albert = (plan(ModelShape.named(name), board, resident=False) for name in ("bert-base", "albert-base"))

        def weights(compiled):
            encoder = (name for name in compiled.regions if name.startswith("layers.") and name.endswith(".weight"))
            return sum(compiled.regions[name].bytes for name in encoder)

        assert weights(bert) == 12 * weights(albert) > 0
        assert 7 * albert.image_bytes < bert.image_bytes

    def test_the_front_instruction_by_instruction(self):
        compiled = plan(ModelShape.named("albert-base"), BOARDS["zcu102"])
        kinds = (isa.Embed, isa.Norm, isa.Gemm)
        embed, _, _, norm, mapping, plain, q = [i for i in compiled.instructions if isinstance(i, kinds)][:7]
        assert (embed.width, embed.row_bytes) == (128, 144)
        assert (norm.width, norm.entries, norm.plain, norm.signal) == (128, 128, False, True)
        assert (mapping.k, mapping.n, mapping.w8, mapping.wait) == (128, 768, True, 1)
        assert (mapping.destination, mapping.residual_m, mapping.residual_s) == (isa.TO_RESIDUAL, 0, 1)
        assert (mapping.src, mapping.src_stride) == (norm.dst, norm.dst_stride)
        assert (plain.width, plain.entries, plain.plain, plain.signal) == (768, 768, True, True)
        assert (q.k, q.src, q.src_stride, q.wait) == (768, plain.dst, plain.dst_stride, 1)

    def test_layers_that_share_name_one_region_and_parameters_of_their_own(self, albert):
        compiled = plan(ModelShape.of_manifest(albert.manifest), BOARDS["zcu102"], artifact=albert)
        linears = {name: (owner, gemm) for gemm, name, owner in linear_layers(compiled)}
        for matrix in ("q", "k", "v", "o", "ffn1", "ffn2"):
            owners = [linears[f"layers.{i}.{matrix}"][0] for i in range(3)]
            assert owners == [f"layers.{i}.{matrix}" for i in (0, 0, 2)]
            assert f"layers.1.{matrix}.weight" not in compiled.regions
            assert len({linears[f"layers.{i}.{matrix}"][1].parameters for i in range(3)}) == 3
        assert linears["mapping"][0] == "mapping" and linears["pooler"][0] == "pooler"

    def test_factors_of_every_place_are_its_own(self, albert):
        compiled = plan(ModelShape.of_manifest(albert.manifest), BOARDS["zcu102"], artifact=albert)
        image = memory_image(compiled, albert)
        for i in range(3):
            at = compiled.regions[f"layers.{i}.ffn2.parameters"].offset
            words = image[at : at + 96 * 8].view(np.uint64)
            bias = (words & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32)
            np.testing.assert_array_equal(bias, albert.tensors[f"layers.{i}.ffn2.bias"])

    def test_parameters_of_the_mapping_say_how_channels_continue(self, albert):
        compiled = plan(ModelShape.of_manifest(albert.manifest), BOARDS["zcu102"], artifact=albert)
        entries = albert.tensors["mapping.entries"]
        at = compiled.regions["mapping"].offset
        words = memory_image(compiled, albert)[at : at + 8 * int(entries.sum())].view(np.uint64)
        expected = [int(j > 0) << 28 for count in entries for j in range(count)]
        assert words.tolist() == expected and sum(expected) > 0

    def test_the_mappings_entries_take_its_own_factor(self, albert):
        compiled = plan(ModelShape.of_manifest(albert.manifest), BOARDS["zcu102"], artifact=albert)
        plain = next(i for i in compiled.instructions if isinstance(i, isa.Norm) and i.plain)
        assert [plain.m, plain.s] == albert.tensors["mapping.operand"].tolist()


class TestTokens:
    """One answer a row: the classifier reads the last norm's entries."""

    def test_nothing_is_gathered_and_nothing_pooled(self):
        compiled = plan(shape_of(kind="token", labels=9), BOARDS["zcu102"])
        assert not any(isinstance(i, isa.Gather) for i in compiled.instructions)
        assert not any(name.startswith("pooler") for name in compiled.regions)
        norm, classifier, _ = compiled.instructions[-3:]
        assert isinstance(norm, isa.Norm) and norm.signal
        assert (classifier.wait, classifier.w8, classifier.result_block) == (1, True, False)
        assert (classifier.k, classifier.src, classifier.src_stride) == (norm.entries, norm.dst, norm.dst_stride)
        assert (classifier.destination, classifier.dst) == (isa.TO_IO, compiled.io.results)

    @pytest.mark.parametrize("labels", [1, 3])
    def test_logits_are_read_row_by_row(self, labels):
        io = plan(shape_of(kind="token", labels=labels), BOARDS["zcu102"]).io
        data = np.zeros(io.bytes, np.uint8)
        words = np.arange(2 * labels * 32, dtype=np.int16).reshape(2, labels, 32)  # [row block][label][lane]
        data[io.results :][: words.nbytes] = words.reshape(-1).view(np.uint8)
        logits = io.token_logits(data, row_blocks=2)
        assert logits.shape == (64, labels)
        for row, label in ((0, 0), (31, labels - 1), (33, 0), (63, labels - 1)):
            assert logits[row, label] == words[row // 32, label, row % 32]
        assert not np.shares_memory(logits, data)


class TestRefusals:
    LAYER = LayerShape(384, 1536, 384)
    TOO_MUCH = (
        (dict(hidden=1056, heads=33, head_width=32), "architecture.hidden is 1056, the engine takes 1 to 1024"),
        (dict(heads=33), "architecture.heads is 33, the engine takes 1 to 32"),
        (dict(head_width=48, heads=8), "architecture.head_width is 48, the engine takes 32 or 64"),
        (dict(heads=11), "architecture.heads x head_width is not architecture.hidden = 384"),
        (dict(labels=1025), "task.labels is 1025, the engine takes 1 to 1024"),
        (dict(embedding_norm=1281), "entries.embedding_norm is 1281, the engine takes 1 to 1280"),
        (dict(embedding_norm=383), "entries.embedding_norm is 383, less than architecture.embedding = 384"),
        (dict(embedding=1025, mapping=384), "architecture.embedding is 1025, the engine takes 1 to 1024"),
        (dict(embedding=128), "architecture.embedding is 128, and no mapping leads to 384"),
        (dict(embedding=40, mapping=384, word_bits=4),
         "architecture.embedding is 40, 4-bit words take a multiple of 32"),
        (dict(mapping=383), "entries.mapping is 383, less than architecture.hidden = 384"),
        (dict(mapping=1281), "entries.mapping is 1281, the engine takes 1 to 1280"),
        (dict(weights=(0,)), "architecture.weights names 1 layers, there are 6"),
        (dict(layers=(LAYER,) * 2, weights=(0, 2)),
         "architecture.weights[1] is 2, no layer up to 1 with matrices of its own"),
        (dict(layers=(LAYER,) * 3, weights=(0, 0, 1)),
         "architecture.weights[2] is 1, no layer up to 2 with matrices of its own"),
        (dict(layers=(LAYER, LayerShape(384, 9, 384)), weights=(0, 0)),
         "architecture.weights[1] is 0, of entries (384, 384, 1536), not (384, 384, 9)"),
        (dict(layers=(LayerShape(384, 9, 385), LayerShape(384, 9, 384)), weights=(0, 0)),
         "architecture.weights[1] is 0, of entries (384, 384, 9), not (385, 384, 9)"),
        (dict(layers=(LayerShape(2000, 1, 384),)), "entries.attention_norm[0] is 2000, the engine takes 1 to 1280"),
        (dict(layers=(LAYER, LayerShape(384, 1, 1281))), "entries.ffn_norm[1] is 1281, the engine takes 1 to 1280"),
        (dict(layers=(LAYER, LayerShape(384, 4609, 384))), "entries.ffn[1] is 4609, the engine takes 1 to 4608"),
    )  # fmt: skip

    @pytest.mark.parametrize(("changes", "message"), TOO_MUCH, ids=[m[:40] for _, m in TOO_MUCH])
    def test_named_by_field(self, changes, message):
        with pytest.raises(CompileError) as caught:
            plan(shape_of(**changes), BOARDS["zcu102"])
        assert str(caught.value) == message

    def test_the_largest_model_fits_the_activation_memory(self):
        largest = shape_of(hidden=1024, heads=32, embedding_norm=1280, layers=(LayerShape(1280, 4608, 1280),))
        plan(largest, BOARDS["zcu102"], trace=True)

    def test_adaptive_rows_longer_than_the_buffer(self):
        wide = shape_of(hidden=1024, heads=32, embedding_norm=1024, layers=(LayerShape(1024, 9, 1024),))
        with pytest.raises(CompileError) as caught:
            plan(replace(wide, word_format="adaptivfloat"), BOARDS["zcu102"])
        assert str(caught.value) == (
            "embeddings.word.q has a row of 1024 codes, the engine takes 896 at width 1024; "
            "remedy: quantize again with a word_density of 0.875"
        )

    def test_unknown_architecture(self):
        with pytest.raises(ValueError, match="'bert-huge' is none of bert-base"):
            ModelShape.named("bert-huge")


class TestAdapters:
    """A task's adapters, and the area of the image that is the task's (docs/program.md)."""

    @pytest.fixture(scope="class")
    def task(self, tmp_path_factory):
        """Two layers that share matrices, norms and adapters, and a third one of its own."""
        folder, adapters = tmp_path_factory.mktemp("task"), {"width": 40, "activation": "relu", "shared": True}
        sizes = dict(layers=3, family="albert", embedding=40, weights=[0, 0, 2], labels=3, adapters=adapters)
        return read_artifact(make_random_artifact(folder, **sizes))

    def test_a_layer_instruction_by_instruction(self):
        shape = replace(ModelShape.named("albert-base"), adapters=Adapters(32, (0,) * 12))
        compiled = plan(shape, BOARDS["zcu102"])
        kinds = (isa.Attention, isa.Gemm, isa.Norm, isa.Table)
        program = [i for i in compiled.instructions if isinstance(i, kinds)]
        at = next(n for n, i in enumerate(program) if isinstance(i, isa.Attention))
        o, table, down, up, norm, gelu, _, ffn2, table2, down2, up2, norm2 = program[at + 1 : at + 13]
        for branch, own, narrow, wide, after in ((o, table, down, up, norm), (ffn2, table2, down2, up2, norm2)):
            assert (branch.branch, branch.signal, branch.destination) == (True, True, isa.TO_RESIDUAL)
            assert own.table == narrow.table == isa.TABLE_ACTIVATION
            assert (narrow.src, narrow.src_stride) == (branch.dst, branch.dst_stride)
            assert (narrow.k, narrow.n, narrow.w8, narrow.wait, narrow.signal) == (768, 32, True, 1, True)
            assert (wide.src, wide.src_stride, wide.k, wide.n) == (narrow.dst, narrow.dst_stride, 32, 768)
            assert (wide.w8, wide.wait, wide.destination) == (True, 1, isa.TO_RESIDUAL)
            assert (wide.residual_m, wide.residual_s) == (128, 7) and isinstance(after, isa.Norm)
        assert gelu.table == isa.TABLE_ACTIVATION and gelu.image not in (table.image, table2.image)

    def test_layers_share_what_they_share(self, task):
        compiled = plan(ModelShape.of_manifest(task.manifest), BOARDS["zcu102"], artifact=task)
        linears = [(name, gemm.weights, gemm.parameters) for gemm, name, _ in linear_layers(compiled)]
        for place in ("attention_adapter", "ffn_adapter"):
            for part in ("down", "up"):
                found = [of for of in linears if of[0].endswith(f"{place}.{part}")]
                assert [name for name, *_ in found] == [f"layers.{i}.{place}.{part}" for i in (0, 0, 2)]
                assert found[0] == found[1] != found[2]
        norms = [i.image for i in compiled.instructions if isinstance(i, isa.Norm) and not i.plain]
        assert norms[1:3] == norms[3:5] != norms[5:7]

    @BOTH
    def test_another_task_changes_its_area_alone(self, task, board):
        """All that is not the task's lies in front, and every byte that a task may fill is in a piece."""
        compiled = plan(ModelShape.of_manifest(task.manifest), board, artifact=task)
        own = (
            "adapter.",
            "classifier",
            "attention_norm.gamma",
            "attention_norm.beta",
            "ffn_norm.gamma",
            "ffn_norm.beta",
        )
        rng, tensors = np.random.default_rng(0), dict(task.tensors)
        for name, value in task.tensors.items():
            if any(part in name for part in own) and value.dtype == np.int8:
                tensors[name] = rng.integers(-20, 20, value.shape).astype(np.int8)
        before, after = (memory_image(compiled, SimpleNamespace(tensors=t)) for t in (task.tensors, tensors))
        changed = np.flatnonzero(before != after)
        area = compiled.task
        assert len(changed) and changed.min() >= area.offset and area.offset + area.bytes == compiled.image_bytes
        covered = np.zeros(compiled.image_bytes, bool)
        for piece in area.pieces:
            assert not covered[piece.offset : piece.offset + piece.bytes].any()
            covered[piece.offset : piece.offset + piece.bytes] = True
        assert covered[changed].all() and not after[area.offset :][~covered[area.offset :]].any()
        assert area.moved == covered.sum() < area.bytes  # columns that there are none of stay
        assert all(a.offset + a.bytes < b.offset for a, b in pairwise(area.pieces))  # no write is in two

    def test_more_labels_do_not_move_the_backbone(self):
        shape = replace(ModelShape.named("albert-base"), adapters=Adapters(32, (0,) * 12))
        two, hundred = (plan(replace(shape, labels=labels), BOARDS["zcu102"]) for labels in (2, 100))
        assert two.task.offset == hundred.task.offset and two.task.bytes < hundred.task.bytes
        front = [name for name, region in two.regions.items() if region.offset < two.task.offset]
        assert {name: two.regions[name] for name in front} == {name: hundred.regions[name] for name in front}

    def test_a_task_is_less_than_two_percent_of_albert_base(self):
        for board in BOARDS.values():
            compiled = plan(replace(ModelShape.named("albert-base"), adapters=Adapters(32, (0,) * 12)), board)
            assert compiled.task.moved < 0.02 * compiled.image_bytes

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"adapters": Adapters(513, (0,) * 6)}, r"adapters\.width is 513, the engine takes 1 to 512"),
            ({"adapters": Adapters(8, (0,) * 5)}, r"adapters\.owners is \[0, 0, 0, 0, 0\]"),
            ({"adapters": Adapters(8, (0, 0, 1, 0, 0, 0))}, r"adapters\.owners is"),
            ({"adapters": Adapters(8, (0,) * 6), "kind": "token"}, r"adapters: kind token"),
        ],
    )  # fmt: skip
    def test_named_by_field(self, changes, message):
        with pytest.raises(CompileError, match=message):
            plan(shape_of(**changes), BOARDS["zcu102"])

    def test_the_factor_of_a_branch(self, task):
        compiled = plan(ModelShape.of_manifest(task.manifest), BOARDS["zcu102"], artifact=task)
        image = memory_image(compiled, task)
        for i in range(3):
            for branch in ("o", "ffn2"):
                name = f"layers.{i}.{branch}"
                words = image[compiled.regions[f"{name}.parameters"].offset :][: 8 * 96].view(np.uint64)
                for part, shift, bits in (("m", 46, 255), ("s", 54, 31)):
                    found = words >> np.uint64(shift) & np.uint64(bits)
                    np.testing.assert_array_equal(found, task.tensors[f"{name}.adapter_{part}"])


class TestImage:
    """Single values looked up where the document puts them."""

    @BOTH
    def test_w4_weights(self, artifact, packed, board):
        compiled, image = packed[board.name]
        rng = np.random.default_rng(0)
        ports = board.columns // 32
        kinds = set()
        for gemm, name, _ in linear_layers(compiled):
            if gemm.w8:
                continue
            region = compiled.regions[f"{name}.weight"]
            stored = image[region.offset : region.offset + region.bytes]
            nibbles = unpack_nibbles(name, artifact.tensors[f"{name}.weight"], gemm.k)
            kinds.add(compiled.matrices[name].compressed)
            assert gemm.compressed == compiled.matrices[name].compressed
            if gemm.compressed:  # a tile of few channels: masks pay
                found = decompress(stored, gemm.n, gemm.k, board.columns)
                np.testing.assert_array_equal(found, nibbles)
                assert gemm.stored * ports * 16 == region.bytes - 16 * -(-gemm.n // board.columns)
                continue
            for n, k in zip(rng.integers(0, gemm.n, 40), rng.integers(0, gemm.k, 40), strict=True):
                tile, column = divmod(int(n), board.columns)
                pair, high = divmod(column, 2)
                port, byte = divmod(pair, 16)
                beat = (tile * ports + port) * gemm.k + int(k)
                assert stored[16 * beat + byte] >> 4 * high & 15 == nibbles[n, k], (name, n, k)
        assert kinds == {False} or board.name == "zcu111"

    @BOTH
    def test_w8_weights(self, artifact, packed, board):
        compiled, image = packed[board.name]
        for gemm, name, _ in linear_layers(compiled):
            if not gemm.w8:
                continue
            weight = artifact.tensors[f"{name}.weight"]
            for n, k in ((0, 0), (gemm.n - 1, gemm.k - 1), (gemm.n // 2, 17)):
                tile, byte = divmod(n, board.columns // 2)
                port, byte = divmod(byte, 16)
                beat = (tile * (board.columns // 32) + port) * gemm.k + k
                found = image[compiled.regions[f"{name}.weight"].offset + 16 * beat + byte]
                assert found.view(np.int8) == weight[n, k], (name, n, k)

    def test_absent_channels_are_zero(self, artifact, packed):
        compiled, image = packed["zcu102"]
        region = compiled.regions["classifier.weight"]  # 3 channels of a tile of 64
        bytes_ = image[region.offset : region.offset + region.bytes].reshape(4, -1, 16)  # [port, K, byte]
        assert bytes_[0, :, :3].any()
        assert not bytes_[0, :, 3:].any() and not bytes_[1:].any()

    def test_linear_parameters(self, artifact, packed):
        compiled, image = packed["zcu102"]
        at = compiled.regions["layers.0.ffn1.parameters"].offset
        t = {name: artifact.tensors[f"layers.0.ffn1.{name}"] for name in ("bias", "m", "s", "table")}
        words = image[at : at + 8 * len(t["bias"])].view(np.uint64)
        for n in (0, 1, 127, 128, len(words) - 1):
            word = int(words[n])
            assert word & 0xFFFFFFFF == int(t["bias"][n]) & 0xFFFFFFFF
            assert [word >> 32 & 255, word >> 40 & 31, word >> 45] == [t["m"][n], t["s"][n], t["table"][n]]
        assert set(t["table"]) == {0, 1}

    def test_pooler_goes_through_its_table(self, artifact, packed):
        compiled, image = packed["zcu102"]
        at = compiled.regions["pooler.parameters"].offset
        assert all(image[at : at + 96 * 8].view(np.uint64) >> np.uint64(45) == 1)

    def test_attention_parameters(self, artifact, packed):
        compiled, image = packed["zcu102"]
        at = compiled.regions["layers.1.attention"].offset
        words = image[at : at + 3 * 34 * 8].view(np.uint64).reshape(3, 34)  # 1 + 32 words, padded to 34
        t = {n: artifact.tensors[f"layers.1.attention.{n}"] for n in ("score_m", "score_s", "context_m", "context_s")}
        for head in range(3):
            first, word = int(words[head, 0]), int(words[head, 1 + 7])
            assert [first >> 32 & 255, first >> 40] == [t["score_m"][head], t["score_s"][head]]
            channel = 32 * head + 7
            assert [word >> 32 & 255, word >> 40] == [t["context_m"][channel], t["context_s"][channel]]
        assert not words[:, 33].any()

    def test_norm_parameters(self, artifact, packed):
        compiled, image = packed["zcu102"]
        t = {
            name: artifact.tensors[f"embeddings.norm.{name}"] for name in ("gamma", "gamma_shift", "beta", "beta_shift")
        }
        entries = artifact.tensors["embeddings.norm.entries"]
        at = compiled.regions["embeddings.norm"].offset
        words = [int(w) for w in image[at : at + 8 * int(entries.sum())].view(np.uint64)]
        assert entries.max() > 1
        n = 0
        for channel, count in enumerate(entries):
            for j in range(count):
                word = words[n]
                assert word & 255 == int(t["gamma"][channel]) & 255
                assert word >> 8 & 31 == t["gamma_shift"][channel]
                assert word >> 16 & 255 == int(t["beta"][channel]) & 255
                assert word >> 24 & 15 == t["beta_shift"][channel]
                assert word >> 28 == (j > 0)
                n += 1

    def test_embedding_rows(self, artifact, packed):
        compiled, image = packed["zcu102"]
        q, m, s = (artifact.tensors[f"embeddings.word.{part}"] for part in "qms")
        at = compiled.regions["embeddings.word"].offset + 7 * (96 + 16)
        np.testing.assert_array_equal(image[at : at + 96].view(np.int8), q[7])
        assert image[at + 96 : at + 112].tolist() == [m[7], s[7], *[0] * 14]

    def test_four_bit_rows_are_padded_to_a_beat(self):
        rows = images.pack_embedding(np.arange(40, dtype=np.uint8).reshape(2, 20), np.array([1, 2]), np.array([3, 4]))
        assert rows.shape == (2, 48)
        assert rows[1].tolist() == [*range(20, 40), *[0] * 12, 2, 4, *[0] * 14]

    def test_adaptive_rows(self, tmp_path):
        """Every row bit by bit, and as long as the longest."""
        folder = make_random_artifact(tmp_path / "a", hidden=160, heads=5, ffn=40, word_density=0.4)
        artifact = read_artifact(folder)
        compiled = plan(ModelShape.of_manifest(artifact.manifest), BOARDS["zcu102"], artifact=artifact)
        codes, (m, s) = (artifact.tensors[f"embeddings.word.{part}"] for part in ("q", "factor"))
        expected = packed_rows(codes, m, s)
        longest = max(np.count_nonzero(row) for row in codes)
        assert expected.shape[1] == 16 * (2 + -(-longest // 16) + 1) and not codes[-1].any()
        at = compiled.regions["embeddings.word"]
        image = memory_image(compiled, artifact)[at.offset : at.offset + at.bytes]
        np.testing.assert_array_equal(image.reshape(expected.shape), expected)
        embed = next(i for i in compiled.instructions if isinstance(i, isa.Embed))
        assert (embed.adaptive, embed.four_bit, embed.row_bytes) == (True, False, expected.shape[1])

    def test_tables(self, artifact, packed):
        compiled, image = packed["zcu102"]
        at = compiled.regions["pooler.tanh"].offset
        np.testing.assert_array_equal(image[at : at + 256].view(np.int8), artifact.tensors["pooler.tanh"])


class TestPackingRefuses:
    def packs(self, artifact, **changes):
        tensors = dict(artifact.tensors) | changes
        changed = SimpleNamespace(manifest=artifact.manifest, tensors=tensors)
        compiled = plan(ModelShape.of_manifest(artifact.manifest), BOARDS["zcu102"], artifact=changed)
        return memory_image(compiled, changed)

    def test_nibble_8(self, artifact):
        weight = artifact.tensors["layers.1.o.weight"].copy()
        weight[5, 3] = 0x80 | weight[5, 3] & 15
        with pytest.raises(PackError, match=r"layers\.1\.o\.weight: nibble 0x8 at channel 5, entry 7"):
            self.packs(artifact, **{"layers.1.o.weight": weight})

    def test_bias_beyond_the_accumulator(self, artifact):
        bias = artifact.tensors["layers.0.q.bias"].copy()
        bias[3] = 1 << 26
        with pytest.raises(PackError, match=r"layers\.0\.q: channel 3 could reach \d+ in its accumulator"):
            self.packs(artifact, **{"layers.0.q.bias": bias})

    def test_the_bias_of_a_place_that_shares_its_matrix(self, albert):
        bias = albert.tensors["layers.1.q.bias"].copy()
        bias[3] = 1 << 26
        with pytest.raises(PackError, match=r"layers\.1\.q: channel 3 could reach \d+ in its accumulator"):
            self.packs(albert, **{"layers.1.q.bias": bias})

    def test_low_field_of_w4_even_columns(self):
        k = 4719  # 127 * 7 * 4719 > 2^22 > 127 * 7 * 4718
        nibbles = np.zeros((2, k), np.uint8)
        nibbles[1] = 9  # -7 in the odd column: no bound
        images.check_w4("x", nibbles, np.zeros(2, np.int64), 127)
        nibbles[0, 1:] = 7
        images.check_w4("x", nibbles, np.zeros(2, np.int64), 127)
        nibbles[0, 0] = 7
        with pytest.raises(PackError, match="x: channel 0 could reach 4195191 in its low field"):
            images.check_w4("x", nibbles, np.zeros(2, np.int64), 127)

    def test_documented_bounds_are_safe(self):
        """Q4: 4681 int8 and 2349 uint8 steps; Q5: 1096 uint8 and 2201 int8 steps."""
        for amax, k in ((127, 4681), (255, 2349)):
            images.check_w4("x", np.full((1, k), 7, np.uint8), np.zeros(1, np.int64), amax)
        for amax, k in ((255, 1096), (127, 2201)):
            images.check_w8("x", np.full((1, k), 15, np.int8), np.zeros(1, np.int64), amax)

    def test_low_field_of_w8(self):
        with pytest.raises(PackError, match="low field"):
            images.check_w8("x", np.full((1, 2202), -1, np.int8), np.zeros(1, np.int64), 127)

    def test_unsigned_operands_count_255(self, artifact):
        """ffn2 reads uint8: its packing check must use 255."""
        compiled = plan(ModelShape.of_manifest(artifact.manifest), BOARDS["zcu102"], artifact=artifact)
        unsigned = {name for gemm, name, _ in linear_layers(compiled) if gemm.operand_unsigned}
        assert unsigned == {"layers.0.ffn2", "layers.1.ffn2"}
        bias = artifact.tensors["layers.0.ffn2.bias"].copy()
        nibbles = unpack_nibbles("w", artifact.tensors["layers.0.ffn2.weight"], 208)
        magnitude = int(np.where(nibbles[0] > 8, 16 - nibbles[0], nibbles[0]).sum())
        bias[0] = (1 << 26) - 255 * magnitude
        with pytest.raises(PackError, match=rf"layers\.0\.ffn2: channel 0 could reach {1 << 26}"):
            self.packs(artifact, **{"layers.0.ffn2.bias": bias})
        bias[0] -= 1
        self.packs(artifact, **{"layers.0.ffn2.bias": bias})
