"""The study of turns: when a simulated job counts as being as fast as the best fixed settings."""

from __future__ import annotations

from benchmarks.team import CASES, JobCase, found_of, steered
from rudder.bench.simulated.job import JobRun


def test_a_job_is_as_fast_once_five_windows_are_and_its_decisions_until_then_count() -> None:
    run = JobRun(seconds=(2.0,) * 4 + (1.0,) * 12, episodes=(), ended={})
    found = found_of(run, 1.0)
    assert (found.windows, found.decisions, found.speed) == (4, 0, 1.0)
    never = found_of(JobRun(seconds=(2.0,) * 16, episodes=(), ended={}), 1.0)
    assert (never.windows, never.decisions, never.speed) == (None, None, 0.5)


def test_a_team_of_eight_decides_once_for_all() -> None:
    found = found_of(steered(JobCase(*CASES[0], seed=0), 12, are_agreed=True), 0.33)
    assert found.windows is not None
    assert found.decisions is not None
    assert found.decisions <= 4
    assert found.disturbed == 0
