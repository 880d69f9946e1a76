"""The embedded planner: finds good settings in few estimates, and leaves good ones alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from rudder.agents.objective import Preference
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.planners.evidence import fewest_rows
from rudder.memory.journal import Recalled
from rudder.memory.records import Plan
from rudder.tools.calls import Effect
from rudder.tools.constants import MAX_ESTIMATES, ROW_MS
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
    objective: Objective = "wait",
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
    assert plan.change.eviction_threshold == 1.0
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


def test_a_buffer_larger_than_needed_shrinks_in_steps() -> None:
    large = BufferSettings(capacity_rows=5500, lookahead_batches=48)
    plan = plan_of(toolbox_after(trainer_of(large), windows=24))
    assert plan.change.capacity_rows is not None
    assert 2750 <= plan.change.capacity_rows <= 0.85 * 5500


def test_a_shrink_that_was_reverted_is_not_repeated() -> None:
    large = BufferSettings(capacity_rows=5500, lookahead_batches=48)
    toolbox = toolbox_after(trainer_of(large), windows=24)
    free = plan_of(toolbox).change.capacity_rows
    assert free is not None
    lesson = recalled(Change(capacity_rows=free), "reverted")
    careful = plan_of(toolbox, [lesson]).change.capacity_rows
    assert careful is None or careful > free


def test_with_least_traffic_wanted_the_buffer_grows_although_nothing_is_waited_for() -> None:
    hidden = BufferSettings(capacity_rows=2500, lookahead_batches=48)
    toolbox = toolbox_after(trainer_of(hidden), windows=24)
    assert (plan_of(toolbox, objective="traffic").change.capacity_rows or 0) > 4000
    smaller = plan_of(toolbox, objective="memory").change.capacity_rows
    assert smaller is None or smaller < 2500


def test_a_budget_that_was_cut_is_obeyed_at_once() -> None:
    trainer = trainer_of()
    toolbox = toolbox_after(trainer, windows=8, budget_bytes=1000 * trainer.workload.row_bytes)
    plan = plan_of(toolbox)
    assert plan.change.capacity_rows is not None
    assert plan.change.capacity_rows <= 1000


def test_what_is_little_beside_the_first_buffer_is_not_given_back() -> None:
    trainer = trainer_of(BufferSettings(capacity_rows=5500, lookahead_batches=48))
    toolbox = toolbox_after(trainer, windows=24)
    assert plan_of(toolbox).change.capacity_rows is not None
    large = BufferSettings(capacity_rows=60_000, lookahead_batches=48)
    toolbox.history.workload = toolbox.history.workload.model_copy(update={"defaults": large})
    assert plan_of(toolbox).change.is_empty


@pytest.mark.parametrize("update", [{"trend": "better"}, {"exposed_wait_ms": 2.0, "step_ms": 20.0}])
def test_memory_is_given_back_only_where_waits_are_few_and_steady(
    update: dict[str, object],
) -> None:
    toolbox = toolbox_after(
        trainer_of(BufferSettings(capacity_rows=5500, lookahead_batches=48)), windows=24
    )

    async def ask(update: dict[str, object]) -> Plan:
        toolbox.begin()
        observation = await EmbeddedObserver().observe(toolbox)
        return await EmbeddedPlanner().plan(observation.model_copy(update=update), (), toolbox)

    assert not asyncio.run(ask({})).change.is_empty
    assert asyncio.run(ask(update)).change.is_empty


def test_a_smaller_buffer_fetches_no_more_rows_than_processors_have_time_for() -> None:
    large = BufferSettings(capacity_rows=5500, lookahead_batches=48)
    toolbox = toolbox_after(trainer_of(large), windows=24)
    plan = plan_of(toolbox)
    assert plan.expected is not None
    latest = toolbox.history.latest
    assert latest is not None
    step_ms = 1000 * (latest.wall_seconds or 0.0) / latest.num_steps
    fewest = fewest_rows(toolbox.history.windows)
    assert fewest is not None
    assert plan.expected.rows_fetched.mid <= fewest + 1.1 * 0.01 * step_ms / ROW_MS
