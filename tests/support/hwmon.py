# SPDX-License-Identifier: Apache-2.0
"""A copy of the parts of sysfs that hold a board's INA226 sensors, laid out and linked as kernels lay them out."""

import shutil
from pathlib import Path


class FakeSysfs:
    """`class_hwmon` is what /sys/class/hwmon would be. Layouts: "iio" (iio-hwmon) and "ina2xx"."""

    def __init__(self, root: Path, layout: str = "iio"):
        self.root, self.layout = root, layout
        self.class_hwmon = root / "class" / "hwmon"
        self.class_hwmon.mkdir(parents=True)
        self.folders: dict[str, Path] = {}
        self.shunts: dict[str, float] = {}

    def add_other(self, name: str = "coretemp") -> None:
        """A sensor of another kind, which has inputs too."""
        folder = self._hwmon(self.root / "devices" / "platform" / name)
        (folder / "name").write_text(f"{name}\n")
        (folder / "in1_input").write_text("1234\n")

    def add(
        self,
        part: str,
        milliohm: float,
        *,
        amperes_file: bool = True,
        label: str | None = "ina226-{part}",
        label_at: str = "label",
        linked: bool = True,
    ) -> None:
        """The sensor of `part`. ina2xx: `label` under `label_at` of its device-tree node, if `linked` to it."""
        number = len(self.folders)
        if self.layout == "iio":
            folder = self._hwmon(self.root / "devices" / "platform" / f"ina226-{part}")
            (folder / "name").write_text(f"ina226_{part}\n")
        else:
            device = self.root / "devices" / "platform" / "axi" / "i2c-3" / f"3-00{0x40 + number:02x}"
            folder = self._hwmon(device)
            (folder / "name").write_text("ina226\n")
            (device / "name").write_text("ina226\n")
            node = self.root / "firmware" / "devicetree" / "base" / "axi" / f"ina226@{0x40 + number:x}"
            node.mkdir(parents=True)
            (node / "name").write_bytes(b"ina226\0")
            if label is not None:
                (node / label_at).write_bytes(label.format(part=part).encode() + b"\0")
            if linked:
                (device / "of_node").symlink_to(node)
        (folder / "power1_input").write_text("1\n")
        if amperes_file:
            (folder / "curr1_input").touch()
        self.folders[part], self.shunts[part] = folder, milliohm
        self.set(part, 1.0, 0.0)

    def _hwmon(self, device: Path) -> Path:
        """The hwmon folder of `device`, linked from the class and back."""
        name = f"hwmon{len(list(self.class_hwmon.iterdir()))}"
        folder = device / "hwmon" / name
        folder.mkdir(parents=True)
        (folder / "device").symlink_to(Path("..") / "..")
        (self.class_hwmon / name).symlink_to(folder)
        return folder

    def set(self, part: str, volts: float, amperes: float) -> None:
        """What the sensor shows from now on, in whole millivolts and milliamperes as the kernel does."""
        folder = self.folders[part]
        shunt, bus = ("in1", "in2") if self.layout == "iio" else ("in0", "in1")
        shown = {f"{shunt}_input": amperes * self.shunts[part], f"{bus}_input": volts * 1000}
        if (folder / "curr1_input").exists():
            shown["curr1_input"] = amperes * 1000
        for name, value in shown.items():
            # in one step: a reader sees the old number or the new one, as in sysfs
            (folder / "new").write_text(f"{round(value)}\n")
            (folder / "new").replace(folder / name)

    def garble(self, part: str, text: str) -> None:
        """The current's file holds `text` until the next `set`."""
        name = "curr1_input" if (self.folders[part] / "curr1_input").exists() else "in1_input"
        (self.folders[part] / name).write_text(text)

    def remove(self, part: str) -> None:
        """The sensor goes away, as when its driver is unbound; nothing where it is gone."""
        folder = self.folders.pop(part, None)
        if folder is None:
            return
        (self.class_hwmon / folder.name).unlink()
        shutil.rmtree(folder)


def board_sysfs(root: Path, board: str, layout: str = "iio", **kwargs) -> FakeSysfs:
    """Every sensor of `board`, each at 1 V and 0 A; `kwargs` go to FakeSysfs.add."""
    from zynqbert.host.rails import PL_RAILS, PS_RAILS

    sysfs = FakeSysfs(root, layout)
    sysfs.add_other()
    for part, _, milliohm in PL_RAILS[board] + PS_RAILS[board]:
        sysfs.add(part, milliohm, **kwargs)
    return sysfs
