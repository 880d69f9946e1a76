"""A change on trial: settled first, then judged by wait and rows against their noise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.agents.trial import Trial, TrialCriteria
from rudder.memory.records import Observation, Outcome
from rudder.tools.calls import Effect
from rudder.tools.constants import MAX_SETTLING_STEPS
from rudder.training.settings import BufferSettings, Change, FetchTargets
from rudder.training.steering_options import Objective
from tests.agents.steered import SETTINGS, applied_of, effect_of, observation_of, window_of

SMALLER = Change(capacity_rows=1500)
LARGER = Change(capacity_rows=4000)


def trial_of(
    change: Change,
    *,
    before: Observation | None = None,
    expected: Effect | None = None,
    course: Sequence[float] = (),
    criteria: TrialCriteria | None = None,
) -> Trial:
    return Trial(
        change,
        applied=applied_of(change),
        before=before or observation_of(),
        expected=expected,
        course=course,
        criteria=criteria or TrialCriteria(),
    )


def outcome_of(trial: Trial, *, rows: float = 200.0, wait_ms: float = 5.0) -> Outcome:
    settings = trial.change.over(SETTINGS)
    for number in range(20):
        window = window_of(160 + 16 * number, settings=settings, rows=rows, wait_ms=wait_ms)
        if (outcome := trial.feed(window)) is not None:
            return outcome
    raise AssertionError("the trial never ended")


def test_what_helps_is_confirmed_with_its_error() -> None:
    outcome = outcome_of(trial_of(LARGER, expected=effect_of(100.0, 1.0)), rows=105.0, wait_ms=1.0)
    assert outcome.result == "confirmed"
    assert (outcome.rows_before, outcome.rows_after) == (200.0, 105.0)
    assert outcome.rows_error == pytest.approx(0.05)


def test_where_hardly_any_rows_are_expected_a_hundredth_of_those_before_is_a_small_error() -> None:
    outcome = outcome_of(trial_of(LARGER, expected=effect_of(1.0, 1.0)), rows=3.0, wait_ms=1.0)
    assert outcome.rows_before == 200.0
    assert outcome.rows_error == pytest.approx(0.05)


def test_rows_that_fall_are_compared_with_those_expected_of_the_same_steps() -> None:
    course = [500.0] * 16 + [200.0] * 16 + [100.0] * 96
    trial = trial_of(LARGER, expected=effect_of(100.0, 1.0), course=course)
    settings, rows = LARGER.over(SETTINGS), iter([500.0, 210.0, 110.0, 105.0])
    outcome = None
    for number in range(4):
        outcome = outcome or trial.feed(
            window_of(160 + 16 * number, settings=settings, rows=next(rows), wait_ms=1.0)
        )
    assert outcome is not None
    first, last = (210.0 + 110.0) / 2, (110.0 + 105.0) / 2
    assert outcome.rows_after in (first, last)
    expected = (200.0 + 100.0) / 2 if outcome.rows_after == first else 100.0
    assert outcome.rows_expected == expected
    assert outcome.rows_error == pytest.approx(outcome.rows_after / expected - 1)


def test_steps_beyond_the_course_are_those_of_a_buffer_that_has_settled() -> None:
    trial = trial_of(LARGER, expected=effect_of(100.0, 1.0), course=[500.0] * 4)
    outcome = outcome_of(trial, rows=105.0, wait_ms=1.0)
    assert outcome.rows_expected == 100.0


def test_longer_waiting_is_reverted() -> None:
    assert outcome_of(trial_of(LARGER), wait_ms=5.6).result == "reverted"


def test_waiting_within_one_percent_of_the_step_or_the_noise_stays() -> None:
    assert outcome_of(trial_of(LARGER), wait_ms=5.24).result == "confirmed"
    noisy = observation_of(noise_wait_ms=1.0)
    assert outcome_of(trial_of(LARGER, before=noisy), wait_ms=6.9).result == "confirmed"


def test_more_rows_for_nothing_are_reverted() -> None:
    assert outcome_of(trial_of(Change(lookahead_batches=16)), rows=220.0).result == "reverted"


@pytest.mark.parametrize(
    ("objective", "result"),
    [("time", "reverted"), ("traffic", "reverted"), ("memory", "confirmed")],
)
def test_a_smaller_buffer_may_cost_rows_only_where_memory_is_sought(
    objective: Objective, result: str
) -> None:
    trial = trial_of(SMALLER, criteria=TrialCriteria(objective=objective))
    assert outcome_of(trial, rows=220.0).result == result


def test_a_larger_buffer_is_not_blamed_for_a_wait_while_its_rows_fall() -> None:
    trial = trial_of(LARGER)
    settings = LARGER.over(SETTINGS)
    assert trial.feed(window_of(160, settings=settings, rows=150.0, wait_ms=60.0)) is None
    assert outcome_of(trial_of(LARGER), rows=120.0, wait_ms=60.0).result == "confirmed"


def test_a_catastrophe_ends_the_trial_with_its_first_window() -> None:
    trial = trial_of(SMALLER)
    outcome = trial.feed(window_of(160, settings=SMALLER.over(SETTINGS), wait_ms=15.0))
    assert outcome is not None
    assert outcome.result == "reverted"


def test_windows_from_before_the_change_and_the_first_after_it_do_not_count() -> None:
    trial = trial_of(SMALLER, criteria=TrialCriteria(windows=1))
    settings = SMALLER.over(SETTINGS)
    assert trial.feed(window_of(144, settings=SETTINGS)) is None
    assert trial.feed(window_of(160, settings=settings)) is None
    assert trial.feed(window_of(176, settings=settings)) is not None


def test_a_buffer_that_grew_is_judged_when_its_rows_have_come_not_before() -> None:
    before = observation_of(rows_fetched=100.0, noise_rows=1.0)
    trial = trial_of(LARGER, before=before, criteria=TrialCriteria(windows=1))
    settings = LARGER.over(SETTINGS)
    filling = [window_of(160 + 16 * n, settings=settings, rows=100.0 - 15 * n) for n in range(3)]
    assert [trial.feed(window) for window in filling] == [None] * 3
    outcome = trial.feed(window_of(208, settings=settings, rows=50.0))
    assert outcome is not None
    assert (outcome.result, outcome.rows_after) == ("confirmed", 50.0)


def test_no_growth_is_waited_for_without_end() -> None:
    before = observation_of(rows_fetched=0.5, noise_rows=0.0)
    trial = trial_of(LARGER, before=before, criteria=TrialCriteria(windows=1))
    settings = LARGER.over(SETTINGS)
    steps = [160 + 16 * n for n in range(20)]
    ended = [trial.feed(window_of(step, settings=settings, rows=0.5)) for step in steps]
    first = next(step for step, outcome in zip(steps, ended, strict=True) if outcome is not None)
    assert first == 160 + MAX_SETTLING_STEPS


def test_of_a_trial_that_ends_before_the_buffer_has_settled_no_error_is_known() -> None:
    trial = trial_of(SMALLER, expected=effect_of(100.0, 1.0))
    outcome = trial.feed(window_of(160, settings=SMALLER.over(SETTINGS), wait_ms=15.0))
    assert outcome is not None
    assert (outcome.result, outcome.rows_error) == ("reverted", None)


def test_settings_of_someone_else_end_the_trial() -> None:
    outcome = trial_of(LARGER).feed(window_of(176, settings=SETTINGS))
    assert outcome is not None
    assert outcome.result == "abandoned"


def test_undo_puts_back_what_was_changed_and_nothing_else() -> None:
    both = Change(capacity_rows=100, lookahead_batches=0)
    assert trial_of(both).undo == Change(capacity_rows=2500, lookahead_batches=32)
    targets = Change(fetch_targets=FetchTargets(source="degree", row_budget=5))
    assert trial_of(targets).undo.is_empty


@given(rows=st.integers(0, 5000), ahead=st.integers(0, 1024), threshold=st.floats(0, 1, width=16))
def test_undo_leads_back_from_any_change(rows: int, ahead: int, threshold: float) -> None:
    change = Change(capacity_rows=rows, lookahead_batches=ahead, eviction_threshold=threshold)
    now: BufferSettings = change.over(SETTINGS)
    assert trial_of(change).undo.over(now) == SETTINGS


def waits(trial: Trial, *wait_ms: float) -> Outcome | None:
    """The outcome after windows that waited so long; two of them settle the buffer."""
    settings, outcome = trial.change.over(SETTINGS), None
    for number, wait in enumerate((5.0, *wait_ms)):
        window = window_of(160 + 16 * number, settings=settings, rows=200.0, wait_ms=wait)
        outcome = trial.feed(window)
    return outcome


def test_one_window_that_a_busy_host_held_up_is_outvoted_by_more() -> None:
    assert waits(trial_of(SMALLER), 5.0, 9.0) is None
    outcome = waits(trial_of(SMALLER), 5.0, 9.0, 5.0, 5.0)
    assert outcome is not None
    assert outcome.result == "confirmed"


def test_windows_that_all_wait_longer_need_no_more_of_them() -> None:
    outcome = waits(trial_of(SMALLER), 9.0, 9.0)
    assert outcome is not None
    assert outcome.result == "reverted"


def test_the_noisier_the_rows_the_more_windows_are_judged() -> None:
    noisy = observation_of(noise_rows=20.0)
    assert waits(trial_of(SMALLER), 5.0, 5.0) is not None
    assert waits(trial_of(SMALLER, before=noisy), 5.0, 5.0, 5.0) is None
    assert waits(trial_of(SMALLER, before=noisy), 5.0, 5.0, 5.0, 5.0) is not None


def test_fewer_rows_are_kept_where_the_wait_is_for_others() -> None:
    outcome = outcome_of(trial_of(LARGER, expected=effect_of(100.0, 1.0)), rows=100.0, wait_ms=4.9)
    assert outcome.result == "confirmed"


def test_a_larger_buffer_is_judged_when_its_rows_have_been_replaced() -> None:
    settings = LARGER.over(SETTINGS)
    trial = trial_of(LARGER, before=observation_of(rows_fetched=100.0, noise_rows=0.1))
    full = [window_of(160 + 16 * number, settings=settings, rows=100.0) for number in range(6)]
    assert [trial.feed(window) is not None for window in full] == [False] * 4 + [True, True]
