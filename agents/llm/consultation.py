"""What a model advises: asked about one observation in the background, heard at a later decision.

The embedded agents never wait for it. Its plan is judged on the observation of the decision that
hears it; it is dropped where the regime that it was asked about has ended (agents/regime.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from rudder.agents.llm.answers import CriticAnswer, ObserverAnswer, clean, form_of, read_answer
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.backoff import LlmBackoff
from rudder.agents.llm.errors import ChatError, InvalidAnswerError
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.messages import AgentRole, Question, Reply
from rudder.agents.llm.prompts import (
    Briefing,
    brief,
    critic_prompt,
    observer_prompt,
    planner_prompt,
    system_prompt,
)
from rudder.agents.llm.proposals import (
    MAX_LOOK_UPS,
    LookUp,
    look_up_forms,
    look_ups,
    set_form,
    stage,
)
from rudder.agents.objective import DEFAULT_PREFERENCE, Preference
from rudder.agents.regime import ending
from rudder.memory.journal import Recalled
from rudder.memory.records import Episode, Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.metrics import StepTiming
from rudder.training.settings import Change
from rudder.training.steering_options import LlmRole

OBSERVER_TOOL, CRITIC_TOOL = "describe", "give_verdict"
Answers: TypeAlias = dict[AgentRole, tuple[Question, Reply]]


@dataclass(frozen=True)
class Advice:
    """A model's usable answers about one observation, by the role that it was asked as.

    step: of the observation; model: its name. They are read again wherever they are used, so that
    a record of them leads to the same plan.
    """

    step: int
    model: str
    answers: Mapping[AgentRole, tuple[Question, Reply]]

    @classmethod
    def of(cls, exchanges: Sequence[Exchange]) -> Advice:
        """The recorded one; exchanges: about one observation, at least one."""
        usable = [each for each in exchanges if each.came.reply and not each.came.error]
        answers = {
            each.asked.question.role: (each.asked.question, each.came.reply)
            for each in usable
            if each.came.reply is not None
        }
        return cls(exchanges[0].step, exchanges[0].model, answers)

    def plan(self, toolbox: Toolbox) -> Plan:
        """The plan, staged on what the toolbox allows now; raises InvalidAnswerError."""
        _, reply = self.answers["planner"]
        return read_plan(reply, toolbox, step=self.step, model=self.model)

    @property
    def verdict(self) -> CriticAnswer | None:
        """What the model said of its plan as critic; None if it was not asked."""
        if "critic" not in self.answers:
            return None
        return read_answer(self.answers["critic"][1], CriticAnswer, name=CRITIC_TOOL)


def read_plan(reply: Reply, toolbox: Toolbox, *, step: int, model: str) -> Plan:
    """Stage what a reply sets; raises InvalidAnswerError, and then nothing is staged."""
    stage(reply, toolbox, call_id=f"asked-{step}")
    return Plan(
        planner=f"llm:{model}",
        change=toolbox.staging.change,
        expected=toolbox.expected,
        reason=clean(toolbox.staging.reason),
        calls=toolbox.staging.calls,
        asked_step=step,
    )


def asks_model(rank: int, *, peers: Sequence[StepTiming] = ()) -> bool:
    """Whether this rank asks for its whole job: the lowest one that trains does. Before the ranks
    have heard of each other it is rank 0."""
    others = (peer.rank if peer.lowest_rank is None else peer.lowest_rank for peer in peers)
    return rank < min(others, default=1)


class Adviser:
    """Advises planner and critic: this one once, with what a model had said to an earlier run."""

    def __init__(self, advice: Advice) -> None:
        self._advice: Advice | None = advice
        self.model = advice.model

    def take(self, observation: Observation, toolbox: Toolbox) -> Advice | None:
        """The advice that has come, once; None where there is none, or it is stale."""
        advice, self._advice = self._advice, None
        return advice

    async def offer(
        self, proposal: Plan, observation: Observation, recalled: Sequence[Recalled],
        toolbox: Toolbox,
    ) -> None:  # fmt: skip
        """The embedded planner has proposed this: the model may be asked, too."""

    def used(self, observation: Observation, change: Change) -> None:
        """The advice taken last has become this plan on this observation."""


class Consultation(Adviser):
    """Asks when something could be gained, at the first decision with estimates, when the regime
    has changed, and after a trial that was reverted; one inquiry at a time."""

    def __init__(
        self,
        asker: Asker,
        *,
        roles: tuple[LlmRole, ...] = ("planner",),
        preference: Preference = DEFAULT_PREFERENCE,
        waits: bool = False,
    ) -> None:
        """waits: `offer` waits for the answer, as no run does."""
        self._asker, self._roles, self._preference = asker, roles, preference
        self._waits, self._backoff, self.model = waits, LlmBackoff(), asker.model
        self._asked: Observation | None = None

    def take(self, observation: Observation, toolbox: Toolbox) -> Advice | None:
        """Stale advice is counted, and dropped; if none came, the model is asked anew."""
        background, latest = self._asker.background, toolbox.history.latest
        if not background.has_answer or self._asked is None or latest is None:
            return None
        advice: Advice | None = background.take()
        if advice is None:
            self._asked = None
        elif ending(latest, self._asked):
            self._asker.drop_stale()
            return None
        return advice

    async def offer(
        self, proposal: Plan, observation: Observation, recalled: Sequence[Recalled],
        toolbox: Toolbox,
    ) -> None:  # fmt: skip
        """Begin to ask, if it is time."""
        if not self._is_due(observation, toolbox):
            return
        self._asked = observation
        objective, change = self._preference.objective, proposal.change
        briefing = brief(observation, recalled, toolbox, objective=objective, proposal=change)
        inquiry = consult(self._asker, briefing, roles=self._roles, toolbox=toolbox.apart())
        self._asker.background.begin(inquiry)
        if self._waits:
            await self._asker.background.settled()

    def used(self, observation: Observation, change: Change) -> None:
        """For the model's turns: a plan that gains nothing costs it some."""
        self._backoff.planned(observation, change)

    def _is_due(self, observation: Observation, toolbox: Toolbox) -> bool:
        history = toolbox.history
        is_able = toolbox.whatif.is_ready and self._asker.background.is_idle
        is_asker = self._waits or asks_model(history.workload.rank, peers=observation.peers)
        if not is_able or not is_asker:
            return False
        asked, latest = self._asked, history.latest
        if asked is None or latest is None or ending(latest, asked):
            return True
        if _reverted_since(asked.step, toolbox):
            return True
        return observation.has_headroom(self._preference.objective) and self._backoff.may_plan(
            observation
        )


def _reverted_since(step: int, toolbox: Toolbox) -> bool:
    """Whether the last trial was reverted, of a change that was made after this step."""
    for each in toolbox.recall(1):
        episode = Episode.model_validate(each)
        is_new = episode.observation.step > step
        return is_new and episode.outcome is not None and episode.outcome.result == "reverted"
    return False


async def consult(
    asker: Asker, briefing: Briefing, *, roles: Collection[LlmRole], toolbox: Toolbox
) -> Advice:
    """Ask about one observation as each of the roles, one after the other; without a plan there is
    no advice. toolbox: of the inquiry alone. Raises ChatError."""
    seen = briefing.observation
    answers: Answers = {}
    if "observer" in roles:
        briefing = await _judged(asker, briefing, answers)

    briefing, plan = await _planned(asker, briefing, toolbox, answers)
    if "critic" in roles and not plan.change.is_empty:
        await _criticised(asker, briefing, plan, answers)
    return Advice(seen.step, asker.model, answers)


async def _planned(
    asker: Asker, briefing: Briefing, toolbox: Toolbox, answers: Answers
) -> tuple[Briefing, Plan]:
    """The model's plan, after as many look-ups as it may make, which the briefing then has."""
    seen = briefing.observation

    def read(reply: Reply) -> tuple[tuple[LookUp, ...], Plan | None, Reply]:
        found = look_ups(reply, question.tools, toolbox)
        if found:
            return found, None, reply
        return found, read_plan(reply, toolbox, step=seen.step, model=asker.model), reply

    while True:
        question = planner_question(briefing)
        found, plan, reply = await asker.ask(question, read, seen=seen)
        if plan is not None:
            answers["planner"] = question, reply
            return briefing, plan
        known = (*briefing.look_ups, *found)[:MAX_LOOK_UPS]
        briefing = replace(briefing, look_ups=known)


async def _judged(asker: Asker, briefing: Briefing, answers: Answers) -> Briefing:
    """Bottleneck and trend as the model names them; as they were where it does not."""
    question, seen = observer_question(briefing), briefing.observation
    try:
        said, reply = await asker.ask(
            question,
            lambda reply: (read_answer(reply, ObserverAnswer, name=OBSERVER_TOOL), reply),
            seen=seen,
        )
    except ChatError:
        return briefing
    answers["observer"] = question, reply
    return briefing.judged(bottleneck=said.bottleneck, trend=said.trend)


async def _criticised(asker: Asker, briefing: Briefing, plan: Plan, answers: Answers) -> None:
    question = critic_question(briefing, plan)
    present = briefing.observation.settings.capacity_rows

    def read(reply: Reply) -> Reply:
        said = read_answer(reply, CriticAnswer, name=CRITIC_TOOL)
        if said.decision == "trim":
            check_trim(said.capacity_rows, present=present, wanted=plan.change.capacity_rows)
        return reply

    try:
        answers["critic"] = question, await asker.ask(question, read, seen=briefing.observation)
    except ChatError:
        return


def check_trim(rows: int, *, present: int, wanted: int | None) -> None:
    """Raises InvalidAnswerError unless a trim lies between the present capacity and the plan's."""
    if wanted is None or wanted <= present:
        raise InvalidAnswerError("limits", "only a growing capacity_rows can be trimmed")
    if not present < rows < wanted:
        reason = f"trim capacity_rows to more than {present} and less than {wanted}"
        raise InvalidAnswerError("limits", reason)


def observer_question(briefing: Briefing) -> Question:
    """What an observer is asked."""
    form = form_of(ObserverAnswer, name=OBSERVER_TOOL)
    user = observer_prompt(briefing)
    return Question.of("observer", form, system=system_prompt("observer"), user=user)


def planner_question(briefing: Briefing) -> Question:
    """What a planner is asked: to set knobs, or to look something up while it may."""
    form, limits = set_form(briefing.limits), briefing.limits
    may_look_up = len(briefing.look_ups) < MAX_LOOK_UPS and briefing.present is not None
    return Question(
        role="planner",
        system=system_prompt("planner"),
        user=planner_prompt(briefing),
        tools=(form, *look_up_forms(limits)) if may_look_up else (form,),
        schema_=form.parameters,
    )


def critic_question(briefing: Briefing, plan: Plan) -> Question:
    """What a critic is asked."""
    form = form_of(CriticAnswer, name=CRITIC_TOOL)
    user = critic_prompt(briefing, plan)
    return Question.of("critic", form, system=system_prompt("critic"), user=user)
