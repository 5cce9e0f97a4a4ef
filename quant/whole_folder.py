# SPDX-License-Identifier: Apache-2.0
"""A folder that is written whole or not at all, and that replaces only one of its own kind."""

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from .artifact_fields import ArtifactError
from .artifact_files import read_json


def write_whole(path: Path, files: Mapping[str, bytes], check: Callable[[Path], object], replace: bool = True) -> None:
    """Write `files` beside `path`, let `check` look at them, then move the folder there; with `replace` in place of the
    one that is there. In every case of an error what was at `path` stays as it was."""
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
        check(new)
        if replace and path.exists():
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


def refuse_foreign(path: Path, known: set[str], manifest: str, format_: str, what: str) -> None:
    """Only a folder of `known` names with a `manifest` of that format, or an empty one, may be replaced."""
    if not path.exists() and not path.is_symlink():
        return
    remedy = "choose another folder"
    if path.is_symlink() or not path.is_dir():
        raise ArtifactError(path, "folder", "something else is there", remedy)
    names = {entry.name for entry in path.iterdir()}
    if names - known or (names and manifest not in names):
        raise ArtifactError(path, "folder", f"holds other things than {what}", remedy)
    if names:
        found, _ = read_json(path / manifest)
        if not isinstance(found, dict) or found.get("format") != format_:
            raise ArtifactError(path / manifest, "format", f"not {format_!r}", remedy)
