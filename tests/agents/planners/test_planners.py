"""What every planner keeps to, and what each of the simple ones does."""

from __future__ import annotations

import asyncio

import pytest

from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.baselines import (
    AdversarialPlanner,
    FixedPlanner,
    HeuristicPlanner,
    PeriodicPlanner,
)
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.roles import Planner
from rudder.agents.team import planner_of
from rudder.memory.records import Observation, Plan
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change
from rudder.training.steering_options import Objective, SteeringOptions
from tests.agents.steered import observation_of, toolbox_after, trainer_of

PLANNERS = [
    FixedPlanner, PeriodicPlanner, HeuristicPlanner, AdversarialPlanner, EmbeddedPlanner,
]  # fmt: skip


def plan_of(planner: Planner, observation: Observation, toolbox: Toolbox) -> Plan:
    toolbox.begin()
    return asyncio.run(planner.plan(observation, (), toolbox))


@pytest.mark.parametrize("kind", PLANNERS)
@pytest.mark.parametrize("windows", [2, 8])
def test_a_plan_is_legal_and_calls_no_tools(kind: type[Planner], windows: int) -> None:
    toolbox = toolbox_after(trainer_of(), windows=windows)
    observation = asyncio.run(EmbeddedObserver().observe(toolbox))
    plan = plan_of(kind(), observation, toolbox)
    if kind is not PeriodicPlanner:  # its rounds are not for every policy: the guard's business
        assert toolbox.limits.problem(plan.change, settings=observation.settings) is None
    assert plan.reason
    assert not plan.calls
    assert toolbox.staging.is_empty


def test_fixed_never_changes_anything() -> None:
    toolbox = toolbox_after(trainer_of(BufferSettings(capacity_rows=60)), windows=4)
    assert plan_of(FixedPlanner(), observation_of(), toolbox).change.is_empty


def test_periodic_asks_for_a_round_every_period() -> None:
    planner = PeriodicPlanner(period_steps=32)
    toolbox = toolbox_after(trainer_of(), windows=4)
    rounds = [
        plan_of(planner, observation_of(step=step), toolbox).change.replace_now
        for step in range(0, 128, 16)
    ]
    assert rounds == [True, False] * 4


@pytest.mark.parametrize(
    ("seen", "change"),
    [
        ({"settings": BufferSettings(capacity_rows=50, lookahead_batches=0)},
         Change(lookahead_batches=8)),
        ({}, Change(lookahead_batches=64)),
        ({"settings": BufferSettings(capacity_rows=50, lookahead_batches=64)},
         Change(capacity_rows=100)),
        ({"hit_fraction": 0.99}, Change()),
        ({"exposed_wait_ms": 0.0}, Change()),
        ({"exposed_wait_ms": 0.5}, Change()),
    ],
)  # fmt: skip
def test_heuristic_follows_its_rules(seen: dict[str, object], change: Change) -> None:
    toolbox = toolbox_after(trainer_of(), windows=2)
    assert plan_of(HeuristicPlanner(), observation_of(**seen), toolbox).change == change


@pytest.mark.parametrize(("objective", "rows"), [("time", None), ("memory", 1875)])
def test_heuristic_gives_memory_back_only_where_that_is_asked_for(
    objective: Objective, rows: int | None
) -> None:
    planner = planner_of(SteeringOptions(planner="heuristic", objective=objective))
    toolbox = toolbox_after(trainer_of(), windows=2)
    plan = plan_of(planner, observation_of(exposed_wait_ms=0.0), toolbox)
    assert plan.change.capacity_rows == rows


def test_adversarial_seeks_harm_and_promises_the_best() -> None:
    toolbox = toolbox_after(trainer_of(BufferSettings(capacity_rows=1500)), windows=8)
    observation = asyncio.run(EmbeddedObserver().observe(toolbox))
    plans = [plan_of(AdversarialPlanner(seed=seed), observation, toolbox) for seed in range(5)]
    for plan in plans:
        assert plan.expected is not None
        present = toolbox.whatif.present().rows_fetched.mid
        assert toolbox.whatif.effect(plan.change).rows_fetched.mid > present
        assert plan.expected == toolbox.whatif.opt(1500)
        assert plan.expected.rows_fetched.mid <= present
    assert len({plan.change for plan in plans}) > 1
