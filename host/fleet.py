# SPDX-License-Identifier: Apache-2.0
"""More than one board: `with fleet.open(workers=2, board=..., artifact=...) as boards: for r in boards.stream(texts)`.

A stream is cut into chunks, which the workers of a dask.distributed scheduler answer, one process a board or an
emulated device, each with one engine of its own (docs/fleet.md).
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from ..fpga.boards import Board
from .fleet_cluster import Cluster, Member, Work
from .fleet_report import Share, lines
from .fleet_stream import Stream
from .fleet_worker import Settings, digest, place_of
from .result import Result
from .task_queue import WINDOW, check_item

CHUNK = 32  # sentences: tens of milliseconds of a board's work, beside the few that a chunk costs on its way
# Windows in a chunk whose sentences share passes: its last pass, or queue, is not full.
WINDOWS = 8
PATIENCE_S = 60.0
TIMEOUT_S = 10.0  # engine.TIMEOUT_S, without the engine
SHARED = 32  # sentences that wait to share a pass: engine.PACK_WINDOW and continuous.WINDOW likewise
DEVICES = ("auto", "board", "emulated")  # target.DEVICES likewise


def open(  # the counterpart of engine.open
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    board: str | Board,
    artifact: str | Path,
    device: str = "auto",
    clock_mhz: float | None = None,
    timeout_s: float = TIMEOUT_S,
    early_exit: str | None = None,
    retune: bool = True,
    task: str | None = None,
    continuous: bool = False,
    chunk: int = CHUNK,
    patience_s: float = PATIENCE_S,
) -> "Fleet | ContinuousFleet":
    """The workers of a scheduler at an address ("tcp://host:8786"), or `workers` processes of this machine, each with
    its engine open; close it after use.

    continuous: each worker's is a ContinuousEngine, and so is what is returned. chunk: sentences that go to a worker at
    once, at most. patience_s: how long to wait where there is no worker. The rest is as `engine.open`, of every worker;
    the folder of `artifact` is on every machine, under the same path.

    A script opens local workers below `if __name__ == "__main__":`, for they import it. Raises InputError without
    dask.distributed; FleetError for workers that do not fit together, NoWorkers for none; as `engine.open`, the message
    naming the worker.
    """
    if (scheduler is None) == (workers is None):
        raise ValueError("a fleet has either a scheduler's address, or workers of this machine; remedy: give one")
    for name, value in (("workers", workers), ("chunk", chunk)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; remedy: 1 or more")
    if device not in DEVICES:
        raise ValueError(f"device {device!r} is none of {', '.join(DEVICES)}, which are what workers can be told")
    settings = Settings(
        board=board if isinstance(board, str) else board.name,
        artifact=place_of(artifact),
        sha256=digest(Path(artifact)),
        device=device,
        clock_mhz=clock_mhz,
        timeout_s=timeout_s,
        early_exit=early_exit,
        retune=retune,
        task=task,
        continuous=continuous,
    )
    cluster = Cluster(scheduler, workers, patience_s)
    try:
        return (ContinuousFleet if continuous else Fleet)(cluster, settings, chunk, patience_s)
    except BaseException:
        cluster.close(settings)
        raise


class Boards:
    """Workers, each with a loaded model on a loaded overlay of its own.

    members: the workers as they were at first. shares: what each has answered by name, of results passed on. passes:
    that answered sentences, on all workers, and switches, switched_bytes likewise, of tasks.
    """

    def __init__(self, cluster: Cluster, settings: Settings, chunk: int, patience_s: float):
        self._cluster, self._settings = cluster, settings
        self.chunk, self.patience_s = chunk, patience_s
        self.members: list[Member] = cluster.members(settings)
        first = self.members[0].opened
        self._tasks, self.task_name = first.tasks, first.first
        self.shares: dict[str, Share] = {}
        self.passes = self.switches = self.switched_bytes = 0

    @property
    def scheduler(self) -> str:
        """Its address, for others who want the same workers."""
        return self._cluster.address

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of a backbone's tasks; none for a model by itself."""
        return tuple(name for name in self._tasks if name is not None)

    def task_of(self, name: str | None) -> dict:
        """The manifest's `task` of the task `name`. Raises ValueError for one that there is none of."""
        if name not in self._tasks:
            there = ", ".join(self.tasks) or "none, it is a model by itself"
            raise ValueError(f"task {name!r} is none of those there are: {there}")
        return self._tasks[name]

    @property
    def labels(self) -> list[str]:
        """Of the task to begin with."""
        return list(self.task_of(self.task_name)["labels"])

    def _results(
        self, items: Iterable, size: int, way: str, task: str | None, how: dict, least: int = 1
    ) -> Iterator[Result]:
        """The results of items that the workers' engines answer by their method `way`, in chunks of `least` to `size`
        items."""
        if self._cluster.closed:
            raise ValueError("the fleet is closed")
        work = Work(self._cluster, self._settings, way, task, how)
        stream = Stream(work, items, size, self.patience_s, least)
        with closing(stream.chunks()) as chunks:
            for answered in chunks:
                self.passes += answered.passes
                self.switches += answered.switches
                self.switched_bytes += answered.switched_bytes
                share = self.shares.setdefault(answered.worker, Share(answered.where))
                for result in answered.results:
                    stream.taken()
                    share.add(result, answered.engine_ms / len(answered.results))
                    yield result
                if answered.failure is not None:
                    raise answered.failure.error()

    def _windows(self, texts: Iterable, window: int, way: str, task: str | None, how: dict) -> Iterator[Result]:
        """Of engines where the sentences of a `window` wait for each other."""
        if window < 1:
            raise ValueError(f"a window of {window} sentences: 1 or more are needed")
        return self._results(texts, WINDOWS * window, way, task, how | {"window": window}, least=window)

    def report(self) -> list[str]:
        """Who has answered how much, a line each."""
        return list(lines(self.shares))

    def __enter__(self) -> "Boards":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close every worker's engine, and end the workers of this machine that were started for it."""
        self._cluster.close(self._settings)


class Fleet(Boards):
    """Boards that answer as an `Engine` does."""

    def stream(
        self,
        texts: Iterable[str | tuple[str, str]],
        *,
        strict: bool = False,
        latency_target_ms: float | None = None,
        task: str | None = None,
    ) -> Iterator[Result]:
        """Answer texts, or pairs of texts, in order, as `Engine.stream` does; `task` is the one to begin with if None.

        The texts are read in a thread of their own, as they come and never more than fleet_stream.READ chunks a worker
        ahead of the results that were taken. With a latency target each board retunes its wizard by the load it sees.

        What a worker had not told when it died runs on another: no text is lost, and none is told twice. Raises
        NoWorkers when there was none for patience_s, DeadlySentence for a text that ends every worker; both count the
        answers before. Closing the iterator gives up what is out.
        """
        name = self.task_name if task is None else task
        self.task_of(name)
        how = {"strict": strict, "latency_target_ms": latency_target_ms}
        return self._results(texts, self.chunk, "stream", name, how)

    def packed(
        self,
        texts: Iterable[str | tuple[str, str]],
        *,
        window: int = SHARED,
        strict: bool = False,
        latency_target_ms: float | None = None,
        task: str | None = None,
    ) -> Iterator[Result]:
        """Answer texts as `stream`, several a pass, as `Engine.packed` does on each board: a chunk is one to WINDOWS
        windows, and waits for a whole one while there are texts to come. Raises also ValueError for a model that labels
        tokens."""
        name = self.task_name if task is None else task
        if self.task_of(name)["kind"] == "token":
            raise ValueError("packed: a model that labels tokens takes one text a pass")
        how = {"strict": strict, "latency_target_ms": latency_target_ms}
        return self._windows(texts, window, "packed", name, how)

    def mixed(
        self,
        items: Iterable[tuple[str, str | tuple[str, str]]],
        *,
        window: int = WINDOW,
        strict: bool = False,
        latency_target_ms: float | None = None,
    ) -> Iterator[Result]:
        """Answer items (task, text) or (task, pair), in their order: a chunk is a window of `Engine.mixed`, of `window`
        items at most. Raises ValueError for an item that is none, behind the answers before it; else as `stream`."""
        if window < 1:
            raise ValueError(f"a window of {window} items: 1 or more are needed")
        how = {"strict": strict, "latency_target_ms": latency_target_ms, "window": window}
        return self._results(self._checked(items), window, "mixed", None, how)

    def _checked(self, items: Iterable) -> Iterator:
        for number, item in enumerate(items, 1):
            check_item(number, item, self.tasks)
            yield item


class ContinuousFleet(Boards):
    """Boards that answer as a `ContinuousEngine` does."""

    def stream(
        self, texts: Iterable[str | tuple[str, str]], *, window: int = SHARED, strict: bool = False
    ) -> Iterator[Result]:
        """Answer texts, or pairs of texts, in order, each board from queues of its own (`ContinuousEngine.stream`): a
        chunk is one to WINDOWS windows, and waits for a whole one while there are texts to come. Raises as
        `Fleet.stream`."""
        return self._windows(texts, window, "stream", self.task_name, {"strict": strict})
