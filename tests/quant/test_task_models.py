# SPDX-License-Identifier: Apache-2.0
"""The models of a run of tasks that the robustness study is of: one backbone, quantized for each density and width."""

import json

import numpy as np
import pytest
from float_tasks import loud
from gems import examples
from safetensors.torch import save_file
from tiny_bert import random_classifier
from zynqbert.quant import datasets, quantize_tasks, task_models
from zynqbert.quant.adapters import Adapting, new_task
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.datasets import DATA_SETS, DataSet
from zynqbert.quant.evaluate import quantized_logits
from zynqbert.quant.options import Options
from zynqbert.quant.quantize_tasks import TaskSource
from zynqbert.quant.robustness import DENSITIES, WEIGHT_BITS, study
from zynqbert.quant.task_models import studied_tasks

LABELS = {"mood": ("bad", "good"), "kind": ("a", "b")}


def texts_of(split: str, *, offline: bool = False):
    return examples(60, 1) if split == "train" else examples(25, 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run with two tasks, whose data sets are gems."""
    out = tmp_path_factory.mktemp("run")
    random_classifier(out / "backbone", family="albert", num_labels=2)
    weights, form = load_checkpoint(out / "backbone").weights, Adapting(6, "relu", True)
    sources = {}
    with pytest.MonkeyPatch.context() as patch:
        for n, (name, labels) in enumerate(LABELS.items()):
            patch.setitem(DATA_SETS, name, DataSet(name, labels, texts_of, datasets.TWEETS_ARCHIVE))
            task = new_task(weights, 2, form, seed=n)
            loud(task, n)
            (out / name / "adapters").mkdir(parents=True)
            tensors = {key: t.detach().contiguous() for key, t in task.items()}
            save_file(tensors, out / name / "adapters" / "task.safetensors")
            settings = {**vars(form), "backbone": str(out / "backbone"), "labels": labels, "max_length": 16}
            (out / name / "adapters" / "task.json").write_text(json.dumps({"settings": settings}))
            sources[name] = TaskSource(out / name / "adapters", [e.text for e in texts_of("train")])
        how = dict(name="run", options=Options(word_format="adaptivfloat", word_density=0.8))
        quantize_tasks.quantize_tasks(out / "backbone", sources, out / "quantized", **how)
        yield out


def test_every_model_of_every_task(run):
    studied = studied_tasks(run)
    assert [task.name for task in studied.tasks] == sorted(LABELS) and studied.name == run.name
    assert (studied.densities, studied.bits) == (DENSITIES, WEIGHT_BITS)
    for task in studied.tasks:
        assert task.labels.tolist() == [e.label for e in examples(25, 3)]
        found = {
            (d, b): quantized_logits(*studied.model(task.name, d, b), task.sentences).numpy()
            for d, b in ((1.0, 4), (1.0, 8), (0.3, 4))
        }
        assert found[1.0, 4].shape == (25, 2)
        assert len({logits.tobytes() for logits in found.values()}) == 3
    _, tensors = studied.model("mood", 0.3, 4)
    packed = tensors["layers.0.ffn2.weight"]
    assert np.count_nonzero(np.stack([packed & 15, packed >> 4])) <= 0.31 * 2 * packed.size
    assert studied.model("kind", 0.3, 4)[1]["layers.0.ffn2.weight"] is packed  # one backbone for all tasks


def test_the_backbone_is_quantized_once_for_all_tasks(run, monkeypatch):
    made = []
    real = task_models.walk_tasks
    monkeypatch.setattr(task_models, "walk_tasks", lambda *a: made.append(a[2].weight_bits) or real(*a))
    studied = studied_tasks(run)
    for task in studied.tasks:
        for bits in (4, 6, 6):
            studied.model(task.name, 1.0, bits)
    assert made == [6]


def test_a_whole_study(run, tmp_path, monkeypatch):
    monkeypatch.setattr(task_models, "DENSITIES", (1.0, 0.5))
    monkeypatch.setattr(task_models, "WEIGHT_BITS", (4, 8))
    report = study(studied_tasks(run), tmp_path, sentences=10, seeds=1, rates=(1e-2,), progress=lambda *a: None)
    assert report["points"].keys() == LABELS.keys()
    assert (tmp_path / "robustness-errors.svg").is_file()


def test_a_run_names_its_own_data(run):
    with pytest.raises(ValueError, match="name their own; remedy: leave it out"):
        studied_tasks(run, "tweets")
