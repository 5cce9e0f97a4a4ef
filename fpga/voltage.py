# SPDX-License-Identifier: Apache-2.0
"""What a supply that follows the clock would save. HYPOTHETICAL: these boards have one fixed rail for the whole logic.

EdgeBERT's regulator goes from 0.8 V at its greatest clock down to 0.5 V. The pairs between are not published: assumed
is a straight line over the clock, 0.5 V reached at half of the greatest clock and held below it.
"""

from collections.abc import Mapping

TOP_V, LEAST_V, LEAST_SHARE = 0.8, 0.5, 0.5


def volts(clock_mhz: float, top_mhz: float) -> float:
    """The supply in volts that the hypothetical pairs give a clock; `top_mhz` is the greatest.

    >>> volts(300, 300), round(volts(225, 300), 3), volts(150, 300), volts(100, 300)
    (0.8, 0.65, 0.5, 0.5)
    """
    share = (clock_mhz / top_mhz - LEAST_SHARE) / (1 - LEAST_SHARE)
    return LEAST_V + max(share, 0.0) * (TOP_V - LEAST_V)


def at_volts(parts: Mapping[str, float], supply: float) -> dict[str, float]:
    """Joules by part (Energy.parts) if the logic's supply were `supply` and not the greatest: what switches falls with
    its square, the static power of the logic in proportion, processing system and DDR not at all.

    >>> at_volts({"static": 1.0, "ps": 1.0, "ddr": 1.0, "clocks": 1.0}, 0.4)
    {'static': 0.5, 'ps': 1.0, 'ddr': 1.0, 'clocks': 0.25}
    """
    ratio = supply / TOP_V
    scale = {"static": ratio, "ps": 1.0, "ddr": 1.0}
    return {name: joules * scale.get(name, ratio * ratio) for name, joules in parts.items()}
