# SPDX-License-Identifier: Apache-2.0
"""How word embeddings are best stored: bytes, error and accuracy of int8, int4 and AdaptivFloat, of one float model.

    python benchmarks/word_formats.py --float build/movie-reviews/float --out artifacts/movie-reviews.words.json
    python benchmarks/word_formats.py --out artifacts/movie-reviews.words.json --table

Every row is quantized from the same calibration sentences of the train split, all of the model: what comes after the
embedding is fitted to the words as they are stored. Rows that the JSON has already are not measured again. The test
split is only read here.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.compiler import Artifact, plan
from zynqbert.host.memory_image import pack_adaptive, pack_embedding
from zynqbert.host.model_shape import ModelShape
from zynqbert.quant import float_model
from zynqbert.quant.ablation import Given, prepare, split_batches
from zynqbert.quant.artifact import Artifact as Quantized
from zynqbert.quant.artifact_manifest import with_defaults
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.datasets import DATA_SETS
from zynqbert.quant.evaluate import paired_accuracy, quantized_logits
from zynqbert.quant.options import Options
from zynqbert.quant.quantize import quantize
from zynqbert.quant.training import check_settings, write_json
from zynqbert.quant.words import word_rows

ROWS = {
    "int8": Options(),
    "int4": Options(word_bits=4),
    "AdaptivFloat": Options(word_format="adaptivfloat"),
    "AdaptivFloat, 0.6": Options(word_format="adaptivfloat", word_density=0.6),
    "AdaptivFloat, 0.4": Options(word_format="adaptivfloat", word_density=0.4),
}
SPLITS = ("dev", "test")


def word_error(words: np.ndarray, artifact: Quantized) -> float:
    """Root mean square of what is lost of the float table [vocab, width], over that of the table."""
    q, m, s = word_rows(artifact.manifest["architecture"], artifact.tensors)
    step = artifact.manifest["scales"]["activations"]["embeddings.sum"]
    scale = m.astype(np.float64) * np.exp2(-s.astype(np.float64)) * step  # [vocab]
    lost = [((q[i] * scale[i] - words[i]) ** 2).sum() for i in range(len(words))]
    return float(np.sqrt(sum(lost) / (words.astype(np.float64) ** 2).sum()))


def word_bytes(artifact: Artifact) -> dict[str, int]:
    """Bytes of a row of words, and of the table in the memory image, as packed."""
    t = artifact.tensors
    if artifact.manifest["architecture"]["word_format"] == "adaptivfloat":
        packed = pack_adaptive(t["embeddings.word.q"], *t["embeddings.word.factor"])
    else:
        packed = pack_embedding(*(t[f"embeddings.word.{part}"] for part in "qms"))
    region = plan(ModelShape.of_manifest(artifact.manifest), BOARDS["zcu102"], artifact=artifact).regions
    if region["embeddings.word"].bytes != packed.nbytes:
        raise AssertionError("the plan's region is not what is packed")
    return {"row_bytes": packed.shape[1], "table_bytes": packed.nbytes}


def measure(given: dict[str, Given], report: dict, path: Path) -> None:
    """Fill the report with the rows that it has not, written after each."""
    checkpoint = given["dev"].checkpoint
    weights, right = checkpoint.weights, {}
    for split, of in given.items():
        logits = torch.cat([float_model.forward(weights, batch) for batch in split_batches(of.sentences)])
        right[split] = logits.numpy().argmax(axis=1) == of.labels
        report["float"][split] = {"accuracy": float(right[split].mean()), "sentences": len(right[split])}
    calibration = calibrate(weights, given["dev"].calibration)
    for name, options in ROWS.items():
        if name in report["rows"]:
            continue
        begun = time.monotonic()
        made = quantize(
            weights, calibration, task=checkpoint.task, max_length=weights.architecture.positions, options=options
        )
        artifact = Quantized(with_defaults(made.manifest), made.tensors, Path())
        entry = word_bytes(artifact) | {"word_error": word_error(weights.word.numpy(), artifact)}
        entry["codes_a_row"] = float(
            np.mean(np.count_nonzero(word_rows(artifact.manifest["architecture"], made.tensors)[0], axis=1))
        )
        for split, of in given.items():
            found = quantized_logits(artifact.manifest, artifact.tensors, of.sentences)
            entry[split] = paired_accuracy(right[split], found.numpy().argmax(axis=1) == of.labels)
        entry["seconds"] = round(time.monotonic() - begun, 1)
        report["rows"][name] = entry
        write_json(path, report)
        print(f"{name}: dev {100 * entry['dev']['quantized_accuracy']:.2f} %, {entry['seconds']} s", flush=True)


def table(report: dict) -> str:
    """The report as a table of docs/edgebert.md."""
    of = report["float"]
    lines = [
        "| words | bytes a row | MB | RMS error | dev | test | test, points against float (95 %) |",
        "|---|---|---|---|---|---|---|",
        f"| float | – | – | – | {100 * of['dev']['accuracy']:.1f} % | {100 * of['test']['accuracy']:.1f} % | – |",
    ]
    for name, row in report["rows"].items():
        low, high = row["test"]["difference_interval_points"]
        lines.append(
            f"| {name} | {row['row_bytes']} | {row['table_bytes'] / 1e6:.2f} | {100 * row['word_error']:.1f} % "
            f"| {100 * row['dev']['quantized_accuracy']:.1f} % | {100 * row['test']['quantized_accuracy']:.1f} % "
            f"| {row['test']['difference_points']:+.2f} ({low:+.2f} to {high:+.2f}) |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        given, settings = {}, {}
        for split in SPLITS:
            given[split], found = prepare(args.model, args.data, split, args.sentences, 128, 8)
            settings |= {(f"{key}.{split}" if key in ("sentences", "texts") else key): found[key] for key in found}
        settings = {key: value for key, value in settings.items() if key not in ("split", "word_bits", "model")}
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
