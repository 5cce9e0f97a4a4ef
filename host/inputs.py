# SPDX-License-Identifier: Apache-2.0
"""Texts that the command line is given: arguments, or the lines of a file."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """What the user gave does not go together; the message says what would."""


def texts_of(arguments: list[str] | None, file: str | None, pairs: bool) -> Iterable[str | tuple[str, str]]:
    """The texts, or pairs, of the arguments, or of the file's lines as they come."""
    return _given(arguments, file, pair_of if pairs else _as_it_is)


def mixed_of(
    arguments: list[str] | None, file: str | None, tasks: Sequence[str]
) -> Iterable[tuple[str, str | tuple[str, str]]]:
    """Task, and text or pair, of each of the arguments, or of the file's lines as they come."""
    return _given(arguments, file, partial(item_of, tasks=tasks))


def _given(arguments: list[str] | None, file: str | None, parse: Callable[[str, str], T]) -> Iterable[T]:
    """What `parse(text, where)` makes of each argument or line."""
    if bool(arguments) == (file is not None):
        raise InputError("give sentences as arguments, or --file F (- reads stdin)")
    if file is not None:
        return _parsed(file, parse)
    return [parse(text, f"argument {n}") for n, text in enumerate(arguments, 1)]


def read_texts(file: str, pairs: bool) -> Iterator[str | tuple[str, str]]:
    """Lines of a UTF-8 file, or of stdin for "-", without their ends. Raises InputError at once if there is no file."""
    return _parsed(file, pair_of if pairs else _as_it_is)


def _parsed(file: str, parse: Callable[[str, str], T]) -> Iterator[T]:
    if file != "-" and not Path(file).is_file():
        raise InputError(f"{file}: {'is a folder' if Path(file).is_dir() else 'no such file'}; remedy: a text file")
    return (parse(line, f"{file}, line {n}") for n, line in enumerate(_lines(file), 1))


def _as_it_is(text: str, where: str) -> str:
    return text


def item_of(text: str, where: str, tasks: Sequence[str]) -> tuple[str, str | tuple[str, str]]:
    """Task, and text or pair, of TASK tab TEXT, or TASK tab TEXT tab SECOND; InputError if it is not so, or if `tasks`
    has none of that name."""
    task, *texts = text.split("\t")
    if task not in tasks:
        raise InputError(f"{where}: task {task[:40]!r} is none of those there are: {', '.join(tasks)}")
    if len(texts) not in (1, 2):
        raise InputError(f"{where}: {len(texts)} tabs, --mixed takes a task and one or two texts, parted by tabs")
    return task, texts[0] if len(texts) == 1 else (texts[0], texts[1])


def pair_of(text: str, where: str) -> tuple[str, str]:
    """The two texts around the tab of `text`; InputError if it has not just one."""
    parts = text.split("\t")
    if len(parts) != 2:
        raise InputError(f"{where}: {len(parts) - 1} tabs, --pairs takes two texts parted by one")
    return parts[0], parts[1]


def _lines(file: str) -> Iterator[str]:
    """The lines; InputError at one that is not UTF-8."""
    with _stdin() if file == "-" else Path(file).open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise InputError(f"{file}, line {number}: not UTF-8") from None


def _stdin():
    """Standard input by a reader of its own: one that a thread still waits at when the program ends would hold the lock
    of Python's own, which then aborts. What stands in for it elsewhere is read as it is."""
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (AttributeError, OSError):  # no file behind it
        return nullcontext(sys.stdin.buffer)
