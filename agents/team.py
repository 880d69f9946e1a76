"""Who steers a trainer: the roles that the options of a run name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.guard import DEFAULT_STEPS, Steps
from rudder.agents.learned.opening import is_learned, open_planner
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.team import Team, asker_of, ignore_exchange, open_chat, with_llm
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.adversarial import AdversarialPlanner
from rudder.agents.planners.collecting import (
    COLLECTING_STEPS,
    CollectingCritic,
    CollectingPlanner,
)
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.planners.fixed import FixedPlanner
from rudder.agents.planners.heuristic import HeuristicPlanner
from rudder.agents.planners.periodic import PeriodicPlanner
from rudder.agents.preference import Preference
from rudder.agents.roles import Critic, Planner
from rudder.training.errors import RudderError
from rudder.training.steering_options import SteeringOptions
from rudder.training.workload import Workload


def preference_of(options: SteeringOptions) -> Preference:
    """What the options call better."""
    return Preference(objective=options.objective, tolerance=options.tolerance)


def planner_of(options: SteeringOptions) -> Planner:
    """The planner of that name; for `llm` the one that takes over from the model.

    Raises ConfigError, DataError or MachineError where a learned one cannot be opened.
    """
    if is_learned(options.planner):
        return open_planner(options)
    if options.planner == "collect":
        return CollectingPlanner(seed=options.seed)
    if options.planner == "fixed":
        return FixedPlanner()
    if options.planner == "periodic":
        return PeriodicPlanner()
    if options.planner == "heuristic":
        return HeuristicPlanner()
    if options.planner == "adversarial":
        return AdversarialPlanner(seed=options.seed)
    return EmbeddedPlanner(preference=preference_of(options))


def critic_of(options: SteeringOptions) -> Critic:
    """The embedded critic; for a run that explores the one that lets it."""
    if options.planner == "collect":
        return CollectingCritic()
    return EmbeddedCritic(preference=preference_of(options))


def steps_of(options: SteeringOptions) -> Steps:
    """How far and how often the guard lets settings change."""
    return COLLECTING_STEPS if options.planner == "collect" else DEFAULT_STEPS


def import_ahead(options: SteeringOptions) -> None:
    """Import the libraries that the roles need, which takes seconds, before anybody waits for them;
    what is wrong with a model's file is told by `make_team`."""
    if options.planner == "llm":
        import rudder.agents.llm.openai_chat  # noqa: F401
    elif is_learned(options.planner):
        with contextlib.suppress(RudderError):
            open_planner(options)


def make_team(
    options: SteeringOptions,
    workload: Workload,
    *,
    on_exchange: Callable[[Exchange], None] = ignore_exchange,
) -> Team:
    """Observer, planner and critic of one trainer; raises ConfigError where a model is misnamed."""
    team = Team(
        observer=EmbeddedObserver(),
        planner=planner_of(options),
        critic=critic_of(options),
    )
    if options.planner != "llm":
        return team
    asker = asker_of(
        open_chat(options), options=options, workload=workload, on_exchange=on_exchange
    )
    return with_llm(team, asker, options=options)
