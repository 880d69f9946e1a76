"""A change on trial: settled first, then judged by wait and rows against their noise."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.agents.trial import Trial, TrialCriteria
from rudder.memory.records import Observation, Outcome
from rudder.tools.calls import Effect, StepTimes
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


def outcome_of(
    trial: Trial, *, rows: float = 200.0, wait_ms: float = 5.0, compute_ms: float = 20.0
) -> Outcome:
    settings = trial.change.over(SETTINGS)
    for number in range(20):
        window = window_of(
            160 + 16 * number, settings=settings, rows=rows, wait_ms=wait_ms, compute_ms=compute_ms
        )
        if (outcome := trial.feed(window)) is not None:
            return outcome
    raise AssertionError("the trial never ended")


def test_what_helps_is_confirmed_with_its_error() -> None:
    outcome = outcome_of(trial_of(LARGER, expected=effect_of(100.0, 1.0)), rows=105.0, wait_ms=1.0)
    assert outcome.result == "confirmed"
    assert (outcome.rows_before, outcome.rows_after) == (200.0, 105.0)
    assert outcome.wait_ms_before == 5.0
    assert outcome.wait_ms_after == pytest.approx(1.0, rel=1e-6)
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


def waits(trial: Trial, *wait_ms: float) -> Outcome | None:
    """The outcome after windows that waited so long; two of them settle the buffer."""
    return fed(trial, wait_ms=(5.0, *wait_ms))[-1]


def fed(trial: Trial, **values: Sequence[float]) -> list[Outcome | None]:
    """What is known after each of some windows, of which these values are told."""
    settings = trial.change.over(SETTINGS)
    windows = [
        window_of(160 + 16 * number, settings=settings, **dict(zip(values, each, strict=True)))
        for number, each in enumerate(zip(*values.values(), strict=True))
    ]
    return [trial.feed(window) for window in windows]


def results(outcomes: Sequence[Outcome | None]) -> list[str | None]:
    return [None if each is None else each.result for each in outcomes]


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
    fairly = observation_of(noise_rows=1.7 * 4.0)
    assert waits(trial_of(SMALLER, before=fairly), 5.0, 5.0) is None
    assert waits(trial_of(SMALLER, before=fairly), 5.0, 5.0, 5.0) is not None


def test_fewer_rows_are_kept_where_the_wait_is_for_others() -> None:
    outcome = outcome_of(trial_of(LARGER, expected=effect_of(100.0, 1.0)), rows=100.0, wait_ms=4.9)
    assert outcome.result == "confirmed"


def test_a_larger_buffer_is_judged_when_its_rows_have_been_replaced() -> None:
    settings = LARGER.over(SETTINGS)
    trial = trial_of(LARGER, before=observation_of(rows_fetched=100.0, noise_rows=0.1))
    full = [window_of(160 + 16 * number, settings=settings, rows=100.0) for number in range(6)]
    assert [trial.feed(window) is not None for window in full] == [False] * 4 + [True, True]


EXPECTED = effect_of(100.0, 5.0)
LONG = observation_of(step_ms=100.0)
"""Its steps tolerate a wait that is longer by 1 ms, exactly."""


def test_without_an_estimate_less_waiting_is_confirmed_at_once() -> None:
    assert results(fed(trial_of(SMALLER, before=LONG), wait_ms=[4.0])) == [None]
    helped = trial_of(SMALLER, before=LONG)
    assert results(fed(helped, wait_ms=[3.9])) == ["confirmed"]
    assert results(fed(trial_of(SMALLER, before=LONG, expected=EXPECTED), wait_ms=[3.9])) == [None]


def test_a_growth_by_one_row_is_a_growth() -> None:
    """It is judged when its estimate says, and not when its rows rest."""
    trial = trial_of(
        Change(capacity_rows=SETTINGS.capacity_rows + 1), criteria=TrialCriteria(windows=1)
    )
    assert results(fed(trial, rows=[200, 100])) == [None, "confirmed"]


@pytest.mark.parametrize("change", [SMALLER, Change(lookahead_batches=16)])
def test_rows_that_never_rest_are_judged_after_six_windows(change: Change) -> None:
    trial = trial_of(change, expected=EXPECTED, criteria=TrialCriteria(windows=1))
    assert results(fed(trial, rows=[200, 100, 200, 100, 200, 100, 200])) == [None] * 6 + [
        "confirmed"
    ]


@pytest.mark.parametrize(
    ("values", "is_settled"),
    [
        ({"rows": [200, 210]}, True),
        ({"rows": [200, 211]}, False),
        ({"buffered_rows": [1000, 1030]}, True),
        ({"buffered_rows": [1000, 1031]}, False),
    ],
)
def test_a_buffer_has_settled_once_neither_rows_nor_filling_go_on(
    values: dict[str, Sequence[float]], is_settled: bool
) -> None:
    trial = trial_of(SMALLER, criteria=TrialCriteria(windows=1))
    assert [each is not None for each in fed(trial, **values)] == [False, is_settled]


def test_rows_within_their_noise_are_at_rest_and_count_once_settled_however_they_move() -> None:
    noisy = observation_of(noise_rows=10.0)
    assert results(fed(trial_of(SMALLER, before=noisy), rows=[200, 219, 240, 219, 240])) == [
        None, None, None, None, "reverted",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "wait_ms", "result"),
    [
        (204, 5.0, "confirmed"),
        (205, 5.0, "reverted"),
        (205, 3.9, "confirmed"),
        (205, 4.0, "reverted"),
        (196, 7.0, "reverted"),
        (195, 7.0, "confirmed"),
        (200, 6.96, "confirmed"),
    ],
)
def test_more_rows_or_waiting_than_the_noise_need_less_of_the_other(
    rows: float, wait_ms: float, result: str
) -> None:
    before = observation_of(noise_wait_ms=1.0)
    trial = trial_of(SMALLER, before=before, expected=effect_of(200.0, 5.0))
    assert outcome_of(trial, rows=rows, wait_ms=wait_ms).result == result


def test_only_a_smaller_buffer_gives_memory_back() -> None:
    criteria = TrialCriteria(objective="memory")
    trial = trial_of(Change(lookahead_batches=16), criteria=criteria)
    assert outcome_of(trial, rows=220.0).result == "reverted"


@pytest.mark.parametrize(
    ("change", "rows", "wait_ms", "is_one"),
    [
        (SMALLER, 200, 11.25, False),
        (SMALLER, 200, 11.3, True),
        (LARGER, 250, 11.3, False),
        (LARGER, 251, 11.3, True),
    ],
)
def test_a_catastrophe_is_a_quarter_of_the_step_unless_a_larger_buffer_fetches_no_more(
    change: Change, rows: float, wait_ms: float, is_one: bool
) -> None:
    outcomes = fed(trial_of(change), rows=[rows], wait_ms=[wait_ms])
    assert results(outcomes) == ["reverted" if is_one else None]


def test_a_catastrophe_after_the_buffer_has_settled_has_its_error() -> None:
    trial = trial_of(SMALLER, expected=EXPECTED, criteria=TrialCriteria(windows=4))
    *_, outcome = fed(trial, wait_ms=[5.0, 5.0, 15.0])
    assert outcome is not None
    assert (outcome.result, outcome.rows_error) == ("reverted", 1.0)


def test_a_change_that_all_ranks_make_is_judged_by_the_step_not_by_the_wait() -> None:
    for is_joint, wait_ms, compute_ms, result in (
        (True, 9.0, 16.0, "confirmed"),
        (False, 9.0, 16.0, "reverted"),
        (True, 5.0, 24.0, "reverted"),
        (False, 5.0, 24.0, "confirmed"),
    ):
        trial = trial_of(SMALLER, criteria=TrialCriteria(is_joint=is_joint))
        outcomes = fed(trial, wait_ms=[wait_ms] * 3, compute_ms=[compute_ms] * 3)
        assert results(outcomes)[-1] == result
    *_, exact = fed(
        trial_of(SMALLER, before=LONG, criteria=TrialCriteria(is_joint=True)),
        wait_ms=[6.0] * 3, compute_ms=[95.0] * 3,
    )  # fmt: skip
    assert exact is not None
    assert exact.result == "confirmed"


def test_one_window_at_what_is_tolerated_leaves_no_doubt() -> None:
    assert results(fed(trial_of(SMALLER, before=LONG), wait_ms=[5.0, 5.0, 6.0])) == [
        None, None, "confirmed",
    ]  # fmt: skip


def test_rows_are_compared_at_as_many_remote_rows_where_these_are_known() -> None:
    for remote, rows in ((200.0, 100.0), (0.0, 200.0)):
        before = observation_of(remote_rows=remote)
        assert trial_of(SMALLER, before=before).measured(window_of(160, settings=SETTINGS)) == (
            outcome_with(before, rows)
        )


def outcome_with(before: Observation, rows: float) -> Outcome:
    return Outcome(
        result="confirmed", rows_before=before.rows_fetched, rows_after=rows, wait_ms_before=5.0,
        wait_ms_after=5.0, noise_rows=before.noise_rows, noise_wait_ms=before.noise_wait_ms,
        reason="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows_before", "rows_expected", "error"), [(0.0, 0.0, None), (2.0, 0.5, 1.0)]
)
def test_where_no_rows_were_fetched_there_is_no_error(
    rows_before: float, rows_expected: float, error: float | None
) -> None:
    trial = trial_of(
        SMALLER,
        before=observation_of(rows_fetched=rows_before),
        expected=effect_of(rows_expected, 5.0),
    )
    assert outcome_of(trial, rows=1.0).rows_error == error


@given(rows=st.integers(0, 5000), ahead=st.integers(0, 1024), threshold=st.floats(0, 1, width=16))
def test_undo_leads_back_from_any_change(rows: int, ahead: int, threshold: float) -> None:
    change = Change(capacity_rows=rows, lookahead_batches=ahead, eviction_threshold=threshold)
    now: BufferSettings = change.over(SETTINGS)
    assert trial_of(change).undo.over(now) == SETTINGS


SHARED_CORES = StepTimes(
    wait_ms=5.0, model_ms=12.0, core_wait_ms=6.0, blocked_ms=2.0, loader_ms=9.0, rows_ms=4.0,
    link_ms=10.0,
)  # fmt: skip


@pytest.mark.parametrize(("compute_ms", "result"), [(20.2, "confirmed"), (23.0, "reverted")])
@pytest.mark.parametrize("are_shared", [True, False])
def test_where_ranks_share_cores_a_smaller_buffer_is_judged_by_the_step_time(
    compute_ms: float, result: str, are_shared: bool
) -> None:
    """Its rows take processor time of the model, and the trainer waits no longer for them."""
    before = observation_of(times=SHARED_CORES if are_shared else None, noise_step_ms=0.4)
    trial = trial_of(SMALLER, before=before, criteria=TrialCriteria(objective="memory"))
    outcome = outcome_of(trial, rows=220.0, compute_ms=compute_ms)
    assert outcome.result == (result if are_shared else "confirmed")
    if outcome.result == "reverted":
        assert outcome.reason == "steps take longer than before"


def test_steps_that_differ_by_their_noise_are_as_long_as_before() -> None:
    before = observation_of(times=SHARED_CORES, noise_step_ms=2.0)
    assert outcome_of(trial_of(LARGER, before=before), compute_ms=23.0).result == "confirmed"
