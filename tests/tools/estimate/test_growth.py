"""Estimates of a buffer that grows, beside whole replays of what then comes."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.tools.estimate.history import History
from rudder.tools.estimate.settling import settling_steps
from rudder.training.buffer.policy import IntArray
from rudder.training.settings import BufferSettings, Change
from tests.tools.runs import history_of, replay, whatif_of

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
    for window in windows:
        grown.add(window)
    more, less = (
        np.mean(whatif_of(each).course(LARGER, applied_step=64)[:16]) for each in (grown, lately)
    )
    assert more > 1.05 * less


def test_the_same_history_leads_to_the_same_estimate() -> None:
    batches = flat(96)
    one, other = (whatif_of(history_of(batches, SETTINGS)).effect(LARGER) for _ in range(2))
    assert one == other
