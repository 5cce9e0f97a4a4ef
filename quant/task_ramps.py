# SPDX-License-Identifier: Apache-2.0
"""Off-ramps of a task on a frozen backbone: a classifier after every layer but the last, trained by itself."""

from pathlib import Path

import torch
from rich.console import Console

from .float_stage import Run, run_epochs
from .offramps import FILE, FrozenRamps, OffRamps
from .ramps import SCALING_SENTENCES, Ramps
from .sentences import Sentences
from .student import read
from .task_training import Trained
from .training import save_tensors


def train_task_ramps(
    task: Trained,
    sentences: Sentences,
    out: Path,
    settings: OffRamps,
    *,
    seed: int = 0,
    resume: bool = False,
    console: Console | None = None,
) -> dict:
    """Train ramps for a task, which stays as it is; the log, which is also `out/offramps.json`.

    `out/offramps.safetensors` holds them as offramps.py says. Raises ValueError where `out` holds a run already or one
    begun with other settings.
    """
    kept = {
        **{
            name: getattr(settings, name)
            for name in ("epochs", "batch", "learning_rate", "distillation", "temperature")
        },
        "seed": seed,
        **sentences.settings,
    }
    run = Run(out, "offramps", kept, resume, "float32")
    if (log := run.log()) is not None:
        return log
    torch.manual_seed(seed)
    _, first = read(task.weights, sentences.tokens["train"][:SCALING_SENTENCES], task.attend)
    ramps = Ramps.new(first.to(sentences.device), len(sentences.names))
    stage = FrozenRamps(task.weights, task.attend, ramps, sentences, settings)
    log = run_epochs(stage, run, sentences.lengths, epochs=settings.epochs, batch=settings.batch,
                     rate=settings.learning_rate, seed=seed, console=console or Console(stderr=True))  # fmt: skip
    save_tensors(out / FILE, {name: tensor.cpu() for name, tensor in ramps.folded().parameters.items()})
    return run.finish({**log, "best": log["epochs"][log["best_epoch"] - 1]})
