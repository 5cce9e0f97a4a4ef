# SPDX-License-Identifier: Apache-2.0
"""`make mutants`: apply each defect of defects.py to a copy of the tree and see that its test fails.

    python tests/mutants/run.py [--only WORD]

Exit 0 when every defect is killed by its test and all those tests pass without one; 1 otherwise.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from defects import DEFECTS, Defect
from rich.console import Console
from rich.progress import Progress

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("quant", "fpga", "host")
TIMEOUT_S = 300  # a test that hangs has not found the defect


def copy_tree(to: Path, made: Path | None = None) -> dict[str, str]:
    """A copy of the tracked tree under `to` that Python imports first; returns the environment for it.

    made: a cache of what was compiled without a defect, which the tree's own begins with: files are named by their
    sources, so that only what a defect changes is compiled anew.
    """
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.endswith((".safetensors", ".png")):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    package = to / "import" / "zynqbert"
    package.mkdir(parents=True)
    for folder in FOLDERS:
        (package / folder).symlink_to(to / folder)
    if made is not None:
        passing = shutil.ignore_patterns("tmp*", "*.lock", "lock", "*.partial")
        shutil.copytree(made, to / "cache", ignore=passing, copy_function=os.link)  # files that nobody writes again
    return {
        **os.environ,
        "PYTHONPATH": str(to / "import"),
        "XDG_CACHE_HOME": str(to / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_test(tree: Path, env: dict[str, str], test: str) -> subprocess.CompletedProcess:
    words = test.split(" -k ")
    selection = ["-k", words[1]] if len(words) > 1 else []
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *words[0].split(), *selection]
    try:
        return subprocess.run(
            command, cwd=tree, env=env, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -1, f"no end within {TIMEOUT_S} s", "")


def outcome(defect: Defect, made: Path) -> str:
    """'killed', or what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        env = copy_tree(tree, made)
        path = tree / defect.file
        text = path.read_text()
        if text.count(defect.old) != 1:
            return f"stale: the text occurs {text.count(defect.old)} times in {defect.file}"
        path.write_text(text.replace(defect.old, defect.new))
        run = run_test(tree, env, defect.test)
        if "SimulatorUnavailable" in run.stdout:
            return "stale: the defect does not compile"
        return {0: "SURVIVED", 1: "killed"}.get(run.returncode, f"pytest ended with {run.returncode}")


def baseline(test: str, made: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        run = run_test(Path(folder), copy_tree(Path(folder)) | {"XDG_CACHE_HOME": str(made)}, test)
        return "passes" if run.returncode == 0 else f"fails without a defect:\n{run.stdout[-2000:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="defects whose name or file holds this word")
    word = parser.parse_args().only
    defects = [d for d in DEFECTS if word in d.name or word in d.file]
    tests = sorted({d.test for d in defects})
    console = Console()
    wrong = []  # told again at the end, where a long log is read
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(console=console) as progress,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        made = Path(folder)
        task = progress.add_task("mutants", total=len(defects) + len(tests))
        for test, result in zip(tests, pool.map(lambda test: baseline(test, made), tests), strict=True):
            progress.advance(task)
            if result != "passes":
                wrong.append(f"{test} {result}")
                console.print(wrong[-1])
        for defect, result in zip(defects, pool.map(lambda defect: outcome(defect, made), defects), strict=True):
            progress.advance(task)
            line = f"{result:10} {defect.name:45} {defect.test}"
            console.print(line)
            if result != "killed":
                wrong.append(line)
    console.print(f"{len(defects)} defects, {len(wrong)} not as they should be", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
