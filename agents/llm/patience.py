"""After a plan of a model that gained nothing, the embedded planner has some turns."""

from __future__ import annotations

from rudder.memory.records import Observation

_FIRST_TURNS = 2
_MAX_TURNS = 16


class Patience:
    """Pairs: `lasts` asks before a decision, `planned` tells that the model planned it.

    Deciding in vain is dear, as after each decision that changes nothing comes a longer rest: so
    the embedded planner has 2 turns after the first vain plan, 4 after the next, up to 16; a plan
    that gained something makes it 2 again.
    """

    def __init__(self) -> None:
        self._headroom_ms: float | None = None
        self._turns_left = 0
        self._turns = _FIRST_TURNS

    def lasts(self, observation: Observation) -> bool:
        """Whether the model may plan now. A plan has gained if the wait that could be saved came
        down by more than the noise."""
        if self._headroom_ms is not None:
            headroom_ms = observation.headroom_wait_ms or 0.0
            gained = self._headroom_ms - headroom_ms > observation.noise_wait_ms
            self._headroom_ms = None
            self._turns_left = 0 if gained else self._turns
            self._turns = _FIRST_TURNS if gained else min(2 * self._turns, _MAX_TURNS)
        self._turns_left -= 1
        return self._turns_left < 0

    def planned(self, observation: Observation) -> None:
        """The model has planned on this observation."""
        self._headroom_ms = observation.headroom_wait_ms or 0.0
