"""How long a thread was awake: it ran, or would have run had there been a core for it."""

from __future__ import annotations

import time
from pathlib import Path

_SCHEDSTAT = Path("/proc/thread-self/schedstat")
_PER_NANOSECOND = 1e-9


def awake_seconds() -> float:
    """Of the calling thread, since it began: on a core, and ready but waiting for one.

    Where the kernel does not tell of the waiting, the time on a core alone.
    """
    try:
        ran, waited, _ = _SCHEDSTAT.read_bytes().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(ran) + int(waited)) * _PER_NANOSECOND
