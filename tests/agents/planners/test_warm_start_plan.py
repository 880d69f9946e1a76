"""The first move on known work: made before anything can be estimated, and only on evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.guard import DEFAULT_STEPS, Steps
from rudder.agents.observer import EmbeddedObserver
from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.bench.simulated.run import Run, simulate
from rudder.memory.journal import Recalled
from rudder.memory.past.transfer import fill
from rudder.memory.records import Plan, Verdict
from rudder.memory.run.run_reader import run_file
from rudder.memory.run.sqlite_journal import SqliteJournal
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change, FetchTargets
from rudder.training.workload import PolicyName
from tests.agents.steered import toolbox_after, trainer_of
from tests.agents.test_starting_point import GOOD, START, came_to

NEAR = BufferSettings(capacity_rows=400, lookahead_batches=12)
"""Not good, and not far from the defaults."""


@pytest.fixture(scope="module")
def early() -> Toolbox:
    """Too early to estimate anything."""
    toolbox = toolbox_after(trainer_of(START), windows=2)
    assert not toolbox.whatif.is_ready
    return toolbox


def planned(
    toolbox: Toolbox, recalled: Sequence[Recalled], *, steps: Steps = DEFAULT_STEPS
) -> tuple[Plan, Verdict]:
    async def ask() -> tuple[Plan, Verdict]:
        toolbox.begin()
        observation = await EmbeddedObserver().observe(toolbox)
        plan = await EmbeddedPlanner(steps=steps).plan(observation, recalled, toolbox)
        return plan, await EmbeddedCritic().review(observation, recalled, plan, toolbox)

    return asyncio.run(ask())


def test_what_an_earlier_run_came_to_is_proposed_and_approved_at_once(early: Toolbox) -> None:
    plan, verdict = planned(early, [came_to()])
    assert plan.change.over(START) == GOOD
    assert verdict.decision == "approve"
    assert verdict.change == plan.change
    assert verdict.expected is not None
    assert verdict.expected.exposed_wait_ms.mid == 1.0


def test_where_nothing_is_to_be_gained_nothing_is_proposed(early: Toolbox) -> None:
    plan, _ = planned(early, [came_to(wait_ms=1000.0)])
    assert plan.change.is_empty


def test_without_an_earlier_run_the_defaults_are_proposed_and_nothing_is_foretold(
    early: Toolbox,
) -> None:
    plan, verdict = planned(early, [came_to(result="reverted")])
    assert plan.change.over(START) == BufferSettings(capacity_rows=6000, lookahead_batches=16)
    assert verdict.decision == "approve"
    assert verdict.expected is None


def test_an_opening_goes_no_further_than_one_change_may(early: Toolbox) -> None:
    far = BufferSettings(capacity_rows=5900, lookahead_batches=16)
    plan, verdict = planned(early, [came_to(far)], steps=Steps(max_growth=32.0))
    assert plan.change.over(START) == BufferSettings(capacity_rows=3200, lookahead_batches=16)
    assert verdict.decision == "approve"


def test_a_critic_without_estimates_refuses_what_has_no_precedent(early: Toolbox) -> None:
    plan, _ = planned(early, [came_to()])
    plan = plan.model_copy(update={"change": Change(capacity_rows=2000, lookahead_batches=12)})

    async def ask() -> Verdict:
        observation = await EmbeddedObserver().observe(early)
        return await EmbeddedCritic().review(observation, [], plan, early)

    assert asyncio.run(ask()).decision == "refuse"


def before_all(*, policy: PolicyName = "lookahead", hot_rows: int = 0) -> Toolbox:
    """Before the first window of a run whose fan-outs are known."""
    toolbox = toolbox_after(trainer_of(START), windows=0)
    history = toolbox.history
    history.workload = history.workload.model_copy(update={"fanouts": (5, 10), "policy": policy})
    toolbox.hot_rows = hot_rows
    return toolbox


def test_before_the_first_batch_the_rows_that_the_graph_makes_likely_are_fetched() -> None:
    plan, verdict = planned(before_all(), [])
    assert plan.change == Change(
        fetch_targets=FetchTargets(source="vip", row_budget=START.capacity_rows, while_idle=True)
    )
    assert verdict.decision == "approve"
    assert verdict.change == plan.change


def test_the_hot_set_of_an_earlier_run_goes_before_the_graph() -> None:
    toolbox = before_all(hot_rows=1500)
    earlier = toolbox.history.workload.model_copy(update={"run_key": "e" * 32})
    plan, verdict = planned(toolbox, [came_to(work=earlier)])
    targets = plan.change.fetch_targets
    assert targets == FetchTargets(source="hot_set", row_budget=1500, while_idle=True)
    assert plan.change.over(START) == GOOD
    assert verdict.change == plan.change


def test_a_policy_that_chooses_its_own_rows_is_left_alone() -> None:
    plan, _ = planned(before_all(policy="static"), [])
    assert plan.change.is_empty


def test_rows_that_were_not_likely_are_refused() -> None:
    toolbox = before_all()
    targets = FetchTargets(source="degree", row_budget=50)
    plan = Plan(
        planner="p", change=Change(fetch_targets=targets), expected=None, reason="for a test"
    )

    async def ask() -> Verdict:
        observation = await EmbeddedObserver().observe(toolbox)
        return await EmbeddedCritic().review(observation, [], plan, toolbox)

    assert asyncio.run(ask()).decision == "refuse"


def test_a_second_run_goes_where_the_first_one_went_and_is_there_sooner(tmp_path: Path) -> None:
    memory = tmp_path / "memory.db"
    first = lived(tmp_path / "first", memory=memory, seed=1)
    fill(memory, tmp_path / "first")
    second = lived(tmp_path / "second", memory=memory, seed=2)
    (one, *_), (other, *_) = first.applied, second.applied
    assert one.applied is not None
    assert other.applied is not None
    assert other.applied.step < one.applied.step
    assert other.outcome is not None
    assert other.outcome.result == "confirmed"
    assert second.seconds < first.seconds


def lived(folder: Path, *, memory: Path, seed: int) -> Run:
    trainer = trainer_of(NEAR, seed=seed)
    trainer.workload = trainer.workload.model_copy(update={"run_key": f"{seed}" * 32})
    journal = SqliteJournal.open(run_file(folder, rank=0), memory=memory)
    run = asyncio.run(simulate(trainer, planner=EmbeddedPlanner(), windows=16, journal=journal))
    journal.close()
    return run
