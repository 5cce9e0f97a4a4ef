# SPDX-License-Identifier: Apache-2.0
"""Slow proofs (`make proofs`): full sizes under ap_int and with checked widths, the committed artifact on real text."""

import json
from pathlib import Path

import numpy as np
import pytest
import zynqbert.host
from pass_runner import PassRunner, albert_base_artifact, compare, pass_of, sentence_rows
from random_artifact import make_random_artifact
from tokenizers import Tokenizer
from zynqbert.quant.datasets import LABELS, DataUnavailable, movie_reviews
from zynqbert.quant.golden_model import GoldenModel

pytestmark = pytest.mark.proof

ARTIFACT = Path(__file__).resolve().parents[2] / "artifacts" / "movie-reviews"


def real_passes(n):
    """Token rows of n sentences of the test split, one a pass."""
    try:
        examples = movie_reviews("test")[:n]
    except DataUnavailable as error:
        pytest.skip(str(error))
    tokenizer = Tokenizer.from_file(str(ARTIFACT / "tokenizer.json"))
    return [sentence_rows(tokenizer.encode(e.text).ids[:128]) for e in examples]


@pytest.mark.parametrize("board", ["zcu102", "zcu111"])
def test_one_full_size_layer_under_ap_int(tmp_path, board):
    """A BERT-base layer, K = 3072, 128 tokens; the builder puts a row of extremes into every matrix."""
    folder = make_random_artifact(
        tmp_path / "layer", layers=1, hidden=768, heads=12, head_width=64, ffn=3072, vocab=60, seed=1, extra_entries=24
    )
    rows, results = pass_of(np.random.default_rng(0), [100, 28])
    compare(folder, PassRunner(folder, "csim", board), rows, results)


def test_bert_base_at_128_tokens_stays_within_its_widths(tmp_path):
    folder = make_random_artifact(
        tmp_path / "base", layers=12, hidden=768, heads=12, head_width=64, ffn=3072, vocab=60, seed=2, extra_entries=24
    )
    rows, results = pass_of(np.random.default_rng(0), [128])
    compare(folder, PassRunner(folder, "checked"), rows, results)


@pytest.mark.parametrize("build", ["csim", "checked"])
def test_albert_base_under_exact_and_checked_widths(tmp_path, build):
    folder = albert_base_artifact(tmp_path / "albert")
    rows, results = pass_of(np.random.default_rng(0), [12, 5])
    compare(folder, PassRunner(folder, build), rows, results)


@pytest.mark.parametrize(("build", "n"), [("checked", 12), ("native", 40)])
def test_real_sentences_equal_golden(build, n):
    runner = PassRunner(ARTIFACT, build)
    for rows in real_passes(n):
        compare(ARTIFACT, runner, rows, [0])


def test_real_sentences_packed_equal_one_by_one():
    golden = GoldenModel(ARTIFACT)
    runner = PassRunner(ARTIFACT, "native", trace=False)
    batch, results, alone = [], [], []
    for rows in real_passes(60):
        if len(batch) + len(rows) > 128:
            _, _, logits = runner.run(batch, results)
            np.testing.assert_array_equal(logits, np.stack(alone))
            batch, results, alone = [], [], []
        results.append(len(batch))
        batch += sentence_rows([r[0] for r in rows], len(batch))
        # the packed rows keep the positions of their own sentence
        alone.append(golden.forward_sentence([r[0] for r in rows]))


def test_recorded_accuracy_is_what_the_emulated_board_gives():
    """All of the test split, sentence by sentence: integers, so the count of right answers is exact."""
    try:
        examples = movie_reviews("test")
    except DataUnavailable as error:
        pytest.skip(str(error))
    recorded = json.loads((ARTIFACT.parent / "movie-reviews.accuracy.json").read_text())
    with zynqbert.host.open(board="zcu111", artifact=ARTIFACT, device="emulated") as engine:
        results = engine.stream(e.text for e in examples)
        right = sum(r.label == LABELS[e.label] for r, e in zip(results, examples, strict=True))
    assert (len(examples), right) == (recorded["sentences"], recorded["quantized_right"])
