# SPDX-License-Identifier: Apache-2.0
"""A backbone quantized with its tasks: near to the float answers, equal to the golden model, and open to more tasks."""

import json
import shutil

import numpy as np
import pytest
import torch
from float_tasks import loud
from gems import examples
from safetensors.numpy import load_file
from safetensors.torch import save_file
from tiny_bert import random_classifier
from zynqbert.host import cli
from zynqbert.quant import quantize_tasks as module
from zynqbert.quant.adapters import Adapting, new_task
from zynqbert.quant.artifact import ArtifactError
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.checkpoint import Linear
from zynqbert.quant.codes import Code, Quantized
from zynqbert.quant.compare import compare
from zynqbert.quant.evaluate import quantized_logits, ramp_logits
from zynqbert.quant.float_model import ACTIVATIONS
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.options import Options
from zynqbert.quant.quantize_tasks import (
    TaskSource,
    add_float_task,
    float_backbone,
    float_task,
    quantize_tasks,
    task_settings,
)
from zynqbert.quant.student import encoder
from zynqbert.quant.task_artifact import load_backbone, load_task, task_names
from zynqbert.quant.task_tensors import TaskTensors, narrow_coding
from zynqbert.quant.task_walk import joint_calibration
from zynqbert.quant.tokens import encode

TEXTS = [example.text for example in examples(60, 1)]
CALIBRATED = 20  # texts of each task
OPTIONS = Options(sweeps=1, norm_entries=5)  # enough for layers to want different ones
LABELS = {"mood": ["bad", "good"], "kind": ["a", "b", "c"]}


def float_tasks(folder, backbone, *, seed=3, **adapting):
    """Float tasks whose tensors matter, as task_training.py writes them."""
    form = Adapting(**{"width": 6, "activation": "relu", "shared": True} | adapting)
    weights = encoder(str(backbone)).weights
    made = {}
    for n, (name, labels) in enumerate(LABELS.items()):
        task = new_task(weights, len(labels), form, seed=n)
        loud(task, seed + n)
        (folder / name).mkdir(parents=True)
        save_file(
            {key: tensor.detach().contiguous() for key, tensor in task.items()}, folder / name / "task.safetensors"
        )
        settings = {**vars(form), "backbone": str(backbone), "labels": labels, "max_length": 20}
        (folder / name / "task.json").write_text(json.dumps({"settings": settings}))
        random = torch.Generator().manual_seed(n)
        ramps = {"0.weight": 0.2 * torch.randn(len(labels), 64, generator=random), "0.bias": torch.zeros(len(labels))}
        made[name] = TaskSource(folder / name, TEXTS, ramps)
    return made


@pytest.fixture(scope="module", params=["albert", "bert"])
def quantized(request, tmp_path_factory):
    """Family, float backbone, float tasks, the folder they were quantized to, and the report."""
    folder = tmp_path_factory.mktemp(request.param)
    random_classifier(folder / "backbone", family=request.param)
    tasks = float_tasks(folder, folder / "backbone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SENTENCES", CALIBRATED * len(LABELS))
        report = quantize_tasks(folder / "backbone", tasks, folder / "made", name="trunk", options=OPTIONS)
    return request.param, folder / "backbone", tasks, folder / "made", report


def test_tasks_answer_as_in_float(quantized):
    _, _, _, made, report = quantized
    assert task_names(load_backbone(made)) == sorted(LABELS)
    assert report["tasks"].keys() == LABELS.keys() and report["seconds"] > 0
    for of in report["tasks"].values():
        assert of["agreement"] > 0.7 and "layers.1.ffn_adapter.down" in of["errors"], of


@pytest.mark.parametrize("task", LABELS)
def test_the_batched_model_equals_the_golden(quantized, task):
    _, _, _, made, _ = quantized
    backbone = load_backbone(made)
    whole, golden = load_task(backbone, made / "tasks" / task), GoldenModel(made, made / "tasks" / task)
    sentences = encode(backbone.tokenizer_path.read_text(), TEXTS[:6], 20)
    found = quantized_logits(whole.manifest, whole.tensors, sentences) / whole.manifest["scales"]["logits"]
    expected = np.stack([golden.forward_sentence(s.ids, s.types) for s in sentences])
    np.testing.assert_array_equal(found.round().numpy(), expected)
    assert len(np.unique(expected)) > 3 and whole.manifest["task"]["labels"] == LABELS[task]
    never = {"threshold": 0, "foretold": None}
    for sentence, logits in zip(sentences, ramp_logits(whole.manifest, whole.tensors, sentences), strict=True):
        trace: dict = {}
        golden.forward_sentence(sentence.ids, sentence.types, trace=trace, exits=never)
        np.testing.assert_array_equal(logits, np.concatenate([trace["exits.0.logits"], trace["logits"]]))


@pytest.mark.parametrize("task", LABELS)
def test_integers_are_near_to_the_float_model(quantized, task):
    """The residual stream at every place, before an adapter and behind it; 4-bit weights on a model of random ones."""
    _, source, tasks, made, _ = quantized
    whole = load_task(load_backbone(made), made / "tasks" / task)
    given = float_task(task, tasks[task], float_backbone(source), task_settings(tasks[task].folder), 10)
    scales = whole.manifest["scales"]["activations"]
    codes = {n: Code(np.float64(scale)) for n, scale in scales.items() if n.endswith(".x") or n == "logits"}
    assert len(codes) == 9 + ("mapping.x" in codes)
    errors = compare(given.weights, Quantized(whole.manifest, whole.tensors, codes), given.sentences)["errors"]
    del errors["logits"]  # of few texts that random models hardly tell apart
    assert max(error for name, error in errors.items() if not name.startswith("layers.1.")) < 0.15, errors
    assert max(errors.values()) < 0.45, errors


def test_a_task_comes_out_the_same_alone_and_among_others(quantized, tmp_path):
    """What is added later is what the joint walk would have made, byte for byte."""
    _, source, tasks, made, _ = quantized
    alone = tmp_path / "alone"
    shutil.copytree(made, alone, ignore=shutil.ignore_patterns("mood"))
    before = {file: file.read_bytes() for file in alone.rglob("*") if file.is_file()}
    folder = add_float_task(alone, "mood", TaskSource(tasks["mood"].folder, TEXTS[:CALIBRATED], tasks["mood"].ramps))
    assert (folder / "task.safetensors").read_bytes() == (made / "tasks" / "mood" / "task.safetensors").read_bytes()
    assert {file: file.read_bytes() for file in before} == before
    with pytest.raises(ArtifactError, match="a task mood is there already"):
        add_float_task(alone, "mood", tasks["mood"])
    assert source.is_dir()


def test_the_command_line_quantizes_a_task_in_float(quantized, tmp_path, capsys):
    _, source, tasks, made, _ = quantized
    alone, texts = tmp_path / "alone", tmp_path / "texts.txt"
    shutil.copytree(made, alone, ignore=shutil.ignore_patterns("mood"))
    texts.write_text("\n".join(TEXTS[:CALIBRATED]))
    given = ["tasks", "add", str(alone), str(tasks["mood"].folder)]
    for more, fault in (
        ([], "needs texts of its kind; remedy: --calibrate F"),
        (["--calibrate", str(tmp_path / "none")], "no such file"),
        (["--calibrate", str(texts), "--name", "../x"], "a task '../x': letters, digits"),
        (["--calibrate", str(texts), "--trained-on", str(tmp_path / "none")], str(tmp_path / "none")),
    ):
        assert cli.call([*given, *more]) == 2
        said = capsys.readouterr().err
        assert fault in said and said.count("\n") == 1, said
    assert cli.call([*given, "--calibrate", str(texts), "--name", "again", "--trained-on", str(source)]) == 0
    assert "task again of trunk; zynqbert run --artifact" in capsys.readouterr().out
    found, wanted = (of / "task.safetensors" for of in (alone / "tasks" / "again", made / "tasks" / "mood"))
    found, wanted = load_file(found), load_file(wanted)  # the latter with off-ramps, which the folder in float has not
    assert {name for name in wanted if name.startswith("layers.")} == {n for n in found if n.startswith("layers.")}
    assert all((found[name] == wanted[name]).all() for name in wanted if name.startswith("layers."))
    assert cli.call(["tasks", "add", str(alone), str(made / "tasks" / "mood"), "--name", "x"]) == 2
    assert "no task in float; remedy: leave --name" in capsys.readouterr().err


def test_a_task_of_another_float_backbone_is_refused(quantized, tmp_path):
    family, _, _, made, _ = quantized
    model = random_classifier(tmp_path / "other", family=family)
    with torch.no_grad():
        next(iter(model.parameters())).add_(1.0)
    model.save_pretrained(tmp_path / "other")
    foreign = float_tasks(tmp_path, tmp_path / "other")
    with pytest.raises(ValueError, match="which is not what backbone trunk was made of"):
        add_float_task(made, "foreign", foreign["mood"])
    wider = float_tasks(tmp_path / "wide", tmp_path / "other", width=7)
    with pytest.raises(ValueError, match="width 7, relu, backbone trunk takes width 6, relu"):
        add_float_task(made, "wider", wider["mood"])


def test_tasks_that_do_not_go_together(quantized, tmp_path):
    _, source, _, _, _ = quantized
    tasks = float_tasks(tmp_path, source)
    tasks["kind"] = float_tasks(tmp_path / "wide", source, width=7)["kind"]
    with pytest.raises(ValueError, match=r"task\.json: adapters of Adapting\(width=7.*remedy: train all tasks alike"):
        quantize_tasks(source, tasks, tmp_path / "out", name="x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("")
    with pytest.raises(ValueError, match="is not empty; remedy: another folder"):
        quantize_tasks(source, tasks, tmp_path / "full", name="x")
    (tmp_path / "mood" / "task.json").write_text("{}")
    with pytest.raises(ValueError, match=r"task\.json: no float task"):
        quantize_tasks(source, tasks, tmp_path / "out", name="x")
    assert not (tmp_path / "out").exists()


def test_layers_of_one_matrix_have_the_same_entries(quantized):
    """Also the last norm, which the pooler reads, and not the next layer."""
    family, _, _, made, _ = quantized
    t = load_backbone(made).tensors
    for norm in ("attention_norm", "ffn_norm"):
        first, last = (t[f"layers.{i}.{norm}.entries"] for i in range(2))
        assert first.max() > 1 and last.max() > 1
        assert (first == last).all() or family == "bert"


def test_several_groups_of_shared_layers_are_refused(tmp_path):
    random_classifier(tmp_path / "backbone", family="albert", num_hidden_layers=4, num_hidden_groups=2)
    tasks = float_tasks(tmp_path, tmp_path / "backbone")
    tasks = {name: TaskSource(of.folder, of.texts) for name, of in tasks.items()}
    with pytest.raises(
        ValueError, match=r"share their matrices as \[0, 1\], \[2, 3\].*remedy: one group of all layers"
    ):
        quantize_tasks(tmp_path / "backbone", tasks, tmp_path / "out", name="x")


def test_layers_of_one_matrix_have_one_grid(tmp_path):
    random_classifier(tmp_path / "backbone", family="albert")
    checkpoint = float_backbone(tmp_path / "backbone")
    tasks = float_tasks(tmp_path, tmp_path / "backbone")
    floats = [float_task(n, of, checkpoint, task_settings(of.folder), 8) for n, of in tasks.items()]
    each = [calibrate(task.weights, task.sentences) for task in floats]
    joint = joint_calibration(checkpoint.weights, each)
    names = ["mapping.x", "layers.0.ffn_norm.y", "layers.1.ffn_norm.y"]
    assert len({joint.peak(name) for name in names}) == 1
    assert joint.peak(names[0]) == max(c.peak(name) for c in each for name in names)
    both = [f"layers.{i}.{tap}.x" for i in range(2) for tap in ("o", "attention_adapter")]
    assert {joint.peak(f"layers.{i}.o.x") for i in range(2)} == {max(c.peak(name) for c in each for name in both)}
    assert len(joint.sentences) == 16


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_table_of_a_bottleneck(activation):
    """Outputs within two steps of its code for nearly all inputs; the index's ends are the range's."""
    z = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * 2
    coding = narrow_coding(activation, z)
    index = ((z - coding.zero) / coding.step + 0.5).floor().clamp(-128, 127).long()
    found = torch.from_numpy(coding.table)[index + 128] * coding.scale
    wrong = (found - ACTIVATIONS[activation](z)).abs() / coding.scale
    assert wrong.square().mean().sqrt() < 2 and np.abs(coding.table).max() == 127
    if activation == "relu":
        assert coding.zero - 128 * coding.step == pytest.approx(0, abs=coding.step) and coding.table[0] == 0


def test_rounded_matrices_of_zeros():
    """An adapter that does nothing, as those that were never trained at a place."""
    made = TaskTensors()
    made.put_linear("classifier", Linear(torch.zeros(3, 8), torch.tensor([0.0, 1.0, -2.0])), np.full(8, 0.1), 0.01)
    t = made.tensors
    assert not t["classifier.weight"].any() and t["classifier.bias"][0] == 0
    real = t["classifier.bias"] * (t["classifier.m"].astype(float) * 2.0 ** -t["classifier.s"].astype(float)) * 0.01
    np.testing.assert_allclose(real, [0, 1, -2], atol=0.01)
