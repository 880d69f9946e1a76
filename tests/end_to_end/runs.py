"""A run under its own launcher, to be watched and to be done harm to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.waiting import WAIT_SECONDS

SCRIPT = Path(__file__).parent / "scripts" / "launch.py"
SHM_FOLDER = Path("/dev/shm")


@dataclass(frozen=True)
class Outcome:
    """How a launcher ended: its exit code, its error, and everything that was said."""

    exit_code: int
    error: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def message(self) -> str:
        return str(self.error.get("message", ""))


class Run:
    """A launcher in a process of its own; training goes on until it is stopped."""

    def __init__(
        self,
        data: Path,
        run_dir: Path,
        *,
        variables: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.run_dir = run_dir
        self._events: list[dict[str, Any]] = []
        self._launcher = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(data), str(run_dir), json.dumps(options)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
        )

    @property
    def launcher_pid(self) -> int:
        """Process id of the launcher."""
        return self._launcher.pid

    def wait_for(self, role: str, rank: int, phase: str) -> None:
        """Read on until a process has entered a phase."""
        wanted = {"kind": "phase", "role": role, "rank": rank, "phase": phase}
        for event in self._read():
            if wanted.items() <= event.items():
                return
        raise AssertionError(f"the run is over without {wanted}: {self._events}")

    def wait_for_checkpoint(self, *, after: int = 0) -> int:
        """Read on until one is written in mid-epoch, after more steps than that; its steps."""
        for event in self._read():
            written = event.get("written") or {}
            if event["kind"] == "checkpoint" and written["batch"] and written["step"] > after:
                return int(written["step"])
        raise AssertionError("the run is over without such a checkpoint")

    def _read(self) -> Iterator[dict[str, Any]]:
        assert self._launcher.stdout is not None
        for line in self._launcher.stdout:
            event: dict[str, Any] = json.loads(line)
            self._events.append(event)
            yield event

    def kill(self, role: str, rank: int) -> None:
        """kill -9 a server or a trainer."""
        for process in self.processes():
            variables = process.environ()
            number = variables.get("DGL_SERVER_ID" if role == "server" else "RANK")
            if number == str(rank):
                process.kill()
                return
        raise AssertionError(f"no {role} {rank}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the launcher alone."""
        self._launcher.send_signal(number)

    def outcome(self, *, within_s: float = WAIT_SECONDS) -> Outcome:
        """The end, which has to come soon."""
        end = time.monotonic() + within_s
        list(self._read())
        exit_code = self._launcher.wait(WAIT_SECONDS)
        assert time.monotonic() < end, f"it took longer than {within_s:g} s"
        self.close()
        errors = [event for event in self._events if event["kind"] == "error"]
        return Outcome(exit_code, errors[0] if errors else {}, self._events)

    def processes(self) -> list[psutil.Process]:
        """Servers and trainers that live, whoever is their parent."""
        job = str(self.run_dir / "job.json")
        return [process for process in psutil.process_iter() if _variable(process) == job]

    def close(self) -> None:
        """End the launcher, if it still runs."""
        self._launcher.kill()
        self._launcher.wait()
        if self._launcher.stdout is not None:
            self._launcher.stdout.close()


def _variable(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("RUDDER_JOB")
    except psutil.Error:
        return None


def segments() -> set[str]:
    """Shared memory of runs on this machine."""
    return {path.name for path in SHM_FOLDER.glob("rudder.*")}
