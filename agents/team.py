"""Who steers a trainer: the roles that the options of a run name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.guard import DEFAULT_STEPS, Steps
from rudder.agents.learned.planner import is_learned, open_planner
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import Breaker, Budget, Stagger
from rudder.agents.llm.critic import LlmCritic
from rudder.agents.llm.endpoint import endpoint_of
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.messages import Chat
from rudder.agents.llm.observer import LlmObserver
from rudder.agents.llm.planner import LlmPlanner
from rudder.agents.llm.published import ModelAnswer
from rudder.agents.objective import Preference
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.baselines import (
    AdversarialPlanner,
    FixedPlanner,
    HeuristicPlanner,
    PeriodicPlanner,
)
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.planners.exploring import COLLECTING_STEPS, CollectingCritic, CollectingPlanner
from rudder.agents.planners.published import (
    PUBLISHED_STEPS,
    Fitted,
    PublishedPlanner,
    Rule,
    WillingCritic,
)
from rudder.agents.roles import Critic, Observer, Planner
from rudder.training.errors import RudderError
from rudder.training.steering_options import SteeringOptions
from rudder.training.workload import Workload


@dataclass(frozen=True)
class Team:
    """Who decides; asker: the way to the model that some of them ask, None: nobody does; second:
    the planner that is asked where the first one's plan comes to nothing, None: nobody is."""

    observer: Observer
    planner: Planner
    critic: Critic
    asker: Asker | None = None
    second: Planner | None = None


def ignore_exchange(exchange: Exchange) -> None:
    """Nobody keeps it."""


def open_chat(options: SteeringOptions) -> Chat:
    """The endpoint that the options name; raises ConfigError."""
    from rudder.agents.llm.openai_chat import OpenAIChat  # imports an HTTP client

    return OpenAIChat(endpoint_of(options), socket=options.llm_socket)


def asker_of(
    chat: Chat,
    *,
    options: SteeringOptions,
    workload: Workload,
    on_exchange: Callable[[Exchange], None] = ignore_exchange,
    clock: Callable[[], float] = time.monotonic,
) -> Asker:
    """One trainer's way to its model, within the options' deadline and budget."""
    rank = workload.rank
    return Asker(
        chat,
        breaker=Breaker(clock, random=Random(f"{options.seed}/{rank}")),
        budget=Budget(max_calls=options.llm_max_calls, max_tokens=options.llm_max_tokens),
        stagger=Stagger(
            rank=rank,
            world_size=workload.world_size,
            deadline_s=options.llm_deadline_s,
            seed=options.seed,
        ),
        deadline_s=options.llm_deadline_s,
        on_exchange=on_exchange,
    )


def with_llm(team: Team, asker: Asker, *, options: SteeringOptions) -> Team:
    """The team with the chosen roles asking the model; each falls back on whom it replaces,
    and a model's plan that comes to nothing has the planner replaced asked."""
    roles, objective = options.llm_roles, options.objective
    observer, planner, critic = team.observer, team.planner, team.critic
    second = team.second
    if "observer" in roles:
        observer = LlmObserver(asker, fallback=observer, objective=objective)
    if "planner" in roles:
        second = planner
        planner = LlmPlanner(asker, fallback=planner, objective=objective)
    if "critic" in roles:
        critic = LlmCritic(asker, fallback=critic, objective=objective)
    return Team(observer, planner, critic, asker, second)


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
        return HeuristicPlanner(preference=preference_of(options))
    if options.planner == "published":
        fitted = options.planner_model is not None
        return PublishedPlanner(Fitted(open_planner(options)) if fitted else Rule())
    if options.planner == "adversarial":
        return AdversarialPlanner(seed=options.seed)
    return EmbeddedPlanner(preference=preference_of(options))


def critic_of(options: SteeringOptions) -> Critic:
    """The embedded critic; for a run that explores the one that lets it."""
    if options.planner == "collect":
        return CollectingCritic()
    if options.planner == "published":
        return WillingCritic()
    return EmbeddedCritic(preference=preference_of(options))


def steps_of(options: SteeringOptions) -> Steps:
    """How far and how often the guard lets settings change."""
    special = {"collect": COLLECTING_STEPS, "published": PUBLISHED_STEPS}
    return special.get(options.planner, DEFAULT_STEPS)


def check_models(options: SteeringOptions | None) -> None:
    """Before a run starts: whether a fitted model can be used, and the endpoint's address and key
    can be ones. Raises ConfigError, DataError and MachineError."""
    if options is not None and _needs_file(options):
        open_planner(options)
    if options is not None and options.llm_url is not None:
        endpoint_of(options)


def _needs_file(options: SteeringOptions) -> bool:
    is_fitted = options.planner == "published" and options.planner_model is not None
    return is_fitted or is_learned(options.planner)


def _asks_model(options: SteeringOptions) -> bool:
    return options.planner == "llm" or (
        options.planner == "published" and options.llm_url is not None
    )


def import_ahead(options: SteeringOptions) -> None:
    """Import the libraries that the roles need, which takes seconds, before anybody waits for them;
    what is wrong with a model's file is told by `make_team`."""
    if _asks_model(options):
        import rudder.agents.llm.openai_chat  # noqa: F401
    elif _needs_file(options):
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
    if not _asks_model(options):
        return team
    asker = asker_of(
        open_chat(options), options=options, workload=workload, on_exchange=on_exchange
    )
    if options.planner == "published":
        return replace(team, planner=PublishedPlanner(ModelAnswer(asker)), asker=asker)
    return with_llm(team, asker, options=options)
