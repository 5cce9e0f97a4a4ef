# SPDX-License-Identifier: Apache-2.0
"""The committed defects fit the tree as it is: `make mutants` takes long, so that a stale one shall not wait for it."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def defects():
    spec = importlib.util.spec_from_file_location("defects", Path(__file__).with_name("defects.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DEFECTS


def test_each_is_in_its_file_once_and_changes_it(defects):
    texts = {d.file: (ROOT / d.file).read_text(encoding="utf-8") for d in defects}
    assert [d.name for d in defects if texts[d.file].count(d.old) != 1 or d.new == d.old] == []


def test_none_is_there_twice(defects):
    for key in (lambda d: d.name, lambda d: (d.file, d.old, d.new)):
        keys = [key(d) for d in defects]
        assert [d.name for d in defects if keys.count(key(d)) > 1] == []


def test_each_has_a_test_file(defects):
    paths = {word for d in defects for word in d.test.split(" -k ")[0].split()}
    assert [path for path in sorted(paths) if not (ROOT / path.split("::")[0]).exists()] == []
