# SPDX-License-Identifier: Apache-2.0
"""A float classifier as transformers runs it, to be compared with an artifact that was made of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from .artifact import Artifact
from .checkpoint import Checkpoint, load_checkpoint
from .configuration import SPANS, UnsupportedModel
from .finetune import collate
from .tokens import Texts, encode
from .vocabulary import drop_unused_words

WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")  # of save_pretrained, the first kind that there is
# What an artifact and its float model have in common, whatever was pruned and whichever heads are gone.
_COMMON = (
    *("family", "layers", "hidden", "embedding", "heads", "head_width", "ffn", "vocab", "positions", "types"),
    *("activation", "weights"),
)

Inputs = Mapping[str, torch.Tensor]  # int64 [1, tokens] each, by the names of transformers


class OtherModel(ValueError):
    """The artifact was not made of this float model; the message says what differs."""


@dataclass(frozen=True)
class FloatClassifier:
    """`model` in float32, without dropout; `tokenizer_json` of `checkpoint` is its own."""

    source: str
    model: PreTrainedModel
    checkpoint: Checkpoint

    @staticmethod
    def load(source: str | Path) -> "FloatClassifier":
        """From a folder or a hub name. Raises UnsupportedModel, also where a label a text is not what it answers, or
        its heads have spans: transformers would run all heads over all tokens; OSError where files are missing."""
        checkpoint = load_checkpoint(source)
        a, task = checkpoint.weights.architecture, checkpoint.task
        if (task.kind, task.scores) != ("sequence", "softmax"):
            remedy = "accuracy is that of one label a text; choose a classifier of sequences with a softmax"
            raise UnsupportedModel("the task", f"{task.kind}, {task.scores}", remedy)
        if a.spans is not None or set(a.layer_heads) != {a.heads}:
            remedy = "transformers would run all heads over all tokens; give the model from before it was made slim"
            raise UnsupportedModel(SPANS, f"{sum(a.layer_heads)} of {a.layers * a.heads} heads", remedy)
        model = AutoModelForSequenceClassification.from_pretrained(
            str(source), local_files_only=Path(source).is_dir(), trust_remote_code=False, dtype=torch.float32
        )
        return FloatClassifier(str(source), model.eval(), checkpoint)

    @property
    def bytes(self) -> int:
        """Of the files of weights in its folder; of its tensors for a name on the hub."""
        folder = Path(self.source)
        for files in (list(folder.glob(pattern)) for pattern in WEIGHTS):
            if files:
                return sum(file.stat().st_size for file in files)
        return sum(tensor.nbytes for tensor in self.model.state_dict().values())

    def check(self, artifact: Artifact) -> None:
        """That the artifact can have been made of this model: sizes, labels and tokenizer. Raises OtherModel."""
        made = drop_unused_words(self.checkpoint)  # as the quantizer does
        theirs, task = artifact.manifest["architecture"], artifact.manifest["task"]
        ours = made.weights.architecture
        pairs = {name: (getattr(ours, name), theirs[name]) for name in _COMMON}
        pairs["weights"] = list(ours.weights), list(theirs["weights"])
        pairs["labels"] = made.task.labels, list(task["labels"])
        for name, (one, other) in pairs.items():
            if one != other:
                raise OtherModel(f"{name} is {_shown(one)}, the artifact's is {_shown(other)}")
        if json.loads(made.tokenizer_json) != json.loads(artifact.tokenizer_path.read_text(encoding="utf-8")):
            raise OtherModel("its tokenizer is not the artifact's")

    def inputs(self, texts: Sequence[Texts], max_length: int) -> list[Inputs]:
        """What the model takes of each text by itself, cut to `max_length` tokens."""
        return [collate([tokens]) for tokens in encode(self.checkpoint.tokenizer_json, texts, max_length)]

    @torch.inference_mode()
    def logits(self, inputs: Inputs) -> torch.Tensor:
        """Float32 [1, labels]."""
        return self.model(**inputs).logits


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch works with so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
