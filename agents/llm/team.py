"""The three roles of a run, some of them asking a model as the user chose."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from rudder.agents.chat import Chat
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import Breaker
from rudder.agents.llm.budget import Budget, Spread
from rudder.agents.llm.critic import LlmCritic
from rudder.agents.llm.endpoint import Endpoint
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.observer import LlmObserver
from rudder.agents.llm.planner import LlmPlanner
from rudder.agents.roles import Critic, Observer, Planner
from rudder.training.errors import ConfigError
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
    """The endpoint that the options name, with the key from RUDDER_LLM_KEY.

    Raises ConfigError where address or model is missing or wrong.
    """
    if options.llm_url is None or options.llm_model is None:
        raise ConfigError(
            "llm: an LLM planner needs an address and a model",
            remedy="give both: --llm http://localhost:11434/v1 --model NAME",
        )
    endpoint = Endpoint.of(
        options.llm_url, model=options.llm_model, deadline_s=options.llm_deadline_s
    )
    from rudder.agents.llm.openai_chat import OpenAIChat  # takes seconds to import

    return OpenAIChat(endpoint, socket=options.llm_socket)


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
        spread=Spread(
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
