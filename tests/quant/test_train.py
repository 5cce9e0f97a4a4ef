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
from safetensors.torch import load_file
from tiny_bert import CONFIG, random_classifier, random_model, save_tokenizer
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel
from zynqbert.quant import finetune as finetune_module
from zynqbert.quant import float_model
from zynqbert.quant import train as train_module
from zynqbert.quant.artifact import load_artifact
from zynqbert.quant.batch import make_batch
from zynqbert.quant.checkpoint import weights_of
from zynqbert.quant.configuration import check_config
from zynqbert.quant.datasets import Example, read_table
from zynqbert.quant.distillation import Teacher, distillation_loss, feature_loss
from zynqbert.quant.evaluate import ramp_logits
from zynqbert.quant.fake_quant import FakeQuantModel
from zynqbert.quant.finetune import FineTuning
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.pruning import density_report, encoder_matrices, stage_density
from zynqbert.quant.recipe import Data, Prune, QuantizedTraining, Recipe, RecipeError
from zynqbert.quant.tokens import Tokens, encode
from zynqbert.quant.train import choose_device, train, train_quantized
from zynqbert.quant.trainable import TrainableModel

LABELS = ("no", "yes")
ROWS = {"train": 64, "dev": 24, "test": 24}
BASE = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.12)  # learns fast
SETTINGS = QuantizedTraining(epochs=2, batch=8, learning_rate=0.02, distillation=0.2)


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


def float_logits(folder: Path, examples: list[Example]) -> torch.Tensor:
    """Logits [examples, labels] of a Hugging Face folder, one by one."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = encode((folder / "tokenizer.json").read_text(), [e.texts for e in examples], 20)
    with torch.inference_mode():
        return torch.cat(
            [model(torch.tensor([ids]), token_type_ids=torch.tensor([types])).logits for ids, types in tokens]
        )


def test_accuracies_are_those_of_the_artifacts(finished, project):
    report, examples = report_of(finished), read_table(project / "test.tsv", LABELS)
    for name, folder in (("calibrated", "calibrated"), ("trained", "artifact")):
        assert report["test"][name]["quantized_right"] == right(finished / folder, examples)
    answers = float_logits(finished / "float", examples).argmax(dim=1).tolist()
    count = sum(answer == e.label for answer, e in zip(answers, examples, strict=True))
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
    assert second["weights_moved"] > first["weights_moved"] > 0
    assert min(first["dev_loss"], second["dev_loss"]) < log["calibrated"]["dev_loss"]


def test_the_teacher_reads_the_tokens_of_the_quantized_model(copied, project, recipe, monkeypatch):
    """Which are others than the float model's: unreachable words are gone."""
    met = []

    def watched(model, tokens, labels, teacher, *rest, **settings):
        met.append(teacher(make_batch(tokens["dev"]))[0])
        return train_quantized(model, tokens, labels, teacher, *rest, **settings)

    monkeypatch.setattr(train_module, "train_quantized", watched)
    train(recipe, project, copied, resume=True, console=quiet())
    examples = read_table(project / "dev.tsv", LABELS)
    np.testing.assert_allclose(met[0], float_logits(copied / "float", examples), atol=1e-4)


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
        ("train", {"epochs": 3}, r"settings\.json: begun with other settings of train\.epochs: \[2\], not \[3\]"),
        ("train", {"distillation": 0.5}, r"settings of train\.distillation: \[0\.2\], not \[0\.5\]"),
        ("finetune", {"learning_rate": 0.1}, r"settings of finetune\.learning_rate: \[0\.0002\], not \[0\.1\]"),
        ("finetune", {"base": "other"}, r"settings of finetune\.base: \['.*base'\], not \['other'\]"),
        ("data", {"max_length": 16}, r"settings of data\.max_length: \[20\], not \[16\]"),
        ("quantize", {"word_bits": 8}, r"settings of quantize\.word_bits: \[4\], not \[8\]"),
        ("quantize", {"softmax": "normalized"}, r"quantize\.softmax: \['numerator'\], not \['normalized'\]"),
        (None, {"seed": 1}, r"settings of seed: \[0\], not \[1\]"),
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


@pytest.mark.parametrize("source", ["nope", "config"])
def test_a_checkpoint_that_is_not_there(of_checkpoint, project, tmp_path, source):
    """Told by field, before the folder of the run is begun."""
    (tmp_path / "config").mkdir()  # without a config.json
    missing = dataclasses.replace(of_checkpoint, checkpoint=str(tmp_path / source))
    with pytest.raises(
        RecipeError, match=r"^recipe .*: checkpoint: '.*' is no folder of a model.*; remedy: "
    ) as caught:
        train(missing, project / "single", tmp_path / "out", console=quiet())
    assert caught.value.field == "checkpoint" and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


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
    [
        (("yes", "no"), {}),
        (("no", "yes", "maybe"), {}),
        (LABELS, {"kind": "token", "id2label": dict(enumerate(LABELS))}),
    ],
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


def test_feature_loss_is_a_share_of_the_teachers_variance():
    wanted = torch.tensor([[1.0, 10.0], [3.0, 30.0]])  # variances 1 and 100
    assert feature_loss(wanted, wanted) == 0
    assert feature_loss(wanted + torch.tensor([[1.0, 0.0], [0.0, 0.0]]), wanted).item() == pytest.approx(1 / 4 / 50.5)
    assert feature_loss(wanted.mean(dim=0).expand(2, 2), wanted).item() == pytest.approx(1)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_teacher_is_the_float_model(family):
    model = random_model(family=family)
    weights = weights_of(model, check_config(model.config.to_dict()))
    batch, taps = make_batch([Tokens([4, 7, 6, 5], [0, 0, 1, 1]), Tokens([4, 5], [0, 0])]), {}
    expected = float_model.forward(weights, batch, taps.__setitem__)
    teacher = Teacher(weights)
    logits, rows = teacher(batch)
    assert torch.equal(logits, expected) and torch.equal(rows, taps["layers.1.ffn_norm.y"])
    assert teacher.last == "layers.1.ffn_norm.y" and not logits.is_inference() and not rows.is_inference()


def test_the_teacher_moves_every_tensor_and_shares_what_was_shared():
    model = random_model(family="albert")
    weights = weights_of(model, check_config(model.config.to_dict()))
    moved = Teacher(weights, "meta").weights
    assert moved.layers[0] is moved.layers[1]

    def devices(value) -> set[str]:
        if isinstance(value, torch.Tensor):
            return {value.device.type}
        parts = value if isinstance(value, list) else vars(value).values() if dataclasses.is_dataclass(value) else ()
        return set().union(*map(devices, parts))

    assert devices(moved) == {"meta"} and devices(weights) == {"cpu"}


@pytest.fixture
def small(tmp_path) -> tuple[tuple[dict, dict], dict, dict]:
    """Manifest and tensors of a random artifact, tokens and labels of both splits."""
    artifact = load_artifact(make_random_artifact(tmp_path / "artifact", hidden=32, heads=1, ffn=40))
    scales = {"logits": 1 / 1500, "activations": {"layers.0.ffn_norm.y": 0.002}}
    model = {**artifact.manifest, "scales": scales}, artifact.tensors
    rng = np.random.default_rng(0)
    some = [Tokens([2, *rng.integers(0, 50, n).tolist()], [0] * (n + 1)) for n in range(3, 19)]
    return model, {"train": some, "dev": some[:4]}, {"train": [i % 2 for i in range(16)], "dev": [0, 1, 0, 1]}


class Answers:
    """A teacher that answers at random."""

    last = "layers.0.ffn_norm.y"

    def __call__(self, batch) -> tuple[torch.Tensor, torch.Tensor]:
        random = torch.Generator().manual_seed(len(batch.ids))
        return torch.randn(len(batch.lengths), 2, generator=random), torch.randn(len(batch.ids), 32, generator=random)


def test_each_sentence_meets_its_own_label(small, tmp_path, monkeypatch):
    """They are told apart by their lengths, 4 to 19; without a gradient nothing moves."""
    model, tokens, labels = small
    met = []

    def loss(model, teacher, batch, target, settings) -> torch.Tensor:
        assert target.tolist() == [n % 2 for n in batch.lengths.tolist()]
        met.extend(batch.lengths.tolist())
        return 0 * model.forward(batch).sum()

    monkeypatch.setattr(train_module, "_loss", loss)
    out = tmp_path / "training"
    settings = dataclasses.replace(SETTINGS, batch=4)
    _, tensors = train_quantized(model, tokens, labels, Answers(), settings, seed=0, out=out, console=quiet())
    assert sorted(met[:16]) == sorted(met[16:]) == list(range(4, 20)) and met[:16] != met[16:]
    for name, tensor in TrainableModel(*model).tensors().items():
        np.testing.assert_array_equal(tensors[name], tensor, err_msg=name)


def test_rates_are_those_of_the_schedule(small, tmp_path, monkeypatch):
    model, tokens, labels = small
    asked = []

    def rate(*given) -> float:
        asked.append(given)
        return 0.0

    monkeypatch.setattr(train_module, "learning_rate", rate)
    out = tmp_path / "training"
    _, tensors = train_quantized(model, tokens, labels, Answers(), SETTINGS, seed=0, out=out, console=quiet())
    assert asked == [(step, 4, 0.02) for step in range(4)]
    for name, tensor in TrainableModel(*model).tensors().items():
        np.testing.assert_array_equal(tensors[name], tensor, err_msg=name)


def test_the_loss_is_of_answers_and_of_rows(small):
    """In real units: logits and the last norm's output times the scales of the manifest."""
    (manifest, tensors), tokens, _ = small
    batch, target, taps = make_batch(tokens["train"][:5]), torch.tensor([0, 1, 1, 0, 1]), {}
    logits = FakeQuantModel(manifest, tensors).forward(batch, taps.__setitem__) * manifest["scales"]["logits"]
    answers, rows = Answers()(batch)
    answered = distillation_loss(logits.float(), target, answers, 0.2, 2.0)
    missed = feature_loss(taps["layers.0.ffn_norm.y"] * 0.002, rows)
    for features in (0.0, 1.0, 2.5):
        settings = dataclasses.replace(SETTINGS, features=features)
        found = train_module._loss(TrainableModel(manifest, tensors), Answers(), batch, target, settings)
        assert found.item() == pytest.approx(float(answered + features * missed), rel=1e-5)


@pytest.fixture
def early(tmp_path) -> tuple[dict, dict]:
    """Manifest and tensors of a random artifact with off-ramps."""
    shape = dict(hidden=64, heads=2, ffn=40, layers=3, layer_heads=[2, 1, 1], spans=[[3, 128], [2], [9]], exits=True)
    artifact = load_artifact(make_random_artifact(tmp_path / "early", **shape))
    scales = {"logits": 1 / 1500, "activations": {"layers.0.ffn_norm.y": 0.002}}
    return {**artifact.manifest, "scales": scales}, artifact.tensors


class EarlyAnswers(Answers):
    def __call__(self, batch):
        return super().__call__(batch)[0], torch.ones(len(batch.ids), 64).cumsum(dim=0)


def test_every_ramp_follows_labels_and_the_float_models_last_answer(small, early):
    """All ramps weigh the same."""
    tokens = small[1]["train"][:5]
    batch, target = make_batch(tokens), torch.tensor([0, 1, 1, 0, 1])
    answers, rows = EarlyAnswers()(batch)
    taps = {}
    logits = FakeQuantModel(*early).every_ramp(batch, taps.__setitem__).float() * early[0]["scales"]["logits"]
    losses = [distillation_loss(logits[:, i], target, answers, 0.2, 2.0).item() for i in range(3)]
    missed = feature_loss(taps["layers.0.ffn_norm.y"] * 0.002, rows).item()
    assert len({round(loss, 3) for loss in losses}) == 3
    found = train_module._loss(TrainableModel(*early), EarlyAnswers(), batch, target, SETTINGS)
    assert found.item() == pytest.approx(sum(losses) / 3 + SETTINGS.features * missed, rel=1e-5)


def test_an_early_exit_model_is_trained_and_judged_by_all_its_ramps(small, early, tmp_path):
    _, tokens, labels = small
    settings = dataclasses.replace(SETTINGS, epochs=3)
    log, tensors = train_quantized(
        early, tokens, labels, EarlyAnswers(), settings, prune=Prune(density=0.6), seed=0, out=tmp_path / "training",
        console=quiet(),
    )  # fmt: skip
    ranks = [(e["mean_accuracy"], -e["mean_loss"]) for e in log["epochs"]]
    assert log["best_epoch"] == ranks.index(max(ranks)) + 1
    logits = ramp_logits(early[0], tensors, tokens["dev"])
    right = logits.argmax(axis=2) == np.array(labels["dev"])[:, None]
    best = log["epochs"][log["best_epoch"] - 1]
    assert best["mean_accuracy"] == pytest.approx(right.mean()) and best["dev_accuracy"] == right[:, -1].mean()
    moved = [n for n in tensors if n.startswith("exits.") and (tensors[n] != early[1][n]).any()]
    assert {n.split(".")[1] for n in moved} == {"0", "1"}


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
    model, tokens, labels = small
    seen = []

    def on_dev(manifest, tensors, tokens, labels) -> dict:
        seen.append(tensors)
        accuracy, loss = ([(0.0, 9.0), *found])[len(seen) - 1]  # the calibrated model comes first
        return {"dev_accuracy": accuracy, "dev_loss": loss}

    monkeypatch.setattr(train_module, "_on_dev", on_dev)
    log, tensors = train_quantized(
        model, tokens, labels, Answers(), dataclasses.replace(SETTINGS, epochs=3), seed=0,
        out=tmp_path / "training", console=quiet(),
    )  # fmt: skip
    assert log["best_epoch"] == best and [e["dev_loss"] for e in log["epochs"]] == [loss for _, loss in found]
    for epoch in (1, 2, 3):
        same = all(np.array_equal(tensors[name], tensor) for name, tensor in seen[epoch].items())
        assert same == (epoch == best)


# pruning --------------------------------------------------------------------------------------------------------------


def test_a_pruned_run(finished, project, of_checkpoint, tmp_path):
    """Calibrated at its density, trained within it, told in manifest and report; other densities are refused."""
    recipe = dataclasses.replace(of_checkpoint, prune=Prune(0.4))
    report = train(recipe, project / "single", tmp_path / "out", console=quiet())
    for name in ("calibrated", "artifact"):
        a = load_artifact(tmp_path / "out" / name)
        matrices = encoder_matrices(a.manifest, a.tensors)
        assert a.manifest["metrics"]["density"] == density_report(matrices, 0.4), name
        assert all(0.35 < np.count_nonzero(q) / q.size <= 0.4 for q in matrices.values()), name
    assert report["density"] == a.manifest["metrics"]["density"]
    assert report["training"]["settings"]["prune"] == {"density": 0.4, "ramp": 0.0, "pattern": "free"}
    assert report["training"]["epochs"][0]["density"] == report["density"]["achieved"]
    for other in (Prune(0.5), Prune(0.4, 0.5), None):
        with pytest.raises(ValueError, match=r"settings\.json: begun with other settings of prune\."):
            train(dataclasses.replace(recipe, prune=other), project / "single", tmp_path / "out", resume=True)


def test_a_run_takes_what_is_denormal_for_zero(tmp_path):
    """A word's momentum gets there when it does not occur for long, and products with it take many times as long."""
    torch.set_flush_denormal(False)  # as it is in a new process
    tiny = torch.tensor([1e-39, 1e-30])
    assert (2 * tiny)[0] > 0
    try:
        train_module.begin(tmp_path / "none", False, torch.get_num_threads(), "cpu")
        assert (2 * tiny).tolist() == [0.0, pytest.approx(2e-30)]
    finally:
        torch.set_flush_denormal(False)


def test_a_ramp_begins_with_the_dense_model(finished, project, of_checkpoint, tmp_path):
    recipe = dataclasses.replace(of_checkpoint, prune=Prune(0.4, 0.5))
    report = train(recipe, project / "single", tmp_path / "out", console=quiet())
    calibrated = load_artifact(tmp_path / "out" / "calibrated")
    assert "density" not in calibrated.manifest["metrics"]
    assert report["density"]["wanted"] == 0.4 and max(report["density"]["matrices"].values()) <= 0.4


@pytest.mark.parametrize("prune", [Prune(0.5), Prune(0.3, 0.5)], ids=["at once", "by stages"])
def test_a_pruned_training_that_was_cut_goes_on_to_the_same_bytes(small, tmp_path, monkeypatch, prune):
    model, tokens, labels = small
    settings = dataclasses.replace(SETTINGS, epochs=4, batch=4)
    how = dict(prune=prune, seed=0, console=quiet())
    log, tensors = train_quantized(model, tokens, labels, Answers(), settings, out=tmp_path / "whole", **how)
    for _ in range(3):
        interrupt_after_an_epoch(monkeypatch, train_module)
        with pytest.raises(KeyboardInterrupt):
            train_quantized(model, tokens, labels, Answers(), settings, out=tmp_path / "cut", resume=True, **how)
    _, again = train_quantized(model, tokens, labels, Answers(), settings, out=tmp_path / "cut", resume=True, **how)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, again[name], err_msg=name)
    state = [(tmp_path / name / "last.safetensors") for name in ("whole", "cut")]
    for name, value in load_file(state[0]).items():
        assert torch.equal(value, load_file(state[1])[name]), name
    latent = {n: v for n, v in load_file(state[0]).items() if n.startswith("weight.layers.") and n.endswith(".weight")}
    assert len(latent) == 6 and all(v.count_nonzero() <= prune.density * v.numel() for v in latent.values())
    assert max(density_report(encoder_matrices(model[0], tensors), 1)["matrices"].values()) <= prune.density
    found = [entry["density"] for entry in log["epochs"]]
    assert found[-1] <= prune.density and (found[0] <= prune.density) == (prune.ramp == 0)


def test_every_step_has_the_density_of_its_stage(small, tmp_path, monkeypatch):
    model, tokens, labels = small
    met, prune = [], Prune(0.3, 0.6)

    def loss(model, teacher, batch, target, settings) -> torch.Tensor:
        held = {name: float(mask.double().mean()) for name, mask in model.masks.items()}
        met.append(max(held.values()))
        return model.forward(batch).square().mean()

    monkeypatch.setattr(train_module, "_loss", loss)
    settings = dataclasses.replace(SETTINGS, epochs=3, batch=4)
    train_quantized(model, tokens, labels, Answers(), settings, prune=prune, seed=0, out=tmp_path, console=quiet())
    assert met == pytest.approx([stage_density(i, 12, 0.3, 0.6) for i in range(12)], abs=1e-3)


def test_the_best_epoch_is_one_of_the_wanted_density(small, tmp_path, monkeypatch):
    """However good the denser ones before it are."""
    model, tokens, labels = small
    scores = iter([(0.0, 9.0), (1.0, 0.1), (0.5, 1.0), (0.7, 0.9), (0.7, 1.0)])
    monkeypatch.setattr(
        train_module, "_on_dev", lambda *_: dict(zip(("dev_accuracy", "dev_loss"), next(scores), strict=True))
    )
    log, tensors = train_quantized(
        model, tokens, labels, Answers(), dataclasses.replace(SETTINGS, epochs=4, batch=4), prune=Prune(0.3, 0.4),
        seed=0, out=tmp_path, console=quiet(),
    )  # fmt: skip
    assert log["best_epoch"] == 3
    assert max(density_report(encoder_matrices(model[0], tensors), 1)["matrices"].values()) <= 0.3
