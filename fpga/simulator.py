# SPDX-License-Identifier: Apache-2.0
"""Compile the kernels with g++ and run them behind ctypes: three builds of one source.

`native` holds values in the machine's integers (full speed), `checked` does too and throws where one leaves its
declared width, `csim` uses the vendor's ap_int from the hls4ml package (exact widths, slow). The compiled library is
cached per user, keyed by sources, compiler, options and processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from .registers import STATUS_NAMES

ROOT = Path(__file__).resolve().parent
BUILDS = ("native", "checked", "csim")
THREADS = "ZYNQBERT_THREADS"
DEFAULT_THREADS = 1
MAX_THREADS = 64
LOOPS = tuple(
    re.findall(r"^  (\w+),$", (ROOT / "kernels" / "loops.hpp").read_text().replace("  count\n", ""), flags=re.M)
)


class SimulatorUnavailable(RuntimeError):
    """No compiler, or the kernels do not compile here; the message says the remedy."""


NO_OUTPUT = 0xFFFF_FFFF  # of the wizard: kNoOutput of sim/engine.hpp


@dataclass(frozen=True)
class Status:
    """How a run ended: code (STATUS_NAMES), detail (instruction index, or address for a bus error), message, and the
    output of the wizard that the program chose last, None if none."""

    code: int
    detail: int
    message: str = ""
    output: int | None = None

    @property
    def name(self) -> str:
        if self.code == 0:
            return "ok"
        return STATUS_NAMES[self.code] if self.code < len(STATUS_NAMES) else f"status {self.code}"


def _ap_types() -> Path:
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or not spec.submodule_search_locations:
        raise SimulatorUnavailable(
            "csim needs the ap_int headers of hls4ml: pip install 'zynqbert[sim]', or leave it out with --no-csim"
        )
    return Path(spec.submodule_search_locations[0]) / "templates" / "vivado" / "ap_types"


def _options(build: str, columns: int, sanitize: bool, root: Path) -> list[str]:
    options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-label"]
    options += ["-fPIC", "-shared", "-pthread", "-fno-gnu-unique", f"-DZQ_COLUMNS={columns}"]
    options += ["-I", str(root / "sim"), "-I", str(root / "kernels")]
    if build == "csim":
        # ap_int clears fresh bits of members it has not initialised; the warning is the vendor header's.
        options += ["-O1", "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
        options += ["-I", str(root / "types" / "exact"), "-isystem", str(_ap_types())]
    else:
        options += ["-O3", "-march=native"] if build == "native" else ["-O2", "-march=native"]
        options += ["-I", str(root / "types" / build), "-I", str(root / "types" / "plain")]
    if sanitize:
        options += ["-g", "-fsanitize=address,undefined", "-fno-sanitize=shift", "-fno-sanitize-recover=undefined"]
    return options


def _compiler() -> str:
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        raise SimulatorUnavailable(f"no C++ compiler '{name}' on PATH: install g++ 9 or newer, or set CXX")
    return path


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
        flags = re.search(r"^(flags|Features)\s*:.*$", text, flags=re.M)
        model = re.search(r"^model name\s*:.*$", text, flags=re.M)
        return f"{model.group(0) if model else ''} {flags.group(0) if flags else ''}"
    except OSError:
        return platform.processor()


def cache_folder() -> Path:
    """Per-user cache of compiled kernels: $XDG_CACHE_HOME/zynqbert/kernels."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "zynqbert" / "kernels"


def compile_library(build: str, columns: int, *, sanitize: bool = False, root: Path = ROOT) -> Path:
    """Path of the compiled library for a build and array width, compiling it where the cache has none.

    Raises SimulatorUnavailable without a compiler or where compilation fails.
    """
    if build not in BUILDS:
        raise ValueError(f"build '{build}': one of {', '.join(BUILDS)}")
    compiler = _compiler()
    options = _options(build, columns, sanitize, root)
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    key = hashlib.sha256()
    for part in (version, " ".join(options).replace(str(root), ""), _cpu()):  # wherever the sources lie
        key.update(part.encode())
    for source in sorted([*root.rglob("*.hpp"), *root.rglob("*.cpp"), *root.rglob("*.h")]):
        key.update(str(source.relative_to(root)).encode())
        key.update(source.read_bytes())
    library = cache_folder() / f"{build}-{columns}-{key.hexdigest()[:20]}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / "library.so"
        sources = [str(root / "sim" / name) for name in ("engine.cpp", "units.cpp")]
        run = subprocess.run(
            [compiler, *options, *sources, "-o", str(made)], capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            first = next((line for line in run.stderr.splitlines() if "error" in line), run.stderr.strip()[:300])
            raise SimulatorUnavailable(f"{build} kernels do not compile with {compiler}: {first}")
        made.replace(library)
    return library


def threads_wanted(threads: int | None = None) -> int:
    """How many threads share the array's work: `threads`, else $ZYNQBERT_THREADS, else DEFAULT_THREADS.

    The results are the same whatever the number. Raises ValueError for anything but 1 to MAX_THREADS.
    """
    name, given = ("threads", threads) if threads is not None else (THREADS, os.environ.get(THREADS, DEFAULT_THREADS))
    text = str(given).strip()
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_THREADS:
        raise ValueError(f"{name} is {str(given)[:20]!r}; remedy: a number of threads from 1 to {MAX_THREADS}")
    return int(text)


@cache
def _load(library: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(library))
    pointer = ctypes.c_void_p
    lib.zq_id.restype = ctypes.c_uint64
    lib.zq_create.argtypes = [ctypes.c_int]
    lib.zq_create.restype = pointer
    lib.zq_threads.argtypes = [pointer]
    lib.zq_destroy.argtypes = [pointer]
    lib.zq_message.restype = ctypes.c_char_p
    lib.zq_take_trips.argtypes = [pointer]
    lib.zq_run.argtypes = [pointer, pointer, ctypes.c_int, *[ctypes.c_uint64] * 3, *[ctypes.c_uint32] * 2]
    lib.zq_run.argtypes += [ctypes.c_uint64, pointer, pointer]
    return lib


class Simulator:
    """The engine of one board, compiled from the kernels. State on chip survives between runs, as on the board."""

    def __init__(
        self, build: str = "native", columns: int = 128, *, sanitize: bool = False, threads: int | None = None
    ) -> None:
        """threads: see `threads_wanted`; csim and checked always run on one."""
        wanted = threads_wanted(threads)
        self.build = build
        self.columns = columns
        self.lib = _load(compile_library(build, columns, sanitize=sanitize))
        self.engine = ctypes.c_void_p(self.lib.zq_create(wanted))
        self.threads = self.lib.zq_threads(self.engine)

    def __del__(self) -> None:
        if getattr(self, "engine", None):
            self.lib.zq_destroy(self.engine)
            self.engine = None

    def run(
        self,
        memory: Sequence[tuple[int, np.ndarray]],
        program: int,
        image: int,
        io: int,
        instructions: int,
        row_blocks: int,
        seed: int = 0,
    ) -> Status:
        """Run a program to its end on device memory, in place.

        memory: (address, contiguous uint8 buffer) pairs; program, image, io: byte addresses; seed: 0 runs the units in
        a fixed order, any other value shuffles which ready unit goes first.
        """
        table = np.array([(a, b.nbytes, b.ctypes.data) for a, b in memory], dtype=np.uint64).reshape(-1, 3)
        detail, chosen = ctypes.c_uint64(), ctypes.c_uint32()
        code = self.lib.zq_run(
            self.engine,
            table.ctypes.data,
            len(table),
            program,
            image,
            io,
            instructions,
            row_blocks,
            seed,
            ctypes.byref(detail),
            ctypes.byref(chosen),
        )
        output = None if chosen.value == NO_OUTPUT else chosen.value
        return Status(code, detail.value, self.lib.zq_message().decode(errors="replace"), output)

    def trips(self) -> dict[str, int]:
        """Trip counts of the pipelined loops since the last call, and start again from 0."""
        counts = np.zeros(self.lib.zq_loops(), dtype=np.uint64)
        self.lib.zq_take_trips(counts.ctypes.data)
        return {name: int(n) for name, n in zip(LOOPS, counts, strict=True)}
