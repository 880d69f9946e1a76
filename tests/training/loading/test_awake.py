"""Sleeping is told apart from working, and from waiting for a core."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from rudder.training.loading.window_meter import _SCHEDSTAT, ThreadSeconds


def work(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_sleep_is_not_counted_and_work_is() -> None:
    begun, began = ThreadSeconds.now(), time.perf_counter()
    time.sleep(0.2)
    slept, took = ThreadSeconds.now(), time.perf_counter() - began
    assert (
        sum(slept) - sum(begun) < took - 0.2 + 0.02
    )  # it may have waited for a core to wake up on
    work(0.2)
    assert sum(ThreadSeconds.now()) - sum(slept) > 0.1


def test_each_thread_has_its_own() -> None:
    found: list[ThreadSeconds] = []
    thread = threading.Thread(target=lambda: found.append(ThreadSeconds.now()))
    thread.start()
    thread.join()
    assert found[0].on_core < ThreadSeconds.now().on_core


@pytest.mark.skipif(not _SCHEDSTAT.exists(), reason="this kernel does not measure the waiting")
def test_a_core_that_another_process_keeps_busy_is_waited_for() -> None:
    found: list[float] = []

    def share(core: int) -> None:
        os.sched_setaffinity(0, {core})  # this thread's; the process it starts has the same
        busy = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
        with subprocess.Popen(busy, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            begun = ThreadSeconds.now()
            work(0.3)
            found.append(ThreadSeconds.now().ready - begun.ready)
            other.kill()

    thread = threading.Thread(target=share, args=[min(os.sched_getaffinity(0))])
    thread.start()
    thread.join()
    assert found[0] > 0.05
