"""Exploring legal settings at random, so that there are episodes to learn from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from rudder.agents.guard import DEFAULT_STEPS, Guard, Steps
from rudder.agents.planners.proposals import keep, propose
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.calls import Effect
from rudder.tools.constants import (
    COOL_DOWN_STEPS,
    LONG_LOOKAHEAD_BATCHES,
    REPLACEMENT_INTERVAL,
    WORTH_WAIT_SHARE,
)
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change

CAPACITY_FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 16.0)
_MIN_LOOKAHEAD = 8


def candidates(
    observation: Observation, limits: Limits, *, steps: Steps = DEFAULT_STEPS
) -> tuple[Change, ...]:
    """Changes that limits and step size allow, once each, those that need least memory first.

    Capacities by factors, each with the lookahead as it is, halved, doubled and long; a threshold
    of 1, regular rounds, and one round now where there is none of that yet. No fetch targets.
    """
    guard, present = Guard(steps), observation.settings
    found = dict.fromkeys([*_changes(present, limits), Change(replace_now=True)])
    allowed = (
        change
        for change in found
        if not change.is_empty
        and guard.review(
            change, observation=observation, bounds=limits, now_step=observation.step
        ).allowed
    )
    return tuple(sorted(allowed, key=lambda change: _cost(change, present)))


def _changes(present: BufferSettings, limits: Limits) -> Iterator[Change]:
    for rows in _capacities(present.capacity_rows, limits.max_capacity_rows):
        for ahead in _lookaheads(present.lookahead_batches, limits.max_lookahead_batches):
            wanted = {"capacity_rows": rows, "lookahead_batches": ahead}
            yield Change.between(present, present.model_copy(update=wanted))
    if present.eviction_threshold < 1:
        yield Change(eviction_threshold=1.0)
    if present.replacement_interval == 0:
        yield Change(replacement_interval=REPLACEMENT_INTERVAL)


def _capacities(rows: int, most: int) -> list[int]:
    return [min(round(factor * max(rows, 1)), most) for factor in CAPACITY_FACTORS]


def _lookaheads(batches: int, most: int) -> list[int]:
    wanted = (batches, batches // 2, max(2 * batches, _MIN_LOOKAHEAD), LONG_LOOKAHEAD_BATCHES)
    return [min(ahead, most) for ahead in wanted]


def _cost(change: Change, present: BufferSettings) -> tuple[int, int, bool]:
    """What a change takes: memory of the buffer, then of waiting batches, then a round."""
    settings = change.over(present)
    return settings.capacity_rows, settings.lookahead_batches, change.replace_now


COLLECTING_STEPS = Steps(max_cool_down_steps=COOL_DOWN_STEPS)
"""For the guard of a collecting run: reverts are expected, and do not make it pause for longer."""


class CollectingPlanner:
    """Proposes each of the coarse candidates equally often; how likely it was is in the plan.

    Deterministic: the same seed, rank, step and settings lead to the same change.
    """

    name = "collect"

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """A change drawn at random; nothing while too few accesses were seen to bound its harm."""
        choices = candidates(observation, toolbox.limits, steps=COLLECTING_STEPS)
        if not choices or not toolbox.whatif.is_ready:
            reason = "too few accesses were seen" if choices else "no change is legal"
            return keep(self.name, reason)
        draw = random.Random(f"{self._seed}/{toolbox.history.workload.rank}/{observation.step}")
        plan = propose(
            self.name,
            draw.choice(choices),
            whatif=toolbox.whatif,
            reason=f"explores: one of {len(choices)} changes, drawn at random",
        )
        return plan.model_copy(update={"propensity": 1 / len(choices)})


class CollectingCritic:
    """Approves what explores, unless the trainer is predicted to wait far longer."""

    name = "collect"

    async def review(
        self, observation: Observation, recalled: Sequence[Recalled], plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        """The verdict; what it expects is its own estimate."""
        change = plan.change
        if not toolbox.whatif.is_ready:
            return self._refuse(None, "too little has been measured to estimate this change")
        effect, present = toolbox.whatif.effect(change), toolbox.whatif.present()
        longer_ms = effect.exposed_wait_ms.mid - present.exposed_wait_ms.mid
        if longer_ms > WORTH_WAIT_SHARE * observation.step_ms:
            return self._refuse(effect, "the trainer would wait far longer")
        return Verdict(
            decision="approve",
            critic=self.name,
            change=change,
            expected=effect,
            reason="within the harm that exploring may do",
        )

    def _refuse(self, effect: Effect | None, reason: str) -> Verdict:
        return Verdict(
            decision="refuse", critic=self.name, change=Change(), expected=effect, reason=reason
        )
