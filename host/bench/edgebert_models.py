# SPDX-License-Identifier: Apache-2.0
"""The models of a run of `zynqbert bench edgebert`: what they are, and that they answer the same task."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...fpga import instructions as isa
from ...fpga.boards import Board
from ...fpga.dvfs import Passes
from ...quant.artifact import Artifact, load_artifact
from ...quant.datasets import LABELS
from ...quant.stage_table import sizes
from ..compiler import ModelShape, plan
from ..exit_plan import ExitPlan
from ..inputs import InputError
from ..packing import SentenceEncoder
from .edgebert_trace import digest

FALLBACK_POINT = "1"  # points of accuracy: EdgeBERT's own headline is at less than that


@dataclass(frozen=True)
class Model:
    """A model of the run: `option` is how the user gave it, for messages; `digest` is that of its manifest."""

    option: str
    folder: Path
    artifact: Artifact
    digest: str

    @staticmethod
    def load(option: str, folder: Path) -> "Model":
        """Raises ArtifactError; InputError for a model that does not label the movie reviews."""
        artifact = load_artifact(folder)
        task = artifact.manifest["task"]
        if (task["kind"], task["scores"]) != ("sequence", "softmax") or sorted(task["labels"]) != sorted(LABELS):
            raise InputError(
                f"{option} {folder}: task.labels is {', '.join(task['labels'])} ({task['kind']}, {task['scores']}), "
                f"the test split's are {', '.join(LABELS)}; remedy: a model of the movie reviews"
            )
        return Model(option, folder, artifact, digest({k: artifact.manifest[k] for k in _COUNTS}))

    @property
    def title(self) -> str:
        """The folder's name; its parent's too where a training called it "artifact"."""
        name = self.folder.name
        return f"{self.folder.resolve().parent.name}/{name}" if name == "artifact" else name

    @property
    def exits(self) -> Mapping[str, Any] | None:
        """The manifest's `exits`."""
        return self.artifact.manifest["exits"]

    @property
    def layers(self) -> int:
        """Encoder layers."""
        return self.artifact.manifest["architecture"]["layers"]

    def point(self, name: str | None) -> tuple[str, Mapping[str, Any]]:
        """The operating point called `name`, or the default one. Raises InputError."""
        if self.exits is None:
            raise InputError(
                f"{self.option} {self.folder}: exits is null: no off-ramps to leave at; remedy: the artifact of a "
                "recipe that trains off-ramps (docs/edgebert.md)"
            )
        points = self.exits["points"]
        if not points:
            raise InputError(
                f"{self.option} {self.folder}: exits.points is empty; remedy: choose thresholds first "
                "(docs/edgebert.md)"
            )
        name = name or (FALLBACK_POINT if FALLBACK_POINT in points else next(iter(points)))
        if name not in points:
            raise InputError(
                f"--point {name}: no operating point of {self.option} {self.folder}; remedy: {' or '.join(points)}"
            )
        return name, points[name]

    def encoder(self) -> SentenceEncoder:
        """As the engine has it."""
        shape = ModelShape.of_manifest(self.artifact.manifest)
        longest = min(isa.MAX_ROWS, shape.positions, self.artifact.manifest["task"]["max_length"])
        return SentenceEncoder(self.artifact.tokenizer_path, longest, shape.vocab, shape.types)

    def passes(self, board: Board, exits: ExitPlan | None = None) -> Passes:
        """Modelled passes of its program on `board`; without `exits` all layers run."""
        shape = ModelShape.of_manifest(self.artifact.manifest, str(self.folder))
        return Passes(plan(shape, board, artifact=self.artifact, exits=exits))

    def told(self) -> dict[str, Any]:
        """What a reader may want to know of it, counted."""
        manifest, held = self.artifact.manifest, sizes(self.artifact)
        architecture = manifest["architecture"]
        return {
            "artifact": self.title,
            "digest": self.digest,
            "layers": architecture["layers"],
            "bytes": sum(tensor.nbytes for tensor in self.artifact.tensors.values()),
            **{name: held[name] for name in ("density", "heads", "heads_of", "mean_span")},
            "word_format": architecture["word_format"],
            "word_bits": architecture["word_bits"],
            "off_ramps": manifest["exits"] is not None,
        }


_COUNTS = ("architecture", "task", "entries", "scales", "softmax", "spans", "exits", "tensors", "files")


def check_pair(dense: Model, recipe: Model) -> None:
    """The two models answer the same sentences, cut alike, and the dense one is dense. Raises InputError."""
    for what, one, other in (
        ("task.labels", *(m.artifact.manifest["task"]["labels"] for m in (dense, recipe))),
        ("task.max_length", *(m.artifact.manifest["task"]["max_length"] for m in (dense, recipe))),
        ("tokenizer", *(m.artifact.tokenizer_path.read_bytes() for m in (dense, recipe))),
    ):
        if one != other:
            shown = "" if what == "tokenizer" else f": {one} and {other}"
            raise InputError(
                f"{dense.option} {dense.folder} and {recipe.option} {recipe.folder} differ in {what}{shown}; remedy: "
                "two models of one task and one vocabulary"
            )
    told = dense.told()
    if told["heads"] != told["heads_of"] or dense.artifact.manifest["spans"] is not None:
        raise InputError(
            f"{dense.option} {dense.folder}: {told['heads']} of {told['heads_of']} heads and spans of their own: not "
            "the dense model; remedy: give the one that the recipe began with"
        )
