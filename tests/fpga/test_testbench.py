# SPDX-License-Identifier: Apache-2.0
"""The testbench that Vitis gets, compiled by g++: it passes on the committed vectors, and on nothing else."""

import fcntl
import hashlib
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from zynqbert.fpga import vectors
from zynqbert.fpga.program import decode
from zynqbert.fpga.simulator import ROOT, _ap_types, cache_folder

COLUMNS = (128, 192)
FOLDER = ROOT / "testbench" / "vectors"
INCLUDES = ("hooks/vitis", "kernels", "types/exact")
# Our strict streams, and those that come with the ap_int headers, which stand for the vendor's own.
STREAMS = {"strict": ("c++17", ["sim"]), "vendor": ("c++14", [])}


def build(columns: int, streams: str) -> Path:
    """The compiled testbench, from the per-user cache if it is there; one process compiles, others wait for it."""
    standard, folders = STREAMS[streams]
    options = [f"-std={standard}", "-O1", f"-DZQ_COLUMNS={columns}", "-Wall", "-Wextra", "-Werror"]
    options += ["-Wno-unknown-pragmas", "-Wno-unused-label", "-Wno-unused-parameter"]
    options += ["-Wno-uninitialized", "-Wno-maybe-uninitialized"]  # the vendor header's, not ours
    options += [f"-I{ROOT / folder}" for folder in (*INCLUDES, *folders)] + ["-isystem", str(_ap_types())]
    sources = [ROOT / "testbench" / "testbench.cpp", *sorted((ROOT / "top").glob("*.cpp"))]
    key = hashlib.sha256(" ".join(options).replace(str(ROOT), "").encode())
    for source in sorted([*ROOT.rglob("*.hpp"), *ROOT.rglob("*.h"), *sources]):
        key.update(source.read_bytes())
    made = cache_folder() / f"testbench-{streams}-{columns}-{key.hexdigest()[:20]}"
    made.parent.mkdir(parents=True, exist_ok=True)
    with open(made.parent / "testbench.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            partial = made.with_suffix(".partial")
            run = subprocess.run(
                [shutil.which("g++"), *options, *map(str, sources), "-o", str(partial)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, run.stderr[:3000]
            partial.rename(made)
    return made


def run(columns: int, *files: Path, streams: str = "strict") -> subprocess.CompletedProcess:
    command = [str(build(columns, streams)), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def committed(columns: int) -> list[Path]:
    return sorted(FOLDER.glob(f"*-{columns}.bin"))


def fails(columns: int, file: Path, message: str, streams: str = "strict") -> None:
    """The testbench must refuse the file with one line of `message` (a pattern), its name before it."""
    found = run(columns, file, streams=streams)
    assert found.returncode == 1
    assert found.stdout == ""
    assert re.fullmatch(rf"{re.escape(str(file))}: {message}\n", found.stderr), found.stderr


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("columns", COLUMNS)
def test_every_top_does_the_goldens_passes(columns, streams):
    files = committed(columns)
    assert len(files) == 5
    found = run(columns, *files, *reversed(files), streams=streams)  # whatever the pass before left on chip
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [f"{file}: equal" for file in (*files, *reversed(files))]


@pytest.fixture(scope="module")
def passes() -> dict[str, vectors.Vectors]:
    return {path.stem.removesuffix("-128"): vectors.read(path) for path in committed(128)}


def flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("segment", [0, 7, -1])
@pytest.mark.parametrize("name", ["bert", "albert-tokens", "adapters", "blocks"])
def test_one_expected_byte_off_is_found_and_named(passes, tmp_path, name, segment, at, streams):
    good = passes[name]
    expected = list(good.expected)
    whole = expected[segment]
    expected[segment] = replace(whole, data=flipped(whole.data, at))
    vectors.write(replace(good, expected=tuple(expected)), tmp_path / "x.bin")
    address = whole.address + at % len(whole.data)
    is_, want = whole.data[at], whole.data[at] ^ 1
    message = rf"io \+ {address - good.io} is {is_}, expected {want} \(1 bytes differ\)"
    fails(128, tmp_path / "x.bin", message, streams)


def test_a_byte_that_is_never_written_must_stay(passes, tmp_path):
    good = passes["bert"]
    for buffer, address in (("program", good.program), ("image", good.image), ("io", good.io), ("memory", 0)):
        was = int(good.before()[address])
        other = vectors.Segment(address, bytes([was ^ 255]))
        vectors.write(replace(good, expected=(*good.expected, other)), tmp_path / "x.bin")
        fails(128, tmp_path / "x.bin", rf"{buffer} \+ 0 is {was}, expected {was ^ 255} \(1 bytes differ\)")


def test_another_bias_gives_another_pass(passes, tmp_path):
    good = passes["bert"]
    program, image, header = good.initial
    classifier = decode(program.data)[-2]
    other = replace(image, data=flipped(image.data, classifier.parameters + 2))
    vectors.write(replace(good, initial=(program, other, header)), tmp_path / "x.bin")
    fails(128, tmp_path / "x.bin", r"io \+ \d+ is \d+, expected \d+ \(\d+ bytes differ\)")


@pytest.mark.parametrize(
    ("instruction", "bit", "status"),
    [(3, 1 << 7, "status 1 at instruction 3"), (-2, 1 << 16, "status 4 at instruction 26")],
    ids=["bad opcode", "a token left over"],
)
def test_a_pass_that_does_not_end_well(passes, tmp_path, instruction, bit, status):
    """A fault of the program ends the pass early; a signal that nothing waits for stays in its stream."""
    good = passes["bert"]
    program, *others = good.initial
    data = bytearray(program.data)
    instruction %= good.instructions
    (word,) = struct.unpack_from("<I", data, 64 * instruction)
    struct.pack_into("<I", data, 64 * instruction, word | bit)
    vectors.write(replace(good, initial=(replace(program, data=bytes(data)), *others)), tmp_path / "x.bin")
    fails(128, tmp_path / "x.bin", f"ended with {status}")


@pytest.mark.parametrize(("at", "word"), [(0, 0b1010011), (0, 0b0110010), (0, 0b0000010), (1, 0b0000010)])
def test_another_verdict_is_found(passes, tmp_path, at, word):
    """The vector unit's own is compared; fetch goes by what the file says."""
    good = passes["ramps"]
    assert [v.live for v in good.verdicts] == [0b10, 0] and good.verdicts[0].output == 2
    verdicts = list(good.verdicts)
    verdicts[at] = vectors.Verdict.of_word(word)
    vectors.write(replace(good, verdicts=tuple(verdicts)), tmp_path / "x.bin")
    fails(128, tmp_path / "x.bin", rf"verdict {at} is {good.verdicts[at].word}")


def test_as_many_verdicts_as_exits(passes, tmp_path):
    good = passes["ramps"]
    more = (*good.verdicts, vectors.Verdict(0))
    vectors.write(replace(good, verdicts=more), tmp_path / "x.bin")
    fails(128, tmp_path / "x.bin", "fetch has not asked for all verdicts")


HEADER = (
    "magic", "format", "columns", "version", "row_blocks", "instructions", "program", "image", "io", "fill", "initial",
    "expected", "verdicts",
)  # fmt: skip

HEADER_BYTES = 4 * len(HEADER)


def words(**changes: int):
    """A defect of a file: 32-bit words of its header, by their names."""

    def apply(data: bytes) -> bytes:
        header = bytearray(data[:HEADER_BYTES])
        for name, value in changes.items():
            struct.pack_into("<I", header, 4 * HEADER.index(name), value)
        return bytes(header) + data[HEADER_BYTES:]

    return apply


def expected_bytes(data: bytes) -> int:
    """Size of the expected segments in a whole file."""
    return sum(8 + len(segment.data) for segment in vectors.decode(data).expected)


# What is wrong with a file, and what testbench and reader say to it.
BAD = {
    "empty": (lambda data: b"", "magic"),
    "magic cut": (lambda data: data[:3], "magic"),
    "foreign": (lambda data: b"ZQV2" + data[4:], "magic"),
    "header cut": (lambda data: data[: HEADER_BYTES - 1], "header|verdicts"),
    "other format": (words(format=1), "format"),
    "no row blocks": (words(row_blocks=0), "row.blocks"),
    "too many row blocks": (words(row_blocks=5), "row.blocks"),
    "no instructions": (words(instructions=0), "instructions"),
    "instructions beyond the memory": (words(instructions=0xFFFFFFFF), "instructions"),
    "program off a beat": (words(program=4104), "program"),
    "image beyond the memory": (words(image=1 << 20), "image"),
    "io off a beat": (words(io=8), "io"),
    "fill no byte": (words(fill=256), "fill"),
    "nothing expected": (lambda data: words(expected=0)(data[: -expected_bytes(data)]), "expected"),
    "a segment more than there is": (words(expected=1000), r"expected( segment )?\W?\d+"),
    "cut before a segment": (lambda data: data[: HEADER_BYTES + 4], r"initial( segment )?\W?0"),
    "cut within a segment": (lambda data: data[: HEADER_BYTES + 52], r"initial( segment )?\W?0"),
    "last byte missing": (lambda data: data[:-1], r"expected( segment )?\W?\d+"),
    "a byte too many": (lambda data: data + b"\0", "end"),
    "a segment beyond the memory": (
        lambda data: data[:HEADER_BYTES] + struct.pack("<I", vectors.MEMORY_BYTES - 4) + data[HEADER_BYTES + 4 :],
        r"initial( segment )?\W?0",
    ),
    "more verdicts than there are": (words(verdicts=1 << 20), r"verdicts?( \d+)?"),
    "a verdict of eight bits": (
        lambda data: words(verdicts=1)(data[:HEADER_BYTES] + struct.pack("<I", 128) + data[HEADER_BYTES:]),
        r"verdicts? ?\W?0\W?",
    ),
    "an empty segment": (
        lambda data: words(initial=4)(
            data[:HEADER_BYTES] + struct.pack("<2I", 4096, 0) + data[HEADER_BYTES:]
        ), r"initial( segment )?\W?0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_none(tmp_path, name):
    spoil, field = BAD[name]
    file = tmp_path / "x.bin"
    file.write_bytes(spoil(committed(128)[0].read_bytes()))
    fails(128, file, rf"({field})\W.*")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))}: ({field})\W"):
        vectors.read(file)


@pytest.mark.parametrize("streams", STREAMS)
def test_vectors_of_another_engine(tmp_path, streams):
    (other, *_) = committed(192)
    fails(128, other, "columns: 192, this testbench takes 128", streams)
    file = tmp_path / "x.bin"
    file.write_bytes(words(version=1)(committed(128)[0].read_bytes()))
    fails(128, file, "program version: 1, this testbench takes 4", streams)


def test_a_missing_file_or_none_at_all(tmp_path):
    fails(128, tmp_path / "none.bin", "cannot be read")
    found = run(128)
    assert (found.returncode, found.stderr) == (1, "no vector files are given\n")
    with pytest.raises(OSError):
        vectors.read(tmp_path / "none.bin")


def test_one_bad_file_among_good_ones(tmp_path):
    (good, *_) = committed(128)
    found = run(128, good, tmp_path / "none.bin", good)
    assert found.returncode == 1
    assert found.stdout.splitlines() == [f"{good}: equal"] * 2


def test_the_memory_is_as_large_in_both_languages():
    text = (ROOT / "testbench" / "size.hpp").read_text()
    assert int(re.search(r"kTestbenchBeats = (\d+);", text)[1]) * 16 == vectors.MEMORY_BYTES


def test_a_file_is_what_was_written(passes, tmp_path):
    for good in passes.values():
        vectors.write(good, tmp_path / "x.bin")
        assert vectors.read(tmp_path / "x.bin") == good
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_a_write_that_fails_leaves_nothing(passes, tmp_path):
    (tmp_path / "x.bin").mkdir()
    with pytest.raises(OSError):
        vectors.write(passes["bert"], tmp_path / "x.bin")
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]
