"""Trials for memory cost at most a hundredth of the run."""

from __future__ import annotations

from rudder.agents.planners.evidence import TrialBudget
from rudder.memory.journal import Recalled
from rudder.memory.records import Outcome
from rudder.tools.constants import TRIAL_STEPS
from rudder.training.settings import Change
from tests.agents.steered import effect_of, observation_of
from tests.agents.test_critic import recalled

PRESENT = effect_of(200.0, 5.0)


def reverted(*, wait_ms_after: float) -> Recalled:
    """An episode of the run `r` whose trial had the trainer wait so long, 5 ms before it."""
    lesson = recalled(Change(capacity_rows=1500), "reverted")
    outcome = Outcome(result="reverted", wait_ms_before=5.0, wait_ms_after=wait_ms_after)
    return lesson.model_copy(
        update={"episode": lesson.episode.model_copy(update={"outcome": outcome})}
    )


def trial_budget(*episode_recall: Recalled, steps_left: int | None = 1840) -> TrialBudget:
    """Of a run of 2000 steps, 25 ms each: 500 ms may be spent."""
    return TrialBudget.of(episode_recall, observation_of(steps_left=steps_left), run_key="r")


def test_a_trial_may_cost_what_the_run_can_afford() -> None:
    affordable = 5.0 + 499 / TRIAL_STEPS
    assert trial_budget().allows(effect_of(220.0, affordable), present=PRESENT)
    assert not trial_budget().allows(effect_of(220.0, affordable + 0.1), present=PRESENT)


def test_the_shorter_the_run_the_less_may_be_tried() -> None:
    dear = effect_of(220.0, 7.0)
    assert trial_budget().allows(dear, present=PRESENT)
    assert not trial_budget(steps_left=100).allows(dear, present=PRESENT)
    assert trial_budget(steps_left=None).allows(dear, present=PRESENT)


def test_what_reverted_changes_of_the_run_cost_is_spent() -> None:
    dear = effect_of(220.0, 7.0)
    assert not trial_budget(reverted(wait_ms_after=9.0)).allows(dear, present=PRESENT)
    assert trial_budget(reverted(wait_ms_after=4.0)).allows(dear, present=PRESENT)
    others = TrialBudget.of(
        [reverted(wait_ms_after=9.0)], observation_of(steps_left=1840), run_key="s"
    )
    assert others.allows(dear, present=PRESENT)
