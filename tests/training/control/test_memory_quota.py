"""Each trainer of a host has the same share of its memory and of its memory budget."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rudder.training.control.steering import MemoryQuota
from tests.training.control.steered import workload_of

ROW_BYTES = 400


@given(budget=st.integers(0, 10**7), trainers=st.integers(1, 64), max_rows=st.integers(0, 30_000))
def test_the_limits_of_all_trainers_of_a_host_fit_into_its_budget(
    budget: int, trainers: int, max_rows: int
) -> None:
    work = workload_of(trainers_on_host=trainers, max_buffer_rows=max_rows)
    limit = MemoryQuota(work, budget_bytes=budget).limit_rows
    assert limit == min(max_rows, budget // trainers // ROW_BYTES)
    assert limit * trainers * ROW_BYTES <= budget


def test_without_a_budget_the_share_of_the_memory_is_the_limit() -> None:
    quota = MemoryQuota(workload_of(trainers_on_host=4, max_buffer_rows=900))
    assert quota.limit_rows == 900
    assert quota.refusal(900, current_rows=0) is None
    assert "share of the host's memory; allowed: 0 to 900" in str(
        quota.refusal(901, current_rows=0)
    )


def test_a_changed_budget_holds_from_the_next_look_on(tmp_path: Path) -> None:
    file = tmp_path / "memory-budget"
    quota = MemoryQuota(workload_of(trainers_on_host=2), budget_bytes=80_000, budget_file=file)
    assert quota.limit_rows == 100
    for text, rows in (("40000\n", 50), ("", 100), ("-1", 100), ("0", 0), ("many", 100)):
        file.write_text(text)
        quota.refresh()
        assert quota.limit_rows == rows
    file.unlink()
    quota.refresh()
    assert quota.limit_rows == 100


@pytest.mark.parametrize(
    ("current", "rows", "is_refused"),
    [(300, 301, True), (300, 300, False), (300, 200, False), (50, 101, True), (50, 100, False)],
)
def test_a_buffer_beyond_the_limit_may_shrink_but_not_grow(
    current: int, rows: int, is_refused: bool
) -> None:
    quota = MemoryQuota(workload_of(), budget_bytes=100 * ROW_BYTES)
    reason = quota.refusal(rows, current_rows=current)
    assert (reason is not None) == is_refused
    if reason is not None:
        assert "share of the host's memory budget; allowed: 0 to 100" in reason


def test_a_buffer_for_more_rows_than_there_are_remote_nodes_is_refused_with_the_range() -> None:
    work = workload_of(max_buffer_rows=10**9)
    quota = MemoryQuota(work)
    assert quota.refusal(10_000, current_rows=100) is None
    assert "allowed: 0 to 10000" in str(quota.refusal(99_999_999, current_rows=100))
