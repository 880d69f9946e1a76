"""Estimates of a buffer that grows, beside whole replays of what then comes."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.tools.estimate.growth import held_rows, settling_steps, without_growth
from rudder.tools.estimate.history import History
from rudder.training.buffer.policy import IntArray
from rudder.training.metrics import Window
from rudder.training.settings import BufferSettings, Change
from tests.tools.runs import history_of, replay, whatif_of, window

NUM_REMOTE, WIDTH, JUDGED = 12_000, 500, 48
SETTINGS = BufferSettings(capacity_rows=1500, lookahead_batches=16)
LARGER = Change(capacity_rows=7000)


def flat(count: int) -> list[IntArray]:
    """Batches that go on using nodes for the first time until far into the run."""
    random = np.random.default_rng(5)
    weights = random.gamma(1.4, size=NUM_REMOTE)
    weights /= weights.sum()
    return [random.choice(NUM_REMOTE, WIDTH, replace=False, p=weights) for _ in range(count)]


@pytest.mark.parametrize("seen", [64, 128, 320])
def test_rows_are_those_of_the_steps_in_which_the_trial_is_judged(seen: int) -> None:
    batches = flat(seen + 400)
    whatif = whatif_of(history_of(batches[:seen], SETTINGS))
    present = whatif.present().rows_fetched.mid
    first = settling_steps(7000 - 1500, rows_per_step=present)
    rows = replay(batches, SETTINGS, change=LARGER, at=seen)
    measured = rows[seen + first : seen + first + JUDGED].mean()
    expected = whatif.effect(LARGER).rows_fetched
    assert expected.mid == pytest.approx(measured, rel=0.15)
    assert expected.low <= measured <= expected.high


@pytest.mark.parametrize(("seen", "after"), [(64, 0), (64, 12), (128, 5), (320, 8)])
def test_each_step_from_the_change_to_its_trial_is_foretold(seen: int, after: int) -> None:
    batches = flat(seen + 400)
    whatif = whatif_of(history_of(batches[:seen], SETTINGS))
    course = np.array(whatif.course(LARGER, applied_step=seen + after))
    rows = replay(batches, SETTINGS, change=LARGER, at=seen + after)[seen + after :]
    assert course[0] > 1.5 * course[-1]
    for first in range(0, len(course) - 16, 16):
        steps = slice(first, first + 16)
        assert course[steps].mean() == pytest.approx(rows[steps].mean(), rel=0.3)


def test_what_does_not_grow_has_no_course() -> None:
    whatif = whatif_of(history_of(flat(96), SETTINGS))
    assert whatif.course(Change(capacity_rows=1000), applied_step=96) == ()
    assert whatif.course(Change(lookahead_batches=4), applied_step=96) == ()


def test_what_came_before_a_growth_does_not_count_as_held() -> None:
    """A buffer that has grown lately holds less than one that was large from the start."""
    batches = flat(64)
    large = SETTINGS.model_copy(update={"capacity_rows": 5000})
    lately = history_of(batches, large)
    windows = [
        window.model_copy(update={"settings": SETTINGS if window.first_step < 48 else large})
        for window in lately.windows
    ]
    grown = History(lately.workload)
    for each in windows:
        grown.add(each)
    more, less = (
        np.mean(whatif_of(each).course(LARGER, applied_step=64)[:16]) for each in (grown, lately)
    )
    assert more > 1.05 * less


def test_the_same_history_leads_to_the_same_estimate() -> None:
    batches = flat(96)
    one, other = (whatif_of(history_of(batches, SETTINGS)).effect(LARGER) for _ in range(2))
    assert one == other


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


def told(*capacities: int, since: int | None = None) -> list[Window]:
    """One window after the other; since: told by the last one."""
    windows = [
        window(index, BufferSettings(capacity_rows=rows)) for index, rows in enumerate(capacities)
    ]
    return [*windows[:-1], windows[-1].model_copy(update={"settings_since": since})]


def test_a_change_counts_from_the_batch_that_the_window_tells() -> None:
    rows = held_rows(told(100, 700, since=20), steps=np.arange(32))
    assert rows.tolist() == [100] * 20 + [700] * 12


def test_without_a_word_a_change_came_a_third_into_its_window() -> None:
    rows = held_rows(told(100, 700), steps=np.arange(32))
    assert rows.tolist() == [100] * 21 + [700] * 11


def test_batches_ahead_of_the_last_window_still_find_what_was_there_before() -> None:
    rows = held_rows(told(100, 700, since=36), steps=np.arange(40))
    assert rows.tolist() == [100] * 36 + [700] * 4


def test_what_a_buffer_lost_as_it_shrank_it_does_not_hold() -> None:
    rows = held_rows(told(700, 100, 300, since=32), steps=np.arange(48))
    assert rows.tolist() == [100] * 32 + [300] * 16


def test_batches_before_the_first_window_had_what_it_had() -> None:
    windows = told(100, 100, 700)[1:]
    assert held_rows(windows, steps=np.arange(40)).tolist() == [100] * 37 + [700] * 3
