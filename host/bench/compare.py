# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench compare`: a model's integers beside what users would pick, PyTorch float32 and ONNX Runtime int8.

All answer the same tokenized sentences on this machine, one at a time, and take turns while they are timed: accuracy
and speed are measured. The speed of the emulator says nothing of a board, whose figures, modelled, stand in rows of
their own; below them published ones. docs/compare.md says how each figure comes about.
"""

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from statistics import fmean, median
from typing import Any

from ...fpga.boards import BOARDS
from ...quant.artifact import Artifact, load_artifact
from ...quant.datasets import Example
from .. import engine as engines
from ..early_exit import operating_point
from ..inputs import InputError
from ..options import check_clock
from ..target import emulated
from .board import versions
from .compare_modelled import board_figures, published_rows
from .compare_ways import Way, answers_of, engine_answers, engine_run, timed
from .edgebert_models import FALLBACK_POINT
from .paired import accuracy_of, lost
from .run import MEASURED, figure, percentile

FORMAT, VERSION = "zynqbert-compare", 1
FLOAT, ONNX, ONNX_INT8, EMULATOR, LEAVING = "pytorch", "onnx", "onnx_int8", "emulator", "emulator_early_exit"
MODEL_FILES = ("manifest.json", "model.safetensors")
# Instructions of x86 that decide how fast products of 8 bits are.
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")
CPUINFO = Path("/proc/cpuinfo")

Progress = Callable[[str, int], Callable[[], None]]  # what is done, how often: a function to call each time


@dataclass(frozen=True)
class Given:
    """What the ways have in common."""

    folder: Path
    artifact: Artifact
    examples: Sequence[Example]
    threads: int
    clock_mhz: float | None
    progress: Progress


def bench_compare(
    folder: Path,
    source: str | Path,
    examples: Sequence[Example],
    *,
    boards: Sequence[str] = ("zcu102", "zcu111"),
    clock_mhz: float | None = None,
    point: str | None = None,
    threads: int | None = None,
    timed_sentences: int = 200,
    rounds: int = 5,
    texts_from: str = "",
    progress: Progress = lambda what, total: lambda: None,
) -> dict[str, Any]:
    """Let the artifact `folder` and the float model `source` answer `examples`; the report of docs/compare.schema.json.

    All `examples` count for accuracy and for the modelled figures; the first `timed_sentences` are timed `rounds`
    times. `point`: at which the artifact leaves early, its "1" or first if it has any; `threads`: of each way, as many
    as this process may use if not given; `progress` begins a part of so many steps.

    Raises InputError where artifact and float model do not go together, UnsupportedModel, ArtifactError, HostError
    where the engine does not answer, OSError; ModuleNotFoundError without ONNX Runtime.
    """
    if not examples:
        raise InputError("no sentence to compare; remedy: give some")
    check_clock(clock_mhz, *boards)
    threads = threads or usable_cores()
    artifact = load_artifact(folder)
    point = _point(artifact.manifest, point)
    given = Given(folder, artifact, examples, threads, clock_mhz, progress)
    timed_sentences = min(timed_sentences, len(examples))
    with ExitStack() as stack:
        ways, tokens, bits = _float_ways(stack, given, source)
        ways.append(_emulator(stack, given, None))
        if point is not None:
            ways.append(_emulator(stack, given, point))
        step = progress("timing", len(ways) * rounds * timed_sentences)
        times = timed(ways, timed_sentences, rounds, step)
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {
            "artifact": str(folder),
            "float": str(source),
            "labels": list(artifact.manifest["task"]["labels"]),
            "texts_from": texts_from,
            "sentences": len(examples),
            "timed_sentences": timed_sentences,
            "rounds": rounds,
            "threads": threads,
            "point": point,
            "onnx_int8_weight_bits": bits,
        },
        "machine": machine(),
        "tokens": {
            "mean": figure(fmean(tokens), "tokens", MEASURED),
            "max": figure(max(tokens), "tokens", MEASURED),
        },
        "measured": [measured_row(way, ways[0], examples, times[way.key]) for way in ways],
        "modelled": list(_modelled(given, ways, point, tokens, boards)),
        "published": list(published_rows([BOARDS[name] for name in boards], clock_mhz)),
        "notes": notes(),
        "versions": versions() | {n: metadata.version(n) for n in ("torch", "transformers", "onnx", "onnxruntime")},
    }


def _float_ways(stack: ExitStack, given: Given, source: str | Path) -> tuple[list[Way], list[int], int]:
    """PyTorch and ONNX Runtime, tokens of each sentence, and the bits of ONNX Runtime's int8 weights.

    The model is exported to a temporary folder that lasts as long as `stack`.
    """
    from ...quant.float_classifier import FloatClassifier, OtherModel, torch_threads
    from ...quant.onnx_model import OnnxClassifier, arrays, export, to_int8

    model = FloatClassifier.load(source)
    try:
        model.check(given.artifact)
    except OtherModel as error:
        raise InputError(
            f"--float {source}: {error} (--artifact {given.folder}); remedy: the model that the artifact was made of"
        ) from error
    inputs = model.inputs([e.texts for e in given.examples], given.artifact.manifest["task"]["max_length"])
    stack.enter_context(torch_threads(given.threads))
    exported = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zynqbert-"))) / "model.onnx"
    narrow = exported.with_name("int8.onnx")
    export(model.model, exported)
    bits = to_int8(exported, narrow)
    as_arrays = [arrays(one) for one in inputs]

    def way(key: str, name: str, logits: Callable[[int], Any], size: int) -> Way:
        step = given.progress(f"answers, {name}", len(inputs))
        return Way(key, name, logits, answers_of(logits, len(inputs), step), size)

    ways = [way(FLOAT, "PyTorch float32", lambda i: model.logits(inputs[i]), model.bytes)]
    for key, name, path in ((ONNX, "ONNX Runtime float32", exported), (ONNX_INT8, "ONNX Runtime int8", narrow)):
        session = OnnxClassifier(path, given.threads)
        run = lambda i, session=session: session.logits(as_arrays[i])  # noqa: E731
        ways.append(way(key, name, run, path.stat().st_size))
    return ways, [one["input_ids"].shape[1] for one in inputs], bits


def _emulator(stack: ExitStack, given: Given, point: str | None) -> Way:
    """The artifact on an emulated board, whose integers are those of either board, as long as `stack` lasts."""
    target = emulated(BOARDS["zcu102"], threads=given.threads)
    opened = engines.open(board="zcu102", artifact=given.folder, device=target, early_exit=point)
    engine = stack.enter_context(opened)
    name = "zynqbert, emulated" + ("" if point is None else f", leaving early at {point}")
    answers, layers = engine_answers(engine, given.examples, given.progress(f"answers, {name}", len(given.examples)))
    size = sum((given.folder / file).stat().st_size for file in MODEL_FILES)
    key = EMULATOR if point is None else LEAVING
    return Way(key, name, engine_run(engine, given.examples), answers, size, layers)


def measured_row(
    way: Way, in_float: Way, examples: Sequence[Example], rounds: Sequence[Sequence[float]]
) -> dict[str, Any]:
    """One way: its accuracy, beside that of PyTorch's float32 on the same sentences, and its speed over all rounds."""
    times = [ms for of_round in rounds for ms in of_round]
    right, float_right = ([a == e.label for a, e in zip(w.answers, examples, strict=True)] for w in (way, in_float))
    agreed = sum(a == b for a, b in zip(way.answers, in_float.answers, strict=True))
    return {
        "key": way.key,
        "name": way.name,
        "accuracy": accuracy_of(right),
        "difference": None if way is in_float else difference(float_right, right),
        "agreement": figure(agreed / len(examples), "share", MEASURED),
        "latency_p50": figure(percentile(times, 50), "ms", MEASURED),
        "latency_p90": figure(percentile(times, 90), "ms", MEASURED),
        "per_second": figure(1e3 * len(times) / sum(times), "sentences/s", MEASURED),
        "round_medians_ms": [median(of_round) for of_round in rounds],
        "bytes": figure(way.bytes, "bytes", MEASURED),
        "exit_layer": None if way.layers is None else figure(fmean(way.layers), "layers", MEASURED),
    }


def difference(float_right: Sequence[bool], right: Sequence[bool]) -> dict[str, Any]:
    """Points of accuracy above float, with the 95 % interval of a paired bootstrap.

    >>> found = difference([True, True, False, False], [True, True, True, False])
    >>> found["points"], found["gained"], found["lost"]
    (25.0, 1, 0)
    """
    found = lost(float_right, right)
    low, high = found["interval"]
    return found | {"points": 0 - found["points"], "interval": [0 - high, 0 - low]}  # 0 stays without a sign


def _modelled(
    given: Given, ways: Sequence[Way], point: str | None, tokens: Sequence[int], boards: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Each board one sentence a pass, through all layers and at the operating point; `answers`: whose they are."""
    by_key = {way.key: way for way in ways}
    for name in boards:
        board = BOARDS[name]
        clock_mhz = given.clock_mhz or board.clock_mhz
        row = {"board": name, "clock_mhz": clock_mhz}
        figures = board_figures(given.artifact, board, clock_mhz, tokens)
        yield row | {"point": None, "answers": EMULATOR} | figures
        if point is not None:
            leaving = operating_point(given.artifact.manifest, point), by_key[LEAVING].layers
            figures = board_figures(given.artifact, board, clock_mhz, tokens, leaving)
            yield row | {"point": point, "answers": LEAVING} | figures


def _point(manifest: Mapping[str, Any], name: str | None) -> str | None:
    """The operating point to leave at; None for an artifact that has none, if none is asked for."""
    points = (manifest.get("exits") or {}).get("points") or {}
    if name is None and points:
        name = FALLBACK_POINT if FALLBACK_POINT in points else next(iter(points))
    if name is not None:
        operating_point(manifest, name)
    return name


def usable_cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """What kind of machine this is: architecture, processors for us, and of INSTRUCTIONS those that it has."""
    flags = CPUINFO.read_text(encoding="utf-8").split() if CPUINFO.is_file() else []
    return {
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
    }


def notes() -> list[str]:
    """What a reader must know."""
    return [
        "every way answered the same tokens, one sentence at a time, and is timed from token ids to logits: the "
        "tokenizer is in no figure; the ways took turns, with the same number of threads",
        "the emulator computes the board's integers bit by bit, driver included: its answers are the board's, its "
        "speed is this machine's and says nothing of a board",
        "ONNX Runtime int8: dynamic quantization, weights by output channel; norms, softmax, GELU and the products of "
        "activations with each other stay in float. zynqbert: all in integers",
        "rows of boards are modelled, on the same sentences, one to a pass; no board has run them",
        "published rows are of their authors' own setting: FQ-BERT's of the encoder alone, embedding and task head on "
        "the processor; ours has both in the engine; designs that tell operations a second and watt alone are in "
        "docs/roofline.md",
    ]
