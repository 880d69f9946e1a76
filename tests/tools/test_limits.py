"""Bounds: each with its reason, refused and never clamped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rudder.tools.limits import Limits
from rudder.training.settings import BufferSettings, Change, FetchTargets
from tests.tools.runs import NUM_REMOTE, ROW_BYTES, workload


def limits(budget: int | None = None, **given: object) -> Limits:
    return Limits.of(workload(**given), memory_budget_bytes=budget)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("budget", "max_rows", "expected", "reason"),
    [
        (None, 10**9, NUM_REMOTE, "remote nodes"),
        (None, 700, 700, "memory"),
        (50 * ROW_BYTES, 700, 50, "budget"),
    ],
)
def test_the_tightest_bound_of_capacity_holds_and_says_why(
    budget: int | None, max_rows: int, expected: int, reason: str
) -> None:
    found = limits(budget, max_buffer_rows=max_rows)
    assert found.max_capacity_rows == expected
    assert found.problem(Change(capacity_rows=expected)) is None
    problem = found.problem(Change(capacity_rows=expected + 1))
    assert problem is not None
    assert "capacity_rows" in problem
    assert str(expected) in problem
    assert reason in problem


def test_a_budget_is_shared_by_the_trainers_of_a_host() -> None:
    work = workload().model_copy(update={"trainers_on_host": 4})
    assert Limits.of(work, memory_budget_bytes=400 * ROW_BYTES).max_capacity_rows == 100


def test_lookahead_ends_where_waiting_batches_fill_the_memory() -> None:
    assert limits().max_lookahead_batches == 1024
    tight = limits(fanouts=(5, 10), max_buffer_rows=60_000)
    assert 16 <= tight.max_lookahead_batches < 1024
    problem = tight.problem(Change(lookahead_batches=1024))
    assert problem is not None
    assert "KiB" in problem


def test_a_knob_that_the_policy_refuses_is_refused_with_its_reason() -> None:
    problem = limits().problem(Change(replacement_interval=4))
    assert problem is not None
    assert "replaces rows in every batch" in problem
    assert limits(policy="score").problem(Change(replacement_interval=4)) is None


@pytest.mark.parametrize(
    ("targets", "part_of_problem"),
    [
        ({"source": "observed", "row_budget": 1001}, "row_budget"),
        ({"source": "owner", "row_budget": 5}, "owner"),
        ({"source": "owner", "row_budget": 5, "owner": 1}, "owner"),
        ({"source": "owner", "row_budget": 5, "owner": 3}, "owner"),
        ({"source": "observed", "row_budget": 5, "owner": 2}, "owner"),
        ({"source": "ids", "row_budget": 5}, "ids"),
        ({"source": "ids", "row_budget": 5, "ids": (17_000,)}, "17000"),
        ({"source": "degree", "row_budget": 5, "ids": (1,)}, "ids"),
        ({"source": "vip", "row_budget": 5}, "fan-outs"),
    ],
)
def test_targets_that_cannot_be_are_refused(
    targets: dict[str, object], part_of_problem: str
) -> None:
    change = Change(fetch_targets=FetchTargets.model_validate(targets))
    problem = limits().problem(change)
    assert problem is not None
    assert part_of_problem in problem


def test_targets_are_measured_by_the_capacity_that_will_be() -> None:
    targets = FetchTargets(source="observed", row_budget=1500)
    small = BufferSettings(capacity_rows=1000)
    assert limits().problem(Change(fetch_targets=targets), settings=small) is not None
    both = Change(fetch_targets=targets, capacity_rows=1500)
    assert limits().problem(both, settings=small) is None
    for change in (Change(replace_now=True), Change(fetch_targets=targets)):
        without = change.model_copy(update={"capacity_rows": 0})
        assert "capacity_rows = 0" in (limits().problem(without) or "")


def test_no_change_is_no_problem() -> None:
    assert limits().problem(Change()) is None


numbers = st.one_of(st.integers(-(2**40), 2**40), st.floats(allow_nan=True, allow_infinity=True))


@settings(max_examples=1000, deadline=None)
@given(capacity=numbers, threshold=numbers, lookahead=numbers)
def test_what_is_allowed_is_within_bounds_however_a_change_was_made(
    capacity: float, threshold: float, lookahead: float
) -> None:
    found = limits(80 * ROW_BYTES)
    change = Change.model_construct(
        capacity_rows=capacity,  # type: ignore[arg-type]
        eviction_threshold=threshold,
        lookahead_batches=lookahead,  # type: ignore[arg-type]
    )
    within = (
        0 <= capacity <= 80 and 0 <= threshold <= 1 and 0 <= lookahead <= 1024
        and isinstance(capacity, int) and isinstance(lookahead, int)
    )  # fmt: skip
    assert (found.problem(change) is None) == within
