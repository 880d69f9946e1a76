"""Estimates of a buffer that grows, beside whole replays of what then comes."""

from __future__ import annotations

import numpy as np
import pytest

from rudder.tools.settling import settling_steps
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


def test_the_same_history_leads_to_the_same_estimate() -> None:
    batches = flat(96)
    one, other = (whatif_of(history_of(batches, SETTINGS)).effect(LARGER) for _ in range(2))
    assert one == other
