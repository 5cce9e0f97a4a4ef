# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a float model and of its artifact on the emulated board, on the same sentences: paired bootstrap.

    python benchmarks/accuracy.py --float build/movie-reviews/float --artifact artifacts/movie-reviews \\
        --data movie-reviews --split test --out build/accuracy.json

`--workers N` shares the sentences among N emulated boards of this machine, `--scheduler` among the boards, or emulated
ones, of a dask scheduler's workers (docs/fleet.md): the integers, and so the figures, are the same.

The model and every choice of the quantizer were made on the train and dev splits; the test split is only read here.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rich.progress import track
from transformers import AutoModelForSequenceClassification
from zynqbert.host.fleet_command import opened, tell
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.datasets import DATA_SETS
from zynqbert.quant.evaluate import paired_accuracy
from zynqbert.quant.finetune import predict
from zynqbert.quant.tokens import Texts, encode
from zynqbert.quant.training import write_json


def float_predictions(folder: Path, texts: list[Texts], max_length: int) -> np.ndarray:
    """Labels that the float model gives, int64 [n]."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    return predict(model, encode(load_checkpoint(folder).tokenizer_json, texts, max_length)).numpy().argmax(1)


def engine_predictions(
    folder: Path, texts: list[Texts], labels: list[str], workers: int | None = None, scheduler: str | None = None
) -> np.ndarray:
    """Labels that the emulated board gives, int64 [n]; or several boards, as the options say."""
    device = "emulated" if scheduler is None else "auto"
    with opened(workers, scheduler, board="zcu102", artifact=folder, device=device) as engine:
        results = track(engine.stream(texts), total=len(texts), description="emulated board")
        found = np.array([labels.index(r.label) for r in results])
        tell(engine)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float", dest="model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--data", choices=tuple(DATA_SETS), default="movie-reviews")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--out", type=Path, help="JSON to write")
    parser.add_argument("--workers", type=int, help="so many emulated boards of this machine")
    parser.add_argument("--scheduler", help="the workers of this dask scheduler, tcp://HOST:8786")
    args = parser.parse_args()
    examples = DATA_SETS[args.data].load(args.split)
    texts, truth = [e.texts for e in examples], np.array([e.label for e in examples])
    task = json.loads((args.artifact / "manifest.json").read_text())["task"]
    right = float_predictions(args.model, texts, task["max_length"]) == truth
    ours = engine_predictions(args.artifact, texts, task["labels"], args.workers, args.scheduler) == truth
    report = {"data": args.data, "split": args.split, **paired_accuracy(right, ours)}
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
