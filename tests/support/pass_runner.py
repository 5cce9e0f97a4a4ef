# SPDX-License-Identifier: Apache-2.0
"""Run a pass of an artifact on a simulated engine, without driver or device, and read its traces."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from random_artifact import make_random_artifact
from safetensors.numpy import load_file
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.simulator import Simulator
from zynqbert.host.compiler import plan
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.host.memory_image import memory_image
from zynqbert.host.model_shape import ModelShape
from zynqbert.quant import golden
from zynqbert.quant.artifact_manifest import with_defaults
from zynqbert.quant.golden_model import GoldenModel

PROGRAM, IMAGE, IO = 0x1000_0000, 0x2000_0000, 0x7000_0000
FILL = 0xA5


def read_artifact(folder: Path) -> SimpleNamespace:
    """Manifest, of any minor version, and tensors, unchecked."""
    manifest = with_defaults(json.loads((folder / "manifest.json").read_text()))
    return SimpleNamespace(manifest=manifest, tensors=load_file(folder / "model.safetensors"))


class PassRunner:
    def __init__(
        self,
        folder: Path,
        build: str,
        board: str = "zcu102",
        *,
        trace: bool = True,
        sanitize: bool = False,
        resident: bool = True,
        threads: int | None = None,
        exits: ExitPlan | None = None,
    ):
        artifact = read_artifact(folder)
        shape = ModelShape.of_manifest(artifact.manifest)
        self.plan = plan(shape, BOARDS[board], artifact=artifact, trace=trace, resident=resident, exits=exits)
        self.image = memory_image(self.plan, artifact)
        self.program = np.frombuffer(self.plan.program, dtype=np.uint8).copy()
        self.simulator = Simulator(build, BOARDS[board].columns, sanitize=sanitize, threads=threads)
        self.io = np.zeros(self.plan.io.bytes, dtype=np.uint8)
        self.clock_table: np.ndarray | None = None  # written to the io buffer before each pass
        keeping = np.frombuffer(self.plan.keeping_program, dtype=np.uint8).copy()
        memory = [(PROGRAM, keeping), (IMAGE, self.image), (IO, self.io)]
        status = self.simulator.run(memory, PROGRAM, IMAGE, IO, len(self.plan.keeping), 1)
        assert status.name == "ok", status

    def header(self, rows: list[tuple[int, int, int, int, int]], results: list[int]) -> int:
        """Write the row block header: rows of (token, position, type, begin, end); returns the row blocks."""
        blocks = -(-len(rows) // 32)
        head = np.full(32, 255, dtype=np.uint8)
        head[: len(results)] = results
        table = np.zeros(
            32 * blocks, dtype=[("t", "<u4"), ("p", "<u2"), ("y", "<u2"), ("b", "<u2"), ("e", "<u2"), ("z", "<u4")]
        )
        for i, row in enumerate(rows):
            table[i] = (*row, 0)
        data = np.concatenate([head, table.view(np.uint8)])
        self.io[: data.size] = data
        return blocks

    def run(self, rows, results, *, seed: int = 0):
        """Returns (status, traces by name, padded, logits int64 [results, labels], if token [rows, labels]).

        What the engine does not write is FILL.
        """
        self.io[:] = FILL
        blocks = self.header(rows, results)
        if self.clock_table is not None:
            at = self.plan.io.clock_table
            self.io[at : at + 256] = self.clock_table
        memory = [(PROGRAM, self.program), (IMAGE, self.image), (IO, self.io)]
        n = len(self.plan.instructions)
        status = self.simulator.run(memory, PROGRAM, IMAGE, IO, n, blocks, seed)
        traces = {name: t.read(self.io, blocks).astype(np.int64) for name, t in self.plan.io.traces.items()}
        if self.plan.shape.kind == "token":
            logits = self.plan.io.token_logits(self.io, blocks)
        else:
            logits = np.stack([self.plan.io.logits(self.io, lane) for lane in range(len(results))])
        return status, traces, logits.astype(np.int64)


def sentence_rows(ids, first: int = 0, one: int = 0):
    """Rows of one sentence, its last `one` of type 1, that begins at row `first` of the pass."""
    n = len(ids)
    return [(int(t), i, int(i >= n - one), first, first + n) for i, t in enumerate(ids)]


def pad(rows, blocks: int):
    return rows + [(0, 0, 0, 0, 0)] * (32 * blocks - len(rows))


def compare(folder, runner, rows, results, seed=0):
    """Run a pass on the engine and on the golden model; every traced buffer and the logits must be equal."""
    blocks = -(-len(rows) // 32)
    padded = pad(rows, blocks)
    expected: dict[str, np.ndarray] = {}
    logits = GoldenModel(folder).forward(*zip(*padded, strict=True), results, expected)
    status, traces, got = runner.run(rows, results, seed=seed)
    assert status.name == "ok", status
    for name, value in traces.items():
        reference = expected[name]
        value = value[: reference.shape[0]] if name in ("gathered", "pooler", "logits") else value
        if name.endswith("numerators"):
            same_numerators(name, value, reference)
        else:
            np.testing.assert_array_equal(value, reference, err_msg=name)
    np.testing.assert_array_equal(got, logits)
    assert set(traces) >= set(expected) - {n for n in expected if n.endswith(".operand")}


def same_numerators(name, value, reference):
    """Keys too far away have no place in the trace, or are 0 there."""
    left_out = (value == FILL) & (reference == 0)
    np.testing.assert_array_equal(np.where(left_out, 0, value), reference, err_msg=name)


def table_for(model: GoldenModel, rows, results, wanted: list[int]) -> list[int] | None:
    """An exit table by which sentence n of a pass leaves at layer wanted[n]; None where two share a row of it."""
    blocks = -(-len(rows) // 32)
    m, shift = model.exits["entropy"], model.exits["row_shift"]
    trace: dict[str, np.ndarray] = {}
    nobody = {"threshold": 0, "foretold": None}
    model.forward(*zip(*pad(rows, blocks), strict=True), results, trace, exits=nobody)
    at = np.minimum(golden.entropy_ref(trace["exits.0.logits"], *m) >> shift, 255)
    table = np.zeros(256, dtype=int)
    for row, layer in zip(at, wanted, strict=True):
        if table[row] not in (0, layer):
            return None
        table[row] = layer
    return table.tolist()


def compare_leaving(folder, runner, rows, results, clock_table=None, seed=0):
    """Run a pass whose sentences leave early on the engine and on the golden model.

    The record, the answers and every traced row of a sentence that is still there must be equal, and nothing may be
    written of a row block that is dead. Returns the golden answers and the verdicts.
    """
    blocks, way = -(-len(rows) // 32), runner.plan.exits
    padded = pad(rows, blocks)
    expected: dict[str, np.ndarray] = {}
    point = {"threshold": way.threshold, "foretold": None if way.table is None else list(way.table)}
    point["clock"] = clock_table if way.clock else None
    model = GoldenModel(folder)
    answers = model.forward(*zip(*padded, strict=True), results, expected, exits=point)
    runner.clock_table = None if clock_table is None or not way.clock else np.array(clock_table, dtype=np.uint8)
    status, traces, _ = runner.run(rows, results, seed=seed)
    assert status.name == "ok", status
    io, layout, count = runner.io, runner.plan.io, len(results)
    record = layout.record(io)
    for name in ("layer", "entropy", "foretold"):
        np.testing.assert_array_equal(getattr(record, name)[:count], getattr(answers, name), err_msg=name)
        assert not getattr(record, name)[count:].any()
    np.testing.assert_array_equal(record.first_entropy[:count], answers.first)
    assert not record.first_entropy[count:].any() and (record.output == answers.clock).all()
    assert (-1 if status.output is None else status.output) == answers.clock
    got = [layout.ramp_logits(io, int(layer), lane) for lane, layer in enumerate(record.layer[:count])]
    np.testing.assert_array_equal(np.stack(got), answers.logits)

    begins, ends = (np.array([row[at] for row in padded]) for at in (3, 4))
    reached = int(answers.layer.max())
    verdicts = []
    for i in range(model.layers):
        layer = f"layers.{i}"
        there = answers.layer > i  # sentences that run through layer i
        live = np.repeat(expected[f"{layer}.live"], 32) if i < reached else np.zeros(len(padded), dtype=bool)
        if 0 < i <= reached:
            bits = expected[f"{layer}.live"] if i < reached else []
            verdicts.append(sum(1 << rb for rb, alive in enumerate(bits) if alive))
        present = begins == ends  # padding
        for first, stays in zip(results, there, strict=True):
            present[begins[first] : ends[first]] = stays
        present &= live
        for name, value in traces.items():
            if name.startswith(f"{layer}."):
                untouched = np.frombuffer(bytes([FILL] * 2), value_type(runner, name))[0]
                by_row = value.transpose(1, 0, 2) if name.endswith("numerators") else value
                assert (by_row[~live] == untouched).all(), f"{name}: rows of a dead row block are written"
                if i < reached and name.endswith("numerators"):
                    same_numerators(name, by_row[present], expected[name].transpose(1, 0, 2)[present])
                elif i < reached:
                    np.testing.assert_array_equal(value[present], expected[name][present], err_msg=name)
        head = f"exits.{i}." if i < model.layers - 1 else ""
        for part in ("gathered", "pooler", "logits"):
            if f"{head}{part}" in traces and i < reached:
                value = traces[f"{head}{part}"][:count]
                np.testing.assert_array_equal(value[there], expected[f"{head}{part}"][there], err_msg=f"{head}{part}")
    for name in ("embeddings.sum", "embeddings.norm.y"):
        np.testing.assert_array_equal(traces[name], expected[name], err_msg=name)
    if reached == model.layers:
        verdicts.append(0)
    return answers, verdicts


def value_type(runner, name):
    return np.dtype(runner.plan.io.traces[name].dtype)


def albert_base_artifact(folder: Path) -> Path:
    """A random ALBERT-base, but for few words and positions (sentences of at most 12 tokens)."""
    shape = ModelShape.named("albert-base")
    sizes = {name: getattr(shape, name) for name in ("hidden", "embedding", "heads", "head_width", "ffn", "weights")}
    layers = len(shape.layers)
    few = {"vocab": 300, "positions": 12}
    return make_random_artifact(folder, family="albert", layers=layers, **sizes, **few, seed=5, extra_entries=12)


def pass_of(rng, lengths):
    """Rows and result rows of a pass of random sentences, or pairs, of these lengths."""
    rows, results = [], []
    for n in lengths:
        results.append(len(rows))
        rows += sentence_rows(rng.integers(1, 50, n), len(rows), one=int(rng.integers(0, n)))
    return rows, results
