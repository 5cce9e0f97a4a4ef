# SPDX-License-Identifier: Apache-2.0
"""Power of a board's INA226 rails, read from sysfs (hwmon). Volts times amperes: old iio-hwmon misreports power.

Two layouts: iio-hwmon names a sensor `ina226_uNN` and has the shunt voltage in in1, the bus voltage
in in2; the ina2xx driver names all `ina226`, has them in in0 and in1, and tells the part by its device-tree node.
"""

from dataclasses import dataclass
from pathlib import Path

HWMON = Path("/sys/class/hwmon")
MILLIOHM_2 = frozenset({("zcu102", "u79"), ("zcu111", "u67"), ("zcu111", "u59")})
PL_RAILS = {
    "zcu102": ("u79", "u81", "u80", "u84", "u16", "u65", "u74", "u75"),
    "zcu111": ("u67", "u59", "u61", "u60", "u64", "u69", "u66", "u65", "u63", "u3", "u71", "u79", "u77", "u73"),
}
PS_RAILS = {"zcu102": ("u76", "u77", "u78", "u87", "u85", "u86", "u93", "u88", "u15", "u92"), "zcu111": ()}


@dataclass(frozen=True)
class Rail:
    """One sensor: where its millivolts stand, and its shunt in ohms."""

    name: str
    shunt_mv: Path
    bus_mv: Path
    shunt_ohm: float

    def watts(self) -> float:
        """Power now, in watts."""
        shunt, bus = (float(path.read_text()) / 1000 for path in (self.shunt_mv, self.bus_mv))
        return bus * shunt / self.shunt_ohm


def find_rails(board: str, hwmon: Path = HWMON) -> tuple[list[Rail], list[Rail]]:
    """The board's rails of the PL and of the PS that the kernel shows. Raises OSError where there is none of the PL."""
    sensors = {}
    for folder in sorted(hwmon.glob("hwmon*")):
        if (name := _part(folder)) is not None:
            shunt, bus = ("in1", "in2") if (folder / "in2_input").exists() else ("in0", "in1")
            ohm = 0.002 if (board, name) in MILLIOHM_2 else 0.005
            sensors[name] = Rail(name, folder / f"{shunt}_input", folder / f"{bus}_input", ohm)
    pl, ps = ([sensors[name] for name in table[board] if name in sensors] for table in (PL_RAILS, PS_RAILS))
    if not pl:
        raise OSError(f"{hwmon}: no INA226 rail of the {board}'s PL; power cannot be measured")
    return pl, ps


def _part(folder: Path) -> str | None:
    """The part's designator, `u79`, of an INA226 folder; None for another sensor."""
    try:
        name = (folder / "name").read_text().strip()
    except OSError:
        return None
    if name.startswith("ina226_u"):
        return name.removeprefix("ina226_")
    label = folder / "device" / "of_node" / "label"
    if name == "ina226" and label.exists():
        return label.read_text().strip("\0\n").removeprefix("ina226-")
    return None
