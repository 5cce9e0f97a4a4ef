# SPDX-License-Identifier: Apache-2.0
"""What the models of a recipe with off-ramps answer, float and integer, split by split; each is computed once.

Answers are kept in `answers/` of the run with what decides them, so that a run that goes on does not compute them anew.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors import safe_open

from .artifact import Artifact
from .checkpoint import load_checkpoint
from .datasets import Example
from .evaluate import float_logits, quantized_logits, ramp_entropies, ramp_logits
from .thresholds import Ramps
from .tokens import Tokens, encode
from .training import save_tensors


@dataclass(frozen=True)
class Answers:
    """Of the texts `data` (of each split), cut to `max_length` tokens, kept in `folder`."""

    data: Mapping[str, Sequence[Example]]
    max_length: int
    folder: Path
    console: Console

    def labels(self, split: str) -> np.ndarray:
        """int64 [sentences]."""
        return np.array([example.label for example in self.data[split]])

    def tokens(self, split: str, tokenizer_json: str) -> list[Tokens]:
        """The texts of a split."""
        return encode(tokenizer_json, [example.texts for example in self.data[split]], self.max_length)

    def float_right(self, stage: str, source: str, split: str) -> np.ndarray:
        """bool [sentences]: whether the float folder `source` of a stage answers right at full depth."""

        def answer() -> torch.Tensor:
            checkpoint = load_checkpoint(source)
            return float_logits(checkpoint.weights, self.tokens(split, checkpoint.tokenizer_json))

        model = hashlib.sha256()
        for file in sorted(Path(source).glob("*.safetensors")) if Path(source).is_dir() else ():
            model.update(file.read_bytes())
        logits = self._kept(f"{stage}-float", split, f"{Path(source).name} {model.hexdigest()}", answer)
        return logits.argmax(axis=1) == self.labels(split)

    def right(self, stage: str, artifact: Artifact, split: str) -> np.ndarray:
        """bool [sentences]: whether a stage's artifact answers right at full depth."""
        if artifact.manifest["exits"]:
            return self.ramps(stage, artifact, split).right[:, -1]
        given = artifact.manifest, artifact.tensors, self._texts(artifact, split)
        logits = self._kept(stage, split, digest(artifact), lambda: quantized_logits(*given))
        return logits.argmax(axis=1) == self.labels(split)

    def ramps(self, stage: str, artifact: Artifact, split: str, count: int | None = None) -> Ramps:
        """What every off-ramp of a stage's artifact says about the first `count` (all if None) sentences of a split."""
        logits = self.logits(stage, artifact, split, count)
        return Ramps.of(logits, ramp_entropies(artifact.manifest, logits), self.labels(split)[:count])

    def logits(self, stage: str, artifact: Artifact, split: str, count: int | None = None) -> np.ndarray:
        """Of every off-ramp, the model's own last, int64 [sentences, layers, labels]."""
        given = artifact.manifest, artifact.tensors, self._texts(artifact, split)[:count]
        return self._kept(stage, split, digest(artifact), lambda: torch.from_numpy(ramp_logits(*given)), count)

    def _texts(self, artifact: Artifact, split: str) -> list[Tokens]:
        return self.tokens(split, artifact.tokenizer_path.read_text(encoding="utf-8"))

    def _kept(
        self, name: str, split: str, model: str, answer: Callable[[], torch.Tensor], count: int | None = None
    ) -> np.ndarray:
        """The tensor that `answer` gives, or what it gave for the same model and texts."""
        path = self.folder / f"{name}-{split}.safetensors"
        texts = hashlib.sha256(repr(list(self.data[split][:count])).encode()).hexdigest()
        known = {"model": model, "texts": texts, "max_length": str(self.max_length)}
        if path.is_file():
            with safe_open(path, "np") as file:
                if {field: file.metadata().get(field) for field in known} == known:
                    return file.get_tensor("logits")
        self.console.print(f"{name}: answers to the {split} split")
        path.parent.mkdir(parents=True, exist_ok=True)
        logits = answer()
        save_tensors(path, {"logits": logits}, known)
        return logits.numpy()


def digest(artifact: Artifact) -> str:
    """Of what an artifact answers: every tensor's own digest and what its off-ramps' entropies are taken by."""
    manifest = artifact.manifest
    entropy = manifest["exits"] and manifest["exits"]["entropy"]
    given = repr((sorted((name, t["sha256"]) for name, t in manifest["tensors"].items()), manifest["spans"], entropy))
    return hashlib.sha256(given.encode()).hexdigest()
