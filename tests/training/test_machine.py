"""A host's memory is divided among its trainers; a budget that leaves no buffer is told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from rudder.training.control.endpoint import quota_of
from rudder.training.machine import (
    BUDGET_FRACTION,
    TRAINERS_VARIABLE,
    available_memory_bytes,
    max_buffer_rows,
    why_no_buffer,
)
from tests.training.control.steered import workload_of


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
    short = quota_of(work, 799, folder=tmp_path)
    assert short.limit_rows == 0
    assert "rank 3: a memory budget of 799 bytes" in capfd.readouterr().err
    enough = quota_of(work, 800, folder=tmp_path)
    assert enough.limit_rows == 1
    assert quota_of(work, None, folder=tmp_path).limit_rows == work.max_buffer_rows
    assert capfd.readouterr().err == ""


def test_all_trainers_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def bytes_of_all(trainers: int) -> int:
        return trainers * 4096 * max_buffer_rows(row_bytes=4096, trainers_on_host=2)

    monkeypatch.delenv(TRAINERS_VARIABLE, raising=False)
    assert bytes_of_all(2) == pytest.approx(BUDGET_FRACTION * available_memory_bytes(), rel=0.1)
    monkeypatch.setenv(TRAINERS_VARIABLE, "8")
    assert bytes_of_all(8) == pytest.approx(BUDGET_FRACTION * available_memory_bytes(), rel=0.1)
