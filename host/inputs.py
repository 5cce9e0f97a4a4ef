# SPDX-License-Identifier: Apache-2.0
"""Texts that the command line is given: arguments, or the lines of a file."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path


class InputError(ValueError):
    """What the user gave does not go together; the message says what would."""


def texts_of(arguments: list[str] | None, file: str | None, pairs: bool) -> Iterable[str | tuple[str, str]]:
    """The texts, or pairs, of the arguments, or of the file's lines as they come."""
    if bool(arguments) == (file is not None):
        raise InputError("give sentences as arguments, or --file F (- reads stdin)")
    if file is not None:
        return read_texts(file, pairs)
    return [pair_of(text, f"argument {n}") for n, text in enumerate(arguments, 1)] if pairs else arguments


def read_texts(file: str, pairs: bool) -> Iterator[str | tuple[str, str]]:
    """Lines of a UTF-8 file, or of stdin for "-", without their ends. Raises InputError at once if there is no file."""
    if file != "-" and not Path(file).is_file():
        raise InputError(f"{file}: no such file")
    lines = _lines(file)
    return (pair_of(line, f"{file}, line {n}") for n, line in enumerate(lines, 1)) if pairs else lines


def pair_of(text: str, where: str) -> tuple[str, str]:
    """The two texts around the tab of `text`; InputError if it has not just one."""
    parts = text.split("\t")
    if len(parts) != 2:
        raise InputError(f"{where}: {len(parts) - 1} tabs, --pairs takes two texts parted by one")
    return parts[0], parts[1]


def _lines(file: str) -> Iterator[str]:
    """The lines; InputError at one that is not UTF-8."""
    with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise InputError(f"{file}, line {number}: not UTF-8") from None
