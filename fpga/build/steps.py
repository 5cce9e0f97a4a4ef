# SPDX-License-Identifier: Apache-2.0
"""From kernels to bitstream: csim, csynth, ip for each of the five units, then one bitstream; cosim on request.

A step starts when it has passed for every unit before. A unit's step that was done with the same sources, settings and
tool, and whose results are unchanged, is not done again (stamps.py).
"""

from __future__ import annotations

import fcntl
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ..block_design import wizard
from ..boards import Board
from ..simulator import ROOT
from . import hls, stamps
from .csynth import read_report
from .evidence import summary
from .gate import failures
from .predictor import UNIT as PREDICTING_UNIT
from .predictor import PredictorProject
from .run import ToolFailed, run_tool
from .source import UNITS, files_of, pipelines_of
from .tools import Tool
from .vivado import build_bitstream

# What each step needs before it, itself included.
NEEDS = {
    "csim": ("csim",),
    "csynth": ("csim", "csynth"),
    "cosim": ("csim", "cosim"),
    "ip": ("csim", "csynth", "ip"),
    "bitstream": ("csim", "csynth", "ip", "bitstream"),
}


class BuildFailed(ValueError):
    """A step did not pass. `details` are lines to show before the message: a log's end, or what the gate found."""

    def __init__(self, message: str, details: list[str]) -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class Event:
    """Progress: a step of a unit ("" for the bitstream) is "started", "done", "up to date" or "failed"."""

    step: str
    unit: str
    state: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Build:
    """What to build and how. `out` is the folder of the board; `vivado` is needed by the bitstream alone.

    jobs: units at a time; root: folder of the package's hardware sources; predictor: a network for the vector unit.
    """

    board: Board
    clock_mhz: float
    out: Path
    hls: Tool
    vivado: Tool | None = None
    jobs: int = 2
    force: bool = False
    root: Path = ROOT
    predictor: PredictorProject | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def component(self, unit: str) -> hls.Component:
        predictor = self.predictor if unit == PREDICTING_UNIT else None
        return hls.Component(unit, self.board, self.clock_mhz, self.root, predictor)


def run(build: Build, last: str, notify: Callable[[Event], None], log: Callable[[str], None]) -> Path | None:
    """Do what `last` needs and `last` itself; the bitstream's manifest, or None for an earlier step.

    Raises BuildFailed, HlsSettingsError, and OSError where the folder cannot be written. Interrupted, it ends every
    tool it has started and leaves no stamp of what they were doing.
    """
    check(build)
    with _folder(build.out):
        for step in NEEDS[last]:
            if step != "bitstream":
                _all_units(build, step, notify)
        return _bitstream(build, notify, log) if last == "bitstream" else None


def check(build: Build) -> None:
    """Refuse what could only fail hours later; ValueError names the option."""
    try:
        wizard(build.clock_mhz)
    except ValueError as error:
        raise ValueError(f"--clock-mhz: {error}") from None
    if " " in str(build.out.resolve()):
        raise ValueError(f"--out {build.out.resolve()}: the tools do not work in a folder with a space in its name")


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """The folder of the build, made if need be, and held against a second build."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = open(out / ".lock", "w")  # noqa: SIM115 - held over the whole build
    except OSError as error:
        raise OSError(f"--out {out} cannot be written ({error.strerror}); remedy: name another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"--out {out}: another build works there; remedy: wait, or name another folder") from None
        yield


def _all_units(build: Build, step: str, notify: Callable[[Event], None]) -> None:
    """The step for every unit, `jobs` at a time. A unit that fails keeps no other from its end."""
    with ThreadPoolExecutor(max_workers=build.jobs) as pool:
        futures = {unit: pool.submit(_unit_step, build, unit, step, notify) for unit in UNITS}
        try:
            wait(futures.values())
        except BaseException:
            build.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    if step == "csynth":
        _gather_summaries(build)
    errors = [future.exception() for future in futures.values()]
    unforeseen = next((e for e in errors if e is not None and not isinstance(e, BuildFailed)), None)
    if unforeseen is not None:
        raise unforeseen
    failed = [e for e in errors if e is not None]
    if failed:
        raise BuildFailed("; ".join(map(str, failed)), [line for e in failed for line in e.details])


def _unit_step(build: Build, unit: str, step: str, notify: Callable[[Event], None]) -> None:
    component, folder = build.component(unit), build.out / unit
    started = time.monotonic()
    try:
        plan = hls.plan(build.hls, component, step)
        inputs = _inputs(build, component, step, plan)
        stamp = folder / f"{step}.stamp"
        current = not build.force and stamps.is_current(stamp, inputs, folder)
        if not current:
            notify(Event(step, unit, "started"))
            _make(build, unit, step, plan, folder, stamp, inputs)
        if step == "csynth":
            _pass_gate(component, folder)
    except BaseException:
        notify(Event(step, unit, "failed", time.monotonic() - started))
        raise
    notify(Event(step, unit, "up to date" if current else "done", time.monotonic() - started))


def _make(build: Build, unit: str, step: str, plan: hls.Plan, folder: Path, stamp: Path, inputs: stamps.Inputs) -> None:
    """Run a step's commands and stamp what they made."""
    folder.mkdir(exist_ok=True)
    stamp.unlink(missing_ok=True)
    if step == "csynth":
        (folder / "csynth.json").unlink(missing_ok=True)
    if plan.afresh is not None:
        shutil.rmtree(folder / plan.afresh, ignore_errors=True)
    for name, text in plan.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for log_name, command in plan.commands:
        try:
            run_tool(command, folder, folder / log_name, build.stop)
        except ToolFailed as error:
            raise BuildFailed(f"{step} of {unit}: {error}", [f"{error.log_file}:", *error.tail]) from None
    stamps.write_stamp(stamp, inputs, folder, _outputs(unit, step, folder))


def _inputs(build: Build, component: hls.Component, step: str, plan: hls.Plan) -> stamps.Inputs:
    """All that a step's result depends on: tool, commands, the files it is given, and sources (or what csynth made)."""
    inputs = {"tool": f"{build.hls.name} {build.hls.version} ({build.hls.flavour})"}
    for log_name, (program, *arguments) in plan.commands:
        inputs[f"command of {log_name}"] = " ".join([Path(program).name, *arguments])
    inputs |= {name: stamps.text_digest(text) for name, text in plan.files.items()}
    if step == "ip":
        made = stamps.read_outputs(build.out / component.unit / "csynth.stamp") or {}
        return inputs | {f"made {name}": digest for name, digest in made.items()}
    sources = set(files_of(component.top, component.root))
    if step != "csynth":
        for path in component.testbench_files:
            sources.update(files_of(path, component.root))
        sources.update(component.vectors)
    if component.predictor is not None:
        inputs["predictor"] = component.predictor.sha256
    return inputs | {f"source {path.relative_to(component.root)}": stamps.file_digest(path) for path in sorted(sources)}


def _outputs(unit: str, step: str, folder: Path) -> list[Path]:
    """What a step has made; BuildFailed where that is not what a step that passed makes."""
    if step in hls.PASSED:
        log = folder / f"{step}.log"
        if hls.PASSED[step] not in log.read_text(encoding="utf-8", errors="replace"):
            raise BuildFailed(f'{step} of {unit}: the log has no line "{hls.PASSED[step]}"; log: {log}', [])
        return [log]
    if step == "csynth":
        made = [*(folder / hls.REPORTS).glob("*.xml"), *_files(folder / hls.VERILOG)]
        needed = {"csynth.xml": folder / hls.REPORTS / "csynth.xml", "Verilog": folder / hls.VERILOG / f"{unit}.v"}
    else:
        ip = folder / hls.IP
        made = [ip / "component.xml", *ip.glob("*.zip"), *_files(ip / "hdl")]
        needed = {"component.xml": ip / "component.xml", "zip": next(ip.glob("*.zip"), ip / "*.zip")}
    for what, path in needed.items():
        if not path.is_file():
            raise BuildFailed(f"{step} of {unit}: the tool ended well, but wrote no {what} ({path})", [])
    return made


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _pass_gate(component: hls.Component, folder: Path) -> None:
    """Write the unit's csynth.json and hold its report against what is wanted."""
    pipelines = pipelines_of(component.unit, component.root)
    report = read_report(folder / hls.REPORTS)
    failed = failures(report, component, pipelines)
    stamps.write_json(folder / "csynth.json", summary(report, component, pipelines, failed))
    if failed:
        raise BuildFailed(f"csynth of {component.unit}: {len(failed)} of its gates not passed", failed)


def _gather_summaries(build: Build) -> None:
    """One csynth.json of all units that were synthesised."""
    paths = {unit: build.out / unit / "csynth.json" for unit in UNITS}
    units = {unit: json.loads(path.read_text(encoding="utf-8")) for unit, path in paths.items() if path.is_file()}
    stamps.write_json(build.out / "csynth.json", {"board": build.board.name, "units": units})


def _bitstream(build: Build, notify: Callable[[Event], None], log: Callable[[str], None]) -> Path:
    out = build.out.absolute()  # Vivado runs in a folder below it
    ip_folders = {unit: out / unit / hls.IP for unit in UNITS}
    started = time.monotonic()
    notify(Event("bitstream", "", "started"))
    try:
        manifest = build_bitstream(
            build.board,
            build.clock_mhz,
            ip_folders,
            out,
            build.vivado,
            log,
            force=build.force,
            predictor=build.predictor,
        )
    except BaseException as error:
        notify(Event("bitstream", "", "failed", time.monotonic() - started))
        if isinstance(error, ToolFailed):
            raise BuildFailed(f"bitstream: {error}", [f"{error.log_file}:", *error.tail]) from None
        raise
    notify(Event("bitstream", "", "done", time.monotonic() - started))
    return manifest
