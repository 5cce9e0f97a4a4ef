# SPDX-License-Identifier: Apache-2.0
"""Write and read a quantized model's folder (docs/artifact.md). Boards import this: numpy and safetensors, no torch.

Nothing in a folder is believed: a reader checks every field, size and checksum before it hands a tensor out.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from .artifact_fields import ArtifactError, is_int, parse_json, same_shape
from .artifact_manifest import (
    FORMAT,
    MAJOR,
    MANIFEST,
    MINOR,
    MODEL,
    TOKENIZER,
    check_manifest,
    check_tensor_list,
    with_defaults,
)
from .artifact_tensors import Spec, check_values, expected_tensors

__all__ = ["Artifact", "ArtifactError", "load_artifact", "save_artifact"]

_MAX_JSON = 8 << 20  # manifest, safetensors header
_MAX_TOKENIZER = 128 << 20
_SAFETENSORS = {"I8": "int8", "U8": "uint8", "I32": "int32"}
_COPY = "copy the folder again, or quantize the model again"


@dataclass(frozen=True)
class Artifact:
    """A checked artifact. tensors: read-only arrays by name; int4 ones still packed.

    The manifest of an older version has the fields of the present one, with their defaults.
    """

    manifest: dict
    tensors: dict[str, np.ndarray]
    tokenizer_path: Path


def save_artifact(path: str | Path, manifest: Mapping, tensors: Mapping[str, np.ndarray], tokenizer_json: str) -> Path:
    """Write an artifact folder at `path`, replacing an artifact that is there once the new one is written and checked.

    `manifest` comes without format, version, tensors and files, which are filled in here, and perhaps without what 2.0
    did not have. Raises ArtifactError where `path` holds something else than an artifact, or where the parts do not
    make a valid one; OSError where it cannot be written. In every such case what was at `path` stays as it was.
    """
    path = Path(os.path.abspath(path))
    _refuse_foreign(path)
    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    files = {MODEL: save(ordered), TOKENIZER: tokenizer_json.encode("utf-8")}
    full = {
        "format": FORMAT,
        "version": f"{MAJOR}.{MINOR}",
        "metrics": {},
        **with_defaults(manifest),
        "tensors": {
            name: {"dtype": str(t.dtype), "shape": list(t.shape), "sha256": _sha256(t.data)}
            for name, t in ordered.items()
        },
        "files": {name: {"sha256": _sha256(content)} for name, content in files.items()},
    }
    files[MANIFEST] = (json.dumps(full, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(4)
    new, old = (path.with_name(f".{path.name}.{mark}.{kind}.partial") for kind in ("new", "old"))
    try:
        new.mkdir()
        for name, content in files.items():
            with open(new / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        load_artifact(new)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
    return path


def load_artifact(path: str | Path) -> Artifact:
    """Read and check an artifact folder. Raises ArtifactError in one line: file, field, fault, remedy."""
    folder = Path(path)
    if not folder.is_dir():
        raise ArtifactError(folder, "folder", "there is none", "give the folder of an artifact")
    file = folder / MANIFEST
    manifest = parse_json(file, "manifest", _read(file, _MAX_JSON))
    check_manifest(file, manifest)
    manifest = with_defaults(manifest)
    expected = expected_tensors(manifest)
    check_tensor_list(file, manifest, expected)

    file = folder / TOKENIZER
    if _sha256(_read(file, _MAX_TOKENIZER)) != manifest["files"][TOKENIZER]["sha256"]:
        raise ArtifactError(file, "sha256", "not the manifest's: the file was altered", _COPY)

    file = folder / MODEL
    tensors = _tensors(file, expected, manifest["files"][MODEL]["sha256"])
    for name, tensor in tensors.items():
        if _sha256(tensor.data) != manifest["tensors"][name]["sha256"]:
            raise ArtifactError(file, f"{name} sha256", "not the manifest's: the tensor was altered", _COPY)
    check_values(file, manifest, tensors)
    return Artifact(manifest, tensors, folder / TOKENIZER)


def _tensors(file: Path, expected: Spec, sha256: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, as views of its bytes, after the header has been held against `expected`."""
    sizes = {
        name: int(np.dtype(dtype).itemsize * np.prod(shape, dtype=object)) for name, (dtype, shape) in expected.items()
    }
    data = _read(file, 8 + _MAX_JSON + sum(sizes.values()))
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(_MAX_JSON, len(data) - 8):
        raise ArtifactError(
            file, "header length", f"{length} bytes do not fit: the file is cut or no safetensors", _COPY
        )
    header = parse_json(file, "header", data[8 : 8 + length])
    if not isinstance(header, dict):
        raise ArtifactError(file, "header", "not an object")
    for name in header:
        if name not in expected:
            raise ArtifactError(file, str(name)[:80], "unknown tensor")
    places: dict[str, int] = {}
    for name, (dtype, shape) in expected.items():
        if name not in header:
            raise ArtifactError(file, name, "tensor missing")
        places[name] = _place(file, name, header[name], dtype, shape, sizes[name])
    at = 0
    for name in sorted(places, key=places.__getitem__):
        if places[name] != at:
            raise ArtifactError(file, name, f"begins at byte {places[name]}, not at {at}: gap or overlap")
        at += sizes[name]
    if len(data) != 8 + length + at:
        raise ArtifactError(file, "size", f"{len(data)} bytes, not {8 + length + at}: cut or grown", _COPY)
    if _sha256(data) != sha256:
        raise ArtifactError(file, "sha256", "not the manifest's: the file was altered", _COPY)
    return {
        name: np.frombuffer(data, dtype, sizes[name] // np.dtype(dtype).itemsize, 8 + length + places[name]).reshape(
            shape
        )
        for name, (dtype, shape) in expected.items()
    }


def _place(file: Path, name: str, entry: object, dtype: str, shape: tuple[int, ...], size: int) -> int:
    """First byte of a tensor within the data, from its checked header entry."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ArtifactError(file, name, "header entry without just dtype, shape and data_offsets")
    if _SAFETENSORS.get(str(entry["dtype"])) != dtype:
        raise ArtifactError(file, f"{name} dtype", f"{str(entry['dtype'])[:20]!r} is not {dtype}")
    if not same_shape(entry["shape"], shape):
        raise ArtifactError(file, f"{name} shape", f"{str(entry['shape'])[:60]} is not {list(shape)}")
    offsets = entry["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(is_int(x, 0, 2**62) for x in offsets):
        raise ArtifactError(file, f"{name} data_offsets", f"{str(offsets)[:60]} is not a pair of offsets")
    if offsets[1] - offsets[0] != size:
        raise ArtifactError(file, f"{name} data_offsets", f"{offsets[1] - offsets[0]} bytes, not {size}")
    return offsets[0]


def _read(file: Path, limit: int) -> bytes:
    """A regular file's bytes, at most `limit` of them; symbolic links are not followed."""
    if file.is_symlink():
        raise ArtifactError(file, "file", "a symbolic link", "copy the file itself into the folder")
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ArtifactError(file, "file", f"cannot be read ({error.strerror})", _COPY) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(file, "file", "not a regular file", _COPY)
        if status.st_size > limit:
            raise ArtifactError(file, "size", f"{status.st_size} bytes, more than {limit}", _COPY)
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(limit)
    finally:
        os.close(descriptor)


def _refuse_foreign(path: Path) -> None:
    """Only an artifact or an empty folder may be replaced."""
    if not path.exists() and not path.is_symlink():
        return
    remedy = "choose another folder"
    if path.is_symlink() or not path.is_dir():
        raise ArtifactError(path, "folder", "something else is there", remedy)
    names = {entry.name for entry in path.iterdir()}
    if names - {MODEL, TOKENIZER, MANIFEST} or (names and MANIFEST not in names):
        raise ArtifactError(path, "folder", "holds other things than an artifact", remedy)
    if names:
        found = parse_json(path / MANIFEST, "manifest", _read(path / MANIFEST, _MAX_JSON))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ArtifactError(path / MANIFEST, "format", f"not {FORMAT!r}", remedy)


def _sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()
