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
from zynqbert.host.memory_image import memory_image
from zynqbert.host.model_shape import ModelShape
from zynqbert.quant.golden_model import GoldenModel

PROGRAM, IMAGE, IO = 0x1000_0000, 0x2000_0000, 0x7000_0000


def read_artifact(folder: Path) -> SimpleNamespace:
    """Manifest and tensors, unchecked."""
    manifest = json.loads((folder / "manifest.json").read_text())
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
    ):
        artifact = read_artifact(folder)
        shape = ModelShape.of_manifest(artifact.manifest)
        self.plan = plan(shape, BOARDS[board], artifact=artifact, trace=trace, resident=resident)
        self.image = memory_image(self.plan, artifact)
        self.program = np.frombuffer(self.plan.program, dtype=np.uint8).copy()
        self.simulator = Simulator(build, BOARDS[board].columns, sanitize=sanitize, threads=threads)
        self.io = np.zeros(self.plan.io.bytes, dtype=np.uint8)
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
        """Returns (status, traces by name, padded, logits int64 [results, labels], if token [rows, labels])."""
        blocks = self.header(rows, results)
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
        np.testing.assert_array_equal(value, reference, err_msg=name)
    np.testing.assert_array_equal(got, logits)
    assert set(traces) >= set(expected) - {n for n in expected if n.endswith(".operand")}


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
