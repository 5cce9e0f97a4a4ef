# SPDX-License-Identifier: Apache-2.0
"""Run one tool of the vendor: its output in a log file, its whole process group ended when we are."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

POLL_S = 0.2
PATIENCE_S = 5.0
TAIL_LINES = 15


class ToolFailed(ValueError):
    """A tool ended with an exit code other than 0; `tail` holds the last lines of its log."""

    def __init__(self, command: Sequence[str], code: int, log_file: Path) -> None:
        self.program = Path(command[0]).name
        self.code = code
        self.log_file = log_file
        self.tail = tail(log_file)
        super().__init__(f"{self.program} {ended(code)}; its log: {log_file}")


class Stopped(Exception):
    """The tool was ended because the build stops."""


def run_tool(command: Sequence[str], cwd: Path, log_file: Path, stop: threading.Event | None = None) -> None:
    """Run `command` in `cwd`, both its outputs to `log_file`; returns when it has ended well.

    Raises ToolFailed for any other end, Stopped once `stop` is set, OSError where it cannot be started or the log not
    be written. Whatever is raised here, KeyboardInterrupt included, the tool and its children are gone by then.
    """
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = _wait(process, stop)
        except BaseException:
            _end_group(process)
            raise
    if code != 0:
        raise ToolFailed(command, code, log_file)


def tail(log_file: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log; none where there is no log."""
    try:
        with open(log_file, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 64 * 1024))
            text = log.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def ended(code: int) -> str:
    """An exit code in words; negative codes are signals."""
    if code < 0:
        return f"was ended by signal {-code}"
    return f"failed with exit code {code}"


def _wait(process: subprocess.Popen, stop: threading.Event | None) -> int:
    while True:
        try:
            return process.wait(timeout=POLL_S)
        except subprocess.TimeoutExpired:
            if stop is not None and stop.is_set():
                raise Stopped from None


def _end_group(process: subprocess.Popen) -> None:
    """End the tool and all it has started; the group outlives its leader, so it is told even where that is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            continue
