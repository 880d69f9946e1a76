"""What counts as better: the run's objective, as planner, critic and trial share it."""

from __future__ import annotations

from dataclasses import dataclass

from rudder.memory.records import Observation
from rudder.tools.calls import Effect
from rudder.tools.constants import (
    CHANGED_ROWS_SHARE,
    HIDDEN_SHARE,
    PEERS_SHARE,
    SAME_CAPACITY_FACTOR,
    SAME_ROWS_SHARE,
    WAITING_SHARE,
    WIN_PART,
)
from rudder.training.steering_options import Objective


@dataclass
class Preference:
    """objective: what is sought, which a person may change in a run; tolerance: share of the step
    time that is no difference, and that a smaller buffer may cost where the objective is `memory`.
    Agents of a trainer share one."""

    objective: Objective = "time"
    tolerance: float = HIDDEN_SHARE

    @property
    def saves_memory(self) -> bool:
        """Whether a smaller buffer is worth something; otherwise memory is only a budget."""
        return self.objective == "memory"

    def tolerated_wait_ms(self, observation: Observation) -> float:
        """By how much the trainer may wait longer, per step, and be as good as before.

        Where memory is to be saved, a rank that other ranks keep waiting may itself wait up to half
        of that time: the step takes no longer. Not where it waits notably itself, for then all
        ranks have to improve.
        """
        own_ms = self.tolerance * observation.step_ms
        waits = observation.exposed_wait_ms > WAITING_SHARE * observation.step_ms
        if not self.saves_memory or observation.sets_the_pace or waits:
            return own_ms
        worst = max((peer.exposed_wait_seconds for peer in observation.peers), default=0.0)
        lead_ms = max(1000 * worst - observation.exposed_wait_ms, 0.0)
        return own_ms + PEERS_SHARE * lead_ms

    def rows_margin(self, observation: Observation) -> float:
        """By how much rows per step may differ and still be as good as equal."""
        return max(observation.noise_rows, SAME_ROWS_SHARE * observation.rows_fetched)

    def is_as_good(self, effect: Effect, *, best: Effect, observation: Observation) -> bool:
        """Whether an effect is within the margin of the best one there is."""
        if self.objective == "traffic":
            more = effect.rows_fetched.mid - best.rows_fetched.mid
            return more <= SAME_ROWS_SHARE * best.rows_fetched.mid
        longer = effect.exposed_wait_ms.high - best.exposed_wait_ms.high  # on the safe side
        share = 1.0 if self.saves_memory else WIN_PART
        return longer <= share * self.tolerated_wait_ms(observation)

    def gain(self, effect: Effect, *, present: Effect, observation: Observation) -> str | None:
        """Why an effect is worth a change, or None where it is not."""
        rows = present.rows_fetched.mid - effect.rows_fetched.mid
        wait = present.exposed_wait_ms.mid - effect.exposed_wait_ms.mid
        wait = min(wait, observation.exposed_wait_ms)  # what is not measured cannot be won
        is_shorter = wait > max(observation.noise_wait_ms, self.tolerance * observation.step_ms)
        if is_shorter and self.objective != "traffic":
            return "the trainer waits less"
        if self.saves_memory:
            is_smaller = SAME_CAPACITY_FACTOR * effect.buffer_bytes <= present.buffer_bytes
            return "a smaller buffer does as well" if is_smaller else None
        fewer = rows > max(observation.noise_rows, CHANGED_ROWS_SHARE * observation.rows_fetched)
        return "fewer rows are fetched" if fewer else None

    def harm(self, effect: Effect, *, present: Effect, observation: Observation) -> str | None:
        """Why an effect is worse than the present one, or None where it is not."""
        rows = effect.rows_fetched.mid - present.rows_fetched.mid
        wait = effect.exposed_wait_ms.mid - present.exposed_wait_ms.mid
        work = _work_ms(effect, present)
        if wait + work > self.tolerated_wait_ms(observation):
            return "steps would take longer" if work > 0 else "the trainer would wait longer"
        if rows <= self.rows_margin(observation):
            return None
        gives_back = self.saves_memory and effect.buffer_bytes < present.buffer_bytes
        waits_less = -wait > WIN_PART * self.tolerance * observation.step_ms
        if gives_back or (waits_less and self.objective != "traffic"):
            return None
        return "more rows would be fetched, for nothing in return"


def _work_ms(effect: Effect, present: Effect) -> float:
    """By how much taking in more rows delays a step, which it does where ranks share cores."""
    then, now = effect.times, present.times
    if then is None or now is None or not now.shares_cores:
        return 0.0
    return then.rows_ms - now.rows_ms


DEFAULT_PREFERENCE = Preference()
