# SPDX-License-Identifier: Apache-2.0
"""A training's recipe: one TOML file, every field checked and named where it is wrong (docs/training.md)."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from .configuration import MAX_LAYERS, POSITIONS
from .datasets import DATA_SETS, SPLITS, DataSet, Example, read_table
from .deepen import Deepen
from .every_layer import Tied
from .exit_predictor import Exits
from .finetune import FineTuning
from .float_stage import PRECISIONS
from .masks import METHODS
from .offramps import TRAINED, OffRamps
from .pruning import PATTERNS, check_pattern
from .slim import Slim

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class RecipeError(ValueError):
    """A recipe that cannot be followed; one line with file, field, fault and remedy."""

    def __init__(self, file: object, name: str, fault: str, remedy: str | None = None):
        self.field = name
        early = name.split(".")[0] in (*STAGES, "exits") or name == "data.unlabelled"
        page = "docs/edgebert.md" if early else "docs/training.md"
        super().__init__(f"{file}: {name}: {fault}; remedy: {remedy or f'see {page}'}")


@dataclass(frozen=True)
class Data:
    """`set` names a data set; or train, dev and test name tables of `label<tab>text[<tab>second text]` rows.

    With `unlabelled` the stages slim and off-ramps read the set's texts without label too."""

    set: str | None = None
    labels: tuple[str, ...] = ()
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    max_length: int = 128
    unlabelled: bool = False

    def load(self, folder: Path) -> tuple[tuple[str, ...], dict[str, list[Example]]]:
        """Label names, and the examples of each split; tables lie relative to `folder` (the recipe's)."""
        if self.set is not None:
            found: DataSet = DATA_SETS[self.set]
            return found.labels, {split: found.load(split) for split in SPLITS}
        return self.labels, {split: read_table(folder / getattr(self, split), self.labels) for split in SPLITS}

    def load_unlabelled(self) -> list[str]:
        """The texts without label that were asked for."""
        return DATA_SETS[self.set].unlabelled() if self.unlabelled else []


@dataclass(frozen=True)
class Quantizing:
    """Of the calibrated model that training begins with: as the options of `zynqbert quantize`."""

    word_bits: int = 4
    softmax: str = "numerator"
    word_format: str = "integer"
    word_density: float = 1.0


@dataclass(frozen=True)
class QuantizedTraining:
    """`learning_rate` is the peak, in shares of a row's clip; `distillation` the share of the loss that follows the
    float model's logits, softened by `temperature`; `features` the weight of its last layer's rows beside them."""

    epochs: int = 2
    batch: int = 32
    learning_rate: float = 3e-4
    distillation: float = 0.7
    temperature: float = 2.0
    features: float = 1.0


@dataclass(frozen=True)
class Prune:
    """Share of the encoder's weights that may be other than 0; over the first `ramp` part of training it falls there
    from 1, with 0 the calibrated model is pruned before. `pattern` "blocks" holds the density in every block."""

    density: float
    ramp: float = 0.0
    pattern: str = "free"


@dataclass(frozen=True)
class Recipe:
    """A model from pretrained weights (or a fine-tuned `checkpoint`) to a trained artifact.

    `deepen`, `slim` and `offramps` are the stages of docs/edgebert.md, each of which may be left out, and `exits` what
    comes after them. A file that has one of them trains the integers (`train`) only if it says so. `tied` trains an
    ALBERT `checkpoint` so that its head answers behind every layer, taught by the model that `finetune` makes, and
    quantizes it with one set of integers for all layers (docs/continuous.md).
    """

    data: Data
    name: str
    seed: int = 0
    threads: int = 2
    device: str = "auto"
    precision: str = "float32"
    checkpoint: str | None = None
    finetune: FineTuning = field(default_factory=FineTuning)
    quantize: Quantizing = field(default_factory=Quantizing)
    train: QuantizedTraining | None = field(default_factory=QuantizedTraining)
    prune: Prune | None = None
    tied: Tied | None = None
    deepen: Deepen | None = None
    slim: Slim | None = None
    offramps: OffRamps | None = None
    exits: Exits | None = None


Check = tuple[Callable[[Any], bool], str]


def whole(low: int, high: int) -> Check:
    good = lambda x: isinstance(x, int) and not isinstance(x, bool) and low <= x <= high  # noqa: E731
    return good, f"a whole number from {low} to {high}"


def real(low: float, high: float, closed: bool = False) -> Check:
    def good(x: Any) -> bool:
        number = isinstance(x, int | float) and not isinstance(x, bool)
        return number and (low <= x if closed else low < x) and x <= high

    return good, f"a number {'from' if closed else 'above'} {low:g}, at most {high:g}"


def choice(*values: Any) -> Check:
    return lambda x: any(type(x) is type(v) and x == v for v in values), " or ".join(map(repr, values))


TEXT: Check = (lambda x: isinstance(x, str) and x != "", "a text")
_NAMES: Check = (
    lambda x: isinstance(x, list) and len(x) == len(set(map(str, x))) >= 2 and all(isinstance(v, str) and v for v in x),
    "a list of two or more different names",
)
LOSSES: Check = (
    lambda x: isinstance(x, list) and all(real(0, 100, closed=True)[0](v) for v in x) and len(x) == len(set(x)) >= 1,
    "a list of different numbers from 0 to 100",
)
_EPOCHS, _BATCH, _RATE = whole(1, 1000), whole(1, 4096), real(0, 1)
STEPS = {"epochs": _EPOCHS, "batch": _BATCH, "learning_rate": _RATE}
_DISTILLED = {"distillation": real(0, 1, closed=True), "temperature": real(0, 100)}
VARIED = {"dropout": real(0, 0.9, closed=True), "noise": real(0, 0.9, closed=True)}
_FOLLOWED = {**_DISTILLED, "features": real(0, 1000, closed=True)}

RUN: dict[str, Check] = {
    "name": (
        lambda x: isinstance(x, str) and re.fullmatch(r"\w[\w.-]*", x) is not None,
        "letters, digits, - and .",
    ),
    "seed": whole(0, 2**31 - 1),
    "threads": whole(1, 1024),
    "device": choice("auto", "cpu", "cuda"),
    "precision": choice(*PRECISIONS),
}

CHECKS: dict[type, dict[str, Check]] = {
    Data: {
        "set": choice(*DATA_SETS),
        "labels": _NAMES,
        **{split: TEXT for split in SPLITS},
        "max_length": whole(3, 128),
        "unlabelled": choice(True, False),
    },
    FineTuning: {"base": TEXT, **STEPS},
    Quantizing: {
        "word_bits": choice(4, 8),
        "softmax": choice("numerator", "normalized"),
        "word_format": choice("integer", "adaptivfloat"),
        "word_density": real(0, 1),
    },
    QuantizedTraining: {**STEPS, **_FOLLOWED},
    Tied: {
        "early": real(0, 100, closed=True),
        "losses": LOSSES,
        **VARIED,
        **STEPS,
        **_DISTILLED,
    },
    Prune: {"density": real(0, 1), "ramp": real(0, 0.9, closed=True), "pattern": choice(*PATTERNS)},
    Deepen: {"layers": whole(2, MAX_LAYERS), "share": real(0, 1), **STEPS, **_FOLLOWED},
    Slim: {
        "density": real(0, 1),
        "method": choice(*METHODS),
        "ramp": real(0, 0.9, closed=True),
        "score_rate": _RATE,
        "span_ramp": real(0, POSITIONS),
        "span_rate": real(0, POSITIONS),
        "span_penalty": real(0, 1e6, closed=True),
        "span_from": real(0, 0.9, closed=True),
        "answers": real(0, 1000, closed=True),
        "heads_off": real(0, 1, closed=True),
        "settle": _EPOCHS,
        **VARIED,
        **STEPS,
        **_FOLLOWED,
    },
    OffRamps: {
        "pooler": choice(True, False),
        "shared": choice(True, False),
        "train": choice(*TRAINED),
        "backbone_rate": _RATE,
        **VARIED,
        **STEPS,
        **_DISTILLED,
    },
    Exits: {
        "losses": LOSSES,
        "sentences": whole(1, 10**6),
        "epochs": whole(1, 10**5),
        "learning_rate": _RATE,
        "thresholds": whole(1, 1000),
        "seeds": whole(0, 100),
        "firmware": real(0, 100, closed=True),
    },
    Recipe: {**RUN, "checkpoint": TEXT},
}
TABLES = {
    "data": Data,
    "finetune": FineTuning,
    "deepen": Deepen,
    "slim": Slim,
    "offramps": OffRamps,
    "exits": Exits,
    "quantize": Quantizing,
    "train": QuantizedTraining,
    "prune": Prune,
    "tied": Tied,
}


STAGES = ("deepen", "slim", "offramps")


def read_toml(path: Path) -> dict[str, Any]:
    """A recipe's tables and fields as they stand. Raises RecipeError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            path, "file", f"cannot be read ({error.strerror})", "give a TOML file, as in recipes/"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(path, "file", f"no valid TOML ({error})") from error


def load_recipe(path: str | Path, seed: int | None = None) -> Recipe:
    """Read and check a recipe, with `seed` in place of its own if given.

    Raises RecipeError naming the field, or "file" where there is none that can be read.
    """
    path = Path(path)
    content = read_toml(path)
    tables = {name: content.pop(name) for name in TABLES if name in content}
    if "data" not in tables:
        raise RecipeError(path, "data", "missing", 'say what to train on: [data] set = "movie-reviews"')
    parts = {name: take(path, f"{name}.", kind, tables[name]) for name, kind in TABLES.items() if name in tables}
    if any(name in parts for name in STAGES) and "train" not in parts:
        parts["train"] = None
    recipe = take(path, "", Recipe, content if seed is None else content | {"seed": seed}, parts)
    _check_data(path, recipe.data)
    if recipe.data.unlabelled and recipe.slim is None and recipe.offramps is None:
        fault = "neither [slim] nor [offramps] is there to read them"
        raise RecipeError(path, "data.unlabelled", fault, "leave it out, or add one of these stages")
    check_words(path, recipe.quantize)
    _check_pattern(path, recipe.prune)
    _check_exits(path, recipe)
    _check_tied(path, recipe, parts)
    if recipe.checkpoint is not None and "finetune" in parts and recipe.tied is None:
        raise RecipeError(path, "checkpoint", "stands beside [finetune]", "drop one: a checkpoint is fine-tuned")
    if recipe.slim is not None and recipe.prune is not None:
        raise RecipeError(
            path, "prune", "stands beside [slim], which prunes too", "drop [prune]; slim.density says how far"
        )
    if recipe.slim is not None and recipe.slim.settle >= recipe.slim.epochs:
        wanted = f"{recipe.slim.settle} is not below slim.epochs, {recipe.slim.epochs}"
        raise RecipeError(path, "slim.settle", wanted, "leave epochs before, in which masks and spans are learnt")
    return recipe


def _check_data(path: Path, data: Data) -> None:
    own = [name for name in ("labels", *SPLITS) if getattr(data, name)]
    if data.set is not None and own:
        raise RecipeError(path, f"data.{own[0]}", "stands beside data.set", "give a set, or labels and tables")
    if data.set is None:
        for name in ("labels", *SPLITS):
            if not getattr(data, name):
                raise RecipeError(path, f"data.{name}", "missing", "give data.set, or labels, train, dev and test")
    if data.unlabelled and (data.set is None or DATA_SETS[data.set].unlabelled is None):
        there = ", ".join(name for name, found in DATA_SETS.items() if found.unlabelled is not None)
        fault = f"{data.set or 'tables'} has none"
        raise RecipeError(path, "data.unlabelled", fault, f"leave it out; {there} has some")


def _check_pattern(path: Path, prune: Prune | None) -> None:
    if prune is None:
        return
    try:
        check_pattern(prune.pattern, prune.density)
    except ValueError as error:
        raise RecipeError(path, "prune.density", str(error), "give one of these, or leave prune.pattern out") from None


def _check_tied(path: Path, recipe: Recipe, parts: Mapping[str, Any]) -> None:
    if recipe.tied is None:
        return
    if recipe.checkpoint is None:
        raise RecipeError(
            path, "checkpoint", "missing", "name the ALBERT to begin with, whose layers share their matrices"
        )
    for other in (*STAGES, "exits", "train", "prune"):
        if parts.get(other) is not None:
            raise RecipeError(path, other, "stands beside [tied], which is a way of its own", f"drop [{other}]")


def _check_exits(path: Path, recipe: Recipe) -> None:
    exits = recipe.exits
    if exits is None:
        return
    if recipe.offramps is None:
        raise RecipeError(path, "exits", "stands without [offramps], and there is nowhere to leave", "add [offramps]")
    if exits.firmware is not None and exits.firmware not in exits.losses:
        wanted = f"{exits.firmware:g} is none of exits.losses, {', '.join(f'{x:g}' for x in exits.losses)}"
        raise RecipeError(path, "exits.firmware", wanted, "give one of them, or leave it out")


def check_words(path: Path, quantize: Quantizing) -> None:
    if quantize.word_format == "adaptivfloat" and quantize.word_bits != 8:
        fault = f"{quantize.word_bits}, where AdaptivFloat codes have 8"
        raise RecipeError(path, "quantize.word_bits", fault, "add word_bits = 8 to [quantize]")
    if quantize.word_format != "adaptivfloat" and quantize.word_density < 1:
        fault = f"{quantize.word_density:g} is below 1, which only adaptivfloat rows can be"
        raise RecipeError(path, "quantize.word_density", fault, 'add word_format = "adaptivfloat" and word_bits = 8')


def take(
    path: Path, at: str, kind: type, table: Any, given: dict | None = None, checks: Mapping[str, Check] | None = None
) -> Any:
    """A dataclass out of a table, every field checked (by CHECKS if `checks` are not given); `given` are fields that
    are there already."""
    if not isinstance(table, dict):
        raise RecipeError(path, at.rstrip("."), "not a table", f"write [{at.rstrip('.')}]")
    checks = CHECKS[kind] if checks is None else checks
    for name, value in table.items():
        if name not in checks:
            known = (*checks, *(f"[{table}]" for table in TABLES if kind is Recipe))
            raise RecipeError(path, at + name, "unknown field", f"known are {', '.join(known)}")
        good, wanted = checks[name]
        if not good(value):
            raise RecipeError(path, at + name, f"{value!r} is not {wanted}")
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in table.items()} | (given or {})
    for f in fields(kind):
        if f.default is MISSING and f.default_factory is MISSING and f.name not in values:
            raise RecipeError(path, at + f.name, "missing")
    return kind(**values)
