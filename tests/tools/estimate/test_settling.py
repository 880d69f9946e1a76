"""A buffer that grew is settled when its rows have been replaced, not when it is full."""

from __future__ import annotations

from rudder.tools.estimate.settling import settling_steps, without_growth
from rudder.training.settings import BufferSettings
from tests.tools.runs import window

SMALL, LARGE = BufferSettings(capacity_rows=1000), BufferSettings(capacity_rows=5000)


def test_only_growth_takes_steps_and_the_more_the_fewer_rows_come() -> None:
    assert settling_steps(-100, rows_per_step=300.0) == 0
    assert settling_steps(100, rows_per_step=0.0) == 0
    assert settling_steps(4000, rows_per_step=100.0) > settling_steps(4000, rows_per_step=300.0) > 0


def test_windows_soon_after_a_growth_are_left_out_and_later_ones_are_not() -> None:
    before = [window(number, SMALL) for number in range(4)]
    after = [window(4 + number, LARGE) for number in range(6)]
    kept = without_growth(after[1:], [*before, *after])
    assert kept == tuple(after[3:])  # 4000 rows, 300 a step: 33 steps


def test_after_a_shrink_or_without_any_change_all_are_kept() -> None:
    before = [window(number, LARGE) for number in range(4)]
    after = [window(4 + number, SMALL) for number in range(3)]
    assert without_growth(after, [*before, *after]) == tuple(after)
    assert without_growth(before, before) == tuple(before)
    assert without_growth([], before) == ()
