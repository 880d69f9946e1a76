"""Carrying a change out: the intent is written before the command is sent, its effect after."""

from __future__ import annotations

import time
import uuid
from typing import Literal, Protocol

from rudder.memory.journal import AuditEntry, Journal
from rudder.memory.records import Observation
from rudder.training.errors import RunError
from rudder.training.settings import Applied, Change

Purpose = Literal["apply_change", "revert_change"]


class NoAnswerError(RunError):
    """The trainer did not answer in time; whether it has changed anything is not known."""


class UnrecordedError(RunError):
    """A change was not made, because its intent could not be written to the record."""


class Sender(Protocol):
    """The connection to a trainer."""

    async def send(self, change: Change, *, issued_at_step: int | None) -> Applied:
        """Send a change and wait; raises RunError where it is rejected, NoAnswerError if late."""


class Actuator:
    """Writes an intent row, sends the command, writes the effect row."""

    def __init__(self, sender: Sender, *, journal: Journal) -> None:
        self._sender, self._journal = sender, journal

    async def carry_out(
        self,
        change: Change,
        *,
        observation: Observation,
        episode_id: str | None = None,
        purpose: Purpose = "apply_change",
    ) -> Applied:
        """The trainer's answer; a failure is in the journal before it is raised.

        Raises UnrecordedError where the intent cannot be written; nothing was sent then.
        """
        intent = AuditEntry(
            kind="intent",
            call_id=uuid.uuid4().hex,
            agent="act",
            tool=purpose,
            step=observation.step,
            episode_id=episode_id,
            arguments=change.model_dump_json(exclude_defaults=True),
        )
        if not self._journal.log(intent):
            raise UnrecordedError(
                "the change could not be recorded, and so was not made",
                remedy="make room for the run's record, or give write access",
            )
        started = time.perf_counter()
        try:
            applied = await self._sender.send(change, issued_at_step=observation.step)
        except RunError as error:
            failed = {"outcome": "failed", "error_type": type(error).__name__}
            self._effect(intent, started, **failed)
            raise
        self._effect(
            intent,
            started,
            step=applied.step,
            outcome=applied.outcome,
            result=applied.model_dump_json(),
        )
        return applied

    def _effect(self, intent: AuditEntry, started: float, **values: object) -> None:
        latency_ms = (time.perf_counter() - started) * 1000
        seen = {"kind": "effect", "latency_ms": latency_ms, **values}
        self._journal.log(intent.model_copy(update={"arguments": None, **seen}))
