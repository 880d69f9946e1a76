"""The controller of one trainer: a process of its own, started, restarted and ended here.

It is started by its name only; this folder knows nothing of what runs in it. It must end by itself
when its trainer closes the socket.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rudder.training.complaint import complain
from rudder.training.steering_options import SteeringOptions

NICENESS = 5
_early: dict[Path, ControllerProcess] = {}
_FEW_THREADS = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


@dataclass(frozen=True)
class RestartBackoff:
    """Seconds to wait before a restart: `first`, doubled each time up to `longest`; after
    `restarts` in a row it is given up. One that lived for `settled` begins a new row.

    leave, terminate: how long it may take to end, by itself and when told to.
    """

    first: float = 0.5
    longest: float = 30.0
    restarts: int = 8
    settled: float = 10.0
    leave: float = 5.0
    terminate: float = 2.0


class NoController:
    """Nobody steers."""

    pid = None

    def close(self) -> None:
        """Do nothing."""


class ControllerProcess:
    """Runs `command` at a lower priority until `close`; its output goes to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        pid_file: Path | None = None,
        patience: RestartBackoff = RestartBackoff(),
    ) -> None:
        """Start it, from a thread that then watches it; pid_file: where its pid is found."""
        self._command = tuple(command)
        self._log, self._pid_file = log, pid_file
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rudder-controller", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def close(self) -> None:
        """Let it end; when that takes long, end it. Its socket should be closed before."""
        self._ending.set()
        self._thread.join(self._patience.leave)
        self._signal(signal.SIGTERM)
        self._thread.join(self._patience.terminate)
        self._signal(signal.SIGKILL)
        self._thread.join()
        atexit.unregister(self.close)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and self._thread.is_alive():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    # -- the watching thread ------------------------------------------------------------

    def _watch(self) -> None:
        failures, pause = 0, self._patience.first
        while not self._ending.is_set():
            started = time.monotonic()
            self._run_once()
            if self._ending.is_set():
                return
            if time.monotonic() - started >= self._patience.settled:
                failures, pause = 0, self._patience.first
            failures += 1
            if failures > self._patience.restarts:
                self._give_up()
                return
            self._ending.wait(pause)
            pause = min(2 * pause, self._patience.longest)

    def _run_once(self) -> None:
        """Start it and wait for its end."""
        try:
            self._process = self._start()
            if self._pid_file is not None:
                self._pid_file.write_text(f"{self._process.pid}\n")
        except OSError:
            if self._process is None:
                return
        self._process.wait()
        self._process = None
        if self._pid_file is not None:
            with suppress(OSError):
                self._pid_file.unlink(missing_ok=True)

    def _start(self) -> subprocess.Popen[bytes]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | _FEW_THREADS,
                start_new_session=True,  # Ctrl-C is the trainer's to answer
            )
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        return process

    def _give_up(self) -> None:
        complain(
            f"rudder: the controller failed {self._patience.restarts + 1} times in a row and is"
            f" given up; training goes on without it. Its log: {self._log}"
        )


def start_early(socket: Path, *, rank: int, options: SteeringOptions, folder: Path) -> None:
    """Start the controller of a loader that is yet to be made, as long as the core is idle.

    The loader whose door is at `socket` takes it over.
    """
    socket.parent.mkdir(parents=True, exist_ok=True)
    _early[socket] = _start(socket, rank=rank, options=options, folder=folder)


def controller_at(
    socket: Path, *, rank: int, options: SteeringOptions, folder: Path
) -> ControllerProcess:
    """The controller of the loader whose door is at `socket`; started, unless it was early."""
    early = _early.pop(socket, None)
    return early or _start(socket, rank=rank, options=options, folder=folder)


def pid_file_of(socket: Path) -> Path:
    """Where the process id of a socket's controller is found, while it runs."""
    return socket.with_suffix(".pid")


def _start(socket: Path, *, rank: int, options: SteeringOptions, folder: Path) -> ControllerProcess:
    return ControllerProcess(
        controller_command(socket, rank=rank, options=options, folder=folder),
        log=folder / "logs" / f"controller{rank}.log",
        pid_file=pid_file_of(socket),
    )


def controller_command(
    socket: Path, *, rank: int, options: SteeringOptions, folder: Path
) -> tuple[str, ...]:
    """The command line of a trainer's controller."""
    module = ("-P", "-m", "rudder.agents.controller")
    values = ("--socket", str(socket), "--rank", str(rank), "--folder", str(folder))
    parent = ("--parent", str(os.getpid()))
    return (sys.executable, *module, *values, *parent, "--options", options.model_dump_json())
