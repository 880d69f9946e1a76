"""Exploring legal settings at random, so that there are episodes to learn from."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rudder.agents.guard import Steps
from rudder.agents.planners.candidates import candidates
from rudder.agents.planners.proposals import keep, propose
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.effects import Effect
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import Change

COLLECTING_STEPS = Steps(max_cool_down_steps=32)
"""For the guard of a collecting run: reverts are expected, and do not make it pause for longer."""
MAX_LONGER_WAIT_FRACTION = 0.1
"""Of the step: by how much a change may be predicted to make the trainer wait longer, and still be
tried. Its trial ends at once where it waits a quarter of the step longer."""


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
            return keep(self.name, toolbox, observation=observation, reason=reason)
        draw = random.Random(f"{self._seed}/{toolbox.history.workload.rank}/{observation.step}")
        plan = propose(
            self.name,
            draw.choice(choices),
            toolbox,
            observation=observation,
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
        change, settings = plan.change, observation.settings
        if (problem := toolbox.limits.problem(change, settings=settings)) is not None:
            return self._refuse(None, problem)
        if not toolbox.whatif.is_ready:
            return self._refuse(None, "too little is known yet to tell what this would bring")
        effect, present = toolbox.whatif.effect(change), toolbox.whatif.present()
        longer_ms = effect.exposed_wait_ms.mid - present.exposed_wait_ms.mid
        if longer_ms > MAX_LONGER_WAIT_FRACTION * observation.step_ms:
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
