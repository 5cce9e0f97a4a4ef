# SPDX-License-Identifier: Apache-2.0
"""What `zynqbert search` looks through: array shapes, ways to leave a model, and what of these a board cannot have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..fpga.boards import BOARDS, Board
from ..fpga.clock_settings import find_settings
from ..fpga.registers import WIZARD_OUTPUTS_MHZ
from ..fpga.resources import BUDGET, resources
from ..quant.exit_predictor import foretell
from ..quant.thresholds import STEPS_PER_NAT, Ramps, exit_layers, right_at
from .inputs import InputError

GROUP = 64  # columns: what an array's width is a multiple of
LEAST_COLUMNS, MOST_COLUMNS = 128, 192  # that the kernels take (kernels/config.hpp): two keys' groups; six ports
COLUMNS = (64, 128, 192, 256)
ONE, PACKED = MODES = ("one", "packed")  # sentences a pass
GRID = 16  # thresholds tried beside those of the operating points
ALL, CUT, ENTROPY, FORETOLD = "all layers", "cut", "entropy", "foretold"

# Words that stay on chip, by the columns of an array: the kernels have one number for each (kResidentWords).
_RESIDENT_WORDS = {board.columns: board.resident_words for board in BOARDS.values()}


def shaped(board: Board, columns: int) -> Board:
    """`board` with an array of so many columns, and the memory of resident weights that the kernels give it."""
    if columns == board.columns:
        return board
    return replace(board, columns=columns, resident_words=_RESIDENT_WORDS.get(columns, board.resident_words))


def shape_of(board: Board, columns: int, budget: Mapping[str, float]) -> dict[str, Any]:
    """The array of so many columns on `board`: its resources (modelled), and `over`: by constraint how many times what
    is permitted it takes. An array that the kernels cannot be built with has no resources."""
    if not LEAST_COLUMNS <= columns <= MOST_COLUMNS:
        return {"columns": columns, "over": {"array": None}}
    used = resources(shaped(board, columns))
    counts = {name: getattr(used, name) for name in ("dsp", "bram36", "uram", "lut", "ff")}
    shares = {name: round(share, 4) for name, share in used.shares.items()}
    limits = {"uram": 1.0, "ff": 1.0} | dict(budget)
    over = {name: round(share / limits[name], 4) for name, share in used.shares.items() if share > limits[name]}
    return {"columns": columns, "resources": counts, "shares": shares, "modelled": True, "over": over}


def outputs_at(mhz: float) -> tuple[float, ...]:
    """What the wizard of a bitstream for `mhz` gives: this, then its slower outputs. Raises InputError."""
    top = WIZARD_OUTPUTS_MHZ[0]
    if not 0 < mhz <= top:
        raise InputError(f"--clocks {mhz:g}: above 0 and at most {top:g} MHz is needed; remedy: --clocks 200,250,300")
    try:
        found = find_settings((mhz, *(min(mhz, output) for output in WIZARD_OUTPUTS_MHZ[1:]))).mhz()
    except ValueError as error:
        raise InputError(f"--clocks {mhz:g}: {error}; remedy: --clocks 200,250,300") from None
    if abs(found[0] - mhz) > 1e-6 * mhz:
        raise InputError(f"--clocks {mhz:g}: the wizard gives {found[0]:.6g} MHz for it; remedy: ask for that")
    return found


@dataclass(frozen=True)
class Exit:
    """A way to leave a model: `kind` ALL, CUT, ENTROPY or FORETOLD; `layer` of a cut; `threshold` in steps of 2^-12
    nats, and the exit `table` where a layer is foretold."""

    name: str
    kind: str
    layer: int | None = None
    threshold: int | None = None
    table: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Left:
    """Sentences that have left a model; arrays [sentences]. `layers`: where, 1 the first; `right`: whether they are
    answered rightly there; `foretold`: the layer that the first ramp told, None where none is."""

    layers: np.ndarray
    right: np.ndarray
    foretold: np.ndarray | None = None


def thresholds(ramps: Ramps, count: int = GRID) -> list[int]:
    """At most `count` of the entropies that occur before the last layer, evenly among all of them, the largest too:
    there nearly every sentence leaves at the first ramp."""
    seen = np.sort(ramps.entropy[:, :-1], axis=None)
    at = np.linspace(0, len(seen) - 1, count + 1)[1:].round().astype(int)
    return sorted({int(seen[i]) for i in at})


def exits_of(ramps: Ramps, manifest: Mapping[str, Any]) -> list[Exit]:
    """Every way to leave a model: all layers; with off-ramps each of them for all sentences, the artifact's operating
    points by entropy alone and by the layer foretold, a grid of thresholds."""
    found = [Exit(ALL, ALL)]
    if manifest["exits"] is None:
        return found
    found += [Exit(f"cut at layer {n}", CUT, layer=n) for n in range(1, ramps.layers)]
    for name, point in manifest["exits"]["points"].items():
        found.append(Exit(f"point {name}", ENTROPY, threshold=point["threshold"]))
        if (told := point["foretold"]) is not None:
            how = {"threshold": told["threshold"], "table": tuple(told["table"])}
            found.append(Exit(f"point {name}, foretold", FORETOLD, **how))
    named = {way.threshold for way in found if way.kind == ENTROPY}
    grid = (threshold for threshold in thresholds(ramps) if threshold not in named)
    return found + [Exit(f"below {t / STEPS_PER_NAT:.4f} nats", ENTROPY, threshold=t) for t in grid]


def leave(way: Exit, ramps: Ramps, manifest: Mapping[str, Any]) -> Left:
    """Where the sentences of `ramps` leave by one of `exits_of`, and how they are answered."""
    count = len(ramps.right)
    if way.kind == ALL:
        return Left(np.full(count, manifest["architecture"]["layers"]), ramps.right[:, -1])
    foretold = None
    if way.kind == CUT:
        layers = np.full(count, way.layer)
    else:
        if way.table is not None:
            foretold = foretell(ramps.entropy, np.asarray(way.table), manifest["exits"]["row_shift"])
        layers = exit_layers(ramps.entropy, way.threshold, foretold)
    return Left(layers, right_at(ramps, layers), foretold)


def budget_of(given: str | None) -> dict[str, float]:
    """The budget of resources, shares of the part, from `dsp=0.9,lut=0.8`; what is not named stays the design's.
    Raises InputError."""
    found = dict(BUDGET)
    known = (*BUDGET, "uram", "ff")
    for part in given.split(",") if given else ():
        name, equals, share = part.partition("=")
        try:
            found[name.strip()] = float(share)
            fine = name.strip() in known and equals and 0 < float(share) <= 1
        except ValueError:
            fine = False
        if not fine:
            shown = ", ".join(known)
            raise InputError(f"--budget {part}: a share above 0, at most 1, of {shown} is needed; remedy: lut=0.8")
    return found


def columns_of(given: Sequence[int]) -> tuple[int, ...]:
    """Columns of arrays, checked. Raises InputError."""
    for columns in given:
        if columns < GROUP or columns % GROUP:
            raise InputError(f"--columns {columns}: not a multiple of {GROUP}; remedy: --columns 128,192")
    return tuple(sorted(set(given)))
