"""The embedded planner: searches the what-if estimator, from coarse to fine.

What all candidates share (threshold, lookahead, interval) is set to what should serve best; then
the smallest capacity is sought, by halving on a log scale, that is as good as the largest; then
each knob that turns out not to matter is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rudder.agents.guard import DEFAULT_STEPS, Steps
from rudder.agents.objective import DEFAULT_PREFERENCE, Preference
from rudder.agents.planners.evidence import Priors, Rounds, TrialBudget, fewest_rows, seen_wait_ms
from rudder.agents.planners.proposals import keep, opening, propose
from rudder.agents.planners.search import Search
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.calls import Effect
from rudder.tools.constants import (
    HALVINGS,
    LONG_LOOKAHEAD_BATCHES,
    MAX_SHRINK,
    MIN_GIVEN_BACK_SHARE,
    REPLACEMENT_INTERVAL,
    ROW_MS,
    SAME_CAPACITY_FACTOR,
    SAME_ROWS_SHARE,
    SHORT_LOOKAHEADS,
    WAITING_SHARE,
    WIN_PART,
    WORTH_WAIT_SHARE,
)
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings


class EmbeddedPlanner:
    """Deterministic: the same windows and episodes lead to the same plan."""

    name = "embedded"

    def __init__(
        self, *, preference: Preference = DEFAULT_PREFERENCE, steps: Steps = DEFAULT_STEPS
    ) -> None:
        self._preference, self._steps = preference, steps

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """The best settings in reach, or to keep those in force."""
        if not toolbox.whatif.is_ready:
            first = opening(
                self.name, recalled, toolbox, observation=observation, steps=self._steps
            )
            return first or keep(self.name, "too few accesses were seen to estimate anything")
        task = _Task(observation, recalled, toolbox, preference=self._preference, steps=self._steps)
        if task.must_wait:
            return keep(
                self.name,
                "too few rounds of replacement were seen to tell what a change would bring",
            )
        found = task.solve()
        effect = task.search.effect(found)
        if effect is None or found == observation.settings:
            return keep(self.name, "no settings in reach are better")
        reason = task.reason_for(found, effect)
        if reason is None:
            return keep(self.name, "what could be gained is within the noise")
        change = task.search.change_to(found)
        return propose(self.name, change, whatif=toolbox.whatif, reason=reason, expected=effect)


class _Task:
    """One decision's search."""

    def __init__(
        self,
        observation: Observation,
        recalled: Sequence[Recalled],
        toolbox: Toolbox,
        *,
        preference: Preference,
        steps: Steps,
    ) -> None:
        history = toolbox.history
        self.search = Search(
            toolbox.whatif, toolbox.limits, present=observation.settings, steps=steps
        )
        self._observation, self._preference = observation, preference
        self._present, self._limits = observation.settings, toolbox.limits
        self._windows, self._rounds = history.windows, Rounds.of(toolbox, observation)
        self._priors = Priors.of(recalled, observation)
        self._trial_budget = TrialBudget.of(recalled, observation, run_key=history.workload.run_key)
        self._worth_rows = MIN_GIVEN_BACK_SHARE * history.workload.defaults.capacity_rows
        rows_trend = history.trend("rows")
        self._is_settled = toolbox.whatif.is_calibrated and rows_trend in ("steady", "worse")

    @property
    def must_wait(self) -> bool:
        """Whether rounds of replacement are too few for an estimate, and nothing is urgent."""
        is_allowed = self._present.capacity_rows <= self._limits.max_capacity_rows
        return is_allowed and not self._rounds.are_enough

    def solve(self) -> BufferSettings:
        """The settings to have; those in force where nothing is as good."""
        low, high = self._priors.narrowed(self.search.reach)
        high = max(min(high, self._rounds.most_rows), low)
        low = min(max(low, round(MAX_SHRINK * self._present.capacity_rows)), high)
        top = self.search.first(self._well_set(high))
        best = self.search.effect(top) if top is not None else None
        if top is None or best is None:
            return self._present
        best = min(best, self.search.present_effect, key=self._order)
        found = self._with_margin(self._smallest(top, best, low=low), top)
        return self._only_what_matters(found)

    def reason_for(self, found: BufferSettings, effect: Effect) -> str | None:
        """Why the change is worth it; None where it is not."""
        present, observation = self.search.present_effect, self._observation
        won_ms = present.exposed_wait_ms.mid - effect.exposed_wait_ms.mid
        if not self._is_settled and won_ms < WORTH_WAIT_SHARE * observation.step_ms:
            return None
        if gain := self._preference.gain(effect, present=present, observation=observation):
            return gain
        harm = self._preference.harm(effect, present=present, observation=observation)
        if harm is not None or not self._is_worth_a_trial(found, effect):
            return None
        return "a smaller buffer does as well"

    def _is_worth_a_trial(self, found: BufferSettings, effect: Effect) -> bool:
        """Whether memory can be spared, enough of it, and its trial can be afforded."""
        observation = self._observation
        if observation.exposed_wait_ms > WAITING_SHARE * observation.step_ms:
            return False
        if observation.trend in ("better", "worse"):
            return False
        now, then = found.capacity_rows, self._present.capacity_rows
        if SAME_CAPACITY_FACTOR * now > then or then - now < self._worth_rows:
            return False
        waited = seen_wait_ms(
            self._windows, more_than=observation.rows_fetched, up_to=effect.rows_fetched.mid
        )
        if waited is not None and waited > WAITING_SHARE * observation.step_ms:
            return False
        return self._trial_budget.allows(effect, present=self.search.present_effect)

    # -- coarse -------------------------------------------------------------------------

    def _well_set(self, rows: int) -> Iterator[BufferSettings]:
        """Settings of a capacity with all other knobs as they should serve best."""
        present = self._present
        if self._rounds.fill_the_buffer:  # no lookahead helps; another threshold swaps rows at once
            yield self.search.with_capacity(present, rows)
            return
        ahead = max(present.lookahead_batches, LONG_LOOKAHEAD_BATCHES)
        interval = present.replacement_interval
        for lookahead in (ahead, ahead // 2, present.lookahead_batches):
            for threshold in (1.0, present.eviction_threshold):
                yield present.model_copy(
                    update={
                        "capacity_rows": rows,
                        "lookahead_batches": lookahead,
                        "eviction_threshold": threshold,
                        "replacement_interval": REPLACEMENT_INTERVAL if interval == 0 else interval,
                    }
                )

    def _order(self, effect: Effect) -> float:
        if self._preference.objective == "traffic":
            return effect.rows_fetched.mid
        return effect.exposed_wait_ms.mid

    # -- fine ---------------------------------------------------------------------------

    def _smallest(self, top: BufferSettings, best: Effect, *, low: int) -> BufferSettings:
        """The smallest capacity that is as good as the best, with the other knobs of `top`."""
        found, high = top, top.capacity_rows
        for guess in self._priors.guesses(low, high):
            settings = self.search.with_capacity(top, guess)
            if self._is_as_good(settings, best):
                found, high = settings, guess
                break
            low = guess
        for _ in range(HALVINGS):
            if high <= max(low, 1) * SAME_CAPACITY_FACTOR:
                break
            middle = round(math.sqrt(max(low, 1) * high))
            settings = self.search.with_capacity(top, middle)
            if self._is_as_good(settings, best):
                found, high = settings, middle
            else:
                low = middle
        return found

    def _with_margin(self, found: BufferSettings, top: BufferSettings) -> BufferSettings:
        """A little more than is needed, where the buffer grows: estimates are not exact."""
        rows = min(round(SAME_CAPACITY_FACTOR * found.capacity_rows), top.capacity_rows)
        wider = self.search.with_capacity(found, rows)
        grows = found.capacity_rows > self._present.capacity_rows
        return wider if grows and self.search.effect(wider) is not None else found

    def _is_as_good(self, settings: BufferSettings, best: Effect) -> bool:
        effect = self.search.effect(settings)
        if effect is None:
            return False
        is_smaller = settings.capacity_rows < self._present.capacity_rows
        if is_smaller and effect.rows_fetched.mid > self._most_rows:
            return False
        return self._preference.is_as_good(effect, best=best, observation=self._observation)

    @property
    def _most_rows(self) -> float:
        """Per step, that a smaller buffer may fetch: the fewest that came under any settings, and
        as many more as processors have time for within the tolerance."""
        fewest = fewest_rows(self._windows) or self._observation.rows_fetched
        return fewest + self._preference.tolerance * self._observation.step_ms / ROW_MS

    # -- what matters -------------------------------------------------------------------

    def _only_what_matters(self, found: BufferSettings) -> BufferSettings:
        """The same effect with fewer knobs changed, or with a shorter lookahead."""
        for update in self._simpler(found):
            simpler = found.model_copy(update=update)
            if simpler != found and self._is_equal(simpler, found):
                found = simpler
        return found

    def _simpler(self, found: BufferSettings) -> Iterator[dict[str, object]]:
        present = self._present
        yield {"eviction_threshold": present.eviction_threshold}
        if found.lookahead_batches > present.lookahead_batches:
            yield {"lookahead_batches": present.lookahead_batches}
            for shorter in SHORT_LOOKAHEADS:
                if present.lookahead_batches < shorter < found.lookahead_batches:
                    yield {"lookahead_batches": shorter}

    def _is_equal(self, simpler: BufferSettings, found: BufferSettings) -> bool:
        one, other = self.search.effect(simpler), self.search.effect(found)
        if one is None or other is None:
            return False
        more = one.rows_fetched.mid - other.rows_fetched.mid
        if more > WIN_PART * SAME_ROWS_SHARE * other.rows_fetched.mid:
            return False
        return self._preference.is_as_good(one, best=other, observation=self._observation)
