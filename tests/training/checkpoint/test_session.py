"""Ranks agree on the step of a checkpoint, and each gets its own part back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rudder.training.checkpoint.format import checkpoints_of
from tests.training.process_group import outputs_of_ranks

RANK = "tests.training.checkpoint.rank"


def run(folder: Path, *, interval: str, stop_at: int = -1) -> list[dict[str, Any]]:
    """What each of two ranks came to."""
    folder.mkdir(exist_ok=True)
    outputs = outputs_of_ranks(RANK, folder, interval, str(stop_at), size=2)
    return [json.loads(output) for output in outputs]


def names(folder: Path) -> list[str]:
    return [path.name for path in checkpoints_of(folder)]


@pytest.mark.parametrize(
    ("interval", "wanted"),
    [("2epochs", [15, 10]), ("1h", [15]), ("none", [])],
)
def test_checkpoints_are_written_when_they_are_due_and_at_the_end(
    interval: str, wanted: list[int], tmp_path: Path
) -> None:
    run(tmp_path, interval=interval)
    assert names(tmp_path) == [f"step-{step:08d}" for step in wanted]


@pytest.mark.parametrize("stop_at", [1, 7])
def test_a_run_that_one_rank_is_told_to_stop_stops_on_all_and_goes_on_as_if_it_had_not(
    stop_at: int, tmp_path: Path
) -> None:
    whole = run(tmp_path / "whole", interval="none")
    folder = tmp_path / "stopped"
    stopped = run(folder, interval="1h", stop_at=stop_at)
    step = stopped[0]["step"]
    assert [each["stopped"] for each in stopped] == [True, True]
    assert [each["step"] for each in stopped] == [step, step]
    assert stop_at <= step < 15
    assert [each["last"] for each in stopped] == [f"step-{step:08d}", None]
    done = run(folder, interval="1h")
    assert [each["weights"] for each in done] == [each["weights"] for each in whole]
    assert names(folder) == ["step-00000015", f"step-{step:08d}"]
