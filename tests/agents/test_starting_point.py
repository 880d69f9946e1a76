"""Where to go before anything can be estimated."""

from __future__ import annotations

import pytest

from rudder.agents.planners.embedded import EmbeddedPlanner
from rudder.agents.starting_point import WarmStart, WarmTrial
from rudder.memory.journal import Recalled
from rudder.memory.records import Episode, Observation, Outcome, Plan
from rudder.training.metrics import Window
from rudder.training.settings import Applied, BufferSettings, Change
from rudder.training.workload import PolicyName, Workload
from tests.agents.steered import (
    SLOW,
    applied_of,
    effect_of,
    observation_of,
    run,
    trainer_of,
    window_of,
)

WORK = trainer_of().workload
EARLIER = WORK.model_copy(update={"run_key": "e" * 32})
START = BufferSettings(capacity_rows=100, lookahead_batches=4)
GOOD = BufferSettings(capacity_rows=2000, lookahead_batches=16)
LINK_MS = SLOW.row_ms


def came_to(
    settings: BufferSettings = GOOD,
    *,
    wait_ms: float = 1.0,
    result: str = "confirmed",
    work: Workload = EARLIER,
    row_ms: float | None = LINK_MS,
) -> Recalled:
    """An episode of an earlier run that changed START to these settings."""
    episode = Episode(
        episode_id="e",
        run_key=work.run_key,
        rank=0,
        number=0,
        observation=observation_of(settings=START, row_ms=row_ms),
        plan=Plan(
            planner="p", change=Change.between(START, settings), expected=None, reason="for a test"
        ),
        applied=Applied(command_id="c", outcome="applied", rank=0, step=64, settings=settings),
        outcome=Outcome.model_validate(
            {"result": result, "rows_after": 50.0, "wait_ms_after": wait_ms}
        ),
    )
    return Recalled(distance=1.0, workload=work, episode=episode)


WAITING = {"exposed_wait_ms": 15.0, "step_ms": 30.0, "row_ms": LINK_MS}


def waiting(settings: BufferSettings, **values: object) -> Observation:
    return observation_of(settings=settings, **{**WAITING, **values})


def test_a_trainer_that_waits_far_from_the_defaults_goes_to_them() -> None:
    absurd = BufferSettings(capacity_rows=60, lookahead_batches=0, eviction_threshold=0.0)
    found = WarmStart.of([], waiting(absurd), WORK)
    assert found is not None
    assert found.settings == BufferSettings(capacity_rows=WORK.num_remote, lookahead_batches=16)
    assert found.effect is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (BufferSettings(capacity_rows=5000, lookahead_batches=0), (6000, 16)),
        (BufferSettings(capacity_rows=0, lookahead_batches=64), (6000, 64)),
        (BufferSettings(capacity_rows=3000, lookahead_batches=10), (6000, 16)),
        (BufferSettings(capacity_rows=3001, lookahead_batches=10), None),
    ],
)
def test_few_rows_or_a_short_lookahead_are_far_and_a_longer_one_stays(
    settings: BufferSettings, expected: tuple[int, int] | None
) -> None:
    found = WarmStart.of([], waiting(settings), WORK)
    went = found and (found.settings.capacity_rows, found.settings.lookahead_batches)
    assert went == expected


def test_who_hardly_waits_stays() -> None:
    assert WarmStart.of([], waiting(START, exposed_wait_ms=2.5), WORK) is None


def test_the_memory_of_the_host_is_a_bound() -> None:
    small = WORK.model_copy(update={"max_buffer_rows": 700})
    found = WarmStart.of([], waiting(START), small)
    assert found is not None
    assert found.settings.capacity_rows == 700


@pytest.mark.parametrize("policy", ["score", "lfu", "none"])
def test_the_defaults_are_those_of_one_policy(policy: PolicyName) -> None:
    other = WORK.model_copy(update={"policy": policy})
    assert WarmStart.of([], waiting(START), other) is None


def test_what_an_earlier_run_came_to_goes_before_the_defaults() -> None:
    found = WarmStart.of([came_to()], waiting(START), WORK)
    assert found is not None
    assert found.settings == GOOD
    assert WarmStart.of([came_to(wait_ms=14.0)], waiting(START), WORK) is None


def test_a_change_leads_there_in_part_of_the_capacity_but_of_no_other_knob() -> None:
    first = WarmStart.of([came_to()], waiting(START), WORK)
    assert first is not None

    def leads(change: Change) -> bool:
        return first.leads_to(change, settings=START)

    assert leads(Change(capacity_rows=2000, lookahead_batches=16))
    assert leads(Change(capacity_rows=1000, lookahead_batches=16))
    assert not leads(Change(capacity_rows=2001, lookahead_batches=16))
    assert not leads(Change(capacity_rows=99, lookahead_batches=16))
    assert not leads(Change(capacity_rows=2000))
    assert not leads(Change(capacity_rows=2000, lookahead_batches=16, replace_now=True))


def test_steering_from_absurd_settings_begins_with_the_first_window() -> None:
    trainer = trainer_of(BufferSettings(capacity_rows=60, lookahead_batches=0))
    lived = run(trainer, planner=EmbeddedPlanner(), windows=4)
    first, *_ = lived.applied
    assert first.observation.step == 16
    assert first.outcome is not None
    assert (first.outcome.result, first.outcome.rows_error) == ("confirmed", None)
    near = BufferSettings(capacity_rows=WORK.num_halo, lookahead_batches=16)
    assert lived.windows[1].settings == near


# -- on another link ---------------------------------------------------------------------------

FREE = BufferSettings(capacity_rows=1361, lookahead_batches=16)
"""What served on a link that costs nothing."""
FREE_MS = LINK_MS / 50


def started(*recalled: Recalled, row_ms: float | None, present: BufferSettings) -> WarmStart | None:
    """row_ms None: before the first window."""
    seen = {"step_ms": 30.0, "exposed_wait_ms": 15.0 if row_ms else 0.0}
    if row_ms is None:
        seen["step_ms"] = 0.0
    return WarmStart.of(recalled, waiting(present, row_ms=row_ms, **seen), WORK)


MEMORIES = (came_to(FREE, wait_ms=0.01, row_ms=FREE_MS), came_to(GOOD, wait_ms=0.4))


def test_a_memory_of_a_free_link_does_not_decide_on_a_slow_one() -> None:
    for row_ms in (None, LINK_MS):
        found = started(*MEMORIES, row_ms=row_ms, present=START)
        assert found is not None
        assert found.settings == GOOD
    on_free = started(*MEMORIES, row_ms=FREE_MS, present=START)
    assert on_free is not None
    assert on_free.settings == FREE


def test_no_start_shrinks_a_buffer() -> None:
    larger = BufferSettings(capacity_rows=4000, lookahead_batches=16)
    for row_ms in (None, LINK_MS, FREE_MS):
        assert started(MEMORIES[0], row_ms=row_ms, present=larger) is None


def test_a_memory_that_does_not_tell_its_link_may_let_the_buffer_grow() -> None:
    old = came_to(GOOD, row_ms=None)
    found = started(old, row_ms=LINK_MS, present=START)
    assert found is not None
    assert found.settings == GOOD
    larger = BufferSettings(capacity_rows=4000, lookahead_batches=16)
    assert started(old, row_ms=LINK_MS, present=larger) is None


def test_the_best_is_the_one_that_waited_least() -> None:
    other = BufferSettings(capacity_rows=900, lookahead_batches=16)
    found = started(
        came_to(other, wait_ms=3.0), came_to(), came_to(other, wait_ms=2.0),
        row_ms=LINK_MS, present=START,
    )  # fmt: skip
    assert found is not None
    assert found.effect is not None
    assert (found.settings, found.effect.exposed_wait_ms.mid) == (GOOD, 1.0)


def test_other_work_this_run_and_what_was_not_confirmed_do_not_count() -> None:
    elsewhere = EARLIER.model_copy(update={"num_halo": EARLIER.num_halo + 1})
    for no_use in (came_to(work=elsewhere), came_to(work=WORK), came_to(result="reverted")):
        assert started(no_use, row_ms=None, present=START) is None


LARGER = Change(capacity_rows=4000)

# -- its trial -------------------------------------------------------------------------------


def fed(*waits_ms: float) -> list[Outcome | None]:
    trial = WarmTrial(applied=applied_of(LARGER, step=0), expected=effect_of(100.0, 1.0))
    return [trial.feed(told(number, wait)) for number, wait in enumerate(waits_ms)]


def told(number: int, wait_ms: float) -> Window:
    settings = applied_of(LARGER).settings
    return window_of(16 * number, settings=settings, wait_ms=wait_ms)


def test_it_is_confirmed_once_the_trainer_waits_no_longer_than_then() -> None:
    first, second = fed(9.0, 1.5)
    assert first is None
    assert second is not None
    assert (second.result, second.wait_ms_after, second.rows_error) == ("confirmed", 1.5, None)


def test_it_is_given_up_where_it_goes_on_waiting_and_nothing_is_undone() -> None:
    *before, last = fed(9.0, 9.0, 9.0, 9.0)
    assert before == [None] * 3
    assert last is not None
    assert last.result == "abandoned"
    assert WarmTrial.undo.is_empty


def test_settings_of_someone_else_end_it() -> None:
    trial = WarmTrial(applied=applied_of(LARGER, step=0), expected=None)
    outcome = trial.feed(window_of(0, settings=START))
    assert outcome is not None
    assert outcome.result == "abandoned"
