"""Watches the processes of a run: passes events on, and ends a run that fails or stalls."""

from __future__ import annotations

import logging
import selectors
import signal
import time
from collections.abc import Callable, Sequence

import psutil

from rudder.training.errors import RunError
from rudder.training.events import Event
from rudder.training.launch.failure import as_error, kills_for_memory
from rudder.training.launch.interruption import Interruption
from rudder.training.launch.worker import Worker
from rudder.training.metrics import RankReport

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_SETTLE_SECONDS = 1.0
"""Wait after the first failure, so that its cause is seen, too."""
_GOODBYE_SECONDS = 20.0
_STACKS_SECONDS = 0.3


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
    ) -> None:
        self._servers, self._trainers = servers, trainers
        self._workers = [*servers, *trainers]
        self._on_event = on_event
        self._interruption = interruption
        self._start_timeout, self._stall_timeout = start_timeout, stall_timeout
        self._started = time.monotonic()
        self._memory_kills = kills_for_memory()
        self._are_released = False
        self._failures: dict[Worker, str] = {}
        self._selector = selectors.DefaultSelector()

    def run(self) -> list[RankReport]:
        """Follow the run to its end; raises RunError when it fails."""
        with self._selector:
            for worker in self._workers:
                self._selector.register(worker, selectors.EVENT_READ)
            while not self._is_done():
                self._listen()
                self._release_trainers()
                self._check()
            self._wait_for_goodbye()
        return [worker.report for worker in self._trainers if worker.report is not None]

    def _is_done(self) -> bool:
        return all(worker.report is not None for worker in self._trainers)

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
        if self._interruption.signal is not None:
            raise self._interrupted(self._interruption.signal)
        self._note_failures()
        if self._failures:
            raise self._explained()
        self._check_times()

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
        ran_out_of_memory = kills_for_memory() > self._memory_kills
        return as_error(self._failures, ran_out_of_memory=ran_out_of_memory)

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
        stopped = [worker for worker in self._workers if _is_stopped(worker)]
        worker = min(stopped or candidates, key=lambda worker: worker.last_heard)
        if stopped:
            what, remedy = f"{what}: it is stopped", f"continue it with `kill -CONT {worker.pid}`"
        for each in self._workers:
            each.signal(signal.SIGUSR1)
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
        )

    def _wait_for_goodbye(self) -> None:
        """Wait until the processes have ended; those that have not are killed with the run."""
        until = time.monotonic() + _GOODBYE_SECONDS
        while any(worker.exit_code is None for worker in self._workers):
            if time.monotonic() > until or self._interruption.signal is not None:
                _log.warning("some processes did not end by themselves after their reports")
                return
            self._listen()
        for worker in self._workers:
            self._hand_on(worker)
            if worker.exit_code != 0:
                _log.warning("%s ended with %s after its report", worker.role, worker.exit_code)


def _complaint(worker: Worker) -> str | None:
    """What is wrong with a process while some trainer has not reported; None if nothing is."""
    if worker.failed is not None:
        return "failed"
    if worker.exit_code is None or (worker.exit_code == 0 and worker.report is not None):
        return None
    if worker.killed_by is not None:
        return f"was killed by {worker.killed_by.name}"
    if worker.exit_code != 0:
        return f"ended with exit code {worker.exit_code}"
    return "ended before the run was over"


def _is_stopped(worker: Worker) -> bool:
    try:
        return bool(psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
