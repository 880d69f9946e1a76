"""The embedded planner: finds good settings in few estimates, and leaves good ones alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import get_args

import pytest

from rudder.agents.objective import Preference
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.memory.journal import Recalled
from rudder.memory.records import Plan
from rudder.tools.calls import Effect
from rudder.tools.constants import MAX_ESTIMATES
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change
from rudder.training.steering_options import Objective
from tests.agents.steered import toolbox_after, trainer_of
from tests.agents.test_critic import recalled

LOST = BufferSettings(capacity_rows=60, lookahead_batches=0, eviction_threshold=0.0)


def plan_of(
    toolbox: Toolbox,
    episodes: Sequence[Recalled] = (),
    *,
    objective: Objective = "time",
) -> Plan:
    planner = EmbeddedPlanner(preference=Preference(objective=objective))

    async def ask() -> Plan:
        toolbox.begin()
        observation = await EmbeddedObserver().observe(toolbox)
        return await planner.plan(observation, episodes, toolbox)

    return asyncio.run(ask())


def test_from_absurd_settings_the_first_plan_comes_near_the_best() -> None:
    toolbox = toolbox_after(trainer_of(LOST), windows=4)
    plan = plan_of(toolbox)
    assert plan.change.capacity_rows is not None
    assert plan.change.capacity_rows > 8 * LOST.capacity_rows
    assert (plan.change.lookahead_batches or 0) >= 4
    assert plan.expected is not None
    assert plan.expected.exposed_wait_ms.mid < 0.02 * toolbox.whatif.present().exposed_wait_ms.mid


def test_the_same_inputs_lead_to_the_same_plan() -> None:
    first, second = (plan_of(toolbox_after(trainer_of(LOST), windows=5)) for _ in range(2))
    assert first.model_dump(exclude={"calls"}) == second.model_dump(exclude={"calls"})


def test_a_plan_takes_few_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    toolbox = toolbox_after(trainer_of(LOST), windows=5)
    asked: list[Change] = []
    effect = toolbox.whatif.effect

    def counted(change: Change) -> Effect:
        asked.append(change)
        return effect(change)

    monkeypatch.setattr(toolbox.whatif, "effect", counted)
    plan_of(toolbox)
    present = sum(change.is_empty for change in asked)
    assert 1 < len(asked) - present <= MAX_ESTIMATES


def test_too_little_seen_keeps_things() -> None:
    assert plan_of(toolbox_after(trainer_of(), windows=2)).change.is_empty


LARGE = BufferSettings(capacity_rows=5500, lookahead_batches=48)
"""Larger than what hides all communication."""


def test_memory_that_is_not_needed_is_given_back_only_where_that_is_sought() -> None:
    toolbox = toolbox_after(trainer_of(LARGE), windows=24)
    for objective in get_args(get_args(Objective)[0]):
        capacity = plan_of(toolbox, objective=objective).change.capacity_rows
        if objective == "memory":
            assert capacity is not None
            assert 1375 <= capacity <= 0.87 * 5500
        else:
            assert capacity is None or capacity > 5500


def test_a_growth_that_wins_rows_alone_is_worth_it_unless_memory_is_to_be_saved() -> None:
    toolbox = toolbox_after(
        trainer_of(BufferSettings(capacity_rows=2500, lookahead_batches=48)), windows=24
    )
    plan = plan_of(toolbox)
    assert plan.reason == "fewer rows are fetched"
    assert plan.change.capacity_rows == 6000
    smaller = plan_of(toolbox, objective="memory").change.capacity_rows
    assert smaller is None or smaller < 2500


def test_a_shrink_that_was_reverted_is_not_repeated() -> None:
    toolbox = toolbox_after(trainer_of(LARGE), windows=24)
    free = plan_of(toolbox, objective="memory").change.capacity_rows
    assert free is not None
    lesson = recalled(Change(capacity_rows=free), "reverted")
    careful = plan_of(toolbox, [lesson], objective="memory").change.capacity_rows
    assert careful is None or careful > free


def test_with_least_traffic_wanted_the_buffer_grows_although_nothing_is_waited_for() -> None:
    hidden = BufferSettings(capacity_rows=2500, lookahead_batches=48)
    toolbox = toolbox_after(trainer_of(hidden), windows=24)
    assert (plan_of(toolbox, objective="traffic").change.capacity_rows or 0) > 4000


def test_a_buffer_grows_no_further_than_the_memory_budget() -> None:
    trainer = trainer_of(LOST)
    toolbox = toolbox_after(trainer, windows=8, budget_bytes=1000 * trainer.workload.row_bytes)
    assert plan_of(toolbox).change.capacity_rows == 1000
