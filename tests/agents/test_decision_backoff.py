"""Pauses after decisions to keep things."""

from __future__ import annotations

import pytest

from rudder.agents.steering import DecisionBackoff
from rudder.training.metrics import Seconds
from tests.agents.steered import SETTINGS, observation_of, window_of

SAME = window_of(160, settings=SETTINGS)


def windows_until_over(rest: DecisionBackoff) -> int:
    return next(count for count in range(1, 100) if rest.is_over(SAME))


def test_pauses_double_up_to_eight_windows() -> None:
    rest = DecisionBackoff()
    pauses = []
    for _ in range(5):
        rest.begin(observation_of())
        pauses.append(windows_until_over(rest) - 1)
    assert pauses == [1, 2, 4, 8, 8]


def test_a_window_that_looks_different_ends_the_pause() -> None:
    for other in (
        window_of(160, settings=SETTINGS, rows=300),
        window_of(160, settings=SETTINGS, wait_ms=9),
        window_of(160, settings=SETTINGS.model_copy(update={"capacity_rows": 1})),
    ):
        rest = DecisionBackoff()
        for _ in range(4):
            rest.begin(observation_of())
        assert not rest.is_over(SAME)
        assert rest.is_over(other)


def test_of_few_rows_some_more_or_less_are_no_difference() -> None:
    few = observation_of(
        rows_fetched=10.0, noise_rows=0.1, hit_fraction=0.975
    )  # of 400 remote rows a step
    rest = DecisionBackoff()
    for _ in range(4):
        rest.begin(few)
    assert not rest.is_over(window_of(160, settings=SETTINGS, rows=13))
    assert rest.is_over(window_of(160, settings=SETTINGS, rows=15))


@pytest.mark.parametrize(("factor", "is_other"), [(1.6, False), (2.2, True), (0.6, False)])
def test_only_steps_that_take_twice_as_long_are_another_regime(
    factor: float, is_other: bool
) -> None:
    backoff = DecisionBackoff()
    backoff.begin(observation_of())
    seconds = Seconds(exposed_wait=16 * 0.005, compute=16 * (0.025 * factor - 0.005))
    assert backoff.is_over(SAME.model_copy(update={"seconds": seconds})) == is_other


def test_without_a_pause_every_window_is_looked_at() -> None:
    rest = DecisionBackoff()
    assert all(rest.is_over(SAME) for _ in range(5))


def test_where_nothing_can_be_gained_no_decision_follows_the_fifth_that_keeps_things() -> None:
    backoff = DecisionBackoff()
    for number in range(5):
        assert not backoff.is_resting, number
        backoff.begin(observation_of(headroom_wait_ms=0.1))
    assert backoff.is_resting
    assert not any(backoff.is_over(SAME) for _ in range(1000))
    assert backoff.is_over(window_of(160, settings=SETTINGS, wait_ms=9))
    assert not backoff.is_resting


@pytest.mark.parametrize(("wait_ms", "wakes"), [(0.0, False), (8.0, False), (9.0, True)])
def test_where_nothing_can_be_gained_less_wait_and_a_busy_host_wake_nobody(
    wait_ms: float, wakes: bool
) -> None:
    backoff = DecisionBackoff()
    for _ in range(5):
        backoff.begin(observation_of(headroom_wait_ms=0.1))
    assert backoff.is_over(window_of(160, settings=SETTINGS, wait_ms=wait_ms)) == wakes


@pytest.mark.parametrize("headroom_ms", [None, 5.0])
def test_while_something_may_be_gained_decisions_go_on(headroom_ms: float | None) -> None:
    backoff = DecisionBackoff()
    for _ in range(9):
        backoff.begin(observation_of(headroom_wait_ms=headroom_ms))
    assert not backoff.is_resting
    assert windows_until_over(backoff) == 9
