"""A collecting run: everything legal is tried, at a known rate, within bounds of harm."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.exploring import (
    COLLECTING_STEPS,
    CollectingCritic,
    CollectingPlanner,
    candidates,
)
from rudder.agents.team import critic_of, planner_of, steps_of
from rudder.bench.simulated.run import simulate
from rudder.memory.records import Plan
from rudder.tools.constants import WORTH_WAIT_SHARE
from rudder.training.settings import BufferSettings, Change
from rudder.training.steering_options import SteeringOptions
from tests.agents.steered import observation_of, run, toolbox_after, trainer_of

GOOD = BufferSettings(capacity_rows=2500, lookahead_batches=48)


def test_every_candidate_is_drawn_equally_often() -> None:
    toolbox = toolbox_after(trainer_of())
    drawn: Counter[Change] = Counter()
    for step in range(1200):
        toolbox.begin()
        plan = asyncio.run(CollectingPlanner().plan(observation_of(step=step), (), toolbox))
        drawn[plan.change] += 1
    choices = candidates(observation_of(), toolbox.limits, steps=COLLECTING_STEPS)
    assert set(drawn) == set(choices)
    expected = 1200 / len(choices)
    assert sum((n - expected) ** 2 / expected for n in drawn.values()) < 2.5 * len(choices)


def test_a_plan_tells_how_likely_it_was_and_is_the_same_for_the_same_seed() -> None:
    toolbox = toolbox_after(trainer_of())
    plans = []
    for seed in (1, 1, 2, 3):
        toolbox.begin()
        plans.append(asyncio.run(CollectingPlanner(seed=seed).plan(observation_of(), (), toolbox)))
    choices = candidates(observation_of(), toolbox.limits, steps=COLLECTING_STEPS)
    assert {plan.propensity for plan in plans} == {1 / len(choices)}
    assert plans[0].change == plans[1].change
    assert len({plan.change for plan in plans}) > 1
    assert Plan.model_validate_json(plans[0].model_dump_json()) == plans[0]


def test_nothing_is_explored_before_its_harm_can_be_told() -> None:
    toolbox = toolbox_after(trainer_of(), windows=2)
    plan = asyncio.run(CollectingPlanner().plan(observation_of(), (), toolbox))
    assert plan.change.is_empty
    assert plan.propensity is None


@pytest.mark.parametrize("rows", [0, 300, 1500, 2000, 2400])
def test_its_critic_lets_harm_pass_up_to_a_bound(rows: int) -> None:
    toolbox = toolbox_after(trainer_of(GOOD))
    observation = asyncio.run(EmbeddedObserver().observe(toolbox))
    change = Change(capacity_rows=rows)
    plan = Plan(planner="test", change=change, expected=None, reason="")
    verdict = asyncio.run(CollectingCritic().review(observation, (), plan, toolbox))
    longer_ms = (
        toolbox.whatif.effect(change).exposed_wait_ms.mid
        - toolbox.whatif.present().exposed_wait_ms.mid
    )
    is_bounded = longer_ms <= WORTH_WAIT_SHARE * observation.step_ms
    assert verdict.decision == ("approve" if is_bounded else "refuse")
    assert verdict.expected == toolbox.whatif.effect(change)


def test_its_critic_refuses_what_is_out_of_bounds_or_unknown() -> None:
    toolbox = toolbox_after(trainer_of(), windows=2)
    for change in (Change(capacity_rows=10**6), Change(capacity_rows=100)):
        plan = Plan(planner="test", change=change, expected=None, reason="")
        verdict = asyncio.run(CollectingCritic().review(observation_of(), (), plan, toolbox))
        assert verdict.decision == "refuse"


def test_a_collecting_run_tries_much_and_costs_little() -> None:
    costs = []
    for seed in range(2):
        options = SteeringOptions(planner="collect", seed=seed)
        lived = asyncio.run(simulate(trainer_of(GOOD, seed=seed), options=options, windows=40))
        assert len(lived.applied) >= 5
        costs.append(lived.seconds / run(trainer_of(GOOD, seed=seed), windows=40).seconds)
    assert max(costs) <= 1.1


def test_options_make_all_of_a_collecting_team() -> None:
    options = SteeringOptions(planner="collect", seed=7)
    assert planner_of(options).name == "collect"
    assert critic_of(options).name == "collect"
    assert steps_of(options) == COLLECTING_STEPS
    assert steps_of(SteeringOptions()) != COLLECTING_STEPS
