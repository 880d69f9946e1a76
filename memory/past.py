"""Recall that never fails: what cannot be read is said once, and then there is no past."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from rudder.memory.journal import Recalled
from rudder.memory.recall import Recall
from rudder.memory.records import Observation
from rudder.training.complaint import complain
from rudder.training.errors import RudderError
from rudder.training.workload import Workload


class Past(Protocol):
    """Where earlier runs' episodes are asked for."""

    def recall(self, observation: Observation, workload: Workload, *, limit: int) -> list[Recalled]:
        """The nearest."""

    def close(self) -> None:
        """Let go of it."""


class NullPast:
    """There was nothing before."""

    def recall(self, observation: Observation, workload: Workload, *, limit: int) -> list[Recalled]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Do nothing."""


class ForgivingPast:
    """A memory that turns into none at the first error."""

    def __init__(self, recall: Recall) -> None:
        self._recall = recall
        self._has_failed = False

    def recall(self, observation: Observation, workload: Workload, *, limit: int) -> list[Recalled]:
        """The nearest, or nothing once the memory failed."""
        if self._has_failed:
            return []
        try:
            return self._recall.recall(observation, workload, limit=limit)
        except RudderError as error:
            self._has_failed = True
            _say(error)
            return []

    def close(self) -> None:
        """Let go of the file."""
        self._recall.close()


def open_past(path: Path) -> Past:
    """The memory at `path`; none where there is no file yet, or where it cannot be read."""
    if not path.exists():
        return NullPast()
    try:
        return ForgivingPast(Recall.open(path))
    except RudderError as error:
        _say(error)
        return NullPast()


def _say(error: RudderError) -> None:
    complain(f"rudder: goes on without memory: {error}")
