# SPDX-License-Identifier: Apache-2.0
"""Adapters in the files of the `adapters` library, against transformers' own model with hooks in it, and against what
the library itself (1.3.0) answered: tests/support/adapter_hub/, made by tests/support/make_adapter_hub.py."""

import json
import pickle

import pytest
import torch
from gems import sentences
from make_adapter_hub import BACKBONES, FOLDER
from safetensors.torch import load_file, save_file
from tiny_bert import random_classifier, random_model
from zynqbert.quant.adapter_hub import import_adapter, load_adapter
from zynqbert.quant.adapters import NORMS, Adapting, new_task, with_task
from zynqbert.quant.checkpoint import ModelWeights
from zynqbert.quant.configuration import UnsupportedModel
from zynqbert.quant.finetune import predict
from zynqbert.quant.float_model import ACTIVATIONS
from zynqbert.quant.spans import whole_spans
from zynqbert.quant.student import Student, read
from zynqbert.quant.task_training import FILE, load_task
from zynqbert.quant.tokens import Tokens

FAMILIES = ("bert", "albert")
SHAPES = {
    "bert": dict(num_hidden_layers=2, num_labels=2),
    "albert": dict(num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2, num_labels=2),
}
LAYERS = {
    "bert": [f"encoder.layer.{i}." for i in range(2)],
    "albert": [f"encoder.albert_layer_groups.{g}.albert_layers.{j}." for g in range(2) for j in range(2)],
}
BRANCHES = {  # where the adapters' tensors are, and the module behind which they stand
    "bert": {"attention.output.adapters": "attention.output.dense", "output.adapters": "output.dense"},
    "albert": {"output_adapters.adapters": "ffn_output"},
}
PARTS = {"adapter_down.0.weight": (8, 64), "adapter_down.0.bias": (8,), "adapter_up.weight": (64, 8),
         "adapter_up.bias": (64,)}  # fmt: skip
MODEL = {"hidden_size": 64, "name": "mine", "version": "adapters.1.3.0"}
HEAD = {"head_type": "classification", "num_labels": 2, "layers": 1, "activation_function": "tanh", "bias": True,
        "label2id": {"good": 1, "bad": 0}, "use_pooler": True, "dropout_prob": None}  # fmt: skip
ATTENTION = r"BnConfig\(mh_adapter=False, output_adapter=True"


def of(family: str) -> ModelWeights:
    return Student(random_model(family=family, **SHAPES[family])).weights


def saved(family: str) -> dict[str, torch.Tensor]:
    """What the library's model has of an adapter of width 8."""
    random = torch.Generator().manual_seed(7)
    return {
        f"{family}.{at}{branch}.mine.{part}": torch.randn(shape, generator=random) * (1.5 / shape[-1] ** 0.5)
        for at in LAYERS[family]
        for branch in BRANCHES[family]
        for part, shape in PARTS.items()
    }


def write(folder, family="bert", *, tensors=None, head: dict | None = HEAD, config=None, **changes):
    """The library's folder of an adapter, with a head it added unless `head` is None; `changes` are of its config."""
    folder.mkdir(exist_ok=True)
    whole = json.loads((FOLDER / "bert" / "adapter_config.json").read_text())["config"]
    whole |= {"reduction_factor": 8, "non_linearity": "relu", "mh_adapter": family == "bert", **changes}
    settings = {**MODEL, "model_type": family, "config": whole, **(config or {})}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    torch.save(saved(family) if tensors is None else tensors, folder / "pytorch_adapter.bin")
    if head is not None:
        (folder / "head_config.json").write_text(json.dumps({**MODEL, "model_type": family, "config": head}))
        torch.manual_seed(3)
        state = {"heads.mine.1.weight": torch.randn(2, 64) / 5, "heads.mine.1.bias": torch.randn(2)}
        torch.save(state, folder / "pytorch_model_head.bin")
    return folder


def answers(weights: ModelWeights, texts) -> torch.Tensor:
    a = weights.architecture
    return read(weights, texts, whole_spans(a.layers, a.heads).attend)[0]


def with_hooks(model, tensors: dict, head: dict, activation: str) -> None:
    """The same adapters inside of transformers' own model."""
    family = model.config.model_type
    for at in LAYERS[family]:
        for branch, dense in BRANCHES[family].items():
            dw, db, uw, ub = (tensors[f"{family}.{at}{branch}.mine.{part}"] for part in PARTS)

            def hook(_, __, h, dw=dw, db=db, uw=uw, ub=ub):
                return h + ACTIVATIONS[activation](h @ dw.T + db) @ uw.T + ub

            model.get_submodule(f"{family}.{at}{dense}").register_forward_hook(hook)
    model.classifier.weight.data, model.classifier.bias.data = head["heads.mine.1.weight"], head["heads.mine.1.bias"]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_answers_as_the_library_did(family):
    weights = Student(random_model(family=family, **BACKBONES[family])).weights
    found = load_adapter(FOLDER / family, weights)
    told = json.loads((FOLDER / f"{family}.json").read_text())
    logits = answers(
        with_task(weights, found.task, found.adapting), [Tokens(ids, [0] * len(ids)) for ids in told["ids"]]
    )
    torch.testing.assert_close(logits, torch.tensor(told["logits"]), rtol=0, atol=1e-4)
    assert found.name == "gems"
    if family == "bert":
        assert found.adapting == Adapting(2, "silu", shared=False) and found.labels == ("LABEL_0", "LABEL_1")
    else:
        assert found.adapting == Adapting(2, "gelu", shared=True) and found.labels == ("stone", "gem")


@pytest.mark.parametrize("named", ["relu", "swish", "silu", "tanh", "gelu", "gelu_new"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_task_of_it_answers_as_transformers_with_adapters_in_it(family, named, tmp_path):
    model = random_classifier(tmp_path / "backbone", family=family, **SHAPES[family])
    folder, activation = write(tmp_path / "hub", family, non_linearity=named), named.replace("swish", "silu")
    found = import_adapter(str(tmp_path / "backbone"), folder, tmp_path / "out")
    texts = sentences().tokens["dev"]
    before = predict(model, texts)
    with_hooks(model, saved(family), torch.load(folder / "pytorch_model_head.bin"), activation)
    wanted = predict(model, texts)
    logits = load_task(tmp_path / "backbone", tmp_path / "out").logits(texts)
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-3)
    assert not torch.allclose(wanted, before, atol=0.1)
    settings = json.loads((tmp_path / "out" / "task.json").read_text())["settings"]
    assert settings == {"width": 8, "activation": activation, "shared": family == "albert", "name": "mine",
                        "backbone": str(tmp_path / "backbone"), "source": str(folder),
                        "labels": ["bad", "good"]}  # fmt: skip
    assert found.labels == ("bad", "good")
    with pytest.raises(ValueError, match="holds a task already; remedy: another folder"):
        import_adapter(str(tmp_path / "backbone"), folder, tmp_path / "out")
    assert load_file(tmp_path / "out" / FILE).keys() == found.task.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_task_has_the_backbones_norms_and_all_that_a_new_one_has(family, tmp_path):
    weights = of(family)
    found = load_adapter(write(tmp_path / "hub", family), weights)
    new = new_task(weights, 2, found.adapting, seed=0)
    assert {n: t.shape for n, t in found.task.items()} == {n: t.shape for n, t in new.items()}
    for i in set(weights.architecture.weights):
        assert all(torch.equal(found.task[f"layers.{i}.{n}.gamma"], getattr(weights.layers[i], n).gamma) for n in NORMS)
    attention = [t for n, t in found.task.items() if ".attention_adapter." in n]
    assert attention and all(bool(t.any()) == (family == "bert") for t in attention)


def test_either_file_of_a_model_with_or_without_a_head_class_is_read(tmp_path):
    weights, folder = of("bert"), write(tmp_path / "hub")
    wanted = load_adapter(folder, weights).task
    for name, to in (("pytorch_adapter.bin", "adapter"), ("pytorch_model_head.bin", "model_head")):
        tensors = {key.removeprefix("bert."): t for key, t in torch.load(folder / name).items()}
        save_file(tensors, folder / f"{to}.safetensors")
        (folder / name).unlink()
    found = load_adapter(folder, weights).task
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_half_precision_becomes_float(tmp_path):
    folder = write(tmp_path / "hub", tensors={key: t.half() for key, t in saved("bert").items()})
    found = load_adapter(folder, of("bert"))
    assert {t.dtype for t in found.task.values()} == {torch.float32}


def test_without_a_head_there_is_an_adapter_but_no_task(tmp_path):
    folder = write(tmp_path / "hub", head=None)
    found = load_adapter(folder, of("bert"))
    assert found.labels is None and not any(name.startswith("classifier") for name in found.task)
    random_classifier(tmp_path / "backbone", **SHAPES["bert"])
    with pytest.raises(UnsupportedModel, match=r"head_config\.json = None .*with_head=True"):
        import_adapter(str(tmp_path / "backbone"), folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def refused(folder, family: str, field: str, match: str) -> None:
    with pytest.raises(UnsupportedModel, match=match) as error:
        load_adapter(folder, of(family))
    assert error.value.field == field


SEQ_BN = dict(mh_adapter=False, original_ln_before=True)


@pytest.mark.parametrize(
    ("changes", "field", "match"),
    [
        (SEQ_BN, "mh_adapter", "mh_adapter = False .* config double_seq_bn"),
        (dict(original_ln_before=True), "original_ln_before", "False is needed"),
        (dict(original_ln_after=False), "original_ln_after", "True is needed"),
        (dict(output_adapter=False), "output_adapter", "True is needed"),
        (dict(residual_before_ln="post_add"), "residual_before_ln", "'post_add'"),
        (dict(adapter_residual_before_ln=True), "adapter_residual_before_ln", "False is needed"),
        (dict(ln_before=True), "ln_before", "False is needed"),
        (dict(ln_after=True), "ln_after", "False is needed"),
        (dict(is_parallel=True), "is_parallel", "False is needed"),
        (dict(scaling=4.0), "scaling", "1.0 is needed"),
        (dict(scaling="learned"), "scaling", "1.0 is needed"),
        (dict(use_gating=True), "use_gating", "False is needed"),
        (dict(phm_layer=True), "phm_layer", "False is needed"),
        (dict(cross_adapter=True), "cross_adapter", "False is needed"),
        (dict(leave_out=[1]), "leave_out", r"\[\] is needed"),
        (dict(inv_adapter="nice"), "inv_adapter", "None is needed"),
        (dict(architecture="prefix_tuning"), "architecture", "'prefix_tuning'"),
        (dict(architecture="lora"), "architecture", "'lora'"),
        (dict(a_field_of_tomorrow=True), "a_field_of_tomorrow", "None is needed"),
        (dict(non_linearity="leakyrelu"), "non_linearity", "none of relu, silu, tanh, gelu, gelu_new, swish"),
        (dict(reduction_factor={"1": 8, "default": 4}), "reduction_factor", "one number for all layers"),
        (dict(reduction_factor=0.5), "reduction_factor", "from 1 on"),
    ],
)
def test_another_kind_of_adapter_is_refused_by_its_field(changes, field, match, tmp_path):
    refused(write(tmp_path / "hub", **changes), "bert", field, match)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"hidden_size": 128}, "hidden_size"),
        ({"model_type": "roberta"}, "model_type"),
        ({"model_type": "albert"}, "model_type"),
        ({"config": None}, "mh_adapter"),
        ({"config": "houlsby"}, "mh_adapter"),
    ],
)
def test_another_backbone_is_refused(config, field, tmp_path):
    refused(write(tmp_path / "hub", config=config), "bert", field, f"{field} = .* is needed; ")


def test_an_alberts_adapter_at_attention_is_refused(tmp_path):
    """The library has it read the layer's input (make_adapter_hub.py's answers would differ)."""
    refused(write(tmp_path / "hub", "albert", mh_adapter=True), "albert", "mh_adapter", ATTENTION)
    refused(write(tmp_path / "hub", "albert", original_ln_before=True), "albert", "original_ln_before", ATTENTION)


def test_a_file_without_a_version_is_refused(tmp_path):
    """There "gelu" was what is gelu_new now, and tensors had other names."""
    folder = write(tmp_path / "hub", non_linearity="gelu")
    settings = json.loads((folder / "adapter_config.json").read_text())
    del settings["version"]
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    refused(folder, "bert", "version", "load it in the library and save it again")
    (folder / "adapter_config.json").write_text("<html>")
    refused(folder, "bert", "adapter_config.json", "Expecting value")


def test_tensors_that_do_not_fit_are_refused_by_file_and_key(tmp_path):
    key = "bert.encoder.layer.1.output.adapters.mine.adapter_up.bias"
    tensors = saved("bert")
    for changed, match in (
        ({k: t for k, t in tensors.items() if k != key}, r"None is not supported: \[64\] is needed"),
        ({**tensors, key: torch.zeros(8)}, r"\[8\] is not supported: \[64\] is needed"),
    ):
        refused(write(tmp_path / "hub", tensors=changed), "bert", f"pytorch_adapter.bin: {key}", match)
    more = "bert.encoder.layer.2.output.adapters.mine.adapter_up.bias"
    folder = write(tmp_path / "hub", tensors={**tensors, more: torch.zeros(64)})
    refused(folder, "bert", f"pytorch_adapter.bin: {more}", "no such tensor is needed")
    folder = write(tmp_path / "hub", reduction_factor=16)
    first = "bert.encoder.layer.0.attention.output.adapters.mine.adapter_down.0.bias"
    refused(folder, "bert", f"pytorch_adapter.bin: {first}", r"\[8\] is not supported: \[4\] is needed")


def test_an_alberts_groups_are_those_of_the_backbone(tmp_path):
    weights = Student(random_model(family="albert", num_hidden_layers=8, num_hidden_groups=4, num_labels=2)).weights
    assert len(set(weights.architecture.weights)) == 4  # as many as in the file, at other places
    with pytest.raises(UnsupportedModel, match=r"pytorch_adapter\.bin: albert_layer_groups = '2 of 2'"):
        load_adapter(write(tmp_path / "hub", "albert"), weights)
    key = "albert.encoder.albert_layer_groups.1.albert_layers.0.output_adapters.adapters.mine.adapter_up.bias"
    folder = write(tmp_path / "hub", "albert", tensors={k: t for k, t in saved("albert").items() if k != key})
    refused(folder, "albert", f"pytorch_adapter.bin: {key}", r"\[64\] is needed")


class Armed:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_what_is_no_archive_of_tensors_is_refused_and_does_not_run(tmp_path):
    folder, ran = write(tmp_path / "hub"), tmp_path / "ran"
    at = folder / "pytorch_adapter.bin"
    at.write_bytes(pickle.dumps(Armed(ran), protocol=2))
    refused(folder, "bert", "pytorch_adapter.bin", "no archive of tensors")
    torch.save({"a": Armed(ran)}, at)
    refused(folder, "bert", "pytorch_adapter.bin", "no archive of tensors")
    assert not ran.exists()
    torch.save(["a"], at)
    refused(folder, "bert", "pytorch_adapter.bin", "'list' .* tensors by name are needed")
    (folder / "adapter.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    refused(folder, "bert", "adapter.safetensors", "no archive of tensors")
    (folder / "adapter.safetensors").unlink()
    at.unlink()
    with pytest.raises(FileNotFoundError, match=r"pytorch_adapter\.bin"):
        load_adapter(folder, of("bert"))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"use_pooler": False, "layers": 2}, "use_pooler"),  # the library's default, with a dense layer of its own
        ({"layers": 2}, "layers"),
        ({"bias": False}, "bias"),
        ({"head_type": "multilabel_classification"}, "head_type"),
        ({"head_type": "tagging"}, "head_type"),
    ],
)
def test_another_kind_of_head_is_refused_by_its_field(changes, field, tmp_path):
    folder = write(tmp_path / "hub", head={**HEAD, **changes})
    refused(folder, "bert", field, r"add_classification_head\(name, layers=1, use_pooler=True\)")


def test_the_head_of_a_class_of_transformers(tmp_path):
    folder, at = write(tmp_path / "hub"), tmp_path / "hub" / "head_config.json"
    state = torch.load(folder / "pytorch_model_head.bin")
    torch.save({key.replace("heads.mine.1", "classifier"): t for key, t in state.items()},
               folder / "pytorch_model_head.bin")  # fmt: skip
    settings = {**MODEL, "name": None, "model_type": "bert", "config": None, "num_labels": 2, "label2id": None,
                "model_class": "BertForSequenceClassification"}  # fmt: skip
    at.write_text(json.dumps(settings))
    found = load_adapter(folder, of("bert"))
    assert found.labels == ("LABEL_0", "LABEL_1")
    assert torch.equal(found.task["classifier.weight"], state["heads.mine.1.weight"])
    at.write_text(json.dumps({**settings, "num_labels": 3}))
    refused(folder, "bert", "pytorch_model_head.bin: classifier.bias", r"\[2\] is not supported: \[3\] is needed")
    at.write_text(json.dumps({**settings, "label2id": {"a": 0, "b": 2}}))
    refused(folder, "bert", "id2label", "every index from 0 to 1")
    at.write_text(json.dumps({**settings, "model_class": "BertForTokenClassification"}))
    refused(folder, "bert", "model_class", "'BertForSequenceClassification' is needed")
    at.write_text(json.dumps({**settings, "hidden_size": 128}))
    refused(folder, "bert", "hidden_size", "64 is needed")
    at.unlink()
    with pytest.raises(FileNotFoundError, match=r"head_config\.json"):
        load_adapter(folder, of("bert"))
