# SPDX-License-Identifier: Apache-2.0
"""The recipe of many tasks: its fields, one command that resumes, and figures that are those of the folders."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from gems import NAMES, examples, quiet
from tiny_bert import random_model, save_tokenizer
from zynqbert.quant import datasets, multi_task
from zynqbert.quant.backbone import Backbone
from zynqbert.quant.datasets import DATA_SETS, DataSet
from zynqbert.quant.evaluate import quantized_logits, ramp_entropies, ramp_logits
from zynqbert.quant.finetune import FineTuning
from zynqbert.quant.multi_task import follow_tasks, table
from zynqbert.quant.recipe import Quantizing, RecipeError
from zynqbert.quant.task_artifact import load_backbone, task_names
from zynqbert.quant.task_artifact import load_task as load_quantized
from zynqbert.quant.task_recipe import Sparse, TasksRecipe, load_tasks_recipe
from zynqbert.quant.task_training import TaskTraining, load_task
from zynqbert.quant.thresholds import exit_layers
from zynqbert.quant.tokens import encode

RECIPES = Path(__file__).parents[2] / "recipes"
SIZES = {"train": 90, "dev": 24, "test": 30}


def test_the_committed_recipe():
    file = RECIPES / "tasks.toml"
    found = load_tasks_recipe(file)
    assert found.name == "tasks" and set(found.sets) == set(DATA_SETS) and found.backbone.base == "minilm-l6"
    assert f"zynqbert train recipes/{file.name}\n" in file.read_text()


@pytest.fixture
def recipe(tmp_path):
    def load(text: str, **options):
        (tmp_path / "r.toml").write_text(text)
        return load_tasks_recipe(tmp_path / "r.toml", **options)

    return load


LEAST = 'name = "x"\nsets = ["tweets"]\n'


def test_defaults_and_fields(recipe):
    assert recipe(LEAST) == TasksRecipe("x", ("tweets",))
    assert recipe(LEAST, seed=4).seed == 4
    assert recipe('name = "x"\n[data]\nset = "tweets"\n') is None  # of another kind
    found = recipe(
        'name = "n"\nsets = ["tweets", "policy-pairs"]\nseed = 7\nthreads = 3\ndevice = "cpu"\nmax_length = 9\n'
        'precision = "bfloat16"\n[backbone]\nbase = "b"\nembedding = 64\nlayer = 2\nepochs = 3\nbatch = 4\n'
        "learning_rate = 0.1\nnoise = 0\nfirst = 0.5\n"
        '[adapters]\nwidth = 8\nactivation = "silu"\nshared = false\nepochs = 2\n'
        "batch = 6\nlearning_rate = 0.2\ndropout = 0\nnoise = 0.2\n"
        "[finetune]\nepochs = 5\nbatch = 7\nlearning_rate = 1\n"
        '[quantize]\nword_bits = 8\nword_format = "adaptivfloat"\nword_density = 0.7\n[sparse]\ndensity = 0.3\n'
        "epochs = 2\nbatch = 5\nlearning_rate = 0.1\ndistillation = 0.2\ntemperature = 3\nlosses = [1.0]\n"
    )
    assert found == TasksRecipe(
        name="n",
        sets=("tweets", "policy-pairs"),
        seed=7,
        threads=3,
        device="cpu",
        precision="bfloat16",
        max_length=9,
        backbone=Backbone("b", 64, 2, 3, 4, 0.1, 0, 0.5),
        adapters=TaskTraining(8, "silu", False, 2, 6, 0.2, 0, 0.2),
        finetune=FineTuning(epochs=5, batch=7, learning_rate=1),
        quantize=Quantizing(word_bits=8, word_format="adaptivfloat", word_density=0.7),
        sparse=Sparse(0.3, 2, 5, 0.1, 0.2, 3.0, (1.0,)),
    )
    assert recipe('checkpoint = "there"\n' + LEAST).checkpoint == "there"


@pytest.mark.parametrize(
    "text, field",
    [
        ('name = "x"\nsets = []\n', "sets"),
        ('name = "x"\nsets = ["tweets", "tweets"]\n', "sets"),
        ('name = "x"\nsets = ["films"]\n', "sets"),
        ('name = "x"\nsets = "tweets"\n', "sets"),
        ('sets = ["tweets"]\n', "name"),
        (LEAST + "[adapters]\nwidth = 0\n", "adapters.width"),
        (LEAST + "[sparse]\ndensity = 0\n", "sparse.density"),
        (LEAST + "[sparse]\nlosses = []\n", "sparse.losses"),
        (LEAST + '[quantize]\nword_format = "adaptivfloat"\n', "quantize.word_bits"),
        (LEAST + '[adapters]\nactivation = "mish"\n', "adapters.activation"),
        (LEAST + "[adapters]\nshared = 1\n", "adapters.shared"),
        (LEAST + "[adapters]\ndropout = 1\n", "adapters.dropout"),
        (LEAST + "[backbone]\nembedding = 4\n", "backbone.embedding"),
        (LEAST + "[backbone]\nlayer = 0\n", "backbone.layer"),
        (LEAST + '[finetune]\nbase = "b"\n', "finetune.base"),
        (LEAST + "max_length = 200\n", "max_length"),
        ('checkpoint = "c"\n' + LEAST + "[backbone]\nlayer = 1\n", "checkpoint"),
        (LEAST + "adapters = 3\n", "adapters"),
    ],
)
def test_a_wrong_field_is_named(recipe, tmp_path, text, field):
    with pytest.raises(RecipeError, match=f"r\\.toml: {re.escape(field)}: .*remedy: ") as error:
        recipe(text)
    assert error.value.field == field


@pytest.fixture
def two_sets(monkeypatch):
    """Gems, and the same texts with the labels turned."""
    seeds = {split: seed for seed, split in enumerate(SIZES)}

    def load(split: str, *, offline: bool = False):
        return examples(SIZES[split], seeds[split])

    archive = datasets.TWEETS_ARCHIVE
    monkeypatch.setitem(DATA_SETS, "gems", DataSet("gems", NAMES, load, archive, lambda: ["a gem a", "s s ."]))
    turned = DataSet("stones", ("stone", "gem"), load, archive)
    monkeypatch.setitem(DATA_SETS, "stones", turned)


def test_one_command_that_resumes(two_sets, tmp_path, monkeypatch):
    base = tmp_path / "base"
    model = random_model()
    torch.manual_seed(0)
    type(model)(model.config).base_model.save_pretrained(base)
    save_tokenizer(base)
    recipe = TasksRecipe(
        name="x",
        sets=("gems", "stones"),
        threads=1,
        device="cpu",
        max_length=16,
        backbone=Backbone(str(base), 48, 1, 1, 8),
        adapters=TaskTraining(width=8, epochs=1, batch=8),
        finetune=FineTuning(epochs=1, batch=8, learning_rate=1e-3),
        sparse=Sparse(density=0.4, epochs=1, batch=8),
    )
    out = tmp_path / "out"
    real = multi_task.train_task

    def cut(*args, **options):
        if "stones" in str(args[2]):
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(multi_task, "train_task", cut)
    with pytest.raises(KeyboardInterrupt):
        follow_tasks(recipe, out, console=quiet())
    monkeypatch.setattr(multi_task, "train_task", real)
    with pytest.raises(ValueError, match="is not empty; remedy: --resume"):
        follow_tasks(recipe, out, console=quiet())
    made = (out / "gems" / "adapters" / "task.safetensors").stat().st_mtime_ns
    report = follow_tasks(recipe, out, resume=True, console=quiet())
    assert (out / "gems" / "adapters" / "task.safetensors").stat().st_mtime_ns == made
    assert report["tasks"] == json.loads((out / "tasks.json").read_text())["tasks"]
    assert list(report["tasks"]) == ["gems", "stones"] and report["backbone"]["best"]["dev_loss"] > 0
    test = DATA_SETS["stones"].load("test")
    task = load_task(out / "backbone", out / "stones" / "adapters")
    texts = encode((out / "backbone" / "tokenizer.json").read_text(), [e.texts for e in test], 16)
    right = task.logits(texts).argmax(dim=1).numpy() == [e.label for e in test]
    found = report["tasks"]["stones"]
    assert found["adapters"]["test_accuracy"] == np.mean(right) and found["test_sentences"] == 30
    lost = 100 * (found["full"]["test_accuracy"] - found["adapters"]["test_accuracy"])
    assert found["full"]["adapters_lose_points"] == pytest.approx(lost)
    assert found["adapters"]["adapters_lose_points"] == 0
    low, high = found["full"]["interval_points"]
    assert low <= lost <= high
    backbone = load_backbone(out / "artifact")
    assert task_names(backbone) == ["gems", "stones"] and backbone.manifest["metrics"]["quantize"]["density"] == 0.4
    whole = load_quantized(backbone, out / "artifact" / "tasks" / "stones")
    encoder = [t for n, t in whole.tensors.items() if n.startswith("layers.") and n.endswith("ffn2.weight")]
    assert 0.3 < np.mean([np.count_nonzero(np.stack([t & 15, t >> 4])) / (2 * t.size) for t in encoder]) < 0.45
    texts = encode(whole.tokenizer_path.read_text(), [e.texts for e in test], 16)  # numbered without unused words
    logits = ramp_logits(whole.manifest, whole.tensors, texts)
    truth = np.array([e.label for e in test])
    assert found["sparse"]["test_accuracy"] == (logits[:, -1].argmax(axis=1) == truth).mean()
    point = whole.manifest["exits"]["points"]["1"]
    left = exit_layers(ramp_entropies(whole.manifest, logits), point["threshold"])
    early = logits[np.arange(len(left)), left - 1].argmax(axis=1) == truth
    assert point["test"]["accuracy"] == early.mean() and point["test"]["mean_layer"] == left.mean()
    assert found["points"]["1"] == json.loads(json.dumps(point))
    dense = load_quantized(load_backbone(out / "quantized"), out / "quantized" / "tasks" / "stones")
    answers = quantized_logits(dense.manifest, dense.tensors, texts).argmax(dim=1).numpy()
    assert found["quantized"]["test_accuracy"] == (answers == truth).mean() and dense.manifest["exits"] is None
    assert table(report).columns[0].header == "task" and table(report).row_count == 2


def test_a_checkpoint_is_the_backbone(two_sets, tmp_path):
    base = tmp_path / "base"
    random_model(family="albert").base_model.save_pretrained(base)
    save_tokenizer(base)
    recipe = TasksRecipe("x", ("gems",), threads=1, device="cpu", max_length=16, checkpoint=str(base),
                         adapters=TaskTraining(width=8, epochs=1, batch=8),
                         finetune=FineTuning(epochs=1, batch=8))  # fmt: skip
    report = follow_tasks(recipe, tmp_path / "out", console=quiet())
    assert report["backbone"] is None and "base" not in report["tasks"]["gems"]
    assert not (tmp_path / "out" / "backbone").exists()
