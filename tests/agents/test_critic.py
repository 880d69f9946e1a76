"""The critic believes its own estimates only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from rudder.agents.critic import EmbeddedCritic
from rudder.agents.objective import Preference
from rudder.agents.observer import EmbeddedObserver
from rudder.memory.journal import Recalled
from rudder.memory.records import Episode, Outcome, Plan, Verdict
from rudder.tools.calls import Effect, StepTimes
from rudder.tools.toolbox import Toolbox
from rudder.training.settings import BufferSettings, Change, FetchTargets
from rudder.training.steering_options import Objective
from tests.agents.steered import effect_of, observation_of, toolbox_after, trainer_of

TINY = BufferSettings(capacity_rows=300, lookahead_batches=32)


@pytest.fixture(scope="module")
def toolbox() -> Toolbox:
    return toolbox_after(trainer_of(TINY))


@pytest.fixture(scope="module")
def roomy() -> Toolbox:
    """All communication is hidden already."""
    return toolbox_after(trainer_of(BufferSettings(capacity_rows=5500, lookahead_batches=32)))


def review(
    change: Change,
    toolbox: Toolbox,
    recalled: Sequence[Recalled] = (),
    *,
    objective: Objective = "time",
) -> Verdict:
    plan = Plan(planner="liar", change=change, expected=effect_of(0, 0), reason="all will be well")

    async def ask() -> Verdict:
        observation = await EmbeddedObserver().observe(toolbox)
        critic = EmbeddedCritic(preference=Preference(objective=objective))
        return await critic.review(observation, recalled, plan, toolbox)

    return asyncio.run(ask())


def recalled(change: Change, result: str, *, distance: float = 0.0) -> Recalled:
    observation = observation_of(settings=TINY)
    plan = Plan(planner="p", change=change, expected=None, reason="")
    episode = Episode(
        episode_id="e",
        run_key="r",
        rank=0,
        number=1,
        observation=observation,
        plan=plan,
        verdict=Verdict(decision="approve", critic="c", change=change, expected=None, reason=""),
        outcome=Outcome.model_validate({"result": result}),
    )
    return Recalled(distance=distance, workload=trainer_of().workload, episode=episode)


@pytest.mark.parametrize(
    "change",
    [
        Change(capacity_rows=75),
        Change(capacity_rows=0),
        Change(lookahead_batches=0),
        Change(eviction_threshold=0.0),
    ],
)
def test_harm_is_refused_whatever_the_planner_promises(change: Change, toolbox: Toolbox) -> None:
    verdict = review(change, toolbox)
    assert verdict.decision == "refuse"
    assert verdict.change.is_empty


def test_a_gain_is_approved_with_the_critics_own_estimate(toolbox: Toolbox) -> None:
    verdict = review(Change(capacity_rows=1500), toolbox)
    assert verdict.decision == "approve"
    assert verdict.expected == toolbox.whatif.effect(Change(capacity_rows=1500))


def test_growth_that_brings_next_to_nothing_is_trimmed_where_memory_is_sought() -> None:
    hidden = toolbox_after(trainer_of(BufferSettings(capacity_rows=3500, lookahead_batches=32)))
    verdict = review(Change(capacity_rows=6000), hidden, objective="memory")
    assert verdict.decision == "trim"
    assert verdict.change.capacity_rows == 4583
    assert review(Change(capacity_rows=6000), hidden).decision == "approve"


def test_a_smaller_buffer_is_approved_only_where_memory_is_sought(roomy: Toolbox) -> None:
    smaller = Change(capacity_rows=4500)
    assert review(smaller, roomy, objective="memory").decision == "approve"
    assert review(smaller, roomy).decision == "refuse"


@pytest.mark.parametrize(
    "change",
    [Change(capacity_rows=3510), Change(lookahead_batches=33), Change(eviction_threshold=0.9)],
)
def test_what_wins_nothing_is_not_worth_a_trial(change: Change) -> None:
    hidden = toolbox_after(trainer_of(BufferSettings(capacity_rows=3500, lookahead_batches=32)))
    verdict = review(change, hidden)
    assert verdict.decision == "refuse"
    assert "not worth a trial" in verdict.reason


def test_bounds_are_the_guards_business(toolbox: Toolbox) -> None:
    beyond = Change(capacity_rows=toolbox.limits.max_capacity_rows + 1)
    assert review(beyond, toolbox).decision != "refuse"


@pytest.mark.parametrize(
    "change",
    [
        Change(replace_now=True),
        Change(fetch_targets=FetchTargets(source="degree", row_budget=5000)),
    ],
)
def test_eager_fetches_that_never_pay_are_refused(change: Change, roomy: Toolbox) -> None:
    assert review(change, roomy).decision == "refuse"


def test_what_was_reverted_in_like_circumstances_is_not_tried_again(toolbox: Toolbox) -> None:
    change = Change(capacity_rows=1500)
    reverted = recalled(change, "reverted")
    assert review(change, toolbox, [reverted]).decision == "refuse"
    far = recalled(change, "reverted", distance=3.0)
    assert review(change, toolbox, [far]).decision == "approve"
    better_since = [recalled(change, "confirmed"), reverted]
    assert review(change, toolbox, better_since).decision == "approve"


def test_before_anything_is_known_every_change_is_refused() -> None:
    assert review(Change(capacity_rows=1500), toolbox_after(trainer_of(), windows=2)).decision == (
        "refuse"
    )


@pytest.mark.parametrize(("core_wait_ms", "harm"), [(5.0, "steps would take longer"), (1.0, None)])
def test_where_ranks_share_cores_taking_in_more_rows_makes_steps_longer(
    core_wait_ms: float, harm: str | None
) -> None:
    def of(rows: float, rows_ms: float) -> Effect:
        times = StepTimes(
            wait_ms=0.0, model_ms=20.0, core_wait_ms=core_wait_ms, blocked_ms=0.0, loader_ms=9.0,
            rows_ms=rows_ms, link_ms=4.0,
        )  # fmt: skip
        return effect_of(rows, 5.0, buffer_bytes=int(1000 - rows)).model_copy(
            update={"times": times}
        )

    seen = observation_of(sets_the_pace=True)
    preference = Preference(objective="memory")
    assert preference.harm(of(300.0, 6.0), present=of(200.0, 4.0), observation=seen) == harm
