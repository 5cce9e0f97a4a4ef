# SPDX-License-Identifier: Apache-2.0
"""A training from end to end, on a tiny base and an easy rule: what it writes, what it reports, how it resumes."""

import dataclasses
import io
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from random_artifact import make_random_artifact
from rich.console import Console
from tiny_bert import CONFIG, random_classifier, save_tokenizer
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel
from zynqbert.quant import finetune as finetune_module
from zynqbert.quant import train as train_module
from zynqbert.quant.artifact import Artifact, load_artifact
from zynqbert.quant.datasets import Example, read_table
from zynqbert.quant.evaluate import quantized_logits
from zynqbert.quant.finetune import FineTuning
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.recipe import Data, QuantizedTraining, Recipe
from zynqbert.quant.tokens import Tokens, encode
from zynqbert.quant.train import choose_device, distillation_loss, train, train_quantized

LABELS = ("no", "yes")
ROWS = {"train": 64, "dev": 24, "test": 24}
BASE = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.12)  # learns fast
SETTINGS = QuantizedTraining(epochs=2, batch=8, learning_rate=0.02, distillation=0.2)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These models are too small for more; and a training sets the number of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quiet() -> Console:
    return Console(file=io.StringIO())


def table(n: int, seed: int, pairs: bool) -> str:
    """Rows of which the last text is about gems where the label is yes."""
    draw, lines = random.Random(seed), []
    for i in range(n):
        words = [draw.choice([("a", "as"), ("gem", "gems")][i % 2] + (".",)) for _ in range(draw.randint(3, 9))]
        cells = [LABELS[i % 2], *([". . ."] if pairs else []), " ".join(words)]
        lines.append("\t".join(cells) + "\n")
    return "".join(lines)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with a pretrained encoder, `base`, and tables of pairs; in `single` tables of single texts."""
    folder = tmp_path_factory.mktemp("project")
    torch.manual_seed(0)
    BertModel(BertConfig(**{**CONFIG, **BASE})).save_pretrained(folder / "base")
    save_tokenizer(folder / "base")
    (folder / "single").mkdir()
    for seed, (split, n) in enumerate(ROWS.items()):
        (folder / f"{split}.tsv").write_text(table(n, seed, pairs=True))
        (folder / "single" / f"{split}.tsv").write_text(table(n, seed, pairs=False))
    return folder


@pytest.fixture(scope="module")
def recipe(project) -> Recipe:
    return Recipe(
        data=Data(labels=LABELS, train="train.tsv", dev="dev.tsv", test="test.tsv", max_length=20),
        name="gems",
        threads=1,
        device="cpu",
        finetune=FineTuning(str(project / "base"), epochs=2, batch=8, learning_rate=2e-4),
        train=SETTINGS,
    )


@pytest.fixture(scope="module")
def finished(project, recipe, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run."""
    out = tmp_path_factory.mktemp("run") / "out"
    report = train(recipe, project, out, console=quiet())
    assert json.loads(json.dumps(report)) == report_of(out)
    return out


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of that folder, to go on with."""
    return shutil.copytree(finished, tmp_path / "out")


def report_of(out: Path) -> dict:
    return json.loads((out / "train.json").read_text(encoding="utf-8"))


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_it_writes(finished):
    found = set(files(finished))
    parts = {f"{name}/{file}" for name in ("calibrated", "artifact") for file in
             ("manifest.json", "model.safetensors", "tokenizer.json")}  # fmt: skip
    assert parts | {"train.json", "training/best.safetensors", "training/last.safetensors"} <= found
    assert {"float/config.json", "float/model.safetensors", "float/tokenizer.json", "float/finetune.json"} <= found
    assert not any("partial" in name or "checkpoint" in name for name in found)

    calibrated, trained = (load_artifact(finished / name) for name in ("calibrated", "artifact"))
    assert trained.manifest["task"] == {
        "kind": "sequence",
        "scores": "softmax",
        "labels": ["no", "yes"],
        "max_length": 128,  # what it takes, however short the texts it was trained on
    }
    for field in ("architecture", "entries", "scales", "softmax"):
        assert trained.manifest[field] == calibrated.manifest[field]
    assert trained.manifest["metrics"]["test"] == report_of(finished)["test"]["trained"]
    weight = "layers.0.ffn1.weight"
    assert (trained.tensors[weight] != calibrated.tensors[weight]).any()


def right(folder: Path, examples: list[Example]) -> int:
    """How many of the examples the golden model of an artifact gets right, one by one."""
    golden = GoldenModel(folder)
    tokens = encode((folder / "tokenizer.json").read_text(), [e.texts for e in examples], 20)
    assert max(tokens[0].types) == 1  # pairs
    return sum(
        int(golden.forward_sentence(ids, types).argmax()) == e.label
        for (ids, types), e in zip(tokens, examples, strict=True)
    )


def test_accuracies_are_those_of_the_artifacts(finished, project):
    report, examples = report_of(finished), read_table(project / "test.tsv", LABELS)
    for name, folder in (("calibrated", "calibrated"), ("trained", "artifact")):
        assert report["test"][name]["quantized_right"] == right(finished / folder, examples)
    model = AutoModelForSequenceClassification.from_pretrained(finished / "float").eval()
    tokens = encode((finished / "float" / "tokenizer.json").read_text(), [e.texts for e in examples], 20)
    with torch.inference_mode():
        logits = [model(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits for ids, types in tokens]
    count = sum(int(x.argmax()) == e.label for x, e in zip(logits, examples, strict=True))
    assert {report["test"][name]["float_right"] for name in ("calibrated", "trained")} == {count}

    dev = right(finished / "artifact", read_table(project / "dev.tsv", LABELS))
    assert report["training"]["epochs"][report["training"]["best_epoch"] - 1]["dev_accuracy"] == dev / ROWS["dev"]
    assert count >= 20 and report["test"]["trained"]["quantized_right"] >= 20  # of 24: the rule is learnt


def test_what_it_reports(finished, recipe):
    report = report_of(finished)
    assert report["recipe"] == json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert report["examples"] == {s: {"no": n // 2, "yes": n // 2} for s, n in ROWS.items()}
    assert report["device"] == "cpu" and report["threads"] == 1
    log = report["training"]
    assert log["settings"] == {**dataclasses.asdict(SETTINGS), "seed": 0} and len(log["epochs"]) == 2
    first, second = log["epochs"]
    assert second["train_loss"] < first["train_loss"]
    assert min(first["dev_loss"], second["dev_loss"]) < log["calibrated"]["dev_loss"]


def test_resuming_a_finished_run_changes_nothing(copied, project, recipe):
    before = files(copied)
    report = train(recipe, project, copied, resume=True, console=quiet())
    assert json.loads(json.dumps(report)) == report_of(copied)
    assert files(copied) == before


def interrupt_after_an_epoch(monkeypatch, module) -> None:
    """The next state that the module saves is the last thing it does."""
    save = module.save_state

    def save_and_stop(*args) -> None:
        save(*args)
        monkeypatch.setattr(module, "save_state", save)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_state", save_and_stop)


def test_an_interrupted_run_goes_on_to_the_same_bytes(finished, project, recipe, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for module in (finetune_module, train_module):
        interrupt_after_an_epoch(monkeypatch, module)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, project, out, resume=out.exists(), console=quiet())
        assert not (out / "artifact").exists() and not (out / "train.json").exists()
    report = train(recipe, project, out, resume=True, console=quiet())
    for name in ("float/model.safetensors", "calibrated/model.safetensors", "artifact/model.safetensors"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name
    other = report_of(finished)
    for entry in (*report["training"]["epochs"], *other["training"]["epochs"]):
        del entry["seconds"]
    assert report["training"]["epochs"] == other["training"]["epochs"] and report["test"] == other["test"]


@pytest.mark.parametrize(
    "part, changes, named",
    [
        ("train", {"epochs": 3}, r"last\.safetensors: begun with other settings of epochs: \[2\], not \[3\]"),
        ("train", {"distillation": 0.5}, r"settings of distillation: \[0\.2\], not \[0\.5\]"),
        (
            "finetune",
            {"learning_rate": 0.1},
            r"finetune\.json: .* settings of learning_rate: \[0\.0002\], not \[0\.1\]",
        ),
        ("finetune", {"base": "other"}, r"finetune\.json: .* settings of base: \['.*base'\], not \['other'\]"),
        ("data", {"max_length": 16}, r"finetune\.json: .* settings of max_length: \[20\], not \[16\]"),
        ("quantize", {"word_bits": 8}, r"calibrated: quantize\.word_bits was 4, the recipe says 8"),
        ("quantize", {"softmax": "normalized"}, r"quantize\.softmax was 'numerator', the recipe says 'normalized'"),
        (None, {"seed": 1}, r"finetune\.json: .* settings of seed: \[0\], not \[1\]"),
    ],
)
def test_other_settings_are_refused_by_name(copied, project, recipe, part, changes, named):
    before = files(copied)
    if part is not None:
        changes = {part: dataclasses.replace(getattr(recipe, part), **changes)}
    changed = dataclasses.replace(recipe, **changes)
    with pytest.raises(ValueError, match=f"{named}; remedy: "):
        train(changed, project, copied, resume=True, console=quiet())
    assert files(copied) == before


def test_a_folder_that_is_not_empty_is_refused(project, recipe, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty; remedy: --resume, or another folder"):
        train(recipe, project, tmp_path, console=quiet())
    assert files(tmp_path) == {"notes.txt": b"mine"}


def test_a_gpu_that_is_not_there_is_refused(project, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device = 'cuda': .* no GPU here; remedy: device = 'cpu' or 'auto'"):
        train(dataclasses.replace(recipe, device="cuda"), project, tmp_path / "out", console=quiet())
    assert not (tmp_path / "out").exists()
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == "cuda" and choose_device("cpu") == "cpu"


@pytest.fixture(scope="module")
def of_checkpoint(finished, recipe) -> Recipe:
    """A recipe for single texts that begins with a fine-tuned checkpoint, with 8-bit words and the other softmax."""
    return dataclasses.replace(
        recipe,
        checkpoint=str(finished / "float"),
        quantize=dataclasses.replace(recipe.quantize, word_bits=8, softmax="normalized"),
        train=dataclasses.replace(SETTINGS, epochs=1),
    )


@pytest.fixture(scope="module")
def from_checkpoint(project, of_checkpoint, tmp_path_factory) -> Path:
    """The folder of a run of that recipe."""
    out = tmp_path_factory.mktemp("checkpoint") / "out"
    train(of_checkpoint, project / "single", out, console=quiet())
    return out


def test_a_fine_tuned_checkpoint_in_place_of_fine_tuning(from_checkpoint):
    assert not (from_checkpoint / "float").exists() and len(report_of(from_checkpoint)["training"]["epochs"]) == 1
    manifest = load_artifact(from_checkpoint / "artifact").manifest
    assert manifest["architecture"]["word_bits"] == 8 and manifest["softmax"] == "normalized"


@pytest.mark.parametrize("named", ["checkpoint", "max_length"])
def test_another_checkpoint_or_length_is_refused_by_name(from_checkpoint, project, of_checkpoint, tmp_path, named):
    """What is there already was made from the one, so nothing goes on with the other."""
    out = shutil.copytree(from_checkpoint, tmp_path / "out")
    other = shutil.copytree(of_checkpoint.checkpoint, tmp_path / "other")
    changes = {"checkpoint": {"checkpoint": str(other)},
               "max_length": {"data": dataclasses.replace(of_checkpoint.data, max_length=7)}}  # fmt: skip
    with pytest.raises(ValueError, match=named):
        train(
            dataclasses.replace(of_checkpoint, **changes[named]), project / "single", out, resume=True, console=quiet()
        )


@pytest.mark.parametrize(
    "labels, options",
    [(("yes", "no"), {}), (("no", "yes", "maybe"), {}), (LABELS, {"kind": "token"})],
    ids=["order", "number", "kind"],
)
def test_a_checkpoint_of_other_labels_is_refused(finished, project, recipe, tmp_path, labels, options):
    checkpoint = finished / "float"
    if options:
        random_classifier(checkpoint := tmp_path, **options)
    changed = dataclasses.replace(
        recipe, checkpoint=str(checkpoint), data=dataclasses.replace(recipe.data, labels=labels)
    )
    with pytest.raises(ValueError, match=r"its labels are "):
        train(changed, project, tmp_path / "out", console=quiet())
    assert not (tmp_path / "out" / "calibrated").exists()


# the parts ------------------------------------------------------------------------------------------------------------


def test_distillation_loss():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.3, -2.0]])
    teacher = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 2.0, 0.0]])
    target = torch.tensor([0, 2])
    p = np.exp(logits.double().numpy())
    p /= p.sum(axis=1, keepdims=True)
    hard = -np.log(p[[0, 1], [0, 2]]).mean()
    soft = [np.exp(x.double().numpy() / 3) for x in (logits, teacher)]
    ours, theirs = (x / x.sum(axis=1, keepdims=True) for x in soft)
    divergence = (theirs * np.log(theirs / ours)).sum(axis=1).mean()
    assert distillation_loss(logits, target, teacher, 0.0, 3.0).item() == pytest.approx(hard, rel=1e-5)
    assert distillation_loss(logits, target, teacher, 1.0, 3.0).item() == pytest.approx(9 * divergence, rel=1e-5)
    mixed = distillation_loss(logits, target, teacher, 0.25, 3.0).item()
    assert mixed == pytest.approx(0.75 * hard + 0.25 * 9 * divergence, rel=1e-5)
    assert distillation_loss(logits, target, logits, 1.0, 3.0).item() == pytest.approx(0, abs=1e-6)


@pytest.fixture
def small(tmp_path) -> tuple[Artifact, dict, dict]:
    """A random artifact, and tokens and labels of both splits."""
    artifact = load_artifact(make_random_artifact(tmp_path / "artifact", hidden=32, heads=1, ffn=40))
    rng = np.random.default_rng(0)
    some = [Tokens([2, *rng.integers(0, 50, n).tolist()], [0] * (n + 1)) for n in range(3, 19)]
    return artifact, {"train": some, "dev": some[:4]}, {"train": [i % 2 for i in range(16)], "dev": [0, 1, 0, 1]}


def test_each_sentence_meets_its_own_answers(small, tmp_path, monkeypatch):
    """Without a gradient nothing moves, so that every batch's logits are known."""
    artifact, tokens, labels = small
    expected = quantized_logits(artifact.manifest, artifact.tensors, tokens["train"])
    met = []

    def loss(logits, target, teacher, share, temperature) -> torch.Tensor:
        rows = teacher[:, 0].long().tolist()
        assert target.tolist() == [i % 2 for i in rows] and (share, temperature) == (0.2, 2.0)
        np.testing.assert_allclose(logits.detach(), expected[rows], rtol=1e-6)
        met.extend(rows)
        return 0 * logits.sum()

    monkeypatch.setattr(train_module, "distillation_loss", loss)
    teacher = torch.arange(16.0)[:, None].expand(16, 2)
    out = tmp_path / "training"
    _, tensors = train_quantized(
        (artifact.manifest, artifact.tensors), tokens, labels, teacher, SETTINGS, seed=0, out=out, console=quiet()
    )
    assert sorted(met[:16]) == sorted(met[16:]) == list(range(16)) and met[:16] != met[16:]
    np.testing.assert_array_equal(tensors["layers.0.q.weight"], artifact.tensors["layers.0.q.weight"])


@pytest.mark.parametrize(
    "found, best",
    [
        ([(0.5, 1.0), (0.9, 0.4), (0.7, 0.1)], 2),
        ([(0.9, 0.4), (0.9, 0.3), (0.9, 0.5)], 2),
        ([(0.9, 0.4), (0.9, 0.4), (0.9, 0.4)], 1),
    ],
    ids=["accuracy", "then loss", "then the earlier"],
)
def test_the_epoch_best_on_dev_is_kept(small, tmp_path, monkeypatch, found, best):
    artifact, tokens, labels = small
    seen = []

    def on_dev(manifest, tensors, tokens, labels) -> dict:
        seen.append(tensors)
        accuracy, loss = ([(0.0, 9.0), *found])[len(seen) - 1]  # the calibrated model comes first
        return {"dev_accuracy": accuracy, "dev_loss": loss}

    monkeypatch.setattr(train_module, "_on_dev", on_dev)
    log, tensors = train_quantized(
        (artifact.manifest, artifact.tensors), tokens, labels, torch.zeros(16, 2),
        dataclasses.replace(SETTINGS, epochs=3), seed=0, out=tmp_path / "training", console=quiet(),
    )  # fmt: skip
    assert log["best_epoch"] == best and [e["dev_loss"] for e in log["epochs"]] == [loss for _, loss in found]
    for epoch in (1, 2, 3):
        same = all(np.array_equal(tensors[name], tensor) for name, tensor in seen[epoch].items())
        assert same == (epoch == best)
