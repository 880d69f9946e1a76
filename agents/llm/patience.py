"""How long a model may plan without a gain before the embedded planner has a turn."""

from __future__ import annotations

from rudder.memory.records import Observation

MAX_IDLE_PLANS = 0
"""Deciding in vain is dear: after each decision that changes nothing comes a longer rest."""


class Patience:
    """Looks at whether the wait that could be saved came down since the model was last asked."""

    def __init__(self, *, max_idle_plans: int = MAX_IDLE_PLANS) -> None:
        self._max_idle_plans = max_idle_plans
        self._num_idle = 0
        self._headroom_ms: float | None = None

    def lasts(self, observation: Observation) -> bool:
        """Whether the model may plan this time; to be called once per decision."""
        headroom_ms = observation.headroom_wait_ms or 0.0
        last_ms, self._headroom_ms = self._headroom_ms, headroom_ms
        if last_ms is None:
            return True
        gained = last_ms - headroom_ms > observation.noise_wait_ms
        self._num_idle = 0 if gained else self._num_idle + 1
        if self._num_idle <= self._max_idle_plans:
            return True
        self._num_idle = 0
        return False
