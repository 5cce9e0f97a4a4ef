# SPDX-License-Identifier: Apache-2.0
"""What the models of a search answer, from their integers: every off-ramp's logits, computed once a model and split.

A search chooses by the dev split; the test split is asked for what was chosen alone (docs/search.md). What is computed
is kept with what decides it, so that a search that goes on does not compute it anew.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from .artifact import Artifact
from .datasets import DATA_SETS, DataSet, Example
from .evaluate import quantized_logits, ramp_entropies, ramp_logits
from .exit_answers import digest
from .thresholds import Ramps
from .tokens import encode
from .training import save_tensors


@dataclass(frozen=True)
class Answers:
    """Of one model to a split: `tokens` of each sentence as the model reads it; what every ramp says, the model's own
    answer last (the only one where there are no off-ramps)."""

    tokens: Sequence[int]
    ramps: Ramps

    @property
    def sentences(self) -> int:
        """How many."""
        return len(self.tokens)


def data_set(models: Mapping[str, Artifact], data: str | None = None) -> DataSet:
    """The data set that all of `models` (by the name they are told by) label: `data`, or what their metrics name.

    Raises ValueError, naming the model and the field, where there is none, or not one for all, or the labels differ.
    """
    known = ", ".join(DATA_SETS)
    named = {}
    for name, artifact in models.items():
        named[name] = artifact.manifest["metrics"].get("data") if data is None else data
        if named[name] is None:
            raise ValueError(f"{name}: metrics.data is missing; remedy: --data, one of {known}")
        if not isinstance(named[name], str) or named[name] not in DATA_SETS:
            raise ValueError(f"{name}: data {named[name]!r} is none of {known}")
    first = next(iter(models))
    for name, artifact in models.items():
        if named[name] != named[first]:
            fault = f"{first} and {name} are of other data: {named[first]} and {named[name]}"
            raise ValueError(f"{fault}; remedy: models of one task, or --data, the set that all of them label")
        _check_task(name, artifact, DATA_SETS[named[first]])
    return DATA_SETS[named[first]]


def _check_task(name: str, artifact: Artifact, data: DataSet) -> None:
    task = artifact.manifest["task"]
    if (task["kind"], task["scores"]) != ("sequence", "softmax"):
        fault = f"{name}: task {task['kind']}, {task['scores']}: an accuracy needs one label a text"
        raise ValueError(f"{fault}; remedy: the artifact of a classifier of a single label")
    if list(task["labels"]) != list(data.labels):
        fault = f"{name}: its labels are {', '.join(task['labels'])}, those of {data.name} {', '.join(data.labels)}"
        raise ValueError(f"{fault}; remedy: models of one task, and --data, the set they were made for")


def texts_digest(examples: Sequence[Example]) -> str:
    """Of texts and labels."""
    return hashlib.sha256(repr([(e.texts, e.label) for e in examples]).encode()).hexdigest()[:16]


def answers(
    artifact: Artifact,
    examples: Sequence[Example],
    longest: int,
    kept: Path,
    on_share: Callable[[float], None] = lambda share: None,
) -> Answers:
    """What `artifact` answers to `examples`, cut to `longest` tokens: as kept in the file `kept`, if it is of the same
    model and texts, else computed and kept there. `on_share` is told the shares of the work as they are done."""
    text = artifact.tokenizer_path.read_text(encoding="utf-8")
    sentences = encode(text, [example.texts for example in examples], longest)
    tokens = [len(sentence.ids) for sentence in sentences]
    of = {"model": digest(artifact), "texts": texts_digest(examples), "longest": str(longest)}
    manifest, tensors = artifact.manifest, artifact.tensors
    logits = _kept(kept, of)
    if logits is None:
        token = 1 / sum(tokens)
        compute = ramp_logits if manifest["exits"] else quantized_logits
        found = compute(manifest, tensors, sentences, lambda rows: on_share(token * rows))
        logits = found if manifest["exits"] else found.numpy()[:, None]
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(kept, {"logits": torch.from_numpy(logits)}, of)
    else:
        on_share(1.0)
    # a model without off-ramps decides nothing by an entropy
    entropy = ramp_entropies(manifest, logits) if manifest["exits"] else np.zeros(logits.shape[:2], np.int64)
    return Answers(tokens, Ramps.of(logits, entropy, [example.label for example in examples]))


def _kept(path: Path, of: Mapping[str, str]) -> np.ndarray | None:
    """Logits [sentences, ramps, labels] of the file, if it is there, whole, and of that model and those texts."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            return file.get_tensor("logits") if all(metadata.get(k) == v for k, v in of.items()) else None
    except SafetensorError:
        return None
