# SPDX-License-Identifier: Apache-2.0
"""What the models of a search answer: the golden model's integers, computed once, and refused where labels differ."""

import early_exit
import numpy as np
import pytest
from early_exit import DEPTH, EXAMPLES, POINTS
from random_artifact import make_random_artifact
from zynqbert.quant import search_answers as module
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.search_answers import answers, data_set

SOME = EXAMPLES[:8]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {"early": early_exit.recipe(root / "early"), "dense": early_exit.dense(root / "dense")}


@pytest.fixture(scope="module")
def models(folders):
    return {name: load_artifact(folder) for name, folder in folders.items()}


def test_every_ramp_is_the_goldens(folders, models, tmp_path):
    shares = []
    found = answers(models["early"], SOME, 64, tmp_path / "kept.safetensors", shares.append)
    golden = GoldenModel(folders["early"])
    assert found.ramps.entropy.shape == found.ramps.right.shape == (len(SOME), DEPTH)
    assert sum(shares) == pytest.approx(1) and found.tokens == [len(e.text.split()) + 2 for e in SOME]
    for n, example in enumerate(SOME):
        ids = module.encode(models["early"].tokenizer_path.read_text(), [example.text], 64)[0].ids
        for layer in range(1, DEPTH + 1):
            exits = {"foretold": {"threshold": 0, "table": [layer] * 256}}
            left = golden.forward_sentence(ids, exits=exits)
            assert left.layer[0] == layer and left.entropy[0] == found.ramps.entropy[n, layer - 1]
            assert found.ramps.right[n, layer - 1] == (int(np.argmax(left.logits[0])) == example.label)


def test_without_off_ramps_there_is_one_answer(folders, models, tmp_path):
    found = answers(models["dense"], SOME, 64, tmp_path / "kept.safetensors")
    golden = GoldenModel(folders["dense"])
    assert found.ramps.right.shape == (len(SOME), 1)
    for right, example in zip(found.ramps.right[:, 0], SOME, strict=True):
        ids = module.encode(models["dense"].tokenizer_path.read_text(), [example.text], 64)[0].ids
        assert right == (int(np.argmax(golden.forward_sentence(ids))) == example.label)


def test_computed_once_and_anew_for_another_model_texts_or_length(models, tmp_path, monkeypatch):
    path, asked = tmp_path / "kept.safetensors", []
    run = module.ramp_logits
    monkeypatch.setattr(module, "ramp_logits", lambda *given: asked.append(len(given[2])) or run(*given))
    first = answers(models["early"], SOME, 64, path)
    shares = []
    again = answers(models["early"], SOME, 64, path, shares.append)
    assert asked == [8] and shares == [1.0]
    for of in ("entropy", "right"):
        np.testing.assert_array_equal(getattr(first.ramps, of), getattr(again.ramps, of))
    answers(models["early"], SOME[:5], 64, path)
    answers(models["early"], SOME[:5], 9, path)
    assert asked == [8, 5, 5]
    other = make_random_artifact(tmp_path / "other", layers=DEPTH, exits=True, points=POINTS, seed=8)
    answers(load_artifact(early_exit.labelled(other)), SOME[:5], 9, path)
    assert asked == [8, 5, 5, 5]
    path.write_bytes(b"cut")
    answers(load_artifact(other), SOME[:5], 9, path)
    assert len(asked) == 5


def test_one_data_set_for_all(models, folders, tmp_path):
    assert data_set(models, "movie-reviews").name == "movie-reviews"
    own = early_exit.altered(folders["dense"], tmp_path / "own", lambda m: m["metrics"].update(data="movie-reviews"))
    assert data_set({"own": load_artifact(own)}).name == "movie-reviews"
    with pytest.raises(ValueError, match=r"early: metrics\.data is missing; remedy: --data, one of movie-reviews, "):
        data_set(models)
    with pytest.raises(ValueError, match="early: data 'reviews' is none of movie-reviews, "):
        data_set(models, "reviews")
    other = early_exit.altered(folders["dense"], tmp_path / "other", lambda m: m["metrics"].update(data="tweets"))
    both = {"own": load_artifact(own), "other": load_artifact(other)}
    with pytest.raises(ValueError, match="own and other are of other data: movie-reviews and tweets; remedy"):
        data_set(both)


def test_labels_that_are_not_the_datas(models, tmp_path):
    tagger = make_random_artifact(tmp_path / "tagger", kind="token")
    with pytest.raises(ValueError, match="tagger: task token, softmax: an accuracy needs one label a text; remedy"):
        data_set({**models, "tagger": load_artifact(tagger)}, "movie-reviews")
    turned = early_exit.labelled(make_random_artifact(tmp_path / "turned"), ["positive", "negative"])
    with pytest.raises(ValueError, match="turned: its labels are positive, negative, those of movie-reviews negative"):
        data_set({**models, "turned": load_artifact(turned)}, "movie-reviews")
