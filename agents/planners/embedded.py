"""The embedded planner: searches the what-if estimator.

Memory is a budget: the largest buffer in reach is taken, with the other knobs as they should serve
best, if that wins time or rows. Only under the objective `memory` the smallest capacity is sought,
by halving on a log scale, that is as good. Each knob that turns out not to matter is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rudder.agents.guard import DEFAULT_STEPS, Steps
from rudder.agents.objective import DEFAULT_PREFERENCE, Preference
from rudder.agents.planners.evidence import Rounds, without_reverted
from rudder.agents.planners.proposals import filled, keep, propose, warm_start_plan
from rudder.agents.planners.search import Search
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.calls import Effect
from rudder.tools.constants import (
    HALVINGS,
    LONG_LOOKAHEAD_BATCHES,
    REPLACEMENT_INTERVAL,
    SAME_CAPACITY_FACTOR,
    SAME_ROWS_SHARE,
    SHORT_LOOKAHEADS,
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
            first = warm_start_plan(
                self.name, recalled, toolbox, observation=observation, steps=self._steps
            )
            return first or keep(self.name, "too few accesses were seen to estimate anything")
        rounds = Rounds.of(toolbox, observation)
        if not rounds.are_enough:
            return keep(
                self.name,
                "too few rounds of replacement were seen to tell what a change would bring",
            )
        task = _Task(
            observation, recalled, toolbox, rounds, preference=self._preference, steps=self._steps
        )
        found = task.solve()
        effect = task.search.effect(found)
        if effect is None or found == observation.settings:
            return keep(self.name, "no settings in reach are better")
        reason = task.reason_for(effect)
        if reason is None:
            return keep(self.name, "what could be gained is within the noise")
        rows_after = effect.rows_fetched.mid
        change = filled(task.search.change_to(found), observation, toolbox, rows_after=rows_after)
        return propose(self.name, change, whatif=toolbox.whatif, reason=reason)


class _Task:
    """One decision's search."""

    def __init__(
        self,
        observation: Observation,
        recalled: Sequence[Recalled],
        toolbox: Toolbox,
        rounds: Rounds,
        *,
        preference: Preference,
        steps: Steps,
    ) -> None:
        self._present, self._rounds = observation.settings, rounds
        self._observation, self._preference = observation, preference
        self.search = Search(toolbox.whatif, toolbox.limits, present=self._present, steps=steps)
        low, high = without_reverted(
            self.search.reach, recalled, present_rows=self._present.capacity_rows
        )
        self._low, self._high = low, max(min(high, rounds.most_rows), low)
        rows_trend = toolbox.history.trend("rows")
        self._is_settled = toolbox.whatif.is_calibrated and rows_trend in ("steady", "worse")

    def solve(self) -> BufferSettings:
        """The settings to have; those in force where nothing better may be set."""
        top = self.search.first(self._well_set(self._high))
        if top is None:
            return self._present
        return self._only_what_matters(
            self._smallest(top) if self._preference.saves_memory else top
        )

    def reason_for(self, effect: Effect) -> str | None:
        """Why the change is worth it; None where it is not."""
        present, observation = self.search.present_effect, self._observation
        won_ms = present.exposed_wait_ms.mid - effect.exposed_wait_ms.mid
        if not self._is_settled and won_ms < WORTH_WAIT_SHARE * observation.step_ms:
            return None
        if self._preference.harm(effect, present=present, observation=observation) is not None:
            return None
        return self._preference.gain(effect, present=present, observation=observation)

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

    def _smallest(self, top: BufferSettings) -> BufferSettings:
        """The smallest capacity that is as good as the best, with the other knobs of `top`."""
        best = min(
            (effect for each in (top, self._present) if (effect := self.search.effect(each))),
            key=lambda effect: effect.exposed_wait_ms.mid,
        )
        found, low, high = top, self._low, top.capacity_rows
        for _ in range(HALVINGS):
            if high <= max(low, 1) * SAME_CAPACITY_FACTOR:
                break
            middle = round(math.sqrt(max(low, 1) * high))
            settings = self.search.with_capacity(top, middle)
            if self._is_as_good(self.search.effect(settings), best):
                found, high = settings, middle
            else:
                low = middle
        return found

    def _is_as_good(self, effect: Effect | None, best: Effect | None) -> bool:
        if effect is None or best is None:
            return False
        return self._preference.is_as_good(effect, best=best, observation=self._observation)

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
        return self._is_as_good(one, other)
