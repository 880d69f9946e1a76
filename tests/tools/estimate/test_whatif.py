"""What-if estimates against full replays of the same streams."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from rudder.tools.calls import NotReadyError
from rudder.tools.estimate.history import History
from rudder.training.buffer.policy import IntArray
from rudder.training.settings import BufferSettings, Change, FetchTargets
from rudder.training.workload import PolicyName
from tests.tools.runs import NUM_REMOTE, ROW_BYTES, drifting, history_of, replay, whatif_of, zipf

SEEN, AFTER, MEASURED = 320, 128, 96
SETTINGS = BufferSettings(capacity_rows=1200, lookahead_batches=8)


def changes(seed: int, count: int) -> list[Change]:
    """Random legal ones, capacities on a log scale."""
    random = np.random.default_rng(seed)
    return [
        Change(
            capacity_rows=int(NUM_REMOTE * 10 ** random.uniform(-2, -0.2)),
            lookahead_batches=int(random.choice([0, 2, 8, 24])),
            eviction_threshold=float(random.choice([1.0, 1.0, 0.3])),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("stream", [zipf, drifting])
def test_rows_fetched_are_within_five_percent_for_nine_in_ten_changes(
    stream: Callable[..., list[IntArray]],
) -> None:
    batches = stream(SEEN + AFTER + MEASURED, seed=3)
    whatif = whatif_of(history_of(batches[:SEEN], SETTINGS))
    errors, covered = [], []
    for change in changes(1, 20):
        rows = replay(batches, SETTINGS, change=change, at=SEEN)[SEEN + AFTER :].mean()
        expected = whatif.effect(change).rows_fetched
        errors.append(abs(expected.mid - rows) / rows)
        covered.append(expected.low <= rows <= expected.high)
    assert np.mean(np.array(errors) < 0.05) >= 0.9
    assert np.mean(covered) >= 0.9


@pytest.mark.parametrize("policy", ["lfu", "score", "static", "lru"])
def test_other_policies_are_replayed_by_their_own_code(policy: PolicyName) -> None:
    interval = 16 if policy == "score" else None
    threshold = 0.4 if policy == "score" else 1.0
    settings = BufferSettings(
        capacity_rows=1200, replacement_interval=interval, eviction_threshold=threshold
    )
    batches = zipf(256, seed=4)
    whatif = whatif_of(history_of(batches, settings, policy=policy))
    change = Change(capacity_rows=3600)
    expected = whatif.effect(change).rows_fetched.mid
    bigger = settings.model_copy(update={"capacity_rows": 3600})
    rows = replay(batches, bigger, policy=policy)[-128:].mean()
    assert expected == pytest.approx(rows, rel=0.08)


def test_the_present_is_what_was_measured() -> None:
    history = history_of(zipf(256, seed=5), SETTINGS)
    whatif = whatif_of(history)
    measured = np.mean([each.rows.rows_fetched.total / 16 for each in history.recent(8)])
    present = whatif.present()
    assert whatif.is_calibrated
    assert present.rows_fetched.mid == pytest.approx(measured, rel=0.01)
    assert present.buffer_bytes == SETTINGS.capacity_rows * ROW_BYTES


def test_more_capacity_never_fetches_more_and_opt_never_more_than_the_policy() -> None:
    whatif = whatif_of(history_of(zipf(200, seed=6), SETTINGS))
    sizes = [0, 1, 10, 100, 500, 1200, 3000, 8000, NUM_REMOTE]
    effects = [whatif.effect(Change(capacity_rows=size)) for size in sizes]
    rows = [effect.rows_fetched.mid for effect in effects]
    assert all(more <= 1.005 * fewer for fewer, more in itertools.pairwise(rows))
    waits = [effect.exposed_wait_ms.mid for effect in effects]
    assert all(more <= fewer + 0.01 for fewer, more in itertools.pairwise(waits))
    for size, effect in zip(sizes, effects, strict=True):
        assert whatif.opt(size).rows_fetched.mid <= 1.005 * effect.rows_fetched.mid


def test_without_a_buffer_every_remote_row_is_fetched() -> None:
    whatif = whatif_of(history_of(zipf(96, seed=7), SETTINGS))
    assert whatif.effect(Change(capacity_rows=0)).rows_fetched.mid == pytest.approx(1200)


@pytest.mark.parametrize("policy", ["lookahead", "score"])
def test_rows_fetched_eagerly_bring_little_to_a_settled_buffer(policy: PolicyName) -> None:
    settings = SETTINGS.model_copy(
        update={"replacement_interval": 16, "eviction_threshold": 0.4} if policy == "score" else {}
    )
    whatif = whatif_of(history_of(zipf(128, seed=8), settings, policy=policy))
    present = whatif.present().rows_fetched.mid
    targets = FetchTargets(source="degree", row_budget=600)
    for change in (Change(fetch_targets=targets), Change(replace_now=True)):
        assert whatif.effect(change).rows_fetched.mid == pytest.approx(present, rel=0.1)


def test_too_few_batches_raise() -> None:
    whatif = whatif_of(history_of(zipf(32, seed=9), SETTINGS))
    assert not whatif.is_ready
    with pytest.raises(NotReadyError, match="32 batches"):
        whatif.present()
    assert whatif_of(history_of(zipf(64, seed=9), SETTINGS)).is_ready


def test_answers_are_kept_until_the_next_window() -> None:
    batches = zipf(160, seed=10)
    history = history_of(batches[:144], SETTINGS)
    whatif = whatif_of(history)
    first = whatif.effect(Change(capacity_rows=3000))
    assert whatif.effect(Change(capacity_rows=3000)) is first
    later: History = history_of(batches, SETTINGS)
    assert later.latest is not None
    history.add(later.latest)
    assert whatif.effect(Change(capacity_rows=3000)) is not first


def test_errors_of_the_past_widen_the_range() -> None:
    whatif = whatif_of(history_of(zipf(128, seed=11), SETTINGS))
    change = Change(capacity_rows=3000)
    before = whatif.effect(change)
    for _ in range(5):
        whatif.note_error(0.5)
    after = whatif.effect(change)
    assert after.rows_fetched.mid == before.rows_fetched.mid
    assert after.rows_fetched.high - after.rows_fetched.low > 2 * (
        before.rows_fetched.high - before.rows_fetched.low
    )
    assert whatif.error_fraction > 0.3
