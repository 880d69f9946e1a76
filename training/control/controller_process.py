"""Starts, restarts and ends the controller process of a host's trainers.

The first trainer of a host starts it for all of them. Trainers know the controller's module by name
only. A controller ends by itself when all of its trainers have closed their control ports.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rudder.training.errors import complain
from rudder.training.steering_options import SteeringOptions

NICENESS = 5
"""By so much its priority is lower than its trainer's, which may run under `nice` itself."""
_MOST_NICE = 19
_early: dict[Path, ControllerProcess] = {}
_FEW_THREADS = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


@dataclass(frozen=True)
class RestartBackoff:
    """Seconds: the pause before a restart is `first`, doubled each time up to `longest`.

    restarts: in a row, before the controller is given up; settled: a controller that ran for so
    long begins a new row; leave, terminate: how long it may take to end by itself, and when told.
    """

    first: float = 0.5
    longest: float = 30.0
    restarts: int = 8
    settled: float = 10.0
    leave: float = 5.0
    terminate: float = 2.0


class ControllerProcess:
    """Runs `command` at a lower priority until `close`; its output goes to `log`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        pid_files: Sequence[Path] = (),
        backoff: RestartBackoff = RestartBackoff(),
    ) -> None:
        """Start it, from a thread that then watches it; pid_files: where its pid is found."""
        self._command = tuple(command)
        self._log, self._pid_files = log, tuple(pid_files)
        self._backoff = backoff
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
        """Let it end, and after a while make it end. The control port should be closed before."""
        self._ending.set()
        self._thread.join(self._backoff.leave)
        self._signal(signal.SIGTERM)
        self._thread.join(self._backoff.terminate)
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
        backoff = self._backoff
        failures, pause = 0, backoff.first
        while not self._ending.is_set():
            started = time.monotonic()
            self._run_once()
            if time.monotonic() - started >= backoff.settled:
                failures, pause = 0, backoff.first
            failures += 1
            if failures > backoff.restarts and not self._ending.is_set():
                complain(
                    f"rudder: the controller failed {failures} times in a row and is given up;"
                    f" training goes on without it. Its log: {self._log}"
                )
                return
            self._ending.wait(pause)
            pause = min(2 * pause, backoff.longest)

    def _run_once(self) -> None:
        """Start it and wait for its end; where it cannot be started, that is a failure."""
        with suppress(OSError):
            self._process = self._start()
        if self._process is None:
            return
        for file in self._pid_files:
            with suppress(OSError):
                file.write_text(f"{self._process.pid}\n")
        self._process.wait()
        self._process = None
        for file in self._pid_files:
            with suppress(OSError):
                file.unlink(missing_ok=True)

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
            nice = min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, _MOST_NICE)
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)
        return process


def start_early(socket: Path, *, rank: int, options: SteeringOptions, folder: Path) -> None:
    """Start the controller of a loader that is yet to be made, while the core is idle.

    The loader whose control port is at `socket` takes it over.
    """
    socket.parent.mkdir(parents=True, exist_ok=True)
    controller = controller_at(socket, rank=rank, options=options, folder=folder)
    if controller is not None:
        _early[socket] = controller


def controller_at(
    socket: Path, *, rank: int, options: SteeringOptions, folder: Path
) -> ControllerProcess | None:
    """The controller of the loader whose control port is at `socket`, and of those of the same name
    in the host's other trainers; started if need be. None: the host's first trainer has it."""
    if socket in _early:
        return _early.pop(socket)
    sockets = sockets_of_host(socket, rank=rank)
    if rank != min(sockets):
        return None
    return ControllerProcess(
        controller_command(sockets, options=options, folder=folder),
        log=folder / "logs" / f"controller{rank}.log",
        pid_files=[pid_file_of(each) for each in sockets.values()],
    )


def sockets_of_host(socket: Path, *, rank: int) -> dict[int, Path]:
    """The control sockets that one controller serves, by rank: those of all trainers of the host,
    where the launcher has told which these are and a socket is named by its rank."""
    own = f"rank{rank}"
    if not socket.name.startswith(own):
        return {rank: socket}
    rest = socket.name.removeprefix(own)
    return {each: socket.with_name(f"rank{each}{rest}") for each in _ranks_on_host(rank)}


def _ranks_on_host(rank: int) -> Sequence[int]:
    """As torch's launchers or srun tell a trainer; only its own rank where none has.

    srun lists the tasks of a node, which need not follow each other, and may be servers, too.
    """
    values = os.environ
    if "LOCAL_RANK" not in values and values.get("SLURM_PROCID") == str(rank):
        tasks = [int(task) for task in values.get("SLURM_GTIDS", "").split(",") if task.isdecimal()]
        trainers = range(int(values.get("WORLD_SIZE", rank + 1)))
        return sorted({rank, *(task for task in tasks if task in trainers)})
    try:
        local, count = int(values["LOCAL_RANK"]), int(values["LOCAL_WORLD_SIZE"])
    except (KeyError, ValueError):
        return [rank]
    first = rank - local
    return range(first, first + count) if 0 <= local < count and first >= 0 else [rank]


def pid_file_of(socket: Path) -> Path:
    """Where the process id of a socket's controller is found, while it runs."""
    return socket.with_suffix(".pid")


def controller_command(
    sockets: Mapping[int, Path], *, options: SteeringOptions, folder: Path
) -> tuple[str, ...]:
    """The command line of the controller of trainers, by rank."""
    module = ("-P", "-m", "rudder.agents.controller")
    trainers = [part for pair in sockets.items() for part in ("--trainer", *map(str, pair))]
    values = ("--folder", str(folder), "--parent", str(os.getpid()))
    return (sys.executable, *module, *trainers, *values, "--options", options.model_dump_json())
