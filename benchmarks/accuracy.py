# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a float model and of its artifact on the emulated board, on the same sentences: paired bootstrap.

    python benchmarks/accuracy.py --float build/minilm-reviews --artifact artifacts/movie-reviews \\
        --split test --out docs/results/accuracy.json

The model and every choice of the quantizer were made on the train and dev splits; the test split is only read here.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import zynqbert.host
from rich.progress import track
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from zynqbert.quant.datasets import movie_reviews

MAX_LENGTH = 128
RESAMPLES = 10_000


def float_predictions(folder: Path, texts: list[str], batch: int = 64) -> np.ndarray:
    """Labels that the float model gives, int64 [n]."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    out = []
    with torch.inference_mode():
        for i in track(range(0, len(texts), batch), description="float model"):
            part = tokenizer(
                texts[i : i + batch], return_tensors="pt", padding=True, truncation=True, max_length=MAX_LENGTH
            )
            out.append(model(**part).logits.argmax(-1).numpy())
    return np.concatenate(out)


def engine_predictions(folder: Path, texts: list[str], labels: list[str]) -> np.ndarray:
    """Labels that the emulated board gives, int64 [n]."""
    with zynqbert.host.open(board="zcu102", artifact=folder, device="emulated") as engine:
        results = track(engine.stream(texts), total=len(texts), description="emulated board")
        return np.array([labels.index(r.label) for r in results])


def paired_bootstrap(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of mean(b) − mean(a), sentences resampled with replacement; a, b bool [n] (right or wrong)."""
    rng = np.random.default_rng(seed)
    difference = b.astype(np.int64) - a.astype(np.int64)
    counts = rng.multinomial(len(difference), np.full(len(difference), 1 / len(difference)), size=RESAMPLES)
    low, high = np.percentile(counts @ difference / len(difference), [2.5, 97.5])
    return float(low), float(high)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float", dest="model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--out", type=Path, help="JSON to write")
    args = parser.parse_args()
    examples = movie_reviews(args.split)
    texts, truth = [e.text for e in examples], np.array([e.label for e in examples])
    labels = json.loads((args.artifact / "manifest.json").read_text())["task"]["labels"]
    right = float_predictions(args.model, texts) == truth
    ours = engine_predictions(args.artifact, texts, labels) == truth
    low, high = paired_bootstrap(right, ours)
    report = {
        "split": args.split,
        "sentences": len(examples),
        "float_right": int(right.sum()),
        "quantized_right": int(ours.sum()),
        "float_accuracy": float(right.mean()),
        "quantized_accuracy": float(ours.mean()),
        "difference_points": 100 * float(ours.mean() - right.mean()),
        "difference_interval_points": [100 * low, 100 * high],
        "interval": f"95 %, paired bootstrap, {RESAMPLES} resamples, seed 0",
        "disagreements": int((right != ours).sum()),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = args.out.with_suffix(".partial")
        temporary.write_text(text + "\n")
        temporary.replace(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
