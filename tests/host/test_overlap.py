# SPDX-License-Identifier: Apache-2.0
"""Jobs in a thread of their own: what runs beside what, who waits for whom, what becomes of a failure. No clock."""

import threading
import time

import pytest
from zynqbert.host.overlap import AHEAD, Overlap

TIMEOUT_S = 10


class Device:
    """Work that ends when it is let; the order of all that happens."""

    def __init__(self, free=False):
        self.events, self.gates, self.free = [], [threading.Event() for _ in range(20)], free

    def jobs(self, count):
        for job in range(count):
            self.events.append(("made", job))
            yield job

    def work(self, job):
        self.events.append(("begun", job))
        if not self.free:
            assert self.gates[job].wait(TIMEOUT_S)
        self.events.append(("ended", job))


def test_the_next_job_is_made_and_waits_while_one_runs():
    device, overlap = Device(), Overlap("test")
    made = []

    def jobs():
        for job in device.jobs(4):
            made.append(job)
            if job == 1:  # job 0 runs and cannot end before job 1 has been made beside it
                device.gates[0].set()
            yield job

    results = overlap.run(jobs(), device.work)
    assert next(results) == 0 and made == [0, 1]
    assert device.events.index(("made", 1)) < device.events.index(("ended", 0))
    device.gates[1].set()  # with nobody asking: it was next
    for gate in device.gates:
        gate.set()
    assert list(results) == [1, 2, 3]
    ran = [job for what, job in device.events if what == "begun"]
    assert ran == [0, 1, 2, 3] and threading.current_thread().name not in ("test_0",)


def test_a_waiting_job_begins_without_the_caller():
    device, overlap = Device(), Overlap("test")
    results = overlap.run(device.jobs(3), device.work)
    device.gates[0].set()
    assert next(results) == 0
    begun = threading.Event()
    device.gates[1].set()

    def watch():
        while ("ended", 1) not in device.events:
            pass
        begun.set()

    threading.Thread(target=watch, daemon=True).start()
    assert begun.wait(TIMEOUT_S)  # the caller has not asked for job 1 yet
    device.gates[2].set()
    assert list(results) == [1, 2]


def test_who_takes_slowly_holds_the_jobs_back():
    device, overlap = Device(free=True), Overlap("test")
    results = overlap.run(device.jobs(10), device.work)
    assert device.events == []
    for taken in range(1, 5):
        next(results)
        assert sum(what == "made" for what, _ in device.events) == taken + AHEAD - 1
    results.close()


def test_a_failure_is_raised_in_its_place_and_ends_all():
    overlap, ran = Overlap("test"), []

    def work(job):
        ran.append(job)
        if job == 2:
            time.sleep(0.1)  # until job 3 waits behind it, and whoever asks for job 2 as well
            raise RuntimeError("job 2")

    results, got = overlap.run(iter(range(10)), work), []
    with pytest.raises(RuntimeError, match="job 2"):
        for job in results:
            got.append(job)
    overlap.close()
    assert got == [0, 1] and ran == [0, 1, 2]  # job 3 waited already, and never ran


def test_closing_waits_for_the_job_that_runs_and_drops_the_one_that_waits():
    device, overlap = Device(), Overlap("test")
    results = overlap.run(device.jobs(5), device.work)
    device.gates[0].set()
    assert next(results) == 0
    # job 1 runs; what closes the stream must not leave it running
    threading.Timer(0.05, device.gates[1].set).start()
    results.close()
    events = list(device.events)
    assert ("begun", 2) not in events and (("begun", 1) in events) == (("ended", 1) in events)


def test_what_making_a_job_raises_comes_after_all_before():
    def jobs():
        yield from range(3)
        raise KeyError("texts")

    overlap, ran, got = Overlap("test"), [], []
    with pytest.raises(KeyError):
        for job in overlap.run(jobs(), ran.append):
            got.append(job)
    assert ran == got == [0, 1, 2]
