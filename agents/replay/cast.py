"""The agents that made a recorded decision, made again, and others in their place."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import get_args

from rudder.agents.llm import errors
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import Breaker, Budget, Stagger
from rudder.agents.llm.errors import (
    ChatError,
    EndpointError,
    InvalidAnswerError,
    NotRecordedError,
    RefusedError,
)
from rudder.agents.llm.exchange import Came, Exchange, digest
from rudder.agents.llm.messages import Mode, Question, Reply
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.baselines import PeriodicPlanner
from rudder.agents.replay.recorded_run import Scene
from rudder.agents.roles import Planner
from rudder.agents.team import Team, critic_of, ignore_exchange, planner_of, with_llm
from rudder.memory.journal import Node
from rudder.training.steering_options import ClassifierName, PlannerName, SteeringOptions

_INVALID = "InvalidAnswerError."
_NO_LIMIT = 2**62
_DEADLINE_S = 3600.0


class RecordedChat:
    """Answers questions as a run's model did in one decision; opens no socket.

    A question that was asked several times gets its answers in their order; one that was not
    asked raises NotRecordedError, as a question that the breaker or the budget forbade then. While
    the run was still finding out which mode the endpoint knows, it may have given up some in an
    earlier decision: those are refused here.
    """

    def __init__(
        self, exchanges: Sequence[Exchange], *, on_answer: Callable[[str], None] = lambda role: None
    ) -> None:
        """on_answer: told the role whose question is answered."""
        self._on_answer = on_answer
        self._answers: dict[str, deque[Came]] = defaultdict(deque)
        for each in exchanges:
            self._answers[digest(each.asked.question, each.asked.mode)].append(each.came)
        first = exchanges[0] if exchanges else None
        self.model = "none" if first is None else first.model
        self.mode: Mode | None = None if first is None or first.asked.is_trial else first.asked.mode
        self._known_modes = {each.asked.mode for each in exchanges}

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """The stored answer; raises the stored error again, or NotRecordedError."""
        if self.mode is None and self._known_modes and mode not in self._known_modes:
            raise RefusedError("given up before", status=0)
        self._on_answer(question.role)
        answers = self._answers.get(digest(question, mode))
        if not answers:
            raise NotRecordedError("the recorded run did not ask this")
        came = answers.popleft()
        if came.reply is None:
            raise _error(came)
        return came.reply

    async def close(self) -> None:
        """Nothing is open."""


def _error(came: Came) -> ChatError:
    name = came.error or ""
    if name.startswith(_INVALID):
        # Stored by this class's own name, so the kind is one of the known ones.
        return InvalidAnswerError(name.removeprefix(_INVALID), came.reason or "")  # type: ignore[arg-type]
    kind = getattr(errors, name, EndpointError)
    message = "as recorded"
    return RefusedError(message, status=0) if kind is RefusedError else kind(message)


def recorded_asker(exchanges: Sequence[Exchange], *, on_answer: Callable[[str], None]) -> Asker:
    """Asks the record: at once, and as often as the run did."""
    return Asker(
        RecordedChat(exchanges, on_answer=on_answer),
        breaker=Breaker(lambda: 0.0),
        budget=Budget(max_calls=_NO_LIMIT, max_tokens=_NO_LIMIT),
        stagger=Stagger(rank=0, world_size=1, deadline_s=_DEADLINE_S),
        deadline_s=_DEADLINE_S,
        on_exchange=ignore_exchange,
    )


_NODES: dict[str, Node] = {"observer": "observe", "planner": "plan", "critic": "criticise"}
_PLANNERS: dict[str, PlannerName] = {
    "embedded": "embedded",
    "fixed": "fixed",
    "periodic": "periodic",
    "heuristic": "heuristic",
    "collect": "collect",
    "published:rule": "published",
}
_CRITICS = ("embedded", "collect", "published")
_LLM = "llm:"


def why_not_recorded(scene: Scene) -> str | None:
    """Why the agents of this decision cannot be made again, or None."""
    asked = {each.asked.question.role for each in scene.exchanges}
    planner = scene.episode.plan.planner
    if planner not in _PLANNERS and not (planner.startswith(_LLM) and "planner" in asked):
        return _nobody("planner", planner)
    critic = scene.episode.verdict.critic if scene.episode.verdict else "embedded"
    if critic not in _CRITICS and not (critic.startswith(_LLM) and "critic" in asked):
        return _nobody("critic", critic)
    return None


def recorded_team(scene: Scene) -> Team:
    """The agents of the decision; models give their stored answers, and none to other questions."""
    name = _PLANNERS.get(scene.episode.plan.planner, "embedded")
    team = Team(
        observer=EmbeddedObserver(),
        planner=planner_named(name, scene=scene),
        critic=critic_of(_options(scene, name)),
    )
    roles = {each.asked.question.role for each in scene.exchanges} & _NODES.keys()
    if not roles:
        return team
    asker = recorded_asker(scene.exchanges, on_answer=lambda role: scene.end(_NODES[role]))
    options = _options(scene, name).model_copy(update={"llm_roles": tuple(sorted(roles))})
    return with_llm(team, asker, options=options)


def planner_named(name: PlannerName, *, scene: Scene) -> Planner:
    """A planner of this name, in the state that it had when the decision was made."""
    if name == "periodic":
        return PeriodicPlanner(last_step=scene.last_round_step)
    return planner_of(_options(scene, name))


def _options(scene: Scene, name: PlannerName) -> SteeringOptions:
    inputs = scene.inputs
    return SteeringOptions(
        planner=name, objective=inputs.objective, tolerance=inputs.tolerance, seed=inputs.seed
    )


def _nobody(role: str, name: str) -> str:
    if name.startswith(_LLM):
        return f"the answers of the model that was its {role} were not kept"
    if name.partition(":")[0] in get_args(ClassifierName):
        return f"its {role} is in the file of {name.partition('+')[0]}: give --planner-model FILE"
    return f"its {role}, {name}, is none that a name alone stands for"
