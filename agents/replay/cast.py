"""The agents that made a recorded decision, made again, and others in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import Breaker, Budget, Stagger
from rudder.agents.llm.errors import RefusedError
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.messages import Mode, Question, Reply
from rudder.agents.llm.recorded import RecordedChat
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.baselines import PeriodicPlanner
from rudder.agents.replay.recorded_run import Scene
from rudder.agents.roles import Planner
from rudder.agents.team import Team, critic_of, ignore_exchange, planner_of, with_llm
from rudder.memory.journal import Node
from rudder.training.steering_options import ClassifierName, PlannerName, SteeringOptions

_NO_LIMIT = 2**62
_DEADLINE_S = 3600.0


class PacedChat(RecordedChat):
    """The answers of one decision.

    While the run was still finding out which mode the endpoint knows, it may have given up some
    in an earlier decision: those are refused here.
    """

    def __init__(self, exchanges: Sequence[Exchange], *, on_answer: Callable[[str], None]) -> None:
        """on_answer: told the role whose question is answered."""
        super().__init__(exchanges)
        self._on_answer = on_answer
        self._asked_modes = {each.asked.mode for each in exchanges}

    async def complete(self, question: Question, *, mode: Mode) -> Reply:
        """The stored answer; raises as RecordedChat does."""
        if self.mode is None and mode not in self._asked_modes:
            raise RefusedError("given up before", status=0)
        try:
            return await super().complete(question, mode=mode)
        finally:
            self._on_answer(question.role)


def recorded_asker(exchanges: Sequence[Exchange], *, on_answer: Callable[[str], None]) -> Asker:
    """Asks the record: at once, and as often as the run did."""
    return Asker(
        PacedChat(exchanges, on_answer=on_answer),
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
