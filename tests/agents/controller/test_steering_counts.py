"""What a run's counts say of its decisions."""

from __future__ import annotations

from rudder.agents.controller.report import counted
from rudder.memory.records import Rejected
from rudder.memory.sample import sample_episode, sample_workload
from rudder.training.metrics import ModelUse, SteeringCounts

EPISODE = sample_episode(0, workload=sample_workload())


def test_an_applied_change_counts_once_with_its_age_and_once_with_its_end() -> None:
    assert EPISODE.applied is not None
    later = EPISODE.observation.step + 7
    applied = EPISODE.applied.model_copy(update={"step": later})
    begun = EPISODE.model_copy(update={"applied": applied, "outcome": None})
    ended = EPISODE.model_copy(update={"applied": applied})
    counts = counted(SteeringCounts(), begun)
    assert (counts.decisions, counts.applied, counts.ages_steps) == (1, 1, (7,))
    counts = counted(counts, ended)
    assert (counts.decisions, counts.applied, counts.ages_steps) == (1, 1, (7,))
    assert counts.confirmed + counts.reverted + counts.abandoned == 1


def test_a_report_of_many_changes_keeps_the_latest_and_does_not_grow() -> None:
    counts = SteeringCounts(rows_errors=(9.0,) * 1000, ages_steps=(9,) * 1000)
    counts = counted(counted(counts, EPISODE.model_copy(update={"outcome": None})), EPISODE)
    assert EPISODE.outcome is not None
    assert (len(counts.rows_errors), counts.rows_errors[-1]) == (1000, EPISODE.outcome.rows_error)
    assert (len(counts.ages_steps), counts.ages_steps[-1]) == (1000, 2)


def test_a_decision_with_a_second_planners_plan_is_counted() -> None:
    aside = Rejected(plan=EPISODE.plan, verdict=EPISODE.verdict)
    begun = EPISODE.model_copy(update={"outcome": None, "rejected": aside})
    assert counted(SteeringCounts(), begun).reconsidered == 1
    assert counted(SteeringCounts(), begun.model_copy(update={"rejected": None})).reconsidered == 0


def test_a_question_that_was_not_asked_does_not_spoil_pass_at_1() -> None:
    use = ModelUse(name="m", questions=5, valid_first=3, fallbacks={"NotAskedError": 1})
    assert use.pass_at_1 == 0.75
    assert ModelUse(name="m", questions=1, fallbacks={"NotAskedError": 1}).pass_at_1 is None
