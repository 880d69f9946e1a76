"""Turns: a model whose plans gain nothing leaves some of them to the embedded planner."""

from __future__ import annotations

from dataclasses import dataclass

from rudder.memory.records import Observation
from rudder.training.settings import BufferSettings, Change

_FIRST_TURNS = 2
_MAX_TURNS = 16


class LlmBackoff:
    """Lets the embedded planner decide for a while after plans of the model that gained nothing.

    After a decision that changes nothing the controller pauses, so plans without a gain cost time.
    The embedded planner decides 2 times after the first of them, 4 times after the next, up to 16;
    after a plan with a gain it is 2 again.
    """

    def __init__(self) -> None:
        self._before: _Before | None = None
        self._turns_left = 0
        self._turns = _FIRST_TURNS

    def may_plan(self, observation: Observation) -> bool:
        """Whether the model may plan now. A plan has gained if its settings are in force
        and the wait that could be saved came down by more than the noise."""
        if self._before is not None:
            gained = self._before.is_gain(observation)
            self._before = None
            self._turns_left = 0 if gained else self._turns
            self._turns = _FIRST_TURNS if gained else min(2 * self._turns, _MAX_TURNS)
        self._turns_left -= 1
        return self._turns_left < 0

    def planned(self, observation: Observation, change: Change) -> None:
        """The model has planned this change on this observation."""
        settings = observation.settings
        self._before = _Before(settings, observation.headroom_wait_ms or 0.0, change.over(settings))


@dataclass(frozen=True)
class _Before:
    """What a model's plan was made on, and the plan; the wait that could be saved drifts by
    itself, and somebody else's plan may have been carried out."""

    settings: BufferSettings
    headroom_ms: float
    planned: BufferSettings

    def is_gain(self, after: Observation) -> bool:
        saved_ms = self.headroom_ms - (after.headroom_wait_ms or 0.0)
        return self._is_in_force(after.settings) and saved_ms > after.noise_wait_ms

    def _is_in_force(self, settings: BufferSettings) -> bool:
        """Whether the plan was carried out, with all of its capacity or as much as was let pass."""
        if settings == self.settings:
            return False
        low, high = sorted((self.settings.capacity_rows, self.planned.capacity_rows))
        rows = {"capacity_rows": settings.capacity_rows}
        is_within = low <= settings.capacity_rows <= high
        return is_within and settings == self.planned.model_copy(update=rows)
