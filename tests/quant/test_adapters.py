# SPDX-License-Identifier: Apache-2.0
"""A task's adapters, norms and classifier over a backbone, against transformers' own model with hooks in it."""

import dataclasses
import json

import pytest
import torch
from float_tasks import loud
from gems import NAMES, cut_after, examples, quiet, sentences
from safetensors.torch import load_file
from tiny_bert import random_model, save_tokenizer
from zynqbert.quant import float_model, float_stage
from zynqbert.quant.adapters import NORMS, PLACES, Adapting, new_task, owners, with_task
from zynqbert.quant.finetune import FineTuning, fine_tune, predict
from zynqbert.quant.float_model import ACTIVATIONS
from zynqbert.quant.spans import whole_spans
from zynqbert.quant.student import Student, forward, read
from zynqbert.quant.task_training import FILE, TaskTraining, train_task

FAMILIES = ("bert", "albert")
BRANCHES = {
    "bert": ("attention.output.dense", "output.dense", "attention.output.LayerNorm", "output.LayerNorm"),
    "albert": ("attention.dense", "ffn_output", "attention.LayerNorm", "full_layer_layer_norm"),
}


def with_hooks(model, task: dict, activation: str) -> None:
    """The same task inside of transformers' own model, whose layers are of their own (bert) or one (albert)."""
    family = model.config.model_type
    layers = model.bert.encoder.layer if family == "bert" else model.albert.encoder.albert_layer_groups[0].albert_layers
    for i, layer in enumerate(layers):
        parts = [layer.get_submodule(name) for name in BRANCHES[family]]
        for place, dense in zip(PLACES, parts, strict=False):
            at = f"layers.{i}.{place}"

            def hook(_, __, h, at=at):
                z = h @ task[f"{at}.down.weight"].T + task[f"{at}.down.bias"]
                return h + ACTIVATIONS[activation](z) @ task[f"{at}.up.weight"].T + task[f"{at}.up.bias"]

            dense.register_forward_hook(hook)
        for name, norm in zip(NORMS, parts[2:], strict=True):
            norm.weight.data, norm.bias.data = task[f"layers.{i}.{name}.gamma"], task[f"layers.{i}.{name}.beta"]
    model.classifier.weight.data, model.classifier.bias.data = task["classifier.weight"], task["classifier.bias"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_answers_as_transformers_with_adapters_in_it(family, activation):
    model = random_model(family=family, num_labels=2)
    student, settings = Student(model), Adapting(width=5, activation=activation)
    task = new_task(student.weights, 2, settings, seed=0)
    loud(task)
    weights = with_task(student.weights, task, settings)
    texts = sentences()
    found, _ = read(weights, texts.tokens["dev"], whole_spans(2, 2).attend)
    batch, _ = texts.batch("dev", range(24))
    taps = {}
    also = float_model.forward(weights, batch, taps.__setitem__)
    before = predict(model, texts.tokens["dev"])
    with_hooks(model, {name: t.detach() for name, t in task.items()}, activation)
    wanted = predict(model, texts.tokens["dev"])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)
    torch.testing.assert_close(also.clone(), wanted, rtol=0, atol=1e-3)
    assert not torch.allclose(wanted, before, atol=0.1)
    assert taps["layers.1.ffn_adapter.h"].shape == (len(batch.ids), 64)
    assert taps["layers.1.ffn_adapter.z"].shape == (len(batch.ids), 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_task_changes_next_to_nothing(family):
    student = Student(random_model(family=family, num_labels=2))
    settings = Adapting(width=5)
    task = new_task(student.weights, 2, settings, seed=0)
    weights = with_task(student.weights, task, settings)
    batch, _ = sentences().batch("dev", range(9))
    attend = whole_spans(2, 2).attend
    with torch.no_grad():
        plain, adapted = (forward(of, batch, attend).rows for of in (student.weights, weights))
    assert 0 < (plain - adapted).abs().max() < 0.2 * plain.abs().max()
    again = new_task(student.weights, 2, settings, seed=0)
    assert all(torch.equal(tensor, again[name]) for name, tensor in task.items())


def test_places_of_one_matrix_share_norms_and_where_wanted_adapters():
    weights = Student(random_model(family="albert", num_labels=2)).weights
    assert owners(weights, True) == [0, 0] and owners(weights, False) == [0, 1]
    shared, own = (set(new_task(weights, 2, Adapting(4, shared=s), 0)) for s in (True, False))
    assert own - shared == {
        f"layers.1.{p}.{m}.{part}" for p in PLACES for m in ("down", "up") for part in ("weight", "bias")
    }
    assert {n for n in own if "norm" in n} == {f"layers.0.{n}.{part}" for n in NORMS for part in ("gamma", "beta")}
    of_bert = Student(random_model(num_labels=2)).weights
    assert owners(of_bert, True) == [0, 1]


def test_an_activation_without_a_table_is_refused():
    with pytest.raises(ValueError, match=r"adapters\.activation 'mish' is none of relu, silu, tanh, gelu, gelu_new"):
        new_task(Student(random_model(num_labels=2)).weights, 2, Adapting(activation="mish"), 0)


SETTINGS = TaskTraining(width=8, epochs=3, batch=8, learning_rate=5e-3, dropout=0.0)


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request, tmp_path_factory):
    """Backbone folder, task folder and log. The backbone knows gems: a random one has nothing to adapt."""
    folder = tmp_path_factory.mktemp("task")
    base = folder / "base"
    model = random_model(family=request.param)
    torch.manual_seed(0)
    type(model)(model.config).base_model.save_pretrained(base)
    save_tokenizer(base)
    settings = FineTuning(str(base), epochs=8, batch=8, learning_rate=2e-3)
    data = {"train": examples(90, 4), "dev": examples(24, 5)}
    log = fine_tune(data, NAMES, folder / "backbone", settings, max_length=16, console=quiet())
    assert log["dev_accuracy"] > 0.9
    return folder / "backbone", folder / "out", run(folder / "backbone", folder / "out")


def run(backbone, out, settings=SETTINGS, **options) -> dict:
    return train_task(backbone, sentences(), out, settings, console=quiet(), **options)


def test_a_task_learns_and_the_backbone_stays(trained):
    _, out, log = trained
    assert log["best"]["dev_accuracy"] > 0.9 and log == json.loads((out / "task.json").read_text())
    task = load_file(out / FILE)
    assert log["parameters"] == sum(t.numel() for t in task.values())
    assert not any(name.startswith(("word", "position", "type", "mapping", "pooler")) for name in task)
    assert len(NAMES) == 2 and task["classifier.weight"].shape == (2, 64)
    assert not (out / "checkpoint").exists()


def test_a_run_that_was_cut_goes_on_to_the_same_task(trained, tmp_path, monkeypatch):
    backbone, out, _ = trained
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_after(patch, float_stage, 12)
        run(backbone, tmp_path)
    with pytest.raises(ValueError, match="begun with other settings of width: "):
        run(backbone, tmp_path, dataclasses.replace(SETTINGS, width=4), resume=True)
    with pytest.raises(ValueError, match="begun with other settings of backbone: "):
        run(backbone.parent / "base", tmp_path, resume=True)
    run(backbone, tmp_path, resume=True)
    one, two = (load_file(folder / FILE) for folder in (out, tmp_path))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
