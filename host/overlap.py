# SPDX-License-Identifier: Apache-2.0
"""Jobs that run one after the other in a thread of their own, while the caller makes the next and uses the last."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

J = TypeVar("J")
AHEAD = 2  # jobs: one runs, one waits to follow it at once


class Overlap:
    """One thread for the work of one device."""

    def __init__(self, name: str):
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._failed = False

    def run(self, jobs: Iterator[J], work: Callable[[J], None]) -> Iterator[J]:
        """Each job once `work(job)` is over, in order. The next job is made while AHEAD − 1 others run or wait, and
        none is made before it is asked for: who takes slowly holds the jobs back.

        What `work` raises is raised in its job's place, and no other job runs after it; what making a job raises, after
        all jobs before.
        """
        running: deque[tuple[J, Future]] = deque()
        fault: Exception | None = None
        try:
            while fault is None:
                try:
                    job = next(jobs)
                except StopIteration:
                    break
                except Exception as error:
                    fault = error
                else:
                    running.append((job, self._pool.submit(self._work, work, job)))
                    if len(running) == AHEAD:
                        yield self._first(running)
            while running:
                yield self._first(running)
        finally:
            self.close()
        if fault is not None:
            raise fault

    def _work(self, work: Callable[[J], None], job: J) -> None:
        if self._failed:  # of the job before, which nobody has asked for yet
            raise CancelledError
        try:
            work(job)
        except BaseException:
            self._failed = True
            raise

    @staticmethod
    def _first(running: deque[tuple[J, Future]]) -> J:
        job, future = running.popleft()
        future.result()
        return job

    def close(self) -> None:
        """No job runs after this: one that waits never will, one that runs is waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)
