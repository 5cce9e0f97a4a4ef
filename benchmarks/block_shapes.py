# SPDX-License-Identifier: Apache-2.0
"""What density-bound blocks of several shapes cost in accuracy: one quantization of the same float model for each.

    python benchmarks/block_shapes.py --float build/movie-reviews/float --out artifacts/movie-reviews.blocks.json
    python benchmarks/block_shapes.py --out artifacts/movie-reviews.blocks.json --table

A shape is the entries of a block and the channels that choose alike among them; the engine has 4 and 4
(quant/pruning.py). Rows that the JSON has already are not measured again. The test split is only read here.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from zynqbert.quant import float_model
from zynqbert.quant.ablation import Given, prepare, split_batches
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.datasets import DATA_SETS
from zynqbert.quant.evaluate import paired_accuracy, quantized_logits
from zynqbert.quant.options import Options
from zynqbert.quant.quantize import quantize
from zynqbert.quant.training import check_settings, write_json


def in_blocks(density: float, *shape: int) -> Options:
    return Options(word_bits=4, density=density, pattern="blocks", block_shape=shape)


ROWS = {
    "all weights": Options(word_bits=4),
    "half, anywhere": Options(word_bits=4, density=0.5),
    "2 of 4, a channel": in_blocks(0.5, 4, 1),
    "2 of 4, 2 channels": in_blocks(0.5, 4, 2),
    "2 of 4, 4 channels": in_blocks(0.5, 4, 4),
    "2 of 4, 8 channels": in_blocks(0.5, 4, 8),
    "1 of 2, 4 channels": in_blocks(0.5, 2, 4),
    "4 of 8, 4 channels": in_blocks(0.5, 8, 4),
    "3 of 4, 4 channels": in_blocks(0.75, 4, 4),
    "1 of 4, 4 channels": in_blocks(0.25, 4, 4),
}
SPLITS = ("dev", "test")


def measure(given: dict[str, Given], report: dict, path: Path) -> None:
    """Fill the report with the rows that it has not, written after each."""
    checkpoint = given["dev"].checkpoint
    weights, logits, right = checkpoint.weights, {}, {}
    for split, of in given.items():
        logits[split] = torch.cat([float_model.forward(weights, b) for b in split_batches(of.sentences)]).double()
        right[split] = logits[split].numpy().argmax(axis=1) == of.labels
        report["float"][split] = {"accuracy": float(right[split].mean()), "sentences": len(right[split])}
    calibration, most = calibrate(weights, given["dev"].calibration), weights.architecture.positions
    for name, options in ROWS.items():
        if name in report["rows"]:
            continue
        begun, entry = time.monotonic(), {}
        made = quantize(weights, calibration, task=checkpoint.task, max_length=most, options=options)
        for split, of in given.items():
            found = quantized_logits(made.manifest, made.tensors, of.sentences)
            entry[split] = paired_accuracy(right[split], found.numpy().argmax(axis=1) == of.labels)
            entry[split]["logit_error"] = float((found - logits[split]).abs().mean())
        entry["seconds"] = round(time.monotonic() - begun, 1)
        report["rows"][name] = entry
        write_json(path, report)
        print(f"{name}: dev {100 * entry['dev']['quantized_accuracy']:.2f} %, {entry['seconds']} s", flush=True)


def table(report: dict) -> str:
    """The report as a table of docs/more-per-dsp.md."""
    of = report["float"]
    dev, test = (f"{100 * of[split]['accuracy']:.1f} %" for split in SPLITS)
    lines = [
        "| weights that may be other than 0 | dev | test | test, points against float (95 %) | mean abs. logit error |",
        "|---|---|---|---|---|",
        f"| in float | {dev} | {test} | – | – |",
    ]
    for name, row in report["rows"].items():
        test, (low, high) = row["test"], row["test"]["difference_interval_points"]
        dev, found = (f"{100 * row[split]['quantized_accuracy']:.1f} %" for split in SPLITS)
        points = f"{test['difference_points']:+.2f} ({low:+.2f} to {high:+.2f})"
        lines.append(f"| {name} | {dev} | {found} | {points} | {test['logit_error']:.3f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float", dest="model", type=Path, help="Hugging Face folder")
    parser.add_argument("--data", choices=tuple(DATA_SETS), default="movie-reviews")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write and go on with")
    parser.add_argument("--sentences", type=int, help="of each split; all if not given")
    parser.add_argument("--table", action="store_true", help="print what is there, measure nothing")
    args = parser.parse_args()
    if not args.table:
        if args.model is None:
            parser.error("--float is needed to measure")
        given, settings = {}, {}
        for split in SPLITS:
            given[split], found = prepare(args.model, args.data, split, args.sentences, 128, 4)
            settings |= {(f"{key}.{split}" if key in ("sentences", "texts") else key): found[key] for key in found}
        settings = {key: value for key, value in settings.items() if key not in ("split", "model")}
        report = {"settings": settings, "float": {}, "rows": {}}
        if args.out.exists():
            begun = json.loads(args.out.read_text(encoding="utf-8"))
            check_settings(args.out, begun["settings"], settings)
            report = begun
        measure(given, report, args.out)
    print(table(json.loads(args.out.read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
