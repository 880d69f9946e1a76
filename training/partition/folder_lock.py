"""One writer of a folder at a time, over all processes of a machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_lock(folder: Path, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of `folder`, a file beside it; `on_wait` is called if another has it.

    The kernel lets go of the lock when its holder dies, however it dies.
    """
    path = folder.with_name(f".{folder.name}.lock")
    lock = _acquire(path, on_wait)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _acquire(path: Path, on_wait: Callable[[], None]) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _wait_for(lock, on_wait)
            if _is_still(path, lock):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # the last holder took the file away: lock the new one


def _wait_for(lock: int, on_wait: Callable[[], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_still(path: Path, lock: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False
