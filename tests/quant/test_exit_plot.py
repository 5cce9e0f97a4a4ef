# SPDX-License-Identifier: Apache-2.0
"""The trade-off's drawing: the same bytes again, with what is foretold."""

import re

import numpy as np
import pytest
from zynqbert.quant.exit_plot import draw
from zynqbert.quant.thresholds import Ramps, measure, threshold_report


@pytest.fixture(scope="module")
def report():
    draw_ = np.random.default_rng(0)
    entropy = np.sort(draw_.integers(0, 2800, (80, 3)), axis=1)[:, ::-1]
    ramps = Ramps(entropy, draw_.random((80, 3)) < [0.7, 0.8, 0.9])
    found = threshold_report(ramps, (2.0, 10.0))
    for point in found["points"].values():
        point["foretold"] = {"threshold": 900, "nats": 0.22, **measure(ramps, 900, np.full(80, 2))}
    return found


def texts(path) -> set[str]:
    """What stands in an SVG whose letters are drawn as outlines."""
    return set(re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8")))


def test_the_same_bytes_again(report, tmp_path):
    draw(report, tmp_path / "a.svg")
    draw(report, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.svg"]


def test_what_it_says(report, tmp_path):
    draw(report, tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert {"mean exit layer", "layer", "all leave at one layer", "the same with the layer foretold"} <= found
    assert any("80 dev sentences" in text for text in found)
