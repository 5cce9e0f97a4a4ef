# SPDX-License-Identifier: Apache-2.0
"""One temperature a ramp: what it is, and that no answer changes by it."""

import numpy as np
from zynqbert.quant.scales import decode_factor
from zynqbert.quant.temperature import temperatures, tempered


def answers(sure: tuple[float, ...], right: float = 0.7, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Two labels, right in a share of `right`, with a distance of `sure` between them behind each layer."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    told = np.where(rng.random(count) < right, labels, 1 - labels)
    logits = np.zeros((count, len(sure), 2))
    for i, distance in enumerate(sure):
        logits[np.arange(count), i, told] = distance
    return logits, labels


def test_a_ramp_becomes_as_sure_as_it_is_right():
    fair = np.log(0.7 / 0.3)
    found = temperatures(*answers((20 * fair, fair, 0.6 * fair, 5.0)))
    assert len(found) == 3  # the last layer's answer stays
    np.testing.assert_allclose(found, [20, 1, 0.6], rtol=0.08)


def test_noise_becomes_no_answer_at_all():
    assert temperatures(*answers((30.0, 1.0), right=0.5))[0] >= 60


def test_factors_are_divided_and_nothing_else_changes():
    given = {"exits.0.m": np.array([200, 255], np.uint8), "exits.0.s": np.array([4, 1], np.uint8)}
    given |= {"exits.1.m": np.array([128], np.uint8), "exits.1.s": np.array([9], np.uint8), "classifier.m": np.ones(1)}
    made = tempered(given, np.array([8.0, 0.5]))
    assert decode_factor(made["exits.0.m"], made["exits.0.s"]).tolist() == [200 / 2**7, 255 / 2**4]
    assert decode_factor(made["exits.1.m"], made["exits.1.s"]).tolist() == [128 / 2**8]
    assert made["classifier.m"] is given["classifier.m"]
    limited = tempered(given, np.array([0.5, 1.0]))
    assert decode_factor(limited["exits.0.m"], limited["exits.0.s"]).tolist() == [25.0, 127.5]
