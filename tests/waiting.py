"""Waits of tests. How long something takes says nothing on a busy machine; that it comes does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

WAIT_SECONDS = 60.0
"""What takes longer does not come any more. No test that passes comes near it."""
RUN_SECONDS = 300.0
"""As long as a whole run may take."""
_POLL_SECONDS = 0.01
T = TypeVar("T")


def until(look: Callable[[], T | None], *, within_s: float = WAIT_SECONDS) -> T:
    """Look again and again for what must come; returns the first that is neither None nor false."""
    end = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < end, f"waited for {within_s:g} s"
        time.sleep(_POLL_SECONDS)
    return found


def lives(process: psutil.Process | int) -> bool:
    """Also False where it has ended, and nobody has asked for its exit status yet."""
    try:
        known = psutil.Process(process) if isinstance(process, int) else process
        return bool(known.is_running() and known.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
