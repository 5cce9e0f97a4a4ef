# SPDX-License-Identifier: Apache-2.0
"""What every training here shares: schedule, batches, progress, checkpoints without pickle.

Every random choice of an epoch follows from (seed, epoch) and every learning rate from the step, so that a run
continued from a checkpoint takes the very steps of an uninterrupted one (to the bit with the same number of threads).
"""

import importlib.metadata
import json
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import save_file

WEIGHT_DECAY = 0.01
WARM_UP = 0.1  # part of all steps
CLIP_NORM = 1.0
_MOMENTS = ("exp_avg", "exp_avg_sq")

Parameters = dict[str, torch.nn.Parameter]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Rate at `step` of 0..steps-1: linear from 0 to `peak` over the first WARM_UP part, then linear to 0."""
    warm = max(1, round(WARM_UP * steps))
    return peak * min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def bucketed_batches(lengths: Sequence[int], batch: int, seed: int, pool: int = 32) -> list[list[int]]:
    """Indices 0..len(lengths)-1, each once, in shuffled batches of at most `batch` of similar length.

    The indices are shuffled, sorted by length within pools of `pool` batches, cut, and the batches shuffled again.
    """
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(lengths), generator=random).tolist()
    batches = []
    for start in range(0, len(order), batch * pool):
        near = sorted(order[start : start + batch * pool], key=lengths.__getitem__)
        batches += [near[i : i + batch] for i in range(0, len(near), batch)]
    return [batches[i] for i in torch.randperm(len(batches), generator=random).tolist()]


def epoch_batches(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch; also seeds what is random within it (dropout)."""
    torch.manual_seed(1000 * seed + epoch + 1)
    return bucketed_batches(lengths, batch, 1000 * seed + epoch)


def save_state(path: Path, parameters: Parameters, optimizer: torch.optim.Optimizer, log: dict) -> None:
    """Write parameters, AdamW moments and step counts, and the log, whole or not at all."""
    state = {}
    for name, parameter in parameters.items():
        state[f"weight.{name}"] = parameter.detach().cpu().contiguous()
        for key in (*_MOMENTS, "step"):
            state[f"{key}.{name}"] = optimizer.state[parameter][key].cpu().contiguous()
    save_tensors(path, state, {"log": json.dumps(log)})


def load_state(path: Path, parameters: Parameters, optimizer: torch.optim.Optimizer, settings: dict) -> dict:
    """Continue from `save_state`'s file; the log. Raises ValueError where it was begun with other settings."""
    with safe_open(path, "pt") as file:
        log = json.loads(file.metadata()["log"])
        check_settings(path, log["settings"], settings)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(file.get_tensor(f"weight.{name}"))
                moments = {k: file.get_tensor(f"{k}.{name}").to(parameter.device) for k in _MOMENTS}
                optimizer.state[parameter] = {"step": file.get_tensor(f"step.{name}"), **moments}
    return log


def check_settings(path: Path, begun: dict, wanted: dict) -> None:
    """Raise ValueError, naming them, where a run kept at `path` was begun with other settings."""
    changed = sorted(k for k in begun | wanted if begun.get(k) != wanted.get(k))
    if changed:
        before, now = ([of.get(k) for k in changed] for of in (begun, wanted))
        raise ValueError(
            f"{path}: begun with other settings of {', '.join(changed)}: {before}, not {now}; "
            "remedy: restore them, or begin in another folder"
        )


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata={"format": "pt", **(metadata or {})})
    partial.replace(path)


def write_json(path: Path, content: dict) -> None:
    """Write JSON, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def versions() -> dict[str, str]:
    """Of what decides the numbers of a training."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers")}
    return {**found, "python": platform.python_version()}


def watched(batches: Iterable, total: int, title: str, console: Console) -> Iterator[tuple]:
    """The batches, each with a function that shows its loss; a bar while they last."""
    columns = (MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn())
    with Progress(*Progress.get_default_columns()[:2], *columns, console=console) as progress:
        task = progress.add_task(title, total=total, loss=float("nan"))
        for batch in batches:
            yield batch, lambda loss: progress.update(task, advance=1, loss=loss)
