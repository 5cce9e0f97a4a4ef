# SPDX-License-Identifier: Apache-2.0
"""The predictor's network as an hls4ml project: an optional unit, beside the exit table that needs a single read.

The project's top function is `exit_predictor(input_t in[1], result_t out[layers])`; the layer foretold is 1 + the index
of the largest result, of equal ones the first. The input's raw bits are the entropy itself, in steps of 2^−12 nats.
Where the table is made by a quantile, the likeliest layer is not what it says: `follower` is a network that learns the
table. `predictor.json` beside the project says what it is and for which artifact.
"""

import contextlib
import hashlib
import importlib.util
import io
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .exit_predictor import ROWS, ROWS_PER_UNIT, Predicting, network_input, train_network
from .training import write_json

NAME = "exit_predictor"  # of the project and of its top function
FILE = "predictor.json"
FORMAT, VERSION = "zynqbert-exit-predictor", 1
BITS = 16
REUSE = 64
_ENTROPY_BITS = 16  # with a sign that is never set


def follower(table: Sequence[int], layers: int, row_shift: int, settings: Predicting, seed: int = 0) -> nn.Sequential:
    """A network whose likeliest layer is the table's, as nearly as its training gets: every row is an example.

    Of every row a little is left to the other layers, so that results stay small, as fixed point wants them.
    """
    counts = 100 * np.eye(layers, dtype=np.int64)[np.asarray(table) - 1] + 1
    return train_network(counts, row_shift, settings, seed)


def entropies(row_shift: int) -> np.ndarray:
    """Every entropy that the rows of the table tell apart: all of 0 .. 256·2^r − 1."""
    return np.arange(min(1 << 15, ROWS << row_shift))


@torch.no_grad()
def answers(model: nn.Module, entropy: np.ndarray, row_shift: int) -> np.ndarray:
    """The float network's results, float64 [n, layers]."""
    return model(network_input(entropy, row_shift)).double().numpy()


def integer_bits(largest: float) -> int:
    """Of a signed fixed point that holds ±largest.

    >>> [integer_bits(x) for x in (0.3, 0.5, 5.3, 8)]
    [0, 1, 4, 5]
    """
    return math.floor(math.log2(largest)) + 2


@torch.no_grad()
def precisions(model: nn.Sequential, row_shift: int) -> list[dict[str, str]]:
    """Of each part of the network, "weight" and "bias" where it has them, and "result": 16 bits, as many of them before
    the point as its values need, results over all entropies."""
    found, x = [], network_input(entropies(row_shift), row_shift)
    for part in model:
        x = part(x)
        of = {"result": x} | ({"weight": part.weight, "bias": part.bias} if isinstance(part, nn.Linear) else {})
        largest = {name: max(float(values.abs().max()), 2.0**-8) for name, values in of.items()}
        found.append({name: f"ap_fixed<{BITS},{integer_bits(size)}>" for name, size in largest.items()})
    return found


def cost(model: nn.Module, bits: int = BITS, reuse: int = REUSE) -> dict:
    """What can be told without the vendor's tool; `multipliers` is an estimate by hls4ml's reuse factor."""
    parts = [part for part in model if isinstance(part, nn.Linear)]
    products = [part.weight.numel() for part in parts]
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "parameters": parameters,
        "parameter_bits": bits * parameters,
        "multiplications": sum(products),
        "reuse_factor": reuse,
        "estimated_multipliers": sum(math.ceil(n / reuse) for n in products),
        "estimated_cycles_at_least": reuse * len(parts),
        "table_bits": 8 * ROWS,
        "table_reads": 1,
    }


def check_installed() -> None:
    """Raises ModuleNotFoundError with the remedy where hls4ml is missing: it is asked for after hours of training."""
    if importlib.util.find_spec("hls4ml") is None:
        raise ModuleNotFoundError("hls4ml is not installed; remedy: pip install zynqbert[sim], or no exits.firmware")


def export(
    model: nn.Sequential,
    folder: str | Path,
    *,
    row_shift: int,
    artifact: Path | None = None,
    point: str | None = None,
    part: str = "xczu9eg-ffvb1156-2-e",
    clock_ns: float = 4.0,
    reuse: int = REUSE,
) -> dict:
    """Write the hls4ml project of a network to `folder` (which must not exist, or hold one); the content of FILE.

    `artifact` and `point`: the folder, and the operating point, that it foretells for. Raises ValueError where `folder`
    holds something else, ModuleNotFoundError without hls4ml, OSError.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / FILE).is_file():
        raise ValueError(f"{folder}: exists and holds no predictor; remedy: another folder")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    project = _project(model, partial, row_shift, part, clock_ns, reuse)
    _quietly(project.write)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "top": NAME,
        "layers": model[-1].out_features,
        "row_shift": row_shift,
        "input": {"type": _input_type(row_shift), "entropy_steps_per_unit": ROWS_PER_UNIT << row_shift},
        "precisions": precisions(model, row_shift),
        "foretold": "1 + the index of the largest result, of equal ones the first",
        "model_sha256": sha256_of(model),
        "artifact_sha256": artifact and hashlib.sha256((artifact / "model.safetensors").read_bytes()).hexdigest(),
        "point": point,
        "part": part,
        "clock_ns": clock_ns,
        "cost": cost(model, reuse=reuse),
    }
    write_json(partial / FILE, content)
    (partial / "hls4ml_config.yml").unlink()  # for hls4ml alone, and names the folder that was written to
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)
    return content


def sha256_of(model: nn.Module) -> str:
    """Of the parameters' little-endian bytes, in order."""
    found = hashlib.sha256()
    for parameter in model.parameters():
        found.update(np.ascontiguousarray(parameter.detach().numpy().astype("<f4")))
    return found.hexdigest()


def compiled(model: nn.Sequential, folder: str | Path, row_shift: int) -> Callable[[np.ndarray], np.ndarray]:
    """Compile the network's project in `folder` with g++; a function from entropies [n] to results [n, layers].

    The arithmetic is that of the project's fixed point, bit for bit.
    """
    project = _project(model, Path(folder), row_shift, "xczu9eg-ffvb1156-2-e", 4.0, REUSE)
    _quietly(project.compile)

    def results(entropy: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(network_input(entropy, row_shift).numpy())
        return np.asarray(project.predict(x), np.float64).reshape(len(entropy), -1)

    return results


def foretold_by(fixed: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """The layer foretold for each sentence by the compiled network's results `fixed` [entropies, layers]: entropy
    [sentences, layers], of which the first is read; beyond the last row of the table it counts as that row's."""
    return fixed.argmax(axis=1)[np.minimum(entropy[:, 0], len(fixed) - 1)] + 1


def compare(model: nn.Module, fixed: np.ndarray, table: Sequence[int], row_shift: int) -> dict:
    """The compiled network's results `fixed` [entropies, layers] beside the float network and the exit table.

    `error` is the largest of all results over all entropies: where two layers of the float network are further apart
    than twice that, both networks foretell the same.
    """
    entropy = entropies(row_shift)
    wanted = answers(model, entropy, row_shift)
    told, in_float = fixed.argmax(axis=1) + 1, wanted.argmax(axis=1) + 1
    error = float(np.abs(fixed - wanted).max())
    two = np.sort(wanted, axis=1)[:, -2:]
    near = two[:, 1] - two[:, 0] <= 2 * error
    in_table = np.asarray(table)[np.minimum(entropy >> row_shift, ROWS - 1)]
    return {
        "entropies": len(entropy),
        "error": error,
        "as_float": float((told == in_float).mean()),
        "differ_where_far": int(((told != in_float) & ~near).sum()),
        "as_table": float((told == in_table).mean()),
        "float_as_table": float((in_float == in_table).mean()),
        "largest_distance_to_table": int(np.abs(told - in_table).max()),
    }


def _input_type(row_shift: int) -> str:
    """Whose raw bits are the entropy: of 16 bits as many behind the point as a unit has binary digits of steps."""
    fraction = (ROWS_PER_UNIT << row_shift).bit_length() - 1
    return f"ap_fixed<{_ENTROPY_BITS},{_ENTROPY_BITS - fraction}>"


def _project(model: nn.Sequential, folder: Path, row_shift: int, part: str, clock_ns: float, reuse: int):
    """hls4ml's project: sums as wide as they need, everything else in `precisions`, rounded and saturated."""
    import hls4ml  # of a workstation with the extra; takes seconds

    utils, convert = hls4ml.utils, hls4ml.converters.convert_from_pytorch_model
    given = dict(granularity="name", backend="Vitis", default_reuse_factor=reuse)
    config = _quietly(lambda: utils.config_from_pytorch_model(model, (1,), **given))
    config["Model"]["Strategy"] = "Resource"
    layers = config["LayerName"]
    for (name, _), precision in zip(model.named_children(), precisions(model, row_shift), strict=True):
        layers[f"_{name}"]["Strategy"] = "Resource"
        layers[f"_{name}"]["Precision"] |= {of: kind[:-1] + ",AP_RND,AP_SAT>" for of, kind in precision.items()}
    layers["input_1"]["Precision"]["result"] = _input_type(row_shift)
    settings = dict(hls_config=config, output_dir=str(folder), project_name=NAME, backend="Vitis", part=part)
    return _quietly(lambda: convert(model, io_type="io_parallel", clock_period=clock_ns, **settings))


def _quietly(call: Callable):
    """hls4ml prints its progress, which is of no use here."""
    with contextlib.redirect_stdout(io.StringIO()):
        return call()
