# SPDX-License-Identifier: Apache-2.0
"""The recipe of many tasks over one backbone: one TOML file, every field checked (docs/tasks.md)."""

from dataclasses import dataclass, field
from pathlib import Path

from .backbone import Backbone
from .datasets import DATA_SETS
from .finetune import FineTuning
from .float_model import ACTIVATIONS
from .recipe import (
    CHECKS,
    LOSSES,
    RUN,
    STEPS,
    TEXT,
    VARIED,
    Check,
    Quantizing,
    RecipeError,
    check_words,
    choice,
    read_toml,
    real,
    take,
    whole,
)
from .task_training import TaskTraining


@dataclass(frozen=True)
class Sparse:
    """The artifact that is pruned and leaves early: `density` of the backbone's matrices, the off-ramps' training (as
    OffRamps, the rest frozen), and the `losses` in points that its operating points are for."""

    density: float = 0.5
    epochs: int = 6
    batch: int = 32
    learning_rate: float = 1e-3
    distillation: float = 0.5
    temperature: float = 2.0
    losses: tuple[float, ...] = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class TasksRecipe:
    """`sets` names the tasks' data sets. `backbone` is trained first, or with a `checkpoint` (an ALBERT or BERT folder,
    or a hub name) is that; `adapters` train each task on it. `finetune` is what they are compared with: base and
    backbone, all of each trained on the task; its `base` is not used. `quantize` is of both artifacts, `sparse` of the
    second one."""

    name: str
    sets: tuple[str, ...]
    seed: int = 0
    threads: int = 2
    device: str = "auto"
    precision: str = "float32"
    max_length: int = 64
    checkpoint: str | None = None
    backbone: Backbone = field(default_factory=Backbone)
    adapters: TaskTraining = field(default_factory=TaskTraining)
    finetune: FineTuning = field(default_factory=FineTuning)
    quantize: Quantizing = field(default_factory=lambda: Quantizing(word_bits=8, word_format="adaptivfloat"))
    sparse: Sparse = field(default_factory=Sparse)


_SETS: Check = (
    lambda x: isinstance(x, list) and len(x) == len(set(map(str, x))) >= 1 and all(v in DATA_SETS for v in x),
    f"a list of different data sets, of {', '.join(DATA_SETS)}",
)
_TABLES: dict[str, tuple[type, dict[str, Check]]] = {
    "backbone": (
        Backbone,
        {
            "base": TEXT,
            "embedding": whole(8, 1024),
            "layer": whole(1, 256),
            "noise": VARIED["noise"],
            "first": real(0, 1000, closed=True),
            **STEPS,
        },
    ),
    "adapters": (
        TaskTraining,
        {
            "width": whole(1, 512),
            "activation": choice(*ACTIVATIONS),
            "shared": choice(True, False),
            **VARIED,
            **STEPS,
        },
    ),
    "finetune": (FineTuning, STEPS),
    "quantize": (Quantizing, CHECKS[Quantizing]),
    "sparse": (
        Sparse,
        {
            "density": real(0, 1),
            **STEPS,
            "distillation": real(0, 1, closed=True),
            "temperature": real(0, 100),
            "losses": LOSSES,
        },
    ),
}
_OWN = {**RUN, "sets": _SETS, "max_length": whole(3, 128), "checkpoint": TEXT}


def load_tasks_recipe(path: str | Path, seed: int | None = None) -> TasksRecipe | None:
    """Read and check a recipe of tasks, with `seed` in place of its own if given; None where it is of another kind.

    Raises RecipeError naming the field.
    """
    path = Path(path)
    content = read_toml(path)
    if "sets" not in content:
        return None
    tables = {name: content.pop(name) for name in _TABLES if name in content}
    if "checkpoint" in content and "backbone" in tables:
        fault = "stands beside [backbone]"
        raise RecipeError(path, "checkpoint", fault, "drop one: a checkpoint is the backbone as it is")
    parts = {
        name: take(path, f"{name}.", kind, tables[name], checks=checks)
        for name, (kind, checks) in _TABLES.items()
        if name in tables
    }
    if "quantize" in parts:
        check_words(path, parts["quantize"])
    return take(path, "", TasksRecipe, content if seed is None else content | {"seed": seed}, parts, _OWN)
