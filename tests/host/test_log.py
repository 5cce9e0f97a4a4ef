# SPDX-License-Identifier: Apache-2.0
"""Log lines: which levels, in which form, on stderr alone, and only ours."""

import io
import logging
import re
import sys

import pytest
from zynqbert.host import log

OURS = "zynqbert.host.engine"


@pytest.fixture(autouse=True)
def as_before():
    """The package's logger as it was."""
    logger = logging.getLogger("zynqbert")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


def say(name=OURS):
    logger = logging.getLogger(name)
    logger.debug("a pass of %d row blocks", 2)
    logger.info("loaded")
    logger.warning("200 MHz is the nearest below")


@pytest.mark.parametrize(("verbosity", "levels"), [(0, "W"), (1, "IW"), (2, "DIW"), (5, "DIW")])
def test_levels(capsys, verbosity, levels):
    log.setup(verbosity)
    say()
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[1][0] for line in err.splitlines()] == list(levels)


def test_form(capsys):
    log.setup(2)
    say()
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} DEBUG   zynqbert\.host\.engine: a pass of 2 row blocks", lines[0])
    assert lines[1].endswith(" INFO    zynqbert.host.engine: loaded")
    assert lines[2].endswith(" WARNING zynqbert.host.engine: 200 MHz is the nearest below")


def test_set_up_twice_logs_once(capsys):
    log.setup(2)
    log.setup(1)
    say()
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["INFO", "WARNING"]


def test_others_stay_as_they_are(capsys):
    root = logging.getLogger()
    before = list(root.handlers), root.level
    log.setup(2)
    for name in ("pynq", "matplotlib", "zynqbertish"):
        say(name)
    assert capsys.readouterr().err == ""
    assert (root.handlers, root.level) == before


def test_a_progress_bar_in_stderrs_place_gets_the_lines(monkeypatch):
    log.setup(1)
    bar = io.StringIO()
    monkeypatch.setattr(sys, "stderr", bar)
    say()
    assert bar.getvalue().count("\n") == 2
