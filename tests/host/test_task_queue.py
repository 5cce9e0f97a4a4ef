# SPDX-License-Identifier: Apache-2.0
"""The order in which the items of a window run: task by task, and told in their own order."""

import doctest
import itertools

import pytest
from zynqbert.host import task_queue
from zynqbert.host.task_queue import answered, check_item, grouped, in_order, windows


def test_examples():
    assert doctest.testmod(task_queue).failed == 0


class TestGrouped:
    @pytest.mark.parametrize("size", range(6))
    def test_every_small_window(self, size):
        """A permutation, the task in use first, each in its own order, and no order has fewer switches."""
        for tasks in itertools.product("abc", repeat=size):
            for in_use in ("a", "b", "d", None):
                order = grouped(tasks, in_use)
                assert sorted(order) == list(range(size))
                run = [in_use, *(tasks[i] for i in order)]
                switches = sum(a != b for a, b in itertools.pairwise(run))
                assert switches == len(set(tasks) - {in_use})
                for task in set(tasks):
                    assert [i for i in order if tasks[i] == task] == [i for i in range(size) if tasks[i] == task]
                others = [tasks[i] for i in order if tasks[i] != in_use]
                assert list(dict.fromkeys(others)) == list(dict.fromkeys(t for t in tasks if t != in_use))


class TestInOrder:
    def test_each_as_soon_as_it_and_all_before_are_there(self):
        ran = []

        def run(index):
            ran.append(index)
            return f"answer {index}"

        results = in_order([1, 3, 0, 2], run)
        assert (next(results), ran) == ("answer 0", [1, 3, 0])
        assert (next(results), ran) == ("answer 1", [1, 3, 0])
        assert list(results) == ["answer 2", "answer 3"] and ran == [1, 3, 0, 2]


class TestWindows:
    def test_an_item_is_taken_when_its_window_begins(self):
        taken = []
        source = (taken.append(i) or i for i in range(5))
        parts = windows(source, 2)
        assert (next(parts), taken) == ([0, 1], [0, 1])
        assert list(parts) == [[2, 3], [4]]

    def test_none(self):
        assert list(windows([], 3)) == []
        with pytest.raises(ValueError, match="a window of 0 items: 1 or more are needed"):
            next(windows("ab", 0))


class TestAnswered:
    def test_all_of_a_window_is_prepared_before_the_first_runs(self):
        did, in_use = [], ["b"]

        def prepare(task, given):
            did.append(("prepare", given))
            return given.upper()

        def answer(task, given, prepared):
            in_use[0] = task
            did.append((task, given, prepared))
            return prepared

        items = [("a", "s"), ("b", "t"), ("b", "u"), ("a", "v")]
        assert list(answered(items, 3, ["a", "b"], lambda: in_use[0], prepare, answer)) == ["S", "T", "U", "V"]
        prepared = [("prepare", "s"), ("prepare", "t"), ("prepare", "u")]
        run = [("b", "t", "T"), ("b", "u", "U"), ("a", "s", "S")]
        assert did == [*prepared, *run, ("prepare", "v"), ("a", "v", "V")]

    def test_what_ends_the_items_is_told_behind_those_before(self):
        def items():
            yield from "abc"
            raise InterruptedError("the line broke")

        parts = windows(items(), 2)
        assert (next(parts), next(parts)) == (["a", "b"], ["c"])
        with pytest.raises(InterruptedError, match="the line broke"):
            next(parts)

    def test_what_is_wrong_with_an_item_is_told_before_its_window_runs(self):
        ran = []
        items = [("a", "s"), ("a", "t"), ("a", "u"), ("c", "v")]
        results = answered(items, 2, ["a"], lambda: "a", lambda *_: None, lambda task, given, _: ran.append(given))
        next(results), next(results)
        with pytest.raises(ValueError, match="item 4: task 'c' is none of those there are: a"):
            next(results)
        assert ran == ["s", "t"]

    @pytest.mark.parametrize("item", ["a text", ("a",), (1, "text"), ["a", "text"], ("a", "one", "two")])
    def test_items_that_are_none(self, item):
        with pytest.raises(ValueError, match="item 7: a tuple of task and text, or of task and pair, is needed, not"):
            check_item(7, item, ["a"])
