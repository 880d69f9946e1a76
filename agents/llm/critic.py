"""A critic that asks a model, and is never less strict than the embedded one."""

from __future__ import annotations

from collections.abc import Sequence

from rudder.agents.llm.answers import CriticAnswer, clean, form_of, read_answer
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.errors import ChatError, InvalidAnswerError
from rudder.agents.llm.messages import Question, Reply
from rudder.agents.llm.prompts import Briefing, brief, critic_prompt, system_prompt
from rudder.agents.roles import Critic
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.limits import Limits
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change
from rudder.training.steering_options import Objective

_TOOL = "give_verdict"


class LlmCritic:
    """The model is asked about plans that the fallback accepts, and may refuse them or trim their
    growth. After it has refused, it is not asked about the next plan, so that it cannot stop all
    changes. It is asked about the first plan of a decision only, so that the cost is bounded."""

    def __init__(self, asker: Asker, *, fallback: Critic, objective: Objective = "time") -> None:
        self._asker, self._fallback, self._objective = asker, fallback, objective
        self._has_refused = False
        self._window: int | None = None

    @property
    def name(self) -> str:
        """With the model's name."""
        return f"llm:{self._asker.model}"

    async def review(
        self, observation: Observation, recalled: Sequence[Recalled], plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        """The stricter of two verdicts."""
        first = await self._fallback.review(observation, recalled, plan, toolbox)
        is_second, self._window = self._window == observation.window, observation.window
        if is_second or first.decision == "refuse" or first.change.is_empty:
            return first
        if not toolbox.whatif.is_ready:
            return first
        if self._has_refused:
            self._has_refused = False
            return first
        briefing = brief(observation, recalled, toolbox, objective=self._objective)
        passed = plan.model_copy(update={"change": first.change, "expected": first.expected})
        try:
            answer = await self._asker.ask(
                critic_question(briefing, passed),
                lambda reply: _read(reply, first.change, observation.settings, toolbox.limits),
                seen=observation,
            )
        except ChatError:
            return first
        self._has_refused = answer.decision == "refuse"
        return self._combined(first, answer, toolbox)

    def _combined(self, first: Verdict, answer: CriticAnswer, toolbox: Toolbox) -> Verdict:
        change, expected, decision = first.change, first.expected, first.decision
        if answer.decision == "refuse":
            change, decision = Change(), "refuse"
        elif answer.decision == "trim":
            change = change.model_copy(update={"capacity_rows": answer.capacity_rows})
            expected, decision = toolbox.whatif.effect(change), "trim"
        return Verdict(
            decision=decision,
            critic=self.name,
            change=change,
            expected=expected,
            reason=clean(answer.reason),
        )


def critic_question(briefing: Briefing, plan: Plan) -> Question:
    """What a critic is asked."""
    form = form_of(CriticAnswer, name=_TOOL)
    user = critic_prompt(briefing, plan)
    return Question.of("critic", form, system=system_prompt("critic"), user=user)


def _read(reply: Reply, change: Change, settings: BufferSettings, limits: Limits) -> CriticAnswer:
    """Checks that a trim lies between the present capacity and the plan's."""
    answer = read_answer(reply, CriticAnswer, name=_TOOL)
    if answer.decision != "trim":
        return answer
    present, wanted = settings.capacity_rows, change.capacity_rows
    if wanted is None or wanted <= present:
        raise InvalidAnswerError("limits", "only a growing capacity_rows can be trimmed")
    if not present < answer.capacity_rows < wanted:
        reason = f"trim capacity_rows to more than {present} and less than {wanted}"
        raise InvalidAnswerError("limits", reason)
    trimmed = change.model_copy(update={"capacity_rows": answer.capacity_rows})
    if limits.problem(trimmed, settings=settings) is not None:
        raise InvalidAnswerError("limits", "the trimmed change is not within the limits")
    return answer
