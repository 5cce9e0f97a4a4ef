# SPDX-License-Identifier: Apache-2.0
"""The notebooks run from top to bottom on the emulated board, from any folder, and say what is modelled."""

import json
import os
import re
import sys
from pathlib import Path

import early_exit
import nbformat
import pytest
import zynqbert.host
import zynqbert.host.notebooks
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from split_tasks import make_tasks
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.bench import edgebert_markdown
from zynqbert.host.options import DEFAULT_ARTIFACT, DEFAULT_TASKS, EARLY_EXIT_ARTIFACT, EARLY_EXIT_BENCH
from zynqbert.host.task_set import load_tasks

FOLDER = Path(zynqbert.host.notebooks.__path__[0])
NAMES = ("1-first-inference.ipynb", "2-throughput-per-watt.ipynb", "3-early-exit.ipynb", "4-many-tasks.ipynb")
FIGURES = """
import json as _json
from matplotlib.figure import Figure as _Figure

def _texts(axes):
    shown = axes.get_legend()
    legend = [text.get_text() for text in shown.get_texts()] if shown else []
    return {"x": axes.get_xlabel(), "y": axes.get_ylabel(), "title": axes.get_title(), "legend": legend}

print(_json.dumps([[_texts(a) for a in v.axes] for v in list(globals().values()) if isinstance(v, _Figure)]))
"""


def kernel_manager(folder):
    """A manager of kernels that run this very interpreter, whatever kernels are installed."""
    spec = folder / "kernels" / "this"
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "this", "language": "python"}))
    specs = KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)
    return AsyncKernelManager(kernel_name="this", kernel_spec_manager=specs)


def run(name, folder, extra="", **environment):
    """The notebook after its run in `folder` on the emulated ZCU102, and the output of the cell `extra`."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    if extra:
        notebook.cells.append(nbformat.v4.new_code_cell(extra))
    work = folder / "work"
    work.mkdir()
    client = NotebookClient(
        notebook, km=kernel_manager(folder), timeout=120, resources={"metadata": {"path": str(work)}}
    )
    client.execute(env=os.environ | {"IPYTHONDIR": str(folder / "ipython"), "BOARD": "ZCU102"} | environment)
    assert list(work.iterdir()) == []
    return notebook, printed(notebook.cells.pop()) if extra else ""


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def printed(cell):
    return "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


def all_printed(notebook):
    return "".join(printed(cell) for cell in notebook.cells if cell.cell_type == "code")


def test_these_are_all():
    assert sorted(path.name for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_committed_as_they_should_be(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert len(text) < 20_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.cells[0].source.startswith("# ")
    # what is run is told: no code cell stands without words between it and the code cell before the last
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in notebook.cells)
    assert "ccc" not in kinds


def test_first_inference(tmp_path):
    asked = "import json; print(json.dumps([[r.text, r.label, r.source, r.latency_ms, r.logits] for r in results]))"
    notebook, answer = run(NAMES[0], tmp_path, asked)
    assert [o for o in outputs(notebook) if o.output_type == "error"] == []
    found = json.loads(answer)
    with zynqbert.host.open(board="zcu102", artifact=DEFAULT_ARTIFACT, device="emulated") as engine:
        expected = list(engine.stream(text for text, *_ in found))
    assert found == [[r.text, r.label, "modelled", r.latency_ms, list(r.logits)] for r in expected]
    assert {r.label for r in expected} == {"positive", "negative"}
    (table,) = [o.data["text/markdown"] for o in outputs(notebook) if "text/markdown" in o.get("data", {})]
    rows = table.splitlines()[2:]
    for row, r in zip(rows, expected, strict=True):
        cells = f"{r.text} | {r.label} | {r.confidence:.3f} | {r.latency_ms:.3f} | {r.energy_mj:.2f} | modelled"
        assert row == f"| {cells} |"
    said = all_printed(notebook)
    assert "emulated zcu102 at 250 MHz, labels: negative, positive" in said
    assert "truncated: True" in said and "tokens" in said.splitlines()[-1]


def test_throughput_per_watt(tmp_path):
    notebook, answer = run(NAMES[1], tmp_path, FIGURES)
    assert [o for o in outputs(notebook) if o.output_type == "error"] == []
    said = all_printed(notebook)
    assert "emulated zcu102, up to 300 MHz" in said and "measured" not in said
    _, table = said.split("all modelled\n")
    rows = {tuple(map(int, row.split()[:2])): row.split()[2:] for row in table.splitlines()[1:]}
    assert list(rows) == [(tokens, mhz) for tokens in (32, 64, 96, 128) for mhz in (100, 150, 200, 250, 300)]
    with zynqbert.host.open(board="zcu102", artifact=DEFAULT_ARTIFACT, device="emulated", clock_mhz=200) as engine:
        (expected,) = engine.stream([" ".join(["good"] * 126)])
    fps, watts, idle, per_watt = rows[128, 200]
    assert fps == f"{1e3 / expected.latency_ms:.2f}" and watts == f"{expected.power_w:.2f}"
    assert per_watt == f"{expected.fps_per_w:.2f}" and 0 < float(idle) < float(watts)

    figures = json.loads(answer)
    shown = [o for o in outputs(notebook) if "image/png" in o.get("data", {})]
    assert len(figures) == len(shown) == 2
    for axes in (axes for figure in figures for axes in figure):
        assert axes["x"] == "engine clock, MHz"
        assert "modelled" in axes["y"] and "measured" not in axes["y"]
    speed, comparison = figures
    assert speed[0]["legend"] == ["32 tokens", "64 tokens", "96 tokens", "128 tokens"]
    assert comparison[0]["legend"] == ["zynqbert, BERT-base, modelled", "FQ-BERT, published"]


def test_early_exit(tmp_path):
    artifact = EARLY_EXIT_ARTIFACT
    if not artifact.is_dir():  # a tiny model in its place, with the same off-ramps and points
        artifact = early_exit.recipe(tmp_path / "recipe")
    asked = """import json
print(json.dumps([TARGET_MS, [[r.text, r.label, r.exit_layer, r.clock_mhz, r.target_met] for r in results]]))
"""
    notebook, answer = run(NAMES[2], tmp_path, asked + FIGURES, ZYNQBERT_ARTIFACT=str(artifact))
    assert [o for o in outputs(notebook) if o.output_type == "error"] == []
    first, drawn = answer.splitlines()
    target_ms, found = json.loads(first)
    with zynqbert.host.open(
        board="zcu102", artifact=artifact, device="emulated", clock_mhz=300, early_exit="1"
    ) as engine:
        expected = list(engine.stream([text for text, *_ in found], latency_target_ms=target_ms))
    assert found == [[r.text, r.label, r.exit_layer, r.clock_mhz, r.target_met] for r in expected]
    table, bench = [o.data["text/markdown"] for o in outputs(notebook) if "text/markdown" in o.get("data", {})]
    heading, _, *rows = table.splitlines()
    assert "ms (modelled)" in heading and "mJ (modelled)" in heading
    for row, r in zip(rows, expected, strict=False):
        cells = f"{r.label} | {r.exit_layer} | {r.foretold_layer or '–'} | {r.clock_mhz:g} | {r.latency_ms:.3f}"
        assert row == f"| {r.text} | {cells} | {r.energy_mj:.2f} | {'met' if r.target_met else 'MISSED'} |"
    said = all_printed(notebook)
    missed = sum(not r.target_met for r in expected)
    assert "emulated zcu102 at 300 MHz" in said and "measured" not in said
    assert f"all of time and energy modelled; sentences that missed the target: {missed} of {len(expected)}" in said
    ((left, right),) = json.loads(drawn)
    assert left["y"] == "sentences (counted)" and right["y"] == "ms (modelled)"
    assert len([o for o in outputs(notebook) if "image/png" in o.get("data", {})]) == 1
    report = json.loads(EARLY_EXIT_BENCH.read_text(encoding="utf-8"))
    assert bench == edgebert_markdown.page(report)
    drawn = [o.data["text/html"] for o in outputs(notebook) if "<svg" in o.get("data", {}).get("text/html", "")]
    titles = [re.search(r"<b>(.*?)</b>", drawing)[1] for drawing in drawn]
    assert titles == [
        "Where sentences leave, zcu102 (measured)",
        "Energy against the latency target, whole recipe, zcu102 (modelled)",
        "Where the energy of a sentence goes, zcu102 (modelled)",
        "Accuracy against the average layer of leaving (measured)",
    ]


def test_many_tasks(tmp_path):
    backbone = DEFAULT_TASKS
    if not backbone.is_dir():  # tiny tasks in their place
        backbone = make_tasks(tmp_path / "backbone", ("movie-reviews", "policy-pairs", "tweets"))
    asked = """import json
print(json.dumps([[r.task, r.text, r.pair, r.label, r.confidence] for r in results]))
print(json.dumps({name: [c.bytes for c in pair] for name, pair in costs.items()}))
"""
    notebook, answer = run(NAMES[3], tmp_path, asked + FIGURES, ZYNQBERT_TASKS=str(backbone))
    assert [o for o in outputs(notebook) if o.output_type == "error"] == []
    found, costs, figures = map(json.loads, answer.splitlines())
    assert [task for task, *_ in found[:3]] == ["movie-reviews", "policy-pairs", "tweets"]
    said = all_printed(notebook)
    with zynqbert.host.open(board="zcu102", artifact=backbone, device="emulated") as engine:
        for name in (*engine.tasks[1:], engine.tasks[0]):
            assert f"{name:15} {engine.use(name).bytes:7,} bytes by" in said
        items = [(task, (text, pair) if pair else text) for task, text, pair, *_ in found]
        before = engine.switches
        expected = list(engine.mixed(items))
        assert f"{len(found)} sentences, {engine.switches - before} changes" in said
    assert found == [[r.task, r.text, r.pair, r.label, r.confidence] for r in expected]
    (table,) = [o.data["text/markdown"] for o in outputs(notebook) if "text/markdown" in o.get("data", {})]
    assert len(table.splitlines()) == 2 + len(found)
    assert costs.keys() == {"zcu102", "zcu111"}
    for board, (change, reload) in costs.items():
        assert change == load_tasks(backbone, BOARDS[board]).first.plan.task.moved < reload
    assert said.count(", modelled\n") == 4 and "measured" not in said
    ((time, energy),) = figures
    assert time["y"] == "ms (modelled)" and energy["y"] == "mJ (modelled)" and time["legend"] == ["change", "reload"]
    (drawn,) = [o.data["image/svg+xml"] for o in outputs(notebook) if "image/svg+xml" in o.get("data", {})]
    assert all(f"program of task {name}" in drawn for name in ("movie-reviews", "policy-pairs", "tweets"))
