# SPDX-License-Identifier: Apache-2.0
"""manifest.json, which stands beside each bitstream: what it was built from, with what, for which clock, and its files'
sha256. The host loads no bitstream without it.

Figures come from the vendor's reports of that very build; nothing here is modelled.
"""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from .whole_file import write_whole

FORMAT_VERSION = 1
NAME = "manifest.json"
BIT, HWH = "zynqbert.bit", "zynqbert.hwh"
UNKNOWN_COMMIT = "unknown"

_REMEDY = f"remedy: take {BIT}, {HWH} and {NAME} from one build, or build again (zynqbert build)"
_TYPE_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


class ManifestError(ValueError):
    """A manifest that cannot be used, or files that are not its own; names file, field and remedy."""


@dataclass(frozen=True)
class Use:
    """How many of a resource the whole design takes, and how many the part has; a BRAM36 may count half."""

    used: float
    available: float


@dataclass(frozen=True)
class Utilization:
    """report_utilization of the routed design."""

    lut: Use
    ff: Use
    bram36: Use
    uram: Use
    dsp: Use


@dataclass(frozen=True)
class Timing:
    """report_timing_summary of the routed design: slacks in ns; the counts are of endpoints."""

    wns_ns: float
    tns_ns: float
    setup_failing: int
    whs_ns: float
    ths_ns: float
    hold_failing: int
    wpws_ns: float
    tpws_ns: float
    pulse_failing: int
    no_clock: int  # register pins that no clock reaches: nothing is known of their timing

    @property
    def met(self) -> bool:
        """Whether setup, hold and pulse width hold everywhere, and every register has a clock."""
        failing = self.setup_failing + self.hold_failing + self.pulse_failing + self.no_clock
        return failing == 0 and min(self.wns_ns, self.whs_ns, self.wpws_ns) >= 0


@dataclass(frozen=True)
class UnitReport:
    """What csynth estimated for one unit: clock periods in ns, resources as the tool counts them (BRAM of 18 Kbit)."""

    estimated_ns: float
    target_ns: float
    lut: int
    ff: int
    dsp: int
    bram18: int
    uram: int


@dataclass(frozen=True)
class Manifest:
    """One bitstream. `max_clock_mhz`: the engine clock that timing was met for; `wizard_outputs_mhz`: the clocking
    wizard's outputs 0 to 3 as configured. `commit` is "unknown" outside git; `modified`: the tree differed from it.
    `tools`: versions by name; `sha256`: of the two files by name; `csynth`: by unit; `date`: UTC, ISO 8601.
    `predictor`: empty where the exit table foretells layers, else `name` and `sha256` of the network's project.
    """

    board: str
    part: str
    program_version: int
    columns: int
    lanes: int
    capabilities: tuple[str, ...]
    max_clock_mhz: float
    wizard_outputs_mhz: tuple[float, ...]
    commit: str
    modified: bool
    tools: dict[str, str]
    sha256: dict[str, str]
    utilization: Utilization
    timing: Timing
    csynth: dict[str, UnitReport]
    date: str
    predictor: dict[str, str] = field(default_factory=dict)


def load_manifest(path: Path) -> Manifest:
    """The manifest at `path`. Raises ManifestError for whatever is wrong with it, OSError where it cannot be read."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not JSON ({error}); {_REMEDY}") from None
    try:
        if not isinstance(content, dict):
            raise _Wrong("the file", "must be an object")
        if "format_version" not in content:
            raise _Wrong("format_version", "is missing")
        version = content.pop("format_version")
        if type(version) is not int or version != FORMAT_VERSION:
            raise _Wrong("format_version", f"is {version!r}, this zynqbert reads {FORMAT_VERSION}")
        manifest = _read(Manifest, content, "")
        _check(manifest)
    except _Wrong as wrong:
        raise ManifestError(f"{path}: {wrong}; {_REMEDY}") from None
    return manifest


def save_manifest(manifest: Manifest, path: Path) -> None:
    """Write `manifest` to `path` in one step: another reader sees the old file or the new one, never a part."""
    content = {"format_version": FORMAT_VERSION} | asdict(manifest)
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def check_files(manifest: Manifest, folder: Path) -> None:
    """Raise ManifestError unless `folder` holds the bitstream's two files with the sha256 of `manifest`."""
    for name, expected in manifest.sha256.items():
        path = Path(folder) / name
        try:
            found = sha256(path)
        except FileNotFoundError:
            raise ManifestError(f"{path} is missing; {_REMEDY}") from None
        if found != expected:
            raise ManifestError(
                f"{path}: sha256 is {found}, {NAME} has {expected}: not the file it describes; {_REMEDY}"
            )


def sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class _Wrong(Exception):
    def __init__(self, field: str, what: str) -> None:
        super().__init__(f"{field} {what}")


def _refuse_constant(name: str):
    raise ValueError(f"{name} is no number")


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value`, as JSON gave it, as `kind`: a dataclass, tuple[X, ...], dict[str, X], str, int, float or bool."""
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise _Wrong(where, "must be an object")
        hints = get_type_hints(kind)
        names = [one.name for one in fields(kind)]
        prefix = f"{where}." if where else ""
        for name in (*names, *value):
            if name not in value:
                raise _Wrong(prefix + name, "is missing")
            if name not in names:
                raise _Wrong(prefix + name, f"is no field of format {FORMAT_VERSION}")
        return kind(**{name: _read(hints[name], value[name], prefix + name) for name in names})
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _Wrong(where, "must be a list")
        return tuple(_read(get_args(kind)[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise _Wrong(where, "must be an object")
        return {name: _read(get_args(kind)[1], item, f"{where}.{name}") for name, item in value.items()}
    accepted = (int, float) if kind is float else (kind,)
    if type(value) not in accepted:  # a bool is no int here
        raise _Wrong(where, f"must be {_TYPE_NAMES[kind]}, is {value!r}")
    if kind is float:
        value = float(value) if abs(value) < 1e300 else math.inf
        if not math.isfinite(value):
            raise _Wrong(where, "must be a finite number")
    return value


def _check(manifest: Manifest) -> None:
    """What the types do not say."""
    for name in ("columns", "lanes", "program_version", "max_clock_mhz"):
        if getattr(manifest, name) <= 0:
            raise _Wrong(name, f"must be above 0, is {getattr(manifest, name)!r}")
    outputs = manifest.wizard_outputs_mhz
    if len(outputs) != 4 or min(outputs) <= 0:
        raise _Wrong("wizard_outputs_mhz", f"must be four numbers above 0, is {list(outputs)}")
    if not manifest.timing.met:
        raise _Wrong("timing", "was not met")
    if max(outputs) > manifest.max_clock_mhz:
        raise _Wrong("wizard_outputs_mhz", f"has {max(outputs):g}, above max_clock_mhz {manifest.max_clock_mhz:g}")
    for name in (BIT, HWH):
        if name not in manifest.sha256:
            raise _Wrong(f"sha256.{name}", "is missing")
    for name, digest in manifest.sha256.items():
        if name not in (BIT, HWH):
            raise _Wrong(f"sha256.{name}", f"is none of {BIT}, {HWH}")
        _check_digest(f"sha256.{name}", digest)
    if manifest.predictor:
        for name in {"name", "sha256"} ^ manifest.predictor.keys():
            missing = name not in manifest.predictor
            raise _Wrong(f"predictor.{name}", "is missing" if missing else "is none of name, sha256")
        _check_digest("predictor.sha256", manifest.predictor["sha256"])


def _check_digest(field_name: str, digest: str) -> None:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise _Wrong(field_name, f"must be 64 hexadecimal digits, is {digest!r}")
