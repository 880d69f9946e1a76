"""Makes the agents of a recorded decision again, or others in their place."""

from __future__ import annotations

from typing import get_args

from rudder.agents.llm.consultation import Advice, Adviser
from rudder.agents.llm.exchange import Exchange
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.baselines import PeriodicPlanner
from rudder.agents.planners.own import OWN
from rudder.agents.replay.recorded_run import Scene
from rudder.agents.roles import Planner
from rudder.agents.team import Team, advised, critic_of, joining_team, planner_of
from rudder.agents.turns import TEAM
from rudder.training.steering_options import (
    OWN_PLANNERS,
    ClassifierName,
    PlannerName,
    SteeringOptions,
)

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
    if scene.episode.plan.planner == TEAM:
        return None
    for plan in scene.episode.plans:
        if plan.planner.startswith(_LLM):
            if plan.asked_step is None:
                return "its model was asked as earlier versions did, within the decision"
            if not any(_is_plan(each) for each in scene.exchanges):
                return _nobody("planner", plan.planner)
        elif plan.planner.startswith(OWN):
            if missing := OWN_PLANNERS.problem(plan.planner.removeprefix(OWN)):
                return missing
        elif plan.planner not in _PLANNERS:
            return _nobody("planner", plan.planner)
    critic = scene.episode.verdict.critic if scene.episode.verdict else "embedded"
    if critic not in _CRITICS and not critic.startswith(_LLM):
        return _nobody("critic", critic)
    return None


def _is_plan(exchange: Exchange) -> bool:
    return exchange.asked.question.role == "planner" and exchange.came.error is None


def recorded_team(scene: Scene) -> Team:
    """The agents of the decision, which hear what a model had answered."""
    if scene.episode.plan.planner == TEAM:
        return joining_team()
    planner = scene.episode.plan.planner
    name: str = _PLANNERS.get(planner, "embedded")
    if planner.startswith(OWN):
        name = planner.removeprefix(OWN)
    team = Team(
        observer=EmbeddedObserver(),
        planner=planner_named(name, scene=scene),
        critic=critic_of(_options(scene, name)),
    )
    if not scene.exchanges:
        return team
    return advised(team, Adviser(Advice.of(scene.exchanges)))


def planner_named(name: str, *, scene: Scene) -> Planner:
    """A planner of this name, in the state that it had when the decision was made."""
    if name == "periodic":
        return PeriodicPlanner(last_step=scene.last_round_step)
    return planner_of(_options(scene, name))


def _options(scene: Scene, name: str) -> SteeringOptions:
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
