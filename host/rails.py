# SPDX-License-Identifier: Apache-2.0
"""Power of a board's INA226 rails, read from sysfs (hwmon): volts times amperes, since old iio-hwmon misreports power.

Two layouts: iio-hwmon names a sensor `ina226_uNN` and has the shunt's millivolts in in1, the bus millivolts in in2; the
ina2xx driver names all `ina226`, has them in in0 and in1, and tells the part by its device-tree label. Both have the
milliamperes in curr1, which the kernel computes from the device tree's shunt. They are taken where they are, for whole
millivolts are half an ampere at VCCINT's 2 mΩ; else the shunt's millivolts over the resistance listed here.
"""

import re
from dataclasses import dataclass
from pathlib import Path

HWMON = Path("/sys/class/hwmon")

# Part, what it feeds, shunt in mΩ. What is not the processing system's counts as PL: transceivers, FMC and the RF
# converters too, so that no watt of the chip is left out.
PL_RAILS = {
    "zcu102": (
        ("u79", "VCCINT", 2),
        ("u81", "VCCBRAM", 5),
        ("u80", "VCCAUX", 5),
        ("u84", "VCC1V2", 5),
        ("u16", "VCC3V3", 5),
        ("u65", "VADJ_FMC", 5),
        ("u74", "MGTAVCC", 5),
        ("u75", "MGTAVTT", 5),
    ),
    "zcu111": (
        ("u67", "VCCINT", 2),
        ("u59", "VCCINT_IO_BRAM_PS_SDFEC", 2),
        ("u61", "VCC1V8", 5),
        ("u60", "VCC1V2", 5),
        ("u64", "VADJ_FMC", 5),
        ("u69", "MGTAVCC", 5),
        ("u66", "MGT1V2", 5),
        ("u65", "MGT1V8", 5),
        ("u63", "VCCINT_RF", 5),
        ("u3", "DAC_AVTT", 5),
        ("u71", "DAC_AVCCAUX", 5),
        ("u79", "DAC_AVCC", 5),
        ("u77", "ADC_AVCC", 5),
        ("u73", "ADC_AVCCAUX", 5),
    ),
}
PS_RAILS = {
    "zcu102": (
        ("u76", "VCCPSINTFP", 5),
        ("u77", "VCCPSINTLP", 5),
        ("u78", "VCCPSAUX", 5),
        ("u87", "VCCPSPLL", 5),
        ("u85", "MGTRAVCC", 5),
        ("u86", "MGTRAVTT", 5),
        ("u93", "VCCO_PSDDR", 5),
        ("u88", "VCCOPS", 5),
        ("u15", "VCCOPS3", 5),
        ("u92", "VCCPSDDRPLL", 5),
    ),
    "zcu111": (),
}
NOTES = {
    "zcu102": (),
    "zcu111": ("u59 feeds block RAM and the PS together: it counts as PL, and there is no figure of the PS alone",),
}

PART = re.compile(r"(?:ina226[-_])?(u\d+)", re.IGNORECASE)
LABELS = ("name", "label", "of_node/label", "of_node/name", "device/of_node/label", "device/of_node/name")

# A shunt other than the table's is told from this many millivolts on: below, rounding hides it.
TELLING_MV = 5


@dataclass(frozen=True)
class Rail:
    """One sensor: the files of its millivolts and of its current, which holds mA, or mV over a shunt of `ohm`."""

    name: str
    net: str
    bus: Path
    current: Path
    ohm: float | None = None

    def watts(self) -> float:
        """Power now, in watts. Raises OSError where a file cannot be read, ValueError where it holds no number."""
        volts, current = (float(path.read_text()) / 1000 for path in (self.bus, self.current))
        return volts * (current if self.ohm is None else current / self.ohm)


@dataclass(frozen=True)
class Rails:
    """A board's rails that the kernel shows, those it does not (`missing`), and what a reader must know (`notes`)."""

    board: str
    pl: tuple[Rail, ...]
    ps: tuple[Rail, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def groups(self) -> dict[str, tuple[Rail, ...]]:
        """The rails of each group, "pl" and "ps", that the board has; a group may be empty where all are missing."""
        return {"pl": self.pl} | ({"ps": self.ps} if PS_RAILS[self.board] else {})


def find_rails(board: str, hwmon: Path = HWMON) -> Rails:
    """The rails of `board` ("zcu102", "zcu111") under `hwmon`. Raises OSError where there is none of the PL."""
    folders: dict[str, Path] = {}
    for folder in sorted(hwmon.glob("hwmon*")):
        if (part := _part(folder)) is not None:
            folders.setdefault(part, folder)
    missing, notes, found = [], list(NOTES[board]), []
    for table in (PL_RAILS[board], PS_RAILS[board]):
        missing += [f"{part} {net}" for part, net, _ in table if part not in folders]
        found.append(tuple(_rail(*row, folders[row[0]], notes) for row in table if row[0] in folders))
    if not found[0]:
        raise OSError(
            f"{hwmon}: no INA226 sensor of the {board}'s PL, power cannot be measured; remedy: a kernel with iio-hwmon "
            "or ina2xx, and a device tree that labels the sensors (docs/troubleshooting.md, sensors)"
        )
    return Rails(board, *found, tuple(missing), tuple(notes))


def _part(folder: Path) -> str | None:
    """The part's designator, `u79`, of an INA226's folder; None for another sensor, or one that no label tells."""
    if not (_text(folder / "name") or "").startswith("ina226"):
        return None
    matches = (PART.fullmatch(_text(folder / label) or "") for label in LABELS)
    return next((match[1].lower() for match in matches if match), None)


def _rail(part: str, net: str, milliohm: int, folder: Path, notes: list[str]) -> Rail:
    """The rail in `folder`; a note where the kernel's amperes come from another shunt than the table's."""
    shunt, bus = ("in1", "in2") if (folder / "in2_input").exists() else ("in0", "in1")
    by_shunt = Rail(part, net, folder / f"{bus}_input", folder / f"{shunt}_input", milliohm / 1000)
    amperes = folder / "curr1_input"
    if not amperes.exists():
        return by_shunt
    try:
        millivolts, milliamperes = float(by_shunt.current.read_text()), float(amperes.read_text())
    except (OSError, ValueError):
        millivolts = milliamperes = 0.0  # nothing to compare now; the sampler deals with readings that fail
    if abs(millivolts) >= TELLING_MV and abs(milliamperes * milliohm / 1000 - millivolts) > 1 + abs(millivolts) / 10:
        kernel = f"{1000 * millivolts / milliamperes:.1f} mΩ" if milliamperes else "none"
        notes.append(
            f"{part} {net}: the kernel takes its shunt for {kernel}, not {milliohm} mΩ; the kernel's amperes count"
        )
    return Rail(part, net, by_shunt.bus, amperes)


def _text(path: Path) -> str | None:
    """What a file of sysfs or of the device tree says; None where there is none."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None
