"""The planner and the critic that hear what a model has advised."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.llm.answers import CriticAnswer, clean
from rudder.agents.llm.consultation import Advice, Adviser, check_trim
from rudder.agents.llm.errors import InvalidAnswerError
from rudder.agents.roles import Critic, Planner
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change


class LlmPlanner:
    """Proposes what a model has advised since the last decision. Otherwise the fallback plans, at
    once and under its own name, and the model may be asked for a later decision."""

    def __init__(self, adviser: Adviser, *, fallback: Planner) -> None:
        self._adviser, self._fallback = adviser, fallback
        self.advised: tuple[Plan, Advice] | None = None

    @property
    def name(self) -> str:
        """With the model's name."""
        return f"llm:{self._adviser.model}"

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """The model's plan, or the fallback's under the fallback's name."""
        plan = self._heard(observation, toolbox)
        if plan is None:
            fallback = await self._fallback.plan(observation, recalled, toolbox)
            await self._adviser.offer(fallback, observation, recalled, toolbox)
            plan = self._heard(observation, toolbox) or fallback
        return plan

    def _heard(self, observation: Observation, toolbox: Toolbox) -> Plan | None:
        """The plan of the advice that has come; None without one that is possible now."""
        self.advised = None
        advice = self._adviser.take(observation, toolbox)
        if advice is None:
            return None
        try:
            plan = advice.plan(toolbox)
        except InvalidAnswerError:  # the limits have changed since it was asked
            return None
        finally:
            toolbox.begin()
        self._adviser.used(observation, plan.change)
        self.advised = plan, advice
        return plan


class LlmCritic:
    """The stricter of two verdicts on a model's own plan, which it may refuse or trim; on other
    plans the fallback's."""

    def __init__(self, planner: LlmPlanner, *, fallback: Critic) -> None:
        self._planner, self._fallback = planner, fallback

    @property
    def name(self) -> str:
        """With the model's name."""
        return self._planner.name

    async def review(
        self, observation: Observation, recalled: Sequence[Recalled], plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        """The model's verdict counts where the fallback lets the plan pass."""
        first = await self._fallback.review(observation, recalled, plan, toolbox)
        said = self._said_of(plan)
        if said is None or first.decision == "refuse" or first.change.is_empty:
            return first
        change = _allowed(first.change, said, observation.settings)
        if change is None:
            return first
        return Verdict(
            decision=first.decision if said.decision == "approve" else said.decision,
            critic=self.name,
            change=change,
            expected=first.expected if change.is_empty else toolbox.whatif.effect(change),
            reason=clean(said.reason),
        )

    def _said_of(self, plan: Plan) -> CriticAnswer | None:
        if self._planner.advised is None or self._planner.advised[0] != plan:
            return None
        return self._planner.advised[1].verdict


def _allowed(change: Change, said: CriticAnswer, present: BufferSettings) -> Change | None:
    """What the answer leaves of a change; None where it is a trim that is none under the present
    settings."""
    if said.decision != "trim":
        return change if said.decision == "approve" else Change()
    try:
        rows, wanted = present.capacity_rows, change.capacity_rows
        check_trim(said.capacity_rows, present=rows, wanted=wanted)
    except InvalidAnswerError:
        return None
    return change.model_copy(update={"capacity_rows": said.capacity_rows})
