# SPDX-License-Identifier: Apache-2.0
"""What is shipped: the wheel holds all that runs, and a fresh environment with a board's packages alone runs it.

Needs the package index. A Python that is not to be found is skipped, unless ZYNQBERT_NEED_PYTHONS is set.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import zynqbert.host
from zynqbert.host.options import DEFAULT_ARTIFACT

pytestmark = pytest.mark.proof

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "requirements" / "run.txt"
PACKAGED = (
    "fpga/",
    "host/",
    "quant/",
    "artifacts/movie-reviews/",
    "artifacts/edgebert/",
    "artifacts/tasks/",
    "artifacts/edgebert.bench.json",
)
SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
BITSTREAM = "host/overlays/zcu111/zynqbert.bit"


def run(*command, **kwargs):
    """The command's stdout; it must end well."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def sources():
    """Every file of the checkout that git knows or would take."""
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def pip(python, *arguments):
    return run(python, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments)


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A clean copy of the checkout, with a bitstream in its place as a release has it."""
    folder = tmp_path_factory.mktemp("source") / "zynqbert"
    for name in sources():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / BITSTREAM).parent.mkdir(exist_ok=True)
    (folder / BITSTREAM).write_bytes(b"no real bitstream")
    return folder


@pytest.fixture(scope="module")
def wheel(copy, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", copy, "--no-deps", "--wheel-dir", out)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module", params=["3.10", "3.12"])
def environment(request, wheel, tmp_path_factory):
    """The scripts' folder of a fresh environment: the wheel and what it depends on, as requirements/run.txt pins it."""
    python = find_python(request.param)
    if python is None:
        reason = f"no Python {request.param} on PATH, in ~/.pyenv or of uv"
        assert not os.environ.get("ZYNQBERT_NEED_PYTHONS"), reason
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    run(python, "-m", "venv", folder)
    pip(folder / "bin" / "python", "install", wheel, "--constraint", CONSTRAINTS)
    return folder / "bin"


def find_python(version):
    """An interpreter of this version that starts; None if there is none."""
    name = f"python{version}"
    found = [Path(folder) / name for folder in os.get_exec_path()]
    found += sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"))
    if shutil.which("uv"):
        uv = subprocess.run(["uv", "python", "find", version], capture_output=True, text=True, check=False)
        found += [Path(uv.stdout.strip())] if uv.returncode == 0 else []
    for path in found:
        if path.is_file():
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if said.returncode == 0 and said.stdout.startswith(f"Python {version}."):
                return path
    return None


@pytest.fixture
def call(environment, tmp_path):
    """Run a program of the environment in an empty folder, nothing of the checkout in reach; its stdout."""
    folder = tmp_path / "empty"
    folder.mkdir()
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "BOARD")}
    clean = {k: v for k, v in clean.items() if not k.startswith("ZYNQBERT_")}
    clean |= {"PATH": f"{environment}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(environment.parent / "cache")}

    def program(name, *arguments):
        return run(environment / name, *arguments, cwd=folder, env=clean)

    return program


def test_wheel_holds_every_file_that_is_not_prose(wheel):
    names = [name for name in sources() if name.startswith(PACKAGED) and not name.endswith(".md")]
    expected = {f"zynqbert/{name}" for name in [*names, BITSTREAM]}
    found = {name for name in contents(wheel) if name.startswith("zynqbert/")}
    assert found == expected


def test_source_distribution_makes_the_same_wheel(copy, wheel, tmp_path):
    run(sys.executable, "-c", SDIST, tmp_path, cwd=copy)
    (sdist,) = tmp_path.glob("zynqbert-*.tar.gz")
    pip(sys.executable, "wheel", sdist, "--no-deps", "--wheel-dir", tmp_path)
    assert contents(tmp_path / wheel.name) == contents(wheel)


def test_nothing_of_a_workstation_is_installed(call):
    missing = "import importlib.util as u; print([n for n in ('torch', 'transformers', 'hls4ml') if u.find_spec(n)])"
    assert call("python", "-c", missing) == "[]\n"
    call("python", "-m", "pip", "check")


def test_same_answer_as_in_the_checkout(call):
    with zynqbert.host.open(board="zcu102", artifact=DEFAULT_ARTIFACT, device="emulated") as engine:
        (expected,) = engine.stream(["A gem."])
    found = json.loads(call("zynqbert", "run", "A gem.", "--device", "emulated", "--format", "jsonl"))
    assert found["logits"] == list(expected.logits)
    assert found["label"] == "positive" and found["source"] == "modelled"


def test_commands(call):
    assert "zynqbert run" in call("zynqbert", "run", "--help")
    assert "Example: zynqbert build" in call("zynqbert", "build", "--help")
    assert "modelled" in call("zynqbert", "estimate", "--model", "bert-base")
    report = json.loads(call("zynqbert", "info", "--json", "--board", "zcu111"))
    assert report["not_found"]["commit"] == "an installed package, no checkout"
    assert report["not_found"]["overlay"].partition(" ")[0].endswith("site-packages/zynqbert/" + BITSTREAM[:-3] + "hwh")


def test_pynq_finds_notebooks_and_overlays(call, tmp_path):
    folder = tmp_path / "notebooks"
    call("pynq", "get-notebooks", "zynqbert", "--ignore-overlays", "--path", folder)
    names = sorted(path.name for path in (folder / "zynqbert").iterdir())
    assert names == [
        "1-first-inference.ipynb",
        "2-throughput-per-watt.ipynb",
        "3-early-exit.ipynb",
        "4-many-tasks.ipynb",
    ]
    find = "from pynq.bitstream import Bitstream as B; print(B('zcu111/zynqbert.bit', device=object()).bitfile_name)"
    assert call("python", "-W", "ignore", "-c", find).strip().endswith("site-packages/zynqbert/" + BITSTREAM)
