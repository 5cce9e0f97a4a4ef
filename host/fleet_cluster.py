# SPDX-License-Identifier: Apache-2.0
"""The workers of a dask.distributed scheduler: found or started, held against each other, given chunks to answer."""

import logging
import re
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

from . import fleet_worker
from .errors import HostError
from .fleet_errors import FleetError, Killed, NoWorkers
from .fleet_stream import Chunk
from .fleet_worker import Answered, Opened, Settings
from .inputs import InputError

logger = logging.getLogger(__name__)

CONNECT_S = 10.0
CALL_S = 5.0  # what the scheduler may take to say who is there
FETCH_S = 5.0  # what the results of a chunk may take from there to here, before one looks whether they are lost
RELEASE_S = 10.0
ADDRESS = re.compile(r"[a-z]+://\S+:\d+")
# What dask gives a local worker to come back before it gives its name up: it looks once, so long after a death, and
# would end one that has died a second time and is just being started again.
LOST = "24 h"
# How often a local worker may die over a chunk before its sentences are tried one by one, and over one of these before
# it is told: a death by accident takes no sentence with it either way.
DEATHS = 1


@dataclass(frozen=True)
class Member:
    """A worker as it was when the fleet was opened."""

    address: str
    name: str
    pid: int
    host: str
    opened: Opened


class Cluster:
    """A scheduler and its workers, as a `fleet_stream.Pool`. Close it after use: what it has started ends then.

    scheduler: its address, or None for `workers` processes of this machine. patience_s: how long to wait for the first.
    Raises InputError without dask.distributed; FleetError, NoWorkers.
    """

    def __init__(self, scheduler: str | None, workers: int | None, patience_s: float, preload: Sequence[str] = ()):
        self._local = self.client = None
        self._settings = ExitStack()  # of dask, while local workers live
        _needs_distributed()
        try:
            if scheduler is None:
                self._settings.enter_context(_no_worker_is_given_up())
                with _interrupts_later():
                    self._local = _local(workers, preload)
                self.address = self._local.scheduler_address
                self.remedy = "run what is left with fewer workers: is there enough memory?"
            else:
                self.address = scheduler
                self.remedy = f"start workers (dask worker {scheduler} --nthreads 1) and run what is left"
            self.client = _client(self.address)
            self._wait_for_one(patience_s)
            self._seen = self.threads()
        except BaseException:
            self.close()
            raise

    def _wait_for_one(self, patience_s: float) -> None:
        from distributed import TimeoutError

        try:
            self.client.wait_for_workers(1, timeout=patience_s)
        except TimeoutError:
            fault = f"scheduler {self.address} has no worker, after {patience_s:g} s"
            remedy = f"dask worker {self.address} --nthreads 1 --nworkers 1 on each board"
            raise NoWorkers(fault, remedy) from None

    def members(self, settings: Settings) -> list[Member]:
        """Every worker that there is, each with its engine open. FleetError, and errors of `engine.open`, name the
        worker that is not as it should be."""
        threads = self.threads()
        said = self.client.run(fleet_worker.describe, settings.device, workers=list(threads), on_error="return")
        said = {address: found for address, found in said.items() if not isinstance(found, OSError)}  # who is gone
        check_workers(said, threads)
        addresses = list(said)
        # Where kernels are to be compiled, one does it and the others find them.
        engines = self._prepared(settings, addresses[:1]) | self._prepared(settings, addresses[1:])
        if not engines:
            raise NoWorkers(f"no worker of {self.address} is left", self.remedy)
        described = {address: said[address] for address in engines}
        return [
            Member(address, found["name"], found["pid"], found["host"], engines[address])
            for address, found in described.items()
        ]

    def _prepared(self, settings: Settings, addresses: Sequence[str]) -> dict[str, Opened]:
        """Their engines by address; a worker that ends meanwhile has none."""
        from distributed import TimeoutError

        engines, futures = {}, self._at_each(fleet_worker.prepare, settings, addresses)
        for address, future in futures.items():
            while address in self.threads():
                try:
                    engine = future.result(timeout=1)
                except TimeoutError:
                    continue
                if isinstance(engine, fleet_worker.Failure):
                    raise engine.error()
                engines[address] = engine
                break
        self.client.cancel(list(futures.values()))
        return engines

    def _at_each(self, function, settings: Settings, addresses: Sequence[str]) -> dict[str, Any]:
        return {
            address: self.client.submit(function, settings, workers=[address], pure=False, key=_key(function.__name__))
            for address in addresses
        }

    def threads(self) -> dict[str, int]:
        """The workers by address, and how many threads each has; none where the scheduler does not say."""
        from distributed import TimeoutError

        try:
            return dict(self.client.nthreads(callback_timeout=CALL_S))
        except (OSError, TimeoutError):
            return {}

    # What a stream asks of its workers

    def count(self) -> int:
        """The workers there are; one that is gone is logged."""
        now = self.threads()
        for address in self._seen.keys() - now.keys():
            logger.warning("worker %s is gone; what it had not told runs elsewhere", address)
        for address in now.keys() - self._seen.keys():
            logger.info("worker %s has come", address)
        self._seen = now
        return len(now)

    def done(self, future) -> bool:
        """Finished and not lost, failed, or given up."""
        return future.status in ("finished", "error", "cancelled")

    def result(self, future) -> Answered | None:
        """As `fleet_stream.Pool`; FleetError where the scheduler is lost."""
        from distributed import CancelledError, KilledWorker, TimeoutError

        try:
            return future.result(timeout=FETCH_S)
        except TimeoutError:
            return None
        except KilledWorker as killed:
            raise Killed(killed.allowed_failures + 1) from None
        except CancelledError:
            fault = f"scheduler {self.address}: the connection is lost"
            raise FleetError(f"{fault}; remedy: look at its log, and run what is left") from None

    def cancel(self, futures: Sequence) -> None:
        """Nobody waits for them; what runs runs on to its chunk's end."""
        if futures and self.client is not None and self.client.status == "running":
            self.client.cancel(list(futures))

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.client is None

    def close(self, settings: Settings | None = None) -> None:
        """Close the engines with these settings, and end the workers that this has started."""
        if self.client is not None:
            if settings is not None and self.client.status == "running":
                self._release(settings)
            self.client.close()
        if self._local is not None:
            self._local.close()
        self.client = self._local = None
        self._settings.close()

    def _release(self, settings: Settings) -> None:
        from distributed import TimeoutError

        try:
            for future in self._at_each(fleet_worker.release, settings, list(self.threads())).values():
                future.result(timeout=RELEASE_S)
        except (OSError, TimeoutError):
            logger.warning("not every worker of %s said that its engine is closed", self.address)


class Work:
    """The pool of one stream, whose chunks fleet_worker.answer answers with this `way`, `task` and `how`."""

    def __init__(self, cluster: Cluster, settings: Settings, way: str, task: str | None, how: Mapping[str, Any]):
        self._cluster, self._settings, self._asked = cluster, settings, (way, task, dict(how))
        self.remedy, self.count = cluster.remedy, cluster.count
        self.done, self.result, self.cancel = cluster.done, cluster.result, cluster.cancel

    def submit(self, chunk: Chunk):
        """Have the chunk answered by whoever is free, those in front first."""
        given, how = (self._settings, list(chunk.items), *self._asked), {"pure": False, "priority": -chunk.first}
        return self._cluster.client.submit(fleet_worker.answer, *given, key=_key("answer"), **how)


def check_workers(said: Mapping[str, Any], threads: Mapping[str, int]) -> None:
    """Hold what workers `said` of themselves (fleet_worker.describe, or an error) against this host and each other.

    Raises FleetError for another version, more threads than one, and two workers on one board.
    """
    boards: dict[str, str] = {}
    ours = fleet_worker.versions()
    for address, found in said.items():
        if isinstance(found, HostError):  # with its remedy
            raise FleetError(f"worker {address}: {found}")
        if isinstance(found, Exception):
            fault = f"worker {address}: {type(found).__name__}: {found}"
            raise FleetError(f"{fault}; remedy: install zynqbert there as it is here, pip install 'zynqbert[fleet]'")
        name = found["name"]
        for package, version in ours.items():
            if found["versions"][package] != version:
                fault = f"{name} on {found['host']} has {package} {found['versions'][package]}, this host {version}"
                raise FleetError(f"{fault}; remedy: install one version everywhere")
        if threads.get(address, 1) != 1:
            fault = f"{name} on {found['host']} has {threads[address]} threads, an engine takes one"
            raise FleetError(f"{fault}; remedy: dask worker … --nthreads 1")
        if found["on_board"] and (other := boards.setdefault(found["host"], name)) != name:
            fault = f"{other} and {name} are both on {found['host']}, whose board has one engine"
            raise FleetError(f"{fault}; remedy: one worker a board (--nworkers 1, --workers 1), or --device emulated")


def _needs_distributed() -> None:
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError as error:
        fault = f"a fleet of workers needs {error.name}"
        raise InputError(f"{fault}; remedy: pip install 'zynqbert[fleet]'") from None


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """A Ctrl-C is for the process that reads the answers, which ends the others in good order: it waits until these
    have started, and none of them ever sees one, for processes have the mask of the thread that starts them."""
    resource_tracker.ensure_running()  # whichever thread starts it has SIGINT unblocked then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _no_worker_is_given_up():
    import dask

    return dask.config.set({"distributed.deploy.lost-worker-timeout": LOST})


def _local(workers: int, preload: Sequence[str]):
    """A scheduler here and `workers` processes, each with a nanny: one that dies is started again, so that a stream
    keeps its pace and a deadly sentence does not end them all."""
    import dask
    from distributed import LocalCluster

    with dask.config.set({"distributed.worker.profile.enabled": False}):
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                protocol="tcp://",
                dashboard_address=":0",  # any port; with None it is 8787, which another may have
                memory_limit=None,
                silence_logs=logging.CRITICAL,
                scheduler_kwargs={"allowed_failures": DEATHS},
                preload=list(preload),
            )
        except (OSError, RuntimeError) as error:
            fault = f"local workers did not start: {type(error).__name__}: {error}"
            remedy = 'a script opens its fleet below `if __name__ == "__main__":`, for workers import it'
            raise FleetError(f"{fault}; remedy: {remedy}") from error


def _client(address: str):
    from distributed import Client

    if not ADDRESS.fullmatch(address):
        raise FleetError(f"scheduler {address}: no address; remedy: as dask scheduler tells it, tcp://HOST:8786")
    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        fault = f"scheduler {address}: {error}"
        remedy = "start one (dask scheduler), and give its address, tcp://HOST:8786"
        raise FleetError(f"{' '.join(fault.split())}; remedy: {remedy}") from None


def _key(name: str) -> str:
    return f"zynqbert-{name}-{uuid.uuid4().hex}"
