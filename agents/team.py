"""Who steers a trainer: the roles that the options of a run name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.guard import DEFAULT_STEPS, Steps
from rudder.agents.learned.planner import is_learned, open_planner
from rudder.agents.llm.asker import Asker
from rudder.agents.llm.breaker import Breaker, Budget
from rudder.agents.llm.consultation import Adviser, Consultation, asks_model
from rudder.agents.llm.endpoint import endpoint_of
from rudder.agents.llm.errors import ChatError
from rudder.agents.llm.exchange import Exchange
from rudder.agents.llm.messages import Chat, Question
from rudder.agents.llm.planner import LlmCritic, LlmPlanner
from rudder.agents.llm.prompts import system_prompt
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
from rudder.agents.planners.own import OwnPlanner
from rudder.agents.planners.published import (
    PUBLISHED_STEPS,
    Fitted,
    PublishedPlanner,
    Rule,
    WillingCritic,
)
from rudder.agents.roles import Critic, Observer, Planner
from rudder.agents.turns import TEAM, own_change
from rudder.memory.journal import Recalled
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.toolbox import Toolbox
from rudder.training.errors import RudderError
from rudder.training.settings import Change
from rudder.training.steering_options import OWN_PLANNERS, SteeringOptions
from rudder.training.workload import Workload

WARM_UP_S = 180.0
"""How long a model may take to be loaded."""
_WARM_UP_TOKENS = 16
_WARM_UP = Question(
    role="probe",
    system=system_prompt("planner"),
    user="Say that you are ready.",
    tools=(),
    schema_={},
)
"""Begins like later questions do, for servers that keep what they have read of a prompt."""


@dataclass(frozen=True)
class Team:
    """Who decides; asker: the way to the model that some of them ask, None: nobody does; second:
    the planner that is asked where the first one's plan comes to nothing, None: nobody is; adviser:
    what asks the model and hears it, None: nothing does."""

    observer: Observer
    planner: Planner
    critic: Critic
    asker: Asker | None = None
    second: Planner | None = None
    adviser: Adviser | None = None


class TeamPlanner:
    """Proposes the change of the rank whose turn it is."""

    name = TEAM

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        """Its share of the turn's change; empty where there is none."""
        turn, most = observation.turn, toolbox.limits.max_capacity_rows
        if turn is None:
            return Plan(planner=TEAM, change=Change(), expected=None, reason="there is no turn")
        now = observation.settings
        at_once = DEFAULT_STEPS.reach(now.capacity_rows)[1]
        change = own_change(turn, now, most_rows=most, most_at_once=at_once)
        reason = f"rank {turn.rank} makes this change, and is in like circumstances"
        return Plan(planner=TEAM, change=change, expected=None, reason=reason, turn=turn.number)


class TeamCritic:
    """Approves: the critic of the rank whose turn it is has spoken."""

    name = TEAM

    async def review(
        self, observation: Observation, recalled: Sequence[Recalled], plan: Plan, toolbox: Toolbox
    ) -> Verdict:
        """Always the whole plan."""
        reason = "the critic of the rank that proposed it has approved"
        return Verdict(
            decision="approve", critic=TEAM, change=plan.change, expected=None, reason=reason
        )


def joining_team() -> Team:
    """The agents of a rank that goes along with another."""
    return Team(EmbeddedObserver(), TeamPlanner(), TeamCritic())


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
    rank: int = 0,
    on_exchange: Callable[[Exchange], None] = ignore_exchange,
) -> Asker:
    """A trainer's way to its model, within the options' deadline and budget; its time is that of
    the event loop in which it asks."""
    return Asker(
        chat,
        breaker=Breaker(
            lambda: asyncio.get_running_loop().time(), random=Random(f"{options.seed}/{rank}")
        ),
        budget=Budget(max_calls=options.llm_max_calls, max_tokens=options.llm_max_tokens),
        deadline_s=options.llm_deadline_s,
        on_exchange=on_exchange,
    )


def with_llm(
    team: Team,
    asker: Asker,
    *,
    options: SteeringOptions,
    preference: Preference | None = None,
    waits: bool = False,
) -> Team:
    """The team that also hears a model, which is asked in the background; waits: each decision
    waits for it, as no run's does."""
    preference = preference or preference_of(options)
    consultation = Consultation(asker, roles=options.llm_roles, preference=preference, waits=waits)
    return replace(advised(team, consultation), asker=asker)


def advised(team: Team, adviser: Adviser) -> Team:
    """The team whose planner also proposes what it is advised; if that comes to nothing, the
    planner replaced is asked."""
    planner = LlmPlanner(adviser, fallback=team.planner)
    critic = LlmCritic(planner, fallback=team.critic)
    return Team(team.observer, planner, critic, second=team.planner, adviser=adviser)


def preference_of(options: SteeringOptions) -> Preference:
    """What the options call better."""
    return Preference(objective=options.objective, tolerance=options.tolerance)


def planner_of(options: SteeringOptions, preference: Preference | None = None) -> Planner:
    """The planner of that name; for `llm` the one that takes over from the model.

    preference: what is called better; None: what the options do.

    Raises ConfigError, DataError or MachineError where a package's or learned one cannot be opened.
    """
    if OWN_PLANNERS.is_own(options.planner):
        return OwnPlanner.of(options)
    if is_learned(options.planner):
        return open_planner(options)
    if options.planner == "collect":
        return CollectingPlanner(seed=options.seed)
    if options.planner == "fixed":
        return FixedPlanner()
    if options.planner == "periodic":
        return PeriodicPlanner()
    if options.planner == "heuristic":
        return HeuristicPlanner(preference=preference or preference_of(options))
    if options.planner == "published":
        fitted = options.planner_model is not None
        return PublishedPlanner(Fitted(open_planner(options)) if fitted else Rule())
    if options.planner == "adversarial":
        return AdversarialPlanner(seed=options.seed)
    return EmbeddedPlanner(preference=preference or preference_of(options))


def critic_of(options: SteeringOptions, preference: Preference | None = None) -> Critic:
    """The embedded critic; for a run that explores the one that lets it."""
    if options.planner == "collect":
        return CollectingCritic()
    if options.planner == "published":
        return WillingCritic()
    return EmbeddedCritic(preference=preference or preference_of(options))


def steps_of(options: SteeringOptions) -> Steps:
    """How far and how often the guard lets settings change."""
    special = {"collect": COLLECTING_STEPS, "published": PUBLISHED_STEPS}
    return special.get(options.planner, DEFAULT_STEPS)


def check_models(options: SteeringOptions | None) -> None:
    """Before a run starts: whether a package's planner or a fitted model can be used, and the
    endpoint's address and key can be ones. Raises ConfigError, DataError and MachineError."""
    if options is not None and _needs_file(options):
        open_planner(options)
    if options is not None and OWN_PLANNERS.is_own(options.planner):
        planner_of(options)
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


async def warm_up(options: SteeringOptions, *, rank: int) -> None:
    """Ask something of no consequence, so that the model is loaded when the run asks. What is wrong
    with the endpoint is told when it does."""
    if not _asks_model(options) or not asks_model(rank):
        return
    chat = open_chat(options.model_copy(update={"llm_answer_tokens": _WARM_UP_TOKENS}))
    try:
        async with asyncio.timeout(WARM_UP_S):
            await chat.complete(_WARM_UP, mode="text")
    except (ChatError, TimeoutError):
        pass
    finally:
        await chat.close()


def make_team(
    options: SteeringOptions,
    workload: Workload,
    preference: Preference | None = None,
    *,
    on_exchange: Callable[[Exchange], None] = ignore_exchange,
) -> Team:
    """Observer, planner and critic of one trainer, which share what they call better; raises
    ConfigError where a model is misnamed."""
    planner, critic = planner_of(options, preference), critic_of(options, preference)
    team = Team(observer=EmbeddedObserver(), planner=planner, critic=critic)
    if not _asks_model(options):
        return team
    asker = asker_of(
        open_chat(options), options=options, rank=workload.rank, on_exchange=on_exchange
    )
    if options.planner == "published":
        return replace(team, planner=PublishedPlanner(ModelAnswer(asker)), asker=asker)
    return with_llm(team, asker, options=options, preference=preference)
