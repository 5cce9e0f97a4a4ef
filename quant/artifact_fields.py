# SPDX-License-Identifier: Apache-2.0
"""How the fields of a stored manifest are read and refused, whatever it describes. Standard library only."""

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

AGAIN = "quantize the model again"


class ArtifactError(ValueError):
    """An artifact that is damaged, foreign or too new; one line with file, field, fault and remedy."""

    def __init__(self, file: object, field: str, fault: str, remedy: str = AGAIN):
        self.field = field
        super().__init__(" ".join(f"{file}: {field}: {fault}; remedy: {remedy}".split()))


def parse_json(file: object, field: str, data: bytes) -> Any:
    """JSON without duplicate names, NaN or infinities; ArtifactError otherwise."""

    def pairs(items: list[tuple[str, Any]]) -> dict:
        if len(found := dict(items)) != len(items):
            raise ValueError("a name occurs twice")
        return found

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(file, field, f"no valid JSON ({error})") from error


class Fields:
    """Takes the fields of one object; each must be there, and nothing else."""

    def __init__(self, file: object, at: str, value: Any, names: tuple[str, ...]):
        self.file, self.at = file, at
        if not isinstance(value, dict):
            raise ArtifactError(file, at.rstrip(".") or "manifest", "not an object")
        self.value = value
        for name in names:
            if name not in value:
                raise ArtifactError(file, at + name, "missing")
        for name in value:
            if name not in names:
                raise ArtifactError(file, at + str(name)[:80], "unknown field")

    def fail(self, name: str, wanted: str) -> NoReturn:
        shown = repr(self.value[name])
        shown = shown if len(shown) <= 60 else shown[:57] + "…"
        raise ArtifactError(self.file, self.at + name, f"{shown} is not {wanted}")

    def check(self, name: str, good: Callable[[Any], bool], wanted: str) -> Any:
        if not good(self.value[name]):
            self.fail(name, wanted)
        return self.value[name]

    def integer(self, name: str, low: int, high: int) -> int:
        return self.check(name, lambda x: is_int(x, low, high), f"an integer from {low} to {high}")

    def choice(self, name: str, *values: Any) -> Any:
        good = lambda x: any(type(x) is type(v) and x == v for v in values)  # noqa: E731
        return self.check(name, good, " or ".join(json.dumps(v) for v in values))

    def counts(self, name: str, length: int, low: int, high: int) -> list[int]:
        wanted = f"a list of {length} integers from {low} to {high}"
        good = lambda x: isinstance(x, list) and len(x) == length and all(is_int(v, low, high) for v in x)  # noqa: E731
        return self.check(name, good, wanted)


def is_int(x: Any, low: int, high: int) -> bool:
    """A JSON integer within low .. high; true and false are none."""
    return isinstance(x, int) and not isinstance(x, bool) and low <= x <= high


def is_positive(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and x > 0


def is_sha256(x: Any) -> bool:
    return isinstance(x, str) and re.fullmatch("[0-9a-f]{64}", x) is not None


def check_version(file: object, manifest: Any, format_: str, newest: tuple[int, int], wanted: str) -> int:
    """The minor version. Format and version come first, so that a foreign or newer file is named as such; `wanted` is
    the remedy against a foreign one."""
    if not isinstance(manifest, dict) or manifest.get("format") != format_:
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise ArtifactError(file, "format", f"{str(found)[:60]!r} is not {format_!r}", wanted)
    version = manifest.get("version")
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,6}\.[0-9]{1,6}", version):
        raise ArtifactError(file, "version", f"{str(version)[:60]!r} is not MAJOR.MINOR")
    major, minor = map(int, version.split("."))
    if (major, minor) > newest:
        raise ArtifactError(file, "version", f"{version} is newer than {newest[0]}.{newest[1]}", "update zynqbert")
    if major != newest[0]:
        raise ArtifactError(file, "version", f"{version} is older than {newest[0]}.0")
    return minor


def same_shape(found: Any, shape: tuple[int, ...]) -> bool:
    """A JSON list of just these integers."""
    return (
        isinstance(found, list)
        and len(found) == len(shape)
        and all(is_int(x, n, n) for x, n in zip(found, shape, strict=True))
    )
