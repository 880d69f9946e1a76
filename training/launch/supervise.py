"""Watches the processes of a run: hands on events, and ends a run that has gone wrong."""

from __future__ import annotations

import logging
import selectors
import signal
import time
from collections.abc import Callable, Sequence

import psutil

from rudder.training.errors import RunError
from rudder.training.events import Event
from rudder.training.launch.failure import Failure, as_error, kills_for_memory, root_cause
from rudder.training.launch.interruption import Interruption
from rudder.training.launch.member import Member
from rudder.training.metrics import RankReport

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.1
_SETTLE_SECONDS = 1.0
"""How long to wait after the first failure for the one that caused it."""
_GOODBYE_SECONDS = 20.0
_STACKS_SECONDS = 0.3


class Supervisor:
    """Follows servers and trainers from their start to the reports of all trainers."""

    def __init__(
        self,
        *,
        servers: Sequence[Member],
        trainers: Sequence[Member],
        on_event: Callable[[Event], None],
        interruption: Interruption,
        start_timeout: float,
        stall_timeout: float,
    ) -> None:
        self._servers, self._trainers = servers, trainers
        self._members = [*servers, *trainers]
        self._on_event = on_event
        self._interruption = interruption
        self._start_timeout, self._stall_timeout = start_timeout, stall_timeout
        self._started = time.monotonic()
        self._memory_kills = kills_for_memory()
        self._are_released = False
        self._failures: dict[Member, Failure] = {}
        self._selector = selectors.DefaultSelector()

    def run(self) -> list[RankReport]:
        """Follow the run to its end; raises RunError when it fails."""
        with self._selector:
            for member in self._members:
                self._selector.register(member, selectors.EVENT_READ)
            while not self._is_done():
                self._listen()
                self._release_trainers()
                self._check()
            self._wait_for_goodbye()
        return [member.report for member in self._trainers if member.report is not None]

    def _is_done(self) -> bool:
        return all(member.report is not None for member in self._trainers)

    def _listen(self) -> None:
        for key, _ in self._selector.select(_POLL_SECONDS):
            member = key.fileobj
            assert isinstance(member, Member)
            self._hand_on(member)
            if member.exit_code is not None:
                self._selector.unregister(member)

    def _hand_on(self, member: Member) -> None:
        for event in member.events():
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
        members = self._members
        if all(member.exit_code is None and member.failed is None for member in members):
            return
        for member in members:
            self._hand_on(member)
        if self._is_done():
            return
        for member in members:
            if member not in self._failures and (what := _complaint(member)):
                self._failures[member] = Failure(member, what)

    def _explained(self) -> RunError:
        until = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < until:
            self._listen()
            self._note_failures()
        return as_error(
            root_cause(list(self._failures.values())),
            ran_out_of_memory=kills_for_memory() > self._memory_kills,
        )

    def _check_times(self) -> None:
        now, trainers = time.monotonic(), self._trainers
        late = [member for member in trainers if not member.has_trained]
        if late and now - self._started > self._start_timeout:
            waiting = [member for member in self._servers if member.phase != "connected"]
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

    def _stuck(self, candidates: Sequence[Member], what: str, *, remedy: str) -> RunError:
        stopped = [member for member in self._members if _is_stopped(member)]
        member = min(stopped or candidates, key=lambda member: member.last_heard)
        if stopped:
            what, remedy = f"{what}: it is stopped", f"continue it with `kill -CONT {member.pid}`"
        for each in self._members:
            each.signal(signal.SIGUSR1)
        time.sleep(_STACKS_SECONDS)
        return RunError(
            f"{member.post} {what} (it is {member.phase})\n  log, with all stacks: {member.log}",
            remedy=remedy,
            host=member.post.host.name,
            rank=member.post.trainer_rank,
        )

    def _interrupted(self, number: signal.Signals) -> RunError:
        by = "Ctrl-C" if number is signal.SIGINT else number.name
        return RunError(
            f"the run was ended by {by}\n  logs: {self._servers[0].log.parent}",
            remedy="start it again, with another run folder",
        )

    def _wait_for_goodbye(self) -> None:
        """Let all leave by themselves; whoever does not is ended with the run."""
        until = time.monotonic() + _GOODBYE_SECONDS
        while any(member.exit_code is None for member in self._members):
            if time.monotonic() > until or self._interruption.signal is not None:
                _log.warning("some processes did not end by themselves after their reports")
                return
            self._listen()
        for member in self._members:
            self._hand_on(member)
            if member.exit_code != 0:
                _log.warning("%s ended with %s after its report", member.post, member.exit_code)


def _complaint(member: Member) -> str | None:
    """What is wrong with a process while some trainer has not reported; None if nothing is."""
    if member.failed is not None:
        return "failed"
    if member.exit_code is None or (member.exit_code == 0 and member.report is not None):
        return None
    if member.killed_by is not None:
        return f"was killed by {member.killed_by.name}"
    if member.exit_code != 0:
        return f"ended with exit code {member.exit_code}"
    return "ended before the run was over"


def _is_stopped(member: Member) -> bool:
    try:
        return bool(psutil.Process(member.pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
