# SPDX-License-Identifier: Apache-2.0
"""One float model quantized in several ways, each a row: accuracy on dev and test beside float, written row by row.

What block_shapes.py and word_formats.py share. Rows that the JSON has already are not measured again. The test split is
only read here.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from zynqbert.quant import float_model
from zynqbert.quant.ablation import Given, prepare, split_batches
from zynqbert.quant.artifact import Artifact
from zynqbert.quant.artifact_manifest import with_defaults
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.checkpoint import Checkpoint
from zynqbert.quant.datasets import DATA_SETS
from zynqbert.quant.evaluate import paired_accuracy, quantized_logits
from zynqbert.quant.options import Options
from zynqbert.quant.quantize import quantize
from zynqbert.quant.training import check_settings, write_json

SPLITS = ("dev", "test")
MAX_LENGTH = 128  # tokens of a text
WORD_BITS = 8  # of nothing that runs: each row has its own

Also = Callable[[Artifact, Checkpoint], dict]


def main(about: str, rows: Mapping[str, Options], table: Callable[[dict], str], also: Also = lambda *_: {}) -> int:
    """The command line of a script with this docstring: measure what is missing of `rows`, print `table` of the report.

    also: what a row says beside accuracy, of the artifact and the float model it was made from.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float", dest="model", type=Path, help="Hugging Face folder")
    parser.add_argument("--data", choices=tuple(DATA_SETS), default="movie-reviews")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write and go on with")
    parser.add_argument("--sentences", type=int, help="of each split; all if not given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what is there, measure nothing")
    args = parser.parse_args()
    if not args.table:
        if args.model is None:
            parser.error("--float is needed to measure")
        torch.set_num_threads(args.threads)
        given, report = _begun(args)
        _measure(given, rows, also, report, args.out)
    print(table(json.loads(args.out.read_text(encoding="utf-8"))))
    return 0


def float_cells(report: dict) -> tuple[str, str]:
    """Accuracy in float on dev and test, as a table has it."""
    dev, test = (f"{100 * report['float'][split]['accuracy']:.1f} %" for split in SPLITS)
    return dev, test


def cells(row: dict) -> tuple[str, str, str]:
    """Accuracy of a row on dev and test, and the points of test against float, as a table has them."""
    dev, test = (f"{100 * row[split]['quantized_accuracy']:.1f} %" for split in SPLITS)
    low, high = row["test"]["difference_interval_points"]
    return dev, test, f"{row['test']['difference_points']:+.2f} ({low:+.2f} to {high:+.2f})"


def _begun(args: argparse.Namespace) -> tuple[dict[str, Given], dict]:
    """The texts of both splits, and the report as far as it is there: of the same settings, or ValueError."""
    given, settings = {}, {}
    for split in SPLITS:
        given[split], found = prepare(args.model, args.data, split, args.sentences, MAX_LENGTH, WORD_BITS)
        settings |= {(f"{key}.{split}" if key in ("sentences", "texts") else key): found[key] for key in found}
    settings = {key: value for key, value in settings.items() if key not in ("split", "word_bits", "model")}
    if not args.out.exists():
        return given, {"settings": settings, "float": {}, "rows": {}}
    report = json.loads(args.out.read_text(encoding="utf-8"))
    check_settings(args.out, report["settings"], settings)
    return given, report


def _measure(given: dict[str, Given], rows: Mapping[str, Options], also: Also, report: dict, path: Path) -> None:
    """Fill the report with the rows that it has not, written after each."""
    checkpoint = given["dev"].checkpoint
    weights, logits, right = checkpoint.weights, {}, {}
    for split, of in given.items():
        logits[split] = torch.cat([float_model.forward(weights, b) for b in split_batches(of.sentences)]).double()
        right[split] = logits[split].numpy().argmax(axis=1) == of.labels
        report["float"][split] = {"accuracy": float(right[split].mean()), "sentences": len(right[split])}
    calibration, most = calibrate(weights, given["dev"].calibration), weights.architecture.positions
    for name, options in rows.items():
        if name in report["rows"]:
            continue
        begun = time.monotonic()
        made = quantize(weights, calibration, task=checkpoint.task, max_length=most, options=options)
        entry = also(Artifact(with_defaults(made.manifest), made.tensors, Path()), checkpoint)
        for split, of in given.items():
            found = quantized_logits(made.manifest, made.tensors, of.sentences)
            entry[split] = paired_accuracy(right[split], found.numpy().argmax(axis=1) == of.labels)
            entry[split]["logit_error"] = float((found - logits[split]).abs().mean())
        entry["seconds"] = round(time.monotonic() - begun, 1)
        report["rows"][name] = entry
        write_json(path, report)
        print(f"{name}: dev {100 * entry['dev']['quantized_accuracy']:.2f} %, {entry['seconds']} s", flush=True)
