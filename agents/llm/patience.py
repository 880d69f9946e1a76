"""After a plan of a model that gained nothing, the embedded planner has some turns."""

from __future__ import annotations

from dataclasses import dataclass

from rudder.memory.records import Observation
from rudder.training.settings import BufferSettings

_FIRST_TURNS = 2
_MAX_TURNS = 16


class Patience:
    """Pairs: `lasts` asks before a decision, `planned` tells that the model planned it.

    Deciding in vain is dear, as after each decision that changes nothing comes a longer rest: so
    the embedded planner has 2 turns after the first vain plan, 4 after the next, up to 16; a plan
    that gained something makes it 2 again.
    """

    def __init__(self) -> None:
        self._before: _Before | None = None
        self._turns_left = 0
        self._turns = _FIRST_TURNS

    def lasts(self, observation: Observation) -> bool:
        """Whether the model may plan now. A plan has gained if settings are others than before
        and the wait that could be saved came down by more than the noise."""
        if self._before is not None:
            gained = self._before.is_gain(observation)
            self._before = None
            self._turns_left = 0 if gained else self._turns
            self._turns = _FIRST_TURNS if gained else min(2 * self._turns, _MAX_TURNS)
        self._turns_left -= 1
        return self._turns_left < 0

    def planned(self, observation: Observation) -> None:
        """The model has planned on this observation."""
        self._before = _Before(observation.settings, observation.headroom_wait_ms or 0.0)


@dataclass(frozen=True)
class _Before:
    """What a model's plan was made on; the wait that could be saved drifts by itself, too."""

    settings: BufferSettings
    headroom_ms: float

    def is_gain(self, after: Observation) -> bool:
        saved_ms = self.headroom_ms - (after.headroom_wait_ms or 0.0)
        return after.settings != self.settings and saved_ms > after.noise_wait_ms
