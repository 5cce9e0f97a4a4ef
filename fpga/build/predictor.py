# SPDX-License-Identifier: Apache-2.0
"""A network that foretells the layer at which a sentence leaves, for the vector unit in place of the exit table
(kernels/exit_network.hpp): an hls4ml project with `predictor.json` beside it, as quant/exit_predictor_hls.py writes it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

UNIT = "engine_vector"  # that it becomes a part of
FILE = "predictor.json"
FORMAT, VERSION, TOP = "zynqbert-exit-predictor", 1, "exit_predictor"
MAX_LAYERS = 63
# Within firmware/: compiled files and headers of the vendor's types, which the tool has of its own.
_NOT_SOURCES = ("ap_types",)
_REMEDY = "remedy: export the predictor again"


class PredictorError(ValueError):
    """A folder that holds no usable predictor; names file, field and remedy."""


@dataclass(frozen=True)
class PredictorProject:
    """A predictor's sources: `layers` results of its function, `files` in a fixed order, their digest `sha256`."""

    folder: Path
    layers: int
    files: tuple[Path, ...]
    sha256: str

    @property
    def firmware(self) -> Path:
        """Where #includes of the project are looked for."""
        return self.folder / "firmware"

    @property
    def source(self) -> Path:
        """The file of the network's function."""
        return self.firmware / f"{TOP}.cpp"

    @property
    def weights(self) -> Path:
        """What C simulation reads the weights from; synthesis has them in the headers."""
        return self.firmware / "weights"

    @property
    def flags(self) -> str:
        """Compiler options by which top/engine_vector.cpp takes the network."""
        return f"-DZQ_EXIT_PREDICTOR={self.layers} -I{self.firmware}"


def read_predictor(folder: Path) -> PredictorProject:
    """The project in `folder`. Raises PredictorError."""
    folder = Path(folder).resolve()
    if " " in str(folder):
        raise PredictorError(f"--predictor {folder}: the HLS tool's options cannot hold a space; remedy: move it")
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PredictorError(f"--predictor {path}: cannot be read ({error}); {_REMEDY}") from None
    if not isinstance(content, dict):
        raise PredictorError(f"--predictor {path}: must be an object; {_REMEDY}")
    for name, wanted in (("format", FORMAT), ("version", VERSION), ("top", TOP)):
        if content.get(name) != wanted or isinstance(content.get(name), bool):
            raise PredictorError(f"--predictor {path}: {name} is {content.get(name)!r}, must be {wanted!r}; {_REMEDY}")
    layers = content.get("layers")
    if type(layers) is not int or not 1 <= layers <= MAX_LAYERS:
        raise PredictorError(f"--predictor {path}: layers is {layers!r}, must be 1 .. {MAX_LAYERS}; {_REMEDY}")
    firmware = folder / "firmware"
    for needed in (f"{TOP}.cpp", f"{TOP}.h", "defines.h", "parameters.h", "nnet_utils", "weights"):
        if not (firmware / needed).exists():
            raise PredictorError(f"--predictor {firmware / needed}: is missing; {_REMEDY}")
    files = tuple(sorted(path for path in firmware.rglob("*") if _is_source(path.relative_to(firmware), path)))
    digest = hashlib.sha256()
    for file in files:
        text = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()} {len(text)}\n".encode() + text)
    return PredictorProject(folder, layers, files, digest.hexdigest())


def _is_source(name: Path, path: Path) -> bool:
    return path.is_file() and name.parts[0] not in _NOT_SOURCES and path.suffix in (".h", ".cpp", ".txt")
