"""What is kept of a run: bounded, consistent, and honest about noise."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from rudder.tools.constants import MAX_BATCHES, MAX_WINDOWS
from rudder.tools.estimate.history import History
from rudder.tools.estimate.means import Means, Noise
from rudder.training.metrics import AccessSlice, Seconds, Window
from rudder.training.settings import BufferSettings
from tests.tools.runs import WINDOW_STEPS, window, workload

SMALL, LARGE = BufferSettings(capacity_rows=100), BufferSettings(capacity_rows=500)


def history_with(windows: list[Window]) -> History:
    history = History(workload())
    for each in windows:
        history.add(each)
    return history


def slice_of(index: int, *, rate: float = 0.5) -> AccessSlice:
    return AccessSlice.of([np.array([index, 3], dtype=np.int32)] * WINDOW_STEPS, rate=rate)


def test_a_run_without_windows_has_its_defaults_and_nothing_else() -> None:
    history = History(workload())
    assert history.latest is None
    assert history.settings == workload().defaults
    assert history.next_step == 0
    assert history.settled == ()
    assert history.trace is None
    assert Means.of(()) is None


def test_only_so_many_windows_and_batches_are_kept() -> None:
    history = history_with([window(i, SMALL, accesses=slice_of(i)) for i in range(300)])
    assert len(history.windows) == MAX_WINDOWS
    assert history.num_batches == MAX_BATCHES
    assert history.next_step == 300 * WINDOW_STEPS
    assert history.trace is not None
    assert history.trace.first_step == 300 * WINDOW_STEPS - MAX_BATCHES
    assert history.trace.heat.total == pytest.approx(300 * WINDOW_STEPS - MAX_BATCHES, rel=0.5)


def test_accesses_of_before_a_pause_of_sampling_are_kept() -> None:
    sampled = [window(i, SMALL, accesses=slice_of(i)) for i in (0, 1)]
    history = history_with([*sampled, window(2, SMALL), window(3, SMALL, accesses=slice_of(3))])
    trace = history.trace
    assert trace is not None
    assert trace.steps.tolist() == [*range(32), *range(48, 64)]
    found = [trace.of_window(each) for each in history.windows]
    assert found == [slice(0, 16), slice(16, 32), None, slice(32, 48)]


def test_noise_is_that_of_usual_windows_also_where_some_are_long() -> None:
    rows = np.random.default_rng(0).normal(1000, 20, (40, 4))
    short = [window(i, SMALL, fetched=round(16 * row)) for i, row in enumerate(rows.ravel())]
    long = [
        window(i, SMALL, fetched=round(64 * row.mean())).model_copy(update={"num_steps": 64})
        for i, row in enumerate(rows)
    ]
    assert Noise.of(long).rows == pytest.approx(Noise.of(short).rows, rel=0.2)


def test_another_rate_begins_the_sample_anew() -> None:
    history = history_with([window(i, SMALL, accesses=slice_of(i)) for i in (0, 1)])
    history.add(window(4, SMALL, accesses=slice_of(4, rate=0.25)))
    assert history.num_batches == WINDOW_STEPS
    assert history.rate == 0.25


def test_a_window_of_the_past_is_left_out() -> None:
    history = history_with([window(1, SMALL), window(0, LARGE)])
    assert history.settings == SMALL
    assert history.version == 1


def test_windows_settle_after_a_change_once_the_buffer_is_full() -> None:
    history = history_with(
        [
            window(0, SMALL),
            window(1, SMALL),
            window(2, LARGE, buffered_rows=200),
            window(3, LARGE, buffered_rows=400),
        ]
    )
    assert not history.settled
    assert history.last_change_step == 2 * WINDOW_STEPS
    history.add(window(4, LARGE))
    history.add(window(5, LARGE))
    assert [each.index for each in history.settled] == [5]
    assert [each.index for each in history.since(3 * WINDOW_STEPS)] == [3, 4, 5]


def test_means_are_per_step_and_in_milliseconds() -> None:
    timed = window(0, SMALL, fetched=1600, remote=3200, wall_seconds=0.32)
    means = Means.of([timed])
    assert means is not None
    assert (means.rows_fetched, means.remote_rows, means.hit_fraction) == (100, 200, 0.5)
    assert means.step_ms == pytest.approx(20)
    assert means.sample_ms == pytest.approx(5)
    untimed = Means.of([timed.model_copy(update={"wall_seconds": None})])
    assert untimed is not None
    assert untimed.step_ms is None


def test_noise_is_a_prior_until_three_windows_agree_on_their_settings() -> None:
    assert not Noise.of([window(0, SMALL), window(1, LARGE)]).is_measured
    prior = Noise.of([window(0, SMALL, fetched=1600)])
    assert prior.rows == pytest.approx(5)
    assert Noise.of([window(i, SMALL) for i in range(3)]).is_measured


def test_noise_is_that_of_equal_settings_and_not_of_changes() -> None:
    random = np.random.default_rng(0)
    rows = [*random.normal(1000, 20, 40), *random.normal(300, 20, 40)]
    windows = [window(i, SMALL if i < 40 else LARGE, fetched=int(16 * rows[i])) for i in range(80)]
    assert 16 < Noise.of(windows).rows < 26


@pytest.mark.parametrize("num_windows", range(3, 11))
def test_the_interval_of_few_windows_holds_the_true_mean_in_19_of_20_draws(
    num_windows: int,
) -> None:
    draws = np.random.default_rng(num_windows).normal(1000, 20, (1500, num_windows))
    noises = np.array([noise_of(draw) for draw in draws])
    half = 1.96 * noises / num_windows**0.5
    assert 0.93 <= np.mean(np.abs(draws.mean(axis=1) - 1000) <= half) <= 0.97


def test_of_many_windows_one_that_stands_out_is_no_noise() -> None:
    usual = list(np.random.default_rng(0).normal(1000, 20, 20))
    assert noise_of([*usual, 5000.0]) < 1.2 * noise_of(usual)


def noise_of(rows: Iterable[float]) -> float:
    return Noise.of(
        [window(i, SMALL, fetched=round(16 * each)) for i, each in enumerate(rows)]
    ).rows


@pytest.mark.parametrize(
    ("last_wait", "expected"), [(0.05, "steady"), (0.5, "worse"), (0.0, "better")]
)
def test_the_trend_is_that_of_the_last_windows(last_wait: float, expected: str) -> None:
    waits = [0.05, 0.051, 0.049, 0.05, 0.052, 0.048, last_wait, last_wait]
    history = history_with(
        [
            window(i, SMALL, seconds=Seconds(compute=0.2, exposed_wait=wait))
            for i, wait in enumerate(waits)
        ]
    )
    assert history.trend("wait") == expected
    assert history.trend("rows") == "steady"
    assert history_with([window(0, SMALL)]).trend() == "unknown"


def test_where_many_windows_stand_out_they_are_the_noise() -> None:
    assert noise_of([100.0, 100.0, 100.0, 300.0] * 6) > 80
