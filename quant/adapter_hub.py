# SPDX-License-Identifier: Apache-2.0
"""Adapters as the `adapters` library (AdapterHub) saves them, read as a task over a backbone (adapters.py).

What fits is its `double_seq_bn` (Houlsby et al., arXiv 1902.00751) of a BERT, the same but for attention of an ALBERT,
and a head of one linear layer on the backbone's pooler. Everything else is refused by the field that says so. Norms are
the backbone's, as the format has none.

At an ALBERT's attention the library (1.3.0) adapts the layer's input y, not what attention adds to it, o:
y + up·act(down·y + d) + u + o. That is another formula than ours, so an ALBERT's adapter must not stand there; a task
has one of zeros.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from .adapters import Adapting, new_task
from .checkpoint import ModelWeights
from .configuration import Architecture, UnsupportedModel, albert_places, check_task
from .float_model import ACTIVATIONS
from .student import encoder
from .task_training import FILE
from .training import Parameters, save_tensors, write_json

_ADAPTER = ("adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin")
_HEAD = ("head_config.json", "model_head.safetensors", "pytorch_model_head.bin")
# What makes h + up·act(down·h + d) + u, then the residual and the norm: the library's defaults. Where adapters stand,
# `mh_adapter` and `output_adapter`, has none.
_DEFAULTS = {"architecture": None, "is_parallel": False, "original_ln_before": False, "original_ln_after": True,
             "residual_before_ln": True, "adapter_residual_before_ln": False, "ln_before": False, "ln_after": False,
             "scaling": 1.0, "use_gating": False, "phm_layer": False, "cross_adapter": False, "leave_out": [],
             "inv_adapter": None}  # fmt: skip
# What is read below, what only a training reads, and what goes with a part that is off.
_IDLE = {"non_linearity", "reduction_factor", "init_weights", "init_weights_seed", "dropout", "stochastic_depth",
         "inv_adapter_reduction_factor", "phm_dim", "factorized_phm_W", "shared_W_phm", "shared_phm_rule",
         "factorized_phm_rule", "phm_c_init", "phm_init_range", "learn_phm", "hypercomplex_nonlinearity", "phm_rank",
         "phm_bias"}  # fmt: skip
_ACTIVATIONS = {name: name for name in ACTIVATIONS} | {"swish": "silu", "gelu_pytorch_tanh": "gelu_new"}
_TRAIN = {
    "bert": "train one with config double_seq_bn",
    "albert": "train one with BnConfig(mh_adapter=False, output_adapter=True, …), see docs/tasks.md",
}
_TRAIN_HEAD = "train one with add_classification_head(name, layers=1, use_pooler=True)"
_SAVE = "save it again by the library, for this backbone"
_PLACES = {
    "bert": {
        "attention_adapter": "encoder.layer.{}.attention.output.adapters",
        "ffn_adapter": "encoder.layer.{}.output.adapters",
    },
    "albert": {"ffn_adapter": "encoder.albert_layer_groups.{}.albert_layers.{}.output_adapters.adapters"},
}
_MATRICES = {"down": "adapter_down.0", "up": "adapter_up"}


@dataclass(frozen=True)
class HubAdapter:
    """`task` is as adapters.new_task makes one; without a head it has no classifier, and `labels` is None."""

    name: str
    adapting: Adapting
    task: Parameters
    labels: tuple[str, ...] | None


def load_adapter(folder: Path, weights: ModelWeights) -> HubAdapter:
    """The adapter saved in `folder`, for the backbone `weights`, with its head where one is saved beside it.

    An ALBERT's adapters are shared by the places that share their matrices, as the library has them.
    Raises UnsupportedModel by field, or by file and key, and OSError.
    """
    a = weights.architecture
    settings = _settings(folder / _ADAPTER[0], a)
    name, adapting, head = str(settings.get("name")), _adapting(settings, a), _head(folder, a)
    task = new_task(weights, len(head[0]) if head else 1, adapting, seed=0)  # for its norms, names and shapes
    task |= {of: torch.zeros_like(tensor) for of, tensor in task.items() if ".attention_adapter." in of}
    file, found = _tensors(folder, _ADAPTER)
    task |= _adopted(file, found, _keys(file, found, name, a, task), task)
    classifier = [f"classifier.{part}" for part in ("weight", "bias")]
    if head is None:
        return HubAdapter(name, adapting, {of: t for of, t in task.items() if of not in classifier}, None)
    labels, at = head
    task |= _adopted(*_tensors(folder, _HEAD), {of: of.replace("classifier", at) for of in classifier}, task)
    return HubAdapter(name, adapting, task, labels)


def import_adapter(backbone: str, folder: Path, out: Path) -> HubAdapter:
    """Write the adapter saved in `folder` as a task on the encoder `backbone` that task_training.load_task reads.

    Raises ValueError where `out` holds a task already; UnsupportedModel also where no head is saved; OSError.
    """
    if (out / "task.json").exists() or (out / FILE).exists():
        raise ValueError(f"{out}: holds a task already; remedy: another folder")
    found = load_adapter(folder, encoder(backbone).weights)
    if found.labels is None:
        raise UnsupportedModel(_HEAD[0], None, f"a task needs a head; {_TRAIN_HEAD} and save it (with_head=True)")
    out.mkdir(parents=True, exist_ok=True)
    save_tensors(out / FILE, {name: tensor.detach() for name, tensor in found.task.items()})
    kept = {**asdict(found.adapting), "backbone": backbone, "labels": list(found.labels)}
    write_json(out / "task.json", {"settings": {**kept, "source": str(folder), "name": found.name}})
    return found


def _settings(path: Path, a: Architecture) -> dict:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedModel(path.name, str(error), _SAVE) from error
    _check(settings, {"model_type": a.family, "hidden_size": a.hidden}, "choose the backbone that it was trained on")
    if "version" not in settings:  # before there were versions, tensors and activations had other names
        raise UnsupportedModel("version", None, "load it in the library and save it again")
    return settings


def _check(found: dict, needed: dict, remedy: str) -> None:
    for field, value in needed.items():
        if found.get(field) != value:
            raise UnsupportedModel(field, found.get(field), f"{value!r} is needed; {remedy}")


def _adapting(settings: dict, a: Architecture) -> Adapting:
    config = settings["config"] if isinstance(settings.get("config"), dict) else {}
    needed = {**_DEFAULTS, "mh_adapter": a.family == "bert", "output_adapter": True}
    unknown = dict.fromkeys(sorted(config.keys() - _IDLE))  # may change the formula, unless they are null
    train = _TRAIN[a.family]
    _check({**_DEFAULTS, **config}, {**unknown, **needed}, train)
    factor, activation = config.get("reduction_factor"), str(config.get("non_linearity")).lower()
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor >= 1:
        raise UnsupportedModel("reduction_factor", factor, f"one number for all layers, from 1 on, is needed; {train}")
    if activation not in _ACTIVATIONS:
        raise UnsupportedModel("non_linearity", activation, f"none of {', '.join(_ACTIVATIONS)}; {train}")
    return Adapting(max(1, int(a.hidden // factor)), _ACTIVATIONS[activation], shared=a.family == "albert")


def _head(folder: Path, a: Architecture) -> tuple[tuple[str, ...], str] | None:
    """Labels, and under which name the file keeps the classifier; None where there is no head."""
    if not any((folder / name).exists() for name in _HEAD):
        return None
    settings = _settings(folder / _HEAD[0], a)
    config, at = settings.get("config"), f"heads.{settings.get('name')}.1"  # behind a dropout, 0
    if config is None:  # the head of a class of transformers'
        config, at = settings, "classifier"
        _check(settings, {"model_class": f"{a.family.title()}ForSequenceClassification"}, _TRAIN_HEAD)
    else:
        needed = {"head_type": "classification", "use_pooler": True, "layers": 1, "bias": True}
        _check({"bias": True, **config}, needed, _TRAIN_HEAD)
    ids = config.get("label2id")
    known = {"id2label": {str(i): name for name, i in ids.items()}} if ids else {"num_labels": config.get("num_labels")}
    return tuple(check_task(known).labels), at


def _keys(file: str, found: dict, name: str, a: Architecture, task: Parameters) -> dict[str, str]:
    """The file's key of each of the adapters' tensors of a task, by its name there."""
    places = [(i,) for i in range(a.layers)]
    if a.family == "albert":
        stored = [re.search(r"albert_layer_groups\.(\d+)\.albert_layers\.(\d+)\.", key) for key in found]
        groups, inner = (1 + max((int(at[n]) for at in stored if at), default=0) for n in (1, 2))
        places = albert_places(a.layers // inner, groups, inner)
        if [places.index(place) for place in places] != list(a.weights):
            raise UnsupportedModel(f"{file}: albert_layer_groups", f"{groups} of {inner}", _SAVE)
    # A model with a head's class keeps the encoder under its family's name, an encoder of its own does not.
    prefix = f"{a.family}." if any(key.startswith(f"{a.family}.") for key in found) else ""
    keys = {}
    for of in (of for of in task if "_adapter." in of):
        _, i, place, matrix, part = of.split(".")  # layers.0.ffn_adapter.down.weight
        if place in _PLACES[a.family]:
            at = prefix + _PLACES[a.family][place].format(*places[int(i)])
            keys[of] = f"{at}.{name}.{_MATRICES[matrix]}.{part}"
    return keys


def _tensors(folder: Path, files: tuple[str, str, str]) -> tuple[str, dict[str, torch.Tensor]]:
    """The file's name and its tensors; no pickle of anything else is run."""
    _, safe, archive = files
    file = safe if (folder / safe).exists() else archive
    try:
        found = load_file(folder / file) if file == safe else torch.load(folder / file, "cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of many kinds, in either loader
        raise UnsupportedModel(file, str(error).split("\n")[0], f"no archive of tensors; {_SAVE}") from error
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise UnsupportedModel(file, type(found).__name__, f"tensors by name are needed; {_SAVE}")
    return file, found


def _adopted(file: str, found: dict, keys: dict[str, str], task: Parameters) -> Parameters:
    """The file's tensors by their names in the task: all of them, in the task's shapes."""
    needed = {key: list(task[name].shape) for name, key in keys.items()}
    for key in sorted(needed.keys() | found.keys()):
        shape = list(found[key].shape) if key in found else None
        if shape != needed.get(key):
            wanted = f"{needed[key]} is needed" if key in needed else "no such tensor is needed"
            raise UnsupportedModel(f"{file}: {key}", shape, f"{wanted}; {_SAVE}")
    return {name: found[key].detach().float().to(task[name].device) for name, key in keys.items()}
