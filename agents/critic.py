"""The embedded critic: judges a plan by its own what-if estimate, not by what it promises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from rudder.agents.objective import DEFAULT_PREFERENCE, Preference
from rudder.agents.starting_point import WarmStart
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.calls import Effect
from rudder.tools.constants import MAX_BATCHES, SAME_CAPACITY_FACTOR, SAME_DISTANCE, WIN_PART
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change
from rudder.training.workload import ROUND_POLICIES

Decision: TypeAlias = Literal["approve", "trim", "refuse"]


class EmbeddedCritic:
    """Approves, or refuses with its reason; under the objective `memory` it also trims a growth to
    a smaller buffer of equal effect."""

    name = "embedded"

    def __init__(self, *, preference: Preference = DEFAULT_PREFERENCE) -> None:
        self._preference = preference

    async def review(
        self, observation: Observation, recalled: Sequence[Recalled], plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        """The verdict; what it expects is its own estimate, never the planner's."""
        change = plan.change
        if change.is_empty:
            return self._verdict("approve", change, None, "nothing is changed")
        if not toolbox.whatif.is_ready:
            return self._unestimated(change, observation, recalled, toolbox)
        effect, present = toolbox.whatif.effect(change), toolbox.whatif.present()
        reason = self._objection(change, effect, observation, toolbox, present)
        if reason is None and _was_reverted(change, observation, recalled):
            reason = "the same change was reverted in similar circumstances"
        if reason is not None:
            return self._refuse(effect, reason)
        return self._approve(change, effect, observation, toolbox)

    def _unestimated(
        self,
        change: Change,
        observation: Observation,
        recalled: Sequence[Recalled],
        toolbox: Toolbox,
    ) -> Verdict:
        """Without an estimate, only a change towards a warm start is approved."""
        first = WarmStart.of(recalled, observation, toolbox.history.workload)
        if first is None or not first.leads_to(change, settings=observation.settings):
            return self._refuse(None, "too little has been measured to estimate this change")
        if _was_reverted(change, observation, recalled):
            return self._refuse(
                first.effect, "the same change was reverted in similar circumstances"
            )
        return self._verdict("approve", change, first.effect, first.reason)

    def _objection(
        self,
        change: Change,
        effect: Effect,
        observation: Observation,
        toolbox: Toolbox,
        present: Effect,
    ) -> str | None:
        preference = self._preference
        return (
            preference.harm(effect, present=present, observation=observation)
            or _eager_objection(change, effect, observation, toolbox, present)
            or _idle_objection(change, effect, observation, preference, present)
        )

    def _approve(
        self, change: Change, effect: Effect, observation: Observation, toolbox: Toolbox
    ) -> Verdict:
        smaller = _half_way(change, observation.settings)
        if smaller is not None and self._preference.saves_memory:
            as_well = toolbox.whatif.effect(smaller)
            if self._preference.is_as_good(as_well, best=effect, observation=observation):
                return self._verdict("trim", smaller, as_well, "a smaller buffer does as well")
        return self._verdict("approve", change, effect, "no worse than the settings in force")

    def _refuse(self, effect: Effect | None, reason: str) -> Verdict:
        return self._verdict("refuse", Change(), effect, reason)

    def _verdict(
        self, decision: Decision, change: Change, effect: Effect | None, reason: str
    ) -> Verdict:
        return Verdict(
            decision=decision, critic=self.name, change=change, expected=effect, reason=reason
        )


def _eager_objection(
    change: Change, effect: Effect, observation: Observation, toolbox: Toolbox, present: Effect
) -> str | None:
    """Eager fetches cost rows now: fewer misses must pay them back, and soon. Those that wait for
    an idle link delay nothing."""
    rows = 0
    if change.fetch_targets is not None and not change.fetch_targets.while_idle:
        rows += change.fetch_targets.row_budget
    if change.replace_now and toolbox.history.workload.policy not in ROUND_POLICIES:
        rows += change.over(observation.settings).capacity_rows
    if not rows:
        return None
    steps = min(observation.steps_left or MAX_BATCHES, MAX_BATCHES)
    saved = steps * (present.rows_fetched.mid - effect.rows_fetched.mid)
    if saved >= rows:
        return None
    return f"{rows} rows fetched eagerly would not pay within {steps} steps"


def _idle_objection(
    change: Change,
    effect: Effect,
    observation: Observation,
    preference: Preference,
    present: Effect,
) -> str | None:
    """A change must win something, for nothing else is tried during its trial. Rounds and fetch
    targets are exempt: their gain shows only in the rows that they fetch."""
    targets = change.fetch_targets
    if change.replace_now or (targets is not None and not targets.while_idle):
        return None
    if preference.saves_memory and effect.buffer_bytes < present.buffer_bytes:
        return None
    rows = present.rows_fetched.mid - effect.rows_fetched.mid
    wait_ms = present.exposed_wait_ms.mid - effect.exposed_wait_ms.mid
    is_idle = rows <= preference.rows_margin(observation) and wait_ms <= (
        WIN_PART * preference.tolerated_wait_ms(observation)
    )
    return "the gain is not worth a trial" if is_idle else None


def _half_way(change: Change, settings: BufferSettings) -> Change | None:
    """The change with half its growth, on a log scale; None where it grows little or not."""
    present = max(settings.capacity_rows, 1)
    if change.capacity_rows is None or change.capacity_rows < SAME_CAPACITY_FACTOR**2 * present:
        return None
    return change.model_copy(
        update={"capacity_rows": round(math.sqrt(present * change.capacity_rows))}
    )


def _was_reverted(change: Change, observation: Observation, recalled: Sequence[Recalled]) -> bool:
    """Whether the nearest like episode that made this change was reverted."""
    wanted = change.over(observation.settings)
    for each in recalled:
        episode = each.episode
        if each.distance > SAME_DISTANCE or episode.outcome is None or episode.verdict is None:
            continue
        if episode.outcome.result not in ("confirmed", "reverted"):
            continue
        if _is_like(episode.verdict.change.over(episode.observation.settings), wanted):
            return episode.outcome.result == "reverted"
    return False


def _is_like(one: BufferSettings, other: BufferSettings) -> bool:
    low, high = sorted((one.capacity_rows, other.capacity_rows))
    rest = {"capacity_rows": 0}
    is_same_rest = one.model_copy(update=rest) == other.model_copy(update=rest)
    return is_same_rest and high <= SAME_CAPACITY_FACTOR * max(low, 1)
