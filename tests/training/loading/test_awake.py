"""Sleeping is told apart from working, and from waiting for a core."""

from __future__ import annotations

import threading
import time

from rudder.training.loading.window_meter import awake_seconds


def test_sleep_is_not_counted_and_work_is() -> None:
    begun = awake_seconds()
    time.sleep(0.2)
    slept = awake_seconds() - begun
    assert slept < 0.1
    until = time.perf_counter() + 0.2
    while time.perf_counter() < until:
        pass
    assert awake_seconds() - begun - slept > 0.1


def test_each_thread_has_its_own() -> None:
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(awake_seconds()))
    thread.start()
    thread.join()
    assert found[0] < awake_seconds()
