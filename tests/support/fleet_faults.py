# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in a fleet's workers, told to them by the texts: a worker imports this as it starts (dask's preload).

"die:PATH" kills the process, by a signal that nothing can catch, in the middle of its chunk, once: PATH remembers.
"die" does so always; "hang" hangs the engine. What a worker's disk holds may differ: of an artifact FOLDER the worker 1
sees FOLDER.worker-1, where there is one.
"""

import os
import signal
from pathlib import Path

from zynqbert.host import engine, fleet_worker
from zynqbert.host.packing import SentenceEncoder

opens = 0
device = None  # of the engine that is open


def dask_setup(worker) -> None:
    """Of this worker alone."""
    _open, _encode, _folder_of = engine.open, SentenceEncoder.encode, fleet_worker.folder_of

    def open_and_count(**how):
        global opens, device
        opened = _open(**how)
        opens, device = opens + 1, opened.target.device
        return opened

    def encode(self, given, **how):
        words = given.split() if isinstance(given, str) else ()
        for word in words:
            if word == "die" or (word.startswith("die:") and _first(word[4:])):
                os.kill(os.getpid(), signal.SIGKILL)
        if device is not None:
            device.faults.hangs = int("hang" in words)
        return _encode(self, given, **how)

    def folder_of(place):
        own = Path(f"{place}.worker-{worker.name}")
        return own if own.exists() else _folder_of(place)

    engine.open, SentenceEncoder.encode, fleet_worker.folder_of = open_and_count, encode, folder_of


def opened() -> int:
    """How many engines this process has opened."""
    return opens


def holds_one() -> bool:
    """Whether this process has an engine open."""
    return fleet_worker._held is not None


def _first(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
