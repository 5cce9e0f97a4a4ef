# SPDX-License-Identifier: Apache-2.0
"""Studies of one float model quantized in several ways: what they measure, where they go on, and the pages' tables."""

import json

import numpy as np
import pytest
from documents import ROOT, document_of
from tiny_bert import random_classifier
from zynqbert.quant.datasets import DATA_SETS, DataSet, Example

LABELS = ("LABEL_0", "LABEL_1", "LABEL_2")


def load(split: str, *, offline: bool = False) -> list[Example]:
    """Random words of the tiny tokenizer, of random labels."""
    random = np.random.default_rng(len(split))
    words = ["a", "gem", ".", "gems", "b"]
    texts = [" ".join(random.choice(words, random.integers(1, 16))) for _ in range({"train": 60}.get(split, 30))]
    return [Example(text, int(random.integers(3)), None) for text in texts]


@pytest.fixture(params=["block_shapes", "word_formats"])
def script(request):
    yield from document_of(request.param)


@pytest.fixture
def call(script, tmp_path, monkeypatch, capsys):
    """Call the script on a tiny model and a data set of its own; its report and what it prints."""
    model, out = tmp_path / "model", tmp_path / "rows.json"
    random_classifier(model, num_hidden_layers=1, intermediate_size=40, max_position_embeddings=128)
    monkeypatch.setitem(DATA_SETS, "movie-reviews", DataSet("own", LABELS, load, None))

    def run(*options):
        monkeypatch.setattr("sys.argv", [script.__name__, "--float", str(model), "--out", str(out), *options])
        assert script.main(script.__doc__, script.ROWS, script.table, getattr(script, "words", lambda *_: {})) == 0
        return json.loads(out.read_text()), capsys.readouterr().out

    return run, out


def test_rows_are_measured_once_and_told_as_a_table(script, call):
    run, out = call
    report, said = run("--sentences", "20")
    assert list(report["rows"]) == list(script.ROWS) and said.endswith(script.table(report) + "\n")
    for row in report["rows"].values():
        assert row["test"]["sentences"] == 20 and row["test"]["float_right"] == round(
            20 * report["float"]["test"]["accuracy"]
        )
        assert row["test"]["logit_error"] > 0
    *_, last = script.ROWS
    first = report["rows"].pop(last)
    out.write_text(json.dumps(report))
    again, said = run("--sentences", "20")
    assert said.count("dev ") == 1 + said.count("| dev |") and said.startswith(f"{last}: dev ")
    assert {**again["rows"][last], "seconds": 0} == {**first, "seconds": 0}
    with pytest.raises(ValueError, match="sentences"):
        run("--sentences", "21")


def test_words_are_told_as_the_page_has_them():
    for script in document_of("word_formats"):
        report = json.loads((ROOT / "artifacts" / "movie-reviews.words.json").read_text(encoding="utf-8"))
        assert list(report["rows"]) == list(script.ROWS)
        page = (ROOT / "docs" / "edgebert.md").read_text(encoding="utf-8").replace("−", "-")
        for line in script.table(report).splitlines()[3:]:
            assert line.split(" | ", 1)[1] in page, "run: python benchmarks/word_formats.py --table"
