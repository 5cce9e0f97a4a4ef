# SPDX-License-Identifier: Apache-2.0
"""Installations of the stub tools of fake_tools/, and what those were called with."""

import json
import sys
from pathlib import Path

TOOLS = Path(__file__).parent / "fake_tools"
UNIFIED = ("vitis-run", "v++")


# Runs a stub by this Python without its site packages: a build calls dozens of them.
WRAPPER = """#!{python} -sSE
import sys
sys.path.insert(0, {tools!r})
exec(open({stub!r}).read())
"""


def install(folder: Path, *names: str, version: str = "2024.2") -> Path:
    """Put stub tools called `names` into `folder`; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        text = WRAPPER.format(python=sys.executable, tools=str(TOOLS), stub=str(TOOLS / name))
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "VERSION").write_text(version)
    return folder


def calls(log: Path) -> list[dict]:
    """Every call so far: argv (the program's name first) and cwd."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
