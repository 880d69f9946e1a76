"""What trials may cost: a change for memory is not worth a hundredth of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rudder.memory.journal import Recalled
from rudder.memory.records import Observation
from rudder.tools.effects import Effect

MAX_RUN_FRACTION = 0.01
"""Of a run's time: what all trials together may cost."""
TRIAL_STEPS = 96
"""A trial settles and is judged within so many."""


@dataclass(frozen=True)
class Regret:
    """spent_ms: what the run's reverted changes cost, as far as they are recalled; run_ms: the
    whole run, None where nobody knows its end."""

    spent_ms: float
    run_ms: float | None

    @classmethod
    def of(cls, recalled: Sequence[Recalled], observation: Observation, *, run_key: str) -> Regret:
        """What the run's own episodes among those recalled tell."""
        spent_ms = 0.0
        for each in recalled:
            outcome = each.episode.outcome
            if each.episode.run_key != run_key or outcome is None or outcome.result != "reverted":
                continue
            if outcome.wait_ms_before is not None and outcome.wait_ms_after is not None:
                spent_ms += TRIAL_STEPS * max(outcome.wait_ms_after - outcome.wait_ms_before, 0.0)
        left = observation.steps_left
        run_ms = None if left is None else (observation.step + left) * observation.step_ms
        return cls(spent_ms, run_ms)

    def allows(self, effect: Effect, *, present: Effect) -> bool:
        """Whether a trial may be afforded, should its wait come out at the high end."""
        if self.run_ms is None:
            return True
        worse_ms = max(effect.exposed_wait_ms.high - present.exposed_wait_ms.high, 0.0)
        return self.spent_ms + TRIAL_STEPS * worse_ms <= MAX_RUN_FRACTION * self.run_ms
