"""What an episode teaches."""

from __future__ import annotations

import pytest

from rudder.agents.learned.examples import Label, label_of
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
        (200, 5, Label.DID_NOT_HELP),
        (200, 4, Label.HELPED),
        (200, 4.8, Label.DID_NOT_HELP),  # within 1 % of the step
        (190, 5, Label.HELPED),
        (197, 5, Label.DID_NOT_HELP),  # within two spreads
        (190, 5.2, Label.HELPED),
        (150, 6, Label.DID_NOT_HELP),  # fewer rows, and yet it waits longer
        (250, 4, Label.HELPED),
        (250, 6, Label.DID_NOT_HELP),
    ],
)
def test_a_change_helps_where_wait_or_rows_fall_by_more_than_noise(
    rows: float, wait_ms: float, label: Label
) -> None:
    assert label_of(episode(rows=rows, wait_ms=wait_ms)) is label
    assert label_of(episode(rows=rows, wait_ms=wait_ms, result="reverted")) is label


def test_more_noise_asks_for_more_difference() -> None:
    assert label_of(episode(wait_ms=4, noise_wait_ms=0.6)) is Label.DID_NOT_HELP
    assert label_of(episode(rows=190, noise_rows=6)) is Label.DID_NOT_HELP


@pytest.mark.parametrize("result", ["kept", "refused", "expired", "abandoned"])
def test_what_was_not_tried_to_its_end_teaches_nothing(result: str) -> None:
    assert label_of(episode(wait_ms=4, result=result)) is Label.NOT_MEASURED
    assert label_of(episode(wait_ms=4, rows_after=None)) is Label.NOT_MEASURED
    assert label_of(EPISODE.model_copy(update={"outcome": None})) is Label.NOT_MEASURED


@pytest.mark.parametrize("trend", ["better", "worse"])
def test_what_moved_before_the_change_teaches_nothing(trend: str) -> None:
    assert label_of(episode(wait_ms=4, trend=trend)) is Label.MOVING
