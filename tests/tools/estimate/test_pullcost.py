"""The model of pull costs finds the truth of synthetic windows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.tools.calls import StepTimes
from rudder.tools.estimate.pullcost import PullCost
from rudder.training.metrics import OwnerTraffic, Seconds, Window
from rudder.training.settings import BufferSettings
from tests.tools.runs import WINDOW_STEPS, window

FIXED_MS, ROW_MS, THREAD_MS, COMPUTE_MS = 2.0, 0.02, 4.0, 12.0


def truth_ms(rows: float, *, row_ms: float = ROW_MS) -> float:
    """Exposed wait of a pipeline whose thread, network and trainer run side by side."""
    loader = max(THREAD_MS, FIXED_MS + row_ms * rows)
    return max(loader - COMPUTE_MS, 0.0)


def measured(index: int, rows: float, *, row_ms: float = ROW_MS) -> Window:
    net = FIXED_MS + row_ms * rows
    wait = truth_ms(rows, row_ms=row_ms)
    per_window = WINDOW_STEPS / 1000
    return window(
        index,
        BufferSettings(capacity_rows=100),
        fetched=int(rows * WINDOW_STEPS),
        remote=10**6,
        seconds=Seconds(
            sample=THREAD_MS * per_window,
            pull=max(net - THREAD_MS, 0) * per_window,
            exposed_wait=wait * per_window,
            compute=COMPUTE_MS * per_window,
        ),
        wall_seconds=(COMPUTE_MS + wait) * per_window,
        owners=(
            OwnerTraffic(
                part=2, rows=int(rows) * WINDOW_STEPS, pulls=WINDOW_STEPS, seconds=net * per_window
            ),
        ),
    )


def fitted(rows: list[float], **cost: float) -> PullCost:
    model = PullCost.fit([measured(i, each, **cost) for i, each in enumerate(rows)])
    assert model is not None
    return model


def test_no_windows_make_no_model() -> None:
    assert PullCost.fit([]) is None


def test_costs_are_found_where_rows_have_varied() -> None:
    model = fitted([1500, 900, 1200, 700, 1400, 1000])
    assert model.ms_per_row == pytest.approx(ROW_MS, rel=0.05)
    assert model.fixed_ms == pytest.approx(FIXED_MS, rel=0.2)


@pytest.mark.parametrize("rows", [50, 300, 500, 700, 1000, 2000])
@pytest.mark.parametrize("now", [300, 450, 900, 1500])
def test_exposed_wait_follows_the_rows(rows: float, now: float) -> None:
    model = fitted([1500, 900, 1200, 700, 1400, now, now, now])
    assert model.exposed_wait_ms(now) == pytest.approx(truth_ms(now), abs=0.1)
    assert model.exposed_wait_ms(rows) == pytest.approx(truth_ms(rows), abs=1.0, rel=0.1)


def test_fewer_rows_do_not_help_a_loader_that_is_slow_itself() -> None:
    slow = measured(0, 100).model_copy(
        update={
            "seconds": Seconds(sample=0.32, exposed_wait=0.128, compute=0.192),
            "wall_seconds": 0.32,
        }
    )
    model = PullCost.fit([slow, slow.model_copy(update={"index": 1})])
    assert model is not None
    assert model.exposed_wait_ms(0) == pytest.approx(8.0)
    assert model.exposed_wait_ms(100) == pytest.approx(8.0)
    assert model.spare_ms == pytest.approx(-8.0)


def test_slack_is_eaten_before_the_trainer_waits() -> None:
    model = fitted([300, 320, 280, 310])
    assert model.spare_ms == pytest.approx(COMPUTE_MS - FIXED_MS - ROW_MS * 300, abs=0.5)
    assert model.exposed_wait_ms(400) == 0
    assert model.exposed_wait_ms(1500) > 5


def test_a_slower_network_is_learned_within_four_windows() -> None:
    before = [measured(i, 900 + 20 * (i % 3)) for i in range(12)]
    after = [measured(12 + i, 900 + 20 * (i % 3), row_ms=5 * ROW_MS) for i in range(4)]
    model = PullCost.fit([*before, *after])
    assert model is not None
    assert model.ms_per_row == pytest.approx(5 * ROW_MS, rel=0.25)
    assert model.exposed_wait_ms(450) == pytest.approx(truth_ms(450, row_ms=5 * ROW_MS), rel=0.3)


seconds = st.floats(0, 5, allow_nan=False)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), seconds, seconds, seconds, seconds), min_size=1),
    st.floats(0, 1e9),
)
def test_predictions_are_finite_and_rise_with_the_rows(
    points: list[tuple[int, float, float, float, float]], rows: float
) -> None:
    windows = [
        window(
            i,
            BufferSettings(capacity_rows=1),
            fetched=fetched,
            remote=10**6,
            seconds=Seconds(sample=sample, pull=pull, exposed_wait=wait, compute=compute),
            wall_seconds=wait + compute,
        )
        for i, (fetched, sample, pull, wait, compute) in enumerate(points)
    ]
    model = PullCost.fit(windows)
    assert model is not None
    few, many = model.exposed_wait_ms(rows), model.exposed_wait_ms(2 * rows + 1)
    assert 0 <= few <= many + 1e-9
    assert math.isfinite(many)


def idle(index: int, *, wait_ms: float) -> Window:
    """The loader works or waits for half of the step; pulls overlap, and take long."""
    pulls = OwnerTraffic(part=2, rows=16000, pulls=WINDOW_STEPS, seconds=0.9 * WINDOW_STEPS / 50)
    per_window = WINDOW_STEPS / 1000
    return measured(index, 1000).model_copy(
        update={
            "seconds": Seconds(
                sample=7 * per_window,
                pull=3 * per_window,
                exposed_wait=wait_ms * per_window,
                compute=(20 - wait_ms) * per_window,
            ),
            "wall_seconds": 20 * per_window,
            "owners": (pulls,),
        }
    )


def test_what_is_waited_for_beside_an_idle_loader_is_not_won_by_fewer_rows() -> None:
    model = PullCost.fit([idle(number, wait_ms=1.0) for number in range(4)])
    assert model is not None
    assert model.exposed_wait_ms(100) == pytest.approx(1.0)


def test_pulls_that_overlap_leave_the_loader_ahead() -> None:
    model = PullCost.fit([idle(number, wait_ms=0.0) for number in range(4)])
    assert model is not None
    assert model.spare_ms == pytest.approx(10.0)
    assert model.exposed_wait_ms(1200) == 0.0


def times(**ms: float) -> StepTimes:
    usual = dict.fromkeys(StepTimes.model_fields, 0.0) | {"model_ms": 20.0, "loader_ms": 6.0}
    return StepTimes(**usual | ms)


@pytest.mark.parametrize(
    ("ms", "binds"),
    [
        ({}, "model"),
        ({"core_wait_ms": 1.0, "blocked_ms": 1.5}, "model"),
        ({"core_wait_ms": 9.0, "blocked_ms": 4.0}, "cores"),
        ({"core_wait_ms": 2.0, "blocked_ms": 4.0}, "all-reduce"),
        ({"wait_ms": 4.0, "core_wait_ms": 9.0, "link_ms": 24.0}, "link"),
        ({"wait_ms": 4.0, "loader_ms": 24.0, "link_ms": 3.0}, "loader"),
    ],
)
def test_what_binds_is_what_a_trainer_waits_for_else_what_its_step_consists_of(
    ms: dict[str, float], binds: str
) -> None:
    assert times(**ms).binds == binds


def test_fewer_rows_leave_the_link_idle_and_the_loader_less_to_take_in() -> None:
    seconds = Seconds(
        sample=0.064, pull=0.048, pull_work=0.032, compute=0.32, blocked=0.048, core_wait=0.08
    )
    seen = measured(0, 1000).model_copy(update={"seconds": seconds, "wall_seconds": 0.32})
    model = PullCost.fit([seen])
    assert model is not None
    now, fewer = model.times(1000), model.times(100)
    assert (now.core_wait_ms, now.rows_ms, now.loader_ms) == pytest.approx((5.0, 2.0, 6.0))
    assert now.step_ms == pytest.approx(20.0)
    assert (fewer.rows_ms, fewer.loader_ms) == pytest.approx((0.2, 4.2))
    assert fewer.link_ms < now.link_ms
    assert fewer.slack_ms > now.slack_ms
    assert (fewer.binds, now.binds) == ("cores", "cores")
