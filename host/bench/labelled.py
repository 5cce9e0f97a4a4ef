# SPDX-License-Identifier: Apache-2.0
"""The labelled texts that a bench asks: of a table, a data set by name, or the artifact's own."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...quant.datasets import DATA_SETS, DataUnavailable, Example, own_sentences, read_table
from ..inputs import InputError

REVIEWS = "movie-reviews"
TABLE = "--table FILE with lines label<tab>text"


def labelled_texts(
    manifest: Mapping[str, Any], data: str | None, table: Path | None, offline: bool
) -> tuple[list[Example], str]:
    """Examples whose `label` indexes the artifact's labels, and where they are from.

    Those of `table` (label, tab, text), else of the test split of the data set `data`, else of that which the artifact
    names, or whose labels are its labels. The movie reviews give way to zynqbert's own sentences where they cannot be
    had. Raises InputError, ValueError for a table that is none, DataUnavailable, OSError.
    """
    labels = manifest["task"]["labels"]
    if table is not None:
        _check_task(manifest)
        if data is not None:
            raise InputError("give either --data or --table")
        if not table.is_file():
            raise InputError(f"--table {table}: no such file; remedy: {TABLE}")
        return read_table(table, labels), str(table)
    name = data_of(manifest, data, f", or {TABLE}")
    examples, named = _examples(name, offline)
    return in_order(examples, DATA_SETS[name].labels, labels), named


def data_of(manifest: Mapping[str, Any], data: str | None, otherwise: str = "") -> str:
    """The data set `data`, else the one that the artifact names or whose labels are its labels, held against them.

    Raises InputError, `otherwise` behind its remedy.
    """
    _check_task(manifest)
    labels = manifest["task"]["labels"]
    name = data or manifest["metrics"].get("data") or _of_labels(labels, otherwise)
    if name not in DATA_SETS:
        raise InputError(f"--data {name}: none of {', '.join(DATA_SETS)}; remedy: one of them{otherwise}")
    known = DATA_SETS[name].labels
    if sorted(known) != sorted(labels):
        fault = f"--data {name}: its labels are {', '.join(known)}, the artifact's {', '.join(labels)}"
        raise InputError(f"{fault}; remedy: an artifact of that task{otherwise}")
    return name


def _check_task(manifest: Mapping[str, Any]) -> None:
    task = manifest["task"]
    if (task["kind"], task["scores"]) != ("sequence", "softmax"):
        fault = f"the artifact's task is {task['kind']}, {task['scores']}: accuracy is that of one label a text"
        raise InputError(f"{fault}; remedy: a classifier of sequences with a softmax")


def in_order(examples: Sequence[Example], known: Sequence[str], labels: Sequence[str]) -> list[Example]:
    """The examples with their labels, which index `known`, as indices of `labels`."""
    places = [labels.index(name) for name in known]
    return [dataclasses.replace(example, label=places[example.label]) for example in examples]


def _of_labels(labels: Sequence[str], otherwise: str) -> str:
    """The one data set that has these labels."""
    found = [name for name, of in DATA_SETS.items() if sorted(of.labels) == sorted(labels)]
    if len(found) != 1:
        fault = f"the artifact does not name its data, and its labels are {', '.join(labels)}"
        raise InputError(f"{fault}; remedy: --data, one of {', '.join(DATA_SETS)}{otherwise}")
    return found[0]


def _examples(name: str, offline: bool) -> tuple[list[Example], str]:
    try:
        return DATA_SETS[name].load("test", offline=offline), f"the test split of {name}"
    except DataUnavailable as error:
        if name != REVIEWS:
            raise
        return own_sentences(), f"zynqbert's own, not the test split: {error}"
