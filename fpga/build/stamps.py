# SPDX-License-Identifier: Apache-2.0
"""Stamps: what a finished step was made of and what it made, so that it is not made again.

A stamp is JSON {"inputs": {name: value or sha256}, "outputs": {path: sha256}}, paths relative to the unit's folder. It
is taken away before its step starts and written, by rename, after the step has ended well: a cut step has none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..whole_file import write_whole

Inputs = dict[str, str]


def file_digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text_digest(text: str) -> str:
    """sha256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_current(stamp: Path, inputs: Inputs, folder: Path) -> bool:
    """Whether the step of `stamp` was done with these very inputs, and all it made is there unchanged."""
    found = read_outputs(stamp, inputs)
    if found is None:
        return False
    return all((folder / name).is_file() and file_digest(folder / name) == digest for name, digest in found.items())


def read_outputs(stamp: Path, inputs: Inputs | None = None) -> dict[str, str] | None:
    """The outputs that a stamp tells; None if there is no readable stamp, or (with `inputs`) one of other inputs."""
    try:
        found = json.loads(stamp.read_text(encoding="utf-8"))
        outputs = found["outputs"]
        return outputs if isinstance(outputs, dict) and inputs in (None, found["inputs"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(stamp: Path, inputs: Inputs, folder: Path, outputs: Iterable[Path]) -> None:
    """Write the stamp of a step that has just made `outputs`, which lie in `folder`."""
    made = {str(path.relative_to(folder)): file_digest(path) for path in sorted(outputs)}
    write_json(stamp, {"inputs": inputs, "outputs": made})


def write_json(path: Path, content: Any) -> None:
    """Write JSON by a temporary name, so that the file is whole or not there."""
    write_whole(path, json.dumps(content, indent=2) + "\n")
