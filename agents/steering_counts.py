"""Adding an episode to the counts of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rudder.memory.records import Episode
from rudder.training.metrics import SteeringCounts
from rudder.training.model_use import ModelUse

if TYPE_CHECKING:
    from rudder.agents.llm.asker import Asker


def counted(counts: SteeringCounts, episode: Episode) -> SteeringCounts:
    """The counts with what is new of an episode: it comes once when it was decided, and again
    when its trial is over."""
    if is_change(episode) and episode.outcome is not None:
        return _of_outcome(counts, episode)
    return _of_decision(counts, episode)


def _of_decision(counts: SteeringCounts, episode: Episode) -> SteeringCounts:
    verdict, outcome = episode.verdict, episode.outcome
    decision = verdict.decision if verdict is not None else None
    result = outcome.result if outcome is not None else None
    return counts.model_copy(
        update={
            "decisions": counts.decisions + 1,
            "reconsidered": counts.reconsidered + (episode.set_aside is not None),
            "proposed": counts.proposed + (not episode.plan.change.is_empty),
            "approved": counts.approved + (decision == "approve"),
            "trimmed": counts.trimmed + (decision == "trim"),
            "refused": counts.refused + (result == "refused"),
            "late": counts.late + (result == "expired"),
            "applied": counts.applied + is_change(episode),
            "ages_steps": (*counts.ages_steps, *_age_steps(episode)),
        }
    )


def _of_outcome(counts: SteeringCounts, episode: Episode) -> SteeringCounts:
    outcome = episode.outcome
    assert outcome is not None
    errors = counts.rows_errors
    if outcome.rows_error is not None:
        errors = (*errors, outcome.rows_error)
    return counts.model_copy(
        update={
            "confirmed": counts.confirmed + (outcome.result == "confirmed"),
            "reverted": counts.reverted + (outcome.result == "reverted"),
            "abandoned": counts.abandoned + (outcome.result == "abandoned"),
            "rows_errors": errors,
        }
    )


def _age_steps(episode: Episode) -> tuple[int, ...]:
    applied = episode.applied
    if applied is None or not is_change(episode):
        return ()
    return (applied.step - episode.observation.step,)


def is_change(episode: Episode) -> bool:
    """Whether the decision changed the settings."""
    return episode.applied is not None and episode.applied.outcome == "applied"


def model_use(asker: Asker | None) -> ModelUse | None:
    """What asking the model brought and cost until now; None where nobody asks one."""
    if asker is None:
        return None
    report = asker.report()
    return ModelUse(
        name=report.model, **report.model_dump(include=set(ModelUse.model_fields) - {"name"})
    )
