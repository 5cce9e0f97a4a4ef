# SPDX-License-Identifier: Apache-2.0
"""The labelled texts that `zynqbert bench compare` asks: of a table, a data set by name, or the artifact's own."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...quant.datasets import DATA_SETS, DataUnavailable, Example, own_sentences, read_table
from ..inputs import InputError

REVIEWS = "movie-reviews"


def labelled_texts(
    manifest: Mapping[str, Any], data: str | None, table: Path | None, offline: bool
) -> tuple[list[Example], str]:
    """Examples whose `label` indexes the artifact's labels, and where they are from.

    Those of `table` (label, tab, text), else of the test split of the data set `data`, else of that which the artifact
    names, or whose labels are its labels. The movie reviews give way to zynqbert's own sentences where they cannot be
    had. Raises InputError, ValueError for a table that is none, DataUnavailable, OSError.
    """
    task = manifest["task"]
    labels = tuple(task["labels"])
    if (task["kind"], task["scores"]) != ("sequence", "softmax"):
        raise InputError(
            f"the artifact's task is {task['kind']}, {task['scores']}: accuracy is that of one label a text; remedy: a "
            "classifier of sequences with a softmax"
        )
    if table is not None:
        if data is not None:
            raise InputError("give either --data or --table")
        return read_table(table, labels), str(table)
    name = data or manifest["metrics"].get("data") or _of_labels(labels)
    if name not in DATA_SETS:
        raise InputError(f"--data {name}: none of {', '.join(DATA_SETS)}; remedy: one of them, or --table FILE")
    known = DATA_SETS[name].labels
    if sorted(known) != sorted(labels):
        raise InputError(
            f"--data {name}: its labels are {', '.join(known)}, the artifact's {', '.join(labels)}; remedy: an "
            "artifact of that task, or --table FILE with lines label<tab>text"
        )
    examples, named = _examples(name, offline)
    return in_order(examples, known, labels), named


def in_order(examples: Sequence[Example], known: Sequence[str], labels: Sequence[str]) -> list[Example]:
    """The examples with their labels, which index `known`, as indices of `labels`."""
    places = [labels.index(name) for name in known]
    return [dataclasses.replace(example, label=places[example.label]) for example in examples]


def _of_labels(labels: Sequence[str]) -> str:
    """The one data set that has these labels."""
    found = [name for name, of in DATA_SETS.items() if sorted(of.labels) == sorted(labels)]
    if len(found) != 1:
        raise InputError(
            f"the artifact does not name its data, and its labels are {', '.join(labels)}; remedy: --table FILE with "
            f"lines label<tab>text, or --data, one of {', '.join(DATA_SETS)}"
        )
    return found[0]


def _examples(name: str, offline: bool) -> tuple[list[Example], str]:
    try:
        return DATA_SETS[name].load("test", offline=offline), f"the test split of {name}"
    except DataUnavailable as error:
        if name != REVIEWS:
            raise
        return own_sentences(), f"zynqbert's own, not the test split: {error}"
