"""What is looked at again and again within a block."""

from __future__ import annotations

import threading

from rudder.training.repeating import repeating
from tests.waiting import until


def test_it_is_called_again_and_again_and_not_after_the_block() -> None:
    calls: list[str] = []
    with repeating(lambda: calls.append(threading.current_thread().name), every_s=0.001, name="x"):
        until(lambda: len(calls) >= 3)
    assert set(calls) == {"x"}
    assert "x" not in [thread.name for thread in threading.enumerate()]


def test_a_call_that_runs_at_the_end_is_waited_for() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def look() -> None:
        begun.set()
        may_end.wait()
        ended.set()

    with repeating(look, every_s=0.001, name="x"):
        begun.wait()
        threading.Timer(0.1, may_end.set).start()
    assert ended.is_set()
