"""One process of a run: the launcher starts it, reads its events and ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rudder.training.events import Event, Failed, PhaseEntered, Reported, read_event
from rudder.training.hosts.host import Host
from rudder.training.metrics import RankReport

RoleName = Literal["server", "trainer"]
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Role:
    """Role, rank and host of a process. Servers and trainers are each counted from 0."""

    name: RoleName
    rank: int
    host: Host

    @property
    def trainer_rank(self) -> int | None:
        """Rank of a trainer; None for a server."""
        return self.rank if self.name == "trainer" else None

    def __str__(self) -> str:
        kind = "server" if self.name == "server" else "trainer, rank"
        return f"{kind} {self.rank} on {self.host.name}"


class Worker:
    """A process of a run, in a process group of its own, with its log and its latest events."""

    def __init__(
        self, role: Role, argv: Sequence[str], *, variables: Mapping[str, str], log: Path
    ) -> None:
        self.role = role
        self.log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                role.host.command(argv, variables=variables),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,
            )
        os.set_blocking(self.fileno(), False)
        self._unread = b""
        self.phase = "starting"
        self.has_trained = False
        self.failed: Failed | None = None
        self.report: RankReport | None = None
        self.last_heard = time.monotonic()

    @property
    def pid(self) -> int:
        """Process id; also the id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number if it was killed."""
        return self._process.poll()

    @property
    def killed_by(self) -> signal.Signals | None:
        """The signal that ended the process."""
        code = self.exit_code
        return signal.Signals(-code) if code is not None and code < 0 else None

    def fileno(self) -> int:
        """The pipe that carries events."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def release(self) -> None:
        """Let a trainer connect."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()

    def events(self) -> Iterator[Event]:
        """What has arrived since the last call; never waits."""
        while chunk := self._read():
            *lines, self._unread = (self._unread + chunk).split(b"\n")
            for line in lines:
                if event := read_event(line):
                    self._note(event)
                    yield event

    def _read(self) -> bytes:
        try:
            return os.read(self.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return b""

    def _note(self, event: Event) -> None:
        self.last_heard = time.monotonic()
        if isinstance(event, PhaseEntered):
            self.phase = event.phase
            self.has_trained = self.has_trained or event.phase == "training"
        elif isinstance(event, Failed):
            self.failed = event
        elif isinstance(event, Reported):
            self.report = event.report

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, until: float) -> bool:
        """Wait for the end until a point of `time.monotonic`; False if it still runs."""
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
