"""What an episode teaches."""

from __future__ import annotations

import pytest

from rudder.agents.learned.planner import has_helped
from rudder.memory.records import Episode, Outcome
from rudder.memory.sample import sample_episode, sample_workload
from tests.agents.steered import observation_of

EPISODE = sample_episode(0, workload=sample_workload())


def episode(
    *, rows: float = 200.0, wait_ms: float = 5.0, trend: str = "steady", **outcome: object
) -> Episode:
    """A change after 200 rows and 5 ms a step, with noise of 2 rows and 0.1 ms in 25 ms."""
    measured = {
        "result": "confirmed", "rows_before": 200.0, "rows_after": rows, "wait_ms_before": 5.0,
        "wait_ms_after": wait_ms, "noise_rows": 2.0, "noise_wait_ms": 0.1, **outcome,
    }  # fmt: skip
    return EPISODE.model_copy(
        update={
            "observation": observation_of(trend=trend),
            "outcome": Outcome.model_validate(measured),
        }
    )


@pytest.mark.parametrize(
    ("rows", "wait_ms", "label"),
    [
        (200, 5, False),
        (200, 4, True),
        (200, 4.8, False),  # within 1 % of the step
        (190, 5, True),
        (197, 5, False),  # within two spreads
        (190, 5.2, True),
        (150, 6, False),  # fewer rows, and yet it waits longer
        (250, 4, True),
        (250, 6, False),
    ],
)
def test_a_change_helps_where_wait_or_rows_fall_by_more_than_noise(
    rows: float, wait_ms: float, label: bool
) -> None:
    assert has_helped(episode(rows=rows, wait_ms=wait_ms)) is label
    assert has_helped(episode(rows=rows, wait_ms=wait_ms, result="reverted")) is label


def test_more_noise_asks_for_more_difference() -> None:
    assert has_helped(episode(wait_ms=4, noise_wait_ms=0.6)) is False
    assert has_helped(episode(rows=190, noise_rows=6)) is False


@pytest.mark.parametrize("result", ["kept", "refused", "expired", "abandoned"])
def test_what_was_not_tried_to_its_end_teaches_nothing(result: str) -> None:
    assert has_helped(episode(wait_ms=4, result=result)) is None
    assert has_helped(episode(wait_ms=4, rows_after=None)) is None
    assert has_helped(EPISODE.model_copy(update={"outcome": None})) is None


@pytest.mark.parametrize("trend", ["better", "worse"])
def test_what_moved_before_the_change_teaches_nothing(trend: str) -> None:
    assert has_helped(episode(wait_ms=4, trend=trend)) is None
