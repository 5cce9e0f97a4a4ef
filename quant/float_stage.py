# SPDX-License-Identifier: Apache-2.0
"""The epochs of a training in float: every stage of docs/edgebert.md takes its parameters through this loop.

A state is kept after every epoch, so that a run that was cut takes the very steps of an uninterrupted one.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file

from .training import (
    CLIP_NORM,
    WEIGHT_DECAY,
    Parameters,
    check_settings,
    epoch_batches,
    learning_rate,
    load_state,
    save_state,
    save_tensors,
    versions,
    watched,
    write_json,
)

PRECISIONS = ("float32", "bfloat16")
Rank = tuple[float, ...]


@dataclass
class Stage:
    """What is trained and how. `parameters` named in `rates` have a peak rate of their own, and no decay."""

    parameters: Parameters
    rates: dict[str, float] = field(default_factory=dict)

    def prepare(self, step: int) -> None:
        """Before the step (counted over all epochs), and before an epoch's end is measured."""

    def loss(self, rows: list[int]) -> torch.Tensor:
        """Of the train examples `rows`."""
        raise NotImplementedError

    def hold(self) -> None:
        """After every step: what shall not have changed is set back."""

    def measure(self) -> dict:
        """An epoch's entry in the log: figures on dev."""
        raise NotImplementedError

    def rank(self, entry: dict) -> Rank | None:
        """What the best epoch has most of; None for one that is none to keep."""
        return entry["dev_accuracy"], -entry["dev_loss"]


@dataclass(frozen=True)
class Run:
    """Where a stage's run is kept (`out`, its log there `name`.json), and the `settings` that decide it.

    `precision` is what a step's matrix products are computed in; parameters, norms and what is measured on dev stay in
    float32."""

    out: Path
    name: str
    settings: dict
    resume: bool = False
    precision: str = "float32"

    @property
    def finished(self) -> Path:
        return self.out / f"{self.name}.json"

    @property
    def last(self) -> Path:
        return self.out / "checkpoint" / "last.safetensors"

    def computing(self, device: str) -> torch.autocast:
        """The context of a step."""
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16")

    def log(self) -> dict | None:
        """The log of a finished run. Raises ValueError for a run that is not to be resumed, or of other settings."""
        if not self.resume and (self.last.is_file() or self.finished.is_file()):
            raise ValueError(f"{self.out}: holds a run already; remedy: --resume, or another folder")
        if not self.finished.is_file():
            return None
        log = json.loads(self.finished.read_text(encoding="utf-8"))
        check_settings(self.finished, log["settings"], self.settings)
        return log

    def finish(self, log: dict) -> dict:
        """Write the log, after everything else, and drop the states."""
        log |= {"threads": torch.get_num_threads(), "versions": versions()}
        write_json(self.finished, log)
        shutil.rmtree(self.last.parent)
        return log


def run_epochs(
    stage: Stage,
    run: Run,
    lengths: Sequence[int],
    *,
    epochs: int,
    batch: int,
    rate: float,
    seed: int,
    console: Console,
) -> dict:
    """Train, from the last state if there is one; the log. The parameters end as those of the best epoch.

    `lengths` are the train examples' tokens, `rate` is the peak of the learning rate.
    """
    last, best = run.last, run.last.with_name("best.safetensors")
    last.parent.mkdir(parents=True, exist_ok=True)  # fails now, not after an epoch
    optimizer = _optimizer(stage, rate)
    log: dict = {"settings": run.settings, "epochs": []}
    if run.resume and last.is_file():
        log = load_state(last, stage.parameters, optimizer, run.settings)
    per_epoch = -(-len(lengths) // batch)
    device = next(iter(stage.parameters.values())).device.type
    for epoch in range(len(log["epochs"]), epochs):
        begun, total, step = time.monotonic(), 0.0, epoch * per_epoch
        batches = epoch_batches(lengths, batch, seed, epoch)
        title = f"{run.name}, epoch {epoch + 1}/{epochs}"
        for rows, show in watched(batches, len(batches), title, console):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, epochs * per_epoch, group["peak"])
            stage.prepare(step)
            with run.computing(device):
                loss = stage.loss(rows)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for n, p in stage.parameters.items() if n not in stage.rates], CLIP_NORM)
            optimizer.step()
            stage.hold()
            total += loss.item() * len(rows)
            step += 1
            show(loss.item())
        entry = {"train_loss": total / len(lengths), **stage.measure(), "seconds": round(time.monotonic() - begun, 1)}
        ranks = [stage.rank(earlier) for earlier in log["epochs"]]
        rank = stage.rank(entry)
        if rank is not None and all(earlier is None or rank > earlier for earlier in ranks):
            save_tensors(best, {name: p.detach().cpu() for name, p in stage.parameters.items()})
            log["best_epoch"] = epoch + 1
        log["epochs"].append(entry)
        save_state(last, stage.parameters, optimizer, log)
        console.print(f"{title}: " + ", ".join(f"{k} {v:.4g}" for k, v in entry.items() if isinstance(v, float)))
    found = load_file(best)
    with torch.no_grad():
        for name, parameter in stage.parameters.items():
            parameter.copy_(found[name])
    log["wall_seconds"] = round(sum(entry["seconds"] for entry in log["epochs"]), 1)
    return log


def _optimizer(stage: Stage, rate: float) -> torch.optim.AdamW:
    """AdamW without decay on vectors, each group with the `peak` of its learning rate."""
    common = [(n, p) for n, p in stage.parameters.items() if n not in stage.rates]
    groups = [
        {"params": [p for _, p in common if p.ndim > 1], "weight_decay": WEIGHT_DECAY, "peak": rate},
        {"params": [p for _, p in common if p.ndim <= 1], "weight_decay": 0.0, "peak": rate},
    ] + [{"params": [stage.parameters[n]], "weight_decay": 0.0, "peak": peak} for n, peak in stage.rates.items()]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, fused=True)
