"""A planner that asks a model for one call of a write tool."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.llm.answers import clean
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.briefing import brief
from rudder.agents.llm.errors import ChatError
from rudder.agents.llm.messages import Question, Reply
from rudder.agents.llm.patience import Patience
from rudder.agents.llm.proposals import choice_schema, offered, stage
from rudder.agents.prompts import Briefing, planner_prompt, system_prompt
from rudder.agents.roles import Planner
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.steering_options import Objective


class LlmPlanner:
    """Asks where something could be gained. Everywhere else, where no usable answer comes in time,
    and in turn with a model whose plans gain nothing, the fallback plans."""

    def __init__(self, asker: Asker, *, fallback: Planner, objective: Objective = "wait") -> None:
        self._asker, self._fallback, self._objective = asker, fallback, objective
        self._patience = Patience()

    @property
    def name(self) -> str:
        """With the model's name."""
        return f"llm:{self._asker.model}"

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """The model's plan, or the fallback's under the fallback's name."""
        is_worth_asking = observation.has_headroom and toolbox.whatif.is_ready
        if not is_worth_asking or not self._patience.lasts(observation):
            return await self._fallback.plan(observation, recalled, toolbox)
        question = planner_question(
            brief(observation, recalled, toolbox, objective=self._objective)
        )
        call_id = f"window-{observation.window}"

        def read(reply: Reply) -> Plan:
            stage(reply, question.tools, toolbox, call_id=call_id)
            return self._staged(toolbox)

        try:
            plan = await self._asker.ask(
                question, read, window=observation.window, step=observation.step
            )
        except ChatError:
            toolbox.begin()
            return await self._fallback.plan(observation, recalled, toolbox)
        self._patience.planned(observation, plan.change)
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
