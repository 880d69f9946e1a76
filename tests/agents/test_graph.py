"""The graph of agents: its shape, and the path that each decision takes through it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rudder.agents.actuator import Actuator, NoAnswerError, UnrecordedError
from rudder.agents.critic import EmbeddedCritic
from rudder.agents.graph import build_graph, decide
from rudder.agents.guard import Guard
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.baselines import (
    AdversarialPlanner,
    FixedPlanner,
    HeuristicPlanner,
    PeriodicPlanner,
)
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.planners.proposals import keep, propose
from rudder.agents.roles import Critic, DecisionState, Planner
from rudder.bench.simulated.trainer import SimulatedTrainer
from rudder.cli.commands.graph import graph as graph_command
from rudder.memory.journal import AuditEntry, Journal, Recalled
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change
from tests.agents.steered import Believer, toolbox_after, trainer_of
from tests.agents.test_starting_point import GOOD, START, came_to

LOST = BufferSettings(capacity_rows=60, lookahead_batches=0)
SNAPSHOT = Path(__file__).with_name("graph.mmd")


@dataclass
class Proposer:
    """Always proposes the same."""

    change: Change
    name: str = "proposer"

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        return propose(self.name, self.change, whatif=toolbox.whatif, reason="so be it")


@dataclass
class Keeper:
    """Has nothing to propose; counts how often it was asked."""

    name: str = "keeper"
    num_asked: int = 0

    async def plan(
        self, observation: Observation, recalled: Sequence[Recalled], toolbox: Toolbox
    ) -> Plan:
        self.num_asked += 1
        return keep(self.name, "all is well")


@dataclass
class Log(Journal):
    """Keeps the audit rows."""

    entries: list[AuditEntry] = field(default_factory=list)

    def log(self, entry: AuditEntry) -> bool:
        self.entries.append(entry)
        return True


def decision(
    planner: Planner,
    *,
    second: Planner | None = None,
    trainer: SimulatedTrainer | None = None,
    critic: Critic | None = None,
    guard: Guard | None = None,
    windows: int = 6,
    log: Log | None = None,
    recalled: Sequence[Recalled] = (),
) -> DecisionState:
    trainer = trainer or trainer_of(LOST)
    toolbox = toolbox_after(trainer, windows=windows)
    graph = build_graph(
        observer=EmbeddedObserver(),
        planner=planner,
        second=second,
        critic=critic or EmbeddedCritic(),
        guard=guard or Guard(),
        act=Actuator(trainer, journal=log or Log()),
        recall=lambda observation: recalled,
    )
    return asyncio.run(decide(graph, toolbox=toolbox, episode_id="e1"))


def test_the_drawn_graph_is_as_ever() -> None:
    import typer

    app = typer.Typer()
    app.command()(graph_command)
    printed = CliRunner().invoke(app, [])
    assert printed.exit_code == 0
    assert printed.output == SNAPSHOT.read_text()


def test_without_a_window_and_an_earlier_run_nothing_is_planned() -> None:
    state = decision(EmbeddedPlanner(), windows=0)
    assert set(state) == {"episode_id", "observation", "recalled"}


def test_the_first_window_is_decided_on_only_where_it_is_plain_where_to_go() -> None:
    large = BufferSettings(capacity_rows=4000, lookahead_batches=16)
    state = decision(EmbeddedPlanner(), trainer=trainer_of(large), windows=1)
    assert set(state) == {"episode_id", "observation", "recalled"}
    state = decision(EmbeddedPlanner(), trainer=trainer_of(START), windows=1, recalled=[came_to()])
    assert state["applied"].settings == GOOD


def test_keeping_things_ends_before_the_critic() -> None:
    state = decision(FixedPlanner())
    assert set(state) == {"episode_id", "observation", "recalled", "proposal"}


def test_what_the_critic_refuses_never_comes_to_the_guard() -> None:
    trainer = trainer_of(BufferSettings(capacity_rows=600))
    state = decision(Proposer(Change(capacity_rows=200)), trainer=trainer)
    assert state["verdict"].decision == "refuse"
    assert "ruling" not in state
    assert trainer.settings.capacity_rows == 600


def test_what_the_guard_refuses_is_never_carried_out() -> None:
    guard, log, trainer = Guard(), Log(), trainer_of(LOST)
    guard.opened()
    state = decision(EmbeddedPlanner(), trainer=trainer, guard=guard, log=log)
    assert state["ruling"] is not None
    assert state["ruling"].rule == "in_flight"
    assert "applied" not in state
    assert trainer.settings == LOST
    assert log.entries == []


def test_a_good_plan_is_carried_out_and_the_intent_is_written_first() -> None:
    log, trainer = Log(), trainer_of(LOST)
    state = decision(EmbeddedPlanner(), trainer=trainer, log=log)
    assert state["applied"].outcome == "applied"
    assert trainer.settings == state["verdict"].change.over(LOST)
    intent, effect = log.entries
    assert (intent.kind, effect.kind) == ("intent", "effect")
    assert intent.call_id == effect.call_id
    assert intent.arguments is not None
    assert Change.model_validate_json(intent.arguments) == state["verdict"].change
    assert (effect.outcome, effect.episode_id) == ("applied", "e1")


HARM, TOO_FAR = Change(lookahead_batches=0), Change(lookahead_batches=900)
ROOMY = BufferSettings(capacity_rows=600)


@pytest.mark.parametrize(
    ("first", "settings", "refused_by"),
    [
        (FixedPlanner(), LOST, None),
        (Proposer(Change(capacity_rows=20)), LOST, "critic"),
        (Proposer(TOO_FAR), LOST, "guard"),
    ],
)
def test_a_plan_that_comes_to_nothing_has_the_second_planner_asked(
    first: Planner, settings: BufferSettings, refused_by: str | None
) -> None:
    trainer = trainer_of(settings)
    state = decision(first, second=EmbeddedPlanner(), trainer=trainer)
    assert state["applied"].outcome == "applied"
    assert state["proposal"].planner == "embedded"
    assert trainer.settings == state["verdict"].change.over(settings)
    aside = state["rejected"]
    assert aside.plan.planner == first.name
    assert (aside.verdict is not None) == (refused_by is not None)
    assert (aside.guard is not None) == (refused_by == "guard")


def test_the_second_planner_is_asked_once() -> None:
    trainer = trainer_of(ROOMY)
    second = Proposer(Change(capacity_rows=100), name="second")
    state = decision(Proposer(Change(capacity_rows=200)), second=second, trainer=trainer)
    assert state["rejected"].plan.planner == "proposer"
    assert (state["proposal"].planner, state["verdict"].decision) == ("second", "refuse")
    assert trainer.settings == ROOMY


def test_no_word_of_the_guard_on_a_plan_outlasts_it() -> None:
    second = Proposer(Change(capacity_rows=20), name="second")
    state = decision(Proposer(TOO_FAR), second=second)
    assert state["rejected"].guard is not None
    assert state["verdict"].decision == "refuse"
    assert state["ruling"] is None


def test_a_second_planner_that_keeps_things_leaves_the_decision_as_it_was() -> None:
    second = Keeper()
    state = decision(Proposer(Change(capacity_rows=200)), second=second, trainer=trainer_of(ROOMY))
    assert second.num_asked == 1
    assert (state["proposal"].planner, state["verdict"].decision) == ("proposer", "refuse")
    assert "rejected" not in state


@pytest.mark.parametrize("rule", ["in_flight", "same planner", "approved"])
def test_nobody_else_is_asked_where_that_would_not_help(rule: str) -> None:
    guard, second = Guard(), Keeper()
    first: Planner = EmbeddedPlanner()
    if rule == "in_flight":
        guard.opened()
    if rule == "same planner":
        first = Proposer(Change(capacity_rows=20), name=second.name)
    decision(first, second=second, guard=guard)
    assert second.num_asked == 0


def test_a_command_without_an_answer_is_in_the_journal_before_it_is_raised() -> None:
    class Silent:
        async def send(self, change: Change, *, issued_at_step: int | None) -> None:
            raise NoAnswerError("none came", remedy="wait")

    log = Log()
    actuator = Actuator(Silent(), journal=log)  # type: ignore[arg-type]
    toolbox = toolbox_after(trainer_of(LOST), windows=6)

    async def act() -> None:
        observation = await EmbeddedObserver().observe(toolbox)
        await actuator.carry_out(Change(capacity_rows=5), observation=observation)

    with pytest.raises(NoAnswerError):
        asyncio.run(act())
    assert [entry.outcome for entry in log.entries] == [None, "failed"]
    assert log.entries[1].error_type == "NoAnswerError"


def test_what_cannot_be_recorded_is_not_done() -> None:
    class Full(Journal):
        def log(self, entry: AuditEntry) -> bool:
            return False

    trainer = trainer_of(LOST)
    toolbox, before = toolbox_after(trainer, windows=6), trainer.settings
    actuator = Actuator(trainer, journal=Full())

    async def act() -> None:
        observation = await EmbeddedObserver().observe(toolbox)
        await actuator.carry_out(Change(capacity_rows=5), observation=observation)

    with pytest.raises(UnrecordedError):
        asyncio.run(act())
    assert trainer.settings == before


@pytest.mark.parametrize(
    "planner", [FixedPlanner(), PeriodicPlanner(), HeuristicPlanner(), AdversarialPlanner()]
)
@pytest.mark.parametrize("critic", [EmbeddedCritic(), Believer()])
def test_any_mix_of_roles_works(planner: Planner, critic: Critic) -> None:
    state = decision(planner, critic=critic)
    assert state["proposal"].planner == planner.name


def test_nothing_is_traced_to_a_server_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        monkeypatch.setenv("LANGSMITH_TRACING", "true")
        monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
        monkeypatch.setenv("LANGSMITH_API_KEY", "key")
        monkeypatch.setenv("LANGSMITH_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        decision(FixedPlanner())
        with pytest.raises(TimeoutError):
            server.accept()
