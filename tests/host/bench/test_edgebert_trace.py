# SPDX-License-Identifier: Apache-2.0
"""Traces of the early-exit bench: what was cut goes on, what is finished is not run again, a spoilt file is told."""

import json

import pytest
from zynqbert.host.bench.edgebert_trace import EVERY, Trace, kept

SETTINGS = {"model": "m", "point": "1"}


def sentences(first, trace, until):
    for n in range(first, until):
        trace.add(n % 2, 1 + n % 3, 0, n / 8, 300.0)


def whole(first, trace):
    sentences(first, trace, 120)


def nothing(first, trace):
    raise AssertionError("nothing is left to run")


def test_kept_and_not_run_again(tmp_path):
    steps = []
    found = kept(tmp_path / "runs", "recipe", SETTINGS, 120, whole, lambda: steps.append(1))
    assert len(found) == len(steps) == 120
    again = kept(tmp_path / "runs", "recipe", SETTINGS, 120, nothing, lambda: steps.append(1))
    assert again == found and len(steps) == 240


@pytest.mark.parametrize("cut", [0, 30, EVERY, 119])
def test_an_interrupted_run_goes_on(tmp_path, cut):
    def interrupted(first, trace):
        sentences(first, trace, cut)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(tmp_path, "recipe", SETTINGS, 120, interrupted)
    begun = []

    def rest(first, trace):
        begun.append(first)
        sentences(first, trace, 120)

    assert kept(tmp_path, "recipe", SETTINGS, 120, rest) == kept(tmp_path / "other", "recipe", SETTINGS, 120, whole)
    assert begun == [cut]


def test_a_killed_run_has_what_was_written_on_the_way(tmp_path):
    found = []

    def look(first, trace):
        sentences(first, trace, EVERY + 7)
        (path,) = tmp_path.glob("*.json")
        found.append(len(json.loads(path.read_text())["trace"]["labels"]))
        sentences(EVERY + 7, trace, 120)

    kept(tmp_path, "recipe", SETTINGS, 120, look)
    assert found == [EVERY]


def test_other_settings_are_another_trace(tmp_path):
    kept(tmp_path, "recipe", SETTINGS, 120, whole)
    with pytest.raises(AssertionError):
        kept(tmp_path, "recipe", SETTINGS | {"point": "2"}, 120, nothing)


@pytest.mark.parametrize("content", ["", "{}", '{"settings": {}, "trace": {"labels": 3}}', '{"trace": {"x": []}}'])
def test_a_spoilt_file(tmp_path, content):
    kept(tmp_path, "recipe", SETTINGS, 120, whole)
    (path,) = tmp_path.glob("*.json")
    path.write_text(content)
    with pytest.raises(ValueError, match=r"recipe-.*remedy: remove the file"):
        kept(tmp_path, "recipe", SETTINGS, 120, nothing)


def test_lists_of_different_lengths(tmp_path):
    kept(tmp_path, "recipe", SETTINGS, 120, whole)
    (path,) = tmp_path.glob("*.json")
    found = json.loads(path.read_text())
    found["trace"]["layers"].pop()
    path.write_text(json.dumps(found))
    with pytest.raises(ValueError, match="other settings or length"):
        kept(tmp_path, "recipe", SETTINGS, 120, nothing)


def test_too_few_answers(tmp_path):
    with pytest.raises(ValueError, match="7 of 120 sentences were answered"):
        kept(tmp_path, "recipe", SETTINGS, 120, lambda first, trace: sentences(0, trace, 7))


def test_right():
    found = Trace()
    sentences(0, found, 4)
    assert found.right([0, 0, 0, 1]) == [True, False, True, True]
