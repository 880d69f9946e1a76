"""Helper processes that keep namespaces alive, and that end with this process in any case."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from rudder.training.errors import MachineError

_READY = "ready"
_WAIT = f"echo {_READY} && exec cat > /dev/null"


class Holder:
    """A shell that has run `script` and then waits for the end of its standard input.

    Nobody but this process holds the other end, so the kernel ends the holder even when this
    process is killed; `after` is a shell command that the holder runs then.
    """

    def __init__(
        self,
        script: str,
        *arguments: str,
        prefix: Sequence[str] = (),
        after: str = "",
        timeout_seconds: float = 20.0,
    ) -> None:
        wait = f"echo {_READY} && cat > /dev/null; {after}" if after else _WAIT
        self._process = subprocess.Popen(
            [*prefix, "sh", "-c", f"{script} && {wait}", "holder", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if not self._is_ready(timeout_seconds):
            raise MachineError(self._complaint(), remedy="see `rudder doctor`")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def close(self) -> None:
        """End the holder at once, without its `after`."""
        self._kill()

    def _is_ready(self, timeout_seconds: float) -> bool:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], timeout_seconds)
        return bool(readable) and self._process.stdout.readline().strip() == _READY

    def _complaint(self) -> str:
        lines = self._kill().strip().splitlines()
        return lines[-1] if lines else "no answer in time"

    def _kill(self) -> str:
        """End the shell and what it has started; returns their standard error."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.communicate()[1]
