# SPDX-License-Identifier: Apache-2.0
"""docs/troubleshooting.md and docs/board.md: the messages are the program's own, the sizes those of the compiler."""

import ast
import re
from functools import cache
from pathlib import Path

import pynq
import pytest
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.compiler import plan
from zynqbert.host.model_shape import ARCHITECTURES, ModelShape
from zynqbert.host.options import DEFAULT_ARTIFACT
from zynqbert.quant.artifact import load_artifact

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TEXT = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^    (?:zynqbert: |… WARNING [\w.]+: )(.+)$", TEXT, flags=re.M)
FIELD, TOLD = "\0", 8  # a template's field; letters that it must have beside


@cache
def templates():
    """A pattern for each clause (up to a semicolon) of each string in our sources, and in pynq's that talk of root."""
    files = [*ROOT.glob("host/*.py"), *ROOT.glob("fpga/**/*.py"), *Path(pynq.__path__[0]).glob("pl_server/*.py")]
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(v.value if isinstance(v, ast.Constant) else FIELD for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.sub(r"%[sdg]", FIELD, node.value))
    clauses = {clause.strip() for text in found for clause in text.split("; ")}
    told = [clause for clause in clauses if len(re.sub(r"[^a-zA-Z]", "", clause)) >= TOLD]
    return [re.compile(".*?".join(map(re.escape, clause.split(FIELD)))) for clause in told]


def is_said(clause):
    return any(pattern.fullmatch(clause) for pattern in templates())


def test_there_are_messages():
    assert len(MESSAGES) >= 20


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_what_the_program_says(message):
    operating_system = message.startswith("[Errno 13] Permission denied: ")
    clauses = [clause for clause in message.split("; ") if clause != "…"]
    assert operating_system or [clause for clause in clauses if not is_said(clause)] == []


def test_a_made_up_message_is_found_out():
    assert not is_said("engine: not ready after … s")
    assert not is_said("remedy: take another board (zynqbert build)")


def test_sections_that_messages_send_to_exist():
    titles = [title.lower() for title in re.findall(r"^## (.+)$", TEXT, flags=re.M)]
    assert {"contiguous memory", "sensors"} <= set(titles)


@pytest.mark.parametrize("page", ["board.md", "troubleshooting.md"])
def test_links_lead_somewhere(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        target = (DOCS / file) if file else DOCS / page
        assert target.is_file(), file
        titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.M)
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, anchor


def mebibytes(shape, board, artifact=None):
    compiled = plan(shape, board, artifact=artifact)
    return f"{(compiled.image_bytes + len(compiled.program) + compiled.io.bytes) / 2**20:.1f}"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contiguous_memory_of_known_models(name):
    sizes = [mebibytes(ModelShape.named(name), board) for board in BOARDS.values()]
    assert f"\n| {name} | {' | '.join(sizes)} |\n" in TEXT


def test_contiguous_memory_of_the_packaged_model():
    artifact = load_artifact(DEFAULT_ARTIFACT)
    shape = ModelShape.of_manifest(artifact.manifest)
    sizes = [mebibytes(shape, board, artifact) for board in BOARDS.values()]
    (row,) = (line for line in TEXT.splitlines() if line.startswith("| the package's "))
    assert row.endswith(f" | {' | '.join(sizes)} |")
