"""A process that was started on a host, as the launcher holds it: here, or on another machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil

_CHUNK_BYTES = 1 << 16


class HostProcess(Protocol):
    """A process in a process group of its own."""

    @property
    def pid(self) -> int:
        """Process id on its host; also the id of its process group."""

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if it was killed."""

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it."""

    @property
    def lost(self) -> str:
        """Why its host is lost; empty while it is not."""

    def fileno(self) -> int:
        """What becomes readable when `read` has something, and when the process has ended."""

    def read(self) -> bytes:
        """What it has written to standard output since the last call; never waits."""

    def write(self, data: bytes) -> None:
        """Give it something on standard input; nothing happens if it has ended."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and whatever it has started."""

    def wait(self, until: float) -> bool:
        """Wait for the end until a point of `time.monotonic`; False if it still runs."""

    def close(self) -> None:
        """Kill what is left of it."""


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the process group of `pid`, if there is still one."""
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


class LocalProcess:
    """A child of the launcher; its standard error is the file `log`."""

    lost = ""

    def __init__(self, command: Sequence[str], *, log: Path) -> None:
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,
            )
        os.set_blocking(self.fileno(), False)

    @property
    def pid(self) -> int:
        """Process id; also the id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if it was killed."""
        return self._process.poll()

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it."""
        return is_stopped(self.pid)

    def fileno(self) -> int:
        """The pipe of its standard output."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def read(self) -> bytes:
        """What it has written to standard output; never waits."""
        try:
            return os.read(self.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Give it something on standard input."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group."""
        signal_group(self.pid, number)

    def wait(self, until: float) -> bool:
        """Wait for the end until a point of `time.monotonic`."""
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Kill what is left of it and close the pipes."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
