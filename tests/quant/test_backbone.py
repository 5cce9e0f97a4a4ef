# SPDX-License-Identifier: Apache-2.0
"""An ALBERT-shaped encoder out of a BERT: where it begins, and that it comes to follow."""

import dataclasses
import json

import pytest
import torch
from gems import cut_after, quiet, sentences
from safetensors.torch import load_file
from tiny_bert import random_classifier
from zynqbert.quant import backbone, float_stage
from zynqbert.quant.backbone import Backbone, albert_shaped, make_backbone
from zynqbert.quant.batch import make_batch
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.configuration import UnsupportedModel
from zynqbert.quant.spans import whole_spans
from zynqbert.quant.student import PARTS, embed, encoder, forward

SETTINGS = Backbone(embedding=48, layer=2, epochs=3, batch=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    random_classifier(folder, num_labels=2)
    return folder


def run(base, out, settings=SETTINGS, **options) -> dict:
    settings = dataclasses.replace(settings, base=str(base))
    return make_backbone(sentences(), out, settings, console=quiet(), **options)


def test_it_begins_with_the_base_as_far_as_its_shape_allows(base):
    teacher = encoder(str(base))
    batch = make_batch(sentences().tokens["train"])
    made = albert_shaped(teacher, 64, 2, batch)
    a = made.weights.architecture
    assert (a.family, a.layers, a.embedding, a.hidden, a.weights) == ("albert", 2, 64, 64, (0, 0))
    for part in PARTS:
        one, two = getattr(made.weights.layers[0], part), getattr(teacher.weights.layers[1], part)
        assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in vars(one))
    with torch.no_grad():
        wanted = embed(teacher.weights, batch)
        error = {
            width: (embed(albert_shaped(teacher, width, 1, batch).weights, batch) - wanted).square().mean()
            for width in (8, 32, 64)
        }
    spread = wanted.var(dim=0).mean()
    assert error[64] < 0.1 * spread and error[64] < error[32] < error[8] < spread


def test_it_follows_every_layer(base):
    teacher, texts = encoder(str(base)), sentences()
    student = albert_shaped(teacher, 48, 2, make_batch(texts.tokens["train"]))
    stage = backbone._Following(student, teacher, texts, dataclasses.replace(SETTINGS, noise=0.0))
    batch, attend = texts.batch("train", [3, 1, 4])[0], whole_spans(2, 2).attend
    with torch.no_grad():
        own, of = (forward(model.weights, batch, attend).layers for model in (student, teacher))
    pairs, first = list(zip(own, of, strict=True)), batch.first
    errors = [float(((x - y) ** 2).mean() / ((y - y.mean(dim=0)) ** 2).mean()) for x, y in pairs]
    firsts = [float(((x - y)[first] ** 2).mean() / ((y - y.mean(dim=0)) ** 2).mean()) for x, y in pairs]
    assert stage.loss([3, 1, 4]).item() == pytest.approx(sum(errors) / 2 + sum(firsts) / 2, rel=1e-5)
    assert errors[0] != pytest.approx(errors[1], rel=0.01) and firsts[0] != pytest.approx(errors[0], rel=0.01)
    stage.settings = dataclasses.replace(stage.settings, first=3.0)
    assert stage.loss([3, 1, 4]).item() == pytest.approx(sum(errors) / 2 + 3 * sum(firsts) / 2, rel=1e-5)


def test_the_epoch_kept_has_the_best_rows_and_first_ones(base):
    texts = sentences()
    teacher = encoder(str(base))
    student = albert_shaped(teacher, 48, 2, make_batch(texts.tokens["train"]))
    stage = backbone._Following(student, teacher, texts, dataclasses.replace(SETTINGS, first=2.0))
    found = stage.measure()
    assert len(found["first"]) == len(found["layers"]) == 2
    assert found["first_loss"] == pytest.approx(sum(found["first"]) / 2, rel=1e-4)
    assert stage.rank(found) == (-found["dev_loss"] - 2 * found["first_loss"],)


@pytest.mark.parametrize(
    "field, value, range_", [("layer", 0, "1..2"), ("layer", 3, "1..2"), ("embedding", 65, "8..64")]
)
def test_sizes_that_cannot_be(base, tmp_path, field, value, range_):
    with pytest.raises(ValueError, match=f"backbone.{field} {value} is not within {range_}"):
        run(base, tmp_path / "out", dataclasses.replace(SETTINGS, **{field: value}))


def test_an_albert_is_no_base(tmp_path):
    random_classifier(tmp_path / "albert", family="albert", num_labels=2)
    with pytest.raises(UnsupportedModel, match="an ALBERT is a backbone as it is"):
        run(tmp_path / "albert", tmp_path / "out")


def test_it_comes_to_follow_and_a_cut_run_goes_on(base, tmp_path, monkeypatch):
    log = run(base, tmp_path / "whole")
    assert log["best"]["dev_loss"] < 0.8 * log["untrained"]["dev_loss"] and len(log["best"]["layers"]) == 2
    assert log == json.loads((tmp_path / "whole" / "backbone.json").read_text())
    assert load_checkpoint(tmp_path / "whole").weights.architecture.family == "albert"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, float_stage, 11)
        run(base, tmp_path / "parts")
    run(base, tmp_path / "parts", resume=True)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
