"""What an earlier run on the same work came to: evidence before this run has any of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rudder.memory.circumstances import signature
from rudder.memory.journal import Recalled
from rudder.memory.records import Episode
from rudder.tools.effects import Effect, Range
from rudder.training.settings import BufferSettings
from rudder.training.workload import Workload

_SPREAD = 0.1
"""Share by which what was measured then may be missed now."""


@dataclass(frozen=True)
class Precedent:
    """Settings that a change of an earlier run led to and that were confirmed, and what was
    measured under them, per step."""

    settings: BufferSettings
    rows_fetched: float
    exposed_wait_ms: float

    @classmethod
    def of(cls, recalled: Sequence[Recalled], workload: Workload) -> Precedent | None:
        """The one of equal work in another run that waited least; None: there was no such run."""
        known = [
            found
            for each in recalled
            if each.workload.run_key != workload.run_key
            and signature(each.workload) == signature(workload)
            and (found := _measured(each.episode)) is not None
        ]
        return min(known, key=lambda each: each.exposed_wait_ms, default=None)

    def effect(self, *, row_bytes: int) -> Effect:
        """What to expect of the same settings."""
        return Effect(
            rows_fetched=_around(self.rows_fetched),
            exposed_wait_ms=_around(self.exposed_wait_ms),
            buffer_bytes=self.settings.capacity_rows * row_bytes,
        )


def _measured(episode: Episode) -> Precedent | None:
    outcome, applied = episode.outcome, episode.applied
    if outcome is None or applied is None or outcome.result != "confirmed":
        return None
    if outcome.rows_after is None or outcome.wait_ms_after is None:
        return None
    return Precedent(applied.settings, outcome.rows_after, outcome.wait_ms_after)


def _around(value: float) -> Range:
    return Range(low=(1 - _SPREAD) * value, mid=value, high=(1 + _SPREAD) * value)
