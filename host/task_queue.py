# SPDX-License-Identifier: Apache-2.0
"""A stream of mixed tasks: which of a window's items run after which, so that switches are few, and the results in the
items' order all the same."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
WINDOW = 64  # items; what a switch costs is spread over as many as a window has of a task


def answered(
    items: Iterable[tuple[str, Any]],
    window: int,
    tasks: Sequence[str],
    in_use: Callable[[], str],
    prepare: Callable[[str, Any], Any],
    answer: Callable[[str, Any, Any], T],
) -> Iterator[T]:
    """The answers to items (task, given) in their order, run window by window and in it task by task.

    in_use: the task as a window begins. All of a window's items are checked and go through `prepare(task, given)`
    before the first goes to `answer(task, given, prepared)`.
    """
    before = 0
    for part in windows(items, window):
        for number, item in enumerate(part, before + 1):
            check_item(number, item, tasks)
        given = [(*item, prepare(*item)) for item in part]
        yield from in_order(grouped([item[0] for item in part], in_use()), lambda i, given=given: answer(*given[i]))
        before += len(part)


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items as they come, `size` at a time, the last ones fewer; what reading one raises, after those before it.
    ValueError for a size below 1.

    >>> list(windows("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    if size < 1:
        raise ValueError(f"a window of {size} items: 1 or more are needed")
    window: list[T] = []
    fault: Exception | None = None
    try:
        for item in items:
            window.append(item)
            if len(window) == size:
                yield window
                window = []
    except Exception as error:
        fault = error
    if window:
        yield window
    if fault is not None:
        raise fault


def grouped(tasks: Sequence[str], in_use: str | None) -> list[int]:
    """In which order to run the items of a window, whose `tasks` these are: task by task, that in use first and then by
    their first items; those of one task in their order.

    As many switches as there are tasks other than the one in use, the least that there can be.

    >>> grouped(["a", "b", "c", "b", "a"], "b")
    [1, 3, 0, 4, 2]
    """
    first: dict[str, int] = {}
    for index, task in enumerate(tasks):
        first.setdefault(task, index)
    return sorted(range(len(tasks)), key=lambda index: (tasks[index] != in_use, first[tasks[index]], index))


def in_order(order: Sequence[int], run: Callable[[int], T]) -> Iterator[T]:
    """Call `run` for 0 … n − 1 in this `order`; what it gave for 0, for 1, …, each as soon as it is there and all
    before it are."""
    found: dict[int, T] = {}
    told = 0
    for index in order:
        found[index] = run(index)
        while told in found:
            yield found.pop(told)
            told += 1


def check_item(number: int, item: Any, tasks: Sequence[str]) -> None:
    """ValueError, which names item `number`, unless it is (task, text) or (task, pair) of one of these tasks."""
    if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)):
        raise ValueError(f"item {number}: a tuple of task and text, or of task and pair, is needed, not {item!r:.60}")
    if item[0] not in tasks:
        there = ", ".join(tasks) or "none, it is a model by itself"
        raise ValueError(f"item {number}: task {item[0]!r} is none of those there are: {there}")
