# SPDX-License-Identifier: Apache-2.0
"""Test vectors: the committed ones are made by the script, by the golden model, and the emulated engine agrees."""

from dataclasses import replace

import make_vectors
import numpy as np
import pytest
from pass_runner import table_for
from random_artifact import make_random_artifact
from zynqbert.fpga import vectors as files
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.program import encode
from zynqbert.fpga.simulator import Simulator
from zynqbert.host.compiler import plan
from zynqbert.host.layouts import Trace
from zynqbert.host.model_shape import ModelShape
from zynqbert.host.packing import NO_ROW, Pass
from zynqbert.host.vectors import lay, write_vectors
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.golden_model import GoldenModel

COMMITTED = sorted(make_vectors.FOLDER.iterdir())


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    return {name: make_vectors.artifact(name, folder / name) for name in make_vectors.MODELS}


def test_committed_files_are_what_the_script_makes(tmp_path):
    made = make_vectors.make(tmp_path / "vectors")
    assert {path.name: path.read_bytes() for path in made} == {path.name: path.read_bytes() for path in COMMITTED}
    assert sum(path.stat().st_size for path in COMMITTED) < 750_000


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
@pytest.mark.parametrize("name", ["bert", "albert-tokens", "adapters", "blocks"])
def test_every_buffer_is_the_goldens(artifacts, name, board):
    vectors = files.read(make_vectors.FOLDER / f"{name}-{board.columns}.bin")
    model = load_artifact(artifacts[name])
    compiled = plan(ModelShape.of_manifest(model.manifest), board, artifact=model, trace=True)
    assert vectors.initial[0].data == encode((*compiled.keeping[:-1], *compiled.instructions))
    assert len(compiled.keeping) > 1
    rows = make_vectors.rows(name)
    golden: dict[str, np.ndarray] = {}
    columns = (rows.word, rows.position, rows.type, rows.begin, rows.end)
    GoldenModel(artifacts[name]).forward(*columns, list(rows.results), golden)
    io = vectors.after()[vectors.io :]
    for buffer, trace in compiled.io.traces.items():
        found = trace.read(io, rows.row_blocks)
        found = found[: len(rows.results)] if trace.result_block else found
        np.testing.assert_array_equal(found, golden[buffer], err_msg=buffer)
    assert set(compiled.io.traces) == {buffer for buffer in golden if not buffer.endswith(".operand")}
    assert len(vectors.expected) == len(compiled.io.traces)


@pytest.mark.parametrize("board", BOARDS.values(), ids=lambda board: board.name)
def test_a_pass_that_is_left_early(artifacts, board):
    """The first sentence leaves behind layer 1 with its row block; the record, and the answers of both."""
    vectors = files.read(make_vectors.FOLDER / f"ramps-{board.columns}.bin")
    model, rows = load_artifact(artifacts["ramps"]), make_vectors.rows("ramps")
    way = make_vectors.leaving("ramps", artifacts["ramps"])
    compiled = plan(ModelShape.of_manifest(model.manifest), board, artifact=model, exits=way)
    assert vectors.initial[0].data == encode((*compiled.keeping[:-1], *compiled.instructions))
    columns = (rows.word, rows.position, rows.type, rows.begin, rows.end)
    point = {"threshold": 0, "foretold": list(way.table), "clock": make_vectors.OUTPUTS}
    golden = GoldenModel(artifacts["ramps"]).forward(*columns, list(rows.results), exits=point)
    io = vectors.after()[vectors.io :]
    record = compiled.io.record(io)
    assert golden.layer.tolist() == [1, 2] == record.layer[:2].tolist()
    np.testing.assert_array_equal(record.entropy[:2], golden.entropy)
    np.testing.assert_array_equal(record.first_entropy[:2], golden.first)
    assert (record.output == golden.clock).all() and golden.clock == make_vectors.OUTPUTS[2]
    for lane, layer in enumerate(golden.layer):
        np.testing.assert_array_equal(compiled.io.ramp_logits(io, int(layer), lane), golden.logits[lane])
    assert vectors.verdicts == (files.Verdict(0b10, golden.clock), files.Verdict(0))


def test_sentences_that_share_a_row_block_leave_together(artifacts, tmp_path):
    way = make_vectors.leaving("ramps", artifacts["ramps"])
    both = make_vectors.rows("ramps")
    shared = Pass(
        *(getattr(both, name)[:32] for name in ("word", "position", "type")),
        *np.array([[0] * 20 + [20] * 12, [20] * 20 + [32] * 12]),
        (0, 20),
    )
    model = GoldenModel(artifacts["ramps"])
    table = table_for(
        model,
        list(zip(*(getattr(shared, n) for n in ("word", "position", "type", "begin", "end")), strict=True)),
        [0, 20],
        [1, 2],
    )
    assert table is not None
    with pytest.raises(ValueError, match="leave at different layers share a row block"):
        write_vectors(
            artifacts["ramps"], BOARDS["zcu102"], shared, tmp_path / "x.bin", replace(way, table=tuple(table))
        )


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_engine_leaves_the_expected_memory(path):
    """All of it: absent lanes of the result block, and every byte that a pass must not write."""
    v = files.read(path)
    memory = v.before()
    status = Simulator("native", v.columns).run(
        [(0, memory)], v.program, v.image, v.io, v.instructions, v.row_blocks
    )  # fmt: skip
    assert status.name == "ok"
    np.testing.assert_array_equal(memory, v.after())
    assert (memory != v.before()).any()


def test_the_passes_have_what_they_are_there_for():
    sequence, token = (make_vectors.rows(name) for name in ("bert", "albert-tokens"))
    assert (sequence.row_blocks, len(sequence.results)) == (2, 3)
    assert NO_ROW in sequence.header()[:32]  # absent lanes
    for rows in (sequence, token):
        assert set(rows.type[rows.end > 0]) == {0, 1}
        assert (rows.end == 0).any()  # padding


@pytest.mark.parametrize("blocks", [1, 4])
@pytest.mark.parametrize(
    ("trace", "shape"),
    [
        (Trace("x", 0, "int16", 5), (-1, 5)),
        (Trace("u", 0, "uint8", 3), (-1, 3)),
        (Trace("q", 0, "int8", 7, result_block=True), (32, 7)),
        (Trace("p", 0, "uint8", 0, heads=3), (3, -1, -1)),
    ],
    ids=lambda value: value.name if isinstance(value, Trace) else "",
)
def test_laid_out_as_the_engine_does(trace, shape, blocks):
    limits = np.iinfo(trace.dtype)
    sizes = [32 * blocks if n == -1 else n for n in shape]
    values = np.random.default_rng(blocks).integers(limits.min, limits.max + 1, sizes)
    data = lay(trace, values, blocks)
    assert data.dtype == np.uint8 and data.size == trace.bytes(blocks)
    np.testing.assert_array_equal(trace.read(data, blocks), values)


def test_one_word_by_hand():
    """A word is one channel of 32 rows; int16 rows are two bytes, the low one first."""
    values = np.arange(64).reshape(32, 2) - 1
    data = lay(Trace("x", 0, "int16", 2), values, 1)
    assert data[:4].tolist() == [0xFF, 0xFF, 1, 0]  # rows 0 and 1 of channel 0
    assert data[64:66].tolist() == [0, 0]  # row 0 of channel 1


@pytest.mark.parametrize(
    ("trace", "values", "message"),
    [
        (Trace("q", 0, "int8", 2), np.full((32, 2), 128), "^q: a value is no int8"),
        (Trace("u", 0, "uint8", 2), np.full((32, 2), -1), "^u: a value is no uint8"),
        (Trace("q", 0, "int8", 2), np.zeros((64, 2), int), "^q: 128 bytes of .*, not 64"),
        (Trace("q", 0, "int8", 2), np.zeros((32, 3), int), "^q: 96 bytes of .*, not 64"),
    ],
)
def test_a_buffer_that_does_not_fit(trace, values, message):
    with pytest.raises(ValueError, match=message):
        lay(trace, values, 1)


def test_a_model_that_is_too_large(tmp_path):
    folder = make_random_artifact(tmp_path / "large", layers=2, vocab=50)
    with pytest.raises(ValueError, match=rf"^{folder}: .* take \d+ bytes, .* has 262144; remedy: a smaller model"):
        write_vectors(folder, BOARDS["zcu102"], make_vectors.rows("bert"), tmp_path / "x.bin")
    assert not (tmp_path / "x.bin").exists()


def test_no_artifact(tmp_path):
    with pytest.raises(ValueError, match="there is none"):
        write_vectors(tmp_path / "none", BOARDS["zcu102"], make_vectors.rows("bert"), tmp_path / "x.bin")
