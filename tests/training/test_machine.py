"""A budget that leaves no buffer is told of, with what would do."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.training.control.endpoint import allotment_of
from rudder.training.machine import why_no_buffer
from rudder.training.steering_options import SteeringOptions
from tests.training.control.doors import workload_of


@pytest.mark.parametrize(
    ("budget", "trainers", "is_enough"),
    [(None, 2, True), (800, 2, True), (799, 2, False), (400, 1, True), (0, 1, False)],
)
def test_a_budget_is_enough_from_one_row_for_each_trainer_on(
    budget: int | None, trainers: int, is_enough: bool
) -> None:
    assert (why_no_buffer(budget, trainers=trainers, row_bytes=400) is None) == is_enough


def test_what_would_do_is_said() -> None:
    reason = why_no_buffer(100, trainers=4, row_bytes=400)
    assert reason is not None
    for part in ("100 bytes", "4 trainers", "give 1600 bytes"):
        assert part in reason


def test_a_trainer_says_so_when_it_begins(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work = workload_of(rank=3, trainers_on_host=2)
    short = allotment_of(work, SteeringOptions(memory_budget_bytes=799), folder=tmp_path)
    assert short.limit_rows == 0
    assert "rank 3: a memory budget of 799 bytes" in capfd.readouterr().err
    enough = allotment_of(work, SteeringOptions(memory_budget_bytes=800), folder=tmp_path)
    assert enough.limit_rows == 1
    assert allotment_of(work, None, folder=tmp_path).limit_rows is None
    assert capfd.readouterr().err == ""
