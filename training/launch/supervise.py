"""Watches the processes of a run: passes events on, and ends a run that fails or stalls."""

from __future__ import annotations

import logging
import re
import selectors
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

from rudder.training.checkpoint.format import FOLDER
from rudder.training.errors import RunError, StoppedError
from rudder.training.events import Event
from rudder.training.launch.worker import Worker
from rudder.training.metrics import RankReport
from rudder.training.process.stop import STOP_SIGNALS
from rudder.training.process.worker import STACKS_SIGNAL

_LOG_BYTES = 64 * 1024
_LOG_LINES = 6
_NOISE = re.compile(
    r"^\s*$|^Client\[|^Initialize the distributed|^Machine \(|^Client \[|Warning|^\s+warnings\.warn"
    r"|^Server is|^load |^Start to create|^Finished creating|^start graph service"
)
_LOST_PEER = re.compile(
    r"closed by (?:remote )?peer|[Cc]onnection (?:reset|refused|closed)|[Bb]roken pipe|dmlc::Error"
    r"|gradients of another rank",
)
_WHEN = {
    "starting": "before it was connected",
    "connected": "before it began to train",
    "training": "while it trained",
    "evaluating": "while it evaluated",
    "finished": "when it had finished",
}
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_SETTLE_SECONDS = 1.0
"""Wait after the first failure, so that its cause is seen, too."""
_GOODBYE_SECONDS = 20.0
_STACKS_SECONDS = 0.3
_STOP_SECONDS = 120.0
"""How long trainers may take to agree on a step and to write a last checkpoint."""


def as_error(failures: Mapping[Worker, str], *, ran_out_of_memory: bool) -> RunError:
    """The error of the failure that explains the others, of equals the first one.

    It names host, rank, what happened, what the log says and what to do. failures: what happened
    to each process that failed or ended too early, in the order in which it was seen.
    """
    worker = min(failures, key=_weight)
    if worker.failed is not None:
        message = f"{worker.role} failed {_when(worker)}: {worker.failed.message}"
        remedy = worker.failed.remedy
    else:
        message = f"{worker.role} {failures[worker]} {_when(worker)}{quote(worker.log)}"
        remedy = _remedy(worker, ran_out_of_memory=ran_out_of_memory)
    error = RunError(
        f"{message}\n  log: {worker.log}",
        remedy=remedy,
        host=worker.role.host.name,
        rank=worker.role.trainer_rank,
        lost_hosts=tuple(sorted({each.role.host.name for each in failures if each.lost})),
    )
    if worker.failed is not None:
        error.exit_code = worker.failed.exit_code
    return error


def _weight(worker: Worker) -> int:
    """0: killed from outside; 1: failed by itself; 2: lost a peer that failed."""
    failed, killed_by = worker.failed, worker.killed_by
    if killed_by is not None and killed_by is not signal.SIGABRT:
        return 0
    has_lost_peer = bool(_LOST_PEER.search(failed.message)) if failed else killed_by is not None
    return 2 if has_lost_peer else 1


def quote(log: Path) -> str:
    """The last informative lines of a log, indented; empty if there are none."""
    lines = [line for line in _tail(log) if not _NOISE.search(line)][-_LOG_LINES:]
    return "".join(f"\n    {line}" for line in lines)


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _LOG_BYTES))
            return stream.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _when(worker: Worker) -> str:
    """What the process was doing."""
    if worker.role.name == "server":
        return "while it served" if worker.phase == "connected" else "while it loaded its partition"
    return _WHEN[worker.phase]


def _remedy(worker: Worker, *, ran_out_of_memory: bool) -> str:
    killed_by = worker.killed_by
    if worker.lost:
        return "see whether the machine and its network are up; then start the run again"
    if killed_by is signal.SIGKILL and ran_out_of_memory:
        return (
            "the machine ran out of memory (the kernel says so in `dmesg`): use a smaller --buffer,"
            " --batch-size or --lookahead, fewer trainers, or a machine with more memory"
        )
    if killed_by is signal.SIGKILL:
        return (
            "somebody killed it, or a memory limit did (`dmesg` and the job's limits tell);"
            " if it was memory, use a smaller --buffer or --batch-size"
        )
    if killed_by is signal.SIGBUS:
        return "shared memory is full: free /dev/shm or make it larger (`rudder doctor` shows it)"
    if worker.role.name == "server" and worker.phase != "connected":
        return "its partition may be damaged: prepare the graph again (`rudder prepare`)"
    return "read the log; `rudder doctor` checks the machine"


class Interruption:
    """While entered, Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 are noted in `signals`, not obeyed.

    Outside the main thread nothing is changed: Python delivers signals to the main thread only.
    """

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.signals.append(signal.Signals(number))


class Supervisor:
    """Follows servers and trainers from their start to the reports of all trainers."""

    def __init__(
        self,
        *,
        servers: Sequence[Worker],
        trainers: Sequence[Worker],
        on_event: Callable[[Event], None],
        interruption: Interruption,
        start_timeout: float,
        stall_timeout: float,
        writes_checkpoints: bool = False,
    ) -> None:
        """writes_checkpoints: trainers that are told to stop write one before they end."""
        self._writes_checkpoints, self._stop_until = writes_checkpoints, 0.0
        self._servers, self._trainers = servers, trainers
        self._workers = [*servers, *trainers]
        self._on_event = on_event
        self._interruption = interruption
        self._start_timeout, self._stall_timeout = start_timeout, stall_timeout
        self._started = time.monotonic()
        self._memory_kills = self._kills_for_memory()
        self._are_released = False
        self._failures: dict[Worker, str] = {}
        self._selector = selectors.DefaultSelector()

    def run(self) -> list[RankReport]:
        """Follow the run to its end; raises RunError when it fails, StoppedError if it stops."""
        with self._selector:
            for worker in self._workers:
                self._selector.register(worker, selectors.EVENT_READ)
            while not self._is_done():
                self._listen()
                self._release_trainers()
                self._check()
            self._wait_for_goodbye()
        if any(worker.stopped is not None for worker in self._trainers):
            raise self._stopped()
        return [worker.report for worker in self._trainers if worker.report is not None]

    def _is_done(self) -> bool:
        return all(_has_ended_well(worker) for worker in self._trainers)

    def _listen(self) -> None:
        for key, _ in self._selector.select(_POLL_SECONDS):
            worker = key.fileobj
            assert isinstance(worker, Worker)
            self._hand_on(worker)
            if worker.exit_code is not None:
                self._selector.unregister(worker)

    def _hand_on(self, worker: Worker) -> None:
        for event in worker.events():
            self._on_event(event)

    def _release_trainers(self) -> None:
        if self._are_released or any(m.phase != "connected" for m in self._servers):
            return
        self._are_released = True
        for trainer in self._trainers:
            trainer.release()

    def _check(self) -> None:
        self._obey_signals()
        self._note_failures()
        if self._failures:
            raise self._explained()
        self._check_times()

    def _obey_signals(self) -> None:
        """A first SIGTERM or SIGUSR1 has trainers write a checkpoint; all else ends the run."""
        signals = self._interruption.signals
        if not signals:
            return
        may_stop = self._writes_checkpoints and all(each.has_trained for each in self._trainers)
        if len(signals) > 1 or signals[0] not in STOP_SIGNALS or not may_stop:
            raise self._interrupted(signals[-1])
        now = time.monotonic()
        if not self._stop_until:
            self._stop_until = now + _STOP_SECONDS
            for trainer in self._trainers:
                trainer.signal(STOP_SIGNALS[0])
        if now > self._stop_until:
            raise self._interrupted(signals[0])

    def _note_failures(self) -> None:
        workers = self._workers
        if all(worker.exit_code is None and worker.failed is None for worker in workers):
            return
        for worker in workers:
            self._hand_on(worker)
        if self._is_done():
            return
        for worker in workers:
            if worker not in self._failures and (what := _complaint(worker)):
                self._failures[worker] = what

    def _explained(self) -> RunError:
        until = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < until:
            self._listen()
            self._note_failures()
        ran_out_of_memory = self._kills_for_memory() > self._memory_kills
        return as_error(self._failures, ran_out_of_memory=ran_out_of_memory)

    def _kills_for_memory(self) -> int:
        """Of all machines of the run."""
        return max(worker.role.host.memory_kills() for worker in self._workers)

    def _check_times(self) -> None:
        now, trainers = time.monotonic(), self._trainers
        late = [worker for worker in trainers if not worker.has_trained]
        if late and now - self._started > self._start_timeout:
            waiting = [worker for worker in self._servers if worker.phase != "connected"]
            raise self._stuck(
                waiting or late,
                f"has not begun to train within {self._start_timeout:g} s",
                remedy="give it longer with --start-timeout, or read its log",
            )
        if not late and now - max(m.last_heard for m in trainers) > self._stall_timeout:
            raise self._stuck(
                trainers,
                f"has made no progress for {self._stall_timeout:g} s",
                remedy="give it longer with --stall-timeout, or read its log",
            )

    def _stuck(self, candidates: Sequence[Worker], what: str, *, remedy: str) -> RunError:
        stopped = [worker for worker in self._workers if worker.is_stopped]
        worker = min(stopped or candidates, key=lambda worker: worker.last_heard)
        if stopped:
            what, remedy = f"{what}: it is stopped", f"continue it with `kill -CONT {worker.pid}`"
        for each in self._workers:
            each.signal(STACKS_SIGNAL)
        time.sleep(_STACKS_SECONDS)
        return RunError(
            f"{worker.role} {what} (it is {worker.phase})\n  log, with all stacks: {worker.log}",
            remedy=remedy,
            host=worker.role.host.name,
            rank=worker.role.trainer_rank,
        )

    def _interrupted(self, number: signal.Signals) -> RunError:
        by = "Ctrl-C" if number is signal.SIGINT else number.name
        return RunError(
            f"the run was ended by {by}\n  logs: {self._servers[0].log.parent}",
            remedy="start it again, with another run folder",
            is_wanted=True,
        )

    def _stopped(self) -> RunError:
        """The trainers have stopped because they were told to."""
        signals = self._interruption.signals
        by = f" by {signals[0].name}" if signals else ""
        run_dir = self._servers[0].log.parent.parent
        last = next((each.stopped.written for each in self._trainers if each.stopped), None)
        if last is None or last.error is not None:
            why = f": {last.error}" if last is not None else ""
            return RunError(
                f"the run was stopped{by}, but its last checkpoint could not be written{why}",
                remedy=f"make room, and go on from an earlier one: rudder train --resume {run_dir}",
            )
        return StoppedError(
            f"the run was stopped{by} in epoch {last.epoch + 1} after {last.step:,} steps;"
            f" its state is in {run_dir / FOLDER / last.name}",
            remedy=f"go on with: rudder train --resume {run_dir}",
        )

    def _wait_for_goodbye(self) -> None:
        """Wait until the processes have ended; those that have not are killed with the run."""
        until = time.monotonic() + _GOODBYE_SECONDS
        while any(worker.exit_code is None for worker in self._workers):
            if time.monotonic() > until or (self._interruption.signals and not self._stop_until):
                _log.warning("some processes did not end by themselves after their reports")
                return
            self._listen()
        for worker in self._workers:
            self._hand_on(worker)
            if worker.exit_code != 0:
                _log.warning("%s ended with %s after its report", worker.role, worker.exit_code)


def _complaint(worker: Worker) -> str | None:
    """What is wrong with a process while some trainer has not reported; None if nothing is."""
    if worker.lost:
        return f"is lost with its host: {worker.lost}"
    if worker.failed is not None:
        return "failed"
    if worker.exit_code is None or (worker.exit_code == 0 and _has_ended_well(worker)):
        return None
    if worker.killed_by is not None:
        return f"was killed by {worker.killed_by.name}"
    if worker.exit_code != 0:
        return f"ended with exit code {worker.exit_code}"
    return "ended before the run was over"


def _has_ended_well(worker: Worker) -> bool:
    """Whether a trainer has said all that it had to say."""
    return worker.report is not None or worker.stopped is not None
