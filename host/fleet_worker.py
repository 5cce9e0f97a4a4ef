# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker of a fleet: one engine a process, opened for its first chunk and kept, and the answers.

The scheduler imports this too, which has neither board nor compiler: pynq and the engine are imported by those who
answer alone.
"""

import atexit
import io
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ..quant.artifact_files import MAX_JSON, read_file, sha256_of
from ..quant.artifact_manifest import MANIFEST
from ..quant.task_folders import folder_names
from ..quant.task_manifest import TASK_MANIFEST, TASKS
from .errors import HostError
from .fleet_errors import FleetError

PACKAGED = "zynqbert:"  # before the name of a model that the package holds, wherever that is installed
MODELS = Path(__file__).resolve().parents[1] / "artifacts"
# A worker that comes later may follow one that was killed, and be given the same sentence. Should it die before
# its nanny has heard that it runs, the nanny would not start another.
NANNY_S = 1.0
VERSIONS = ("zynqbert", "distributed")  # that must be alike


@dataclass(frozen=True)
class Settings:
    """How every worker opens its engine: `engine.open`'s arguments, and the sha256 of the model that it must be.

    artifact: `place_of` the folder.
    """

    board: str
    artifact: str
    sha256: str
    device: str
    clock_mhz: float | None
    timeout_s: float
    early_exit: str | None
    retune: bool
    task: str | None
    continuous: bool  # continuous.open, that is


@dataclass(frozen=True)
class Opened:
    """A worker's engine: `where` it is, the manifest's `task` of each of its tasks, and the one to begin with."""

    worker: str
    where: str
    emulated: bool
    clock_mhz: float
    tasks: dict[str | None, dict]
    first: str | None


@dataclass(frozen=True)
class Failure:
    """An error on its way home: class, message and fields, for its constructor may take other arguments."""

    kind: type[Exception]
    message: str
    fields: dict[str, Any]

    @staticmethod
    def of(error: Exception, worker: str | None) -> "Failure":
        """With the name of the worker in front, where it is the worker's."""
        return Failure(type(error), (f"{worker}: " if worker else "") + str(error), dict(vars(error)))

    def error(self) -> Exception:
        """The same error again."""
        again = self.kind.__new__(self.kind)
        again.args = (self.message,)
        again.__dict__.update(self.fields)
        return again


@dataclass(frozen=True)
class Answered:
    """What became of a chunk: its results in order, and the error that ended it, if one did.

    where: the worker's engine. engine_ms: what it took for the passes that ended, measured or modelled; passes: that
    answered sentences; switches, switched_bytes: of tasks; all in this chunk.
    """

    worker: str
    where: str
    results: list
    failure: Failure | None = None
    engine_ms: float = 0.0
    passes: int = 0
    switches: int = 0
    switched_bytes: int = 0


# One engine a process, whatever the threads: the board has one, and it takes one pass at a time.
_lock = threading.Lock()
_held: tuple[Settings, Any] | None = None


def place_of(folder: str | Path) -> str:
    """What names a model's folder on every machine: its path, or of the package's own models the name."""
    path = Path(folder).resolve()
    return f"{PACKAGED}{path.relative_to(MODELS)}" if path.is_relative_to(MODELS) else str(path)


def folder_of(place: str) -> Path:
    """The folder on this machine."""
    return MODELS / place.removeprefix(PACKAGED) if place.startswith(PACKAGED) else Path(place)


def digest(folder: Path) -> str:
    """sha256 of an artifact, or of a backbone and its tasks: of the manifests, which hold that of every other file.

    Raises ArtifactError.
    """
    files = [MANIFEST, *(f"{TASKS}/{name}/{TASK_MANIFEST}" for name in folder_names(folder))]
    lines = (f"{file} {sha256_of(read_file(folder / file, MAX_JSON))}\n" for file in files)
    return sha256_of("".join(lines).encode())


def versions() -> dict[str, str]:
    """Of what must be alike on every machine."""
    return {name: metadata.version(name) for name in VERSIONS}


def describe(device: str, dask_worker=None) -> dict[str, Any]:
    """What must be known before an engine is opened: versions, process, machine, and whether a board would run."""
    on_board = False
    if device != "emulated":
        from .target import find_board

        on_board = find_board() is not None
    named = {"name": f"worker {dask_worker.name}", "pid": os.getpid(), "host": socket.gethostname()}
    return named | {"on_board": on_board, "versions": versions()}


def prepare(settings: Settings) -> Opened | Failure:
    """Open the engine, unless it is."""
    name = _name()
    with _lock:
        try:
            engine = _engine(settings)
        except _known() as error:
            return Failure.of(error, name)
        tasks = {task: engine.task_of(task) for task in engine.tasks or (None,)}
        emulated = engine.target.manifest is None
        return Opened(name, engine.target.name, emulated, engine.clock_mhz, tasks, settings.task or engine.task_name)


def answer(settings: Settings, items: Sequence, way: str, task: str | None, how: dict[str, Any]) -> Answered:
    """Answer a chunk by the engine's method `way`, of which `how` are the arguments, beginning as `task`."""
    name, results = _name(), []
    with _lock:
        try:
            if _held is None:
                time.sleep(NANNY_S)
            engine = _engine(settings)
        except _known() as error:
            return Answered(name, "", results, Failure.of(error, name))
        before, failure = _counts(engine), None
        try:
            if task is not None:
                engine.use(task)
            for result in getattr(engine, way)(items, **how):
                results.append(result)
        except _known() as error:
            # What the texts are to blame for is so on every worker.
            failure = Failure.of(error, name if isinstance(error, HostError | OSError) else None)
        counts = (after - then for then, after in zip(before, _counts(engine), strict=True))
        return Answered(name, engine.target.name, results, failure, *counts)


def _counts(engine) -> tuple[float, int, int, int]:
    """As the last fields of Answered, since the engine was opened."""
    return engine.busy_ms, engine.passes, engine.switches, engine.switched_bytes


def release(settings: Settings) -> None:
    """Close the engine that was opened with these settings, so that the board and its memory are free."""
    with _lock:
        if _held is not None and _held[0] == settings:
            _close()


def _name() -> str:
    from distributed import get_worker

    return f"worker {get_worker().name}"


def _known() -> tuple[type[Exception], ...]:
    """What the user can do something about; a defect of ours comes home with its traceback."""
    from ..fpga.simulator import SimulatorUnavailable

    return ValueError, OSError, HostError, SimulatorUnavailable


def _engine(settings: Settings):
    """The engine of this process, opened unless it is open with these settings."""
    global _held
    if _held is not None and _held[0] == settings:
        return _held[1]
    from ..fpga.boards import board_named
    from . import continuous, engine
    from .target import choose

    _close()
    folder = folder_of(settings.artifact)
    if (found := digest(folder)) != settings.sha256:
        fault = f"{folder} is another model (sha256 {found[:12]}…) than here ({settings.sha256[:12]}…)"
        raise FleetError(f"{fault}; remedy: copy the folder from one machine to all, under the same path")
    with redirect_stderr(io.StringIO()):  # that there is no board is said once, where the answers are read
        target = choose(board_named(settings.board), settings.device)
    how = {"board": settings.board, "artifact": folder, "device": target, "clock_mhz": settings.clock_mhz}
    how |= {"timeout_s": settings.timeout_s, "early_exit": settings.early_exit, "task": settings.task}
    _held = settings, continuous.open(**how) if settings.continuous else engine.open(**how, retune=settings.retune)
    return _held[1]


@atexit.register
def _close() -> None:
    global _held
    held, _held = _held, None
    if held is not None:
        held[1].close()
