# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a float model and of its artifact on the emulated board, on the same sentences: paired bootstrap.

    python benchmarks/accuracy.py --float build/movie-reviews/float --artifact artifacts/movie-reviews \\
        --data movie-reviews --split test --out build/accuracy.json

The model and every choice of the quantizer were made on the train and dev splits; the test split is only read here.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import zynqbert.host
from rich.progress import track
from transformers import AutoModelForSequenceClassification
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


def engine_predictions(folder: Path, texts: list[Texts], labels: list[str]) -> np.ndarray:
    """Labels that the emulated board gives, int64 [n]."""
    with zynqbert.host.open(board="zcu102", artifact=folder, device="emulated") as engine:
        results = track(engine.stream(texts), total=len(texts), description="emulated board")
        return np.array([labels.index(r.label) for r in results])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float", dest="model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--data", choices=tuple(DATA_SETS), default="movie-reviews")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    examples = DATA_SETS[args.data].load(args.split)
    texts, truth = [e.texts for e in examples], np.array([e.label for e in examples])
    task = json.loads((args.artifact / "manifest.json").read_text())["task"]
    right = float_predictions(args.model, texts, task["max_length"]) == truth
    ours = engine_predictions(args.artifact, texts, task["labels"]) == truth
    report = {"data": args.data, "split": args.split, **paired_accuracy(right, ours)}
    print(json.dumps(report, indent=2))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
