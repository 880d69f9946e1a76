"""An observer that has a model judge the embedded observer's figures."""

from __future__ import annotations

from rudder.agents.llm.answers import ObserverAnswer, form_of, read_answer
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.errors import ChatError
from rudder.agents.llm.messages import Question
from rudder.agents.llm.prompts import Briefing, observer_prompt, system_prompt
from rudder.agents.roles import Observer
from rudder.memory.records import Observation
from rudder.tools.toolbox import Toolbox
from rudder.training.steering_options import Objective

_TOOL = "describe"


class LlmObserver:
    """Figures stay as they were measured: a model only names the bottleneck and the trend."""

    def __init__(self, asker: Asker, *, fallback: Observer, objective: Objective = "time") -> None:
        self._asker, self._fallback, self._objective = asker, fallback, objective

    @property
    def name(self) -> str:
        """With the model's name."""
        return f"llm:{self._asker.model}"

    async def observe(self, toolbox: Toolbox) -> Observation:
        """The fallback's observation, judged by the model where something could be gained."""
        seen = await self._fallback.observe(toolbox)
        if seen.bottleneck == "unknown" or not seen.has_headroom:
            return seen
        try:
            answer = await self._asker.ask(
                observer_question(Briefing(seen, toolbox.limits, self._objective)),
                lambda reply: read_answer(reply, ObserverAnswer, name=_TOOL),
                seen=seen,
            )
        except ChatError:
            return seen
        return seen.model_copy(update={"bottleneck": answer.bottleneck, "trend": answer.trend})


def observer_question(briefing: Briefing) -> Question:
    """What an observer is asked."""
    form = form_of(ObserverAnswer, name=_TOOL)
    user = observer_prompt(briefing)
    return Question.of("observer", form, system=system_prompt("observer"), user=user)
