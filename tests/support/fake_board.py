# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a real board: the emulated device behind the real clock and a copy of the sensors' sysfs.

So the measured path runs; what it measures is the emulator, and means nothing.
"""

import json
from functools import partial
from pathlib import Path

from hwmon import FakeSysfs, board_sysfs
from random_artifact import make_random_artifact
from zynqbert.fpga import registers
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.capabilities import CAPABILITIES
from zynqbert.fpga.manifest import Manifest, Timing, UnitReport, Use, Utilization
from zynqbert.host.bench.board import bench_board
from zynqbert.host.emulated.device import EmulatedDevice
from zynqbert.host.meter import BoardMeter
from zynqbert.host.rails import find_rails
from zynqbert.host.target import Target


def fake_board(root: Path, board: str = "zcu102", layout: str = "iio") -> tuple[Target, FakeSysfs]:
    """A target that counts as `board`, and its sensors, each at 0.01 W."""
    sysfs = board_sysfs(root, board, layout)
    for part in sysfs.folders:
        sysfs.set(part, 1.0, 0.01)
    device = EmulatedDevice(BOARDS[board])
    rails = find_rails(board, sysfs.class_hwmon)
    target = Target(device, device.bitstream, lambda plan: BoardMeter(board, rails), board, fake_manifest(board))
    return target, sysfs


def fake_manifest(board: str) -> Manifest:
    """What the manifest of `board`'s bitstream would say; its figures are invented."""
    use = Use(1000, 2000)
    return Manifest(
        board=board,
        part=BOARDS[board].part,
        program_version=registers.PROGRAM_VERSION,
        columns=BOARDS[board].columns,
        lanes=32,
        capabilities=CAPABILITIES,
        max_clock_mhz=300.0,
        wizard_outputs_mhz=(300.0, 200.0, 150.0, 100.0),
        commit="0123456789ab",
        modified=False,
        tools={"vivado": "2025.1"},
        sha256={"zynqbert.bit": "0" * 64, "zynqbert.hwh": "1" * 64},
        utilization=Utilization(use, use, use, use, use),
        timing=Timing(0.1, 0.0, 0, 0.01, 0.0, 0, 0.5, 0.0, 0, 0),
        csynth={"array": UnitReport(3.0, 3.33, 1, 1, 1, 1, 0)},
        date="2026-01-01T00:00:00+00:00",
    )


def real_reports(root: Path) -> dict[str, dict]:
    """Reports of real runs, as read back from JSON: "modelled", "measured", and "lost" where a sensor went away.

    Texts, labels and names of files are such as a page must not take for its own.
    """
    artifact = make_random_artifact(root / "<b>model</b>", layers=1, labels=3, seed=4)
    texts = ["<script>alert(1)</script>" + words for words in (" w6" * 40, " w4 w5", "")]
    reports = {}
    for name in ("modelled", "measured", "lost"):
        device, step = "emulated", lambda: None
        if name != "modelled":
            device, sysfs = fake_board(root / name)
        if name == "lost":
            step = partial(sysfs.remove, "u76")
        report = bench_board(
            *(artifact, texts),
            **{"board": "zcu102", "device": device, "seconds": 0.15, "idle_s": 0.1, "step": step},
            texts_from="</td><img src=x onerror=alert(2)>.txt",
        )
        reports[name] = json.loads(json.dumps(report, allow_nan=False))
    return reports
