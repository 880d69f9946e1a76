"""A planner that asks a model for one call of a write tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rudder.agents.llm.answers import clean
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.errors import ChatError
from rudder.agents.llm.messages import Question, Reply
from rudder.agents.llm.prompts import Briefing, brief, planner_prompt, system_prompt
from rudder.agents.llm.proposals import choice_schema, offered, stage
from rudder.agents.roles import Planner
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change
from rudder.training.steering_options import Objective

_FIRST_TURNS = 2
_MAX_TURNS = 16


class LlmBackoff:
    """Lets the embedded planner decide for a while after plans of the model that gained nothing.

    After a decision that changes nothing the controller pauses, so plans without a gain cost time.
    The embedded planner decides 2 times after the first of them, 4 times after the next, up to 16;
    after a plan with a gain it is 2 again.
    """

    def __init__(self) -> None:
        self._before: _Before | None = None
        self._turns_left = 0
        self._turns = _FIRST_TURNS

    def may_plan(self, observation: Observation) -> bool:
        """Whether the model may plan now. A plan has gained if its settings are in force
        and the wait that could be saved came down by more than the noise."""
        if self._before is not None:
            gained = self._before.is_gain(observation)
            self._before = None
            self._turns_left = 0 if gained else self._turns
            self._turns = _FIRST_TURNS if gained else min(2 * self._turns, _MAX_TURNS)
        self._turns_left -= 1
        return self._turns_left < 0

    def planned(self, observation: Observation, change: Change) -> None:
        """The model has planned this change on this observation."""
        settings = observation.settings
        self._before = _Before(settings, observation.headroom_wait_ms or 0.0, change.over(settings))


@dataclass(frozen=True)
class _Before:
    """What a model's plan was made on, and the plan; the wait that could be saved drifts by
    itself, and somebody else's plan may have been carried out."""

    settings: BufferSettings
    headroom_ms: float
    planned: BufferSettings

    def is_gain(self, after: Observation) -> bool:
        saved_ms = self.headroom_ms - (after.headroom_wait_ms or 0.0)
        return self._is_in_force(after.settings) and saved_ms > after.noise_wait_ms

    def _is_in_force(self, settings: BufferSettings) -> bool:
        """Whether the plan was carried out, with all of its capacity or as much as was let pass."""
        if settings == self.settings:
            return False
        low, high = sorted((self.settings.capacity_rows, self.planned.capacity_rows))
        rows = {"capacity_rows": settings.capacity_rows}
        is_within = low <= settings.capacity_rows <= high
        return is_within and settings == self.planned.model_copy(update=rows)


class LlmPlanner:
    """Asks the model if something could be gained. The fallback plans if not, if no usable answer
    comes in time, and for some turns after a model's plan that gained nothing."""

    def __init__(self, asker: Asker, *, fallback: Planner, objective: Objective = "time") -> None:
        self._asker, self._fallback, self._objective = asker, fallback, objective
        self._backoff = LlmBackoff()

    @property
    def name(self) -> str:
        """With the model's name."""
        return f"llm:{self._asker.model}"

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """The model's plan, or the fallback's under the fallback's name."""
        is_worth_asking = observation.has_headroom and toolbox.whatif.is_ready
        if not is_worth_asking or not self._backoff.may_plan(observation):
            return await self._fallback.plan(observation, recalled, toolbox)
        question = planner_question(
            brief(observation, recalled, toolbox, objective=self._objective)
        )
        call_id = f"window-{observation.window}"

        def read(reply: Reply) -> Plan:
            stage(reply, question.tools, toolbox, call_id=call_id)
            return self._staged(toolbox)

        try:
            plan = await self._asker.ask(question, read, seen=observation)
        except ChatError:
            toolbox.begin()
            return await self._fallback.plan(observation, recalled, toolbox)
        self._backoff.planned(observation, plan.change)
        return plan

    def _staged(self, toolbox: Toolbox) -> Plan:
        staging = toolbox.staging
        return Plan(
            planner=self.name,
            change=staging.change,
            expected=toolbox.expected,
            reason=clean(staging.reason),
            calls=staging.calls,
        )


def planner_question(briefing: Briefing) -> Question:
    """What a planner is asked."""
    forms = offered(briefing.limits)
    return Question(
        role="planner",
        system=system_prompt("planner"),
        user=planner_prompt(briefing),
        tools=forms,
        schema_=choice_schema(forms),
    )
