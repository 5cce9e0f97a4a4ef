# SPDX-License-Identifier: Apache-2.0
"""From a float checkpoint and some text to an artifact folder, in one call."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .artifact import save_artifact
from .calibrate import calibrate
from .checkpoint import Architecture, load_checkpoint
from .compare import compare
from .pruning import density_report, encoder_matrices
from .quantize import Options, quantize, steps
from .tied import with_tied_ramps
from .tokens import Texts, encode
from .vocabulary import drop_unused_words

SENTENCES = 512  # calibrated on
_COMPARED = 128  # further sentences, for the report

Advance = Callable[[str, int, int], None]


def quantize_checkpoint(
    source: str | Path,
    calibration_texts: Sequence[Texts],
    out: str | Path,
    *,
    word_bits: int = 8,
    word_format: str = "integer",
    word_density: float = 1.0,
    softmax: str = "numerator",
    density: float = 1.0,
    pattern: str = "free",
    tied: bool = False,
    max_length: int = 128,
    progress: Advance | None = None,
    options: Options | None = None,
    metrics: dict | None = None,
) -> dict:
    """Quantize the classifier `source` (folder or hub name) to the artifact folder `out`; returns the report.

    The first 512 of `calibration_texts` (texts, or pairs of them, from a train split) calibrate; the next 128, where
    there are so many, are what the report compares float and integer answers on. `progress(step, done, total)` replaces
    the bar that is otherwise drawn on stderr; `metrics` joins the report in the manifest. With a `density` below 1 the
    encoder's matrices are pruned to it, in the `pattern` "free" or "blocks" (pruning.py), and the report says so matrix
    by matrix. `tied`: all layers, which share their matrices, get the same integers, and the head as an off-ramp behind
    each (tied.py). Raises UnsupportedModel, ValueError, ArtifactError or OSError; `out` then stays as it was.
    """
    begun = time.monotonic()
    options = dataclasses.replace(
        options or Options(),
        word_bits=word_bits,
        word_format=word_format,
        word_density=word_density,
        softmax=softmax,
        density=density,
        pattern=pattern,
        tied=tied,
    )
    options.checked(hidden=0)  # before the model is read
    given = load_checkpoint(source)
    checkpoint = drop_unused_words(given)
    weights = with_tied_ramps(checkpoint.weights) if tied else checkpoint.weights
    max_length = min(max_length, weights.architecture.positions)
    sentences = encode(checkpoint.tokenizer_json, calibration_texts[: SENTENCES + _COMPARED], max_length)
    with bar(progress) as advance:
        total, done = steps(weights, tied=tied) + 2, 0

        def on_step(name: str) -> None:
            nonlocal done
            advance(name, done, total)
            done += 1

        on_step("calibration")
        calibration = calibrate(weights, sentences[:SENTENCES])
        quantized = quantize(
            weights, calibration, task=checkpoint.task, max_length=max_length, options=options, on_step=on_step
        )
        on_step("comparison")
        report = {
            "calibration_sentences": len(calibration.sentences),
            "dropped_words": given.weights.architecture.vocab - weights.architecture.vocab,
            "encoder": encoder_sizes(weights.architecture, quantized.tensors),
        }
        if density < 1:
            report["density"] = density_report(encoder_matrices(quantized.manifest, quantized.tensors), density)
        if further := sentences[SENTENCES:]:
            report["compared_sentences"] = len(further)
            report |= compare(weights, quantized, further)
        report["seconds"] = round(time.monotonic() - begun, 1)
        manifest = {**quantized.manifest, "metrics": {"source": Path(source).name, **report, **(metrics or {})}}
        path = save_artifact(out, manifest, quantized.tensors, checkpoint.tokenizer_json)
        report["bytes"] = {file.name: file.stat().st_size for file in sorted(path.iterdir())}
        advance("done", total, total)
    return report


def encoder_sizes(architecture: Architecture, tensors: dict) -> dict:
    """Bytes of the encoder's weight matrices, in float32 and as stored (split columns included), and their ratio.

    Matrices that layers share count once; biases, scales and layer norms are not counted on either side.
    """
    a = architecture
    attention = [4 * a.hidden * a.layer_heads[i] * a.head_width for i in sorted(set(a.weights))]
    in_float = 4 * sum(weights + 2 * a.hidden * a.ffn for weights in attention)
    stored = sum(t.nbytes for name, t in tensors.items() if name.startswith("layers.") and name.endswith(".weight"))
    return {"float_bytes": in_float, "stored_bytes": stored, "ratio": in_float / stored}


@contextmanager
def bar(progress: Advance | None) -> Iterator[Advance]:
    """`progress` itself, or a bar on stderr."""
    if progress is not None:
        yield progress
        return
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("quantizing", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)
