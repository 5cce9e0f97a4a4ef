# SPDX-License-Identifier: Apache-2.0
"""How the files of a stored model are read: bounded, no links followed, every checksum held (docs/artifact.md).

Nothing in a folder is believed: every field, size and checksum is checked before a tensor is handed out.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .artifact_fields import ArtifactError, is_int, parse_json, same_shape
from .artifact_tensors import Spec

MAX_JSON = 8 << 20  # a manifest, a safetensors header
MAX_TOKENIZER = 128 << 20
COPY = "copy the folder again, or quantize the model again"
_SAFETENSORS = {"I8": "int8", "U8": "uint8", "I32": "int32"}


def read_json(file: Path) -> tuple[Any, bytes]:
    """A manifest and the bytes it was read from."""
    data = read_file(file, MAX_JSON)
    return parse_json(file, "manifest", data), data


def read_tokenizer(file: Path, sha256: str) -> None:
    """Hold a tokenizer's file against its checksum."""
    if sha256_of(read_file(file, MAX_TOKENIZER)) != sha256:
        raise ArtifactError(file, "sha256", "not the manifest's: the file was altered", COPY)


def read_checked_tensors(file: Path, expected: Spec, sha256: str, listed: Mapping) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, its checksum and each tensor's, of the manifest's list, held."""
    tensors = read_tensors(file, expected, sha256)
    for name, tensor in tensors.items():
        if sha256_of(tensor.data) != listed[name]["sha256"]:
            raise ArtifactError(file, f"{name} sha256", "not the manifest's: the tensor was altered", COPY)
    return tensors


def describe(tensors: Mapping[str, np.ndarray]) -> dict[str, dict]:
    """What a manifest says of its tensors, contiguous ones: dtype, shape, sha256 of the bytes."""
    return {
        name: {"dtype": str(t.dtype), "shape": list(t.shape), "sha256": sha256_of(t.data)}
        for name, t in tensors.items()
    }


def most_bytes(expected: Spec) -> int:
    """What a safetensors file of these tensors has at most."""
    return 8 + MAX_JSON + sum(_sizes(expected).values())


def _sizes(expected: Spec) -> dict[str, int]:
    """Bytes of each tensor."""
    return {
        name: int(np.dtype(dtype).itemsize * np.prod(shape, dtype=object)) for name, (dtype, shape) in expected.items()
    }


def read_tensors(file: Path, expected: Spec, sha256: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, as views of its bytes, after the header has been held against `expected`."""
    sizes = _sizes(expected)
    data = read_file(file, most_bytes(expected))
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_JSON, len(data) - 8):
        raise ArtifactError(
            file, "header length", f"{length} bytes do not fit: the file is cut or no safetensors", COPY
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
        raise ArtifactError(file, "size", f"{len(data)} bytes, not {8 + length + at}: cut or grown", COPY)
    if sha256_of(data) != sha256:
        raise ArtifactError(file, "sha256", "not the manifest's: the file was altered", COPY)
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


def read_file(file: Path, limit: int) -> bytes:
    """A regular file's bytes, at most `limit` of them; symbolic links are not followed."""
    if file.is_symlink():
        raise ArtifactError(file, "file", "a symbolic link", "copy the file itself into the folder")
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ArtifactError(file, "file", f"cannot be read ({error.strerror})", COPY) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(file, "file", "not a regular file", COPY)
        if status.st_size > limit:
            raise ArtifactError(file, "size", f"{status.st_size} bytes, more than {limit}", COPY)
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(limit)
    finally:
        os.close(descriptor)


def sha256_of(data: bytes | memoryview) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()
