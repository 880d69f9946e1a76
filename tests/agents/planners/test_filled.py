"""Rows that come with a growth, while the link idles."""

from __future__ import annotations

import asyncio

import pytest

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.proposals import filled
from rudder.bench.simulated.access_traces import ZipfStream
from rudder.bench.simulated.run import Run, simulate
from rudder.bench.simulated.trainer import Costs, SimulatedTrainer
from rudder.memory.records import Observation, Plan, Verdict
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change, FetchTargets
from tests.agents.steered import toolbox_after

START = BufferSettings(capacity_rows=1000, lookahead_batches=16)
STREAM = ZipfStream(20_000, 1500, exponent=0.6, seed=3)
GROWTH = Change(capacity_rows=20_000)


def trainer(*, row_ms: float) -> SimulatedTrainer:
    return SimulatedTrainer(STREAM, settings=START, costs=Costs(row_ms=row_ms), seed=1)


def seen(*, row_ms: float) -> tuple[Observation, Toolbox]:
    toolbox = toolbox_after(trainer(row_ms=row_ms), windows=4)
    return asyncio.run(EmbeddedObserver().observe(toolbox)), toolbox


def test_a_growth_brings_what_misses_would_bring_in_an_epoch() -> None:
    observation, toolbox = seen(row_ms=0.001)
    targets = filled(GROWTH, observation, toolbox).fetch_targets
    assert targets == FetchTargets(source="observed", row_budget=19_000, while_idle=True)
    slow = observation.model_copy(update={"rows_fetched": 100.0})
    targets = filled(GROWTH, slow, toolbox).fetch_targets
    assert targets is not None
    assert targets.row_budget == 100 * toolbox.history.workload.batches_per_epoch


def test_the_links_idle_time_is_the_limit() -> None:
    observation, toolbox = seen(row_ms=0.021)
    cost = toolbox.whatif.cost
    assert cost is not None
    free = filled(GROWTH, observation, toolbox).fetch_targets
    busy = filled(GROWTH, observation, toolbox, rows_after=0.9 * cost.rows).fetch_targets
    assert free is not None
    assert busy is None or busy.row_budget < free.row_budget
    assert filled(GROWTH, observation, toolbox, rows_after=9 * cost.rows) == GROWTH


@pytest.mark.parametrize(
    "change", [Change(capacity_rows=500), Change(lookahead_batches=40), Change()]
)
def test_what_does_not_grow_brings_nothing(change: Change) -> None:
    observation, toolbox = seen(row_ms=0.001)
    assert filled(change, observation, toolbox) == change


def test_the_estimate_says_rows_time_and_bytes() -> None:
    _, toolbox = seen(row_ms=0.02)
    targets = FetchTargets(source="observed", row_budget=5000, while_idle=True)
    cost = toolbox.whatif.fetch_cost(Change(fetch_targets=targets))
    assert cost is not None
    assert (cost.rows, cost.num_bytes) == (5000, 5000 * 400)
    assert cost.link_ms == pytest.approx(5000 * 0.02, rel=0.3)
    assert cost.steps == pytest.approx(cost.link_ms / cost.idle_ms)
    assert toolbox.whatif.fetch_cost(GROWTH) is None


def test_the_critic_lets_rows_wait_for_an_idle_link_but_not_stand_alone() -> None:
    observation, toolbox = seen(row_ms=0.05)
    targets = FetchTargets(source="observed", row_budget=1000, while_idle=True)

    async def review(change: Change) -> Verdict:
        plan = Plan(planner="p", change=change, expected=None, reason="for a test")
        return await EmbeddedCritic().review(observation, [], plan, toolbox)

    grown = GROWTH.model_copy(update={"fetch_targets": targets})
    assert asyncio.run(review(grown)).change == grown
    assert asyncio.run(review(Change(fetch_targets=targets))).decision == "refuse"


def lived(*, row_ms: float, windows: int = 12) -> Run:
    return asyncio.run(simulate(trainer(row_ms=row_ms), windows=windows))


def test_a_buffer_that_grows_is_full_within_half_an_epoch_where_the_link_has_time() -> None:
    run = lived(row_ms=0.005)
    grown = next(each for each in run.applied if each.plan.change.capacity_rows)
    assert grown.applied is not None
    assert grown.outcome is not None
    assert grown.outcome.result == "confirmed"
    before, expected = grown.outcome.rows_before, grown.outcome.rows_expected
    assert before is not None
    assert expected is not None
    assert grown.outcome.rows_after == pytest.approx(expected, abs=0.02 * before)
    half = grown.applied.step + trainer(row_ms=1).workload.batches_per_epoch // 2
    after = next(window for window in run.windows if window.first_step >= half)
    first = run.windows[0]
    assert after.rows.rows_fetched.of_batches < 0.05 * first.rows.rows_fetched.of_batches
    assert sum(window.rows.rows_fetched.idle for window in run.windows) > 1000
